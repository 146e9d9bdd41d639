//! The settings in effect: the command line over the file over the defaults.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ipns_core::dht::{self, Multiaddr, PeerId};
use ipns_core::engine::Keeping;
use ipns_core::routing::Router;
use ipns_core::routing::http::client::{Endpoint, PutMethod};
use ipns_server::dht::parse_peer;
use ipns_server::{Failure, exit};
use ipns_store::Backend;
use serde::{Deserialize, Serialize};

use crate::args::{DhtMode, Global};

/// What is used when no router is named: the public DHT, and an endpoint that knows it well.
const DEFAULT_ROUTERS: [&str; 2] = [DHT, "delegated-ipfs.dev"];
/// What the DHT is called among routers.
const DHT: &str = "dht";
/// Where a daemon listens for peers unless told otherwise.
const DEFAULT_LISTEN: [&str; 4] =
    ["/ip4/0.0.0.0/tcp/4009", "/ip6/::/tcp/4009", "/ip4/0.0.0.0/udp/4009/quic-v1", "/ip6/::/udp/4009/quic-v1"];
/// How often an engine sends what it keeps alive.
const KEEP_INTERVAL: std::ops::RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(48 * 3600);
const SHORTEST_RETRY: Duration = Duration::from_secs(1);

/// What a settings file may hold. Unknown keys are errors, so that a typing mistake is not silently nothing.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct File {
    /// Routers: URLs, presets, or tables with more to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) routers: Option<Vec<RouterSetting>>,
    /// How long published records are valid.
    #[serde(with = "humantime_option", skip_serializing_if = "Option::is_none")]
    pub(crate) lifetime: Option<Duration>,
    /// How long resolvers may keep published records.
    #[serde(with = "humantime_option", skip_serializing_if = "Option::is_none")]
    pub(crate) ttl: Option<Duration>,
    /// How long after its end of life a record is still taken.
    #[serde(with = "humantime_option", skip_serializing_if = "Option::is_none")]
    pub(crate) clock_tolerance: Option<Duration>,
    /// Where the daemon listens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) http: Option<std::net::SocketAddr>,
    /// The kind of store; what is there already, or redb, if it is not given.
    #[serde(with = "backend_option", skip_serializing_if = "Option::is_none")]
    pub(crate) store: Option<Backend>,
    /// How a daemon keeps names alive.
    pub(crate) keep: KeepFile,
    /// The DHT.
    pub(crate) dht: DhtFile,
}

/// What a settings file may say of keeping names alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct KeepFile {
    /// Whether a daemon does it at all.
    pub(crate) enabled: bool,
    /// How often each name is sent.
    #[serde(with = "humantime_duration")]
    pub(crate) interval: Duration,
    /// How long after a failure a name is tried again; doubles with each further one.
    #[serde(with = "humantime_duration")]
    pub(crate) retry: Duration,
    /// How many names of others may be followed.
    pub(crate) max_followed: usize,
}

impl Default for KeepFile {
    fn default() -> Self {
        let usual = Keeping::default();
        Self { enabled: true, interval: usual.interval, retry: usual.first_retry, max_followed: usual.max_followed }
    }
}

impl KeepFile {
    /// What a daemon's engine is told; `None` when it is to keep nothing alive.
    pub(crate) fn keeping(self) -> Option<Keeping> {
        let usual = Keeping::default();
        let last_retry = usual.last_retry.max(self.retry);
        let (interval, first_retry, max_followed) = (self.interval, self.retry, self.max_followed);
        self.enabled.then_some(Keeping { interval, first_retry, last_retry, max_followed, ..usual })
    }

    /// The engine would bend what it cannot do; whoever wrote it should know.
    fn check(self) -> Result<(), Failure> {
        if !KEEP_INTERVAL.contains(&self.interval) {
            let message = "`interval` in [keep] must be between 1m and 48h: a DHT forgets what is sent less often";
            return Err(Failure::new(exit::USAGE, "config_malformed", message));
        }
        if self.retry < SHORTEST_RETRY {
            let message = "`retry` in [keep] must be at least 1s";
            return Err(Failure::new(exit::USAGE, "config_malformed", message));
        }
        Ok(())
    }
}

/// What a settings file may say of the DHT.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DhtFile {
    /// Protocols; each is a DHT of its own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) protocols: Vec<String>,
    /// Servers to join by, beside the public ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) bootstrap: Vec<String>,
    /// Whether to join the public DHT by its public servers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) default_bootstrap: Option<bool>,
    /// Whether to serve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mode: Option<DhtMode>,
    /// Which servers are kept known without anybody looking for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) crawl: Option<Crawl>,
    /// Whether loopback and LAN addresses count as reachable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) allow_private_addrs: Option<bool>,
    /// Where to listen for peers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) listen: Option<Vec<String>>,
}

/// [`dht::Coverage`] as it is written in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Crawl {
    Table,
    Regions,
    All,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum RouterSetting {
    Name(String),
    Table(RouterTable),
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RouterTable {
    /// URL, preset or `dht`.
    pub(crate) url: String,
    /// `put` as the specification has it, or `post` for gateways that know only that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) method: Option<Method>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) read: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) write: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tier: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) weight: Option<u32>,
    #[serde(default, with = "humantime_option", skip_serializing_if = "Option::is_none")]
    pub(crate) hedge: Option<Duration>,
    #[serde(default, with = "humantime_option", skip_serializing_if = "Option::is_none")]
    pub(crate) timeout: Option<Duration>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Method {
    Put,
    Post,
}

/// Everything that is decided before a command runs.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) home: PathBuf,
    pub(crate) file: File,
    pub(crate) json: bool,
    /// Whether routers or a network were named on the command line, which a running daemon would not heed.
    pub(crate) network_given: bool,
}

impl Settings {
    pub(crate) fn load(global: &Global) -> Result<Self, Failure> {
        let home = match &global.home {
            Some(home) => home.clone(),
            None => default_home()?,
        };
        let mut file = read_file(global.config.as_deref(), &home)?;
        if !global.routers.is_empty() {
            let named = global.routers.iter().filter(|router| *router != "none").cloned();
            file.routers = Some(named.map(RouterSetting::Name).collect());
        }
        file.routers.get_or_insert_with(|| DEFAULT_ROUTERS.map(|name| RouterSetting::Name(name.into())).to_vec());
        file.store = global.store.or(file.store);
        file.dht.take(global);
        file.keep.check()?;
        Ok(Self { home, file, json: global.json, network_given: global.names_network() })
    }

    /// The same without any router, for commands that only ask or tell this home something.
    pub(crate) fn offline(&self) -> Self {
        let mut offline = self.clone();
        offline.file.routers = Some(Vec::new());
        offline.network_given = false;
        offline
    }

    /// The routers of this run. For DHTs, `peer` is who this node is, and `daemon` whether it may serve.
    pub(crate) fn routers(&self, peer: Option<PeerId>, daemon: bool) -> Result<Vec<Router>, Failure> {
        let mut routers = Vec::new();
        for setting in self.file.routers.iter().flatten() {
            match (setting.is_dht(), peer) {
                (true, Some(peer)) => routers.extend(self.file.dht.routers(peer, daemon, setting)?),
                (true, None) => {}
                (false, _) => routers.push(setting.to_router()?),
            }
        }
        Ok(routers)
    }

    /// Whether the DHT is among the routers.
    pub(crate) fn has_dht(&self) -> bool {
        self.file.routers.iter().flatten().any(RouterSetting::is_dht)
    }

    /// Where to listen for peers. A command that ends soon listens only where it is told to.
    pub(crate) fn listen(&self, daemon: bool) -> Result<Vec<Multiaddr>, Failure> {
        let default = || if daemon { DEFAULT_LISTEN.map(str::to_owned).to_vec() } else { Vec::new() };
        self.file.dht.listen.clone().unwrap_or_else(default).iter().map(|text| multiaddr(text)).collect()
    }
}

impl DhtFile {
    /// What the command line says comes first.
    fn take(&mut self, global: &Global) {
        if !global.dht_protocols.is_empty() {
            self.protocols.clone_from(&global.dht_protocols);
        }
        if !global.listen.is_empty() {
            self.listen = Some(global.listen.clone());
        }
        self.bootstrap.extend(global.bootstrap.iter().cloned());
        self.mode = global.dht_mode.or(self.mode);
        if global.no_default_bootstrap {
            self.default_bootstrap = Some(false);
        }
        if global.allow_private_addrs {
            self.allow_private_addrs = Some(true);
        }
    }

    /// Whether every address at which this node listens counts as one that others can reach.
    pub(crate) fn allows_private(&self) -> bool {
        self.allow_private_addrs.unwrap_or(false)
    }

    fn routers(&self, peer: PeerId, daemon: bool, setting: &RouterSetting) -> Result<Vec<Router>, Failure> {
        let public = [dht::PUBLIC_PROTOCOL.to_owned()];
        let protocols = if self.protocols.is_empty() { &public[..] } else { &self.protocols };
        protocols.iter().map(|protocol| self.router(peer, daemon, setting, protocol)).collect()
    }

    fn router(&self, peer: PeerId, daemon: bool, setting: &RouterSetting, protocol: &str) -> Result<Router, Failure> {
        let is_public = protocol == dht::PUBLIC_PROTOCOL;
        let mut config = match is_public && !self.allows_private() {
            true => dht::Config::public(peer),
            false => dht::Config::custom(peer, protocol),
        };
        config.mode = match self.mode.unwrap_or(DhtMode::Auto) {
            // It would be gone before anybody came.
            DhtMode::Auto if !daemon => dht::Mode::Client,
            DhtMode::Auto => dht::Mode::Auto,
            DhtMode::Client => dht::Mode::Client,
            DhtMode::Server => dht::Mode::Server,
        };
        config.crawl.coverage = match self.crawl {
            // It would be gone before a crawl had come anywhere.
            _ if !daemon => dht::Coverage::Table,
            None | Some(Crawl::Table) => dht::Coverage::Table,
            Some(Crawl::Regions) => dht::Coverage::Regions,
            Some(Crawl::All) => dht::Coverage::All,
        };
        if is_public && self.default_bootstrap.unwrap_or(true) {
            config.seeds.extend(dht::public_bootstrap());
        }
        for text in &self.bootstrap {
            let peer = parse_peer(text)?;
            if peer.addresses.is_empty() {
                let message = format!("`{text}` has no address; write it as /ip4/…/tcp/…/p2p/{}", peer.id);
                return Err(Failure::new(exit::USAGE, "peer_malformed", message));
            }
            config.seeds.push(peer);
        }
        let label = match protocol {
            dht::PUBLIC_PROTOCOL => DHT,
            dht::LAN_PROTOCOL => "lan",
            other => other,
        };
        let mut router = Router::dht(label, config);
        setting.table().shape(&mut router);
        Ok(router)
    }
}

fn multiaddr(text: &str) -> Result<Multiaddr, Failure> {
    text.parse().map_err(|error| {
        let message = format!("`{text}` is no multiaddr ({error}); write it as /ip4/0.0.0.0/tcp/4009");
        Failure::new(exit::USAGE, "address_malformed", message)
    })
}

impl RouterSetting {
    fn table(&self) -> RouterTable {
        match self {
            Self::Table(table) => table.clone(),
            Self::Name(url) => RouterTable { url: url.clone(), ..RouterTable::default() },
        }
    }

    fn is_dht(&self) -> bool {
        let (Self::Name(url) | Self::Table(RouterTable { url, .. })) = self;
        url == DHT
    }

    fn to_router(&self) -> Result<Router, Failure> {
        let table = self.table();
        let mut endpoint = match Endpoint::preset(&table.url) {
            Some(preset) => preset,
            None => {
                Endpoint::new(&table.url).map_err(|error| Failure::new(exit::USAGE, error.code(), error.to_string()))?
            }
        };
        if let Some(Method::Post) = table.method {
            endpoint.put = PutMethod::Post;
        }
        let mut router = Router::http(endpoint);
        table.shape(&mut router);
        Ok(router)
    }
}

impl RouterTable {
    /// Gives a router its part in the composition.
    fn shape(&self, router: &mut Router) {
        router.read = self.read.unwrap_or(router.read);
        router.write = self.write.unwrap_or(router.write);
        router.tier = self.tier.unwrap_or(router.tier).max(1);
        router.weight = self.weight.unwrap_or(router.weight).max(1);
        router.hedge = self.hedge.unwrap_or(router.hedge);
        router.timeout = self.timeout.unwrap_or(router.timeout);
    }
}

fn default_home() -> Result<PathBuf, Failure> {
    use etcetera::BaseStrategy;
    etcetera::choose_base_strategy()
        .map(|dirs| dirs.data_dir().join("ipns"))
        .map_err(|error| Failure::new(exit::FAILED, "no_home", format!("{error}; name a directory with --home")))
}

fn read_file(given: Option<&Path>, home: &Path) -> Result<File, Failure> {
    let path = given.map_or_else(|| home.join("config.toml"), Path::to_path_buf);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && given.is_none() => return Ok(File::default()),
        Err(error) => {
            return Err(Failure::new(exit::USAGE, "config_unreadable", format!("{}: {error}", path.display())));
        }
    };
    toml::from_str(&text)
        .map_err(|error| Failure::new(exit::USAGE, "config_malformed", format!("{}: {error}", path.display())))
}

/// Durations as people write them.
mod humantime_duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_duration(*value))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        crate::args::duration(&String::deserialize(from)?).map_err(serde::de::Error::custom)
    }
}

/// Durations as people write them, or none.
mod humantime_option {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(duration) => to.collect_str(&humantime::format_duration(*duration)),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        let text = String::deserialize(from)?;
        crate::args::duration(&text).map(Some).map_err(serde::de::Error::custom)
    }
}

/// Kinds of stores by their names.
mod backend_option {
    use ipns_store::Backend;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Option<Backend>, to: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(backend) => to.serialize_str(backend.as_str()),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Backend>, D::Error> {
        String::deserialize(from)?.parse().map(Some).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_everything() {
        let text = r#"
            lifetime = "24h"
            store = "rocksdb"
            routers = ["none.example", { url = "https://a.example", method = "post", tier = 2, hedge = "200ms" }]
        "#;
        let file: File = toml::from_str(text).unwrap();
        assert_eq!(file.lifetime, Some(Duration::from_secs(86_400)));
        assert_eq!(file.store, Some(Backend::RocksDb));
        let router = file.routers.unwrap()[1].to_router().unwrap();
        assert_eq!((router.tier, router.hedge), (2, Duration::from_millis(200)));
    }

    fn peer() -> PeerId {
        parse_peer("12D3KooWLQzUv2FHWGVPXTXSZpdHs7oHbXub2G5WC8Tx4NQhyd2d").unwrap().id
    }

    fn dhts(text: &str, daemon: bool) -> Vec<dht::Config> {
        let file: File = toml::from_str(text).unwrap();
        let routers = file.dht.routers(peer(), daemon, &RouterSetting::Name(DHT.into())).unwrap();
        let config = |router: Router| match router.transport {
            ipns_core::routing::Transport::Dht(config) => *config,
            other => panic!("{other:?}"),
        };
        routers.into_iter().map(config).collect()
    }

    #[test]
    fn the_public_dht_has_its_bootstrappers_and_rules() {
        let [public] = &dhts("", true)[..] else { panic!() };
        assert_eq!((public.seeds.len(), public.mode, public.diversity), (6, dht::Mode::Auto, true));
        assert_eq!(dhts("", false)[0].mode, dht::Mode::Client);
        assert_eq!(dhts("dht = { default_bootstrap = false }", true)[0].seeds, []);
        let coverage = |daemon| dhts("dht = { crawl = \"all\" }", daemon)[0].crawl.coverage;
        assert_eq!((coverage(true), coverage(false)), (dht::Coverage::All, dht::Coverage::Table));
        assert_eq!(public.crawl.coverage, dht::Coverage::Table);
        // On private addresses, one network is all there is.
        let [private] = &dhts("dht = { allow_private_addrs = true }", true)[..] else { panic!() };
        assert_eq!((private.diversity, private.addresses), (false, dht::AddressPolicy::Any));
    }

    #[test]
    fn several_protocols_are_several_dhts() {
        let text = r#"
            [dht]
            protocols = ["/ipfs/kad/1.0.0", "/ipfs/lan/kad/1.0.0", "/own/kad/1.0.0"]
            bootstrap = ["/ip4/127.0.0.1/tcp/1/p2p/12D3KooWLQzUv2FHWGVPXTXSZpdHs7oHbXub2G5WC8Tx4NQhyd2d"]
            mode = "server"
        "#;
        let all = dhts(text, false);
        assert_eq!(all.iter().map(|dht| dht.seeds.len()).collect::<Vec<_>>(), [7, 1, 1]);
        assert!(all.iter().all(|dht| dht.mode == dht::Mode::Server));
    }

    #[test]
    fn names_are_kept_alive_unless_the_file_says_no() {
        let keep = |text: &str| toml::from_str::<File>(text).unwrap().keep;
        assert_eq!(keep("").keeping(), Some(Keeping::default()));
        assert_eq!(keep("[keep]\nenabled = false").keeping(), None);
        let own = keep("[keep]\ninterval = \"1m\"\nretry = \"2h\"\nmax_followed = 7");
        let keeping = own.keeping().unwrap();
        assert_eq!((keeping.interval, keeping.max_followed), (Duration::from_secs(60), 7));
        assert_eq!((keeping.first_retry, keeping.last_retry), (Duration::from_secs(7200), Duration::from_secs(7200)));
        assert!(own.check().is_ok());
        for wrong in ["interval = \"59s\"", "interval = \"3days\"", "retry = \"1ms\""] {
            assert_eq!(keep(&format!("[keep]\n{wrong}")).check().unwrap_err().exit, exit::USAGE, "{wrong}");
        }
    }

    #[test]
    fn a_typing_mistake_is_an_error() {
        assert!(toml::from_str::<File>("lifetme = \"1h\"").is_err());
        assert!(toml::from_str::<File>("lifetime = \"soon\"").is_err());
        assert!(toml::from_str::<File>("store = \"sqlite\"").is_err());
    }
}
