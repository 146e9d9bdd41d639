//! A machine with an engine on it: its identity, its disk, its clock, and what it is in the middle of.

use std::collections::BTreeMap;
use std::ops::{Index, IndexMut};
use std::time::Duration;

use ipns_core::dht::{InboundId, Multiaddr, PeerId, Request, RpcId};
use ipns_core::engine::{Config, Engine};
use ipns_core::key::{SecretKey, Signer};
use ipns_core::routing::{RouterId, Transport};
use ipns_core::{Name, Now, Timestamp};

use crate::classic::{Classic, Client};
use crate::disk::Disk;
use crate::faults::Liar;

/// When the world begins, on the wall clocks that are right.
const EPOCH: Timestamp = Timestamp::UNIX_EPOCH;
/// From [`EPOCH`] to then: 2027-01-15T08:00:00Z.
const BEGINNING: Duration = Duration::from_secs(1_800_000_000);

/// Who asked what a host has not answered yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker {
    pub(crate) node: u32,
    pub(crate) life: u32,
    pub(crate) router: RouterId,
    pub(crate) id: RpcId,
    /// Whether what it asked is about the key that is counted.
    pub(crate) counted: bool,
}

/// The hosts of a world, by the ids that follow those of its passive servers.
pub(crate) struct Hosts {
    first: u32,
    all: Vec<Host>,
}

impl Hosts {
    pub(crate) fn after(servers: u32) -> Self {
        Self { first: servers, all: Vec::new() }
    }

    pub(crate) fn add(&mut self, host: Host) {
        self.all.push(host);
    }

    pub(crate) fn count(&self) -> u32 {
        self.all.len() as u32
    }
}

impl Index<u32> for Hosts {
    type Output = Host;

    fn index(&self, n: u32) -> &Host {
        &self.all[(n - self.first) as usize]
    }
}

impl IndexMut<u32> for Hosts {
    fn index_mut(&mut self, n: u32) -> &mut Host {
        &mut self.all[(n - self.first) as usize]
    }
}

/// What a node has asked of others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Did {
    /// Records that it sent.
    pub puts: u64,
    /// Other questions.
    pub others: u64,
    /// Whom it dialled, and how often each.
    pub dials: BTreeMap<u32, u32>,
    /// How many of these dials were to send a record, or to ask servers for their own neighbours, as a sweep does.
    pub sweeping: u64,
}

pub(crate) struct Host {
    pub(crate) peer: PeerId,
    pub(crate) address: Multiaddr,
    /// Whether others can dial it.
    pub(crate) reachable: bool,
    pub(crate) config: Config,
    /// `None` while it is down.
    pub(crate) engine: Option<Engine>,
    /// What runs instead of an engine.
    pub(crate) classic: Option<Box<dyn Client>>,
    /// What it runs instead of an engine.
    pub(crate) kind: Option<Classic>,
    /// Counts its crashes: what was on its way to an earlier life arrives nowhere.
    pub(crate) life: u32,
    /// When this life began: monotonic clocks begin with their process.
    started: Duration,
    /// By how many nanoseconds its wall clock is ahead.
    pub(crate) skew: i128,
    pub(crate) disk: Disk,
    /// Whether it deceives those who ask it, and how.
    pub(crate) liar: Option<Liar>,
    /// How much longer it takes for every answer.
    pub(crate) slow: Duration,
    pub(crate) keys: BTreeMap<Name, SecretKey>,
    /// What it has asked since that was last looked at.
    pub(crate) did: Did,
    /// When it is to be given a tick.
    pub(crate) wake: Option<Duration>,
    pub(crate) inbound: BTreeMap<InboundId, (Asker, Request)>,
    /// The DHTs whose protocol it offers.
    pub(crate) serves: Vec<RouterId>,
}

impl Host {
    pub(crate) fn new(peer: PeerId, address: Multiaddr, reachable: bool, config: Config) -> Self {
        Self {
            peer,
            address,
            reachable,
            config,
            engine: None,
            classic: None,
            kind: None,
            life: 0,
            started: Duration::ZERO,
            skew: 0,
            disk: Disk::default(),
            liar: None,
            slow: Duration::ZERO,
            keys: BTreeMap::new(),
            did: Did::default(),
            wake: None,
            inbound: BTreeMap::new(),
            serves: Vec::new(),
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.engine.is_some() || self.classic.is_some()
    }

    /// Begins a life with what is on the disk.
    pub(crate) fn start(&mut self, now: Duration, seed: [u8; 32]) {
        self.started = now;
        self.engine = Some(Engine::new(self.config.clone(), seed, self.now(now)));
    }

    /// Ends a life: nothing is left but the disk.
    pub(crate) fn crash(&mut self) {
        (self.engine, self.classic) = (None, None);
        self.life += 1;
        self.wake = None;
        self.inbound.clear();
        self.serves.clear();
    }

    /// What a wall clock shows that is right.
    pub(crate) fn true_time(now: Duration) -> Timestamp {
        EPOCH + BEGINNING + now
    }

    /// What this host's clocks show.
    pub(crate) fn now(&self, now: Duration) -> Now {
        let wall = Self::true_time(now).as_unix_nanos() + self.skew;
        Now { monotonic: now.saturating_sub(self.started), wall: Timestamp::from_unix_nanos(wall) }
    }

    /// The world's time at which this host's monotonic clock shows `at`.
    pub(crate) fn world_time(&self, at: Duration) -> Duration {
        self.started + at
    }

    /// The protocol of one of its DHTs.
    pub(crate) fn protocol(&self, router: RouterId) -> Option<&str> {
        match &self.config.routers.get(usize::from(router.0))?.transport {
            Transport::Dht(config) => Some(&config.protocol),
            _ => None,
        }
    }

    /// The DHT of this protocol, if it is offered to others.
    pub(crate) fn offered(&self, protocol: &str) -> Option<RouterId> {
        self.serves.iter().copied().find(|router| self.protocol(*router) == Some(protocol))
    }

    pub(crate) fn sign(&self, name: &Name, message: &[u8]) -> Option<Vec<u8>> {
        self.keys.get(name)?.sign(message).ok()
    }
}
