//! A daemon among nodes that come and go: it neither grows nor forgets.
//!
//! `IPNS_SOAK_SECONDS=3600 cargo test -p ipns-cli --test soak` prints what it used, all along.
#![cfg(target_os = "linux")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipns_core::dht::{Config, Mode, PUBLIC_PROTOCOL, PeerInfo};
use ipns_core::engine::Publish;
use ipns_core::key::{KeyType, SecretKey, Signer};
use ipns_core::routing::Router;
use ipns_store::MemoryStore;
use ipns_tokio::{Handle, Node, NodeConfig, spawn_with_network};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use support::{Daemon, Home};

/// Beside the daemon.
const NODES: usize = 49;
/// How many of them are there at the least.
const LIVE: usize = 36;
/// How many of them publish, each a name of its own.
const PUBLISHERS: usize = 20;
/// How often something happens.
const PACE: Duration = Duration::from_secs(1);

/// A node in this process that is killed and started again, with its store.
struct Peer {
    key: Arc<SecretKey>,
    store: MemoryStore,
    running: Option<(Handle, PeerInfo)>,
    /// What it published last.
    sequence: Option<u64>,
}

/// What the daemon used at one moment.
#[derive(Clone, Copy)]
struct Usage {
    resident: u64,
    files: u64,
}

impl Peer {
    fn new(seed: usize) -> Self {
        let key = SecretKey::generate(KeyType::Ed25519, [u8::try_from(seed).unwrap(); 32], 0).unwrap();
        Self { key: Arc::new(key), store: MemoryStore::new(), running: None, sequence: None }
    }

    fn name(&self) -> ipns_core::Name {
        self.key.public_key().to_name()
    }

    async fn start(&mut self, entrances: Vec<PeerInfo>) {
        let peer = self.name().to_peer_id();
        let dht = Config { mode: Mode::Server, seeds: entrances, ..Config::custom(peer, PUBLIC_PROTOCOL) };
        let network = NodeConfig {
            listen: vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()],
            confirm_listen_addresses: true,
            autonat: false,
            ..NodeConfig::default()
        };
        let builder = Node::builder(self.store.clone()).router(Router::dht("dht", dht));
        let (node, listening) = spawn_with_network(builder, network, &self.key).await.unwrap();
        node.add_signer(self.key.clone());
        self.running = Some((node, PeerInfo { id: peer, addresses: listening.addresses }));
    }

    /// It goes without a good-bye.
    async fn kill(&mut self) {
        if let Some((node, _)) = self.running.take() {
            node.shutdown(Duration::ZERO).await;
        }
    }

    async fn publish(&mut self) {
        if let Some((node, _)) = &self.running {
            let next = self.sequence.map_or(0, |sequence| sequence + 1);
            let value = format!("/ipfs/bafkqaaa/{next}").parse().unwrap();
            let published = node.publish(Publish::new(self.key.public_key(), value)).await;
            let published = published.unwrap_or_else(|error| panic!("{}: {error}", self.name()));
            self.sequence = Some(published.record.sequence());
        }
    }
}

impl Usage {
    fn of(pid: u32) -> Self {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
        let status = read("status");
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let resident = resident.trim().trim_end_matches(" kB").parse().unwrap();
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
        Self { resident, files: u64::try_from(files).unwrap() }
    }
}

/// Also when the test passes: what it used is what it is run for.
fn say(line: std::fmt::Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").unwrap();
}

fn median(samples: &[Usage], of: impl Fn(&Usage) -> u64) -> u64 {
    let mut values: Vec<u64> = samples.iter().map(of).collect();
    values.sort_unstable();
    values[values.len() / 2]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_among_nodes_that_come_and_go() {
    let asked = std::env::var("IPNS_SOAK_SECONDS").ok().map(|seconds| seconds.parse().unwrap());
    let lasting = Duration::from_secs(asked.unwrap_or(if std::env::var_os("CI").is_some() { 120 } else { 20 }));
    let mut rng = ChaCha8Rng::seed_from_u64(50);
    let mut below = |bound: usize| usize::try_from(rng.next_u32()).unwrap() % bound;

    let mut peers: Vec<Peer> = (1..=NODES).map(Peer::new).collect();
    peers[0].start(Vec::new()).await;
    let first = peers[0].running.as_ref().unwrap().1.clone();
    let entrance = format!("{}/p2p/{}", first.addresses[0], first.id);
    for peer in &mut peers[1..] {
        peer.start(vec![first.clone()]).await;
    }
    let home = Home::dht(&[&entrance]);
    let mut daemon = Daemon::start(&home);
    daemon.joined();
    let ours = PeerInfo::from_multiaddr(&daemon.peers[0].parse().unwrap()).unwrap();
    home.key("site");

    let (begun, mut samples) = (Instant::now(), Vec::new());
    let (mut kills, mut publications, mut resolutions, mut behind) = (0, 0, 0, 0);
    let mut pace = tokio::time::interval(PACE);
    while begun.elapsed() < lasting {
        pace.tick().await;
        let live = peers.iter().filter(|peer| peer.running.is_some()).count();
        let chosen = below(NODES);
        match (peers[chosen].running.is_some(), live > LIVE) {
            (true, true) => {
                peers[chosen].kill().await;
                kills += 1;
            }
            (false, _) => peers[chosen].start(vec![ours.clone()]).await,
            (true, false) => {}
        }
        let publisher = below(PUBLISHERS);
        peers[publisher].publish().await;
        publications += 1;
        if below(10) == 0 {
            home.json(&["publish", &format!("/ipfs/bafkqaaa/{publications}")]);
        }
        let wanted = &peers[below(PUBLISHERS)];
        if let Some(sequence) = wanted.sequence {
            let found = home.json(&["resolve", &wanted.name().to_string(), "--no-cache"]);
            resolutions += 1;
            behind += usize::from(found["sequence"].as_u64().unwrap() < sequence);
        }
        samples.push(Usage::of(daemon.pid()));
        if samples.len() % 20 == 1 {
            let Usage { resident, files } = samples[samples.len() - 1];
            let seconds = begun.elapsed().as_secs();
            say(format_args!(
                "{seconds:5} s: {resident:6} kB resident, {files:3} files open, {live} of {NODES} nodes, {kills} killed"
            ));
        }
    }
    say(format_args!(
        "{kills} kills, {publications} publications, {resolutions} resolutions, {behind} of them not the newest"
    ));

    // What it used while it warmed up counts for nothing.
    let (earlier, later) = samples[samples.len() / 3..].split_at(samples.len() / 3);
    let (before, after) = (median(earlier, |usage| usage.resident), median(later, |usage| usage.resident));
    let (opened, open) = (median(earlier, |usage| usage.files), median(later, |usage| usage.files));
    say(format_args!("resident: median {before} kB in the second third, {after} kB in the last"));
    say(format_args!("open files: median {opened} in the second third, {open} in the last"));
    assert!(after <= before + before / 10 + 4096, "memory grows");
    assert!(open <= opened + opened / 4 + 16, "open files grow");

    let table = home.json(&["dht", "table"]);
    let health = &table[0]["health"];
    say(format_args!("health: {health}"));
    assert_eq!(health["standing"], "joined", "{health}");
    let live = peers.iter().filter(|peer| peer.running.is_some()).count();
    assert!(health["live"].as_u64() >= Some(20), "{health} among {live} live nodes");
    for peer in &peers[..PUBLISHERS] {
        if let Some(sequence) = peer.sequence {
            let found = home.json(&["resolve", &peer.name().to_string(), "--no-cache"]);
            assert_eq!(found["sequence"], sequence, "{found}");
        }
    }
    say(format_args!("every name resolves to what was published last"));
    drop(daemon);
    for peer in &mut peers {
        peer.kill().await;
    }
}
