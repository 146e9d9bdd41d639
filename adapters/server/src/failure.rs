//! How a command fails: a stable code, words for people, and the exit status of the program.

use ipns_core::engine::{FollowError, InquireError, PublishError, QueueError, ResolveError};
use ipns_core::key::KeyError;
use ipns_core::name::NameError;
use ipns_core::record::RecordError;
use ipns_core::routing::RouteError;
use ipns_core::store::StoreError;
use ipns_core::value::ValueError;
use ipns_store::KeyStoreError;
use serde::{Deserialize, Serialize};

use crate::report::{PublishReport, ReceiptReport, receipts};

/// The exit statuses of the program.
pub mod exit {
    /// Something failed.
    pub const FAILED: u8 = 1;
    /// The command line is wrong.
    pub const USAGE: u8 = 2;
    /// Nothing was found.
    pub const NOT_FOUND: u8 = 3;
    /// A record or a name is not valid.
    pub const INVALID: u8 = 4;
    /// No router could be reached, or the policy was not met.
    pub const NETWORK: u8 = 5;
    /// The sequence is not what it should be.
    pub const CONFLICT: u8 = 6;
    /// The store or the key store failed.
    pub const STORE: u8 = 7;
}

/// Why a command failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{}", .error.message)]
pub struct Failure {
    /// Code and message.
    pub error: FailureText,
    /// The exit status of the program.
    #[serde(default = "failed", skip_serializing_if = "is_failed")]
    pub exit: u8,
    /// What was stored although too few routers took it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<PublishReport>,
    /// What each router said, as far as any was asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub receipts: Vec<ReceiptReport>,
}

/// A stable code and words for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureText {
    /// The code.
    pub code: String,
    /// Cause, and what to do.
    pub message: String,
}

fn failed() -> u8 {
    exit::FAILED
}

fn is_failed(status: &u8) -> bool {
    *status == exit::FAILED
}

impl Failure {
    /// A failure with nothing but code and message.
    pub fn new(exit: u8, code: impl Into<String>, message: impl Into<String>) -> Self {
        let error = FailureText { code: code.into(), message: message.into() };
        Self { error, exit, published: None, receipts: Vec::new() }
    }
}

impl From<PublishError> for Failure {
    fn from(error: PublishError) -> Self {
        let error = match error {
            PublishError::NoRecord(error) => return error.into(),
            error => error,
        };
        let status = match &error {
            PublishError::Record(_) => exit::INVALID,
            PublishError::Unread { .. } | PublishError::NoRouter | PublishError::PolicyNotMet { .. } => exit::NETWORK,
            PublishError::Timeout => exit::NETWORK,
            PublishError::NotKept => exit::NOT_FOUND,
            PublishError::SequenceTooLow { .. }
            | PublishError::SequenceChanged { .. }
            | PublishError::SequenceExhausted
            | PublishError::Conflict { .. } => exit::CONFLICT,
            PublishError::Store(_) => exit::STORE,
            _ => exit::FAILED,
        };
        let mut failure = Self::new(status, error.code(), error.to_string());
        match &error {
            PublishError::PolicyNotMet { publication, .. } => {
                // The routers that refused for a newer record make it a conflict, whatever else failed.
                let conflict = |r: &ipns_core::routing::Receipt| matches!(r.outcome, Err(RouteError::Conflict { .. }));
                if publication.receipts.iter().any(conflict) {
                    failure.exit = exit::CONFLICT;
                }
                failure.published = Some(PublishReport::from(publication.as_ref()));
            }
            PublishError::Unread { receipts: said } => failure.receipts = receipts(said),
            _ => {}
        }
        failure
    }
}

impl From<ResolveError> for Failure {
    fn from(error: ResolveError) -> Self {
        let status = match &error {
            ResolveError::NotFound { .. } => exit::NOT_FOUND,
            ResolveError::Invalid { .. } | ResolveError::Value { .. } => exit::INVALID,
            ResolveError::Unreachable { .. } | ResolveError::Timeout { .. } => exit::NETWORK,
            _ => exit::FAILED,
        };
        let mut failure = Self::new(status, error.code(), error.to_string());
        failure.receipts = receipts(error.receipts());
        failure
    }
}

impl From<FollowError> for Failure {
    fn from(error: FollowError) -> Self {
        Self::new(exit::FAILED, error.code(), error.to_string())
    }
}

impl From<QueueError> for Failure {
    fn from(error: QueueError) -> Self {
        let status = if matches!(error, QueueError::Full { .. }) { exit::FAILED } else { exit::INVALID };
        Self::new(status, error.code(), error.to_string())
    }
}

impl<E: Into<Failure>> From<ipns_driver::Refusal<E>> for Failure {
    fn from(error: ipns_driver::Refusal<E>) -> Self {
        match error {
            ipns_driver::Refusal::Refused(error) => error.into(),
            ipns_driver::Refusal::Stopped(error) => error.into(),
        }
    }
}

impl From<InquireError> for Failure {
    fn from(error: InquireError) -> Self {
        Self::new(exit::FAILED, error.code(), error.to_string())
    }
}

impl From<NameError> for Failure {
    fn from(error: NameError) -> Self {
        Self::new(exit::INVALID, error.code(), error.to_string())
    }
}

impl From<RecordError> for Failure {
    fn from(error: RecordError) -> Self {
        Self::new(exit::INVALID, error.code(), error.to_string())
    }
}

impl From<ValueError> for Failure {
    fn from(error: ValueError) -> Self {
        Self::new(exit::USAGE, error.code(), error.to_string())
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        Self::new(exit::FAILED, error.code(), error.to_string())
    }
}

impl From<KeyStoreError> for Failure {
    fn from(error: KeyStoreError) -> Self {
        Self::new(exit::STORE, error.code(), error.to_string())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::new(exit::STORE, error.code(), error.to_string())
    }
}

impl From<ipns_driver::Stopped> for Failure {
    fn from(error: ipns_driver::Stopped) -> Self {
        Self::new(exit::FAILED, "stopped", error.to_string())
    }
}
