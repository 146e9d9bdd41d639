//! Two and more swarms over real sockets.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests fail by panicking"
)]

mod faults;
mod hostile;
mod interop;
mod node;
mod peers;
mod rpc;
mod told;
mod world;
