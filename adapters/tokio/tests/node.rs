//! A node on tokio, as an application uses it.
#![allow(clippy::panic, clippy::unwrap_used, reason = "tests fail by panicking")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use ipns_core::engine::{PublishError, Resolve, ResolveError};
use ipns_core::key::{KeyType, SecretKey, Signer};
use ipns_core::routing::{RouteError, Router as Settings, Tally};
use ipns_core::{Name, Verified};
use ipns_driver::{BoxFuture, Found};
use ipns_store::MemoryStore;
use ipns_tokio::{Builder, Handle, Node, Router};
use tokio::sync::Notify;

/// A router of the application's own: a map, which can be told to keep its callers waiting.
#[derive(Default)]
struct Map {
    records: Mutex<BTreeMap<Name, Bytes>>,
    hangs: bool,
    called: Notify,
    dropped: Arc<Notify>,
}

/// Tells when the future that owns it is dropped.
struct OnDrop(Arc<Notify>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl Map {
    fn hanging() -> Arc<Self> {
        Arc::new(Self { hangs: true, ..Self::default() })
    }

    fn answer(&self, result: Result<Tally, RouteError>) -> BoxFuture<Result<Tally, RouteError>> {
        self.called.notify_one();
        let (hangs, guard) = (self.hangs, OnDrop(self.dropped.clone()));
        Box::pin(async move {
            if hangs {
                std::future::pending::<()>().await;
            }
            drop(guard);
            result
        })
    }
}

impl Router for Map {
    fn get(&self, name: Name, found: Found) -> BoxFuture<Result<Tally, RouteError>> {
        if let Some(record) = self.records.lock().unwrap().get(&name) {
            found.record(record.clone());
        }
        self.answer(Ok(Tally::ONE))
    }

    fn put(&self, record: Verified) -> BoxFuture<Result<Tally, RouteError>> {
        self.records.lock().unwrap().insert(*record.name(), record.as_bytes().clone());
        self.answer(Ok(Tally { acks: 3, asked: 4 }))
    }
}

fn builder(router: &Arc<Map>) -> Builder {
    Node::builder(MemoryStore::new()).custom_router(Settings::custom("map"), router.clone())
}

fn node(router: &Arc<Map>) -> Handle {
    ipns_tokio::spawn(builder(router)).unwrap()
}

fn key() -> Arc<dyn Signer> {
    Arc::new(SecretKey::generate(KeyType::Ed25519, [1; 32], 0).unwrap())
}

fn value(text: &str) -> ipns_core::Value {
    format!("/ipfs/bafkqaaa/{text}").parse().unwrap()
}

async fn until_idle(node: &Handle) {
    while node.stats().load > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn publishes_and_resolves_over_a_router_of_ones_own() {
    let router = Arc::new(Map::default());
    let (alice, bob) = (node(&router), node(&router));
    let published = alice.publish_value(&key(), value("1")).await.unwrap();
    assert_eq!(published.receipts[0].outcome, Ok(Tally { acks: 3, asked: 4 }));
    let name = *published.record.name();
    let found = bob.resolve(name, Resolve::default()).await.unwrap();
    assert_eq!((found.value, found.sources), (value("1"), vec!["map".to_owned()]));
    alice.publish_value(&key(), value("2")).await.unwrap();
    let fresh = Resolve { cache: false, ..Resolve::default() };
    assert_eq!(bob.resolve(name, fresh).await.unwrap().value, value("2"));
    let own = alice.list().await.unwrap();
    assert_eq!((own[0].0, own[0].1.record.sequence(), own[0].1.sent.acks), (name, 1, 1));
    assert_eq!((alice.stats().published, bob.stats().resolved), (2, 2));
}

#[tokio::test]
async fn what_a_router_makes_up_is_not_believed() {
    let router = Arc::new(Map::default());
    let name = key().public_key().to_name();
    router.records.lock().unwrap().insert(name, Bytes::from_static(b"nonsense"));
    let error = node(&router).resolve(name, Resolve::default()).await.unwrap_err();
    assert!(matches!(error, ResolveError::Invalid { .. }), "{error:?}");
}

#[tokio::test]
async fn a_dropped_future_cancels_its_operation() {
    let router = Map::hanging();
    let node = node(&router);
    let mut resolve = Box::pin(node.resolve(key().public_key().to_name(), Resolve::default()));
    tokio::select! {
        _ = &mut resolve => panic!("the router never answers"),
        () = router.called.notified() => {}
    }
    drop(resolve);
    until_idle(&node).await;

    // Another name: the lookup of the first goes on for a while, since its answer is worth keeping.
    let other: Arc<dyn Signer> = Arc::new(SecretKey::generate(KeyType::Ed25519, [2; 32], 0).unwrap());
    let mut publish = Box::pin(node.publish_value(&other, value("1")));
    tokio::select! {
        _ = &mut publish => panic!("the router never answers"),
        () = router.called.notified() => {}
    }
    drop(publish);
    until_idle(&node).await;
    assert_eq!(node.stats().publish_failed, 1);
}

#[tokio::test]
async fn a_watch_sees_every_change_until_it_is_dropped() {
    let router = Arc::new(Map::default());
    let node = node(&router);
    let mut changes = node.watch(key().public_key().to_name());
    for text in ["1", "2", "3"] {
        node.publish_value(&key(), value(text)).await.unwrap();
        assert_eq!(changes.next().await.unwrap().value().unwrap(), value(text));
    }
    drop(changes);
    until_idle(&node).await;
}

#[tokio::test]
async fn a_stream_ends_with_the_final_answer() {
    let router = Arc::new(Map::default());
    let (alice, bob) = (node(&router), node(&router));
    let name = *alice.publish_value(&key(), value("1")).await.unwrap().record.name();
    let answers: Vec<_> = bob.resolve_stream(name, Resolve { stream: true, ..Resolve::default() }).collect().await;
    let last = answers.last().unwrap().as_ref().unwrap();
    assert!(last.is_final);
    assert!(answers[..answers.len() - 1].iter().all(|answer| !answer.as_ref().unwrap().is_final));
}

#[tokio::test]
async fn shutting_down_lets_what_is_under_way_end_and_refuses_the_rest() {
    let router = Arc::new(Map::default());
    let store = MemoryStore::new();
    let builder = Node::builder(store.clone()).custom_router(Settings::custom("map"), router.clone());
    let node = ipns_tokio::spawn(builder).unwrap();
    let publishing = tokio::spawn({
        let node = node.clone();
        async move { node.publish_value(&key(), value("1")).await }
    });
    router.called.notified().await;
    node.shutdown(Duration::from_secs(30)).await;
    publishing.await.unwrap().unwrap();
    assert_eq!(node.publish_value(&key(), value("2")).await.unwrap_err(), PublishError::Cancelled);
    assert!(node.list().await.is_err());

    let again = Node::builder(store).custom_router(Settings::custom("map"), router);
    let again = ipns_tokio::spawn(again).unwrap();
    assert_eq!(again.publish_value(&key(), value("2")).await.unwrap().record.sequence(), 1);
}

#[tokio::test]
async fn shutting_down_waits_no_longer_than_it_is_told() {
    let router = Map::hanging();
    let node = node(&router);
    let resolving = tokio::spawn({
        let node = node.clone();
        async move { node.resolve(key().public_key().to_name(), Resolve::default()).await }
    });
    router.called.notified().await;
    node.shutdown(Duration::ZERO).await;
    assert_eq!(resolving.await.unwrap().unwrap_err(), ResolveError::Cancelled);
    router.dropped.notified().await;
}

#[test]
fn handles_cross_threads() {
    fn crosses<T: Clone + Send + Sync + 'static>() {}
    crosses::<Handle>();
}
