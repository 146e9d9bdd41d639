//! The committed vectors: what other implementations and our own hands made must come out as the manifest says.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests")]

use std::collections::BTreeMap;

use bytes::Bytes;
use ipns_core::key::{SecretKey, Signer};
use ipns_core::record::{Checks, Inspection, Record, select};
use ipns_core::{Name, Timestamp};
use ipns_server::report;
use ipns_tests::vectors::{self, Expect, Row};
use ipns_tests::wire;
use serde_json::{Value as Json, json};

/// Valid records that are written in another way than ours: what they hold is kept, but not how it was laid out.
const NOT_CANONICAL: [&str; 22] = [
    "data-unsorted-v1v2",
    "data-unsorted-v2",
    "field-stray-no-v1",
    "js-validity-offset",
    "js-validity-padded",
    "key-embedded-inline",
    "pb-any-order",
    "pb-data-twice-signed-last",
    "pb-unknown-fields",
    "select-bytes-same-instant-a",
    "select-end-offset-b",
    "ttl-missing-v1v2",
    "ttl-missing-v2",
    "validity-offset",
    "validity-offset-minutes",
    "validity-offset-west",
    "value-cid-v0-v1v2",
    "value-cid-v0-v2",
    "value-cid-v1-v1v2",
    "value-cid-v1-v2",
    "value-empty-v1v2",
    "value-empty-v2",
];

/// Fails once, with every row that is wrong.
fn all_agree(wrong: &[String]) {
    assert!(wrong.is_empty(), "{} disagree:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_row_of_the_manifest() {
    let rows = vectors::manifest();
    assert!(rows.len() >= 200, "only {} rows", rows.len());
    let mut wrong = Vec::new();
    for row in &rows {
        for (by, fault) in [("verify", verifying(row)), ("inspection", inspecting(row)), ("json", reporting(row))] {
            if let Err(fault) = fault {
                wrong.push(format!("{} ({}), {by}: {fault}", row.file, row.what));
            }
        }
    }
    all_agree(&wrong);
}

/// Compares what came out with what must, and says where they differ.
fn same<T: PartialEq + core::fmt::Debug>(what: &str, found: T, expected: T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what} is {found:?}, not {expected:?}")) }
}

fn verifying(row: &Row) -> Result<(), String> {
    let Expect { error, value, sequence, ttl_ns, validity, metadata, .. } = &row.expect;
    let found = Checks::at(row.at()).verify(row.bytes(), &row.name());
    same("error", found.as_ref().err().map(|error| error.code().to_owned()), error.clone())?;
    let Ok(record) = found else { return Ok(()) };
    same("name", record.name(), &row.name())?;
    same("value", record.value().ok().map(|value| value.to_string()), value.clone())?;
    same("sequence", Some(record.sequence()), *sequence)?;
    same("ttl", record.ttl().map(|ttl| ttl.as_nanos()), ttl_ns.map(u128::from))?;
    same("validity", Some(record.validity_bytes()), validity.as_deref().map(str::as_bytes))?;
    same("end of life", Some(record.eol()), validity.as_deref().and_then(|text| text.parse().ok()))?;
    same("metadata", Some(report::metadata(&record.metadata())), metadata.clone())?;
    same("bytes", record.as_bytes().to_vec(), row.bytes())
}

fn inspecting(row: &Row) -> Result<(), String> {
    let expect = &row.expect;
    let found = Inspection::new(row.bytes(), Some(&row.name()), &Checks::at(row.at()));
    same("error", found.error.as_ref().map(|error| error.code().to_owned()), expect.error.clone())?;
    same("size", found.size, row.bytes().len())?;
    same("name", found.name, Some(row.name()))?;
    if !expect.valid {
        let expired = expect.error.as_deref() == Some("expired");
        return if expired { same("expired", found.expired, Some(true)) } else { Ok(()) };
    }
    let value = found.value.as_deref().map(|value| ipns_core::Value::from_bytes(value).map(|value| value.to_string()));
    same("value", value, expect.value.clone().map(Ok))?;
    same("sequence", found.sequence, expect.sequence)?;
    same("ttl", found.ttl_ns, expect.ttl_ns)?;
    same("validity", found.validity.as_deref(), expect.validity.as_deref().map(str::as_bytes))?;
    same("validity type", found.validity_type, expect.validity_type)?;
    same("expired", found.expired, Some(false))?;
    same("v1", Some(found.v1), expect.v1)?;
    let key = found.public_key.map(|key| json!({ "type": key.kind.as_str(), "embedded": key.embedded }));
    same("key", key, expect.public_key.clone())?;
    same("metadata", Some(report::metadata(&found.metadata)), expect.metadata.clone())
}

fn reporting(row: &Row) -> Result<(), String> {
    let Expect { valid, error, value, sequence, ttl_ns, validity, validity_type, v1, public_key, metadata } =
        &row.expect;
    let json = report::inspection(&Inspection::new(row.bytes(), Some(&row.name()), &Checks::at(row.at())));
    same("valid", &json["valid"], &json!(valid))?;
    same("size", &json["size"], &json!(row.bytes().len()))?;
    same("name", &json["name"], &json!(row.name))?;
    let members: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
    let all = [
        "error",
        "expired",
        "metadata",
        "name",
        "public_key",
        "sequence",
        "size",
        "ttl_ns",
        "v1",
        "valid",
        "validity",
        "validity_type",
        "value",
    ];
    same("members", members, all.to_vec())?;
    if !valid {
        same("code", &json["error"]["code"], &json!(error))?;
        return same("message", json["error"]["message"].as_str().is_some_and(|text| !text.is_empty()), true);
    }
    for (member, expected) in [
        ("error", json!(error)),
        ("value", json!(value)),
        ("sequence", json!(sequence)),
        ("ttl_ns", json!(ttl_ns)),
        ("validity", json!(validity)),
        ("validity_type", json!(validity_type)),
        ("expired", json!(false)),
        ("v1", json!(v1)),
        ("public_key", json!(public_key)),
        ("metadata", json!(metadata)),
    ] {
        same(member, &json[member], &expected)?;
    }
    // Through text, as a script reads it: no number may lose its last digits.
    let read: Json = serde_json::from_str(&json.to_string()).map_err(|error| error.to_string())?;
    same("text", read, json)
}

#[test]
fn without_a_name_the_embedded_key_gives_it() {
    let mut wrong = Vec::new();
    for row in vectors::manifest().iter().filter(|row| row.expect.valid) {
        let found = Inspection::new(row.bytes(), None, &Checks::at(row.at()));
        let embedded = row.expect.public_key.as_ref().is_some_and(|key| key["embedded"] == json!(true));
        let expected = if embedded { (None, Some(row.name())) } else { (Some("public_key_missing"), None) };
        let found = (found.error.as_ref().map(|error| error.code()), found.name);
        if found != expected {
            wrong.push(format!("{}: {found:?}, not {expected:?}", row.file));
        }
    }
    all_agree(&wrong);
}

#[test]
fn a_batch_says_what_each_alone_says() {
    let mut by_instant: BTreeMap<Timestamp, Vec<(Bytes, Name)>> = BTreeMap::new();
    for row in vectors::manifest() {
        by_instant.entry(row.at()).or_default().push((row.bytes().into(), row.name()));
    }
    for (at, records) in by_instant {
        let checks = Checks::at(at);
        let alone: Vec<_> = records.iter().map(|(bytes, name)| checks.verify(bytes.clone(), name)).collect();
        assert_eq!(checks.verify_batch(&records), alone, "all at {at}");
        let valid: Vec<_> =
            records.iter().zip(&alone).filter(|(_, one)| one.is_ok()).map(|(record, _)| record.clone()).collect();
        assert!(checks.verify_batch(&valid).iter().all(Result::is_ok), "the valid ones at {at}");
        for pair in records.windows(2).zip(alone.windows(2)) {
            assert_eq!(checks.verify_batch(pair.0), pair.1, "pairs at {at}");
        }
    }
}

#[test]
fn decoding_keeps_the_bytes() {
    for row in vectors::manifest() {
        if let Ok(record) = Record::decode(row.bytes()) {
            assert_eq!(*record.as_bytes(), row.bytes(), "{}", row.file);
        }
    }
}

#[test]
fn what_was_read_is_written_in_the_same_bytes() {
    let mut wrong = Vec::new();
    let mut other = NOT_CANONICAL.to_vec();
    for row in vectors::manifest().iter().filter(|row| row.expect.valid) {
        let record = Checks::at(row.at()).verify(row.bytes(), &row.name()).expect(&row.file);
        let same = *wire::rebuild(&record).as_bytes() == row.bytes();
        let stem = row.file.trim_start_matches("records/").trim_end_matches(".ipns-record");
        other.retain(|name| *name != stem || same);
        if same == NOT_CANONICAL.contains(&stem) {
            wrong.push(format!("{stem}: {}", if same { "the same after all" } else { "differs" }));
        }
    }
    all_agree(&wrong);
    assert!(other.is_empty(), "no such rows: {other:?}");
}

#[test]
fn every_selection() {
    let mut wrong = Vec::new();
    for set in vectors::selection() {
        let (name, at) = (set.name.parse().unwrap(), set.at.parse().unwrap());
        let valid: Vec<_> = set
            .files
            .iter()
            .filter_map(|file| Some((file, Checks::at(at).verify(vectors::bytes(file), &name).ok()?)))
            .collect();
        // The answer may not hang on the order of the candidates.
        for turn in 0..valid.len().max(1) {
            let turned = valid.iter().cycle().skip(turn).take(valid.len());
            let newest = select(turned.clone().map(|(_, record)| record));
            let winner = turned.clone().find(|(_, record)| Some(record) == newest).map(|(file, _)| (*file).clone());
            if winner != set.winner {
                wrong.push(format!("{} (turned by {turn}): {winner:?}, not {:?}", set.what, set.winner));
            }
        }
    }
    all_agree(&wrong);
}

#[test]
fn every_key() {
    let mut wrong = Vec::new();
    let mut check = |what: String, right: bool| {
        if !right {
            wrong.push(what);
        }
    };
    for row in vectors::keys() {
        let bytes = vectors::bytes(&format!("keys/{}", row.file));
        let key = match SecretKey::import(&bytes) {
            Ok(key) => key,
            Err(error) => {
                check(format!("{}: {error}", row.file), false);
                continue;
            }
        };
        check(format!("{}: type {}", row.file, key.key_type()), key.key_type().as_str() == row.kind);
        let name = key.public_key().to_name();
        check(format!("{}: name {name}", row.file), name.to_string() == row.name);
        let (protobuf, pem) = (key.encode_protobuf(), key.to_pem().unwrap());
        let exported = match row.format.as_str() {
            "libp2p-protobuf-cleartext" => protobuf.as_slice(),
            _ => pem.as_bytes(),
        };
        // Old files repeat the Ed25519 public key; nobody writes that any more.
        check(format!("{}: export differs", row.file), row.file == "ed25519-96.key" || exported == bytes);
        for copy in [SecretKey::import(&protobuf).unwrap(), SecretKey::import(pem.as_bytes()).unwrap()] {
            check(format!("{}: round trip", row.file), copy.encode_protobuf() == protobuf);
            check(format!("{}: name after a round trip", row.file), copy.public_key().to_name() == name);
        }
        let signature = key.sign(b"message").unwrap();
        check(format!("{}: signature", row.file), key.public_key().verify(b"message", &signature));
    }
    all_agree(&wrong);
}
