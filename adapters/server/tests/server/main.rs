//! The server and its client over real sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "clippy sees tests only in functions that are marked so")]

mod admin;
mod discover;
mod keeping;
mod limits;
mod page;
mod raw;
mod routing;
mod shutdown;
mod world;
