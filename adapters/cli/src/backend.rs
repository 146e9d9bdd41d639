//! Where a command runs: in the daemon of this home if there is one, else in a node that lives as long as the command.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use ipns_core::dht::Standing;
use ipns_core::engine::Event;
use ipns_core::key::Signer;
use ipns_server::api::{Api, PublishRequest, PutRequest, ResolveRequest, load_signers};
use ipns_server::dht::{DhtReport, DhtRequest};
use ipns_server::keeping::{NameRequest, NamesRequest, QueueRequest};
use ipns_server::kept::{ChangeReport, FollowReport, KeptReport};
use ipns_server::report::{PublishReport, ResolveReport};
use ipns_server::{AdminClient, Failure, exit};
use ipns_store::KeyStore;
use ipns_tokio::{Builder, Handle, Listening, Node, NodeConfig, NodeError};

use crate::settings::Settings;
use crate::{identity, store};

/// How long to wait for another command that uses the same home.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
const LOCK_RETRY: Duration = Duration::from_millis(50);
/// How long deliveries that are under way may still take when a command has its answer.
const LINGER: Duration = Duration::from_secs(5);
/// How long a command that shows the routing table waits for one.
const JOIN_PATIENCE: Duration = Duration::from_secs(20);

/// The key store of a home.
pub(crate) fn open_keys(home: &Path) -> Result<KeyStore, Failure> {
    Ok(KeyStore::open(home.join("keystore"))?)
}

/// A stream of answers to one resolve.
pub(crate) type Answers = std::pin::Pin<Box<dyn Stream<Item = Result<ResolveReport, Failure>> + Send>>;

/// The changes of a watched name.
pub(crate) type Changes = std::pin::Pin<Box<dyn Stream<Item = Result<ChangeReport, Failure>> + Send>>;

pub(crate) enum Backend {
    Here(Api),
    Daemon(AdminClient),
}

impl Backend {
    pub(crate) async fn open(settings: &Settings) -> Result<Self, Failure> {
        let begun = tokio::time::Instant::now();
        loop {
            if let Some(client) = AdminClient::discover(&settings.home).await? {
                if settings.network_given {
                    tracing::warn!(
                        "a daemon runs on this home: it uses its own routers and network, not those named here"
                    );
                }
                return Ok(Self::Daemon(client));
            }
            match start(settings, Role::Command).await {
                // Another command has the store: it will not take long, or it is a daemon that is just starting.
                Err(failure) if failure.error.code == "store_locked" && begun.elapsed() < LOCK_PATIENCE => {
                    tokio::time::sleep(LOCK_RETRY).await;
                }
                other => return other.map(|node| Self::Here(node.api)),
            }
        }
    }

    pub(crate) async fn publish(&self, request: PublishRequest) -> Result<PublishReport, Failure> {
        match self {
            Self::Here(api) => api.publish(request).await,
            Self::Daemon(client) => client.publish(&request).await,
        }
    }

    pub(crate) async fn put(&self, request: PutRequest) -> Result<PublishReport, Failure> {
        match self {
            Self::Here(api) => api.put(request).await,
            Self::Daemon(client) => client.put(&request).await,
        }
    }

    pub(crate) async fn queue(&self, request: QueueRequest) -> Result<KeptReport, Failure> {
        match self {
            Self::Here(api) => api.queue(request).await,
            Self::Daemon(client) => client.queue(&request).await,
        }
    }

    pub(crate) async fn resolve(&self, request: &ResolveRequest) -> Result<Answers, Failure> {
        Ok(match self {
            Self::Here(api) => api.resolve(request)?.boxed(),
            Self::Daemon(client) => client.resolve(request).await?.boxed(),
        })
    }

    pub(crate) async fn resolve_once(&self, request: &ResolveRequest) -> Result<ResolveReport, Failure> {
        let mut last = Err(ipns_tokio::Stopped.into());
        let mut answers = self.resolve(request).await?;
        while let Some(answer) = answers.next().await {
            last = answer;
        }
        last
    }

    pub(crate) async fn list(&self) -> Result<BoxStream<'static, Result<KeptReport, Failure>>, Failure> {
        match self {
            Self::Here(api) => Ok(api.list().map_ok(|part| stream::iter(part).map(Ok)).try_flatten().boxed()),
            Self::Daemon(client) => client.list().await,
        }
    }

    pub(crate) async fn watch(&self, request: NameRequest) -> Result<Changes, Failure> {
        Ok(match self {
            Self::Here(api) => api.watch(request).await?.map(Ok).boxed(),
            Self::Daemon(client) => client.watch(&request).await?,
        })
    }

    pub(crate) async fn follow(&self, request: NamesRequest) -> Result<Vec<FollowReport>, Failure> {
        match self {
            Self::Here(api) => api.follow(request).await,
            Self::Daemon(client) => client.follow(&request).await,
        }
    }

    pub(crate) async fn unfollow(&self, request: NamesRequest) -> Result<Vec<FollowReport>, Failure> {
        match self {
            Self::Here(api) => api.unfollow(request).await,
            Self::Daemon(client) => client.unfollow(&request).await,
        }
    }

    pub(crate) async fn disown(&self, request: NamesRequest) -> Result<Vec<FollowReport>, Failure> {
        match self {
            Self::Here(api) => api.disown(request).await,
            Self::Daemon(client) => client.disown(&request).await,
        }
    }

    pub(crate) async fn republish(&self, request: NameRequest) -> Result<PublishReport, Failure> {
        match self {
            Self::Here(api) => api.republish(request).await,
            Self::Daemon(client) => client.republish(&request).await,
        }
    }

    /// Lets the node sign with every key of this home. A daemon does already.
    pub(crate) async fn add_signers(&self) -> Result<(), Failure> {
        match self {
            Self::Here(api) => api.add_signers().await.map(|_| ()),
            Self::Daemon(_) => Ok(()),
        }
    }

    /// Whether what is kept alive is sent although this command ends.
    pub(crate) fn is_daemon(&self) -> bool {
        matches!(self, Self::Daemon(_))
    }

    pub(crate) async fn dht(&self, request: &DhtRequest) -> Result<Vec<DhtReport>, Failure> {
        match self {
            Self::Here(api) => {
                if let DhtRequest::Table = request {
                    join(api.node()).await?;
                }
                api.dht(request).await
            }
            Self::Daemon(client) => client.dht(request).await,
        }
    }

    /// Ends what was started for this command; the store has everything when it returns. `linger` is for commands
    /// that send: the routers that are still being sent to get a moment.
    pub(crate) async fn close(self, linger: bool) {
        if let Self::Here(api) = self {
            api.node().shutdown(if linger { LINGER } else { Duration::ZERO }).await;
        }
    }
}

/// Waits until a node that has just started has joined its DHTs, or cannot.
async fn join(node: &Handle) -> Result<(), Failure> {
    let settled = stands(node, |standing| standing != Standing::Joining);
    tokio::time::timeout(JOIN_PATIENCE, settled).await.unwrap_or(Ok(()))
}

/// Waits until a node stands so in all of its DHTs.
pub(crate) async fn stands(node: &Handle, wanted: impl Fn(Standing) -> bool) -> Result<(), Failure> {
    let mut events = node.events();
    while !node.health().await?.iter().all(|dht| wanted(dht.health.standing)) {
        if !health_changes(&mut events).await {
            return Err(ipns_tokio::Stopped.into());
        }
    }
    Ok(())
}

/// Waits until a node stands otherwise in one of its DHTs; `false` when it has stopped.
pub(crate) async fn health_changes(events: &mut (impl Stream<Item = Event> + Unpin)) -> bool {
    while let Some(event) = events.next().await {
        if let Event::Health { .. } = event {
            return true;
        }
    }
    false
}

/// For how long a node is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// For one command: it serves nobody unless it is told to.
    Command,
    /// Until it is told to stop.
    Daemon,
}

/// A node that runs in this process.
pub(crate) struct Running {
    pub(crate) api: Api,
    /// Who it is among its peers and where it listens for them, if it has a DHT.
    pub(crate) listening: Option<Listening>,
}

/// Starts a node on the store of this home.
pub(crate) async fn start(settings: &Settings, role: Role) -> Result<Running, Failure> {
    create_home(&settings.home)?;
    let store = store::open(settings).await?;
    let keys = Arc::new(open_keys(&settings.home)?);
    let peer_key = settings.has_dht().then(|| identity::load_or_create(&settings.home)).transpose()?;
    let peer = peer_key.as_ref().map(|key| key.public_key().to_name().to_peer_id());
    let daemon = role == Role::Daemon;
    let routers = settings.routers(peer, daemon)?;
    let mut builder = Node::builder(store).config(|config| {
        // A command lives for a moment only.
        config.keep = settings.file.keep.keeping().filter(|_| daemon);
        config.routers = routers;
        config.lifetime = settings.file.lifetime.unwrap_or(config.lifetime);
        config.ttl = settings.file.ttl.unwrap_or(config.ttl);
        config.tolerance = settings.file.clock_tolerance.unwrap_or(config.tolerance);
    });
    if daemon && settings.file.keep.enabled {
        builder = signers(&keys).await?.into_iter().fold(builder, Builder::signer);
    }
    let (node, listening) = match &peer_key {
        None => (ipns_tokio::spawn(builder).map_err(|error| not_started(error.into()))?, None),
        Some(key) => {
            let network = NodeConfig {
                listen: settings.listen(daemon)?,
                confirm_listen_addresses: settings.file.dht.allows_private(),
                // What others would find out is settled, or of no use.
                autonat: daemon && !settings.file.dht.allows_private(),
                ..NodeConfig::default()
            };
            let started = ipns_tokio::spawn_with_network(builder, network, key).await;
            let (node, listening) = started.map_err(not_started)?;
            (node, Some(listening))
        }
    };
    Ok(Running { api: Api::new(node, keys), listening })
}

/// What own names are signed anew with. Keys may be many, so they are not read on the executor's threads.
async fn signers(keys: &Arc<KeyStore>) -> Result<Vec<Arc<dyn Signer>>, Failure> {
    let keys = keys.clone();
    let loaded = tokio::task::spawn_blocking(move || load_signers(&keys)).await;
    loaded.unwrap_or_else(|error| Err(Failure::new(exit::FAILED, "failed", format!("the keys were not read: {error}"))))
}

fn not_started(error: NodeError) -> Failure {
    let status = if matches!(error, NodeError::Protocol { .. }) { exit::USAGE } else { exit::FAILED };
    let mut message = error.to_string();
    if error.code() == "listen" {
        message.push_str("; choose another address with --listen");
    }
    Failure::new(status, error.code(), message)
}

pub(crate) fn create_home(home: &Path) -> Result<(), Failure> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(home)
        .map_err(|error| Failure::new(exit::STORE, "home", format!("cannot create {}: {error}", home.display())))
}
