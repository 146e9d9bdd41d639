//! The command line.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ipns_core::Timestamp;
use ipns_server::api::{FreshnessWanted, Wait};
use ipns_store::Backend;
use serde::{Deserialize, Serialize};

/// Publish names, resolve them, and serve them to others.
///
/// An IPNS name is a public key; a signed record says where it points now.
#[derive(Debug, Parser)]
#[command(
    name = "ipns",
    version,
    max_term_width = 100,
    after_help = "Exit status: 0 done, 1 failed, 2 usage, 3 not found, 4 invalid record or name,\n5 network (no router could be reached, or too few took it), 6 conflict (sequence), 7 store."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What holds for every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Where keys and records are kept [default: the platform's data directory]
    #[arg(long, global = true, env = "IPNS_HOME", value_name = "DIR")]
    pub(crate) home: Option<PathBuf>,
    /// Print JSON on stdout
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say more on stderr; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Read settings from this file [default: HOME/config.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The kind of store [default: the one that is there, or redb]; memory keeps nothing
    #[arg(long, global = true, value_name = "redb|rocksdb|memory", value_parser = Backend::from_str)]
    pub(crate) store: Option<Backend>,
    /// Where to look for records and send them: dht, a URL, a preset (delegated-ipfs.dev, ipfs.io, dweb.link), or none
    /// [default: dht and delegated-ipfs.dev]
    #[arg(long = "router", global = true, value_name = "URL|dht|none", help_heading = "Routers")]
    pub(crate) routers: Vec<String>,
    /// A DHT server to join by, an address that ends in /p2p/ and its id
    #[arg(long, global = true, value_name = "MULTIADDR", help_heading = "Routers")]
    pub(crate) bootstrap: Vec<String>,
    /// Do not join by the public DHT servers
    #[arg(long, global = true, help_heading = "Routers")]
    pub(crate) no_default_bootstrap: bool,
    /// The DHT's protocol; several are several DHTs [default: /ipfs/kad/1.0.0]
    #[arg(long = "dht-protocol", global = true, value_name = "ID", help_heading = "Routers")]
    pub(crate) dht_protocols: Vec<String>,
    /// Whether to serve the DHT; auto: a daemon does once others can reach it [default: auto]
    #[arg(long, global = true, value_enum, help_heading = "Routers")]
    pub(crate) dht_mode: Option<DhtMode>,
    /// Loopback and LAN addresses count as reachable
    #[arg(long, global = true, help_heading = "Routers")]
    pub(crate) allow_private_addrs: bool,
    /// Listen for peers here [default for a daemon: port 4009, TCP and QUIC]
    #[arg(long, global = true, value_name = "MULTIADDR", help_heading = "Routers")]
    pub(crate) listen: Vec<String>,
}

impl Global {
    /// Whether it names routers, or anything of the network behind them.
    pub(crate) fn names_network(&self) -> bool {
        let listed = [&self.routers, &self.bootstrap, &self.dht_protocols, &self.listen];
        let switched = self.no_default_bootstrap || self.allow_private_addrs || self.dht_mode.is_some();
        switched || listed.into_iter().any(|list| !list.is_empty())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DhtMode {
    Auto,
    Client,
    Server,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make, list, import and export keys
    #[command(subcommand)]
    Key(KeyCommand),
    /// Sign a value, store it and send it
    Publish(PublishArgs),
    /// Print where a name points
    Resolve(ResolveArgs),
    /// Fetch the raw record of a name
    Get(GetArgs),
    /// Store and send a raw record
    Put(PutArgs),
    /// Decode and verify a record, offline
    Inspect(InspectArgs),
    /// Keep names of others alive: a daemon looks for their newest record and sends it again and again
    Follow(FollowArgs),
    /// Keep names of others alive no more
    Unfollow {
        /// The names in any spelling
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Send kept names now; an own one that would have less than half of its lifetime left at its next turn is signed anew
    Republish {
        /// The names in any spelling, or local keys' names [default: all own and followed ones]
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
    /// The names that are kept alive, and how that goes
    List,
    /// Look inside the DHT
    #[command(subcommand)]
    Dht(DhtCommand),
    /// Run a node: the DHT, routing for others over HTTP, admin, metrics and a page
    Daemon(DaemonArgs),
    /// Publish and resolve in a private network on this machine, and show what happened
    Demo(DemoArgs),
    /// Check, compact, export, import and replace the store
    #[command(subcommand)]
    Store(StoreCommand),
    /// Settings
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print completions for a shell
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key
    Gen {
        /// Its local name
        name: String,
        /// Its type
        #[arg(long = "type", value_enum, default_value = "ed25519")]
        kind: KeyKind,
        /// Size of an RSA key, 2048 to 8192
        #[arg(long, default_value_t = 2048)]
        bits: usize,
    },
    /// List the keys and the names that they own
    List,
    /// Delete a key; nobody can update its name any more
    Rm {
        /// Local names
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Give a key another local name
    Rename {
        /// The name it has
        old: String,
        /// The name it gets
        new: String,
        /// Replace a key that has that name
        #[arg(short, long)]
        force: bool,
    },
    /// Read a key from a file in either format
    Import {
        /// Its local name
        name: String,
        /// The file; `-` is stdin
        file: PathBuf,
    },
    /// Write a key to a file; whoever has the file can update the name
    Export {
        /// Its local name
        name: String,
        /// The file, which must not exist
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
        /// The format
        #[arg(short, long, value_enum, default_value = "libp2p-protobuf-cleartext")]
        format: KeyFormat,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum KeyKind {
    Ed25519,
    Rsa,
    Secp256k1,
    Ecdsa,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum KeyFormat {
    #[value(name = "libp2p-protobuf-cleartext")]
    Protobuf,
    #[value(name = "pem-pkcs8-cleartext")]
    Pem,
}

#[derive(Debug, Args)]
pub(crate) struct PublishArgs {
    /// What the name is to point at: a path such as /ipfs/CID, or a CID
    pub(crate) value: String,
    /// The key to sign with [default: self, or the only one]
    #[arg(short, long)]
    pub(crate) key: Option<String>,
    /// How long the record is valid [default: 48h]
    #[arg(short = 't', long, value_parser = duration)]
    pub(crate) lifetime: Option<Duration>,
    /// How long resolvers may keep it [default: 5m]
    #[arg(long, value_parser = duration)]
    pub(crate) ttl: Option<Duration>,
    /// The sequence, above the newest known [default: the next]
    #[arg(long)]
    pub(crate) sequence: Option<u64>,
    /// Publish only if this is the newest sequence
    #[arg(long, value_name = "N")]
    pub(crate) if_sequence: Option<u64>,
    /// Leave out what only old readers need
    #[arg(long)]
    pub(crate) v2_only: bool,
    /// An additional signed entry; keys begin with `_` by convention
    #[arg(long, value_name = "K=V", value_parser = key_value)]
    pub(crate) metadata: Vec<(String, String)>,
    /// Succeed when the record is stored here although no router took it; a daemon sends it later
    #[arg(long)]
    pub(crate) allow_offline: bool,
    /// How many routers must take it
    #[arg(long, value_name = "any|all|N", default_value = "any", value_parser = wait)]
    pub(crate) wait: Wait,
    /// Print the name only
    #[arg(short = 'Q', long)]
    pub(crate) quieter: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ResolveArgs {
    /// The name in any spelling, or a local key's name
    pub(crate) name: String,
    /// When to stop asking
    #[arg(long, value_name = "first|probable|N", default_value = "probable", value_parser = freshness)]
    pub(crate) freshness: FreshnessWanted,
    /// Ask the routers although a fresh record is known
    #[arg(short = 'n', long)]
    pub(crate) no_cache: bool,
    /// Ask nobody
    #[arg(long)]
    pub(crate) offline: bool,
    /// Follow names that the value points to
    #[arg(short, long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    pub(crate) recursive: bool,
    /// Print every answer as it gets better
    #[arg(short, long)]
    pub(crate) stream: bool,
    /// Go on, and print every change of this name until interrupted; names that it points to are not followed
    #[arg(short, long, conflicts_with_all = ["offline", "freshness", "no_cache", "recursive"])]
    pub(crate) watch: bool,
    /// How long it may take [default: 60s; for ever with --watch]
    #[arg(long, value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct FollowArgs {
    /// The names in any spelling
    #[arg(value_name = "NAME", required_unless_present = "file")]
    pub(crate) names: Vec<String>,
    /// Read more names from a file, one a line, with # before comments; `-` is stdin
    #[arg(short, long, value_name = "FILE|-")]
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// The name in any spelling, or a local key's name
    pub(crate) name: String,
    /// Write it to a file instead of stdout
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// How long it may take [default: 60s]
    #[arg(long, value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct PutArgs {
    /// The record; `-` is stdin
    pub(crate) file: PathBuf,
    /// Whose record it is
    #[arg(long)]
    pub(crate) name: String,
    /// Send it although a newer one is known
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Succeed when the record is stored here although no router took it
    #[arg(long)]
    pub(crate) allow_offline: bool,
    /// How many routers must take it
    #[arg(long, value_name = "any|all|N", default_value = "any", value_parser = wait)]
    pub(crate) wait: Wait,
    /// Store it now, for a daemon to send it then and to keep its name alive from then on
    #[arg(long, value_name = "RFC3339", value_parser = instant, conflicts_with_all = ["force", "allow_offline", "wait"])]
    pub(crate) at: Option<Timestamp>,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// The record; `-` is stdin
    pub(crate) file: PathBuf,
    /// Verify for this name [default: the name of the embedded key]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Verify as of this instant [default: now]
    #[arg(long, value_name = "RFC3339", value_parser = instant)]
    pub(crate) at: Option<Timestamp>,
}

#[derive(Debug, Args)]
pub(crate) struct DaemonArgs {
    /// Where to listen; port 0 takes a free one [default: 127.0.0.1:8190]
    #[arg(long, value_name = "ADDR")]
    pub(crate) http: Option<std::net::SocketAddr>,
    /// Write the port to this file when ready
    #[arg(long, value_name = "FILE")]
    pub(crate) http_port_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// How many DHT servers
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u8).range(2..=100))]
    pub(crate) nodes: u8,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DhtCommand {
    /// Where a peer can be reached
    FindPeer {
        /// Its id
        peer: String,
    },
    /// The peers nearest to a key
    Closest {
        /// A CID, a peer id, or a name with /ipns/ before it
        key: String,
    },
    /// Announce that this node provides something; a daemon does so again every 22 hours
    Provide {
        /// What
        cid: String,
    },
    /// Who provides something
    FindProviders {
        /// What
        cid: String,
        /// How many are enough
        #[arg(short = 'n', long, default_value_t = 20)]
        num_providers: usize,
    },
    /// Whether a peer answers, and how fast
    Ping {
        /// Its id, or an address that ends in it
        peer: String,
    },
    /// The routing table
    Table,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Verify everything in it and count what is there; changes nothing
    Check,
    /// Give space that is no longer used back
    Compact,
    /// Write everything in it to a file that a store of any kind can import; keys are not in it
    Export {
        /// The file, which must not exist
        file: PathBuf,
    },
    /// Take what is in an exported file, unless that would take an own name back
    Import {
        /// The file
        file: PathBuf,
        /// Take own names back all the same
        #[arg(short, long)]
        force: bool,
    },
    /// Replace it by one of another kind with the same contents; the old one is kept under another name
    Migrate {
        /// The kind
        #[arg(long, value_name = "redb|rocksdb", value_parser = Backend::from_str)]
        to: Backend,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print the settings in effect
    Show,
}

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; write it as 48h, 1h30m or 300s"))
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err("write it as KEY=VALUE".into()),
    }
}

fn wait(text: &str) -> Result<Wait, String> {
    match text {
        "any" => Ok(Wait::Any),
        "all" => Ok(Wait::All),
        _ => text.parse().map(Wait::Count).map_err(|_| "write any, all or a number".into()),
    }
}

fn freshness(text: &str) -> Result<FreshnessWanted, String> {
    match text {
        "first" => Ok(FreshnessWanted::First),
        "probable" => Ok(FreshnessWanted::Probable),
        _ => text.parse().map(FreshnessWanted::Answers).map_err(|_| "write first, probable or a number".into()),
    }
}

fn instant(text: &str) -> Result<Timestamp, String> {
    Timestamp::from_str(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn recursive_is_a_flag_with_a_value() {
        let recursive =
            |args: &[&str]| match Cli::try_parse_from([&["ipns", "resolve", "x"], args].concat()).unwrap().command {
                Command::Resolve(args) => args.recursive,
                _ => panic!(),
            };
        assert!(recursive(&[]));
        assert!(recursive(&["-r"]));
        assert!(!recursive(&["--recursive=false"]));
        assert!(!recursive(&["-r=false"]));
    }

    #[test]
    fn durations_as_people_write_them() {
        for (text, seconds) in [("48h", 172_800), ("90m", 5400), ("1h30m", 5400), ("300s", 300), ("5m", 300)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert!(duration("soon").is_err());
    }
}
