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
}

impl StoredRecord {
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
            let own = StoredOwn { record, lifetime_ns: 7, last_sent: received, acks: 3, last_error: error };
            prop_assert_eq!(StoredOwn::from_bytes(&own.encode_to_vec()), Some(own));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..50)) {
            let _ = StoredRecord::from_bytes(&bytes);
            let _ = StoredOwn::from_bytes(&bytes);
        }
    }
}
