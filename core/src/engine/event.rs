//! What an engine tells the application: results, improvements and warnings.

use core::time::Duration;

use thiserror::Error;

use crate::dht;
use crate::key::SignError;
use crate::name::Name;
use crate::record::{BuildError, RecordError, Verified};
use crate::routing::{Receipt, RouterId};
use crate::store::StoreError;
use crate::time::Timestamp;
use crate::value::{Value, ValueError};

use super::ids::OpId;

/// News of an engine.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// The kept names are loaded; operations given earlier begin now.
    Restored {
        /// How many own names there are.
        own: usize,
        /// How many names of others are followed.
        followed: usize,
    },
    /// A publish or put ended.
    Published {
        /// Which.
        op: OpId,
        /// How.
        result: Result<Publication, PublishError>,
    },
    /// A streaming resolve has a first, or a better, answer. More follow until [`Event::Resolved`].
    Improved {
        /// Which.
        op: OpId,
        /// The answer so far.
        resolution: Resolution,
    },
    /// A resolve ended.
    Resolved {
        /// Which.
        op: OpId,
        /// How.
        result: Result<Resolution, ResolveError>,
    },
    /// A watched name has a newer record, or its first one.
    Changed {
        /// The watch.
        op: OpId,
        /// The record.
        record: Verified,
    },
    /// The network has a record of an own name that this node did not make.
    Conflict {
        /// The name.
        name: Name,
        /// The highest sequence that this node published, or, of a [new key](super::Publish::new_key), is publishing.
        ours: u64,
        /// The sequence of the foreign record.
        theirs: u64,
    },
    /// It was a kept name's turn, or its time came after a failure or a change: this is how its sending went.
    Kept {
        /// The name.
        name: Name,
        /// How.
        result: Result<Publication, PublishError>,
    },
    /// An own name's record is to be signed anew, and its signer does not. It is sent as it is while it lives.
    NotRenewed {
        /// The name.
        name: Name,
        /// Until when it lives.
        eol: Timestamp,
        /// Why.
        error: PublishError,
    },
    /// A kept name's record ends soon, or has ended, and there is no newer one. A name that has ended stays kept: it lives
    /// again when a newer record is found or signed.
    Expiring {
        /// The name.
        name: Name,
        /// Until when it lives.
        eol: Timestamp,
    },
    /// A router that held an older record was sent the newer one.
    Corrected {
        /// The name.
        name: Name,
        /// The router.
        router: RouterId,
        /// Whether it took it.
        ok: bool,
    },
    /// A DHT said something to an inquiry: see [`dht::Event`] for what each means. More may follow until
    /// [`Event::Answered`].
    Told {
        /// Which.
        op: OpId,
        /// Which DHT.
        router: RouterId,
        /// What it said.
        event: dht::Event,
    },
    /// Every DHT has answered an inquiry, or it did not begin.
    Answered {
        /// Which.
        op: OpId,
        /// Whether it was made.
        result: Result<(), InquireError>,
    },
    /// This node's standing in a DHT has changed.
    Health {
        /// Which DHT.
        router: RouterId,
        /// How it stands now.
        health: dht::Health,
    },
    /// This node began, or ceased, to serve others in a DHT.
    Serving {
        /// Which DHT.
        router: RouterId,
        /// Whether it serves.
        serving: bool,
    },
    /// The wall clock cannot be right, so that valid records look expired or expired ones valid.
    ClockImplausible {
        /// The wall clock.
        wall: Timestamp,
        /// What it should be at least, or what two routers agree on.
        expected: Timestamp,
    },
    /// The store failed in the background: something known was not kept, or could not be read.
    StoreFailed {
        /// Why.
        error: StoreError,
    },
}

/// A publish that met its policy.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Publication {
    /// The record that was sent.
    pub record: Verified,
    /// What each router said.
    pub receipts: Vec<Receipt>,
    /// The sequence in the network that the publish had to rise above although it was not this node's.
    pub rebased_over: Option<u64>,
    /// From the call to the end.
    pub elapsed: Duration,
}

/// Why a publish failed. [`code`](PublishError::code) is stable.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The record cannot be made.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The record that was handed in is not valid.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The name has the highest sequence there is.
    #[error("the name has reached the highest sequence; it cannot be updated any more")]
    SequenceExhausted,
    /// The sequence asked for is not above the newest known.
    #[error("sequence {given} is not above {newest}, the newest known; choose a higher one or leave it out")]
    SequenceTooLow {
        /// What was asked for.
        given: u64,
        /// The newest known.
        newest: u64,
    },
    /// The newest record is not the one that the caller expected.
    #[error("expected sequence {expected}, but the newest is {}; resolve it, then publish again", .found.map_or("none".into(), |n| n.to_string()))]
    SequenceChanged {
        /// What the caller saw.
        expected: u64,
        /// The newest known.
        found: Option<u64>,
    },
    /// Someone else with the same key published, and the policy is to fail then.
    #[error("the network has sequence {theirs} from another publisher, ours is {ours}; publish again to rise above it")]
    Conflict {
        /// The highest sequence that this node published.
        ours: u64,
        /// The sequence of the foreign record.
        theirs: u64,
    },
    /// Nothing is known of the name here, and no router could be asked: a sequence might be used twice.
    #[error("no router could be asked for the newest sequence of this name; try again, or allow publishing offline")]
    Unread {
        /// What each router said.
        receipts: Vec<Receipt>,
    },
    /// The name is neither an own nor a followed one.
    #[error("the name is not kept here; publish it, or follow it")]
    NotKept,
    /// No valid record of a followed name is known to send.
    #[error("nothing to send: {0}")]
    NoRecord(ResolveError),
    /// There is no router to publish to.
    #[error("there is no router to publish to; add one, or allow publishing offline")]
    NoRouter,
    /// The record is stored here, but too few routers took it.
    #[error("stored here, but {} of {} routers took it, and {needed} were asked for", .publication.receipts.iter().filter(|r| r.is_ok()).count(), .publication.receipts.len())]
    PolicyNotMet {
        /// How many routers had to take it.
        needed: usize,
        /// What was reached.
        publication: Box<Publication>,
    },
    /// The signer did not sign.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// What the signer gave is not a signature of the name.
    #[error("the signer's signature is not the name's: {0}")]
    BadSigner(RecordError),
    /// The store failed; nothing was sent.
    #[error("{0}; nothing was published")]
    Store(#[from] StoreError),
    /// It took too long; nothing was sent.
    #[error("the publish took too long before anything was sent")]
    Timeout,
    /// It was cancelled. If it was stored already, its sequence is used up.
    #[error("the publish was cancelled")]
    Cancelled,
    /// Too many operations are under way.
    #[error("too many operations at once; try again later")]
    Overloaded,
}

impl PublishError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Build(error) => error.code(),
            Self::Record(error) => error.code(),
            Self::SequenceExhausted => "sequence_exhausted",
            Self::SequenceTooLow { .. } => "sequence_too_low",
            Self::SequenceChanged { .. } => "sequence_changed",
            Self::Conflict { .. } => "conflict",
            Self::Unread { .. } => "unread",
            Self::NotKept => "not_kept",
            Self::NoRecord(error) => error.code(),
            Self::NoRouter => "no_router",
            Self::PolicyNotMet { .. } => "policy_not_met",
            Self::Sign(error) => error.code(),
            Self::BadSigner(_) => "bad_signer",
            Self::Store(error) => error.code(),
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
            Self::Overloaded => "overloaded",
        }
    }
}

/// How fresh an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct Freshness {
    /// How many routers, and peers of DHTs, answered, with a record or with none.
    pub answers: u32,
    /// How many of them hold the record that was returned.
    pub holders: u32,
    /// The probability that a newer record exists and none of them has it; 1 when nobody was asked. For a DHT it is
    /// [`miss_probability`](dht::miss_probability), for other routers it comes from the share of holders among the
    /// answers, with Laplace's correction; of both the smaller, since publishers send to all.
    pub miss_probability: f64,
}

/// What a name resolves to.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Resolution {
    /// The content path at the end of the chain.
    pub value: Value,
    /// The record of the last name of the chain.
    pub record: Verified,
    /// The names that were followed, the first one first.
    pub path: Vec<Name>,
    /// Who holds the last record: labels of routers, or `store` when only this node does.
    pub sources: Vec<String>,
    /// Whether it was answered without asking anyone.
    pub cached: bool,
    /// Whether no better answer of this resolve follows.
    pub is_final: bool,
    /// How fresh the answer is, for the least fresh name of the chain.
    pub freshness: Freshness,
    /// What each router said, for all names of the chain.
    pub receipts: Vec<Receipt>,
    /// From the call to this answer.
    pub elapsed: Duration,
}

/// Why a resolve failed. [`code`](ResolveError::code) is stable.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// Routers answered, and none has a valid record.
    #[error("no record of {name} was found")]
    NotFound {
        /// The name.
        name: Name,
        /// What each router said.
        receipts: Vec<Receipt>,
    },
    /// Only invalid records were found.
    #[error("no valid record of {name} was found: {reason}")]
    Invalid {
        /// The name.
        name: Name,
        /// What is wrong with one of them.
        reason: String,
        /// What each router said.
        receipts: Vec<Receipt>,
    },
    /// No router could be reached.
    #[error("no router could be reached for {name}{}", summary(.receipts))]
    Unreachable {
        /// The name.
        name: Name,
        /// What each router said.
        receipts: Vec<Receipt>,
    },
    /// It took too long and nothing was found in time.
    #[error("no answer for {name} in time{}", summary(.receipts))]
    Timeout {
        /// The name.
        name: Name,
        /// What each router said.
        receipts: Vec<Receipt>,
    },
    /// The chain of names comes back to itself.
    #[error("the names form a loop at {name}")]
    Loop {
        /// The name that came twice.
        name: Name,
    },
    /// The chain of names is longer than allowed.
    #[error("more than {limit} names to follow")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// The chain leads to a DNSLink domain, which this engine does not look up.
    #[error("the name points to the DNSLink domain {domain}; resolve that with DNS, or do not recurse")]
    DnsLink {
        /// The domain.
        domain: String,
    },
    /// The record is valid, but its value is no path.
    #[error("the record of {name} is valid, but points nowhere: {error}")]
    Value {
        /// The name.
        name: Name,
        /// Why.
        error: ValueError,
    },
    /// It was cancelled.
    #[error("the resolve was cancelled")]
    Cancelled,
    /// Too many operations are under way.
    #[error("too many operations at once; try again later")]
    Overloaded,
}

/// Why a name is not followed. [`code`](FollowError::code) is stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FollowError {
    /// As many names are followed as are allowed.
    #[error("{limit} names are followed already; unfollow some, or allow more")]
    TooMany {
        /// The limit.
        limit: usize,
    },
}

impl FollowError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooMany { .. } => "followed_too_many",
        }
    }
}

/// Why an inquiry was not answered. [`code`](InquireError::code) is stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InquireError {
    /// It was cancelled.
    #[error("the inquiry was cancelled")]
    Cancelled,
    /// Too many operations are under way.
    #[error("too many operations at once; try again later")]
    Overloaded,
}

impl InquireError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Overloaded => "overloaded",
        }
    }
}

fn summary(receipts: &[Receipt]) -> String {
    let failures = receipts.iter().filter_map(|r| Some(format!("{}: {}", r.label, r.outcome.as_ref().err()?)));
    let text = failures.collect::<Vec<_>>().join("; ");
    if text.is_empty() { text } else { format!(" ({text})") }
}

impl ResolveError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not_found",
            Self::Invalid { .. } => "invalid_record",
            Self::Unreachable { .. } => "unreachable",
            Self::Timeout { .. } => "timeout",
            Self::Loop { .. } => "loop",
            Self::TooDeep { .. } => "too_deep",
            Self::DnsLink { .. } => "dnslink",
            Self::Value { .. } => "value_malformed",
            Self::Cancelled => "cancelled",
            Self::Overloaded => "overloaded",
        }
    }

    /// What each router said, as far as any was asked.
    pub fn receipts(&self) -> &[Receipt] {
        match self {
            Self::NotFound { receipts, .. }
            | Self::Invalid { receipts, .. }
            | Self::Unreachable { receipts, .. }
            | Self::Timeout { receipts, .. } => receipts,
            _ => &[],
        }
    }
}
