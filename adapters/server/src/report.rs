//! The documents that the program prints with `--json` and the admin interface answers with.

use std::collections::BTreeMap;

use ipld_core::ipld::Ipld;
use ipns_core::Verified;
use ipns_core::dht::Outcome;
use ipns_core::engine::{Freshness, Publication, Resolution};
use ipns_core::record::{Inspection, Metadata};
use ipns_core::routing::Receipt;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

/// What one router said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptReport {
    /// Its label.
    pub router: String,
    /// Whether it did what it was asked.
    pub ok: bool,
    /// Peers that answered or took the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acks: Option<u32>,
    /// Peers asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<u32>,
    /// The sequence of the newest valid record it answered with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// Why it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What each peer of a DHT said to a record: `acked`, `refused`, or why it could not be asked.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub peers: BTreeMap<String, String>,
    /// How often it was tried.
    pub attempts: u32,
    /// How long it took, in milliseconds.
    pub ms: u64,
}

impl From<&Receipt> for ReceiptReport {
    fn from(receipt: &Receipt) -> Self {
        let tally = receipt.outcome.as_ref().ok();
        Self {
            router: receipt.label.clone(),
            ok: receipt.is_ok(),
            acks: tally.map(|tally| tally.acks),
            asked: tally.map(|tally| tally.asked),
            sequence: receipt.sequence,
            error: receipt.outcome.as_ref().err().map(ToString::to_string),
            peers: receipt.peers.iter().map(|peer| (peer.peer.to_string(), said(peer.outcome))).collect(),
            attempts: receipt.attempts,
            ms: millis(receipt.elapsed),
        }
    }
}

fn said(outcome: Outcome) -> String {
    match outcome {
        Outcome::Acked => "acked".into(),
        Outcome::Refused => "refused".into(),
        Outcome::Failed(error) => error.to_string(),
    }
}

/// Receipts as reports.
pub fn receipts(receipts: &[Receipt]) -> Vec<ReceiptReport> {
    receipts.iter().map(ReceiptReport::from).collect()
}

/// What a publish did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishReport {
    /// The name.
    pub name: String,
    /// The value.
    pub value: String,
    /// The sequence.
    pub sequence: u64,
    /// The end of life.
    pub validity: String,
    /// The TTL in nanoseconds.
    pub ttl_ns: Option<u64>,
    /// Whether the record is durable in this node's store.
    pub stored: bool,
    /// What each router said.
    pub receipts: Vec<ReceiptReport>,
    /// How long it took, in milliseconds.
    pub ms: u64,
}

impl From<&Publication> for PublishReport {
    fn from(publication: &Publication) -> Self {
        let record = &publication.record;
        Self {
            name: record.name().to_string(),
            value: value_of(record),
            sequence: record.sequence(),
            validity: validity_of(record),
            ttl_ns: ttl_of(record),
            stored: true,
            receipts: receipts(&publication.receipts),
            ms: millis(publication.elapsed),
        }
    }
}

/// How fresh an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FreshnessReport {
    /// How many answered.
    pub answers: u32,
    /// How many of them hold the record.
    pub holders: u32,
    /// The estimated probability that a newer record was missed.
    pub miss_probability: f64,
}

impl From<Freshness> for FreshnessReport {
    fn from(fresh: Freshness) -> Self {
        Self { answers: fresh.answers, holders: fresh.holders, miss_probability: fresh.miss_probability }
    }
}

/// What a name resolves to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResolveReport {
    /// The name that was asked for.
    pub name: String,
    /// The content path at the end of the chain.
    pub value: String,
    /// The sequence of the last record.
    pub sequence: u64,
    /// Its end of life.
    pub validity: String,
    /// Its TTL in nanoseconds.
    pub ttl_ns: Option<u64>,
    /// Whether nobody was asked.
    pub cached: bool,
    /// Whether no better answer follows.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// How fresh the answer is.
    pub freshness: FreshnessReport,
    /// Who holds the record.
    pub sources: Vec<String>,
    /// The names that were followed.
    pub path: Vec<String>,
    /// What each router said.
    pub receipts: Vec<ReceiptReport>,
    /// How long it took, in milliseconds.
    pub ms: u64,
    /// The last record in base64, where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
}

impl From<&Resolution> for ResolveReport {
    fn from(found: &Resolution) -> Self {
        Self {
            name: found.path.first().map(ToString::to_string).unwrap_or_default(),
            value: found.value.to_string(),
            sequence: found.record.sequence(),
            validity: validity_of(&found.record),
            ttl_ns: ttl_of(&found.record),
            cached: found.cached,
            is_final: found.is_final,
            freshness: found.freshness.into(),
            sources: found.sources.clone(),
            path: found.path.iter().map(ToString::to_string).collect(),
            receipts: receipts(&found.receipts),
            ms: millis(found.elapsed),
            record: None,
        }
    }
}

/// What an inspection found, in the form that `ipns inspect --json` prints.
pub fn inspection(found: &Inspection) -> Json {
    let error = found.error.as_ref().map(|error| json!({ "code": error.code(), "message": error.to_string() }));
    let value = found.value.as_ref().map(|bytes| match ipns_core::Value::from_bytes(bytes) {
        Ok(value) => value.to_string(),
        Err(_) => String::from_utf8_lossy(bytes).into_owned(),
    });
    let key = found.public_key.map(|key| json!({ "type": key.kind.as_str(), "embedded": key.embedded }));
    json!({
        "valid": found.error.is_none(),
        "error": error,
        "name": found.name.map(|name| name.to_string()),
        "value": value,
        "sequence": found.sequence,
        "ttl_ns": found.ttl_ns,
        "validity": found.validity.as_ref().map(|text| String::from_utf8_lossy(text).into_owned()),
        "validity_type": found.validity_type,
        "expired": found.expired,
        "size": found.size,
        "v1": found.v1,
        "public_key": key,
        "metadata": metadata(&found.metadata),
    })
}

/// Metadata as DAG-JSON.
pub fn metadata(entries: &Metadata) -> Json {
    Json::Object(entries.iter().map(|(key, value)| (key.clone(), dag_json(value))).collect())
}

/// Bytes and links have no JSON of their own (DAG-JSON spec, "Bytes" and "Links").
fn dag_json(value: &Ipld) -> Json {
    match value {
        Ipld::Null => Json::Null,
        Ipld::Bool(yes) => json!(yes),
        Ipld::Integer(number) => match (i64::try_from(*number), u64::try_from(*number)) {
            (Ok(number), _) => json!(number),
            (_, Ok(number)) => json!(number),
            _ => json!(number.to_string()),
        },
        Ipld::Float(number) => json!(number),
        Ipld::String(text) => json!(text),
        Ipld::Bytes(bytes) => json!({ "/": { "bytes": data_encoding::BASE64_NOPAD.encode(bytes) } }),
        Ipld::Link(cid) => json!({ "/": cid.to_string() }),
        Ipld::List(items) => Json::Array(items.iter().map(dag_json).collect()),
        Ipld::Map(map) => {
            Json::Object(map.iter().map(|(key, value)| (key.clone(), dag_json(value))).collect::<Map<_, _>>())
        }
    }
}

pub(crate) fn value_of(record: &Verified) -> String {
    record
        .value()
        .map(|value| value.to_string())
        .unwrap_or_else(|_| String::from_utf8_lossy(record.value_bytes()).into_owned())
}

pub(crate) fn validity_of(record: &Verified) -> String {
    String::from_utf8_lossy(record.validity_bytes()).into_owned()
}

pub(crate) fn ttl_of(record: &Verified) -> Option<u64> {
    record.ttl().and_then(|ttl| u64::try_from(ttl.as_nanos()).ok())
}

fn millis(elapsed: std::time::Duration) -> u64 {
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}
