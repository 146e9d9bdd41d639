//! The network that all race in: servers of libp2p-kad, each at the end of its long way, some of them dead.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use ipns_core::dht::{Key, PeerInfo};
use libp2p::PeerId;
use libp2p::identity::Keypair;
use tokio::time::sleep;

use crate::dice::Dice;
use crate::failure::Failure;
use crate::kad::{Kad, KadSwarm};
use crate::proxy::{Proxy, Roads};

/// What the network is made of.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
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

pub(crate) struct Network {
    living: Vec<(Kad, Proxy)>,
    /// Those of the dead take connections still.
    dead: Vec<(PeerId, Proxy)>,
    pub(crate) roads: Arc<Roads>,
    /// Requests that servers were asked, so far.
    pub(crate) asked: Arc<AtomicU64>,
}

/// What the routing tables of the servers hold.
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
        let (mut lengths, mut identities) = (Dice::new(plan.seed, LENGTHS), Dice::new(plan.seed, IDENTITIES));
        let mut network = Self { living: Vec::new(), dead: Vec::new(), roads: Arc::default(), asked: Arc::default() };
        for _ in 0..all {
            let mut swarm = KadSwarm::server(&Keypair::ed25519_from_bytes(identities.bytes())?, SERVER_IDLE)?;
            let length = lengths.log_normal(plan.median, plan.sigma);
            let proxy = Proxy::start(swarm.listen().await?, length, network.roads.clone()).await?;
            network.living.push((swarm.run(Some(proxy.address()), None, network.asked.clone()), proxy));
        }
        network.join(&mut Dice::new(plan.seed, ENTRANCE)).await?;
        network.die(all - plan.nodes, &mut Dice::new(plan.seed, DEATHS)).await;
        Ok(network)
    }

    async fn join(&self, dice: &mut Dice) -> Result<(), Failure> {
        for begin in (0..self.living.len()).step_by(JOIN_AT_ONCE) {
            let end = (begin + JOIN_AT_ONCE).min(self.living.len());
            let joining = (begin..end).filter(|&node| node > 0).map(|node| {
                let through = dice.some(ENTRANCES, node).into_iter().map(|earlier| self.info(earlier)).collect();
                self.living[node].0.bootstrap(through)
            });
            try_join_all(joining).await?;
            self.cut().await;
            eprint!("\rjoined: {end} of {}", self.living.len());
        }
        eprintln!();
        // The first ones joined a small network: all look once more.
        for (some, nodes) in self.living.chunks(JOIN_AT_ONCE).enumerate() {
            try_join_all(nodes.iter().map(|(node, _)| node.bootstrap(Vec::new()))).await?;
            self.cut().await;
            eprint!("\rjoined again: {} of {}", some * JOIN_AT_ONCE + nodes.len(), self.living.len());
        }
        eprintln!();
        Ok(())
    }

    async fn die(&mut self, count: usize, dice: &mut Dice) {
        let mut dying = dice.some(count, self.living.len());
        dying.sort_unstable();
        for node in dying.into_iter().rev() {
            let (server, proxy) = self.living.swap_remove(node);
            let peer = server.info.id;
            server.kill().await;
            proxy.go_silent();
            self.dead.push((peer, proxy));
        }
        self.cut().await;
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

    /// How many living servers hold these bytes under a key, and how many of the `nearest` living ones to it do.
    pub(crate) async fn holders(&self, key: &[u8], bytes: &[u8], nearest: usize) -> Result<(usize, usize), Failure> {
        let target = Key::of(key);
        let mut held = try_join_all(self.living.iter().map(|(server, _)| async {
            let held = server.holds(key.to_vec()).await?;
            Ok::<_, Failure>((Key::of_peer(&server.info.id).distance(&target), held.as_deref() == Some(bytes)))
        }))
        .await?;
        held.sort_by_key(|(distance, _)| *distance);
        let count = |held: &[(_, bool)]| held.iter().filter(|(_, holds)| *holds).count();
        Ok((count(&held), count(&held[..nearest.min(held.len())])))
    }

    /// What is in the routing tables of the living.
    pub(crate) async fn tables(&self) -> Result<Tables, Failure> {
        let tables = join_all(self.living.iter().map(|(server, _)| server.table())).await;
        let tables = tables.into_iter().collect::<Result<Vec<_>, _>>()?;
        let mut sizes: Vec<usize> = tables.iter().map(Vec::len).collect();
        sizes.sort_unstable();
        let all: usize = sizes.iter().sum();
        let is_dead = |peer: &&PeerId| self.dead.iter().any(|(dead, _)| dead == *peer);
        let dead = tables.iter().flatten().filter(is_dead).count();
        Ok(Tables { entries: sizes.get(sizes.len() / 2).copied().unwrap_or(0), dead: dead as f64 / all.max(1) as f64 })
    }
}
