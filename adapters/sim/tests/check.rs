//! Networks in which everything goes wrong: what must hold in them, and that a seed is one world everywhere.

use std::sync::atomic::{AtomicU64, Ordering};

use ipns_sim::check::check;

/// More of them: `IPNS_SEEDS=100000 cargo test --release -p ipns-sim --test check`, or `ipns-sim check --seeds 100000`.
const SEEDS: u64 = 2000;

#[test]
fn nothing_that_must_not_happen_does() {
    let seeds = std::env::var("IPNS_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS);
    let (next, operations, succeeded) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return;
            }
            let checked = check(seed, &mut |_, _| {});
            assert_eq!(checked.violations, [], "cargo run --release -p ipns-sim -- replay {seed}");
            operations.fetch_add(checked.operations as u64, Ordering::Relaxed);
            succeeded.fetch_add(checked.succeeded as u64, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| (0..2).for_each(|_| drop(scope.spawn(work))));
    let (operations, succeeded) = (operations.into_inner(), succeeded.into_inner());
    assert!(operations >= 15 * seeds && succeeded * 10 >= operations * 8, "{succeeded} of {operations}");
}

/// Whoever changes what the engine or the world does changes these, and says so; nothing else may.
#[test]
fn a_seed_is_the_same_world_on_every_machine() {
    let traces = [1, 2, 3].map(|seed| check(seed, &mut |_, _| {}).trace);
    assert_eq!(traces, [0x8eb6_1274_2b97_ebf7, 0x6dae_bf78_d678_5e35, 0xe20f_8c79_2f0c_0c17], "{traces:016x?}");
}
