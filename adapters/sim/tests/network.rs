//! Engines with DHT nodes in a simulated internet: the main job, and what may go wrong.
#![allow(clippy::panic, clippy::unwrap_used, reason = "tests fail by panicking")]

use std::time::Duration;

use ipns_core::Name;
use ipns_core::dht::{self, Mode, PeerInfo, Standing};
use ipns_core::engine::{Config, Enough, Event, Publication, Publish, PublishError, Resolution, Resolve, ResolveError};
use ipns_core::key::{KeyType, SecretKey, Signer};
use ipns_core::routing::{Inquiry, Router, RouterId};
use ipns_core::store::Table;
use ipns_sim::{Links, NodeId, World};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn info(n: u32) -> PeerInfo {
    PeerInfo { id: World::peer_id(NodeId(n)), addresses: vec![World::address(NodeId(n))] }
}

fn dht(n: u32, mode: Mode) -> dht::Config {
    dht::Config { seeds: vec![info(0)], mode, ..dht::Config::public(World::peer_id(NodeId(n))) }
}

fn config(n: u32, mode: Mode) -> Config {
    Config { routers: vec![Router::dht("dht", dht(n, mode))], ..Config::default() }
}

/// So many servers that have joined.
fn network(seed: u64, servers: u32) -> World {
    let mut world = World::new(seed, Links::default());
    for n in 0..servers {
        world.add(true, config(n, Mode::Auto));
        world.run_for(SECOND);
    }
    world.run_for(2 * MINUTE);
    world.take_told();
    world
}

fn key(seed: u8) -> SecretKey {
    SecretKey::generate(KeyType::Ed25519, [seed; 32], 0).unwrap()
}

fn name(seed: u8) -> Name {
    key(seed).public_key().to_name()
}

fn publish(world: &mut World, node: u32, seed: u8, value: &str) -> Result<Publication, PublishError> {
    world.give_key(NodeId(node), key(seed));
    let what = Publish::new(key(seed).public_key(), value.parse().unwrap());
    let op = world.call(NodeId(node), |engine, now| engine.publish(now, what));
    let ended = world.until(2 * MINUTE, |told| match &told.event {
        Event::Published { op: of, result } if *of == op && told.node == NodeId(node) => Some(result.clone()),
        _ => None,
    });
    ended.unwrap()
}

fn resolve(world: &mut World, node: u32, seed: u8, enough: Enough) -> Result<Resolution, ResolveError> {
    let how = Resolve { cache: false, enough, ..Resolve::default() };
    let op = world.call(NodeId(node), |engine, now| engine.resolve(now, name(seed), how));
    let ended = world.until(2 * MINUTE, |told| match &told.event {
        Event::Resolved { op: of, result } if *of == op && told.node == NodeId(node) => Some(result.clone()),
        _ => None,
    });
    ended.unwrap()
}

/// How many records a node keeps for others.
fn keeps(world: &mut World, node: u32) -> usize {
    world.call(NodeId(node), |engine, _| engine.health().next().unwrap().2.values)
}

#[test]
fn what_one_publishes_all_resolve() {
    let mut world = network(1, 25);
    for n in 0..25 {
        let standing = world.call(NodeId(n), |engine, _| engine.health().next().unwrap().1.standing);
        assert_eq!(standing, Standing::Joined, "{n}");
    }
    let published = publish(&mut world, 3, 1, "/ipfs/bafkqaaa/1").unwrap();
    let receipt = &published.receipts[0];
    assert_eq!(receipt.label, "dht");
    let tally = receipt.outcome.clone().unwrap();
    assert!(tally.acks >= 10 && tally.asked >= 20, "{tally:?}");
    let acked = receipt.peers.iter().filter(|peer| peer.outcome == dht::Outcome::Acked).count();
    assert_eq!(acked, tally.acks as usize, "a receipt names the peers that took it");
    for peer in receipt.peers.iter().filter(|peer| peer.outcome == dht::Outcome::Acked) {
        let node = (0..25).map(NodeId).find(|node| World::peer_id(*node) == peer.peer).unwrap();
        assert_eq!(keeps(&mut world, node.0), 1, "an acked peer holds the record");
    }
    for n in 0..25 {
        let found = resolve(&mut world, n, 1, Enough::Probable).unwrap();
        assert_eq!(found.value.as_str(), "/ipfs/bafkqaaa/1");
        assert!(found.freshness.miss_probability <= 1e-3, "{:?}", found.freshness);
    }
    // An update from elsewhere rises above what the network has, and reaches everybody.
    let updated = publish(&mut world, 17, 1, "/ipfs/bafkqaaa/2").unwrap();
    assert_eq!(updated.record.sequence(), 1);
    for dead in [2, 5, 8, 11, 14] {
        world.crash(NodeId(dead));
    }
    for n in (0..25).filter(|n| n % 3 != 2 || *n > 14) {
        let found = resolve(&mut world, n, 1, Enough::Answers(16)).unwrap();
        assert_eq!((found.value.as_str(), found.record.sequence()), ("/ipfs/bafkqaaa/2", 1), "{n}");
    }
}

#[test]
fn the_same_seed_is_the_same_world() {
    let run = |seed| {
        let mut world = network(seed, 12);
        world.links().loss = 0.05;
        publish(&mut world, 3, 1, "/ipfs/bafkqaaa/1").unwrap();
        world.crash(NodeId(5));
        let found = resolve(&mut world, 7, 1, Enough::Probable).unwrap();
        world.restart(NodeId(5));
        world.run_for(20 * MINUTE);
        (world.trace(), world.events(), found.freshness.answers)
    };
    assert_eq!(run(2), run(2));
    assert_ne!(run(2).0, run(3).0);
}

#[test]
fn a_newcomer_with_a_dead_bootstrap_peer_is_served_at_once() {
    let mut world = network(4, 25);
    publish(&mut world, 3, 1, "/ipfs/bafkqaaa/1").unwrap();
    world.run_for(SECOND);
    let n = 25;
    let dht = dht::Config { seeds: vec![info(5000), info(0)], ..dht(n, Mode::Client) };
    world.add(false, Config { routers: vec![Router::dht("dht", dht)], ..Config::default() });
    let found = resolve(&mut world, n, 1, Enough::Probable).unwrap();
    assert_eq!(found.value.as_str(), "/ipfs/bafkqaaa/1");
    assert!(found.elapsed < 3 * SECOND, "{:?}", found.elapsed);
    // A client publishes too, and nobody counts on it.
    let published = publish(&mut world, n, 2, "/ipfs/bafkqaaa/2").unwrap();
    assert!(published.receipts[0].outcome.clone().unwrap().acks >= 10);
    assert_eq!(keeps(&mut world, n), 0);
    assert_eq!(resolve(&mut world, 9, 2, Enough::Probable).unwrap().value.as_str(), "/ipfs/bafkqaaa/2");
    for server in 0..25 {
        let table = world.call(NodeId(server), |engine, _| engine.routing_table(RouterId(0)).collect::<Vec<_>>());
        assert!(table.iter().all(|entry| entry.peer.id != World::peer_id(NodeId(n))));
    }
}

#[test]
fn who_knows_nobody_says_so_at_once() {
    let mut world = World::new(5, Links::default());
    let alone = dht::Config { seeds: Vec::new(), ..dht(0, Mode::Auto) };
    world.add(true, Config { routers: vec![Router::dht("dht", alone)], ..Config::default() });
    let error = resolve(&mut world, 0, 1, Enough::Probable).unwrap_err();
    assert_eq!(error.code(), "unreachable");
    assert!(error.to_string().contains("no peer of this DHT is known"), "{error}");
    // Nobody was read, so nobody knows which sequence is free.
    assert_eq!(publish(&mut world, 0, 1, "/ipfs/bafkqaaa/1").unwrap_err().code(), "unread");
    assert!(world.now() < 5 * SECOND);
}

#[test]
fn records_and_providers_survive_the_restart_of_everybody() {
    let mut world = network(6, 22);
    publish(&mut world, 3, 1, "/ipfs/bafkqaaa/1").unwrap();
    let inquiry = Inquiry::Provide(vec![0x12, 2, 7, 7].into());
    world.call(NodeId(4), |engine, now| engine.inquire(now, None, &inquiry));
    world.until(MINUTE, |told| matches!(told.event, Event::Answered { .. }).then_some(())).unwrap();
    world.run_for(2 * MINUTE);
    let kept: Vec<usize> = (0..22).map(|n| keeps(&mut world, n)).collect();
    for n in 0..22 {
        assert_eq!(world.stored(NodeId(n), Table::Values), kept[n as usize]);
        assert!(world.stored(NodeId(n), Table::Peers) >= 15);
        world.crash(NodeId(n));
    }
    world.run_for(MINUTE);
    for n in 0..22 {
        world.restart(NodeId(n));
    }
    world.run_for(MINUTE);
    assert_eq!((0..22).map(|n| keeps(&mut world, n)).collect::<Vec<_>>(), kept);
    let found = resolve(&mut world, 20, 1, Enough::Probable).unwrap();
    assert_eq!(found.value.as_str(), "/ipfs/bafkqaaa/1");
    let inquiry = Inquiry::FindProviders { key: vec![0x12, 2, 7, 7].into(), want: 1 };
    world.call(NodeId(15), |engine, now| engine.inquire(now, None, &inquiry));
    let provider = world.until(MINUTE, |told| match &told.event {
        Event::Told { event: dht::Event::Provider { provider, .. }, .. } => Some(provider.clone()),
        _ => None,
    });
    assert_eq!(provider, Some(info(4)));
}

#[test]
fn several_dhts_are_written_and_read_together() {
    const OWN: &str = "/example/kad/1.0.0";
    let mut world = World::new(7, Links::default());
    let routers = |n: u32, public: bool, own: bool| {
        let config = dht::Config { seeds: vec![info(0)], ..dht::Config::custom(World::peer_id(NodeId(n)), OWN) };
        let public = public.then(|| Router::dht("public", dht(n, Mode::Auto)));
        let own = own.then(|| Router::dht("own", config));
        Config { routers: public.into_iter().chain(own).collect(), ..Config::default() }
    };
    // The first ten are in both, ten more in each alone.
    for n in 0..30 {
        world.add(true, routers(n, n < 20, !(10..20).contains(&n)));
        world.run_for(SECOND);
    }
    world.run_for(2 * MINUTE);
    let published = publish(&mut world, 3, 1, "/ipfs/bafkqaaa/1").unwrap();
    let labels: Vec<&str> = published.receipts.iter().map(|receipt| receipt.label.as_str()).collect();
    assert_eq!(labels, ["public", "own"]);
    assert!(published.receipts.iter().all(|receipt| receipt.is_ok()));
    // Somebody who is only in one of them updates the name there.
    let updated = publish(&mut world, 25, 1, "/ipfs/bafkqaaa/2").unwrap();
    assert_eq!((updated.record.sequence(), updated.receipts.len()), (1, 1));
    world.run_for(SECOND);
    assert_eq!(resolve(&mut world, 15, 1, Enough::Probable).unwrap().record.sequence(), 0);
    // Whoever reads both returns the newest, and brings it to the other.
    let found = resolve(&mut world, 5, 1, Enough::Probable).unwrap();
    assert_eq!((found.record.sequence(), found.sources.as_slice()), (1, &["own".to_owned()][..]));
    world.run_for(30 * SECOND);
    assert_eq!(resolve(&mut world, 15, 1, Enough::Probable).unwrap().record.sequence(), 1);
}

#[test]
fn inquiries_are_answered() {
    let mut world = network(8, 25);
    let mut ask = |node: u32, inquiry: Inquiry| {
        let op = world.call(NodeId(node), |engine, now| engine.inquire(now, None, &inquiry));
        let mut events = Vec::new();
        let answered = world.until(2 * MINUTE, |told| match &told.event {
            Event::Told { op: of, event, .. } if *of == op && told.node == NodeId(node) => {
                events.push(event.clone());
                None
            }
            Event::Answered { op: of, result } if *of == op && told.node == NodeId(node) => Some(*result),
            _ => None,
        });
        assert_eq!(answered, Some(Ok(())));
        events
    };
    let found = ask(2, Inquiry::FindPeer(World::peer_id(NodeId(19))));
    assert!(
        matches!(&found[..], [dht::Event::FindPeerDone { peer, reached: true, .. }] if *peer == info(19)),
        "{found:?}"
    );
    let closest = ask(2, Inquiry::Closest("anything".into()));
    assert!(matches!(&closest[..], [dht::Event::ClosestDone { closest, .. }] if closest.len() == 20), "{closest:?}");
    let pong = ask(2, Inquiry::Ping(PeerInfo { addresses: Vec::new(), ..info(7) }));
    assert!(matches!(&pong[..], [dht::Event::Pong { result: Ok(_), .. }]), "{pong:?}");
    let silence = ask(2, Inquiry::Ping(info(99)));
    assert!(matches!(&silence[..], [dht::Event::Pong { result: Err(dht::RpcError::DialFailed), .. }]), "{silence:?}");
}

#[test]
fn everything_ends_whatever_is_lost() {
    let mut world = network(9, 30);
    publish(&mut world, 3, 1, "/ipfs/bafkqaaa/1").unwrap();
    world.links().loss = 0.3;
    world.links().duplicates = 0.2;
    for dead in (0..30).step_by(4) {
        world.crash(NodeId(dead));
    }
    for n in (0..30).filter(|n| n % 4 != 0) {
        match resolve(&mut world, n, 1, Enough::Answers(16)) {
            Ok(found) => assert_eq!(found.value.as_str(), "/ipfs/bafkqaaa/1"),
            Err(error) => {
                assert!(matches!(error, ResolveError::Timeout { .. } | ResolveError::Unreachable { .. }), "{error}")
            }
        }
        let _ = publish(&mut world, n, n as u8 + 10, "/ipfs/bafkqaaa/2");
    }
    world.links().loss = 0.0;
    world.run_for(3 * MINUTE);
    for n in (0..30).filter(|n| n % 4 != 0) {
        let (load, sending, usage) =
            world.call(NodeId(n), |engine, _| (engine.load(), engine.sending(), engine.health().next().unwrap().2));
        assert_eq!((load, sending), (0, 0));
        assert!(usage.queries <= 1, "only upkeep runs: {usage:?}");
    }
}

#[test]
fn a_crash_at_any_moment_of_a_publish_uses_no_sequence_twice() {
    let mut world = network(10, 22);
    world.give_key(NodeId(5), key(1));
    let what = |n: u64| Publish::new(key(1).public_key(), format!("/ipfs/bafkqaaa/{n}").parse().unwrap());
    let mut seen: Vec<(u64, String)> = Vec::new();
    for round in 0..40_u64 {
        world.call(NodeId(5), |engine, now| engine.publish(now, what(round)));
        world.run_for(Duration::from_millis(round * 40));
        world.crash(NodeId(5));
        world.run_for(SECOND);
        world.restart(NodeId(5));
        world.run_for(10 * SECOND);
        for told in world.take_told() {
            if let Event::Published { result: Ok(published), .. } = told.event {
                seen.push((published.record.sequence(), published.record.value().unwrap().to_string()));
            }
        }
        if let Ok(found) = resolve(&mut world, 11, 1, Enough::Answers(16)) {
            seen.push((found.record.sequence(), found.value.to_string()));
        }
    }
    assert!(seen.len() > 40);
    for pair in seen.windows(2) {
        assert!(pair[0].0 < pair[1].0 || pair[0] == pair[1], "{pair:?}");
    }
}

#[test]
fn a_disk_that_fails_stops_publishing_and_not_serving() {
    let mut world = network(11, 22);
    publish(&mut world, 3, 1, "/ipfs/bafkqaaa/1").unwrap();
    let full = ipns_core::store::StoreError::Full { path: "disk".into() };
    for n in 0..22 {
        world.fail_disk(NodeId(n), Some(full.clone()));
    }
    assert_eq!(publish(&mut world, 4, 2, "/ipfs/bafkqaaa/2").unwrap_err().code(), "store_full");
    assert_eq!(resolve(&mut world, 9, 1, Enough::Probable).unwrap().value.as_str(), "/ipfs/bafkqaaa/1");
}
