//! `/admin/v1`: who may, and what it does.

use data_encoding::BASE64;
use futures_util::StreamExt;
use ipns_server::api::{PublishRequest, PutRequest, ResolveRequest, Wait};
use ipns_server::{AdminClient, KeyRequest, exit, token::Token};

use crate::raw::{ask, get};
use crate::world::{VALUE, World, gate, gate_settings, idle, listed, publish_request, record, router_to, soon};

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn only_the_owner_may() {
    let world = World::start(|builder| builder).await;
    let right = format!("Bearer {}", world.token.reveal());
    let wrong = format!("Bearer {}", Token::generate().unwrap().reveal());
    let with = |header: (&'static str, &'static str)| vec![("authorization", right.as_str()), header];
    // What does not exist is as closed as what does.
    for path in ["/admin/v1/status", "/admin/v1/list", "/admin/v1/nothing", "/admin/v1", "/admin/v1/keys/x"] {
        for (headers, status, code) in [
            (vec![], 401, "unauthorized"),
            (vec![("authorization", wrong.as_str())], 401, "unauthorized"),
            (with(("host", "example.com")), 403, "host_refused"),
            (with(("origin", "https://example.com")), 403, "browser_refused"),
            (with(("origin", "http://localhost")), 403, "browser_refused"),
            (with(("sec-fetch-site", "cross-site")), 403, "browser_refused"),
            (with(("x-forwarded-for", "10.0.0.1")), 403, "proxied"),
        ] {
            let response = ask(world.addr, "GET", path, &headers, b"").await;
            assert_eq!((response.status, response.code().as_str()), (status, code), "{path} {headers:?}");
            assert_eq!(response.header("www-authenticate").is_some(), status == 401);
        }
    }
    let right = [("authorization", right.as_str())];
    assert_eq!(ask(world.addr, "GET", "/admin/v1/status", &right, b"").await.status, 200);
    assert_eq!(ask(world.addr, "GET", "/admin/v1/nothing", &right, b"").await.code(), "unknown_path");
    assert_eq!(ask(world.addr, "GET", "/admin/v1/publish", &right, b"").await.code(), "method_not_allowed");

    let off = World::configured(|builder| builder, |config| config.token = None).await;
    let refused = ask(off.addr, "GET", "/admin/v1/status", &right, b"").await;
    assert_eq!((refused.status, refused.code().as_str()), (403, "admin_off"));
}

#[tokio::test]
async fn what_is_asked_must_make_sense() {
    let world = World::start(|builder| builder).await;
    let bearer = format!("Bearer {}", world.token.reveal());
    let auth = ("authorization", bearer.as_str());
    for (path, headers, body, status, code) in [
        ("publish", &[auth][..], "{}".to_owned(), 415, "content_type"),
        ("publish", &[auth, ("content-type", "text/plain")], "{}".to_owned(), 415, "content_type"),
        ("publish", &[auth, JSON], "{".to_owned(), 400, "usage"),
        ("publish", &[auth, JSON], "x".repeat(65 * 1024), 413, "too_large"),
        ("publish", &[auth, JSON], "{}".to_owned(), 404, "key_not_found"),
        ("resolve", &[auth, JSON], r#"{"name":"nonsense"}"#.to_owned(), 422, "name_malformed"),
        ("resolve", &[auth, JSON], r#"{"name":"nonsense","stream":true}"#.to_owned(), 422, "name_malformed"),
        ("put", &[auth, JSON], r#"{"name":"nonsense"}"#.to_owned(), 422, "name_malformed"),
        ("watch", &[auth, JSON], r#"{"name":"nonsense"}"#.to_owned(), 422, "name_malformed"),
        ("republish", &[auth, JSON], r#"{"name":"nonsense"}"#.to_owned(), 422, "name_malformed"),
        ("republish", &[auth, JSON], format!(r#"{{"name":"{}"}}"#, record(0).0), 404, "not_kept"),
        ("follow", &[auth, JSON], format!(r#"{{"names":[{}""]}}"#, r#""","#.repeat(1000)), 400, "usage"),
        ("keys", &[auth, JSON], r#"{"key":"-"}"#.to_owned(), 400, "key_name_invalid"),
        ("keys", &[auth, JSON], r#"{"key":"k","type":"dsa"}"#.to_owned(), 400, "key_type_unsupported"),
        ("keys", &[auth, JSON], r#"{"key":"k","type":"rsa","bits":1024}"#.to_owned(), 400, "key_rsa_size"),
    ] {
        let response = ask(world.addr, "POST", &format!("/admin/v1/{path}"), headers, body.as_bytes()).await;
        assert_eq!((response.status, response.code().as_str()), (status, code), "{path} {body:.40}");
    }
}

#[tokio::test]
async fn keys_come_and_go() {
    let world = World::start(|builder| builder).await;
    let client = world.client();
    assert_eq!(client.keys().await.unwrap(), []);
    let request = KeyRequest { key: "Ä key / no".replace(" / no", ""), ..KeyRequest::default() };
    let made = client.generate_key(&request).await.unwrap();
    assert_eq!((made.key.as_str(), made.kind.as_str()), ("Ä key", "ed25519"));
    assert_eq!(client.keys().await.unwrap(), std::slice::from_ref(&made));
    let again = client.generate_key(&request).await.unwrap_err();
    assert_eq!((again.error.code.as_str(), again.exit), ("key_exists", exit::STORE));
    assert_eq!(client.remove_key("Ä key").await.unwrap(), made);
    assert_eq!(client.remove_key("Ä key").await.unwrap_err().error.code, "key_not_found");
    assert_eq!(client.keys().await.unwrap(), []);
}

#[tokio::test]
async fn one_node_publishes_and_another_resolves() {
    let relay = World::start(|builder| builder).await;
    let one = World::start(|builder| builder.router(router_to(&relay))).await;
    let other = World::durable(|builder| builder.router(router_to(&relay))).await;
    let (publisher, resolver) = (one.client(), other.client());
    let key = publisher.generate_key(&KeyRequest { key: "blog".into(), ..KeyRequest::default() }).await.unwrap();

    let ask = ResolveRequest { name: key.name.clone(), ..ResolveRequest::default() };
    let nothing = resolver.resolve_once(&ask).await.unwrap_err();
    assert_eq!(nothing.exit, exit::NOT_FOUND);
    assert!(!nothing.receipts.is_empty());

    for (sequence, value) in [(0, VALUE), (1, "/ipfs/bafkqaaa")] {
        let published = publisher.publish(&publish_request(value)).await.unwrap();
        assert_eq!((&published.name, published.value.as_str()), (&key.name, value));
        assert!(published.stored && published.sequence == sequence && published.receipts[0].ok);
        let fresh = ResolveRequest { cache: false, with_record: true, ..ask.clone() };
        let found = resolver.resolve_once(&fresh).await.unwrap();
        assert_eq!((found.value.as_str(), found.sequence, found.is_final), (value, sequence, true));
        let record = BASE64.decode(found.record.unwrap().as_bytes()).unwrap();
        assert_eq!(get(relay.addr, &format!("/routing/v1/ipns/{}", key.name)).await.body, record);
    }

    let kept = listed(&publisher).await;
    assert_eq!((kept.len(), kept[0].key.as_deref(), kept[0].sequence), (1, Some("blog"), Some(1)));
    let status = publisher.status().await.unwrap();
    assert_eq!((status.pid, status.own, status.stats.published), (std::process::id(), 1, 2));
    assert_eq!(resolver.status().await.unwrap().stats.resolve_failed, 1);

    // A failure brings everything along that the program prints.
    let over = PublishRequest { if_sequence: Some(0), ..publish_request(VALUE) };
    assert_eq!(publisher.publish(&over).await.unwrap_err().exit, exit::CONFLICT);
    let all = PublishRequest { wait: Wait::Count(2), ..publish_request(VALUE) };
    let unmet = publisher.publish(&all).await.unwrap_err();
    assert_eq!(unmet.exit, exit::NETWORK);
    assert_eq!(unmet.published.unwrap().sequence, 2);
}

#[tokio::test]
async fn a_ready_record_is_put() {
    let world = World::start(|builder| builder).await;
    let (name, bytes) = record(5);
    let put = |bytes: &[u8]| PutRequest {
        name: name.to_string(),
        record: BASE64.encode(bytes),
        allow_offline: true,
        ..PutRequest::default()
    };
    assert_eq!(world.client().put(&put(&bytes)).await.unwrap().sequence, 5);
    let older = world.client().put(&put(&record(4).1)).await.unwrap_err();
    assert_eq!(older.exit, exit::CONFLICT);
    let broken = world.client().put(&put(b"garbage")).await.unwrap_err();
    assert_eq!((broken.exit, broken.error.code.as_str()), (exit::INVALID, "malformed"));
}

#[tokio::test]
async fn improvements_stream_as_they_come() {
    let (gate, mut keeper) = gate();
    let world = World::start(|builder| builder.custom_router(gate_settings(), gate)).await;
    let mut clients = vec![world.client()];
    if cfg!(unix) {
        clients.push(AdminClient::socket(world.home.path().join("admin.sock"), world.token.clone()));
    }
    for client in &clients[..1] {
        let ask = ResolveRequest { name: record(0).0.to_string(), stream: true, ..ResolveRequest::default() };
        let mut reports = client.resolve(&ask).await.unwrap();
        // The gate is still closed, so this has not waited for the end.
        let first = soon(reports.next()).await.unwrap().unwrap();
        assert_eq!((first.sequence, first.is_final), (1, false));
        soon(keeper.entered.recv()).await.unwrap();
        keeper.open();
        let rest: Vec<_> = soon(reports.collect::<Vec<_>>()).await.into_iter().map(Result::unwrap).collect();
        let last = rest.last().unwrap();
        assert_eq!((last.sequence, last.is_final), (2, true));
        assert!(rest[..rest.len() - 1].iter().all(|report| !report.is_final));
    }
    // By the socket file, without a stream.
    for client in &clients {
        let ask = ResolveRequest { name: record(0).0.to_string(), ..ResolveRequest::default() };
        let answers: Vec<_> = client.resolve(&ask).await.unwrap().collect().await;
        assert_eq!(answers.len(), 1);
        assert_eq!(answers[0].as_ref().unwrap().sequence, 2);
    }
}

#[tokio::test]
async fn who_goes_away_cancels() {
    let (gate, mut keeper) = gate();
    let world = World::start(|builder| builder.custom_router(gate_settings(), gate)).await;
    let ask = ResolveRequest { name: record(0).0.to_string(), stream: true, ..ResolveRequest::default() };
    let mut reports = world.client().resolve(&ask).await.unwrap();
    assert_eq!(soon(reports.next()).await.unwrap().unwrap().sequence, 1);
    assert_eq!(world.node.stats().load, 1);
    drop(reports);
    // The gate is still closed, so nothing else than that has ended it.
    idle(&world.node).await;

    // Another name, for the first one is still being looked for.
    let key = world.client().generate_key(&KeyRequest { key: "other".into(), ..KeyRequest::default() }).await.unwrap();
    let once = ResolveRequest { name: key.name, stream: false, ..ask };
    let client = world.client();
    soon(keeper.entered.recv()).await.unwrap();
    let waiting = tokio::spawn(async move { client.resolve_once(&once).await });
    soon(keeper.entered.recv()).await.unwrap();
    assert_eq!(world.node.stats().load, 1);
    waiting.abort();
    idle(&world.node).await;
}
