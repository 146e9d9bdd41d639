//! Peers that want to hurt.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::{AsyncWriteExt, StreamExt};
use ipns_core::dht::{MAX_REQUEST_BYTES, Request, Response, RpcError, frame};
use ipns_core::routing::NetEvent;
use ipns_libp2p::Limits;
use tokio::time::timeout;

use crate::world::*;

fn varint(mut n: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while n >= 0x80 {
        bytes.push(n as u8 | 0x80);
        n >>= 7;
    }
    bytes.push(n as u8);
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_request_is_reset() {
    for over in BOTH {
        let (mut peer, mut server) = (Party::new().await, Party::new().await);
        server.serve(PUBLIC, converse);
        let too_large = varint(MAX_REQUEST_BYTES as u64 + 1);
        let no_length = vec![0xff; 10];
        let garbage = frame::encode(&[0xff; 100]);
        let unknown = frame::encode(&[8, 77]);
        let wrong_key = frame::encode(&Request::GetValue { key: vec![1; 500].into() }.encode());
        let http = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(3);
        for bytes in [too_large, no_length, garbage, unknown, wrong_key, http] {
            let mut stream = peer.stream(&server, over, PUBLIC_PROTOCOL).await;
            send(&mut stream, &bytes).await;
            assert!(ended(&mut stream).await, "{over:?} {bytes:?}");
        }
        // Cut in the middle: the peer itself has ended the stream.
        let mut stream = peer.stream(&server, over, PUBLIC_PROTOCOL).await;
        send(&mut stream, &[50, 1, 2, 3]).await;
        stream.close().await.unwrap();
        ended(&mut stream).await;
        server.usage_is(|usage| (usage.inbound_streams, usage.buffered) == (0, 0)).await;
        assert!(server.rest().iter().all(|event| !matches!(event, NetEvent::Request { .. })));
        assert_eq!(peer.asked(&server, over, Request::Ping).await, Ok(Response::Ping));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_too_large_or_none() {
    for over in BOTH {
        let (mut asker, mut server) = (Party::new().await, Party::new().await);
        let mut streams = server.accept(PUBLIC_PROTOCOL);
        let large = [varint(5 << 20), vec![0x42; 5 << 20]].concat();
        for bytes in [large, frame::encode(&[0xff; 50]), vec![0xff; 11], b"HTTP/1.1 400 Bad Request\r\n\r\n".repeat(3)]
        {
            let id = asker.ask(&server, over, Request::Ping);
            let (_, mut stream) = timeout(SOON, streams.next()).await.unwrap().unwrap();
            // The asker resets the stream in the middle of what is too large.
            let _ = timeout(SOON, stream.write_all(&bytes)).await.unwrap();
            let _ = stream.flush().await;
            assert_eq!(asker.answer(id).await, Err(RpcError::Malformed), "{over:?}");
        }
        asker.usage_is(|usage| (usage.outbound_streams, usage.buffered) == (0, 0)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_announced_length_costs_nothing() {
    for over in BOTH {
        let (mut asker, mut server) = (Party::new().await, Party::new().await);
        let mut streams = server.accept(PUBLIC_PROTOCOL);
        let (mut ids, mut open) = (Vec::new(), Vec::new());
        for _ in 0..30 {
            ids.push(asker.ask(&server, over, Request::Ping));
            let (_, mut stream) = timeout(SOON, streams.next()).await.unwrap().unwrap();
            send(&mut stream, &varint(4 << 20)).await;
            open.push(stream);
        }
        asker.usage_is(|usage| usage.outbound_streams == 30).await;
        assert!(asker.usage().await.buffered <= 30 * (4 << 10), "{:?}", asker.usage().await);
        drop(open);
        for id in ids {
            assert_eq!(asker.answer(id).await, Err(RpcError::Reset));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_answers_share_a_budget() {
    let limits = Limits { answer_bytes: 1 << 20, ..Limits::default() };
    let (mut asker, mut server) = (Party::with(Setup { limits, ..Setup::default() }).await, Party::new().await);
    let mut streams = server.accept(PUBLIC_PROTOCOL);
    for _ in 0..8 {
        asker.ask(&server, Over::Quic, Request::Ping);
        let (_, mut stream) = timeout(SOON, streams.next()).await.unwrap().unwrap();
        // Three quarters of a megabyte of four, and then nothing more.
        let bytes = [varint(4 << 20), vec![0; 3 << 18]].concat();
        tokio::spawn(async move {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.flush().await;
            std::future::pending::<()>().await;
        });
    }
    for _ in 0..7 {
        let failed = asker.until(|event| match event {
            NetEvent::Response { result, .. } => Some(result.clone()),
            _ => None,
        });
        assert_eq!(failed.await, Err(RpcError::Malformed));
        assert!(asker.usage().await.buffered <= (1 << 20) + 8 * (64 << 10));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_requests_share_a_budget() {
    for over in BOTH {
        let limits = Limits { request_bytes: 64 << 10, ..Limits::default() };
        let (mut peer, server) = (Party::new().await, Party::with(Setup { limits, ..Setup::default() }).await);
        server.serve(PUBLIC, converse);
        // Most of a request that fits alone.
        let part = [varint(60_000), vec![0; 40_000]].concat();
        let mut first = peer.stream(&server, over, PUBLIC_PROTOCOL).await;
        first.write_all(&part).await.unwrap();
        first.flush().await.unwrap();
        server.usage_is(|usage| usage.buffered >= 40_000).await;
        for _ in 0..8 {
            let mut further = peer.stream(&server, over, PUBLIC_PROTOCOL).await;
            let _ = further.write_all(&part).await;
            let _ = further.flush().await;
            ended(&mut further).await;
            assert!(server.usage().await.buffered <= (64 << 10) + 2 * (4 << 10));
        }
        // Small ones cost nothing of it.
        assert_eq!(peer.asked(&server, over, Request::Ping).await, Ok(Response::Ping));
        drop(first);
        server.usage_is(|usage| usage.buffered == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_trickle_are_not_waited_for() {
    for over in BOTH {
        let frame_timeout = Duration::from_millis(200);
        let limits = Limits { frame_timeout, idle_timeout: 10 * frame_timeout, ..Limits::default() };
        let (mut peer, server) = (Party::new().await, Party::with(Setup { limits, ..Setup::default() }).await);
        server.serve(PUBLIC, converse);
        let mut trickling = peer.stream(&server, over, PUBLIC_PROTOCOL).await;
        let mut idle = peer.stream(&server, over, PUBLIC_PROTOCOL).await;
        send_request(&mut idle, &Request::Ping).await;
        assert_eq!(read_response(&mut idle).await, Response::Ping);
        let begun = Instant::now();
        while trickling.write_all(&[60]).await.is_ok() {
            trickling.flush().await.unwrap();
            tokio::time::sleep(frame_timeout / 10).await;
            assert!(begun.elapsed() < 20 * frame_timeout, "the peer can trickle for ever");
        }
        assert!(begun.elapsed() >= frame_timeout);
        assert_eq!(peer.asked(&server, over, Request::Ping).await, Ok(Response::Ping));
        // A stream without a request is closed after a while, and not reset; over QUIC the peer may not go on either.
        assert_eq!(ended(&mut idle).await, over == Over::Quic);
        server.usage_is(|usage| usage.inbound_streams == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_nobody_answers_are_bounded() {
    let limits = Limits { unanswered: 5, ..Limits::default() };
    let (mut asker, mut server) = (Party::new().await, Party::with(Setup { limits, ..Setup::default() }).await);
    server.serve(PUBLIC, |_, _| None);
    let ids: Vec<_> = (0..20).map(|_| asker.ask(&server, Over::Tcp, Request::Ping)).collect();
    for _ in 0..15 {
        let refused = asker.until(|event| match event {
            NetEvent::Response { result, .. } => Some(result.clone()),
            _ => None,
        });
        assert_eq!(refused.await, Err(RpcError::Reset));
    }
    assert_eq!(server.usage().await.unanswered, 5);
    for _ in 0..5 {
        server.until(|event| matches!(event, NetEvent::Request { .. }).then_some(())).await;
    }
    assert!(server.rest().iter().all(|event| !matches!(event, NetEvent::Request { .. })));
    drop((asker, ids));
    server.usage_is(|usage| usage == Default::default()).await;
}

/// Ten thousand streams at once, half of them silent and half with a piece of a large request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_streams_stops_nobody() {
    for over in BOTH {
        let (mut attacker, mut asker, server) = (Party::new().await, Party::new().await, Party::new().await);
        server.serve(PUBLIC, converse);
        assert_eq!(asker.asked(&server, over, Request::Ping).await, Ok(Response::Ping));
        drop(attacker.stream(&server, over, PUBLIC_PROTOCOL).await);
        let (opened, over_with) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let flood: Vec<_> = (0..100)
            .map(|_| {
                let (mut control, peer, opened) = (attacker.raw.clone(), server.peer, opened.clone());
                tokio::spawn(async move {
                    let mut held = Vec::new();
                    for n in 0..100 {
                        if let Ok(mut stream) = control.open_stream(peer, PUBLIC_PROTOCOL).await {
                            if n % 2 == 0 {
                                let _ = stream.write_all(&[varint(60_000), vec![1; 3_000]].concat()).await;
                                let _ = stream.flush().await;
                            }
                            // QUIC grants no more than 256 at once.
                            if n % 50 == 0 {
                                held.push(stream);
                            }
                        }
                        opened.fetch_add(1, Ordering::Relaxed);
                    }
                    held
                })
            })
            .collect();
        let watch = async {
            let (mut served, mut slowest) = (0, Duration::ZERO);
            let (mut most_streams, mut most_bytes) = (0, 0);
            while !over_with.load(Ordering::Relaxed) || served < 20 {
                let asked = Instant::now();
                assert_eq!(asker.asked(&server, over, Request::Ping).await, Ok(Response::Ping));
                slowest = slowest.max(asked.elapsed());
                served += 1;
                let usage = server.usage().await;
                most_streams = most_streams.max(usage.inbound_streams);
                most_bytes = most_bytes.max(usage.buffered);
            }
            (served, slowest, most_streams, most_bytes)
        };
        let attack = async {
            let mut held = Vec::new();
            for task in flood {
                // Streams that the server does not negotiate in time are given up.
                held.push(timeout(3 * SOON, task).await.unwrap().unwrap());
            }
            over_with.store(true, Ordering::Relaxed);
            held
        };
        let ((served, slowest, streams, bytes), held) = tokio::join!(watch, attack);
        assert_eq!(opened.load(Ordering::Relaxed), 10_000);
        println!(
            "{over:?}: {served} others served, the slowest in {slowest:?}; at most {streams} streams, {bytes} bytes"
        );
        let limits = Limits::default();
        assert!(streams <= limits.inbound_streams + 1, "{streams}");
        assert!(bytes <= (limits.inbound_streams + 1) * (8 << 10), "{bytes}");
        assert!(slowest < Duration::from_secs(5), "{slowest:?}");
        drop((held, attacker));
        server.usage_is(|usage| usage.inbound_streams == 0 && usage.buffered == 0).await;
        assert_eq!(asker.asked(&server, over, Request::Ping).await, Ok(Response::Ping));
    }
}
