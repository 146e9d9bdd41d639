//! The sockets that addresses name.

use std::net::{IpAddr, SocketAddr};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

/// The socket of `/ip4/../tcp/..` or `/ip6/../tcp/..`; a peer may follow, which is the swarm's to check.
pub(crate) fn tcp(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let ip = ip(parts.next()?)?;
    let Protocol::Tcp(port) = parts.next()? else { return None };
    ends(parts).then(|| SocketAddr::new(ip, port))
}

/// The socket of `/ip4/../udp/../quic-v1` or `/ip6/../udp/../quic-v1`; a peer may follow.
#[cfg(feature = "async-io-quic")]
pub(crate) fn quic(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let ip = ip(parts.next()?)?;
    let Protocol::Udp(port) = parts.next()? else { return None };
    let Protocol::QuicV1 = parts.next()? else { return None };
    ends(parts).then(|| SocketAddr::new(ip, port))
}

pub(crate) fn of_tcp(socket: SocketAddr) -> Multiaddr {
    Multiaddr::from(socket.ip()).with(Protocol::Tcp(socket.port()))
}

#[cfg(feature = "async-io-quic")]
pub(crate) fn of_quic(socket: SocketAddr) -> Multiaddr {
    Multiaddr::from(socket.ip()).with(Protocol::Udp(socket.port())).with(Protocol::QuicV1)
}

/// Whether a socket can be dialled at all.
pub(crate) fn is_remote(socket: &SocketAddr) -> bool {
    socket.port() != 0 && !socket.ip().is_unspecified()
}

pub(crate) fn same_family(one: IpAddr, other: IpAddr) -> bool {
    one.is_ipv4() == other.is_ipv4()
}

fn ip(part: Protocol<'_>) -> Option<IpAddr> {
    match part {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    }
}

fn ends<'a>(mut rest: impl Iterator<Item = Protocol<'a>>) -> bool {
    matches!((rest.next(), rest.next()), (None | Some(Protocol::P2p(_)), None))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5";

    #[test]
    fn an_address_names_one_kind_of_socket() {
        let socket = |ip: &str| Some(SocketAddr::new(ip.parse().unwrap(), 7));
        let cases = [
            ("/ip4/127.0.0.1/tcp/7".into(), socket("127.0.0.1"), None),
            (format!("/ip6/::1/tcp/7/p2p/{PEER}"), socket("::1"), None),
            ("/ip4/127.0.0.1/udp/7/quic-v1".into(), None, socket("127.0.0.1")),
            (format!("/ip6/::1/udp/7/quic-v1/p2p/{PEER}"), None, socket("::1")),
            ("/ip4/127.0.0.1/udp/7".into(), None, None),
            ("/ip4/127.0.0.1/udp/7/quic".into(), None, None),
            ("/ip4/127.0.0.1/udp/7/quic-v1/webtransport".into(), None, None),
            ("/ip4/127.0.0.1/tcp/7/ws".into(), None, None),
            (format!("/ip4/127.0.0.1/tcp/7/p2p/{PEER}/p2p-circuit"), None, None),
            (format!("/ip4/127.0.0.1/tcp/7/p2p/{PEER}/p2p/{PEER}"), None, None),
            ("/dns4/localhost/tcp/7".into(), None, None),
            ("/tcp/7".into(), None, None),
            (String::new(), None, None),
        ];
        for (text, as_tcp, as_quic) in cases {
            let address: Multiaddr = text.parse().unwrap();
            assert_eq!((tcp(&address), quic(&address)), (as_tcp, as_quic), "{address}");
        }
    }

    #[test]
    fn a_socket_has_its_address() {
        for ip in ["192.0.2.1", "2001:db8::1"] {
            let socket = SocketAddr::new(ip.parse().unwrap(), 4001);
            assert_eq!(tcp(&of_tcp(socket)), Some(socket));
            assert_eq!(quic(&of_quic(socket)), Some(socket));
        }
    }
}
