//! The program `race` in a small network over short ways: what it measures is there, and all of it succeeds.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

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
        for spread in [&publish["seconds"], &publish["cost"]["requests"], &resolve["first"], &resolve["seconds"]] {
            assert!(spread["p50"].as_f64().unwrap() > 0.0 && spread["p90"].as_f64().unwrap() > 0.0, "{row}");
        }
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
    let report = race(&["ipns", "libp2p-kad"], &[]);
    assert!(report.get("runtimes").is_none(), "{report}");
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

#[test]
fn what_makes_no_sense_is_refused() {
    let twice = ["--runtimes", "tokio,tokio"];
    for wrong in [["--dead", "0.95"], ["--nodes", "1"], ["--rounds", "0"], ["--sigma", "-1"], twice] {
        let output = Command::new(env!("CARGO_BIN_EXE_race")).args(wrong).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
        assert!(String::from_utf8_lossy(&output.stderr).starts_with("error: "), "{wrong:?}");
    }
}
