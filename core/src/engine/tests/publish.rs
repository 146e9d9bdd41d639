//! Publishing and putting.

use core::time::Duration;

use crate::record::{BuildError, MAX_SEQUENCE, RecordError, Version};
use crate::routing::{Inquiry, RouteError};
use crate::store::StoreError;

use super::super::config::Config;
use super::super::event::{Event, InquireError, PublishError, ResolveError};
use super::super::request::{OnConflict, Policy, Publish};
use super::disk::Health;
use super::script::{Act, Script};
use super::world::{Host, Signing, World};
use super::*;

fn conflicts(world: &World, node: usize) -> Vec<(u64, u64)> {
    let conflict = |event: &Event| match event {
        Event::Conflict { ours, theirs, .. } => Some((*ours, *theirs)),
        _ => None,
    };
    world.nodes[node].events.iter().filter_map(conflict).collect()
}

#[test]
fn sequences_rise_from_zero() {
    let (mut world, node) = World::two();
    for sequence in 0..3 {
        let published = world.publish(node, publish(1, 10 + sequence)).unwrap();
        assert_eq!(published.record.sequence(), sequence);
        assert_eq!(published.record.value().unwrap(), path(10 + sequence));
        assert_eq!(published.receipts.len(), 2);
        assert!(published.receipts.iter().all(|receipt| receipt.is_ok() && receipt.attempts == 1));
        assert_eq!(published.rebased_over, None);
    }
    for host in ["a", "b"] {
        assert_eq!(world.script(host).sequence(&name(1)), Some(2));
        assert_eq!(world.script(host).puts(), [0, 1, 2]);
    }
    let (own, kept) = world.nodes[node].engine.own().next().unwrap();
    assert_eq!((own, kept.record.sequence(), kept.sent.acks), (name(1), 2, 2));
    assert!(kept.sent.at.is_some() && kept.sent.error.is_none());
}

#[test]
fn everything_the_owner_chose_is_in_the_record() {
    let (mut world, node) = World::two();
    let mut wanted = publish(1, 1);
    wanted.lifetime = Some(HOUR);
    wanted.ttl = Some(seconds(7));
    wanted.version = Version::V2Only;
    wanted.metadata.insert("_note".into(), Ipld::Bool(true));
    let record = world.publish(node, wanted.clone()).unwrap().record;
    assert_eq!(
        (record.ttl(), record.version(), record.metadata()),
        (Some(seconds(7)), Version::V2Only, wanted.metadata)
    );
    assert!(record.eol() >= DAWN + HOUR && record.eol() <= DAWN + HOUR + seconds(1));
}

#[test]
fn a_record_that_cannot_be_made_is_an_error() {
    let (mut world, node) = World::two();
    let endless = Publish { ttl: Some(Duration::MAX), ..publish(1, 1) };
    assert!(matches!(world.publish(node, endless), Err(PublishError::Build(BuildError::Ttl(_)))));
    let dead = Publish { lifetime: Some(Duration::ZERO), ..publish(1, 1) };
    assert!(matches!(world.publish(node, dead), Err(PublishError::Record(RecordError::Expired { .. }))));
    assert_eq!(world.script("a").puts(), [0; 0]);
}

#[test]
fn the_networks_newest_is_read_before_writing() {
    let (mut world, node) = World::two();
    world.script("b").held.insert(name(1), bytes(1, 41));
    let published = world.publish(node, publish(1, 1)).unwrap();
    assert_eq!(published.record.sequence(), 42);
    assert!(conflicts(&world, node).is_empty(), "nothing was published here before");
}

#[test]
fn an_explicit_sequence_must_rise() {
    let (mut world, node) = World::two();
    world.script("a").held.insert(name(1), bytes(1, 7));
    for given in [0, 7] {
        let low = Publish { sequence: Some(given), ..publish(1, 1) };
        assert_eq!(world.publish(node, low), Err(PublishError::SequenceTooLow { given, newest: 7 }));
    }
    let high = Publish { sequence: Some(100), ..publish(1, 1) };
    assert_eq!(world.publish(node, high).unwrap().record.sequence(), 100);
    let beyond = Publish { sequence: Some(MAX_SEQUENCE + 1), ..publish(1, 1) };
    assert!(matches!(world.publish(node, beyond), Err(PublishError::Build(BuildError::Sequence(_)))));
}

#[test]
fn the_highest_sequence_is_the_last() {
    let (mut world, node) = World::two();
    let last = Publish { sequence: Some(MAX_SEQUENCE), ..publish(1, 1) };
    assert_eq!(world.publish(node, last).unwrap().record.sequence(), MAX_SEQUENCE);
    assert_eq!(world.publish(node, publish(1, 2)), Err(PublishError::SequenceExhausted));
    world.script("a").held.insert(name(2), bytes(2, MAX_SEQUENCE));
    assert_eq!(world.publish(node, publish(2, 2)), Err(PublishError::SequenceExhausted));
}

#[test]
fn if_sequence_publishes_only_over_what_was_seen() {
    let (mut world, node) = World::two();
    let over = |seen| Publish { if_sequence: Some(seen), ..publish(1, 1) };
    let changed = |expected, found| PublishError::SequenceChanged { expected, found };
    assert_eq!(world.publish(node, over(0)), Err(changed(0, None)));
    world.publish(node, publish(1, 1)).unwrap();
    assert_eq!(world.publish(node, over(0)).unwrap().record.sequence(), 1);
    assert_eq!(world.publish(node, over(0)), Err(changed(0, Some(1))));
    world.script("a").held.insert(name(1), bytes(1, 9));
    assert_eq!(world.publish(node, over(1)), Err(changed(1, Some(9))), "the network counts too");
    assert_eq!(world.publish(node, over(9)).unwrap().record.sequence(), 10);
}

#[test]
fn a_foreign_record_is_a_conflict() {
    let (mut world, node) = World::two();
    world.publish(node, publish(1, 1)).unwrap();
    world.script("b").held.insert(name(1), bytes(1, 5));
    let refused = Publish { on_conflict: OnConflict::Fail, ..publish(1, 2) };
    assert_eq!(world.publish(node, refused), Err(PublishError::Conflict { ours: 0, theirs: 5 }));
    let published = world.publish(node, publish(1, 2)).unwrap();
    assert_eq!((published.record.sequence(), published.rebased_over), (6, Some(5)));
    assert_eq!(conflicts(&world, node), [(0, 5), (0, 5)]);
    assert_eq!(world.publish(node, publish(1, 3)).unwrap().rebased_over, None, "risen above");
}

#[test]
fn an_update_is_sent_to_whoever_has_answered_and_told_when_all_have() {
    let (mut world, node) = World::two();
    world.publish(node, publish(1, 1)).unwrap();
    world.script("b").delay = millis(300);
    let op = world.start_publish(node, publish(1, 2));
    world.pass(millis(100));
    assert_eq!((world.script("a").sequence(&name(1)), world.script("b").puts()), (Some(1), vec![0]));
    assert!(world.is_open(node, op), "there may be a newer one still");
    let published = world.published(node, op).unwrap();
    assert!(published.receipts.iter().all(|receipt| receipt.is_ok() && receipt.attempts == 1));
    assert_eq!((world.script("b").puts(), published.rebased_over), (vec![0, 1], None));
    assert_eq!(conflicts(&world, node), []);
    world.settle();
    assert_eq!(world.script("a").puts(), [0, 1], "and nothing is put right");
    // Who says which sequence it is to be over, or wants no conflict, has all of them read first.
    world.script("b").delay = millis(300);
    for (sequence, careful) in [
        (2, Publish { if_sequence: Some(1), ..publish(1, 3) }),
        (3, Publish { sequence: Some(3), ..publish(1, 4) }),
        (4, Publish { on_conflict: OnConflict::Fail, ..publish(1, 5) }),
    ] {
        let op = world.start_publish(node, careful);
        world.pass(millis(100));
        assert_eq!(world.script("a").sequence(&name(1)), Some(sequence - 1));
        assert_eq!(world.published(node, op).unwrap().record.sequence(), sequence);
    }
}

#[test]
fn an_update_rises_above_a_foreign_record_whenever_that_is_found() {
    let mut sent_ahead = 0;
    for late in (0..120).step_by(3) {
        let (mut world, node) = World::two();
        world.publish(node, publish(1, 1)).unwrap();
        // Signed after 1 ms, durable after 30: it is found while the first is made, stored or sent.
        world.nodes[node].disk.latency = millis(30);
        world.script("b").delay = millis(late);
        world.script("b").held.insert(name(1), bytes(1, 5));
        let published = world.publish(node, publish(1, 2)).unwrap();
        assert_eq!((published.record.sequence(), published.rebased_over), (6, Some(5)), "{late}");
        assert_eq!(published.record.value().unwrap(), path(2));
        assert!(published.receipts.iter().all(|receipt| receipt.is_ok()));
        assert_eq!(conflicts(&world, node), [(0, 5)]);
        world.settle();
        assert_eq!(world.script("b").puts(), [0, 6], "whoever holds a newer one is never sent an older one");
        assert_eq!((world.script("a").sequence(&name(1)), world.script("b").sequence(&name(1))), (Some(6), Some(6)));
        sent_ahead += usize::from(world.script("a").puts() == [0, 1, 6]);
        assert_eq!(world.nodes[node].engine.leftovers(), [""; 0]);
        assert_eq!(world.publish(node, publish(1, 3)).unwrap().record.sequence(), 7);
    }
    assert!((1..39).contains(&sent_ahead), "{sent_ahead}");
}

#[test]
fn the_first_record_of_a_new_key_is_sent_to_whoever_has_answered() {
    let (mut world, node) = World::two();
    world.script("b").delay = millis(300);
    let new = |seed, number| Publish { new_key: true, ..publish(seed, number) };
    let op = world.start_publish(node, new(1, 1));
    world.pass(millis(100));
    assert_eq!((world.script("a").sequence(&name(1)), world.script("b").puts()), (Some(0), vec![]));
    assert!(world.is_open(node, op), "somebody may have published with it all the same");
    let published = world.published(node, op).unwrap();
    assert_eq!((published.record.sequence(), published.rebased_over), (0, None));
    assert!(published.receipts.iter().all(|receipt| receipt.is_ok() && receipt.attempts == 1));
    world.settle();
    assert_eq!((world.script("a").puts(), world.script("b").puts()), (vec![0], vec![0]));
    assert_eq!(conflicts(&world, node), []);
    // It is new once.
    assert_eq!(world.publish(node, new(1, 2)).unwrap().record.sequence(), 1);

    // What is known of a key shows that it is not new.
    world.script("a").held.insert(name(2), bytes(2, 7));
    world.resolve(node, name(2), uncached()).unwrap();
    world.script("a").held.remove(&name(2));
    assert_eq!(world.publish(node, new(2, 1)).unwrap().record.sequence(), 8);
    assert_eq!(world.script("a").puts(), [0, 1, 8]);

    // Who wants no conflict has all of them read first.
    let op = world.start_publish(node, Publish { on_conflict: OnConflict::Fail, ..new(3, 1) });
    world.pass(millis(100));
    assert_eq!(world.script("a").sequence(&name(3)), None);
    assert_eq!(world.published(node, op).unwrap().record.sequence(), 0);
}

#[test]
fn a_key_that_is_not_as_new_as_was_said_rises_above_what_there_is() {
    let mut sent_ahead = 0;
    for late in (0..120).step_by(3) {
        for theirs in [0, 5] {
            let (mut world, node) = World::two();
            world.nodes[node].disk.latency = millis(30);
            world.script("b").delay = millis(late);
            world.script("b").held.insert(name(1), bytes(1, theirs));
            let published = world.publish(node, Publish { new_key: true, ..publish(1, 2) }).unwrap();
            let risen = (published.record.sequence(), published.rebased_over);
            assert_eq!(risen, (theirs + 1, Some(theirs)), "{late}");
            assert_eq!(published.record.value().unwrap(), path(2));
            assert_eq!(conflicts(&world, node), [(0, theirs)]);
            world.settle();
            assert_eq!(world.script("b").puts(), [theirs + 1]);
            assert_eq!(world.script("a").sequence(&name(1)), Some(theirs + 1));
            sent_ahead += usize::from(world.script("a").puts() == [0, theirs + 1]);
            assert_eq!(world.nodes[node].engine.leftovers(), [""; 0]);
            assert_eq!(world.publish(node, publish(1, 3)).unwrap().record.sequence(), theirs + 2);
        }
    }
    assert!((1..79).contains(&sent_ahead), "{sent_ahead}");
}

#[test]
fn an_update_ends_although_a_router_does_not_answer() {
    let (mut world, node) = World::two();
    world.publish(node, publish(1, 1)).unwrap();
    world.script("b").then = Act::Hang;
    let op = world.start_publish(node, publish(1, 2));
    let next = world.start_publish(node, publish(1, 3));
    world.pass(millis(200));
    assert_eq!((world.script("a").puts(), world.is_open(node, op)), (vec![0, 1], true));
    assert_eq!(world.published(node, op).unwrap().record.sequence(), 1);
    assert_eq!(world.published(node, next).unwrap().record.sequence(), 2);
}

#[test]
fn a_foreign_record_that_came_another_way_is_a_conflict_too() {
    let (mut world, node) = World::two();
    world.publish(node, publish(1, 1)).unwrap();
    // It is known from a resolve, and the routers that had it are gone.
    world.script("b").held.insert(name(1), bytes(1, 5));
    world.resolve(node, name(1), uncached()).unwrap();
    world.script("a").then = Act::Refuse;
    world.script("b").held.remove(&name(1));
    let refused = Publish { on_conflict: OnConflict::Fail, ..publish(1, 2) };
    assert_eq!(world.publish(node, refused), Err(PublishError::Conflict { ours: 0, theirs: 5 }));
}

#[test]
fn the_same_sequence_with_another_value_is_a_conflict() {
    let (mut world, node) = World::two();
    world.publish(node, publish(1, 1)).unwrap();
    // It ends earlier, so that ours is the one that is selected.
    let twin = record_until(1, 0, &path(99), DAWN + HOUR);
    world.script("a").held.insert(name(1), twin.as_bytes().clone());
    assert_eq!(world.publish(node, publish(1, 2)).unwrap().record.sequence(), 1);
    assert_eq!(conflicts(&world, node), [(0, 0)]);
}

#[test]
fn a_name_that_nobody_can_be_asked_about_is_not_published() {
    let (mut world, node) = World::two();
    world.script("a").then = Act::Refuse;
    world.script("b").then = Act::Status(503);
    let Err(PublishError::Unread { receipts }) = world.publish(node, publish(1, 1)) else { panic!() };
    assert_eq!(receipts.len(), 2);
    assert!(matches!(receipts[0].outcome, Err(RouteError::Unreachable(_))) && receipts[0].attempts == 4);
    assert!(matches!(receipts[1].outcome, Err(RouteError::Unavailable(_))) && receipts[1].attempts == 4);
    assert_eq!(world.nodes[node].engine.own().count(), 0);

    // Once it is known here, it may be published although nobody can be read; nobody takes it either.
    world.script("a").then = Act::Serve;
    world.publish(node, publish(1, 1)).unwrap();
    world.script("a").then = Act::Refuse;
    let Err(PublishError::PolicyNotMet { needed: 1, publication }) = world.publish(node, publish(1, 2)) else {
        panic!()
    };
    assert_eq!((publication.record.sequence(), publication.receipts.len()), (1, 2));
    let (_, own) = world.nodes[node].engine.own().next().unwrap();
    assert_eq!((own.record.sequence(), own.sent.acks), (1, 0), "stored, to be sent later");
    assert!(own.sent.error.is_some());

    // So may a key that is new.
    let new = Publish { new_key: true, ..publish(4, 1) };
    assert!(matches!(world.publish(node, new), Err(PublishError::PolicyNotMet { needed: 1, .. })));

    // Some servers say 500 of a name that they do not know.
    world.script("a").then = Act::Refuse;
    world.script("b").plan.extend([Act::Status(500), Act::Status(500), Act::Status(500), Act::Status(500), Act::Serve]);
    assert_eq!(world.publish(node, publish(2, 1)).unwrap().record.sequence(), 0);

    // One that forbids has said nothing of the name.
    world.script("b").then = Act::Status(403);
    assert!(matches!(world.publish(node, publish(3, 1)), Err(PublishError::Unread { .. })));
}

#[test]
fn publishing_offline_must_be_allowed() {
    let (mut world, node) = World::two();
    world.script("a").then = Act::Refuse;
    world.script("b").then = Act::Hang;
    let alone = Publish { allow_offline: true, ..publish(1, 1) };
    let published = world.publish(node, alone).unwrap();
    assert_eq!((published.record.sequence(), published.receipts.len()), (0, 2));
    assert!(published.receipts.iter().all(|receipt| !receipt.is_ok()));

    world.script("b").then = Act::Status(503);
    world.publish(node, Publish { allow_offline: true, ..publish(1, 1) }).unwrap();

    // Reached and refused is not offline.
    world.script("b").then = Act::Status(403);
    let refused = Publish { allow_offline: true, ..publish(1, 2) };
    assert!(matches!(world.publish(node, refused), Err(PublishError::PolicyNotMet { .. })));
}

#[test]
fn without_a_router_there_is_only_here() {
    let mut world = World::new(1);
    let node = world.node(config(&[]));
    assert_eq!(world.publish(node, publish(1, 1)), Err(PublishError::NoRouter));
    let alone = Publish { allow_offline: true, ..publish(1, 1) };
    assert_eq!(world.publish(node, alone).unwrap().record.sequence(), 0);
    assert_eq!(world.resolve(node, name(1), offline()).unwrap().value, path(1));
    assert_eq!(world.put(node, put(2, bytes(2, 3))), Err(PublishError::NoRouter));
}

#[test]
fn a_store_that_fails_publishes_nothing() {
    let (mut world, node) = World::two();
    world.publish(node, publish(1, 1)).unwrap();
    world.nodes[node].disk.health = Health::Full;
    let full = PublishError::Store(StoreError::Full { path: "disk".into() });
    assert_eq!(world.publish(node, publish(1, 2)), Err(full));
    assert_eq!(world.script("a").puts(), [0]);
    assert_eq!(world.resolve(node, name(1), offline()).unwrap().value, path(1), "what was not stored is not returned");
    assert_eq!(world.nodes[node].engine.own().next().unwrap().1.record.sequence(), 0);

    // The write may have reached the disk after all: its sequence is not used again.
    world.nodes[node].disk.health = Health::Good;
    let low = Publish { sequence: Some(1), ..publish(1, 3) };
    assert_eq!(world.publish(node, low), Err(PublishError::SequenceTooLow { given: 1, newest: 1 }));
    let over = Publish { if_sequence: Some(0), ..publish(1, 3) };
    assert_eq!(world.publish(node, over).unwrap().record.sequence(), 2, "but nobody saw it");
}

#[test]
fn nobody_is_served_what_is_not_durable() {
    let (mut world, node) = World::two();
    world.hosts.insert("me".into(), Host::Node(node));
    let other = world.node(config(&["me"]));
    world.publish(node, publish(1, 1)).unwrap();
    world.nodes[node].disk.latency = seconds(5);
    let op = world.start_publish(node, publish(1, 2));
    world.pass(seconds(1));
    assert_eq!(world.resolve(node, name(1), offline()).unwrap().value, path(1));
    assert_eq!(world.resolve(other, name(1), uncached()).unwrap().value, path(1));
    assert!(world.is_open(node, op));
    world.published(node, op).unwrap();
    assert_eq!(world.resolve(other, name(1), uncached()).unwrap().value, path(2));
}

#[test]
fn a_signer_may_fail() {
    let (mut world, node) = World::two();
    world.nodes[node].signing = Signing::Refuses;
    let Err(PublishError::Sign(error)) = world.publish(node, publish(1, 1)) else { panic!() };
    assert_eq!(error.reason, "locked");
    world.nodes[node].signing = Signing::Wrong;
    let bad = PublishError::BadSigner(RecordError::SignatureInvalid);
    assert_eq!(world.publish(node, publish(1, 1)), Err(bad));
    world.nodes[node].signing = Signing::Never;
    let before = world.now;
    assert_eq!(world.publish(node, publish(1, 1)), Err(PublishError::Timeout));
    assert_eq!(world.now - before, seconds(60));
    world.nodes[node].signing = Signing::Good;
    assert_eq!(world.publish(node, publish(1, 1)).unwrap().record.sequence(), 0);
}

#[test]
fn policies_count_who_took_it() {
    let mut world = World::new(1);
    for (host, act) in [("a", Act::Serve), ("b", Act::Serve), ("c", Act::Status(403))] {
        world.host(host, Script::always(act));
    }
    let node = world.node(config(&["a", "b", "c"]));
    for (number, (policy, needed, met)) in [
        (Policy::Any, 1, true),
        (Policy::AtLeast(2), 2, true),
        (Policy::AtLeast(3), 3, false),
        (Policy::All, 3, false),
        (Policy::AtLeast(9), 9, false),
        (Policy::AtLeast(0), 0, true),
    ]
    .into_iter()
    .enumerate()
    {
        let publication = match world.publish(node, Publish { policy, ..publish(1, number as u64) }) {
            Ok(publication) => {
                assert!(met, "{policy:?}");
                publication
            }
            Err(PublishError::PolicyNotMet { needed: wanted, publication }) => {
                assert!(!met && wanted == needed, "{policy:?}");
                *publication
            }
            Err(other) => panic!("{other:?}"),
        };
        let took: Vec<bool> = publication.receipts.iter().map(|receipt| receipt.is_ok()).collect();
        assert_eq!(took, [true, true, false], "every router is heard, whatever the policy");
        assert_eq!(publication.receipts[2].attempts, 1, "a 403 is not tried again");
    }
}

#[test]
fn a_failing_router_does_not_hold_up_a_publish_that_met_its_policy() {
    let (mut world, node) = World::two();
    world.publish(node, publish(1, 1)).unwrap();
    world.script("b").then = Act::Later(503, 30);
    let started = world.now;
    let published = world.publish(node, publish(1, 2)).unwrap();
    assert!(world.now - started < seconds(2), "{:?}", world.now - started);
    assert!(matches!(published.receipts[1].outcome, Err(RouteError::Pending(Some(_)))));
    // It goes on behind.
    world.script("b").then = Act::Serve;
    world.pass(seconds(40));
    assert_eq!(world.script("b").sequence(&name(1)), Some(1));

    // A new name may have a record where nobody answers yet, so that this is waited for, but not for long.
    world.script("b").then = Act::Later(503, 30);
    let started = world.now;
    world.publish(node, publish(2, 1)).unwrap();
    assert_eq!((world.now - started).as_secs(), 15);
}

#[test]
fn a_router_that_hangs_does_so_for_a_while_only() {
    let (mut world, node) = World::two();
    world.script("b").then = Act::Hang;
    let mut took = Vec::new();
    for number in 0..8 {
        let started = world.now;
        world.publish(node, publish(1, number)).unwrap();
        took.push((world.now - started).as_secs());
        world.pass(seconds(60));
    }
    assert!(took[0] <= 25, "the first attempts at reading and at sending: {took:?}");
    assert!(took[4..].iter().all(|seconds| *seconds <= 1), "then nobody waits for it any more: {took:?}");
    // Nor does a new name of which there is no record anywhere.
    let started = world.now;
    world.publish(node, publish(2, 0)).unwrap();
    assert!(world.now - started < seconds(2));
    world.script("b").then = Act::Serve;
    world.publish(node, publish(2, 1)).unwrap();
    world.pass(seconds(60));
    world.script("b").delay = seconds(1);
    assert_eq!(
        world.publish(node, publish(2, 2)).unwrap().receipts.iter().filter(|r| r.is_ok()).count(),
        2,
        "it is back"
    );
}

#[test]
fn nobody_took_it_is_not_a_success() {
    let mut world = World::new(1);
    let routers = vec![Router::custom("dht")];
    let node = world.node(Config { routers, ..Config::default() });
    // A router that asked twenty peers of which none answered.
    world.nodes[node].routes.insert(crate::routing::RouterId(0), Script::first([Act::Serve, Act::Html]));
    assert!(matches!(world.publish(node, publish(1, 1)), Err(PublishError::PolicyNotMet { .. })));
    world.nodes[node].routes.insert(crate::routing::RouterId(0), Script::always(Act::Html));
    assert!(matches!(world.publish(node, publish(2, 1)), Err(PublishError::Unread { .. })));
    assert!(matches!(world.resolve(node, name(2), uncached()), Err(ResolveError::Unreachable { .. })));
}

#[test]
fn a_custom_router_may_find_records_while_it_sends() {
    let mut world = World::new(1);
    let node = world.node(Config { routers: vec![Router::custom("dht")], ..Config::default() });
    let script = Script::first([Act::Serve, Act::Give(bytes(1, 1))]);
    world.nodes[node].routes.insert(crate::routing::RouterId(0), script);
    world.publish(node, publish(1, 1)).unwrap();
}

#[test]
fn publishes_of_one_name_take_turns() {
    let (mut world, node) = World::two();
    let ops: Vec<_> = (0..5).map(|number| world.start_publish(node, publish(1, number))).collect();
    let other = world.start_publish(node, publish(2, 0));
    let mut sequences = Vec::new();
    for op in ops {
        sequences.push(world.published(node, op).unwrap().record.sequence());
    }
    assert_eq!(sequences, [0, 1, 2, 3, 4]);
    assert_eq!(world.published(node, other).unwrap().record.sequence(), 0);
    assert_eq!(world.script("a").sequence(&name(1)), Some(4));
}

#[test]
fn an_older_record_never_follows_a_newer_one() {
    let (mut world, node) = World::two();
    // It takes whatever comes, and the first delivery is to be tried again in a while.
    world.script("b").selects = false;
    world.script("b").plan.extend([Act::Serve, Act::Later(503, 5)]);
    world.publish(node, publish(1, 1)).unwrap();
    world.publish(node, publish(1, 2)).unwrap();
    world.pass(seconds(60));
    assert_eq!(world.script("b").sequence(&name(1)), Some(1));
}

#[test]
fn a_delivery_that_is_overtaken_is_told_so() {
    let (mut world, node) = World::two();
    world.script("b").plan.extend([Act::Serve, Act::Later(503, 5), Act::Serve]);
    let first = world.start_publish(node, Publish { policy: Policy::All, ..publish(1, 1) });
    world.pass(seconds(2));
    let second = world.start_publish(node, Publish { policy: Policy::All, ..publish(1, 2) });
    world.published(node, second).unwrap();
    let Err(PublishError::PolicyNotMet { publication, .. }) = world.published(node, first) else { panic!() };
    assert!(matches!(publication.receipts[1].outcome, Err(RouteError::Overtaken { by: 1 })));
    assert_eq!(world.script("b").puts(), [0, 1]);
}

#[test]
fn a_delivery_under_way_is_not_tried_again_after_a_newer_one() {
    let (mut world, node) = World::two();
    world.script("b").selects = false;
    world.script("b").plan.extend([Act::Serve, Act::Hang, Act::Serve]);
    let first = world.start_publish(node, Publish { policy: Policy::All, ..publish(1, 1) });
    world.pass(seconds(2));
    world.publish(node, publish(1, 2)).unwrap();
    let Err(PublishError::PolicyNotMet { publication, .. }) = world.published(node, first) else { panic!() };
    assert_eq!(publication.receipts[1].outcome, Err(RouteError::Overtaken { by: 1 }));
    world.pass(seconds(60));
    assert_eq!(world.script("b").puts(), [0, 1]);
}

#[test]
fn a_publish_can_be_cancelled_at_any_stage() {
    for stage in 0..200 {
        let (mut world, node) = World::two();
        world.publish(node, publish(1, 1)).unwrap();
        world.script("a").delay = millis(30);
        let before = world.start_publish(node, publish(1, 2));
        let cancelled = world.start_publish(node, publish(1, 3));
        let after = world.start_publish(node, publish(1, 4));
        world.pass(millis(2 * stage));
        let was_open = world.is_open(node, cancelled);
        world.cancel(node, cancelled);
        assert!(!world.is_open(node, cancelled));
        assert_eq!(world.published(node, before).unwrap().record.sequence(), 1);
        match world.published(node, cancelled) {
            Ok(publication) => assert!(!was_open && publication.record.sequence() == 2),
            Err(error) => assert_eq!(error, PublishError::Cancelled),
        }
        let last = world.published(node, after).unwrap().record.sequence();
        assert!(last == 2 || last == 3, "{last}");
        world.settle();
        assert_eq!(world.nodes[node].engine.leftovers(), [""; 0]);
        assert_eq!(world.script("a").sequence(&name(1)), Some(last));
    }
}

#[test]
fn cancelling_what_is_not_there_does_nothing() {
    let (mut world, node) = World::two();
    let op = world.start_publish(node, publish(1, 1));
    world.published(node, op).unwrap();
    world.cancel(node, op);
    world.cancel(node, super::super::ids::OpId(9999));
    world.settle();
    assert_eq!(world.nodes[node].engine.leftovers(), [""; 0]);
}

#[test]
fn time_outs_end_every_stage() {
    let (mut world, node) = World::two();
    world.nodes[node].disk.health = Health::Stuck;
    let waiting = world.start_publish(node, publish(1, 1));
    let behind = world.start_publish(node, publish(1, 2));
    assert_eq!(world.published(node, waiting), Err(PublishError::Timeout), "the store does not answer");
    assert_eq!(world.published(node, behind), Err(PublishError::Timeout));
    assert_eq!(world.script("a").puts(), [0; 0]);

    // The name stays locked until the store has answered: what it was told to write may still become durable.
    world.nodes[node].disk.health = Health::Good;
    assert_eq!(world.publish(node, publish(1, 3)), Err(PublishError::Timeout));
    world.publish(node, publish(2, 1)).unwrap();
    world.restart(node);
    for host in ["a", "b"] {
        world.script(host).plan.push_back(Act::Serve);
        world.script(host).then = Act::Hang;
    }
    let started = world.now;
    let Err(PublishError::PolicyNotMet { publication, .. }) = world.publish(node, publish(1, 3)) else { panic!() };
    assert!(publication.receipts.iter().all(|receipt| receipt.attempts >= 2 && !receipt.is_ok()));
    assert!(world.now - started <= seconds(60) && publication.elapsed <= seconds(60));
}

#[test]
fn the_time_counts_from_the_call() {
    // The engine begins at monotonic zero and waits for its store.
    let mut world = World::new(1);
    world.host("a", Script::new());
    let node = world.sleeping_node(Config { publish_timeout: seconds(3), ..config(&["a"]) });
    let op = world.start_publish(node, publish(1, 1));
    let elapsed = world.published(node, op).unwrap().elapsed;
    assert_eq!(elapsed, world.now);

    world.nodes[node].disk.latency = seconds(5);
    world.restart(node);
    let op = world.start_publish(node, publish(1, 1));
    let put = world.start_put(node, put(2, bytes(2, 1)));
    let resolve = world.start_resolve(node, name(1), Resolve { timeout: Some(seconds(1)), ..first() });
    assert!(matches!(world.resolved(node, resolve), Err(ResolveError::Timeout { .. })));
    assert_eq!(world.published(node, op), Err(PublishError::Timeout));
    assert_eq!(world.published(node, put), Err(PublishError::Timeout));
    world.settle();
    assert_eq!(world.nodes[node].engine.leftovers(), [""; 0]);
}

#[test]
fn a_name_can_be_disowned() {
    let (mut world, node) = World::two();
    world.publish(node, publish(1, 1)).unwrap();
    assert!(world.disown(node, &name(1)));
    assert!(!world.disown(node, &name(1)));
    assert_eq!(world.nodes[node].engine.own().count(), 0);
    assert_eq!(world.resolve(node, name(1), offline()).unwrap().value, path(1), "its record stays known");
    world.pass(seconds(1));
    world.restart(node);
    world.pass(seconds(1));
    assert_eq!(world.nodes[node].engine.own().count(), 0);
    assert_eq!(world.publish(node, publish(1, 2)).unwrap().record.sequence(), 1, "and its sequence");
    // Disowned while it is being stored, it stays disowned.
    world.nodes[node].disk.latency = seconds(2);
    let op = world.start_publish(node, publish(1, 3));
    world.pass(seconds(1));
    world.disown(node, &name(1));
    world.published(node, op).unwrap();
    assert_eq!(world.nodes[node].engine.own().count(), 0);
    world.pass(seconds(10));
    world.restart(node);
    world.pass(seconds(10));
    assert_eq!(world.nodes[node].engine.own().count(), 0);
}

#[test]
fn many_operations_are_refused() {
    let mut world = World::new(1);
    world.host("a", Script::always(Act::Hang));
    let node = world.node(Config { max_operations: 3, ..config(&["a"]) });
    let publish = world.start_publish(node, publish(1, 1));
    let resolve = world.start_resolve(node, name(2), uncached());
    let watch = world.watch(node, name(2));
    assert_eq!(world.nodes[node].engine.load(), 3);
    assert_eq!(world.publish(node, super::publish(1, 1)), Err(PublishError::Overloaded));
    assert_eq!(world.resolve(node, name(1), first()), Err(ResolveError::Overloaded));
    let refused = world.watch(node, name(3));
    let ended = |event: &Event| matches!(event, Event::Resolved { op, result: Err(ResolveError::Overloaded) } if *op == refused);
    assert!(world.nodes[node].events.iter().any(ended), "a watch that never begins says so");
    let inquiry = world.inquire(node, &Inquiry::Closest("key".into()));
    let ended = |event: &Event| matches!(event, Event::Answered { op, result: Err(InquireError::Overloaded) } if *op == inquiry);
    assert!(world.nodes[node].events.iter().any(ended), "an inquiry that is not made says so");
    // What others ask does not count.
    world.cancel(node, watch);
    world.ask(node, download(4));
    let third = world.start_resolve(node, name(2), uncached());
    assert!(world.is_open(node, third));
    for op in [publish, resolve, third] {
        world.cancel(node, op);
        world.finish(node, op);
    }
    world.settle();
    assert_eq!(world.nodes[node].engine.leftovers(), [""; 0]);
}

#[test]
fn the_wall_clock_may_jump() {
    let (mut world, node) = World::two();
    world.publish(node, publish(1, 1)).unwrap();
    let op = world.start_publish(node, publish(1, 2));
    world.nodes[node].skew = -86_400 * 365;
    assert!(world.published(node, op).unwrap().elapsed < seconds(2), "timers do not follow it");
    world.nodes[node].skew = 86_400 * 365;
    let published = world.publish(node, publish(1, 3)).unwrap();
    assert_eq!(published.record.sequence(), 2, "expired records count for sequences");
}
