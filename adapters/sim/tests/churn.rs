//! Whether servers come and go as it was measured.
#![allow(clippy::panic, clippy::unwrap_used, reason = "tests fail by panicking")]

use std::time::Duration;

use ipns_core::dht::Key;
use ipns_core::key::{KeyType, SecretKey, Signer};
use ipns_core::record::{Checks, RecordBuilder};
use ipns_core::{Timestamp, Verified};
use ipns_sim::{Churn, Classic, Links, Servers, World};

const HOUR: Duration = Duration::from_secs(3600);
const NAMES: u8 = 40;

fn record(seed: u8) -> Verified {
    let key = SecretKey::generate(KeyType::Ed25519, [seed; 32], 0).unwrap();
    let builder = RecordBuilder::new("/ipfs/bafkqaaa".parse().unwrap(), 1, Timestamp::from_unix_secs(4_000_000_000));
    Checks::at(Timestamp::MIN).verify_record(builder.sign(&key).unwrap(), &key.public_key().to_name()).unwrap()
}

/// Of the 20 servers nearest to a name, how many hold its record, in the mean.
fn holders(world: &World, records: &[Verified]) -> f64 {
    let held = records.iter().map(|record| {
        let nearest = world.closest(&Key::of(&record.name().routing_key()), 20);
        nearest.into_iter().filter(|server| world.holds(*server, record.name())).count()
    });
    held.sum::<usize>() as f64 / records.len() as f64
}

#[test]
fn holders_are_lost_as_fast_as_it_was_measured() {
    let servers = Servers { churn: Some(Churn::default()), ..Servers::new(3_500).dead(0.10) };
    let mut world = World::with_servers(1, Links::default(), &servers);
    let records: Vec<Verified> = (1..=NAMES).map(record).collect();
    let mut age = Vec::new();
    for record in &records {
        let node = world.add_classic(Classic::Go);
        let op = world.classic_publish(node, record.clone());
        world.until_finished(op, HOUR);
        age.push(holders(&world, core::slice::from_ref(record)));
    }
    let first = age.iter().sum::<f64>() / age.len() as f64;
    world.run_for(HOUR);
    let hour = holders(&world, &records);
    world.run_for(9 * HOUR);
    let ten = holders(&world, &records);
    // Measured were 17 of 20 after an hour, and 15 after ten.
    let left = |holders: f64| 20.0 * holders / first;
    assert!((16.0..=18.0).contains(&left(hour)), "{first} {hour}");
    assert!((14.0..=16.0).contains(&left(ten)), "{first} {ten}");
}
