//! Networks of real nodes in virtual time.

mod ahead;

use core::time::Duration;

use super::get::Freshness;
use super::kept::tag;
use super::key::Key;
use super::serve::Server;
use super::testing::{Publisher, START, address, peer};
use super::world::{Behaviour, World, config, info};
use super::*;
use crate::name::Name;
use crate::record::Verified;
use crate::store::{Table, Write};
use bytes::Bytes;

const SECOND: Duration = Duration::from_secs(1);
const LIFETIME: i64 = 48 * 3600;

/// What a publish or a get took.
#[derive(Debug)]
struct Cost {
    rpcs: usize,
    took: Duration,
}

fn put(world: &mut World, node: usize, record: &Verified) -> (Tally, Option<Verified>, Cost) {
    let before = world.rpcs;
    let walk = world.call(node, |dht, now| dht.walk(now, *record.name()));
    let (best, walked) = world.until(node, |event| match event {
        Event::GetDone { query, best, .. } if *query == walk => Some(best.clone()),
        _ => None,
    });
    let put = world.call(node, |dht, now| dht.publish(now, record));
    let ((tally, success), sent) = world.until(node, |event| match event {
        Event::PutDone { query, tally, success } if *query == put => Some((*tally, *success)),
        _ => None,
    });
    assert!(success, "{tally:?}");
    let cost = Cost { rpcs: world.rpcs - before, took: walked + sent };
    (tally, best.map(|best| *best), cost)
}

fn get(world: &mut World, node: usize, name: Name, until: Until) -> (Option<Verified>, Freshness, Cost) {
    let before = world.rpcs;
    let query = world.call(node, |dht, now| dht.get(now, name, until));
    let ((best, freshness), took) = world.until(node, |event| match event {
        Event::GetDone { query: done, best, freshness, .. } if *done == query => Some((best.clone(), *freshness)),
        _ => None,
    });
    (best.map(|best| *best), freshness, Cost { rpcs: world.rpcs - before, took })
}

/// How many nodes hold exactly this record.
fn holders(world: &World, record: &Verified) -> usize {
    let holds = |dht: &Dht| dht.server.values.verified(world.now, record.name()) == Some(record);
    world.nodes.iter().filter(|node| node.alive && holds(&node.dht)).count()
}

fn holds_any(world: &World, node: usize, name: &Name) -> bool {
    world.nodes[node].dht.server.values.verified(world.now, name).is_some()
}

#[test]
fn published_by_one_found_by_all() {
    let mut world = World::settled(1, 100, 60);
    let publisher = Publisher::new(1);
    let first = publisher.record(1, LIFETIME);
    let (tally, newest, cost) = put(&mut world, 0, &first);
    assert!(tally.acked >= 10 && newest.is_none(), "{tally:?}");
    assert!(cost.rpcs <= 60 && cost.took < 3 * SECOND, "{cost:?}");
    world.run_for(20 * SECOND);
    assert!(holders(&world, &first) >= 20);
    for node in 0..100 {
        let (best, freshness, cost) = get(&mut world, node, publisher.name(), Until::Probable(1e-3));
        assert_eq!(best.as_ref(), Some(&first), "{node}");
        assert!(freshness.miss_probability <= 1e-3 && freshness.holders > 0, "{freshness:?}");
        assert!(cost.took < 3 * SECOND, "{cost:?}");
    }
    // The walk of an update finds what is to be newer than, and the update reaches everybody.
    let second = publisher.record(2, LIFETIME);
    let (_, newest, _) = put(&mut world, 50, &second);
    assert_eq!(newest, Some(first));
    for node in (0..100).step_by(7) {
        assert_eq!(get(&mut world, node, publisher.name(), Until::Answers(16)).0.as_ref(), Some(&second));
    }
    let (best, freshness, _) = get(&mut world, 3, publisher.name(), Until::Complete);
    assert_eq!(best, Some(second));
    assert!(freshness.complete && freshness.answers_near >= 16, "{freshness:?}");
}

#[test]
fn a_quarter_dead_slows_nothing_much() {
    let mut world = World::settled(2, 100, 60);
    world.kill(25, 2);
    let publisher = Publisher::new(1);
    let record = publisher.record(1, LIFETIME);
    let (tally, _, cost) = put(&mut world, 0, &record);
    assert!(tally.acked >= 10 && cost.took < 4 * SECOND, "{tally:?} {cost:?}");
    world.run_for(20 * SECOND);
    let alive: Vec<usize> = (0..100).filter(|node| world.nodes[*node].alive).collect();
    for node in alive {
        let (best, _, cost) = get(&mut world, node, publisher.name(), Until::Probable(1e-3));
        assert_eq!(best.as_ref(), Some(&record));
        assert!(cost.took < 4 * SECOND, "{cost:?}");
    }
}

#[test]
fn older_records_are_refused_and_stale_holders_corrected() {
    let mut world = World::settled(3, 100, 60);
    let publisher = Publisher::new(1);
    let (old, new) = (publisher.record(1, LIFETIME), publisher.record(2, LIFETIME));
    put(&mut world, 0, &old);
    world.run_for(20 * SECOND);
    let stale = holders(&world, &old);
    assert!(stale >= 20);
    // Only a few get the newer one; whoever reads afterwards puts all of them right.
    let query = world.call(1, |dht, now| dht.closest(now, publisher.name().routing_key()));
    let (closest, _) = world.until(1, |event| match event {
        Event::ClosestDone { query: done, closest } if *done == query => Some(closest.clone()),
        _ => None,
    });
    let some = closest[..6].to_vec();
    let update = world.call(1, |dht, now| dht.put(now, &new, some, 6));
    world.close(1, update);
    let (best, freshness, _) = get(&mut world, 70, publisher.name(), Until::Complete);
    assert_eq!(best.as_ref(), Some(&new));
    assert!(freshness.older >= 10, "{freshness:?}");
    world.run_for(20 * SECOND);
    assert!(holders(&world, &new) >= 20, "{}", holders(&world, &new));
    let corrected =
        |(_, _, event): &&(Duration, usize, Event)| matches!(event, Event::Corrected { outcome: Outcome::Acked, .. });
    assert!(world.events.iter().filter(corrected).count() >= 10);
    // A replay of the old one is refused by all who hold the new one.
    let replay = world.call(2, |dht, now| dht.put(now, &old, closest, 20));
    let ((tally, success), _) = world.until(2, |event| match event {
        Event::PutDone { query, tally, success } if *query == replay => Some((*tally, *success)),
        _ => None,
    });
    assert!(!success && tally.refused >= 18, "{tally:?}");
    assert_eq!(get(&mut world, 33, publisher.name(), Until::Answers(16)).0, Some(new));
}

#[test]
fn a_newcomer_among_the_nearest_gets_the_record() {
    let mut world = World::settled(4, 100, 60);
    let publisher = Publisher::new(1);
    let record = publisher.record(1, LIFETIME);
    put(&mut world, 0, &record);
    world.run_for(20 * SECOND);
    let target = Key::of(&publisher.name().routing_key());
    let mut order: Vec<usize> = (0..100).collect();
    order.sort_by_key(|node| Key::of_peer(&info(*node).id).distance(&target));
    // One of the nearest loses all that it kept.
    let victim = order[4];
    world.nodes[victim].dht.server =
        Server::new(tag(PUBLIC_PROTOCOL), Key::of_peer(&info(victim).id), &Limits::default());
    assert!(!holds_any(&world, victim, &publisher.name()));
    let reader = order[60];
    get(&mut world, reader, publisher.name(), Until::Complete);
    world.run_for(20 * SECOND);
    assert!(holds_any(&world, victim, &publisher.name()));
    assert!(order[45..].iter().all(|far| *far == 0 || !holds_any(&world, *far, &publisher.name())));
}

#[test]
fn liars_are_outvoted() {
    let publisher = Publisher::new(1);
    let (old, new) = (publisher.record(1, LIFETIME), publisher.record(2, LIFETIME));
    let wire = |record: &Verified| ValueRecord {
        key: publisher.name().routing_key().into(),
        value: record.as_bytes().clone(),
        received: None,
    };
    let mut forged = wire(&new);
    forged.value = Publisher::new(9).record(9, LIFETIME).as_bytes().clone();
    let expired = wire(&publisher.record(7, -1));
    let mut huge = wire(&new);
    huge.value = vec![0; MAX_VALUE_BYTES].into();
    for (seed, lie) in [
        Behaviour::Silent,
        Behaviour::NamesNobody,
        Behaviour::Serves(wire(&old)),
        Behaviour::Serves(forged),
        Behaviour::Serves(expired),
        Behaviour::Serves(huge),
    ]
    .into_iter()
    .enumerate()
    {
        let mut world = World::settled(10 + seed as u8, 100, 60);
        for node in (2..100).step_by(4) {
            world.nodes[node].behaviour = lie.clone();
        }
        put(&mut world, 0, &old);
        let (tally, _, cost) = put(&mut world, 0, &new);
        assert!(tally.acked >= 8 && cost.took < 8 * SECOND, "{lie:?} {tally:?} {cost:?}");
        world.run_for(20 * SECOND);
        for node in (0..100).step_by(9).filter(|node| node % 4 != 2) {
            let (best, freshness, cost) = get(&mut world, node, publisher.name(), Until::Probable(1e-3));
            assert_eq!(best.as_ref(), Some(&new), "{lie:?} {freshness:?}");
            assert!(cost.took < 8 * SECOND && cost.rpcs < 330, "{lie:?} {cost:?}");
        }
    }
}

#[test]
fn a_million_closer_peers_change_nothing() {
    let mut world = World::settled(5, 30, 30);
    let liar = 7;
    let closer: Vec<PeerInfo> =
        (0..2000).map(|n| PeerInfo { id: peer(1 << 30 | n), addresses: vec![address(n); 16] }).collect();
    // 500 floods of 2,000 names reach each of three nodes: as answers to what it asked, and to what it never asked.
    for node in 0..3 {
        for round in 0..100_u8 {
            let query = world.call(node, |dht, now| dht.closest(now, vec![node as u8, round]));
            let newest = world.nodes[node].dht.rpcs.newest().0;
            for id in newest.saturating_sub(2)..newest + 3 {
                let asked = world.nodes[node].dht.rpcs.get(RpcId(id)).map(|pending| pending.peer.id);
                if asked.is_none_or(|asked| asked == info(liar).id) {
                    let flood = Response::FindNode { closer: closer.clone() };
                    world.call(node, |dht, now| dht.on_response(now, RpcId(id), Ok(flood)));
                }
            }
            world.call(node, |dht, _| dht.cancel(query));
        }
    }
    world.run_for(60 * SECOND);
    for node in &world.nodes {
        let (health, usage) = (node.dht.health(), node.dht.usage());
        assert!(health.table < 30 && health.known < 30, "{health:?}");
        assert_eq!((usage.queries, usage.rpcs), (0, 0));
        assert!(node.dht.to_check.is_empty() && node.dht.deadlines.is_empty());
    }
}

#[test]
fn a_network_grows_from_one_seed_and_survives_its_death() {
    let mut world = World::empty(6);
    world.add(config());
    assert_eq!(world.nodes[0].dht.health().standing, Standing::Alone);
    for _ in 1..40 {
        // One of two seeds does not exist: it delays nothing.
        let node = world.add(Config { seeds: vec![info(5000), info(0)], ..config() });
        world.run_for(2 * SECOND);
        assert!(world.nodes[node].dht.health().live > 0, "{node}");
    }
    world.run_for(120 * SECOND);
    for node in &world.nodes {
        let health = node.dht.health();
        assert_eq!(health.standing, Standing::Joined);
        assert!(health.live >= 20, "{health:?}");
        assert_eq!(node.dht.usage().queries, 0);
    }
    world.nodes[0].alive = false;
    let publisher = Publisher::new(1);
    let record = publisher.record(1, LIFETIME);
    put(&mut world, 20, &record);
    for node in 1..40 {
        assert_eq!(get(&mut world, node, publisher.name(), Until::First).0.as_ref(), Some(&record));
    }
    // In time the dead one disappears from the tables, and nothing else does.
    world.run_for(7200 * SECOND);
    for node in &world.nodes[1..] {
        assert!(!node.dht.peers.table.contains(&Key::of_peer(&info(0).id)));
        assert!(node.dht.health().live >= 20, "{:?}", node.dht.health());
    }
}

#[test]
fn many_records_are_sent_again_by_one_exploration_of_each_region() {
    let mut world = World::settled(8, 400, 60);
    world.kill(10, 1);
    let publishers: Vec<Publisher> = (0..40).map(Publisher::new).collect();
    for publisher in &publishers[..8] {
        world.call(0, |dht, now| dht.closest(now, publisher.name().routing_key()));
        world.run_for(10 * SECOND);
    }
    let size = world.nodes[0].dht.health().size.unwrap();
    assert!((200.0..800.0).contains(&size), "{size}");
    for round in 1..=2 {
        let before = world.rpcs;
        let records: Vec<Verified> = publishers.iter().map(|publisher| publisher.record(round, LIFETIME)).collect();
        for record in &records {
            world.call(0, |dht, now| dht.resend(now, record));
        }
        assert!(world.nodes[0].dht.sending() >= records.len());
        world.run_for(60 * SECOND);
        assert_eq!((world.nodes[0].dht.sending(), world.nodes[0].dht.usage().queries), (0, 0));
        let done = |event: &Event| matches!(event, Event::PutDone { success: true, tally, .. } if tally.acked >= 10);
        assert_eq!(
            world.events.iter().filter(|(_, node, event)| *node == 0 && done(event)).count(),
            40 * round as usize
        );
        for record in &records {
            assert!(holders(&world, record) >= 19, "{} of round {round}", holders(&world, record));
        }
        // The first round asks every server once, the second knows the regions still.
        let beside = world.rpcs - before - 40 * 20;
        assert!(beside < if round == 1 { 600 } else { 50 }, "{beside}");
    }
}

#[test]
fn a_name_that_few_still_hold_is_found() {
    let mut world = World::settled(4, 300, 60);
    let mut found = 0;
    for n in 0..12 {
        let publisher = Publisher::new(n);
        let record = publisher.record(1, LIFETIME);
        let mut nearest: Vec<usize> = (0..300).collect();
        let target = Key::from_digest(publisher.name().dht_id());
        nearest.sort_by_key(|n| Key::of_peer(&info(*n).id).distance(&target));
        // Three of the twenty nearest, and not the first of them.
        let holders = [6, 11, 17].map(|at| info(nearest[at])).to_vec();
        world.call(nearest[250], |dht, now| dht.put(now, &record, holders, 3));
        world.run_for(10 * SECOND);
        found += usize::from(get(&mut world, nearest[200], publisher.name(), Until::Probable(1e-3)).0.is_some());
    }
    assert_eq!(found, 12);
}

/// Two of 400 servers that know how large the network is.
fn measured(seed: u8) -> World {
    let mut world = World::settled(seed, 400, 60);
    for seed in 0..8 {
        for node in [0, 1] {
            world.call(node, |dht, now| dht.closest(now, Publisher::new(seed).name().routing_key()));
        }
        world.run_for(10 * SECOND);
    }
    world
}

#[test]
fn a_crowd_about_a_name_neither_swallows_nor_hides_it() {
    for crowd in [25, 120] {
        let mut world = measured(5);
        let publisher = Publisher::new(200);
        let name = publisher.name();
        world.crowd(&Key::from_digest(name.dht_id()), crowd);
        let record = publisher.record(1, LIFETIME);
        let (tally, ..) = put(&mut world, 0, &record);
        world.run_for(30 * SECOND);
        let kept = holders(&world, &record);
        assert!(kept >= 15, "{kept} hold it for all a crowd of {crowd}; {tally:?}");
        for until in [Until::First, Until::Probable(1e-3), Until::Answers(16), Until::Complete] {
            assert_eq!(get(&mut world, 1, name, until).0.as_ref(), Some(&record), "{until:?}");
            world.run_for(60 * SECOND);
        }
        // A newer one reaches them, too, when it is sent as one of many.
        let newer = publisher.record(2, LIFETIME);
        world.call(0, |dht, now| dht.resend(now, &newer));
        world.run_for(60 * SECOND);
        assert!(holders(&world, &newer) >= 15, "{}", holders(&world, &newer));
        let (best, freshness, _) = get(&mut world, 1, name, Until::Probable(1e-3));
        assert_eq!(best, Some(newer), "{freshness:?}");
        world.run_for(120 * SECOND);
        assert!(world.nodes[..2].iter().all(|node| node.dht.usage().queries == 0 && node.dht.sending() == 0));
    }
}

/// Colluders who are spread over the network as its servers are: no crowd shows, and none of them names anybody honest.
#[test]
fn colluders_on_every_path_lead_nobody_astray() {
    for (every, honest) in [(4, 12), (2, 7)] {
        let mut world = measured(5);
        let colludes = |node: &usize| *node >= 2 && node.is_multiple_of(every);
        let fellows: std::rc::Rc<[PeerInfo]> = (0..400).filter(colludes).map(info).collect();
        for node in (0..400).filter(colludes) {
            world.nodes[node].behaviour = Behaviour::Colludes(fellows.clone());
        }
        // It knew nobody before, and meets them as it meets the others.
        let newcomer = world.add(Config { seeds: vec![info(1)], ..config() });
        world.run_for(120 * SECOND);
        for (publisher, node) in [(Publisher::new(100), 0), (Publisher::new(101), newcomer)] {
            let record = publisher.record(1, LIFETIME);
            put(&mut world, node, &record);
            world.run_for(30 * SECOND);
            let kept = holders(&world, &record);
            assert!(kept >= honest, "{kept} hold it where one in {every} colludes");
            for node in [1, 101, 203, newcomer] {
                let (best, freshness, cost) = get(&mut world, node, publisher.name(), Until::Probable(1e-3));
                assert_eq!(best.as_ref(), Some(&record), "{every} {node} {freshness:?}");
                assert!(cost.took < 3 * SECOND, "{cost:?}");
            }
        }
    }
}

#[test]
fn what_is_around_a_crowd_is_explored_once_for_all_who_ask_soon() {
    let mut world = measured(5);
    let publisher = Publisher::new(200);
    world.crowd(&Key::from_digest(publisher.name().dht_id()), 60);
    let record = publisher.record(1, LIFETIME);
    let (tally, ..) = put(&mut world, 0, &record);
    assert!(tally.acked > 12, "half of all that were sent it must have it, and not ten: {tally:?}");
    world.run_for(60 * SECOND);
    let lookups = |world: &mut World| {
        let before = world.nodes[1].dht.usage().lookups;
        let (best, ..) = get(world, 1, publisher.name(), Until::Probable(1e-3));
        assert_eq!(best.as_ref(), Some(&record));
        world.run_for(60 * SECOND);
        world.nodes[1].dht.usage().lookups - before
    };
    let first = lookups(&mut world);
    let soon = [lookups(&mut world), lookups(&mut world)];
    assert!(first > 1 && soon == [1, 1], "{first} {soon:?}");
}

#[test]
fn a_crowd_about_content_does_not_hide_its_providers() {
    // Some crowds have nobody who is slow, for whom somebody honest would be sent it.
    for (seed, crowd) in [(6, 40), (7, 25), (8, 120)] {
        let mut world = measured(seed);
        let key = Bytes::from_static(b"\x12\x20what is provided by the first one");
        world.crowd(&Key::of(&key), crowd);
        world.call(0, |dht, now| dht.provide(now, key.clone()));
        world.run_for(30 * SECOND);
        let query = world.call(1, |dht, now| dht.find_providers(now, key.clone(), 5));
        let (found, _) = world.until(1, |event| match event {
            Event::ProvidersDone { query: done, found } if *done == query => Some(*found),
            _ => None,
        });
        assert_eq!(found, 1, "a crowd of {crowd}");
    }
}

#[test]
fn islands_that_share_a_seed_become_one_network_again() {
    let mut world = World::empty(3);
    for n in 0..5 {
        let seeds = (0..2).filter(|seed| *seed != n).map(info).collect();
        world.add(Config { seeds, refresh: Duration::from_secs(60), ..config() });
    }
    // The two seeds are gone while the others join each other, and come back knowing nobody.
    world.nodes[0].alive = false;
    world.nodes[1].alive = false;
    for n in 2..5 {
        let others = (2..5).filter(|other| *other != n).map(info).collect();
        world.call(n, |dht, now| dht.bootstrap(now, others));
    }
    world.run_for(Duration::from_secs(600));
    let knows_seeds = |world: &World, n: usize| {
        let table: Vec<PeerId> = world.nodes[n].dht.table().map(|entry| entry.peer.id).collect();
        (0..2).all(|seed| table.contains(&info(seed).id))
    };
    assert!((2..5).all(|n| !knows_seeds(&world, n)));
    world.nodes[0].alive = true;
    world.nodes[1].alive = true;
    world.run_for(Duration::from_secs(140));
    assert!((2..5).all(|n| knows_seeds(&world, n)));
}

#[test]
fn alone_it_tries_again_until_somebody_is_there() {
    let mut world = World::empty(7);
    let node = world.add(Config { seeds: vec![info(1)], ..config() });
    let other = world.add(config());
    world.nodes[other].alive = false;
    world.run_for(600 * SECOND);
    assert_eq!(world.nodes[node].dht.health().standing, Standing::Alone);
    assert!((5..60).contains(&world.rpcs), "{}", world.rpcs);
    world.nodes[other].alive = true;
    world.run_for(400 * SECOND);
    assert_eq!(world.nodes[node].dht.health().standing, Standing::Joined);
    assert_eq!(world.nodes[other].dht.health().standing, Standing::Joined);
    // When the only other one dies the node is alone, and finds it again when it is back.
    world.nodes[other].alive = false;
    world.run_for(7200 * SECOND);
    assert_eq!(world.nodes[node].dht.health().standing, Standing::Alone);
    world.nodes[other].alive = true;
    world.run_for(700 * SECOND);
    assert_eq!(world.nodes[node].dht.health().standing, Standing::Joined);
    let standings: Vec<Standing> = world
        .events
        .iter()
        .filter_map(|(_, at, event)| match event {
            Event::Health(health) if *at == node => Some(health.standing),
            _ => None,
        })
        .collect();
    assert!(standings.windows(2).all(|pair| pair[0] != pair[1]), "{standings:?}");
}

#[test]
fn providers_and_peers_are_found() {
    let mut world = World::settled(8, 15, 15);
    let key = Bytes::from_static(b"\x12\x20a multihash of thirty-two bytes..");
    let provide = world.call(5, |dht, now| dht.provide(now, key.clone()));
    let ((tally, success), _) = world.until(5, |event| match event {
        Event::PutDone { query, tally, success } if *query == provide => Some((*tally, *success)),
        _ => None,
    });
    assert!(success, "{tally:?}");
    world.close(5, provide);
    let find = world.call(10, |dht, now| dht.find_providers(now, key.clone(), 1));
    let (provider, _) = world.until(10, |event| match event {
        Event::Provider { query, provider, .. } if *query == find => Some(provider.clone()),
        _ => None,
    });
    assert_eq!(provider, info(5));
    world.close(10, find);
    assert!(world.events.iter().any(|(_, _, event)| *event == Event::ProvidersDone { query: find, found: 1 }));
    // A day later it was announced again, and still has its addresses.
    world.run_for(25 * 3600 * SECOND);
    let find = world.call(11, |dht, now| dht.find_providers(now, key, 10));
    let (provider, _) = world.until(11, |event| match event {
        Event::Provider { query, provider, .. } if *query == find => Some(provider.clone()),
        _ => None,
    });
    assert_eq!(provider, info(5));
    world.close(11, find);

    for (wanted, known) in [(7, true), (9999, false)] {
        let find = world.call(3, |dht, now| dht.find_peer(now, peer(wanted)));
        let ((found, reached), _) = world.until(3, |event| match event {
            Event::FindPeerDone { query, peer, reached } if *query == find => Some((peer.clone(), *reached)),
            _ => None,
        });
        assert_eq!((reached, !found.addresses.is_empty()), (known, known));
    }
}

#[test]
fn every_query_ends_whatever_is_lost() {
    let mut world = World::settled(9, 100, 60);
    world.loss = 30;
    world.kill(40, 1);
    let publisher = Publisher::new(1);
    let mut queries = Vec::new();
    for node in (0..100).filter(|node| world.nodes[*node].alive).collect::<Vec<_>>() {
        queries.push((node, world.call(node, |dht, now| dht.get(now, publisher.name(), Until::Answers(16)))));
        queries.push((node, world.call(node, |dht, now| dht.find_peer(now, peer(77)))));
        queries.push((node, world.call(node, |dht, now| dht.provide(now, Bytes::from_static(b"k")))));
        let cancelled = world.call(node, |dht, now| dht.walk(now, publisher.name()));
        world.call(node, |dht, _| dht.cancel(cancelled));
    }
    for (node, query) in queries {
        world.close(node, query);
    }
    world.run_for(30 * SECOND);
    assert!(world.nodes.iter().filter(|node| node.alive).all(|node| node.dht.usage().queries == 0));
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let run = |seed| {
        let mut world = World::settled(seed, 40, 40);
        world.traced = true;
        world.loss = 5;
        world.kill(10, 1);
        let publisher = Publisher::new(1);
        put(&mut world, 0, &publisher.record(1, LIFETIME));
        let reader = world.nodes.iter().rposition(|node| node.alive).unwrap();
        get(&mut world, reader, publisher.name(), Until::Complete);
        world.run_for(600 * SECOND);
        world.trace
    };
    assert_eq!(run(11), run(11));
    assert_ne!(run(11), run(12));
}

#[test]
fn modes() {
    let dht = |mode| Dht::new(Config { mode, ..Config::public(peer(1)) }, [0; 32], START);
    let mut client = dht(Mode::Client);
    client.set_reachable(true);
    assert!(!client.is_server());
    client.on_request(START, InboundId(1), peer(2), &[], Request::Ping);
    let refused = Output::Reply { to: InboundId(1), response: Err(Refused::NotServer) };
    assert_eq!(client.poll_output(), Some(refused));
    assert!(dht(Mode::Server).is_server());
    let mut auto = dht(Mode::Auto);
    assert!(!auto.is_server());
    auto.set_reachable(true);
    auto.set_reachable(true);
    assert_eq!(auto.poll_output(), Some(Output::Event(Event::Serving(true))));
    assert_eq!(auto.poll_output(), None);
    auto.on_request(START, InboundId(2), peer(2), &[], Request::Ping);
    let pong = Output::Reply { to: InboundId(2), response: Ok(Response::Ping) };
    assert_eq!(auto.poll_output(), Some(pong));
}

#[test]
fn what_a_server_keeps_survives_a_restart() {
    let publisher = Publisher::new(1);
    let record = publisher.record(3, LIFETIME);
    let mut first = Dht::new(Config::lan(peer(1)), [0; 32], START);
    let wire =
        ValueRecord { key: publisher.name().routing_key().into(), value: record.as_bytes().clone(), received: None };
    first.on_request(START, InboundId(1), peer(2), &[], Request::PutValue { record: wire.clone() });
    let Some(Output::Store(kept)) = first.poll_output() else { panic!() };
    let provider = Request::AddProvider { key: "hash".into(), providers: vec![info(2)] };
    first.on_request(START, InboundId(2), peer(2), &[], provider);
    let stored = |dht: &mut Dht| -> Vec<Write> {
        let outputs = std::iter::from_fn(|| dht.poll_output());
        outputs.filter_map(|output| if let Output::Store(write) = output { Some(write) } else { None }).collect()
    };
    let provided = stored(&mut first).remove(0);
    let later = START.after(3600 * SECOND);
    let mut second = Dht::new(Config::lan(peer(1)), [1; 32], later);
    let load =
        |dht: &mut Dht, now, write: &Write| dht.load(now, write.table, &write.key, write.value.as_ref().unwrap());
    load(&mut second, later, &kept);
    load(&mut second, later, &provided);
    second.on_request(later, InboundId(2), peer(2), &[], Request::GetValue { key: wire.key.clone() });
    let Some(Output::Reply { response: Ok(Response::GetValue { record: Some(got), .. }), .. }) = second.poll_output()
    else {
        panic!()
    };
    assert_eq!((got.value, got.received), (wire.value, Some(START.wall)));
    second.on_request(later, InboundId(3), peer(2), &[], Request::GetProviders { key: "hash".into() });
    let Some(Output::Reply { response: Ok(Response::GetProviders { providers, .. }), .. }) = second.poll_output()
    else {
        panic!()
    };
    assert_eq!(providers, [info(2)]);
    let end = START.after(Duration::from_secs(LIFETIME as u64));
    assert_eq!(second.next_timeout(), Some(end.monotonic));
    second.on_timeout(end);
    let gone = |write: &Write| Write { value: None, ..write.clone() };
    assert_eq!(stored(&mut second), [gone(&kept), gone(&provided)]);
    // What has expired meanwhile is forgotten as soon as it is read.
    let mut third = Dht::new(Config::lan(peer(1)), [1; 32], end);
    load(&mut third, end, &kept);
    load(&mut third, end, &provided);
    assert_eq!(stored(&mut third), [gone(&kept), gone(&provided)]);
}

#[test]
fn servers_met_are_remembered_across_a_restart() {
    let mut world = World::empty(12);
    world.add(config());
    for _ in 1..30 {
        world.add(Config { seeds: vec![info(0)], ..config() });
        world.run_for(2 * SECOND);
    }
    world.run_for(300 * SECOND);
    let kept: Vec<Write> = world.stored[7].values().cloned().collect();
    assert!(kept.iter().filter(|write| write.table == Table::Peers).count() >= 25, "{}", kept.len());
    // It starts anew without seeds, and most of those that it knew are gone.
    for dead in (0..30).filter(|node| node % 3 != 1) {
        world.nodes[dead].alive = false;
    }
    let mut dht = Dht::new(Config { local: info(7).id, ..config() }, [3; 32], world.now);
    dht.set_addresses(info(7).addresses);
    for write in kept {
        dht.load(world.now, write.table, &write.key, &write.value.unwrap());
    }
    world.nodes[7].dht = dht;
    world.call(7, |dht, now| dht.loaded(now));
    world.until(7, |event| matches!(event, Event::Health(Health { standing: Standing::Joined, .. })).then_some(()));
    world.run_for(60 * SECOND);
    assert!(world.nodes[7].dht.health().live >= 8, "{:?}", world.nodes[7].dht.health());
}

#[test]
fn an_operation_waits_for_nobody_to_join() {
    let mut world = World::settled(13, 60, 30);
    let publisher = Publisher::new(1);
    let record = publisher.record(1, LIFETIME);
    put(&mut world, 0, &record);
    let newcomer = world.add(Config { seeds: vec![info(5000), info(3)], mode: Mode::Client, ..config() });
    let (best, freshness, cost) = get(&mut world, newcomer, publisher.name(), Until::Probable(1e-3));
    assert_eq!(best, Some(record));
    assert!(freshness.miss_probability <= 1e-3 && cost.took < 3 * SECOND, "{freshness:?} {cost:?}");
}

#[test]
fn a_publish_without_a_walk_walks_first() {
    let mut world = World::settled(14, 60, 30);
    let record = Publisher::new(1).record(1, LIFETIME);
    for (node, rpcs) in [(0, 30..80), (1, 30..80)] {
        let before = world.rpcs;
        let publish = world.call(node, |dht, now| dht.publish(now, &record));
        let ((tally, success), _) = world.until(node, |event| match event {
            Event::PutDone { query, tally, success } if *query == publish => Some((*tally, *success)),
            _ => None,
        });
        assert!(success && tally.acked >= 10, "{tally:?}");
        world.close(node, publish);
        assert!(rpcs.contains(&(world.rpcs - before)), "{}", world.rpcs - before);
    }
    assert!(holders(&world, &record) >= 20);
    // After a walk to its name it needs none.
    let walk = world.call(2, |dht, now| dht.walk(now, *record.name()));
    world.until(2, |event| matches!(event, Event::GetDone { query, .. } if *query == walk).then_some(()));
    let before = world.rpcs;
    let publish = world.call(2, |dht, now| dht.publish(now, &record));
    assert_eq!(publish, walk);
    world.close(2, publish);
    let rpcs = world.rpcs - before;
    assert!((20..40).contains(&rpcs), "{rpcs}");
}

#[test]
fn who_answers_a_ping_is_there() {
    let mut world = World::settled(15, 10, 10);
    world.nodes[5].alive = false;
    for (node, there) in [(4, true), (5, false)] {
        let ping = world.call(0, |dht, now| dht.ping(now, info(node)));
        let (result, _) = world.until(0, |event| match event {
            Event::Pong { query, result, .. } if *query == ping => Some(*result),
            _ => None,
        });
        assert_eq!(result.is_ok(), there, "{result:?}");
    }
}

#[test]
fn a_crawl_finds_everybody_and_asks_nobody_twice() {
    let mut world = World::settled(21, 300, 40);
    world.kill(10, 1);
    let alive = world.nodes.iter().filter(|node| node.alive).count();
    let crawl = Crawling { coverage: Coverage::All, parallelism: 20, interval: 3600 * SECOND };
    let seeds = vec![info(0)];
    let node = world.add(Config { crawl, seeds, mode: Mode::Client, ..config() });
    world.run_for(60 * SECOND);
    let health = world.nodes[node].dht.health();
    assert!(health.crawled.is_some() && health.known >= alive - 2, "{health:?} {alive}");
    let estimate = health.size.unwrap();
    assert!((estimate / alive as f64 - 1.0).abs() < 0.2, "{estimate} {alive}");
    // The next rounds ask only those that nothing was heard of.
    let questions = |world: &World, node: usize| world.nodes[node].dht.rpcs.newest().0;
    let before = questions(&world, node);
    world.run_for(3000 * SECOND);
    assert!(questions(&world, node) - before < 400, "{}", questions(&world, node) - before);
    // What is known makes a lookup zero hops: the record's holders are asked at once, and nobody dead.
    let publisher = Publisher::new(1);
    let record = publisher.record(1, LIFETIME);
    let (tally, _, cost) = put(&mut world, node, &record);
    assert!(tally.acked >= 10 && cost.rpcs <= 33 && cost.took < SECOND, "{tally:?} {cost:?}");
    // A restart goes on with what is stored, and explores it no further.
    world.call(node, |dht, now| dht.save(now));
    let stored: Vec<Write> = world.stored[node].values().cloned().collect();
    let heir = world.add(Config { crawl, seeds: vec![info(0)], mode: Mode::Client, ..config() });
    world.call(heir, |dht, now| {
        stored.iter().for_each(|write| dht.load(now, write.table, &write.key, write.value.as_ref().unwrap()));
        dht.loaded(now);
    });
    world.run_for(60 * SECOND);
    let health = world.nodes[heir].dht.health();
    assert!(health.crawled.is_some() && health.known >= alive - 2, "{health:?}");
    // Most of these are checks of whom to take into the routing table.
    assert!(questions(&world, heir) < 400, "{}", questions(&world, heir));
}

#[test]
fn the_region_of_a_published_name_stays_known() {
    let mut world = World::settled(22, 300, 40);
    let crawl = Crawling { coverage: Coverage::Regions, interval: 600 * SECOND, ..Crawling::default() };
    let node = world.add(Config { crawl, seeds: vec![info(0)], mode: Mode::Client, refresh: 60 * SECOND, ..config() });
    world.run_for(400 * SECOND);
    assert!(world.nodes[node].dht.health().size.is_some() && world.nodes[node].dht.health().crawled.is_none());
    let publisher = Publisher::new(1);
    put(&mut world, node, &publisher.record(1, LIFETIME));
    world.run_for(60 * SECOND);
    assert!(world.nodes[node].dht.health().crawled.is_some());
    let key = Key::from_digest(publisher.name().dht_id());
    let mut nearest: Vec<usize> = (0..300).collect();
    nearest.sort_by_key(|n| Key::of_peer(&info(*n).id).distance(&key));
    let dht = &world.nodes[node].dht;
    for n in &nearest[..10] {
        let place = Key::of_peer(&info(*n).id);
        assert!(dht.peers.book.get(&place).unwrap().is_fresh(world.now.monotonic, 600 * SECOND), "{n}");
    }
}

#[test]
fn liars_among_a_few_hold_no_publish_up() {
    let mut world = World::settled(23, 8, 8);
    for liar in [3, 7] {
        world.nodes[liar].behaviour = Behaviour::NamesNobody;
    }
    let publisher = Publisher::new(1);
    for sequence in 1..6 {
        let record = publisher.record(sequence, LIFETIME);
        let begun = world.now.monotonic;
        let walk = world.call(0, |dht, now| dht.walk(now, publisher.name()));
        world.until(0, |event| matches!(event, Event::GetDone { query, .. } if *query == walk).then_some(()));
        let put = world.call(0, |dht, now| dht.publish(now, &record));
        let (tally, _) = world.until(0, |event| match event {
            Event::PutDone { query, tally, .. } if *query == put => Some(*tally),
            _ => None,
        });
        // All five honest ones have it, and the liars refuse it.
        assert_eq!((tally.acked, tally.refused), (5, 2));
        assert!(world.now.monotonic - begun < 10 * SECOND, "{:?}", world.now.monotonic - begun);
        assert_eq!(get(&mut world, 5, publisher.name(), Until::Probable(1e-3)).0, Some(record));
        world.run_for(30 * SECOND);
    }
}
