//! Keeping one name alive, once: an own one is signed anew when it is time, a followed one looked up, and both are sent.

use core::time::Duration;

use crate::name::Name;
use crate::record::Verified;
use crate::routing::{Depth, Receipt, RouteError};

use super::context::{Context, Wake};
use super::event::{Event, Publication, PublishError, ResolveError};
use super::ids::OpId;
use super::index::rank;
use super::kept::Kind;
use super::memory::Keep;
use super::request::{Enough, Policy};
use super::sending::Sending;
use super::signing::Signing;

/// A signer that has not answered for so long is taken to be away.
const SIGNER_PATIENCE: Duration = Duration::from_secs(30);
/// With no more names than this each is sent by itself: to explore a region would cost more.
const FEW: usize = 2;
/// When this share of the peers that were asked refuse a record, somebody may have a newer one.
const REFUSALS: u32 = 8;

pub(crate) struct Keeping {
    op: OpId,
    name: Name,
    /// Whether the application waits for it.
    asked: bool,
    started: Duration,
    /// Whether somebody was asked for a newer record, in this turn.
    looked: bool,
    /// Whether it is not the turn of the name to be sent: it is only looked for a newer record.
    only_look: bool,
    stage: Stage,
}

enum Stage {
    Waiting,
    Looking,
    Signing(Box<Signing>),
    Storing(Verified),
    Sending(Sending),
}

type Outcome = Result<Publication, PublishError>;

impl Keeping {
    /// The turn of a name, or, if `asked`, one that the application gives it.
    pub(crate) fn new(cx: &mut Context, op: OpId, name: Name, asked: bool) -> Self {
        let started = cx.now.monotonic;
        let only_look = !asked && cx.is_look(&name);
        cx.set_timer(op, Some(started + cx.config.publish_timeout));
        Self { op, name, asked, started, looked: false, only_look, stage: Stage::Waiting }
    }

    /// Moves on. Returns `true` when it has ended.
    pub(crate) fn step(&mut self, cx: &mut Context, wake: Wake) -> bool {
        let outcome = match wake {
            Wake::Start => self.start(cx),
            Wake::Lookup => self.read(cx),
            Wake::Signed(id, result) => self.signed(cx, id, result),
            Wake::Stored(result) => self.stored(cx, result),
            Wake::Call(call, end) => {
                if let Stage::Sending(sending) = &mut self.stage {
                    sending.on_call(cx, call, end);
                }
                self.sent(cx)
            }
            Wake::Time => self.on_time(cx),
            Wake::Cancel => Some(Err(PublishError::Cancelled)),
            Wake::Learned(_) => None,
        };
        let Some(result) = outcome else { return false };
        self.end(cx, result);
        true
    }

    fn deadline(&self, cx: &Context) -> Duration {
        self.started + cx.config.publish_timeout
    }

    fn start(&mut self, cx: &mut Context) -> Option<Outcome> {
        if !matches!(self.stage, Stage::Waiting) {
            return None;
        }
        if cx.memory.kept.get(&self.name).is_none() {
            return Some(Err(PublishError::NotKept));
        }
        if !cx.calls.routers().any(|(_, router)| router.write) {
            return Some(Err(PublishError::NoRouter));
        }
        // Whoever writes the name at the moment sends what it writes: after that, this is as good as another turn.
        if !cx.lock(self.op, self.name) {
            return None;
        }
        let Some(entry) = cx.memory.kept.get(&self.name) else { return Some(Err(PublishError::NotKept)) };
        let now = cx.now.wall;
        match entry.kind {
            Kind::Own { lifetime } => {
                let left = entry.rank.1.saturating_since(now);
                // At its next turn half of its life is to be left still, or that one would have to come sooner.
                let renews = left.saturating_sub(cx.until_next_turn(&self.name)) <= lifetime / 2;
                let record = entry.record(&self.name)?;
                // What the network or another device has is newer: sending ours again would help nobody.
                if cx.memory.index.outranks(&record) {
                    return self.look(cx);
                }
                if !renews {
                    return self.send(cx, record);
                }
                let unsigned = record.renew(now + lifetime);
                self.stage = Stage::Signing(Box::new(Signing::begin(cx, self.op, self.name, unsigned)));
                cx.set_timer(self.op, Some(cx.now.monotonic + SIGNER_PATIENCE));
                None
            }
            Kind::Followed if self.only_look || !entry.has_record() || entry.is_expired(now) => self.look(cx),
            Kind::Followed => {
                let record = entry.record(&self.name)?;
                match cx.memory.index.outranks(&record) {
                    true => self.look(cx),
                    false => self.send(cx, record),
                }
            }
        }
    }

    /// Asks the routers for a newer record.
    fn look(&mut self, cx: &mut Context) -> Option<Outcome> {
        self.looked = true;
        self.stage = Stage::Looking;
        let until = cx.now.monotonic + cx.config.read_timeout;
        cx.set_timer(self.op, Some(until.min(self.deadline(cx))));
        cx.look_up(self.op, self.name, Some(Depth::Usual));
        None
    }

    fn read(&mut self, cx: &mut Context) -> Option<Outcome> {
        if matches!(self.stage, Stage::Looking) && cx.is_enough(self.op, &self.name, Enough::Probable) {
            return self.decide(cx);
        }
        None
    }

    /// What the routers know is known.
    fn decide(&mut self, cx: &mut Context) -> Option<Outcome> {
        let checks = cx.checks();
        let lookup = cx.lookup(&self.name)?;
        let found = lookup.answer(&checks).cloned();
        let receipts = lookup.receipts(cx.now.monotonic, &cx.calls);
        cx.release(self.op, &self.name);
        cx.set_timer(self.op, Some(self.deadline(cx)));
        let Some(entry) = cx.memory.kept.get(&self.name) else { return Some(Err(PublishError::NotKept)) };
        let newer = found.clone().filter(|found| !entry.has_record() || rank(found) > entry.rank);
        match (newer, entry.is_own()) {
            (Some(newer), true) => {
                let (ours, theirs) = (entry.rank.0, newer.sequence());
                cx.emit(Event::Conflict { name: self.name, ours, theirs });
                Some(Err(PublishError::Conflict { ours, theirs }))
            }
            (Some(newer), false) => {
                self.only_look = false;
                self.stage = Stage::Storing(newer.clone());
                cx.commit(self.op, newer, Some(Keep::Followed));
                None
            }
            (None, _) if !entry.has_record() || entry.is_expired(cx.now.wall) => {
                let name = self.name;
                let unheard = !receipts.iter().any(Receipt::is_ok);
                Some(Err(PublishError::NoRecord(match unheard {
                    true => ResolveError::Unreachable { name, receipts },
                    false => ResolveError::NotFound { name, receipts },
                })))
            }
            (None, _) => {
                let record = entry.record(&self.name)?;
                match self.only_look {
                    true => Some(Ok(self.publication(cx, record, Vec::new()))),
                    false => self.send(cx, record),
                }
            }
        }
    }

    fn signed(
        &mut self,
        cx: &mut Context,
        id: super::ids::SignId,
        result: Result<Vec<u8>, crate::key::SignError>,
    ) -> Option<Outcome> {
        let Stage::Signing(signing) = &mut self.stage else { return None };
        match signing.signed(cx, &self.name, id, result)? {
            Ok(record) => {
                cx.set_timer(self.op, Some(self.deadline(cx)));
                self.stage = Stage::Storing(record.clone());
                cx.commit(self.op, record, Some(Keep::AsItIs));
                None
            }
            Err(error) => self.unsigned(cx, error),
        }
    }

    /// The signer is away: the record as it is lives on while it can.
    fn unsigned(&mut self, cx: &mut Context, error: PublishError) -> Option<Outcome> {
        let entry = cx.memory.kept.get(&self.name)?;
        let (record, eol) = (entry.record(&self.name)?, entry.rank.1);
        cx.emit(Event::NotRenewed { name: self.name, eol, error: error.clone() });
        if record.is_expired(cx.now.wall) {
            return Some(Err(error));
        }
        self.send(cx, record)
    }

    fn stored(&mut self, cx: &mut Context, result: Result<(), crate::store::StoreError>) -> Option<Outcome> {
        let Stage::Storing(record) = &self.stage else { return None };
        if let Err(error) = result {
            return Some(Err(error.into()));
        }
        let record = record.clone();
        self.send(cx, record)
    }

    fn send(&mut self, cx: &mut Context, record: Verified) -> Option<Outcome> {
        let depth = if self.asked || cx.memory.kept.len() <= FEW { Depth::Usual } else { Depth::Swept };
        let sending = Sending::begin(cx, self.op, record, depth);
        let grace = sending.since + cx.config.failing_grace;
        self.stage = Stage::Sending(sending);
        cx.set_timer(self.op, Some(grace.min(self.deadline(cx))));
        self.sent(cx)
    }

    fn sent(&mut self, cx: &mut Context) -> Option<Outcome> {
        let Stage::Sending(sending) = &self.stage else { return None };
        if !sending.is_over(cx, Policy::Any) {
            return None;
        }
        if !self.looked && sending.receipts(cx).iter().any(is_refused) {
            sending.leave(cx, false);
            return self.look(cx);
        }
        Some(self.result(cx))
    }

    fn on_time(&mut self, cx: &mut Context) -> Option<Outcome> {
        let late = cx.now.monotonic >= self.deadline(cx);
        match &self.stage {
            Stage::Signing(_) => self.unsigned(cx, PublishError::Timeout),
            Stage::Looking => self.decide(cx),
            Stage::Sending(_) if late => Some(self.result(cx)),
            Stage::Sending(_) => {
                cx.set_timer(self.op, Some(self.deadline(cx)));
                self.sent(cx)
            }
            Stage::Waiting | Stage::Storing(_) => late.then_some(Err(PublishError::Timeout)),
        }
    }

    fn publication(&self, cx: &Context, record: Verified, receipts: Vec<Receipt>) -> Publication {
        let elapsed = cx.now.monotonic.saturating_sub(self.started);
        Publication { record, receipts, rebased_over: None, elapsed }
    }

    fn result(&self, cx: &Context) -> Outcome {
        let Stage::Sending(sending) = &self.stage else { return Err(PublishError::Timeout) };
        let publication = self.publication(cx, sending.record.clone(), sending.receipts(cx));
        match sending.is_met(Policy::Any) {
            true => Ok(publication),
            false => Err(PublishError::PolicyNotMet { needed: 1, publication: Box::new(publication) }),
        }
    }

    fn end(&mut self, cx: &mut Context, result: Outcome) {
        cx.release(self.op, &self.name);
        cx.unlock(self.op, &self.name);
        if let Stage::Sending(sending) = &self.stage {
            sending.leave(cx, matches!(result, Err(PublishError::Cancelled)));
        }
        cx.note_turn(&self.name, self.looked, self.only_look, &result);
        match (self.asked, self.only_look && result.is_ok()) {
            (true, _) => cx.emit(Event::Published { op: self.op, result }),
            (false, true) => cx.turn_ended(),
            (false, false) => {
                cx.turn_ended();
                cx.emit(Event::Kept { name: self.name, result });
            }
        }
    }
}

/// Whether a router, or many peers of one, would not take the record.
fn is_refused(receipt: &Receipt) -> bool {
    let refusals = receipt.peers.iter().filter(|peer| peer.outcome == crate::dht::Outcome::Refused).count() as u32;
    match &receipt.outcome {
        Err(RouteError::Conflict { .. } | RouteError::Refused(_)) => true,
        Ok(tally) => refusals > 0 && refusals * REFUSALS >= tally.asked,
        Err(_) => false,
    }
}
