//! `/admin/v1`: what the owner of a node asks of it.

use std::convert::Infallible;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::middleware::from_fn_with_state;
use axum::routing::{delete, get, post};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use ipns_core::key::{KeyType, Signer};
use ipns_driver::Stopped;
use ipns_store::KeyStore;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::answer::{answer, fail, json, refuse};
use crate::api::{KeyReport, describe_key, generate_key, has_key, list_keys, load_key};
use crate::body;
use crate::failure::{Failure, exit};
use crate::guard::guard;
use crate::keeping::NameRequest;
use crate::routes::App;

/// A record in base64 is 14 KiB, and metadata must fit into a record.
const MAX_BODY: usize = 64 << 10;
/// What `ipns key gen --type rsa` makes unless told otherwise.
const DEFAULT_RSA_BITS: usize = 2048;

/// A key to be made.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct KeyRequest {
    /// Its local name.
    pub key: String,
    /// Its type; `ed25519` if `None`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The size of an RSA key; 2048 if `None`.
    pub bits: Option<usize>,
}

/// The routes below `/admin/v1`, all of them behind the guard, those that do not exist too.
pub(crate) fn routes(app: App) -> Router<App> {
    Router::new()
        .route("/keys", get(keys).post(add_key))
        .route("/keys/{key}", delete(remove_key))
        .route("/publish", post(publish))
        .route("/put", post(put))
        .route("/resolve", post(resolve))
        .route("/watch", post(watch))
        .route("/follow", post(follow))
        .route("/unfollow", post(unfollow))
        .route("/disown", post(disown))
        .route("/republish", post(republish))
        .route("/queue", post(queue))
        .route("/list", get(list))
        .route("/dht", post(dht))
        .route("/status", get(status))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(app, guard))
}

async fn keys(State(app): State<App>) -> Response<Body> {
    answer(app.api().with_keys(list_keys).await)
}

async fn add_key(State(app): State<App>, request: Request) -> Response<Body> {
    let request: KeyRequest = match read(&app, request).await {
        Ok(request) => request,
        Err(refusal) => return *refusal,
    };
    let kind = match request.kind.as_deref().unwrap_or("ed25519").parse::<KeyType>() {
        Ok(kind) => kind,
        Err(error) => return fail(&Failure::new(exit::USAGE, error.code(), error.to_string())),
    };
    let bits = request.bits.unwrap_or(DEFAULT_RSA_BITS);
    answer(app.api().with_keys(move |keys| generate_key(keys, &request.key, kind, bits)).await)
}

async fn remove_key(State(app): State<App>, Path(key): Path<String>) -> Response<Body> {
    answer(remove_and_disown(&app, key).await)
}

/// When nobody can sign for the name any more, it is not kept alive any more either.
async fn remove_and_disown(app: &App, key: String) -> Result<KeyReport, Failure> {
    let remove = move |keys: &KeyStore| {
        let secret = load_key(keys, &key)?;
        keys.remove(&key)?;
        let name = secret.public_key().to_name();
        Ok((describe_key(&key, &secret), (!has_key(keys, &name)?).then_some(name)))
    };
    let (report, gone) = app.api().with_keys(remove).await?;
    if let Some(name) = gone {
        app.api().disown_name(name).await?;
    }
    Ok(report)
}

async fn publish(State(app): State<App>, request: Request) -> Response<Body> {
    match read(&app, request).await {
        Ok(request) => answer(app.api().publish(request).await),
        Err(refusal) => *refusal,
    }
}

async fn put(State(app): State<App>, request: Request) -> Response<Body> {
    match read(&app, request).await {
        Ok(request) => answer(app.api().put(request).await),
        Err(refusal) => *refusal,
    }
}

async fn resolve(State(app): State<App>, request: Request) -> Response<Body> {
    let request: crate::api::ResolveRequest = match read(&app, request).await {
        Ok(request) => request,
        Err(refusal) => return *refusal,
    };
    let mut answers = match app.api().resolve(&request) {
        Ok(answers) => answers,
        Err(failure) => return fail(&failure),
    };
    let first = answers.next().await.unwrap_or_else(|| Err(Stopped.into()));
    let first = match first {
        Ok(first) if request.stream => first,
        only => return answer(only),
    };
    // The status had to wait for the first answer; from here on a failure is a line.
    let rest = stream::unfold(Some((answers, Some(first))), |state| async move {
        let (mut answers, first) = state?;
        let next = match first {
            Some(first) => Ok(first),
            None => answers.next().await.unwrap_or_else(|| Err(Stopped.into())),
        };
        let more = matches!(&next, Ok(report) if !report.is_final);
        Some((next, more.then_some((answers, None))))
    });
    lines(rest)
}

async fn watch(State(app): State<App>, request: Request) -> Response<Body> {
    let request: NameRequest = match read(&app, request).await {
        Ok(request) => request,
        Err(refusal) => return *refusal,
    };
    match app.api().watch(request).await {
        // It would hold up the end of the server.
        Ok(changes) => {
            let end = stream::once(async { Err(Stopped.into()) });
            lines(changes.take_until(app.closed()).map(Ok).chain(end))
        }
        Err(failure) => fail(&failure),
    }
}

/// A response of one document a line, as they come.
fn lines<T: Serialize + 'static>(items: impl Stream<Item = Result<T, Failure>> + Send + 'static) -> Response<Body> {
    let mut response = Response::new(Body::from_stream(items.map(|item| Ok::<_, Infallible>(line(&item)))));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn line<T: Serialize>(result: &Result<T, Failure>) -> Bytes {
    let text = match result {
        Ok(report) => serde_json::to_string(report),
        Err(failure) => serde_json::to_string(failure),
    };
    // Neither document has a map with keys that JSON does not know.
    let mut text = text.unwrap_or_else(|_| r#"{"error":{"code":"failed","message":"not JSON"}}"#.to_owned());
    text.push('\n');
    text.into()
}

async fn follow(State(app): State<App>, request: Request) -> Response<Body> {
    match read(&app, request).await {
        Ok(request) => answer(app.api().follow(request).await),
        Err(refusal) => *refusal,
    }
}

async fn unfollow(State(app): State<App>, request: Request) -> Response<Body> {
    match read(&app, request).await {
        Ok(request) => answer(app.api().unfollow(request).await),
        Err(refusal) => *refusal,
    }
}

async fn disown(State(app): State<App>, request: Request) -> Response<Body> {
    match read(&app, request).await {
        Ok(request) => answer(app.api().disown(request).await),
        Err(refusal) => *refusal,
    }
}

async fn queue(State(app): State<App>, request: Request) -> Response<Body> {
    match read(&app, request).await {
        Ok(request) => answer(app.api().queue(request).await),
        Err(refusal) => *refusal,
    }
}

async fn republish(State(app): State<App>, request: Request) -> Response<Body> {
    match read(&app, request).await {
        Ok(request) => answer(app.api().republish(request).await),
        Err(refusal) => *refusal,
    }
}

/// The list as one document, or, with `?stream=true`, as a line for each name. It is written part by part.
async fn list(State(app): State<App>, request: Request) -> Response<Body> {
    let mut parts = app.api().list().boxed();
    // The status has to wait for the first part.
    let first = match parts.next().await {
        Some(Ok(first)) => first,
        Some(Err(failure)) => return fail(&failure),
        None => Vec::new(),
    };
    let parts = stream::once(async { Ok(first) }).chain(parts);
    if request.uri().query().is_some_and(|query| query.split('&').any(|pair| pair == "stream=true")) {
        return lines(parts.map_ok(|part| stream::iter(part).map(Ok)).try_flatten());
    }
    let mut begun = false;
    let parts = parts.map_ok(move |part| {
        let items: Vec<String> = part.iter().filter_map(|kept| serde_json::to_string(kept).ok()).collect();
        let comma = if begun && !items.is_empty() { "," } else { "" };
        begun |= !items.is_empty();
        Bytes::from(format!("{comma}{}", items.join(",")))
    });
    let edge = |text: &'static str| stream::once(async move { Ok::<_, Failure>(Bytes::from_static(text.as_bytes())) });
    // A failure breaks the document off, and with it the connection.
    let mut response = Response::new(Body::from_stream(edge("[").chain(parts).chain(edge("]\n"))));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn dht(State(app): State<App>, request: Request) -> Response<Body> {
    match read(&app, request).await {
        Ok(request) => answer(app.api().dht(&request).await),
        Err(refusal) => *refusal,
    }
}

async fn status(State(app): State<App>) -> Response<Body> {
    json(StatusCode::OK, &app.status().await)
}

async fn unknown() -> Response<Body> {
    refuse(StatusCode::NOT_FOUND, "unknown_path", "there is no such path below /admin/v1")
}

async fn wrong_method() -> Response<Body> {
    refuse(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this path does not know this method")
}

/// A response that ends the reading of a request; boxed because it is large.
type Refused = Box<Response<Body>>;

async fn read<T: DeserializeOwned>(app: &App, request: Request) -> Result<T, Refused> {
    let refused = |status, code, message: &str| Box::new(refuse(status, code, message));
    // A web page can send this type to others only after asking, and is not allowed to.
    if !is_json(request.headers()) {
        let message = "the content type must be application/json";
        return Err(refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type", message));
    }
    let reading = body::read(request.into_body(), MAX_BODY + 1);
    let bytes = match timeout(app.config().request_timeout, reading).await {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Err(refused(StatusCode::BAD_REQUEST, "body", "the body broke off")),
        Err(_) => return Err(refused(StatusCode::REQUEST_TIMEOUT, "timed_out", "the body took too long")),
    };
    if bytes.len() > MAX_BODY {
        let message = format!("the body may have {MAX_BODY} bytes");
        return Err(refused(StatusCode::PAYLOAD_TOO_LARGE, "too_large", &message));
    }
    serde_json::from_slice(&bytes).map_err(|error| {
        refused(StatusCode::BAD_REQUEST, "usage", &format!("the body is not as it should be: {error}"))
    })
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}
