//! Resolving.

use core::time::Duration;

use crate::record::Verified;
use crate::routing::{RouteError, Router, RouterId};

use super::super::config::Config;
use super::super::event::{Event, ResolveError};
use super::script::{Act, Script};
use super::world::World;
use super::*;

fn corrections(world: &World, node: usize) -> Vec<(u16, bool)> {
    let corrected = |event: &Event| match event {
        Event::Corrected { router, ok, .. } => Some((router.0, *ok)),
        _ => None,
    };
    world.nodes[node].events.iter().filter_map(corrected).collect()
}

#[test]
fn what_one_publishes_another_resolves() {
    let mut world = World::new(2);
    world.server("hub", config(&[]));
    let (alice, bob) = (world.node(config(&["hub"])), world.node(config(&["hub"])));
    for number in 0..3 {
        let published = world.publish(alice, publish(1, number)).unwrap();
        let resolved = world.resolve(bob, name(1), uncached()).unwrap();
        assert_eq!((resolved.value, &resolved.record), (path(number), &published.record));
        assert_eq!((resolved.sources, resolved.path), (vec!["http://hub".to_owned()], vec![name(1)]));
        assert!(!resolved.cached && resolved.receipts[0].sequence == Some(number));
        assert_eq!((resolved.freshness.answers, resolved.freshness.holders), (1, 1));
    }
}

#[test]
fn an_answer_is_kept_for_its_ttl() {
    let mut world = World::new(2);
    world.host("a", Script::new().holding(name(1), bytes(1, 1)));
    let node = world.node(config(&["a"]));
    assert!(!world.resolve(node, name(1), Resolve::default()).unwrap().cached);
    world.script("a").held.insert(name(1), bytes(1, 2));
    world.pass(seconds(290));
    let kept = world.resolve(node, name(1), Resolve::default()).unwrap();
    assert_eq!((kept.value, kept.cached, kept.sources), (path(1), true, vec!["store".to_owned()]));
    assert_eq!((kept.elapsed, kept.freshness.answers, kept.freshness.miss_probability), (Duration::ZERO, 0, 1.0));
    assert_eq!(world.script("a").gets(), 1);
    world.pass(seconds(20));
    assert_eq!(world.resolve(node, name(1), Resolve::default()).unwrap().value, path(2));
    assert_eq!(world.script("a").gets(), 2);
}

#[test]
fn without_cache_the_routers_are_asked() {
    let (mut world, node) = World::one(Script::new().holding(name(1), bytes(1, 1)));
    world.resolve(node, name(1), Resolve::default()).unwrap();
    world.script("a").held.insert(name(1), bytes(1, 2));
    assert_eq!(world.resolve(node, name(1), uncached()).unwrap().value, path(2));
    assert_eq!(world.resolve(node, name(1), Resolve::default()).unwrap().value, path(2), "and the answer is kept");
}

#[test]
fn offline_nobody_is_asked() {
    let (mut world, node) = World::one(Script::new().holding(name(1), bytes(1, 1)));
    assert!(matches!(world.resolve(node, name(1), offline()), Err(ResolveError::NotFound { .. })));
    assert_eq!(world.script("a").gets(), 0);
    world.resolve(node, name(1), Resolve::default()).unwrap();
    world.pass(HOUR);
    assert_eq!(world.resolve(node, name(1), offline()).unwrap().value, path(1), "old, but valid");
    world.restart(node);
    world.pass(seconds(1));
    assert_eq!(world.resolve(node, name(1), offline()).unwrap().value, path(1), "from the disk");
    world.pass(48 * HOUR);
    assert!(matches!(world.resolve(node, name(1), offline()), Err(ResolveError::NotFound { .. })));
    assert_eq!(world.script("a").gets(), 1);
}

#[test]
fn first_serves_what_is_stale_and_refreshes_behind() {
    let (mut world, node) = World::one(Script::new().holding(name(1), bytes(1, 1)));
    world.resolve(node, name(1), Resolve::default()).unwrap();
    world.script("a").held.insert(name(1), bytes(1, 2));
    world.pass(HOUR);
    let stale = world.resolve(node, name(1), first()).unwrap();
    assert_eq!((stale.value, stale.cached, stale.elapsed), (path(1), true, Duration::ZERO));
    // Even while it is being refreshed for someone else.
    world.script("a").delay = seconds(2);
    let other = world.start_resolve(node, name(1), uncached());
    let again = world.resolve(node, name(1), first()).unwrap();
    assert_eq!((again.value, again.elapsed), (path(1), Duration::ZERO));
    world.resolved(node, other).unwrap();
    let fresh = world.resolve(node, name(1), first()).unwrap();
    assert_eq!((fresh.value, fresh.elapsed), (path(2), Duration::ZERO));
}

#[test]
fn first_takes_the_first_that_comes() {
    let mut world = World::new(2);
    world.host("a", Script::new().holding(name(1), bytes(1, 1)));
    world.host("b", Script::new().holding(name(1), bytes(1, 2)).slow(seconds(3)));
    let node = world.node(config(&["a", "b"]));
    let answer = world.resolve(node, name(1), first()).unwrap();
    assert_eq!(answer.value, path(1));
    assert!(answer.elapsed < millis(100));
    world.pass(seconds(5));
    assert_eq!(world.resolve(node, name(1), first()).unwrap().value, path(2));
}

#[test]
fn a_fresh_answer_does_not_wait_for_someone_elses_question() {
    let (mut world, node) = World::one(Script::new().holding(name(1), bytes(1, 1)));
    world.resolve(node, name(1), Resolve::default()).unwrap();
    world.script("a").delay = seconds(5);
    let slow = world.start_resolve(node, name(1), uncached());
    let cached = world.resolve(node, name(1), Resolve::default()).unwrap();
    assert_eq!((cached.cached, cached.elapsed), (true, Duration::ZERO));
    world.resolved(node, slow).unwrap();
}

#[test]
fn publishing_replaces_what_was_kept() {
    let mut world = World::new(2);
    world.host("a", Script::new());
    let node = world.node(config(&["a"]));
    world.publish(node, publish(1, 1)).unwrap();
    assert_eq!(world.resolve(node, name(1), Resolve::default()).unwrap().value, path(1));
    world.publish(node, publish(1, 2)).unwrap();
    let resolved = world.resolve(node, name(1), Resolve::default()).unwrap();
    assert_eq!((resolved.value, resolved.cached), (path(2), true));
}

#[test]
fn the_newest_of_three_wins_and_all_stories_are_told() {
    let mut world = World::new(2);
    world.host("dead", Script::always(Act::Refuse));
    let mut stale = Script::first([Act::Status(500), Act::Status(500)]).holding(name(1), bytes(1, 3));
    stale.date = Some(0);
    world.host("stale", stale);
    world.host("slow", Script::new().holding(name(1), bytes(1, 4)).slow(seconds(2)));
    let node = world.node(config(&["dead", "stale", "slow"]));
    let resolved = world.resolve(node, name(1), Resolve::default()).unwrap();
    assert_eq!(resolved.value, path(4));
    assert!(resolved.elapsed >= seconds(2) && resolved.elapsed < millis(2100), "{:?}", resolved.elapsed);
    let [dead, stale, slow] = &resolved.receipts[..] else { panic!() };
    assert!(matches!(&dead.outcome, Err(RouteError::Unreachable(why)) if why == "connection refused"));
    assert_eq!((dead.attempts, dead.sequence), (4, None));
    assert_eq!((stale.is_ok(), stale.attempts, stale.sequence), (true, 3, Some(3)));
    assert_eq!((slow.is_ok(), slow.attempts, slow.sequence), (true, 1, Some(4)));
    assert_eq!((resolved.freshness.answers, resolved.freshness.holders), (2, 1));
    assert!(resolved.freshness.miss_probability > 0.0 && resolved.freshness.miss_probability < 1.0);
    world.pass(seconds(1));
    assert_eq!(world.script("stale").sequence(&name(1)), Some(4), "corrected");
    assert_eq!(corrections(&world, node), [(1, true)]);
}

#[test]
fn correcting_can_be_turned_off() {
    let mut world = World::new(2);
    world.host("a", Script::new().holding(name(1), bytes(1, 1)));
    world.host("b", Script::new().holding(name(1), bytes(1, 2)));
    let mut read_only = config(&["a", "b"]);
    read_only.routers[0].write = false;
    for config in [Config { correct: false, ..config(&["a", "b"]) }, read_only] {
        let node = world.node(config);
        world.resolve(node, name(1), Resolve::default()).unwrap();
        world.settle();
        assert_eq!(corrections(&world, node), []);
        assert_eq!(world.script("a").sequence(&name(1)), Some(1));
    }
}

#[test]
fn a_failing_router_holds_nobody_up_who_has_an_answer() {
    let mut world = World::new(2);
    world.host("a", Script::new().holding(name(1), bytes(1, 1)));
    world.host("b", Script::always(Act::Later(429, 20)));
    let node = world.node(config(&["a", "b"]));
    let resolved = world.resolve(node, name(1), Resolve::default()).unwrap();
    assert_eq!(resolved.elapsed, millis(500), "the grace");
    assert!(matches!(&resolved.receipts[1].outcome, Err(RouteError::Pending(Some(why))) if why.contains("429")));
    // Whoever has none waits for it.
    world.script("b").plan.push_back(Act::Later(429, 20));
    world.script("b").then = Act::Give(bytes(2, 7));
    let resolved = world.resolve(node, name(2), Resolve::default()).unwrap();
    assert_eq!(resolved.value, path(7));
    assert!(resolved.elapsed > seconds(20), "Retry-After is honoured");
    assert_eq!(resolved.receipts[1].attempts, 2);
}

#[test]
fn a_suspect_router_does_not_hold_up_that_there_is_nothing() {
    let mut world = World::new(2);
    world.host("a", Script::new());
    world.host("b", Script::always(Act::Hang));
    let node = world.node(config(&["a", "b"]));
    for _ in 0..3 {
        let nothing = world.resolve(node, name(1), Resolve::default()).unwrap_err();
        assert!(matches!(nothing, ResolveError::NotFound { .. }));
    }
    let started = world.now;
    let Err(ResolveError::NotFound { receipts, .. }) = world.resolve(node, name(1), Resolve::default()) else {
        panic!()
    };
    assert_eq!(world.now - started, millis(500));
    assert!(matches!(receipts[1].outcome, Err(RouteError::Pending(_))));
}

#[test]
fn a_number_of_answers_can_be_asked_for() {
    let mut world = World::new(2);
    for (index, host) in ["a", "b", "c", "d"].into_iter().enumerate() {
        let script = Script::new().holding(name(1), bytes(1, 1 + index as u64));
        world.host(host, script.slow(seconds(index as u64)));
    }
    let mut routers = config(&["a", "b", "c", "d"]);
    routers.routers[1].weight = 2;
    for (wanted, elapsed) in [(1, 0), (2, 1), (3, 1), (4, 2), (5, 3), (99, 3)] {
        let node = world.node(routers.clone());
        let how = Resolve { enough: Enough::Answers(wanted), ..Resolve::default() };
        let resolved = world.resolve(node, name(1), how).unwrap();
        assert_eq!((resolved.elapsed.as_secs(), resolved.record.sequence()), (elapsed, elapsed + 1), "{wanted}");
    }
    // All there are, and one that fails for a while is there.
    world.script("d").then = Act::Serve;
    world.script("d").plan.push_back(Act::Later(503, 5));
    let node = world.node(routers);
    let how = Resolve { enough: Enough::Answers(99), ..Resolve::default() };
    assert_eq!(world.resolve(node, name(1), how).unwrap().record.sequence(), 4);
}

#[test]
fn a_stream_tells_every_improvement() {
    let mut world = World::new(2);
    for (host, sequence, delay) in [("a", 1, 0), ("b", 3, 1), ("c", 2, 2), ("d", 4, 3)] {
        world.host(host, Script::new().holding(name(1), bytes(1, sequence)).slow(seconds(delay)));
    }
    let node = world.node(config(&["a", "b", "c", "d"]));
    let how = Resolve { stream: true, ..Resolve::default() };
    let last = world.resolve(node, name(1), how.clone()).unwrap();
    assert!(last.is_final);
    let sequences: Vec<u64> = world.improvements(node).iter().map(|i| i.record.sequence()).collect();
    assert_eq!((sequences, last.record.sequence()), (vec![1, 3], 4));
    // What is kept comes first.
    world.script("a").held.insert(name(1), bytes(1, 5));
    world.script("a").delay = seconds(1);
    world.pass(HOUR);
    world.nodes[node].events.clear();
    let last = world.resolve(node, name(1), Resolve { cache: true, ..how }).unwrap();
    assert_eq!(last.record.sequence(), 5);
}

#[test]
fn answers_that_are_no_records_are_none() {
    let expired = record_until(1, 9, &path(9), DAWN - HOUR);
    let big = vec![7; 20_000];
    for (act, code) in [
        (Act::Html, "not_found"),
        (Act::Status(404), "not_found"),
        (Act::Status(204), "not_found"),
        (Act::Huge, "unreachable"),
        (Act::Give(big.into()), "unreachable"),
        (Act::Status(301), "unreachable"),
        (Act::Status(501), "unreachable"),
        (Act::Status(500), "unreachable"),
        (Act::Refuse, "unreachable"),
        (Act::Hang, "unreachable"),
        (Act::Unchanged, "unreachable"),
        (Act::Give(Bytes::from_static(b"no record")), "invalid_record"),
        (Act::Give(bytes(2, 1)), "invalid_record"),
        (Act::Give(expired.as_bytes().clone()), "invalid_record"),
    ] {
        let (mut world, node) = World::one(Script::always(act.clone()));
        let error = world.resolve(node, name(1), Resolve::default()).unwrap_err();
        assert_eq!(error.code(), code, "{act:?}");
        assert_eq!(error.receipts().len(), 1);
        assert_eq!(error.receipts()[0].is_ok(), code == "not_found", "{act:?}");
        assert!(!error.to_string().is_empty());
    }
}

#[test]
fn a_bad_answer_does_not_hide_a_good_one() {
    let mut world = World::new(2);
    world.host("a", Script::always(Act::Give(bytes(2, 99))));
    world.host("b", Script::always(Act::Huge));
    world.host("c", Script::new().holding(name(1), bytes(1, 1)).slow(seconds(1)));
    let node = world.node(config(&["a", "b", "c"]));
    let resolved = world.resolve(node, name(1), Resolve::default()).unwrap();
    assert_eq!(resolved.value, path(1));
    let codes: Vec<&str> =
        resolved.receipts.iter().map(|r| r.outcome.as_ref().map_or_else(RouteError::code, |_| "ok")).collect();
    assert_eq!(codes, ["invalid", "refused", "ok"]);
}

#[test]
fn a_router_that_never_ends_is_left() {
    let (mut world, node) = World::one(Script::always(Act::Hang));
    let how = Resolve { timeout: Some(seconds(7)), ..Resolve::default() };
    let Err(ResolveError::Timeout { receipts, .. }) = world.resolve(node, name(1), how) else { panic!() };
    assert_eq!(receipts[0].outcome, Err(RouteError::Pending(None)));
    assert_eq!(receipts[0].elapsed, seconds(7));
    world.settle();
    assert_eq!(world.nodes[node].engine.leftovers(), [""; 0]);
}

#[test]
fn at_the_time_out_the_best_so_far_is_the_answer() {
    let mut world = World::new(2);
    world.host("a", Script::new().holding(name(1), bytes(1, 1)));
    world.host("b", Script::always(Act::Hang));
    let node = world.node(config(&["a", "b"]));
    let how = Resolve { timeout: Some(seconds(3)), ..uncached() };
    let resolved = world.resolve(node, name(1), how).unwrap();
    assert_eq!((resolved.value, resolved.elapsed, resolved.is_final), (path(1), seconds(3), true));
}

#[test]
fn without_routers_only_what_is_here_resolves() {
    let mut world = World::new(2);
    let node = world.node(config(&[]));
    assert!(matches!(world.resolve(node, name(1), uncached()), Err(ResolveError::Unreachable { .. })));
    world.put(node, Put { allow_offline: true, ..put(1, bytes(1, 1)) }).unwrap();
    for how in [Resolve::default(), uncached(), first(), offline()] {
        assert_eq!(world.resolve(node, name(1), how).unwrap().value, path(1));
    }
}

#[test]
fn higher_tiers_are_asked_late() {
    let tiered = |hedge: Duration| {
        let mut config = config(&["near", "far"]);
        config.routers[1] = Router { tier: 2, hedge, ..router("far") };
        config
    };
    let mut world = World::new(2);
    world.host("near", Script::new().holding(name(1), bytes(1, 1)).slow(seconds(1)));
    world.host("far", Script::new().holding(name(1), bytes(1, 2)).holding(name(2), bytes(2, 2)));
    let node = world.node(tiered(seconds(3)));
    assert_eq!(world.resolve(node, name(1), Resolve::default()).unwrap().value, path(1));
    assert_eq!(world.script("far").gets(), 0, "the first tier had it");
    let resolved = world.resolve(node, name(2), Resolve::default()).unwrap();
    assert_eq!((resolved.value, resolved.elapsed.as_secs()), (path(2), 1), "the first tier had nothing");
    world.script("near").delay = seconds(5);
    let resolved = world.resolve(node, name(1), uncached()).unwrap();
    assert_eq!((resolved.value, resolved.elapsed.as_secs()), (path(2), 5), "compared when the first tier is slow");
    world.script("near").then = Act::Refuse;
    world.script("near").delay = Duration::ZERO;
    assert_eq!(world.resolve(node, name(1), uncached()).unwrap().sources, ["http://far"]);
}

#[test]
fn a_record_that_did_not_change_is_not_sent_again() {
    let mut world = World::new(2);
    world.server("hub", config(&[]));
    world.host("a", Script::new().holding(name(1), bytes(1, 1)));
    let node = world.node(config(&["a"]));
    for _ in 0..3 {
        let resolved = world.resolve(node, name(1), uncached()).unwrap();
        assert_eq!((resolved.value, resolved.cached, resolved.freshness.holders), (path(1), false, 1));
        assert_eq!(resolved.receipts[0].sequence, Some(1));
    }
    let statuses = |world: &mut World| world.script("a").seen.iter().map(|seen| seen.status).collect::<Vec<_>>();
    assert_eq!(statuses(&mut world), [200, 304, 304]);
    assert!(world.resolve(node, name(1), Resolve::default()).unwrap().cached, "a 304 makes it fresh");
    world.script("a").held.insert(name(1), bytes(1, 2));
    assert_eq!(world.resolve(node, name(1), uncached()).unwrap().value, path(2));
    assert_eq!(statuses(&mut world), [200, 304, 304, 200]);
}

#[test]
fn a_custom_router_streams_what_it_finds() {
    let mut world = World::new(2);
    let routers = vec![Router::custom("dht")];
    let node = world.node(Config { routers, ..Config::default() });
    let script = Script::new().holding(name(1), bytes(1, 1));
    world.nodes[node].routes.insert(RouterId(0), script);
    let resolved = world.resolve(node, name(1), Resolve::default()).unwrap();
    assert_eq!((resolved.value, resolved.sources), (path(1), vec!["dht".to_owned()]));
    // What comes after the end is not heard.
    let late = crate::routing::RouteUpdate::Record(bytes(1, 2));
    world.input(node, super::super::io::Input::Routed { id: crate::routing::RouteId(1), update: late });
    world.nodes[node].routes.insert(RouterId(0), Script::always(Act::Hang));
    let how = Resolve { timeout: Some(seconds(30)), ..uncached() };
    let started = world.now;
    assert_eq!(world.resolve(node, name(1), how).unwrap().value, path(1));
    assert_eq!(world.now - started, seconds(10), "its time-out");
}

#[test]
fn a_router_that_floods_is_bounded() {
    let mut world = World::new(2);
    let node = world.node(Config { routers: vec![Router::custom("dht")], ..Config::default() });
    world.nodes[node].routes.insert(RouterId(0), Script::always(Act::Hang));
    let op = world.start_resolve(node, name(1), Resolve::default());
    let flood: Vec<Verified> = (0..100).map(|sequence| record(1, sequence, &path(sequence))).collect();
    for record in &flood {
        let update = crate::routing::RouteUpdate::Record(record.as_bytes().clone());
        world.input(node, super::super::io::Input::Routed { id: crate::routing::RouteId(2), update });
    }
    assert_eq!(world.resolved(node, op).unwrap().record.sequence(), 63);
}

#[test]
fn a_resolve_can_be_cancelled() {
    let (mut world, node) = World::one(Script::new().holding(name(1), bytes(1, 1)).slow(seconds(1)));
    let op = world.start_resolve(node, name(1), Resolve::default());
    world.cancel(node, op);
    assert_eq!(world.resolved(node, op), Err(ResolveError::Cancelled));
    world.settle();
    assert_eq!(world.resolve(node, name(1), offline()).unwrap().value, path(1), "its answer was kept");
    assert_eq!(world.nodes[node].engine.leftovers(), [""; 0]);
}
