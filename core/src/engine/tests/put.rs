//! Records that the application brings ready made.

use crate::routing::{RouteError, Tally};

use super::super::config::Config;
use super::super::event::{Event, PublishError};
use super::super::request::{Policy, Publish, Put};
use super::script::Act;
use super::world::World;
use super::*;

#[test]
fn a_put_stores_and_sends_what_it_is_given() {
    let (mut world, node) = World::two();
    let published = world.put(node, put(1, bytes(1, 5))).unwrap();
    assert_eq!((published.record.sequence(), published.receipts.len()), (5, 2));
    assert_eq!(world.resolve(node, name(1), offline()).unwrap().value, path(5));
    assert_eq!(world.nodes[node].engine.own().count(), 0, "it is not this node's");
    // The same again keeps it alive.
    world.put(node, put(1, bytes(1, 5))).unwrap();
    assert_eq!(world.script("a").puts(), [5, 5]);
    // Neither an older one nor another one of the same sequence.
    let twin = record(1, 5, &path(99)).as_bytes().clone();
    for (given, record) in [(4, bytes(1, 4)), (5, twin)] {
        assert_eq!(world.put(node, put(1, record)), Err(PublishError::SequenceTooLow { given, newest: 5 }));
    }
    assert_eq!(world.script("a").puts(), [5, 5]);
    world.put(node, put(1, bytes(1, 6))).unwrap();
}

#[test]
fn a_forced_put_is_sent_and_changes_nothing_here() {
    let (mut world, node) = World::two();
    world.script("a").selects = false;
    world.put(node, put(1, bytes(1, 5))).unwrap();
    let forced = Put { force: true, policy: Policy::AtLeast(2), ..put(1, bytes(1, 4)) };
    let Err(PublishError::PolicyNotMet { publication, .. }) = world.put(node, forced) else { panic!() };
    let outcomes: Vec<_> = publication.receipts.iter().map(|receipt| receipt.outcome.clone()).collect();
    assert_eq!(outcomes, [Ok(Tally::ONE), Err(RouteError::Conflict { current: Some(5) })]);
    assert_eq!(world.script("a").sequence(&name(1)), Some(4));
    assert_eq!(world.resolve(node, name(1), offline()).unwrap().value, path(5));
    world.restart(node);
    assert_eq!(world.resolve(node, name(1), offline()).unwrap().value, path(5));
}

#[test]
fn a_forced_put_changes_nothing_even_when_memory_is_short() {
    let (mut world, _) = World::two();
    let node = world.node(Config { cache_entries: 1, ..config(&["a", "b"]) });
    world.put(node, put(1, bytes(1, 5))).unwrap();
    let watch = world.watch(node, name(1));
    world.pass(seconds(1));
    world.nodes[node].disk.latency = seconds(2);
    let forced = Put { force: true, ..put(1, bytes(1, 4)) };
    let forced = world.start_put(node, forced);
    world.pass(millis(100));
    world.script("a").held.insert(name(2), bytes(2, 1));
    world.resolve(node, name(2), Resolve::default()).unwrap();
    let _ = world.published(node, forced);
    assert_eq!(world.resolve(node, name(1), offline()).unwrap().value, path(5));
    assert_eq!(world.changes(node, watch), [5]);
}

#[test]
fn a_put_is_verified_first() {
    let (mut world, node) = World::two();
    let expired = record_until(1, 5, &path(1), DAWN - HOUR);
    for (record, code) in [
        (bytes(2, 5), "signature_invalid"),
        (Bytes::from_static(b"nonsense"), "malformed"),
        (expired.as_bytes().clone(), "expired"),
    ] {
        assert_eq!(world.put(node, put(1, record)).unwrap_err().code(), code);
    }
    assert_eq!(world.script("a").seen.len(), 0);
}

#[test]
fn a_put_of_an_own_name_becomes_the_own_record() {
    let (mut world, node) = World::two();
    world.publish(node, publish(1, 1)).unwrap();
    world.put(node, put(1, bytes(1, 8))).unwrap();
    assert_eq!(world.nodes[node].engine.own().next().unwrap().1.record.sequence(), 8);
    assert_eq!(world.publish(node, publish(1, 1)).unwrap().record.sequence(), 9);
    assert!(!world.nodes[node].events.iter().any(|event| matches!(event, Event::Conflict { .. })));
}

#[test]
fn a_record_may_expire_while_it_stands_in_line() {
    let (mut world, node) = World::two();
    world.script("a").then = Act::Hang;
    world.script("b").then = Act::Hang;
    let first = world.start_publish(node, Publish { allow_offline: true, ..publish(1, 1) });
    let soon = record_until(1, 5, &path(1), DAWN + world.now + seconds(5));
    let second = world.start_put(node, put(1, soon.as_bytes().clone()));
    world.published(node, first).unwrap();
    assert_eq!(world.published(node, second).unwrap_err().code(), "expired");
}
