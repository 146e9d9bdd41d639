//! IPNS over libp2p: carries what the Kademlia node of `ipns-core` asks and answers over a swarm's streams.
//!
//! ```text
//!  engine ──NetCommand──▶ Behaviour ──▶ Asks: queue, dial, pick a connection, deadline
//!    ▲                        │  ▲
//!    │                   Order│  │Report        one Handler for each connection
//!    │                        ▼  │
//!    │                      Handler ──▶ exchange: a question on a stream of its own
//!    │                              └─▶ inbound:  a stream of a peer, one request after the other
//!    └──NetEvent── answers, requests, who serves what and where, the own addresses
//! ```
//!
//! A [`Behaviour`] needs no runtime and fits into any swarm:
//!
//! - **Every question ends once**, within its time, dialling included: with the answer, or with what went wrong. Questions
//!   to one peer share a dial and its connections. One that a closing connection swallowed unseen is put again.
//! - **Server mode is a switch.** `NetCommand::Serve` changes what open connections offer, too, and identify tells it on.
//! - **A refusal is a reset at once.** Over yamux the peer sees a reset, unless it has closed its side already. libp2p's
//!   QUIC cannot reset a stream: there the peer sees it end and take no more bytes, which this crate reads as a reset.
//! - **Floods cost what [`Limits`] say.** Bytes are held as they come, not as they are announced; a peer that opens
//!   thousands of streams, trickles bytes or sends megabytes takes nothing from others.
//!
//! What peers tell of themselves comes from the swarm's identify, so have one; ping, AutoNAT and limits on connections
//! are the swarm's business too.
//!
//! | feature | for |
//! |---|---|
//! | none | an application that has a swarm: [`Behaviour`] |
//! | `tokio`, `async-io` | one that has none: `node` starts a swarm with all that a member of a DHT needs, on a `Platform` |
//! | `tokio-quic`, `async-io-quic` | QUIC beside TCP there |
//! | `kad` | one whose swarm runs libp2p's own Kademlia: `bridge` makes that a router of a node |
//!
//! ```
//! use futures_channel::mpsc::unbounded;
//! use ipns_core::dht::PUBLIC_PROTOCOL;
//! use ipns_core::routing::RouterId;
//! use ipns_libp2p::{Behaviour, Limits};
//! use libp2p::swarm::{NetworkBehaviour, StreamProtocol};
//! use libp2p::{SwarmBuilder, identify, noise, tcp, yamux};
//!
//! #[derive(NetworkBehaviour)]
//! struct Mine {
//!     identify: identify::Behaviour,
//!     ipns: Behaviour,
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (commands, from_node) = unbounded(); // the node keeps `commands` and `events`
//! let (to_node, events) = unbounded();
//! let protocols = vec![(RouterId(0), StreamProtocol::new(PUBLIC_PROTOCOL))];
//! let ipns = Behaviour::new(protocols, Limits::default(), from_node, to_node);
//! let mut swarm = SwarmBuilder::with_new_identity()
//!     .with_tokio()
//!     .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)?
//!     .with_behaviour(|key| Mine {
//!         identify: identify::Behaviour::new(identify::Config::new("ipfs/0.1.0".into(), key.public())),
//!         ipns,
//!     })?
//!     .build();
//! swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?; // and then drive the swarm as ever
//! # drop((commands, events)); Ok(()) }
//! ```

#![forbid(unsafe_code)]

mod asks;
#[cfg(feature = "async-io")]
mod async_io;
mod behaviour;
#[cfg(feature = "kad")]
mod bridge;
#[cfg(feature = "_node")]
mod connections;
mod exchange;
mod frames;
mod handler;
mod inbound;
mod ledger;
mod limits;
#[cfg(feature = "_node")]
mod node;
#[cfg(feature = "_node")]
mod platform;
mod reach;
#[cfg(feature = "_node")]
mod security;
#[cfg(feature = "_node")]
mod spawn;
#[cfg(feature = "tokio")]
mod tokio;
mod told;
#[cfg(feature = "_node")]
mod transport;

#[doc(hidden)]
pub use behaviour::Usage;
pub use behaviour::{Behaviour, Stopped};
#[cfg(feature = "kad")]
pub use bridge::{Bridge, BridgeConfig, KadRouter, Task, bridge};
#[cfg(feature = "_node")]
pub use connections::ConnectionLimits;
pub use limits::Limits;
#[cfg(feature = "_node")]
pub use node::{Node, NodeConfig, NodeError, node};
#[cfg(feature = "_node")]
pub use platform::{Platform, Transport};
#[cfg(feature = "_node")]
pub use spawn::{Listening, spawn_with_network};
