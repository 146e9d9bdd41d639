//! The records that a server keeps for others: `/ipns/` records and `/pk/` public keys, verified, bounded, expiring.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use libp2p_identity::PeerId;
use thiserror::Error;

use super::key::{Distance, Key};
use super::message::ValueRecord;
use crate::key::PublicKey;
use crate::name::Name;
use crate::record::{Checks, RecordError, Verified, compare};
use crate::time::{Now, Timestamp};

/// Servers drop records after this, whatever their end of life (libp2p kad-dht spec, "Entry validation").
pub const VALUE_LIFETIME: Duration = Duration::from_secs(48 * 3600);

const PUBLIC_KEY_PREFIX: &[u8] = b"/pk/";

/// Why a server does not do what it was asked. An adapter resets the stream at once. [`code`](Refused::code) is stable.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refused {
    /// This node serves nobody: it is a client.
    #[error("this node is a client")]
    NotServer,
    /// A key that is neither `/ipns/` nor `/pk/` and a multihash.
    #[error("only /ipns/ and /pk/ records are kept")]
    UnknownKey,
    /// The record is not valid for the name.
    #[error(transparent)]
    Invalid(#[from] RecordError),
    /// Not the public key that the key names.
    #[error("not the public key that /pk/ names")]
    NotTheKey,
    /// A newer record is kept.
    #[error("a newer record is kept")]
    Older,
    /// The peer has as much stored here as one peer may.
    #[error("too much is kept for this peer already")]
    PeerQuota,
    /// Everything that may be kept is kept, and all of it is nearer to this node.
    #[error("the store is full")]
    Full,
    /// The sender is not among the providers that it names.
    #[error("a provider may name only itself")]
    NotTheProvider,
}

impl Refused {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotServer => "refused_not_server",
            Self::UnknownKey => "refused_unknown_key",
            Self::Invalid(error) => error.code(),
            Self::NotTheKey => "refused_not_the_key",
            Self::Older => "refused_older",
            Self::PeerQuota => "refused_peer_quota",
            Self::Full => "refused_full",
            Self::NotTheProvider => "refused_not_the_provider",
        }
    }
}

/// How much is kept for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Entries in all.
    pub entries: usize,
    /// Bytes of keys and values in all.
    pub bytes: usize,
    /// Entries that one peer brought.
    pub entries_per_peer: usize,
    /// Bytes that one peer brought.
    pub bytes_per_peer: usize,
}

#[derive(Debug)]
struct Stored {
    record: ValueRecord,
    /// `None` for a public key.
    verified: Option<Verified>,
    received: Timestamp,
    /// On the monotonic clock, so that a jump of the wall clock drops nothing early.
    expires: Duration,
    from: Option<PeerId>,
}

impl Stored {
    fn size(&self) -> usize {
        self.record.key.len() + self.record.value.len()
    }

    fn is_dead(&self, now: Now) -> bool {
        self.expires <= now.monotonic || self.verified.as_ref().is_some_and(|record| record.is_expired(now.wall))
    }
}

#[derive(Debug)]
pub(crate) struct Values {
    local: Key,
    quota: Quota,
    /// By the distance from us: what is far is given up first.
    stored: BTreeMap<Distance, Stored>,
    expiry: BTreeSet<(Duration, Distance)>,
    bytes: usize,
    /// Entries and bytes by who brought them.
    used: BTreeMap<PeerId, (usize, usize)>,
}

/// What a put changed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// When the record that is now kept came.
    pub(crate) received: Timestamp,
    /// The key of the record that was given up for it.
    pub(crate) evicted: Option<Bytes>,
}

impl Values {
    pub(crate) fn new(local: Key, quota: Quota) -> Self {
        Self { local, quota, stored: BTreeMap::new(), expiry: BTreeSet::new(), bytes: 0, used: BTreeMap::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.stored.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The record under `key`, unless it has expired.
    pub(crate) fn get(&self, now: Now, key: &[u8]) -> Option<ValueRecord> {
        self.alive(now, key).map(|stored| ValueRecord { received: Some(stored.received), ..stored.record.clone() })
    }

    /// The verified record of a name, unless it has expired.
    pub(crate) fn verified(&self, now: Now, name: &Name) -> Option<&Verified> {
        self.alive(now, &name.routing_key())?.verified.as_ref()
    }

    fn alive(&self, now: Now, key: &[u8]) -> Option<&Stored> {
        self.stored.get(&self.place(key)).filter(|stored| stored.record.key == key && !stored.is_dead(now))
    }

    /// Takes a record that came at `received` from a peer, or from ourselves. The very same bytes refresh the clock
    /// of what is kept, which is how republishing another's record works; an older record is refused.
    pub(crate) fn put(
        &mut self,
        now: Now,
        from: Option<PeerId>,
        record: ValueRecord,
        received: Timestamp,
    ) -> Result<Taken, Refused> {
        let place = self.place(&record.key);
        let old = self.stored.get(&place).filter(|old| !old.is_dead(now));
        let same = old.filter(|old| old.record.value == record.value && old.record.key == record.key);
        let verified = match same {
            Some(same) => same.verified.clone(),
            None => {
                let verified = verify(now, &record)?;
                let newer = old.and_then(|old| old.verified.as_ref()).zip(verified.as_ref());
                if newer.is_some_and(|(old, new)| compare(new, old).is_lt()) {
                    return Err(Refused::Older);
                }
                verified
            }
        };
        // Whoever brought the bytes first keeps them on its account, and their clock never goes back.
        let from = same.map_or(from, |same| same.from);
        let received = same.map_or(received, |same| received.max(same.received));
        let age = now.wall.saturating_since(received);
        let mut left = VALUE_LIFETIME.saturating_sub(age);
        if let Some(verified) = &verified {
            left = left.min(verified.eol().saturating_since(now.wall));
        }
        let record = ValueRecord { received: None, ..record };
        let new = Stored { record, verified, received, expires: now.monotonic + left, from };
        let replaced = self.remove(&place);
        match self.make_room(&place, &new) {
            Ok(evicted) => {
                self.insert(place, new);
                Ok(Taken { received, evicted })
            }
            Err(refused) => {
                if let Some(replaced) = replaced {
                    self.insert(place, replaced);
                }
                Err(refused)
            }
        }
    }

    /// Drops what has expired; returns the keys.
    pub(crate) fn expire(&mut self, now: Now) -> Vec<Bytes> {
        let mut keys = Vec::new();
        while let Some((_, place)) = self.expiry.first().copied().filter(|(at, _)| *at <= now.monotonic) {
            keys.extend(self.remove(&place).map(|stored| stored.record.key));
        }
        keys
    }

    pub(crate) fn next_timeout(&self) -> Option<Duration> {
        self.expiry.first().map(|(at, _)| *at)
    }

    fn place(&self, key: &[u8]) -> Distance {
        Key::of(key).distance(&self.local)
    }

    /// Gives up the farthest record if that makes room for a nearer one.
    fn make_room(&mut self, place: &Distance, new: &Stored) -> Result<Option<Bytes>, Refused> {
        let Quota { entries, bytes, entries_per_peer, bytes_per_peer } = self.quota;
        let (count, used) = new.from.and_then(|from| self.used.get(&from).copied()).unwrap_or_default();
        if new.from.is_some() && (count >= entries_per_peer || used + new.size() > bytes_per_peer) {
            return Err(Refused::PeerQuota);
        }
        if self.stored.len() < entries && self.bytes + new.size() <= bytes {
            return Ok(None);
        }
        let (farthest, loser) = self.stored.last_key_value().ok_or(Refused::Full)?;
        // One goes for one: the quota leaves room for the largest record beyond its bytes.
        if farthest <= place || self.bytes + new.size() > bytes + loser.size() {
            return Err(Refused::Full);
        }
        let farthest = *farthest;
        Ok(self.remove(&farthest).map(|loser| loser.record.key))
    }

    fn insert(&mut self, place: Distance, new: Stored) {
        self.bytes += new.size();
        if let Some(from) = new.from {
            let (count, bytes) = self.used.entry(from).or_default();
            *count += 1;
            *bytes += new.size();
        }
        self.expiry.insert((new.expires, place));
        self.stored.insert(place, new);
    }

    fn remove(&mut self, place: &Distance) -> Option<Stored> {
        let old = self.stored.remove(place)?;
        self.expiry.remove(&(old.expires, *place));
        self.bytes -= old.size();
        if let Some(from) = old.from
            && let Some((count, bytes)) = self.used.get_mut(&from)
        {
            *count -= 1;
            *bytes -= old.size();
            if *count == 0 {
                self.used.remove(&from);
            }
        }
        Some(old)
    }
}

/// Checks a record against its key; `None` for a public key, which has nothing to compare.
fn verify(now: Now, record: &ValueRecord) -> Result<Option<Verified>, Refused> {
    if let Some(hash) = record.key.strip_prefix(PUBLIC_KEY_PREFIX) {
        let name = Name::from_bytes(hash).map_err(|_| Refused::UnknownKey)?;
        let is_it = name.is_of_key_bytes(&record.value) && PublicKey::decode_protobuf(&record.value).is_ok();
        return if is_it { Ok(None) } else { Err(Refused::NotTheKey) };
    }
    let name = Name::from_routing_key(&record.key).map_err(|_| Refused::UnknownKey)?;
    Ok(Some(Checks::at(now.wall).verify(record.value.clone(), &name)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dht::testing::{Publisher, START, peer};
    use crate::key::{KeyType, SecretKey, Signer};
    use proptest::prelude::*;

    const QUOTA: Quota = Quota { entries: 100, bytes: 100_000, entries_per_peer: 50, bytes_per_peer: 50_000 };
    const HOUR: Duration = Duration::from_secs(3600);

    fn values(quota: Quota) -> Values {
        Values::new(Key::of(b"local"), quota)
    }

    fn wire(record: &Verified) -> ValueRecord {
        ValueRecord { key: record.name().routing_key().into(), value: record.as_bytes().clone(), received: None }
    }

    fn put(values: &mut Values, now: Now, from: u32, record: &Verified) -> Result<(), Refused> {
        values.put(now, Some(peer(from)), wire(record), now.wall).map(drop)
    }

    #[test]
    fn newer_replaces_older_is_refused_and_the_same_refreshes() {
        let publisher = Publisher::new(1);
        let days = 10 * 24 * 3600;
        let (old, new) = (publisher.record(1, days), publisher.record(2, days));
        let mut values = values(QUOTA);
        assert_eq!(put(&mut values, START, 1, &old), Ok(()));
        assert_eq!(put(&mut values, START, 1, &new), Ok(()));
        assert_eq!(put(&mut values, START, 1, &old), Err(Refused::Older));
        let later = START.after(40 * HOUR);
        assert_eq!(put(&mut values, later, 2, &new), Ok(()));
        let kept = values.get(START.after(87 * HOUR), &publisher.name().routing_key()).unwrap();
        assert_eq!((kept.value, kept.received), (new.as_bytes().clone(), Some(later.wall)));
        assert_eq!(values.used.keys().collect::<Vec<_>>(), [&peer(1)]);
        let end = START.after(88 * HOUR);
        assert!(values.get(end, &publisher.name().routing_key()).is_none());
        assert_eq!(values.next_timeout(), Some(end.monotonic));
        assert_eq!(values.expire(end).len(), 1);
        assert_eq!((values.len(), values.bytes, values.used.len(), values.next_timeout()), (0, 0, 0, None));
    }

    #[test]
    fn what_is_not_valid_is_refused() {
        let publisher = Publisher::new(1);
        let mut values = values(QUOTA);
        assert!(matches!(
            put(&mut values, START, 1, &publisher.record(1, -5)),
            Err(Refused::Invalid(RecordError::Expired { .. }))
        ));
        let mut record = wire(&publisher.record(1, 100));
        record.key = Publisher::new(2).name().routing_key().into();
        assert!(matches!(values.put(START, None, record.clone(), START.wall), Err(Refused::Invalid(_))));
        for key in [&b"/ipns/"[..], b"/foo/x", b"", b"/pk/", b"/ipns/\x12\x20"] {
            record.key = Bytes::copy_from_slice(key);
            assert_eq!(values.put(START, None, record.clone(), START.wall), Err(Refused::UnknownKey));
        }
        assert_eq!(values.len(), 0);
        // What expires is replaced by anything valid, even by an older record.
        assert_eq!(put(&mut values, START, 1, &publisher.record(2, 10)), Ok(()));
        assert_eq!(put(&mut values, START, 1, &publisher.record(1, 100)), Err(Refused::Older));
        assert_eq!(put(&mut values, START.after(10 * Duration::from_secs(1)), 1, &publisher.record(1, 100)), Ok(()));
    }

    #[test]
    fn public_keys_must_be_what_the_key_names() {
        let key = SecretKey::generate(KeyType::Ed25519, [4; 32], 0).unwrap().public_key();
        let other = SecretKey::generate(KeyType::Ed25519, [5; 32], 0).unwrap().public_key();
        let wire = |named: &PublicKey, value: &PublicKey| ValueRecord {
            key: [PUBLIC_KEY_PREFIX, &named.to_name().to_bytes()].concat().into(),
            value: value.encode_protobuf().into(),
            received: None,
        };
        let mut values = values(QUOTA);
        assert!(values.put(START, None, wire(&key, &key), START.wall).is_ok());
        assert_eq!(values.put(START, None, wire(&key, &other), START.wall), Err(Refused::NotTheKey));
    }

    #[test]
    fn a_peer_has_a_quota_and_the_farthest_goes_first() {
        let quota = Quota { entries: 6, entries_per_peer: 4, ..QUOTA };
        let mut values = values(quota);
        let records: Vec<_> = (0..30).map(|n| Publisher::new(n).record(1, 1000)).collect();
        for record in &records[..4] {
            assert_eq!(put(&mut values, START, 1, record), Ok(()));
        }
        assert_eq!(put(&mut values, START, 1, &records[4]), Err(Refused::PeerQuota));
        assert_eq!(put(&mut values, START, 1, &records[3]), Ok(()));
        for (n, record) in records[4..].iter().enumerate() {
            let farthest = values.stored.keys().last().copied();
            let full = values.len() == quota.entries;
            let nearer = Some(values.place(&record.name().routing_key())) < farthest;
            let taken = put(&mut values, START, 10 + n as u32, record);
            assert_eq!(taken.is_ok(), !full || nearer);
            assert!(values.len() <= quota.entries);
        }
    }

    #[test]
    fn loading_continues_the_clock() {
        let record = Publisher::new(1).record(1, 1_000_000);
        let mut values = values(QUOTA);
        let received = START.wall - 47 * HOUR;
        assert!(values.put(START, None, wire(&record), received).is_ok());
        assert_eq!(values.next_timeout(), Some(START.monotonic + HOUR));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn the_counts_agree(steps in proptest::collection::vec((0..4_u32, 0..12_u8, 0..3_u64, 0..100_u64), 0..80)) {
            let quota = Quota { entries: 8, bytes: 3000, entries_per_peer: 5, bytes_per_peer: 1800 };
            let mut values = values(quota);
            let mut now = START;
            for (from, name, sequence, wait) in steps {
                now = now.after(Duration::from_secs(wait * 60));
                let _ = put(&mut values, now, from, &Publisher::new(name).record(sequence, 20_000));
                let bytes: usize = values.stored.values().map(Stored::size).sum();
                prop_assert_eq!(bytes, values.bytes);
                prop_assert!(bytes <= quota.bytes && values.len() <= quota.entries);
                prop_assert_eq!(values.expiry.len(), values.len());
                let (count, used) = values.used.values().fold((0, 0), |(c, b), (count, bytes)| (c + count, b + bytes));
                prop_assert_eq!((count, used), (values.len(), bytes));
                prop_assert!(values.used.values().all(|(count, bytes)| *count <= 5 && *bytes <= 1800));
                values.expire(now);
            }
        }
    }
}
