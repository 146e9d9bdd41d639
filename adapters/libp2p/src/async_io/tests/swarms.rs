//! Two swarms that ping each other.

use std::net::{Ipv4Addr, TcpListener};

use futures_util::future::join;
use libp2p::Multiaddr;

use super::peers::{Kind, Peer};
use super::{run, some_peer};

const TCP: &str = "/ip4/127.0.0.1/tcp/0";
const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

fn meet(server: Kind, client: Kind, at: &str) {
    let tokio = runtime();
    run(async |executor| {
        let mut server = Peer::start(server, &executor, &tokio, |swarm| {
            swarm.listen_on(at.parse().unwrap()).unwrap();
        });
        let address = server.listening().await.with_p2p(server.id).unwrap();
        let mut client = Peer::start(client, &executor, &tokio, |swarm| swarm.dial(address).unwrap());
        let (server_id, client_id) = (server.id, client.id);
        join(server.pinged(client_id), client.pinged(server_id)).await;
    });
}

#[test]
fn ours_meet_over_tcp() {
    meet(Kind::Ours, Kind::Ours, TCP);
}

#[test]
fn ours_meet_over_quic() {
    meet(Kind::Ours, Kind::Ours, QUIC);
}

#[test]
fn tokio_dials_ours_over_tcp() {
    meet(Kind::Ours, Kind::Tokio, TCP);
}

#[test]
fn ours_dials_tokio_over_tcp() {
    meet(Kind::Tokio, Kind::Ours, TCP);
}

#[test]
fn tokio_dials_ours_over_tcp_with_tls() {
    meet(Kind::Ours, Kind::TokioTls, TCP);
}

#[test]
fn ours_dials_tokio_over_tcp_with_tls() {
    meet(Kind::TokioTls, Kind::Ours, TCP);
}

#[test]
fn tokio_dials_ours_over_quic() {
    meet(Kind::Ours, Kind::Tokio, QUIC);
}

#[test]
fn ours_dials_tokio_over_quic() {
    meet(Kind::Tokio, Kind::Ours, QUIC);
}

#[test]
fn another_peer_than_the_one_that_was_meant_is_found_out() {
    let tokio = runtime();
    for at in [TCP, QUIC] {
        run(async |executor| {
            let mut server = Peer::start(Kind::Ours, &executor, &tokio, |swarm| {
                swarm.listen_on(at.parse().unwrap()).unwrap();
            });
            let address = server.listening().await.with_p2p(some_peer()).unwrap();
            let mut client = Peer::start(Kind::Ours, &executor, &tokio, |swarm| swarm.dial(address).unwrap());
            let error = client.failed().await;
            assert!(error.contains(&server.id.to_string()), "{error}");
        });
    }
}

#[test]
fn a_closed_port_is_an_error() {
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let tokio = runtime();
    run(async |executor| {
        let address: Multiaddr = format!("/ip4/127.0.0.1/tcp/{closed}").parse().unwrap();
        let mut client = Peer::start(Kind::Ours, &executor, &tokio, |swarm| swarm.dial(address).unwrap());
        let error = client.failed().await;
        assert!(error.contains("refused"), "{error}");
    });
}
