//! Something that happened, for one who waits for it: before or after, but only once.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use futures_util::task::AtomicWaker;

#[derive(Default)]
pub(crate) struct Signal {
    happened: AtomicBool,
    waker: AtomicWaker,
}

impl Signal {
    pub(crate) fn give(&self) {
        self.happened.store(true, Ordering::SeqCst);
        self.waker.wake();
    }

    pub(crate) async fn given(&self) {
        poll_fn(|cx| {
            self.waker.register(cx.waker());
            match self.happened.swap(false, Ordering::SeqCst) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }
}
