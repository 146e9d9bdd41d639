//! The settings in effect: the command line over the file over the defaults.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ipns_core::routing::Router;
use ipns_core::routing::http::client::{Endpoint, PutMethod};
use ipns_server::{Failure, exit};
use serde::{Deserialize, Serialize};

use crate::args::{DhtMode, Global};

/// The public endpoint that is used when no router is named.
const DEFAULT_ROUTER: &str = "delegated-ipfs.dev";

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
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum RouterSetting {
    Name(String),
    Table(RouterTable),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RouterTable {
    /// URL or preset.
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
    /// Whether routers were named on the command line, which a running daemon would not heed.
    pub(crate) routers_given: bool,
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
        file.routers.get_or_insert_with(|| vec![RouterSetting::Name(DEFAULT_ROUTER.into())]);
        let dht = !global.bootstrap.is_empty()
            || !global.listen.is_empty()
            || global.dht_mode != DhtMode::Auto
            || global.allow_private_addrs;
        if dht {
            tracing::warn!(
                "this version has no DHT: --bootstrap, --listen, --dht-mode and --allow-private-addrs do nothing"
            );
        }
        Ok(Self { home, file, json: global.json, routers_given: !global.routers.is_empty() })
    }

    /// The routers of this run.
    pub(crate) fn routers(&self) -> Result<Vec<Router>, Failure> {
        self.file.routers.iter().flatten().map(RouterSetting::to_router).collect()
    }
}

impl RouterSetting {
    fn to_router(&self) -> Result<Router, Failure> {
        let table = match self {
            Self::Table(table) => table.clone(),
            Self::Name(url) => RouterTable {
                url: url.clone(),
                method: None,
                read: None,
                write: None,
                tier: None,
                weight: None,
                hedge: None,
                timeout: None,
            },
        };
        if table.url == "dht" {
            let message =
                "this version has no DHT; name an HTTP router, for example --router https://delegated-ipfs.dev";
            return Err(Failure::new(exit::USAGE, "dht_unsupported", message));
        }
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
        router.read = table.read.unwrap_or(router.read);
        router.write = table.write.unwrap_or(router.write);
        router.tier = table.tier.unwrap_or(router.tier).max(1);
        router.weight = table.weight.unwrap_or(router.weight).max(1);
        router.hedge = table.hedge.unwrap_or(router.hedge);
        router.timeout = table.timeout.unwrap_or(router.timeout);
        Ok(router)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_everything() {
        let text = r#"
            lifetime = "24h"
            routers = ["none.example", { url = "https://a.example", method = "post", tier = 2, hedge = "200ms" }]
        "#;
        let file: File = toml::from_str(text).unwrap();
        assert_eq!(file.lifetime, Some(Duration::from_secs(86_400)));
        let router = file.routers.unwrap()[1].to_router().unwrap();
        assert_eq!((router.tier, router.hedge), (2, Duration::from_millis(200)));
    }

    #[test]
    fn a_typing_mistake_is_an_error() {
        assert!(toml::from_str::<File>("lifetme = \"1h\"").is_err());
        assert!(toml::from_str::<File>("lifetime = \"soon\"").is_err());
    }
}
