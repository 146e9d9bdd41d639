//! Names, as the machine knows them and as a server of the test's own tells them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use ::async_io::Async;
use futures_util::future::join;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, TXT};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, PortUse, Transport, TransportError};
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId};

use super::{accept, dialling, listen, run, some_peer};
use crate::async_io::{Executor, assemble, dns};

type All = Boxed<(PeerId, StreamMuxerBox)>;
/// The data of a name.
type Zone = Box<dyn Fn(&str, RecordType) -> Vec<RData> + Send>;

const TCP: &str = "/ip4/127.0.0.1/tcp/0";

async fn server(executor: &Executor) -> (PeerId, All, Multiaddr) {
    let keypair = Keypair::generate_ed25519();
    let mut server = assemble(&keypair, executor, None).unwrap();
    let (_, at) = listen(&mut server, TCP).await;
    (keypair.public().to_peer_id(), server, at)
}

/// A transport that asks a server of its own, which tells what is in `zone`.
fn client(executor: &Executor, zone: Zone) -> All {
    let socket = Async::<UdpSocket>::bind(([127, 0, 0, 1], 0)).unwrap();
    let at = socket.get_ref().local_addr().unwrap();
    executor(Box::pin(serve(socket, zone)));
    client_asking(executor, Some(at))
}

fn client_asking(executor: &Executor, dns_server: Option<SocketAddr>) -> All {
    let mut config = ResolverConfig::default();
    if let Some(at) = dns_server {
        let mut connection = ConnectionConfig::udp();
        connection.port = at.port();
        config.add_name_server(NameServerConfig::new(at.ip(), true, vec![connection]));
    }
    let names = dns::names(config, ResolverOpts::default(), executor).unwrap();
    assemble(&Keypair::generate_ed25519(), executor, Some(names)).unwrap()
}

async fn serve(socket: Async<UdpSocket>, zone: Zone) {
    let mut buffer = [0; 4096];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
        let mut message = Message::from_vec(&buffer[..length]).unwrap();
        let query = message.queries[0].clone();
        let data = zone(query.name().to_lowercase().to_utf8().trim_end_matches('.'), query.query_type());
        message.metadata.message_type = MessageType::Response;
        message.metadata.response_code = if data.is_empty() { ResponseCode::NXDomain } else { ResponseCode::NoError };
        message.additionals.clear();
        for data in data {
            message.add_answer(Record::from_rdata(query.name().clone(), 60, data));
        }
        socket.send_to(&message.to_vec().unwrap(), from).await.unwrap();
    }
}

fn text(text: String) -> RData {
    // In two pieces, as long ones come.
    let (one, other) = text.split_at(text.len() / 2);
    RData::TXT(TXT::new(vec![one.into(), other.into()]))
}

async fn dial(client: &mut All, address: Multiaddr) -> io::Result<PeerId> {
    let dial = client.dial(address, dialling(PortUse::New)).map_err(|error| match error {
        TransportError::Other(error) => error,
        error => io::Error::other(error.to_string()),
    })?;
    dial.await.map(|(peer, _)| peer)
}

#[test]
fn localhost_is_dialled() {
    run(async |executor| {
        let (peer, mut server, at) = server(&executor).await;
        let mut client = client_asking(&executor, None);
        for name in ["/dns4/localhost", "/dns/localhost"] {
            let address = name.parse::<Multiaddr>().unwrap().into_iter().chain(at.iter().skip(1)).collect();
            // Who dials is sure of the peer before the peer has settled on yamux with it.
            let (dialled, _) = join(dial(&mut client, address), accept(&mut server)).await;
            assert_eq!(dialled.unwrap(), peer);
        }
    });
}

#[test]
fn what_a_name_stands_for_is_tried_until_one_works() {
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    run(async |executor| {
        let (peer, mut server, at) = server(&executor).await;
        let (right, wrong) = (at.clone().with_p2p(peer).unwrap(), some_peer());
        let zone = move |name: &str, kind: RecordType| match (name, kind) {
            ("_dnsaddr.peers.test", RecordType::TXT) => vec![
                text("dnsaddr=nonsense".into()),
                text(format!("dnsaddr={}/p2p/{wrong}", at)),
                text(format!("dnsaddr=/ip4/127.0.0.1/tcp/{closed}/p2p/{peer}")),
                text(format!("dnsaddr=/ip4/127.0.0.1/udp/9/p2p/{peer}")),
                text(format!("dnsaddr=/dnsaddr/more.test/p2p/{peer}")),
            ],
            ("_dnsaddr.more.test", RecordType::TXT) => vec![text(format!("dnsaddr={right}"))],
            ("host.test", RecordType::A) => vec![RData::A(A(Ipv4Addr::LOCALHOST))],
            _ => Vec::new(),
        };
        let mut client = client(&executor, Box::new(zone));
        let port = server_port(&mut server).await;
        for address in [format!("/dnsaddr/peers.test/p2p/{peer}"), format!("/dns4/host.test/tcp/{port}/p2p/{peer}")] {
            let (dialled, _) = join(dial(&mut client, address.parse().unwrap()), accept(&mut server)).await;
            assert_eq!(dialled.unwrap(), peer, "{address}");
        }
    });
}

/// The port of a listener more, whose address is all that comes.
async fn server_port(server: &mut All) -> u16 {
    let (_, at) = listen(server, TCP).await;
    match at.iter().nth(1) {
        Some(libp2p::multiaddr::Protocol::Tcp(port)) => port,
        _ => panic!("a port"),
    }
}

#[test]
fn names_that_lead_nowhere_are_errors() {
    let zone = |name: &str, kind: RecordType| match (name, kind) {
        // A name that stands for itself, and twice at that.
        ("_dnsaddr.loop.test", RecordType::TXT) => {
            vec![text("dnsaddr=/dnsaddr/loop.test".into()), text("dnsaddr=/dnsaddr/loop.test".into())]
        }
        ("_dnsaddr.far.test", RecordType::TXT) => vec![text("dnsaddr=/ip4/127.0.0.1/udp/9/webrtc".into())],
        ("_dnsaddr.other.test", RecordType::TXT) => {
            vec![text(format!("dnsaddr=/ip4/127.0.0.1/tcp/9/p2p/{}", some_peer()))]
        }
        _ => Vec::new(),
    };
    run(async |executor| {
        let mut client = client(&executor, Box::new(zone));
        let cases = [
            ("/dnsaddr/loop.test".into(), "too many names"),
            ("/dnsaddr/far.test".into(), "no transport for"),
            (format!("/dnsaddr/other.test/p2p/{}", some_peer()), "no address of this kind"),
            ("/dns4/none.test/tcp/9".into(), "none.test"),
            ("/dns6/none.test/tcp/9".into(), "none.test"),
        ];
        for (address, expected) in cases {
            let error = dial(&mut client, address.parse().unwrap()).await.unwrap_err().to_string();
            assert!(error.contains(expected) && error.len() < 4096, "{address}: {error}");
        }
    });
}

#[test]
fn without_dns_a_name_is_an_error_and_nothing_else_is() {
    run(async |executor| {
        let (peer, mut server, at) = server(&executor).await;
        let mut client = assemble(&Keypair::generate_ed25519(), &executor, None).unwrap();
        let error = dial(&mut client, "/dns4/localhost/tcp/9".parse().unwrap()).await.unwrap_err();
        assert!(error.to_string().contains("no DNS"), "{error}");
        let (dialled, _) = join(dial(&mut client, at), accept(&mut server)).await;
        assert_eq!(dialled.unwrap(), peer);
    });
}
