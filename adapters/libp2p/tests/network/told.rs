//! What peers tell of themselves, and what this node is told of itself.

use std::time::Duration;

use ipns_core::dht::{Request, Response};
use ipns_core::routing::{NetCommand, NetEvent, RouterId};
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, PeerId};

use crate::world::*;

fn identified(event: &NetEvent) -> Option<(PeerId, Vec<Multiaddr>, Vec<RouterId>)> {
    match event {
        NetEvent::Identified { peer, addresses, serves } => Some((*peer, addresses.clone(), serves.clone())),
        _ => None,
    }
}

/// Waits for news of a peer with these addresses, in any order, and these protocols.
async fn knows(party: &mut Party, peer: PeerId, wanted: &[Multiaddr], serves: &[RouterId]) {
    party
        .until(|event| {
            let (who, mut addresses, theirs) = identified(event)?;
            addresses.sort();
            let mut wanted = wanted.to_vec();
            wanted.sort();
            (who == peer && addresses == wanted && theirs == serves).then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_identified() {
    for over in BOTH {
        let (mut asker, mut server) = (Party::new().await, Party::new().await);
        server.serve(LAN, converse);
        server.command(NetCommand::Serve { router: PUBLIC, serving: true });
        server.usage().await;
        let at = [server.address(Over::Tcp), server.address(Over::Quic)];
        assert_eq!(asker.asked(&server, over, Request::Ping).await, Ok(Response::Ping));
        knows(&mut asker, server.peer, &at, &[PUBLIC, LAN]).await;
        // The asker is a client.
        knows(&mut server, asker.peer, &[asker.address(Over::Tcp), asker.address(Over::Quic)], &[]).await;
        // It becomes a server, on the same connection, and then a client again.
        asker.command(NetCommand::Serve { router: LAN, serving: true });
        knows(&mut server, asker.peer, &[asker.address(Over::Tcp), asker.address(Over::Quic)], &[LAN]).await;
        asker.command(NetCommand::Serve { router: LAN, serving: false });
        knows(&mut server, asker.peer, &[asker.address(Over::Tcp), asker.address(Over::Quic)], &[]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_comes_back_is_known_although_identify_tells_nothing_new() {
    let (mut server, mut peer) = (Party::new().await, Party::new().await);
    peer.serve(PUBLIC, converse);
    peer.usage().await;
    let at = [peer.address(Over::Tcp), peer.address(Over::Quic)];
    for _ in 0..3 {
        // The peer dials, so that its address is not known from that.
        assert!(peer.asked(&server, Over::Tcp, Request::Ping).await.is_err());
        knows(&mut server, peer.peer, &at, &[PUBLIC]).await;
        let other = peer.peer;
        server.act(move |swarm| swarm.disconnect_peer_id(other).unwrap()).await;
        server.usage_is(|usage| usage == Default::default()).await;
        peer.usage_is(|usage| usage == Default::default()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_own_addresses_are_told() {
    let mut party = Party::new().await;
    let (tcp, quic) = (party.address(Over::Tcp), party.address(Over::Quic));
    let addresses = |listening: Vec<Multiaddr>, confirmed: Vec<Multiaddr>| {
        move |event: &NetEvent| {
            (*event == NetEvent::Addresses { listening: listening.clone(), confirmed: confirmed.clone() }).then_some(())
        }
    };
    party.until(addresses(vec![tcp.clone(), quic.clone()], vec![])).await;
    let outside: Multiaddr = "/ip4/192.0.2.7/tcp/4001".parse().unwrap();
    let it = outside.clone();
    party.act(move |swarm| swarm.add_external_address(it)).await;
    party.until(addresses(vec![tcp.clone(), quic.clone()], vec![outside.clone()])).await;
    let it = outside.clone();
    party.act(move |swarm| swarm.remove_external_address(&it)).await;
    party.until(addresses(vec![tcp.clone(), quic.clone()], vec![])).await;
    let id = party.act(|swarm| swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap()).await;
    let third = party
        .until(|event| match event {
            NetEvent::Addresses { listening, .. } if listening.len() == 3 => listening.last().cloned(),
            _ => None,
        })
        .await;
    assert_ne!(third, tcp);
    party.act(move |swarm| assert!(swarm.remove_listener(id))).await;
    party.until(addresses(vec![tcp, quic], vec![])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_close_and_nothing_is_left() {
    let setup = Setup { idle: Duration::from_millis(100), ..Setup::default() };
    for over in BOTH {
        let (mut asker, server) = (Party::with(setup.clone()).await, Party::with(setup.clone()).await);
        server.serve(PUBLIC, converse);
        for _ in 0..3 {
            assert_eq!(asker.asked(&server, over, Request::Ping).await, Ok(Response::Ping));
            asker.usage_is(|usage| usage == Default::default()).await;
            server.usage_is(|usage| usage == Default::default()).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_identify_knows_too_is_dialled_once() {
    let (mut asker, mut server) = (Party::new().await, Party::new().await);
    server.serve(PUBLIC, converse);
    let at = [server.address(Over::Tcp), server.address(Over::Quic)];
    for round in 0..4 {
        assert_eq!(asker.asked(&server, Over::Tcp, Request::Ping).await, Ok(Response::Ping));
        knows(&mut asker, server.peer, &at, &[PUBLIC]).await;
        let other = server.peer;
        asker.act(move |swarm| swarm.disconnect_peer_id(other).unwrap()).await;
        asker.usage_is(|usage| usage == Default::default()).await;
        let mut dials = 0;
        server
            .swarm_until(|event| match event {
                SwarmEvent::IncomingConnection { local_addr, .. } if local_addr == at[0] => {
                    dials += 1;
                    None
                }
                // One over QUIC that lost the race may still be closing from the round before.
                SwarmEvent::ConnectionClosed { num_established: 0, .. } if dials > 0 => Some(()),
                _ => None,
            })
            .await;
        assert_eq!(dials, 1, "in round {round}");
    }
}
