//! The names that a node keeps alive, as they are listed, followed and watched.

use ipns_core::engine::{Followed, Own, Sent};
use ipns_core::{Name, Timestamp, Verified};
use serde::{Deserialize, Serialize};

use crate::failure::FailureText;
use crate::report::{ttl_of, validity_of, value_of};

/// What a [`KeptReport`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeptKind {
    /// A name that this node publishes.
    Own,
    /// A name of someone else.
    Followed,
    /// A record that waits for its time, which is `next`.
    Queued,
}

impl KeptKind {
    /// As it is written in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Followed => "followed",
            Self::Queued => "queued",
        }
    }
}

/// A name that is kept alive, or a record that waits for its time. Times are in RFC 3339.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptReport {
    /// The name.
    pub name: String,
    /// The local key's name, if it is in the key store.
    pub key: Option<String>,
    /// What it is.
    pub kind: KeptKind,
    /// The value; `None` before a record was found.
    pub value: Option<String>,
    /// The sequence.
    pub sequence: Option<u64>,
    /// The end of life.
    pub validity: Option<String>,
    /// Whether it has passed.
    pub expired: bool,
    /// The TTL in nanoseconds.
    pub ttl_ns: Option<u64>,
    /// When any router last took it.
    pub last_sent: Option<String>,
    /// How many routers took it then.
    pub acks: u32,
    /// When it is its turn again; `None` while it is being sent, and where no daemon keeps it.
    #[serde(default)]
    pub next: Option<String>,
    /// How often in a row it was not sent.
    #[serde(default)]
    pub failures: u32,
    /// Why it was not sent, if it was not.
    pub last_error: Option<String>,
}

impl KeptReport {
    /// The report of an own name, whose local key may be known.
    pub fn own(name: &Name, own: &Own, key: Option<String>, now: Timestamp) -> Self {
        Self { key, ..Self::of(name, KeptKind::Own, Some(&own.record), &own.sent, now) }
    }

    /// The report of a followed name.
    pub fn followed(name: &Name, followed: &Followed, now: Timestamp) -> Self {
        Self::of(name, KeptKind::Followed, followed.record.as_ref(), &followed.sent, now)
    }

    /// The report of a record that is sent at a time.
    pub fn queued(name: &Name, at: Timestamp) -> Self {
        let next = Some(at.to_string());
        Self { next, ..Self::of(name, KeptKind::Queued, None, &Sent::default(), at) }
    }

    fn of(name: &Name, kind: KeptKind, record: Option<&Verified>, sent: &Sent, now: Timestamp) -> Self {
        Self {
            name: name.to_string(),
            key: None,
            kind,
            value: record.map(value_of),
            sequence: record.map(|record| record.sequence()),
            validity: record.map(validity_of),
            expired: record.is_some_and(|record| record.is_expired(now)),
            ttl_ns: record.and_then(ttl_of),
            last_sent: sent.at.map(|at| at.to_string()),
            acks: sent.acks,
            next: sent.next.map(|at| at.to_string()),
            failures: sent.failures,
            last_error: sent.error.clone(),
        }
    }
}

/// What became of one name that was to be kept alive, or to be kept alive no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowReport {
    /// The name, or what was given if it is none.
    pub name: String,
    /// Whether that changed anything: a name may have been kept already, or not be kept.
    pub changed: bool,
    /// Why it was not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<FailureText>,
}

/// A watched name has a newer record, or its first one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeReport {
    /// The name.
    pub name: String,
    /// The value of its record, with the path that was asked for below it.
    pub value: String,
    /// The sequence.
    pub sequence: u64,
    /// The end of life.
    pub validity: String,
    /// The TTL in nanoseconds.
    pub ttl_ns: Option<u64>,
}

impl ChangeReport {
    /// The report of a record, with a path such as `/a/b` below its value, or an empty one.
    pub fn new(record: &Verified, below: &str) -> Self {
        Self {
            name: record.name().to_string(),
            value: value_of(record) + below,
            sequence: record.sequence(),
            validity: validity_of(record),
            ttl_ns: ttl_of(record),
        }
    }
}
