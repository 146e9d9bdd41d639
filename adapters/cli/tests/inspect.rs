//! `ipns inspect` over the project's vectors and over rubbish.
#![allow(clippy::panic, clippy::print_stderr, clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use std::io::Write;
use std::process::Stdio;

use serde_json::Value as Json;
use support::{Said, material, program};

fn inspect(args: &[&str], input: &[u8]) -> Said {
    let mut child = program()
        .args(["inspect", "-", "--json"])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    Said::from(child.wait_with_output().unwrap())
}

#[test]
fn the_program_says_what_the_manifest_says() {
    let manifest: Vec<Json> =
        serde_json::from_slice(&std::fs::read(material("vectors/manifest.json")).unwrap()).unwrap();
    // All rows are checked in-process by the conformance tests; every fifth also as a process.
    for row in manifest.iter().step_by(5) {
        let text = |key: &str| row[key].as_str().unwrap();
        let bytes = std::fs::read(material("vectors").join(text("file"))).unwrap();
        let said = inspect(&["--name", text("name"), "--at", text("at")], &bytes);
        let found = said.json();
        let expect = &row["expect"];
        assert_eq!(found["valid"], expect["valid"], "{}: {}", text("file"), said.stdout);
        assert_eq!(said.code, if expect["valid"] == true { 0 } else { 4 }, "{}", text("file"));
        if let Some(code) = expect["error"].as_str() {
            assert_eq!(found["error"]["code"], code, "{}", text("file"));
        } else {
            for key in ["value", "sequence", "ttl_ns", "validity", "validity_type", "v1", "public_key", "metadata"] {
                assert_eq!(found[key], expect[key], "{} {key}", text("file"));
            }
        }
    }
}

#[test]
fn rubbish_is_told_and_nothing_breaks() {
    for input in [&b""[..], b"\0", b"nonsense", &[0xff; 300], &[0x4a; 20_000]] {
        let said = inspect(&[], input);
        assert_eq!(said.code, 4, "{}", said.stderr);
        assert_eq!(said.json()["valid"], false);
        assert!(!said.stderr.contains("panicked"), "{}", said.stderr);
    }
}
