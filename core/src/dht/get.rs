//! Reading a name: what a GET_VALUE walk has learned, when that is enough, and whom to correct afterwards.

use std::collections::BTreeMap;

use libp2p_identity::PeerId;

use super::message::ValueRecord;
use crate::name::Name;
use crate::record::{Checks, Verified, compare};

/// When a get is done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Until {
    /// At the first valid record.
    First,
    /// When the probability that a newer record was missed is at most this (0 to 1), as
    /// [`miss_probability`] tells it. Once a peer sent a record that is not valid, 16 of the nearest must answer.
    Probable(f64),
    /// When this many of the peers nearest to the name have answered, with a record or without. 16 is the strict
    /// mode of the IPNS spec.
    Answers(usize),
    /// When the walk is over: each of the k nearest peers has answered or is out of reach.
    Complete,
}

/// How sure it is that the best record found is the newest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Freshness {
    /// Peers that answered, with a record or without.
    pub answers: usize,
    /// Peers among the k nearest that answered: those that should hold the record. On a public DHT at most two of one
    /// network (an IPv4 /16, an IPv6 /32) count.
    pub answers_near: usize,
    /// Peers that hold the best record.
    pub holders: usize,
    /// Peers that hold an older valid one.
    pub older: usize,
    /// Peers that sent a record that is not valid for the name.
    pub invalid: usize,
    /// The probability that a newer record, held by as many of the k nearest peers as a healthy publish leaves there,
    /// was missed. 1 before the walk came near the name.
    pub miss_probability: f64,
    /// Whether the walk ran to its own end: each of the k nearest peers answered, failed or was too slow.
    pub complete: bool,
}

/// The probability that none of `answers` of the `k` nearest peers holds a record that `holders` of them hold:
/// C(k − holders, answers) / C(k, answers).
pub fn miss_probability(k: usize, holders: usize, answers: usize) -> f64 {
    let without = k.saturating_sub(holders);
    (0..answers.min(k)).map(|n| without.saturating_sub(n) as f64 / (k - n) as f64).product()
}

/// So many of the nearest must answer once one of them deceived: the strict mode of the IPNS spec.
const STRICT: usize = 16;

/// What one peer's answer said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    Best,
    Older,
    Nothing,
    Invalid,
}

/// The state of one get.
#[derive(Debug)]
pub(crate) struct Get {
    name: Name,
    key: Vec<u8>,
    pub(crate) until: Until,
    /// Whether holders of older records are corrected at the end.
    pub(crate) corrects: bool,
    /// Whether peers crowd about the name.
    pub(crate) crowded: bool,
    best: Option<Verified>,
    held: BTreeMap<PeerId, Held>,
}

impl Get {
    /// `known` is what we hold ourselves: it is the one to beat, and no answer.
    pub(crate) fn new(name: Name, until: Until, corrects: bool, known: Option<Verified>) -> Self {
        Self { name, key: name.routing_key(), until, corrects, crowded: false, best: known, held: BTreeMap::new() }
    }

    /// How many of the nearest must answer, if it ends when a few have.
    pub(crate) fn wanted(&self, k: usize, holders: usize) -> Option<usize> {
        match self.until {
            Until::First => Some(k),
            Until::Probable(p) => (0..k).find(|answers| miss_probability(k, holders, *answers) <= p).or(Some(k)),
            Until::Answers(_) | Until::Complete => None,
        }
    }

    pub(crate) fn name(&self) -> &Name {
        &self.name
    }

    pub(crate) fn best(&self) -> Option<&Verified> {
        self.best.as_ref()
    }

    /// Takes an answer. Returns whether it brought a better record than all before.
    pub(crate) fn on_answer(&mut self, checks: Checks, peer: PeerId, record: Option<&ValueRecord>) -> bool {
        let (held, better) = self.judge(checks, record);
        let improved = better.is_some();
        if improved {
            self.best = better;
            let outdated = self.held.values_mut().filter(|held| **held == Held::Best);
            outdated.for_each(|held| *held = Held::Older);
        }
        self.held.insert(peer, held);
        improved
    }

    fn judge(&self, checks: Checks, record: Option<&ValueRecord>) -> (Held, Option<Verified>) {
        let Some(record) = record else {
            return (Held::Nothing, None);
        };
        if record.key != self.key {
            return (Held::Invalid, None);
        }
        match &self.best {
            // Most peers send the same bytes: they are verified once.
            Some(best) if best.as_bytes() == &record.value => (Held::Best, None),
            best => match checks.verify(record.value.clone(), &self.name) {
                Err(_) => (Held::Invalid, None),
                Ok(new) if best.as_ref().is_none_or(|best| compare(&new, best).is_gt()) => (Held::Best, Some(new)),
                Ok(_) => (Held::Older, None),
            },
        }
    }

    /// Whether enough is known. `near` answers came from the k nearest; `None` before the walk converged.
    pub(crate) fn is_satisfied(&self, k: usize, holders: usize, near: Option<usize>) -> bool {
        match self.until {
            Until::First => self.best.is_some() && self.held.values().any(|held| *held == Held::Best),
            Until::Probable(_) if self.is_strict(near) => near.is_some_and(|near| near >= STRICT.min(k)),
            Until::Probable(p) => near.is_some_and(|near| miss_probability(k, holders, near) <= p),
            Until::Answers(n) => near.is_some_and(|near| near >= n),
            Until::Complete => false,
        }
    }

    /// Whether a few answers tell nothing: somebody lied, or nobody has any record although a few were asked. A name that
    /// was sent long ago has fewer holders than one that is kept alive, and "there is none" should be certain. A publish
    /// does not wait for that: most of those who find nothing publish for the first time.
    pub(crate) fn is_strict(&self, near: Option<usize>) -> bool {
        self.is_deceived() || (self.corrects && self.best.is_none() && near.is_some())
    }

    /// Whether somebody sent a record that is not valid, or made up peers: then those who answer are no random sample.
    pub(crate) fn is_deceived(&self) -> bool {
        self.crowded || self.held.values().any(|held| *held == Held::Invalid)
    }

    pub(crate) fn freshness(&self, k: usize, holders: usize, near: Option<usize>, complete: bool) -> Freshness {
        let count = |what| self.held.values().filter(|held| **held == what).count();
        Freshness {
            answers: self.held.len(),
            answers_near: near.unwrap_or(0),
            holders: count(Held::Best),
            older: count(Held::Older),
            invalid: count(Held::Invalid),
            miss_probability: miss_probability(k, holders, near.unwrap_or(0)),
            complete,
        }
    }

    /// Whether this peer should be sent the best record: it holds an older or invalid one, or, if it is one of those
    /// that should hold it (`near`), none at all.
    pub(crate) fn should_correct(&self, peer: &PeerId, near: bool) -> bool {
        match self.held.get(peer) {
            Some(Held::Older | Held::Invalid) => true,
            Some(Held::Nothing) => near,
            Some(Held::Best) | None => false,
        }
    }

    /// The peers that answered, in order of their ids.
    pub(crate) fn answered(&self) -> impl Iterator<Item = &PeerId> {
        self.held.keys()
    }

    /// The peer was sent the best record.
    pub(crate) fn corrected(&mut self, peer: &PeerId) {
        self.held.insert(*peer, Held::Best);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dht::testing::{Publisher, peer};
    use crate::time::Timestamp;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn checks() -> Checks {
        Checks::at(Timestamp::from_unix_secs(0))
    }

    fn wire(record: &Verified) -> ValueRecord {
        ValueRecord { key: record.name().routing_key().into(), value: record.as_bytes().clone(), received: None }
    }

    #[test]
    fn the_formula() {
        let close = |a: f64, b: f64| assert!((a - b).abs() < b * 0.05 + 1e-12, "{a} {b}");
        close(miss_probability(20, 15, 4), 0.001);
        close(miss_probability(20, 10, 4), 0.043);
        close(miss_probability(20, 10, 6), 0.0054);
        close(miss_probability(20, 15, 0), 1.0);
        assert_eq!(miss_probability(20, 15, 6), 0.0);
        assert_eq!(miss_probability(20, 25, 1), 0.0);
        assert_eq!(miss_probability(20, 0, 99), 1.0);
        assert_eq!(miss_probability(0, 0, 1), 1.0);
    }

    #[test]
    fn better_records_win_and_the_rest_is_counted() {
        let publisher = Publisher::new(1);
        let (old, new) = (publisher.record(1, 100), publisher.record(2, 100));
        let mut get = Get::new(publisher.name(), Until::Complete, true, None);
        assert!(get.on_answer(checks(), peer(1), Some(&wire(&old))));
        assert!(!get.on_answer(checks(), peer(2), Some(&wire(&old))));
        assert!(!get.on_answer(checks(), peer(3), None));
        assert!(get.on_answer(checks(), peer(4), Some(&wire(&new))));
        assert!(!get.on_answer(checks(), peer(5), Some(&wire(&old))));
        // Expired, another name's, another key's.
        assert!(!get.on_answer(checks(), peer(6), Some(&wire(&publisher.record(9, -1)))));
        assert!(!get.on_answer(checks(), peer(7), Some(&wire(&Publisher::new(2).record(9, 100)))));
        let mut forged = wire(&Publisher::new(2).record(9, 100));
        forged.key = publisher.name().routing_key().into();
        assert!(!get.on_answer(checks(), peer(8), Some(&forged)));
        let freshness = get.freshness(20, 15, Some(4), false);
        assert_eq!((freshness.answers, freshness.holders, freshness.older, freshness.invalid), (8, 1, 3, 3));
        assert_eq!(get.best(), Some(&new));
        let corrected: Vec<_> = (1..9).filter(|n| get.should_correct(&peer(*n), false)).collect();
        assert_eq!(corrected, [1, 2, 5, 6, 7, 8]);
        assert!(get.should_correct(&peer(3), true));
        get.corrected(&peer(1));
        assert!(!get.should_correct(&peer(1), true));
    }

    #[test]
    fn what_we_hold_is_the_one_to_beat() {
        let publisher = Publisher::new(1);
        let mut get = Get::new(publisher.name(), Until::First, true, Some(publisher.record(5, 100)));
        assert!(!get.is_satisfied(20, 15, None));
        assert!(!get.on_answer(checks(), peer(1), Some(&wire(&publisher.record(4, 100)))));
        assert!(!get.is_satisfied(20, 15, None));
        assert!(!get.on_answer(checks(), peer(2), Some(&wire(&publisher.record(5, 100)))));
        assert!(get.is_satisfied(20, 15, None));
    }

    #[test]
    fn policies() {
        let get = |until| Get::new(Publisher::new(1).name(), until, true, None);
        assert!(!get(Until::First).is_satisfied(20, 15, Some(20)));
        let found = |until| {
            let mut get = get(until);
            get.on_answer(checks(), peer(1), Some(&wire(&Publisher::new(1).record(2, 100))));
            get
        };
        assert!(!found(Until::Probable(1e-3)).is_satisfied(20, 15, Some(4)));
        assert!(found(Until::Probable(1e-3)).is_satisfied(20, 15, Some(5)));
        // That there is none is not said after a few answers, but by a publish, which reads before it writes.
        assert!(!get(Until::Probable(1e-3)).is_satisfied(20, 15, Some(15)));
        assert!(get(Until::Probable(1e-3)).is_satisfied(20, 15, Some(16)));
        assert!(Get::new(Publisher::new(1).name(), Until::Probable(1e-3), false, None).is_satisfied(20, 15, Some(5)));
        assert!(!get(Until::Probable(1e-3)).is_satisfied(20, 15, None));
        assert!(get(Until::Answers(16)).is_satisfied(20, 15, Some(16)));
        assert!(!get(Until::Answers(16)).is_satisfied(20, 15, Some(15)));
        assert!(!get(Until::Complete).is_satisfied(20, 15, Some(20)));
    }

    #[test]
    fn once_deceived_a_few_answers_are_not_enough() {
        let publisher = Publisher::new(1);
        let mut get = Get::new(publisher.name(), Until::Probable(1e-3), true, None);
        get.on_answer(checks(), peer(1), Some(&wire(&publisher.record(2, 100))));
        assert!(get.is_satisfied(20, 15, Some(5)));
        get.on_answer(checks(), peer(2), Some(&wire(&publisher.record(9, -1))));
        assert!(!get.is_satisfied(20, 15, Some(15)) && get.is_satisfied(20, 15, Some(16)));
        assert!(get.is_satisfied(5, 4, Some(5)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        /// In whatever order the answers come, the newest valid record is the best.
        #[test]
        fn order_does_not_matter(sequences in proptest::collection::vec((0..5_u64, any::<bool>()), 1..12)) {
            let publisher = Publisher::new(1);
            let mut get = Get::new(publisher.name(), Until::Complete, true, None);
            for (n, (sequence, valid)) in sequences.iter().enumerate() {
                let mut answer = wire(&publisher.record(*sequence, 100));
                if !valid {
                    let mut bytes = answer.value.to_vec();
                    *bytes.last_mut().unwrap() ^= 1;
                    answer.value = Bytes::from(bytes);
                }
                get.on_answer(checks(), peer(n as u32), Some(&answer));
            }
            let newest = sequences.iter().filter(|(_, valid)| *valid).map(|(sequence, _)| *sequence).max();
            prop_assert_eq!(get.best().map(|best| best.sequence()), newest);
            let freshness = get.freshness(20, 15, None, true);
            let holders = sequences.iter().filter(|(sequence, valid)| *valid && Some(*sequence) == newest).count();
            prop_assert_eq!(freshness.holders, holders);
            prop_assert_eq!(freshness.invalid, sequences.iter().filter(|(_, valid)| !valid).count());
        }
    }
}
