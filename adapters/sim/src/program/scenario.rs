//! `ipns-sim run`: a scenario from a file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use ipns_sim::measure::{Setting, Strategy};
use ipns_sim::{Churn, Links, Servers};
use serde::Deserialize;

use super::compare::{LOST, strategy};
use super::row::{HEAD, Row};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A scenario, as in `scenarios/*.toml`; today's public DHT if none is given
    scenario: Option<PathBuf>,
    /// How many servers are up, whatever the file says
    #[arg(long)]
    servers: Option<u32>,
    /// How many worlds, whatever the file says
    #[arg(long)]
    seeds: Option<u64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print the hash of everything that happened: the same on every machine
    #[arg(long)]
    trace: bool,
}

/// A scenario's file. What it does not say is as on the public DHT.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Scenario {
    about: String,
    servers: Option<u32>,
    stale_far: Option<f64>,
    stale_near: Option<f64>,
    lost: Option<usize>,
    /// Whether engines publish with keys that somebody may have used before.
    used_keys: bool,
    /// Whether servers come and go, as on the public DHT.
    churn: bool,
    age_s: Option<u64>,
    rounds: Option<u32>,
    seeds: Option<u64>,
    strategies: Option<Vec<String>>,
    links: LinksFile,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct LinksFile {
    median_ms: Option<u64>,
    sigma: Option<f64>,
    regions: Option<u32>,
    abroad: Option<f64>,
    jitter: Option<f64>,
    connect_round_trips: Option<f64>,
    dead_dial_ms: Option<u64>,
    idle_s: Option<u64>,
    service_ms: Option<u64>,
    loss: Option<f64>,
    duplicates: Option<f64>,
}

impl LinksFile {
    fn links(&self) -> Result<Links, String> {
        let usual = Links::default();
        let millis = |given: Option<u64>, usual| given.map_or(usual, Duration::from_millis);
        let links = Links {
            median: millis(self.median_ms, usual.median),
            sigma: self.sigma.unwrap_or(usual.sigma),
            regions: self.regions.unwrap_or(usual.regions),
            abroad: self.abroad.unwrap_or(usual.abroad),
            jitter: self.jitter.unwrap_or(usual.jitter),
            connect_round_trips: self.connect_round_trips.unwrap_or(usual.connect_round_trips),
            dead_dial: millis(self.dead_dial_ms, usual.dead_dial),
            idle: self.idle_s.map_or(usual.idle, Duration::from_secs),
            service: millis(self.service_ms, usual.service),
            loss: self.loss.unwrap_or(usual.loss),
            duplicates: self.duplicates.unwrap_or(usual.duplicates),
        };
        let within = |what: &str, value: f64, most: f64| match (0.0..=most).contains(&value) {
            true => Ok(()),
            false => Err(format!("links.{what} is {value}, and not from 0 to {most}")),
        };
        within("sigma", links.sigma, 3.0)?;
        within("abroad", links.abroad, 100.0)?;
        within("jitter", links.jitter, 1.0)?;
        within("connect_round_trips", links.connect_round_trips, 100.0)?;
        within("loss", links.loss, 1.0)?;
        within("duplicates", links.duplicates, 1.0)?;
        Ok(links)
    }
}

impl Scenario {
    fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// A setting for each strategy, and how many worlds.
    fn settings(&self, args: &Args) -> Result<(Vec<Setting>, u64), String> {
        let usual = Servers::new(args.servers.or(self.servers).unwrap_or(10_000).max(1));
        let stale_far = self.stale_far.unwrap_or(usual.stale_far);
        let stale_near = self.stale_near.unwrap_or(usual.stale_near);
        if !(0.0..=0.9).contains(&stale_far) || !(0.0..=0.9).contains(&stale_near) {
            return Err("stale_far and stale_near are from 0 to 0.9".into());
        }
        let churn = self.churn.then(Churn::default);
        let servers = Servers { stale_far, stale_near, churn, ..usual };
        let age = Duration::from_secs(self.age_s.unwrap_or(0));
        let labels = self.strategies.clone();
        let labels = labels.unwrap_or_else(|| Strategy::ALL.map(|strategy| strategy.label().to_owned()).to_vec());
        let links = self.links.links()?;
        let setting = |label: &String| {
            let strategy = strategy(label).map_err(|error| format!("`{label}` is no strategy: {error}"))?;
            let (servers, links) = (servers.clone(), links.clone());
            let (lost, rounds, used_keys) = (self.lost.unwrap_or(LOST), self.rounds.unwrap_or(6), self.used_keys);
            Ok(Setting { servers, links, strategy, lost, used_keys, age, rounds })
        };
        let settings = labels.iter().map(setting).collect::<Result<_, String>>()?;
        Ok((settings, args.seeds.or(self.seeds).unwrap_or(20)))
    }
}

pub(crate) fn run(args: &Args) -> ExitCode {
    let scenario = args.scenario.as_deref().map_or_else(|| Ok(Scenario::default()), Scenario::read);
    let settings = scenario.and_then(|scenario| Ok((scenario.settings(args)?, scenario)));
    let ((settings, seeds), scenario) = match settings {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    let mut rows = Vec::new();
    if !args.json {
        if !scenario.about.is_empty() {
            println!("{}", scenario.about);
        }
        println!("{HEAD}");
    }
    for setting in settings {
        let row = Row::measure(&setting, seeds);
        if !args.json {
            println!("{}", row.line());
        }
        if args.trace && !args.json {
            println!("    trace {}", row.trace);
        }
        rows.push(row);
    }
    if args.json {
        println!("{}", serde_json::json!({ "about": scenario.about, "rows": rows }));
    }
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> Args {
        Args { scenario: None, servers: None, seeds: None, json: false, trace: false }
    }

    #[test]
    fn every_scenario_of_the_project_is_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let mut count = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let scenario = Scenario::read(&entry.unwrap().path()).unwrap();
            assert!(!scenario.about.is_empty());
            assert!(!scenario.settings(&args()).unwrap().0.is_empty());
            count += 1;
        }
        assert!(count >= 5, "{count}");
    }

    #[test]
    fn what_a_file_cannot_mean_is_said() {
        let settings = |text: &str| {
            let scenario: Scenario = toml::from_str(text).map_err(|error| error.to_string())?;
            scenario.settings(&args()).map(|_| ())
        };
        assert_eq!(settings(""), Ok(()));
        for (text, said) in [
            ("stale_near = 2.0", "from 0 to 0.9"),
            ("strategies = ['ipns', 'magic']", "`magic` is no strategy"),
            ("links = { loss = -1.0 }", "links.loss is -1"),
            ("server = 5", "unknown field `server`"),
        ] {
            assert!(settings(text).unwrap_err().contains(said), "{text}");
        }
    }
}
