//! Peers, addresses and records for the tests of this module.

use core::time::Duration;

use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use sha2::{Digest, Sha256};

use crate::key::{KeyType, SecretKey, Signer};
use crate::name::Name;
use crate::record::{Checks, RecordBuilder, Verified};
use crate::time::{Now, Timestamp};

pub(crate) const START: Now = Now { monotonic: Duration::from_secs(1000), wall: Timestamp::UNIX_EPOCH };

pub(crate) fn peer(n: u32) -> PeerId {
    PeerId::from_bytes(&[&[0x12, 0x20][..], &Sha256::digest(n.to_be_bytes())].concat()).unwrap()
}

/// A public address; the first 20,000 are of different /16.
pub(crate) fn address(n: u32) -> Multiaddr {
    let (a, b, c) = (11 + n % 89, n / 89 % 256, n / 89 / 256 % 256);
    format!("/ip4/{a}.{b}.{c}.1/tcp/4001").parse().unwrap()
}

/// Someone who publishes under one name.
pub(crate) struct Publisher(SecretKey);

impl Publisher {
    pub(crate) fn new(seed: u8) -> Self {
        Self(SecretKey::generate(KeyType::Ed25519, [seed; 32], 0).unwrap())
    }

    pub(crate) fn name(&self) -> Name {
        self.0.public_key().to_name()
    }

    /// A record that ends `eol` seconds after [`START`].
    pub(crate) fn record(&self, sequence: u64, eol: i64) -> Verified {
        let eol = Timestamp::from_unix_secs(eol);
        let record = RecordBuilder::new("/ipfs/bafkqaaa".parse().unwrap(), sequence, eol).sign(&self.0).unwrap();
        Checks::at(Timestamp::MIN).verify(record.as_bytes().clone(), &self.name()).unwrap()
    }
}
