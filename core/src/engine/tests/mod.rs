//! Tests of the whole engine in simulated time: nothing sleeps, nothing is random that a seed does not decide.
//!
//! [`world::World`] runs engines with disks, signers, servers and routers; [`witness::Witness`] stands beside every
//! node and checks, in every test, what must always hold.

mod acts;
mod chains;
mod disk;
mod faults;
mod keep;
mod never;
mod publish;
mod put;
mod recover;
mod resolve;
mod script;
mod serve;
mod watch;
mod witness;
mod world;

use core::time::Duration;
use std::collections::BTreeMap;

use bytes::Bytes;
use http::Request;
use http::header::CONTENT_TYPE;
use ipld_core::ipld::Ipld;

use crate::key::{KeyType, SecretKey, Signer};
use crate::name::Name;
use crate::record::{Checks, RecordBuilder, Verified};
use crate::routing::Router;
use crate::routing::http::client::Endpoint;
use crate::routing::http::{MEDIA_TYPE, PATH_PREFIX};
use crate::time::Timestamp;
use crate::value::Value;

use super::config::Config;
use super::request::{Enough, Publish, Put, Resolve};

/// When every world begins, on the wall clock.
const DAWN: Timestamp = Timestamp::from_unix_secs_const(1_800_000_000);
const HOUR: Duration = Duration::from_secs(3600);

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn key(seed: u8) -> SecretKey {
    SecretKey::generate(KeyType::Ed25519, [seed; 32], 0).unwrap()
}

fn name(seed: u8) -> Name {
    key(seed).public_key().to_name()
}

/// A content path that differs from those of other numbers.
fn path(number: u64) -> Value {
    format!("/ipfs/bafkqaaa/{number}").parse().unwrap()
}

/// A record that someone with key `seed` made elsewhere, two days valid.
fn record(seed: u8, sequence: u64, value: &Value) -> Verified {
    record_until(seed, sequence, value, DAWN + 48 * HOUR)
}

fn record_until(seed: u8, sequence: u64, value: &Value, eol: Timestamp) -> Verified {
    let record = RecordBuilder::new(value.clone(), sequence, eol).sign(&key(seed)).unwrap();
    Checks::at(Timestamp::MIN).verify_record(record, &name(seed)).unwrap()
}

/// The bytes of [`record`], with path `sequence`.
fn bytes(seed: u8, sequence: u64) -> Bytes {
    record(seed, sequence, &path(sequence)).as_bytes().clone()
}

/// A record that points to a path, which may be one of another name.
fn link(seed: u8, to: &str) -> Bytes {
    record(seed, 1, &to.parse().unwrap()).as_bytes().clone()
}

/// A valid record whose value is no path, as other software may make it.
fn pointless(seed: u8, sequence: i128) -> Bytes {
    let entry = |key: &str, value| (key.to_owned(), value);
    let data = Ipld::Map(BTreeMap::from([
        entry("TTL", Ipld::Integer(0)),
        entry("Value", Ipld::Bytes(b"!nonsense".to_vec())),
        entry("Sequence", Ipld::Integer(sequence)),
        entry("Validity", Ipld::Bytes((DAWN + 48 * HOUR).to_string().into_bytes())),
        entry("ValidityType", Ipld::Integer(0)),
    ]));
    let data = serde_ipld_dagcbor::to_vec(&data).unwrap();
    let signature = key(seed).sign(&[b"ipns-signature:", &data[..]].concat()).unwrap();
    // Fields 8 and 9, both shorter than 128 bytes.
    [&[0x42, signature.len() as u8], &signature[..], &[0x4a, data.len() as u8], &data].concat().into()
}

fn publish(seed: u8, number: u64) -> Publish {
    Publish::new(key(seed).public_key(), path(number))
}

fn put(seed: u8, record: Bytes) -> Put {
    Put { name: name(seed), record, force: false, keep: false, policy: Default::default(), allow_offline: false }
}

/// Someone asks for the record of a name over HTTP.
fn download(seed: u8) -> Request<Bytes> {
    Request::get(format!("{PATH_PREFIX}{}", name(seed))).body(Bytes::new()).unwrap()
}

/// Someone brings a record over HTTP.
fn upload(seed: u8, record: Bytes) -> Request<Bytes> {
    Request::put(format!("{PATH_PREFIX}{}", name(seed))).header(CONTENT_TYPE, MEDIA_TYPE).body(record).unwrap()
}

/// A resolve that asks the routers whatever is known.
fn uncached() -> Resolve {
    Resolve { cache: false, ..Resolve::default() }
}

fn offline() -> Resolve {
    Resolve { offline: true, ..Resolve::default() }
}

fn first() -> Resolve {
    Resolve { enough: Enough::First, ..Resolve::default() }
}

fn router(host: &str) -> Router {
    Router::http(Endpoint::new(&format!("http://{host}")).unwrap())
}

/// The defaults, with an HTTP router for each host. Nothing is kept alive, so that the world comes to rest.
fn config(hosts: &[&str]) -> Config {
    Config { routers: hosts.iter().map(|host| router(host)).collect(), keep: None, ..Config::default() }
}
