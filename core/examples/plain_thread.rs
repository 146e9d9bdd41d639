//! No executor, no runtime, not even a second thread: the engine, a loop, and the sockets of std resolve a name.
//!
//! ```sh
//! cargo run -p ipns-core --example plain_thread -- http://127.0.0.1:8190 k51…
//! ```
//!
//! The engine decides all: whom to ask, how long to wait, when to try again, which record is valid and which is the
//! newest. What is left to the program is below: to read two clocks, to carry out what the engine asks, and to wait.
#![allow(clippy::print_stdout, reason = "it shows what it finds")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "this is the world around core")]

use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{Request, Response};
use ipns_core::engine::{Config, Engine, Event, Input, Output, Resolve, StoreAction, StoreReply};
use ipns_core::routing::{HttpError, Router, http::client::Endpoint};
use ipns_core::{Name, Now, Timestamp};

/// The largest head of a response that is read, in bytes.
const MAX_HEAD: usize = 16 << 10;

/// Resolves a name over one router.
pub(crate) fn resolve(router: &str, name: Name) -> Result<String, Box<dyn Error>> {
    let begun = Instant::now();
    // Every call tells the engine the time; it has no other way to know it.
    let now = || {
        let nanos = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos());
        Now { monotonic: begun.elapsed(), wall: Timestamp::from_unix_nanos(nanos as i128) }
    };
    let config = Config { routers: vec![Router::http(Endpoint::new(router)?)], ..Config::default() };
    // The seed is for the jitter of retries, and one router is asked by one program here.
    let mut engine = Engine::new(config, [0; 32], now());
    engine.resolve(now(), name, Resolve::default());
    loop {
        while let Some(output) = engine.poll_output() {
            let input = match output {
                Output::Event(Event::Resolved { result, .. }) => return Ok(result?.value.to_string()),
                // A store that forgets: whoever asks once need not remember.
                Output::Store(command) => {
                    let reply = match command.action {
                        StoreAction::Get { .. } => StoreReply::Value(None),
                        StoreAction::Scan { .. } => StoreReply::Entries(Vec::new()),
                        StoreAction::Commit(_) => StoreReply::Committed,
                    };
                    Input::Stored { id: command.id, result: Ok(reply) }
                }
                // Everything waits meanwhile, which is as well with one question to one router.
                Output::Http { id, request, timeout, max_body } => {
                    Input::Http { id, result: exchange(&request, timeout, max_body) }
                }
                // What is done before the engine is asked again cannot be cancelled, and other events are for longer lives.
                _ => continue,
            };
            engine.handle_input(now(), input);
        }
        // Nothing is under way that could end by itself: what happens next is that time has passed.
        let due = engine.next_timeout().ok_or("the engine waits for nothing")?;
        std::thread::sleep(due.saturating_sub(begun.elapsed()));
        engine.handle_input(now(), Input::Tick);
    }
}

/// One request over a connection of its own, in HTTP/1.1 without TLS.
fn exchange(request: &Request<Bytes>, timeout: Duration, max_body: usize) -> Result<Response<Bytes>, HttpError> {
    let deadline = Instant::now() + timeout;
    let left = || Some(deadline.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero());
    let broken = |what: &str| HttpError::Broken(what.to_owned());
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => HttpError::Timeout,
        _ => broken(&error.to_string()),
    };
    let uri = request.uri();
    let (Some("http"), Some(host)) = (uri.scheme_str(), uri.authority()) else {
        return Err(HttpError::Connect(format!("{uri} is no http:// URL")));
    };
    let address = host.port().map_or_else(|| format!("{host}:80"), |_| host.to_string());
    let addresses = address.to_socket_addrs().map_err(|error| HttpError::Connect(error.to_string()))?;
    let connected = { addresses }.find_map(|at| TcpStream::connect_timeout(&at, left()?).ok());
    let mut stream = connected.ok_or_else(|| HttpError::Connect(format!("no connection to {host}")))?;

    let (target, length) = (uri.path_and_query().map_or("/", |target| target.as_str()), request.body().len());
    let first = format!("{} {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n", request.method());
    let mut bytes = format!("{first}content-length: {length}\r\n").into_bytes();
    for (key, value) in request.headers() {
        bytes.extend([key.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    bytes.extend([b"\r\n", &request.body()[..]].concat());
    stream.set_write_timeout(left()).and_then(|()| stream.write_all(&bytes)).map_err(failed)?;

    let (mut answer, mut chunk) = (Vec::new(), [0; 4096]);
    // The server closes at the end. One that sends more than is wanted, or a byte now and then, is heard no longer.
    while answer.len() <= MAX_HEAD + max_body {
        stream.set_read_timeout(Some(left().ok_or(HttpError::Timeout)?)).map_err(failed)?;
        match stream.read(&mut chunk).map_err(failed)? {
            0 => break,
            read => answer.extend_from_slice(&chunk[..read]),
        }
    }
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").ok_or_else(|| broken("no end of the head"))?;
    let (head, body) = (String::from_utf8_lossy(&answer[..end]), &answer[end + 4..]);
    let mut response = Response::builder().status(head.split_whitespace().nth(1).unwrap_or_default());
    for (key, value) in head.lines().skip(1).filter_map(|line| line.split_once(':')) {
        response = response.header(key, value.trim());
    }
    let response = response.body(Bytes::copy_from_slice(body)).map_err(|error| broken(&error.to_string()))?;
    let said = response.headers().get("content-length").and_then(|length| length.to_str().ok()?.parse().ok());
    match said.unwrap_or(body.len()) {
        length if length.max(body.len()) > max_body => Err(HttpError::TooLarge(max_body)),
        length if length != body.len() => Err(broken("the connection ended within the response")),
        _ if response.headers().contains_key("transfer-encoding") => Err(broken("chunks are beyond this example")),
        _ => Ok(response),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let [router, name] = [1, 2].map(|n| std::env::args().nth(n).unwrap_or_default());
    println!("{}", resolve(&router, name.parse()?)?);
    Ok(())
}
