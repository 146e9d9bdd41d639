//! Servers over real nodes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use ipns_core::key::{KeyType, SecretKey, Signer};
use ipns_core::record::RecordBuilder;
use ipns_core::routing::http::client::Endpoint;
use ipns_core::routing::{RouteError, Router, Tally};
use ipns_core::{Name, Verified};
use ipns_driver::{BoxFuture, Builder, Found, Handle, Node};
use ipns_server::api::{Api, PublishRequest};
use ipns_server::kept::KeptReport;
use ipns_server::{AdminClient, DaemonFile, DaemonInfo, Server, ServerConfig, token};
use ipns_store::{KeyStore, MemoryStore, RedbStore};
use tempfile::TempDir;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::raw::LONG;

pub(crate) const VALUE: &str = "/ipfs/bafkreidfdrlkeq4m4xnxuyx6iae76fdm4wgl5d4xzsb77ixhyqwumhz244";

/// How long a gate that stays closed holds a request up.
const GATE_TIMEOUT: Duration = Duration::from_secs(25);

/// A daemon with a home of its own.
pub(crate) struct World {
    pub(crate) home: TempDir,
    pub(crate) node: Handle,
    pub(crate) addr: SocketAddr,
    pub(crate) token: token::Token,
    file: DaemonFile,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl World {
    pub(crate) async fn start(build: impl FnOnce(Builder) -> Builder) -> Self {
        Self::configured(build, |_| {}).await
    }

    pub(crate) async fn configured(
        build: impl FnOnce(Builder) -> Builder,
        change: impl FnOnce(&mut ServerConfig),
    ) -> Self {
        Self::over(Node::builder(MemoryStore::new()), build, change).await
    }

    /// With a real store.
    pub(crate) async fn durable(build: impl FnOnce(Builder) -> Builder) -> Self {
        let store = tempfile::tempdir().unwrap();
        let builder = Node::builder(RedbStore::open(store.path().join("ipns.redb")).unwrap());
        Self::over(builder, build, |_| {}).await
    }

    async fn over(
        builder: Builder,
        build: impl FnOnce(Builder) -> Builder,
        change: impl FnOnce(&mut ServerConfig),
    ) -> Self {
        let home = tempfile::tempdir().unwrap();
        let node = ipns_tokio::spawn(build(builder)).unwrap();
        let keys = Arc::new(KeyStore::open(home.path().join("keys")).unwrap());
        let api = Api::new(node.clone(), keys);
        let token = token::create(home.path()).unwrap();
        let started = api.now();
        let mut config = ServerConfig { token: Some(token.clone()), ..ServerConfig::default() };
        if cfg!(unix) {
            config.socket = Some(home.path().join("admin.sock"));
        }
        change(&mut config);
        let server = Server::bind(&[([127, 0, 0, 1], 0).into()], api, config).await.unwrap();
        let addr = server.local_addr();
        let file = DaemonFile::write(home.path(), DaemonInfo::of(&server, started)).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(server.serve(async move {
            let _ = stopped.await;
        }));
        Self { home, node, addr, token, file, stop, serving }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub(crate) fn client(&self) -> AdminClient {
        AdminClient::new(&self.url(), self.token.clone()).unwrap()
    }

    /// Tells the server to end and gives the home, the node, and what ends with the server.
    pub(crate) fn stop(self) -> (TempDir, Handle, JoinHandle<()>) {
        let Self { home, node, file, stop, serving, .. } = self;
        stop.send(()).unwrap();
        drop(file);
        (home, node, serving)
    }
}

/// Waits for something that must come.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(LONG, what).await.expect("it does not come")
}

pub(crate) fn router_to(world: &World) -> Router {
    Router::http(Endpoint::new(&world.url()).unwrap())
}

pub(crate) fn publish_request(value: &str) -> PublishRequest {
    PublishRequest { value: value.into(), ..PublishRequest::default() }
}

/// A name, and its record of a sequence.
pub(crate) fn record(sequence: u64) -> (Name, Bytes) {
    let key = SecretKey::generate(KeyType::Ed25519, [7; 32], 0).unwrap();
    let eol = "2100-01-01T00:00:00Z".parse().unwrap();
    let record = RecordBuilder::new(VALUE.parse().unwrap(), sequence, eol).sign(&key).unwrap();
    (key.public_key().to_name(), record.as_bytes().clone())
}

/// A router that finds an old record at once, and the new one when the gate opens.
pub(crate) struct Gate {
    entered: mpsc::UnboundedSender<()>,
    open: Arc<Semaphore>,
}

/// The other side of a [`Gate`].
pub(crate) struct Keeper {
    /// Says whenever someone has come to the gate.
    pub(crate) entered: mpsc::UnboundedReceiver<()>,
    open: Arc<Semaphore>,
}

impl Keeper {
    pub(crate) fn open(&self) {
        self.open.add_permits(1000);
    }
}

pub(crate) fn gate() -> (Arc<Gate>, Keeper) {
    let (enter, entered) = mpsc::unbounded_channel();
    let open = Arc::new(Semaphore::new(0));
    (Arc::new(Gate { entered: enter, open: open.clone() }), Keeper { entered, open })
}

/// Waits until a node has nothing under way, for less time than a closed gate holds anything up.
pub(crate) async fn idle(node: &Handle) {
    let idle = async {
        // An answer from the node says that it has done what came before.
        while node.list().await.is_ok() && node.stats().load > 0 {}
    };
    timeout(GATE_TIMEOUT / 2, idle).await.expect("something goes on");
}

/// All that a daemon keeps.
pub(crate) async fn listed(client: &AdminClient) -> Vec<KeptReport> {
    client.list().await.unwrap().try_collect().await.unwrap()
}

/// Settings of the gate as a router.
pub(crate) fn gate_settings() -> Router {
    let mut settings = Router::custom("gate");
    settings.timeout = GATE_TIMEOUT;
    settings
}

impl ipns_driver::Router for Gate {
    fn get(&self, _: Name, found: Found) -> BoxFuture<Result<Tally, RouteError>> {
        let (entered, open) = (self.entered.clone(), self.open.clone());
        Box::pin(async move {
            found.record(record(1).1);
            let _ = entered.send(());
            let _open = open.acquire().await;
            found.record(record(2).1);
            Ok(Tally::ONE)
        })
    }

    fn put(&self, _: Verified) -> BoxFuture<Result<Tally, RouteError>> {
        Box::pin(async { Ok(Tally::ONE) })
    }
}
