//! Questions that come to nothing, each in its own way.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use futures_util::{AsyncReadExt, AsyncWriteExt, StreamExt};
use ipns_core::dht::{Request, Response, RpcError};
use ipns_core::routing::NetEvent;
use libp2p::PeerId;
use libp2p::multiaddr::Multiaddr;
use libp2p::swarm::SwarmEvent;
use libp2p::swarm::dial_opts::DialOpts;
use tokio::time::timeout;

use crate::world::*;

fn tcp(port: u16) -> Multiaddr {
    format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_cannot_be_dialled() {
    let mut asker = Party::new().await;
    let dead = {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        tcp(listener.local_addr().unwrap().port())
    };
    for addresses in [vec![dead.clone()], vec![], vec!["/ip4/127.0.0.1/tcp/1/ws".parse().unwrap()]] {
        let id = asker.ask_at(PUBLIC, PeerId::random(), addresses, Request::Ping, SOON);
        assert_eq!(asker.answer(id).await, Err(RpcError::DialFailed));
    }
    // Another peer than the one that is wanted, and the asker itself.
    let other = Party::new().await;
    let (peer, own) = (asker.peer, asker.address(Over::Tcp));
    for (peer, address) in [(PeerId::random(), other.address(Over::Tcp)), (peer, own)] {
        let id = asker.ask_at(PUBLIC, peer, vec![address], Request::Ping, SOON);
        assert_eq!(asker.answer(id).await, Err(RpcError::DialFailed));
    }
    asker.usage_is(|usage| (usage.asks, usage.dials, usage.peers) == (0, 0, 0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_that_knows_better_addresses_is_not_lost_with_the_dial_of_another() {
    let (mut asker, server) = (Party::new().await, Party::new().await);
    server.serve(PUBLIC, converse);
    let dead = {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        tcp(listener.local_addr().unwrap().port())
    };
    let first = asker.ask_at(PUBLIC, server.peer, vec![dead.clone()], Request::Ping, SOON);
    let second = asker.ask_at(PUBLIC, server.peer, vec![dead, server.address(Over::Tcp)], Request::Ping, SOON);
    assert_eq!(asker.answer(first).await, Err(RpcError::DialFailed));
    assert_eq!(asker.answer(second).await, Ok(Response::Ping));
}

/// Somebody else in the swarm dials the peer already.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_dial_of_another_is_shared_and_not_relied_on() {
    for over in BOTH {
        for well in [true, false] {
            let (mut asker, server) = (Party::new().await, Party::new().await);
            server.serve(PUBLIC, converse);
            let dead = {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
                tcp(listener.local_addr().unwrap().port())
            };
            let at = if well { server.address(over) } else { dead };
            let dial = DialOpts::peer_id(server.peer).addresses(vec![at]).build();
            let (commands, (id, command)) = (asker.commands(), asker.question(&server, over, Request::Ping));
            asker
                .act(move |swarm| {
                    swarm.dial(dial).unwrap();
                    commands.unbounded_send(command).unwrap();
                })
                .await;
            assert_eq!(asker.answer(id).await, Ok(Response::Ping), "{over:?} {well}");
            assert_eq!(asker.usage().await.connections, 1);
            assert_eq!(asker.usage().await.dials, 0);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_never_answers() {
    for over in BOTH {
        let (mut asker, mut silent) = (Party::new().await, Party::new().await);
        let mut streams = silent.accept(PUBLIC_PROTOCOL);
        let (asked, patience) = (Instant::now(), Duration::from_millis(300));
        let id = asker.ask_at(PUBLIC, silent.peer, vec![silent.address(over)], Request::Ping, patience);
        let (_, mut stream) = timeout(SOON, streams.next()).await.unwrap().unwrap();
        assert_eq!(asker.answer(id).await, Err(RpcError::Timeout));
        let took = asked.elapsed();
        assert!(took >= patience && took < patience + Duration::from_secs(1), "{took:?}");
        // The peer sees that nobody waits any more.
        let mut bytes = Vec::new();
        let _ = timeout(SOON, stream.read_to_end(&mut bytes)).await.unwrap();
        asker.usage_is(|usage| (usage.asks, usage.outbound_streams) == (0, 0)).await;
        let late = asker.rest();
        assert!(!late.iter().any(|event| matches!(event, NetEvent::Response { .. })), "{late:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dialling_counts_against_the_time() {
    let mut asker = Party::new().await;
    let mute = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let deaf = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let quic: Multiaddr = format!("/ip4/127.0.0.1/udp/{}/quic-v1", deaf.local_addr().unwrap().port()).parse().unwrap();
    for address in [tcp(mute.local_addr().unwrap().port()), quic] {
        let (asked, patience) = (Instant::now(), Duration::from_millis(300));
        let id = asker.ask_at(PUBLIC, PeerId::random(), vec![address], Request::Ping, patience);
        assert_eq!(asker.answer(id).await, Err(RpcError::Timeout));
        let took = asked.elapsed();
        assert!(took >= patience && took < patience + Duration::from_secs(1), "{took:?}");
        assert_eq!(asker.usage().await.asks, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_closes_under_a_question() {
    for over in BOTH {
        for by_asker in [false, true] {
            let (mut asker, mut server) = (Party::new().await, Party::new().await);
            server.serve(PUBLIC, |_, _| None);
            let id = asker.ask(&server, over, Request::Ping);
            server.until(|event| matches!(event, NetEvent::Request { .. }).then_some(())).await;
            let (closer, other) = if by_asker { (&asker, server.peer) } else { (&server, asker.peer) };
            closer.act(move |swarm| swarm.disconnect_peer_id(other).unwrap()).await;
            assert_eq!(asker.answer(id).await, Err(RpcError::Closed), "{over:?} {by_asker}");
            server.usage_is(|usage| usage == Default::default()).await;
            asker.usage_is(|usage| usage == Default::default()).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_vanishes_under_a_question() {
    let (mut asker, mut server) = (Party::new().await, Party::new().await);
    server.serve(PUBLIC, |_, _| None);
    let id = asker.ask(&server, Over::Tcp, Request::Ping);
    server.until(|event| matches!(event, NetEvent::Request { .. }).then_some(())).await;
    drop(server);
    assert_eq!(asker.answer(id).await, Err(RpcError::Closed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_ends_cleanly_before_the_answer() {
    for over in BOTH {
        let (mut asker, mut server) = (Party::new().await, Party::new().await);
        let mut streams = server.accept(PUBLIC_PROTOCOL);
        for within in [false, true] {
            let id = asker.ask(&server, over, Request::Ping);
            let (_, mut stream) = timeout(SOON, streams.next()).await.unwrap().unwrap();
            if within {
                send(&mut stream, &[100, 1, 2, 3]).await;
            }
            stream.close().await.unwrap();
            let expected = if within { RpcError::Malformed } else { RpcError::Closed };
            assert_eq!(asker.answer(id).await, Err(expected), "{over:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_reset() {
    for over in BOTH {
        for lazy in [false, true] {
            let (mut asker, mut server) = (Party::with(Setup { lazy, ..Setup::default() }).await, Party::new().await);
            let mut streams = server.accept(PUBLIC_PROTOCOL);
            for bytes in [&[][..], &[100, 1, 2, 3]] {
                let id = asker.ask(&server, over, Request::Ping);
                let (_, mut stream) = timeout(SOON, streams.next()).await.unwrap().unwrap();
                send(&mut stream, bytes).await;
                drop(stream);
                assert_eq!(asker.answer(id).await, Err(RpcError::Reset), "{over:?} {lazy} {bytes:?}");
            }
        }
    }
}

/// A question that was handed to a connection which is just closing is put again on a new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_is_not_lost_in_a_closing_connection() {
    for over in BOTH {
        let (mut asker, mut server) = (Party::new().await, Party::new().await);
        server.serve(PUBLIC, converse);
        for _ in 0..20 {
            assert_eq!(asker.asked(&server, over, Request::Ping).await, Ok(Response::Ping));
            // The swarm closes the connection before its behaviour has seen the question.
            let (peer, commands) = (server.peer, asker.commands());
            let (id, command) = asker.question(&server, over, Request::Ping);
            asker
                .act(move |swarm| {
                    swarm.disconnect_peer_id(peer).unwrap();
                    commands.unbounded_send(command).unwrap();
                })
                .await;
            assert_eq!(asker.answer(id).await, Ok(Response::Ping), "{over:?}");
        }
        server.swarm_until(|event| matches!(event, SwarmEvent::ConnectionClosed { .. }).then_some(())).await;
    }
}
