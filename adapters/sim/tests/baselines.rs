//! The clients of today: they work, and they are as slow as they are known to be.
#![allow(clippy::panic, clippy::unwrap_used, reason = "tests fail by panicking")]

use std::time::Duration;

use ipns_core::key::{KeyType, SecretKey, Signer};
use ipns_core::record::{Checks, RecordBuilder};
use ipns_core::{Timestamp, Verified};
use ipns_sim::{Classic, Finished, Links, NodeId, Servers, World};

const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(200);
/// Longer than corrections take, and than unused connections stay open.
const PAUSE: Duration = Duration::from_secs(100);
const BOTH: [Classic; 2] = [Classic::Go, Classic::Rust];

fn record(key: u8, sequence: u64) -> Verified {
    let key = SecretKey::generate(KeyType::Ed25519, [key; 32], 0).unwrap();
    let validity = "2030-01-01T00:00:00Z".parse().unwrap();
    let record = RecordBuilder::new("/ipfs/bafkqaaa".parse().unwrap(), sequence, validity).sign(&key).unwrap();
    Checks::at(Timestamp::UNIX_EPOCH).verify(record.as_bytes().clone(), &key.public_key().to_name()).unwrap()
}

fn publish(world: &mut World, node: NodeId, record: &Verified) -> Finished {
    let op = world.classic_publish(node, record.clone());
    world.until_finished(op, LONG).unwrap()
}

fn resolve(world: &mut World, node: NodeId, record: &Verified) -> Finished {
    let op = world.classic_resolve(node, *record.name());
    world.until_finished(op, LONG).unwrap()
}

fn world(seed: u64, servers: u32, dead: f64) -> World {
    World::with_servers(seed, Links::default(), &Servers::new(servers).dead(dead))
}

/// Publishes and resolves so many names, each from clients that are connected to nobody. Between the two, so many of
/// the 20 servers that are nearest have lost the record: they were replaced.
fn operations(
    seed: u64,
    classic: Classic,
    servers: u32,
    dead: f64,
    count: u8,
    lost: usize,
) -> (Vec<Finished>, Vec<Finished>) {
    let mut world = world(seed, servers, dead);
    let mut one = |n: u8| {
        let (record, from, to) = (record(n, 1), world.add_classic(classic), world.add_classic(classic));
        let published = publish(&mut world, from, &record);
        world.lose(&record, lost);
        world.run_for(PAUSE);
        let resolved = resolve(&mut world, to, &record);
        world.run_for(PAUSE);
        assert_eq!(resolved.record, Some(record));
        (published, resolved)
    };
    (0..count).map(&mut one).unzip()
}

fn share(finished: &[Finished], share: f64, of: impl Fn(&Finished) -> f64) -> f64 {
    let mut all: Vec<f64> = finished.iter().map(of).collect();
    all.sort_by(f64::total_cmp);
    all[((all.len() - 1) as f64 * share).round() as usize]
}

fn took(finished: &Finished) -> f64 {
    finished.took().as_secs_f64()
}

#[test]
fn what_one_publishes_the_other_resolves() {
    let mut world = world(1, 3500, 0.15);
    let clients = BOTH.map(|classic| (classic, world.add_classic(classic)));
    let mut key = 0;
    for (from, publisher) in clients {
        for (to, resolver) in clients {
            key += 1;
            let record = record(key, 1);
            let published = publish(&mut world, publisher, &record);
            assert!(published.publish && published.acks >= 11, "{from:?} {published:?}");
            world.run_for(PAUSE);
            let holders = world.holders(&record);
            assert!((13..=20).contains(&holders), "{from:?}: {holders}");
            let resolved = resolve(&mut world, resolver, &record);
            assert_eq!((resolved.node, resolved.record.as_ref()), (resolver, Some(&record)), "{from:?} {to:?}");
            assert!(resolved.first_value.unwrap() <= resolved.took() && resolved.values >= 10, "{resolved:?}");
        }
    }
}

#[test]
fn without_dead_peers_both_are_fast() {
    for classic in BOTH {
        let (published, resolved) = operations(2, classic, 3500, 0.0, 10, 0);
        assert!(share(&published, 0.5, took) < 3.0, "{classic:?}");
        assert!(share(&resolved, 0.5, took) < 3.0, "{classic:?}");
        assert!(share(&published, 0.0, |finished| f64::from(finished.acks)) >= 11.0, "{classic:?}");
    }
}

#[test]
fn a_newer_record_replaces_an_older_one_that_some_still_hold() {
    let mut world = world(3, 3500, 0.0);
    let [old, new] = [record(1, 1), record(1, 2)];
    let [from, to] = [world.add_classic(Classic::Go), world.add_classic(Classic::Go)];
    publish(&mut world, from, &old);
    // Half of the holders lose it, so that no quorum is reached, and the read corrects them.
    world.lose(&old, 10);
    let before = world.holders(&old);
    world.run_for(PAUSE);
    assert_eq!(resolve(&mut world, to, &old).record, Some(old.clone()));
    world.run_for(PAUSE);
    assert!(before <= 12 && world.holders(&old) >= 19, "{before} {}", world.holders(&old));
    publish(&mut world, from, &new);
    assert_eq!(resolve(&mut world, to, &new).record, Some(new.clone()));
    // Whoever has published a newer one does not go back; whoever has not is refused.
    let refused = publish(&mut world, from, &old);
    assert_eq!((refused.record, refused.asked), (None, 0));
    assert_eq!(publish(&mut world, to, &old).acks, 0);
    assert_eq!(resolve(&mut world, to, &new).record, Some(new));
}

#[test]
fn a_name_that_nobody_published_is_not_found() {
    let mut world = world(4, 3500, 0.0);
    for classic in BOTH {
        let node = world.add_classic(classic);
        let resolved = resolve(&mut world, node, &record(9, 1));
        assert_eq!((resolved.record, resolved.first_value, resolved.values), (None, None, 0));
        assert!(resolved.asked >= 20);
    }
}

#[test]
fn everything_ends_whatever_is_lost() {
    let mut world = world(5, 3500, 0.25);
    world.links().loss = 0.3;
    world.links().duplicates = 0.2;
    for (key, classic) in (0..).zip([BOTH; 3].concat()) {
        let node = world.add_classic(classic);
        let published = publish(&mut world, node, &record(key, 1));
        assert!(published.took() <= 130 * SECOND, "{classic:?} {published:?}");
        assert!(resolve(&mut world, node, &record(key, 1)).took() <= 60 * SECOND);
    }
}

#[test]
fn the_same_seed_is_the_same_world() {
    let run = |seed| {
        let mut world = world(seed, 3500, 0.25);
        for classic in BOTH {
            let [from, to] = [world.add_classic(classic), world.add_classic(classic)];
            publish(&mut world, from, &record(1, 1));
            resolve(&mut world, to, &record(1, 1));
        }
        (world.trace(), world.events(), world.asked())
    };
    assert_eq!(run(6), run(6));
    assert_ne!(run(6).0, run(7).0);
}

/// Users of the public DHT see publishes of 12 s, and resolves of 10 to 11 s.
#[test]
fn go_is_as_slow_as_it_is_known_to_be() {
    // After an hour three of the 20 nearest are others. Then no quorum is reached, and a read waits for the dead.
    let (published, resolved) = operations(8, Classic::Go, 10_000, 0.25, 20, 3);
    let medians = [share(&published, 0.5, took), share(&resolved, 0.5, took)];
    assert!(medians.iter().all(|median| (7.0..16.0).contains(median)), "{medians:?}");
    // A record that has just been published is read before the last dead peer is given up, or not long after.
    let (_, fresh) = operations(8, Classic::Go, 10_000, 0.25, 20, 0);
    let median = share(&fresh, 0.5, took);
    assert!((4.0..medians[1]).contains(&median), "{median}");
    // Of a publish, 20 questions are the puts.
    let asked = share(&published, 0.5, |finished| f64::from(finished.asked)) - 20.0;
    assert!((34.0..46.0).contains(&asked), "{asked}");
}
