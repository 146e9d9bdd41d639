//! Networks of real nodes on 127.0.0.1: ours, and those of other implementations.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "tests fail by panicking"
)]

mod asker;
mod hostile;
mod js;
mod kad;
mod keep;
mod kubo;
mod ours;
mod own;
mod peers;
mod vectors;
