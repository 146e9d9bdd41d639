//! A deterministic world for IPNS engines: virtual time, one event queue, one seed.
//!
//! The engines are the ones of production, unchanged: a [`World`] is to them what a driver, a network, a disk and a
//! clock are outside. A minute of a hundred nodes takes well under a second, and the same seed gives the same events
//! in the same order; [`World::trace`] tells whether it did. The program `ipns-sim` compares strategies by [`measure`],
//! breaks small networks in every way it knows by [`check`], and keeps a million names alive by [`keep`].
//!
//! ```
//! use std::time::Duration;
//!
//! use ipns_core::dht;
//! use ipns_core::engine::{Config, Event, Publish, Resolve};
//! use ipns_core::key::{KeyType, SecretKey, Signer};
//! use ipns_core::routing::Router;
//! use ipns_sim::{Links, NodeId, World};
//!
//! let mut world = World::new(7, Links::default());
//! for n in 0..30 {
//!     let seeds = vec![dht::PeerInfo { id: World::peer_id(NodeId(0)), addresses: vec![World::address(NodeId(0))] }];
//!     let dht = dht::Config { seeds, ..dht::Config::public(World::peer_id(NodeId(n))) };
//!     world.add(true, Config { routers: vec![Router::dht("dht", dht)], ..Config::default() });
//!     world.run_for(Duration::from_secs(1));
//! }
//! world.run_for(Duration::from_secs(60));
//! let key = SecretKey::generate(KeyType::Ed25519, [1; 32], 0)?;
//! let (name, what) = (key.public_key().to_name(), Publish::new(key.public_key(), "/ipfs/bafkqaaa".parse()?));
//! world.give_key(NodeId(3), key);
//! world.call(NodeId(3), |engine, now| engine.publish(now, what));
//! world.run_for(Duration::from_secs(5));
//! world.call(NodeId(20), |engine, now| engine.resolve(now, name, Resolve::default()));
//! let found = world.until(Duration::from_secs(60), |told| match &told.event {
//!     Event::Resolved { result: Ok(found), .. } => Some(found.value.to_string()),
//!     _ => None,
//! });
//! assert_eq!(found.as_deref(), Some("/ipfs/bafkqaaa"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

pub mod check;
mod classic;
mod dice;
mod disk;
mod faults;
mod host;
mod identity;
pub mod keep;
mod link;
pub mod measure;
mod order;
mod queue;
mod servers;
mod values;
mod walker;
mod witness;
mod world;

pub use classic::{Classic, Finished};
pub use faults::Lie;
pub use host::Did;
pub use link::Links;
pub use servers::{Churn, Servers};
pub use witness::Violation;
pub use world::{NodeId, Told, Traffic, World};
