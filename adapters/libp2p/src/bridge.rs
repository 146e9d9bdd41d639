//! A router over the `kad::Behaviour` that an application already runs.

use std::collections::{BTreeMap, HashMap};

use futures_channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures_channel::oneshot;
use futures_util::StreamExt;
use ipns_core::routing::{RouteError, Tally};
use ipns_core::{Name, Verified};
use ipns_driver::{BoxFuture, Found, Router};
use libp2p::kad::store::RecordStore;
use libp2p::kad::{
    self, Event, GetClosestPeersError, GetRecordError, GetRecordOk, PutRecordError, QueryId, QueryResult, QueryStats,
    Quorum, Record,
};

/// Makes the two halves of a bridge: the router, for a node, and the bridge, for the loop that drives the swarm.
///
/// Records are handed to the node as they are found, unverified: it verifies and compares them. A [`Tally`] counts the
/// peers that answered a get, or took the record of a put, of those asked. kad reads answers of at most 16 KiB unless it
/// is told otherwise, and peers of the public DHT send larger ones: `set_max_packet_size(4 << 20)`.
///
/// ```no_run
/// # use futures_util::StreamExt;
/// # use ipns_libp2p::{BridgeConfig, bridge};
/// # use libp2p::{kad, swarm::SwarmEvent, Swarm};
/// # type Kad = kad::Behaviour<kad::store::MemoryStore>;
/// # async fn run(mut swarm: Swarm<Kad>, node: ipns_driver::Builder) {
/// let (router, mut bridge) = bridge(BridgeConfig::default());
/// // Queries of kad take their time; one attempt may take as long as they do.
/// let mut settings = ipns_core::routing::Router::custom("kad");
/// settings.timeout = std::time::Duration::from_secs(60);
/// let node = node.custom_router(settings, std::sync::Arc::new(router));
/// loop {
///     tokio::select! {
///         task = bridge.next() => bridge.begin(swarm.behaviour_mut(), task),
///         event = swarm.select_next_some() => {
///             let SwarmEvent::Behaviour(event) = event else { continue };
///             if let Some(event) = bridge.on_event(swarm.behaviour_mut(), event) {
///                 println!("an event of the application's own: {event:?}");
///             }
///         }
///     }
/// }
/// # }
/// ```
pub fn bridge(config: BridgeConfig) -> (KadRouter, Bridge) {
    let (tasks, receiver) = unbounded();
    let bridge = Bridge { config, tasks: receiver, queries: HashMap::new(), by_op: BTreeMap::new(), next: 0 };
    (KadRouter { tasks }, bridge)
}

/// How a bridge uses the queries of kad.
#[derive(Debug, Clone, Copy)]
pub struct BridgeConfig {
    /// After how many records a get is ended. libp2p's kad has no quorum of its own and would ask on. 0 for no end.
    pub get_records: usize,
    /// After how many acknowledgements a put is ended. Peers that have not been asked by then are not asked any more,
    /// so anything but `All` leaves the record with fewer peers. With the time-outs of libp2p's defaults one of twenty is
    /// often lost, and `All` missed: the tally says how many took the record.
    pub put_quorum: Quorum,
}

impl Default for BridgeConfig {
    fn default() -> Self {
        Self { get_records: 16, put_quorum: Quorum::All }
    }
}

/// The router half of a bridge. Give it to a node as a custom router.
#[derive(Debug, Clone)]
pub struct KadRouter {
    tasks: UnboundedSender<Task>,
}

/// The half of a bridge that belongs to the loop which drives the swarm.
#[derive(Debug)]
pub struct Bridge {
    config: BridgeConfig,
    tasks: UnboundedReceiver<Task>,
    queries: HashMap<QueryId, Query>,
    by_op: BTreeMap<u64, QueryId>,
    next: u64,
}

/// Something that a node wants of kad, for [`Bridge::begin`].
#[derive(Debug)]
pub struct Task(Wanted);

#[derive(Debug)]
enum Wanted {
    Get {
        name: Name,
        found: Found,
        caller: Caller,
    },
    Put {
        record: Verified,
        caller: Caller,
    },
    /// Whoever wanted it has gone away.
    Cancel(u64),
}

type Outcome = Result<Tally, RouteError>;

/// Where an outcome goes, and where the number of the operation goes as soon as it has one.
#[derive(Debug)]
struct Caller {
    number: oneshot::Sender<u64>,
    outcome: oneshot::Sender<Outcome>,
}

#[derive(Debug)]
struct Query {
    op: u64,
    /// `None` when nobody waits any more: only the end of the query is awaited.
    outcome: Option<oneshot::Sender<Outcome>>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Get {
        found: Found,
        records: usize,
    },
    /// The peers nearest to the record are looked for.
    Closest {
        record: Record,
    },
    Put,
}

/// Cancels an operation when whoever waits for it goes away.
struct Guard {
    tasks: UnboundedSender<Task>,
    number: oneshot::Receiver<u64>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.number.close();
        if let Ok(Some(number)) = self.number.try_recv() {
            // A bridge that is gone has nothing to cancel.
            let _ = self.tasks.unbounded_send(Task(Wanted::Cancel(number)));
        }
    }
}

impl KadRouter {
    fn run(&self, wanted: impl FnOnce(Caller) -> Wanted) -> BoxFuture<Outcome> {
        let (number, receiver) = oneshot::channel();
        let guard = Guard { tasks: self.tasks.clone(), number: receiver };
        let (outcome, receiver) = oneshot::channel();
        // A bridge that is gone drops the task, and with it the sender of the outcome.
        let _ = self.tasks.unbounded_send(Task(wanted(Caller { number, outcome })));
        Box::pin(async move {
            let _guard = guard;
            receiver.await.unwrap_or_else(|_| Err(RouteError::Unreachable("the swarm is gone".into())))
        })
    }
}

impl Router for KadRouter {
    fn get(&self, name: Name, found: Found) -> BoxFuture<Outcome> {
        self.run(|caller| Wanted::Get { name, found, caller })
    }

    fn put(&self, record: Verified) -> BoxFuture<Outcome> {
        self.run(|caller| Wanted::Put { record, caller })
    }
}

impl Bridge {
    /// What the node wants next. It may be dropped and called again at any time; it waits for ever when there is no
    /// node.
    pub async fn next(&mut self) -> Task {
        match self.tasks.next().await {
            Some(task) => task,
            None => std::future::pending().await,
        }
    }

    /// How many operations are under way.
    pub fn len(&self) -> usize {
        self.queries.len()
    }

    /// Whether no operation is under way.
    pub fn is_empty(&self) -> bool {
        self.queries.is_empty()
    }

    /// Begins what the node wants.
    pub fn begin<S: RecordStore + Send + 'static>(&mut self, kad: &mut kad::Behaviour<S>, Task(wanted): Task) {
        match wanted {
            Wanted::Get { name, found, caller } => {
                self.start(caller, Kind::Get { found, records: 0 }, || {
                    kad.get_record(name.routing_key().to_vec().into())
                });
            }
            // Not `put_record`: that keeps a copy here and sends it again for as long as the program runs, goes on when it
            // is ended early, and does not tell how many of the nearest peers took the record.
            Wanted::Put { record, caller } => {
                let key = record.name().routing_key().to_vec();
                let record = Record::new(key.clone(), record.as_bytes().to_vec());
                self.start(caller, Kind::Closest { record }, || kad.get_closest_peers(key));
            }
            Wanted::Cancel(op) => {
                let Some(id) = self.by_op.remove(&op) else { return };
                if let Some(query) = self.queries.get_mut(&id) {
                    query.outcome = None;
                }
                finish(kad, &id);
            }
        }
    }

    /// Takes an event of kad; gives it back if it is not about anything that this bridge began.
    pub fn on_event<S: RecordStore + Send + 'static>(
        &mut self,
        kad: &mut kad::Behaviour<S>,
        event: Event,
    ) -> Option<Event> {
        let Event::OutboundQueryProgressed { id, result, stats, step } = event else { return Some(event) };
        let Some(query) = self.queries.get_mut(&id) else {
            return Some(Event::OutboundQueryProgressed { id, result, stats, step });
        };
        if let (Kind::Get { found, records }, QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(record)))) =
            (&mut query.kind, &result)
        {
            found.record(record.record.value.clone());
            *records += 1;
            if *records == self.config.get_records {
                finish(kad, &id);
            }
        }
        if !step.last {
            return None;
        }
        let Query { op, outcome, kind } = self.queries.remove(&id)?;
        self.by_op.remove(&op);
        // Nobody waits: nothing more is to be begun, and nothing to be told.
        let outcome = outcome?;
        match (kind, result) {
            (Kind::Get { records, .. }, QueryResult::GetRecord(result)) => {
                let timed_out = matches!(result, Err(GetRecordError::Timeout { .. }));
                tell(
                    outcome,
                    match answered(&stats) {
                        _ if timed_out && records == 0 => Err(RouteError::Timeout),
                        // The record was in kad's own store, and there was nobody else to ask.
                        Err(_) if records > 0 => Ok(Tally::ONE),
                        outcome => outcome,
                    },
                );
            }
            (Kind::Closest { record }, QueryResult::GetClosestPeers(result)) => {
                let peers = match result {
                    Ok(found) => found.peers,
                    Err(GetClosestPeersError::Timeout { peers, .. }) => peers,
                };
                if peers.is_empty() {
                    tell(outcome, answered(&stats).and(Err(RouteError::Unreachable("no peer answered".into()))));
                    return None;
                }
                let peers: Vec<_> = peers.into_iter().map(|info| info.peer_id).collect();
                let id = kad.put_record_to(record, peers.into_iter(), self.config.put_quorum);
                self.by_op.insert(op, id);
                self.queries.insert(id, Query { op, outcome: Some(outcome), kind: Kind::Put });
            }
            (Kind::Put, QueryResult::PutRecord(result)) => {
                let acks = match result {
                    Ok(_) => stats.num_successes(),
                    Err(PutRecordError::QuorumFailed { success, .. } | PutRecordError::Timeout { success, .. }) => {
                        success.len() as u32
                    }
                };
                tell(outcome, Ok(Tally { acks, asked: stats.num_requests() }));
            }
            (kind, result) => tracing::warn!(?kind, ?result, "kad answers something else than it was asked"),
        }
        None
    }

    fn start(&mut self, caller: Caller, kind: Kind, query: impl FnOnce() -> QueryId) {
        let op = self.next;
        self.next += 1;
        // Whoever wanted it may have gone away before it began.
        if caller.number.send(op).is_err() {
            return;
        }
        let id = query();
        self.by_op.insert(op, id);
        self.queries.insert(id, Query { op, outcome: Some(caller.outcome), kind });
    }
}

/// Ends a query soon; its last event still comes.
fn finish<S: RecordStore + Send + 'static>(kad: &mut kad::Behaviour<S>, id: &QueryId) {
    if let Some(mut query) = kad.query_mut(id) {
        query.finish();
    }
}

fn answered(stats: &QueryStats) -> Outcome {
    match stats.num_requests() {
        0 => Err(RouteError::Unreachable("kad knows no peer to ask".into())),
        asked => Ok(Tally { acks: stats.num_successes(), asked }),
    }
}

fn tell(waiting: oneshot::Sender<Outcome>, outcome: Outcome) {
    // Whoever went away meanwhile has cancelled, and hears nothing.
    let _ = waiting.send(outcome);
}
