//! The program `ipns`.

#![forbid(unsafe_code)]

mod args;
mod backend;
mod commands;
mod files;
mod identity;
mod keeper;
mod list_file;
mod output;
mod settings;
mod store;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use ipns_server::{Failure, exit};

use args::{Cli, Command, ConfigCommand};
use settings::Settings;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    log_to_stderr(cli.global.verbose);
    let json = cli.global.json;
    match run(cli) {
        Ok(status) => ExitCode::from(status),
        Err(failure) => ExitCode::from(output::failure(&failure, json)),
    }
}

/// A wrong command line is a failure like any other for those who read JSON.
fn usage(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    if error.use_stderr() && std::env::args().any(|arg| arg == "--json") {
        let message = error.render().to_string();
        let first = message.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        let _ = output::document(&serde_json::json!({ "error": { "code": "usage", "message": first } }));
    }
    ExitCode::from(if error.use_stderr() { exit::USAGE } else { 0 })
}

fn log_to_stderr(verbose: u8) {
    let default = ["warn", "info", "debug"].get(usize::from(verbose)).copied().unwrap_or("trace");
    let filter = tracing_subscriber::EnvFilter::try_from_env("IPNS_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    let color = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(color).with_writer(std::io::stderr).init();
}

fn run(cli: Cli) -> Result<u8, Failure> {
    match &cli.command {
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "ipns", &mut script);
            output::write(&script)?;
            return Ok(0);
        }
        Command::Man => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command())
                .render(&mut page)
                .map_err(|error| Failure::new(exit::FAILED, "man", error.to_string()))?;
            output::write(&page)?;
            return Ok(0);
        }
        _ => {}
    }
    let settings = Settings::load(&cli.global)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(exit::FAILED, "runtime", error.to_string()))?;
    let status = match cli.command {
        Command::Key(command) => runtime.block_on(commands::key::run(&settings, command)),
        Command::Inspect(args) => commands::inspect::run(&settings, &args),
        Command::Config(ConfigCommand::Show) => commands::config::show(&settings),
        Command::Publish(args) => runtime.block_on(commands::publish::run(&settings, args)),
        Command::Resolve(args) => runtime.block_on(commands::resolve::run(&settings, args)),
        Command::Get(args) => runtime.block_on(commands::get::run(&settings, args)),
        Command::Put(args) => runtime.block_on(commands::put::run(&settings, args)),
        Command::Follow(args) => runtime.block_on(commands::follow::run(&settings, args)),
        Command::Unfollow { names } => runtime.block_on(commands::follow::unfollow(&settings, names)),
        Command::Republish { names } => runtime.block_on(commands::republish::run(&settings, names)),
        Command::List => runtime.block_on(commands::list::run(&settings)),
        Command::Dht(command) => runtime.block_on(commands::dht::run(&settings, command)),
        Command::Store(command) => runtime.block_on(commands::store::run(&settings, command)),
        Command::Daemon(args) => runtime.block_on(commands::daemon::run(&settings, args)),
        Command::Demo(args) => runtime.block_on(commands::demo::run(&settings, &args)),
        Command::Completions { .. } | Command::Man => Ok(0),
    };
    // What a blocking resolver of host names still does must not hold up the end.
    runtime.shutdown_background();
    status
}
