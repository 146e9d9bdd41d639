//! The engine: everything that IPNS decides, in one state machine.
//!
//! An [`Engine`] is driven like a quinn or str0m connection. Call one method that changes it ([`Engine::publish`],
//! [`Engine::resolve`], [`Engine::handle_input`] …), then drain [`Engine::poll_output`] and carry out each [`Output`];
//! give back what comes of it as [`Input`], and [`Input::Tick`] when [`Engine::next_timeout`] has come. It reads no
//! clock, opens no socket and draws no randomness: the same seed and inputs give the same outputs.
//!
//! ```text
//!   publish ─▶ Publishing ─┐                    ┌─▶ Output::Http, Route   (routing: calls, attempts, retries)
//!   resolve ─▶ Resolving  ─┤     Context        ├─▶ Output::Net           (questions and answers of DHT nodes)
//!   watch   ─▶ Watching   ─┼─▶  lookups, kept ──┼─▶ Output::Sign
//!   Request ─▶ Serving    ─┤    names, cache,   ├─▶ Output::Store         (persist before send)
//!   a turn  ─▶ Keeping    ─┘    DHT nodes       ├─▶ Output::Respond
//!                ▲                              └─▶ Output::Event         (results, improvements, warnings)
//!                └── wakes: a lookup changed, stored, signed, a call ended, time
//! ```
//!
//! The way of one answer: [`Input::Http`] goes to the call that it belongs to, [`Input::Net`] to the DHT node, and
//! what that finds to the call that asked it; the call says *record*, *failing* or *done* to the lookup of its name;
//! the lookup verifies and compares, and wakes the operations that watch it; each decides whether it has heard
//! enough, and the last thing it does is an [`Event`].
//!
//! The way of one publish (`publish.rs`): wait for earlier ones of the name, read the newest record from the store and
//! all routers, choose the sequence above it, sign, have it stored, put it to every router, count who took it. A DHT
//! reads by [`Dht::walk`](crate::dht::Dht::walk), and puts to the peers which that found. Whoever made the last record of
//! the name, or its key just now, does not wait for the read: the record is made and put meanwhile, and once more, with a
//! higher sequence, if the read shows another publisher's that is not older.
//!
//! Names stay alive by themselves: each own and each followed name has its turn once an interval (`keep.rs`), when it is
//! signed anew if it is time for that, and sent (`keeping.rs`). A DHT explores a region of its key space once for all
//! names in it.
//!
//! # Example
//!
//! An engine with an empty store and no router resolves nothing, and says so:
//!
//! ```
//! use ipns_core::Now;
//! use ipns_core::engine::{Config, Engine, Event, Input, Output, Resolve, StoreReply};
//!
//! let now = Now { monotonic: Default::default(), wall: "2026-11-24T00:00:00Z".parse()? };
//! let mut engine = Engine::new(Config::default(), [0; 32], now);
//! let name = "k51qzi5uqu5dk3v4rmjber23h16xnr23bsggmqqil9z2gduiis5se8dht36dam".parse()?;
//! engine.resolve(now, name, Resolve::default());
//! let mut code = None;
//! while let Some(output) = engine.poll_output() {
//!     match output {
//!         Output::Store(command) => {
//!             let result = Ok(StoreReply::Entries(Vec::new()));
//!             engine.handle_input(now, Input::Stored { id: command.id, result });
//!         }
//!         Output::Event(Event::Resolved { result: Err(error), .. }) => code = Some(error.code()),
//!         _ => {}
//!     }
//! }
//! assert_eq!(code, Some("unreachable"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod behind;
mod cache;
mod clock;
mod config;
mod context;
#[expect(clippy::module_inception, reason = "the file bears the name of what is in it")]
mod engine;
mod event;
mod ids;
mod index;
mod io;
mod keep;
mod keeping;
mod kept;
mod lookup;
mod memory;
mod nodes;
mod publish;
mod queue;
mod request;
mod resolve;
mod sending;
mod serve;
mod signing;
mod stored;
#[cfg(test)]
mod tests;
mod timers;
mod turns;
mod watch;

pub use config::Config;
pub use engine::Engine;
pub use event::{Event, FollowError, Freshness, InquireError, Publication, PublishError, Resolution, ResolveError};
pub use ids::{InboundId, OpId, SignId, StoreId};
pub use io::{Input, Output, StoreAction, StoreCommand, StoreReply};
pub use keep::Keeping;
pub use kept::{Followed, Own, Sent};
pub use queue::QueueError;
pub use request::{Enough, OnConflict, Policy, Publish, Put, Resolve};
pub use stored::{StoredFollowed, StoredOwn, StoredQueued, StoredRecord};
