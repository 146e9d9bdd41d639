//! Routers: where records are looked for and sent to, and how several act as one.
//!
//! A [`Router`] is an HTTP endpoint ([`http`]) or anything that an application brings. The engine runs
//! a *call* on each router it needs; a call makes its attempts, waits its pauses, and ends with a [`Tally`] or a
//! [`RouteError`], which stand in the [`Receipt`] of the operation. No router's failure hides another's answer.

mod call;
pub mod http;
mod net;
mod receipt;
mod router;

pub(crate) use call::{CallEnd, CallId, CallOutput, CallUpdate, Calls};
pub use call::{HttpError, HttpId, Operation, RouteError, RouteId, RouteUpdate, Tally};
pub use net::{NetCommand, NetEvent};
pub use receipt::Receipt;
pub use router::{Router, RouterId, Transport};
