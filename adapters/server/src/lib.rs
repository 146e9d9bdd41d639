//! The HTTP face of an IPNS node.

#![forbid(unsafe_code)]

pub mod api;
mod failure;
pub mod report;

pub use failure::{Failure, FailureText, exit};
