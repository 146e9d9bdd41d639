//! A connection and its streams.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::io::{AsyncRead, AsyncWrite};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use quinn::{ConnectionError, RecvStream, SendStream};

use super::said::Said;

type Opening = BoxFuture<'static, Result<(SendStream, RecvStream), ConnectionError>>;

/// A connection to a peer that has proved who it is.
pub(crate) struct Connection {
    quinn: quinn::Connection,
    inbound: Option<Opening>,
    /// Kept while the peer allows no more streams.
    outbound: Option<Opening>,
    closing: Option<BoxFuture<'static, ConnectionError>>,
}

impl Connection {
    pub(crate) fn new(quinn: quinn::Connection) -> Self {
        Self { quinn, inbound: None, outbound: None, closing: None }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("quinn", &self.quinn).finish_non_exhaustive()
    }
}

impl StreamMuxer for Connection {
    type Substream = Stream;
    type Error = io::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        let quinn = self.quinn.clone();
        let open = || async move { quinn.accept_bi().await }.boxed();
        poll_stream(&mut self.inbound, open, cx)
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        let quinn = self.quinn.clone();
        let open = || async move { quinn.open_bi().await }.boxed();
        poll_stream(&mut self.outbound, open, cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let quinn = self.quinn.clone();
        let closing = self.closing.get_or_insert_with(|| {
            quinn.close(0u32.into(), b"");
            async move { quinn.closed().await }.boxed()
        });
        match ready!(closing.poll_unpin(cx)) {
            ConnectionError::LocallyClosed => Poll::Ready(Ok(())),
            error => Poll::Ready(Err(error.into())),
        }
    }

    /// The peer's address stays what it is, and quinn drives connections by tasks of its own.
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        Poll::Pending
    }
}

fn poll_stream(
    slot: &mut Option<Opening>,
    open: impl FnOnce() -> Opening,
    cx: &mut Context<'_>,
) -> Poll<io::Result<Stream>> {
    let outcome = ready!(slot.get_or_insert_with(open).poll_unpin(cx));
    *slot = None;
    let (send, receive) = outcome?;
    Poll::Ready(Ok(Stream { send, receive, said: Said::Negotiation, closed: false }))
}

/// A stream of two directions. Dropped before it is closed, it is reset, as a refusal should be: to end it would say that
/// all has been said. Only when the peer was told something that a reset could overtake, it ends.
#[derive(Debug)]
pub(crate) struct Stream {
    send: SendStream,
    /// quinn tells the peer to stop when this is dropped before its end.
    receive: RecvStream,
    said: Said,
    closed: bool,
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        AsyncRead::poll_read(Pin::new(&mut self.receive), cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(AsyncWrite::poll_write(Pin::new(&mut self.send), cx, bytes))?;
        self.said.write(bytes.get(..written).unwrap_or(bytes));
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.send), cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.closed {
            return Poll::Ready(Ok(()));
        }
        let outcome = ready!(AsyncWrite::poll_close(Pin::new(&mut self.send), cx));
        self.closed = outcome.is_ok();
        Poll::Ready(outcome)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.closed && !self.said.is_content() {
            // On a stream or a connection that is over there is nothing to reset.
            let _ = self.send.reset(0u32.into());
        }
    }
}
