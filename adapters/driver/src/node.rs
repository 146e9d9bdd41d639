//! The node: an engine, and the loop that carries out what it asks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures_channel::oneshot;
use futures_util::future::{AbortHandle, Either, abortable, pending};
use futures_util::{StreamExt, select_biased};
use ipns_core::Verified;
use ipns_core::dht::{Health, RpcError, Usage};
use ipns_core::engine::{
    Config, Engine, Event, InboundId, Input, OpId, Output, Publication, PublishError, Resolution, ResolveError,
};
use ipns_core::key::Signer;
use ipns_core::routing::{
    HttpId, NetCommand, NetEvent, Operation, RouteId, RouteUpdate, Router as RouterConfig, RouterId, Transport,
};
use ipns_core::store::Store;
use thiserror::Error;

use crate::clock::{Clock, SystemClock};
use crate::dht::{Answer, DhtHealth};
use crate::handle::{Command, Handle};
use crate::network::Network;
use crate::router::{Found, Router};
use crate::runtime::{BoxFuture, Runtime};
use crate::stats::{Counters, count};
use crate::work::{SignThread, Signers, StoreThread};

/// Why a node cannot be built.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BuildNodeError {
    /// The operating system gives no randomness.
    #[error("no randomness from the operating system: {0}")]
    Random(getrandom::Error),
    /// The operating system gives no thread.
    #[error("no thread for the store or the signer: {0}")]
    Thread(#[from] std::io::Error),
}

impl BuildNodeError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Random(_) => "no_randomness",
            Self::Thread(_) => "no_thread",
        }
    }
}

/// Why a node cannot be started on a runtime.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// The node cannot be built.
    #[error(transparent)]
    Build(#[from] BuildNodeError),
    /// The HTTP client cannot be built.
    #[error("the HTTP client cannot be set up: {0}")]
    Http(String),
}

impl SpawnError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Build(error) => error.code(),
            Self::Http(_) => "http_setup",
        }
    }
}

/// Builds a [`Node`].
pub struct Builder {
    config: Config,
    store: Box<dyn Store>,
    custom: BTreeMap<RouterId, Arc<dyn Router>>,
    network: Option<Network>,
    signers: Signers,
    clock: Box<dyn Clock>,
    seed: Option<[u8; 32]>,
}

impl Builder {
    /// Settings of the engine: times, limits, routers. Routers added before stay.
    #[must_use]
    pub fn config(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// Adds a router that core knows how to speak to.
    #[must_use]
    pub fn router(mut self, router: RouterConfig) -> Self {
        self.config.routers.push(router);
        self
    }

    /// Adds a router of the application's own; `settings` is usually [`RouterConfig::custom`].
    #[must_use]
    pub fn custom_router(mut self, settings: RouterConfig, router: Arc<dyn Router>) -> Self {
        // Ids are places in the list, of which nobody has more than 65,536.
        let id = RouterId(self.config.routers.len() as u16);
        self.config.routers.push(settings);
        self.custom.insert(id, router);
        self
    }

    /// Brings the network that the DHT routers need.
    #[must_use]
    pub fn network(mut self, network: Network) -> Self {
        self.network = Some(network);
        self
    }

    /// The DHTs among the routers so far, with their protocols: what a network must be told to carry.
    pub fn dhts(&self) -> Vec<(RouterId, String)> {
        let routers = self.config.routers.iter().enumerate();
        let protocol = |router: &RouterConfig| match &router.transport {
            Transport::Dht(config) => Some(config.protocol.clone()),
            _ => None,
        };
        routers.filter_map(|(index, router)| Some((RouterId(index as u16), protocol(router)?))).collect()
    }

    /// Lets the node sign with a key.
    #[must_use]
    pub fn signer(self, signer: Arc<dyn Signer>) -> Self {
        self.signers.add(signer);
        self
    }

    /// Brings another clock than the system's.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Box::new(clock);
        self
    }

    /// Fixes the seed of the engine's jitter, for tests that must repeat.
    #[must_use]
    pub fn seed(mut self, seed: [u8; 32]) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Starts the node on a runtime.
    ///
    /// # Errors
    /// When the operating system gives no thread or no randomness.
    pub fn spawn(self, runtime: Arc<dyn Runtime>) -> Result<Handle, BuildNodeError> {
        let mut seed = [0; 32];
        match self.seed {
            Some(given) => seed = given,
            None => getrandom::fill(&mut seed).map_err(BuildNodeError::Random)?,
        }
        let (commands, receiver) = unbounded();
        let (inputs, incoming) = unbounded();
        let counters = Arc::new(Counters::default());
        let labels = self.config.routers.iter().map(|router| router.label.clone()).collect();
        let engine = Engine::new(self.config, seed, self.clock.now());
        let (network, events) = match self.network {
            Some(Network { commands, events }) => (Some(commands), events),
            None => (None, unbounded().1),
        };
        let node = Node {
            engine,
            runtime: runtime.clone(),
            clock: self.clock,
            store: StoreThread::start(self.store, inputs.clone(), counters.clone())?,
            sign: SignThread::start(self.signers.clone(), inputs.clone())?,
            custom: self.custom,
            labels,
            serving: BTreeSet::new(),
            network,
            events,
            commands: receiver,
            inputs,
            incoming,
            counters: counters.clone(),
            waiting: BTreeMap::new(),
            responses: BTreeMap::new(),
            http: BTreeMap::new(),
            routes: BTreeMap::new(),
            unstored: 0,
            listeners: Vec::new(),
            early: Vec::new(),
            next_inbound: 0,
        };
        runtime.spawn(Box::pin(node.run()));
        Ok(Handle { commands, signers: self.signers, counters })
    }
}

/// A running engine. It is built with [`Node::builder`] and talked to through its [`Handle`].
pub struct Node {
    pub(crate) engine: Engine,
    runtime: Arc<dyn Runtime>,
    clock: Box<dyn Clock>,
    store: StoreThread,
    sign: SignThread,
    custom: BTreeMap<RouterId, Arc<dyn Router>>,
    /// What each router is called.
    labels: Vec<String>,
    /// The DHTs in which others are served.
    serving: BTreeSet<RouterId>,
    network: Option<UnboundedSender<NetCommand>>,
    events: UnboundedReceiver<NetEvent>,
    commands: UnboundedReceiver<Command>,
    inputs: UnboundedSender<Input>,
    incoming: UnboundedReceiver<Input>,
    counters: Arc<Counters>,
    waiting: BTreeMap<OpId, Waiter>,
    responses: BTreeMap<InboundId, oneshot::Sender<http::Response<Bytes>>>,
    http: BTreeMap<HttpId, AbortHandle>,
    routes: BTreeMap<RouteId, AbortHandle>,
    /// Commands to the store that are not answered yet.
    unstored: usize,
    listeners: Vec<UnboundedSender<Event>>,
    /// What concerns the kept names, which waits until the store has been read.
    early: Vec<Command>,
    next_inbound: u64,
}

/// Who waits for an operation.
enum Waiter {
    Publish(oneshot::Sender<Result<Publication, PublishError>>),
    Resolve(UnboundedSender<Result<Resolution, ResolveError>>),
    Watch(UnboundedSender<Verified>),
    Inquiry(UnboundedSender<Answer>),
}

/// A shutdown under way: what must have ended before it is complete.
struct Closing {
    deadline: Duration,
    done: Vec<oneshot::Sender<()>>,
}

impl Node {
    /// Begins to build a node over a store.
    pub fn builder(store: impl Store) -> Builder {
        Builder {
            config: Config::default(),
            store: Box::new(store),
            custom: BTreeMap::new(),
            network: None,
            signers: Signers::default(),
            clock: Box::new(SystemClock::default()),
            seed: None,
        }
    }

    async fn run(mut self) {
        let mut closing: Option<Closing> = None;
        let mut timer: (Option<Duration>, BoxFuture<()>) = (None, Box::pin(pending()));
        loop {
            self.carry_out();
            if let Some(Closing { deadline, .. }) = &closing
                && (self.is_idle() || self.clock.now().monotonic >= *deadline)
            {
                break;
            }
            let due = [self.engine.next_timeout(), closing.as_ref().map(|closing| closing.deadline)];
            let due = due.into_iter().flatten().min();
            if timer.0 != due {
                timer = (due, self.sleep_until(due));
            }
            let next = {
                let mut tick = futures_util::FutureExt::fuse(&mut timer.1);
                select_biased! {
                    // What is due is not put off by whoever sends much.
                    () = tick => Either::Left(Some(Input::Tick)),
                    input = self.incoming.next() => Either::Left(input),
                    command = self.commands.next() => Either::Right(command),
                    event = self.events.select_next_some() => Either::Left(Some(Input::Net(event))),
                }
            };
            match next {
                Either::Left(Some(input)) => {
                    if matches!(input, Input::Tick) {
                        timer = (None, Box::pin(pending()));
                    }
                    self.take(input);
                }
                // The node holds a sender of its own.
                Either::Left(None) => break,
                Either::Right(Some(Command::Shutdown(grace, done))) => {
                    let deadline = self.clock.now().monotonic + grace;
                    let closing = closing.get_or_insert_with(|| Closing { deadline, done: Vec::new() });
                    closing.deadline = closing.deadline.min(deadline);
                    closing.done.push(done);
                    self.end_watches();
                    self.engine.save(self.clock.now());
                }
                Either::Right(Some(command)) if closing.is_none() => self.command(command),
                // Dropping what comes now tells its sender that the node has stopped; cancelling still helps to end.
                Either::Right(Some(Command::Cancel(op))) => self.command(Command::Cancel(op)),
                Either::Right(Some(_)) => {}
                // Nobody is left who could want anything.
                Either::Right(None) => break,
            }
        }
        for task in self.http.values().chain(self.routes.values()) {
            task.abort();
        }
        self.store.close().await;
        for done in closing.into_iter().flat_map(|closing| closing.done) {
            let _ = done.send(());
        }
    }

    fn sleep_until(&self, due: Option<Duration>) -> BoxFuture<()> {
        match due {
            Some(due) => self.runtime.sleep(due.saturating_sub(self.clock.now().monotonic)),
            None => Box::pin(pending()),
        }
    }

    /// Whether nothing is under way: no operation, no request, no delivery, no write.
    fn is_idle(&self) -> bool {
        let quiet = self.http.is_empty() && self.routes.is_empty() && self.engine.sending() == 0;
        self.engine.load() == 0 && quiet && self.unstored == 0
    }

    fn end_watches(&mut self) {
        let now = self.clock.now();
        let watches: Vec<OpId> = self
            .waiting
            .iter()
            .filter(|(_, waiter)| matches!(waiter, Waiter::Watch(_) | Waiter::Inquiry(_)))
            .map(|(op, _)| *op)
            .collect();
        for op in watches {
            self.waiting.remove(&op);
            self.engine.cancel(now, op);
        }
    }

    fn take(&mut self, input: Input) {
        match &input {
            Input::Http { id, .. } => {
                self.http.remove(id);
            }
            Input::Routed { id, update: RouteUpdate::Done(_) } => {
                self.routes.remove(id);
            }
            Input::Stored { .. } => self.unstored -= 1,
            _ => {}
        }
        self.engine.handle_input(self.clock.now(), input);
        if self.engine.is_restored() {
            for command in std::mem::take(&mut self.early) {
                self.command(command);
            }
        }
    }

    fn command(&mut self, command: Command) {
        let now = self.clock.now();
        match command {
            early @ Command::Keep(_) if !self.engine.is_restored() => self.early.push(early),
            Command::Keep(command) => self.keep(now, command),
            Command::Publish(what, id, done) => {
                if !done.is_canceled() {
                    let op = self.engine.publish(now, what);
                    self.wait(op, &id, Waiter::Publish(done));
                }
            }
            Command::Put(what, id, done) => {
                if !done.is_canceled() {
                    let op = self.engine.put(now, what);
                    self.wait(op, &id, Waiter::Publish(done));
                }
            }
            Command::Republish(name, id, done) => {
                if !done.is_canceled() {
                    let op = self.engine.republish(now, name);
                    self.wait(op, &id, Waiter::Publish(done));
                }
            }
            Command::Resolve(name, how, id, updates) => {
                if !updates.is_closed() {
                    let op = self.engine.resolve(now, name, how);
                    self.wait(op, &id, Waiter::Resolve(updates));
                }
            }
            Command::Watch(name, id, updates) => {
                if !updates.is_closed() {
                    let op = self.engine.watch(now, name);
                    self.wait(op, &id, Waiter::Watch(updates));
                }
            }
            Command::Inquire(of, what, id, updates) => {
                if !updates.is_closed() {
                    let op = self.engine.inquire(now, of, &what);
                    self.wait(op, &id, Waiter::Inquiry(updates));
                }
            }
            Command::Bootstrap(peers) => self.engine.bootstrap(now, &peers),
            Command::Health(answer) => {
                let _ = answer.send(self.health(now.monotonic));
            }
            Command::Table(router, answer) => {
                let _ = answer.send(self.engine.routing_table(router).collect());
            }
            Command::Cancel(op) => {
                if let Some(Waiter::Watch(_) | Waiter::Inquiry(_)) = self.waiting.get(&op) {
                    self.waiting.remove(&op);
                }
                self.engine.cancel(now, op);
            }
            Command::Serve(request, sender, done) => {
                self.next_inbound += 1;
                let id = InboundId(self.next_inbound);
                if !done.is_canceled() && sender.unbounded_send(id).is_ok() {
                    count(&self.counters.served);
                    self.responses.insert(id, done);
                    self.engine.handle_input(now, Input::Request { id, request });
                }
            }
            Command::Gone(id) => {
                if self.responses.remove(&id).is_some() {
                    self.engine.handle_input(now, Input::RequestGone { id });
                }
            }
            Command::Events(listener) => self.listeners.push(listener),
            Command::Shutdown(..) => {}
        }
    }

    fn wait(&mut self, op: OpId, id: &UnboundedSender<OpId>, waiter: Waiter) {
        self.waiting.insert(op, waiter);
        // Whoever asked may have gone away in the meantime.
        if id.unbounded_send(op).is_err() {
            self.waiting.remove(&op);
            self.engine.cancel(self.clock.now(), op);
        }
    }

    /// Does everything that the engine asks for.
    fn carry_out(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Http { id, request, timeout, max_body } => {
                    count(&self.counters.http_sent);
                    let exchange = self.runtime.http().send(request, max_body, timeout);
                    let inputs = self.inputs.clone();
                    let handle = self.spawn(async move {
                        let result = exchange.await;
                        let _ = inputs.unbounded_send(Input::Http { id, result });
                    });
                    self.http.insert(id, handle);
                }
                Output::CancelHttp(id) => {
                    if let Some(task) = self.http.remove(&id) {
                        task.abort();
                    }
                }
                Output::Net(command) => self.net(command),
                Output::Route { id, router, operation } => self.route(id, router, operation),
                Output::CancelRoute(id) => {
                    if let Some(task) = self.routes.remove(&id) {
                        task.abort();
                    }
                }
                Output::Sign { id, name, message } => self.sign.send(id, name, message, &self.inputs),
                Output::Store(command) => {
                    self.unstored += 1;
                    self.store.send(command, &self.inputs);
                }
                Output::Respond { to, response } => {
                    if let Some(waiting) = self.responses.remove(&to) {
                        let _ = waiting.send(response);
                    }
                }
                Output::Event(event) => self.tell(event),
            }
        }
        self.counters.dht(self.engine.health());
        self.counters.load.store(self.engine.load() as u64, Ordering::Relaxed);
        let (own, followed) = self.engine.kept();
        self.counters.own.store(own as u64, Ordering::Relaxed);
        self.counters.followed.store(followed as u64, Ordering::Relaxed);
    }

    fn net(&mut self, command: NetCommand) {
        self.counters.net(&command);
        let sent = match &self.network {
            Some(network) => network.unbounded_send(command).map_err(|failed| failed.into_inner()),
            None => Err(command),
        };
        // A network that is not there reaches nobody.
        if let Err(NetCommand::Ask { router, id, .. }) = sent {
            let event = NetEvent::Response { router, id, result: Err(RpcError::DialFailed) };
            let _ = self.inputs.unbounded_send(Input::Net(event));
        }
    }

    fn health(&self, now: Duration) -> Vec<DhtHealth> {
        let health = |(router, health, usage): (RouterId, Health, Usage)| DhtHealth {
            router,
            label: self.labels.get(usize::from(router.0)).cloned().unwrap_or_default(),
            health,
            last_answer: health.last_answer.map(|at| now.saturating_sub(at)),
            crawled: health.crawled.map(|at| now.saturating_sub(at)),
            serving: self.serving.contains(&router),
            usage,
        };
        self.engine.health().map(health).collect()
    }

    fn route(&mut self, id: RouteId, router: RouterId, operation: Operation) {
        let inputs = self.inputs.clone();
        let Some(router) = self.custom.get(&router).cloned() else {
            let error = ipns_core::routing::RouteError::Unreachable("no router was given for this place".into());
            let update = RouteUpdate::Done(Err(error));
            let _ = inputs.unbounded_send(Input::Routed { id, update });
            return;
        };
        let handle = self.spawn(async move {
            let result = match operation {
                Operation::Get { name } => router.get(name, Found { id, inputs: inputs.clone() }).await,
                Operation::Put { record } => router.put(record).await,
            };
            let _ = inputs.unbounded_send(Input::Routed { id, update: RouteUpdate::Done(result) });
        });
        self.routes.insert(id, handle);
    }

    fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let (task, handle) = abortable(future);
        self.runtime.spawn(Box::pin(async move {
            let _ = task.await;
        }));
        handle
    }

    fn tell(&mut self, event: Event) {
        self.counters.event(&event);
        match &event {
            Event::ClockImplausible { wall, expected } => {
                tracing::warn!(%wall, %expected, "the wall clock looks wrong; records may look expired or valid when they are not");
            }
            Event::StoreFailed { error } => tracing::error!(code = error.code(), %error, "the store failed"),
            Event::Health { router, health } => {
                let label = self.labels.get(usize::from(router.0)).map(String::as_str).unwrap_or_default();
                tracing::info!(dht = label, standing = ?health.standing, live = health.live, "standing in the DHT");
            }
            Event::Conflict { name, ours, theirs } => {
                tracing::warn!(%name, ours, theirs, "another publisher uses the key of this name");
            }
            _ => {}
        }
        self.listeners.retain(|listener| listener.unbounded_send(event.clone()).is_ok());
        match event {
            Event::Published { op, result } => {
                if let Some(Waiter::Publish(done)) = self.waiting.remove(&op) {
                    let _ = done.send(result);
                }
            }
            Event::Resolved { op, result } => {
                if let Some(Waiter::Resolve(updates)) = self.waiting.remove(&op) {
                    let _ = updates.unbounded_send(result);
                }
            }
            Event::Improved { op, resolution } => {
                if let Some(Waiter::Resolve(updates)) = self.waiting.get(&op) {
                    let _ = updates.unbounded_send(Ok(resolution));
                }
            }
            Event::Changed { op, record } => {
                if let Some(Waiter::Watch(updates)) = self.waiting.get(&op) {
                    let _ = updates.unbounded_send(record);
                }
            }
            Event::Told { op, router, event } => {
                if let Some(Waiter::Inquiry(updates)) = self.waiting.get(&op) {
                    let _ = updates.unbounded_send(Answer::Told((router, event)));
                }
            }
            Event::Answered { op, result } => {
                if let Some(Waiter::Inquiry(updates)) = self.waiting.remove(&op) {
                    let _ = updates.unbounded_send(Answer::Ended(result));
                }
            }
            Event::Serving { router, serving } => {
                if serving {
                    self.serving.insert(router);
                } else {
                    self.serving.remove(&router);
                }
            }
            _ => {}
        }
    }
}
