//! A record that is sent while the walk to its name still reads.

use super::*;

/// When a walk and a put that share a query are over.
fn both(world: &mut World, node: usize, query: QueryId) -> (Option<Verified>, Tally, [Duration; 2]) {
    let (best, read) = world.until(node, |event| match event {
        Event::GetDone { query: done, best, .. } if *done == query => Some(best.clone()),
        Event::PutDone { query: done, .. } if *done == query => panic!("a put ended before its walk"),
        _ => None,
    });
    let (tally, sent) = world.until(node, |event| match event {
        Event::PutDone { query: done, tally, .. } if *done == query => Some(*tally),
        _ => None,
    });
    (best.map(|best| *best), tally, [read, read + sent])
}

#[test]
fn it_takes_hardly_longer_than_the_walk() {
    let (mut after, mut beside) = (Duration::ZERO, Duration::ZERO);
    for seed in 0..4 {
        let mut world = measured(5);
        let publisher = Publisher::new(20 + seed);
        let (old, new) = (publisher.record(1, LIFETIME), publisher.record(2, LIFETIME));
        after += put(&mut world, 0, &old).2.took;
        world.run_for(30 * SECOND);
        let before = world.rpcs;
        let walk = world.call(0, |dht, now| dht.walk(now, publisher.name()));
        assert_eq!(world.call(0, |dht, now| dht.publish(now, &new)), walk);
        let (best, tally, [read, sent]) = both(&mut world, 0, walk);
        assert_eq!(best.map(|best| best.sequence()), Some(1), "what was there before");
        assert!(tally.acked >= 10 && sent < 2 * read, "{tally:?} {read:?} {sent:?}");
        beside += sent;
        world.close(0, walk);
        assert!(world.rpcs - before <= 40, "{}", world.rpcs - before);
        world.run_for(20 * SECOND);
        assert!(holders(&world, &new) >= 20, "{}", holders(&world, &new));
        assert!(world.nodes[0].dht.usage().queries == 0 && world.nodes[0].dht.sending() == 0);
    }
    assert!(beside * 10 < after * 7, "{beside:?} {after:?}");
}

#[test]
fn whoever_holds_a_newer_one_keeps_it_and_tells() {
    let mut world = measured(5);
    let publisher = Publisher::new(20);
    let (older, newest) = (publisher.record(2, LIFETIME), publisher.record(9, LIFETIME));
    put(&mut world, 1, &newest);
    world.run_for(30 * SECOND);
    let walk = world.call(0, |dht, now| dht.walk(now, publisher.name()));
    world.call(0, |dht, now| dht.publish(now, &older));
    let (best, tally, _) = both(&mut world, 0, walk);
    assert_eq!(best.as_ref(), Some(&newest));
    assert!(tally.refused > 2 * tally.acked, "{tally:?}");
    assert!(holders(&world, &newest) >= 20);
}

#[test]
fn a_walk_outlives_the_put_beside_it() {
    let mut world = measured(5);
    let publisher = Publisher::new(20);
    let record = publisher.record(2, LIFETIME);
    let walk = world.call(0, |dht, now| dht.walk(now, publisher.name()));
    world.call(0, |dht, now| dht.publish(now, &record));
    world.call(0, |dht, _| dht.stop_sending(walk));
    world.until(0, |event| matches!(event, Event::GetDone { query, .. } if *query == walk).then_some(()));
    world.run_for(60 * SECOND);
    assert!(!world.events.iter().any(|(_, _, event)| matches!(event, Event::PutDone { .. })));
    assert!(world.nodes[0].dht.usage().queries == 0 && world.nodes[0].dht.sending() == 0);
    // A put of its own ends altogether.
    let alone = world.call(0, |dht, now| dht.publish(now, &record));
    world.call(0, |dht, _| dht.stop_sending(alone));
    world.run_for(70 * SECOND);
    assert!(world.nodes[0].dht.usage().queries == 0 && world.nodes[0].dht.sending() == 0);
    // A walk that no put follows is given up with what it holds, and ends by itself while it reads.
    for reads in [true, false] {
        let walk = world.call(0, |dht, now| dht.walk(now, publisher.name()));
        if !reads {
            world.until(0, |event| matches!(event, Event::GetDone { query, .. } if *query == walk).then_some(()));
        }
        world.call(0, |dht, _| dht.give_up(&publisher.name()));
        if reads {
            world.until(0, |event| matches!(event, Event::GetDone { query, .. } if *query == walk).then_some(()));
            world.run_for(12 * SECOND);
        }
        assert_eq!(world.nodes[0].dht.usage().queries, 0);
    }
}
