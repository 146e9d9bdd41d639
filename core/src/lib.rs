//! IPNS as a pure state machine: names, records, publishing, resolving and routing, without I/O.
//!
//! [IPNS](https://specs.ipfs.tech/ipns/ipns-record/) gives mutable, self-certifying names to content-addressed data: a
//! [`Name`] is a public key, a signed [`Record`] says where it points now. This crate is all of the protocol and none
//! of the world: it reads no clock, opens no socket, spawns nothing, and draws no randomness of its own.
//!
//! | floor | what is there |
//! |---|---|
//! | [`engine`] | [`Engine`](engine::Engine): publish, resolve, watch, serve, keep alive; the one public face |
//! | [`routing`] | routers and what they say; Delegated Routing V1 over HTTP, both halves; the DHT nodes of an engine |
//! | [`dht`] | a Kademlia node, client and server: each DHT router of an engine is one |
//! | [`record`] | create, decode, verify, select |
//! | [`value`], [`name`], [`key`], [`time`] | what a name points at, names, keys, instants |
//! | [`store`] | what a store must do for an engine |
//!
//! A floor uses only those below it. [`Record`] is parsed, [`Verified`] is verified for a name, and only the latter is
//! ever returned, stored, served or compared.
//!
//! To run an engine on an async runtime, see the crates `ipns-driver`, `ipns-tokio`, `ipns-smol` and `ipns-async-std`;
//! to carry what its DHT nodes say over libp2p, `ipns-libp2p`; to run many engines in virtual time, `ipns-sim`. To verify
//! a record you have:
//!
//! ```
//! use ipns_core::record::Checks;
//! use ipns_core::{Name, Timestamp, Verified};
//!
//! fn check(bytes: Vec<u8>, name: &str, now: Timestamp) -> Result<Verified, Box<dyn std::error::Error>> {
//!     let name: Name = name.parse()?;
//!     Ok(Checks::at(now).verify(bytes, &name)?)
//! }
//! ```
//!
//! # Without std
//!
//! With `default-features = false` the crate is `no_std` and needs an allocator and atomic pointers. [`time`], [`key`],
//! [`name`], [`value`], [`record`] and [`store`] are there in full but for `Name::to_peer_id`: all four types of key
//! verify, sign, and are made, read and written, PEM included. `engine`, `routing` and `dht` are not; what they need:
//!
//! | crate | what it is needed for | why it needs std |
//! |---|---|---|
//! | `libp2p-identity` | `PeerId`, in `dht` and `routing` | has no `no_std` |
//! | `multiaddr` | the addresses of peers, in `dht` and `routing` | has no `no_std`, and is built on `libp2p-identity` |
//! | `http` | requests and answers, in `routing` and `engine` | refuses to be built without its feature `std` |
//!
//! RSA signatures are verified by ring with std and by the crate `rsa` without. Both take the same signatures, ring
//! faster; and an RSA public key that is not strict DER is malformed without std, where libp2p's reader lets
//! some pass. Tables that make secp256k1 sign faster are computed with std only.

#![cfg_attr(not(any(feature = "std", test)), no_std)]

extern crate alloc;

#[cfg(feature = "std")]
pub mod dht;
#[cfg(feature = "std")]
pub mod engine;
pub mod key;
pub mod name;
pub mod record;
#[cfg(feature = "std")]
pub mod routing;
pub mod store;
pub mod time;
pub mod value;

pub use name::Name;
pub use record::{Record, Verified};
pub use time::{Now, Timestamp};
pub use value::Value;
