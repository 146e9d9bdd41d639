//! Who provides what: the provider records that a server keeps, and the keys that we keep provided ourselves.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use libp2p_identity::PeerId;
use multiaddr::Multiaddr;

use super::key::{Distance, Key};
use super::message::{MAX_PEERS, PeerInfo};
use super::values::Refused;

/// How long a provider record is valid (libp2p kad-dht spec, "Content provider advertisement").
pub const PROVIDER_LIFETIME: Duration = Duration::from_secs(48 * 3600);
/// How long a provider's addresses are told with it.
pub const PROVIDER_ADDRESS_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// After how long what we provide is announced again.
pub const REPROVIDE_INTERVAL: Duration = Duration::from_secs(22 * 3600);
/// The most providers of one key that are kept; the oldest makes room.
const PROVIDERS_PER_KEY: usize = 200;

#[derive(Debug)]
struct Provider {
    addresses: Vec<Multiaddr>,
    /// On the monotonic clock.
    expires: Duration,
}

/// A provider record that is not kept any more.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Gone {
    pub(crate) key: Bytes,
    pub(crate) peer: PeerId,
}

#[derive(Debug)]
struct Provided {
    key: Bytes,
    providers: BTreeMap<PeerId, Provider>,
}

/// Provider records of others.
#[derive(Debug)]
pub(crate) struct Providers {
    local: Key,
    limit: usize,
    limit_per_peer: usize,
    /// By the distance from us: what is far is given up first.
    keys: BTreeMap<Distance, Provided>,
    /// Oldest first.
    ages: BTreeSet<(Duration, Distance, PeerId)>,
    used: BTreeMap<PeerId, usize>,
}

impl Providers {
    pub(crate) fn new(local: Key, limit: usize, limit_per_peer: usize) -> Self {
        Self { local, limit, limit_per_peer, keys: BTreeMap::new(), ages: BTreeSet::new(), used: BTreeMap::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.ages.len()
    }

    /// Notes that `peer` said `age` ago that it provides `key`. Returns what was given up for it.
    pub(crate) fn add(
        &mut self,
        now: Duration,
        age: Duration,
        key: Bytes,
        peer: PeerInfo,
    ) -> Result<Option<Gone>, Refused> {
        let place = Key::of(&key).distance(&self.local);
        self.remove(&place, &peer.id);
        if self.used.get(&peer.id).is_some_and(|used| *used >= self.limit_per_peer) {
            return Err(Refused::PeerQuota);
        }
        let gone = self.make_room(&place)?;
        let provided = self.keys.entry(place).or_insert_with(|| Provided { key, providers: BTreeMap::new() });
        let expires = now + PROVIDER_LIFETIME.saturating_sub(age);
        provided.providers.insert(peer.id, Provider { addresses: peer.addresses, expires });
        self.ages.insert((expires, place, peer.id));
        *self.used.entry(peer.id).or_default() += 1;
        Ok(gone)
    }

    /// The providers of `key`, the newest first, at most [`MAX_PEERS`].
    pub(crate) fn get(&self, now: Duration, key: &[u8]) -> Vec<PeerInfo> {
        let provided = self.keys.get(&Key::of(key).distance(&self.local)).filter(|provided| provided.key == key);
        let alive = |provider: &Provider, lifetime| provider.expires + lifetime > now + PROVIDER_LIFETIME;
        let mut found: Vec<_> = provided
            .iter()
            .flat_map(|provided| &provided.providers)
            .filter(|(_, provider)| alive(provider, PROVIDER_LIFETIME))
            .collect();
        found.sort_by_key(|(_, provider)| core::cmp::Reverse(provider.expires));
        found.truncate(MAX_PEERS);
        let addresses = |provider: &Provider| match alive(provider, PROVIDER_ADDRESS_LIFETIME) {
            true => provider.addresses.clone(),
            false => Vec::new(),
        };
        found.into_iter().map(|(id, provider)| PeerInfo { id: *id, addresses: addresses(provider) }).collect()
    }

    /// Drops what has expired, and returns it.
    pub(crate) fn expire(&mut self, now: Duration) -> Vec<Gone> {
        let mut gone = Vec::new();
        while self.next_timeout().is_some_and(|at| at <= now)
            && let Some((_, place, peer)) = self.ages.first().copied()
        {
            gone.extend(self.remove(&place, &peer));
        }
        gone
    }

    pub(crate) fn next_timeout(&self) -> Option<Duration> {
        self.ages.first().map(|(expires, _, _)| *expires)
    }

    fn make_room(&mut self, place: &Distance) -> Result<Option<Gone>, Refused> {
        let oldest = |provided: &Provided| {
            provided.providers.iter().min_by_key(|(_, provider)| provider.expires).map(|(id, _)| *id)
        };
        let crowded = self.keys.get(place).filter(|provided| provided.providers.len() >= PROVIDERS_PER_KEY);
        let loser = if crowded.is_some() {
            crowded.and_then(oldest).map(|peer| (*place, peer))
        } else if self.len() < self.limit {
            return Ok(None);
        } else {
            let farthest = self.keys.last_key_value().filter(|(farthest, _)| *farthest > place);
            farthest.and_then(|(farthest, provided)| Some((*farthest, oldest(provided)?)))
        };
        let (farthest, peer) = loser.ok_or(Refused::Full)?;
        Ok(self.remove(&farthest, &peer))
    }

    fn remove(&mut self, place: &Distance, peer: &PeerId) -> Option<Gone> {
        let provided = self.keys.get_mut(place)?;
        let provider = provided.providers.remove(peer)?;
        let gone = Gone { key: provided.key.clone(), peer: *peer };
        if provided.providers.is_empty() {
            self.keys.remove(place);
        }
        self.ages.remove(&(provider.expires, *place, *peer));
        if let Some(used) = self.used.get_mut(peer) {
            *used -= 1;
            if *used == 0 {
                self.used.remove(peer);
            }
        }
        Some(gone)
    }
}

/// The keys that we provide, and when each is announced next.
#[derive(Debug, Default)]
pub(crate) struct Own {
    keys: BTreeMap<Bytes, Duration>,
    due: BTreeSet<(Duration, Bytes)>,
}

impl Own {
    /// The key is being announced now: the next time is an interval later.
    pub(crate) fn announced(&mut self, now: Duration, key: Bytes) {
        self.stop(&key);
        let next = now + REPROVIDE_INTERVAL;
        self.due.insert((next, key.clone()));
        self.keys.insert(key, next);
    }

    pub(crate) fn stop(&mut self, key: &Bytes) {
        if let Some(at) = self.keys.remove(key) {
            self.due.remove(&(at, key.clone()));
        }
    }

    /// A key whose time has come.
    pub(crate) fn take_due(&mut self, now: Duration) -> Option<Bytes> {
        let (_, key) = self.due.first().filter(|(at, _)| *at <= now)?.clone();
        self.stop(&key);
        Some(key)
    }

    pub(crate) fn next_timeout(&self) -> Option<Duration> {
        self.due.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dht::testing::{address, peer};
    use proptest::prelude::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn info(n: u32) -> PeerInfo {
        PeerInfo { id: peer(n), addresses: vec![address(n)] }
    }

    fn providers() -> Providers {
        Providers::new(Key::of(b"local"), 1000, 10)
    }

    #[test]
    fn addresses_go_after_a_day_and_records_after_two() {
        let mut providers = providers();
        let key = Bytes::from_static(b"key");
        providers.add(HOUR, Duration::ZERO, key.clone(), info(1)).unwrap();
        assert_eq!(providers.get(HOUR * 24, &key), [info(1)]);
        assert_eq!(providers.get(HOUR * 25, &key), [PeerInfo { id: peer(1), addresses: Vec::new() }]);
        assert_eq!(providers.get(HOUR * 49, &key), []);
        assert_eq!(providers.next_timeout(), Some(HOUR * 49));
        providers.add(HOUR * 20, Duration::ZERO, key.clone(), info(1)).unwrap();
        assert_eq!(providers.len(), 1);
        providers.expire(HOUR * 49);
        assert_eq!(providers.get(HOUR * 50, &key).len(), 1);
        providers.expire(HOUR * 68);
        assert_eq!((providers.len(), providers.next_timeout(), providers.used.len()), (0, None, 0));
    }

    #[test]
    fn what_was_announced_before_a_restart_goes_on_to_age() {
        let mut providers = providers();
        let key = Bytes::from_static(b"key");
        providers.add(HOUR, HOUR * 30, key.clone(), info(1)).unwrap();
        assert_eq!(providers.get(HOUR, &key), [PeerInfo { id: peer(1), addresses: Vec::new() }]);
        assert_eq!(providers.next_timeout(), Some(HOUR * 19));
        assert_eq!(providers.expire(HOUR * 19), [Gone { key, peer: peer(1) }]);
    }

    #[test]
    fn a_key_and_a_peer_have_bounds() {
        let mut providers = providers();
        let key = Bytes::from_static(b"key");
        for n in 0..300 {
            providers.add(HOUR * n, Duration::ZERO, key.clone(), info(n)).unwrap();
        }
        assert_eq!(providers.len(), PROVIDERS_PER_KEY);
        assert_eq!(providers.get(HOUR * 300, &key)[0], info(299));
        for n in 0..10_u8 {
            providers.add(HOUR, Duration::ZERO, vec![n].into(), info(999)).unwrap();
        }
        assert_eq!(providers.add(HOUR, Duration::ZERO, key, info(999)), Err(Refused::PeerQuota));
        providers.add(HOUR, Duration::ZERO, vec![3].into(), info(999)).unwrap();
    }

    #[test]
    fn ours_are_announced_every_22_hours() {
        let mut own = Own::default();
        let key = Bytes::from_static(b"key");
        own.announced(HOUR, key.clone());
        own.announced(HOUR * 2, key.clone());
        assert_eq!(own.next_timeout(), Some(HOUR * 24));
        assert_eq!(own.take_due(HOUR * 23), None);
        assert_eq!(own.take_due(HOUR * 24), Some(key.clone()));
        assert_eq!(own.take_due(HOUR * 24), None);
        own.announced(HOUR * 24, key.clone());
        own.stop(&key);
        assert_eq!(own.next_timeout(), None);
    }

    proptest! {
        #[test]
        fn the_counts_agree(steps in proptest::collection::vec((0..8_u32, 0..20_u8), 0..200)) {
            let mut providers = Providers::new(Key::of(b"local"), 12, 5);
            for (at, (n, key)) in steps.into_iter().enumerate() {
                let now = HOUR * at as u32;
                let _ = providers.add(now, Duration::ZERO, vec![key].into(), info(n));
                providers.expire(now);
                let held: usize = providers.keys.values().map(|provided| provided.providers.len()).sum();
                prop_assert_eq!(held, providers.len());
                prop_assert!(held <= 12);
                prop_assert_eq!(providers.used.values().sum::<usize>(), held);
                prop_assert!(providers.used.values().all(|used| *used <= 5));
            }
        }
    }
}
