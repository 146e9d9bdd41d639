//! The HTTP client against real sockets.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::time::Duration;

use bytes::Bytes;
use ipns_core::routing::HttpError;
use ipns_driver::HttpClient;
use ipns_tokio::Reqwest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const LONG: Duration = Duration::from_secs(30);

/// Answers one connection with these bytes, or never.
async fn server(answer: Option<String>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let _ = socket.read(&mut [0; 1024]).await;
        match answer {
            Some(answer) => socket.write_all(answer.as_bytes()).await.unwrap(),
            None => std::future::pending().await,
        }
    });
    url
}

async fn get(url: &str, timeout: Duration) -> Result<http::Response<Bytes>, HttpError> {
    let request = http::Request::get(url).body(Bytes::new()).unwrap();
    Reqwest::new().unwrap().send(request, 10, timeout).await
}

fn response(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nLocation: /elsewhere\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn reads_a_response() {
    let url = server(Some(response("200 OK", "0123456789"))).await;
    let response = get(&url, LONG).await.unwrap();
    assert_eq!((response.status().as_u16(), &response.body()[..]), (200, &b"0123456789"[..]));
}

#[tokio::test]
async fn a_body_is_bounded() {
    let url = server(Some(response("200 OK", "0123456789x"))).await;
    assert_eq!(get(&url, LONG).await.unwrap_err(), HttpError::TooLarge(10));
    let url = server(Some(response("500 No", "0123456789x"))).await;
    assert_eq!(get(&url, LONG).await.unwrap().body(), "0123456789", "the words of an error are cut");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let url = server(Some(response("302 Found", ""))).await;
    assert_eq!(get(&url, LONG).await.unwrap().status(), 302);
}

#[tokio::test]
async fn failures_are_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    assert!(matches!(get(&url, LONG).await, Err(HttpError::Connect(_))));
    let url = server(None).await;
    assert_eq!(get(&url, Duration::from_millis(50)).await.unwrap_err(), HttpError::Timeout);
    let url = server(Some("nonsense\r\n\r\n".into())).await;
    assert!(matches!(get(&url, LONG).await, Err(HttpError::Broken(_))));
}
