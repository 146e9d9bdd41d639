//! Calls to routers: one question or one delivery to one router, with its attempts, time-outs and retries.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use http::StatusCode;
use libp2p_identity::PeerId;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::RngCore;
use thiserror::Error;

use super::http::client::{Backoff, Fault, FaultKind, GetAnswer, read_get, read_put, response_date};
use super::router::{Router, RouterId, Transport};
use crate::dht;
use crate::name::Name;
use crate::record::{MAX_RECORD_BYTES, Verified};
use crate::time::Timestamp;

/// One call to one router.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct CallId(pub(crate) u64);

/// One HTTP exchange, to be answered with [`Input::Http`](crate::engine::Input::Http).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HttpId(pub u64);

/// One operation of a router that the application brings, to be answered with
/// [`Input::Routed`](crate::engine::Input::Routed).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteId(pub u64);

/// What a router is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Find records of a name.
    Get {
        /// The name.
        name: Name,
    },
    /// Take a record.
    Put {
        /// The record.
        record: Verified,
    },
}

/// How thoroughly a router of many peers is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Depth {
    /// As one of many that are sent again.
    Swept,
    /// Until a newer record is unlikely to have been missed.
    Usual,
    /// Until so many of the peers that should know have answered.
    Answers(u32),
    /// To the end, because a record will be sent to those who should keep it.
    Walk,
}

/// What a router that the application brings says of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteUpdate {
    /// A record was found; more may follow. It is verified before anything believes it.
    Record(Bytes),
    /// The operation ended.
    Done(Result<Tally, RouteError>),
}

/// How many peers answered, of how many asked. A router that is one peer says 1 of 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Peers that answered or took the record.
    pub acks: u32,
    /// Peers asked.
    pub asked: u32,
}

impl Tally {
    /// One peer, which answered.
    pub const ONE: Self = Self { acks: 1, asked: 1 };
}

/// What one peer of a router said to a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerReceipt {
    /// The peer.
    pub peer: PeerId,
    /// What it said.
    pub outcome: dht::Outcome,
}

/// Why an HTTP exchange brought no response.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HttpError {
    /// No connection: refused, unreachable, name not found, TLS refused.
    #[error("{0}")]
    Connect(String),
    /// No response in time.
    #[error("no response in time")]
    Timeout,
    /// The response is larger than allowed.
    #[error("the response is larger than {0} bytes")]
    TooLarge(usize),
    /// Anything else: the connection broke, the response is no HTTP.
    #[error("{0}")]
    Broken(String),
}

/// Why a router did not do what it was asked. [`code`](RouteError::code) is stable.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RouteError {
    /// It could not be reached.
    #[error("{0}")]
    Unreachable(String),
    /// It did not answer in time.
    #[error("no answer in time")]
    Timeout,
    /// It, or something before it, is busy or broken and says so: 429, 502, 503, 504.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// It failed at the request itself: 500, which some servers answer for a name that they do not know.
    #[error("failed: {0}")]
    Failed(String),
    /// It answered, and refused.
    #[error("refused: {0}")]
    Refused(String),
    /// It has a newer record.
    #[error("it holds a newer record{}", .current.map(|n| format!(", sequence {n}")).unwrap_or_default())]
    Conflict {
        /// The sequence of its record, if it said.
        current: Option<u64>,
    },
    /// What it sent is not a valid record of the name.
    #[error("sent an invalid record: {0}")]
    Invalid(String),
    /// It was not tried again because a newer record of the name is sent to the router.
    #[error("given up for sequence {by}, which is newer")]
    Overtaken {
        /// The sequence of the newer record.
        by: u64,
    },
    /// The operation ended before the router answered.
    #[error("not answered yet{}", .0.as_ref().map(|last| format!("; last attempt: {last}")).unwrap_or_default())]
    Pending(Option<String>),
}

impl RouteError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Timeout => "timeout",
            Self::Unavailable(_) => "unavailable",
            Self::Failed(_) => "failed",
            Self::Refused(_) => "refused",
            Self::Conflict { .. } => "conflict",
            Self::Invalid(_) => "invalid",
            Self::Overtaken { .. } => "overtaken",
            Self::Pending(_) => "pending",
        }
    }
}

/// What the routing layer wants done.
#[derive(Debug)]
pub(crate) enum CallOutput {
    Http {
        id: HttpId,
        request: http::Request<Bytes>,
        timeout: Duration,
        max_body: usize,
    },
    Route {
        id: RouteId,
        router: RouterId,
        operation: Operation,
    },
    /// To be answered by [`Calls::on_node`].
    Node {
        call: CallId,
        router: RouterId,
        operation: Operation,
        depth: Depth,
    },
    CancelHttp(HttpId),
    CancelRoute(RouteId),
    CancelNode(CallId),
}

/// What became of a call.
#[derive(Debug)]
pub(crate) enum CallUpdate {
    /// Bytes that claim to be a record, and the router's entity tag for them.
    Record { bytes: Bytes, etag: Option<String> },
    /// A record that was verified already.
    Found(Verified),
    /// The router still holds what the caller's entity tag stands for.
    Unchanged,
    /// An attempt failed and another follows.
    Failing,
    /// A router's idea of the time.
    Date { router: RouterId, at: Timestamp },
    /// What a DHT node says at the end of a call.
    Ended(Ended),
    /// The end.
    Done(CallEnd),
}

/// How a DHT node ended a call.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) result: Result<Tally, RouteError>,
    /// The best record of a get: one that this node keeps for others was found by nobody else.
    pub(crate) best: Option<Verified>,
    /// What each peer said to a record.
    pub(crate) peers: Vec<PeerReceipt>,
    /// How sure a get is of the best record that it found.
    pub(crate) freshness: Option<dht::Freshness>,
}

/// How a call ended, or how it stands.
#[derive(Debug)]
pub(crate) struct CallEnd {
    pub(crate) router: RouterId,
    pub(crate) result: Result<Tally, RouteError>,
    pub(crate) started: Duration,
    pub(crate) attempts: u32,
    pub(crate) peers: Vec<PeerReceipt>,
    pub(crate) freshness: Option<dht::Freshness>,
}

struct Call {
    router: RouterId,
    operation: Operation,
    depth: Depth,
    etag: Option<String>,
    started: Duration,
    state: State,
    backoff: Backoff,
    attempts: u32,
    last_failure: Option<String>,
    /// The sequence of a newer record that is sent to the same router.
    overtaken: Option<u64>,
    /// Whether a router that the application brings has found what it was asked for.
    found: bool,
}

impl Call {
    /// What stands in the list of deliveries, if it is one.
    fn delivery(&self, id: CallId) -> Option<Delivery> {
        match &self.operation {
            Operation::Put { record } => Some((self.router, *record.name(), record.sequence(), id)),
            Operation::Get { .. } => None,
        }
    }

    fn end(&self, ended: Ended) -> CallEnd {
        let Ended { result, peers, freshness, .. } = ended;
        CallEnd { router: self.router, result, started: self.started, attempts: self.attempts, peers, freshness }
    }
}

enum State {
    Http(HttpId),
    Route(RouteId),
    Node,
    Sleeping,
}

/// A record on its way: where to, whose, its sequence, and the call.
type Delivery = (RouterId, Name, u64, CallId);

/// How often in a row a router failed before it is no longer waited for.
const SUSPECT_AFTER: u32 = 3;
/// Error pages and the like are cut here; a record is never longer.
const MAX_BODY: usize = MAX_RECORD_BYTES + 1;

/// All calls under way.
pub(crate) struct Calls {
    routers: Vec<Router>,
    failures: Vec<u32>,
    calls: BTreeMap<CallId, Call>,
    deliveries: BTreeSet<Delivery>,
    http: BTreeMap<HttpId, CallId>,
    routes: BTreeMap<RouteId, CallId>,
    timers: BTreeSet<(Duration, CallId)>,
    timer_of: BTreeMap<CallId, Duration>,
    outputs: VecDeque<CallOutput>,
    updates: VecDeque<(CallId, CallUpdate)>,
    next_id: u64,
}

impl Calls {
    pub(crate) fn new(routers: Vec<Router>) -> Self {
        Self {
            failures: vec![0; routers.len()],
            routers,
            calls: BTreeMap::new(),
            deliveries: BTreeSet::new(),
            http: BTreeMap::new(),
            routes: BTreeMap::new(),
            timers: BTreeSet::new(),
            timer_of: BTreeMap::new(),
            outputs: VecDeque::new(),
            updates: VecDeque::new(),
            next_id: 0,
        }
    }

    /// Every router with its id.
    pub(crate) fn routers(&self) -> impl Iterator<Item = (RouterId, &Router)> {
        self.routers.iter().enumerate().map(|(index, router)| (RouterId(index as u16), router))
    }

    pub(crate) fn router(&self, id: RouterId) -> &Router {
        &self.routers[usize::from(id.0)]
    }

    /// Whether the router has failed so often that nobody should wait for it.
    pub(crate) fn is_suspect(&self, id: RouterId) -> bool {
        self.failures[usize::from(id.0)] >= SUSPECT_AFTER
    }

    /// How a call that has not ended stands.
    pub(crate) fn progress(&self, id: CallId) -> Option<CallEnd> {
        let call = self.calls.get(&id)?;
        let result = Err(RouteError::Pending(call.last_failure.clone()));
        Some(call.end(Ended { result, best: None, peers: Vec::new(), freshness: None }))
    }

    pub(crate) fn start(
        &mut self,
        now: Duration,
        router: RouterId,
        operation: Operation,
        depth: Depth,
        etag: Option<String>,
    ) -> CallId {
        let id = CallId(self.fresh_id());
        let attempts = match &self.router(router).transport {
            Transport::Http(endpoint) => endpoint.attempts,
            Transport::External | Transport::Dht(_) => 1,
        };
        let call = Call {
            router,
            operation,
            depth,
            etag,
            started: now,
            state: State::Sleeping,
            backoff: Backoff::new(attempts),
            attempts: 0,
            last_failure: None,
            overtaken: None,
            found: false,
        };
        self.deliveries.extend(call.delivery(id));
        self.calls.insert(id, call);
        self.attempt(now, id);
        id
    }

    /// Has deliveries of older records to this router not tried again: a router may take whatever comes last.
    pub(crate) fn overtake(&mut self, router: RouterId, name: &Name, by: u64) {
        let older = (router, *name, 0, CallId(0))..(router, *name, by, CallId(0));
        let older: Vec<CallId> = self.deliveries.range(older).map(|(.., id)| *id).collect();
        for id in older {
            let Some(call) = self.calls.get_mut(&id) else { continue };
            call.overtaken = Some(by);
            if let State::Sleeping = call.state {
                self.finish(id, Err(RouteError::Overtaken { by }));
            }
        }
    }

    /// Whether a record of at least this sequence is on its way to the router.
    pub(crate) fn is_sending(&self, router: RouterId, name: &Name, sequence: u64) -> bool {
        let newer = (router, *name, sequence, CallId(0))..=(router, *name, u64::MAX, CallId(u64::MAX));
        self.deliveries.range(newer).next().is_some()
    }

    fn end(&mut self, id: CallId) -> Option<Call> {
        let call = self.calls.remove(&id)?;
        self.set_timer(id, None);
        if let Some(delivery) = call.delivery(id) {
            self.deliveries.remove(&delivery);
        }
        Some(call)
    }

    /// Forgets the call; what is under way for it is cancelled.
    pub(crate) fn cancel(&mut self, id: CallId) {
        let Some(call) = self.end(id) else { return };
        match call.state {
            State::Http(http) => {
                self.http.remove(&http);
                self.outputs.push_back(CallOutput::CancelHttp(http));
            }
            State::Route(route) => {
                self.routes.remove(&route);
                self.outputs.push_back(CallOutput::CancelRoute(route));
            }
            State::Node => self.outputs.push_back(CallOutput::CancelNode(id)),
            State::Sleeping => {}
        }
    }

    pub(crate) fn on_http(
        &mut self,
        now: Duration,
        id: HttpId,
        result: Result<http::Response<Bytes>, HttpError>,
        random: &mut ChaCha8Rng,
    ) {
        let Some(id) = self.http.remove(&id) else { return };
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.state = State::Sleeping;
        let response = match result {
            Ok(response) => response,
            Err(error @ HttpError::TooLarge(_)) => return self.finish(id, Err(RouteError::Refused(error.to_string()))),
            Err(HttpError::Timeout) => return self.retry(now, id, RouteError::Timeout, None, random),
            Err(error) => return self.retry(now, id, RouteError::Unreachable(error.to_string()), None, random),
        };
        let is_get = matches!(call.operation, Operation::Get { .. });
        if let Some(at) = response_date(&response) {
            self.updates.push_back((id, CallUpdate::Date { router: call.router, at }));
        }
        let outcome = if is_get {
            read_get(&response).map(|answer| match answer {
                GetAnswer::Record { bytes, etag } => Some(CallUpdate::Record { bytes, etag }),
                GetAnswer::NotModified => Some(CallUpdate::Unchanged),
                GetAnswer::NoRecord => None,
            })
        } else {
            read_put(&response).map(|()| None)
        };
        match outcome {
            Ok(Some(CallUpdate::Unchanged)) if call.etag.is_none() => {
                self.finish(id, Err(RouteError::Refused("304 to a request without an entity tag".into())));
            }
            Ok(update) => {
                self.updates.extend(update.map(|update| (id, update)));
                self.finish(id, Ok(Tally::ONE));
            }
            Err(fault) => self.on_fault(now, id, fault, random),
        }
    }

    fn on_fault(&mut self, now: Duration, id: CallId, fault: Fault, random: &mut ChaCha8Rng) {
        match fault.kind {
            FaultKind::Transient => {
                let busy = fault.status == StatusCode::TOO_MANY_REQUESTS || fault.status.as_u16() > 500;
                let error = if busy { RouteError::Unavailable(fault.reason) } else { RouteError::Failed(fault.reason) };
                self.retry(now, id, error, fault.retry_after, random);
            }
            FaultKind::Conflict { current } => self.finish(id, Err(RouteError::Conflict { current })),
            FaultKind::Final => self.finish(id, Err(RouteError::Refused(fault.reason))),
        }
    }

    pub(crate) fn on_route(&mut self, id: RouteId, update: RouteUpdate) {
        let Some(call_id) = self.routes.get(&id).copied() else { return };
        let Some(call) = self.calls.get_mut(&call_id) else { return };
        match update {
            RouteUpdate::Record(bytes) => {
                call.found = matches!(call.operation, Operation::Get { .. });
                self.updates.push_back((call_id, CallUpdate::Record { bytes, etag: None }));
            }
            RouteUpdate::Done(result) => {
                self.routes.remove(&id);
                // To have asked many and heard none is no answer, and nobody took anything.
                let result = match result {
                    Ok(Tally { acks: 0, asked }) if !call.found => {
                        Err(RouteError::Unreachable(format!("none of {asked} peers answered")))
                    }
                    result => result,
                };
                self.finish(call_id, result);
            }
        }
    }

    /// Takes what a DHT node says of a call.
    pub(crate) fn on_node(&mut self, id: CallId, update: CallUpdate) {
        match update {
            CallUpdate::Ended(mut ended) => {
                let best = ended.best.take().filter(|_| self.calls.contains_key(&id));
                self.updates.extend(best.map(|best| (id, CallUpdate::Found(best))));
                self.finish_with(id, ended);
            }
            update if self.calls.contains_key(&id) => self.updates.push_back((id, update)),
            _ => {}
        }
    }

    pub(crate) fn on_timeout(&mut self, now: Duration, random: &mut ChaCha8Rng) {
        while let Some(&(due, id)) = self.timers.first() {
            if due > now {
                break;
            }
            self.set_timer(id, None);
            match self.calls.get(&id).map(|call| &call.state) {
                Some(&State::Http(http)) => {
                    self.http.remove(&http);
                    self.outputs.push_back(CallOutput::CancelHttp(http));
                    self.retry(now, id, RouteError::Timeout, None, random);
                }
                Some(&State::Route(route)) => {
                    self.routes.remove(&route);
                    self.outputs.push_back(CallOutput::CancelRoute(route));
                    self.finish(id, Err(RouteError::Timeout));
                }
                Some(State::Node) => {
                    self.outputs.push_back(CallOutput::CancelNode(id));
                    self.finish(id, Err(RouteError::Timeout));
                }
                Some(State::Sleeping) => self.attempt(now, id),
                None => {}
            }
        }
    }

    pub(crate) fn next_timeout(&self) -> Option<Duration> {
        self.timers.first().map(|(due, _)| *due)
    }

    pub(crate) fn poll_output(&mut self) -> Option<CallOutput> {
        self.outputs.pop_front()
    }

    pub(crate) fn poll_update(&mut self) -> Option<(CallId, CallUpdate)> {
        self.updates.pop_front()
    }

    fn attempt(&mut self, now: Duration, id: CallId) {
        let fresh = self.fresh_id();
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.attempts += 1;
        let router = &self.routers[usize::from(call.router.0)];
        let timeout = router.timeout;
        match &router.transport {
            Transport::Http(endpoint) => {
                let request = match &call.operation {
                    Operation::Get { name } => endpoint.get_request(name, call.etag.as_deref()),
                    Operation::Put { record } => endpoint.put_request(record.name(), record.as_bytes()),
                };
                let http = HttpId(fresh);
                call.state = State::Http(http);
                self.http.insert(http, id);
                self.outputs.push_back(CallOutput::Http { id: http, request, timeout, max_body: MAX_BODY });
            }
            Transport::External => {
                let route = RouteId(fresh);
                call.state = State::Route(route);
                self.routes.insert(route, id);
                let operation = call.operation.clone();
                self.outputs.push_back(CallOutput::Route { id: route, router: call.router, operation });
            }
            Transport::Dht(_) => {
                call.state = State::Node;
                let (operation, depth) = (call.operation.clone(), call.depth);
                self.outputs.push_back(CallOutput::Node { call: id, router: call.router, operation, depth });
            }
        }
        self.set_timer(id, Some(now + timeout));
    }

    fn retry(
        &mut self,
        now: Duration,
        id: CallId,
        error: RouteError,
        retry_after: Option<Duration>,
        random: &mut ChaCha8Rng,
    ) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.state = State::Sleeping;
        call.last_failure = Some(error.to_string());
        if let Some(by) = call.overtaken {
            return self.finish(id, Err(RouteError::Overtaken { by }));
        }
        match call.backoff.next(random.next_u32(), retry_after) {
            Some(pause) => {
                self.set_timer(id, Some(now + pause));
                self.updates.push_back((id, CallUpdate::Failing));
            }
            None => self.finish(id, Err(error)),
        }
    }

    fn finish(&mut self, id: CallId, result: Result<Tally, RouteError>) {
        self.finish_with(id, Ended { result, best: None, peers: Vec::new(), freshness: None });
    }

    fn finish_with(&mut self, id: CallId, ended: Ended) {
        let Some(call) = self.end(id) else { return };
        let failures = &mut self.failures[usize::from(call.router.0)];
        match &ended.result {
            Err(RouteError::Unreachable(_) | RouteError::Timeout | RouteError::Unavailable(_)) => {
                *failures = failures.saturating_add(1)
            }
            Err(RouteError::Overtaken { .. }) => {}
            _ => *failures = 0,
        }
        self.updates.push_back((id, CallUpdate::Done(call.end(ended))));
    }

    fn set_timer(&mut self, id: CallId, due: Option<Duration>) {
        if let Some(old) = self.timer_of.remove(&id) {
            self.timers.remove(&(old, id));
        }
        if let Some(due) = due {
            self.timer_of.insert(id, due);
            self.timers.insert((due, id));
        }
    }

    fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

#[cfg(test)]
impl Calls {
    /// How much is held of what ends with the calls.
    pub(crate) fn held(&self) -> [(&'static str, usize); 5] {
        [
            ("calls", self.calls.len() + self.deliveries.len()),
            ("http", self.http.len()),
            ("routes", self.routes.len()),
            ("call timers", self.timers.len() + self.timer_of.len()),
            ("updates", self.updates.len() + self.outputs.len()),
        ]
    }
}
