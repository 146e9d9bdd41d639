//! The commands of the program.

#![allow(clippy::print_stdout, reason = "a program prints its results")]

pub(crate) mod bench;
pub(crate) mod compare;
mod shares;
