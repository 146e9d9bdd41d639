//! What a DHT node is told at its start.

use core::time::Duration;

use libp2p_identity::PeerId;

use super::address::{AddressPolicy, AsnLookup};
use super::crawl::Crawling;
use super::lookup::Params;
use super::message::PeerInfo;
use super::values::Quota;

/// The protocol of the public DHT of IPFS.
pub const PUBLIC_PROTOCOL: &str = "/ipfs/kad/1.0.0";
/// The protocol of a DHT within one local network.
pub const LAN_PROTOCOL: &str = "/ipfs/lan/kad/1.0.0";
/// The servers by which nodes join the public DHT of IPFS unless they are told others, as multiaddrs: the defaults of
/// Kubo. See [`PeerInfo::from_multiaddr`].
pub const PUBLIC_BOOTSTRAP: [&str; 7] = [
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN",
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmQCU2EcMqAqQPR2i9bChDtGNJchTbq5TbXJJ16u19uLTa",
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmbLHAnMoJPWSCR5Zhtx6BHJX9KiKNN6tpvbUcqanj75Nb",
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmcZf59bWwK5XFi76CZX8cbJ4BhTzzA3gU1ZjYZcYW3dwt",
    "/dnsaddr/va1.bootstrap.libp2p.io/p2p/12D3KooWKnDdG3iXw9eTFijk3EWSunZcFi54Zka4wmtqtt6rPxc8",
    "/ip4/104.131.131.82/tcp/4001/p2p/QmaCpDMGvV2BGHeYERUEnRQAwe3N8SzbUtfsmvsqQLuvuJ",
    "/ip4/104.131.131.82/udp/4001/quic-v1/p2p/QmaCpDMGvV2BGHeYERUEnRQAwe3N8SzbUtfsmvsqQLuvuJ",
];

/// [`PUBLIC_BOOTSTRAP`] as peers to join through.
pub fn public_bootstrap() -> Vec<PeerInfo> {
    let peers = PUBLIC_BOOTSTRAP.iter().filter_map(|text| PeerInfo::from_multiaddr(&text.parse().ok()?));
    let mut merged: Vec<PeerInfo> = Vec::new();
    for peer in peers {
        match merged.iter_mut().find(|known| known.id == peer.id) {
            Some(known) => known.add_addresses(&peer.addresses),
            None => merged.push(peer),
        }
    }
    merged
}

/// Whether a node serves others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Never: it asks only.
    Client,
    /// Always.
    Server,
    /// As soon as a public address is confirmed, for as long as it is: see
    /// [`Dht::set_reachable`](crate::dht::Dht::set_reachable).
    #[default]
    Auto,
}

/// Bounds of what a node keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Servers remembered.
    pub book: usize,
    /// Records kept for others.
    pub values: Quota,
    /// Provider records kept for others.
    pub providers: usize,
    /// Provider records kept of one peer.
    pub providers_per_peer: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            book: 32_768,
            values: Quota { entries: 100_000, bytes: 128 << 20, entries_per_peer: 10_000, bytes_per_peer: 16 << 20 },
            providers: 200_000,
            providers_per_peer: 20_000,
        }
    }
}

/// The configuration of one DHT.
#[derive(Debug, Clone)]
pub struct Config {
    /// Ourselves.
    pub local: PeerId,
    /// The protocol id on the wire.
    pub protocol: String,
    /// Which addresses are taken and handed out.
    pub addresses: AddressPolicy,
    /// Whether at most a few peers of one network enter the routing table: off for LANs and private DHTs.
    pub diversity: bool,
    /// Tells the autonomous system of an address, for the diversity filter.
    pub asn: Option<AsnLookup>,
    /// Whether this node serves others.
    pub mode: Mode,
    /// The size of a bucket, and how many peers keep a record: 1 to 20.
    pub k: usize,
    /// How many questions of one lookup are out at once: at least 1.
    pub alpha: usize,
    /// How many of the nearest peers must have answered before a lookup may end: 1 to k.
    pub beta: usize,
    /// How many of the k nearest peers a healthy publish leaves with the record: for the probability that a
    /// newer one was missed.
    pub holders: usize,
    /// How many acks make a put a success, if it is sent to as many: at least 1.
    pub acks: usize,
    /// After how long a bucket through which no lookup went is refreshed.
    pub refresh: Duration,
    /// Which servers are kept known beside those of the routing table. To know all of them,
    /// [`Limits::book`] is raised to 65,536.
    pub crawl: Crawling,
    /// The peers to join through.
    pub seeds: Vec<PeerInfo>,
    /// Bounds.
    pub limits: Limits,
}

impl Config {
    /// The public DHT of IPFS (Amino).
    pub fn public(local: PeerId) -> Self {
        Self {
            local,
            protocol: PUBLIC_PROTOCOL.to_owned(),
            addresses: AddressPolicy::Public,
            diversity: true,
            asn: None,
            mode: Mode::Auto,
            k: 20,
            alpha: 10,
            beta: 3,
            // Of 20 acks 17 peers are still among the nearest after an hour, 15 after ten.
            holders: 15,
            acks: 10,
            refresh: Duration::from_secs(10 * 60),
            crawl: Crawling::default(),
            seeds: Vec::new(),
            limits: Limits::default(),
        }
    }

    /// The DHT of a local network.
    pub fn lan(local: PeerId) -> Self {
        Self::custom(local, LAN_PROTOCOL)
    }

    /// A DHT of one's own, on any addresses.
    pub fn custom(local: PeerId, protocol: impl Into<String>) -> Self {
        Self {
            protocol: protocol.into(),
            addresses: AddressPolicy::Any,
            diversity: false,
            mode: Mode::Server,
            ..Self::public(local)
        }
    }

    pub(crate) fn params(&self) -> Params {
        let k = self.k.clamp(1, 20);
        Params { k, alpha: self.alpha.max(1), beta: self.beta.clamp(1, k) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_public_bootstrapper_is_a_peer_with_an_address() {
        let peers = public_bootstrap();
        assert_eq!(peers.len(), 6);
        assert_eq!(peers.iter().map(|peer| peer.addresses.len()).sum::<usize>(), PUBLIC_BOOTSTRAP.len());
    }
}
