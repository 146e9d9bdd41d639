//! What the operations of an engine share: the present, the lookups, what is known, and the way out.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::RngCore;

use crate::key::SignError;
use crate::name::Name;
use crate::record::{Checks, Verified};
use crate::routing::{
    CallEnd, CallId, CallOutput, CallUpdate, Calls, Depth, HttpError, HttpId, Nodes, Operation, RouterId,
};
use crate::store::{StoreError, Table, Write};
use crate::time::{Now, Timestamp};

use super::behind::Behind;
use super::cache::Cache;
use super::clock::ClockWatch;
use super::config::Config;
use super::event::Event;
use super::ids::{OpId, SignId, StoreId};
use super::io::{Output, StoreAction, StoreCommand, StoreReply};
use super::keep::Schedule;
use super::lookup::{Lookup, Phase, is_newer};
use super::memory::{Keep, Kept, Memory};
use super::queue::Queue;
use super::request::Enough;
use super::stored::StoredRecord;
use super::timers::Timers;

/// Why an operation is given the turn.
#[derive(Debug)]
pub(crate) enum Wake {
    /// It begins, or what it waited in line for is free.
    Start,
    /// A lookup that it watches has changed.
    Lookup,
    /// A newer record of a name was learned.
    Learned(Verified),
    Signed(SignId, Result<Vec<u8>, SignError>),
    Stored(Result<(), StoreError>),
    /// A delivery ended, or goes on after a failed attempt (`None`).
    Call(CallId, Option<CallEnd>),
    /// The time that it set has come.
    Time,
    Cancel,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Op(OpId),
    Lookup(Name),
}

/// Whose a call is.
enum Owner {
    Lookup(Name),
    Op(OpId),
    Correction(Name),
}

pub(crate) enum StoreWait {
    Lookup(Name),
    Op(OpId, Kept),
    Nodes,
    Background,
}

pub(crate) struct Context {
    pub(crate) now: Now,
    pub(crate) config: Config,
    pub(crate) calls: Calls,
    pub(crate) nodes: Nodes,
    pub(crate) behind: Behind,
    pub(crate) memory: Memory,
    /// When kept names are sent; `None` on a node that keeps nothing alive.
    pub(crate) schedule: Option<Schedule>,
    pub(crate) queue: Queue,
    /// Whether the store has been read, so that turns may begin.
    pub(crate) keeps: bool,
    random: ChaCha8Rng,
    clock: ClockWatch,
    lookups: BTreeMap<Name, Lookup>,
    owners: BTreeMap<CallId, Owner>,
    stores: BTreeMap<StoreId, StoreWait>,
    /// The record of each name that the store is making durable for an operation, which need not live any longer.
    writing: BTreeMap<Name, (OpId, Verified)>,
    signs: BTreeMap<SignId, OpId>,
    /// Who writes a name at present, and who waits to.
    locks: BTreeMap<Name, VecDeque<OpId>>,
    /// Names whose writer may have to write them again after what it told the store to write.
    reserved: BTreeSet<Name>,
    watches: BTreeMap<Name, BTreeSet<OpId>>,
    timers: Timers<Timer>,
    outputs: VecDeque<Output>,
    wakes: VecDeque<(OpId, Wake)>,
    next_id: u64,
}

impl Context {
    pub(crate) fn new(config: Config, mut random: ChaCha8Rng, now: Now) -> Self {
        let nodes = Nodes::new(&config.routers, now, &mut random);
        // With an identity in a network the hand begins at the same place after a restart.
        let phase = nodes.place().unwrap_or_else(|| f64::from(random.next_u32()) / f64::from(u32::MAX));
        Self {
            now,
            calls: Calls::new(config.routers.clone()),
            nodes,
            schedule: config.keep.map(|how| Schedule::new(how, phase, now)),
            queue: Queue::default(),
            keeps: false,
            behind: Behind::default(),
            memory: Memory::new(Cache::new(config.cache_entries, config.cache_bytes), config.max_records),
            random,
            clock: ClockWatch::new(config.clock_drift),
            lookups: BTreeMap::new(),
            owners: BTreeMap::new(),
            stores: BTreeMap::new(),
            writing: BTreeMap::new(),
            signs: BTreeMap::new(),
            locks: BTreeMap::new(),
            reserved: BTreeSet::new(),
            watches: BTreeMap::new(),
            timers: Timers::new(),
            outputs: VecDeque::new(),
            wakes: VecDeque::new(),
            next_id: 0,
            config,
        }
    }

    pub(crate) fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub(crate) fn checks(&self) -> Checks {
        Checks { at: self.now.wall, tolerance: self.config.tolerance }
    }

    pub(crate) fn is_expired(&self, record: &Verified) -> bool {
        let checks = self.checks();
        record.is_expired(checks.at - checks.tolerance)
    }

    pub(crate) fn emit(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    pub(crate) fn output(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    pub(crate) fn wake(&mut self, op: OpId, wake: Wake) {
        self.wakes.push_back((op, wake));
    }

    pub(crate) fn poll_wake(&mut self) -> Option<(OpId, Wake)> {
        self.wakes.pop_front()
    }

    pub(crate) fn set_timer(&mut self, op: OpId, due: Option<Duration>) {
        self.timers.set(Timer::Op(op), due);
    }

    pub(crate) fn next_timeout(&self) -> Option<Duration> {
        let kept = self.next_turn();
        [self.timers.next(), self.calls.next_timeout(), self.nodes.next_timeout(), kept].into_iter().flatten().min()
    }

    pub(crate) fn on_time(&mut self) {
        let now = self.now.monotonic;
        self.calls.on_timeout(now, &mut self.random);
        self.nodes.on_timeout(self.now);
        self.notice_sleep();
        while let Some(timer) = self.timers.pop(now) {
            match timer {
                Timer::Op(op) => self.wake(op, Wake::Time),
                Timer::Lookup(name) => self.touch(&name, true),
            }
        }
    }

    pub(crate) fn on_http(&mut self, id: HttpId, result: Result<http::Response<Bytes>, HttpError>) {
        self.calls.on_http(self.now.monotonic, id, result, &mut self.random);
    }

    /// Begins to send a record to a router.
    pub(crate) fn send(&mut self, op: OpId, router: RouterId, record: &Verified, depth: Depth) -> CallId {
        self.deliver(Owner::Op(op), router, record, depth)
    }

    fn deliver(&mut self, owner: Owner, router: RouterId, record: &Verified, depth: Depth) -> CallId {
        // A router may take whatever comes last: what is older is not tried again after this.
        self.calls.overtake(router, record.name(), record.sequence());
        let operation = Operation::Put { record: record.clone() };
        let call = self.calls.start(self.now.monotonic, router, operation, depth, None);
        self.owners.insert(call, owner);
        call
    }

    /// Moves what the routing layer has to say to whom it concerns. Returns `false` when there was nothing.
    pub(crate) fn pump_calls(&mut self) -> bool {
        let mut moved = false;
        while let Some(output) = self.calls.poll_output() {
            let output = match output {
                CallOutput::Http { id, request, timeout, max_body } => Output::Http { id, request, timeout, max_body },
                CallOutput::Route { id, router, operation } => Output::Route { id, router, operation },
                CallOutput::CancelHttp(id) => Output::CancelHttp(id),
                CallOutput::CancelRoute(id) => Output::CancelRoute(id),
                CallOutput::Node { call, router, operation, depth } => {
                    self.nodes.start(self.now, call, router, operation, depth);
                    continue;
                }
                CallOutput::CancelNode(call) => {
                    self.nodes.cancel(call);
                    continue;
                }
            };
            self.outputs.push_back(output);
        }
        moved |= self.pump_nodes();
        while let Some((call, update)) = self.calls.poll_update() {
            moved = true;
            self.on_call(call, update);
        }
        moved
    }

    fn on_call(&mut self, call: CallId, update: CallUpdate) {
        if let CallUpdate::Date { router, at } = update {
            if let Some(expected) = self.clock.observe(self.now, router, at) {
                self.emit(Event::ClockImplausible { wall: self.now.wall, expected });
            }
            return;
        }
        let ended = matches!(update, CallUpdate::Done(_));
        let name = match self.owners.get(&call) {
            Some(Owner::Lookup(name)) => *name,
            Some(Owner::Op(op)) => {
                let op = *op;
                let end = match update {
                    CallUpdate::Done(end) => Some(end),
                    CallUpdate::Failing => None,
                    _ => return,
                };
                if ended {
                    self.owners.remove(&call);
                }
                return self.wake(op, Wake::Call(call, end));
            }
            Some(Owner::Correction(name)) => {
                let name = *name;
                if let CallUpdate::Done(end) = update {
                    self.owners.remove(&call);
                    self.emit(Event::Corrected { name, router: end.router, ok: end.result.is_ok() });
                }
                return;
            }
            None => return,
        };
        if ended {
            self.owners.remove(&call);
        }
        let checks = self.checks();
        let Some(lookup) = self.lookups.get_mut(&name) else { return };
        let changed = lookup.on_update(self.now.monotonic, call, update, &self.calls, &checks);
        if let Some(discovery) = lookup.discovery().cloned() {
            self.discover(&discovery);
        }
        self.touch(&name, changed);
    }

    /// Leaves a call that nobody waits for any longer to itself: it goes on and ends unheard.
    pub(crate) fn disown(&mut self, call: CallId) {
        self.owners.remove(&call);
    }

    /// Gives a call up.
    pub(crate) fn abandon(&mut self, call: CallId) {
        self.owners.remove(&call);
        self.calls.cancel(call);
    }

    /// Lets `op` watch what is known of a name, and with `ask` has the routers asked so thoroughly. Wakes it when there is
    /// news.
    pub(crate) fn look_up(&mut self, op: OpId, name: Name, ask: Option<Depth>) {
        let now = self.now.monotonic;
        if self.lookups.get(&name).is_some_and(|lookup| lookup.phase() == Phase::Done) {
            // It ended in this very moment, and its watchers are being told: its answer is as new as can be.
            if let Some(lookup) = self.lookups.get_mut(&name) {
                lookup.join(op, now);
            }
            return self.wake(op, Wake::Lookup);
        }
        if !self.lookups.contains_key(&name) {
            let lookup = self.open_lookup(name);
            self.lookups.insert(name, lookup);
        }
        let cached = self.memory.cached(&name);
        if let Some(lookup) = self.lookups.get_mut(&name) {
            lookup.join(op, now);
            if let Some(depth) = ask {
                lookup.ask(now, &mut self.calls, cached.as_ref(), depth);
            }
        }
        self.adopt_calls(&name);
        self.touch(&name, false);
        self.wake(op, Wake::Lookup);
    }

    fn open_lookup(&mut self, name: Name) -> Lookup {
        let cached = self.memory.cached(&name);
        let load = cached.is_none() && self.memory.index.contains(&name);
        let phase = if load { Phase::Loading { ask: None } } else { Phase::Known };
        let mut lookup = Lookup::new(name, self.now.monotonic, phase);
        lookup.set_least(self.memory.index.rank(&name));
        if let Some(cached) = cached {
            lookup.raise_floor(&cached.record);
        }
        if let Some(own) = self.memory.own_record(&name) {
            lookup.raise_floor(&own);
        }
        if load {
            let action = StoreAction::Get { table: Table::Records, key: name.to_bytes() };
            self.store(StoreWait::Lookup(name), action);
        }
        lookup
    }

    /// Whether `record` may be returned without asking anyone.
    pub(crate) fn is_fresh(&mut self, record: &Verified) -> bool {
        self.memory.is_fresh(self.now, record)
    }

    /// Notes which new calls are a lookup's.
    fn adopt_calls(&mut self, name: &Name) {
        if let Some(lookup) = self.lookups.get(name) {
            for call in lookup.calls() {
                self.owners.entry(call).or_insert(Owner::Lookup(*name));
            }
        }
    }

    /// Moves a lookup on after something happened to it, and tells its watchers if that may matter to them.
    fn touch(&mut self, name: &Name, changed: bool) {
        let now = self.now.monotonic;
        let cached = self.memory.cached(name);
        let Some(lookup) = self.lookups.get_mut(name) else { return };
        let before = lookup.phase();
        lookup.advance(now, &mut self.calls, cached.as_ref());
        let done = before != Phase::Done && lookup.phase() == Phase::Done;
        let due = lookup.next_timeout(now, self.config.failing_grace, &self.calls);
        let watchers: Vec<OpId> = if changed || done { lookup.watchers().collect() } else { Vec::new() };
        self.timers.set(Timer::Lookup(*name), due);
        self.adopt_calls(name);
        if done {
            self.conclude(name);
        }
        for op in watchers {
            self.wake(op, Wake::Lookup);
        }
        self.drop_if_unwatched(name);
    }

    /// Keeps what a finished lookup found, and corrects the routers that hold something older.
    fn conclude(&mut self, name: &Name) {
        let checks = self.checks();
        let Some(lookup) = self.lookups.get(name) else { return };
        let Some(newest) = lookup.answer(&checks).cloned() else { return };
        let confirmed = lookup.holders(&newest).next().is_some();
        let stale: Vec<RouterId> = lookup.stale_holders(&newest).collect();
        let etags = lookup.etags(&newest);
        if confirmed {
            self.confirm(&newest, etags);
        }
        let stale = stale.into_iter().filter(|_| !self.reserved.contains(name)).collect::<Vec<_>>();
        for router in stale {
            let sent = self.calls.is_sending(router, name, newest.sequence());
            if self.config.correct && self.calls.router(router).write && !sent {
                self.deliver(Owner::Correction(*name), router, &newest, Depth::Usual);
            }
        }
    }

    /// `op` no longer watches the name. A lookup that is asking goes on: its answer is worth keeping.
    pub(crate) fn release(&mut self, op: OpId, name: &Name) {
        if let Some(lookup) = self.lookups.get_mut(name) {
            lookup.leave(op);
        }
        self.drop_if_unwatched(name);
    }

    fn drop_if_unwatched(&mut self, name: &Name) {
        if self.lookups.get(name).is_some_and(|lookup| !lookup.is_wanted()) {
            self.lookups.remove(name);
            self.timers.set(Timer::Lookup(*name), None);
        }
    }

    pub(crate) fn lookup(&self, name: &Name) -> Option<&Lookup> {
        self.lookups.get(name)
    }

    /// Whether `op` has heard enough of a name that it watches.
    pub(crate) fn is_enough(&self, op: OpId, name: &Name, enough: Enough) -> bool {
        let grace = self.config.failing_grace;
        self.lookups.get(name).is_some_and(|l| l.is_enough(op, self.now.monotonic, enough, grace, &self.calls))
    }

    /// Keeps a record that a router has and this node did not know; others may have a newer one still.
    fn discover(&mut self, record: &Verified) {
        if self.remember(record, None, BTreeMap::new()) {
            self.write_record(record);
            self.announce(record);
        }
    }

    /// Keeps a record that was just confirmed as the newest.
    pub(crate) fn confirm(&mut self, record: &Verified, etags: BTreeMap<RouterId, String>) {
        self.remember(record, Some(Duration::ZERO), etags);
    }

    fn remember(&mut self, record: &Verified, age: Option<Duration>, etags: BTreeMap<RouterId, String>) -> bool {
        let newest = self.memory.remember(self.now, record, age, etags);
        if let Some(lookup) = self.lookups.get_mut(record.name()) {
            lookup.raise_floor(record);
        }
        newest
    }

    /// Tells those who watch the name.
    fn announce(&mut self, record: &Verified) {
        self.notice_newer(record);
        for op in self.watches.get(record.name()).cloned().unwrap_or_default() {
            self.wake(op, Wake::Learned(record.clone()));
        }
    }

    pub(crate) fn watch(&mut self, op: OpId, name: Name) {
        self.watches.entry(name).or_default().insert(op);
    }

    pub(crate) fn unwatch(&mut self, op: OpId, name: &Name) {
        if let Some(ops) = self.watches.get_mut(name) {
            ops.remove(&op);
            if ops.is_empty() {
                self.watches.remove(name);
            }
        }
    }

    /// Whether `op` may write the name now. If not, it stands in line and is woken with [`Wake::Start`].
    pub(crate) fn lock(&mut self, op: OpId, name: Name) -> bool {
        let line = self.locks.entry(name).or_default();
        if !line.contains(&op) {
            line.push_back(op);
        }
        line.front() == Some(&op)
    }

    /// Keeps the name, which `op` writes, from the next one after the store's answer, too, until it is unlocked. Routers
    /// that hold something older are not corrected meanwhile: they are about to be sent what `op` writes.
    pub(crate) fn reserve(&mut self, name: Name) {
        self.reserved.insert(name);
    }

    /// Lets the next one write the name, but not before the store has answered what `op` told it to write.
    pub(crate) fn unlock(&mut self, op: OpId, name: &Name) {
        let Some(line) = self.locks.get_mut(name) else { return };
        let was_first = line.front() == Some(&op);
        if was_first {
            self.reserved.remove(name);
        }
        if self.writing.get(name).is_some_and(|(writer, _)| *writer == op) {
            return;
        }
        line.retain(|waiting| *waiting != op);
        match line.front().copied() {
            Some(next) if was_first => self.wake(next, Wake::Start),
            Some(_) => {}
            None => {
                self.locks.remove(name);
            }
        }
    }

    pub(crate) fn store(&mut self, wait: StoreWait, action: StoreAction) {
        let id = StoreId(self.fresh_id());
        self.stores.insert(id, wait);
        self.outputs.push_back(Output::Store(StoreCommand { id, action }));
    }

    /// Makes a record durable, and kept alive if `keep` says so. Then it is what this node returns, and `op` is woken with
    /// [`Wake::Stored`].
    pub(crate) fn commit(&mut self, op: OpId, record: Verified, keep: Option<Keep>) {
        let kept = Kept { record, keep };
        let writes = self.memory.begin(&kept, self.now.wall);
        self.writing.insert(*kept.record.name(), (op, kept.record.clone()));
        self.store(StoreWait::Op(op, kept), StoreAction::Commit(writes));
    }

    /// Writes a record without anyone waiting, unless the store has a newer one.
    pub(crate) fn write_record(&mut self, record: &Verified) {
        let mut writes = self.memory.keep(record, self.now.wall);
        // What is on its way to the store must not be overwritten there.
        if self.writing.get(record.name()).is_some_and(|(_, writing)| is_newer(writing, Some(record))) {
            writes.retain(|write| write.value.is_none());
        }
        self.write_behind(writes);
    }

    /// Writes without anyone waiting; a failure is reported as an event.
    pub(crate) fn write_behind(&mut self, writes: Vec<Write>) {
        if !writes.is_empty() {
            self.store(StoreWait::Background, StoreAction::Commit(writes));
        }
    }

    /// Forgets that a name is kept, even while it is being stored.
    pub(crate) fn forget_kept(&mut self, name: &Name, own: bool) -> bool {
        let known = self.memory.kept.get(name).is_some_and(|entry| entry.is_own() == own);
        if known && let Some(mut entry) = self.memory.kept.remove(name) {
            self.schedule.iter_mut().for_each(|schedule| schedule.set(name, &mut entry, None));
        }
        let mut writing = false;
        for wait in self.stores.values_mut() {
            if let StoreWait::Op(_, kept) = wait
                && kept.record.name() == name
            {
                let same = |keep: &mut Keep| match keep {
                    Keep::Own { .. } => own,
                    Keep::Followed => !own,
                    Keep::AsItIs => known,
                };
                writing |= kept.keep.take_if(same).is_some();
            }
        }
        if known || writing {
            let table = if own { Table::Own } else { Table::Followed };
            self.write_behind(vec![Write { table, key: name.to_bytes(), value: None }]);
        }
        known || writing
    }

    /// Takes the store's answer to a command of this context.
    pub(crate) fn on_stored(&mut self, id: StoreId, result: Result<StoreReply, StoreError>) {
        match self.stores.remove(&id) {
            Some(StoreWait::Op(op, kept)) => self.on_committed(op, kept, result.map(|_| ())),
            Some(wait @ (StoreWait::Background | StoreWait::Nodes)) => {
                if let StoreWait::Nodes = wait {
                    self.behind.ended();
                }
                if let Err(error) = result {
                    self.emit(Event::StoreFailed { error });
                }
            }
            Some(StoreWait::Lookup(name)) => self.on_loaded(name, result),
            None => {}
        }
    }

    /// What a commit brings holds even when the operation that asked for it has ended.
    fn on_committed(&mut self, op: OpId, kept: Kept, result: Result<(), StoreError>) {
        let record = kept.record.clone();
        self.writing.remove(record.name());
        if result.is_ok() {
            let keeps = kept.keep.is_some();
            let evictions = self.memory.end(kept);
            self.write_behind(evictions);
            if keeps {
                self.give_turn(record.name());
            }
            if !self.memory.index.outranks(&record) {
                self.confirm(&record, BTreeMap::new());
                self.announce(&record);
            }
        }
        if !self.reserved.contains(record.name()) {
            self.unlock(op, record.name());
        }
        self.wake(op, Wake::Stored(result));
    }

    fn on_loaded(&mut self, name: Name, result: Result<StoreReply, StoreError>) {
        match result {
            Ok(StoreReply::Value(Some(bytes))) => self.on_entry(name, &bytes),
            Ok(_) => {}
            Err(error) => self.emit(Event::StoreFailed { error }),
        }
        let now = self.now.monotonic;
        let least = self.memory.index.rank(&name);
        let cached = self.memory.cached(&name);
        let Some(lookup) = self.lookups.get_mut(&name) else { return };
        lookup.set_least(least);
        if let Some(depth) = lookup.loaded() {
            lookup.ask(now, &mut self.calls, cached.as_ref(), depth);
        }
        self.adopt_calls(&name);
        self.touch(&name, true);
    }

    fn on_entry(&mut self, name: Name, bytes: &[u8]) {
        // Even an expired record counts: nothing older than it may be returned.
        let ever = Checks { at: Timestamp::MIN, tolerance: Duration::ZERO };
        let entry = StoredRecord::from_bytes(bytes);
        let record = entry.as_ref().and_then(|entry| ever.verify(entry.record.clone(), &name).ok());
        if let (Some(record), Some(entry)) = (record, entry) {
            let age = self.now.wall.saturating_since(entry.received());
            self.remember(&record, Some(age), BTreeMap::new());
        } else {
            self.memory.index.doubt(name);
            let reason = format!("the stored record of {name} is not valid");
            self.emit(Event::StoreFailed { error: StoreError::Corrupt { path: "store".into(), reason } });
        }
    }

    /// Asks for a signature; `op` is woken with [`Wake::Signed`].
    pub(crate) fn sign(&mut self, op: OpId, name: Name, message: Vec<u8>) -> SignId {
        let id = SignId(self.fresh_id());
        self.signs.insert(id, op);
        self.outputs.push_back(Output::Sign { id, name, message });
        id
    }

    pub(crate) fn on_signed(&mut self, id: SignId, result: Result<Vec<u8>, SignError>) {
        if let Some(op) = self.signs.remove(&id) {
            self.wake(op, Wake::Signed(id, result));
        }
    }

    /// Nothing of `op` is waited for any longer.
    pub(crate) fn forget(&mut self, op: OpId) {
        self.set_timer(op, None);
        self.signs.retain(|_, waiting| *waiting != op);
        self.wakes.retain(|(woken, _)| *woken != op);
    }
}

#[cfg(test)]
impl Context {
    /// How much is held of what ends with the operations.
    pub(crate) fn held(&self) -> impl Iterator<Item = (&'static str, usize)> {
        let held = [
            ("lookups", self.lookups.len()),
            ("owners", self.owners.len()),
            ("stores", self.stores.len() + self.writing.len()),
            ("signs", self.signs.len()),
            ("locks", self.locks.len() + self.reserved.len()),
            ("watches", self.watches.len()),
            ("wakes", self.wakes.len()),
            ("timers", usize::from(self.timers.next().is_some())),
        ];
        held.into_iter().chain(self.calls.held())
    }
}
