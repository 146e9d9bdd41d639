//! What a store must do for an engine: a few ordered tables of bytes with atomic, durable commits.
//!
//! The engine never calls a store itself: it emits `Output::Store` and a driver
//! carries that to an implementation of [`Store`]. The trait is here so that a store needs no runtime and no driver.

use alloc::string::String;
use alloc::vec::Vec;

use thiserror::Error;

/// A table of a store. Tables are independent: the same key may stand in several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Table {
    /// The names that this node publishes: one entry a name, kept until its owner removes it.
    Own,
    /// Names of others that this node keeps alive: one entry a name, kept until it is unfollowed.
    Followed,
    /// Records that were signed for later.
    Queued,
    /// The newest record known of any name: expires and may be evicted.
    Records,
    /// Small facts about the node itself.
    Meta,
    /// Records that DHT nodes keep for others: expire.
    Values,
    /// Provider records that DHT nodes keep for others: expire.
    Providers,
    /// DHT servers that were met: what nodes start from after a restart.
    Peers,
}

impl Table {
    /// Every table, in a fixed order.
    pub const ALL: [Table; 8] = [
        Table::Own,
        Table::Followed,
        Table::Queued,
        Table::Records,
        Table::Meta,
        Table::Values,
        Table::Providers,
        Table::Peers,
    ];

    /// The table's stable name, as a store may write it to disk.
    pub fn as_str(self) -> &'static str {
        match self {
            Table::Own => "own",
            Table::Followed => "followed",
            Table::Queued => "queued",
            Table::Records => "records",
            Table::Meta => "meta",
            Table::Values => "values",
            Table::Providers => "providers",
            Table::Peers => "peers",
        }
    }
}

/// One change of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Where.
    pub table: Table,
    /// The key, at most [`MAX_KEY_BYTES`].
    pub key: Vec<u8>,
    /// The new value, at most [`MAX_VALUE_BYTES`]; `None` removes the entry.
    pub value: Option<Vec<u8>>,
}

/// The longest key that an engine writes.
pub const MAX_KEY_BYTES: usize = 128;
/// The longest value that an engine writes.
pub const MAX_VALUE_BYTES: usize = 64 * 1024;

/// Entries of a table in key order: `(key, value)`.
pub type Entries = Vec<(Vec<u8>, Vec<u8>)>;

/// A place that keeps bytes. Implementations are synchronous; a driver runs them off the executor.
pub trait Store: Send + 'static {
    /// The value under `key`.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// At most `limit` entries of `table` in key order, those after `after` (exclusive) or from the first.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn scan(&self, table: Table, after: Option<&[u8]>, limit: usize) -> Result<Entries, StoreError>;

    /// Applies all of `batch` or nothing of it, in order, and returns when it is durable: a crash or a power cut
    /// after the return loses none of it.
    ///
    /// # Errors
    /// When it is not known to be durable. Nothing of it was applied, unless the very last write to the disk failed.
    fn commit(&mut self, batch: &[Write]) -> Result<(), StoreError>;
}

/// Why a store failed. [`code`](StoreError::code) is stable.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file is not one of ours. It was not touched.
    #[error("{path} is not an IPNS store; choose another path or move the file away")]
    Foreign {
        /// The file.
        path: String,
    },
    /// The file is one of ours but damaged. It was not touched.
    #[error("{path} is damaged ({reason}); restore it from a copy or move it away")]
    Corrupt {
        /// The file.
        path: String,
        /// What was found.
        reason: String,
    },
    /// The file was written by a newer version of this software.
    #[error("{path} has schema {found}, this program knows up to {known}; use a newer program")]
    TooNew {
        /// The file.
        path: String,
        /// Its schema version.
        found: u64,
        /// The newest that this code reads.
        known: u64,
    },
    /// Another process has the store open.
    #[error("{path} is in use by another process; stop it, or send the command to it")]
    Locked {
        /// The file.
        path: String,
    },
    /// The disk is full.
    #[error("no space left for {path}; nothing of this change was written")]
    Full {
        /// The file.
        path: String,
    },
    /// A key or value beyond the limits.
    #[error("{what} of {size} bytes is larger than the store takes, {limit}")]
    TooLarge {
        /// A key or a value.
        what: &'static str,
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// Any other failure of the disk or the operating system.
    #[error("{path}: {reason}")]
    Io {
        /// The file.
        path: String,
        /// The system's words.
        reason: String,
    },
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Foreign { .. } => "store_foreign",
            Self::Corrupt { .. } => "store_corrupt",
            Self::TooNew { .. } => "store_too_new",
            Self::Locked { .. } => "store_locked",
            Self::Full { .. } => "store_full",
            Self::TooLarge { .. } => "store_too_large",
            Self::Io { .. } => "store_io",
            Self::Closed => "store_closed",
        }
    }
}
