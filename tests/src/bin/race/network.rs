//! The network that all race in: servers, each at the end of its long way, some of them dead.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use ipns_core::Name;
use ipns_core::dht::{Key, PeerInfo};
use libp2p::PeerId;
use libp2p::identity::Keypair;
use tokio::time::sleep;

use crate::dice::Dice;
use crate::failure::Failure;
use crate::kad::{Kad, KadSwarm, multiaddr};
use crate::proxy::{Ahead, Proxy, Roads};
use crate::theirs::{Make, Theirs};

/// What the network is made of.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    /// Whose servers they are.
    pub(crate) peers: Make,
    /// Servers that live.
    pub(crate) nodes: usize,
    /// The share of all that are dead.
    pub(crate) dead: f64,
    /// The round trips to servers are log-normal.
    pub(crate) median: Duration,
    pub(crate) sigma: f64,
    pub(crate) seed: u64,
}

/// Longer than what clients keep idle: theirs are the defaults that count.
const SERVER_IDLE: Duration = Duration::from_secs(120);
/// Nodes that join at once: each holds a hundred connections or so meanwhile, of four sockets each.
const JOIN_AT_ONCE: usize = 8;
/// By how many earlier nodes a node joins.
const ENTRANCES: usize = 3;
/// How often it is looked whether something has come about that nothing tells of.
pub(crate) const TICK: Duration = Duration::from_millis(20);

/// The purposes of dice.
const LENGTHS: u64 = 1;
const IDENTITIES: u64 = 2;
const ENTRANCE: u64 = 3;
const DEATHS: u64 = 4;

/// A server.
struct Server {
    /// Who it is and by which address others know it.
    info: PeerInfo,
    runs: Runs,
}

/// Where a server runs.
enum Runs {
    Here(Kad),
    /// In the process of the others, by its number there.
    There(usize),
}

pub(crate) struct Network {
    /// The process of servers of another make than libp2p-kad.
    theirs: Option<Theirs>,
    living: Vec<(Server, Proxy)>,
    /// Those of the dead take connections still.
    dead: Vec<(PeerId, Proxy)>,
    pub(crate) roads: Arc<Roads>,
    /// Requests that servers were asked, so far. Only those that run here say so.
    asked: Arc<AtomicU64>,
}

/// What the routing tables of the servers hold, if these say so.
pub(crate) struct Tables {
    /// The entries of the median table.
    pub(crate) entries: usize,
    /// The share of all entries that are dead.
    pub(crate) dead: f64,
}

impl Network {
    /// Starts all servers, lets them find one another over short ways, and then lets some of them die.
    pub(crate) async fn start(plan: &Plan) -> Result<Self, Failure> {
        let all = (plan.nodes as f64 / (1.0 - plan.dead)).round() as usize;
        let (theirs, living, dead) = (None, Vec::new(), Vec::new());
        let mut network = Self { theirs, living, dead, roads: Arc::default(), asked: Arc::default() };
        match plan.peers {
            Make::Kad => network.start_here(plan, all).await?,
            _ => network.start_there(plan, all).await?,
        }
        network.die(all - plan.nodes, &mut Dice::new(plan.seed, DEATHS)).await?;
        Ok(network)
    }

    async fn start_here(&mut self, plan: &Plan, all: usize) -> Result<(), Failure> {
        let (mut lengths, mut identities) = (Dice::new(plan.seed, LENGTHS), Dice::new(plan.seed, IDENTITIES));
        for _ in 0..all {
            let mut swarm = KadSwarm::server(&Keypair::ed25519_from_bytes(identities.bytes())?, SERVER_IDLE)?;
            let length = lengths.log_normal(plan.median, plan.sigma);
            let proxy = Proxy::start(swarm.listen().await?, length, self.roads.clone()).await?;
            let kad = swarm.run(Some(proxy.address()), None, self.asked.clone());
            self.living.push((Server { info: kad.info.clone(), runs: Runs::Here(kad) }, proxy));
        }
        self.join(&mut Dice::new(plan.seed, ENTRANCE)).await
    }

    async fn start_there(&mut self, plan: &Plan, all: usize) -> Result<(), Failure> {
        let mut lengths = Dice::new(plan.seed, LENGTHS);
        let ahead = try_join_all((0..all).map(|_| Ahead::bind())).await?;
        let ports: Vec<u16> = ahead.iter().map(Ahead::port).collect();
        let mut ahead = ahead.into_iter();
        let (roads, living) = (&self.roads, &mut self.living);
        let theirs = Theirs::start(plan.peers, &ports, |listening| {
            let proxy = ahead.next().ok_or("more servers than there are ports")?;
            let length = lengths.log_normal(plan.median, plan.sigma);
            let proxy = proxy.start(listening.at, length, roads.clone());
            let info = PeerInfo { id: listening.peer, addresses: vec![multiaddr(proxy.address())] };
            living.push((Server { info, runs: Runs::There(living.len()) }, proxy));
            eprint!("\rlistening: {} of {all}", living.len());
            Ok(())
        })
        .await?;
        eprintln!();
        if self.living.len() != all {
            return Err(format!("{} of {all} servers have started", self.living.len()).into());
        }
        self.theirs = Some(theirs);
        Ok(())
    }

    async fn join(&self, dice: &mut Dice) -> Result<(), Failure> {
        let here: Vec<&Kad> = self.here().collect();
        for begin in (0..here.len()).step_by(JOIN_AT_ONCE) {
            let end = (begin + JOIN_AT_ONCE).min(here.len());
            let joining = (begin..end).filter(|&node| node > 0).map(|node| {
                let through = dice.some(ENTRANCES, node).into_iter().map(|earlier| self.info(earlier)).collect();
                here[node].bootstrap(through)
            });
            try_join_all(joining).await?;
            self.cut().await;
            eprint!("\rjoined: {end} of {}", here.len());
        }
        eprintln!();
        // The first ones joined a small network: all look once more.
        for (some, nodes) in here.chunks(JOIN_AT_ONCE).enumerate() {
            try_join_all(nodes.iter().map(|node| node.bootstrap(Vec::new()))).await?;
            self.cut().await;
            eprint!("\rjoined again: {} of {}", some * JOIN_AT_ONCE + nodes.len(), here.len());
        }
        eprintln!();
        Ok(())
    }

    /// The living servers that run in this process.
    fn here(&self) -> impl Iterator<Item = &Kad> {
        self.living.iter().filter_map(|(server, _)| match &server.runs {
            Runs::Here(kad) => Some(kad),
            Runs::There(_) => None,
        })
    }

    async fn die(&mut self, count: usize, dice: &mut Dice) -> Result<(), Failure> {
        let mut dying = dice.some(count, self.living.len());
        dying.sort_unstable();
        for node in dying.into_iter().rev() {
            let (server, proxy) = self.living.swap_remove(node);
            match (server.runs, &self.theirs) {
                (Runs::Here(kad), _) => kad.kill().await,
                (Runs::There(number), Some(theirs)) => theirs.kill(number).await?,
                (Runs::There(_), None) => {}
            }
            proxy.go_silent();
            self.dead.push((server.info.id, proxy));
        }
        // Servers of another make dial one another when they like.
        if self.theirs.is_none() {
            self.cut().await;
        }
        Ok(())
    }

    /// How many requests servers were asked so far, if they say so.
    pub(crate) fn asked(&self) -> Option<u64> {
        self.theirs.is_none().then(|| self.asked.load(Ordering::Relaxed))
    }

    fn info(&self, node: usize) -> PeerInfo {
        self.living[node].0.info.clone()
    }

    /// Makes the ways as long as they are.
    pub(crate) fn lengthen(&self) {
        self.roads.long.store(true, Ordering::Relaxed);
    }

    /// Closes all connections to living servers; returns when none is left. Those that come meanwhile are closed, too.
    pub(crate) async fn cut(&self) {
        while self.roads.open.load(Ordering::Relaxed) > 0 {
            for (_, proxy) in &self.living {
                proxy.cut();
            }
            sleep(TICK).await;
        }
    }

    /// Some living servers to join through.
    pub(crate) fn entrances(&self, count: usize, dice: &mut Dice) -> Vec<PeerInfo> {
        dice.some(count, self.living.len()).into_iter().map(|node| self.info(node)).collect()
    }

    /// How many living servers hold the record of a name, and how many of the `nearest` living ones to it do. Servers of
    /// another make say only that they hold one; names here have only one.
    pub(crate) async fn holders(&self, name: &Name, bytes: &[u8], nearest: usize) -> Result<(usize, usize), Failure> {
        let key = name.routing_key().to_vec();
        let target = Key::of(&key);
        let there = match &self.theirs {
            Some(theirs) => theirs.holds(name).await?,
            None => Vec::new(),
        };
        let (key, there) = (&key, &there);
        let mut held = try_join_all(self.living.iter().map(|(server, _)| async move {
            let holds = match &server.runs {
                Runs::Here(kad) => kad.holds(key.clone()).await?.as_deref() == Some(bytes),
                Runs::There(number) => there.get(*number) == Some(&true),
            };
            Ok::<_, Failure>((Key::of_peer(&server.info.id).distance(&target), holds))
        }))
        .await?;
        held.sort_by_key(|(distance, _)| *distance);
        let count = |held: &[(_, bool)]| held.iter().filter(|(_, holds)| *holds).count();
        Ok((count(&held), count(&held[..nearest.min(held.len())])))
    }

    /// What is in the routing tables of the living, of those that run here.
    pub(crate) async fn tables(&self) -> Result<Tables, Failure> {
        let tables = join_all(self.here().map(Kad::table)).await;
        let tables = tables.into_iter().collect::<Result<Vec<_>, _>>()?;
        let mut sizes: Vec<usize> = tables.iter().map(Vec::len).collect();
        sizes.sort_unstable();
        let all: usize = sizes.iter().sum();
        let is_dead = |peer: &&PeerId| self.dead.iter().any(|(dead, _)| dead == *peer);
        let dead = tables.iter().flatten().filter(is_dead).count();
        Ok(Tables { entries: sizes.get(sizes.len() / 2).copied().unwrap_or(0), dead: dead as f64 / all.max(1) as f64 })
    }
}
