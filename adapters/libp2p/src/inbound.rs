//! A stream of a peer that asks: one request after the other.

use ipns_core::dht::{MAX_REQUEST_BYTES, Request, Response};
use ipns_core::routing::RouterId;
use libp2p::futures::{AsyncRead, AsyncWrite};

use crate::frames::{Fault, Frames, within};
use crate::limits::Limits;

/// A stream of a peer. Dropping it resets it.
#[derive(Debug)]
pub(crate) struct Inbound<S> {
    pub(crate) router: RouterId,
    frames: Frames<S>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Inbound<S> {
    pub(crate) fn new(router: RouterId, frames: Frames<S>) -> Self {
        Self { router, frames }
    }

    /// Sends the answer to the last request, if there is one to send, and gives the next request; `None` when the
    /// stream is over.
    pub(crate) async fn turn(mut self, answer: Option<Response>, limits: Limits) -> Option<(Self, Request)> {
        if let Some(bytes) = answer.and_then(|answer| answer.encode()) {
            let written = within(limits.frame_timeout, self.frames.write(&bytes)).await?;
            written.inspect_err(|error| tracing::debug!(%error, "an answer could not be sent")).ok()?;
        }
        match self.next(limits).await {
            Ok(request) => Some((self, request)),
            Err(Over::Calmly) => {
                self.frames.close_now().await;
                None
            }
            Err(Over::Timeout) => {
                tracing::debug!("a request did not come in time");
                None
            }
            Err(Over::Fault(fault)) => {
                tracing::debug!(?fault, "a request cannot be read");
                None
            }
        }
    }

    async fn next(&mut self, limits: Limits) -> Result<Request, Over> {
        if self.frames.is_empty() {
            match within(limits.idle_timeout, self.frames.more(MAX_REQUEST_BYTES)).await {
                None | Some(Err(Fault::Ended { .. })) => return Err(Over::Calmly),
                Some(begun) => begun.map_err(Over::Fault)?,
            }
        }
        let request = within(limits.frame_timeout, self.frames.read(MAX_REQUEST_BYTES, Request::decode)).await;
        request.ok_or(Over::Timeout)?.map_err(Over::Fault)
    }
}

/// Why no request comes any more.
enum Over {
    /// The peer has closed the stream, or said nothing for long.
    Calmly,
    Timeout,
    Fault(Fault),
}
