//! One name looked up on all routers: tiers and hedges, every answer verified and compared.
//!
//! Everyone who asks for a name at the same time shares one lookup. Whoever joins later has those routers asked again
//! that answered before: what was heard before a question is no answer to it.

use core::cmp::Ordering;
use core::time::Duration;
use std::collections::BTreeMap;

use bytes::Bytes;

use crate::dht;
use crate::name::Name;
use crate::record::{Checks, Verified, compare};
use crate::routing::{CallEnd, CallId, CallUpdate, Calls, Depth, Operation, Receipt, RouteError, RouterId, Transport};

use super::cache::Cached;
use super::event::Freshness;
use super::ids::OpId;
use super::index::{Rank, rank};
use super::request::Enough;

/// A router that sends more records for one name than this is not listened to any longer.
const MAX_RECORDS_PER_CALL: u32 = 64;

pub(crate) struct Lookup {
    name: Name,
    /// The newest record known without this lookup, valid or expired: nothing older is ever returned.
    floor: Option<Verified>,
    /// What is in the store, or was returned and should be there: nothing older is returned although it may not be
    /// readable.
    least: Option<Rank>,
    best: Option<Verified>,
    phase: Phase,
    /// How thoroughly the routers are asked.
    depth: Depth,
    started: Duration,
    /// Routers not asked yet, by tier.
    waiting: BTreeMap<u8, Vec<RouterId>>,
    asked: BTreeMap<CallId, Asked>,
    /// How the last question to each router ended, and when.
    receipts: BTreeMap<RouterId, (Duration, Receipt)>,
    answers: BTreeMap<RouterId, Answer>,
    /// Who waits for it, and since when.
    watchers: BTreeMap<OpId, Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The store is being read; `ask` says whether and how thoroughly routers are asked afterwards.
    Loading { ask: Option<Depth> },
    /// What this node knows is known, and nobody is asked.
    Known,
    /// Routers are being asked.
    Asking,
    /// Every router has answered or failed.
    Done,
}

struct Asked {
    router: RouterId,
    depth: Depth,
    /// Whether an attempt has failed, or every call before.
    failing: bool,
    /// Whether the router failed so often before that nobody waits for it.
    suspect: bool,
    records: u32,
    /// What the router was shown the entity tag of.
    shown: Option<(Verified, String)>,
}

/// What a router answered: the newest valid record, if any, and its entity tag.
#[derive(Default)]
struct Answer {
    record: Option<Verified>,
    etag: Option<String>,
    invalid: Option<String>,
    /// How sure a DHT is of the record.
    freshness: Option<dht::Freshness>,
}

impl Lookup {
    pub(crate) fn new(name: Name, now: Duration, phase: Phase) -> Self {
        Self {
            name,
            floor: None,
            least: None,
            best: None,
            phase,
            depth: Depth::Usual,
            started: now,
            waiting: BTreeMap::new(),
            asked: BTreeMap::new(),
            receipts: BTreeMap::new(),
            answers: BTreeMap::new(),
            watchers: BTreeMap::new(),
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    /// Raises what is known without asking.
    pub(crate) fn raise_floor(&mut self, record: &Verified) {
        if is_newer(record, self.floor.as_ref()) {
            self.floor = Some(record.clone());
        }
    }

    /// Nothing older than this is returned.
    pub(crate) fn set_least(&mut self, least: Option<Rank>) {
        self.least = least;
    }

    pub(crate) fn join(&mut self, op: OpId, now: Duration) {
        self.watchers.insert(op, now);
    }

    pub(crate) fn leave(&mut self, op: OpId) {
        self.watchers.remove(&op);
    }

    pub(crate) fn watchers(&self) -> impl Iterator<Item = OpId> + '_ {
        self.watchers.keys().copied()
    }

    /// The store has been read: says whether, and how thoroughly, routers are to be asked.
    pub(crate) fn loaded(&mut self) -> Option<Depth> {
        let Phase::Loading { ask } = self.phase else { return None };
        self.phase = Phase::Known;
        ask
    }

    /// Asks the routers, now or as soon as the store has been read; those again that answered earlier, or that are
    /// asked less thoroughly.
    pub(crate) fn ask(&mut self, now: Duration, calls: &mut Calls, cached: Option<&Cached>, depth: Depth) {
        match self.phase {
            Phase::Loading { ask } => self.phase = Phase::Loading { ask: ask.max(Some(depth)) },
            Phase::Known => {
                self.phase = Phase::Asking;
                self.depth = depth;
                self.started = now;
                for (id, router) in calls.routers().filter(|(_, router)| router.read) {
                    self.waiting.entry(router.tier).or_default().push(id);
                }
                self.advance(now, calls, cached);
            }
            Phase::Asking => {
                self.depth = self.depth.max(depth);
                let is_dht = |router| matches!(calls.router(router).transport, Transport::Dht(_));
                let serves = |asked: &Asked| asked.depth >= depth || !is_dht(asked.router);
                let under_way = |router| self.asked.values().any(|asked| asked.router == router && serves(asked));
                let early = self.receipts.iter().filter(|(_, (at, _))| *at < now).map(|(router, _)| *router);
                let mut again: Vec<RouterId> = early.chain(self.asked.values().map(|asked| asked.router)).collect();
                again.sort_unstable();
                again.dedup();
                again.retain(|router| !under_way(*router));
                for router in again {
                    self.start(now, router, calls, cached);
                }
            }
            Phase::Done => {}
        }
    }

    fn start(&mut self, now: Duration, router: RouterId, calls: &mut Calls, cached: Option<&Cached>) {
        let shown = cached.and_then(|cached| Some((cached.record.clone(), cached.etags.get(&router)?.clone())));
        let operation = Operation::Get { name: self.name };
        let (etag, depth) = (shown.as_ref().map(|(_, etag)| etag.clone()), self.depth);
        let call = calls.start(now, router, operation, depth, etag);
        let suspect = calls.is_suspect(router);
        self.asked.insert(call, Asked { router, depth, failing: suspect, suspect, records: 0, shown });
        self.answers.entry(router).or_default();
    }

    /// Begins the tiers whose time has come, and notices the end.
    pub(crate) fn advance(&mut self, now: Duration, calls: &mut Calls, cached: Option<&Cached>) {
        if self.phase != Phase::Asking {
            return;
        }
        let quiet = |lookup: &Self| lookup.asked.is_empty() && lookup.best.is_none();
        while let Some((&tier, routers)) = self.waiting.first_key_value() {
            let hedged = routers.iter().any(|id| now >= self.started + calls.router(*id).hedge);
            if !(quiet(self) || hedged) {
                break;
            }
            for router in self.waiting.remove(&tier).unwrap_or_default() {
                self.start(now, router, calls, cached);
            }
        }
        // Once a record is found and every router that was asked has answered, higher tiers need not be asked.
        if self.asked.is_empty() {
            self.waiting.clear();
            self.phase = Phase::Done;
        }
    }

    /// Takes what a call reports. Returns whether anything changed that a watcher may want to see.
    pub(crate) fn on_update(
        &mut self,
        now: Duration,
        call: CallId,
        update: CallUpdate,
        calls: &Calls,
        checks: &Checks,
    ) -> bool {
        let Some(asked) = self.asked.get_mut(&call) else { return false };
        let router = asked.router;
        match update {
            CallUpdate::Failing => {
                asked.failing = true;
                true
            }
            CallUpdate::Record { bytes, etag } => {
                asked.records += 1;
                let first = asked.records == 1;
                asked.records <= MAX_RECORDS_PER_CALL && self.on_record(router, first, bytes, etag, checks)
            }
            CallUpdate::Found(record) => {
                asked.records += 1;
                let first = asked.records == 1;
                self.on_verified(router, first, record, None)
            }
            CallUpdate::Unchanged => {
                asked.records += 1;
                if let Some((record, etag)) = asked.shown.clone() {
                    let answer = Answer { record: Some(record.clone()), etag: Some(etag), ..Answer::default() };
                    self.answers.insert(router, answer);
                    self.improve(record);
                }
                true
            }
            CallUpdate::Date { .. } | CallUpdate::Ended(_) => false,
            CallUpdate::Done(end) => {
                if asked.records == 0 && end.result.is_ok() {
                    self.answers.insert(router, Answer::default());
                }
                if let Some(answer) = self.answers.get_mut(&router) {
                    answer.freshness = end.freshness;
                }
                self.asked.remove(&call);
                self.receipts.insert(router, (now, self.receipt(now, end, calls)));
                true
            }
        }
    }

    fn on_record(
        &mut self,
        router: RouterId,
        first: bool,
        bytes: Bytes,
        etag: Option<String>,
        checks: &Checks,
    ) -> bool {
        // Verifying is the dearest thing here; bytes that were verified before are not verified again.
        let same = [&self.best, &self.floor].into_iter().flatten().find(|known| *known.as_bytes() == bytes).cloned();
        let verified = match same {
            Some(known) if !known.is_expired(checks.at - checks.tolerance) => Ok(known),
            _ => checks.verify(bytes, &self.name),
        };
        match verified {
            Ok(record) => self.on_verified(router, first, record, etag),
            Err(error) => {
                tracing::debug!(name = %self.name, %router, %error, "a router sent an invalid record");
                let answer = self.answers.entry(router).or_default();
                if first {
                    *answer = Answer::default();
                }
                answer.invalid = Some(error.to_string());
                false
            }
        }
    }

    fn on_verified(&mut self, router: RouterId, first: bool, record: Verified, etag: Option<String>) -> bool {
        let answer = self.answers.entry(router).or_default();
        if first {
            *answer = Answer::default();
        }
        if is_newer(&record, answer.record.as_ref()) {
            answer.record = Some(record.clone());
            answer.etag = etag;
        }
        self.improve(record)
    }

    fn improve(&mut self, record: Verified) -> bool {
        let newer = is_newer(&record, self.best.as_ref());
        if newer {
            self.best = Some(record);
        }
        newer
    }

    fn receipt(&self, now: Duration, end: CallEnd, calls: &Calls) -> Receipt {
        let mut receipt = Receipt::new(now, end, calls);
        let answer = self.answers.get(&receipt.router);
        receipt.sequence = answer.and_then(|answer| answer.record.as_ref()).map(|record| record.sequence());
        if let (None, Some(reason), Ok(_)) =
            (receipt.sequence, answer.and_then(|answer| answer.invalid.clone()), &receipt.outcome)
        {
            receipt.outcome = Err(RouteError::Invalid(reason));
        }
        receipt
    }

    /// The record that may be returned: the newest one known, unless it has expired. An older one never may.
    pub(crate) fn answer(&self, checks: &Checks) -> Option<&Verified> {
        let may = |record: &&Verified| {
            let below = self.least.is_some_and(|least| rank(record) < least);
            !below && !record.is_expired(checks.at - checks.tolerance)
        };
        self.newest().filter(may)
    }

    /// The newest record known, expired or not.
    pub(crate) fn newest(&self) -> Option<&Verified> {
        match (&self.best, &self.floor) {
            (Some(best), Some(floor)) if compare(best, floor) == Ordering::Less => Some(floor),
            (best, floor) => best.as_ref().or(floor.as_ref()),
        }
    }

    /// What the routers found, and nothing else.
    pub(crate) fn found(&self) -> Option<&Verified> {
        self.best.as_ref()
    }

    /// What the routers found, if it was not known.
    pub(crate) fn discovery(&self) -> Option<&Verified> {
        self.best.as_ref().filter(|best| is_newer(best, self.floor.as_ref()))
    }

    /// Whether `op`, who wants `enough`, has heard enough since it joined.
    pub(crate) fn is_enough(&self, op: OpId, now: Duration, enough: Enough, grace: Duration, calls: &Calls) -> bool {
        match self.phase {
            Phase::Done => return true,
            Phase::Asking => {}
            Phase::Loading { .. } | Phase::Known => return false,
        }
        let since = self.watchers.get(&op).copied().unwrap_or_default();
        let heard = || self.receipts.values().filter(|(at, receipt)| *at >= since && receipt.is_ok());
        let is_left = |router| self.receipts.get(&router).is_none_or(|(at, _)| *at < since);
        let left: Vec<&Asked> = self.asked.values().filter(|asked| is_left(asked.router)).collect();
        let found = self.best.is_some();
        if left.is_empty() && (found || self.waiting.is_empty()) {
            return true;
        }
        let patient = now >= self.started.max(since) + grace;
        match enough {
            Enough::First => found,
            Enough::Answers(wanted) => {
                let answers = |receipt: &Receipt| answers(receipt).saturating_mul(calls.router(receipt.router).weight);
                found && heard().map(|(_, receipt)| answers(receipt)).fold(0, u32::saturating_add) >= wanted
            }
            Enough::Probable if found => patient && left.iter().all(|asked| asked.failing),
            // Who has no answer waits for routers that fail now and then, but not for those that are as good as gone.
            Enough::Probable => patient && left.iter().all(|asked| asked.suspect) && heard().next().is_some(),
        }
    }

    /// When [`advance`](Self::advance) or [`is_enough`](Self::is_enough) may change by time alone.
    pub(crate) fn next_timeout(&self, now: Duration, grace: Duration, calls: &Calls) -> Option<Duration> {
        if self.phase != Phase::Asking {
            return None;
        }
        let hedges = self.waiting.values().flatten().map(|id| self.started + calls.router(*id).hedge);
        let graces = self.watchers.values().map(|since| self.started.max(*since) + grace);
        hedges.chain(graces).filter(|due| *due > now).min()
    }

    /// What each router said so far.
    pub(crate) fn receipts(&self, now: Duration, calls: &Calls) -> Vec<Receipt> {
        let ended = self.receipts.iter().map(|(router, (_, receipt))| (*router, receipt.clone()));
        let mut all: BTreeMap<RouterId, Receipt> = ended.collect();
        for end in self.asked.keys().filter_map(|call| calls.progress(*call)) {
            all.entry(end.router).or_insert_with(|| self.receipt(now, end, calls));
        }
        all.into_values().collect()
    }

    /// How fresh a record is. That a newer one was missed is as likely as the surest of the routers says: a DHT that
    /// holds the record by how many of the peers that should know were heard, all others together by Laplace's rule.
    pub(crate) fn freshness(&self, record: &Verified) -> Freshness {
        let (mut heard, mut others, mut holders, mut miss) = (0, 0, 0, 1.0_f64);
        for (_, receipt) in self.receipts.values().filter(|(_, receipt)| receipt.is_ok()) {
            heard += answers(receipt);
            let answer = self.answers.get(&receipt.router).filter(|answer| answer.record.as_ref() == Some(record));
            match answer.and_then(|answer| answer.freshness) {
                Some(dht) => {
                    holders += dht.holders as u32;
                    miss = miss.min(dht.miss_probability);
                }
                None => others += 1,
            }
        }
        let single = |router: &RouterId| self.answers.get(router).is_some_and(|answer| answer.freshness.is_none());
        let held = self.holders(record).filter(single).count() as u32;
        let others = held.max(others);
        if others > 0 {
            // How likely the next router to be asked would lack the newest record too.
            let lacks = f64::from(others - held + 1) / f64::from(others + 2);
            miss = miss.min(lacks.powi(others as i32));
        }
        holders += held;
        Freshness { answers: heard.max(holders), holders, miss_probability: miss }
    }

    /// The routers that answered with exactly this record.
    pub(crate) fn holders<'a>(&'a self, record: &'a Verified) -> impl Iterator<Item = RouterId> + 'a {
        self.answers.iter().filter(|(_, answer)| answer.record.as_ref() == Some(record)).map(|(id, _)| *id)
    }

    /// Every record that is known or that a router has.
    pub(crate) fn candidates(&self) -> impl Iterator<Item = &Verified> {
        let held = self.answers.values().filter_map(|answer| answer.record.as_ref());
        held.chain(self.newest())
    }

    /// The routers that answered with an older record than this.
    pub(crate) fn stale_holders<'a>(&'a self, record: &'a Verified) -> impl Iterator<Item = RouterId> + 'a {
        let older = |answer: &Answer| answer.record.as_ref().is_some_and(|held| compare(held, record).is_lt());
        self.answers.iter().filter(move |(_, answer)| older(answer)).map(|(id, _)| *id)
    }

    /// What the holders of this record call it.
    pub(crate) fn etags(&self, record: &Verified) -> BTreeMap<RouterId, String> {
        let held = self.answers.iter().filter(|(_, answer)| answer.record.as_ref() == Some(record));
        held.filter_map(|(id, answer)| Some((*id, answer.etag.clone()?))).collect()
    }

    /// What was wrong with an invalid record, if one came.
    pub(crate) fn invalid(&self) -> Option<&str> {
        self.answers.values().find_map(|answer| answer.invalid.as_deref())
    }

    /// The calls under way.
    pub(crate) fn calls(&self) -> impl Iterator<Item = CallId> + '_ {
        self.asked.keys().copied()
    }

    /// Whether any router failed at this very request, with 500. Some servers, the js one among them, answer so for a
    /// name that they do not know; one that is busy or forbids says nothing about the name.
    pub(crate) fn anyone_denied(&self) -> bool {
        self.receipts.values().any(|(_, receipt)| matches!(receipt.outcome, Err(RouteError::Failed(_))))
    }

    /// The routers that have answered, with a record or with none.
    pub(crate) fn heard(&self) -> impl Iterator<Item = RouterId> + '_ {
        self.receipts.iter().filter(|(_, (_, receipt))| receipt.is_ok()).map(|(router, _)| *router)
    }

    /// Whether any router answered, with a record or with none.
    pub(crate) fn anyone_answered(&self) -> bool {
        self.heard().next().is_some()
    }

    /// Whether anyone waits for it, or the routers are still being asked: their answers are worth keeping.
    pub(crate) fn is_wanted(&self) -> bool {
        !self.watchers.is_empty() || self.phase == Phase::Asking
    }
}

/// How many answers a router's answer is.
fn answers(receipt: &Receipt) -> u32 {
    receipt.outcome.as_ref().map_or(0, |tally| tally.acks)
}

pub(crate) fn is_newer(record: &Verified, than: Option<&Verified>) -> bool {
    than.is_none_or(|than| compare(record, than).is_gt())
}
