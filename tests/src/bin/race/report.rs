//! The result, as a table and as JSON.

use std::fmt::{self, Display, Formatter};

use serde::Serialize;

use crate::rounds::{Cost, Lap, Publishing};
use crate::shares::Spread;
use crate::theirs::Make;

/// All that was measured.
#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) setting: Setting,
    pub(crate) contestants: Vec<Row>,
    /// How many times as long kad takes, if it races, as this engine, on the first of its runtimes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ratio: Option<Ratio>,
    /// How many times as long this engine takes on each further runtime as on the first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) runtimes: Vec<Further>,
    /// The share of all cores that the process used during the race; a busy machine would measure itself.
    pub(crate) cpu: Option<f64>,
    /// How long all rounds took, in seconds.
    pub(crate) seconds: f64,
}

/// What was measured in.
#[derive(Serialize)]
pub(crate) struct Setting {
    /// Whose servers they are.
    pub(crate) peers: Make,
    pub(crate) nodes: usize,
    pub(crate) dead: f64,
    /// The share of entries of the servers' routing tables that are dead, and how many the median table has: the mean of
    /// all networks; 0 where servers do not say.
    pub(crate) dead_entries: f64,
    pub(crate) table_entries: usize,
    pub(crate) networks: u64,
    /// In each network.
    pub(crate) rounds: usize,
    /// Of the first network; each further one has the next.
    pub(crate) seed: u64,
    pub(crate) median_rtt_ms: u64,
    pub(crate) sigma: f64,
    pub(crate) cold: bool,
    pub(crate) kad_reads: bool,
    pub(crate) kad_records: u32,
}

/// What one contestant did. Times are in seconds.
#[derive(Serialize)]
pub(crate) struct Row {
    contestant: &'static str,
    publish: Publishes,
    /// Publishes of whoever published the name before.
    #[serde(skip_serializing_if = "Option::is_none")]
    update: Option<Publishes>,
    resolve: Resolves,
}

#[derive(Default, Serialize)]
struct Publishes {
    seconds: Spread,
    acks: Spread,
    holders: Spread,
    /// Holders among the 20 nearest of the living.
    nearest: Spread,
    cost: Costs,
    ok: f64,
}

#[derive(Serialize)]
struct Resolves {
    first: Spread,
    seconds: Spread,
    cost: Costs,
    ok: f64,
}

#[derive(Default, Serialize)]
struct Costs {
    requests: Spread,
    dials: Spread,
    dead_dials: Spread,
}

#[derive(Serialize)]
pub(crate) struct Ratio {
    publish: Spread,
    #[serde(skip_serializing_if = "Option::is_none")]
    update: Option<Spread>,
    first: Spread,
    resolve: Spread,
}

/// A further runtime beside the first.
#[derive(Serialize)]
pub(crate) struct Further {
    contestant: &'static str,
    #[serde(flatten)]
    ratio: Ratio,
}

impl Costs {
    fn of<'a>(costs: impl Iterator<Item = &'a Cost> + Clone) -> Self {
        let spread = |of: fn(&Cost) -> Option<u64>| Spread::of(costs.clone().filter_map(|cost| Some(of(cost)? as f64)));
        Self {
            requests: spread(|cost| cost.requests),
            dials: spread(|cost| Some(cost.dials)),
            dead_dials: spread(|cost| Some(cost.dead_dials)),
        }
    }
}

impl Publishes {
    /// `None` of nothing.
    fn of<'a>(publishes: impl Iterator<Item = &'a Publishing> + Clone) -> Option<Self> {
        let succeeded = || publishes.clone().filter(|publish| publish.published.acks.is_some());
        let count = publishes.clone().count();
        (count > 0).then(|| Self {
            seconds: Spread::of(succeeded().map(|publish| publish.published.took.as_secs_f64())),
            acks: Spread::of(succeeded().filter_map(|publish| publish.published.acks.map(f64::from))),
            holders: Spread::of(publishes.clone().map(|publish| publish.holders as f64)),
            nearest: Spread::of(publishes.clone().map(|publish| publish.nearest as f64)),
            cost: Costs::of(publishes.clone().map(|publish| &publish.cost)),
            ok: succeeded().count() as f64 / count as f64,
        })
    }
}

impl Row {
    /// Failures are in no time, but in the shares of what went well.
    pub(crate) fn of(contestant: &'static str, laps: &[Lap]) -> Self {
        let resolved = || laps.iter().map(|lap| &lap.resolve).filter(|resolve| resolve.right);
        let share = |count: usize| count as f64 / laps.len().max(1) as f64;
        Self {
            contestant,
            publish: Publishes::of(laps.iter().map(|lap| &lap.publish)).unwrap_or_default(),
            update: Publishes::of(laps.iter().filter_map(|lap| lap.update.as_ref())),
            resolve: Resolves {
                first: Spread::of(resolved().filter_map(|resolve| Some(resolve.resolved.first?.as_secs_f64()))),
                seconds: Spread::of(resolved().map(|resolve| resolve.resolved.took.as_secs_f64())),
                cost: Costs::of(laps.iter().map(|lap| &lap.resolve.cost)),
                ok: share(resolved().count()),
            },
        }
    }
}

impl Ratio {
    pub(crate) fn of(row: &Row, first: &Row) -> Self {
        Self {
            publish: row.publish.seconds.over(first.publish.seconds),
            update: row.update.as_ref().zip(first.update.as_ref()).map(|(row, first)| row.seconds.over(first.seconds)),
            first: row.resolve.first.over(first.resolve.first),
            resolve: row.resolve.seconds.over(first.resolve.seconds),
        }
    }

    fn write(&self, f: &mut Formatter<'_>, between: [&str; 2], digits: usize) -> fmt::Result {
        let times = |spread: Spread| format!("{} / {}", number(spread.p50, digits), number(spread.p90, digits));
        let (publish, first, resolve) = (times(self.publish), times(self.first), times(self.resolve));
        let [one, other] = between;
        let update = self.update.map(|update| format!(", update {}", times(update))).unwrap_or_default();
        writeln!(f, "{one} / {other}, at p50 / p90: publish {publish}{update}, first value {first}, resolve {resolve}")
    }
}

impl Further {
    pub(crate) fn of(row: &Row, first: &Row) -> Self {
        Self { contestant: row.contestant, ratio: Ratio::of(row, first) }
    }
}

const NAME: &str = "CONTESTANT";
const HEAD: &str = "\
PUBLISH s 50/90  ACKS HOLDERS NEAREST RPCs DIALS DEAD     OK | FIRST s 50/90  RESOLVE s 50/90  RPCs DIALS DEAD     OK";

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let setting = &self.setting;
        let tables = match setting.table_entries {
            0 => String::new(),
            entries => format!(" ({:.1}% of the {entries} entries of a table)", 100.0 * setting.dead_entries),
        };
        writeln!(
            f,
            "{} living servers of {}, {:.0}% of all dead{tables}, round trips of {} ms (sigma {}), {}, seed {}",
            setting.nodes,
            setting.peers.label(),
            100.0 * setting.dead,
            setting.median_rtt_ms,
            setting.sigma,
            if setting.cold { "no connection open at first" } else { "connections kept as by default" },
            setting.seed,
        )?;
        let names = self.contestants.iter().map(|row| row.contestant);
        let width = names.chain([NAME]).map(str::len).max().unwrap_or(0);
        writeln!(f, "{NAME:width$} | {HEAD}")?;
        for row in &self.contestants {
            writeln!(f, "{row:width$}")?;
        }
        for row in &self.contestants {
            if let Some(update) = &row.update {
                writeln!(f, "{:width$} | updates: {update}", row.contestant)?;
            }
        }
        let first = self.contestants.first().map_or("ipns", |row| row.contestant);
        if let Some(ratio) = &self.ratio {
            ratio.write(f, ["kad", first], 1)?;
        }
        for further in &self.runtimes {
            // A second digit, because runtimes differ by percents.
            further.ratio.write(f, [further.contestant, first], 2)?;
        }
        let cpu = self.cpu.map_or("-".into(), |share| format!("{:.0}%", 100.0 * share));
        let times =
            if setting.networks == 1 { String::new() } else { format!(" in each of {} networks", setting.networks) };
        write!(f, "{} rounds{times}, {:.0} s in all, {cpu} of the processors used", setting.rounds, self.seconds)
    }
}

impl Display for Publishes {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let count = |spread: Spread| number(spread.p50, 0);
        write!(
            f,
            "{} / {} s, {} acks, {} holders, {} of the nearest, {} RPCs, {:.1}% succeeded",
            number(self.seconds.p50, 2),
            number(self.seconds.p90, 2),
            count(self.acks),
            count(self.holders),
            count(self.nearest),
            count(self.cost.requests),
            100.0 * self.ok,
        )
    }
}

impl Display for Row {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let times = |spread: Spread| format!("{} / {}", number(spread.p50, 2), number(spread.p90, 2));
        let count = |spread: Spread| number(spread.p50, 0);
        let (publish, resolve) = (&self.publish, &self.resolve);
        f.pad(self.contestant)?;
        write!(
            f,
            " | {:>15} {:>5} {:>7} {:>7} {:>4} {:>5} {:>4} {:>5.1}% | {:>13} {:>16} {:>5} {:>5} {:>4} {:>5.1}%",
            times(publish.seconds),
            count(publish.acks),
            count(publish.holders),
            count(publish.nearest),
            count(publish.cost.requests),
            count(publish.cost.dials),
            count(publish.cost.dead_dials),
            100.0 * publish.ok,
            times(resolve.first),
            times(resolve.seconds),
            count(resolve.cost.requests),
            count(resolve.cost.dials),
            count(resolve.cost.dead_dials),
            100.0 * resolve.ok,
        )
    }
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or("-".into(), |value| format!("{value:.digits$}"))
}
