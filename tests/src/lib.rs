//! What the tests that cross crates share: the vectors, and a view of a record's bytes that owes nothing to core.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this crate is tests")]

pub mod vectors;
pub mod wire;
