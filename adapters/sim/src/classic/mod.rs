//! What runs today, to compare with: clients that walk as go-libp2p-kad-dht and rust-libp2p do.
//!
//! Each is a state machine without any I/O, as the engine is: it is told what happens and when, and says whom to ask.
//! Its routing table is that of a node that joined long ago, derived as those of passive servers are, with as many
//! stale entries. It stays as it is: real clients drop a dead entry and soon learn of another that dies.

mod go;
mod rust;

use std::time::Duration;

use bytes::Bytes;
use ipns_core::dht::{Key, PeerInfo, Request, Response, RpcError, RpcId, ValueRecord};
use ipns_core::record::{Checks, compare};
use ipns_core::{Name, Now, Verified};

use crate::world::NodeId;

/// The size of a bucket, and how many peers a record is put to.
const K: usize = 20;

/// Which of today's clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Classic {
    /// `go-classic`: go-libp2p-kad-dht as Kubo uses it.
    ///
    /// Walks with α = 10 until the β = 3 nearest peers have answered, then asks those of the 20 nearest that have not,
    /// and waits for all of them, dead ones included. A read ends early only with a 17th record. A publish walks with
    /// FIND_NODE, then puts to all 20 and waits for all. This is the publish of a name whose last record is on the
    /// publisher's disk: before the first one of a key, Kubo reads the name from the DHT, without a quorum and for up
    /// to 30 s, which is not included here.
    Go,
    /// `rust-classic`: rust-libp2p's kad with its defaults.
    ///
    /// Walks with α = 3 until the 20 nearest peers that are not known to be dead have answered. A read goes on to the
    /// end of its walk, for nothing in kad stops it or tells how many records are enough; its user takes the best. A
    /// publish walks with FIND_NODE, then puts to the 20 that answered, and succeeds with a majority of 11.
    Rust,
}

impl Classic {
    /// Its name in tables.
    pub fn label(self) -> &'static str {
        match self {
            Self::Go => "go-classic",
            Self::Rust => "rust-classic",
        }
    }

    pub(crate) fn client(self) -> Box<dyn Client> {
        match self {
            Self::Go => Box::new(go::Go::default()),
            Self::Rust => Box::new(rust::Rust::default()),
        }
    }
}

/// What a classic client did: a publish or a resolve that has ended.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The number that it was given when it began.
    pub op: u64,
    /// Which client.
    pub node: NodeId,
    /// The name.
    pub name: Name,
    /// Whether it was a publish.
    pub publish: bool,
    /// When it began, since the world did.
    pub begun: Duration,
    /// When it ended, since the world began.
    pub at: Duration,
    /// From its beginning to the first record that it read.
    pub first_value: Option<Duration>,
    /// How many records it read, each time it was told one.
    pub values: u32,
    /// How many peers had said that they took the record.
    pub acks: u32,
    /// What it published, if that was allowed, or the best that it read.
    pub record: Option<Verified>,
    /// How many questions it had asked, dials that failed included; corrections come after it.
    pub asked: u32,
}

impl Finished {
    /// From its beginning to its end.
    pub fn took(&self) -> Duration {
        self.at - self.begun
    }
}

/// A question that a client wants to be asked.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) id: RpcId,
    pub(crate) peer: PeerInfo,
    pub(crate) request: Request,
    /// How long it waits for a connection.
    pub(crate) dial: Duration,
    /// How long it waits for an answer from then on.
    pub(crate) timeout: Duration,
}

#[derive(Debug)]
pub(crate) enum Output {
    Ask(Ask),
    Finished(Finished),
}

/// The beginning of an operation.
pub(crate) struct Start {
    pub(crate) op: u64,
    pub(crate) node: NodeId,
    /// What the client's routing table has nearest to the name, the nearest first.
    pub(crate) known: Vec<PeerInfo>,
}

/// A classic client.
pub(crate) trait Client: Send + Sync {
    fn publish(&mut self, now: Now, start: Start, record: Verified);
    fn resolve(&mut self, now: Now, start: Start, name: Name);
    /// Says when the connection for a question will stand, or that it will not: what the client may know only then.
    fn dialled(&mut self, id: RpcId, stands: Option<Duration>);
    fn handle(&mut self, now: Now, id: RpcId, result: Result<Response, RpcError>);
    fn tick(&mut self, now: Now);
    fn next_timeout(&self) -> Option<Duration>;
    fn poll(&mut self) -> Option<Output>;
}

/// What an operation is about, and what has come of it.
#[derive(Debug)]
struct Job {
    op: u64,
    node: NodeId,
    name: Name,
    key: Bytes,
    target: Key,
    begun: Duration,
    /// What is published; `None` for a resolve.
    publishes: Option<Verified>,
    best: Option<Verified>,
    first_value: Option<Duration>,
    values: u32,
    acks: u32,
    asked: u32,
}

/// How a record compares with the best one so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rank {
    Better,
    Same,
    Worse,
}

impl Job {
    fn new(now: Now, start: &Start, name: Name, publishes: Option<Verified>) -> Self {
        let key = Bytes::from(name.routing_key());
        Self {
            op: start.op,
            node: start.node,
            name,
            target: Key::of(&key),
            key,
            begun: now.monotonic,
            publishes,
            best: None,
            first_value: None,
            values: 0,
            acks: 0,
            asked: 0,
        }
    }

    fn ask(&self) -> Request {
        let key = self.key.clone();
        if self.publishes.is_some() { Request::FindNode { key } } else { Request::GetValue { key } }
    }

    fn put(&self, record: &Verified) -> Request {
        let value = record.as_bytes().clone();
        Request::PutValue { record: ValueRecord { key: self.key.clone(), value, received: None } }
    }

    /// Takes a record that a peer sent; `None` when it is not valid.
    fn read(&mut self, now: Now, sent: &ValueRecord) -> Option<Rank> {
        if self.best.as_ref().is_some_and(|best| *best.as_bytes() == sent.value) {
            self.values += 1;
            return Some(Rank::Same);
        }
        let record = Checks::at(now.wall).verify(sent.value.clone(), &self.name).ok()?;
        Some(self.take(now, record))
    }

    fn take(&mut self, now: Now, record: Verified) -> Rank {
        self.values += 1;
        self.first_value.get_or_insert(now.monotonic - self.begun);
        match &self.best {
            Some(best) if record == *best => Rank::Same,
            Some(best) if compare(&record, best).is_lt() => Rank::Worse,
            _ => {
                self.best = Some(record);
                Rank::Better
            }
        }
    }

    fn end(self, now: Now) -> Finished {
        Finished {
            op: self.op,
            node: self.node,
            name: self.name,
            publish: self.publishes.is_some(),
            begun: self.begun,
            at: now.monotonic,
            first_value: self.first_value,
            values: self.values,
            acks: self.acks,
            record: self.publishes.or(self.best),
            asked: self.asked,
        }
    }
}

/// The peers nearer to the key that an answer names, and the record that it carries.
fn answered(response: Response) -> (Vec<PeerInfo>, Option<ValueRecord>) {
    match response {
        Response::FindNode { closer } => (closer, None),
        Response::GetValue { record, closer } => (closer, record),
        _ => (Vec::new(), None),
    }
}
