//! Answering others.

use http::header::{CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{Method, Request, Response};

use crate::routing::http::MEDIA_TYPE;

use super::super::config::Config;
use super::disk::Health;
use super::script::{Act, Script};
use super::world::World;
use super::*;

fn head(seed: u8) -> Request<Bytes> {
    let mut request = download(seed);
    *request.method_mut() = Method::HEAD;
    request
}

fn send(method: Method, seed: u8, record: Bytes) -> Request<Bytes> {
    let mut request = upload(seed, record);
    *request.method_mut() = method;
    request
}

fn ask(world: &mut World, node: usize, request: Request<Bytes>) -> Response<Bytes> {
    let id = world.ask(node, request);
    world.response(id)
}

fn text(response: &Response<Bytes>) -> String {
    String::from_utf8_lossy(response.body()).into_owned()
}

/// A server without routers of its own.
fn alone() -> (World, usize) {
    let mut world = World::new(3);
    let node = world.node(config(&[]));
    (world, node)
}

#[test]
fn what_is_put_can_be_got() {
    let (mut world, node) = alone();
    let nothing = ask(&mut world, node, download(1));
    assert_eq!(nothing.status(), 404);
    for (method, sequence) in [(Method::PUT, 1), (Method::POST, 2)] {
        assert_eq!(ask(&mut world, node, send(method, 1, bytes(1, sequence))).status(), 200);
        let got = ask(&mut world, node, download(1));
        assert_eq!((got.status().as_u16(), got.body()), (200, &bytes(1, sequence)));
        assert_eq!(got.headers()[CONTENT_TYPE], MEDIA_TYPE);
    }
    let got = ask(&mut world, node, download(1));
    let bare = ask(&mut world, node, head(1));
    assert_eq!((bare.status().as_u16(), bare.body().len()), (200, 0));
    assert_eq!(bare.headers()["content-length"], got.body().len().to_string());
    let mut again = download(1);
    again.headers_mut().insert(IF_NONE_MATCH, got.headers()[ETAG].clone());
    let unchanged = ask(&mut world, node, again);
    assert_eq!((unchanged.status().as_u16(), unchanged.body().len()), (304, 0));
    world.restart(node);
    assert_eq!(ask(&mut world, node, download(1)).body(), &bytes(1, 2), "durable");
}

#[test]
fn what_is_wrong_is_refused() {
    let (mut world, node) = alone();
    ask(&mut world, node, upload(1, bytes(1, 7)));
    let expired = record_until(1, 9, &path(1), DAWN);
    for (record, status, code) in [
        (bytes(1, 6), 409, "\"sequence\":7"),
        (bytes(2, 9), 400, "signature_invalid"),
        (expired.as_bytes().clone(), 400, "expired"),
        (Bytes::from_static(b"nonsense"), 400, "malformed"),
        (vec![0; 20_000].into(), 413, "too_large"),
        (Bytes::new(), 400, "empty"),
    ] {
        let response = ask(&mut world, node, upload(1, record));
        assert_eq!(response.status(), status, "{code}");
        assert!(text(&response).contains(code), "{}", text(&response));
    }
    assert_eq!(ask(&mut world, node, send(Method::DELETE, 1, Bytes::new())).status(), 405);
    assert_eq!(ask(&mut world, node, download(1)).body(), &bytes(1, 7));
    world.nodes[node].disk.health = Health::Full;
    let full = ask(&mut world, node, upload(1, bytes(1, 8)));
    assert_eq!(full.status(), 500);
    assert!(text(&full).contains("store_full"));
    assert_eq!(ask(&mut world, node, download(1)).body(), &bytes(1, 7), "what is not durable is not served");
}

#[test]
fn the_same_again_is_fine() {
    let (mut world, node) = alone();
    for _ in 0..3 {
        assert_eq!(ask(&mut world, node, upload(1, bytes(1, 7))).status(), 200);
        world.pass(HOUR);
    }
    // The same sequence is refused or taken as the selection has it: the later end wins.
    let twin = |eol| record_until(1, 7, &path(7), eol).as_bytes().clone();
    assert_eq!(ask(&mut world, node, upload(1, twin(DAWN + 49 * HOUR))).status(), 200);
    assert_eq!(ask(&mut world, node, upload(1, twin(DAWN + 40 * HOUR))).status(), 409);
}

#[test]
fn puts_at_once_keep_the_newest() {
    for seed in 0..20 {
        let (mut world, node) = alone();
        let mut order: Vec<u64> = (1..=6).collect();
        for last in (1..order.len()).rev() {
            let other = (seed * 7 + last * 3) % (last + 1);
            order.swap(last, other);
        }
        let asked: Vec<_> =
            order.iter().map(|sequence| (*sequence, world.ask(node, upload(1, bytes(1, *sequence))))).collect();
        let mut newest = 0;
        for (sequence, id) in asked {
            let status = world.response(id).status().as_u16();
            assert_eq!(status, if sequence > newest { 200 } else { 409 }, "{order:?}: {sequence}");
            newest = newest.max(sequence);
        }
        assert_eq!(ask(&mut world, node, download(1)).body(), &bytes(1, 6));
        assert_eq!(world.nodes[node].engine.leftovers(), [""; 0]);
    }
}

#[test]
fn a_server_with_routers_asks_and_sends() {
    let mut world = World::new(3);
    world.host("a", Script::new().holding(name(1), bytes(1, 1)));
    let node = world.node(config(&["a"]));
    assert_eq!(ask(&mut world, node, download(1)).body(), &bytes(1, 1));
    assert_eq!(ask(&mut world, node, download(1)).status(), 200);
    assert_eq!(world.script("a").gets(), 1, "fresh");
    assert_eq!(ask(&mut world, node, download(2)).status(), 404);
    assert_eq!(ask(&mut world, node, upload(2, bytes(2, 3))).status(), 200);
    assert_eq!(world.script("a").sequence(&name(2)), Some(3));
    world.script("a").then = Act::Status(403);
    let refused = ask(&mut world, node, upload(2, bytes(2, 4)));
    assert_eq!(refused.status(), 502);
    assert!(text(&refused).contains("stored here") && text(&refused).contains("403"));
    assert_eq!(ask(&mut world, node, download(2)).body(), &bytes(2, 4));
    for request in [download(3), head(3)] {
        let bare = request.method() == Method::HEAD;
        let unknown = ask(&mut world, node, request);
        assert_eq!(unknown.status(), 502, "nobody could say");
        assert_eq!(unknown.body().is_empty(), bare);
    }
    world.pass(HOUR);
    assert_eq!(ask(&mut world, node, download(2)).body(), &bytes(2, 4), "stale is better than nothing");
}

#[test]
fn whoever_asks_is_not_kept_for_ever() {
    let mut world = World::new(3);
    world.host("a", Script::always(Act::Hang));
    let node = world.node(config(&["a"]));
    for request in [download(1), head(4), upload(2, bytes(2, 1))] {
        let (started, bare, put) = (world.now, request.method() == Method::HEAD, request.method() == Method::PUT);
        let response = ask(&mut world, node, request);
        assert_eq!(response.status(), if put { 502 } else { 504 });
        assert_eq!(response.body().is_empty(), bare);
        assert_eq!(world.now - started, seconds(30));
    }
    world.nodes[node].disk.health = Health::Stuck;
    let started = world.now;
    let puts: Vec<_> = (1..4).map(|sequence| world.ask(node, upload(3, bytes(3, sequence)))).collect();
    for put in puts {
        assert_eq!(world.response(put).status(), 500);
    }
    assert_eq!(world.now - started, seconds(30), "also those in line");
}

#[test]
fn whoever_goes_away_leaves_nothing_behind() {
    let mut world = World::new(3);
    world.host("a", Script::new().slow(seconds(1)));
    let node = world.node(config(&["a"]));
    for wait in 0..40 {
        let get = world.ask(node, download(1));
        let put = world.ask(node, upload(2, bytes(2, 10 + wait)));
        let behind = world.ask(node, upload(2, bytes(2, 50 + wait)));
        world.pass(millis(wait * 40));
        for id in [get, put, behind] {
            world.gone(node, id);
        }
        world.settle();
        assert_eq!(world.nodes[node].engine.leftovers(), [""; 0]);
        assert_eq!(world.nodes[node].engine.load(), 0);
    }
}

#[test]
fn many_requests_are_refused() {
    let mut world = World::new(3);
    world.host("a", Script::always(Act::Hang));
    let node = world.node(Config { max_requests: 2, ..config(&["a"]) });
    let first = world.ask(node, download(1));
    let second = world.ask(node, download(2));
    for request in [download(3), head(3)] {
        let bare = request.method() == Method::HEAD;
        let busy = ask(&mut world, node, request);
        assert_eq!((busy.status().as_u16(), busy.body().is_empty()), (429, bare));
        assert!(busy.headers().contains_key("retry-after"));
    }
    world.gone(node, first);
    let third = world.ask(node, download(3));
    assert_eq!(world.response(third).status(), 504);
    assert_eq!(world.response(second).status(), 504);
}

#[test]
fn an_own_name_is_answered_at_once_and_refreshed_behind() {
    let mut world = World::new(3);
    world.host("a", Script::new());
    let node = world.node(config(&["a"]));
    world.publish(node, publish(1, 1)).unwrap();
    world.pass(HOUR);
    world.script("a").held.insert(name(1), bytes(1, 9));
    world.script("a").delay = seconds(2);
    let started = world.now;
    let own = ask(&mut world, node, download(1));
    assert_eq!((own.status().as_u16(), world.now), (200, started));
    world.pass(seconds(3));
    assert_eq!(ask(&mut world, node, download(1)).body(), &bytes(1, 9), "another device published it");
    world.restart(node);
    world.script("a").then = Act::Refuse;
    assert_eq!(ask(&mut world, node, download(1)).body(), &bytes(1, 9));
}

#[test]
fn a_request_waits_until_the_store_has_been_read() {
    let mut world = World::new(3);
    let node = world.sleeping_node(config(&[]));
    let put = world.ask(node, upload(1, bytes(1, 1)));
    let get = world.ask(node, download(1));
    assert_eq!(world.response(put).status(), 200);
    let status = world.response(get).status();
    assert!(status == 404 || status == 200, "they came at once");
}

#[test]
fn what_is_put_reaches_who_resolves_here() {
    let (mut world, node) = alone();
    let watch = world.watch(node, name(1));
    ask(&mut world, node, upload(1, bytes(1, 1)));
    assert_eq!(world.resolve(node, name(1), Resolve::default()).unwrap().value, path(1));
    assert_eq!(world.changes(node, watch), [1]);
}
