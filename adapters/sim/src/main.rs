//! The program `ipns-sim`: what a strategy costs, in numbers that anyone gets again.

mod program;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use program::{bench, compare};

/// A deterministic world for IPNS: the engine of production among thousands of simulated DHT servers.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Publishes and resolves in worlds of several sizes, shares of dead peers and seeds, and prints a table
    Compare(compare::Args),
    /// How fast the simulator is, and how large its servers are
    Bench(bench::Args),
}

fn main() -> ExitCode {
    match Args::parse().command {
        Command::Compare(args) => compare::run(&args),
        Command::Bench(args) => bench::run(&args),
    }
}
