//! Who the nodes of a world are, by their numbers.

use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use multiaddr::multihash::Multihash;
use sha2::{Digest, Sha256};

/// The multihash code of SHA2-256.
const SHA2_256: u64 = 0x12;

/// What a node's peer id is the hash of: a key that nobody has.
pub(crate) fn digest(n: u32) -> [u8; 32] {
    Sha256::digest(n.to_be_bytes()).into()
}

/// The peer id of this hash.
pub(crate) fn of_digest(digest: &[u8; 32]) -> PeerId {
    let hash = Multihash::wrap(SHA2_256, digest).ok();
    #[expect(clippy::expect_used, reason = "a SHA2-256 multihash is a peer id")]
    hash.and_then(|hash| PeerId::from_multihash(hash).ok()).expect("a peer id")
}

/// What a peer id is the hash of, if it is one.
pub(crate) fn digest_of(peer: &PeerId) -> Option<&[u8; 32]> {
    let hash = peer.as_ref();
    (hash.code() == SHA2_256).then(|| hash.digest().try_into().ok()).flatten()
}

/// The peer id of a node.
pub(crate) fn peer(n: u32) -> PeerId {
    of_digest(&digest(n))
}

/// A public address of its own, each in a /16 that it shares with few.
pub(crate) fn address(n: u32) -> Multiaddr {
    #[expect(clippy::expect_used, reason = "an IPv4 address and a port are an address")]
    Multiaddr::try_from(address_bytes(n).to_vec()).expect("an address")
}

/// The same as its bytes: /ip4/a.b.c.d/tcp/4001.
pub(crate) fn address_bytes(n: u32) -> [u8; 8] {
    let (a, b, c, d) = (11 + n % 89, n / 89 % 256, n / 89 / 256 % 256, 1 + n / 89 / 65_536);
    let [high, low] = 4001_u16.to_be_bytes();
    [4, a as u8, b as u8, c as u8, d as u8, 6, high, low]
}

/// Whose address this is, if it is one of a node.
pub(crate) fn number_at(address: &Multiaddr) -> Option<u32> {
    let bytes: [u8; 8] = address.as_ref().try_into().ok()?;
    let [_, a, b, c, d, ..] = bytes.map(u32::from);
    let n = a.checked_sub(11)? + 89 * (b + 256 * (c + 256 * d.checked_sub(1)?));
    (address_bytes(n) == bytes).then_some(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_what_its_bytes_say() {
        assert_eq!(address(0).to_string(), "/ip4/11.0.0.1/tcp/4001");
        assert_eq!(address(89 * 256 * 256 + 89 * 258 + 3).to_string(), "/ip4/14.2.1.2/tcp/4001");
    }

    #[test]
    fn an_address_tells_whose_it_is() {
        for n in [0, 88, 89, 23_000, 89 * 256 * 256 - 1, 89 * 256 * 256 + 89 * 258 + 3] {
            assert_eq!(number_at(&address(n)), Some(n));
        }
        for other in ["/ip4/11.0.0.0/tcp/4001", "/ip4/10.0.0.1/tcp/4001", "/ip4/11.0.0.1/tcp/4002", "/ip4/11.0.0.1"] {
            assert_eq!(number_at(&other.parse().unwrap()), None, "{other}");
        }
    }
}
