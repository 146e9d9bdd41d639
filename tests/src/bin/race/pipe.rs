//! One direction of a link: what goes in comes out in order, each chunk as much later as the link is long.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// Bytes read at once, and chunks under way: more waits at the sender, as in the window of TCP.
const CHUNK: usize = 8 << 10;
const UNDER_WAY: usize = 256;

/// Carries bytes until either side ends, the end included. Many chunks are under way at once: a delay for each read
/// would make a slow link of a long one.
pub(crate) async fn pipe(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    one_way: impl Fn() -> Duration,
) {
    let (sender, mut under_way) = mpsc::channel::<(Instant, Vec<u8>)>(UNDER_WAY);
    let read = async {
        let mut buffer = vec![0; CHUNK];
        loop {
            // A reset reaches the other side as an end.
            let length = from.read(&mut buffer).await.unwrap_or(0);
            let sent = sender.send((Instant::now() + one_way(), buffer[..length].to_vec())).await;
            if length == 0 || sent.is_err() {
                return;
            }
        }
    };
    let write = async {
        while let Some((due, chunk)) = under_way.recv().await {
            sleep_until(due).await;
            if chunk.is_empty() {
                // Whoever has gone away needs no end.
                let _ = to.shutdown().await;
                return;
            }
            if to.write_all(&chunk).await.is_err() {
                return;
            }
        }
    };
    let read = async {
        read.await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = read => {}
        () = write => {}
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    const ONE_WAY: Duration = Duration::from_millis(70);

    #[tokio::test(start_paused = true)]
    async fn chunks_keep_their_order_and_come_no_earlier_than_the_link_is_long() {
        let (mut near, from) = duplex(1 << 20);
        let (to, mut far) = duplex(1 << 20);
        tokio::spawn(pipe(from, to, || ONE_WAY));
        let begun = Instant::now();
        let writer = tokio::spawn(async move {
            for number in 0..100_u8 {
                near.write_u8(number).await.unwrap();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        for number in 0..100_u8 {
            assert_eq!(far.read_u8().await.unwrap(), number);
            assert!(begun.elapsed() >= ONE_WAY + Duration::from_millis(number.into()));
        }
        // All were under way together: a delay for each would be seven seconds.
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        writer.await.unwrap();
        assert_eq!(far.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_link_that_becomes_shorter_keeps_the_order() {
        let (mut near, from) = duplex(1 << 10);
        let (to, mut far) = duplex(1 << 10);
        let long = std::sync::atomic::AtomicBool::new(true);
        let first_is_slow = move || match long.swap(false, std::sync::atomic::Ordering::Relaxed) {
            true => ONE_WAY,
            false => Duration::ZERO,
        };
        tokio::spawn(pipe(from, to, first_is_slow));
        near.write_u8(1).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
        near.write_u8(2).await.unwrap();
        assert_eq!(far.read_u16().await.unwrap(), 0x0102);
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_when_nobody_takes_what_comes() {
        let (mut near, from) = duplex(1 << 10);
        let (to, far) = duplex(1 << 10);
        drop(far);
        let carried = tokio::spawn(pipe(from, to, || ONE_WAY));
        near.write_u8(1).await.unwrap();
        carried.await.unwrap();
    }
}
