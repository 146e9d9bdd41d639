//! Publishing: read what is newest, decide the sequence, sign, make durable, send, and count who took it.
//!
//! No byte of a new record leaves before the store has said that it is durable, so that after a crash at any point a
//! name never gets the same sequence with another value.
//!
//! Whoever made the last record of a name, or its key just now, knows the next sequence, unless somebody else has the
//! same key: then the record is sent while the network is still being read. Nothing is told of it before that is over, and
//! if it turns out that there is a newer one, the value is signed anew, with a sequence above that, and sent again.

use core::time::Duration;

use bytes::Bytes;

use crate::name::Name;
use crate::record::{Checks, MAX_SEQUENCE, RecordBuilder, Verified, compare};
use crate::routing::{Depth, Receipt, RouteError, RouterId};

use super::context::{Context, Wake};
use super::event::{Event, Publication, PublishError};
use super::ids::{OpId, SignId};
use super::index::rank;
use super::lookup::{Lookup, Phase, is_newer};
use super::memory::Keep;
use super::request::{Enough, OnConflict, Policy, Publish, Put};
use super::sending::Sending;
use super::signing::Signing;

pub(crate) struct Publishing {
    op: OpId,
    /// Whether the application waits for it.
    asked: bool,
    name: Name,
    what: What,
    policy: Policy,
    allow_offline: bool,
    started: Duration,
    rebased_over: Option<u64>,
    stage: Stage,
    /// The sequence of the record that is being made.
    sequence: u64,
    /// What is being read while the record is made and sent already.
    ahead: Option<Ahead>,
}

/// The reading that a record did not wait for.
struct Ahead {
    /// Our record before; none of a new key.
    base: Option<Verified>,
    until: Duration,
    /// The newest record seen that is not ours.
    foreign: Option<Verified>,
}

enum What {
    Make(Box<Publish>),
    Given(Box<Put>),
}

enum Stage {
    /// In line behind another publish of the same name.
    Waiting,
    /// Asking the routers for the newest record.
    Reading,
    Signing(Box<Signing>),
    Storing(Verified),
    Sending(Sending),
}

type Outcome = Result<Publication, PublishError>;

impl Publishing {
    pub(crate) fn publish(cx: &mut Context, op: OpId, what: Publish) -> Self {
        let (name, policy, allow_offline) = (what.key.to_name(), what.policy, what.allow_offline);
        Self::new(cx, op, name, policy, allow_offline, What::Make(Box::new(what)))
    }

    pub(crate) fn put(cx: &mut Context, op: OpId, what: Put) -> Self {
        let (name, policy, allow_offline) = (what.name, what.policy, what.allow_offline);
        Self::new(cx, op, name, policy, allow_offline, What::Given(Box::new(what)))
    }

    /// A record that was signed for later and whose time has come.
    pub(crate) fn queued(cx: &mut Context, op: OpId, name: Name, record: Bytes) -> Self {
        let (force, keep, policy, allow_offline) = (false, true, Policy::Any, true);
        let put = Put { name, record, force, keep, policy, allow_offline };
        Self { asked: false, ..Self::put(cx, op, put) }
    }

    fn new(cx: &mut Context, op: OpId, name: Name, policy: Policy, allow_offline: bool, what: What) -> Self {
        let (started, rebased_over, stage, ahead) = (cx.now.monotonic, None, Stage::Waiting, None);
        cx.set_timer(op, Some(started + cx.config.publish_timeout));
        let (asked, sequence) = (true, 0);
        Self { op, asked, name, what, policy, allow_offline, started, rebased_over, stage, sequence, ahead }
    }

    fn deadline(&self, cx: &Context) -> Duration {
        self.started + cx.config.publish_timeout
    }

    /// Sets the timer to what is due next.
    fn arm(&self, cx: &mut Context) {
        let grace = match &self.stage {
            Stage::Sending(sending) => Some(sending.since + cx.config.failing_grace),
            _ => None,
        };
        let reads = self.ahead.as_ref().map(|ahead| ahead.until);
        let ahead = [grace, reads].into_iter().flatten().filter(|due| *due > cx.now.monotonic);
        let due = ahead.fold(self.deadline(cx), Duration::min);
        cx.set_timer(self.op, Some(due));
    }

    /// Moves on. Returns `true` when the operation has ended.
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

    fn start(&mut self, cx: &mut Context) -> Option<Outcome> {
        if !matches!(self.stage, Stage::Waiting) {
            return None;
        }
        if !self.allow_offline && !cx.calls.routers().any(|(_, router)| router.write) {
            return Some(Err(PublishError::NoRouter));
        }
        if let What::Given(put) = &self.what
            && let Err(error) = cx.checks().verify(put.record.clone(), &self.name)
        {
            return Some(Err(error.into()));
        }
        if !cx.lock(self.op, self.name) {
            return None;
        }
        let until = self.deadline(cx).min(cx.now.monotonic + cx.config.read_timeout);
        cx.set_timer(self.op, Some(until));
        cx.look_up(self.op, self.name, Some(Depth::Walk));
        let Some((base, sequence)) = self.next_of_own(cx) else {
            self.stage = Stage::Reading;
            return None;
        };
        cx.reserve(self.name);
        self.ahead = Some(Ahead { base, until, foreign: None });
        self.sign(cx, sequence)
    }

    /// Our last record of the name, which a new key has not, and the next sequence, if the network need not be read before
    /// that is used.
    fn next_of_own(&self, cx: &Context) -> Option<(Option<Verified>, u64)> {
        let What::Make(publish) = &self.what else { return None };
        let chosen = publish.sequence.is_some() || publish.if_sequence.is_some();
        if chosen || publish.on_conflict == OnConflict::Fail || cx.memory.unreadable.contains(&self.name) {
            return None;
        }
        let (own, known) = (cx.memory.own_record(&self.name), self.newest_known(cx));
        // Where anything is known of the name, the key is not as new as it was said to be.
        if own.is_none() && (!publish.new_key || known.is_some()) {
            return None;
        }
        let sequence = next_sequence(publish, known, cx.memory.spent(&self.name)).ok()?;
        Some((own, sequence))
    }

    /// The highest sequence of the name that is known, here or by what was read.
    fn newest_known(&self, cx: &Context) -> Option<u64> {
        // The store may hold a record that could not be read just now: its sequence counts.
        let stored = cx.memory.index.rank(&self.name).map(|(sequence, _)| sequence);
        let own = cx.memory.own_record(&self.name).map(|own| own.sequence());
        let found = cx.lookup(&self.name).and_then(Lookup::newest).map(|newest| newest.sequence());
        found.max(stored).max(own)
    }

    fn read(&mut self, cx: &mut Context) -> Option<Outcome> {
        let enough = cx.is_enough(self.op, &self.name, Enough::Probable);
        if matches!(self.stage, Stage::Reading) {
            return if enough { self.decide(cx) } else { None };
        }
        self.watch(cx);
        if enough { self.look_back(cx) } else { None }
    }

    /// Takes note of what was read, and sends the record to those that have been.
    fn watch(&mut self, cx: &mut Context) {
        let Some(ahead) = &mut self.ahead else { return };
        let Some(lookup) = cx.lookup(&self.name) else { return };
        let sent = match &self.stage {
            Stage::Storing(record) => Some(record),
            Stage::Sending(sending) => Some(&sending.record),
            _ => None,
        };
        let base = ahead.base.as_ref();
        let foreign = |found: &&Verified| base.is_none_or(|base| is_foreign(found, base)) && sent != Some(*found);
        for found in lookup.candidates().filter(foreign) {
            if is_newer(found, ahead.foreign.as_ref()) {
                ahead.foreign = Some(found.clone());
            }
        }
        let heard: Vec<RouterId> = lookup.heard().collect();
        if let Stage::Sending(sending) = &mut self.stage
            && ahead.foreign.as_ref().is_none_or(|foreign| foreign.sequence() < sending.record.sequence())
        {
            sending.send_to(cx, &heard);
        }
    }

    /// The network has been read: it is certain now whether what is under way is the newest.
    fn look_back(&mut self, cx: &mut Context) -> Option<Outcome> {
        let Ahead { base, foreign, .. } = self.ahead.take()?;
        cx.release(self.op, &self.name);
        self.arm(cx);
        if let Some(foreign) = foreign {
            let (ours, theirs) = (base.map_or(self.sequence, |base| base.sequence()), foreign.sequence());
            cx.emit(Event::Conflict { name: self.name, ours, theirs });
            self.rebased_over = Some(theirs);
        }
        let below = self.is_below();
        match &mut self.stage {
            Stage::Signing(_) if below => self.rise(cx),
            Stage::Sending(sending) if below => {
                sending.leave(cx, true);
                self.rise(cx)
            }
            Stage::Sending(sending) => {
                sending.send_all(cx);
                cx.unlock(self.op, &self.name);
                self.sent(cx)
            }
            // What is being stored is looked at once it is there.
            _ => None,
        }
    }

    /// Whether somebody else's record is not older than the one that is being made.
    fn is_below(&self) -> bool {
        self.rebased_over >= Some(self.sequence)
    }

    /// Signs the value anew, with a sequence above all that is known.
    fn rise(&mut self, cx: &mut Context) -> Option<Outcome> {
        let What::Make(publish) = &self.what else { return None };
        let known = self.newest_known(cx).max(self.rebased_over);
        match next_sequence(publish, known, cx.memory.spent(&self.name)) {
            Ok(sequence) => self.sign(cx, sequence),
            Err(error) => Some(Err(error)),
        }
    }

    /// Everything is known that can be: decide whether, and with which sequence, to publish.
    fn decide(&mut self, cx: &mut Context) -> Option<Outcome> {
        let lookup = cx.lookup(&self.name);
        let newest = lookup.and_then(|lookup| lookup.newest().cloned());
        let own = cx.memory.own_record(&self.name);
        let foreign = own.as_ref().zip(lookup).and_then(|(own, lookup)| {
            let foreign = lookup.candidates().filter(|record| is_foreign(record, own));
            foreign.max_by(|a, b| compare(a, b)).cloned()
        });
        let answered = lookup.is_some_and(|lookup| lookup.anyone_answered() || lookup.anyone_denied());
        let receipts = lookup.map(|lookup| lookup.receipts(cx.now.monotonic, &cx.calls)).unwrap_or_default();
        let known = self.newest_known(cx);
        cx.release(self.op, &self.name);
        self.arm(cx);
        match &self.what {
            What::Given(put) => {
                let checks = Checks { at: crate::time::Timestamp::MIN, tolerance: Duration::ZERO };
                let record = match checks.verify(put.record.clone(), &self.name) {
                    Ok(record) => record,
                    Err(error) => return Some(Err(error.into())),
                };
                let same = newest.as_ref().is_some_and(|newest| newest == &record);
                if let (Some(newest), false, false) = (known, same, put.force)
                    && record.sequence() <= newest
                {
                    return Some(Err(PublishError::SequenceTooLow { given: record.sequence(), newest }));
                }
                self.persist(cx, record)
            }
            What::Make(publish) => {
                let blind = own.is_none() && !answered && cx.calls.routers().any(|(_, router)| router.read);
                let lost = cx.memory.unreadable.contains(&self.name) && publish.sequence.is_none() && !answered;
                if (blind && !self.allow_offline) || lost {
                    return Some(Err(PublishError::Unread { receipts }));
                }
                if let (Some(own), Some(foreign)) = (&own, &foreign) {
                    let (ours, theirs) = (own.sequence(), foreign.sequence());
                    cx.emit(Event::Conflict { name: self.name, ours, theirs });
                    if publish.on_conflict == OnConflict::Fail {
                        return Some(Err(PublishError::Conflict { ours, theirs }));
                    }
                    self.rebased_over = Some(theirs);
                }
                match next_sequence(publish, known, cx.memory.spent(&self.name)) {
                    Ok(sequence) => self.sign(cx, sequence),
                    Err(error) => Some(Err(error)),
                }
            }
        }
    }

    fn sign(&mut self, cx: &mut Context, sequence: u64) -> Option<Outcome> {
        self.sequence = sequence;
        let What::Make(publish) = &self.what else { return None };
        let lifetime = publish.lifetime.unwrap_or(cx.config.lifetime);
        let mut builder = RecordBuilder::new(publish.value.clone(), sequence, cx.now.wall + lifetime);
        builder.ttl = publish.ttl.unwrap_or(cx.config.ttl);
        builder.version = publish.version;
        builder.metadata = publish.metadata.clone();
        let unsigned = match builder.prepare(&publish.key) {
            Ok(unsigned) => unsigned,
            Err(error) => return Some(Err(error.into())),
        };
        self.stage = Stage::Signing(Box::new(Signing::begin(cx, self.op, self.name, unsigned)));
        None
    }

    fn signed(
        &mut self,
        cx: &mut Context,
        id: SignId,
        result: Result<Vec<u8>, crate::key::SignError>,
    ) -> Option<Outcome> {
        let Stage::Signing(signing) = &mut self.stage else { return None };
        match signing.signed(cx, &self.name, id, result)? {
            Ok(record) => self.persist(cx, record),
            Err(error) => Some(Err(error)),
        }
    }

    fn persist(&mut self, cx: &mut Context, record: Verified) -> Option<Outcome> {
        let kept = cx.memory.kept.get(&self.name);
        let newer = kept.is_none_or(|kept| !kept.has_record() || rank(&record) > kept.rank);
        let keep = match &self.what {
            What::Make(publish) => Some(Keep::Own { lifetime: publish.lifetime.unwrap_or(cx.config.lifetime) }),
            What::Given(put) if put.keep && kept.is_none() => cx.may_follow().then_some(Keep::Followed),
            What::Given(_) => kept.map(|_| Keep::AsItIs),
        };
        self.stage = Stage::Storing(record.clone());
        cx.commit(self.op, record, keep.filter(|_| newer));
        None
    }

    fn stored(&mut self, cx: &mut Context, result: Result<(), crate::store::StoreError>) -> Option<Outcome> {
        let Stage::Storing(record) = &self.stage else { return None };
        if let Err(error) = result {
            return Some(Err(error.into()));
        }
        let record = record.clone();
        if self.ahead.is_some() {
            self.stage = Stage::Sending(Sending::ahead(cx, self.op, record, Depth::Usual));
            self.arm(cx);
            self.watch(cx);
            return None;
        }
        if self.is_below() {
            return self.rise(cx);
        }
        cx.unlock(self.op, &self.name);
        self.stage = Stage::Sending(Sending::begin(cx, self.op, record, Depth::Usual));
        self.arm(cx);
        self.sent(cx)
    }

    /// Every router has answered, or the policy is met and only failing routers are left.
    fn sent(&mut self, cx: &mut Context) -> Option<Outcome> {
        let Stage::Sending(sending) = &self.stage else { return None };
        (self.ahead.is_none() && sending.is_over(cx, self.policy)).then(|| self.result(cx))
    }

    fn on_time(&mut self, cx: &mut Context) -> Option<Outcome> {
        let (now, deadline) = (cx.now.monotonic, self.deadline(cx));
        let late = now >= deadline;
        // What the store knows is awaited longer than the routers.
        let loading = matches!(cx.lookup(&self.name).map(Lookup::phase), Some(Phase::Loading { .. })) && !late;
        if let Some(ahead) = &mut self.ahead {
            if loading {
                ahead.until = deadline;
            } else if now >= ahead.until
                && let Some(outcome) = self.look_back(cx)
            {
                return Some(outcome);
            }
        }
        match &self.stage {
            Stage::Reading if loading => {
                cx.set_timer(self.op, Some(deadline));
                None
            }
            Stage::Reading if !late => self.decide(cx),
            Stage::Sending(_) if late => Some(self.result(cx)),
            Stage::Sending(_) => {
                self.arm(cx);
                self.sent(cx)
            }
            // What the store was told to write may still become durable; it is not sent then.
            _ if late => Some(Err(PublishError::Timeout)),
            _ => {
                self.arm(cx);
                None
            }
        }
    }

    fn result(&self, cx: &Context) -> Outcome {
        let Stage::Sending(sending) = &self.stage else { return Err(PublishError::Timeout) };
        let publication = Publication {
            record: sending.record.clone(),
            receipts: sending.receipts(cx),
            rebased_over: self.rebased_over,
            elapsed: cx.now.monotonic.saturating_sub(self.started),
        };
        let offline = || self.allow_offline && publication.receipts.iter().all(is_unreached);
        if sending.is_met(self.policy) || offline() {
            return Ok(publication);
        }
        let needed = self.policy.needed(publication.receipts.len());
        Err(PublishError::PolicyNotMet { needed, publication: Box::new(publication) })
    }

    fn end(&mut self, cx: &mut Context, result: Outcome) {
        cx.release(self.op, &self.name);
        cx.unlock(self.op, &self.name);
        if let Stage::Sending(sending) = &self.stage {
            sending.leave(cx, matches!(result, Err(PublishError::Cancelled)));
            cx.note_sent(&self.name, &sending.record, &result);
        } else {
            cx.nodes.give_up(&self.name);
        }
        cx.emit(match self.asked {
            true => Event::Published { op: self.op, result },
            false => Event::Kept { name: self.name, result },
        });
    }
}

/// Whether the router said nothing about the record: neither took nor refused it.
pub(crate) fn is_unreached(receipt: &Receipt) -> bool {
    match &receipt.outcome {
        Err(RouteError::Failed(_) | RouteError::Refused(_) | RouteError::Conflict { .. } | RouteError::Invalid(_))
        | Ok(_) => false,
        Err(_) => true,
    }
}

/// Whether the network's record is newer than ours, or takes our sequence for another value.
fn is_foreign(found: &Verified, own: &Verified) -> bool {
    found.sequence() > own.sequence()
        || (found.sequence() == own.sequence() && found.value_bytes() != own.value_bytes())
}

/// A sequence that is `spent` was never sent: nothing is lost over it, but it is not used again.
fn next_sequence(publish: &Publish, newest: Option<u64>, spent: Option<u64>) -> Result<u64, PublishError> {
    if let Some(expected) = publish.if_sequence
        && newest != Some(expected)
    {
        return Err(PublishError::SequenceChanged { expected, found: newest });
    }
    match (publish.sequence, newest.max(spent)) {
        (Some(given), Some(newest)) if given <= newest => Err(PublishError::SequenceTooLow { given, newest }),
        (Some(given), _) => Ok(given),
        (None, None) => Ok(0),
        (None, Some(MAX_SEQUENCE)) => Err(PublishError::SequenceExhausted),
        (None, Some(newest)) => Ok(newest + 1),
    }
}
