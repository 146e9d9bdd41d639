//! Responses in JSON.

use axum::body::Body;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;

use crate::failure::{Failure, exit};

/// A response with a document, or with the failure and the status that fits it.
pub(crate) fn answer<T: Serialize>(result: Result<T, Failure>) -> Response<Body> {
    match result {
        Ok(document) => json(StatusCode::OK, &document),
        Err(failure) => fail(&failure),
    }
}

/// A failure with the status that fits it.
pub(crate) fn fail(failure: &Failure) -> Response<Body> {
    json(status_of(failure), failure)
}

/// A refusal that is no matter of the node.
pub(crate) fn refuse(status: StatusCode, code: &str, message: &str) -> Response<Body> {
    json(status, &Failure::new(if status.is_client_error() { exit::USAGE } else { exit::FAILED }, code, message))
}

/// A document, which ends with a newline for those who read it in a terminal.
pub(crate) fn json(status: StatusCode, document: &impl Serialize) -> Response<Body> {
    let (status, mut text) = match serde_json::to_string(document) {
        Ok(text) => (status, text),
        Err(error) => {
            tracing::error!(%error, "a document cannot be written as JSON");
            let text = r#"{"error":{"code":"failed","message":"the answer cannot be written as JSON"}}"#;
            (StatusCode::INTERNAL_SERVER_ERROR, text.to_owned())
        }
    };
    text.push('\n');
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The key store has one exit status for all that it refuses; over HTTP its codes say more.
fn status_of(failure: &Failure) -> StatusCode {
    match (failure.error.code.as_str(), failure.exit) {
        ("key_not_found", _) => StatusCode::NOT_FOUND,
        ("key_exists", _) => StatusCode::CONFLICT,
        ("key_name_invalid" | "key_type_unsupported" | "key_rsa_size", exit::STORE | exit::FAILED | exit::USAGE) => {
            StatusCode::BAD_REQUEST
        }
        (_, exit::USAGE) => StatusCode::BAD_REQUEST,
        (_, exit::NOT_FOUND) => StatusCode::NOT_FOUND,
        (_, exit::INVALID) => StatusCode::UNPROCESSABLE_ENTITY,
        (_, exit::NETWORK) => StatusCode::BAD_GATEWAY,
        (_, exit::CONFLICT) => StatusCode::CONFLICT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exit_status_has_an_http_status() {
        let cases = [
            (exit::FAILED, "stopped", 500),
            (exit::USAGE, "usage", 400),
            (exit::NOT_FOUND, "not_found", 404),
            (exit::INVALID, "signature_invalid", 422),
            (exit::NETWORK, "no_router", 502),
            (exit::CONFLICT, "conflict", 409),
            (exit::STORE, "store_io", 500),
            (exit::STORE, "keystore_io", 500),
            (exit::STORE, "key_not_found", 404),
            (exit::STORE, "key_exists", 409),
            (exit::STORE, "key_name_invalid", 400),
            (exit::FAILED, "key_rsa_size", 400),
            (exit::INVALID, "key_type_unsupported", 422),
        ];
        for (status, code, expected) in cases {
            assert_eq!(fail(&Failure::new(status, code, "")).status().as_u16(), expected, "{code}");
        }
    }
}
