//! What an address tells: where it can be reached from, and in whose hands its network is.

use core::fmt;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use libp2p_identity::PeerId;
use multiaddr::{Multiaddr, Protocol};

/// Where an address can be reached from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// The same machine: loopback, in-memory and Unix sockets.
    Loopback,
    /// The same network: private, link-local, shared, documentation and other special ranges.
    Private,
    /// Anywhere: a global IP address or a DNS name.
    Public,
    /// Through a relay: fit for finding a peer, not for a server of the DHT.
    Relayed,
}

/// Where `address` can be reached from, by its first host.
pub fn scope(address: &Multiaddr) -> Scope {
    let mut host = None;
    for part in address {
        if part == Protocol::P2pCircuit {
            return Scope::Relayed;
        }
        host = host.or_else(|| host_scope(&part));
    }
    host.unwrap_or(Scope::Private)
}

fn host_scope(part: &Protocol<'_>) -> Option<Scope> {
    Some(match part {
        Protocol::Ip4(ip) => ip4_scope(*ip),
        Protocol::Ip6(ip) => ip6_scope(*ip),
        Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) | Protocol::Dnsaddr(name) => {
            match name.trim_end_matches('.') {
                "localhost" => Scope::Loopback,
                local if local.ends_with(".local") || local.ends_with(".localhost") => Scope::Private,
                _ => Scope::Public,
            }
        }
        Protocol::Onion(..) | Protocol::Onion3(_) => Scope::Public,
        Protocol::Memory(_) | Protocol::Unix(_) => Scope::Loopback,
        _ => return None,
    })
}

/// The special-purpose registry of IPv4 (RFC 6890), as far as it concerns unicast.
fn ip4_scope(ip: Ipv4Addr) -> Scope {
    let [a, b, c, _] = ip.octets();
    let special = matches!(
        (a, b, c),
        (0 | 10 | 240..=255, _, _)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 168, _)
            | (192, 0, 0 | 2)
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113)
            | (224..=239, _, _)
    );
    match ip.is_loopback() {
        true => Scope::Loopback,
        false if special => Scope::Private,
        false => Scope::Public,
    }
}

/// Only 2000::/3 is global unicast; within it, documentation is not, and a mapped IPv4 address is what it maps to.
fn ip6_scope(ip: Ipv6Addr) -> Scope {
    if let Some(mapped) = ip.to_ipv4_mapped() {
        return ip4_scope(mapped);
    }
    let [first, second, ..] = ip.segments();
    match ip.is_loopback() {
        true => Scope::Loopback,
        false if first & 0xe000 == 0x2000 && (first, second) != (0x2001, 0xdb8) => Scope::Public,
        // NAT64 carries an IPv4 address that is judged on the other side.
        false if (first, second) == (0x64, 0xff9b) => Scope::Public,
        false => Scope::Private,
    }
}

/// Which addresses a DHT takes from others and hands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AddressPolicy {
    /// Public and relayed ones; servers need a public one (the public DHT).
    #[default]
    Public,
    /// All (LAN and private DHTs).
    Any,
}

impl AddressPolicy {
    /// Whether the address may be dialled and handed out.
    pub fn allows(self, address: &Multiaddr) -> bool {
        self == Self::Any || matches!(scope(address), Scope::Public | Scope::Relayed)
    }

    /// Whether a peer of these addresses can be a server of the DHT.
    pub fn allows_server(self, addresses: &[Multiaddr]) -> bool {
        let fits = |address| self == Self::Any || scope(address) == Scope::Public;
        addresses.iter().any(fits)
    }
}

/// The most addresses that are kept of one peer.
pub const MAX_ADDRESSES: usize = 16;
/// The longest address that is kept, in bytes.
pub const MAX_ADDRESS_BYTES: usize = 1024;

/// The addresses of `peer` that are worth keeping: allowed, at most [`MAX_ADDRESSES`], each once, without the
/// peer's own id at the end. One that ends in another peer's id is not this peer's and is dropped.
pub(crate) fn tidy(policy: AddressPolicy, peer: &PeerId, mut addresses: Vec<Multiaddr>) -> Vec<Multiaddr> {
    let mut kept = 0;
    for at in 0..addresses.len() {
        let (before, rest) = addresses.split_at_mut(at);
        let Some(address) = rest.first_mut().filter(|_| kept < MAX_ADDRESSES) else { break };
        if bare(peer, address) && policy.allows(address) && !before[..kept].contains(address) {
            addresses.swap(kept, at);
            kept += 1;
        }
    }
    addresses.truncate(kept);
    addresses
}

/// Takes the peer's id off the end; returns whether an address of the peer is left.
fn bare(peer: &PeerId, address: &mut Multiaddr) -> bool {
    if address.is_empty() || address.len() > MAX_ADDRESS_BYTES {
        return false;
    }
    if let Some(Protocol::P2p(named)) = address.iter().last() {
        if named != *peer {
            return false;
        }
        address.pop();
    }
    !address.is_empty()
}

/// Peers of one group are likely in one hand: they count together in the routing table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// An IPv4 /16.
    V4([u8; 2]),
    /// An IPv6 /32, the usual allocation to one network.
    V6([u8; 4]),
    /// An autonomous system, where the caller can tell.
    Asn(u32),
    /// A DNS domain (the last two labels), for peers that give no IP address at all.
    Domain(String),
}

/// Tells the autonomous system of an IP address. It must answer the same for the same address, or runs differ.
#[derive(Clone)]
pub struct AsnLookup(Arc<dyn Fn(IpAddr) -> Option<u32> + Send + Sync>);

impl AsnLookup {
    /// A look-up by this function.
    pub fn new(lookup: impl Fn(IpAddr) -> Option<u32> + Send + Sync + 'static) -> Self {
        Self(Arc::new(lookup))
    }
}

impl fmt::Debug for AsnLookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AsnLookup")
    }
}

/// Every group to which a peer of these addresses belongs. DNS names count only when there is no IP address:
/// many peers of different hands share the domain of one certificate service beside their own IP.
pub(crate) fn groups(addresses: &[Multiaddr], asn: Option<&AsnLookup>) -> BTreeSet<Group> {
    let by_ip: BTreeSet<Group> = addresses.iter().filter_map(Multiaddr::ip_addr).map(|ip| ip_group(ip, asn)).collect();
    if by_ip.is_empty() { addresses.iter().filter_map(domain).collect() } else { by_ip }
}

fn ip_group(ip: IpAddr, asn: Option<&AsnLookup>) -> Group {
    let ip = ip.to_canonical();
    if let Some(number) = asn.and_then(|asn| (asn.0)(ip)) {
        return Group::Asn(number);
    }
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            Group::V4([a, b])
        }
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.octets();
            Group::V6([a, b, c, d])
        }
    }
}

fn domain(address: &Multiaddr) -> Option<Group> {
    address.iter().find_map(|part| match part {
        Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) | Protocol::Dnsaddr(name) => {
            let mut labels: Vec<&str> = name.trim_end_matches('.').rsplit('.').take(2).collect();
            labels.reverse();
            Some(Group::Domain(labels.join(".").to_ascii_lowercase()))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dht::testing::peer;
    use proptest::prelude::*;

    fn address(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[test]
    fn scopes() {
        for (text, expected) in [
            ("/ip4/1.2.3.4/tcp/4001", Scope::Public),
            ("/ip4/127.0.0.1/tcp/4001", Scope::Loopback),
            ("/ip4/10.1.2.3/udp/4001/quic-v1", Scope::Private),
            ("/ip4/172.20.0.1/tcp/1", Scope::Private),
            ("/ip4/172.32.0.1/tcp/1", Scope::Public),
            ("/ip4/192.168.1.1/tcp/1", Scope::Private),
            ("/ip4/100.64.0.1/tcp/1", Scope::Private),
            ("/ip4/169.254.1.1/tcp/1", Scope::Private),
            ("/ip4/224.0.0.1/udp/1", Scope::Private),
            ("/ip4/0.0.0.0/tcp/1", Scope::Private),
            ("/ip6/::1/tcp/1", Scope::Loopback),
            ("/ip6/fe80::1/tcp/1", Scope::Private),
            ("/ip6/fd00::1/tcp/1", Scope::Private),
            ("/ip6/2a01:4f8::1/tcp/1", Scope::Public),
            ("/ip6/2001:db8::1/tcp/1", Scope::Private),
            ("/ip6/::ffff:10.0.0.1/tcp/1", Scope::Private),
            ("/dns4/example.com/tcp/443/tls/ws", Scope::Public),
            ("/dnsaddr/bootstrap.libp2p.io", Scope::Public),
            ("/dns/localhost/tcp/1", Scope::Loopback),
            ("/dns/printer.local/tcp/1", Scope::Private),
            ("/memory/1", Scope::Loopback),
            ("/ip4/1.2.3.4/tcp/1/p2p/12D3KooWLQzUv2FHWGVPXTXSZpdHs7oHbXub2G5WC8Tx4NQhyd2d/p2p-circuit", Scope::Relayed),
        ] {
            assert_eq!(scope(&address(text)), expected, "{text}");
        }
        let relayed = address("/ip4/1.2.3.4/tcp/1/p2p-circuit");
        assert!(AddressPolicy::Public.allows(&relayed));
        assert!(!AddressPolicy::Public.allows_server(&[relayed]));
    }

    #[test]
    fn foreign_and_doubled_addresses_are_dropped() {
        let (ours, theirs) = (peer(1), peer(2));
        let plain = address("/ip4/1.2.3.4/tcp/1");
        let given = vec![
            plain.clone(),
            plain.clone().with(Protocol::P2p(ours)),
            plain.clone().with(Protocol::P2p(theirs)),
            address("/ip4/10.0.0.1/tcp/1"),
            Multiaddr::empty(),
        ];
        assert_eq!(tidy(AddressPolicy::Public, &ours, given.clone()), std::slice::from_ref(&plain));
        assert_eq!(tidy(AddressPolicy::Any, &ours, given).len(), 2);
        let many: Vec<_> = (0..100).map(|port| address(&format!("/ip4/1.2.3.4/tcp/{port}"))).collect();
        assert_eq!(tidy(AddressPolicy::Public, &ours, many).len(), MAX_ADDRESSES);
    }

    #[test]
    fn groups_by_network() {
        let of = |texts: &[&str]| groups(&texts.iter().map(|text| address(text)).collect::<Vec<_>>(), None);
        assert_eq!(of(&["/ip4/1.2.3.4/tcp/1"]), of(&["/ip4/1.2.200.1/udp/9/quic-v1"]));
        assert_ne!(of(&["/ip4/1.2.3.4/tcp/1"]), of(&["/ip4/1.3.3.4/tcp/1"]));
        assert_eq!(of(&["/ip6/2a01:4f8::1/tcp/1"]), of(&["/ip6/2a01:4f8:ffff::2/tcp/1"]));
        assert_eq!(of(&["/ip6/::ffff:1.2.3.4/tcp/1"]), of(&["/ip4/1.2.3.4/tcp/1"]));
        assert_eq!(of(&["/ip4/1.2.3.4/tcp/1", "/dns4/a.libp2p.direct/tcp/1"]).len(), 1);
        assert_eq!(of(&["/dns4/a.example.com/tcp/1"]), of(&["/dns4/b.Example.com/tcp/1"]));
        let asn = AsnLookup::new(|_| Some(7));
        assert_eq!(
            groups(&[address("/ip4/1.2.3.4/tcp/1"), address("/ip6/2a01::1/tcp/1")], Some(&asn)),
            BTreeSet::from([Group::Asn(7)])
        );
    }

    proptest! {
        #[test]
        fn every_ip_has_a_scope_and_a_group(ip in any::<[u8; 16]>(), v4 in any::<[u8; 4]>()) {
            for ip in [IpAddr::from(ip), IpAddr::from(v4)] {
                let address = Multiaddr::from(ip);
                let _ = scope(&address);
                prop_assert_eq!(groups(&[address], None).len(), 1);
            }
        }
    }
}
