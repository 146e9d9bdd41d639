//! A line of a table: what one strategy takes in one kind of world.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ipns_sim::measure::{Measured, Published, Resolved, Round, Setting, measure};
use serde::Serialize;

use super::shares::Sorted;

/// A line of the table.
#[derive(Serialize)]
pub(crate) struct Row {
    pub(crate) servers: u32,
    pub(crate) dead: f64,
    pub(crate) strategy: &'static str,
    rounds: usize,
    publish: Times,
    publish_ok: f64,
    /// Questions that reached a peer, and those that did not because it was down.
    publish_rpcs: Spread,
    publish_undialled: Spread,
    publish_bytes: Spread,
    acks: Spread,
    /// Publishes of those who published the name before.
    update: Times,
    update_ok: f64,
    update_rpcs: Spread,
    update_acks: Spread,
    resolve: Times,
    first: Times,
    resolve_ok: f64,
    /// Questions that reached a peer, and those that did not because it was down.
    resolve_rpcs: Spread,
    resolve_undialled: Spread,
    resolve_bytes: Spread,
    /// The share of resolves that missed the newest record.
    missed: f64,
    /// The mean of what they said of that, if they said something.
    claimed: Option<f64>,
    pub(crate) events: u64,
    /// The hashes of the worlds, folded.
    pub(crate) trace: String,
    /// Every publish, every update and every resolve, in seconds.
    #[serde(skip)]
    pub(crate) times: [Vec<f64>; 3],
}

/// Seconds.
#[derive(Serialize)]
struct Times {
    p50: f64,
    p90: f64,
    p99: f64,
}

#[derive(Serialize)]
struct Spread {
    p10: f64,
    p50: f64,
    p90: f64,
}

impl Times {
    fn of(times: impl Iterator<Item = Duration>) -> Self {
        let sorted = Sorted::new(times.map(|time| time.as_secs_f64()));
        Self { p50: sorted.at(0.5), p90: sorted.at(0.9), p99: sorted.at(0.99) }
    }
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let sorted = Sorted::new(values);
        Self { p10: sorted.at(0.1), p50: sorted.at(0.5), p90: sorted.at(0.9) }
    }
}

impl Row {
    /// Measures in so many worlds.
    pub(crate) fn measure(setting: &Setting, seeds: u64) -> Self {
        let worlds = worlds(setting, seeds);
        let rounds: Vec<&Round> = worlds.iter().flat_map(|world| &world.rounds).collect();
        let published: Vec<&Published> = rounds.iter().filter_map(|round| round.publish.as_ref()).collect();
        let updated: Vec<&Published> = rounds.iter().filter_map(|round| round.update.as_ref()).collect();
        let resolved: Vec<&Resolved> = rounds.iter().filter_map(|round| round.resolve.as_ref()).collect();
        let of_all = |count: usize| count as f64 / rounds.len() as f64;
        let claims = resolved.iter().map(|resolved| resolved.miss_probability).sum::<Option<f64>>();
        let of_resolved = |sum: f64| sum / resolved.len() as f64;
        Self {
            servers: setting.servers.count,
            dead: setting.servers.stale_near,
            strategy: setting.strategy.label(),
            rounds: rounds.len(),
            publish: Times::of(published.iter().map(|published| published.took)),
            publish_ok: of_all(published.len()),
            publish_rpcs: Spread::of(published.iter().map(|published| published.asked.questions as f64)),
            publish_undialled: Spread::of(published.iter().map(|published| published.asked.undialled as f64)),
            publish_bytes: Spread::of(published.iter().map(|published| published.asked.bytes as f64)),
            acks: Spread::of(published.iter().map(|published| f64::from(published.acks))),
            update: Times::of(updated.iter().map(|updated| updated.took)),
            update_ok: of_all(updated.len()),
            update_rpcs: Spread::of(updated.iter().map(|updated| updated.asked.questions as f64)),
            update_acks: Spread::of(updated.iter().map(|updated| f64::from(updated.acks))),
            resolve: Times::of(resolved.iter().map(|resolved| resolved.took)),
            first: Times::of(resolved.iter().map(|resolved| resolved.first)),
            resolve_ok: of_all(resolved.len()),
            resolve_rpcs: Spread::of(resolved.iter().map(|resolved| resolved.asked.questions as f64)),
            resolve_undialled: Spread::of(resolved.iter().map(|resolved| resolved.asked.undialled as f64)),
            resolve_bytes: Spread::of(resolved.iter().map(|resolved| resolved.asked.bytes as f64)),
            missed: of_resolved(resolved.iter().filter(|resolved| !resolved.newest).count() as f64),
            claimed: claims.map(of_resolved),
            events: worlds.iter().map(|world| world.events).sum(),
            trace: format!("{:016x}", worlds.iter().fold(0, |all: u64, world| all.rotate_left(1) ^ world.trace)),
            times: [
                published.iter().map(|published| published.took.as_secs_f64()).collect(),
                updated.iter().map(|updated| updated.took.as_secs_f64()).collect(),
                resolved.iter().map(|resolved| resolved.took.as_secs_f64()).collect(),
            ],
        }
    }

    /// What [`HEAD`] is above.
    pub(crate) fn line(&self) -> String {
        let times = |times: &Times| format!("{:.2} / {:.2} / {:.2}", times.p50, times.p90, times.p99);
        let rpcs = |spread: &Spread| format!("{:.0} / {:.0}", spread.p50, spread.p90);
        let acks = |spread: &Spread| format!("{:.0} / {:.0}", spread.p50, spread.p10);
        let kilobytes = |spread: &Spread| format!("{:.0}", spread.p50 / 1000.0);
        format!(
            "{:>7} {:>4.0}%  {:<12} | {:>21} {:>9} {:>7} {:>4} {:>8} {:>5.1}% | {:>21} {:>9} {:>8} {:>5.1}% | {:>21} {:>21} {:>9} {:>7} {:>4} {:>5.1}% {:>7.3}% {:>7}",
            self.servers,
            100.0 * self.dead,
            self.strategy,
            times(&self.publish),
            rpcs(&self.publish_rpcs),
            rpcs(&self.publish_undialled),
            kilobytes(&self.publish_bytes),
            acks(&self.acks),
            100.0 * self.publish_ok,
            times(&self.update),
            rpcs(&self.update_rpcs),
            acks(&self.update_acks),
            100.0 * self.update_ok,
            times(&self.resolve),
            times(&self.first),
            rpcs(&self.resolve_rpcs),
            rpcs(&self.resolve_undialled),
            kilobytes(&self.resolve_bytes),
            100.0 * self.resolve_ok,
            100.0 * self.missed,
            self.claimed.map_or("-".into(), |claimed| format!("{:.3}%", 100.0 * claimed)),
        )
    }
}

/// Above the lines of a table.
pub(crate) const HEAD: &str = "\
SERVERS  DEAD  STRATEGY     | PUBLISH s 50 / 90 / 99 RPCs50/90    DEAD   kB acks50/10   ok |  UPDATE s 50 / 90 / 99 RPCs50/90 acks50/10  ok |  RESOLVE s 50 / 90 / 99  FIRST s 50 / 90 / 99 RPCs50/90    DEAD   kB    ok   missed claimed";

/// Measures in the worlds of all seeds, on all cores. The result does not depend on how many there are.
fn worlds(setting: &Setting, seeds: u64) -> Vec<Measured> {
    let next = AtomicU64::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return done;
            }
            done.push((seed, measure(setting, seed)));
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut done: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        let joined = workers.into_iter().map(|worker| worker.join());
        joined.flat_map(|done| done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    done.sort_by_key(|(seed, _)| *seed);
    done.into_iter().map(|(_, measured)| measured).collect()
}
