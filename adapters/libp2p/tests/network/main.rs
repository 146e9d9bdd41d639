//! Two and more swarms over real sockets.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "tests fail by panicking")]

mod faults;
mod hostile;
mod interop;
mod node;
mod rpc;
mod told;
mod world;
