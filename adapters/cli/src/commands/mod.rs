//! One file for each command.

pub(crate) mod config;
pub(crate) mod daemon;
pub(crate) mod demo;
pub(crate) mod dht;
pub(crate) mod follow;
pub(crate) mod get;
pub(crate) mod inspect;
pub(crate) mod key;
pub(crate) mod list;
pub(crate) mod publish;
pub(crate) mod put;
pub(crate) mod republish;
pub(crate) mod resolve;
pub(crate) mod store;
pub(crate) mod watch;
