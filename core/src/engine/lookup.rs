//! One name looked up on all routers: tiers and hedges, every answer verified and compared.

use core::cmp::Ordering;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::name::Name;
use crate::record::{Checks, Verified, compare};
use crate::routing::{CallEnd, CallId, CallUpdate, Calls, Operation, Receipt, RouteError, RouterId};

use crate::time::Timestamp;

use super::event::Freshness;
use super::ids::OpId;
use super::request::Enough;

/// A router that sends more records for one name than this is not listened to any longer.
const MAX_RECORDS_PER_CALL: u32 = 64;

pub(crate) struct Lookup {
    name: Name,
    /// The newest record known before anyone was asked, valid or expired: nothing older is ever returned.
    floor: Option<Verified>,
    /// Whether the floor may answer without asking.
    pub(crate) fresh: bool,
    /// When the floor was received or last confirmed.
    pub(crate) since: Option<Timestamp>,
    best: Option<Verified>,
    phase: Phase,
    started: Duration,
    /// Routers not asked yet, by tier.
    waiting: BTreeMap<u8, Vec<RouterId>>,
    asked: BTreeMap<CallId, Asked>,
    receipts: BTreeMap<RouterId, Receipt>,
    answers: BTreeMap<RouterId, Answer>,
    pub(crate) watchers: BTreeSet<OpId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The store is being read; `ask` says whether routers are asked afterwards.
    Loading { ask: bool },
    /// What this node knows is known, and nobody is asked.
    Known,
    /// Routers are being asked.
    Asking,
    /// Every router has answered or failed.
    Done,
}

struct Asked {
    router: RouterId,
    failing: bool,
    records: u32,
}

/// What a router answered: the newest valid record, if any, and its entity tag.
#[derive(Default)]
struct Answer {
    record: Option<Verified>,
    etag: Option<String>,
    invalid: Option<String>,
}

impl Lookup {
    pub(crate) fn new(name: Name, now: Duration, phase: Phase) -> Self {
        Self {
            name,
            floor: None,
            fresh: false,
            since: None,
            best: None,
            phase,
            started: now,
            waiting: BTreeMap::new(),
            asked: BTreeMap::new(),
            receipts: BTreeMap::new(),
            answers: BTreeMap::new(),
            watchers: BTreeSet::new(),
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    /// Raises what is known before asking.
    pub(crate) fn raise_floor(&mut self, record: Verified) {
        if is_newer(&record, self.floor.as_ref()) {
            self.floor = Some(record);
        }
    }

    /// The store has been read: says whether routers are to be asked.
    pub(crate) fn loaded(&mut self) -> bool {
        let ask = self.phase == Phase::Loading { ask: true };
        if matches!(self.phase, Phase::Loading { .. }) {
            self.phase = Phase::Known;
        }
        ask
    }

    /// Asks the routers, now or as soon as the store has been read.
    pub(crate) fn ask(&mut self, now: Duration, calls: &mut Calls, etags: &BTreeMap<RouterId, String>) {
        match self.phase {
            Phase::Loading { .. } => self.phase = Phase::Loading { ask: true },
            Phase::Known => {
                self.phase = Phase::Asking;
                self.started = now;
                for (id, router) in calls.routers().filter(|(_, router)| router.read) {
                    self.waiting.entry(router.tier).or_default().push(id);
                }
                self.advance(now, calls, etags);
            }
            Phase::Asking | Phase::Done => {}
        }
    }

    /// Begins the tiers whose time has come, and notices the end.
    pub(crate) fn advance(&mut self, now: Duration, calls: &mut Calls, etags: &BTreeMap<RouterId, String>) {
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
                let operation = Operation::Get { name: self.name };
                let call = calls.start(now, router, operation, etags.get(&router).cloned());
                let asked = Asked { router, failing: calls.is_suspect(router), records: 0 };
                self.asked.insert(call, asked);
                self.answers.insert(router, Answer::default());
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
                asked.records <= MAX_RECORDS_PER_CALL && self.on_record(router, bytes, etag, checks)
            }
            CallUpdate::Unchanged => {
                let held = self.floor.clone();
                if let (Some(answer), Some(held)) = (self.answers.get_mut(&router), held) {
                    answer.record = Some(held.clone());
                    self.improve(held);
                }
                true
            }
            CallUpdate::Date { .. } => false,
            CallUpdate::Done(end) => {
                self.asked.remove(&call);
                self.receipts.insert(router, self.receipt(now, end, calls));
                true
            }
        }
    }

    fn on_record(&mut self, router: RouterId, bytes: Bytes, etag: Option<String>, checks: &Checks) -> bool {
        // Verifying is the dearest thing here; bytes that were verified before are not verified again.
        let same = [&self.best, &self.floor].into_iter().flatten().find(|known| *known.as_bytes() == bytes).cloned();
        let verified = match same {
            Some(known) if !known.is_expired(checks.at - checks.tolerance) => Ok(known),
            _ => checks.verify(bytes, &self.name),
        };
        let Some(answer) = self.answers.get_mut(&router) else { return false };
        match verified {
            Ok(record) => {
                if is_newer(&record, answer.record.as_ref()) {
                    answer.record = Some(record.clone());
                    answer.etag = etag;
                }
                self.improve(record)
            }
            Err(error) => {
                tracing::debug!(name = %self.name, %router, %error, "a router sent an invalid record");
                answer.invalid = Some(error.to_string());
                false
            }
        }
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

    /// The newest record that may be returned: found now or known before, never an older one than the floor.
    pub(crate) fn answer(&self, checks: &Checks) -> Option<&Verified> {
        let valid = |record: &&Verified| !record.is_expired(checks.at - checks.tolerance);
        match (&self.best, &self.floor) {
            (Some(best), Some(floor)) if compare(best, floor) == Ordering::Less => Some(floor).filter(valid),
            (Some(best), _) => Some(best),
            (None, floor) => floor.as_ref().filter(valid),
        }
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

    pub(crate) fn floor(&self) -> Option<&Verified> {
        self.floor.as_ref()
    }

    /// Whether a caller that asks for `enough` has heard enough.
    pub(crate) fn is_enough(&self, now: Duration, enough: Enough, grace: Duration, calls: &Calls) -> bool {
        if self.phase == Phase::Done {
            return true;
        }
        if self.phase != Phase::Asking || self.best.is_none() {
            return false;
        }
        let heard =
            || -> u32 { self.receipts.values().filter(|r| r.is_ok()).map(|r| calls.router(r.router).weight).sum() };
        match enough {
            Enough::First => true,
            Enough::Answers(wanted) if heard() >= wanted => true,
            Enough::Answers(_) | Enough::Probable => self.only_failing_left() && now >= self.started + grace,
        }
    }

    fn only_failing_left(&self) -> bool {
        self.asked.values().all(|asked| asked.failing)
    }

    /// When [`advance`](Self::advance) or [`is_enough`](Self::is_enough) may change by time alone.
    pub(crate) fn next_timeout(&self, now: Duration, grace: Duration, calls: &Calls) -> Option<Duration> {
        if self.phase != Phase::Asking {
            return None;
        }
        let hedges = self.waiting.values().flatten().map(|id| self.started + calls.router(*id).hedge);
        let grace = (self.best.is_some() && self.only_failing_left()).then_some(self.started + grace);
        hedges.chain(grace).filter(|due| *due > now).min()
    }

    /// What each router said so far.
    pub(crate) fn receipts(&self, now: Duration, calls: &Calls) -> Vec<Receipt> {
        let mut all = self.receipts.clone();
        for end in self.asked.keys().filter_map(|call| calls.progress(*call)) {
            all.insert(end.router, self.receipt(now, end, calls));
        }
        all.into_values().collect()
    }

    pub(crate) fn freshness(&self, record: &Verified) -> Freshness {
        let answers = self.receipts.values().filter(|receipt| receipt.is_ok()).count() as u32;
        let holders = self.holders(record).count() as u32;
        // Laplace's rule: how likely the next router to be asked would lack the newest record too.
        let lacks = f64::from(answers.saturating_sub(holders) + 1) / f64::from(answers + 2);
        Freshness { answers: answers.max(holders), holders, miss_probability: lacks.powi(answers.max(holders) as i32) }
    }

    /// The routers that answered with exactly this record.
    pub(crate) fn holders<'a>(&'a self, record: &'a Verified) -> impl Iterator<Item = RouterId> + 'a {
        self.answers.iter().filter(|(_, answer)| answer.record.as_ref() == Some(record)).map(|(id, _)| *id)
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

    /// Whether any router answered, with a record or with none.
    pub(crate) fn anyone_answered(&self) -> bool {
        self.receipts.values().any(Receipt::is_ok)
    }
}

pub(crate) fn is_newer(record: &Verified, than: Option<&Verified>) -> bool {
    than.is_none_or(|than| compare(record, than).is_gt())
}
