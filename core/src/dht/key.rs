//! The key space: 256-bit keys, XOR distance, and the nearest keys of a sorted map.

use core::fmt;
use std::collections::BTreeMap;

use libp2p_identity::PeerId;
use rand_chacha::rand_core::RngCore;
use sha2::{Digest, Sha256};

/// The bits of a key, and the longest common prefix of two.
pub(crate) const BITS: u32 = 256;

/// No peer id is longer: a multihash of 64 bytes behind a code and a length.
const MAX_PEER_ID_BYTES: usize = 10 + 2 + 64;

/// A 256-bit number: the bytes of a digest in big-endian order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Bits {
    high: u128,
    low: u128,
}

/// A place in the key space: the SHA2-256 of a record's routing key or of a peer id's bytes
/// (libp2p kad-dht spec, "Distance").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Bits);

/// How far apart two keys are: their XOR, ordered as a big-endian number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Distance(Bits);

impl Bits {
    const fn from_bytes(bytes: [u8; 32]) -> Self {
        let [mut high, mut low, mut at] = [0, 0, 0];
        while at < 16 {
            high = high << 8 | bytes[at as usize] as u128;
            low = low << 8 | bytes[at as usize + 16] as u128;
            at += 1;
        }
        Self { high, low }
    }

    fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&self.high.to_be_bytes());
        bytes[16..].copy_from_slice(&self.low.to_be_bytes());
        bytes
    }

    /// A number with only this bit set, counted from the highest.
    fn one(at: u32) -> Self {
        let top = 1 << 127;
        if at < 128 { Self { high: top >> at, low: 0 } } else { Self { high: 0, low: top >> (at - 128) } }
    }
}

impl Key {
    pub(crate) const LOWEST: Self = Self(Bits { high: 0, low: 0 });
    const HIGHEST: Self = Self(Bits { high: u128::MAX, low: u128::MAX });

    /// The place of what these bytes name: a routing key, a multihash, a peer id.
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_digest(Sha256::digest(bytes).into())
    }

    /// The place of a peer.
    pub fn of_peer(peer: &PeerId) -> Self {
        let mut bytes = [0; MAX_PEER_ID_BYTES];
        match peer.as_ref().write(&mut bytes[..]) {
            Ok(len) => Self::of(&bytes[..len]),
            Err(_) => Self::of(&peer.to_bytes()),
        }
    }

    /// A place that is already hashed, such as [`Name::dht_id`](crate::Name::dht_id).
    pub const fn from_digest(digest: [u8; 32]) -> Self {
        Self(Bits::from_bytes(digest))
    }

    /// The lowest key whose first `bits` bits are those of `prefix`; at most 32.
    pub(crate) fn starting_with(prefix: u32, bits: u32) -> Self {
        let first = prefix.checked_shl(32 - bits.min(32)).unwrap_or(0);
        Self(Bits { high: u128::from(first) << 96, low: 0 })
    }

    /// This key, whose first `bits` bits end in zeros, with those of `part` in their place.
    pub(crate) fn with_low_bits(self, part: u32, bits: u32) -> Self {
        (0..bits.min(32)).fold(self, |key, at| match part >> at & 1 {
            1 => key.with_bit(bits - 1 - at, true),
            _ => key,
        })
    }

    /// The lowest key that shares the first `bits` bits with this one.
    pub(crate) fn prefix(self, bits: u32) -> Self {
        let kept = |bits: u32| u128::MAX.checked_shl(128 - bits.min(128)).unwrap_or(0);
        let Bits { high, low } = self.0;
        Self(Bits { high: high & kept(bits), low: low & kept(bits.saturating_sub(128)) })
    }

    /// Where in the key space this is, as a share of all of it: from 0 to just below 1.
    pub(crate) fn share(&self) -> f64 {
        self.distance(&Self::LOWEST).share()
    }

    /// Where its lower half is, as a share of all there are: of keys that begin alike, too, these are spread evenly.
    pub(crate) fn share_of_low(&self) -> f64 {
        self.0.low as f64 / 2_f64.powi(128)
    }

    /// The 32 bytes, big-endian.
    pub fn to_bytes(self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The distance to another key.
    pub fn distance(&self, other: &Self) -> Distance {
        Distance(Bits { high: self.0.high ^ other.0.high, low: self.0.low ^ other.0.low })
    }

    /// How many leading bits two keys share: 0 to 256.
    pub fn common_prefix(&self, other: &Self) -> u32 {
        self.distance(other).leading_zeros()
    }

    fn bit(&self, at: u32) -> bool {
        let one = Bits::one(at);
        self.0.high & one.high != 0 || self.0.low & one.low != 0
    }

    fn with_bit(self, at: u32, value: bool) -> Self {
        let (Bits { high, low }, one) = (self.0, Bits::one(at));
        Self(match value {
            true => Bits { high: high | one.high, low: low | one.low },
            false => Bits { high: high & !one.high, low: low & !one.low },
        })
    }
}

#[cfg(test)]
impl Key {
    /// The key in the other half of the space.
    pub(crate) fn flipped(self) -> Self {
        self.with_bit(0, !self.bit(0))
    }
}

impl Distance {
    /// Leading zero bits: the common prefix of the two keys.
    pub fn leading_zeros(&self) -> u32 {
        if self.0.high == 0 { 128 + self.0.low.leading_zeros() } else { self.0.high.leading_zeros() }
    }

    /// As a share of the key space: 0 to 1.
    pub fn share(&self) -> f64 {
        self.0.high as f64 / 2_f64.powi(128)
    }

    /// The distance that is this share of the key space, at most all of it.
    pub(crate) fn of_share(share: f64) -> Self {
        // The conversion saturates.
        Self(Bits { high: (share.max(0.0) * 2_f64.powi(128)) as u128, low: u128::MAX })
    }

    /// The 32 bytes, big-endian.
    pub fn to_bytes(self) -> [u8; 32] {
        self.0.to_bytes()
    }
}

/// The first eight bytes are enough to tell keys apart in a log.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0.high >> 64)
    }
}

impl fmt::Debug for Distance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0.high >> 64)
    }
}

/// Subtrees of at most this many keys are sorted at once instead of being split further.
const SMALL: usize = 24;

/// The `n` entries of `map` nearest to `target` that `keep` allows, nearest first.
///
/// Sorted keys are a binary trie, so the near half of every split is exhausted before the far half
/// is looked at: O(n log N), and not a scan of the whole map.
pub(crate) fn nearest<'a, V>(
    map: &'a BTreeMap<Key, V>,
    target: &Key,
    n: usize,
    keep: impl Fn(&V) -> bool,
) -> Vec<(&'a Key, &'a V)> {
    let mut found = Vec::new();
    let mut open = vec![(Key::LOWEST, Key::HIGHEST, 0)];
    while let Some((low, high, depth)) = open.pop() {
        if found.len() >= n {
            break;
        }
        let subtree = || map.range(low..=high);
        if depth == BITS || subtree().nth(SMALL).is_none() {
            let mut some: Vec<_> = subtree().filter(|(_, value)| keep(value)).collect();
            some.sort_by_cached_key(|(key, _)| key.distance(target));
            found.extend(some);
        } else {
            let zeros = (low, high.with_bit(depth, false), depth + 1);
            let ones = (low.with_bit(depth, true), high, depth + 1);
            let (near, far) = if target.bit(depth) { (ones, zeros) } else { (zeros, ones) };
            open.extend([far, near]);
        }
    }
    found.truncate(n);
    found
}

/// A random preimage of a longer prefix costs too many hashes.
const MAX_RANDOM_PREFIX: u32 = 15;

/// Bytes of a random peer id whose key shares exactly `prefix` bits with `local`: what FIND_NODE
/// asks for to refresh a bucket, because servers hash the key that they are sent. It takes 2^`prefix` hashes or so.
///
/// `prefix` is cut to [`MAX_RANDOM_PREFIX`]; gives up after 2^20 tries, which chance never needs.
pub(crate) fn random_peer_in(local: &Key, prefix: u32, rng: &mut impl RngCore) -> Vec<u8> {
    let prefix = prefix.min(MAX_RANDOM_PREFIX);
    random_peer(rng, |key| key.common_prefix(local) == prefix)
}

/// The same with a key that shares at least `bits` bits with `at`.
pub(crate) fn random_peer_at(at: &Key, bits: u32, rng: &mut impl RngCore) -> Vec<u8> {
    let bits = bits.min(MAX_RANDOM_PREFIX);
    random_peer(rng, |key| key.common_prefix(at) >= bits)
}

fn random_peer(rng: &mut impl RngCore, fits: impl Fn(&Key) -> bool) -> Vec<u8> {
    // The header of a SHA2-256 multihash, which every implementation takes for a peer id.
    let mut bytes = vec![0x12, 0x20];
    bytes.resize(34, 0);
    rng.fill_bytes(&mut bytes[2..]);
    for count in 0_u32..1 << 20 {
        bytes[30..].copy_from_slice(&count.to_be_bytes());
        if fits(&Key::of(&bytes)) {
            break;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    fn any_key() -> impl Strategy<Value = Key> {
        any::<[u8; 32]>().prop_map(Key::from_digest)
    }

    #[test]
    fn a_name_and_its_routing_key_are_one_place() {
        let name: crate::Name = "12D3KooWLQzUv2FHWGVPXTXSZpdHs7oHbXub2G5WC8Tx4NQhyd2d".parse().unwrap();
        assert_eq!(Key::of(&name.routing_key()), Key::from_digest(name.dht_id()));
        assert_eq!(Key::of_peer(&name.to_peer_id()), Key::of(&name.to_bytes()));
    }

    #[test]
    fn a_random_peer_lies_in_its_bucket() {
        let local = Key::of(b"local");
        let mut rng = ChaCha8Rng::from_seed([1; 32]);
        for prefix in 0..10 {
            let bytes = random_peer_in(&local, prefix, &mut rng);
            assert!(PeerId::from_bytes(&bytes).is_ok());
            assert_eq!(Key::of(&bytes).common_prefix(&local), prefix);
            assert!(Key::of(&random_peer_at(&local, prefix, &mut rng)).common_prefix(&local) >= prefix);
        }
    }

    proptest! {
        #[test]
        fn keys_are_their_bytes(a in any::<[u8; 32]>(), b in any::<[u8; 32]>(), at in 0..BITS) {
            let (x, y) = (Key::from_digest(a), Key::from_digest(b));
            prop_assert_eq!(x.to_bytes(), a);
            prop_assert_eq!(x.cmp(&y), a.cmp(&b));
            let xor: Vec<u8> = a.iter().zip(b).map(|(a, b)| a ^ b).collect();
            prop_assert_eq!(&x.distance(&y).to_bytes()[..], &xor);
            let bit = a[at as usize / 8] >> (7 - at % 8) & 1 == 1;
            prop_assert_eq!(x.bit(at), bit);
            prop_assert_eq!(x.with_bit(at, !bit).common_prefix(&x), at);
            let prefix = x.prefix(at);
            prop_assert!(prefix.common_prefix(&x) >= at && prefix <= x && (at..BITS).all(|at| !prefix.bit(at)));
            prop_assert_eq!(x.prefix(BITS), x);
        }

        #[test]
        fn xor_is_a_metric(a in any_key(), b in any_key(), c in any_key()) {
            prop_assert_eq!(a.distance(&b), b.distance(&a));
            prop_assert_eq!(a.distance(&a).leading_zeros(), BITS);
            prop_assert_eq!(a.distance(&b) == a.distance(&a), a == b);
            // One of any three sides is at most the longer of the other two, bit prefix by bit prefix.
            let (ab, bc, ac) = (a.common_prefix(&b), b.common_prefix(&c), a.common_prefix(&c));
            prop_assert!(ac >= ab.min(bc));
        }

        #[test]
        fn nearest_is_what_sorting_gives(
            keys in proptest::collection::btree_set(any_key(), 0..300),
            clustered in proptest::collection::vec(any::<[u8; 2]>(), 0..60),
            target in any_key(),
            n in 0..50_usize,
        ) {
            let mut map: BTreeMap<Key, bool> = keys.into_iter().map(|key| (key, key.0.low % 3 != 0)).collect();
            for tail in clustered {
                let mut key = target.to_bytes();
                key[30..].copy_from_slice(&tail);
                let key = Key::from_digest(key);
                map.insert(key, true);
            }
            let mut sorted: Vec<_> = map.iter().filter(|(_, keep)| **keep).map(|(key, _)| *key).collect();
            sorted.sort_by_key(|key| key.distance(&target));
            sorted.truncate(n);
            let found: Vec<_> = nearest(&map, &target, n, |keep| *keep).iter().map(|(key, _)| **key).collect();
            prop_assert_eq!(found, sorted);
        }
    }
}
