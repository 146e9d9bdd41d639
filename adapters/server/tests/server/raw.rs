//! HTTP as it is on the wire.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longer than anything here takes; what takes longer has failed.
pub(crate) const LONG: Duration = Duration::from_secs(30);

pub(crate) struct Response {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines.map(|line| line.split_once(": ").unwrap());
        let headers = headers.map(|(key, value)| (key.to_ascii_lowercase(), value.to_owned())).collect();
        Self { status, headers, body: bytes[end + 4..].to_vec() }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(key, _)| key == name);
        let first = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} is there twice");
        first
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The code of a failure.
    pub(crate) fn code(&self) -> String {
        let document: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        document["error"]["code"].as_str().unwrap().to_owned()
    }
}

pub(crate) async fn connect(addr: SocketAddr) -> TcpStream {
    timeout(LONG, TcpStream::connect(addr)).await.unwrap().unwrap()
}

/// Everything until the server closes; what a reset cuts off is not there.
pub(crate) async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = timeout(LONG, stream.read_to_end(&mut bytes)).await.expect("the server closes");
    bytes
}

/// One response with a known length; the connection stays open.
pub(crate) async fn one(stream: &mut TcpStream) -> Response {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        assert!(timeout(LONG, stream.read_buf(&mut bytes)).await.unwrap().unwrap() > 0, "closed");
    };
    let length: usize = Response::parse(&bytes[..head]).header("content-length").unwrap().parse().unwrap();
    while bytes.len() < head + length {
        assert!(timeout(LONG, stream.read_buf(&mut bytes)).await.unwrap().unwrap() > 0, "closed");
    }
    Response::parse(&bytes)
}

/// A request with a `Host` that is right, and `Connection: close`.
pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
    if !headers.iter().any(|(key, _)| key.eq_ignore_ascii_case("host")) {
        text.push_str("host: localhost\r\n");
    }
    for (key, value) in headers {
        text.push_str(&format!("{key}: {value}\r\n"));
    }
    if !body.is_empty() {
        text.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    [format!("{text}\r\n").as_bytes(), body].concat()
}

pub(crate) async fn ask(addr: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
    let mut stream = connect(addr).await;
    stream.write_all(&request(method, path, headers, body)).await.unwrap();
    Response::parse(&rest(&mut stream).await)
}

pub(crate) async fn get(addr: SocketAddr, path: &str) -> Response {
    ask(addr, "GET", path, &[], b"").await
}
