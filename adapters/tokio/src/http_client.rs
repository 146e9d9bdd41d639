//! HTTP by reqwest.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ipns_core::routing::HttpError;
use ipns_driver::{BoxFuture, HttpClient};

/// How long a connection may take; a black hole should not use up the whole time of an attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A reqwest client with rustls, the system's roots and a pool of warm connections.
#[derive(Debug, Clone)]
pub struct Reqwest {
    client: reqwest::Client,
}

impl Reqwest {
    /// A client with sound settings.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new() -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .user_agent(concat!("ipns/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .build()?;
        Ok(Self { client })
    }

    /// A client of one's own: with a proxy, other roots, a resolver. It must not follow redirects.
    pub fn with_client(client: reqwest::Client) -> Self {
        Self { client }
    }
}

impl HttpClient for Reqwest {
    fn send(
        &self,
        request: http::Request<Bytes>,
        max_body: usize,
        timeout: Duration,
    ) -> BoxFuture<Result<http::Response<Bytes>, HttpError>> {
        let client = self.client.clone();
        Box::pin(async move {
            let mut request = reqwest::Request::try_from(request).map_err(explain)?;
            *request.timeout_mut() = Some(timeout);
            let mut response = client.execute(request).await.map_err(explain)?;
            let mut body = BytesMut::new();
            while let Some(chunk) = response.chunk().await.map_err(explain)? {
                let room = max_body - body.len();
                if chunk.len() > room {
                    if response.status().is_success() {
                        return Err(HttpError::TooLarge(max_body));
                    }
                    body.extend_from_slice(&chunk[..room]);
                    break;
                }
                body.extend_from_slice(&chunk);
            }
            let mut whole = http::Response::new(body.freeze());
            *whole.status_mut() = response.status();
            *whole.headers_mut() = std::mem::take(response.headers_mut());
            Ok(whole)
        })
    }
}

/// reqwest names the request, not the cause; the cause is at the end of the chain.
fn explain(error: reqwest::Error) -> HttpError {
    if error.is_timeout() {
        return HttpError::Timeout;
    }
    let mut cause: &dyn std::error::Error = &error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let text = cause.to_string();
    if error.is_connect() { HttpError::Connect(text) } else { HttpError::Broken(text) }
}
