//! The program `race`: this engine against libp2p-kad, in one network of servers of libp2p-kad, js-libp2p or Kubo at the
//! distances of the internet, some of them dead.
//!
//! With `--peers js` or `--peers kubo` the servers are those of js-libp2p or of Kubo, in a process of their own: nobody
//! counts then what they are asked.
//!
//! All of it is one process on loopback. Before each server stands a proxy that takes as long as the internet would, and
//! its address is the only one that is known. A dead server takes connections and never answers, so that whoever dials
//! it waits as long as it waits for anybody.
//!
//! Two nodes race for each contestant, one publishes and one resolves:
//!
//! - `ipns`: this engine's DHT client with the defaults of `NodeConfig`. Connections stay open for 60 s when idle, 192 of
//!   them at most; a dial may take 5 s; a publish is a success with 10 acks. With `--runtimes tokio,smol,async-std` there
//!   is one on each of these runtimes, all in the same network, and the report says how they compare to the first.
//! - `libp2p-kad`: `kad::Behaviour` in a client's swarm with the defaults of libp2p, by the bridge of `ipns-libp2p`.
//!   Connections stay open for 10 s when idle; a dial and a question may take 10 s each, a query 60 s; the table is
//!   refreshed every 5 min. A put waits for all 20 peers. A get ends with 16 records, where kad of itself would ask on
//!   (`--kad-records 0`). Its publisher looks for no newer record first, unless it is told to by `--kad-reads`: that is
//!   less work than this engine does, and what applications of libp2p-kad do today.
//!
//! All join through the same servers and then look up the same random keys: routing tables, and what each knows of round
//! trips and of dead peers, are warm. Names are fresh: keys were made just now, as this engine is told
//! ([`new_key`](ipns_core::engine::Publish::new_key)), and no record is known to anyone, until, with `--updates`, each is
//! published once more. Operations run one at a time, and the next begins when nothing of the last is under way.
//! Connections are as each side has kept them, or, with `--cold`, all closed before each operation, as it is in a network
//! of thousands where hardly any server has been met of late. A network of a few hundred is small: routing tables know
//! much of it, and more of its dead the longer it runs.
//!
//! All of it goes over TCP. Servers, proxies and libp2p-kad run on tokio, whose threads a contestant on tokio shares; smol
//! and async-std have threads of their own, as many as by default (`SMOL_THREADS`, `ASYNC_STD_THREAD_COUNT`).
//!
//! A connection to a server is four sockets: `ulimit -n` must allow some thousands.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program prints its results, and how far it is")]

mod contestant;
mod cpu;
mod dice;
mod failure;
mod kad;
mod network;
mod pipe;
mod proxy;
mod report;
mod rounds;
mod runtimes;
mod shares;
mod theirs;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;

use contestant::{Contestant, Kind};
use dice::Dice;
use failure::Failure;
use network::{Network, Plan, Tables};
use report::{Further, Ratio, Report, Row, Setting};
use rounds::{Lap, Rounds};
use runtimes::Runtimes;
use theirs::Make;

/// Publishes and resolves with this engine and with libp2p-kad in the same network of real servers, and compares.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Whose servers the network is made of; js and kubo as `tests/peers` has them
    #[arg(long, value_enum, default_value = "kad")]
    peers: Make,
    /// How many servers live
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(4..=2_000))]
    nodes: u32,
    /// The share of all servers that are dead and still in routing tables, from 0 to 0.9
    #[arg(long, default_value = "0.10", value_parser = share)]
    dead: f64,
    /// The runtimes that this engine races on, each as a contestant of its own: some of tokio, smol and async-std
    #[arg(long, default_value = "tokio", value_name = "LIST")]
    runtimes: Runtimes,
    /// How many names each contestant publishes and resolves in each network
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rounds: u32,
    /// In how many networks, one after the other, each of a seed of its own, with nodes that know nothing of the last
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    networks: u64,
    /// Leave libp2p-kad out, which takes most of the time, to compare runtimes
    #[arg(long)]
    without_kad: bool,
    /// What the first network, its round trips and the names are drawn from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The median of the round trips to servers
    #[arg(long, default_value_t = 130, value_parser = clap::value_parser!(u64).range(0..=10_000))]
    median_rtt_ms: u64,
    /// The deviation of the logarithm of round trips, from 0 to 2
    #[arg(long, default_value = "0.6", value_parser = deviation)]
    sigma: f64,
    /// How many random keys each node looks up before the race
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    warm_up: u32,
    /// Close all connections before each operation; not among servers of js or Kubo, which dial when they like
    #[arg(long)]
    cold: bool,
    /// Publish each name once more before it is resolved, and measure that apart
    #[arg(long)]
    updates: bool,
    /// Let libp2p-kad, too, look for a newer record before it publishes
    #[arg(long)]
    kad_reads: bool,
    /// After how many records a get of libp2p-kad is ended: as many as the bridge's default; 0 for all that kad asks for
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    kad_records: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn share(text: &str) -> Result<f64, String> {
    within(text, 0.9)
}

fn deviation(text: &str) -> Result<f64, String> {
    within(text, 2.0)
}

fn within(text: &str, most: f64) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if (0.0..=most).contains(&number) { Ok(number) } else { Err(format!("not from 0 to {most}")) }
}

/// By how many servers the contestants join.
const ENTRANCES: usize = 4;
/// The purposes of dice, beside those of the network.
const ENTRANCE: u64 = 11;
const CONTESTANTS: u64 = 12;
const NAMES: u64 = 13;
const WARM_UP: u64 = 14;

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let report = match run(&args).await {
        Ok(report) => report,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    if args.json {
        println!("{}", serde_json::json!(report));
    } else {
        println!("{report}");
    }
    ExitCode::SUCCESS
}

async fn run(args: &Args) -> Result<Report, Failure> {
    if args.cold && args.peers != Make::Kad {
        return Err("--cold is for --peers kad".into());
    }
    let ours = args.runtimes.labelled().map(|(on, label)| Kind::Ipns { on, label });
    let kad = Kind::Kad { reads: args.kad_reads, records: args.kad_records as usize };
    let kinds: Vec<Kind> = ours.chain((!args.without_kad).then_some(kad)).collect();
    let mut all = All { laps: kinds.iter().map(|_| Vec::new()).collect(), ..All::default() };
    for seed in (args.seed..).take(args.networks as usize) {
        race_in_one(args, seed, &kinds, &mut all).await?;
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    let rows: Vec<Row> = kinds.iter().zip(&all.laps).map(|(kind, laps)| Row::of(kind.label(), laps)).collect();
    let (ours, kad) = rows.split_at(args.runtimes.len());
    let [first, further @ ..] = ours else { return Err("nobody races".into()) };
    Ok(Report {
        setting: Setting {
            peers: args.peers,
            nodes: args.nodes as usize,
            dead: args.dead,
            dead_entries: all.tables.iter().map(|tables| tables.dead).sum::<f64>() / args.networks as f64,
            table_entries: all.tables.iter().map(|tables| tables.entries).sum::<usize>() / args.networks as usize,
            networks: args.networks,
            rounds: args.rounds as usize,
            seed: args.seed,
            median_rtt_ms: args.median_rtt_ms,
            sigma: args.sigma,
            cold: args.cold,
            kad_reads: args.kad_reads,
            kad_records: args.kad_records,
        },
        ratio: kad.first().map(|kad| Ratio::of(kad, first)),
        runtimes: further.iter().map(|row| Further::of(row, first)).collect(),
        contestants: rows,
        cpu: all.cpu.map(|used| used.as_secs_f64() / all.elapsed.as_secs_f64() / cores),
        seconds: all.elapsed.as_secs_f64(),
    })
}

/// What came of all networks.
struct All {
    /// In the order of the contestants.
    laps: Vec<Vec<Lap>>,
    tables: Vec<Tables>,
    /// What the races took, and what of the processors.
    elapsed: Duration,
    cpu: Option<Duration>,
}

impl Default for All {
    fn default() -> Self {
        Self { laps: Vec::new(), tables: Vec::new(), elapsed: Duration::ZERO, cpu: Some(Duration::ZERO) }
    }
}

async fn race_in_one(args: &Args, seed: u64, kinds: &[Kind], all: &mut All) -> Result<(), Failure> {
    let plan = Plan {
        peers: args.peers,
        nodes: args.nodes as usize,
        dead: args.dead,
        median: Duration::from_millis(args.median_rtt_ms),
        sigma: args.sigma,
        seed,
    };
    let network = Network::start(&plan).await?;
    all.tables.push(network.tables().await?);
    network.lengthen();
    let entrances = network.entrances(ENTRANCES, &mut Dice::new(seed, ENTRANCE));
    let mut dice = Dice::new(seed, CONTESTANTS);
    let mut contestants = Vec::new();
    for &kind in kinds {
        let begun = Instant::now();
        let warm_up = (args.warm_up as usize, Dice::new(seed, WARM_UP));
        contestants.push(Contestant::start(kind, args.peers.protocol(), &entrances, warm_up, &mut dice).await?);
        eprintln!("{} is warm after {:.1} s", kind.label(), begun.elapsed().as_secs_f64());
    }
    let (begun, used) = (Instant::now(), cpu::used());
    let mut names = Dice::new(seed, NAMES);
    let rounds = Rounds { count: args.rounds as usize, cold: args.cold, updates: args.updates };
    let laps = rounds::race(&network, &contestants, rounds, &mut names).await?;
    all.elapsed += begun.elapsed();
    let used = used.zip(cpu::used()).map(|(before, after)| after - before);
    all.cpu = all.cpu.zip(used).map(|(before, now)| before + now);
    for (of_all, laps) in all.laps.iter_mut().zip(laps) {
        of_all.extend(laps);
    }
    Ok(())
}
