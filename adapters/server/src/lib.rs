//! The HTTP face of an IPNS node: what `ipns daemon` serves, and the client with which commands go through it.
//!
//! ```text
//!  anyone ───▶ /routing/v1/*   Delegated Routing V1, answered by the engine     (routes.rs)
//!         ───▶ /               a page to look a name up                         (page.rs, page.html)
//!         ───▶ /healthz        200 while the process serves
//!         ───▶ /readyz         200 while the node answers, 503 otherwise
//!         ───▶ /metrics        OpenMetrics text                                 (metrics.rs lists them)
//!  owner  ───▶ /admin/v1/*     keys, publish, resolve, follow, list, status, …  (admin.rs, behind guard.rs)
//! ```
//!
//! [`Server`] binds TCP addresses and, on Unix, a socket file; a flood, a slow or a silent client costs it a bounded
//! number of connections for a bounded time ([`ServerConfig`]). The admin interface answers only connections from this
//! machine that carry the token of [`token::create`], and nothing that a browser sends for another site.
//!
//! | asked for | body | answer |
//! |---|---|---|
//! | `GET /admin/v1/keys` | | list of [`KeyReport`](api::KeyReport) |
//! | `POST /admin/v1/keys` | [`KeyRequest`] | [`KeyReport`](api::KeyReport) |
//! | `DELETE /admin/v1/keys/{key}` | | [`KeyReport`](api::KeyReport) of the key that is gone; its name is not kept any more |
//! | `POST /admin/v1/publish` | [`PublishRequest`](api::PublishRequest) | [`PublishReport`](report::PublishReport) |
//! | `POST /admin/v1/put` | [`PutRequest`](api::PutRequest) | [`PublishReport`](report::PublishReport) |
//! | `POST /admin/v1/resolve` | [`ResolveRequest`](api::ResolveRequest) | [`ResolveReport`](report::ResolveReport), or one a line with `"stream":true` |
//! | `POST /admin/v1/watch` | [`NameRequest`](keeping::NameRequest) | [`ChangeReport`](kept::ChangeReport), one a line, until either side ends it |
//! | `POST /admin/v1/follow`, `unfollow`, `disown` | [`NamesRequest`](keeping::NamesRequest) | list of [`FollowReport`](kept::FollowReport), one of each name |
//! | `POST /admin/v1/queue` | [`QueueRequest`](keeping::QueueRequest) | [`KeptReport`](kept::KeptReport) |
//! | `POST /admin/v1/republish` | [`NameRequest`](keeping::NameRequest) | [`PublishReport`](report::PublishReport) |
//! | `GET /admin/v1/list` | | list of [`KeptReport`](kept::KeptReport): own and followed names, queued records; one a line with `?stream=true` |
//! | `POST /admin/v1/dht` | [`DhtRequest`](dht::DhtRequest) | list of [`DhtReport`](dht::DhtReport), one of each DHT |
//! | `GET /admin/v1/status` | | [`StatusReport`] |
//!
//! A failure is a [`Failure`] document: 400 usage, 404 not found, 422 invalid, 502 network, 409 conflict, 500 the rest.
//! In a stream it is the last line. A client that disconnects cancels what it asked for.
//!
//! A daemon says where it is in `HOME/daemon.json` ([`DaemonFile`]); [`AdminClient::discover`] finds it there:
//!
//! ```no_run
//! use std::path::Path;
//!
//! use ipns_server::api::{Api, PublishRequest};
//! use ipns_server::{AdminClient, DaemonFile, DaemonInfo, Failure, Server, ServerConfig, token};
//!
//! # async fn daemon(home: &Path, api: Api, stop: impl Future<Output = ()>) -> Result<(), Failure> {
//! let started = api.now();
//! let config = ServerConfig {
//!     token: Some(token::create(home)?),
//!     socket: Some(home.join("admin.sock")),
//!     ..ServerConfig::default()
//! };
//! let server = Server::bind(&[([127, 0, 0, 1], 0).into()], api, config).await?;
//! let file = DaemonFile::write(home, DaemonInfo::of(&server, started))?;
//! server.serve(stop).await;
//! drop(file);
//! # Ok(())
//! # }
//!
//! # async fn command(home: &Path) -> Result<(), Failure> {
//! if let Some(daemon) = AdminClient::discover(home).await? {
//!     let request = PublishRequest { value: "/ipfs/bafkqaaa".into(), ..PublishRequest::default() };
//!     let published = daemon.publish(&request).await?;
//!     assert!(published.stored);
//! }
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod admin;
mod answer;
pub mod api;
mod body;
mod client;
mod connection;
mod daemon_file;
pub mod dht;
mod failure;
mod guard;
pub mod keeping;
pub mod kept;
mod listen;
mod metrics;
mod page;
mod private_file;
pub mod report;
mod routes;
mod server;
mod stall;
mod status;
pub mod token;

pub use admin::KeyRequest;
pub use client::{AdminClient, ResolveReports};
pub use daemon_file::{DaemonFile, DaemonInfo};
pub use failure::{Failure, FailureText, exit};
pub use server::{Server, ServerConfig};
pub use status::{StatsReport, StatusReport};
