//! `ipns-sim bench`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use ipns_sim::measure::{Setting, Strategy, measure};
use ipns_sim::{Links, Servers, World};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many servers
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    servers: u32,
}

pub(crate) fn run(args: &Args) -> ExitCode {
    let before = resident();
    let begun = Instant::now();
    let world = World::with_servers(1, Links::default(), &Servers::new(args.servers));
    let made = begun.elapsed().as_secs_f64();
    if let (Some(before), Some(after)) = (before, resident()) {
        let bytes = (after - before) * 1024;
        println!("{} servers in {made:.2} s: {} bytes each", world.nodes(), bytes / u64::from(world.nodes()));
    }
    drop(world);
    let (servers, strategy) = (Servers::new(args.servers), Strategy::Engine);
    let (links, age) = (Links::default(), Duration::ZERO);
    let setting = Setting { servers, links, strategy, lost: 0, used_keys: false, age, rounds: 30 };
    let begun = Instant::now();
    let events = measure(&setting, 1).events;
    let seconds = begun.elapsed().as_secs_f64();
    println!("{events} events in {seconds:.2} s: {:.0} events/s on one core", events as f64 / seconds);
    if let Some(peak) = peak() {
        println!("{} MB at the peak", peak / 1024);
    }
    ExitCode::SUCCESS
}

/// What this process holds in memory, in kB, where the system says so.
pub(crate) fn resident() -> Option<u64> {
    status("VmRSS:")
}

/// The most that it ever held, in kB.
pub(crate) fn peak() -> Option<u64> {
    status("VmHWM:")
}

fn status(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}
