//! Runs an [`Engine`](ipns_core::engine::Engine) on any async runtime.
//!
//! A [`Node`] owns an engine and carries out what it asks: HTTP requests through the [`Runtime`], signatures through
//! [`Signer`](ipns_core::key::Signer)s, reads and writes through a [`Store`](ipns_core::store::Store), and whatever a
//! [`Router`] of the application does; the questions of its DHTs go over a [`Network`]. A [`Handle`] is how the
//! application talks to it: cheap to clone, `Send + Sync`, and a dropped future of it cancels what it waited for.
//!
//! ```text
//!  Handle ──commands──▶ ┌──────────── Node ────────────┐ ──▶ Runtime: HTTP, sleep, spawn
//!    ▲                  │ engine.publish / resolve / … │ ──▶ store thread (group commit)
//!    └──results, events─│ loop: inputs, timer, outputs │ ──▶ signing thread
//!                       │                              │ ──▶ Routers of the application
//!                       └──────────────────────────────┘ ◀─▶ Network: peers of DHTs
//! ```
//!
//! This crate knows no runtime. Use `ipns-tokio`, `ipns-smol` or `ipns-async-std`, or implement [`Runtime`] for an executor
//! of your own: three methods, of which the feature `isahc` brings one, an HTTP client that runs wherever futures do.

#![forbid(unsafe_code)]

mod clock;
mod dht;
mod handle;
#[cfg(feature = "isahc")]
mod isahc;
mod keeping;
mod network;
mod node;
mod router;
mod runtime;
mod stats;
mod work;

pub use clock::{Clock, SystemClock};
pub use dht::{Answers, DhtHealth, Told};
pub use handle::{Handle, Stopped, Updates};
#[cfg(feature = "isahc")]
pub use isahc::Isahc;
pub use keeping::Refusal;
pub use network::{Network, NetworkEnd, link};
pub use node::{BuildNodeError, Builder, Node, SpawnError};
pub use router::{Found, Router};
pub use runtime::{BoxFuture, HttpClient, NoHttp, Runtime};
pub use stats::Stats;

pub use ipns_core as core;
