//! The names that are kept alive, through the admin interface.

use data_encoding::BASE64;
use futures_util::StreamExt;
use ipns_core::Name;
use ipns_core::key::{KeyType, SecretKey, Signer};
use ipns_server::api::PublishRequest;
use ipns_server::keeping::{NameRequest, NamesRequest, QueueRequest};
use ipns_server::kept::{KeptKind, KeptReport};
use ipns_server::{KeyRequest, exit};

use crate::raw::ask;
use crate::world::{VALUE, World, idle, listed, publish_request, record, router_to, soon};

const OTHER: &str = "/ipfs/bafkqaaa";

fn names(names: &[&str]) -> NamesRequest {
    NamesRequest { names: names.iter().map(|&name| name.to_owned()).collect() }
}

fn name(name: &str) -> NameRequest {
    NameRequest { name: name.into() }
}

#[tokio::test]
async fn names_are_followed_sent_listed_and_let_go() {
    let relay = World::start(|builder| builder).await;
    let friend = World::start(|builder| builder.router(router_to(&relay))).await;
    let key = friend.client().generate_key(&KeyRequest { key: "k".into(), ..KeyRequest::default() }).await.unwrap();
    friend.client().publish(&publish_request(VALUE)).await.unwrap();

    let world = World::start(|builder| builder.router(router_to(&relay))).await;
    let client = world.client();
    let given = [&format!("/ipns/{}", key.name), "nonsense", &format!("{}/a", key.name), &key.name];
    let reports = client.follow(&names(&given)).await.unwrap();
    assert_eq!((&reports[0].name, reports[0].changed), (&key.name, true));
    assert_eq!(reports[1].error.as_ref().unwrap().code, "name_malformed");
    assert_eq!(reports[2].error.as_ref().unwrap().code, "name_malformed", "a path");
    assert_eq!((&reports[3].name, reports[3].changed, &reports[3].error), (&key.name, false, &None));

    let stranger = client.republish(&name(&record(0).0.to_string())).await.unwrap_err();
    assert_eq!((stranger.error.code.as_str(), stranger.exit), ("not_kept", exit::NOT_FOUND));
    let sent = client.republish(&name(&key.name)).await.unwrap();
    assert_eq!((sent.value.as_str(), sent.receipts[0].ok), (VALUE, true));
    let list = listed(&client).await;
    assert_eq!((list.len(), list[0].kind, list[0].value.as_deref()), (1, KeptKind::Followed, Some(VALUE)));
    assert!(list[0].acks == 1 && list[0].last_sent.is_some() && list[0].next.is_some(), "{list:?}");
    assert_eq!(client.status().await.unwrap().followed, 1);

    let (later, bytes) = record(5);
    let at = "2099-01-01T00:00:00Z";
    let mut queue =
        QueueRequest { name: later.to_string(), record: BASE64.encode(&bytes), at: "2999-01-01T00:00:00Z".into() };
    let late = client.queue(&queue).await.unwrap_err();
    assert_eq!((late.error.code.as_str(), late.exit), ("queued_too_late", exit::INVALID));
    queue.at = "tomorrow".into();
    assert_eq!(client.queue(&queue).await.unwrap_err().error.code, "usage");
    queue.at = at.into();
    let queued = client.queue(&queue).await.unwrap();
    assert_eq!((&queued.name, queued.kind, queued.next.as_deref()), (&later.to_string(), KeptKind::Queued, Some(at)));
    let list = listed(&client).await;
    assert_eq!((list[1].kind, list[1].next.as_deref()), (KeptKind::Queued, Some(at)));

    assert!(!client.disown(&names(&[&key.name])).await.unwrap()[0].changed, "it is no own name");
    assert!(client.unfollow(&names(&[&key.name])).await.unwrap()[0].changed);
    assert!(!client.unfollow(&names(&[&key.name])).await.unwrap()[0].changed);
    assert_eq!(listed(&client).await.len(), 1);
}

/// A body that came in chunks.
fn whole(mut chunks: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = chunks.windows(2).position(|two| two == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&chunks[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            return body;
        }
        body.extend(&chunks[end + 2..end + 2 + size]);
        chunks = &chunks[end + 2 + size + 2..];
    }
}

#[tokio::test]
async fn very_many_names_are_listed_part_by_part() {
    let world = World::start(|builder| builder).await;
    let client = world.client();
    client.generate_key(&KeyRequest { key: "k".into(), ..KeyRequest::default() }).await.unwrap();
    client.publish(&PublishRequest { allow_offline: true, ..publish_request(VALUE) }).await.unwrap();
    let mut others: Vec<Name> = (0..2_500_u32)
        .map(|n| {
            let mut seed = [3; 32];
            seed[..4].copy_from_slice(&n.to_be_bytes());
            SecretKey::generate(KeyType::Ed25519, seed, 0).unwrap().public_key().to_name()
        })
        .collect();
    for some in others.chunks(1000) {
        let names = some.iter().map(Name::to_string).collect();
        assert!(client.follow(&NamesRequest { names }).await.unwrap().iter().all(|report| report.changed));
    }
    others.sort();
    let list = listed(&client).await;
    let kinds = list.iter().map(|kept| kept.kind);
    assert!(kinds.eq([KeptKind::Own].into_iter().chain([KeptKind::Followed; 2_500])));
    assert!(list[1..].iter().map(|kept| &kept.name).eq(&others.iter().map(Name::to_string).collect::<Vec<_>>()));
    // The document says the same.
    let bearer = ("authorization", &*format!("Bearer {}", world.token.reveal()));
    let document = ask(world.addr, "GET", "/admin/v1/list", &[bearer], b"").await;
    let document: Vec<KeptReport> = serde_json::from_slice(&whole(&document.body)).unwrap();
    assert!(document.iter().map(|kept| &kept.name).eq(list.iter().map(|kept| &kept.name)));
}

#[tokio::test]
async fn a_key_that_is_removed_takes_its_name_along() {
    let world = World::start(|builder| builder).await;
    let client = world.client();
    client.generate_key(&KeyRequest { key: "k".into(), ..KeyRequest::default() }).await.unwrap();
    client.publish(&PublishRequest { allow_offline: true, ..publish_request(VALUE) }).await.unwrap();
    assert_eq!(listed(&client).await[0].kind, KeptKind::Own);
    client.remove_key("k").await.unwrap();
    assert_eq!(listed(&client).await, []);
}

#[tokio::test]
async fn a_watch_goes_on_until_either_side_ends_it() {
    let world = World::start(|builder| builder).await;
    let client = world.client();
    let key = client.generate_key(&KeyRequest { key: "k".into(), ..KeyRequest::default() }).await.unwrap();
    let mut changes = client.watch(&name(&format!("{}/a", key.name))).await.unwrap();
    let mut other = client.watch(&name("k")).await.unwrap();
    for (sequence, value) in [(0, VALUE), (1, OTHER)] {
        client.publish(&PublishRequest { allow_offline: true, ..publish_request(value) }).await.unwrap();
        let change = soon(changes.next()).await.unwrap().unwrap();
        assert_eq!((change.value, change.sequence), (format!("{value}/a"), sequence));
        assert_eq!(soon(other.next()).await.unwrap().unwrap().value, value);
    }
    drop(other);
    while world.node.stats().load > 1 {
        tokio::task::yield_now().await;
    }
    let (_home, node, serving) = world.stop();
    let end = soon(changes.next()).await.unwrap().unwrap_err();
    assert_eq!(end.error.code, "stopped");
    assert!(soon(changes.next()).await.is_none());
    soon(serving).await.unwrap();
    idle(&node).await;
}
