//! The HTTP client of each runtime against real sockets.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use futures_channel::oneshot;
use futures_util::future::{Either, select};
use ipns_core::routing::HttpError;

use crate::on::{LONG, On, on_each_runtime, within};

on_each_runtime!(
    a_response_is_read,
    a_request_arrives_as_it_was_made,
    a_body_is_bounded,
    a_body_without_a_bound_is_read,
    a_redirect_is_not_followed,
    failures_are_told_apart,
    a_dropped_request_closes_its_connection,
);

/// Answers one connection with these bytes, or never; tells the request, and when the client has gone.
fn server(answer: Option<String>) -> (String, oneshot::Receiver<String>, oneshot::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let ((asked, request), (left, gone)) = (oneshot::channel(), oneshot::channel());
    thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut buffer = [0; 4096];
        let mut read = socket.read(&mut buffer).unwrap();
        // A body may come in a segment of its own.
        while buffer.starts_with(b"PUT") && !buffer[..read].ends_with(b"the body") {
            read += socket.read(&mut buffer[read..]).unwrap();
        }
        let _ = asked.send(String::from_utf8_lossy(&buffer[..read]).into_owned());
        if let Some(answer) = answer {
            let _ = socket.write_all(answer.as_bytes());
            return;
        }
        while matches!(socket.read(&mut buffer), Ok(1..)) {}
        let _ = left.send(());
    });
    (url, request, gone)
}

async fn get(on: On, url: &str, timeout: Duration) -> Result<http::Response<Bytes>, HttpError> {
    let request = http::Request::get(url).body(Bytes::new()).unwrap();
    on.http().send(request, 10, timeout).await
}

fn response(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nLocation: /elsewhere\r\n\r\n{body}", body.len())
}

async fn a_response_is_read(on: On) {
    let (url, ..) = server(Some(response("200 OK", "0123456789")));
    let response = get(on, &url, LONG).await.unwrap();
    assert_eq!((response.status().as_u16(), &response.body()[..]), (200, &b"0123456789"[..]));
    assert_eq!(response.headers()["location"], "/elsewhere");
}

async fn a_request_arrives_as_it_was_made(on: On) {
    let (url, asked, _) = server(Some(response("200 OK", "")));
    let request = http::Request::put(format!("{url}routing/v1/ipns/k51"))
        .header("content-type", "application/vnd.ipfs.ipns-record")
        .body(Bytes::from_static(b"the body"))
        .unwrap();
    on.http().send(request, 10, LONG).await.unwrap();
    let asked = asked.await.unwrap().to_ascii_lowercase();
    assert!(asked.starts_with("put /routing/v1/ipns/k51 http/1.1\r\n"), "{asked}");
    for line in ["content-type: application/vnd.ipfs.ipns-record\r\n", "content-length: 8\r\n", "user-agent: ipns/"] {
        assert!(asked.contains(line), "{asked}");
    }
    assert!(asked.ends_with("\r\n\r\nthe body") && !asked.contains("expect:"), "{asked}");
}

async fn a_body_is_bounded(on: On) {
    let (url, ..) = server(Some(response("200 OK", "0123456789x")));
    assert_eq!(get(on, &url, LONG).await.unwrap_err(), HttpError::TooLarge(10));
    let (url, ..) = server(Some(response("500 No", "0123456789x")));
    assert_eq!(get(on, &url, LONG).await.unwrap().body(), "0123456789", "the words of an error are cut");
}

async fn a_body_without_a_bound_is_read(on: On) {
    let (url, ..) = server(Some(response("200 OK", "0123456789")));
    let request = http::Request::get(&url).body(Bytes::new()).unwrap();
    let response = on.http().send(request, usize::MAX, LONG).await.unwrap();
    assert_eq!(response.body(), "0123456789");
}

async fn a_redirect_is_not_followed(on: On) {
    let (url, ..) = server(Some(response("302 Found", "")));
    assert_eq!(get(on, &url, LONG).await.unwrap().status(), 302);
}

async fn failures_are_told_apart(on: On) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let refused = get(on, &url, LONG).await;
    assert!(matches!(refused, Err(HttpError::Connect(_))), "{refused:?}");
    let (url, ..) = server(None);
    assert_eq!(get(on, &url, Duration::from_millis(50)).await.unwrap_err(), HttpError::Timeout);
    let (url, ..) = server(Some("nonsense\r\n\r\n".into()));
    let broken = get(on, &url, LONG).await;
    assert!(matches!(broken, Err(HttpError::Broken(_))), "{broken:?}");
}

async fn a_dropped_request_closes_its_connection(on: On) {
    let (url, asked, gone) = server(None);
    let client = on.http();
    let request = http::Request::get(url).body(Bytes::new()).unwrap();
    // isahc cannot tell curl earlier: the time-out of the request bounds it.
    match select(client.send(request, 10, Duration::from_secs(2)), asked).await {
        Either::Left(_) => panic!("the server never answers"),
        Either::Right((_, request)) => drop(request),
    }
    within(LONG, gone).await.expect("the client hangs up").unwrap();
}
