//! `ipns-sim bench`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use ipns_sim::measure::{Setting, Strategy, measure_in, world};
use ipns_sim::{Links, Servers, World};

/// How many clients walk, and how many walks each is on.
const WALKERS: usize = 3;
const WALKS: usize = 32;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many servers
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    servers: u32,
    /// How many events the simulator alone is timed for
    #[arg(long, default_value_t = 2_000_000)]
    events: u64,
}

pub(crate) fn run(args: &Args) -> ExitCode {
    with_engines(args);
    alone(args);
    if let Some(peak) = peak() {
        println!("{} MB at the peak", peak / 1024);
    }
    ExitCode::SUCCESS
}

/// How fast a world is with engines in it. Its making is not timed.
fn with_engines(args: &Args) {
    let (servers, strategy) = (Servers::new(args.servers), Strategy::Engine);
    let setting = Setting {
        servers,
        links: Links::default(),
        strategy,
        lost: 0,
        used_keys: false,
        age: Duration::ZERO,
        rounds: 30,
    };
    let before = resident();
    let begun = Instant::now();
    let mut world = world(&setting, 1);
    let made = begun.elapsed().as_secs_f64();
    if let (Some(before), Some(after)) = (before, resident()) {
        let bytes = after.saturating_sub(before) * 1024;
        println!("{} servers in {made:.2} s: {} bytes each", world.nodes(), bytes / u64::from(world.nodes()));
    }
    let begun = Instant::now();
    measure_in(&mut world, &setting, 1);
    told("with engines", begun, &world);
}

/// How fast it is when those who ask do next to nothing themselves.
fn alone(args: &Args) {
    let mut world = World::with_servers(1, Links::default(), &Servers::new(args.servers));
    let begun = Instant::now();
    for _ in 0..WALKERS {
        world.add_walker(WALKS);
    }
    while world.events() < args.events {
        world.run_for(Duration::from_secs(1));
    }
    told("of the simulator alone", begun, &world);
}

fn told(what: &str, begun: Instant, world: &World) {
    let (events, seconds) = (world.events(), begun.elapsed().as_secs_f64());
    let (events_a_second, questions) = (events as f64 / seconds, world.asked() as f64 / seconds);
    println!(
        "{events} events {what} in {seconds:.2} s: {events_a_second:.0} events/s on one core, {questions:.0} questions/s"
    );
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
