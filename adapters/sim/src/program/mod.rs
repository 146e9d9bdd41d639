//! The commands of the program.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program prints its results")]

pub(crate) mod bench;
pub(crate) mod check;
pub(crate) mod compare;
pub(crate) mod keep;
mod plot;
mod row;
pub(crate) mod scenario;
mod shares;
