//! kill -9 at any moment of a publish, and the next publish has a higher sequence.
#![allow(clippy::panic, clippy::print_stderr, clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ipns_core::Record;
use support::{Answer, Home, scripted};

#[test]
fn no_sequence_is_used_twice_whenever_the_program_is_killed() {
    // What the router was ever sent: sequence and value.
    let sent: Arc<Mutex<Vec<(u64, String)>>> = Arc::default();
    let seen = sent.clone();
    let router = scripted(move |request| {
        if request.method == "GET" {
            return Answer::status(404);
        }
        let record = Record::decode(request.body).unwrap();
        seen.lock().unwrap().push((record.sequence(), record.value().unwrap().to_string()));
        Answer::status(200)
    });
    let home = Home::new(&[&router]);
    home.key("site");
    let mut highest = home.json(&["publish", "/ipfs/bafkqaaa/first"])["sequence"].as_u64().unwrap();
    for round in 0..40_u32 {
        let value = format!("/ipfs/bafkqaaa/{round}");
        let mut child = home.command(&["publish", &value]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // The moment of the kill is the test's input: from before the store opens to after the record is sent.
        std::thread::sleep(Duration::from_micros(u64::from(round) * 1_700));
        child.kill().unwrap();
        child.wait().unwrap();
        if round % 4 == 3 {
            let next = home.json(&["publish", &format!("/ipfs/bafkqaaa/after-{round}")])["sequence"].as_u64().unwrap();
            assert!(next > highest, "{next} after {highest}");
            highest = next;
        }
    }
    let sent = sent.lock().unwrap();
    for (index, (sequence, value)) in sent.iter().enumerate() {
        for (earlier, other) in &sent[..index] {
            assert!(earlier < sequence || (earlier == sequence && other == value), "{sent:?}");
        }
    }
}
