//! HTTP by isahc, which runs on a thread of its own and so under any executor.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::AsyncReadExt;
use ipns_core::routing::HttpError;
use isahc::config::{Configurable, RedirectPolicy};
use isahc::error::ErrorKind;
use isahc::{AsyncBody, HttpClient as Client};

use crate::SpawnError;
use crate::runtime::{BoxFuture, HttpClient};

/// How long a connection may take; a black hole should not use up the whole time of an attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of a body read at once.
const CHUNK: usize = 16 << 10;

/// An isahc client with rustls, the system's roots and a pool of warm connections.
///
/// A request whose future is dropped ends when its server says the next word, and with its time-out at the latest: curl
/// cannot be told earlier.
#[derive(Debug, Clone)]
pub struct Isahc {
    client: Client,
}

impl Isahc {
    /// A client with sound settings.
    ///
    /// # Errors
    /// When TLS or the client's thread cannot be set up.
    pub fn new() -> Result<Self, SpawnError> {
        let client = Client::builder()
            .redirect_policy(RedirectPolicy::None)
            .connect_timeout(CONNECT_TIMEOUT)
            .automatic_decompression(false)
            .expect_continue(false)
            .default_header("user-agent", concat!("ipns/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| SpawnError::Http(error.to_string()))?;
        Ok(Self { client })
    }

    /// A client of one's own: with a proxy, other roots, a resolver. It must not follow redirects.
    pub fn with_client(client: Client) -> Self {
        Self { client }
    }
}

impl HttpClient for Isahc {
    fn send(
        &self,
        request: http::Request<Bytes>,
        max_body: usize,
        timeout: Duration,
    ) -> BoxFuture<Result<http::Response<Bytes>, HttpError>> {
        let client = self.client.clone();
        Box::pin(async move {
            let request = timed(request, timeout).map_err(|error| HttpError::Broken(error.to_string()))?;
            let (head, mut body) = client.send_async(request).await.map_err(|error| explain(&error))?.into_parts();
            let (mut whole, mut chunk) = (BytesMut::new(), vec![0; CHUNK.min(max_body.saturating_add(1))]);
            loop {
                let read = body.read(&mut chunk).await.map_err(|error| broken(&error))?;
                let room = max_body - whole.len();
                whole.extend_from_slice(&chunk[..read.min(room)]);
                match read {
                    0 => break,
                    _ if read <= room => {}
                    _ if head.status.is_success() => return Err(HttpError::TooLarge(max_body)),
                    _ => break,
                }
            }
            let mut response = http::Response::new(whole.freeze());
            (*response.status_mut(), *response.headers_mut()) = (head.status, head.headers);
            Ok(response)
        })
    }
}

/// The request as isahc takes it, with a limit on its whole time.
fn timed(request: http::Request<Bytes>, timeout: Duration) -> Result<http::Request<AsyncBody>, http::Error> {
    let (head, body) = request.into_parts();
    let mut timed = http::Request::builder().method(head.method).uri(head.uri).timeout(timeout);
    if let Some(headers) = timed.headers_mut() {
        *headers = head.headers;
    }
    timed.body(match body.is_empty() {
        true => AsyncBody::empty(),
        false => AsyncBody::from(body.to_vec()),
    })
}

fn explain(error: &isahc::Error) -> HttpError {
    let text = std::error::Error::source(error).map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"));
    match error.kind() {
        _ if error.is_timeout() => HttpError::Timeout,
        ErrorKind::ConnectionFailed | ErrorKind::NameResolution => HttpError::Connect(text),
        _ if error.is_tls() => HttpError::Connect(text),
        _ => HttpError::Broken(text),
    }
}

/// What broke while the body was read.
fn broken(error: &std::io::Error) -> HttpError {
    match error.kind() {
        std::io::ErrorKind::TimedOut => HttpError::Timeout,
        _ => HttpError::Broken(error.to_string()),
    }
}
