//! A node that keeps names alive in a large DHT.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::time::Duration;

use ipns_sim::keep::{Kept, Round, Setting, keep, one_by_one};
use ipns_sim::{Churn, Classic, Links, Servers};

const HOUR: Duration = Duration::from_secs(3600);

fn setting(names: u32) -> Setting {
    Setting {
        servers: Servers { churn: Some(Churn::default()), ..Servers::new(500).dead(0.10) },
        links: Links::default(),
        names,
        followed: 2,
        interval: 4 * HOUR,
        time: 12 * HOUR,
        samples: 10,
    }
}

fn kept(names: u32) -> (Kept, Round) {
    let kept = keep(&setting(names), 5, |_| {}, |_, _| {});
    let last = *kept.rounds.last().unwrap();
    (kept, last)
}

#[test]
fn every_name_is_sent_once_a_round_and_found_by_others_although_servers_come_and_go() {
    // Of so many followed names none is looked up but when it is sent.
    let names = 8000;
    let (kept, last) = kept(names);
    assert_eq!(kept.rounds.len(), 3);
    assert_eq!(kept.failures, [].into());
    assert!(last.sent.abs_diff(names.into()) <= 10, "{last:?}");
    assert!(last.puts <= 20 * last.sent, "{last:?}");
    assert!(kept.rounds.iter().all(|round| round.lookups <= 200), "the table's own upkeep: {:?}", kept.rounds);
    assert!(last.peak * 100 <= last.puts * 2, "no burst: {last:?}");
    assert!(kept.resolves >= 50 && kept.missed == 0, "{kept:?}");
    assert!(kept.holders[0] >= 2 && kept.holders[kept.holders.len() / 2] >= 12, "{:?}", kept.holders);
}

#[test]
fn each_server_is_dialled_once_a_round_although_its_region_takes_minutes() {
    let servers = Servers { churn: Some(Churn::default()), ..Servers::new(5_000).dead(0.10) };
    let setting = Setting { servers, interval: 8 * HOUR, time: 16 * HOUR, followed: 0, ..setting(8_000) };
    let kept = keep(&setting, 5, |_| {}, |_, _| {});
    assert_eq!((kept.rounds.len(), kept.failures.len()), (2, 0));
    // In the first they are sent in another order, because the size of the network is not known yet.
    for round in &kept.rounds[1..] {
        assert!(round.sent.abs_diff(8_000) <= 20, "each once: {round:?}");
        assert!(round.peak * 100 <= round.puts * 2, "no burst: {round:?}");
        assert!(round.sweeping <= round.dialled * 12 / 10, "{round:?}");
    }
    assert!(kept.resolves >= 60 && kept.missed == 0, "{kept:?}");
}

#[test]
fn one_after_the_other_takes_seconds_a_name() {
    let each = one_by_one(Classic::Go, &setting(1), 5, 10);
    assert!((2.0..15.0).contains(&each.as_secs_f64()), "{each:?}");
}
