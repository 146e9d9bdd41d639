//! Among ten Kubo 0.22 nodes.

use bytes::Bytes;
use data_encoding::BASE64;
use ipns_core::dht::{LAN_PROTOCOL, PUBLIC_PROTOCOL, Request, Standing, ValueRecord};
use ipns_core::key::Signer;
use ipns_core::record::{RecordBuilder, Version};
use ipns_core::{Name, Timestamp};
use serde_json::json;

use crate::asker::{Asker, put_bytes};
use crate::on::{On, on_each_runtime};
use crate::ours::{Options, key, name, peer_at};
use crate::peers;

const VALUE: &str = "/ipfs/bafkqac3jobxhgidsn5rww4yk";

on_each_runtime!(among_kubo_nodes, what_kubo_refuses_we_refuse_too);

async fn among_kubo_nodes(on: On) {
    let Some(kubo) = peers::kubo(10).await else { return };
    let entrance = peer_at(&kubo.addresses[0]);
    let ours = Options::server(1, &[entrance]).protocols(&[LAN_PROTOCOL]).on(on).start().await;
    ours.stands(Standing::Joined).await;
    ours.until("eight Kubo peers", |dht| dht.health.live >= 8).await;

    // We publish, and read it back through another of its nodes with a node that knows no other.
    let published = ours.publish(1, VALUE).await.unwrap();
    assert!(published.receipts[0].outcome.clone().unwrap().acks >= 8, "{:?}", published.receipts);
    let reader = Options::client(2, &[peer_at(&kubo.addresses[7])]).protocols(&[LAN_PROTOCOL]).on(on).start().await;
    let found = reader.resolve(name(1)).await.unwrap();
    assert_eq!((found.value.as_str(), found.record.sequence()), (VALUE, 0));
    let stored = kubo.tell("stored", json!({ "name": name(1).to_string() })).await;
    let holding = stored["nodes"].as_array().unwrap().iter().filter(|sequence| **sequence == json!(0)).count();
    assert!(holding >= 8, "{stored}");

    // Kubo's republisher puts a record of its own on our node, which we then serve.
    let put = kubo.tell("publish", json!({ "node": 4, "seed": "02".repeat(32), "value": VALUE, "sequence": 7 })).await;
    let theirs: Name = put["name"].as_str().unwrap().parse().unwrap();
    // Its own record is the first that it keeps.
    ours.keeps_at_least(2).await;
    let mut asker = Asker::new(on, LAN_PROTOCOL).await;
    let served = asker.record(&ours.info, &theirs).await.expect("our node keeps Kubo's record");
    let record = ipns_core::record::Checks::at(Timestamp::MIN).verify(served, &theirs).unwrap();
    assert_eq!((record.sequence(), record.value().unwrap().as_str()), (7, VALUE));
    assert_eq!(reader.resolve(theirs).await.unwrap().record.sequence(), 7);
    let published = BASE64.decode(put["record"].as_str().unwrap().as_bytes()).unwrap();
    assert_eq!(record.as_bytes(), &published[..], "it is the very record that Kubo made");
}

async fn what_kubo_refuses_we_refuse_too(on: On) {
    let Some(kubo) = peers::kubo(1).await else { return };
    let theirs = peer_at(&kubo.addresses[0]);
    let ours = Options::server(3, &[]).on(on).start().await;
    let mut asker = Asker::new(on, PUBLIC_PROTOCOL).await;
    for (what, request, taken) in cases() {
        let kubo = asker.ask(&theirs, request.clone()).await;
        let us = asker.ask(&ours.info, request).await;
        assert_eq!((kubo.is_ok(), us.is_ok()), (taken, taken), "{what}: {kubo:?} {us:?}");
        if !taken {
            assert_eq!((kubo.unwrap_err().code(), us.unwrap_err().code()), ("rpc_reset", "rpc_reset"), "{what}");
        }
    }
}

fn record(seed: u8, sequence: u64, eol: i64, change: impl FnOnce(&mut RecordBuilder)) -> Bytes {
    let mut builder = RecordBuilder::new(VALUE.parse().unwrap(), sequence, Timestamp::from_unix_secs(eol));
    change(&mut builder);
    builder.sign(&key(seed)).unwrap().as_bytes().clone()
}

/// Requests in the order in which they are put, and whether each is taken.
fn cases() -> Vec<(&'static str, Request, bool)> {
    const LATER: i64 = 4_000_000_000;
    let plain = |seed, sequence| record(seed, sequence, LATER, |_| {});
    let put = |seed, bytes| put_bytes(&name(seed), bytes);
    let mut broken = plain(5, 1).to_vec();
    *broken.last_mut().unwrap() ^= 1;
    let padded = |bytes: usize| {
        record(6, 3, LATER, |builder| {
            builder.version = Version::V2Only;
            builder.metadata.insert("_pad".into(), text(bytes));
        })
    };
    let under = |key: Vec<u8>, value: Bytes| Request::PutValue {
        record: ValueRecord { key: key.into(), value, received: None },
    };
    vec![
        ("a first record", put(4, plain(4, 5)), true),
        ("the very same again", put(4, plain(4, 5)), true),
        ("a lower sequence", put(4, plain(4, 4)), false),
        ("the same sequence with a later end", put(4, record(4, 5, LATER + 9, |_| {})), true),
        ("the same sequence with an earlier end", put(4, plain(4, 5)), false),
        ("a higher sequence", put(4, plain(4, 6)), true),
        ("V2 alone", put(4, record(4, 7, LATER, |builder| builder.version = Version::V2Only)), true),
        ("the highest sequence", put(4, plain(4, i64::MAX as u64)), true),
        ("one that has expired", put(5, record(5, 9, 1_700_000_000, |_| {})), false),
        ("another's name", put(5, plain(4, 8)), false),
        ("a broken signature", put(5, broken.into()), false),
        ("no record at all", put(5, Bytes::from_static(b"no record")), false),
        ("nothing", put(5, Bytes::new()), false),
        ("9,700 bytes", put(6, padded(9_400)), true),
        ("an unknown namespace", under(b"/foo/bar".to_vec(), plain(4, 9)), false),
        ("a key that is none", under(b"/ipns/\x01\x02".to_vec(), plain(4, 9)), false),
        ("a public key", under(pk(7), key(7).public_key().encode_protobuf().into()), true),
        ("another's public key", under(pk(7), key(8).public_key().encode_protobuf().into()), false),
    ]
}

fn pk(seed: u8) -> Vec<u8> {
    [b"/pk/", &name(seed).to_bytes()[..]].concat()
}

fn text(bytes: usize) -> ipld_core::ipld::Ipld {
    ipld_core::ipld::Ipld::String("x".repeat(bytes))
}
