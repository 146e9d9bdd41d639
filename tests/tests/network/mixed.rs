//! One network of nodes on all three runtimes.

use futures_util::future::join_all;
use ipns_core::dht::{PeerInfo, Standing};

use crate::on::On;
use crate::ours::{Options, Ours, mixed, name};

#[test]
fn thirty_nodes_of_three_runtimes_are_one_network() {
    On::Tokio.run(async {
        let mut nodes = mixed(&On::ALL, 30).await;
        let published = join_all(
            nodes
                .iter()
                .take(9)
                .enumerate()
                .map(|(n, node)| async move { node.publish(n as u8, &format!("/ipfs/bafkqaaa/{n}")).await }),
        );
        for publication in published.await {
            let publication = publication.unwrap();
            let acks = publication.receipts[0].outcome.clone().unwrap().acks;
            assert!(acks >= 10, "{:?}", publication.receipts);
        }
        all_resolve(&nodes, 9, 0).await;

        // Six go without a good-bye, two of each runtime; three update what they did not publish first.
        join_all(nodes.drain(..6).map(Ours::stop)).await;
        for n in 0..3_u8 {
            let updated = nodes[usize::from(n)].publish(n, &format!("/ipfs/bafkqaaa/{n}/new")).await.unwrap();
            assert_eq!(updated.record.sequence(), 1);
        }
        all_resolve(&nodes, 3, 1).await;
    });
}

async fn all_resolve(nodes: &[Ours], names: u8, sequence: u64) {
    for n in 0..names {
        for (node, found) in nodes.iter().zip(join_all(nodes.iter().map(|node| node.resolve(name(n)))).await) {
            let found = found.unwrap_or_else(|error| panic!("{n} on {:?}: {error}", node.options.on));
            assert_eq!(found.record.sequence(), sequence, "{n} on {:?}", node.options.on);
        }
    }
}

#[test]
fn quic_is_the_same_on_all_runtimes() {
    On::Tokio.run(async {
        let mut nodes: Vec<Ours> = Vec::new();
        for (seed, on) in (1..=6).zip(On::ALL.into_iter().cycle()) {
            let first: Vec<PeerInfo> = nodes.first().map(|node| node.info.clone()).into_iter().collect();
            let listen = vec!["/ip4/127.0.0.1/udp/0/quic-v1"];
            nodes.push(Options { listen, ..Options::server(seed, &first).on(on) }.start().await);
        }
        for node in &nodes {
            node.stands(Standing::Joined).await;
            node.until("all others", |dht| dht.health.live >= 5).await;
        }
        for n in 0..3_u8 {
            let published = nodes[usize::from(n)].publish(n, "/ipfs/bafkqaaa").await.unwrap();
            assert_eq!(published.receipts[0].outcome.clone().unwrap().acks, 5, "{:?}", published.receipts);
        }
        all_resolve(&nodes, 3, 0).await;
    });
}
