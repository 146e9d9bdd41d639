//! Whole sequences of inputs, times and replies into an engine with an HTTP router and two DHTs: nothing panics, nothing
//! grows without bound, and every operation ends.
#![no_main]

use std::collections::VecDeque;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use ipns_core::dht::{self, InboundId, PeerId, PeerInfo, Request, Response, RpcError, RpcId, ValueRecord};
use ipns_core::engine::{
    Config, Engine, Enough, Input, Keeping, OpId, Output, Publish, Put, Resolve, SignId, StoreAction, StoreCommand,
    StoreReply,
};
use ipns_core::key::{KeyType, SecretKey, SignError, Signer};
use ipns_core::record::RecordBuilder;
use ipns_core::routing::http::client::Endpoint;
use ipns_core::routing::{HttpError, HttpId, Inquiry, NetCommand, NetEvent, Router, RouterId};
use ipns_core::store::StoreError;
use ipns_core::{Name, Now, Timestamp};
use libfuzzer_sys::fuzz_target;

/// What is made once: keys are dear.
struct World {
    keys: Vec<SecretKey>,
    records: Vec<(Name, Bytes)>,
    peers: Vec<PeerInfo>,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let keys: Vec<SecretKey> =
            (1..4).map(|seed| SecretKey::generate(KeyType::Ed25519, [seed; 32], 0).unwrap()).collect();
        let mut records = Vec::new();
        for key in &keys {
            let name = key.public_key().to_name();
            for (sequence, eol) in [(0, 2_000_000_000), (3, 2_000_000_000), (7, 1_900_000_000), (9, 5)] {
                let value = format!("/ipfs/bafkqaaa/{sequence}").parse().unwrap();
                let builder = RecordBuilder::new(value, sequence, Timestamp::from_unix_secs(eol));
                records.push((name, builder.sign(key).unwrap().as_bytes().clone()));
            }
            records.push((name, Bytes::from_static(b"no record")));
        }
        let peer = |n: u16| {
            let id = PeerId::from_bytes(&[&[0x12, 0x20][..], &[n as u8; 30], &n.to_be_bytes()].concat()).unwrap();
            let address = format!("/ip4/{}.{}.0.1/tcp/1", 11 + n % 200, n / 200).parse().unwrap();
            PeerInfo { id, addresses: vec![address] }
        };
        World { keys, records, peers: (0..400).map(peer).collect() }
    })
}

/// The bytes of the fuzzer as a stream of choices.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn of<'b, T>(&mut self, all: &'b [T]) -> &'b T {
        &all[usize::from(self.byte()) % all.len()]
    }

    fn peers(&mut self) -> Vec<PeerInfo> {
        let (from, count) = (usize::from(self.byte()), usize::from(self.byte() % 48));
        world().peers[from..].iter().take(count).cloned().collect()
    }
}

/// What the engine waits for.
#[derive(Default)]
struct Open {
    http: VecDeque<HttpId>,
    asks: VecDeque<(RouterId, RpcId, Request)>,
    stores: VecDeque<StoreCommand>,
    signs: VecDeque<(SignId, Name, Vec<u8>)>,
    ops: Vec<OpId>,
    /// They alone go on for ever.
    watches: Vec<OpId>,
}

fn drain(engine: &mut Engine, open: &mut Open) {
    let mut outputs = 0;
    while let Some(output) = engine.poll_output() {
        outputs += 1;
        assert!(outputs < 5_000, "one input, {outputs} outputs");
        match output {
            Output::Http { id, .. } => open.http.push_back(id),
            Output::Net(NetCommand::Ask { router, id, request, .. }) => open.asks.push_back((router, id, request)),
            Output::Store(command) => open.stores.push_back(command),
            Output::Sign { id, name, message } => open.signs.push_back((id, name, message)),
            _ => {}
        }
    }
}

fn response(choices: &mut Choices<'_>, request: &Request) -> Result<Response, RpcError> {
    let (_, bytes) = choices.of(&world().records);
    let record = ValueRecord { key: Bytes::copy_from_slice(request.key()), value: bytes.clone(), received: None };
    Ok(match choices.byte() % 10 {
        0 => {
            return Err(*choices.of(&[
                RpcError::DialFailed,
                RpcError::Timeout,
                RpcError::Reset,
                RpcError::Unsupported,
            ]));
        }
        1 => Response::PutValue { record },
        2 => Response::GetProviders { providers: choices.peers(), closer: choices.peers() },
        3 => Response::GetValue { record: Some(record), closer: choices.peers() },
        _ => match request {
            Request::FindNode { .. } => Response::FindNode { closer: choices.peers() },
            Request::GetValue { .. } => Response::GetValue { record: None, closer: choices.peers() },
            Request::PutValue { record } => Response::PutValue { record: record.clone() },
            Request::AddProvider { .. } => Response::AddProvider,
            Request::GetProviders { .. } => Response::GetProviders { providers: Vec::new(), closer: choices.peers() },
            Request::Ping => Response::Ping,
        },
    })
}

fn request(choices: &mut Choices<'_>) -> Request {
    let (name, bytes) = choices.of(&world().records);
    let key = Bytes::from(name.routing_key());
    match choices.byte() % 7 {
        0 => Request::Ping,
        1 => Request::FindNode { key },
        2 => Request::GetValue { key },
        3 => Request::AddProvider { key, providers: choices.peers() },
        4 => Request::GetProviders { key },
        5 => Request::PutValue { record: ValueRecord { key: "/pk/x".into(), value: bytes.clone(), received: None } },
        _ => Request::PutValue { record: ValueRecord { key, value: bytes.clone(), received: None } },
    }
}

fn stored(command: StoreCommand, fail: bool) -> Input {
    let result = match command.action {
        _ if fail => Err(StoreError::Full { path: "disk".into() }),
        StoreAction::Get { .. } => Ok(StoreReply::Value(None)),
        StoreAction::Scan { .. } => Ok(StoreReply::Entries(Vec::new())),
        StoreAction::Commit(_) => Ok(StoreReply::Committed),
    };
    Input::Stored { id: command.id, result }
}

fn signed((id, name, message): (SignId, Name, Vec<u8>), fail: bool) -> Input {
    let key = world().keys.iter().find(|key| key.public_key().to_name() == name && !fail);
    let result = match key {
        Some(key) => key.sign(&message),
        None => Err(SignError { reason: "away".into() }),
    };
    Input::Signed { id, result }
}

fn act(engine: &mut Engine, now: &mut Now, open: &mut Open, choices: &mut Choices<'_>) {
    let world = world();
    match choices.byte() % 23 {
        0 => {
            let mut what = Publish::new(choices.of(&world.keys).public_key(), "/ipfs/bafkqaaa".parse().unwrap());
            let how = choices.byte();
            (what.allow_offline, what.new_key) = (how % 2 == 0, how % 4 < 2);
            open.ops.push(engine.publish(*now, what));
        }
        1 => {
            let enough = *choices.of(&[Enough::First, Enough::Probable, Enough::Answers(3), Enough::Answers(16)]);
            let how = Resolve { enough, cache: choices.byte() % 2 == 0, stream: true, ..Resolve::default() };
            open.ops.push(engine.resolve(*now, choices.of(&world.records).0, how));
        }
        2 => {
            let (name, record) = choices.of(&world.records).clone();
            let (force, policy) = (choices.byte() % 2 == 0, Default::default());
            let keep = choices.byte() % 2 == 0;
            open.ops.push(engine.put(*now, Put { name, record, force, keep, policy, allow_offline: true }));
        }
        3 => {
            let op = engine.watch(*now, choices.of(&world.records).0);
            open.ops.push(op);
            open.watches.push(op);
        }
        4 => {
            if !open.ops.is_empty() {
                let op = *choices.of(&open.ops);
                engine.cancel(*now, op);
            }
        }
        5 => {
            let key = Bytes::from_static(b"\x12\x02ab");
            let inquiry = match choices.byte() % 5 {
                0 => Inquiry::FindPeer(choices.of(&world.peers).id),
                1 => Inquiry::Closest(key),
                2 => Inquiry::Provide(key),
                3 => Inquiry::FindProviders { key, want: 3 },
                _ => Inquiry::Ping(choices.of(&world.peers).clone()),
            };
            open.ops.push(engine.inquire(*now, None, &inquiry));
        }
        6..=10 => {
            let back = choices.byte() % 2 == 0;
            let ask = if back { open.asks.pop_back() } else { open.asks.pop_front() };
            if let Some((router, id, request)) = ask {
                let result = response(choices, &request);
                engine.handle_input(*now, Input::Net(NetEvent::Response { router, id, result }));
            }
        }
        11 => {
            if let Some(id) = open.http.pop_front() {
                let (_, bytes) = choices.of(&world.records);
                let answer = http::Response::builder().status(*choices.of(&[200, 404, 500, 429, 304, 409]));
                let answer = answer.header("content-type", "application/vnd.ipfs.ipns-record");
                let result = match choices.byte() % 4 {
                    0 => Err(HttpError::Connect("refused".into())),
                    _ => Ok(answer.body(bytes.clone()).unwrap()),
                };
                engine.handle_input(*now, Input::Http { id, result });
            }
        }
        12 => {
            if let Some(command) = open.stores.pop_front() {
                let fail = choices.byte() % 8 == 0;
                engine.handle_input(*now, stored(command, fail));
            }
        }
        13 => {
            if let Some(sign) = open.signs.pop_front() {
                let fail = choices.byte() % 8 == 0;
                engine.handle_input(*now, signed(sign, fail));
            }
        }
        14 | 15 => {
            let (router, peer) = (RouterId(u16::from(choices.byte() % 4)), choices.of(&world.peers).id);
            let (id, request) = (InboundId(u64::from(choices.byte())), request(choices));
            engine.handle_input(*now, Input::Net(NetEvent::Request { router, id, peer, request }));
        }
        16 => {
            let PeerInfo { id: peer, addresses } = choices.of(&world.peers).clone();
            let serves = (0..3).filter(|_| choices.byte() % 2 == 0).map(RouterId).collect();
            engine.handle_input(*now, Input::Net(NetEvent::Identified { peer, addresses, serves }));
        }
        17 => {
            let addresses = || world.peers[7].addresses.clone();
            let confirmed = if choices.byte() % 2 == 0 { addresses() } else { Vec::new() };
            engine.handle_input(*now, Input::Net(NetEvent::Addresses { listening: addresses(), confirmed }));
        }
        18 => {
            let shift = Duration::from_secs(u64::from(choices.byte()) * 3_600);
            now.wall = if choices.byte() % 2 == 0 { now.wall + shift } else { now.wall - shift };
            engine.handle_input(*now, Input::Tick);
        }
        19 => {
            let name = choices.of(&world.records).0;
            match choices.byte() % 4 {
                0 => {
                    engine.unfollow(*now, &name);
                }
                1 => open.ops.push(engine.republish(*now, name)),
                _ => {
                    let _ = engine.follow(*now, name);
                }
            }
        }
        20 => {
            let (name, record) = choices.of(&world.records).clone();
            let at = now.wall + Duration::from_secs(u64::from(choices.byte()));
            let _ = engine.queue(*now, name, record, at);
        }
        _ => {
            let time = Duration::from_millis(u64::from(choices.byte()).pow(2));
            *now = Now { monotonic: now.monotonic + time, wall: now.wall + time };
            engine.handle_input(*now, Input::Tick);
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let mut choices = Choices(data);
    let ourselves = world().peers[399].id;
    let seeds = world().peers[..choices.byte() as usize % 20].to_vec();
    let limits = dht::Limits {
        book: 100,
        values: dht::Quota { entries: 8, bytes: 9_000, entries_per_peer: 4, bytes_per_peer: 5_000 },
        providers: 20,
        providers_per_peer: 5,
    };
    let public = dht::Config { seeds: seeds.clone(), limits, ..dht::Config::public(ourselves) };
    let own = dht::Config { seeds, limits, ..dht::Config::custom(ourselves, "/own/kad/1.0.0") };
    let endpoint = Endpoint::new("http://router.example").unwrap();
    let routers = vec![Router::dht("dht", public), Router::dht("own", own), Router::http(endpoint)];
    let keep =
        Some(Keeping { interval: Duration::from_secs(60), parallelism: 3, max_followed: 2, ..Keeping::default() });
    let config = Config { routers, cache_entries: 2, max_records: 4, max_operations: 40, keep, ..Config::default() };
    let mut now = Now { monotonic: Duration::ZERO, wall: Timestamp::from_unix_secs(1_800_000_000) };
    let mut engine = Engine::new(config, [7; 32], now);
    let mut open = Open::default();
    drain(&mut engine, &mut open);
    while !choices.0.is_empty() {
        act(&mut engine, &mut now, &mut open, &mut choices);
        drain(&mut engine, &mut open);
        assert!(engine.load() <= 40 + 3 + 12 && engine.kept().1 <= 3, "{} {:?}", engine.load(), engine.kept());
        for (_, health, usage) in engine.health() {
            assert!(health.known <= 100 + health.table && health.live <= health.table);
            assert!(usage.values <= 8 && usage.providers <= 20 && usage.value_bytes <= 9_000);
        }
    }
    // The disk and the signers do what is left to do; no peer and no router answers any more.
    for op in std::mem::take(&mut open.watches) {
        engine.cancel(now, op);
    }
    let end = now.monotonic + Duration::from_secs(300);
    // A queued record may begin an operation of its own just before the end.
    let mut patience = end;
    loop {
        drain(&mut engine, &mut open);
        if engine.load() == 0 {
            patience = now.monotonic + Duration::from_secs(3_600);
        }
        let (own, followed): (Vec<Name>, Vec<Name>) =
            (engine.own().map(|(name, _)| name).collect(), engine.followed().map(|(name, _)| name).collect());
        for name in &own {
            engine.disown(now, name);
        }
        for name in &followed {
            engine.unfollow(now, name);
        }
        if let Some(command) = open.stores.pop_front() {
            engine.handle_input(now, stored(command, false));
        } else if let Some(sign) = open.signs.pop_front() {
            engine.handle_input(now, signed(sign, false));
        } else if let Some(at) =
            engine.next_timeout().filter(|at| *at < if engine.load() == 0 { end } else { patience })
        {
            let time = at.saturating_sub(now.monotonic);
            now = Now { monotonic: now.monotonic + time, wall: now.wall + time };
            engine.handle_input(now, Input::Tick);
        } else {
            break;
        }
    }
    assert_eq!((engine.load(), engine.sending()), (0, 0), "every operation ends");
});
