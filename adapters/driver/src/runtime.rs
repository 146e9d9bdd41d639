//! What a node needs of an async runtime.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use ipns_core::routing::HttpError;

/// A future on the heap.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// An async runtime: something that runs futures, sleeps, and speaks HTTP.
///
/// A dropped future must stop what it does.
pub trait Runtime: Send + Sync + 'static {
    /// Runs a future to its end, in the background.
    fn spawn(&self, future: BoxFuture<()>);

    /// Ends after `duration`, not before.
    fn sleep(&self, duration: Duration) -> BoxFuture<()>;

    /// The HTTP client of nodes on this runtime; [`NoHttp`] where there is none.
    fn http(&self) -> &dyn HttpClient;
}

/// Sends HTTP requests.
pub trait HttpClient: Send + Sync {
    /// Sends a request and reads the whole response.
    ///
    /// No redirect is followed. Of a body larger than `max_body` bytes, an error response is cut there, and a
    /// successful one is [`HttpError::TooLarge`]: a record that is cut is no record.
    fn send(
        &self,
        request: http::Request<Bytes>,
        max_body: usize,
        timeout: Duration,
    ) -> BoxFuture<Result<http::Response<Bytes>, HttpError>>;
}

/// Where there is no HTTP client: every request fails at once, and says why.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHttp;

impl HttpClient for NoHttp {
    fn send(
        &self,
        _: http::Request<Bytes>,
        _: usize,
        _: Duration,
    ) -> BoxFuture<Result<http::Response<Bytes>, HttpError>> {
        Box::pin(async { Err(HttpError::Connect("this program was built without an HTTP client".into())) })
    }
}
