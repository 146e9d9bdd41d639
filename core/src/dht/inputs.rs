//! Any inputs at any times in any order: nothing panics, nothing grows without bound, everything ends.

use core::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::testing::{Publisher, START, peer};
use super::world::{config, info};
use super::*;
use crate::time::Now;

const SECOND: Duration = Duration::from_secs(1);
const LIFETIME: i64 = 48 * 3600;

#[derive(Debug, Clone)]
enum Input {
    Start(u8, u8),
    Answer { back: u8, what: u8, from: u32 },
    Ask(u8, u32),
    Hint(u32, bool),
    Cancel(u8),
    Wait(u64),
}

fn any_input() -> impl Strategy<Value = Input> {
    prop_oneof![
        2 => (0..7_u8, any::<u8>()).prop_map(|(what, which)| Input::Start(what, which)),
        8 => (0..40_u8, 0..12_u8, 0..5000_u32).prop_map(|(back, what, from)| Input::Answer { back, what, from }),
        3 => (0..8_u8, 0..300_u32).prop_map(|(what, from)| Input::Ask(what, from)),
        3 => (0..300_u32, any::<bool>()).prop_map(|(n, add)| Input::Hint(n, add)),
        1 => any::<u8>().prop_map(Input::Cancel),
        3 => prop_oneof![0..3000_u64, 0..300_000_000_000_u64].prop_map(Input::Wait),
    ]
}

fn apply(dht: &mut Dht, now: &mut Now, newest: u64, input: &Input) {
    let publisher = Publisher::new(1);
    let (key, record) = (Bytes::from(publisher.name().routing_key()), publisher.record(3, LIFETIME));
    let wire = |value: Bytes| ValueRecord { key: key.clone(), value, received: None };
    let peers = |from: u32, n: u32| (from..from + n).map(|n| info(n as usize)).collect::<Vec<_>>();
    let old = publisher.record(1, LIFETIME).as_bytes().clone();
    match *input {
        Input::Start(what, which) => drop(match what {
            0 => dht.get(*now, publisher.name(), Until::Probable(1e-3)),
            1 => dht.walk(*now, publisher.name()),
            2 => dht.put(*now, &record, peers(u32::from(which), 25), 10),
            3 => dht.find_peer(*now, peer(u32::from(which))),
            4 => dht.closest(*now, vec![which]),
            5 => dht.provide(*now, vec![which % 4]),
            _ => dht.find_providers(*now, vec![which], 5),
        }),
        Input::Answer { back, what, from } => {
            let closer = peers(from, 45);
            let result = match what {
                0..=2 => Ok(Response::GetValue { record: None, closer }),
                3 => Ok(Response::GetValue { record: Some(wire(record.as_bytes().clone())), closer }),
                4 => Ok(Response::GetValue { record: Some(wire(old)), closer }),
                5..=7 => Ok(Response::FindNode { closer }),
                8 => Ok(Response::PutValue { record: wire(record.as_bytes().clone()) }),
                9 => Ok(Response::GetProviders { providers: closer.clone(), closer }),
                10 => Err(RpcError::Reset),
                _ => Err(RpcError::DialFailed),
            };
            dht.on_response(*now, RpcId(newest.saturating_sub(u64::from(back))), result);
        }
        Input::Ask(what, from) => {
            let request = match what {
                0 => Request::Ping,
                1 => Request::FindNode { key },
                2 => Request::GetValue { key },
                3 => Request::PutValue { record: wire(record.as_bytes().clone()) },
                4 => Request::PutValue { record: wire(old) },
                5 => Request::AddProvider { key, providers: peers(from, 3) },
                6 => Request::GetProviders { key },
                _ => Request::PutValue { record: wire(Bytes::from_static(b"?")) },
            };
            dht.on_request(*now, InboundId(0), peer(from), &info(from as usize).addresses, request);
        }
        Input::Hint(n, true) => dht.add_peer(*now, &info(n as usize)),
        Input::Hint(n, false) => dht.remove_peer(*now, &peer(n)),
        Input::Cancel(which) => dht.cancel(QueryId(u64::from(which))),
        Input::Wait(millis) => {
            *now = now.after(Duration::from_millis(millis));
            dht.on_timeout(*now);
        }
    }
}

#[test]
fn the_end_of_time_is_no_overflow() {
    let mut dht = Dht::new(config(), [1; 32], START);
    let end = START.after(Duration::MAX);
    dht.add_peer(end, &info(2));
    dht.get(end, Publisher::new(1).name(), Until::First);
    dht.on_timeout(end);
    assert!(dht.next_timeout().is_some());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn no_input_breaks_a_node(inputs in proptest::collection::vec(any_input(), 0..150)) {
        let seeds = (0..30).map(info).collect();
        let mut now = START;
        let mut dht = Dht::new(Config { local: peer(9999), seeds, ..config() }, [1; 32], now);
        let mut newest = 0;
        let mut drain = |dht: &mut Dht| {
            let mut count = 0;
            while let Some(output) = dht.poll_output() {
                count += 1;
                if let Output::Rpc { id, .. } = output {
                    newest = id.0;
                }
            }
            (count, newest)
        };
        for input in &inputs {
            let (count, newest) = drain(&mut dht);
            prop_assert!(count < 2000, "{count} outputs of one input");
            apply(&mut dht, &mut now, newest, input);
            prop_assert!(dht.health().known <= 400 + dht.health().table);
            prop_assert!(dht.to_check.len() <= 256);
        }
        // Nobody answers any more: what is open ends by itself, and time-outs move on.
        let end = dht.next_timeout().unwrap_or_default().max(now.monotonic) + 200 * SECOND;
        while let Some(at) = dht.next_timeout().filter(|at| *at < end) {
            now = now.after(at.saturating_sub(now.monotonic));
            dht.on_timeout(now);
            drain(&mut dht);
            prop_assert!(dht.next_timeout().is_none_or(|next| next > at.min(now.monotonic) || dht.usage().rpcs > 0));
        }
        prop_assert!(dht.usage().queries <= 1, "only upkeep may still run: {:?}", dht.usage());
    }
}
