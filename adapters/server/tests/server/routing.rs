//! `/routing/v1` on the wire (facts: Delegated Routing V1).

use crate::raw::{ask, get, request};
use crate::world::{World, record};

const RECORD: &str = "application/vnd.ipfs.ipns-record";

#[tokio::test]
async fn what_is_put_is_got_with_every_header() {
    let world = World::durable(|builder| builder).await;
    let (name, bytes) = record(3);
    let path = format!("/routing/v1/ipns/{name}");
    assert_eq!(get(world.addr, &path).await.status, 404);

    let put = ask(world.addr, "PUT", &path, &[("content-type", RECORD)], &bytes).await;
    assert_eq!((put.status, put.header("content-length"), put.text()), (200, Some("0"), ""));

    let got = ask(world.addr, "GET", &path, &[("accept", RECORD)], b"").await;
    assert_eq!((got.status, &got.body[..]), (200, &bytes[..]));
    assert_eq!(got.header("content-type"), Some(RECORD));
    assert_eq!(got.header("content-length"), Some(bytes.len().to_string().as_str()));
    assert_eq!(got.header("vary"), Some("Accept"));
    assert_eq!(got.header("expires"), Some("Fri, 01 Jan 2100 00:00:00 GMT"));
    assert_eq!(got.header("access-control-allow-origin"), Some("*"));
    assert!(got.header("last-modified").unwrap().ends_with(" GMT"));
    assert!(got.header("date").unwrap().ends_with(" GMT"));
    let cache = got.header("cache-control").unwrap();
    let stale = cache.strip_prefix("public, max-age=300, stale-while-revalidate=").unwrap();
    let (revalidate, error) = stale.split_once(", stale-if-error=").unwrap();
    assert!(revalidate == error && revalidate.parse::<u64>().unwrap() > 2_000_000_000, "{cache}");
    let tag = got.header("etag").unwrap();
    assert!(tag.starts_with('"') && tag.ends_with('"'));

    // HEAD: the same without the body.
    let head = ask(world.addr, "HEAD", &path, &[], b"").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    for name in ["content-type", "content-length", "etag", "expires", "vary"] {
        assert_eq!(head.header(name), got.header(name), "{name}");
    }

    // Conditional: not again what the client has.
    for method in ["GET", "HEAD"] {
        let same = ask(world.addr, method, &path, &[("if-none-match", tag)], b"").await;
        assert_eq!((same.status, same.body.len()), (304, 0));
        assert_eq!((same.header("etag"), same.header("content-length")), (Some(tag), None));
        assert!(same.header("cache-control").is_some());
    }
    let other = ask(world.addr, "GET", &path, &[("if-none-match", "\"other\"")], b"").await;
    assert_eq!(other.status, 200);

    // An older one is refused, the same again is not.
    assert_eq!(ask(world.addr, "PUT", &path, &[("content-type", RECORD)], &bytes).await.status, 200);
    let older = ask(world.addr, "PUT", &path, &[("content-type", RECORD)], &record(2).1).await;
    assert_eq!((older.status, older.code().as_str()), (409, "conflict"));
    world.node.shutdown(crate::raw::LONG).await;
}

#[tokio::test]
async fn a_record_that_is_too_large_is_refused_not_cut() {
    let world = World::start(|builder| builder).await;
    let (name, bytes) = record(1);
    let path = format!("/routing/v1/ipns/{name}");
    // The record is in front: a server that cuts would find it whole and valid.
    for size in [10 * 1024 + 1, 100 * 1024, 512 * 1024] {
        let mut body = bytes.to_vec();
        // An unknown field of the protobuf takes the rest.
        body.extend([0xfa, 0x07]);
        let rest = size - body.len() - 3;
        body.extend([(rest & 0x7f | 0x80) as u8, (rest >> 7 & 0x7f | 0x80) as u8, (rest >> 14) as u8]);
        body.resize(size, 0);
        let put = ask(world.addr, "PUT", &path, &[("content-type", RECORD)], &body).await;
        assert_eq!((put.status, put.code().as_str()), (413, "too_large"), "{size}");
        assert_eq!(get(world.addr, &path).await.status, 404);
    }
}

#[tokio::test]
async fn statuses_of_the_routing_interface() {
    let world = World::start(|builder| builder).await;
    let (name, bytes) = record(1);
    let path = format!("/routing/v1/ipns/{name}");
    for (method, path, headers, body, status) in [
        ("GET", "/routing/v1", &[][..], &b""[..], 400),
        ("GET", "/routing/v1/", &[], b"", 400),
        ("GET", "/routing/v1/ipns/nonsense", &[], b"", 400),
        ("GET", "/routing/v1/providers/x", &[], b"", 501),
        ("GET", "/routing/v10", &[], b"", 404),
        ("GET", &path, &[("accept", "text/html")], b"", 406),
        ("PUT", &path, &[("content-type", "text/plain")], &bytes[..], 406),
        ("PUT", &path, &[("content-type", RECORD)], b"garbage", 400),
        ("PUT", &path, &[("content-type", RECORD)], b"", 400),
        ("PATCH", &path, &[], b"", 405),
        ("POST", &path, &[("content-type", RECORD)], &bytes[..], 200),
    ] {
        let response = ask(world.addr, method, path, headers, body).await;
        assert_eq!(response.status, status, "{method} {path}");
    }

    let preflight = [("origin", "https://example.com"), ("access-control-request-method", "PUT")];
    let options = ask(world.addr, "OPTIONS", &path, &preflight, b"").await;
    assert_eq!((options.status, options.header("content-length"), options.body.len()), (204, None, 0));
    assert_eq!(options.header("access-control-allow-origin"), Some("*"));
    assert!(options.header("access-control-allow-methods").unwrap().contains("PUT"));
    assert!(options.header("access-control-allow-headers").unwrap().contains("Content-Type"));

    // A name that is put in one spelling is got in another.
    assert_eq!(get(world.addr, &format!("/routing/v1/ipns/{}", name.to_base58())).await.body, bytes);
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    use tokio::io::AsyncWriteExt;
    let world = World::start(|builder| builder).await;
    let mut stream = crate::raw::connect(world.addr).await;
    let ask = String::from_utf8(request("GET", "/healthz", &[], b"")).unwrap().replace("connection: close\r\n", "");
    for _ in 0..3 {
        stream.write_all(ask.as_bytes()).await.unwrap();
        assert_eq!(crate::raw::one(&mut stream).await.status, 200);
    }
}
