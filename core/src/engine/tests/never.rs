//! What must never be returned, and questions that share a lookup.

use core::time::Duration;

use super::super::config::Config;
use super::super::event::{Event, ResolveError};
use super::disk::Health;
use super::script::{Act, Script};
use super::world::World;
use super::*;

#[test]
fn nothing_expired_is_returned() {
    let eol = DAWN + seconds(100);
    let mortal = record_until(1, 1, &path(1), eol);
    let (mut world, node) = World::one(Script::always(Act::Give(mortal.as_bytes().clone())));
    world.resolve(node, name(1), Resolve::default()).unwrap();
    world.pass(seconds(200));
    for how in [Resolve::default(), first(), offline(), uncached()] {
        assert!(world.resolve(node, name(1), how).is_err());
    }
    // Nor when the server says that it is still the same.
    world.script("a").then = Act::Unchanged;
    assert!(world.resolve(node, name(1), uncached()).is_err());
}

#[test]
fn nothing_that_expired_while_others_were_awaited_is_returned() {
    let mut world = World::new(2);
    let mortal = record_until(1, 1, &path(1), DAWN + seconds(5));
    world.host("a", Script::new().holding(name(1), mortal.as_bytes().clone()));
    world.host("b", Script::new().slow(seconds(8)));
    let node = world.node(config(&["a", "b"]));
    assert!(matches!(world.resolve(node, name(1), Resolve::default()), Err(ResolveError::NotFound { .. })));
    // In the middle of a chain.
    let at = world.now;
    let link: Value = format!("/ipns/{}", name(3)).parse().unwrap();
    let mortal = record_until(2, 1, &link, DAWN + at + seconds(5));
    let mut quick = Script::new().holding(name(2), mortal.as_bytes().clone());
    quick.then = Act::Serve;
    world.host("a", quick);
    world.script("b").delay = Duration::ZERO;
    world.script("b").plan.extend([Act::Serve]);
    world.script("b").held.insert(name(2), mortal.as_bytes().clone());
    world.script("b").held.insert(name(3), bytes(3, 1));
    let op = world.start_resolve(node, name(2), Resolve::default());
    world.pass(millis(15));
    world.script("a").delay = seconds(8);
    world.script("b").delay = seconds(8);
    assert!(
        matches!(world.resolved(node, op), Err(ResolveError::NotFound { name: missing, .. }) if missing == name(2))
    );
}

#[test]
fn tolerance_is_for_clocks_that_differ() {
    let mortal = record_until(1, 1, &path(1), DAWN + seconds(100));
    let mut world = World::new(2);
    world.host("a", Script::always(Act::Give(mortal.as_bytes().clone())));
    let node = world.node(Config { tolerance: seconds(60), ..config(&["a"]) });
    world.pass(seconds(130));
    assert!(world.resolve(node, name(1), Resolve::default()).is_ok());
    world.pass(seconds(40));
    assert!(world.resolve(node, name(1), Resolve::default()).is_err());
}

#[test]
fn nothing_older_is_returned_not_even_after_a_restart() {
    let (mut world, node) = World::one(Script::new().holding(name(1), bytes(1, 5)));
    world.resolve(node, name(1), Resolve::default()).unwrap();
    world.script("a").selects = false;
    world.script("a").held.insert(name(1), bytes(1, 4));
    for round in 0..3 {
        let resolved = world.resolve(node, name(1), uncached()).unwrap();
        assert_eq!((resolved.record.sequence(), resolved.sources), (5, vec!["store".to_owned()]), "{round}");
        assert_eq!(resolved.receipts[0].sequence, Some(4));
        world.pass(seconds(1));
        assert_eq!(world.script("a").sequence(&name(1)), Some(5), "corrected");
        world.script("a").held.insert(name(1), bytes(1, 4));
        world.restart(node);
    }
    // Not even after the newer one has ended: that one was the last word.
    let last = record_until(2, 5, &path(5), DAWN + world.now + seconds(10));
    world.script("a").held.insert(name(2), last.as_bytes().clone());
    world.resolve(node, name(2), Resolve::default()).unwrap();
    world.script("a").held.insert(name(2), bytes(2, 4));
    world.pass(seconds(20));
    assert!(world.resolve(node, name(2), uncached()).is_err());
}

#[test]
fn nothing_older_is_returned_while_the_disk_cannot_be_read() {
    let (mut world, node) = World::one(Script::new().holding(name(1), bytes(1, 5)));
    world.resolve(node, name(1), Resolve::default()).unwrap();
    world.pass(seconds(1));
    world.restart(node);
    world.pass(seconds(1));
    world.script("a").held.insert(name(1), bytes(1, 4));
    world.nodes[node].disk.health = Health::Unreadable;
    assert!(matches!(world.resolve(node, name(1), uncached()), Err(ResolveError::NotFound { .. })));
    assert!(matches!(world.nodes[node].events.last(), Some(Event::Resolved { .. })));
    assert!(world.nodes[node].events.iter().any(|event| matches!(event, Event::StoreFailed { .. })));
    world.script("a").held.insert(name(1), bytes(1, 6));
    assert_eq!(world.resolve(node, name(1), uncached()).unwrap().value, path(6));
}

#[test]
fn an_update_is_seen_by_a_question_that_was_open_before() {
    let mut world = World::new(2);
    world.host("a", Script::new().holding(name(1), bytes(1, 1)));
    world.host("b", Script::new().slow(seconds(5)));
    let node = world.node(config(&["a", "b"]));
    let op = world.start_resolve(node, name(1), Resolve::default());
    world.pass(seconds(1));
    let link = record(2, 1, &Value::from_name(&name(1))).as_bytes().clone();
    world.script("a").held.insert(name(2), link);
    let chain = world.start_resolve(node, name(2), Resolve::default());
    world.pass(seconds(1));
    let put = world.ask(node, upload(1, bytes(1, 2)));
    assert_eq!(world.response(put).status(), 200);
    for op in [op, chain] {
        assert_eq!(world.resolved(node, op).unwrap().value, path(2));
    }
}

#[test]
fn an_update_is_seen_by_a_chain_that_has_passed_its_name() {
    let mut world = World::new(2);
    let far = Script::new().holding(name(1), bytes(1, 1)).holding(name(2), link(2, &format!("/ipns/{}", name(1))));
    world.host("a", far);
    let node = world.node(config(&["a"]));
    let op = world.start_resolve(node, name(2), Resolve::default());
    world.pass(millis(25));
    world.script("a").delay = seconds(5);
    let request = upload(2, record(2, 2, &path(9)).as_bytes().clone());
    world.ask(node, request);
    let resolved = world.resolved(node, op).unwrap();
    assert_eq!((resolved.value, resolved.path), (path(9), vec![name(2)]));
    assert!(resolved.elapsed < millis(100));
}

#[test]
fn a_new_question_is_not_answered_with_what_was_heard_before_it() {
    let mut world = World::new(2);
    world.host("a", Script::new().holding(name(1), bytes(1, 1)));
    world.host("b", Script::always(Act::Hang));
    let node = world.node(config(&["a", "b"]));
    let early = world.start_resolve(node, name(1), uncached());
    world.pass(seconds(3));
    world.script("a").held.insert(name(1), bytes(1, 2));
    let late = world.start_resolve(node, name(1), uncached());
    assert_eq!(world.resolved(node, late).unwrap().value, path(2));
    assert_eq!(world.resolved(node, early).unwrap().value, path(2), "the better for those who asked before");
}

#[test]
fn questions_do_not_starve_each_other() {
    let mut world = World::new(2);
    world.host("a", Script::new().holding(name(1), bytes(1, 1)).slow(millis(50)));
    let node = world.node(config(&["a"]));
    let mut ops = Vec::new();
    for _ in 0..100 {
        ops.push(world.start_resolve(node, name(1), uncached()));
        world.pass(millis(20));
    }
    for op in ops {
        assert!(world.resolved(node, op).unwrap().elapsed <= millis(150));
    }
    assert!(world.script("a").gets() <= 40, "they share what they can: {}", world.script("a").gets());
}

#[test]
fn questions_of_one_moment_are_one_question() {
    let (mut world, node) = World::one(Script::new().holding(name(1), bytes(1, 1)).slow(seconds(1)));
    let ops: Vec<_> = (0..10).map(|_| world.start_resolve(node, name(1), Resolve::default())).collect();
    for op in ops {
        world.resolved(node, op).unwrap();
    }
    assert_eq!(world.script("a").gets(), 1);
}
