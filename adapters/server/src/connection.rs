//! One connection: HTTP/1.1 with limits.

use std::io::Write;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::routes::App;
use crate::server::ServerConfig;
use crate::stall::Stall;

/// Requests have names of about a hundred bytes and few headers; bodies pass through in pieces.
const MAX_BUFFER: usize = 16 << 10;
const MAX_HEADERS: usize = 64;

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    Tcp(SocketAddr),
    #[cfg_attr(not(unix), allow(dead_code))]
    Socket,
}

impl Peer {
    /// Whether it is on this machine.
    pub(crate) fn is_local(self) -> bool {
        match self {
            // A listener for IPv6 and IPv4 sees 127.0.0.1 as ::ffff:127.0.0.1.
            Self::Tcp(addr) => addr.ip().to_canonical().is_loopback(),
            Self::Socket => true,
        }
    }
}

/// The connections that there may be.
pub(crate) struct Slots {
    anyone: Arc<Semaphore>,
    local: Arc<Semaphore>,
}

impl Slots {
    pub(crate) fn new(config: &ServerConfig) -> Self {
        let semaphore = |permits: usize| Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS)));
        Self { anyone: semaphore(config.max_connections), local: semaphore(config.max_local_connections) }
    }

    /// A place for a connection of `peer`. A flood from elsewhere does not lock this machine's owner out.
    pub(crate) fn take(&self, peer: Peer) -> Option<OwnedSemaphorePermit> {
        let anyone = self.anyone.clone().try_acquire_owned().ok();
        anyone.or_else(|| peer.is_local().then(|| self.local.clone().try_acquire_owned().ok()).flatten())
    }
}

/// Turns a connection away, in words if they can be written at once.
pub(crate) fn turn_away(stream: TcpStream) {
    const BUSY: &[u8] =
        b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\nretry-after: 1\r\n\r\n";
    // The stream does not block, and whether the words arrive does not matter.
    let _ = stream.into_std().and_then(|mut stream| stream.write(BUSY));
}

/// Serves a connection until it ends, or until `closing` and the request that is under way has been answered.
pub(crate) async fn run<S>(stream: S, peer: Peer, app: App, mut closing: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = app.config();
    let stream = Stall::new(stream, config.write_timeout);
    let mut builder = http1::Builder::new();
    // The time-out for headers runs between requests too, and so ends idle connections.
    builder.timer(TokioTimer::new()).header_read_timeout(config.header_timeout);
    builder.max_buf_size(MAX_BUFFER).max_headers(MAX_HEADERS);
    let service = service_fn(|request| app.answer(request, peer));
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = closed(&mut closing) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(?peer, %error, "a connection ended badly");
    }
}

/// Ready when the server closes, or is gone.
async fn closed(closing: &mut watch::Receiver<bool>) {
    let _ = closing.wait_for(|closing| *closing).await;
}
