//! Where a node reads the time, so that a test can bring its own.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use ipns_core::{Now, Timestamp};

/// A monotonic and a wall clock.
pub trait Clock: Send + 'static {
    /// The present.
    fn now(&self) -> Now;
}

/// The clocks of the operating system.
#[derive(Debug, Clone)]
pub struct SystemClock {
    origin: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        let wall = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => Timestamp::UNIX_EPOCH + since,
            Err(before) => Timestamp::UNIX_EPOCH - before.duration(),
        };
        Now { monotonic: self.origin.elapsed(), wall }
    }
}
