//! What the peer sees of a stream, and what is left of a dial.

use std::net::UdpSocket;

use ::async_io::Async;
use futures_util::future::{Either, join, poll_fn, select};
use futures_util::io::{AsyncReadExt, AsyncWriteExt};
use libp2p::core::Transport as _;
use libp2p::core::muxing::StreamMuxerExt;

use super::connection::Stream;
use super::*;
use crate::async_io::tests::{connect, dialling, listen, run};

const AT: &str = "/ip4/127.0.0.1/udp/0/quic-v1";

fn transport(executor: &Executor) -> Transport {
    Transport::new(&Keypair::generate_ed25519(), executor.clone()).unwrap()
}

async fn pair(executor: &Executor) -> (Connection, Connection) {
    let (mut client, mut server) = (transport(executor), transport(executor));
    let (_, at) = listen(&mut server, AT).await;
    let ((_, dialled), (_, accepted), _) = connect(&mut client, &mut server, &at, PortUse::Reuse).await;
    (dialled, accepted)
}

/// A stream on which `hello` has gone one way.
async fn stream(dialled: &mut Connection, accepted: &mut Connection) -> (Stream, Stream) {
    let open = async {
        let mut stream = poll_fn(|cx| dialled.poll_outbound_unpin(cx)).await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        stream
    };
    let accept = async {
        let mut stream = poll_fn(|cx| accepted.poll_inbound_unpin(cx)).await.unwrap();
        stream.read_exact(&mut [0; 5]).await.unwrap();
        stream
    };
    join(open, accept).await
}

#[test]
fn a_refused_stream_is_a_reset_for_the_peer_both_ways() {
    run(async |executor| {
        let (mut dialled, mut accepted) = pair(&executor).await;
        let (mut ours, mut theirs) = stream(&mut dialled, &mut accepted).await;
        theirs.write_all(b"\x13/multistream/1.0.0\n\x0a/refused/\n").await.unwrap();
        drop(theirs);
        let error = ours.read_to_end(&mut Vec::new()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        let error = stopped(&mut ours).await;
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        // The connection is as good as before.
        stream(&mut dialled, &mut accepted).await;
    });
}

#[test]
fn an_answer_arrives_though_its_stream_is_dropped() {
    run(async |executor| {
        let (mut dialled, mut accepted) = pair(&executor).await;
        let (mut ours, mut theirs) = stream(&mut dialled, &mut accepted).await;
        theirs.write_all(b"an answer").await.unwrap();
        drop(theirs);
        let mut answer = Vec::new();
        ours.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"an answer");
        // That the peer has gone shows when more is said.
        assert_eq!(stopped(&mut ours).await.kind(), io::ErrorKind::ConnectionReset);
    });
}

async fn stopped(stream: &mut Stream) -> io::Error {
    loop {
        if let Err(error) = stream.write(&[0; 1 << 10]).await {
            return error;
        }
    }
}

#[test]
fn a_closed_stream_ends_after_its_last_byte_though_it_is_dropped() {
    run(async |executor| {
        let (mut dialled, mut accepted) = pair(&executor).await;
        let (mut ours, mut theirs) = stream(&mut dialled, &mut accepted).await;
        // More than the windows hold.
        let bytes = vec![7; 6 << 20];
        let send = async {
            ours.write_all(&bytes).await.unwrap();
            ours.close().await.unwrap();
            ours.close().await.unwrap();
            drop(ours);
        };
        let mut read = Vec::new();
        let (_, outcome) = join(send, theirs.read_to_end(&mut read)).await;
        outcome.unwrap();
        assert_eq!(read.len(), bytes.len());
    });
}

#[test]
fn a_peer_is_who_its_certificate_says() {
    run(async |executor| {
        let (one, other) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
        let mut client = Transport::new(&one, executor.clone()).unwrap();
        let mut server = Transport::new(&other, executor.clone()).unwrap();
        let (_, at) = listen(&mut server, AT).await;
        let ((dialled, _a), (accepted, _b), _) = connect(&mut client, &mut server, &at, PortUse::New).await;
        assert_eq!((dialled, accepted), (other.public().to_peer_id(), one.public().to_peer_id()));
    });
}

#[test]
fn a_closed_connection_ends_for_the_peer() {
    run(async |executor| {
        let (mut dialled, mut accepted) = pair(&executor).await;
        poll_fn(|cx| dialled.poll_close_unpin(cx)).await.unwrap();
        assert!(poll_fn(|cx| accepted.poll_inbound_unpin(cx)).await.is_err());
        assert!(poll_fn(|cx| accepted.poll_outbound_unpin(cx)).await.is_err());
    });
}

#[test]
fn connections_outlive_the_listener_they_came_by() {
    run(async |executor| {
        let (mut client, mut server) = (transport(&executor), transport(&executor));
        let (id, at) = listen(&mut server, AT).await;
        let ((_, mut dialled), (_, mut accepted), _) = connect(&mut client, &mut server, &at, PortUse::Reuse).await;
        assert!(server.remove_listener(id));
        stream(&mut dialled, &mut accepted).await;
        assert!(client.dial(at, dialling(PortUse::New)).unwrap().await.is_err());
        stream(&mut dialled, &mut accepted).await;
    });
}

#[test]
fn a_peer_that_says_nothing_is_given_up_and_a_dropped_dial_leaves_nothing() {
    run(async |executor| {
        let mut client = transport(&executor);
        let silent = Async::<UdpSocket>::bind(([127, 0, 0, 1], 0)).unwrap();
        let at = address::of_quic(silent.get_ref().local_addr().unwrap());
        let error = client.dial(at.clone(), dialling(PortUse::Reuse)).unwrap().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);

        let dial = client.dial(at, dialling(PortUse::Reuse)).unwrap();
        let knock = Box::pin(async { silent.recv_from(&mut [0; 2048]).await.unwrap() });
        match select(knock, dial).await {
            Either::Left((_, dial)) => drop(dial),
            Either::Right(_) => panic!("nobody answered"),
        }
        let endpoint = client.clients.remove(&Family::V4).unwrap();
        endpoint.wait_idle().await;
    });
}

#[test]
fn an_endpoint_that_has_failed_is_replaced() {
    run(async |executor| {
        let (mut client, mut server) = (transport(&executor), transport(&executor));
        let (_, at) = listen(&mut server, AT).await;
        connect(&mut client, &mut server, &at, PortUse::Reuse).await;
        client.clients[&Family::V4].close(0u32.into(), b"");
        connect(&mut client, &mut server, &at, PortUse::Reuse).await;
    });
}
