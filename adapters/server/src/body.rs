//! Reading a request's body, but not for ever.

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;

/// How much of what is too much is read all the same: a client that is cut off while it still sends may never see the
/// answer that tells it why.
const DISCARDED: usize = 1 << 20;

/// The body, or its first `limit` bytes if it is longer. `None` when the client breaks off.
pub(crate) async fn read(mut body: Body, limit: usize) -> Option<Bytes> {
    let mut kept = BytesMut::new();
    let mut seen = 0_usize;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.ok()?.into_data() else { continue };
        let room = limit - kept.len();
        kept.extend_from_slice(&data[..data.len().min(room)]);
        seen = seen.saturating_add(data.len());
        if seen > limit.saturating_add(DISCARDED) {
            break;
        }
    }
    Some(kept.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn no_more_than_the_limit_is_kept_and_no_more_than_some_is_read() {
        for size in [0, 1, 9, 10, 11, 5000] {
            let kept = read(Body::from(vec![7; size]), 10).await.unwrap();
            assert_eq!(kept.len(), size.min(10));
        }
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = asked.clone();
        let endless = futures_util::stream::repeat_with(move || {
            counter.fetch_add(1, Ordering::Relaxed);
            Ok::<_, std::io::Error>(Bytes::from(vec![7; 1024]))
        });
        assert_eq!(read(Body::from_stream(endless), 10).await.unwrap().len(), 10);
        assert!(asked.load(Ordering::Relaxed) <= DISCARDED / 1024 + 2);
        let broken = futures_util::stream::once(async { Err::<Bytes, _>(std::io::Error::other("gone")) });
        assert!(read(Body::from_stream(broken), 10).await.is_none());
    }
}
