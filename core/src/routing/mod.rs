//! Routers: where records are looked for and sent to, and how several act as one.
//!
//! A [`Router`] is an HTTP endpoint ([`http`]), a DHT, or anything that an application brings. The engine runs
//! a *call* on each router it needs; a call makes its attempts, waits its pauses, and ends with a [`Tally`] or a
//! [`RouteError`], which stand in the [`Receipt`] of the operation. No router's failure hides another's answer.

mod call;
pub mod http;
mod net;
mod nodes;
mod receipt;
mod router;

pub(crate) use call::{CallEnd, CallId, CallOutput, CallUpdate, Calls, Depth};
pub use call::{HttpError, HttpId, Operation, PeerReceipt, RouteError, RouteId, RouteUpdate, Tally};
pub use net::{NetCommand, NetEvent};
pub use nodes::Inquiry;
pub(crate) use nodes::{NodeOutput, Nodes};
pub use receipt::Receipt;
pub use router::{Router, RouterId, Transport};
