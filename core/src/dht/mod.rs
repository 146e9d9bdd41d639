//! A Kademlia node, client and server, as a pure state machine (libp2p kad-dht spec).
//!
//! It opens no connection and reads no clock. A caller tells it what happened and when, one call at a time, and then
//! drains [`Dht::poll_output`] until `None`; at [`Dht::next_timeout`] at the latest it calls [`Dht::on_timeout`].
//! The same seed and the same calls give the same outputs, bit for bit.
//!
//! # The way of one response
//!
//! ```text
//!  bytes ── message::Response::decode ──▶ Dht::on_response(now, RpcId, Ok(response))
//!              bounded, lazily read         │
//!                                           ├─ rpc: is that question out? was it answered in kind?
//!                                           ├─ peers: the peer lives: book (RTT, addresses), table (a place, if free)
//!                                           ├─ query: the operation that asked
//!                                           │    ├─ lookup: the peer answered; the peers it names are candidates
//!                                           │    ├─ get: is its record valid, and better? is it sure enough by now?
//!                                           │    └─ advance: ask the next ones, or finish
//!                                           ├─ crawl, sweep: the peers it names are asked next
//!                                           └─ upkeep: checks, refreshes, a change of health
//!  Output::Rpc ◀── the next questions          Output::Event ◀── Found, GetDone, Health …
//! ```
//!
//! A question has two time-outs. After the first, which adapts to the peer, it is *slow*: its slot goes to another
//! peer, and its answer still counts. After the second, ten seconds, it is over. So dead peers cost nothing but their
//! slot for a moment.
//!
//! A node may [crawl](Crawling): it asks every server for its neighbours, and knows the nearest of any key then. A lookup
//! is the same as ever, but begins where others end.
//!
//! Many records are sent again by [`Dht::resend`], which explores each region of the key space once for all of them.
//!
//! Somebody may make up peers until they are all that is near to a name, to swallow its records or to hide them. Such a
//! crowd is denser than chance allows: where there is one, the servers of the whole region are looked for by way of
//! others, and a few of each part of the name's neighbourhood are read from and sent to instead of the nearest.
//!
//! To publish, [`Dht::walk`] to the name first: it connects to the nearest peers on its way, and ends with the newest
//! record in the network. Sign and store a newer one, then [`Dht::publish`] it: the walk goes on, and each peer that is
//! surely among the nearest gets it as soon as it is known to be. Whoever knows which record is to be newer than need not
//! wait for the end of the walk.
//!
//! ```
//! use core::time::Duration;
//! use ipns_core::dht::{Config, Dht, Event, Output, Until};
//! use ipns_core::{Name, Now, Timestamp};
//! use libp2p_identity::PeerId;
//!
//! let name: Name = "12D3KooWLQzUv2FHWGVPXTXSZpdHs7oHbXub2G5WC8Tx4NQhyd2d".parse()?;
//! let now = Now { monotonic: Duration::ZERO, wall: Timestamp::UNIX_EPOCH };
//! let mut dht = Dht::new(Config::public(name.to_peer_id()), [7; 32], now);
//! let query = dht.get(now, name, Until::Probable(1e-3));
//! while let Some(output) = dht.poll_output() {
//!     // Nobody is known yet: the get ends at once, without a record.
//!     if let Output::Event(Event::GetDone { query: done, best, .. }) = output {
//!         assert_eq!((done, best), (query, None));
//!     }
//! }
//! # Ok::<(), ipns_core::name::NameError>(())
//! ```

mod action;
mod address;
mod book;
mod bootstrap;
mod config;
mod crawl;
mod crowd;
pub mod frame;
mod get;
#[cfg(test)]
mod inputs;
mod kept;
mod key;
mod lookup;
mod message;
mod node;
mod operations;
mod output;
mod peers;
mod provide;
mod put;
mod query;
mod rpc;
mod serve;
mod size;
mod sweep;
mod table;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod upkeep;
mod values;
mod walk;
mod wire;
#[cfg(test)]
mod world;

pub use address::{AddressPolicy, AsnLookup, Group, MAX_ADDRESS_BYTES, MAX_ADDRESSES, Scope, scope};
pub use bootstrap::{Health, Standing};
pub use config::{Config, LAN_PROTOCOL, Limits, Mode, PUBLIC_BOOTSTRAP, PUBLIC_PROTOCOL, public_bootstrap};
pub use crawl::{Coverage, Crawling};
pub use get::{Freshness, Until, miss_probability};
pub use key::{Distance, Key};
pub use message::{
    MAX_KEY_BYTES, MAX_PEERS, MAX_PROVIDER_KEY_BYTES, MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES, MAX_VALUE_BYTES,
    MessageError, PeerInfo, Request, Response, ValueRecord,
};
pub use node::{Dht, Usage};
pub use output::{Event, InboundId, Output, QueryId};
pub use peers::TableEntry;
pub use provide::{PROVIDER_ADDRESS_LIFETIME, PROVIDER_LIFETIME, REPROVIDE_INTERVAL};
pub use put::{Outcome, Tally};
pub use rpc::{RpcError, RpcId};
pub use values::{Quota, Refused, VALUE_LIFETIME};

pub use libp2p_identity::PeerId;
pub use multiaddr::Multiaddr;
