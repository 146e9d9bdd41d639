//! Names that stay alive: sent again in time, signed anew, followed, caught up with, and given up when they end.

use std::collections::{BTreeMap, BTreeSet};

use super::super::event::{Event, PublishError};
use super::super::io::Input;
use super::super::keep::Keeping;
use super::super::queue::QueueError;
use super::disk::Health;
use super::script::{Act, Script};
use super::world::{Signing, World};
use super::*;
use crate::record::{Metadata, Record, Version};

/// A node that keeps names alive, with one server, `a`.
fn keeper(script: Script) -> (World, usize) {
    let mut world = World::new(1);
    world.host("a", script);
    let node = world.node(keeping(&["a"]));
    (world, node)
}

fn keeping(hosts: &[&str]) -> Config {
    Config { keep: Some(Keeping::default()), ..config(hosts) }
}

fn follow(world: &mut World, node: usize, name: Name) -> bool {
    let now = world.at(node);
    let begun = world.nodes[node].engine.follow(now, name).unwrap();
    world.drain(node);
    begun
}

fn held(world: &mut World, name: &Name) -> Record {
    Record::decode(world.script("a").held[name].clone()).unwrap()
}

/// How the turns of a node's names went: whether each was sent.
fn turns(world: &World, node: usize) -> Vec<Result<u64, &'static str>> {
    let turn = |event: &Event| match event {
        Event::Kept { result, .. } => Some(result.as_ref().map(|sent| sent.record.sequence()).map_err(|e| e.code())),
        _ => None,
    };
    world.nodes[node].events.iter().filter_map(turn).collect()
}

fn count(world: &World, node: usize, wanted: impl Fn(&Event) -> bool) -> usize {
    world.nodes[node].events.iter().filter(|event| wanted(event)).count()
}

#[test]
fn an_own_name_lives_on_and_nothing_of_it_changes_but_its_end() {
    for version in [Version::V1AndV2, Version::V2Only] {
        let (mut world, node) = keeper(Script::new());
        let mut what = publish(1, 7);
        what.lifetime = Some(7 * HOUR);
        what.ttl = Some(seconds(77));
        what.version = version;
        what.sequence = Some(41);
        what.metadata = Metadata::from([("_note".into(), Ipld::String("x".into())), ("_n".into(), Ipld::Integer(-3))]);
        let first = world.publish(node, what.clone()).unwrap().record;
        let mut ends = BTreeSet::from([first.eol()]);
        for _ in 0..7 * 24 {
            world.pass(HOUR);
            let now = DAWN + world.now;
            let record = Checks::at(now).verify(world.script("a").held[&name(1)].clone(), &name(1)).unwrap();
            assert!(record.eol() > now + HOUR, "it is signed anew well before its end");
            ends.insert(record.eol());
            // Made by hand with the same end, it has the very same bytes.
            let mut builder = RecordBuilder::new(what.value.clone(), 41, record.eol());
            (builder.ttl, builder.version, builder.metadata) = (seconds(77), version, what.metadata.clone());
            assert_eq!(builder.sign(&key(1)).unwrap().as_bytes(), record.as_bytes());
        }
        assert!((20..=70).contains(&ends.len()), "a week of seven hours each: {}", ends.len());
        assert_eq!(count(&world, node, |event| matches!(event, Event::Expiring { .. })), 0);
        let turns = turns(&world, node);
        assert!(turns.len() >= 40 && turns.iter().all(|turn| *turn == Ok(41)), "{turns:?}");
        let (_, own) = world.nodes[node].engine.own().next().unwrap();
        assert_eq!((own.lifetime, own.sent.failures, own.sent.acks), (7 * HOUR, 0, 1));
        assert!(own.sent.next.unwrap() > DAWN + world.now);
        // A publish afterwards goes on from there.
        assert_eq!(world.publish(node, publish(1, 8)).unwrap().record.sequence(), 42);
    }
}

#[test]
fn a_name_of_a_short_life_never_ends_between_two_turns() {
    let (mut world, node) = keeper(Script::new());
    world.publish(node, Publish { lifetime: Some(seconds(300)), ..publish(1, 1) }).unwrap();
    for _ in 0..200 {
        world.pass(seconds(33));
        let record = world.script("a").held[&name(1)].clone();
        assert!(Checks::at(DAWN + world.now).verify(record, &name(1)).is_ok(), "at {:?}", world.now);
    }
}

#[test]
fn a_long_interval_is_kept_although_records_do_not_live_twice_as_long() {
    let mut world = World::new(1);
    world.host("a", Script::new());
    let how = Keeping { interval: 22 * HOUR, ..Keeping::default() };
    let node = world.node(Config { keep: Some(how), ..config(&["a"]) });
    for seed in 1..8 {
        world.publish(node, Publish { lifetime: Some(48 * HOUR), ..publish(seed, 1) }).unwrap();
    }
    let mut sent = BTreeMap::<Name, Vec<u64>>::new();
    for hour in 0..220 {
        world.pass(HOUR);
        for event in core::mem::take(&mut world.nodes[node].events) {
            if let Event::Kept { name, result } = event {
                assert!(result.is_ok());
                sent.entry(name).or_default().push(hour);
            }
        }
        for seed in 1..8 {
            let record = Checks::at(DAWN + world.now).verify(world.script("a").held[&name(seed)].clone(), &name(seed));
            assert!(record.unwrap().eol() > DAWN + world.now + 20 * HOUR, "{seed} after {hour} h");
        }
    }
    // Whenever the first turn was, all others are when the hand passes: a round apart.
    for hours in sent.values() {
        assert!(
            hours.len() >= 9 && hours.windows(2).all(|turns| (21..=23).contains(&(turns[1] - turns[0]))),
            "{sent:?}"
        );
    }
    assert_eq!(sent.len(), 7);
}

#[test]
fn a_followed_name_outlives_its_publisher_without_its_key_until_its_end() {
    let record = record_until(1, 5, &path(5), DAWN + 40 * HOUR);
    let (mut world, node) = keeper(Script::new().holding(name(1), record.as_bytes().clone()));
    assert!(follow(&mut world, node, name(1)));
    assert!(!follow(&mut world, node, name(1)));
    world.pass(HOUR);
    // The server forgets, and the keeper's node is restarted.
    world.script("a").held.clear();
    world.restart(node);
    world.pass(4 * HOUR);
    assert_eq!(world.nodes[node].engine.followed().map(|(name, _)| name).collect::<Vec<_>>(), [name(1)]);
    for _ in 5..39 {
        assert_eq!(held(&mut world, &name(1)).as_bytes(), record.as_bytes(), "at {:?}", world.now);
        world.script("a").held.clear();
        world.pass(6 * HOUR / 4);
        if world.now > 38 * HOUR {
            break;
        }
        world.pass(3 * HOUR);
    }
    // It ends, which is said once before, and is not sent any more; the name stays in the list.
    world.pass(10 * HOUR);
    assert_eq!(count(&world, node, |event| matches!(event, Event::Expiring { .. })), 1);
    world.script("a").held.clear();
    world.pass(24 * HOUR);
    assert!(world.script("a").held.is_empty());
    let (_, followed) = world.nodes[node].engine.followed().next().unwrap();
    assert!(followed.record.unwrap().is_expired(DAWN + world.now) && followed.sent.failures > 0);
    // A new one is found and kept.
    let newer = record_until(1, 6, &path(6), DAWN + 400 * HOUR);
    world.script("a").held.insert(name(1), newer.as_bytes().clone());
    world.pass(2 * HOUR);
    world.script("a").held.clear();
    world.pass(8 * HOUR);
    assert_eq!(held(&mut world, &name(1)).as_bytes(), newer.as_bytes());
    let now = world.at(node);
    assert!(world.nodes[node].engine.unfollow(now, &name(1)) && !world.nodes[node].engine.unfollow(now, &name(1)));
    world.drain(node);
    world.script("a").held.clear();
    world.restart(node);
    world.pass(24 * HOUR);
    assert_eq!(world.nodes[node].engine.kept(), (0, 0));
    assert!(world.script("a").held.is_empty());
}

#[test]
fn a_newer_record_of_a_followed_name_is_noticed_by_its_ttl_and_kept() {
    let (mut world, node) = keeper(Script::new().holding(name(1), bytes(1, 5)));
    follow(&mut world, node, name(1));
    world.pass(HOUR);
    world.script("a").held.insert(name(1), bytes(1, 6));
    world.pass(seconds(360));
    let known = |world: &World| world.nodes[node].engine.followed().next().unwrap().1.record.unwrap().sequence();
    assert_eq!(known(&world), 6);
    // Somebody brings a newer one over HTTP: that is noticed at once.
    let put = world.ask(node, upload(1, bytes(1, 9)));
    assert!(world.response(put).status().is_success());
    world.pass(seconds(5));
    assert_eq!(known(&world), 9);
}

#[test]
fn an_older_record_is_never_sent_over_a_newer_one() {
    // The network has a newer record of an own name, which another device published.
    let (mut world, node) = keeper(Script::new());
    world.publish(node, publish(1, 1)).unwrap();
    world.script("a").held.insert(name(1), bytes(1, 9));
    world.pass(12 * HOUR);
    assert_eq!(held(&mut world, &name(1)).sequence(), 9);
    assert!(count(&world, node, |event| matches!(event, Event::Conflict { ours: 0, theirs: 9, .. })) >= 1);
    assert!(turns(&world, node).contains(&Err("conflict")));
    // A publish rises above it, and is kept.
    assert_eq!(world.publish(node, publish(1, 2)).unwrap().record.sequence(), 10);
    world.script("a").held.clear();
    world.pass(8 * HOUR);
    assert_eq!(held(&mut world, &name(1)).sequence(), 10);
}

#[test]
fn a_signer_that_is_away_is_an_event_and_the_record_lives_while_it_can() {
    for away in [Signing::Refuses, Signing::Wrong, Signing::Never] {
        let (mut world, node) = keeper(Script::new());
        world.publish(node, Publish { lifetime: Some(12 * HOUR), ..publish(1, 1) }).unwrap();
        let before = world.script("a").held[&name(1)].clone();
        world.nodes[node].signing = away;
        world.script("a").held.clear();
        world.pass(11 * HOUR);
        assert_eq!(world.script("a").held.get(&name(1)), Some(&before));
        assert!(count(&world, node, |event| matches!(event, Event::NotRenewed { .. })) >= 1);
        assert!(count(&world, node, |event| matches!(event, Event::Expiring { .. })) >= 1);
        world.pass(5 * HOUR);
        let own = world.nodes[node].engine.own().next().unwrap().1;
        assert!(own.record.is_expired(DAWN + world.now) && own.sent.error.is_some(), "{own:?}");
        // It is back: within an hour the name lives again.
        world.nodes[node].signing = Signing::Good;
        world.pass(HOUR * 5 / 4);
        let own = world.nodes[node].engine.own().next().unwrap().1;
        assert!(!own.record.is_expired(DAWN + world.now) && own.record.sequence() == 0, "{own:?}");
        assert_eq!(held(&mut world, &name(1)).as_bytes(), own.record.as_bytes());
    }
}

#[test]
fn what_was_published_offline_is_sent_when_the_network_is_back() {
    let (mut world, node) = keeper(Script::always(Act::Refuse));
    for seed in 1..5 {
        let mut what = publish(seed, 1);
        what.allow_offline = true;
        world.publish(node, what).unwrap();
    }
    world.pass(10 * HOUR);
    let tries = world.script("a").seen.len();
    assert!(tries < 4 * 40 * 3, "they are tried ever more rarely: {tries}");
    world.script("a").then = Act::Serve;
    // The first to be tried within the hour takes the others with it.
    world.pass(HOUR * 5 / 4);
    assert_eq!(world.script("a").held.len(), 4);
    assert_eq!(turns(&world, node).iter().filter(|turn| turn.is_ok()).count(), 4);
    let first = world.script("a").seen.iter().filter(|seen| seen.put && seen.status == 200).map(|seen| seen.at);
    let times: Vec<_> = first.collect();
    assert!(*times.last().unwrap() - times[0] < seconds(30), "{times:?}");
}

#[test]
fn one_bad_name_stops_no_other() {
    let (mut world, node) = keeper(Script::new());
    for seed in 1..4 {
        world.publish(node, Publish { lifetime: Some(96 * HOUR), ..publish(seed, 1) }).unwrap();
    }
    follow(&mut world, node, name(7));
    for _ in 0..12 {
        world.script("a").held.clear();
        world.pass(6 * HOUR);
        assert_eq!(world.script("a").held.len(), 3);
    }
    let (_, lost) = world.nodes[node].engine.followed().next().unwrap();
    assert!(lost.record.is_none() && lost.sent.failures >= 10 && lost.sent.error.is_some(), "{lost:?}");
}

#[test]
fn after_a_sleep_it_is_caught_up_with_and_after_a_long_stop_too() {
    let (mut world, node) = keeper(Script::new());
    for seed in 1..7 {
        world.publish(node, publish(seed, 1)).unwrap();
    }
    world.script("a").held.clear();
    // The machine sleeps for twenty hours: its wall clock goes on, its monotonic one does not.
    world.nodes[node].skew = 20 * 3600;
    world.pass(seconds(700));
    assert_eq!(world.script("a").held.len(), 6, "each was sent again");
    world.script("a").held.clear();
    // Its process is stopped for twenty hours.
    world.hosts.remove("a");
    world.pass(seconds(1));
    world.nodes[node].skew = 40 * 3600;
    world.host("a", Script::new());
    world.restart(node);
    world.pass(seconds(60));
    assert_eq!(world.script("a").held.len(), 6);
    let times: Vec<_> = world.script("a").seen.iter().filter(|seen| seen.put).map(|seen| seen.at).collect();
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= millis(400)), "one after the other: {times:?}");
}

#[test]
fn a_record_that_was_signed_for_later_is_sent_in_its_time_and_kept() {
    let (mut world, node) = keeper(Script::new().holding(name(1), bytes(1, 1)));
    follow(&mut world, node, name(1));
    world.pass(seconds(10));
    let queue = |world: &mut World, record: Bytes, at: Duration| {
        let now = world.at(node);
        let result = world.nodes[node].engine.queue(now, name(1), record, DAWN + at);
        world.drain(node);
        result
    };
    queue(&mut world, bytes(1, 2), 10 * HOUR).unwrap();
    queue(&mut world, bytes(1, 3), 20 * HOUR).unwrap();
    assert_eq!(queue(&mut world, bytes(2, 3), 20 * HOUR).unwrap_err().code(), "signature_invalid");
    let eol = DAWN + 48 * HOUR;
    assert_eq!(queue(&mut world, bytes(1, 4), 49 * HOUR), Err(QueueError::TooLate { eol }));
    world.restart_with(node, 99);
    world.pass(9 * HOUR);
    assert_eq!(held(&mut world, &name(1)).sequence(), 1);
    assert_eq!(world.nodes[node].engine.queued().count(), 2);
    world.pass(2 * HOUR);
    assert_eq!(held(&mut world, &name(1)).sequence(), 2);
    world.script("a").held.clear();
    world.pass(15 * HOUR);
    assert_eq!(held(&mut world, &name(1)).sequence(), 3);
    assert_eq!(world.nodes[node].engine.queued().count(), 0);
}

#[test]
fn who_cannot_read_its_store_keeps_nothing_and_rests() {
    let (mut world, node) = keeper(Script::new());
    world.publish(node, publish(1, 1)).unwrap();
    world.nodes[node].disk.health = Health::Unreadable;
    world.script("a").held.clear();
    world.restart(node);
    world.pass(seconds(1));
    let now = world.at(node);
    world.nodes[node].engine.queue(now, name(1), bytes(1, 2), DAWN + seconds(10)).unwrap();
    world.drain(node);
    world.pass(24 * HOUR);
    assert!(world.script("a").held.is_empty());
}

#[test]
fn republishing_on_demand_says_how_it_went() {
    let (mut world, node) = keeper(Script::new());
    world.publish(node, Publish { lifetime: Some(HOUR), ..publish(1, 1) }).unwrap();
    world.script("a").held.clear();
    let op = world.start_republish(node, name(1));
    assert_eq!(world.published(node, op).unwrap().record.sequence(), 0);
    assert_eq!(world.script("a").held.len(), 1);
    let op = world.start_republish(node, name(2));
    assert_eq!(world.published(node, op), Err(PublishError::NotKept));
    world.script("a").then = Act::Refuse;
    let op = world.start_republish(node, name(1));
    assert_eq!(world.published(node, op).unwrap_err().code(), "policy_not_met");
    let op = world.start_republish(node, name(1));
    world.cancel(node, op);
    assert_eq!(world.published(node, op), Err(PublishError::Cancelled));
    world.pass(HOUR);
    assert!(turns(&world, node).iter().all(|turn| *turn == Err("policy_not_met")));
}

#[test]
fn a_node_that_keeps_nothing_alive_lists_what_is_kept() {
    let (mut world, node) = World::one(Script::new().holding(name(2), bytes(2, 1)));
    world.publish(node, publish(1, 1)).unwrap();
    follow(&mut world, node, name(2));
    world.settle();
    assert_eq!(world.nodes[node].engine.kept(), (1, 1));
    world.pass(100 * HOUR);
    assert_eq!(world.script("a").puts(), [0]);
}

#[test]
fn a_disowned_name_is_sent_no_more() {
    let (mut world, node) = keeper(Script::new());
    world.publish(node, publish(1, 1)).unwrap();
    assert!(world.disown(node, &name(1)));
    world.script("a").held.clear();
    world.pass(24 * HOUR);
    assert!(world.script("a").held.is_empty());
    assert_eq!(world.nodes[node].engine.next_timeout(), None);
    world.input(node, Input::Tick);
}
