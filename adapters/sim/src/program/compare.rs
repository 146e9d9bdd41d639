//! `ipns-sim compare`.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ipns_sim::measure::{Published, Resolved, Round, Setting, Strategy, measure};
use ipns_sim::{Links, Servers};
use serde::Serialize;

use super::shares::Sorted;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many servers are up
    #[arg(long, value_delimiter = ',', default_value = "10000", value_parser = clap::value_parser!(u32).range(1..))]
    servers: Vec<u32>,
    /// The share of entries of routing tables that are dead, from 0 to 0.9
    #[arg(long, value_delimiter = ',', default_value = "0.10", value_parser = share)]
    dead: Vec<f64>,
    /// Who publishes and resolves; `go-classic` and `rust-classic` are what runs today
    #[arg(long, value_delimiter = ',', default_values = Strategy::ALL.map(Strategy::label), value_parser = strategy)]
    strategies: Vec<Strategy>,
    /// How many of the 20 nearest servers have lost a record when it is resolved; 3 is an hour on the public DHT
    #[arg(long, default_value_t = 3)]
    lost: usize,
    /// How many worlds of each kind
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    /// How many names are published, updated and resolved in each world
    #[arg(long, default_value_t = 6)]
    rounds: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if (0.0..=0.9).contains(&share) { Ok(share) } else { Err("not from 0 to 0.9".into()) }
}

fn strategy(label: &str) -> Result<Strategy, String> {
    let found = Strategy::ALL.into_iter().find(|strategy| strategy.label() == label);
    found.ok_or_else(|| format!("one of {}", Strategy::ALL.map(Strategy::label).join(", ")))
}

/// A line of the table.
#[derive(Serialize)]
struct Row {
    servers: u32,
    dead: f64,
    strategy: &'static str,
    rounds: usize,
    publish: Times,
    publish_ok: f64,
    publish_rpcs: Spread,
    acks: Spread,
    resolve: Times,
    first: Times,
    resolve_ok: f64,
    resolve_rpcs: Spread,
    /// The share of resolves that missed the newest record.
    missed: f64,
    /// The mean of what they said of that, if they said something.
    claimed: Option<f64>,
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
    fn of(servers: u32, dead: f64, strategy: Strategy, rounds: &[Round]) -> Self {
        let published: Vec<&Published> = rounds.iter().filter_map(|round| round.publish.as_ref()).collect();
        let resolved: Vec<&Resolved> = rounds.iter().filter_map(|round| round.resolve.as_ref()).collect();
        let of_all = |count: usize| count as f64 / rounds.len() as f64;
        let claims = resolved.iter().map(|resolved| resolved.miss_probability).sum::<Option<f64>>();
        let of_resolved = |sum: f64| sum / resolved.len() as f64;
        Self {
            servers,
            dead,
            strategy: strategy.label(),
            rounds: rounds.len(),
            publish: Times::of(published.iter().map(|published| published.took)),
            publish_ok: of_all(published.len()),
            publish_rpcs: Spread::of(published.iter().map(|published| published.asked as f64)),
            acks: Spread::of(published.iter().map(|published| f64::from(published.acks))),
            resolve: Times::of(resolved.iter().map(|resolved| resolved.took)),
            first: Times::of(resolved.iter().map(|resolved| resolved.first)),
            resolve_ok: of_all(resolved.len()),
            resolve_rpcs: Spread::of(resolved.iter().map(|resolved| resolved.asked as f64)),
            missed: of_resolved(resolved.iter().filter(|resolved| !resolved.newest).count() as f64),
            claimed: claims.map(of_resolved),
        }
    }

    fn line(&self) -> String {
        let times = |times: &Times| format!("{:.2} / {:.2} / {:.2}", times.p50, times.p90, times.p99);
        let rpcs = |spread: &Spread| format!("{:.0} / {:.0}", spread.p50, spread.p90);
        format!(
            "{:>7} {:>4.0}%  {:<12} | {:>21} {:>9} {:>8} {:>5.1}% | {:>21} {:>21} {:>9} {:>5.1}% {:>7.3}% {:>7}",
            self.servers,
            100.0 * self.dead,
            self.strategy,
            times(&self.publish),
            rpcs(&self.publish_rpcs),
            format!("{:.0} / {:.0}", self.acks.p50, self.acks.p10),
            100.0 * self.publish_ok,
            times(&self.resolve),
            times(&self.first),
            rpcs(&self.resolve_rpcs),
            100.0 * self.resolve_ok,
            100.0 * self.missed,
            self.claimed.map_or("-".into(), |claimed| format!("{:.3}%", 100.0 * claimed)),
        )
    }
}

const HEAD: &str = "\
SERVERS  DEAD  STRATEGY     | PUBLISH s 50 / 90 / 99 RPCs50/90 acks50/10   ok |  RESOLVE s 50 / 90 / 99  FIRST s 50 / 90 / 99 RPCs50/90    ok   missed claimed";

pub(crate) fn run(args: &Args) -> ExitCode {
    let begun = Instant::now();
    let mut rows = Vec::new();
    let mut events = 0;
    if !args.json {
        println!("{HEAD}");
    }
    for &servers in &args.servers {
        for &dead in &args.dead {
            for &strategy in &args.strategies {
                let setting = Setting {
                    servers: Servers::new(servers).dead(dead),
                    links: Links::default(),
                    strategy,
                    lost: args.lost,
                    rounds: args.rounds,
                };
                let (rounds, passed) = worlds(&setting, args.seeds);
                events += passed;
                let row = Row::of(servers, dead, strategy, &rounds);
                if !args.json {
                    println!("{}", row.line());
                }
                rows.push(row);
            }
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    if args.json {
        println!("{}", serde_json::json!({ "rows": rows, "events": events, "seconds": seconds }));
    } else {
        println!("{events} events in {seconds:.1} s");
    }
    ExitCode::SUCCESS
}

/// Measures in the worlds of all seeds, on all cores. The result does not depend on how many there are.
fn worlds(setting: &Setting, seeds: u64) -> (Vec<Round>, u64) {
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
    let events = done.iter().map(|(_, (_, events))| events).sum();
    (done.into_iter().flat_map(|(_, (rounds, _))| rounds).collect(), events)
}
