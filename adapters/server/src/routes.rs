//! What is where, and the routes that anyone may use.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::routing::{any, get};
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};
use hyper::body::Incoming;
use ipns_core::record::MAX_RECORD_BYTES;
use ipns_core::routing::http::server::{busy, for_head, timed_out};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tower_service::Service;

use crate::admin;
use crate::answer::refuse;
use crate::api::Api;
use crate::body;
use crate::connection::Peer;
use crate::metrics::{self, Metrics};
use crate::page::Page;
use crate::server::ServerConfig;
use crate::status::StatusReport;
use crate::token::Token;

/// How long a node may take to say that it is there.
const READY_TIMEOUT: Duration = Duration::from_secs(2);

/// What all connections share.
#[derive(Clone)]
pub(crate) struct App {
    shared: Arc<Shared>,
    router: Router,
}

struct Shared {
    api: Api,
    config: ServerConfig,
    metrics: Metrics,
    page: Page,
    routing: Semaphore,
    started: Instant,
    closing: watch::Sender<bool>,
}

impl App {
    pub(crate) fn new(api: Api, config: ServerConfig) -> Self {
        let shared = Arc::new(Shared {
            metrics: Metrics::new(api.node().clone(), api.now()),
            api,
            page: Page::new(),
            routing: Semaphore::new(config.max_requests.min(Semaphore::MAX_PERMITS)),
            config,
            started: Instant::now(),
            closing: watch::Sender::new(false),
        });
        // The handlers need what is shared, and not the router that they are in.
        let state = Self { shared, router: Router::new() };
        let router = Router::new()
            .route("/", get(page))
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .route("/metrics", get(read_metrics))
            .route("/routing/v1", any(routing))
            .route("/routing/v1/", any(routing))
            .route("/routing/v1/{*rest}", any(routing))
            .nest("/admin/v1", admin::routes(state.clone()))
            .fallback(unknown)
            .with_state(state.clone());
        Self { router, ..state }
    }

    pub(crate) fn api(&self) -> &Api {
        &self.shared.api
    }

    pub(crate) fn config(&self) -> &ServerConfig {
        &self.shared.config
    }

    pub(crate) fn token(&self) -> Option<&Token> {
        self.shared.config.token.as_ref()
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// From now on this server is not ready, and what would go on for ever ends.
    pub(crate) fn close(&self) {
        self.shared.closing.send_replace(true);
    }

    /// Ready when the server closes.
    pub(crate) fn closed(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut closing = self.shared.closing.subscribe();
        async move {
            let _ = closing.wait_for(|closing| *closing).await;
        }
    }

    /// Counts a connection as open until what is returned is dropped.
    pub(crate) fn opened(&self) -> impl Drop + use<> {
        self.metrics().connections.inc();
        Open(self.clone())
    }

    pub(crate) async fn status(&self) -> StatusReport {
        let stats = self.api().node().stats();
        let health = self.api().node().health().await.unwrap_or_default();
        StatusReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_s: self.shared.started.elapsed().as_secs(),
            own: stats.own,
            followed: stats.followed,
            load: stats.load,
            dhts: health.iter().map(|dht| (dht.label.clone(), dht.into())).collect(),
            stats: stats.into(),
        }
    }

    /// Answers one request.
    pub(crate) async fn answer(
        &self,
        request: http::Request<Incoming>,
        peer: Peer,
    ) -> Result<Response<Body>, Infallible> {
        let started = Instant::now();
        let route = route_class(request.uri().path());
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        let mut response = self.router.clone().call(request).await?;
        let status = response.status();
        // axum adds the length of the body, which here is not that of the record (RFC 9110, 8.6).
        if matches!(status, StatusCode::NOT_MODIFIED | StatusCode::NO_CONTENT) {
            response.headers_mut().remove(CONTENT_LENGTH);
        }
        let elapsed = started.elapsed();
        self.metrics().answered(route, status, elapsed);
        tracing::debug!(?peer, route, status = status.as_u16(), ?elapsed, "answered");
        Ok(response)
    }
}

struct Open(App);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.metrics().connections.dec();
    }
}

/// Few classes, whatever paths people try: each becomes a series of the metrics.
fn route_class(path: &str) -> &'static str {
    let below = |root: &str| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    match path {
        "/" => "page",
        "/healthz" | "/readyz" => "health",
        "/metrics" => "metrics",
        _ if below("/routing/v1") => "routing",
        _ if below("/admin/v1") => "admin",
        _ => "other",
    }
}

async fn page(State(app): State<App>) -> Response<Body> {
    app.shared.page.response()
}

async fn healthz() -> Response<Body> {
    plain(StatusCode::OK, "ok\n")
}

async fn readyz(State(app): State<App>) -> Response<Body> {
    let closing = *app.shared.closing.borrow();
    match timeout(READY_TIMEOUT, app.api().node().kept()).await {
        Ok(Ok(_)) if !closing => plain(StatusCode::OK, "ready\n"),
        _ => plain(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
    }
}

async fn read_metrics(State(app): State<App>) -> Response<Body> {
    match app.metrics().encode() {
        Ok(text) => {
            let mut response = Response::new(Body::from(text));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
            response
        }
        Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written\n"),
    }
}

/// Hands a whole request to the engine, and its response to the client as it is.
async fn routing(State(app): State<App>, request: Request) -> Response<Body> {
    let head = request.method() == Method::HEAD;
    match timeout(app.config().request_timeout, ask_node(&app, request)).await {
        Ok(response) => response,
        Err(_) if head => for_head(timed_out()).map(Body::from),
        Err(_) => timed_out().map(Body::from),
    }
}

async fn ask_node(app: &App, request: Request) -> Response<Body> {
    let head = request.method() == Method::HEAD;
    let (parts, body) = request.into_parts();
    // One byte more than a record may have, so that the engine sees that it is too much.
    let Some(bytes) = body::read(body, MAX_RECORD_BYTES + 1).await else {
        return refuse(StatusCode::BAD_REQUEST, "body", "the body broke off");
    };
    // Who still sends a body takes no place away from others.
    let Ok(_place) = app.shared.routing.try_acquire() else {
        return if head { for_head(busy()) } else { busy() }.map(Body::from);
    };
    match app.api().node().serve(http::Request::from_parts(parts, bytes)).await {
        Ok(response) => response.map(Body::from),
        Err(stopped) => refuse(StatusCode::SERVICE_UNAVAILABLE, "stopped", &stopped.to_string()),
    }
}

async fn unknown() -> Response<Body> {
    let message = "nothing is here; see /routing/v1/ipns/{name}, /metrics, /healthz, /readyz and the page at /";
    refuse(StatusCode::NOT_FOUND, "unknown_path", message)
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_fall_into_few_classes() {
        for (path, class) in [
            ("/", "page"),
            ("/healthz", "health"),
            ("/readyz", "health"),
            ("/metrics", "metrics"),
            ("/routing/v1", "routing"),
            ("/routing/v1/ipns/x", "routing"),
            ("/routing/v10", "other"),
            ("/admin/v1/list", "admin"),
            ("/admin", "other"),
            ("*", "other"),
        ] {
            assert_eq!(route_class(path), class, "{path}");
        }
    }
}
