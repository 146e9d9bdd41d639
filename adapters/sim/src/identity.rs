//! Who the nodes of a world are, by their numbers.

use libp2p_identity::PeerId;
use multiaddr::{Multiaddr, Protocol};
use sha2::{Digest, Sha256};

/// The peer id of a node: the hash of a key that nobody has.
pub(crate) fn peer(n: u32) -> PeerId {
    let digest = Sha256::digest(n.to_be_bytes());
    #[expect(clippy::expect_used, reason = "a SHA2-256 multihash is a peer id")]
    PeerId::from_bytes(&[&[0x12, 0x20][..], &digest].concat()).expect("a peer id")
}

/// A public address of its own, each in a /16 that it shares with few.
pub(crate) fn address(n: u32) -> Multiaddr {
    let (a, b, c, d) = (11 + n % 89, n / 89 % 256, n / 89 / 256 % 256, 1 + n / 89 / 65_536);
    let ip = std::net::Ipv4Addr::new(a as u8, b as u8, c as u8, d as u8);
    Multiaddr::empty().with(Protocol::Ip4(ip)).with(Protocol::Tcp(4001))
}
