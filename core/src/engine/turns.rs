//! What operations share of keeping names alive: whose turn it is, and what becomes of a turn.

use core::time::Duration;

use bytes::Bytes;

use crate::name::Name;
use crate::record::{Checks, Verified};
use crate::store::Write;
use crate::time::Timestamp;

use super::context::Context;
use super::event::{Event, Publication, PublishError};
use super::index::rank;
use super::kept::{Entry, Kind};
use super::publish::is_unreached;
use super::queue::QueueError;

impl Context {
    /// When a kept name, or a queued record, is to have its turn.
    pub(crate) fn next_turn(&self) -> Option<Duration> {
        let schedule = self.schedule.as_ref().filter(|_| self.keeps)?;
        schedule.next_timeout().into_iter().chain(self.queue.next_timeout(self.now)).min()
    }

    /// What is kept is known: turns may begin.
    pub(crate) fn begin_keeping(&mut self) {
        self.keeps = true;
        self.give_turns();
    }

    /// The name whose turn it is.
    pub(crate) fn pop_turn(&mut self) -> Option<Name> {
        let name = self.schedule.as_mut()?.pop(self.now.monotonic)?;
        if let Some(entry) = self.memory.kept.get_mut(&name) {
            entry.due = None;
        }
        Some(name)
    }

    /// The queued record whose time has come.
    pub(crate) fn pop_queued(&mut self) -> Option<(Name, Bytes)> {
        self.schedule.as_ref()?;
        let (name, record, write) = self.queue.pop(self.now.wall)?;
        self.write_behind(vec![write]);
        Some((name, record))
    }

    /// A turn that the schedule gave has ended.
    pub(crate) fn turn_ended(&mut self) {
        if let Some(schedule) = &mut self.schedule {
            schedule.running = schedule.running.saturating_sub(1);
        }
    }

    /// Whether a turn that begins now is only to look for a newer record.
    pub(crate) fn is_look(&self, name: &Name) -> bool {
        let (entry, followed) = (self.memory.kept.get(name), self.memory.kept.followed());
        let entry = self.schedule.as_ref().zip(entry);
        entry.is_some_and(|(schedule, entry)| schedule.is_look(self.now, name, entry, followed))
    }

    /// How long it is until the turn after one that a name has now, if none comes sooner.
    pub(crate) fn until_next_turn(&self, name: &Name) -> Duration {
        self.schedule.as_ref().map(|schedule| schedule.until_pass(self.now.wall, name)).unwrap_or_default()
    }

    /// Gives a name its turn by what is known of it.
    pub(crate) fn give_turn(&mut self, name: &Name) {
        if let Some(schedule) = &mut self.schedule {
            schedule.set_region(self.nodes.bits_of_region(self.now));
        }
        let (count, followed) = (self.memory.kept.len(), self.memory.kept.followed());
        if let (Some(schedule), Some(entry)) = (&mut self.schedule, self.memory.kept.get_mut(name)) {
            let turn = schedule.turn(self.now, name, entry, count, followed);
            schedule.set(name, entry, Some(turn));
        }
    }

    /// Gives every name its turn by what is known of it.
    pub(crate) fn give_turns(&mut self) {
        let names: Vec<Name> = self.memory.kept.iter().map(|(name, _)| *name).collect();
        for name in names {
            self.give_turn(&name);
        }
    }

    /// After a sleep of the machine its timers know nothing of the time that has passed.
    pub(crate) fn notice_sleep(&mut self) {
        if self.schedule.as_mut().is_some_and(|schedule| schedule.slept(self.now)) {
            self.give_turns();
        }
    }

    /// The network is back: those that nobody could be reached for are sent soon.
    pub(crate) fn recover(&mut self) {
        let count = self.memory.kept.len();
        let Some(schedule) = &mut self.schedule else { return };
        if !self.memory.kept.has_unreached() || !schedule.may_recover(self.now.monotonic) {
            return;
        }
        for name in self.memory.kept.take_unreached() {
            if let Some(entry) = self.memory.kept.get_mut(&name).filter(|entry| entry.due.is_some()) {
                let soon = schedule.soon(self.now, &name, count);
                schedule.set(&name, entry, Some(soon));
            }
        }
    }

    /// Somebody has a newer record of a followed name: it is its turn.
    pub(crate) fn notice_newer(&mut self, record: &Verified) {
        let now = self.now.monotonic;
        if let (Some(schedule), Some(entry)) = (&mut self.schedule, self.memory.kept.get_mut(record.name()))
            && entry.kind == Kind::Followed
            && entry.due.is_some()
            && rank(record) > entry.rank
        {
            schedule.set(record.name(), entry, Some(now));
        }
    }

    /// Whether one more name of someone else may be followed.
    pub(crate) fn may_follow(&self) -> bool {
        self.memory.kept.followed() < self.config.keep.unwrap_or_default().max_followed
    }

    /// Keeps a name of someone else alive from now on. `false` if it is kept already.
    pub(crate) fn follow_name(&mut self, name: Name) -> bool {
        if self.memory.kept.get(&name).is_some() {
            return false;
        }
        let entry = Entry::new(Kind::Followed);
        let write = entry.write(&name);
        self.memory.kept.insert(name, entry);
        self.write_behind(vec![write]);
        self.give_turn(&name);
        true
    }

    /// Puts a record in line that was signed for later.
    pub(crate) fn queue_record(&mut self, name: Name, record: Bytes, at: Timestamp) -> Result<(), QueueError> {
        let checks = Checks { at: Timestamp::MIN, tolerance: Duration::ZERO };
        let eol = checks.verify(record.clone(), &name)?.eol();
        if eol <= at.max(self.now.wall) {
            return Err(QueueError::TooLate { eol });
        }
        let write = self.queue.add(name, at, record)?;
        self.write_behind(vec![write]);
        Ok(())
    }

    /// Keeps how the sending of a record went.
    pub(crate) fn note_sent(&mut self, name: &Name, record: &Verified, result: &Result<Publication, PublishError>) {
        if self.memory.kept.get(name).is_some_and(|entry| entry.rank == rank(record)) {
            self.note_turn(name, false, false, result);
        }
    }

    /// Keeps how a turn of a name went, and gives it the next one.
    pub(crate) fn note_turn(
        &mut self,
        name: &Name,
        looked: bool,
        only_look: bool,
        result: &Result<Publication, PublishError>,
    ) {
        let (now, interval) = (self.now, self.schedule.as_ref().map(|schedule| schedule.how().interval));
        let receipts = match result {
            Ok(publication) => Some(&publication.receipts),
            Err(PublishError::PolicyNotMet { publication, .. }) => Some(&publication.receipts),
            Err(PublishError::Cancelled) => None,
            Err(_) => Some(const { &Vec::new() }),
        };
        let Some(entry) = self.memory.kept.get_mut(name) else { return };
        if looked {
            entry.looked = Some(now.monotonic);
        }
        let (mut succeeded, mut unreached) = (false, false);
        if let Some(receipts) = receipts.filter(|_| !(only_look && result.is_ok())) {
            let acks = receipts.iter().filter(|receipt| receipt.is_ok()).count() as u32;
            if acks > 0 {
                (entry.acks, entry.sent) = (acks, Some(now.wall));
            }
            succeeded = acks > 0;
            entry.failures = if succeeded { 0 } else { entry.failures.saturating_add(1) };
            unreached = !succeeded
                && match result {
                    Err(PublishError::NoRecord(error)) => error.code() == "unreachable",
                    Err(PublishError::PolicyNotMet { .. }) | Ok(_) => receipts.iter().all(is_unreached),
                    Err(error) => matches!(error, PublishError::NoRouter | PublishError::Timeout),
                };
            entry.error = result.as_ref().err().map(|error| error.to_string().into_boxed_str());
        }
        let (failures, eol) = (entry.failures, entry.rank.1);
        // An own name is signed anew when half of its life is over: only if that failed it ends.
        let lives_on = matches!(entry.kind, Kind::Own { lifetime } if eol > now.wall + lifetime / 2);
        let near = interval.is_some_and(|interval| eol <= now.wall + interval * 2);
        let ends = entry.has_record() && near && !lives_on;
        let warn = ends && !core::mem::replace(&mut entry.warned, ends);
        self.memory.kept.set_unreached(name, unreached);
        // What is on its way to the store must not be overwritten there.
        if self.memory.spent(name).is_none()
            && let Some(entry) = self.memory.kept.get(name)
            && !only_look
        {
            let write: Write = entry.write(name);
            self.write_behind(vec![write]);
        }
        if warn {
            self.emit(Event::Expiring { name: *name, eol });
        }
        match failures {
            0 => self.give_turn(name),
            failures => {
                if let (Some(schedule), Some(entry)) = (&mut self.schedule, self.memory.kept.get_mut(name)) {
                    let retry = schedule.retry(now, name, failures);
                    schedule.set(name, entry, Some(retry));
                }
            }
        }
        if succeeded {
            self.recover();
        }
    }
}
