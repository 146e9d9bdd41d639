//! Beginnings: what an engine reads when it starts, what it remembers after a crash, and what it thinks of the clock.

use crate::store::{StoreError, Table};
use crate::time::Timestamp;

use super::super::config::Config;
use super::super::event::{Event, PublishError, ResolveError};
use super::disk::Health;
use super::script::{Act, Script};
use super::world::World;
use super::*;

fn restored(world: &World, node: usize) -> Vec<usize> {
    let restored = |event: &Event| if let Event::Restored { own, .. } = event { Some(*own) } else { None };
    world.nodes[node].events.iter().filter_map(restored).collect()
}

fn failures(world: &World, node: usize) -> usize {
    world.nodes[node].events.iter().filter(|event| matches!(event, Event::StoreFailed { .. })).count()
}

#[test]
fn operations_wait_until_the_store_has_been_read() {
    let (mut world, node) = World::one(Script::new());
    world.publish(node, publish(1, 1)).unwrap();
    world.script("a").held.clear();
    world.nodes[node].disk.latency = seconds(1);
    world.restart(node);
    assert_eq!(world.nodes[node].engine.own().count(), 0);
    let second = world.start_publish(node, publish(1, 2));
    let resolve = world.start_resolve(node, name(1), offline());
    let watch = world.watch(node, name(1));
    let cancelled = world.start_publish(node, publish(1, 3));
    world.cancel(node, cancelled);
    assert_eq!(world.published(node, cancelled), Err(PublishError::Cancelled));
    let cancelled = world.start_resolve(node, name(1), Resolve::default());
    world.cancel(node, cancelled);
    assert_eq!(world.resolved(node, cancelled), Err(ResolveError::Cancelled));
    let cancelled = world.watch(node, name(1));
    world.cancel(node, cancelled);
    assert_eq!(world.nodes[node].engine.load(), 3);
    assert_eq!(world.resolved(node, resolve).unwrap().value, path(1));
    assert_eq!(world.published(node, second).unwrap().record.sequence(), 1);
    assert_eq!(restored(&world, node), [0, 1]);
    assert_eq!(world.changes(node, watch), [0, 1]);
    assert_eq!(world.changes(node, cancelled), [0; 0]);
}

#[test]
fn what_is_known_in_part_is_not_returned() {
    // The own record is in memory, and the store has a newer one that another device made.
    let (mut world, node) = World::one(Script::new());
    world.publish(node, publish(1, 1)).unwrap();
    let put = world.ask(node, upload(1, bytes(1, 5)));
    world.response(put);
    world.restart(node);
    world.pass(seconds(1));
    world.nodes[node].disk.latency = seconds(2);
    let watch = world.watch(node, name(1));
    let hasty = Resolve { timeout: Some(seconds(1)), ..first() };
    assert!(matches!(world.resolve(node, name(1), hasty), Err(ResolveError::Timeout { .. })));
    world.pass(seconds(5));
    assert_eq!(world.changes(node, watch), [5]);
}

#[test]
fn a_large_store_is_read_in_pages() {
    let mut world = World::new(5);
    let node = world.node(config(&[]));
    let own = record(1, 3, &path(1));
    for index in 0..700_u32 {
        let mut at = own.name().to_bytes();
        at.truncate(4);
        at.extend(index.to_be_bytes());
        world.nodes[node].disk.durable.insert((Table::Meta, at), Vec::new());
    }
    for seed in 1..=255 {
        world.put(node, Put { allow_offline: true, ..put(seed, bytes(seed, 2)) }).unwrap();
    }
    for seed in 1..8 {
        world.publish(node, Publish { allow_offline: true, ..publish(seed, 1) }).unwrap();
    }
    world.restart(node);
    world.pass(seconds(1));
    assert_eq!((restored(&world, node), failures(&world, node)), (vec![0, 7], 0));
    for seed in [1, 7, 8, 255] {
        let sequence = world.resolve(node, name(seed), offline()).unwrap().record.sequence();
        assert_eq!(sequence, if seed < 8 { 3 } else { 2 });
    }
}

#[test]
fn after_a_crash_at_any_moment_the_sequence_is_higher() {
    for moment in 0..120 {
        for kept in 0..3 {
            let (mut world, node) = World::one(Script::new());
            world.publish(node, publish(1, 1)).unwrap();
            world.start_publish(node, publish(1, 2));
            world.pass(millis(moment));
            let sent = world.script("a").puts().into_iter().max();
            world.restart_with(node, kept);
            // The server forgets everything: only the disk counts.
            world.script("a").held.clear();
            let next = world.publish(node, publish(1, 3)).unwrap().record.sequence();
            assert!(Some(next) > sent, "{next} after {sent:?}");
            assert!(next == 1 || next == 2);
        }
    }
}

#[test]
fn a_store_that_cannot_be_read_stops_publishing_but_not_resolving() {
    let (mut world, node) = World::one(Script::new().holding(name(1), bytes(1, 4)));
    world.resolve(node, name(1), Resolve::default()).unwrap();
    world.pass(seconds(1));
    world.nodes[node].disk.health = Health::Unreadable;
    world.restart(node);
    let early = world.start_publish(node, publish(1, 1));
    let resolve = world.start_resolve(node, name(1), Resolve::default());
    let watch = world.watch(node, name(1));
    let get = world.ask(node, download(1));
    assert!(matches!(world.published(node, early), Err(PublishError::Store(StoreError::Io { .. }))));
    assert_eq!(world.resolved(node, resolve).unwrap().value, path(4));
    assert_eq!(world.response(get).status(), 200);
    assert!(matches!(world.publish(node, publish(1, 1)), Err(PublishError::Store(_))));
    assert!(matches!(world.put(node, put(1, bytes(1, 9))), Err(PublishError::Store(_))));
    assert_eq!(failures(&world, node), 1);
    assert_eq!(restored(&world, node).len(), 1, "only the first time");

    // It may be readable again, but nobody knows what would be overwritten.
    world.nodes[node].disk.health = Health::Good;
    let before = world.nodes[node].disk.durable.clone();
    let put = world.ask(node, upload(1, bytes(1, 3)));
    let refused = world.response(put);
    assert_eq!(refused.status(), 500);
    assert!(String::from_utf8_lossy(refused.body()).contains("store_io"));
    world.script("a").held.insert(name(2), bytes(2, 1));
    world.resolve(node, name(2), Resolve::default()).unwrap();
    world.pass(seconds(400));
    assert_eq!(world.nodes[node].disk.durable, before);
    assert_eq!(world.changes(node, watch), [4]);
    world.cancel(node, watch);
    world.settle();
    assert_eq!(world.nodes[node].engine.leftovers(), [""; 0]);
}

#[test]
fn entries_that_cannot_be_read_stop_nobody_else() {
    let (mut world, node) = World::one(Script::new());
    world.publish(node, publish(1, 1)).unwrap();
    world.publish(node, publish(2, 1)).unwrap();
    let disk = &mut world.nodes[node].disk.durable;
    let at = |table, seed| (table, name(seed).to_bytes());
    disk.insert(at(Table::Own, 1), b"garbage".to_vec());
    disk.insert(at(Table::Records, 1), b"garbage".to_vec());
    disk.insert((Table::Own, b"no name".to_vec()), Vec::new());
    world.restart(node);
    world.pass(seconds(1));
    assert_eq!((failures(&world, node), restored(&world, node)), (3, vec![0, 1]));
    assert_eq!(world.publish(node, publish(2, 2)).unwrap().record.sequence(), 1);
    // Nobody knows which sequence comes next, but the network may.
    world.script("a").then = Act::Refuse;
    let blind = Publish { allow_offline: true, ..publish(1, 2) };
    assert!(matches!(world.publish(node, blind), Err(PublishError::Unread { .. })));
    world.script("a").then = Act::Serve;
    assert_eq!(world.publish(node, publish(1, 2)).unwrap().record.sequence(), 1);
    assert_eq!(world.publish(node, publish(1, 3)).unwrap().record.sequence(), 2);
}

#[test]
fn an_entry_that_is_forged_is_healed() {
    let (mut world, node) = World::one(Script::new().holding(name(1), bytes(1, 1)));
    // Well-formed, of a high sequence, and not signed by the name.
    let forged = super::super::stored::StoredRecord { record: bytes(2, 1000), received: 0 };
    let entry = prost::Message::encode_to_vec(&forged);
    world.nodes[node].disk.durable.insert((Table::Records, name(1).to_bytes()), entry.clone());
    world.restart(node);
    assert_eq!(world.resolve(node, name(1), Resolve::default()).unwrap().value, path(1));
    assert_eq!(failures(&world, node), 1);
    world.pass(seconds(1));
    assert_ne!(world.nodes[node].disk.durable[&(Table::Records, name(1).to_bytes())], entry);
    world.restart(node);
    assert_eq!(world.publish(node, publish(1, 2)).unwrap().record.sequence(), 2);
}

#[test]
fn what_could_not_be_kept_is_reported() {
    let (mut world, node) = World::one(Script::new().holding(name(1), bytes(1, 1)));
    world.nodes[node].disk.health = Health::Full;
    assert_eq!(world.resolve(node, name(1), Resolve::default()).unwrap().value, path(1));
    world.pass(seconds(1));
    assert_eq!(failures(&world, node), 1);
    // It is kept as soon as there is something to keep and the disk takes it.
    world.nodes[node].disk.health = Health::Good;
    world.script("a").held.insert(name(1), bytes(1, 2));
    world.resolve(node, name(1), uncached()).unwrap();
    world.pass(seconds(1));
    world.restart(node);
    world.script("a").then = Act::Refuse;
    assert_eq!(world.resolve(node, name(1), Resolve::default()).unwrap().value, path(2));
}

#[test]
fn a_failed_write_does_not_keep_others_from_the_disk() {
    let (mut world, node) = World::one(Script::new());
    world.nodes[node].disk.health = Health::Full;
    assert!(world.put(node, put(1, bytes(1, 9))).is_err());
    world.nodes[node].disk.health = Health::Good;
    world.put(node, put(1, bytes(1, 5))).unwrap();
    world.restart(node);
    assert_eq!(world.resolve(node, name(1), offline()).unwrap().value, path(5));
}

#[test]
fn what_is_on_its_way_to_the_disk_is_not_overwritten() {
    let (mut world, node) = World::one(Script::new().holding(name(1), bytes(1, 4)));
    world.nodes[node].disk.latency = seconds(2);
    let put = world.ask(node, upload(1, bytes(1, 5)));
    assert_eq!(world.resolve(node, name(1), uncached()).unwrap().value, path(4), "it is not durable yet");
    assert_eq!(world.response(put).status(), 200);
    world.pass(seconds(10));
    world.restart(node);
    assert_eq!(world.resolve(node, name(1), offline()).unwrap().value, path(5));
}

#[test]
fn how_the_last_one_was_sent_does_not_overwrite_the_next_one() {
    let mut world = World::new(5);
    world.host("a", Script::new());
    world.host("b", Script::new().slow(millis(500)));
    let mut config = config(&["a", "b"]);
    config.routers[1].read = false;
    let node = world.node(config);
    world.nodes[node].disk.latency = seconds(1);
    let first = world.start_publish(node, publish(1, 1));
    world.start_publish(node, publish(1, 2));
    world.published(node, first).unwrap();
    assert!(world.nodes[node].engine.own().all(|(_, own)| own.record.sequence() == 0), "the next one is on its way");
    world.pass(seconds(1));
    world.restart_with(node, 1);
    world.pass(seconds(10));
    assert_eq!(world.nodes[node].engine.own().next().unwrap().1.record.sequence(), 1);
}

#[test]
fn the_store_stays_bounded() {
    let mut world = World::new(5);
    let mut script = Script::new();
    for seed in 1..30 {
        let record = record_until(seed, 1, &path(1), DAWN + HOUR + seconds(seed.into()));
        script.held.insert(name(seed), record.as_bytes().clone());
    }
    world.host("a", script);
    let node = world.node(Config { max_records: 10, cache_entries: 2, ..config(&["a"]) });
    for seed in 1..30 {
        world.resolve(node, name(seed), Resolve::default()).unwrap();
    }
    world.pass(seconds(1));
    let held = world.nodes[node].disk.durable.len();
    assert_eq!(held, 10);
    world.restart(node);
    assert!(world.resolve(node, name(29), offline()).is_ok());
    assert!(world.resolve(node, name(1), offline()).is_err(), "the first to end made room");
}

#[test]
fn what_was_stale_is_stale_after_a_restart() {
    let (mut world, node) = World::one(Script::new().holding(name(1), bytes(1, 1)));
    world.resolve(node, name(1), Resolve::default()).unwrap();
    world.pass(seconds(200));
    world.restart(node);
    assert!(world.resolve(node, name(1), Resolve::default()).unwrap().cached, "its TTL has not passed");
    world.pass(seconds(200));
    world.restart(node);
    assert!(!world.resolve(node, name(1), Resolve::default()).unwrap().cached);
}

fn warnings(world: &World, node: usize) -> Vec<Timestamp> {
    let warning = |event: &Event| match event {
        Event::ClockImplausible { expected, .. } => Some(*expected),
        _ => None,
    };
    world.nodes[node].events.iter().filter_map(warning).collect()
}

#[test]
fn a_clock_before_this_program_is_implausible() {
    let (mut world, node) = World::one(Script::new());
    assert_eq!(warnings(&world, node), []);
    world.nodes[node].skew = -86_400 * 365;
    world.restart(node);
    world.pass(seconds(1));
    assert_eq!(warnings(&world, node).len(), 1);
}

#[test]
fn two_routers_that_agree_make_a_clock_implausible() {
    let mut world = World::new(5);
    for (host, ahead) in [("a", 600), ("b", 0), ("c", 610)] {
        world.host(host, Script { date: Some(ahead), ..Script::new() });
    }
    let (pair, all) = (world.node(config(&["a", "b"])), world.node(config(&["a", "b", "c"])));
    for node in [pair, all] {
        let _ = world.resolve(node, name(1), Resolve::default());
        let _ = world.resolve(node, name(1), Resolve::default());
    }
    assert_eq!(warnings(&world, pair), []);
    let [expected] = warnings(&world, all)[..] else { panic!() };
    assert!(expected >= DAWN + seconds(600) && expected <= DAWN + seconds(620));
}

#[test]
fn the_same_seed_and_inputs_give_the_same_outputs() {
    let run = |seed: u64| {
        let mut world = World::new(seed);
        world.host("a", Script::first([Act::Status(500), Act::Status(503), Act::Refuse]));
        world.host("b", Script::first([Act::Later(429, 2)]).slow(millis(300)));
        let hub = world.server("hub", config(&["a"]));
        let node = world.node(config(&["a", "b", "hub"]));
        for node in &mut world.nodes {
            node.trace = Some(Vec::new());
        }
        for number in 0..4 {
            let _ = world.publish(node, publish(1, number));
            let _ = world.resolve(hub, name(1), uncached());
            if number == 2 {
                world.restart(node);
            }
        }
        world.settle();
        [hub, node].map(|node| world.nodes[node].trace.take().unwrap())
    };
    assert_eq!(run(7), run(7));
    assert!(run(7).iter().all(|trace| trace.len() > 10));
}
