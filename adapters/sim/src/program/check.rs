//! `ipns-sim check` and `ipns-sim replay`.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ipns_sim::check::{Checked, check};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many networks
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    from: u64,
}

#[derive(clap::Args)]
pub(crate) struct ReplayArgs {
    /// The seed, as `check` printed it
    seed: u64,
}

#[derive(Default)]
struct Sum {
    events: u64,
    operations: usize,
    succeeded: usize,
    broken: u64,
}

pub(crate) fn run(args: &Args) -> ExitCode {
    let begun = Instant::now();
    let (next, sum) = (AtomicU64::new(0), Mutex::new(Sum::default()));
    let work = || {
        loop {
            let done = next.fetch_add(1, Ordering::Relaxed);
            if done >= args.seeds {
                return;
            }
            let seed = args.from + done;
            let checked = check(seed, &mut |_, _| {});
            let Ok(mut sum) = sum.lock() else { return };
            sum.add(seed, &checked);
            if (done + 1) % 50_000 == 0 {
                println!("{} seeds in {:.0} s, {} broken", done + 1, begun.elapsed().as_secs_f64(), sum.broken);
            }
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(work);
        }
    });
    let Ok(sum) = sum.into_inner() else { return ExitCode::FAILURE };
    let (seconds, last) = (begun.elapsed().as_secs_f64(), args.from + args.seeds.saturating_sub(1));
    println!(
        "seeds {} to {last}: {} events, {} of {} operations succeeded, {} seeds broken, {seconds:.1} s",
        args.from, sum.events, sum.succeeded, sum.operations, sum.broken
    );
    if sum.broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Sum {
    fn add(&mut self, seed: u64, checked: &Checked) {
        self.events += checked.events;
        self.operations += checked.operations;
        self.succeeded += checked.succeeded;
        if let Some(first) = checked.violations.first() {
            self.broken += 1;
            println!("broken: {}: {}", first.rule, first.what);
            println!("    ipns-sim replay {seed}");
        }
    }
}

pub(crate) fn replay(args: &ReplayArgs) -> ExitCode {
    let mut tell = |at: Duration, what: String| println!("{:>10.3} s  {what}", at.as_secs_f64());
    let checked = check(args.seed, &mut tell);
    println!("{} events, trace {:016x}", checked.events, checked.trace);
    if checked.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
