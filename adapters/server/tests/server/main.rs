//! The server and its client over real sockets.

mod admin;
mod discover;
mod limits;
mod page;
mod raw;
mod routing;
mod shutdown;
mod world;
