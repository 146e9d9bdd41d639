//! What a node keeps across restarts, as entries of a store: records and provider records of others, servers met.
//!
//! Several DHTs share one store: every key begins with a tag of the DHT's protocol. Protobuf, so that later versions
//! can add fields.

use bytes::Bytes;
use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use prost::Message;
use sha2::{Digest, Sha256};

use super::message::PeerInfo;
use crate::store::{Table, Write};
use crate::time::Timestamp;

/// Tells the entries of one DHT from those of another.
pub(crate) type Tag = [u8; 8];

/// The tag of a DHT's protocol.
pub(crate) fn tag(protocol: &str) -> Tag {
    let digest: [u8; 32] = Sha256::digest(protocol.as_bytes()).into();
    [digest[0], digest[1], digest[2], digest[3], digest[4], digest[5], digest[6], digest[7]]
}

/// An entry of [`Table::Values`]: a record kept for others.
#[derive(Clone, PartialEq, Eq, Message)]
struct StoredValue {
    #[prost(bytes = "bytes", tag = "1")]
    value: Bytes,
    /// In seconds of the Unix epoch.
    #[prost(int64, tag = "2")]
    received: i64,
}

/// An entry of [`Table::Providers`], and with an empty key one of [`Table::Peers`].
#[derive(Clone, PartialEq, Eq, Message)]
struct StoredPeer {
    /// What the peer provides.
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    peer: Bytes,
    #[prost(bytes = "bytes", repeated, tag = "3")]
    addresses: Vec<Bytes>,
    /// When it announced itself, or answered last, in seconds of the Unix epoch.
    #[prost(int64, tag = "4")]
    at: i64,
}

/// The entry of [`Table::Peers`] whose key is the tag alone.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct StoredSize {
    /// How many servers there are.
    #[prost(uint64, tag = "5")]
    servers: u64,
    /// When that was known, in seconds of the Unix epoch.
    #[prost(int64, tag = "4")]
    at: i64,
}

/// An entry that was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    Value { key: Bytes, value: Bytes, received: Timestamp },
    Provider { key: Bytes, provider: PeerInfo, received: Timestamp },
    Peer { peer: PeerInfo, answered: Timestamp },
    Size { servers: u64, known: Timestamp },
}

fn value_key(tag: Tag, key: &[u8]) -> Vec<u8> {
    [&tag[..], key].concat()
}

fn provider_key(tag: Tag, key: &[u8], peer: &PeerId) -> Vec<u8> {
    [&tag[..], &Sha256::digest(key)[..], &peer.to_bytes()].concat()
}

fn peer_key(tag: Tag, peer: &PeerId) -> Vec<u8> {
    [&tag[..], &peer.to_bytes()].concat()
}

pub(crate) fn keep_value(tag: Tag, key: &[u8], value: &Bytes, received: Timestamp) -> Write {
    let entry = StoredValue { value: value.clone(), received: received.as_unix_secs() };
    Write { table: Table::Values, key: value_key(tag, key), value: Some(entry.encode_to_vec()) }
}

pub(crate) fn drop_value(tag: Tag, key: &[u8]) -> Write {
    Write { table: Table::Values, key: value_key(tag, key), value: None }
}

pub(crate) fn keep_provider(tag: Tag, key: &[u8], provider: &PeerInfo, received: Timestamp) -> Write {
    let entry = StoredPeer::new(key, provider, received);
    Write { table: Table::Providers, key: provider_key(tag, key, &provider.id), value: Some(entry.encode_to_vec()) }
}

pub(crate) fn drop_provider(tag: Tag, key: &[u8], peer: &PeerId) -> Write {
    Write { table: Table::Providers, key: provider_key(tag, key, peer), value: None }
}

pub(crate) fn keep_peer(tag: Tag, peer: &PeerInfo, answered: Timestamp) -> Write {
    let entry = StoredPeer::new(&[], peer, answered);
    Write { table: Table::Peers, key: peer_key(tag, &peer.id), value: Some(entry.encode_to_vec()) }
}

pub(crate) fn keep_size(tag: Tag, servers: u64, known: Timestamp) -> Write {
    let entry = StoredSize { servers, at: known.as_unix_secs() };
    Write { table: Table::Peers, key: tag.to_vec(), value: Some(entry.encode_to_vec()) }
}

pub(crate) fn drop_peer(tag: Tag, peer: &PeerId) -> Write {
    Write { table: Table::Peers, key: peer_key(tag, peer), value: None }
}

/// Reads an entry. `None` for one that is not of this DHT, or is none at all.
pub(crate) fn read(tag: Tag, table: Table, key: &[u8], value: &[u8]) -> Option<Kept> {
    let rest = key.strip_prefix(&tag)?;
    match table {
        Table::Values => {
            let entry = StoredValue::decode(value).ok()?;
            let received = Timestamp::from_unix_secs(entry.received);
            Some(Kept::Value { key: Bytes::copy_from_slice(rest), value: entry.value, received })
        }
        Table::Providers => {
            let entry = StoredPeer::decode(value).ok()?;
            let provider = entry.info()?;
            let fits = provider_key(tag, &entry.key, &provider.id) == key;
            let received = Timestamp::from_unix_secs(entry.at);
            fits.then_some(Kept::Provider { key: entry.key, provider, received })
        }
        Table::Peers if rest.is_empty() => {
            let StoredSize { servers, at } = StoredSize::decode(value).ok()?;
            Some(Kept::Size { servers, known: Timestamp::from_unix_secs(at) })
        }
        Table::Peers => {
            let entry = StoredPeer::decode(value).ok()?;
            let peer = entry.info().filter(|peer| peer.id.to_bytes() == rest)?;
            Some(Kept::Peer { peer, answered: Timestamp::from_unix_secs(entry.at) })
        }
        _ => None,
    }
}

impl StoredPeer {
    fn new(key: &[u8], peer: &PeerInfo, at: Timestamp) -> Self {
        Self {
            key: Bytes::copy_from_slice(key),
            peer: peer.id.to_bytes().into(),
            addresses: peer.addresses.iter().map(|address| address.to_vec().into()).collect(),
            at: at.as_unix_secs(),
        }
    }

    fn info(&self) -> Option<PeerInfo> {
        let addresses = self.addresses.iter().filter_map(|bytes| Multiaddr::try_from(bytes.to_vec()).ok());
        Some(PeerInfo { id: PeerId::from_bytes(&self.peer).ok()?, addresses: addresses.collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dht::testing::{address, peer};
    use crate::store::{MAX_KEY_BYTES, MAX_VALUE_BYTES};
    use proptest::prelude::*;

    const AT: Timestamp = Timestamp::from_unix_secs_const(1_800_000_000);

    fn info() -> PeerInfo {
        PeerInfo { id: peer(1), addresses: vec![address(1); 16] }
    }

    #[test]
    fn what_is_kept_is_read_again_by_its_own_dht_alone() {
        let (ours, theirs) = (tag("/ipfs/kad/1.0.0"), tag("/ipfs/lan/kad/1.0.0"));
        let key = Bytes::from_static(&[7; 80]);
        let value = Bytes::from_static(b"value");
        for (write, expected) in [
            (keep_value(ours, &key, &value, AT), Kept::Value { key: key.clone(), value, received: AT }),
            (
                keep_provider(ours, &key, &info(), AT),
                Kept::Provider { key: key.clone(), provider: info(), received: AT },
            ),
            (keep_peer(ours, &info(), AT), Kept::Peer { peer: info(), answered: AT }),
            (keep_size(ours, 7000, AT), Kept::Size { servers: 7000, known: AT }),
        ] {
            let bytes = write.value.unwrap();
            assert!(write.key.len() <= MAX_KEY_BYTES && bytes.len() <= MAX_VALUE_BYTES);
            assert_eq!(read(ours, write.table, &write.key, &bytes), Some(expected));
            assert_eq!(read(theirs, write.table, &write.key, &bytes), None);
        }
    }

    #[test]
    fn what_is_dropped_is_what_was_kept() {
        let tag = tag("/x");
        assert_eq!(keep_value(tag, b"k", &Bytes::new(), AT).key, drop_value(tag, b"k").key);
        assert_eq!(keep_provider(tag, b"k", &info(), AT).key, drop_provider(tag, b"k", &peer(1)).key);
        assert_eq!(keep_peer(tag, &info(), AT).key, drop_peer(tag, &peer(1)).key);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(
            key in proptest::collection::vec(any::<u8>(), 0..60),
            value in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let tag = tag("/x");
            for table in Table::ALL {
                let _ = read(tag, table, &[&tag[..], &key].concat(), &value);
            }
        }
    }
}
