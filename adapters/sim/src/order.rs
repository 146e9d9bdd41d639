//! Numbers in the order of keys that are spread evenly, as hashes are: which keys begin alike is looked up, not searched.

/// The first 64 bits of keys, each with its number, in order.
pub(crate) struct Order {
    entries: Vec<(u64, u32)>,
    /// How many bits are looked up: about as many as tell the keys apart.
    bits: u32,
    /// Where those stand that begin with each number of so many bits.
    starts: Vec<u32>,
}

impl Order {
    /// The keys of the numbers from 0.
    pub(crate) fn new(keys: impl Iterator<Item = u64>) -> Self {
        let mut entries: Vec<(u64, u32)> = keys.zip(0..).collect();
        entries.sort_unstable();
        let bits = entries.len().max(2).ilog2();
        let mut starts = Vec::with_capacity((1 << bits) + 1);
        for (at, (key, _)) in (0..).zip(&entries) {
            starts.resize(starts.len().max((key >> (64 - bits)) as usize + 1), at);
        }
        starts.resize((1 << bits) + 1, entries.len() as u32);
        Self { entries, bits, starts }
    }

    /// Those that begin with the same so many bits as `key`.
    pub(crate) fn alike(&self, key: u64, bits: u32) -> &[(u64, u32)] {
        let looked_up = bits.min(self.bits);
        let first = key.checked_shr(64 - looked_up).unwrap_or(0) as usize;
        let wide = self.bits - looked_up;
        let (start, end) = (self.starts[first << wide], self.starts[(first + 1) << wide]);
        let alike = &self.entries[start as usize..end as usize];
        if bits == looked_up {
            return alike;
        }
        // These are a few: about one for each number that is looked up.
        let rest = u64::MAX.checked_shr(bits).unwrap_or(0);
        let begin = alike.partition_point(|(other, _)| *other < key & !rest);
        let len = alike[begin..].partition_point(|(other, _)| *other <= key | rest);
        &alike[begin..begin + len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::mix;

    #[test]
    fn those_that_begin_alike_are_what_a_search_finds() {
        for count in [0, 1, 2, 3, 100, 1000] {
            // Some are alike as far as to their last bits.
            let keys: Vec<u64> =
                (0..count).map(|n| if n % 5 == 1 { mix(&[n - 1, 7]) ^ 2 } else { mix(&[n, 7]) }).collect();
            let order = Order::new(keys.iter().copied());
            for key in keys.iter().copied().chain([0, u64::MAX, 1 << 63]) {
                for bits in 0..=64 {
                    let alike = |other: &u64| (*other ^ key).leading_zeros() >= bits;
                    let mut expected: Vec<(u64, u32)> = keys.iter().copied().zip(0..).collect();
                    expected.retain(|(other, _)| alike(other));
                    expected.sort_unstable();
                    assert_eq!(order.alike(key, bits), expected, "{count} {key:x} {bits}");
                }
            }
        }
    }
}
