//! The client with which commands go through a running daemon.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt, stream};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::admin::KeyRequest;
use crate::api::{KeyReport, PublishRequest, PutRequest, ResolveRequest};
use crate::daemon_file::DaemonFile;
use crate::dht::{DhtReport, DhtRequest};
use crate::failure::{Failure, exit};
use crate::keeping::{NameRequest, NamesRequest, QueueRequest};
use crate::kept::{ChangeReport, FollowReport, KeptReport};
use crate::report::{PublishReport, ResolveReport};
use crate::status::StatusReport;
use crate::token::{self, Token};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a daemon may take to say that it is there.
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);
/// Tables and keys.
const MAX_BODY: usize = 64 << 20;
/// A report with its record in base64 and all its receipts.
const MAX_LINE: usize = 1 << 20;

/// Talks to the admin interface of a daemon on this machine. Every call is a connection of its own, without proxies and
/// redirects; dropping the future, or the stream, cancels what was asked for.
#[derive(Debug, Clone)]
pub struct AdminClient {
    target: Target,
    token: Token,
}

#[derive(Debug, Clone)]
enum Target {
    Tcp { host: String, port: u16 },
    Socket(PathBuf),
}

/// Why there is no answer.
enum NoAnswer {
    /// Nobody is there.
    Nobody(io::Error),
    Silent,
    Broken(String),
}

/// What a resolve reports as it goes on: improvements if they were asked for, then the result.
pub struct ResolveReports(BoxStream<'static, Result<ResolveReport, Failure>>);

impl Stream for ResolveReports {
    type Item = Result<ResolveReport, Failure>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(cx)
    }
}

impl AdminClient {
    /// A client for a base URL such as `http://127.0.0.1:5001`.
    ///
    /// # Errors
    /// When the URL is not one of this machine: the token is not for others.
    pub fn new(base: &str, token: Token) -> Result<Self, Failure> {
        let target = parse_base(base).ok_or_else(|| {
            let message = format!("`{base}` is not a URL of this machine such as http://127.0.0.1:5001");
            Failure::new(exit::USAGE, "usage", message)
        })?;
        Ok(Self { target, token })
    }

    /// A client for a socket file.
    pub fn socket(path: impl Into<PathBuf>, token: Token) -> Self {
        Self { target: Target::Socket(path.into()), token }
    }

    /// The client for the daemon that runs on a home; `None` if none runs.
    ///
    /// # Errors
    /// When something answers there but does not accept the token of this home, or does not answer in time.
    pub async fn discover(home: &Path) -> Result<Option<Self>, Failure> {
        let Some(info) = DaemonFile::read(home) else { return Ok(None) };
        let token = token::read(home)?;
        let target = match &info.socket {
            // Nobody else can listen on a file in the home, while a port may be another's by now.
            Some(path) if cfg!(unix) => Some(Target::Socket(path.clone())),
            _ => parse_base(&info.http),
        };
        let Some(target) = target else { return Ok(None) };
        let has_token = token.is_some();
        let client = Self { target, token: token.map_or_else(Token::generate, Ok)? };
        let asked = client.send(Method::GET, "/admin/v1/status", None);
        let answer = match timeout(STATUS_TIMEOUT, asked).await.unwrap_or(Err(NoAnswer::Silent)) {
            Ok(answer) => answer,
            Err(NoAnswer::Nobody(error)) => {
                tracing::debug!(%error, "nobody is where daemon.json says; it is stale");
                return Ok(None);
            }
            Err(NoAnswer::Broken(reason)) => {
                tracing::debug!(reason, "what daemon.json says is not a daemon any more; it is stale");
                return Ok(None);
            }
            Err(NoAnswer::Silent) => {
                let message = format!(
                    "process {} should be the daemon of this home but does not answer; stop it, or remove {} if it is not",
                    info.pid,
                    home.join("daemon.json").display()
                );
                return Err(Failure::new(exit::NETWORK, "daemon_silent", message));
            }
        };
        match answer.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let reason = if has_token { "does not accept" } else { "needs" };
                let path = token::path(home);
                let message =
                    format!("the daemon of this home {reason} the token in {}; restart the daemon", path.display());
                Err(Failure::new(exit::FAILED, "daemon_unauthorized", message))
            }
            _ => match timeout(STATUS_TIMEOUT, answer.document::<StatusReport>()).await {
                Ok(Ok(_)) => Ok(Some(client)),
                Ok(Err(failure)) if failure.error.code != NOT_A_DAEMON => Err(failure),
                _ => Ok(None),
            },
        }
    }

    /// Publishes a value.
    ///
    /// # Errors
    /// What the daemon says, or why it cannot be reached.
    pub async fn publish(&self, request: &PublishRequest) -> Result<PublishReport, Failure> {
        self.post("publish", request).await
    }

    /// Stores and sends a ready record.
    ///
    /// # Errors
    /// What the daemon says, or why it cannot be reached.
    pub async fn put(&self, request: &PutRequest) -> Result<PublishReport, Failure> {
        self.post("put", request).await
    }

    /// Resolves a name: improvements if `request.stream`, then the result.
    ///
    /// # Errors
    /// What the daemon says before there is any answer, or why it cannot be reached.
    pub async fn resolve(&self, request: &ResolveRequest) -> Result<ResolveReports, Failure> {
        let answer = self.call(Method::POST, "resolve", Some(write(request)?)).await?;
        if !request.stream {
            let report = answer.document().await;
            return Ok(ResolveReports(stream::once(std::future::ready(report)).boxed()));
        }
        if !answer.status.is_success() {
            return Err(answer.document::<ResolveReport>().await.err().unwrap_or_else(not_a_daemon));
        }
        let reports = stream::unfold(Some(Lines::of(answer)), |lines| async move {
            let mut lines = lines?;
            let next: Result<ResolveReport, Failure> = lines.next().await;
            let more = matches!(&next, Ok(report) if !report.is_final);
            Some((next, more.then_some(lines)))
        });
        Ok(ResolveReports(reports.boxed()))
    }

    /// Watches a name: its present record and every change, until it is dropped or the daemon ends.
    ///
    /// # Errors
    /// What the daemon says, or why it cannot be reached.
    pub async fn watch(
        &self,
        request: &NameRequest,
    ) -> Result<BoxStream<'static, Result<ChangeReport, Failure>>, Failure> {
        let answer = self.call(Method::POST, "watch", Some(write(request)?)).await?;
        if !answer.status.is_success() {
            return Err(answer.document::<ChangeReport>().await.err().unwrap_or_else(not_a_daemon));
        }
        let changes = stream::unfold(Some(Lines::of(answer)), |lines| async move {
            let mut lines = lines?;
            let next: Result<ChangeReport, Failure> = lines.next().await;
            let more = next.is_ok();
            Some((next, more.then_some(lines)))
        });
        Ok(changes.boxed())
    }

    /// Resolves a name, without improvements.
    ///
    /// # Errors
    /// What the daemon says, or why it cannot be reached.
    pub async fn resolve_once(&self, request: &ResolveRequest) -> Result<ResolveReport, Failure> {
        self.post("resolve", &ResolveRequest { stream: false, ..request.clone() }).await
    }

    /// The names that the daemon keeps alive, own ones first, and the records that wait for their time.
    ///
    /// # Errors
    /// What the daemon says before there is any answer, or why it cannot be reached.
    pub async fn list(&self) -> Result<BoxStream<'static, Result<KeptReport, Failure>>, Failure> {
        let answer = self.call(Method::GET, "list?stream=true", None).await?;
        if !answer.status.is_success() {
            return Err(answer.document::<KeptReport>().await.err().unwrap_or_else(not_a_daemon));
        }
        let kept = stream::try_unfold(Lines::of(answer), |mut lines| async move {
            let next: Option<KeptReport> = lines.next_or_end().await?;
            Ok(next.map(|next| (next, lines)))
        });
        Ok(kept.boxed())
    }

    /// Follows names, at most [`MAX_NAMES`](crate::keeping::MAX_NAMES).
    ///
    /// # Errors
    /// What the daemon says, or why it cannot be reached.
    pub async fn follow(&self, request: &NamesRequest) -> Result<Vec<FollowReport>, Failure> {
        self.post("follow", request).await
    }

    /// Follows names no more.
    ///
    /// # Errors
    /// What the daemon says, or why it cannot be reached.
    pub async fn unfollow(&self, request: &NamesRequest) -> Result<Vec<FollowReport>, Failure> {
        self.post("unfollow", request).await
    }

    /// Keeps own names alive no more.
    ///
    /// # Errors
    /// What the daemon says, or why it cannot be reached.
    pub async fn disown(&self, request: &NamesRequest) -> Result<Vec<FollowReport>, Failure> {
        self.post("disown", request).await
    }

    /// Stores a record that is to be sent when its time has come.
    ///
    /// # Errors
    /// What the daemon says, or why it cannot be reached.
    pub async fn queue(&self, request: &QueueRequest) -> Result<KeptReport, Failure> {
        self.post("queue", request).await
    }

    /// Sends a kept name now.
    ///
    /// # Errors
    /// What the daemon says, or why it cannot be reached.
    pub async fn republish(&self, request: &NameRequest) -> Result<PublishReport, Failure> {
        self.post("republish", request).await
    }

    /// Asks all DHTs of the daemon.
    ///
    /// # Errors
    /// What the daemon says, or why it cannot be reached.
    pub async fn dht(&self, request: &DhtRequest) -> Result<Vec<DhtReport>, Failure> {
        self.post("dht", request).await
    }

    /// How the daemon is.
    ///
    /// # Errors
    /// What the daemon says, or why it cannot be reached.
    pub async fn status(&self) -> Result<StatusReport, Failure> {
        self.call(Method::GET, "status", None).await?.document().await
    }

    /// The daemon's keys.
    ///
    /// # Errors
    /// What the daemon says, or why it cannot be reached.
    pub async fn keys(&self) -> Result<Vec<KeyReport>, Failure> {
        self.call(Method::GET, "keys", None).await?.document().await
    }

    /// Makes a key. Dropping the future does not stop the making of an RSA key.
    ///
    /// # Errors
    /// What the daemon says, or why it cannot be reached.
    pub async fn generate_key(&self, request: &KeyRequest) -> Result<KeyReport, Failure> {
        self.post("keys", request).await
    }

    /// Deletes a key; its name is not kept alive any more.
    ///
    /// # Errors
    /// What the daemon says, or why it cannot be reached.
    pub async fn remove_key(&self, key: &str) -> Result<KeyReport, Failure> {
        let escaped: String = key.bytes().map(|byte| format!("%{byte:02X}")).collect();
        self.call(Method::DELETE, &format!("keys/{escaped}"), None).await?.document().await
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, request: &impl Serialize) -> Result<T, Failure> {
        self.call(Method::POST, path, Some(write(request)?)).await?.document().await
    }

    async fn call(&self, method: Method, path: &str, body: Option<Bytes>) -> Result<Answer, Failure> {
        self.send(method, &format!("/admin/v1/{path}"), body).await.map_err(|reason| {
            let reason = match reason {
                NoAnswer::Nobody(error) => error.to_string(),
                NoAnswer::Silent => "it does not take the connection".to_owned(),
                NoAnswer::Broken(reason) => reason,
            };
            lost(&reason)
        })
    }

    async fn send(&self, method: Method, path: &str, body: Option<Bytes>) -> Result<Answer, NoAnswer> {
        let request = self.request(method, path, body).map_err(|error| NoAnswer::Broken(error.to_string()))?;
        match &self.target {
            Target::Tcp { host, port } => {
                exchange(connect(TcpStream::connect((host.as_str(), *port))).await?, request).await
            }
            #[cfg(unix)]
            Target::Socket(path) => exchange(connect(tokio::net::UnixStream::connect(path)).await?, request).await,
            #[cfg(not(unix))]
            Target::Socket(_) => Err(NoAnswer::Nobody(io::ErrorKind::Unsupported.into())),
        }
    }

    fn request(&self, method: Method, path: &str, body: Option<Bytes>) -> Result<Request<Full<Bytes>>, http::Error> {
        let host = match &self.target {
            Target::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Target::Tcp { host, port } => format!("{host}:{port}"),
            Target::Socket(_) => "localhost".to_owned(),
        };
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", self.token.reveal()))?;
        bearer.set_sensitive(true);
        Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, host)
            .header(AUTHORIZATION, bearer)
            .header(ACCEPT, "application/json, application/x-ndjson")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body.unwrap_or_default()))
    }
}

/// The host and port of a base URL, if it is one of this machine.
fn parse_base(base: &str) -> Option<Target> {
    let uri: Uri = base.parse().ok()?;
    let host = uri.host()?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let local = host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    let bare = uri.path().is_empty() || (uri.path() == "/" && uri.query().is_none());
    (local && bare && uri.scheme_str() == Some("http"))
        .then(|| Target::Tcp { host: host.to_owned(), port: uri.port_u16().unwrap_or(80) })
}

async fn connect<S>(connecting: impl Future<Output = io::Result<S>>) -> Result<S, NoAnswer> {
    match timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(result) => result.map_err(NoAnswer::Nobody),
        Err(_) => Err(NoAnswer::Silent),
    }
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Answer, NoAnswer>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |error: hyper::Error| NoAnswer::Broken(error.to_string());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let running = Running(tokio::spawn(async move {
        // Whoever waits for the response sees why the connection broke.
        let _ = connection.await;
    }));
    let response = sender.send_request(request).await.map_err(broken)?;
    let status = response.status();
    Ok(Answer { status, body: response.into_body(), _running: running })
}

/// The task of a connection, which ends with whoever wanted the response.
struct Running(JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A response whose body is still coming.
struct Answer {
    status: StatusCode,
    body: Incoming,
    _running: Running,
}

impl Answer {
    /// The document, or the failure that came in its place.
    async fn document<T: DeserializeOwned>(mut self) -> Result<T, Failure> {
        let mut whole = BytesMut::new();
        while let Some(data) = self.data().await? {
            if whole.len() + data.len() > MAX_BODY {
                return Err(lost("its answer is too long"));
            }
            whole.extend_from_slice(&data);
        }
        if self.status.is_success() {
            return serde_json::from_slice(&whole).map_err(|_| not_a_daemon());
        }
        Err(serde_json::from_slice(&whole).unwrap_or_else(|_| not_a_daemon()))
    }

    async fn data(&mut self) -> Result<Option<Bytes>, Failure> {
        while let Some(frame) = self.body.frame().await {
            if let Ok(data) = frame.map_err(|error| lost(&error.to_string()))?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

/// The lines of a streamed answer.
struct Lines {
    answer: Answer,
    read: BytesMut,
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Line<T> {
    Found(T),
    Failed(Failure),
}

impl Lines {
    fn of(answer: Answer) -> Self {
        Self { answer, read: BytesMut::new() }
    }

    async fn next<T: DeserializeOwned>(&mut self) -> Result<T, Failure> {
        self.next_or_end().await?.ok_or_else(|| lost("it broke off"))
    }

    /// The next line; `None` when the answer has ended as it should.
    async fn next_or_end<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Failure> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.read[searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.read.split_to(searched + end + 1);
                return match serde_json::from_slice(&line).map_err(|_| not_a_daemon())? {
                    Line::Found(report) => Ok(Some(report)),
                    Line::Failed(failure) => Err(failure),
                };
            }
            searched = self.read.len();
            if searched > MAX_LINE {
                return Err(lost("a line of its answer is too long"));
            }
            let Some(data) = self.answer.data().await? else {
                return if self.read.is_empty() { Ok(None) } else { Err(lost("it broke off")) };
            };
            self.read.extend_from_slice(&data);
        }
    }
}

fn write(request: &impl Serialize) -> Result<Bytes, Failure> {
    serde_json::to_vec(request)
        .map(Bytes::from)
        .map_err(|error| Failure::new(exit::USAGE, "usage", format!("the request cannot be written: {error}")))
}

fn lost(reason: &str) -> Failure {
    Failure::new(exit::NETWORK, "daemon_lost", format!("the daemon cannot be reached: {reason}; is it still running?"))
}

const NOT_A_DAEMON: &str = "not_a_daemon";

fn not_a_daemon() -> Failure {
    Failure::new(exit::NETWORK, NOT_A_DAEMON, "what answers there is not a daemon of this version")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_urls_of_this_machine() {
        for base in ["http://127.0.0.1:5001", "http://localhost", "http://[::1]:80/", "http://127.0.0.2:1"] {
            assert!(parse_base(base).is_some(), "{base}");
        }
        for base in
            ["", "127.0.0.1:5001", "https://127.0.0.1", "http://10.0.0.1", "http://example.com", "http://localhost/x"]
        {
            assert!(parse_base(base).is_none(), "{base}");
        }
    }
}
