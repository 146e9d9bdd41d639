//! The engine itself: operations in, outputs out, one mutation at a time.

use core::time::Duration;
use std::collections::BTreeMap;

use bytes::Bytes;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::dht::{Health, PeerInfo, TableEntry, Usage};
use crate::name::Name;
use crate::routing::http::server::{PutOutcome, busy, for_head, put_response, read_request};
use crate::routing::{Inquiry, RouterId};
use crate::store::{Entries, StoreError, Table};
use crate::time::{Now, Timestamp};

use super::clock::ClockWatch;
use super::config::Config;
use super::context::{Context, Wake};
use super::event::{Event, FollowError, InquireError, PublishError, ResolveError};
use super::ids::{InboundId, OpId, StoreId};
use super::io::{Input, Output, StoreAction, StoreCommand, StoreReply};
use super::keeping::Keeping;
use super::kept::{Entry, Followed, Own};
use super::nodes::NODE_TABLES;
use super::publish::Publishing;
use super::queue::QueueError;
use super::request::{Publish, Put, Resolve};
use super::resolve::Resolving;
use super::serve::Serving;
use super::watch::Watching;

/// Entries read at once when an engine starts.
const PAGE: usize = 256;

/// IPNS as a state machine. See the [module](super) for how to drive it.
pub struct Engine {
    cx: Context,
    tasks: BTreeMap<OpId, Task>,
    /// Requests of others, to find their operation when they go away.
    requests: BTreeMap<InboundId, OpId>,
    restore: Restore,
    /// What the DHT nodes are loading, while they do.
    nodes_page: Option<(Table, StoreId)>,
}

enum Task {
    Publish(Box<Publishing>),
    Resolve(Box<Resolving>),
    Watch(Watching),
    Keep(Box<Keeping>),
    Serve(InboundId, Box<Serving>),
}

/// How far the store has been read. Until the end, operations wait.
enum Restore {
    Reading {
        table: Table,
        page: StoreId,
    },
    Done,
    /// The store cannot be read: publishing would risk to use a sequence twice.
    Failed(StoreError),
}

impl Engine {
    /// An engine that begins by reading its store. The same seed and inputs give the same outputs, bit for bit.
    pub fn new(config: Config, seed: [u8; 32], now: Now) -> Self {
        let cx = Context::new(config, ChaCha8Rng::from_seed(seed), now);
        let restore = Restore::Reading { table: Table::Own, page: StoreId(0) };
        let mut engine = Self { cx, tasks: BTreeMap::new(), requests: BTreeMap::new(), restore, nodes_page: None };
        if let Some(expected) = ClockWatch::check_start(now) {
            engine.cx.emit(Event::ClockImplausible { wall: now.wall, expected });
        }
        engine.read_page(Table::Own, None);
        engine.run();
        engine
    }

    /// Sends a kept name now, whatever its turn. Ends with [`Event::Published`].
    pub fn republish(&mut self, now: Now, name: Name) -> OpId {
        let refused = |op| Event::Published { op, result: Err(PublishError::Overloaded) };
        self.begin(now, refused, |cx, op| Task::Keep(Box::new(Keeping::new(cx, op, name, true))))
    }

    /// Keeps the name of someone else alive: its newest record is looked for, stored, and sent again and again, as it is,
    /// until its end of life. Told by [`Event::Kept`]. Says whether the name was not kept before; an own name is kept
    /// anyway. To be called after [`Event::Restored`].
    ///
    /// # Errors
    /// When as many names are followed as [`Keeping::max_followed`](super::Keeping::max_followed) allows.
    pub fn follow(&mut self, now: Now, name: Name) -> Result<bool, FollowError> {
        self.cx.now = now;
        if !self.cx.may_follow() && self.cx.memory.kept.get(&name).is_none() {
            return Err(FollowError::TooMany { limit: self.cx.config.keep.unwrap_or_default().max_followed });
        }
        let begun = self.cx.follow_name(name);
        self.run();
        Ok(begun)
    }

    /// Keeps the name of someone else alive no more; says whether it was. Its record stays known until it expires.
    pub fn unfollow(&mut self, now: Now, name: &Name) -> bool {
        self.cx.now = now;
        self.cx.forget_kept(name, false)
    }

    /// Stores a record that was signed for later, and sends it when `at` has come; from then on its name is kept alive.
    ///
    /// # Errors
    /// See [`QueueError`]. Nothing changes then.
    pub fn queue(&mut self, now: Now, name: Name, record: Bytes, at: Timestamp) -> Result<(), QueueError> {
        self.cx.now = now;
        self.cx.queue_record(name, record, at)?;
        self.run();
        Ok(())
    }

    /// The records that wait for their time, in its order.
    pub fn queued(&self) -> impl Iterator<Item = (Name, Timestamp)> + '_ {
        self.cx.queue.iter()
    }

    /// Publishes a value. Ends with [`Event::Published`].
    pub fn publish(&mut self, now: Now, what: Publish) -> OpId {
        let refused = |op| Event::Published { op, result: Err(PublishError::Overloaded) };
        self.begin(now, refused, |cx, op| Task::Publish(Box::new(Publishing::publish(cx, op, what))))
    }

    /// Stores and sends a ready record. Ends with [`Event::Published`].
    pub fn put(&mut self, now: Now, what: Put) -> OpId {
        let refused = |op| Event::Published { op, result: Err(PublishError::Overloaded) };
        self.begin(now, refused, |cx, op| Task::Publish(Box::new(Publishing::put(cx, op, what))))
    }

    /// Resolves a name. Ends with [`Event::Resolved`].
    pub fn resolve(&mut self, now: Now, name: Name, how: Resolve) -> OpId {
        let refused = |op| Event::Resolved { op, result: Err(ResolveError::Overloaded) };
        self.begin(now, refused, |cx, op| Task::Resolve(Box::new(Resolving::new(cx, op, name, how))))
    }

    /// Watches a name until cancelled: [`Event::Changed`] for its first record and every newer one. With too many
    /// operations under way it does not begin, which [`Event::Resolved`] says.
    pub fn watch(&mut self, now: Now, name: Name) -> OpId {
        let refused = |op| Event::Resolved { op, result: Err(ResolveError::Overloaded) };
        self.begin(now, refused, |_, op| Task::Watch(Watching::new(op, name)))
    }

    /// Asks one DHT, or all, something about themselves. Tells [`Event::Told`] and, last, [`Event::Answered`].
    pub fn inquire(&mut self, now: Now, of: Option<RouterId>, what: &Inquiry) -> OpId {
        self.cx.now = now;
        let op = OpId(self.cx.fresh_id());
        if self.load() - self.requests.len() < self.cx.config.max_operations {
            self.cx.nodes.inquire(now, op.0, of, what);
        } else {
            self.cx.emit(Event::Answered { op, result: Err(InquireError::Overloaded) });
        }
        self.run();
        op
    }

    /// More peers by which the DHT nodes join; who is alone tries them at once.
    pub fn bootstrap(&mut self, now: Now, peers: &[PeerInfo]) {
        self.cx.now = now;
        self.cx.nodes.bootstrap(now, peers);
        self.run();
    }

    /// How this node stands in each DHT, and what it keeps and has in flight there.
    pub fn health(&self) -> impl Iterator<Item = (RouterId, Health, Usage)> + '_ {
        self.cx.nodes.health()
    }

    /// The routing table of a DHT, the farthest entry first.
    pub fn routing_table(&self, router: RouterId) -> impl Iterator<Item = TableEntry> + '_ {
        self.cx.nodes.table(router)
    }

    /// Has everything stored that a restart should find. To be called before the end.
    pub fn save(&mut self, now: Now) {
        self.cx.now = now;
        self.cx.nodes.save(now);
        self.run();
    }

    /// Ends an operation early. A watch and an inquiry end silently, the others with their event.
    pub fn cancel(&mut self, now: Now, op: OpId) {
        self.cx.now = now;
        self.cx.nodes.cancel_inquiry(op.0);
        self.cx.wake(op, Wake::Cancel);
        self.run();
    }

    /// The names that this node publishes, in the order of their bytes. Empty until [`Event::Restored`].
    pub fn own(&self) -> impl Iterator<Item = (Name, Own)> + '_ {
        self.own_after(None)
    }

    /// Those of them that come after a name, to see many of them a few at a time.
    pub fn own_after(&self, name: Option<Name>) -> impl Iterator<Item = (Name, Own)> + '_ {
        self.cx.memory.kept.after(name).filter_map(|(name, entry)| Some((*name, entry.own(self.cx.now, name)?)))
    }

    /// The names of others that this node keeps alive, in the order of their bytes. Empty until [`Event::Restored`].
    pub fn followed(&self) -> impl Iterator<Item = (Name, Followed)> + '_ {
        self.followed_after(None)
    }

    /// Those of them that come after a name, to see many of them a few at a time.
    pub fn followed_after(&self, name: Option<Name>) -> impl Iterator<Item = (Name, Followed)> + '_ {
        self.cx.memory.kept.after(name).filter_map(|(name, entry)| Some((*name, entry.followed(self.cx.now, name)?)))
    }

    /// How many names this node publishes, and how many of others it follows.
    pub fn kept(&self) -> (usize, usize) {
        (self.cx.memory.kept.own(), self.cx.memory.kept.followed())
    }

    /// Forgets that this node publishes a name. Its record stays known until it expires.
    pub fn disown(&mut self, now: Now, name: &Name) -> bool {
        self.cx.now = now;
        self.cx.forget_kept(name, true)
    }

    /// Whether the store has been read, or has turned out to be unreadable: operations given now begin at once.
    pub fn is_restored(&self) -> bool {
        !matches!(self.restore, Restore::Reading { .. })
    }

    /// How many operations and requests are under way.
    pub fn load(&self) -> usize {
        self.tasks.len() + self.cx.nodes.inquiries()
    }

    /// How many records are on their way to peers of DHTs although nobody waits for it any longer.
    pub fn sending(&self) -> usize {
        self.cx.nodes.sending()
    }

    /// Takes what the driver has for the engine. Afterwards, drain [`poll_output`](Self::poll_output).
    pub fn handle_input(&mut self, now: Now, input: Input) {
        self.cx.now = now;
        match input {
            Input::Tick => self.cx.on_time(),
            Input::Http { id, result } => self.cx.on_http(id, result),
            Input::Net(event) => self.cx.on_net(event),
            Input::Routed { id, update } => self.cx.calls.on_route(id, update),
            Input::Signed { id, result } => self.cx.on_signed(id, result),
            Input::Stored { id, result } => self.on_stored(id, result),
            Input::Request { id, request } => self.on_request(id, &request),
            Input::RequestGone { id } => {
                if let Some(op) = self.requests.get(&id) {
                    self.cx.wake(*op, Wake::Cancel);
                }
            }
        }
        self.run();
    }

    /// What the driver is to do next. To be called after every other call, until it returns `None`.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<Output> {
        self.cx.poll_output()
    }

    /// When to give [`Input::Tick`], on the monotonic clock. May change with every call.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Duration> {
        self.cx.next_timeout()
    }

    fn begin(
        &mut self,
        now: Now,
        refused: impl FnOnce(OpId) -> Event,
        make: impl FnOnce(&mut Context, OpId) -> Task,
    ) -> OpId {
        self.cx.now = now;
        let op = OpId(self.cx.fresh_id());
        if self.load() - self.requests.len() >= self.cx.config.max_operations {
            self.cx.emit(refused(op));
            return op;
        }
        let task = make(&mut self.cx, op);
        self.tasks.insert(op, task);
        self.admit(op);
        op
    }

    /// Starts an operation, unless the store is still being read or cannot be read.
    fn admit(&mut self, op: OpId) {
        match &self.restore {
            Restore::Reading { .. } => {}
            Restore::Done => {
                self.cx.wake(op, Wake::Start);
                self.run();
            }
            Restore::Failed(error) => {
                let error = error.clone();
                match self.tasks.get(&op) {
                    Some(Task::Publish(_) | Task::Keep(_)) => {
                        self.cx.emit(Event::Published { op, result: Err(error.into()) })
                    }
                    Some(Task::Serve(to, serving)) if serving.writes() => {
                        let response = put_response(PutOutcome::Failed { reason: error.code().into() });
                        self.cx.output(Output::Respond { to: *to, response });
                    }
                    // Resolving needs no store; nothing that this node returned before is known, though.
                    Some(Task::Resolve(_) | Task::Watch(_) | Task::Serve(..)) => {
                        self.cx.wake(op, Wake::Start);
                        return self.run();
                    }
                    None => return,
                }
                self.remove(op);
            }
        }
    }

    fn remove(&mut self, op: OpId) {
        if let Some(Task::Serve(to, _)) = self.tasks.remove(&op) {
            self.requests.remove(&to);
        }
        self.cx.forget(op);
    }

    fn on_request(&mut self, to: InboundId, request: &http::Request<Bytes>) {
        let op = OpId(self.cx.fresh_id());
        if self.requests.len() >= self.cx.config.max_requests {
            let bare = request.method() == http::Method::HEAD;
            let response = if bare { for_head(busy()) } else { busy() };
            return self.cx.output(Output::Respond { to, response });
        }
        match Serving::new(&mut self.cx, op, to, read_request(request)) {
            Ok(serving) => {
                self.requests.insert(to, op);
                self.tasks.insert(op, Task::Serve(to, Box::new(serving)));
                self.admit(op);
            }
            Err(response) => self.cx.output(Output::Respond { to, response }),
        }
    }

    /// Gives every operation that something happened to its turn, until all is quiet.
    fn run(&mut self) {
        loop {
            let moved = self.cx.pump_calls();
            let Some((op, wake)) = self.cx.poll_wake() else {
                if moved || self.begin_turn() {
                    continue;
                }
                break;
            };
            let Some(task) = self.tasks.get_mut(&op) else { continue };
            let ended = match task {
                Task::Publish(task) => task.step(&mut self.cx, wake),
                Task::Resolve(task) => task.step(&mut self.cx, wake),
                Task::Watch(task) => task.step(&mut self.cx, wake),
                Task::Keep(task) => task.step(&mut self.cx, wake),
                Task::Serve(_, task) => task.step(&mut self.cx, wake),
            };
            if ended {
                self.remove(op);
            }
        }
    }

    /// Begins what is due of the kept names and the queued records. Returns `false` when nothing is.
    fn begin_turn(&mut self) -> bool {
        let Restore::Done = self.restore else { return false };
        let op = OpId(self.cx.fresh_id());
        let task = if let Some((name, record)) = self.cx.pop_queued() {
            Task::Publish(Box::new(Publishing::queued(&mut self.cx, op, name, record)))
        } else if let Some(name) = self.cx.pop_turn() {
            Task::Keep(Box::new(Keeping::new(&mut self.cx, op, name, false)))
        } else {
            return false;
        };
        self.tasks.insert(op, task);
        self.cx.wake(op, Wake::Start);
        true
    }

    // What follows reads the store when the engine starts.

    fn read_page(&mut self, table: Table, after: Option<Vec<u8>>) {
        let page = StoreId(self.cx.fresh_id());
        self.restore = Restore::Reading { table, page };
        let action = StoreAction::Scan { table, after, limit: PAGE };
        self.cx.output(Output::Store(StoreCommand { id: page, action }));
    }

    fn on_stored(&mut self, id: StoreId, result: Result<StoreReply, StoreError>) {
        if let Some((table, page)) = self.nodes_page
            && page == id
        {
            return self.on_nodes_page(table, result);
        }
        let Restore::Reading { table, page } = self.restore else { return self.cx.on_stored(id, result) };
        if id != page {
            return self.cx.on_stored(id, result);
        }
        match result {
            Ok(StoreReply::Entries(entries)) => self.on_page(table, entries),
            Ok(_) => self.end_restore(Restore::Failed(StoreError::Closed)),
            Err(error) => {
                self.cx.emit(Event::StoreFailed { error: error.clone() });
                self.end_restore(Restore::Failed(error));
            }
        }
    }

    fn on_page(&mut self, table: Table, entries: Entries) {
        let last = entries.last().map(|(key, _)| key.clone());
        let full = entries.len() >= PAGE;
        for (key, value) in entries {
            let readable = match table {
                Table::Own | Table::Followed => self.load_kept(table, &key, &value),
                Table::Queued => self.cx.queue.load(&key, &value),
                _ => self.cx.memory.index.load(&key, &value),
            };
            if !readable {
                let reason = format!("an entry of table {} cannot be read", table.as_str());
                self.cx.emit(Event::StoreFailed { error: StoreError::Corrupt { path: "store".into(), reason } });
            }
        }
        match (full, table) {
            (true, _) => self.read_page(table, last),
            (false, Table::Own) => self.read_page(Table::Followed, None),
            (false, Table::Followed) => self.read_page(Table::Queued, None),
            (false, Table::Queued) => self.read_page(Table::Records, None),
            (false, _) => {
                let (own, followed) = self.kept();
                self.cx.emit(Event::Restored { own, followed });
                self.cx.begin_keeping();
                self.end_restore(Restore::Done);
            }
        }
    }

    fn load_kept(&mut self, table: Table, key: &[u8], value: &[u8]) -> bool {
        let Ok(name) = Name::from_bytes(key) else { return false };
        match Entry::load(table, &name, value) {
            // A name that was followed and then published is an own one.
            Some(_) if self.cx.memory.kept.get(&name).is_some() => true,
            Some(entry) => {
                self.cx.memory.kept.insert(name, entry);
                true
            }
            None => {
                self.cx.memory.unreadable.insert(name);
                false
            }
        }
    }

    fn end_restore(&mut self, how: Restore) {
        match how {
            Restore::Failed(_) => {
                self.cx.memory.index.close();
                self.cx.nodes.loaded(self.cx.now);
            }
            _ => self.read_nodes_page(Some(NODE_TABLES[0]), None),
        }
        self.restore = how;
        let waiting: Vec<OpId> = self.tasks.keys().copied().collect();
        for op in waiting {
            self.admit(op);
        }
    }

    /// Operations need not wait for what the DHT nodes load.
    fn read_nodes_page(&mut self, table: Option<Table>, after: Option<Vec<u8>>) {
        let Some(table) = table.filter(|_| !self.cx.nodes.is_empty()) else {
            self.nodes_page = None;
            return self.cx.nodes.loaded(self.cx.now);
        };
        let page = StoreId(self.cx.fresh_id());
        self.nodes_page = Some((table, page));
        let action = StoreAction::Scan { table, after, limit: PAGE };
        self.cx.output(Output::Store(StoreCommand { id: page, action }));
    }

    fn on_nodes_page(&mut self, table: Table, result: Result<StoreReply, StoreError>) {
        let entries = match result {
            Ok(StoreReply::Entries(entries)) => entries,
            Ok(_) => Entries::new(),
            Err(error) => {
                self.cx.emit(Event::StoreFailed { error });
                Entries::new()
            }
        };
        let last = entries.last().map(|(key, _)| key.clone());
        let full = entries.len() >= PAGE;
        self.cx.load_nodes(table, entries);
        if full {
            return self.read_nodes_page(Some(table), last);
        }
        let next = NODE_TABLES.iter().skip_while(|known| **known != table).nth(1).copied();
        self.read_nodes_page(next, None);
    }
}

#[cfg(test)]
impl Engine {
    /// What is still held for operations, calls and commands: nothing once all have ended.
    pub(crate) fn leftovers(&self) -> Vec<&'static str> {
        let own = [("tasks", self.tasks.len()), ("requests", self.requests.len())];
        let held = own.into_iter().chain(self.cx.held());
        held.filter(|(_, count)| *count > 0).map(|(what, _)| what).collect()
    }
}
