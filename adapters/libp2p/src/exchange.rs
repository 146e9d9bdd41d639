//! One question on a stream of its own: written, answered, closed.

use std::io;
use std::time::Duration;

use ipns_core::dht::{MAX_RESPONSE_BYTES, Request, Response, RpcError};
use libp2p::core::upgrade::NegotiationError;
use libp2p::futures::{AsyncRead, AsyncWrite};

use crate::frames::{Fault, Frames, within};

/// How long a peer may take to close a stream after ADD_PROVIDER, which it does not answer.
const FAREWELL: Duration = Duration::from_secs(1);

/// Asks, and reads the answer. The stream stays open for writing until then: yamux would not tell a reset from a close
/// afterwards, and a refusing peer that uses it could not even send a reset.
pub(crate) async fn exchange<S>(mut frames: Frames<S>, request: &Request) -> Result<Response, RpcError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    frames.write(&request.encode()).await.map_err(|error| io_error(&error))?;
    if matches!(request, Request::AddProvider { .. }) {
        frames.close().await.map_err(|error| io_error(&error))?;
        // A peer that does not speak the protocol, or resets, tells only now.
        return match within(FAREWELL, frames.end()).await {
            Some(Err(error)) => Err(io_error(&error)),
            Some(Ok(())) | None => Ok(Response::AddProvider),
        };
    }
    match frames.read(MAX_RESPONSE_BYTES, Response::decode).await {
        Ok(response) => {
            frames.close_now().await;
            Ok(response)
        }
        Err(Fault::Message(error)) => {
            tracing::debug!(%error, code = error.code(), "an answer is malformed");
            Err(RpcError::Malformed)
        }
        Err(Fault::Full) => {
            tracing::debug!("no room for a large answer");
            Err(RpcError::Malformed)
        }
        Err(Fault::Io(error)) => Err(io_error(&error)),
        Err(Fault::Ended { within }) => Err(match frames.write_fault().await {
            Some(error) => io_error(&error),
            None if within => RpcError::Malformed,
            None => RpcError::Closed,
        }),
    }
}

/// What an error of a stream means. A reset is `WriteZero` from yamux and `ConnectionReset` from QUIC; a stream that
/// ends while its protocol is negotiated is `UnexpectedEof`.
pub(crate) fn io_error(error: &io::Error) -> RpcError {
    let negotiation = error.get_ref().and_then(|inner| inner.downcast_ref::<NegotiationError>());
    match error.kind() {
        _ if matches!(negotiation, Some(NegotiationError::Failed)) => RpcError::Unsupported,
        io::ErrorKind::ConnectionReset | io::ErrorKind::WriteZero | io::ErrorKind::UnexpectedEof => RpcError::Reset,
        io::ErrorKind::InvalidData => RpcError::Malformed,
        io::ErrorKind::TimedOut => RpcError::Timeout,
        _ => RpcError::Closed,
    }
}
