//! Many names kept alive by one node among servers that come and go.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use ipns_core::dht::{PeerInfo, Standing};
use ipns_core::engine::{Keeping, StoredFollowed, StoredOwn};
use ipns_core::key::{KeyType, SecretKey, Signer};
use ipns_core::record::RecordBuilder;
use ipns_core::store::{Store, Table, Write};
use ipns_core::{Name, Timestamp};
use ipns_store::MemoryStore;

use crate::on::{until, within};
use crate::ours::{Options, Ours};

/// How often each name is sent: as often as the engine does it at most.
const INTERVAL: Duration = Duration::from_secs(60);

/// `IPNS_KEEP=2000x50` keeps so many names among so many servers; the default is what a minute of a build is worth.
fn size() -> (u32, u8) {
    let wanted = std::env::var("IPNS_KEEP").unwrap_or_else(|_| "200x16".into());
    let (names, nodes) = wanted.split_once('x').expect("IPNS_KEEP is NAMESxNODES");
    (names.parse().unwrap(), nodes.parse().unwrap())
}

fn key(n: u32) -> SecretKey {
    let mut bytes = [0xdd; 32];
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    SecretKey::generate(KeyType::Ed25519, bytes, 0).unwrap()
}

/// A store with so many names, every other one followed, which are to be sent during the next interval.
fn store(names: u32) -> (MemoryStore, Vec<(Name, Bytes)>) {
    let mut store = MemoryStore::new();
    let now = ipns_driver::Clock::now(&ipns_driver::SystemClock::default()).wall;
    let last_sent = now.as_unix_secs() - INTERVAL.as_secs() as i64 / 2;
    let lifetime = Duration::from_secs(48 * 3600);
    let (mut writes, mut kept) = (Vec::new(), Vec::new());
    for n in 0..names {
        let name = key(n).public_key().to_name();
        let builder = RecordBuilder::new(format!("/ipfs/bafkqaaa/{n}").parse().unwrap(), 3, now + lifetime);
        let record = builder.sign(&key(n)).unwrap().as_bytes().clone();
        let (table, value) = if n % 2 == 0 {
            (Table::Followed, StoredFollowed { record: record.clone(), last_sent, ..Default::default() }.to_bytes())
        } else {
            let lifetime_ns = lifetime.as_nanos() as u64;
            let own = StoredOwn { record: record.clone(), lifetime_ns, last_sent, ..Default::default() };
            (Table::Own, own.to_bytes())
        };
        writes.push(Write { table, key: name.to_bytes(), value: Some(value) });
        kept.push((name, record));
    }
    store.commit(&writes).unwrap();
    (store, kept)
}

#[tokio::test(flavor = "multi_thread")]
async fn all_names_are_kept_although_half_of_the_servers_are_replaced() {
    let (names, count) = size();
    let mut servers: Vec<Ours> = Vec::new();
    for seed in 1..=count {
        let first: Vec<PeerInfo> = servers.first().map(|node| node.info.clone()).into_iter().collect();
        servers.push(Options::server(seed, &first).start().await);
    }
    let (store, kept) = store(names);
    let keep = Some(Keeping { interval: INTERVAL, ..Keeping::default() });
    let entrances: Vec<PeerInfo> = servers[..3].iter().map(|node| node.info.clone()).collect();
    let keeper = Options { keep, store, ..Options::client(200, &entrances) }.start().await;
    keeper.stands(Standing::Joined).await;
    let begun = Instant::now();
    round(&keeper, begun).await;
    all_resolve(&servers, &kept).await;

    // Half of the servers go without a good-bye, and others that know nothing come.
    let gone = usize::from(count) / 2;
    join_all(servers.drain(..gone).map(Ours::stop)).await;
    for seed in count + 1..=count + gone as u8 {
        let known: Vec<PeerInfo> = servers[..3].iter().map(|node| node.info.clone()).collect();
        servers.push(Options::server(seed, &known).start().await);
    }
    for server in &servers {
        server.stands(Standing::Joined).await;
    }
    all_resolve(&servers, &kept).await;
    // After another round the newcomers have them, too.
    round(&keeper, Instant::now()).await;
    all_resolve(&servers, &kept).await;
    // How many, depends on how soon the others' tables have them instead of the dead.
    let held: Vec<usize> = join_all(servers.iter().map(Ours::keeps)).await;
    assert!(held.iter().all(|held| *held > names as usize / 50), "{held:?}");
    let own = keeper.node.list().await.unwrap();
    assert!(own.iter().all(|(_, own)| own.sent.failures == 0 && own.record.sequence() == 3), "{own:?}");
}

/// Waits until every name was sent after `since`.
async fn round(keeper: &Ours, since: Instant) {
    let since = ipns_driver::Clock::now(&ipns_driver::SystemClock::default()).wall - since.elapsed();
    let sent = |at: Option<Timestamp>| at.is_some_and(|at| at.as_unix_secs() >= since.as_unix_secs());
    let all = until(async || {
        keeper.node.list().await.unwrap().iter().all(|(_, own)| sent(own.sent.at))
            && keeper.node.followed().await.unwrap().iter().all(|(_, followed)| sent(followed.sent.at))
    });
    within(INTERVAL * 3, all).await.expect("a round takes an interval");
}

async fn all_resolve(servers: &[Ours], kept: &[(Name, Bytes)]) {
    for (n, chunk) in kept.chunks(16).enumerate() {
        let resolves = chunk.iter().enumerate().map(|(i, (name, record))| async move {
            let found = servers[(n + i) % servers.len()].resolve(*name).await;
            let found = found.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(found.record.as_bytes(), record);
        });
        join_all(resolves).await;
    }
}
