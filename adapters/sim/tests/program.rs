//! The program `ipns-sim`, as its users call it.
#![cfg(feature = "program")]
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::process::{Command, Output};

use serde_json::Value;

fn sim(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ipns-sim")).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

const SMALL: [&str; 7] = ["compare", "--servers", "300", "--seeds", "2", "--rounds", "2"];

#[test]
fn what_is_compared_is_measured_and_the_same_each_time() {
    let compare = || {
        let output = sim(&[&SMALL[..], &["--strategies", "ipns,go-classic", "--json"]].concat());
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let report = compare();
    let rows = report["rows"].as_array().unwrap();
    let strategies: Vec<&Value> = rows.iter().map(|row| &row["strategy"]).collect();
    assert_eq!(strategies, ["ipns", "go-classic"]);
    for row in rows {
        let number = |path: &str| row.pointer(path).unwrap().as_f64().unwrap();
        for times in ["/publish", "/update", "/resolve", "/first"] {
            let (half, most) = (number(&format!("{times}/p50")), number(&format!("{times}/p99")));
            assert!(0.0 < half && half <= most && most < 60.0, "{times} {row}");
        }
        for share in ["/publish_ok", "/update_ok", "/resolve_ok"] {
            assert_eq!(number(share), 1.0, "{row}");
        }
        assert!(number("/acks/p50") >= 10.0 && number("/update_acks/p50") >= 10.0, "{row}");
        assert!(number("/publish_rpcs/p50") >= 20.0 && number("/publish_bytes/p50") > 1000.0, "{row}");
        assert_eq!((number("/rounds"), number("/missed")), (4.0, 0.0));
        assert_eq!(row["claimed"].is_null(), row["strategy"] == "go-classic", "who claims nothing says so");
    }
    let traces = |report: &Value| report["rows"].as_array().unwrap().iter().map(|row| row["trace"].clone()).collect();
    let (once, again): (Vec<Value>, Vec<Value>) = (traces(&report), traces(&compare()));
    assert_eq!(once, again);
}

#[test]
fn a_key_that_may_have_been_used_is_read_for_before_it_is_published_with() {
    let publish = |flags: &[&str]| {
        let output = sim(&[&SMALL[..], &["--strategies", "ipns-warm", "--json"], flags].concat());
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let row = &report["rows"][0];
        [row["publish"]["p50"].as_f64().unwrap(), row["update"]["p50"].as_f64().unwrap()]
    };
    let ([new, update], [used, _]) = (publish(&[]), publish(&["--used-keys"]));
    assert!(new < 1.2 * update && used > 1.3 * new, "{new} {update} {used}");
}

#[test]
fn a_table_has_a_line_for_each_strategy_and_a_plot_a_curve() {
    let folder = tempfile::tempdir().unwrap();
    let svg = folder.path().join("curves.svg");
    let output = sim(&[&SMALL[..], &["--strategies", "ipns,ipns-warm", "--plot", svg.to_str().unwrap()]].concat());
    assert!(output.status.success(), "{output:?}");
    let table = text(&output.stdout);
    let widths: Vec<usize> = table.lines().take(3).map(|line| line.chars().count()).collect();
    assert_eq!(widths, [widths[0]; 3], "{table}");
    assert!(table.lines().last().unwrap().contains(" events in "), "{table}");
    let svg = std::fs::read_to_string(svg).unwrap();
    for word in ["publish", "update", "resolve", "ipns, 300 servers, 10 % dead", "ipns-warm, 300 servers", "seconds"] {
        assert!(svg.contains(word), "{word}");
    }
    let nowhere = folder.path().join("none/curves.svg");
    let output = sim(&[&SMALL[..], &["--strategies", "ipns", "--plot", nowhere.to_str().unwrap()]].concat());
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).starts_with("error: the plot was not written"), "{output:?}");
}

#[test]
fn a_scenario_is_run_as_its_file_says() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("few.toml");
    let scenario = "about = 'few servers'\nservers = 200\nrounds = 1\nseeds = 1\nlost = 0\nstrategies = ['ipns']\n";
    std::fs::write(&file, scenario).unwrap();
    let output = sim(&["run", file.to_str().unwrap(), "--trace"]);
    let told = text(&output.stdout);
    assert!(output.status.success() && told.starts_with("few servers\n") && told.contains("    trace "), "{output:?}");
    std::fs::write(&file, "servers = 'many'").unwrap();
    let output = sim(&["run", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).starts_with("error: "), "{output:?}");
}

#[test]
fn seeds_are_checked_and_replayed() {
    let output = sim(&["check", "--seeds", "2", "--from", "5"]);
    let told = text(&output.stdout);
    assert!(
        output.status.success() && told.starts_with("seeds 5 to 6: ") && told.contains(" 0 seeds broken"),
        "{told}"
    );
    let [once, again] = [(); 2].map(|()| text(&sim(&["replay", "5"]).stdout));
    assert!(once.contains("the faults end") && once.lines().last().unwrap().contains(", trace "), "{once}");
    assert_eq!(once, again);
}

#[test]
fn the_bench_says_what_it_took() {
    let output = sim(&["bench", "--servers", "400", "--events", "20000"]);
    let told = text(&output.stdout);
    let [made, engines, alone, peak] = told.lines().collect::<Vec<_>>()[..] else { panic!("{output:?}") };
    assert!(output.status.success() && made.contains(" bytes each") && peak.ends_with(" MB at the peak"), "{told}");
    for (line, what) in [(engines, " events with engines in "), (alone, " events of the simulator alone in ")] {
        assert!(line.contains(what) && line.contains(" events/s on one core, "), "{line}");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    for wrong in [
        &["compare", "--dead", "0.95"][..],
        &["compare", "--servers", "0"],
        &["compare", "--strategies", "magic"],
        &["replay", "first"],
        &["run", "/none.toml"],
    ] {
        let output = sim(wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
        assert!(text(&output.stderr).starts_with("error: "), "{wrong:?}");
    }
}
