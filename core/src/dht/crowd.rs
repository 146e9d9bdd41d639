//! Crowds: more peers near a key than chance puts there, made up by somebody who wants to be all that is near to it.
//!
//! Of N servers spread evenly over the key space the k nearest to any key lie within about k/N of it. Ids that were
//! searched for until they lie near a key push the honest ones out of its k nearest, and then hold, or hide, what is
//! kept there. But they do not move the honest ones: those still lie within k/N, about one in each k-th part of it. So
//! where there is a crowd it is not the k nearest that count but a few of each of these parts. A crowd can no more be all
//! of them, unless it is as dense everywhere within k/N: then it takes as many ids again for every peer that is asked
//! of a part.

use super::key::Distance;

/// The k-th nearest is a crowd's if it is nearer than this share of its mean distance: by chance it is once in 4,000
/// lookups, for k = 20.
const CROWDED: f64 = 0.4;
/// In a network of fewer servers, in units of k, the k nearest are a good part of all, and nobody is pushed out.
const SMALL: f64 = 3.0;
/// So many of each part count. Of honest servers more than so many are there in one part of fifty.
const MAX_OF_PART: usize = 3;

/// Whether peers crowd about a key whose k-th nearest is so far away, in a network of `size` servers.
pub(crate) fn is_crowd(k: usize, size: f64, kth: &Distance) -> bool {
    size >= SMALL * k as f64 && kth.share() * size < CROWDED * k as f64
}

/// Whether peers are so near to a key that they may be of a crowd.
pub(crate) fn is_within(k: usize, size: f64, distance: &Distance) -> bool {
    distance.share() * size < CROWDED * k as f64
}

/// Chooses those who count around a key where there is a crowd.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    k: usize,
    size: f64,
    part: usize,
    of_part: usize,
    taken: usize,
}

impl Places {
    pub(crate) fn new(k: usize, size: f64) -> Self {
        Self { k, size, part: 0, of_part: 0, taken: 0 }
    }

    /// Whether the peer counts. They are to come in order, the nearest first. Beyond k/N they count only while fewer
    /// than k did before.
    pub(crate) fn takes(&mut self, distance: &Distance) -> bool {
        let part = (distance.share() * self.size) as usize;
        if part != self.part {
            (self.part, self.of_part) = (part, 0);
        }
        let takes = match part < self.k {
            true => self.of_part < MAX_OF_PART,
            false => self.taken < self.k,
        };
        self.of_part += usize::from(takes);
        self.taken += usize::from(takes);
        takes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: f64 = 10_000.0;

    fn at(places: f64) -> Distance {
        Distance::of_share(places / SIZE)
    }

    fn chosen(distances: impl IntoIterator<Item = f64>) -> Vec<f64> {
        let mut places = Places::new(20, SIZE);
        distances.into_iter().filter(|distance| places.takes(&at(*distance))).collect()
    }

    #[test]
    fn only_what_chance_does_not_do_is_a_crowd() {
        let network = |size: f64, kth: f64| is_crowd(20, size, &Distance::of_share(kth / size));
        assert_eq!([7.0, 9.0, 20.0].map(|kth| network(SIZE, kth)), [true, false, false]);
        // The nearest twenty of forty are what they are.
        assert!(!network(40.0, 7.0));
        assert!(is_within(20, SIZE, &at(7.0)) && !is_within(20, SIZE, &at(9.0)));
    }

    #[test]
    fn of_a_crowd_few_count_and_of_the_honest_nearly_all() {
        let crowd = (0..100).map(|n| f64::from(n) / 100.0);
        let honest = (0..40).map(|n| 1.5 + f64::from(n));
        let chosen = chosen(crowd.chain(honest));
        assert_eq!(chosen.iter().filter(|distance| **distance < 1.0).count(), MAX_OF_PART);
        assert_eq!(chosen.len(), MAX_OF_PART + 19, "{chosen:?}");
    }

    #[test]
    fn a_crowd_everywhere_leaves_a_place_in_each_part_and_there_is_a_bound() {
        assert_eq!(chosen((0..4000).map(|n| f64::from(n) / 100.0)).len(), 20 * MAX_OF_PART);
        // Where few are near, those beyond count, until k do.
        assert_eq!(chosen([0.5, 3.5].into_iter().chain((0..50).map(|n| 30.0 + f64::from(n)))).len(), 20);
    }
}
