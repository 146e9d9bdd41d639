//! When kept names are sent: each once an interval, at a moment that follows from its place in the key space.
//!
//! A node's clock hand goes round the key space once an interval and passes all names in the order of their DHT ids. So
//! neighbours come one after the other, a region at a time; the load is even; and nodes that started together do not
//! meet, because each hand began elsewhere. After a stop, what was missed is caught up with in the same order.

use core::time::Duration;
use std::collections::BTreeSet;

use crate::dht::Key;
use crate::name::Name;
use crate::time::{Now, Timestamp};

use super::kept::{Entry, Kind};

/// How a node keeps names alive. [`Default`] is what most want.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keeping {
    /// How often each name is sent: a minute to two days. A DHT forgets what was not sent for two days; a name whose
    /// record ends earlier than in two of these is sent, and an own one signed, more often.
    pub interval: Duration,
    /// How long after a failure a name is tried again; doubles with each further one.
    pub first_retry: Duration,
    /// A failing name is tried at least this often.
    pub last_retry: Duration,
    /// How many names are sent at once.
    pub parallelism: usize,
    /// How many names of others may be followed.
    pub max_followed: usize,
}

impl Default for Keeping {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(4 * 3600),
            first_retry: Duration::from_secs(5 * 60),
            last_retry: Duration::from_secs(3600),
            parallelism: 64,
            max_followed: 1_000_000,
        }
    }
}

/// Names that are far behind are sent at least this far apart, where there are few of them.
const LONGEST_GAP: Duration = Duration::from_secs(1);
/// A name that nobody has sent yet is left to the publish that made it for so long.
const GRACE: Duration = Duration::from_secs(90);
/// When the wall clock has gone this much farther than the monotonic one, the machine was asleep.
const SLEPT: Duration = Duration::from_secs(60);
/// How often the clocks are compared for that.
const HEARTBEAT: Duration = Duration::from_secs(300);
/// What fails again and again although the network is there is not tried more often because of that.
const RECOVERY_PAUSE: Duration = Duration::from_secs(60);
/// Among all followed names, somebody is asked for a newer record at most this often.
const LOOK_GAP: Duration = Duration::from_secs(2);
/// No followed name is looked up more often.
const SHORTEST_LOOK: Duration = Duration::from_secs(60);
/// However short a followed record has still to live, it is sent this share of an interval apart, and an own one that
/// comes into step with the others.
const SHORTEST_SHARE: u32 = 16;
/// Shares of the key space are no finer than this.
const MAX_REGION_BITS: u32 = 32;
/// However short a life its owner chose, a name is sent this far apart.
const SHORTEST_PAUSE: Duration = Duration::from_secs(10);

pub(crate) struct Schedule {
    how: Keeping,
    /// Where the hand was at the beginning of time, as a share of the key space.
    phase: f64,
    /// How many leading bits the keys of a region share, of names that are sent together.
    region: Option<u32>,
    due: BTreeSet<(Duration, Name)>,
    /// When the next one may begin, however many are due.
    gate: Duration,
    /// How many are being sent.
    pub(crate) running: usize,
    /// What both clocks showed last.
    seen: Now,
    /// Before that, those that nobody was reached for are not sent out of turn once more.
    recovers: Duration,
}

impl Schedule {
    pub(crate) fn new(how: Keeping, phase: f64, now: Now) -> Self {
        let how = Keeping {
            interval: how.interval.clamp(Duration::from_secs(60), Duration::from_secs(48 * 3600)),
            first_retry: how.first_retry.max(Duration::from_secs(1)),
            last_retry: how.last_retry.max(how.first_retry),
            parallelism: how.parallelism.max(1),
            ..how
        };
        Self {
            how,
            phase,
            region: None,
            due: BTreeSet::new(),
            gate: Duration::ZERO,
            running: 0,
            seen: now,
            recovers: Duration::ZERO,
        }
    }

    pub(crate) fn how(&self) -> &Keeping {
        &self.how
    }

    /// Gives a name its turn, or with `None` none.
    pub(crate) fn set(&mut self, name: &Name, entry: &mut Entry, due: Option<Duration>) {
        if let Some(old) = core::mem::replace(&mut entry.due, due) {
            self.due.remove(&(old, *name));
        }
        self.due.extend(due.map(|due| (due, *name)));
    }

    /// When the next name is to be begun, or the clocks are to be looked at.
    pub(crate) fn next_timeout(&self) -> Option<Duration> {
        let clocks = self.seen.monotonic + HEARTBEAT;
        (!self.due.is_empty()).then(|| self.next().map_or(clocks, |next| next.min(clocks)))
    }

    /// When the next name may begin.
    fn next(&self) -> Option<Duration> {
        let (due, _) = self.due.first()?;
        (self.running < self.how.parallelism).then(|| self.gate.max(*due))
    }

    /// The name whose turn it is, and that may begin: all of them together go at most at twice the rate at which they go
    /// when nothing is behind.
    pub(crate) fn pop(&mut self, now: Duration) -> Option<Name> {
        let ready = self.next().is_some_and(|at| at <= now);
        let (_, name) = ready.then(|| self.due.pop_first()).flatten()?;
        let count = u32::try_from(self.due.len() + 1).unwrap_or(u32::MAX);
        let gap = (self.how.interval / 2 / count).min(LONGEST_GAP);
        // The gate does not lag far behind, or what it held up would come at once.
        self.gate = self.gate.max(now.saturating_sub(gap)) + gap.max(Duration::from_micros(1));
        self.running += 1;
        Some(name)
    }

    /// Whether the wall clock jumped forward, as it does while a machine sleeps and the monotonic clock stands still.
    pub(crate) fn slept(&mut self, now: Now) -> bool {
        let awake = now.monotonic.saturating_sub(self.seen.monotonic);
        let passed = now.wall.saturating_since(self.seen.wall);
        self.seen = now;
        passed > awake + SLEPT
    }

    /// When it is the turn of a name that was sent, or has never been; `count` names are kept, `followed` of them of
    /// others.
    pub(crate) fn turn(&self, now: Now, name: &Name, entry: &Entry, count: usize, followed: usize) -> Duration {
        if !entry.has_record() {
            return now.monotonic;
        }
        let Some(sent) = entry.sent else {
            let fresh = entry.failures == 0;
            return now.monotonic + if fresh { GRACE } else { self.behind(now.wall, name, count) };
        };
        let turn = self.again(now.wall, name, entry, sent);
        if turn <= now.wall {
            return now.monotonic + self.behind(now.wall, name, count);
        }
        let turn = now.monotonic + turn.saturating_since(now.wall);
        match self.look(entry, followed) {
            Some(look) => turn.min(look.max(now.monotonic)),
            None => turn,
        }
    }

    /// When a name that was sent is sent again: as the hand passes it, and before more than half of what was left of the
    /// record's life is over.
    fn again(&self, wall: Timestamp, name: &Name, entry: &Entry, sent: Timestamp) -> Timestamp {
        let interval = self.how.interval;
        let pass = self.pass(name, sent + interval / 2);
        let latest = sent + self.half(entry, sent);
        if pass <= latest || entry.is_expired(wall) {
            return pass;
        }
        // Its region is explored for others then; at a time of its own it would have to be for this one. A record that is
        // signed for less than two rounds cannot wait for the pass after that, either.
        let before = pass - interval;
        let settles = matches!(entry.kind, Kind::Own { lifetime } if lifetime / 2 >= interval);
        if settles && before >= sent + interval / SHORTEST_SHARE { before.min(latest) } else { latest }
    }

    /// How long it is until the hand passes a name that is sent now.
    pub(crate) fn until_pass(&self, now: Timestamp, name: &Name) -> Duration {
        self.pass(name, now + self.how.interval / 2).saturating_since(now)
    }

    /// When somebody is to be asked for a newer record of a followed name, if it is not enough to learn of one when it is
    /// sent.
    fn look(&self, entry: &Entry, followed: usize) -> Option<Duration> {
        let all = LOOK_GAP * u32::try_from(followed).unwrap_or(u32::MAX);
        let pause = entry.ttl.max(SHORTEST_LOOK).max(all);
        (!entry.is_own() && pause < self.how.interval / 2).then(|| entry.looked.unwrap_or_default() + pause)
    }

    /// Whether a name is begun only to look for a newer record, because its turn to be sent has not come. Where names are
    /// looked for only when they are sent it never is, also when the hand has come to pass them in another order.
    pub(crate) fn is_look(&self, now: Now, name: &Name, entry: &Entry, followed: usize) -> bool {
        if self.look(entry, followed).is_none() {
            return false;
        }
        let Some(sent) = entry.sent.filter(|_| entry.failures == 0) else { return false };
        now.wall < self.again(now.wall, name, entry, sent)
    }

    /// Half of what was left of a record's life when it was sent. An own one is signed anew then; a followed one, of which
    /// less and less is left, is not sent ever more often.
    fn half(&self, entry: &Entry, sent: Timestamp) -> Duration {
        let shortest = if entry.is_own() { SHORTEST_PAUSE } else { self.how.interval / SHORTEST_SHARE };
        (entry.rank.1.saturating_since(sent) / 2).max(shortest)
    }

    /// When a name that failed is tried again.
    pub(crate) fn retry(&self, now: Now, name: &Name, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(16);
        let pause = (self.how.first_retry * (1 << doublings)).min(self.how.last_retry);
        // Those that failed together do not return together.
        now.monotonic + pause.mul_f64(1.0 + 0.25 * self.place(name))
    }

    /// Whether those that nobody was reached for are to be sent out of turn, now that somebody was reached.
    pub(crate) fn may_recover(&mut self, now: Duration) -> bool {
        let may = now >= self.recovers;
        if may {
            self.recovers = now + RECOVERY_PAUSE;
        }
        may
    }

    /// When a name that could not be sent may be tried at once, but not all of them.
    pub(crate) fn soon(&self, now: Now, name: &Name, count: usize) -> Duration {
        now.monotonic + self.behind(now.wall, name, count)
    }

    /// From now on the hand passes region after region of keys of which so many leading bits are the same, if that is
    /// known.
    pub(crate) fn set_region(&mut self, bits: Option<u32>) {
        self.region = bits;
    }

    /// Where the hand passes a name, as a share of a round. Of a region it passes the names in no order of theirs: each of
    /// its servers is then sent something all the time, and no connection to one idles until it closes.
    fn place(&self, name: &Name) -> f64 {
        let key = Key::from_digest(name.dht_id());
        let share = match self.region {
            Some(bits) => {
                let regions = (1_u64 << bits.min(MAX_REGION_BITS)) as f64;
                ((key.share() * regions).floor() + key.share_of_low()) / regions
            }
            None => key.share(),
        };
        (share + self.phase).fract()
    }

    /// Where the hand is.
    fn hand(&self, at: Timestamp) -> f64 {
        let interval = self.how.interval.as_nanos() as i128;
        at.as_unix_nanos().rem_euclid(interval) as f64 / interval as f64
    }

    /// The first time from `from` on that the hand passes a name.
    fn pass(&self, name: &Name, from: Timestamp) -> Timestamp {
        let ahead = (self.place(name) - self.hand(from)).rem_euclid(1.0);
        from + self.how.interval.mul_f64(ahead)
    }

    /// How long after now a name that is late is sent: the next on the way of the hand first, all of them within half an
    /// interval.
    fn behind(&self, wall: Timestamp, name: &Name, count: usize) -> Duration {
        let window = LONGEST_GAP.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX)).min(self.how.interval / 2);
        window.mul_f64((self.place(name) - self.hand(wall)).rem_euclid(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{KeyType, SecretKey, Signer};
    use crate::record::{Checks, RecordBuilder, Verified};

    const HOUR: Duration = Duration::from_secs(3600);
    const DAWN: Timestamp = Timestamp::from_unix_secs_const(1_800_000_000);

    fn record(seed: u16, lives: Duration) -> Verified {
        let mut random = [7; 32];
        random[..2].copy_from_slice(&seed.to_be_bytes());
        let key = SecretKey::generate(KeyType::Ed25519, random, 0).unwrap();
        let builder = RecordBuilder::new("/ipfs/bafkqaaa".parse().unwrap(), 7, DAWN + lives);
        Checks::at(Timestamp::MIN).verify_record(builder.sign(&key).unwrap(), &key.public_key().to_name()).unwrap()
    }

    fn now(since: Duration) -> Now {
        Now { monotonic: since, wall: DAWN + since }
    }

    fn entry(record: &Verified, sent: Option<Duration>) -> Entry {
        let mut entry = Entry::new(Kind::Own { lifetime: 48 * HOUR });
        entry.set_record(record);
        entry.sent = sent.map(|sent| DAWN + sent);
        entry
    }

    fn schedule(phase: f64) -> Schedule {
        Schedule::new(Keeping::default(), phase, now(Duration::ZERO))
    }

    #[test]
    fn names_are_sent_once_an_interval_in_the_order_of_their_keys() {
        let schedule = schedule(0.3);
        let mut turns = Vec::new();
        for seed in 0..200 {
            let record = record(seed, 48 * HOUR);
            let first = schedule.turn(now(HOUR), record.name(), &entry(&record, Some(HOUR)), 200, 0);
            assert!(first >= 3 * HOUR && first < 7 * HOUR, "{first:?}");
            let second = schedule.turn(now(first), record.name(), &entry(&record, Some(first)), 200, 0);
            assert!((second - first).abs_diff(4 * HOUR) < Duration::from_secs(1), "{:?}", second - first);
            turns.push((second, schedule.place(record.name())));
        }
        turns.sort_by_key(|(turn, _)| *turn);
        let wraps = turns.windows(2).filter(|pair| pair[0].1 > pair[1].1).count();
        assert!(wraps <= 1, "the hand goes round once");
        let early = turns.iter().filter(|(turn, _)| *turn < turns[0].0 + HOUR).count();
        assert!((25..75).contains(&early), "a quarter of them in a quarter of the time: {early}");
    }

    #[test]
    fn nodes_that_started_together_do_not_meet() {
        let record = record(1, 48 * HOUR);
        let turn = |phase| schedule(phase).turn(now(HOUR), record.name(), &entry(&record, Some(HOUR)), 1, 0);
        let turns: BTreeSet<Duration> = (0..50).map(|node| turn(f64::from(node) / 50.0)).collect();
        assert!(turns.len() == 50 && *turns.last().unwrap() - *turns.first().unwrap() > 3 * HOUR);
    }

    #[test]
    fn a_record_that_ends_soon_is_sent_before_half_of_what_is_left() {
        let schedule = schedule(0.3);
        for minutes in [1, 8, 30, 60, 200] {
            let lives = Duration::from_secs(60 * minutes);
            let record = record(1, lives);
            let own = entry(&record, Some(Duration::ZERO));
            let mut followed = own.clone();
            followed.kind = Kind::Followed;
            let turn = |entry| schedule.turn(now(Duration::ZERO), record.name(), entry, 1, 1_000_000);
            assert!(turn(&own) <= lives / 2, "{minutes} min: {:?}", turn(&own));
            assert!(turn(&followed) <= (lives / 2).max(HOUR / 4), "{minutes} min: {:?}", turn(&followed));
        }
    }

    #[test]
    fn what_was_missed_is_caught_up_with_in_order_and_not_at_once() {
        let mut schedule = schedule(0.6);
        let late = now(30 * HOUR);
        let mut names = Vec::new();
        for seed in 0..300 {
            let record = record(seed, 96 * HOUR);
            let mut entry = entry(&record, Some(Duration::ZERO));
            let turn = schedule.turn(late, record.name(), &entry, 300, 0);
            schedule.set(record.name(), &mut entry, Some(turn));
            names.push((turn, schedule.place(record.name())));
        }
        names.sort_by_key(|(turn, _)| *turn);
        assert!(names[299].0 - late.monotonic <= Duration::from_secs(300));
        assert!(names.windows(2).filter(|pair| pair[0].1 > pair[1].1).count() <= 1);
        // Even when all of them are due, one follows the other.
        let mut at = late.monotonic + HOUR;
        let begun = at;
        for _ in 0..300 {
            while schedule.pop(at).is_none() {
                at = schedule.next().unwrap();
            }
            schedule.running -= 1;
        }
        assert!(at - begun >= Duration::from_secs(290), "{:?}", at - begun);
    }

    #[test]
    fn failures_back_off_up_to_an_hour() {
        let schedule = schedule(0.0);
        let name = *record(1, HOUR).name();
        let pauses: Vec<Duration> = (1..10).map(|failures| schedule.retry(now(HOUR), &name, failures) - HOUR).collect();
        assert!(pauses[0] >= Duration::from_secs(300) && pauses[0] < Duration::from_secs(376), "{pauses:?}");
        assert!(pauses.is_sorted() && pauses[8] >= HOUR && pauses[8] <= HOUR * 5 / 4, "{pauses:?}");
    }

    #[test]
    fn a_sleep_is_noticed_and_a_clock_set_back_is_not_one() {
        let mut schedule = schedule(0.0);
        assert!(!schedule.slept(now(HOUR)));
        assert!(schedule.slept(Now { monotonic: HOUR + Duration::from_secs(1), wall: DAWN + 9 * HOUR }));
        assert!(!schedule.slept(Now { monotonic: HOUR + Duration::from_secs(2), wall: DAWN }));
    }

    #[test]
    fn few_followed_names_are_looked_up_by_their_ttl_and_many_only_when_sent() {
        let schedule = schedule(0.3);
        let record = record(1, 48 * HOUR);
        let mut entry = Entry::new(Kind::Followed);
        entry.set_record(&record);
        (entry.sent, entry.looked) = (Some(DAWN + HOUR), Some(HOUR));
        let at = now(HOUR + Duration::from_secs(1));
        let turn = |followed| schedule.turn(at, record.name(), &entry, followed, followed) - HOUR;
        assert_eq!(turn(1), Duration::from_secs(300), "the default TTL");
        assert_eq!(turn(1000), Duration::from_secs(2000));
        assert!(turn(10_000) >= 2 * HOUR);
        assert!(schedule.is_look(at, record.name(), &entry, 1));
        assert!(!schedule.is_look(at, record.name(), &entry, 10_000));
        assert!(!schedule.is_look(now(9 * HOUR), record.name(), &entry, 1));
    }
}
