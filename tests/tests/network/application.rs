//! A node as an application uses it.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::{Either, join, join_all, join4, select};
use ipns_core::engine::{Event, Publish, PublishError, Resolve, ResolveError};
use ipns_core::key::{KeyType, SecretKey, Signer};
use ipns_core::record::{RecordBuilder, Version};
use ipns_core::routing::{RouteError, Router as Settings, Tally};
use ipns_core::{Name, Now, Verified};
use ipns_driver::{BoxFuture, Builder, Clock, Found, Handle, Node, Router, SystemClock};
use ipns_store::MemoryStore;

use crate::on::{LONG, On, on_each_runtime, until, within};
use crate::signal::Signal;

/// A router of the application's own: a map, which can be told to keep its callers waiting.
#[derive(Default)]
struct Map {
    records: Mutex<BTreeMap<Name, Bytes>>,
    hangs: bool,
    called: Signal,
    dropped: Arc<Signal>,
}

/// Tells when the future that owns it is dropped.
struct OnDrop(Arc<Signal>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.give();
    }
}

impl Map {
    fn hanging() -> Arc<Self> {
        Arc::new(Self { hangs: true, ..Self::default() })
    }

    fn answer(&self, result: Result<Tally, RouteError>) -> BoxFuture<Result<Tally, RouteError>> {
        self.called.give();
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

fn node(on: On, router: &Arc<Map>) -> Handle {
    on.spawn(builder(router))
}

fn key() -> Arc<dyn Signer> {
    Arc::new(SecretKey::generate(KeyType::Ed25519, [1; 32], 0).unwrap())
}

fn value(text: &str) -> ipns_core::Value {
    format!("/ipfs/bafkqaaa/{text}").parse().unwrap()
}

async fn until_idle(node: &Handle) {
    // Who gets an answer knows that all that came before was seen.
    node.kept().await.unwrap();
    within(LONG, until(async || node.stats().load == 0)).await.unwrap();
}

/// Waits until a router is asked by an operation that cannot end.
async fn until_called<T>(router: &Map, operation: &mut (impl Future<Output = T> + Unpin)) {
    match select(operation, pin!(router.called.given())).await {
        Either::Left(_) => panic!("the router never answers"),
        Either::Right(_) => {}
    }
}

on_each_runtime!(
    publishes_and_resolves_over_a_router_of_ones_own,
    what_a_router_makes_up_is_not_believed,
    a_dropped_future_cancels_its_operation,
    a_watch_sees_every_change_until_it_is_dropped,
    kept_names_are_known_from_the_beginning_and_sent_when_asked,
    an_own_name_is_signed_anew_as_it_was,
    a_record_for_later_waits_for_its_time,
    a_republish_that_nobody_waits_for_is_cancelled,
    a_stream_ends_with_the_final_answer,
    shutting_down_lets_what_is_under_way_end_and_refuses_the_rest,
    shutting_down_waits_no_longer_than_it_is_told,
    shutting_down_under_load_ends_everything,
    a_router_that_hangs_is_given_up_in_time,
);

async fn publishes_and_resolves_over_a_router_of_ones_own(on: On) {
    let router = Arc::new(Map::default());
    let (alice, bob) = (node(on, &router), node(on, &router));
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

async fn what_a_router_makes_up_is_not_believed(on: On) {
    let router = Arc::new(Map::default());
    let name = key().public_key().to_name();
    router.records.lock().unwrap().insert(name, Bytes::from_static(b"nonsense"));
    let error = node(on, &router).resolve(name, Resolve::default()).await.unwrap_err();
    assert!(matches!(error, ResolveError::Invalid { .. }), "{error:?}");
}

async fn a_dropped_future_cancels_its_operation(on: On) {
    let router = Map::hanging();
    let node = node(on, &router);
    let mut resolve = Box::pin(node.resolve(key().public_key().to_name(), Resolve::default()));
    until_called(&router, &mut resolve).await;
    drop(resolve);
    until_idle(&node).await;

    // Another name: the lookup of the first goes on for a while, since its answer is worth keeping.
    let other: Arc<dyn Signer> = Arc::new(SecretKey::generate(KeyType::Ed25519, [2; 32], 0).unwrap());
    let mut publish = Box::pin(node.publish_value(&other, value("1")));
    until_called(&router, &mut publish).await;
    drop(publish);
    until_idle(&node).await;
    assert_eq!(node.stats().publish_failed, 1);
}

async fn a_watch_sees_every_change_until_it_is_dropped(on: On) {
    let router = Arc::new(Map::default());
    let node = node(on, &router);
    let mut changes = node.watch(key().public_key().to_name());
    for text in ["1", "2", "3"] {
        node.publish_value(&key(), value(text)).await.unwrap();
        assert_eq!(changes.next().await.unwrap().value().unwrap(), value(text));
    }
    drop(changes);
    until_idle(&node).await;
}

async fn kept_names_are_known_from_the_beginning_and_sent_when_asked(on: On) {
    let router = Arc::new(Map::default());
    let friend = *node(on, &router).publish_value(&key(), value("friend")).await.unwrap().record.name();
    let store = MemoryStore::new();
    let start = || {
        let builder = Node::builder(store.clone()).custom_router(Settings::custom("map"), router.clone());
        on.spawn(builder.config(|config| config.keep = None))
    };
    let first = start();
    assert_eq!(first.republish(friend).await, Err(PublishError::NotKept));
    assert_eq!(first.follow(friend).await, Ok(true));
    assert_eq!(first.follow(friend).await, Ok(false));
    let sent = first.republish(friend).await.unwrap();
    assert_eq!((sent.record.value().unwrap(), sent.receipts.len()), (value("friend"), 1));
    first.shutdown(Duration::from_secs(30)).await;

    // Each of these comes before the store has been read.
    let again = start();
    let (kept, followed, sent, queued) =
        join4(again.kept(), again.followed(), again.republish(friend), again.queued()).await;
    assert_eq!((kept, queued), (Ok((0, 1)), Ok(Vec::new())));
    let followed = followed.unwrap();
    assert_eq!((followed[0].0, followed[0].1.sent.acks), (friend, 1));
    assert_eq!(followed[0].1.record.as_ref().unwrap().value().unwrap(), value("friend"));
    assert!(sent.is_ok());
    assert_eq!((again.unfollow(friend).await, again.unfollow(friend).await), (Ok(true), Ok(false)));
    assert_eq!(again.kept().await, Ok((0, 0)));
    assert_eq!(again.stats().followed, 0);
}

/// A clock that can be set forward.
#[derive(Clone, Default)]
struct Forward(Arc<Mutex<Duration>>, SystemClock);

impl Clock for Forward {
    fn now(&self) -> Now {
        let (ahead, now) = (*self.0.lock().unwrap(), self.1.now());
        Now { monotonic: now.monotonic + ahead, wall: now.wall + ahead }
    }
}

fn forward(on: On, router: &Arc<Map>) -> (Handle, Forward) {
    let clock = Forward::default();
    (on.spawn(builder(router).clock(clock.clone())), clock)
}

async fn an_own_name_is_signed_anew_as_it_was(on: On) {
    let router = Arc::new(Map::default());
    // Its own turns would come between.
    let clock = Forward::default();
    let builder = builder(&router).clock(clock.clone()).config(|config| config.keep = None);
    let node = on.spawn(builder);
    node.add_signer(key());
    let mut publish = Publish::new(key().public_key(), value("1"));
    publish.metadata.insert("_note".into(), "hello".to_owned().into());
    publish.lifetime = Some(Duration::from_secs(120));
    publish.ttl = Some(Duration::from_secs(7));
    publish.version = Version::V2Only;
    publish.sequence = Some(41);
    let first = node.publish(publish).await.unwrap().record;
    let name = *first.name();
    assert_eq!(node.republish(name).await.unwrap().record, first, "most of its life is still to come");
    *clock.0.lock().unwrap() = Duration::from_secs(61);
    let renewed = node.republish(name).await.unwrap().record;
    assert!(renewed.eol() > first.eol());
    assert_eq!((renewed.sequence(), renewed.ttl(), renewed.version()), (41, first.ttl(), Version::V2Only));
    assert_eq!((renewed.value().unwrap(), renewed.metadata()), (value("1"), first.metadata()));
    assert_eq!(router.records.lock().unwrap()[&name], renewed.as_bytes());

    // Without its key it is sent as it is while it lives, and that is reported.
    let mut events = node.events();
    assert!(node.remove_signer(&name) && !node.remove_signer(&name));
    *clock.0.lock().unwrap() = Duration::from_secs(125);
    assert_eq!(node.republish(name).await.unwrap().record, renewed);
    let reported = |event: &Event| matches!(event, Event::NotRenewed { name: of, .. } if *of == name);
    while !reported(&events.next().await.unwrap()) {}
    assert_eq!(node.stats().not_renewed, 1);
}

async fn a_record_for_later_waits_for_its_time(on: On) {
    let router = Arc::new(Map::default());
    let (node, clock) = forward(on, &router);
    let name = key().public_key().to_name();
    let now = clock.now().wall;
    let record = RecordBuilder::new(value("later"), 1, now + Duration::from_secs(3600));
    let record = record.sign(&*key()).unwrap().as_bytes().clone();
    let at = now + Duration::from_secs(600);
    let late = node.queue(name, record.clone(), now + Duration::from_secs(7200)).await.unwrap_err();
    assert_eq!(late.code(), "queued_too_late");
    node.queue(name, record.clone(), at).await.unwrap();
    let waiting = node.queued().await.unwrap();
    assert_eq!((waiting.len(), waiting[0].0, waiting[0].1.as_unix_secs()), (1, name, at.as_unix_secs()));
    assert!(router.records.lock().unwrap().is_empty());
    *clock.0.lock().unwrap() = Duration::from_secs(601);
    // Anything at all makes the node look at its clock.
    let called = router.called.given();
    assert!(node.resolve(name, Resolve { offline: true, ..Resolve::default() }).await.is_err());
    called.await;
    until(async || router.records.lock().unwrap().get(&name) == Some(&record)).await;
    assert_eq!(node.kept().await, Ok((0, 1)), "from now on it is kept alive");
    assert_eq!(node.queued().await, Ok(Vec::new()));
}

async fn a_republish_that_nobody_waits_for_is_cancelled(on: On) {
    let router = Map::hanging();
    // Nothing else than the republish calls the router.
    let node = on.spawn(builder(&router).config(|config| config.keep = None));
    let name = key().public_key().to_name();
    node.follow(name).await.unwrap();
    let mut sending = Box::pin(node.republish(name));
    until_called(&router, &mut sending).await;
    drop(sending);
    until_idle(&node).await;
    assert_eq!(node.stats().publish_failed, 1);
}

async fn a_stream_ends_with_the_final_answer(on: On) {
    let router = Arc::new(Map::default());
    let (alice, bob) = (node(on, &router), node(on, &router));
    let name = *alice.publish_value(&key(), value("1")).await.unwrap().record.name();
    let answers: Vec<_> = bob.resolve_stream(name, Resolve { stream: true, ..Resolve::default() }).collect().await;
    let last = answers.last().unwrap().as_ref().unwrap();
    assert!(last.is_final);
    assert!(answers[..answers.len() - 1].iter().all(|answer| !answer.as_ref().unwrap().is_final));
}

async fn shutting_down_lets_what_is_under_way_end_and_refuses_the_rest(on: On) {
    let router = Arc::new(Map::default());
    let store = MemoryStore::new();
    let builder = Node::builder(store.clone()).custom_router(Settings::custom("map"), router.clone());
    let node = on.spawn(builder);
    let shutdown = async {
        router.called.given().await;
        node.shutdown(Duration::from_secs(30)).await;
    };
    let (signer, first) = (key(), value("1"));
    let (published, ()) = join(node.publish_value(&signer, first), shutdown).await;
    published.unwrap();
    assert_eq!(node.publish_value(&key(), value("2")).await.unwrap_err(), PublishError::Cancelled);
    assert!(node.list().await.is_err());

    let again = Node::builder(store).custom_router(Settings::custom("map"), router);
    let again = on.spawn(again);
    assert_eq!(again.publish_value(&key(), value("2")).await.unwrap().record.sequence(), 1);
}

async fn shutting_down_waits_no_longer_than_it_is_told(on: On) {
    let router = Map::hanging();
    let node = node(on, &router);
    let shutdown = async {
        router.called.given().await;
        node.shutdown(Duration::ZERO).await;
    };
    let (resolved, ()) = join(node.resolve(key().public_key().to_name(), Resolve::default()), shutdown).await;
    assert_eq!(resolved.unwrap_err(), ResolveError::Cancelled);
    router.dropped.given().await;
}

async fn shutting_down_under_load_ends_everything(on: On) {
    let (router, hanging) = (Arc::new(Map::default()), Map::hanging());
    let builder = builder(&router).custom_router(Settings::custom("hanging"), hanging.clone());
    let node = on.spawn(builder);
    let keys: Vec<Arc<dyn Signer>> = (0..50_u8)
        .map(|seed| Arc::new(SecretKey::generate(KeyType::Ed25519, [seed; 32], 0).unwrap()) as Arc<dyn Signer>)
        .collect();
    let publishes = join_all(keys.iter().map(|key| node.publish_value(key, value("1"))));
    let resolves = join_all(keys.iter().map(|key| node.resolve(key.public_key().to_name(), Resolve::default())));
    let shutdown = async {
        hanging.called.given().await;
        node.shutdown(Duration::from_millis(20)).await;
    };
    let ((published, resolved), ()) = within(LONG, join(join(publishes, resolves), shutdown)).await.unwrap();
    // Whatever became of each: all have ended, and nothing is left that could call the router again.
    assert_eq!((published.len(), resolved.len()), (50, 50));
    assert!(published.iter().any(|result| *result == Err(PublishError::Cancelled)), "{published:?}");
    assert!(node.list().await.is_err());
    // The node and all that it began are gone.
    within(LONG, until(async || Arc::strong_count(&hanging) == 1)).await.unwrap();
}

async fn a_router_that_hangs_is_given_up_in_time(on: On) {
    let hanging = Map::hanging();
    let settings = Settings { timeout: Duration::from_millis(50), ..Settings::custom("hanging") };
    let node = on.spawn(Node::builder(MemoryStore::new()).custom_router(settings, hanging.clone()));
    let name = key().public_key().to_name();
    let error = within(LONG, node.resolve(name, Resolve::default())).await.unwrap().unwrap_err();
    assert_eq!(error.code(), "unreachable", "{error:?}");
    hanging.dropped.given().await;
    until_idle(&node).await;
}

#[test]
fn handles_cross_threads() {
    fn crosses<T: Clone + Send + Sync + 'static>() {}
    crosses::<Handle>();
}
