//! What the operations of an engine share: the present, the lookups, what is known, and the way out.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use rand_chacha::ChaCha8Rng;

use crate::key::SignError;
use crate::name::Name;
use crate::record::{Checks, Verified};
use crate::routing::{CallEnd, CallId, CallOutput, CallUpdate, Calls, HttpError, HttpId, Operation, RouterId};
use crate::store::{StoreError, Table, Write};
use crate::time::{Now, Timestamp};

use super::cache::Cache;
use super::clock::ClockWatch;
use super::config::Config;
use super::event::Event;
use super::ids::{OpId, SignId, StoreId};
use super::io::{Output, StoreAction, StoreCommand, StoreReply};
use super::lookup::{Lookup, Phase, is_newer};
use super::own::{Index, Own};
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

enum StoreWait {
    Lookup(Name),
    Op(OpId),
    Background,
}

pub(crate) struct Context {
    pub(crate) now: Now,
    pub(crate) config: Config,
    pub(crate) calls: Calls,
    pub(crate) own: BTreeMap<Name, Own>,
    /// Own names whose entry in the store cannot be read: their sequence is unknown.
    pub(crate) unreadable: BTreeSet<Name>,
    pub(crate) index: Index,
    random: ChaCha8Rng,
    cache: Cache,
    clock: ClockWatch,
    lookups: BTreeMap<Name, Lookup>,
    owners: BTreeMap<CallId, Owner>,
    stores: BTreeMap<StoreId, StoreWait>,
    signs: BTreeMap<SignId, OpId>,
    /// Who writes a name at present, and who waits to.
    locks: BTreeMap<Name, VecDeque<OpId>>,
    watches: BTreeMap<Name, BTreeSet<OpId>>,
    timers: Timers<Timer>,
    outputs: VecDeque<Output>,
    wakes: VecDeque<(OpId, Wake)>,
    next_id: u64,
}

impl Context {
    pub(crate) fn new(config: Config, random: ChaCha8Rng, now: Now) -> Self {
        Self {
            now,
            calls: Calls::new(config.routers.clone()),
            own: BTreeMap::new(),
            unreadable: BTreeSet::new(),
            index: Index::default(),
            random,
            cache: Cache::new(config.cache_entries, config.cache_bytes),
            clock: ClockWatch::new(config.clock_drift),
            lookups: BTreeMap::new(),
            owners: BTreeMap::new(),
            stores: BTreeMap::new(),
            signs: BTreeMap::new(),
            locks: BTreeMap::new(),
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
        [self.timers.next(), self.calls.next_timeout()].into_iter().flatten().min()
    }

    pub(crate) fn on_time(&mut self) {
        let now = self.now.monotonic;
        self.calls.on_timeout(now, &mut self.random);
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
    pub(crate) fn send(&mut self, op: OpId, router: RouterId, record: &Verified) -> CallId {
        self.deliver(Owner::Op(op), router, record)
    }

    fn deliver(&mut self, owner: Owner, router: RouterId, record: &Verified) -> CallId {
        let operation = Operation::Put { name: *record.name(), record: record.as_bytes().clone() };
        let call = self.calls.start(self.now.monotonic, router, operation, None);
        self.owners.insert(call, owner);
        call
    }

    /// Moves what the routing layer has to say to whom it concerns. Returns `false` when there was nothing.
    pub(crate) fn pump_calls(&mut self) -> bool {
        let mut moved = false;
        while let Some(output) = self.calls.poll_output() {
            self.outputs.push_back(match output {
                CallOutput::Http { id, request, timeout, max_body } => Output::Http { id, request, timeout, max_body },
                CallOutput::Route { id, router, operation } => Output::Route { id, router, operation },
                CallOutput::CancelHttp(id) => Output::CancelHttp(id),
                CallOutput::CancelRoute(id) => Output::CancelRoute(id),
            });
        }
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
                let end = if let CallUpdate::Done(end) = update { Some(end) } else { None };
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

    /// Lets `op` watch what is known of a name, and with `ask` has the routers asked. Wakes it when there is news.
    pub(crate) fn look_up(&mut self, op: OpId, name: Name, ask: bool) {
        let now = self.now.monotonic;
        if self.lookups.get(&name).is_some_and(|lookup| lookup.phase() == Phase::Done) {
            // It ended in this very moment, and its watchers are being told: its answer is as new as can be.
            if let Some(lookup) = self.lookups.get_mut(&name) {
                lookup.watchers.insert(op);
            }
            return self.wake(op, Wake::Lookup);
        }
        if !self.lookups.contains_key(&name) {
            let lookup = self.open_lookup(name);
            self.lookups.insert(name, lookup);
        }
        let etags = self.etags(&name);
        if let Some(lookup) = self.lookups.get_mut(&name) {
            lookup.watchers.insert(op);
            if ask {
                lookup.ask(now, &mut self.calls, &etags);
            }
        }
        self.adopt_calls(&name);
        self.touch(&name, false);
        self.wake(op, Wake::Lookup);
    }

    fn open_lookup(&mut self, name: Name) -> Lookup {
        let cached = self.cached(&name);
        let load = cached.is_none() && self.index.contains(&name);
        let phase = if load { Phase::Loading { ask: false } } else { Phase::Known };
        let mut lookup = Lookup::new(name, self.now.monotonic, phase);
        if let Some((record, fresh, since)) = cached {
            lookup.fresh = fresh;
            lookup.since = Some(since);
            lookup.raise_floor(record);
        }
        if let Some(own) = self.own.get(&name) {
            lookup.raise_floor(own.record.clone());
        }
        if load {
            let action = StoreAction::Get { table: Table::Records, key: name.to_bytes() };
            self.store(StoreWait::Lookup(name), action);
        }
        lookup
    }

    /// What is in memory: the record, whether it is fresh, and since when it is known.
    fn cached(&mut self, name: &Name) -> Option<(Verified, bool, Timestamp)> {
        let now = self.now;
        self.cache.get(name).map(|entry| (entry.record.clone(), entry.is_fresh(now), entry.confirmed_wall))
    }

    fn etags(&mut self, name: &Name) -> BTreeMap<RouterId, String> {
        self.cache.get(name).map(|entry| entry.etags.clone()).unwrap_or_default()
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
        let etags = self.etags(name);
        let Some(lookup) = self.lookups.get_mut(name) else { return };
        let before = lookup.phase();
        lookup.advance(now, &mut self.calls, &etags);
        let done = before != Phase::Done && lookup.phase() == Phase::Done;
        let due = lookup.next_timeout(now, self.config.failing_grace, &self.calls);
        let watchers: Vec<OpId> = if changed || done { lookup.watchers.iter().copied().collect() } else { Vec::new() };
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
            let newer = is_newer(&newest, lookup.floor());
            self.learn(newest.clone(), etags, newer);
        }
        for router in stale {
            if self.config.correct && self.calls.router(router).write {
                self.deliver(Owner::Correction(*name), router, &newest);
            }
        }
    }

    /// `op` no longer watches the name. A lookup that is asking goes on: its answer is worth keeping.
    pub(crate) fn release(&mut self, op: OpId, name: &Name) {
        if let Some(lookup) = self.lookups.get_mut(name) {
            lookup.watchers.remove(&op);
        }
        self.drop_if_unwatched(name);
    }

    fn drop_if_unwatched(&mut self, name: &Name) {
        let idle = |lookup: &Lookup| lookup.watchers.is_empty() && lookup.phase() != Phase::Asking;
        if self.lookups.get(name).is_some_and(idle) {
            self.lookups.remove(name);
            self.timers.set(Timer::Lookup(*name), None);
        }
    }

    pub(crate) fn lookup(&self, name: &Name) -> Option<&Lookup> {
        self.lookups.get(name)
    }

    pub(crate) fn is_enough(&self, name: &Name, enough: Enough) -> bool {
        let grace = self.config.failing_grace;
        self.lookups.get(name).is_some_and(|l| l.is_enough(self.now.monotonic, enough, grace, &self.calls))
    }

    /// Keeps a record that was just confirmed; `newer` says that it was not known before.
    pub(crate) fn learn(&mut self, record: Verified, etags: BTreeMap<RouterId, String>, newer: bool) {
        let known = self.cache.get(record.name()).map(|entry| entry.record.clone());
        if known.as_ref().is_some_and(|known| is_newer(known, Some(&record))) {
            return;
        }
        self.cache.insert(self.now, Duration::ZERO, record.clone(), etags);
        if newer {
            let writes = self.index.keep(&record, self.now.wall, self.config.max_records);
            self.write_behind(writes);
            self.announce(&record);
        }
    }

    /// Tells those who watch the name.
    pub(crate) fn announce(&mut self, record: &Verified) {
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

    pub(crate) fn unlock(&mut self, op: OpId, name: &Name) {
        let Some(line) = self.locks.get_mut(name) else { return };
        let was_first = line.front() == Some(&op);
        line.retain(|waiting| *waiting != op);
        match line.front().copied() {
            Some(next) if was_first => self.wake(next, Wake::Start),
            Some(_) => {}
            None => {
                self.locks.remove(name);
            }
        }
    }

    fn store(&mut self, wait: StoreWait, action: StoreAction) {
        let id = StoreId(self.fresh_id());
        self.stores.insert(id, wait);
        self.outputs.push_back(Output::Store(StoreCommand { id, action }));
    }

    /// Writes durably; `op` is woken with [`Wake::Stored`].
    pub(crate) fn commit(&mut self, op: OpId, writes: Vec<Write>) {
        self.store(StoreWait::Op(op), StoreAction::Commit(writes));
    }

    /// Writes without anyone waiting; a failure is reported as an event.
    pub(crate) fn write_behind(&mut self, writes: Vec<Write>) {
        if !writes.is_empty() {
            self.store(StoreWait::Background, StoreAction::Commit(writes));
        }
    }

    /// Takes the store's answer to a command of this context.
    pub(crate) fn on_stored(&mut self, id: StoreId, result: Result<StoreReply, StoreError>) {
        match self.stores.remove(&id) {
            Some(StoreWait::Op(op)) => self.wake(op, Wake::Stored(result.map(|_| ()))),
            Some(StoreWait::Background) => {
                if let Err(error) = result {
                    self.emit(Event::StoreFailed { error });
                }
            }
            Some(StoreWait::Lookup(name)) => self.on_loaded(name, result),
            None => {}
        }
    }

    fn on_loaded(&mut self, name: Name, result: Result<StoreReply, StoreError>) {
        let entry = match result {
            Ok(StoreReply::Value(value)) => value.and_then(|bytes| StoredRecord::from_bytes(&bytes)),
            Ok(_) => None,
            Err(error) => {
                self.emit(Event::StoreFailed { error });
                None
            }
        };
        // Even an expired record counts: nothing older than it may be returned.
        let ever = Checks { at: Timestamp::MIN, tolerance: Duration::ZERO };
        let record = entry.and_then(|entry| {
            let age = self.now.wall.saturating_since(entry.received());
            Some((ever.verify(entry.record, &name).ok()?, age))
        });
        if let Some((record, age)) = record {
            self.cache.insert(self.now, age, record, BTreeMap::new());
        }
        let cached = self.cached(&name);
        let etags = self.etags(&name);
        let now = self.now.monotonic;
        let Some(lookup) = self.lookups.get_mut(&name) else { return };
        if let Some((record, fresh, since)) = cached {
            lookup.fresh = fresh;
            lookup.since = Some(since);
            lookup.raise_floor(record);
        }
        if lookup.loaded() {
            lookup.ask(now, &mut self.calls, &etags);
        }
        self.adopt_calls(&name);
        self.touch(&name, true);
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
