//! Sockets: what is announced, where dials come from, and what becomes of those that are given up.

use std::collections::HashSet;
use std::io;
use std::net::{Ipv4Addr, TcpListener};

use ::async_io::Async;
use futures_util::future::{Either, select};
use futures_util::io::{AsyncReadExt, AsyncWriteExt};
use libp2p::Multiaddr;
use libp2p::core::transport::{ListenerId, PortUse, Transport, TransportEvent};
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;

use super::{connect, dialling, event, listen, run};
use crate::async_io::{assemble, quic, tcp};

const TCP: &str = "/ip4/127.0.0.1/tcp/0";
const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";

fn port(address: &Multiaddr) -> u16 {
    let port = |part| match part {
        Protocol::Tcp(port) | Protocol::Udp(port) => Some(port),
        _ => None,
    };
    address.iter().find_map(port).unwrap()
}

#[test]
fn bytes_go_both_ways_over_tcp() {
    run(async |_| {
        let (mut client, mut server) = (tcp::Transport::default(), tcp::Transport::default());
        let (_, at) = listen(&mut server, TCP).await;
        let (mut dialled, mut accepted, _) = connect(&mut client, &mut server, &at, PortUse::New).await;
        let mut buffer = [0; 4];
        dialled.write_all(b"ping").await.unwrap();
        accepted.read_exact(&mut buffer).await.unwrap();
        accepted.write_all(&buffer).await.unwrap();
        accepted.close().await.unwrap();
        let mut echo = Vec::new();
        dialled.read_to_end(&mut echo).await.unwrap();
        assert_eq!(echo, b"ping");
    });
}

#[test]
fn a_listener_on_all_interfaces_announces_the_loopback() {
    let keypair = Keypair::generate_ed25519();
    run(async |executor| {
        let mut all = assemble(&keypair, &executor, None).unwrap();
        for at in ["/ip4/0.0.0.0/tcp/0", "/ip4/0.0.0.0/udp/0/quic-v1"] {
            let id = ListenerId::next();
            all.listen_on(id, at.parse().unwrap()).unwrap();
            let mut seen = HashSet::new();
            loop {
                let TransportEvent::NewAddress { listener_id, listen_addr } = event(&mut all).await else {
                    panic!("nothing but addresses")
                };
                assert_ne!(port(&listen_addr), 0);
                assert!(seen.insert(listen_addr.clone()), "{listen_addr} twice");
                if listener_id == id && listen_addr.iter().next() == Some(Protocol::Ip4(Ipv4Addr::LOCALHOST)) {
                    break;
                }
            }
        }
    });
}

#[test]
fn a_removed_listener_is_closed_and_lets_nobody_in() {
    run(async |_| {
        let (mut client, mut server) = (tcp::Transport::default(), tcp::Transport::default());
        let (id, at) = listen(&mut server, TCP).await;
        assert!(server.remove_listener(id) && !server.remove_listener(id));
        let closed = event(&mut server).await;
        assert!(matches!(closed, TransportEvent::ListenerClosed { listener_id, reason: Ok(()) } if listener_id == id));
        let error = client.dial(at, dialling(PortUse::Reuse)).unwrap().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_dial_over_tcp_comes_from_the_port_of_a_listener_if_wanted() {
    run(async |_| {
        let (mut client, mut server) = (tcp::Transport::default(), tcp::Transport::default());
        let (_, at) = listen(&mut server, TCP).await;
        let (_, own) = listen(&mut client, TCP).await;
        let (_one, _other, from) = connect(&mut client, &mut server, &at, PortUse::Reuse).await;
        assert_eq!(port(&from), port(&own));
        // The port is taken for this pair of sockets, so a second connection comes from elsewhere.
        let (_, _, from) = connect(&mut client, &mut server, &at, PortUse::Reuse).await;
        assert_ne!(port(&from), port(&own));
        let (_, _, from) = connect(&mut client, &mut server, &at, PortUse::New).await;
        assert_ne!(port(&from), port(&own));
    });
}

#[test]
fn a_dial_over_quic_comes_from_a_listener_if_wanted_or_from_one_port() {
    run(async |executor| {
        let transport = || quic::Transport::new(&Keypair::generate_ed25519(), executor.clone()).unwrap();
        let (mut client, mut server) = (transport(), transport());
        let (_, at) = listen(&mut server, QUIC).await;
        let (_a, _b, first) = connect(&mut client, &mut server, &at, PortUse::Reuse).await;
        let (_c, _d, second) = connect(&mut client, &mut server, &at, PortUse::Reuse).await;
        assert_eq!(first, second);
        let (_, own) = listen(&mut client, QUIC).await;
        let (_e, _f, third) = connect(&mut client, &mut server, &at, PortUse::Reuse).await;
        assert_eq!(third, own);
        let (_, _, fourth) = connect(&mut client, &mut server, &at, PortUse::New).await;
        assert!(![&first, &third].contains(&&fourth));
    });
}

#[test]
fn a_dropped_dial_over_tcp_closes_its_socket() {
    let keypair = Keypair::generate_ed25519();
    run(async |executor| {
        let silent = Async::<TcpListener>::bind(([127, 0, 0, 1], 0)).unwrap();
        let at = format!("/ip4/127.0.0.1/tcp/{}", silent.get_ref().local_addr().unwrap().port());
        let mut client = assemble(&keypair, &executor, None).unwrap();
        let dial = client.dial(at.parse().unwrap(), dialling(PortUse::New)).unwrap();
        // It gets as far as a peer that says nothing lets it.
        let hello = Box::pin(async {
            let (mut peer, _) = silent.accept().await.unwrap();
            peer.read_exact(&mut [0; 1]).await.unwrap();
            peer
        });
        let (mut peer, dial) = match select(hello, dial).await {
            Either::Left(outcome) => outcome,
            Either::Right(_) => panic!("nobody answered"),
        };
        drop(dial);
        let end = peer.read_to_end(&mut Vec::new()).await;
        assert!(end.is_ok() || end.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset));
    });
}
