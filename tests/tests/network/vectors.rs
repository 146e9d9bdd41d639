//! Every record of the vectors, sent to a node of ours by PUT_VALUE.

use std::time::{Duration, Instant};

use ipns_core::dht::{PUBLIC_PROTOCOL, Response};
use ipns_core::record::Checks;
use ipns_core::{Name, Timestamp};
use ipns_tests::vectors;

use crate::asker::{Asker, put_bytes};
use crate::on::On;
use crate::ours::Options;

/// A refusal takes no longer: nobody waits for a time-out.
const AT_ONCE: Duration = Duration::from_millis(100);

#[tokio::test(flavor = "multi_thread")]
async fn valid_ones_are_echoed_and_the_others_refused_at_once() {
    let own = vectors::manifest().into_iter().map(|row| (row.file.clone(), row.name(), row.at(), row.bytes()));
    let all: Vec<(String, Name, Timestamp, Vec<u8>)> = own.chain(public()).collect();
    assert!((200..=256).contains(&all.len()));
    let mut asker = Asker::new(On::Tokio, PUBLIC_PROTOCOL).await;
    let (mut taken, mut refused) = (0, 0);
    for (seed, (file, name, at, bytes)) in (0..=u8::MAX).zip(all) {
        // A node of its own, which knows no other record of the name and lives at the time that the vector speaks of.
        let ours = Options { wall: Some(at), ..Options::server(seed, &[]) }.start().await;
        // The first question only connects.
        assert_eq!(asker.record(&ours.info, &name).await, None);
        let valid = Checks::at(at).verify(bytes.clone(), &name).is_ok();
        let begun = Instant::now();
        let answer = asker.ask(&ours.info, put_bytes(&name, bytes.clone().into())).await;
        let took = begun.elapsed();
        let held = asker.record(&ours.info, &name).await;
        match answer {
            Ok(Response::PutValue { record }) => {
                assert!(valid, "{file} was taken");
                assert_eq!(&record.value[..], &bytes[..], "{file}");
                // One that ends in this very moment is gone again before it can be asked for.
                let lasting = Checks::at(at + Duration::from_secs(10)).verify(bytes.clone(), &name).is_ok();
                assert!(!lasting || held.as_deref() == Some(&bytes[..]), "{file} is not served");
                taken += 1;
            }
            Err(error) => {
                assert!(!valid, "{file} was refused: {error}");
                assert!(error.code() == "rpc_reset" && held.is_none(), "{file}: {error}");
                assert!(took < AT_ONCE, "{file}: {took:?}");
                refused += 1;
            }
            Ok(other) => panic!("{file}: {other:?}"),
        }
        ours.stop().await;
    }
    assert!(taken >= 60 && refused >= 60, "{taken} {refused}");
}

/// The public ones; none where they are not to be had.
fn public() -> Vec<(String, Name, Timestamp, Vec<u8>)> {
    let Some(folder) = vectors::public() else { return Vec::new() };
    let mut found = Vec::new();
    let mut open = vec![folder];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let file = path.file_name().unwrap().to_str().unwrap().to_owned();
        let name = file.split(['_', '.']).next().unwrap_or_default().parse::<Name>();
        if let (true, Ok(name)) = (file.ends_with(".ipns-record"), name) {
            found.push((file, name, Timestamp::from_unix_secs(1_800_000_000), std::fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}
