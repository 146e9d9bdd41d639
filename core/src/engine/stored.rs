//! How the engine's entries look in a store. Protobuf, so that later versions can add fields.

use core::time::Duration;

use bytes::Bytes;
use prost::Message;

use crate::time::Timestamp;

/// An entry of [`Table::Records`](crate::store::Table::Records): the newest record known of a name.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct StoredRecord {
    /// The record's bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub record: Bytes,
    /// When it was last received or confirmed, in seconds of the Unix epoch.
    #[prost(int64, tag = "2")]
    pub received: i64,
}

/// An entry of [`Table::Own`](crate::store::Table::Own): a name that this node publishes.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct StoredOwn {
    /// The newest record's bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub record: Bytes,
    /// The lifetime that the owner chose, in nanoseconds.
    #[prost(uint64, tag = "2")]
    pub lifetime_ns: u64,
    /// When it was last sent to any router, in seconds of the Unix epoch; 0 if never.
    #[prost(int64, tag = "3")]
    pub last_sent: i64,
    /// How many routers took it then.
    #[prost(uint32, tag = "4")]
    pub acks: u32,
    /// Why it was not sent, if it was not.
    #[prost(string, tag = "5")]
    pub last_error: String,
    /// How often in a row it was not sent.
    #[prost(uint32, tag = "6")]
    pub failures: u32,
}

/// An entry of [`Table::Followed`](crate::store::Table::Followed): a name of someone else that this node keeps alive.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct StoredFollowed {
    /// The newest record's bytes; empty before one was found.
    #[prost(bytes = "bytes", tag = "1")]
    pub record: Bytes,
    /// When it was last sent to any router, in seconds of the Unix epoch; 0 if never.
    #[prost(int64, tag = "2")]
    pub last_sent: i64,
    /// How many routers took it then.
    #[prost(uint32, tag = "3")]
    pub acks: u32,
    /// How often in a row it was not sent.
    #[prost(uint32, tag = "4")]
    pub failures: u32,
    /// Why it was not sent, if it was not.
    #[prost(string, tag = "5")]
    pub last_error: String,
}

/// An entry of [`Table::Queued`](crate::store::Table::Queued): a record that was signed for later.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct StoredQueued {
    /// The record's bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub record: Bytes,
    /// When it is to be sent, in seconds of the Unix epoch.
    #[prost(int64, tag = "2")]
    pub at: i64,
}

impl StoredFollowed {
    /// The entry as it is stored.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.encode_to_vec()
    }

    /// Reads an entry. `None` for bytes that are none.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Self::decode(bytes).ok()
    }
}

impl StoredQueued {
    /// The entry as it is stored.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.encode_to_vec()
    }

    /// Reads an entry. `None` for bytes that are none.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Self::decode(bytes).ok().filter(|entry| !entry.record.is_empty())
    }
}

impl StoredRecord {
    /// The entry as it is stored.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.encode_to_vec()
    }

    /// Reads an entry. `None` for bytes that are none.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Self::decode(bytes).ok().filter(|entry| !entry.record.is_empty())
    }

    /// When it was last received or confirmed.
    pub fn received(&self) -> Timestamp {
        Timestamp::from_unix_secs(self.received)
    }
}

impl StoredOwn {
    /// The entry as it is stored.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.encode_to_vec()
    }

    /// Reads an entry. `None` for bytes that are none.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Self::decode(bytes).ok().filter(|entry| !entry.record.is_empty())
    }

    /// The lifetime that the owner chose.
    pub fn lifetime(&self) -> Duration {
        Duration::from_nanos(self.lifetime_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trips(record in proptest::collection::vec(any::<u8>(), 1..50), received: i64, error in ".{0,20}") {
            let record = Bytes::from(record);
            let stored = StoredRecord { record: record.clone(), received };
            prop_assert_eq!(StoredRecord::from_bytes(&stored.encode_to_vec()), Some(stored));
            let failures = 2;
            let last_error = error.clone();
            let own = StoredOwn {
                record: record.clone(), lifetime_ns: 7, last_sent: received, acks: 3, last_error, failures,
            };
            prop_assert_eq!(StoredOwn::from_bytes(&own.encode_to_vec()), Some(own));
            let queued = StoredQueued { record: record.clone(), at: received };
            prop_assert_eq!(StoredQueued::from_bytes(&queued.encode_to_vec()), Some(queued));
            let followed = StoredFollowed { record, last_sent: received, acks: 3, last_error: error, failures };
            prop_assert_eq!(StoredFollowed::from_bytes(&followed.encode_to_vec()), Some(followed));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..50)) {
            let _ = StoredRecord::from_bytes(&bytes);
            let _ = StoredOwn::from_bytes(&bytes);
            let _ = StoredFollowed::from_bytes(&bytes);
            let _ = StoredQueued::from_bytes(&bytes);
        }
    }
}
