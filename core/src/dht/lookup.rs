//! One iterative lookup: walking towards a key by asking ever nearer peers.
//!
//! At most α questions are out at once. When the β nearest have answered the walk has *converged*: a thorough one asks
//! all of the k nearest at once then, and ends when each of them has answered, failed or proved slow. A slow peer frees
//! its slot and holds nothing up, but its answer counts whenever it comes before the end.
//!
//! Who knows how many servers there are knows how near the nearest must be. Then an answer from within that radius
//! counts although the very nearest are still silent, and a walk can tell that it has found them before it asked them.
//!
//! Where more peers crowd about the target than chance puts there, a few of each part of its neighbourhood count, and not
//! the k nearest; see [`crowd`](super::crowd).
//!
//! Against liars: a reply adds at most 2k peers, nobody is asked twice, only who answers is part of the result, who
//! names several peers that turn out dead is not believed alone any more, and the number of questions is bounded.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use libp2p_identity::PeerId;

use super::address::Group;
use super::crowd::{Places, is_crowd, is_within};
use super::key::{Distance, Key};
use super::message::{MAX_PEERS, PeerInfo};
use super::peers::Lead;

/// Someone whose unconfirmed leads fail this much more often than they answer is not believed alone.
const BAD_LEADS: u32 = 3;
/// When so many of the k nearest have answered, their answers together name all of the k nearest.
const SETTLED: usize = 4;
/// So many more of the nearest are asked than are wanted: the fastest of them are enough.
const SPARE: usize = 4;
/// The same beside a put, which takes longer than to hear the slowest of them.
const SPARE_BESIDE_PUT: usize = 2;
/// So many answers from one network count for how much was heard: as many of its peers as a bucket takes.
const MAX_OF_GROUP: usize = 2;
/// Peers that do not exist crowd about nothing: so many of a crowd must have answered.
const ANSWERS_OF_CROWD: usize = 2;
/// The questions of one lookup, in units of k.
const BUDGET: usize = 16;
/// The peers that are heard of and not asked yet, in units of k.
const MAX_HEARD: usize = 8;
/// The k for which the two numbers below were worked out.
const K_OF_FORMULAS: f64 = 20.0;
/// Of peers nearer than this many times the mean spacing nine in ten are among the k nearest: the inverse of the
/// regularised lower incomplete gamma function P(20, x) at 0.1.
const SURELY_NEAR: f64 = 14.525;
/// The mean distance of the k nearest is below this many times the mean spacing in nine cases of ten: P(k/2 + 1, x) at
/// 0.9.
const MEAN_OF_NEAREST: f64 = 15.407;

/// What the round trip of a peer is taken for that was never met: longer than most, because the connection is new, too.
const ROUND_TRIP_UNKNOWN: Duration = Duration::from_millis(300);

/// The three numbers of Kademlia.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Params {
    pub(crate) k: usize,
    pub(crate) alpha: usize,
    pub(crate) beta: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Heard,
    Asked,
    Slow,
    Answered,
    Failed,
}

#[derive(Debug)]
struct Candidate {
    info: PeerInfo,
    /// How long it takes to answer, as far as that is known.
    round_trip: Duration,
    state: State,
    /// The only peer that told of it; `None` when we knew it ourselves or several told.
    teller: Option<Distance>,
    /// Whether it is asked although its teller is not believed.
    doubted: bool,
    /// The networks that it answered from.
    groups: BTreeSet<Group>,
}

/// How the leads that only one peer gave turned out.
#[derive(Debug, Default)]
struct Leads {
    good: u32,
    bad: u32,
}

#[derive(Debug)]
pub(crate) struct Lookup {
    local: PeerId,
    target: Key,
    params: Params,
    /// How many servers there are, as far as is known.
    size: Option<f64>,
    /// How many of the k nearest it is to hear; `None` for all of them.
    wanted: Option<usize>,
    /// How many more than that are asked.
    spare: usize,
    /// Whether it looks beyond a crowd.
    beyond: bool,
    candidates: BTreeMap<Distance, Candidate>,
    leads: BTreeMap<Distance, Leads>,
    asked: usize,
    out: usize,
    slow: usize,
    heard: usize,
    answered: usize,
}

impl Lookup {
    /// A lookup that starts at `seeds`.
    pub(crate) fn new(
        local: PeerId,
        target: Key,
        params: Params,
        size: Option<f64>,
        seeds: impl IntoIterator<Item = Lead>,
    ) -> Self {
        let mut lookup = Self {
            local,
            target,
            params,
            size,
            wanted: None,
            spare: SPARE,
            beyond: false,
            candidates: BTreeMap::new(),
            leads: BTreeMap::new(),
            asked: 0,
            out: 0,
            slow: 0,
            heard: 0,
            answered: 0,
        };
        for seed in seeds {
            lookup.add(&seed, None);
        }
        lookup
    }

    /// The same for somebody who ends it as soon as so many of the nearest have answered.
    pub(crate) fn brief(self, wanted: usize) -> Self {
        Self { wanted: Some(wanted), ..self }
    }

    /// Something is sent to the nearest while it goes on.
    pub(crate) fn beside_a_put(&mut self) {
        self.spare = SPARE_BESIDE_PUT;
    }

    /// How many questions were asked.
    pub(crate) fn asked(&self) -> usize {
        self.asked
    }

    /// The next peer to ask now; `None` while the slots are full, or there is nobody to ask.
    pub(crate) fn next(&mut self) -> Option<PeerInfo> {
        let all_at_once = self.wanted.is_none() && self.has_converged();
        let slots = if all_at_once { self.params.k.max(self.params.alpha) } else { self.params.alpha };
        if self.out >= slots || self.asks_enough() {
            return None;
        }
        let next = self.pick()?;
        self.start(&next)
    }

    /// Whether as many of the nearest as are wanted, and some to spare, have answered or are about to.
    fn asks_enough(&self) -> bool {
        let Some(wanted) = self.wanted.filter(|_| self.out > 0) else { return false };
        let Some(radius) = self.radius(SURELY_NEAR) else { return false };
        let near = self.candidates.range(..=radius).map(|(_, candidate)| candidate.state);
        near.filter(|state| matches!(state, State::Asked | State::Answered)).count() >= wanted + self.spare
    }

    fn start(&mut self, distance: &Distance) -> Option<PeerInfo> {
        let believed = self.candidates.get(distance).is_some_and(|candidate| self.is_believed(candidate));
        let candidate = self.candidates.get_mut(distance)?;
        candidate.doubted = !believed;
        candidate.state = State::Asked;
        self.heard -= 1;
        self.asked += 1;
        self.out += 1;
        Some(candidate.info.clone())
    }

    /// Whoever deceives is near: all of the nearest are asked, and not only the first few.
    pub(crate) fn widen(&mut self) {
        self.wanted = None;
    }

    /// Whether there are more peers near the target than chance puts there, some of whom have answered.
    pub(crate) fn is_crowded(&self) -> bool {
        let (Some(size), k) = (self.size, self.params.k) else { return false };
        let Some((kth, _)) = self.live_entries().nth(k.saturating_sub(1)) else { return false };
        let near = self.candidates.iter().take_while(|(distance, _)| is_within(k, size, distance));
        let answered = near.filter(|(_, candidate)| candidate.state == State::Answered);
        is_crowd(k, size, kth) && answered.count() >= ANSWERS_OF_CROWD
    }

    /// Peers crowd about the target: these are all that somebody who was not asked about it found around it.
    pub(crate) fn look_beyond(&mut self, around: impl IntoIterator<Item = Lead>) {
        self.beyond = true;
        self.widen();
        around.into_iter().for_each(|lead| self.add(&lead, None));
    }

    /// Whether it looks beyond a crowd.
    pub(crate) fn looks_beyond(&self) -> bool {
        self.beyond
    }

    /// The peer answered from these networks. Many answers from one of them count as few.
    pub(crate) fn answered_from(&mut self, peer: &PeerId, groups: BTreeSet<Group>) {
        if let Some(candidate) = self.candidates.get_mut(&Key::of_peer(peer).distance(&self.target)) {
            candidate.groups = groups;
        }
    }

    /// The peer answered and named these as nearer. Peers without an address are of no use and skipped.
    pub(crate) fn answered(&mut self, peer: &PeerId, closer: &[Lead]) {
        let Some(distance) = self.settle(peer, State::Answered) else {
            return;
        };
        for lead in closer.iter().take(MAX_PEERS) {
            if !lead.info.addresses.is_empty() {
                self.add(lead, Some(distance));
            }
        }
    }

    /// The peer will not answer.
    pub(crate) fn failed(&mut self, peer: &PeerId) {
        self.settle(peer, State::Failed);
    }

    /// The peer is slow: its slot is free.
    pub(crate) fn slow(&mut self, peer: &PeerId) {
        self.settle(peer, State::Slow);
    }

    /// Whether the β nearest peers that are neither dead nor slow have answered.
    pub(crate) fn has_converged(&self) -> bool {
        let mut nearest = self.live().take(self.params.beta).peekable();
        nearest.peek().is_some() && nearest.all(|candidate| candidate.state == State::Answered)
    }

    /// How many of the peers that are near enough to be among the k nearest have answered, of each network at most a few;
    /// `None` while it is not known how near that is.
    pub(crate) fn answers_near(&self) -> Option<usize> {
        let answered = |candidate: &&Candidate| candidate.state == State::Answered;
        let among_known = || spread(self.nearest().map(|(_, candidate)| candidate).filter(answered));
        if self.beyond {
            return Some(among_known());
        }
        let within = self.radius(SURELY_NEAR).map(|radius| {
            let near = self.candidates.range(..=radius).map(|(_, candidate)| candidate);
            spread(near.filter(answered))
        });
        within.max(self.has_converged().then(among_known))
    }

    /// The distance within which there are `count` peers on average.
    fn radius(&self, count: f64) -> Option<Distance> {
        self.size.map(|size| Distance::of_share(count * self.params.k as f64 / K_OF_FORMULAS / size))
    }

    /// Whether the k nearest peers known are the k nearest that there are, as far as the walk, or the density of the
    /// network, tells.
    pub(crate) fn knows_nearest(&self) -> bool {
        if self.beyond || self.has_only_doubtful() || self.is_done() {
            return true;
        }
        let k = self.params.k;
        let (mut count, mut answered, mut sum, mut kth) = (0, 0, 0.0, None);
        for (distance, candidate) in self.live_entries().take(k) {
            count += 1;
            answered += usize::from(candidate.state == State::Answered);
            sum += distance.share();
            kth = Some(distance);
        }
        if count < k {
            return false;
        }
        let mean = sum / count as f64;
        // Those who crowd are dense as well: some of them must have answered, so that it shows.
        let as_dense = self.size.zip(kth).is_some_and(|(size, kth)| {
            mean <= MEAN_OF_NEAREST * (k as f64 / K_OF_FORMULAS) / size && !is_crowd(k, size, kth)
        });
        as_dense || answered >= SETTLED
    }

    /// Whether all that is left to be heard of are peers whose tellers are not believed. Nothing waits for those.
    pub(crate) fn has_only_doubtful(&self) -> bool {
        let waits = |candidate: &Candidate| candidate.state == State::Asked && !candidate.doubted;
        self.answered > 0 && self.pick_believed().is_none() && !self.candidates.values().any(waits)
    }

    /// The peers that something for the k nearest is to be sent to now: the k nearest that are not dead or slow once
    /// they are known, and before that those who are surely among them.
    pub(crate) fn targets(&self) -> impl Iterator<Item = &PeerInfo> {
        self.sought().map(|candidate| &candidate.info)
    }

    /// Those of them that have not been asked anything.
    pub(crate) fn unasked_targets(&self) -> impl Iterator<Item = &PeerInfo> {
        self.sought().filter(|candidate| candidate.state == State::Heard).map(|candidate| &candidate.info)
    }

    fn sought(&self) -> impl Iterator<Item = &Candidate> {
        let nearest = self.nearest();
        let sure = match self.knows_nearest() {
            true => None,
            false => Some(self.radius(SURELY_NEAR)),
        };
        let fits = move |distance: &Distance| match sure {
            None => true,
            Some(radius) => radius.is_some_and(|radius| *distance <= radius),
        };
        nearest.filter(move |(distance, _)| fits(distance)).map(|(_, candidate)| candidate)
    }

    /// Whether the peer has been asked and its answer is still to come.
    pub(crate) fn awaits(&self, peer: &PeerId) -> bool {
        let known = self.candidates.get(&Key::of_peer(peer).distance(&self.target));
        known.is_some_and(|candidate| candidate.state == State::Asked)
    }

    /// The peer did not take what it was sent, because it is not there or (`slow`) not there yet: others take its place.
    pub(crate) fn unreached(&mut self, peer: &PeerId, slow: bool) {
        let distance = Key::of_peer(peer).distance(&self.target);
        let state = self.candidates.get(&distance).map(|candidate| candidate.state);
        if state == Some(State::Answered)
            && let Some(candidate) = self.candidates.get_mut(&distance)
        {
            candidate.state = if slow { State::Slow } else { State::Failed };
            self.answered -= 1;
            self.slow += usize::from(slow);
        } else {
            if state == Some(State::Heard) {
                self.start(&distance);
            }
            self.settle(peer, if slow { State::Slow } else { State::Failed });
        }
    }

    /// The distances of the peers that answered, the nearest first: what the density of the network shows in.
    pub(crate) fn density(&self) -> impl Iterator<Item = Distance> + '_ {
        let answered = self.candidates.iter().filter(|(_, candidate)| candidate.state == State::Answered);
        answered.map(|(distance, _)| *distance)
    }

    /// Whether the walk is over. It waits for slow peers only while they are more than those that answered: then
    /// it is not they who are slow, but our own link.
    pub(crate) fn is_done(&self) -> bool {
        self.out == 0 && self.pick().is_none() && (self.slow == 0 || self.answered >= self.slow)
    }

    /// Whether the walk had to stop because of the number of its questions: its result may not be the nearest.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.asked >= BUDGET * self.params.k
    }

    /// The k nearest peers that answered, nearest first.
    pub(crate) fn closest(&self) -> Vec<PeerInfo> {
        let answered = self.candidates.values().filter(|candidate| candidate.state == State::Answered);
        answered.take(self.params.k).map(|candidate| candidate.info.clone()).collect()
    }

    fn add(&mut self, lead: &Lead, teller: Option<Distance>) {
        let Lead { key, info, round_trip } = lead;
        let distance = key.distance(&self.target);
        if info.id == self.local || teller == Some(distance) {
            return;
        }
        if let Some(known) = self.candidates.get_mut(&distance) {
            if known.teller != teller {
                known.teller = None;
            }
            return;
        }
        let round_trip = round_trip.unwrap_or(ROUND_TRIP_UNKNOWN);
        self.candidates.insert(
            distance,
            Candidate {
                info: info.clone(),
                round_trip,
                state: State::Heard,
                teller,
                doubted: false,
                groups: BTreeSet::new(),
            },
        );
        self.heard += 1;
        if self.heard > MAX_HEARD * self.params.k {
            let heard = |(_, candidate): &(&Distance, &Candidate)| candidate.state == State::Heard;
            if let Some(farthest) = self.candidates.iter().rev().find(heard).map(|(distance, _)| *distance) {
                self.candidates.remove(&farthest);
                self.heard -= 1;
            }
        }
    }

    /// Moves an asked peer to another state; `None` when it was not asked or is settled already.
    fn settle(&mut self, peer: &PeerId, state: State) -> Option<Distance> {
        let distance = Key::of_peer(peer).distance(&self.target);
        let candidate = self.candidates.get_mut(&distance)?;
        match (candidate.state, state) {
            (State::Asked, _) => self.out -= 1,
            (State::Slow, State::Answered | State::Failed) => self.slow -= 1,
            _ => return None,
        }
        let was_slow = candidate.state == State::Slow;
        candidate.state = state;
        match state {
            State::Slow => self.slow += 1,
            State::Answered => self.answered += 1,
            _ => {}
        }
        if let Some(teller) = candidate.teller {
            let leads = self.leads.entry(teller).or_default();
            match state {
                State::Answered => {
                    leads.good += 1;
                    leads.bad -= u32::from(was_slow);
                }
                _ => leads.bad += u32::from(!was_slow),
            }
        }
        Some(distance)
    }

    fn is_believed(&self, candidate: &Candidate) -> bool {
        let leads = candidate.teller.and_then(|teller| self.leads.get(&teller));
        candidate.state != State::Heard || leads.is_none_or(|leads| leads.bad <= BAD_LEADS + leads.good)
    }

    /// Those that count for the end of the walk, nearest first.
    fn live(&self) -> impl Iterator<Item = &Candidate> {
        self.live_entries().map(|(_, candidate)| candidate)
    }

    fn live_entries(&self) -> impl Iterator<Item = (&Distance, &Candidate)> + Clone {
        self.candidates.iter().filter(|(_, candidate)| match candidate.state {
            State::Failed | State::Slow => false,
            State::Heard => self.is_believed(candidate),
            State::Asked => !candidate.doubted,
            State::Answered => true,
        })
    }

    /// The k nearest of those that count, or those that count in their place where there is a crowd.
    fn nearest(&self) -> impl Iterator<Item = (&Distance, &Candidate)> + Clone {
        let mut places = self.size.filter(|_| self.beyond).map(|size| Places::new(self.params.k, size));
        let most = if places.is_some() { usize::MAX } else { self.params.k };
        self.live_entries().take(most).filter(move |(distance, _)| match &mut places {
            Some(places) => places.takes(distance),
            None => true,
        })
    }

    /// Whom to ask next: the nearest of the k nearest that was not asked. When there is none, and too few have
    /// answered, also those who are not believed: in a network that just broke down, honest peers know many dead ones.
    fn pick(&self) -> Option<Distance> {
        if self.is_exhausted() {
            return None;
        }
        self.pick_believed().or_else(|| {
            let waits = |candidate: &Candidate| candidate.state == State::Asked && !candidate.doubted;
            let wanted = self.answered < self.params.k && !self.candidates.values().any(waits);
            let heard = |(_, candidate): &(&Distance, &Candidate)| candidate.state == State::Heard;
            wanted.then(|| self.candidates.iter().find(heard).map(|(distance, _)| *distance)).flatten()
        })
    }

    /// Of those that are surely near all are as good when a few of them are enough: the fastest is asked first.
    fn pick_believed(&self) -> Option<Distance> {
        let heard = |(_, candidate): &(&Distance, &Candidate)| candidate.state == State::Heard;
        let mut next = self.nearest().filter(heard);
        let radius = self.wanted.and_then(|_| self.radius(SURELY_NEAR));
        let near = next.clone().take_while(|(distance, _)| radius.is_some_and(|radius| **distance <= radius));
        let fastest = near.min_by_key(|(_, candidate)| candidate.round_trip);
        fastest.or_else(|| next.next()).map(|(distance, _)| *distance)
    }
}

/// How many of these count: of each network at most [`MAX_OF_GROUP`], because whoever wants to be all that is near to a
/// name makes up peers, but hardly networks.
fn spread<'a>(answered: impl Iterator<Item = &'a Candidate>) -> usize {
    let mut counts: BTreeMap<&Group, usize> = BTreeMap::new();
    let counted = answered.filter(|candidate| {
        let fits = candidate.groups.iter().all(|group| counts.get(group).is_none_or(|count| *count < MAX_OF_GROUP));
        if fits {
            candidate.groups.iter().for_each(|group| *counts.entry(group).or_default() += 1);
        }
        fits
    });
    counted.count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dht::testing::{address, peer};
    use proptest::prelude::*;

    const PARAMS: Params = Params { k: 20, alpha: 10, beta: 3 };

    fn info(n: u32) -> PeerInfo {
        PeerInfo { id: peer(n), addresses: vec![address(n)] }
    }

    fn lead(n: u32) -> Lead {
        info(n).into()
    }

    fn lookup(seeds: impl IntoIterator<Item = u32>) -> Lookup {
        Lookup::new(peer(0), Key::of(b"target"), PARAMS, None, seeds.into_iter().map(lead))
    }

    /// The peers from `among`, nearest to the target first.
    fn sorted(among: impl IntoIterator<Item = u32>) -> Vec<u32> {
        let mut peers: Vec<u32> = among.into_iter().collect();
        peers.sort_by_key(|n| Key::of_peer(&peer(*n)).distance(&Key::of(b"target")));
        peers
    }

    fn take(lookup: &mut Lookup) -> Vec<PeerId> {
        std::iter::from_fn(|| lookup.next().map(|info| info.id)).collect()
    }

    #[test]
    fn nobody_to_ask_is_done() {
        assert!(lookup([]).is_done());
        // We ourselves are nobody to ask.
        assert!(lookup([0]).is_done());
    }

    #[test]
    fn a_slow_peer_frees_its_slot_and_may_still_answer() {
        let order = sorted(1..=40);
        let mut lookup = lookup(1..=40);
        assert_eq!(take(&mut lookup), order[..10].iter().map(|n| peer(*n)).collect::<Vec<_>>());
        lookup.slow(&peer(order[0]));
        assert_eq!(take(&mut lookup), [peer(order[10])]);
        lookup.answered(&peer(order[0]), &[]);
        assert_eq!(lookup.closest()[0].id, peer(order[0]));
        assert_eq!(take(&mut lookup), []);
        // Answered once is answered: what comes later changes nothing.
        lookup.failed(&peer(order[0]));
        assert_eq!(lookup.closest()[0].id, peer(order[0]));
    }

    #[test]
    fn converged_walks_ask_all_of_the_nearest_at_once() {
        let order = sorted(1..=40);
        let mut lookup = lookup(1..=40);
        take(&mut lookup);
        for n in &order[..2] {
            lookup.answered(&peer(*n), &[]);
        }
        assert!(!lookup.has_converged());
        lookup.answered(&peer(order[2]), &[]);
        assert!(lookup.has_converged());
        take(&mut lookup);
        assert_eq!(lookup.asked(), 20);
        for n in &order[3..20] {
            assert!(!lookup.is_done());
            lookup.answered(&peer(*n), &[]);
        }
        assert!(lookup.is_done());
        assert_eq!(lookup.closest().len(), 20);
    }

    #[test]
    fn silence_of_most_is_waited_for() {
        let mut lookup = lookup(1..=3);
        take(&mut lookup);
        lookup.slow(&peer(1));
        lookup.slow(&peer(2));
        lookup.answered(&peer(3), &[]);
        assert!(!lookup.is_done());
        lookup.failed(&peer(2));
        assert!(lookup.is_done());
    }

    #[test]
    fn a_reply_adds_at_most_2k_peers() {
        let mut lookup = lookup([1]);
        take(&mut lookup);
        lookup.answered(&peer(1), &(2..1_000_000).step_by(1000).map(lead).collect::<Vec<_>>());
        assert_eq!(lookup.candidates.len(), 41);
    }

    #[test]
    fn who_names_only_the_dead_is_not_believed_alone() {
        let order = sorted(1..=2000);
        // The liar names forty dead peers nearer than all honest ones.
        let (dead, honest) = (order[..40].to_vec(), order[1000..1100].to_vec());
        let mut lookup = lookup(honest.iter().copied());
        let liar = peer(honest[0]);
        let (mut asked_dead, mut rounds) = (0, 0);
        while !lookup.is_done() {
            rounds += 1;
            for asked in take(&mut lookup) {
                if asked == liar {
                    lookup.answered(&asked, &dead.iter().map(|n| lead(*n)).collect::<Vec<_>>());
                } else if dead.iter().any(|n| peer(*n) == asked) {
                    asked_dead += 1;
                    lookup.slow(&asked);
                } else {
                    lookup.answered(&asked, &[]);
                }
            }
        }
        assert!(asked_dead <= 12, "{asked_dead}");
        assert!(rounds < 10, "{rounds}");
        assert_eq!(lookup.closest().len(), 20);
        assert_eq!(lookup.closest()[0].id, liar);
    }

    #[test]
    fn a_few_of_the_nearest_name_all_of_them() {
        let order = sorted(2..400);
        let near: Vec<PeerInfo> = order[..25].iter().map(|n| info(*n)).collect();
        let leads: Vec<Lead> = near.iter().cloned().map(Lead::from).collect();
        let mut lookup = lookup([1]);
        take(&mut lookup);
        lookup.answered(&peer(1), &leads[..18]);
        assert_eq!(take(&mut lookup).len(), 10);
        // Four that answered are not enough while fewer than k are known.
        for other in &near[..3] {
            lookup.answered(&other.id, &[]);
        }
        assert!(!lookup.knows_nearest());
        lookup.answered(&near[3].id, &leads);
        assert!(lookup.knows_nearest());
        assert!(lookup.targets().eq(&near[..20]));
        // A nearer one that was not known before is a target all the same.
        lookup.failed(&near[4].id);
        assert_eq!(lookup.targets().last(), Some(&near[20]));
    }

    #[test]
    fn many_answers_from_one_network_count_as_few() {
        let order = sorted(1..=40);
        let mut lookup = lookup(1..=40);
        take(&mut lookup);
        for (place, n) in order[..8].iter().enumerate() {
            lookup.answered(&peer(*n), &[]);
            let network = if place < 5 { 100 } else { place as u8 };
            lookup.answered_from(&peer(*n), BTreeSet::from([Group::V4([10, network])]));
        }
        assert_eq!(lookup.answers_near(), Some(2 + 3));
    }

    #[test]
    fn of_those_that_are_near_enough_the_fastest_are_asked_first() {
        let order = sorted(1..2001);
        let millis = |n: &u32| u64::from(*n % 97);
        let leads = order[..60].iter().map(|n| Lead { round_trip: Some(Duration::from_millis(millis(n))), ..lead(*n) });
        let lookup = Lookup::new(peer(0), Key::of(b"target"), PARAMS, Some(2000.0), leads);
        let mut lookup = lookup.brief(3);
        let asked = take(&mut lookup);
        let near = order.iter().map(|n| Key::of_peer(&peer(*n)).distance(&Key::of(b"target")));
        let near = near.take_while(|distance| *distance <= lookup.radius(SURELY_NEAR).unwrap()).count();
        let mut fastest: Vec<u32> = order[..near].to_vec();
        fastest.sort_by_key(millis);
        assert!(near > 7, "{near}");
        assert_eq!(asked, fastest[..7].iter().map(|n| peer(*n)).collect::<Vec<_>>());
    }

    #[test]
    fn honest_knowledge_of_a_broken_network_is_used_all_the_same() {
        let order = sorted(2..=40);
        let alive = *order.last().unwrap();
        let mut lookup = lookup([1]);
        take(&mut lookup);
        lookup.answered(&peer(1), &order.iter().map(|n| lead(*n)).collect::<Vec<_>>());
        while !lookup.is_done() {
            for asked in take(&mut lookup) {
                if asked == peer(alive) { lookup.answered(&asked, &[]) } else { lookup.failed(&asked) }
            }
        }
        assert!(lookup.closest().iter().any(|info| info.id == peer(alive)));
    }

    proptest! {
        /// Whatever is answered, in whatever order, and however much is made up: a lookup ends, asks nobody twice,
        /// stays within its bounds, and keeps only who answered.
        #[test]
        fn every_lookup_ends(
            outcomes in proptest::collection::vec((0..4_u8, 0..16_u8, any::<u32>()), 1..200),
            seeds in 1..60_u32,
        ) {
            let mut lookup = lookup(1..=seeds);
            let (mut asked, mut out, mut answered) = (BTreeSet::new(), Vec::new(), BTreeSet::new());
            let mut outcomes = outcomes.iter().cycle();
            let mut fresh = 1_000_000;
            let mut steps = 0;
            while !lookup.is_done() {
                steps += 1;
                prop_assert!(steps < 5000);
                for peer in take(&mut lookup) {
                    prop_assert!(asked.insert(peer), "asked twice");
                    out.push(peer);
                }
                prop_assert!(lookup.out <= 20);
                let (what, which, seed) = outcomes.next().unwrap();
                let peer = out[*which as usize % out.len()];
                match what {
                    0 => {
                        // New peers without end.
                        fresh += 50;
                        lookup.answered(&peer, &(fresh..fresh + 50).map(lead).collect::<Vec<_>>());
                    }
                    1 => lookup.answered(&peer, &(0..10).map(|n| lead(seed % 5000 + n)).collect::<Vec<_>>()),
                    2 => lookup.failed(&peer),
                    _ => lookup.slow(&peer),
                }
                if *what < 2 {
                    answered.insert(peer);
                }
                if *what < 3 {
                    out.retain(|other| *other != peer);
                } else if steps % 3 == 0 {
                    lookup.failed(&peer);
                    out.retain(|other| *other != peer);
                }
                prop_assert!(lookup.heard <= 160);
                prop_assert!(lookup.candidates.len() <= 160 + 320);
            }
            prop_assert!(asked.len() <= 320);
            let closest = lookup.closest();
            prop_assert!(closest.len() <= 20);
            prop_assert!(closest.iter().all(|info| answered.contains(&info.id)));
        }
    }
}
