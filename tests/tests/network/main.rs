//! Networks of real nodes on 127.0.0.1: ours, on each of the runtimes, and those of other implementations.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "tests fail by panicking"
)]

mod application;
mod asker;
mod hostile;
mod http_client;
mod http_router;
mod js;
mod kad;
mod keep;
mod kubo;
mod mixed;
mod on;
mod ours;
mod own;
mod peers;
mod signal;
mod vectors;
