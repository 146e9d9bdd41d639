//! Questions and answers as they are meant to be.

use std::time::{Duration, Instant};

use ipns_core::dht::{Refused, Request, Response, RpcError};
use ipns_core::routing::{NetCommand, NetEvent};
use libp2p::swarm::SwarmEvent;

use crate::world::*;

fn request_of(event: &NetEvent) -> Option<(ipns_core::dht::InboundId, Request)> {
    match event {
        NetEvent::Request { id, request, .. } => Some((*id, request.clone())),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_is_answered() {
    for (over, lazy) in [(Over::Tcp, false), (Over::Tcp, true), (Over::Quic, false), (Over::Quic, true)] {
        let (mut asker, mut server) = (Party::with(Setup { lazy, ..Setup::default() }).await, Party::new().await);
        server.serve(PUBLIC, converse);
        for (request, response) in dialogue() {
            assert_eq!(asker.asked(&server, over, request.clone()).await, Ok(response), "{over:?} {lazy}");
            assert_eq!(server.until(request_of).await.1, request);
        }
        asker.usage_is(|usage| (usage.asks, usage.dials, usage.outbound_streams, usage.buffered) == (0, 0, 0, 0)).await;
        server.usage_is(|usage| (usage.unanswered, usage.inbound_streams, usage.buffered) == (0, 0, 0)).await;
        assert!(asker.rest().iter().all(|event| !matches!(event, NetEvent::Response { .. })));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_requests_follow_on_one_stream() {
    for over in BOTH {
        let (mut peer, server) = (Party::new().await, Party::new().await);
        server.serve(PUBLIC, converse);
        let mut stream = peer.stream(&server, over, PUBLIC_PROTOCOL).await;
        for (request, response) in dialogue() {
            send_request(&mut stream, &request).await;
            if response != Response::AddProvider {
                assert_eq!(read_response(&mut stream).await, response);
            }
        }
        // All in one piece, cut anywhere.
        let frames: Vec<u8> =
            dialogue().iter().flat_map(|(request, _)| ipns_core::dht::frame::encode(&request.encode())).collect();
        for piece in frames.chunks(7) {
            send(&mut stream, piece).await;
        }
        for (_, response) in dialogue() {
            if response != Response::AddProvider {
                assert_eq!(read_response(&mut stream).await, response);
            }
        }
        assert_eq!(server.usage().await.inbound_streams, 1);
        futures_util::AsyncWriteExt::close(&mut stream).await.unwrap();
        ended(&mut stream).await;
        server.usage_is(|usage| usage.inbound_streams == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_a_reset_at_once() {
    for over in BOTH {
        for lazy in [false, true] {
            let (mut asker, server) = (Party::with(Setup { lazy, ..Setup::default() }).await, Party::new().await);
            server.serve(PUBLIC, |_, request| match request {
                Request::Ping => Some(Ok(Response::Ping)),
                _ => Some(Err(Refused::Older)),
            });
            assert_eq!(asker.asked(&server, over, Request::Ping).await, Ok(Response::Ping));
            for _ in 0..50 {
                let asked = Instant::now();
                let answer = asker.asked(&server, over, Request::PutValue { record: record() }).await;
                assert_eq!(answer, Err(RpcError::Reset), "{over:?}");
                assert!(asked.elapsed() < Duration::from_millis(100), "{:?}", asked.elapsed());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_closes_after_its_request_sees_a_refusal_as_the_end() {
    for over in BOTH {
        let (mut peer, server) = (Party::new().await, Party::new().await);
        server.serve(PUBLIC, |_, _| Some(Err(Refused::Older)));
        let mut stream = peer.stream(&server, over, PUBLIC_PROTOCOL).await;
        send_request(&mut stream, &Request::Ping).await;
        futures_util::AsyncWriteExt::close(&mut stream).await.unwrap();
        ended(&mut stream).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serving_is_switched_on_one_connection() {
    for over in BOTH {
        for lazy in [false, true] {
            let (mut asker, mut server) = (Party::with(Setup { lazy, ..Setup::default() }).await, Party::new().await);
            assert_eq!(asker.asked(&server, over, Request::Ping).await, Err(RpcError::Unsupported));
            server.serve(PUBLIC, converse);
            // The change reaches the connection before anything else that comes over it can be answered.
            server.usage().await;
            while asker.asked(&server, over, Request::Ping).await != Ok(Response::Ping) {}
            server.command(NetCommand::Serve { router: PUBLIC, serving: false });
            while asker.asked(&server, over, Request::Ping).await != Err(RpcError::Unsupported) {}
            let mut connections = 0;
            let peer = asker.peer;
            server.act(move |swarm| swarm.disconnect_peer_id(peer).unwrap()).await;
            server
                .swarm_until(|event| {
                    connections += usize::from(matches!(event, SwarmEvent::ConnectionEstablished { .. }));
                    matches!(event, SwarmEvent::ConnectionClosed { .. }).then_some(())
                })
                .await;
            assert_eq!(connections, 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_dhts_are_never_mixed() {
    let (mut asker, server) = (Party::new().await, Party::new().await);
    let closer = |router| vec![info(if router == LAN { 1 } else { 2 })];
    server.serve(PUBLIC, move |router, _| Some(Ok(Response::FindNode { closer: closer(router) })));
    server.command(NetCommand::Serve { router: LAN, serving: true });
    let addresses = vec![server.address(Over::Tcp)];
    let find = || Request::FindNode { key: key("k") };
    let ids: Vec<_> = (0..200)
        .map(|n| if n % 3 == 0 { LAN } else { PUBLIC })
        .map(|router| (router, asker.ask_at(router, server.peer, addresses.clone(), find(), SOON)))
        .collect();
    for (router, id) in ids {
        assert_eq!(asker.answer(id).await, Ok(Response::FindNode { closer: closer(router) }));
    }
    server.command(NetCommand::Serve { router: PUBLIC, serving: false });
    server.usage().await;
    while asker.asked(&server, Over::Tcp, find()).await != Err(RpcError::Unsupported) {}
    let id = asker.ask_at(LAN, server.peer, vec![], find(), SOON);
    assert_eq!(asker.answer(id).await, Ok(Response::FindNode { closer: closer(LAN) }));
    let id = asker.ask_at(ipns_core::routing::RouterId(9), server.peer, vec![], find(), SOON);
    assert_eq!(asker.answer(id).await, Err(RpcError::Unsupported));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_share_a_dial_and_take_turns_in_order() {
    let limits = ipns_libp2p::Limits { outbound_streams: 1, ..Default::default() };
    let (mut asker, mut server) = (Party::with(Setup { limits, ..Setup::default() }).await, Party::new().await);
    server.serve(PUBLIC, |_, _| None);
    let names = ["a", "b", "c", "d", "e"];
    let ids: Vec<_> =
        names.map(|name| asker.ask(&server, Over::Tcp, Request::FindNode { key: key(name) })).into_iter().collect();
    let mut seen = Vec::new();
    for at in 0..names.len() {
        let (id, request) = server.until(request_of).await;
        seen.push(request.key().to_vec());
        assert_eq!(asker.usage().await.outbound_streams, 1);
        server.command(NetCommand::Reply { to: id, response: Ok(Response::FindNode { closer: vec![] }) });
        assert_eq!(asker.usage().await.connections, 1, "{at}");
    }
    for id in ids {
        assert_eq!(asker.answer(id).await, Ok(Response::FindNode { closer: vec![] }));
    }
    assert_eq!(seen, names.map(|name| name.as_bytes().to_vec()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_beyond_all_bounds_ends_at_once() {
    let limits = ipns_libp2p::Limits { asks: 2, waiting_asks: 1, ..Default::default() };
    let (mut asker, mut server) = (Party::with(Setup { limits, ..Setup::default() }).await, Party::new().await);
    server.serve(PUBLIC, |_, _| None);
    let ids: Vec<_> = (0..4).map(|_| asker.ask(&server, Over::Tcp, Request::Ping)).collect();
    assert_eq!(asker.answer(ids[3]).await, Err(RpcError::Timeout));
    for _ in 0..3 {
        let (to, _) = server.until(request_of).await;
        server.command(NetCommand::Reply { to, response: Ok(Response::Ping) });
    }
    for id in &ids[..3] {
        assert_eq!(asker.answer(*id).await, Ok(Response::Ping));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_without_a_node_serves_nobody() {
    let (mut asker, mut server) = (Party::new().await, Party::new().await);
    server.serve(PUBLIC, |_, _| None);
    let id = asker.ask(&server, Over::Tcp, Request::Ping);
    server.until(request_of).await;
    let hanging = server.ask(&asker, Over::Tcp, Request::Ping);
    assert_eq!(server.answer(hanging).await, Err(RpcError::Unsupported));
    server.close_commands();
    assert_eq!(asker.answer(id).await, Err(RpcError::Reset));
    assert_eq!(asker.asked(&server, Over::Tcp, Request::Ping).await, Err(RpcError::Unsupported));
    server.usage_is(|usage| (usage.asks, usage.unanswered, usage.inbound_streams) == (0, 0, 0)).await;
}
