//! What an application asks an engine to do.

use core::time::Duration;

use bytes::Bytes;

use crate::key::PublicKey;
use crate::name::Name;
use crate::record::{Metadata, Version};
use crate::routing::Depth;
use crate::value::Value;

/// How many routers must take a record for a publish to succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// At least one.
    #[default]
    Any,
    /// Every one.
    All,
    /// At least so many.
    AtLeast(usize),
}

impl Policy {
    /// How many of `routers` routers that is.
    pub fn needed(self, routers: usize) -> usize {
        match self {
            Self::Any => 1,
            Self::All => routers.max(1),
            Self::AtLeast(count) => count,
        }
    }
}

/// What to do when the network has a record of an own name that this node did not make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnConflict {
    /// Rise above it. A record that was sent while the network was still being read is followed by one with a higher
    /// sequence then.
    #[default]
    Rebase,
    /// Publish nothing: the network is read before anything is sent.
    Fail,
}

/// A value to publish under the name of a key.
///
/// The network is read on the way, and nothing is told before that is over. The first record of a name here, unless it is
/// that of a [new key](Self::new_key), and one with a `sequence` or `if_sequence`, is not sent before either; any other is
/// sent meanwhile: to a DHT at once, to another router when it has answered. A foreign record of the very same sequence
/// that ends earlier is not seen then if every peer that is read gets ours first. Whoever cannot have that asks for
/// [`OnConflict::Fail`].
#[derive(Debug, Clone)]
pub struct Publish {
    /// The public key; the engine asks for signatures with [`Output::Sign`](super::Output::Sign).
    pub key: PublicKey,
    /// What the name is to point at.
    pub value: Value,
    /// How long the record is valid; the engine's default if `None`.
    pub lifetime: Option<Duration>,
    /// How long resolvers may keep it; the engine's default if `None`.
    pub ttl: Option<Duration>,
    /// Which fields to write.
    pub version: Version,
    /// Additional signed entries.
    pub metadata: Metadata,
    /// The sequence, which must be above the newest known; the next one if `None`.
    pub sequence: Option<u64>,
    /// Publish only if this is the newest sequence known, here and in the network.
    pub if_sequence: Option<u64>,
    /// How many routers must take it.
    pub policy: Policy,
    /// Whether to succeed when the record is stored here and no router could be reached.
    pub allow_offline: bool,
    /// What to do about a foreign record.
    pub on_conflict: OnConflict,
    /// Whether the key was made just now, so that nobody has a record of it that this node's store does not know. Its first
    /// record need not wait for the network to be read then. If somebody has published with it all the same, the first
    /// record is followed by one with a higher sequence, as any other; but for that moment one sequence may have stood for
    /// two values. `false` is never wrong.
    pub new_key: bool,
}

impl Publish {
    /// A publish with the engine's defaults.
    pub fn new(key: PublicKey, value: Value) -> Self {
        Self {
            key,
            value,
            lifetime: None,
            ttl: None,
            version: Version::default(),
            metadata: Metadata::new(),
            sequence: None,
            if_sequence: None,
            policy: Policy::default(),
            allow_offline: false,
            on_conflict: OnConflict::default(),
            new_key: false,
        }
    }
}

/// A ready record to store and send.
#[derive(Debug, Clone)]
pub struct Put {
    /// Whose record it is.
    pub name: Name,
    /// The record's bytes.
    pub record: Bytes,
    /// Whether to send it although a newer one is known here. The newer one stays what this node returns.
    pub force: bool,
    /// Whether to keep the name alive from now on, as one that is [followed](super::Engine::follow), unless as many are as
    /// may be.
    pub keep: bool,
    /// How many routers must take it.
    pub policy: Policy,
    /// Whether to succeed when the record is stored here and no router could be reached.
    pub allow_offline: bool,
}

/// When a resolve has heard enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Enough {
    /// The first valid record, a cached one included even when its TTL has passed.
    First,
    /// Every router that is not failing has answered; a DHT has when a newer record is as unlikely as one in a thousand.
    #[default]
    Probable,
    /// So many answers, weighted; or all there are. Of a DHT each peer's answer counts.
    Answers(u32),
}

impl Enough {
    /// How thoroughly routers of many peers are asked for it. What comes after the first answer is worth having all the
    /// same: it is cached, and corrects peers that hold an older record.
    pub(crate) fn depth(self) -> Depth {
        match self {
            Self::First | Self::Probable => Depth::Usual,
            Self::Answers(count) => Depth::Answers(count),
        }
    }
}

/// How a name is resolved.
#[derive(Debug, Clone)]
pub struct Resolve {
    /// When enough has been heard.
    pub enough: Enough,
    /// Whether a fresh cached record may answer without asking anyone.
    pub cache: bool,
    /// Whether to ask nobody at all.
    pub offline: bool,
    /// Whether to follow names that the value points to.
    pub recursive: bool,
    /// Whether to report every improvement before the end.
    pub stream: bool,
    /// A path below the name, empty or beginning with `/`, carried over to the value.
    pub below: String,
    /// How long it may take; the engine's default if `None`.
    pub timeout: Option<Duration>,
}

impl Default for Resolve {
    fn default() -> Self {
        Self {
            enough: Enough::default(),
            cache: true,
            offline: false,
            recursive: true,
            stream: false,
            below: String::new(),
            timeout: None,
        }
    }
}
