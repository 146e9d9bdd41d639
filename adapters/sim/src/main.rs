//! The program `ipns-sim`: what a strategy costs, in numbers that anyone gets again.

mod program;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use program::{bench, check, compare, keep, scenario};

/// Answers of twenty peers are made and dropped all the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A deterministic world for IPNS: the engine of production among thousands of simulated DHT servers.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Publishes and resolves in the worlds of a scenario
    Run(scenario::Args),
    /// Publishes and resolves in worlds of several sizes, shares of dead peers and seeds, and prints a table
    Compare(compare::Args),
    /// Small networks in which everything goes wrong; fails when something happens that must not
    Check(check::Args),
    /// Tells what happens in the network of one seed of `check`
    Replay(check::ReplayArgs),
    /// Keeps very many names alive for days, and counts what that costs
    Keep(keep::Args),
    /// How fast the simulator is, and how large its servers are
    Bench(bench::Args),
}

fn main() -> ExitCode {
    match Args::parse().command {
        Command::Run(args) => scenario::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Replay(args) => check::replay(&args),
        Command::Keep(args) => keep::run(&args),
        Command::Bench(args) => bench::run(&args),
    }
}
