//! Who holds how many bytes: the account of all streams of one direction.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The streams of one direction, over all connections, and the bytes that they buffer.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// What each stream may hold anyway.
    free: usize,
    /// What all of them may hold beyond.
    shared: usize,
    streams: AtomicUsize,
    bytes: AtomicUsize,
    beyond: AtomicUsize,
}

/// The account of one stream; it is closed when dropped.
#[derive(Debug)]
pub(crate) struct Account {
    ledger: Arc<Ledger>,
    bytes: usize,
}

/// There is no room for more bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

impl Ledger {
    pub(crate) fn new(free: usize, shared: usize) -> Arc<Self> {
        let zero = AtomicUsize::default;
        Arc::new(Self { free, shared, streams: zero(), bytes: zero(), beyond: zero() })
    }

    pub(crate) fn open(self: &Arc<Self>) -> Account {
        self.streams.fetch_add(1, Ordering::Relaxed);
        Account { ledger: self.clone(), bytes: 0 }
    }

    pub(crate) fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Account {
    /// Notes that the stream holds so many bytes from now on, if there is room for them.
    pub(crate) fn hold(&mut self, bytes: usize) -> Result<(), Full> {
        let Ledger { free, shared, bytes: all, beyond, .. } = &*self.ledger;
        let (old, new) = (self.bytes.saturating_sub(*free), bytes.saturating_sub(*free));
        if new > old && beyond.fetch_add(new - old, Ordering::Relaxed) + (new - old) > *shared {
            beyond.fetch_sub(new - old, Ordering::Relaxed);
            return Err(Full);
        }
        if new < old {
            beyond.fetch_sub(old - new, Ordering::Relaxed);
        }
        // Wrapping addition of a difference that may be negative.
        all.fetch_add(bytes.wrapping_sub(self.bytes), Ordering::Relaxed);
        self.bytes = bytes;
        Ok(())
    }
}

#[cfg(test)]
impl Account {
    pub(crate) fn held(&self) -> usize {
        self.bytes
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        // Holding less never fails.
        let _ = self.hold(0);
        self.ledger.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_large_shares() {
        let ledger = Ledger::new(100, 50);
        let (mut a, mut b) = (ledger.open(), ledger.open());
        assert_eq!((a.hold(140), b.hold(110), b.hold(111)), (Ok(()), Ok(()), Err(Full)));
        assert_eq!((ledger.streams(), ledger.bytes()), (2, 250));
        assert_eq!((a.hold(20), b.hold(150), a.hold(100), a.hold(101)), (Ok(()), Ok(()), Ok(()), Err(Full)));
        drop(b);
        assert_eq!((ledger.streams(), ledger.bytes(), a.hold(150)), (1, 100, Ok(())));
        drop(a);
        assert_eq!((ledger.streams(), ledger.bytes(), ledger.beyond.load(Ordering::Relaxed)), (0, 0, 0));
    }
}
