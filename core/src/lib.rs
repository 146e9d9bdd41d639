//! core
pub mod key;
pub mod name;
pub mod record;
pub mod store;
pub mod time;
pub mod value;
pub use name::Name;
pub use record::{Record, Verified};
pub use time::{Now, Timestamp};
pub use value::Value;
