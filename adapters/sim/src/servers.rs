//! Passive servers: what a client sees of a large DHT, at a few hundred bytes a server.
//!
//! A passive server has no routing table of its own. What it would have in each bucket follows from the sorted ids of
//! all servers and the seed: all of a small subtree, a fixed sample of a large one, and of those that are down as many
//! as real tables hold. So a hundred thousand of them fit into a world, and answer like servers that joined long ago.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use ipns_core::dht::{Key, Multiaddr, PeerId, PeerInfo, Refused, Request, Response, ValueRecord};
use ipns_core::{Name, Timestamp, Verified};

use crate::dice::{mix, unit};
use crate::identity;
use crate::values::Values;

/// The size of a bucket.
const K: usize = 20;
/// A sample of a large bucket gives up after so many draws.
const MAX_DRAWS: u64 = 8 * K as u64;

/// The passive servers of a world.
#[derive(Debug, Clone, PartialEq)]
pub struct Servers {
    /// How many are up.
    pub count: u32,
    /// The share of the entries of far buckets that are down.
    pub stale_far: f64,
    /// The share of the entries of near buckets that are down: those small enough to hold all that there are.
    pub stale_near: f64,
    /// How they come and go; `None` for those that stay.
    pub churn: Option<Churn>,
    /// The protocol of their DHT.
    pub protocol: String,
}

/// How long servers stay, as a Weibull distribution. As many come as go, and most of them come back with what they kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Churn {
    /// Below 1, most stay for a short time and some for very long.
    pub shape: f64,
    /// Two thirds are gone by then, whatever the shape.
    pub scale: Duration,
    /// The share of servers in whose place others come, with nothing of what was kept.
    pub replaced: f64,
}

impl Default for Churn {
    /// What was measured on the public DHT: how long servers stay, and, by the share that is replaced, how many of 20
    /// holders are among the nearest 20 still. Here it is 16 after an hour and 14 after ten, there it was 17 and 15.
    fn default() -> Self {
        Self { shape: 0.608, scale: Duration::from_secs(13_176), replaced: 0.2 }
    }
}

impl Churn {
    /// How long somebody stays.
    pub(crate) fn session(&self, chance: u64) -> Duration {
        self.scale.mul_f64(libm::pow(-libm::log(1.0 - unit(chance)), 1.0 / self.shape))
    }
}

impl Servers {
    /// So many servers of the public DHT, with as many stale entries as today's tables hold.
    pub fn new(count: u32) -> Self {
        let protocol = ipns_core::dht::PUBLIC_PROTOCOL.to_owned();
        Self { count, stale_far: 0.04, stale_near: 0.15, churn: None, protocol }
    }

    /// The same with this share of stale entries everywhere.
    #[must_use]
    pub fn dead(self, share: f64) -> Self {
        Self { stale_far: share, stale_near: share, ..self }
    }
}

pub(crate) struct Population {
    seed: u64,
    pub(crate) protocol: String,
    peers: Vec<PeerId>,
    keys: Vec<Key>,
    addresses: Vec<Multiaddr>,
    up: Vec<bool>,
    /// The first 64 bits of each key, with its server, in order.
    sorted: Vec<(u64, u32)>,
    /// How likely an entry that is down still stands in a far bucket, and in a near one.
    keep_far: f64,
    keep_near: f64,
    /// The share of servers that lose what they keep when they leave.
    replaced: f64,
    values: Values,
    providers: BTreeMap<(u32, Bytes), BTreeSet<PeerId>>,
}

impl Population {
    pub(crate) fn new(seed: u64, servers: &Servers) -> Self {
        let most = servers.stale_far.max(servers.stale_near).clamp(0.0, 0.9);
        let total = (f64::from(servers.count) / (1.0 - most)).round() as u32;
        let peers: Vec<PeerId> = (0..total).map(identity::peer).collect();
        let keys: Vec<Key> = peers.iter().map(Key::of_peer).collect();
        let mut sorted: Vec<(u64, u32)> = keys.iter().zip(0..).map(|(key, n)| (prefix(key), n)).collect();
        sorted.sort_unstable();
        // Exactly so many are down, spread evenly over the ids.
        let mut order: Vec<(u64, u32)> = (0..total).map(|n| (mix(&[seed, 10, n.into()]), n)).collect();
        order.sort_unstable();
        let mut up = vec![true; total as usize];
        for (_, n) in order.iter().take((total - servers.count) as usize) {
            up[*n as usize] = false;
        }
        let keep = |stale: f64| if most > 0.0 { stale * (1.0 - most) / (most * (1.0 - stale)) } else { 0.0 };
        Self {
            seed,
            protocol: servers.protocol.clone(),
            addresses: (0..total).map(identity::address).collect(),
            peers,
            keys,
            up,
            sorted,
            keep_far: keep(servers.stale_far),
            keep_near: keep(servers.stale_near),
            replaced: servers.churn.map_or(0.0, |churn| churn.replaced),
            values: Values::default(),
            providers: BTreeMap::new(),
        }
    }

    pub(crate) fn len(&self) -> u32 {
        self.peers.len() as u32
    }

    pub(crate) fn is_up(&self, n: u32) -> bool {
        self.up[n as usize]
    }

    pub(crate) fn set_up(&mut self, n: u32, up: bool) {
        self.up[n as usize] = up;
    }

    /// A server loses what it keeps.
    pub(crate) fn forget(&mut self, n: u32) {
        self.values.remove(n);
        self.providers.retain(|(of, _), _| *of != n);
    }

    /// Whether what comes after a server has left is another one in its place.
    pub(crate) fn is_replaced(&self, n: u32) -> bool {
        unit(mix(&[self.seed, 13, n.into()])) < self.replaced
    }

    pub(crate) fn address(&self, n: u32) -> &Multiaddr {
        &self.addresses[n as usize]
    }

    pub(crate) fn info(&self, n: u32) -> PeerInfo {
        PeerInfo { id: self.peers[n as usize], addresses: vec![self.addresses[n as usize].clone()] }
    }

    /// Every server that is up, nearest to `target` first: what a lookup should find.
    pub(crate) fn truly_closest(&self, target: &Key, count: usize) -> Vec<u32> {
        let mut all: Vec<u32> = (0..self.len()).filter(|n| self.is_up(*n)).collect();
        let distance = |n: &u32| self.keys[*n as usize].distance(target);
        if all.len() > count && count > 0 {
            all.select_nth_unstable_by_key(count - 1, distance);
            all.truncate(count);
        }
        all.sort_unstable_by_key(distance);
        all
    }

    /// The servers that server `n` would name as the nearest to `target`.
    pub(crate) fn closest(&self, n: u32, target: &Key) -> Vec<u32> {
        self.closest_of(n, &self.keys[n as usize], target)
    }

    /// The servers that node `n`, which has this key and joined long ago, would name as the nearest to `target`.
    pub(crate) fn closest_of(&self, n: u32, own: &Key, target: &Key) -> Vec<u32> {
        let own = prefix(own);
        let shared = (own ^ prefix(target)).leading_zeros();
        let mut found = Vec::with_capacity(2 * K);
        if shared < 64 {
            self.bucket(n, own, shared, &mut found);
        }
        // Entries of deeper buckets are farther from the target than those of its own bucket, and equally far as to
        // the first bit that differs; entries of shallower ones are farther still.
        let mut deeper = shared + 1;
        while found.len() < K && deeper < 64 && !self.range(own, deeper - 1, false).is_empty() {
            self.bucket(n, own, deeper, &mut found);
            deeper += 1;
        }
        for shallower in (0..shared).rev() {
            if found.len() >= K {
                break;
            }
            self.bucket(n, own, shallower, &mut found);
        }
        let mut near: Vec<(_, u32)> =
            found.into_iter().map(|other| (self.keys[other as usize].distance(target), other)).collect();
        near.sort_unstable();
        near.truncate(K);
        near.into_iter().map(|(_, other)| other).collect()
    }

    /// Where in the order the ids stand that share exactly (`flipped`) or at least `bits` + 1 bits with `own`.
    fn range(&self, own: u64, bits: u32, flipped: bool) -> &[(u64, u32)] {
        let bit = 1_u64 << (63 - bits);
        let low = (if flipped { own ^ bit } else { own }) & !(bit - 1);
        let start = self.sorted.partition_point(|(key, _)| *key < low);
        let end = start + self.sorted[start..].partition_point(|(key, _)| *key <= low | (bit - 1));
        &self.sorted[start..end]
    }

    /// What stands in a bucket of server `n`.
    fn bucket(&self, n: u32, own: u64, bits: u32, found: &mut Vec<u32>) {
        let range = self.range(own, bits, true);
        let near = range.len() <= 2 * K;
        let keep = if near { self.keep_near } else { self.keep_far };
        let stands = |other: u32| {
            let chance = || unit(mix(&[self.seed, 11, n.into(), other.into()]));
            other != n && (self.is_up(other) || chance() < keep)
        };
        let before = found.len();
        if range.len() <= K {
            found.extend(range.iter().map(|(_, other)| *other).filter(|other| stands(*other)));
            return;
        }
        for draw in 0..MAX_DRAWS {
            if found.len() - before == K {
                break;
            }
            let at = mix(&[self.seed, 12, n.into(), bits.into(), draw]) % range.len() as u64;
            let (_, other) = range[at as usize];
            if stands(other) && !found[before..].contains(&other) {
                found.push(other);
            }
        }
    }

    /// What server `n` answers.
    pub(crate) fn answer(
        &mut self,
        now: Duration,
        wall: Timestamp,
        n: u32,
        from: &PeerId,
        request: Request,
    ) -> Result<Response, Refused> {
        let closer = |population: &Self, key: &[u8]| -> Vec<PeerInfo> {
            let closest = population.closest(n, &Key::of(key));
            closest.into_iter().map(|other| population.info(other)).filter(|peer| peer.id != *from).collect()
        };
        Ok(match request {
            Request::Ping => Response::Ping,
            Request::FindNode { key } => Response::FindNode { closer: closer(self, &key) },
            Request::GetValue { key } => {
                let record = self.values.get(now, n, &key).map(|(key, record)| ValueRecord {
                    key: key.clone(),
                    value: record.as_bytes().clone(),
                    received: None,
                });
                Response::GetValue { record, closer: closer(self, &key) }
            }
            Request::PutValue { record } => {
                self.values.put(now, wall, n, &record)?;
                Response::PutValue { record }
            }
            Request::AddProvider { key, .. } => {
                self.providers.entry((n, key)).or_default().insert(*from);
                Response::AddProvider
            }
            Request::GetProviders { key } => {
                let ids = self.providers.get(&(n, key.clone())).into_iter().flatten();
                let providers = ids.map(|id| PeerInfo { id: *id, addresses: Vec::new() }).collect();
                Response::GetProviders { providers, closer: closer(self, &key) }
            }
        })
    }

    /// The record that server `n` keeps of a name.
    pub(crate) fn held(&self, now: Duration, n: u32, name: &Name) -> Option<&Verified> {
        self.values.get(now, n, &name.routing_key()).map(|(_, record)| record)
    }

    /// How many servers that are up hold exactly this record.
    pub(crate) fn holders(&self, now: Duration, record: &Verified) -> usize {
        let holds = |n: &u32| self.is_up(*n) && self.held(now, *n, record.name()) == Some(record);
        self.values.servers().filter(holds).count()
    }
}

fn prefix(key: &Key) -> u64 {
    let bytes = key.to_bytes();
    u64::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_of_answers_finds_the_true_nearest() {
        let population = Population::new(3, &Servers::new(2000).dead(0.0));
        for round in 0..50_u32 {
            let target = Key::of(&round.to_be_bytes());
            let truth = population.truly_closest(&target, K);
            let mut at = round * 31 % population.len();
            let mut hops = 0;
            loop {
                let next = population.closest(at, &target)[0];
                let nearer = |n: u32| population.keys[n as usize].distance(&target);
                if nearer(next) >= nearer(at) {
                    break;
                }
                at = next;
                hops += 1;
            }
            assert!(hops <= 6, "{hops}");
            let near = population.closest(at, &target);
            let named: BTreeSet<u32> = near.iter().flat_map(|n| population.closest(*n, &target)).chain([at]).collect();
            assert!(truth.iter().all(|n| named.contains(n)));
        }
    }

    #[test]
    fn two_thirds_are_gone_after_the_scale() {
        let churn = Churn::default();
        let gone = (0..20_000).filter(|n| churn.session(mix(&[*n, 9])) < churn.scale).count();
        assert!((12_500..12_800).contains(&gone), "{gone}");
    }

    #[test]
    fn as_many_entries_are_down_as_was_asked_for() {
        for (servers, far, near) in [
            (Servers::new(4000), 0.04, 0.15),
            (Servers::new(4000).dead(0.25), 0.25, 0.25),
            (Servers::new(4000).dead(0.0), 0.0, 0.0),
        ] {
            let population = Population::new(5, &servers);
            let up = (0..population.len()).filter(|n| population.is_up(*n)).count();
            assert_eq!(up, 4000);
            let (mut counts, mut downs) = ([0; 2], [0; 2]);
            for n in (0..population.len()).step_by(7) {
                let own = prefix(&population.keys[n as usize]);
                for bits in 0..14 {
                    let near = usize::from(population.range(own, bits, true).len() <= 2 * K);
                    let mut found = Vec::new();
                    population.bucket(n, own, bits, &mut found);
                    counts[near] += found.len();
                    downs[near] += found.iter().filter(|other| !population.is_up(**other)).count();
                }
            }
            let share = |near: usize| downs[near] as f64 / counts[near] as f64;
            assert!((share(0) - far).abs() < 0.01 && (share(1) - near).abs() < 0.02, "{} {}", share(0), share(1));
        }
    }
}
