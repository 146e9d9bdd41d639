//! Whatever clients do, it costs a bounded part.

use std::time::Duration;

use tokio::io::AsyncWriteExt;

use crate::raw::{Response, ask, connect, get, one, request, rest};
use crate::world::{World, gate, gate_settings, record, soon};

#[tokio::test]
async fn slow_and_silent_clients_are_cut_off() {
    let world = World::configured(
        |builder| builder,
        |config| {
            config.header_timeout = Duration::from_millis(200);
            config.request_timeout = Duration::from_millis(200);
        },
    )
    .await;
    // Silent, half a head, half a head for admin.
    for sent in ["", "GET / HTTP/1.1\r\nhost: loc", "POST /admin/v1/publish HTTP/1.1\r\nauthoriz"] {
        let mut stream = connect(world.addr).await;
        stream.write_all(sent.as_bytes()).await.unwrap();
        assert!(!String::from_utf8(rest(&mut stream).await).unwrap().contains("200 OK"), "{sent}");
    }
    // Half a body.
    let (name, _) = record(1);
    let bearer = format!("Bearer {}", world.token.reveal());
    let put = request("PUT", &format!("/routing/v1/ipns/{name}"), &[("content-length", "100")], b"");
    let json = [("authorization", bearer.as_str()), ("content-type", "application/json"), ("content-length", "100")];
    for (head, status) in [(put, 504), (request("POST", "/admin/v1/publish", &json, b""), 408)] {
        let mut stream = connect(world.addr).await;
        stream.write_all(&head).await.unwrap();
        stream.write_all(b"half").await.unwrap();
        assert_eq!(Response::parse(&rest(&mut stream).await).status, status);
    }
    // Idle after a request.
    let mut stream = connect(world.addr).await;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    assert_eq!(one(&mut stream).await.status, 200);
    rest(&mut stream).await;
    assert_eq!(get(world.addr, "/healthz").await.status, 200);
}

#[tokio::test]
async fn a_flood_of_connections_is_turned_away() {
    let world = World::configured(
        |builder| builder,
        |config| {
            config.max_connections = 3;
            config.max_local_connections = 1;
        },
    )
    .await;
    let ask = b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut stream = connect(world.addr).await;
        // An answer shows that the connection has its place.
        stream.write_all(ask).await.unwrap();
        assert_eq!(one(&mut stream).await.status, 200);
        held.push(stream);
    }
    let mut flood = Vec::new();
    for _ in 0..200 {
        flood.push(connect(world.addr).await);
    }
    for stream in &mut flood {
        let answer = rest(stream).await;
        assert_eq!(Response::parse(&answer).status, 503);
    }
    held[0].write_all(ask).await.unwrap();
    let metrics = one(&mut held[0]).await;
    assert!(metrics.text().contains("\nipns_http_connections 4\n"), "{}", metrics.text());
    assert!(metrics.text().contains("\nipns_http_connections_refused_total 200\n"));
    // A place that is given back is given to the next.
    held.pop();
    soon(async {
        loop {
            if get(world.addr, "/healthz").await.status == 200 {
                break;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_flood_of_requests_is_told_to_come_back() {
    let (gate, mut keeper) = gate();
    let world =
        World::configured(|builder| builder.custom_router(gate_settings(), gate), |config| config.max_requests = 1)
            .await;
    let path = format!("/routing/v1/ipns/{}", record(1).0);
    let addr = world.addr;
    let waiting = tokio::spawn({
        let path = path.clone();
        async move { get(addr, &path).await }
    });
    soon(keeper.entered.recv()).await.unwrap();
    for method in ["GET", "HEAD"] {
        let busy = ask(addr, method, &path, &[], b"").await;
        assert_eq!((busy.status, busy.header("retry-after")), (429, Some("5")));
    }
    // Only routing is full.
    assert_eq!(get(addr, "/healthz").await.status, 200);
    assert!(world.client().status().await.is_ok());
    keeper.open();
    let answer = soon(waiting).await.unwrap();
    assert_eq!((answer.status, answer.body), (200, record(2).1.to_vec()));
    assert_eq!(get(addr, &path).await.status, 200);
}

#[tokio::test]
async fn nonsense_is_refused() {
    let world = World::start(|builder| builder).await;
    let many: String = (0..100).map(|n| format!("x-{n}: 1\r\n")).collect();
    for (sent, status) in [
        ("nonsense\r\n\r\n".to_owned(), 400),
        (format!("GET / HTTP/1.1\r\n{many}\r\n"), 431),
        (format!("GET /{} HTTP/1.1\r\nhost: localhost\r\n\r\n", "x".repeat(70_000)), 414),
        (format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "x".repeat(70_000)), 431),
    ] {
        let mut stream = connect(world.addr).await;
        let _ = stream.write_all(sent.as_bytes()).await;
        let answer = rest(&mut stream).await;
        // Whoever sends more than is read may see a reset instead.
        if sent.len() < 10_000 || !answer.is_empty() {
            assert!([status, 431].contains(&Response::parse(&answer).status), "{sent:.40}");
        }
    }
    assert_eq!(get(world.addr, "/healthz").await.status, 200);
}
