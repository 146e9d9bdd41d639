//! `ipns-sim keep`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use ipns_sim::keep::{Round, Setting, keep, one_by_one};
use ipns_sim::{Churn, Classic, Links, Servers};

use super::bench::{peak, resident};

/// So many kinds of failures are told.
const MAX_FAILURES: usize = 10;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many servers the DHT has
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..))]
    servers: u32,
    /// The share of the entries of tables that are down
    #[arg(long, default_value_t = 0.10)]
    dead: f64,
    /// How many names are kept
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    names: u32,
    /// Every so manieth of them is followed; 0 for own names only
    #[arg(long, default_value_t = 2)]
    followed: u32,
    /// How often each is sent, in hours
    #[arg(long, default_value_t = 4.0)]
    interval_hours: f64,
    /// For how many days
    #[arg(long, default_value_t = 1.0)]
    days: f64,
    /// How many of them another node resolves every hour
    #[arg(long, default_value_t = 20)]
    samples: u32,
    /// Servers do not come and go
    #[arg(long)]
    no_churn: bool,
    /// The share of servers that lose what they keep when they go, because others come in their place
    #[arg(long, default_value_t = Churn::default().replaced)]
    replaced: f64,
    /// How many names go-classic publishes for comparison
    #[arg(long, default_value_t = 100)]
    classic: u32,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub(crate) fn run(args: &Args) -> ExitCode {
    let churn = (!args.no_churn).then(|| Churn { replaced: args.replaced, ..Churn::default() });
    let setting = Setting {
        servers: Servers { churn, ..Servers::new(args.servers).dead(args.dead) },
        links: Links::default(),
        names: args.names,
        followed: args.followed,
        interval: Duration::from_secs_f64(args.interval_hours * 3600.0),
        time: Duration::from_secs_f64(args.days * 86_400.0),
        samples: args.samples,
    };
    println!(
        "{} names in {} servers, each every {} h, for {} days, seed {}",
        args.names, args.servers, args.interval_hours, args.days, args.seed
    );
    let begun = Instant::now();
    let mut before = None;
    let mut memory = None;
    let loaded = |done: bool| match done {
        false => before = resident(),
        true => memory = resident().zip(before).map(|(after, before)| (after.saturating_sub(before)) * 1024),
    };
    println!("round      sent  failed       PUTs    others  lookups    dials  dialled  sweeping  busiest 1 % / mean");
    let told = |n: usize, round: &Round| {
        let burst = round.peak as f64 * 100.0 / round.puts.max(1) as f64;
        println!(
            "{n:>5} {:>9} {:>7} {:>10} {:>9} {:>8} {:>8} {:>8} {:>9}  {burst:.2}",
            round.sent,
            round.failed,
            round.puts,
            round.others,
            round.lookups,
            round.dials,
            round.dialled,
            round.sweeping
        );
    };
    let kept = keep(&setting, args.seed, loaded, told);
    let at = |share: f64| kept.holders.get((kept.holders.len() as f64 * share) as usize).copied().unwrap_or_default();
    println!("resolved by another node: {}, found nothing: {}", kept.resolves, kept.missed);
    for (failure, count) in kept.failures.iter().take(MAX_FAILURES) {
        println!("{count} times: {failure}");
    }
    println!(
        "holders among the 20 nearest: {} at least, {} at p1, {} at p50, of {} looked at",
        at(0.0),
        at(0.01),
        at(0.5),
        kept.holders.len()
    );
    if let Some(memory) = memory {
        // The simulated disk and the keys are there before the node is.
        let each = memory / u64::from(args.names);
        println!("memory of the node: {each} bytes a name, its record of {} bytes included", kept.record);
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!("{} events in {seconds:.0} s, {} MB at the peak", kept.events, peak().unwrap_or_default() / 1024);
    if args.classic > 0 {
        let each = one_by_one(Classic::Go, &setting, args.seed, args.classic).as_secs_f64();
        let names = setting.interval.as_secs_f64() / each;
        println!("go-classic, one after the other: {each:.2} s a name, {names:.0} names in {} h", args.interval_hours);
    }
    ExitCode::SUCCESS
}
