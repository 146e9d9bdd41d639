//! The program `race` in a small network over short ways: what it measures is there, and all of it succeeds.

use std::process::Command;

use serde_json::Value;

#[test]
fn everyone_publishes_and_resolves_and_the_report_says_how() {
    let mut race = Command::new(env!("CARGO_BIN_EXE_race"));
    race.args(["--nodes", "20", "--dead", "0", "--rounds", "2", "--median-rtt-ms", "4", "--warm-up", "4", "--json"]);
    let output = race.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["setting"]["nodes"], &report["setting"]["rounds"]), (&20.into(), &2.into()));
    let contestants = report["contestants"].as_array().unwrap();
    let labels: Vec<&Value> = contestants.iter().map(|row| &row["contestant"]).collect();
    assert_eq!(labels, ["ipns", "libp2p-kad"]);
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
    for ratio in ["publish", "first", "resolve"] {
        assert!(report["ratio"][ratio]["p50"].as_f64().unwrap() > 0.0, "{report}");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    for wrong in [["--dead", "0.95"], ["--nodes", "1"], ["--rounds", "0"], ["--sigma", "-1"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_race")).args(wrong).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
        assert!(String::from_utf8_lossy(&output.stderr).starts_with("error: "), "{wrong:?}");
    }
}
