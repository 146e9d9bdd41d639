//! Watching names.

use super::script::{Act, Script};
use super::world::World;
use super::*;

#[test]
fn the_first_and_every_newer_one() {
    let (mut world, node) = World::one(Script::new().holding(name(1), bytes(1, 1)));
    let watch = world.watch(node, name(1));
    world.pass(seconds(1));
    assert_eq!(world.changes(node, watch), [1]);
    world.script("a").held.insert(name(1), bytes(1, 2));
    world.pass(seconds(290));
    assert_eq!(world.changes(node, watch), [1], "its TTL has not passed");
    world.pass(seconds(20));
    assert_eq!(world.changes(node, watch), [1, 2]);
    world.script("a").selects = false;
    world.script("a").held.insert(name(1), bytes(1, 1));
    world.pass(HOUR);
    assert_eq!(world.changes(node, watch), [1, 2], "nothing older");
    let gets = world.script("a").gets();
    assert!((10..=16).contains(&gets), "one each five minutes: {gets}");
}

#[test]
fn what_this_node_learns_is_told_at_once() {
    let (mut world, node) = World::one(Script::new());
    let watch = world.watch(node, name(1));
    world.pass(seconds(1));
    world.publish(node, publish(1, 1)).unwrap();
    assert_eq!(world.changes(node, watch), [0]);
    world.put(node, put(1, bytes(1, 5))).unwrap();
    assert_eq!(world.changes(node, watch), [0, 5]);
    world.script("a").held.insert(name(1), bytes(1, 6));
    world.resolve(node, name(1), uncached()).unwrap();
    assert_eq!(world.changes(node, watch), [0, 5, 6]);
}

#[test]
fn a_name_without_a_record_is_looked_for_less_and_less_often() {
    let (mut world, node) = World::one(Script::new());
    let watch = world.watch(node, name(1));
    world.pass(24 * HOUR);
    let at: Vec<u64> = world.script("a").seen.iter().map(|seen| seen.at.as_secs()).collect();
    let gaps: Vec<u64> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(gaps[..9], [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
    world.script("a").held.insert(name(1), bytes(1, 1));
    world.pass(HOUR);
    assert_eq!(world.changes(node, watch), [1]);
}

#[test]
fn a_short_ttl_does_not_make_a_storm_and_a_long_one_no_silence() {
    for (ttl, gets) in [(0, 700..=730), (100_000_000, 1..=3)] {
        let (mut world, node) = World::one(Script::new());
        world.publish(node, Publish { ttl: Some(seconds(ttl)), ..publish(1, 1) }).unwrap();
        let before = world.script("a").gets();
        world.watch(node, name(1));
        world.pass(HOUR + seconds(1));
        let asked = world.script("a").gets() - before;
        assert!(gets.contains(&asked), "{ttl}: {asked}");
    }
}

#[test]
fn a_watch_survives_routers_that_fail() {
    let (mut world, node) = World::one(Script::always(Act::Refuse));
    let watch = world.watch(node, name(1));
    world.pass(seconds(100));
    world.script("a").then = Act::Hang;
    world.pass(HOUR);
    world.script("a").then = Act::Serve;
    world.script("a").held.insert(name(1), bytes(1, 1));
    world.pass(2 * HOUR);
    assert_eq!(world.changes(node, watch), [1]);
}

#[test]
fn a_watch_ends_when_it_is_cancelled() {
    let (mut world, node) = World::one(Script::new().slow(seconds(1)));
    for (seed, wait) in [(1, 0), (2, 500), (3, 1500), (4, 20_000)] {
        let (watch, other) = (world.watch(node, name(seed)), world.watch(node, name(seed)));
        world.pass(millis(wait));
        world.cancel(node, watch);
        world.cancel(node, other);
        world.settle();
        world.publish(node, publish(seed, wait)).unwrap();
        assert_eq!(world.changes(node, watch), [0; 0]);
        world.settle();
        assert_eq!(world.nodes[node].engine.leftovers(), [""; 0]);
        assert_eq!(world.nodes[node].engine.load(), 0);
    }
}
