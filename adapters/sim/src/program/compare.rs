//! `ipns-sim compare`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ipns_sim::measure::{Setting, Strategy};
use ipns_sim::{Links, Servers};

use super::plot;
use super::row::{HEAD, Row};

/// How many of the nearest have lost a record, if it is not said: how old today's names are is not published. With 4,
/// `go-classic` does what a model of it does where a tenth is dead, 39 to 41 RPCs and 5.8 s (where a quarter is, it takes
/// 6.4 s, and 10.2 in the model); with 3, half of its reads find a 17th record and half wait for the dead.
pub(crate) const LOST: usize = 4;

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
    /// How many of the 20 nearest servers have lost a record when it is resolved: on the public DHT, 3 in the first hour
    /// and 5 in ten. With 4, `go-classic` takes as long as in a model of it
    #[arg(long, default_value_t = LOST)]
    lost: usize,
    /// Have engines publish with keys that somebody may have used before: they read the network first
    #[arg(long)]
    used_keys: bool,
    /// How many worlds of each kind
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    /// How many names are published, updated and resolved in each world
    #[arg(long, default_value_t = 6)]
    rounds: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Draw the distributions of the times into this SVG file
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if (0.0..=0.9).contains(&share) { Ok(share) } else { Err("not from 0 to 0.9".into()) }
}

pub(crate) fn strategy(label: &str) -> Result<Strategy, String> {
    let found = Strategy::ALL.into_iter().find(|strategy| strategy.label() == label);
    found.ok_or_else(|| format!("one of {}", Strategy::ALL.map(Strategy::label).join(", ")))
}

pub(crate) fn run(args: &Args) -> ExitCode {
    let begun = Instant::now();
    let mut rows = Vec::new();
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
                    used_keys: args.used_keys,
                    age: Duration::ZERO,
                    rounds: args.rounds,
                };
                let row = Row::measure(&setting, args.seeds);
                if !args.json {
                    println!("{}", row.line());
                }
                rows.push(row);
            }
        }
    }
    let (events, seconds) = (rows.iter().map(|row| row.events).sum::<u64>(), begun.elapsed().as_secs_f64());
    if args.json {
        println!("{}", serde_json::json!({ "rows": rows, "events": events, "seconds": seconds }));
    } else {
        println!("{events} events in {seconds:.1} s");
    }
    match args.plot.as_ref().map(|path| plot::draw(path, &rows)) {
        Some(Err(error)) => {
            eprintln!("error: the plot was not written: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}
