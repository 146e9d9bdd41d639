//! A stream as frames, read no further and held no longer than allowed.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use futures_timer::Delay;
use futures_util::future::{Either, select};
use futures_util::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use ipns_core::dht::{MessageError, frame};

use crate::ledger::{Account, Full};

/// What is asked of the stream at once: no less, and no more than has come already.
const CHUNK: (usize, usize) = (2 << 10, 64 << 10);
/// The longest length in front of a frame.
const MAX_LENGTH: usize = 10;

#[derive(Debug)]
pub(crate) struct Frames<S> {
    stream: S,
    /// What has come and is not a whole frame yet; it grows as bytes come, whatever length is announced.
    buffer: Vec<u8>,
    account: Account,
}

/// Why no frame can be read.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The stream ended: between two frames, or within one.
    Ended {
        within: bool,
    },
    Message(MessageError),
    Io(io::Error),
    Full,
}

impl From<MessageError> for Fault {
    fn from(error: MessageError) -> Self {
        Self::Message(error)
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Full> for Fault {
    fn from(_: Full) -> Self {
        Self::Full
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Frames<S> {
    pub(crate) fn new(stream: S, account: Account) -> Self {
        Self { stream, buffer: Vec::new(), account }
    }

    /// Whether nothing of the next frame has come yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    pub(crate) async fn write(&mut self, message: &[u8]) -> io::Result<()> {
        self.stream.write_all(&frame::encode(message)).await?;
        self.stream.flush().await
    }

    /// The next message, in a frame of at most `limit` bytes.
    pub(crate) async fn read<T>(
        &mut self,
        limit: usize,
        decode: impl Fn(&[u8]) -> Result<T, MessageError>,
    ) -> Result<T, Fault> {
        loop {
            if let Some(range) = frame::decode(&self.buffer, limit)? {
                let end = range.end;
                let message = decode(&self.buffer[range])?;
                self.consume(end);
                return Ok(message);
            }
            self.more(limit).await?;
        }
    }

    /// Waits for more bytes of a frame of at most `limit` bytes.
    pub(crate) async fn more(&mut self, limit: usize) -> Result<(), Fault> {
        let filled = self.buffer.len();
        let room = (limit + MAX_LENGTH).saturating_sub(filled);
        let chunk = filled.clamp(CHUNK.0, CHUNK.1).min(room);
        self.account.hold(filled + chunk)?;
        self.buffer.reserve_exact(chunk);
        self.buffer.resize(filled + chunk, 0);
        let read = self.stream.read(&mut self.buffer[filled..]).await;
        self.buffer.truncate(filled + read.as_ref().copied().unwrap_or_default());
        match read? {
            0 => Err(Fault::Ended { within: filled > 0 }),
            _ => Ok(()),
        }
    }

    fn consume(&mut self, bytes: usize) {
        // A new buffer, so that a large frame does not keep its memory while the stream is idle.
        self.buffer = self.buffer.split_off(bytes);
        // Holding less never fails.
        let _ = self.account.hold(self.buffer.len());
    }

    /// Why nothing more can be written; `None` while it can. After a stream has ended this tells whether the peer
    /// closed it or reset it: yamux ends both alike, and a stream that a Rust peer dropped ends cleanly over QUIC too,
    /// but neither takes any more bytes.
    pub(crate) async fn write_fault(&mut self) -> Option<io::Error> {
        let stream = &mut self.stream;
        poll_fn(|cx| match Pin::new(&mut *stream).poll_write(cx, &[]) {
            Poll::Ready(Err(error)) => Poll::Ready(Some(error)),
            _ => Poll::Ready(None),
        })
        .await
    }

    /// Closes the stream for writing.
    pub(crate) async fn close(&mut self) -> io::Result<()> {
        self.stream.close().await
    }

    /// Waits for the end of the stream, or for anything else that comes.
    pub(crate) async fn end(&mut self) -> io::Result<()> {
        self.stream.read(&mut [0]).await.map(drop)
    }

    /// Closes the stream if that can be done at once. A stream that is dropped unclosed is reset.
    pub(crate) async fn close_now(mut self) {
        let mut close = pin!(self.stream.close());
        poll_fn(|cx| Poll::Ready(close.as_mut().poll(cx).is_ready())).await;
    }
}

/// What `future` gives, unless it takes too long.
pub(crate) async fn within<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    match select(pin!(future), Delay::new(limit)).await {
        Either::Left((output, _)) => Some(output),
        Either::Right(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Ledger;
    use futures_util::io::Cursor;
    use proptest::prelude::*;

    fn frames(bytes: Vec<u8>) -> Frames<Cursor<Vec<u8>>> {
        Frames::new(Cursor::new(bytes), Ledger::new(1 << 20, 0).open())
    }

    fn read(frames: &mut Frames<Cursor<Vec<u8>>>, limit: usize) -> Result<Vec<u8>, Fault> {
        futures_util::FutureExt::now_or_never(frames.read(limit, |bytes| Ok(bytes.to_vec()))).unwrap()
    }

    proptest! {
        #[test]
        fn what_is_framed_is_read(messages in proptest::collection::vec(0..9000_usize, 0..8)) {
            let bytes = messages.iter().flat_map(|size| frame::encode(&vec![7; *size])).collect();
            let mut frames = frames(bytes);
            for size in messages {
                prop_assert_eq!(read(&mut frames, 9000).unwrap().len(), size);
                prop_assert!(frames.buffer.len() <= 2 * 9000 && frames.account.held() == frames.buffer.len());
            }
            let ended = read(&mut frames, 9000);
            prop_assert!(matches!(ended, Err(Fault::Ended { within: false })), "{:?}", ended);
        }

        #[test]
        fn no_bytes_panic_and_no_more_is_held_than_allowed(bytes in proptest::collection::vec(any::<u8>(), 0..9000)) {
            let mut frames = frames(bytes);
            while read(&mut frames, 500).is_ok() {
                prop_assert!(frames.buffer.capacity() <= 500 + MAX_LENGTH + CHUNK.0);
            }
        }
    }

    #[test]
    fn a_frame_that_is_cut_is_told_from_the_end() {
        let mut frames = frames(frame::encode(&[7; 300])[..200].to_vec());
        assert!(matches!(read(&mut frames, 9000), Err(Fault::Ended { within: true })));
    }
}
