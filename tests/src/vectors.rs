//! The committed vectors, and where the public ones are.

use std::path::{Path, PathBuf};

use ipns_core::{Name, Timestamp};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

/// A row of `manifest.json`.
#[derive(Debug, Clone, Deserialize)]
pub struct Row {
    /// The record's file.
    pub file: String,
    /// The name to verify against.
    pub name: String,
    /// The instant at which.
    pub at: String,
    /// What is special about it.
    pub what: String,
    /// What must come out.
    pub expect: Expect,
}

/// What must come out of a record: all of it if it is valid, the code if it is not.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// Whether it is valid.
    pub valid: bool,
    /// The code of the error.
    pub error: Option<String>,
    /// The value as a path.
    pub value: Option<String>,
    /// The sequence.
    pub sequence: Option<u64>,
    /// The TTL in nanoseconds.
    pub ttl_ns: Option<u64>,
    /// The validity as it stands in the record.
    pub validity: Option<String>,
    /// The kind of validity.
    pub validity_type: Option<u64>,
    /// Whether there is a V1 signature.
    pub v1: Option<bool>,
    /// Type and place of the key.
    pub public_key: Option<Json>,
    /// Metadata as DAG-JSON.
    pub metadata: Option<Json>,
}

impl Row {
    /// The record's bytes.
    pub fn bytes(&self) -> Vec<u8> {
        bytes(&self.file)
    }

    /// The name to verify against.
    pub fn name(&self) -> Name {
        self.name.parse().expect("a name in manifest.json")
    }

    /// The instant at which.
    pub fn at(&self) -> Timestamp {
        self.at.parse().expect("an instant in manifest.json")
    }
}

/// A set of records for one name.
#[derive(Debug, Clone, Deserialize)]
pub struct Selection {
    /// What is special about it.
    pub what: String,
    /// The name.
    pub name: String,
    /// The instant.
    pub at: String,
    /// The candidates.
    pub files: Vec<String>,
    /// The newest valid one, if any is valid.
    pub winner: Option<String>,
}

/// A row of `keys.json`.
#[derive(Debug, Clone, Deserialize)]
pub struct KeyRow {
    /// The file below `keys/`.
    pub file: String,
    /// `libp2p-protobuf-cleartext` or `pem-pkcs8-cleartext`.
    pub format: String,
    /// The type, as `ipns key gen --type` takes it.
    #[serde(rename = "type")]
    pub kind: String,
    /// The name.
    pub name: String,
}

/// All rows of `manifest.json`.
pub fn manifest() -> Vec<Row> {
    json(&own().join("manifest.json"))
}

/// All sets of `selection.json`.
pub fn selection() -> Vec<Selection> {
    json(&own().join("selection.json"))
}

/// All rows of `keys.json`.
pub fn keys() -> Vec<KeyRow> {
    json(&own().join("keys/keys.json"))
}

/// The bytes of a committed file.
pub fn bytes(file: &str) -> Vec<u8> {
    read(&own().join(file))
}

/// The public vectors: at `IPNS_VECTORS`, which a relative path gives from the root of the workspace. Without it tests
/// skip them and say so, except in CI, where they must be there.
pub fn public() -> Option<PathBuf> {
    let given = std::env::var_os("IPNS_VECTORS").filter(|path| !path.is_empty());
    let place = given.map(|path| Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path));
    match place {
        Some(place) => {
            assert!(place.is_dir(), "IPNS_VECTORS is no directory: {}", place.display());
            Some(place)
        }
        None => {
            let ci = std::env::var("CI").is_ok_and(|ci| !ci.is_empty() && ci != "false" && ci != "0");
            assert!(!ci, "IPNS_VECTORS must be set in CI");
            None
        }
    }
}

/// Reads a JSON file.
pub fn json<T: DeserializeOwned>(path: &Path) -> T {
    serde_json::from_slice(&read(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Reads a file.
pub fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn own() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors")
}
