//! Networks of our own nodes alone.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};
use ipns_core::dht::{Coverage, PeerInfo, Standing};

use crate::on::{LONG, On, on_each_runtime, within};
use crate::ours::{Options, Ours, key, name, network, peer_at};
use ipns_core::key::Signer;

on_each_runtime!(
    twenty_five_nodes_resolve_what_any_of_them_publishes,
    who_crawls_knows_everybody,
    a_dead_bootstrap_peer_delays_nothing,
    who_is_alone_joins_when_it_is_told_of_others,
    records_and_peers_outlive_a_restart,
    quic_and_tcp_are_one_network,
    dropped_operations_and_a_shutdown_leave_nothing_behind
);

async fn twenty_five_nodes_resolve_what_any_of_them_publishes(on: On) {
    let mut nodes = network(on, 25).await;
    let published = join_all((0..25).map(|n| {
        let node = &nodes[n];
        async move { node.publish(n as u8, &format!("/ipfs/bafkqaaa/{n}")).await }
    }));
    for publication in published.await {
        let publication = publication.unwrap();
        let tally = publication.receipts[0].outcome.clone().unwrap();
        assert!(tally.acks >= 10, "{:?}", publication.receipts);
        assert!(publication.receipts[0].peers.len() >= 10);
    }
    all_resolve(&nodes, |n| format!("/ipfs/bafkqaaa/{n}")).await;

    // Five go without a good-bye, and everything is still there.
    for _ in 0..5 {
        nodes.remove(3).stop().await;
    }
    all_resolve(&nodes, |n| format!("/ipfs/bafkqaaa/{n}")).await;

    // An update, from another node than the first, is seen by all.
    let updated = nodes[10].publish(0, "/ipfs/bafkqaaa/new").await.unwrap();
    assert_eq!(updated.record.sequence(), 1);
    for resolution in join_all(nodes.iter().map(|node| node.resolve(name(0)))).await {
        let resolution = resolution.unwrap();
        assert_eq!((resolution.value.as_str(), resolution.record.sequence()), ("/ipfs/bafkqaaa/new", 1));
    }
}

async fn all_resolve(nodes: &[Ours], value: impl Fn(u8) -> String) {
    for n in 0..25 {
        for resolution in join_all(nodes.iter().map(|node| node.resolve(name(n)))).await {
            let resolution = resolution.unwrap_or_else(|error| panic!("{n}: {error}"));
            assert_eq!(resolution.value.as_str(), value(n));
            assert!(resolution.freshness.miss_probability <= 1e-3, "{:?}", resolution.freshness);
        }
    }
}

async fn who_crawls_knows_everybody(on: On) {
    let nodes = network(on, 25).await;
    let published = nodes[1].publish(1, "/ipfs/bafkqaaa/1").await.unwrap();
    // It joins through one, and is told of the others by them.
    let options = Options { coverage: Coverage::All, ..Options::client(50, &[nodes[0].info.clone()]) };
    let newcomer = options.on(on).start().await;
    newcomer.until("crawled", |dht| dht.crawled.is_some()).await;
    let health = newcomer.node.health().await.unwrap().remove(0).health;
    assert!(health.known == 25 && health.size == Some(25.0), "{health:?}");
    assert_eq!(newcomer.resolve(name(1)).await.unwrap().record, published.record);
}

async fn a_dead_bootstrap_peer_delays_nothing(on: On) {
    let nodes = network(on, 4).await;
    nodes[1].publish(1, "/ipfs/bafkqaaa/1").await.unwrap();
    // One takes connections and never says a word, one is not there at all.
    let black_hole = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("/ip4/127.0.0.1/tcp/{}", black_hole.local_addr().unwrap().port());
    let somebody = |seed| key(seed).public_key().to_name().to_peer_id();
    let dead = [
        peer_at(&format!("{silent}/p2p/{}", somebody(90))),
        peer_at(&format!("/ip4/127.0.0.1/tcp/1/p2p/{}", somebody(91))),
    ];
    let begun = Instant::now();
    let newcomer = Options::client(50, &[&dead[..], &[nodes[0].info.clone()]].concat()).on(on).start().await;
    let found = newcomer.resolve(name(1)).await.unwrap();
    assert_eq!(found.value.as_str(), "/ipfs/bafkqaaa/1");
    // The silent one would have held it up for the five seconds that a dial may take.
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    newcomer.stands(Standing::Joined).await;
}

async fn who_is_alone_joins_when_it_is_told_of_others(on: On) {
    let lonely = Options::server(60, &[]).on(on).start().await;
    lonely.stands(Standing::Alone).await;
    assert_eq!(lonely.resolve(name(1)).await.unwrap_err().code(), "unreachable");
    let nodes = network(on, 3).await;
    nodes[2].publish(1, "/ipfs/bafkqaaa/1").await.unwrap();
    lonely.node.bootstrap(vec![nodes[0].info.clone()]);
    lonely.stands(Standing::Joined).await;
    assert_eq!(lonely.resolve(name(1)).await.unwrap().value.as_str(), "/ipfs/bafkqaaa/1");
    // The others have got to know it, too.
    nodes[0].until("three peers", |dht| dht.health.live >= 3).await;
}

async fn records_and_peers_outlive_a_restart(on: On) {
    let mut nodes = network(on, 6).await;
    let published = nodes[1].publish(1, "/ipfs/bafkqaaa/1").await.unwrap();
    for node in &nodes {
        node.keeps_at_least(1).await;
    }
    let restarted = nodes.remove(5).stop().await;
    // It comes back without anybody to join through but those whom it remembers.
    let restarted = Options { bootstrap: Vec::new(), ..restarted }.on(on).start().await;
    restarted.stands(Standing::Joined).await;
    assert_eq!(restarted.keeps().await, 1);
    let known = restarted.resolve(name(1)).await.unwrap();
    assert_eq!(known.record, published.record);
}

async fn quic_and_tcp_are_one_network(on: On) {
    let mut nodes: Vec<Ours> = Vec::new();
    for seed in 1..=6 {
        let first: Vec<PeerInfo> = nodes.first().map(|node| node.info.clone()).into_iter().collect();
        let listen = match seed % 3 {
            0 => vec!["/ip4/127.0.0.1/udp/0/quic-v1"],
            1 => vec!["/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0"],
            _ => vec!["/ip4/127.0.0.1/tcp/0"],
        };
        nodes.push(Options { listen, ..Options::server(seed, &first) }.on(on).start().await);
    }
    for node in &nodes {
        node.stands(Standing::Joined).await;
    }
    let published = nodes[2].publish(1, "/ipfs/bafkqaaa/1").await.unwrap();
    assert_eq!(published.receipts[0].outcome.clone().unwrap().acks, 5, "{:?}", published.receipts);
    for node in &nodes {
        assert_eq!(node.resolve(name(1)).await.unwrap().value.as_str(), "/ipfs/bafkqaaa/1");
    }
}

async fn dropped_operations_and_a_shutdown_leave_nothing_behind(on: On) {
    let nodes = network(on, 8).await;
    for round in 0..20_u8 {
        let (publish, resolve) = (nodes[2].publish(round, "/ipfs/bafkqaaa/1"), nodes[3].resolve(name(round)));
        let cut = Duration::from_millis(u64::from(round) * 3);
        let _ = within(cut, join(publish, resolve)).await;
    }
    for node in &nodes {
        node.until("no operations", |dht| dht.usage.queries == 0 && dht.usage.rpcs == 0).await;
        assert_eq!(node.node.stats().load, 0);
    }
    within(LONG, join_all(nodes.into_iter().map(Ours::stop))).await.unwrap();
}
