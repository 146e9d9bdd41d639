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

use crate::dice::{mix, mix_in, unit};
use crate::identity;
use crate::order::Order;
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
    /// What their peer ids are the hashes of. Ids and addresses are made when somebody asks: an answer names twenty that
    /// nobody has looked at lately, and what is read from far memory is what it costs.
    digests: Vec<[u8; 32]>,
    keys: Vec<Key>,
    up: Vec<bool>,
    by_key: Order,
    by_digest: Order,
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
        let digests: Vec<[u8; 32]> = (0..total).map(identity::digest).collect();
        let keys: Vec<Key> = digests.iter().map(|digest| Key::of_peer(&identity::of_digest(digest))).collect();
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
            by_key: Order::new(keys.iter().map(prefix)),
            by_digest: Order::new(digests.iter().map(first)),
            digests,
            keys,
            up,
            keep_far: keep(servers.stale_far),
            keep_near: keep(servers.stale_near),
            replaced: servers.churn.map_or(0.0, |churn| churn.replaced),
            values: Values::default(),
            providers: BTreeMap::new(),
        }
    }

    pub(crate) fn len(&self) -> u32 {
        self.digests.len() as u32
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

    /// Whether the address is this server's.
    pub(crate) fn is_at(n: u32, address: &Multiaddr) -> bool {
        address.as_ref() == identity::address_bytes(n)
    }

    pub(crate) fn info(&self, n: u32) -> PeerInfo {
        PeerInfo { id: identity::of_digest(&self.digests[n as usize]), addresses: vec![identity::address(n)] }
    }

    /// The server that has this peer id. Its own address among these tells it without a search.
    pub(crate) fn number(&self, peer: &PeerId, addresses: &[Multiaddr]) -> Option<u32> {
        let digest = identity::digest_of(peer)?;
        let mut told = addresses.iter().filter_map(identity::number_at);
        if let Some(n) = told.find(|n| self.digests.get(*n as usize) == Some(digest)) {
            return Some(n);
        }
        let mut alike = self.by_digest.alike(first(digest), u64::BITS).iter().map(|(_, n)| *n);
        alike.find(|n| self.digests[*n as usize] == *digest)
    }

    /// Every server that is up, nearest to `target` first: what a lookup should find.
    pub(crate) fn truly_closest(&self, target: &Key, count: usize) -> Vec<u32> {
        let up = |bits| {
            let alike = self.by_key.alike(prefix(target), bits).iter().map(|(_, n)| *n);
            alike.filter(|n| self.is_up(*n))
        };
        // Whoever shares more bits with the target is nearer.
        let enough = (1..u64::BITS).rev().find(|bits| up(*bits).count() >= count);
        let mut nearest: Vec<u32> = up(enough.unwrap_or(0)).collect();
        nearest.sort_unstable_by_key(|n| self.keys[*n as usize].distance(target));
        nearest.truncate(count);
        nearest
    }

    /// The servers that server `n` would name as the nearest to `target`.
    pub(crate) fn closest(&self, n: u32, target: &Key) -> Vec<u32> {
        self.closest_of(n, &self.keys[n as usize], target)
    }

    /// The servers that node `n`, which has this key and joined long ago, would name as the nearest to `target`.
    pub(crate) fn closest_of(&self, n: u32, own: &Key, target: &Key) -> Vec<u32> {
        let (own, sought) = (prefix(own), prefix(target));
        let shared = (own ^ sought).leading_zeros();
        let mut found = Vec::with_capacity(2 * K);
        if shared < u64::BITS {
            self.bucket(n, own, shared, &mut found);
        }
        // Entries of deeper buckets are farther from the target than those of its own bucket, and equally far as to
        // the first bit that differs; entries of shallower ones are farther still.
        let mut deeper = shared + 1;
        while found.len() < K && deeper < u64::BITS && self.has_others(n, own, deeper) {
            self.bucket(n, own, deeper, &mut found);
            deeper += 1;
        }
        for shallower in (0..shared).rev() {
            if found.len() >= K {
                break;
            }
            self.bucket(n, own, shallower, &mut found);
        }
        let far = |n: u32| self.keys[n as usize].distance(target);
        found.sort_unstable_by(|(one, n), (other, m)| {
            (one ^ sought).cmp(&(other ^ sought)).then_with(|| far(*n).cmp(&far(*m)))
        });
        found.into_iter().take(K).map(|(_, other)| other).collect()
    }

    /// Whether there is anybody but node `n` who shares so many bits with it.
    fn has_others(&self, n: u32, own: u64, bits: u32) -> bool {
        self.by_key.alike(own, bits).iter().any(|(_, other)| *other != n)
    }

    /// Who shares exactly so many bits with `own`.
    fn subtree(&self, own: u64, bits: u32) -> &[(u64, u32)] {
        self.by_key.alike(own ^ 1 << (63 - bits), bits + 1)
    }

    /// What stands in a bucket of server `n`: the first bits of each key, and whose it is.
    fn bucket(&self, n: u32, own: u64, bits: u32, found: &mut Vec<(u64, u32)>) {
        let all = self.subtree(own, bits);
        let near = all.len() <= 2 * K;
        let keep = if near { self.keep_near } else { self.keep_far };
        let stands = |other: u32| {
            let chance = || unit(mix(&[self.seed, 11, n.into(), other.into()]));
            other != n && (self.is_up(other) || chance() < keep)
        };
        let before = found.len();
        if all.len() <= K {
            found.extend(all.iter().filter(|(_, other)| stands(*other)));
            return;
        }
        let chances = mix(&[self.seed, 12, n.into(), bits.into()]);
        for first in (0..MAX_DRAWS).step_by(K) {
            // All of a bucket are fetched before any is looked at: that is one wait for far memory, and not twenty.
            let draw = |at: usize| all[(mix_in(chances, first + at as u64) % all.len() as u64) as usize];
            let drawn: [(u64, u32); K] = std::array::from_fn(draw);
            for drawn in drawn {
                if found.len() - before == K {
                    return;
                }
                if stands(drawn.1) && !found[before..].contains(&drawn) {
                    found.push(drawn);
                }
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
        let asker = identity::digest_of(from);
        let closer = |population: &Self, key: &[u8]| -> Vec<PeerInfo> {
            let closest = population.closest(n, &Key::of(key));
            // All hashes are fetched at once: that is one wait for far memory, and not twenty.
            let digests: Vec<[u8; 32]> = closest.iter().map(|other| population.digests[*other as usize]).collect();
            let mut closer = Vec::with_capacity(K);
            for (other, digest) in closest.into_iter().zip(&digests) {
                if Some(digest) != asker {
                    let id = identity::of_digest(digest);
                    closer.push(PeerInfo { id, addresses: vec![identity::address(other)] });
                }
            }
            closer
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
    first(&key.to_bytes())
}

/// The first 64 bits.
fn first(bytes: &[u8; 32]) -> u64 {
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
                    let near = usize::from(population.subtree(own, bits).len() <= 2 * K);
                    let mut found = Vec::new();
                    population.bucket(n, own, bits, &mut found);
                    counts[near] += found.len();
                    downs[near] += found.iter().filter(|(_, other)| !population.is_up(*other)).count();
                }
            }
            let share = |near: usize| downs[near] as f64 / counts[near] as f64;
            assert!((share(0) - far).abs() < 0.01 && (share(1) - near).abs() < 0.02, "{} {}", share(0), share(1));
        }
    }
}
