//! What people ask of a node, whether on the command line or through the admin interface.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use data_encoding::BASE64;
use futures_util::{Stream, StreamExt};
use ipld_core::ipld::Ipld;
use ipns_core::engine::{Enough, Policy, Publish, Put, Resolve};
use ipns_core::key::{KeyType, SecretKey, Signer};
use ipns_core::record::Version;
use ipns_core::{Name, Timestamp};
use ipns_driver::{Clock, Handle, SystemClock};
use ipns_store::{KeyStore, KeyStoreError};
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, exit};
use crate::report::{PublishReport, ResolveReport};

/// The key that publishes when none is named, as in Kubo.
pub const DEFAULT_KEY: &str = "self";

/// How many routers must take a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wait {
    /// At least one.
    #[default]
    Any,
    /// Every one.
    All,
    /// At least so many.
    #[serde(untagged)]
    Count(usize),
}

impl From<Wait> for Policy {
    fn from(wait: Wait) -> Self {
        match wait {
            Wait::Any => Self::Any,
            Wait::All => Self::All,
            Wait::Count(count) => Self::AtLeast(count),
        }
    }
}

/// When a resolve has heard enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FreshnessWanted {
    /// The first valid record.
    First,
    /// Every router that is not failing has answered.
    #[default]
    Probable,
    /// So many answers.
    #[serde(untagged)]
    Answers(u32),
}

impl From<FreshnessWanted> for Enough {
    fn from(wanted: FreshnessWanted) -> Self {
        match wanted {
            FreshnessWanted::First => Self::First,
            FreshnessWanted::Probable => Self::Probable,
            FreshnessWanted::Answers(count) => Self::Answers(count),
        }
    }
}

/// A value to publish.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PublishRequest {
    /// What the name is to point at.
    pub value: String,
    /// The local key; `self`, or the only one there is, if `None`.
    pub key: Option<String>,
    /// How long the record is valid, in nanoseconds.
    pub lifetime_ns: Option<u64>,
    /// How long resolvers may keep it, in nanoseconds.
    pub ttl_ns: Option<u64>,
    /// The sequence; the next one if `None`.
    pub sequence: Option<u64>,
    /// Publish only over this sequence.
    pub if_sequence: Option<u64>,
    /// Whether to leave the V1 fields out.
    pub v2_only: bool,
    /// Additional signed entries.
    pub metadata: BTreeMap<String, String>,
    /// Whether to succeed without a router.
    pub allow_offline: bool,
    /// How many routers must take it.
    pub wait: Wait,
}

/// A name to resolve.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct ResolveRequest {
    /// The name in any spelling, or a local key's name; a path may follow.
    pub name: String,
    /// When enough has been heard.
    pub freshness: FreshnessWanted,
    /// Whether a fresh cached record may answer.
    pub cache: bool,
    /// Whether to ask nobody.
    pub offline: bool,
    /// Whether to follow names.
    pub recursive: bool,
    /// Whether to report every improvement.
    pub stream: bool,
    /// How long it may take, in nanoseconds.
    pub timeout_ns: Option<u64>,
    /// Whether to add the record itself to the answer.
    pub with_record: bool,
}

impl Default for ResolveRequest {
    fn default() -> Self {
        Self {
            name: String::new(),
            freshness: FreshnessWanted::default(),
            cache: true,
            offline: false,
            recursive: true,
            stream: false,
            timeout_ns: None,
            with_record: false,
        }
    }
}

/// A ready record to store and send.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PutRequest {
    /// Whose record it is: any spelling, or a local key's name.
    pub name: String,
    /// The record in base64.
    pub record: String,
    /// Whether to send it over a newer one.
    pub force: bool,
    /// Whether to succeed without a router.
    pub allow_offline: bool,
    /// How many routers must take it.
    pub wait: Wait,
}

/// A local key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyReport {
    /// Its local name.
    pub key: String,
    /// The IPNS name that it owns.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
}

/// A node and its keys: what the program and the admin interface work on.
#[derive(Clone)]
pub struct Api {
    node: Handle,
    keys: Arc<KeyStore>,
    clock: SystemClock,
}

impl Api {
    /// The face of a running node.
    pub fn new(node: Handle, keys: Arc<KeyStore>) -> Self {
        Self { node, keys, clock: SystemClock::default() }
    }

    /// The node.
    pub fn node(&self) -> &Handle {
        &self.node
    }

    /// The keys.
    pub fn keys(&self) -> &KeyStore {
        &self.keys
    }

    /// Does work on the keys where it may take its time: key files are synced to the disk, there may be many of them,
    /// and RSA keys take seconds to make.
    ///
    /// # Errors
    /// Those of the work, and when it did not end.
    pub async fn with_keys<T: Send + 'static>(
        &self,
        work: impl FnOnce(&KeyStore) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let keys = self.keys.clone();
        tokio::task::spawn_blocking(move || work(&keys)).await.unwrap_or_else(|error| {
            tracing::error!(%error, "work on the keys did not end");
            Err(Failure::new(exit::FAILED, "failed", "the work on the keys did not end; see the log"))
        })
    }

    /// Publishes a value.
    ///
    /// # Errors
    /// When the request is wrong or the publish fails.
    pub async fn publish(&self, request: PublishRequest) -> Result<PublishReport, Failure> {
        let picked = pick_key(&self.keys, request.key.as_deref())?;
        let key = load_key(&self.keys, &picked)?;
        let mut publish = Publish::new(key.public_key(), request.value.parse()?);
        publish.lifetime = request.lifetime_ns.map(Duration::from_nanos);
        publish.ttl = request.ttl_ns.map(Duration::from_nanos);
        publish.version = if request.v2_only { Version::V2Only } else { Version::V1AndV2 };
        publish.metadata = request.metadata.into_iter().map(|(key, text)| (key, Ipld::String(text))).collect();
        publish.sequence = request.sequence;
        publish.if_sequence = request.if_sequence;
        publish.allow_offline = request.allow_offline;
        publish.policy = request.wait.into();
        let key = Arc::new(key);
        let secret = key.clone();
        publish.new_key = self.with_keys(move |keys| Ok(take_new(keys, &picked, &secret))).await?;
        self.node.add_signer(key);
        Ok(PublishReport::from(&self.node.publish(publish).await?))
    }

    /// Resolves a name: improvements if they are asked for, then the result.
    ///
    /// # Errors
    /// When the name is none.
    pub fn resolve(
        &self,
        request: &ResolveRequest,
    ) -> Result<impl Stream<Item = Result<ResolveReport, Failure>> + Send + Unpin + use<>, Failure> {
        let (name, below) = find_name(&self.keys, &request.name)?;
        let how = Resolve {
            enough: request.freshness.into(),
            cache: request.cache,
            offline: request.offline,
            recursive: request.recursive,
            stream: request.stream,
            below,
            timeout: request.timeout_ns.map(Duration::from_nanos),
        };
        let with_record = request.with_record;
        Ok(self.node.resolve_stream(name, how).map(move |answer| {
            let found = answer?;
            let mut report = ResolveReport::from(&found);
            report.record = with_record.then(|| BASE64.encode(found.record.as_bytes()));
            Ok(report)
        }))
    }

    /// Resolves a name, without improvements.
    ///
    /// # Errors
    /// When the name is none or nothing is found.
    pub async fn resolve_once(&self, request: &ResolveRequest) -> Result<ResolveReport, Failure> {
        let mut answers = self.resolve(&ResolveRequest { stream: false, ..request.clone() })?;
        answers.next().await.unwrap_or_else(|| Err(ipns_driver::Stopped.into()))
    }

    /// Stores and sends a ready record.
    ///
    /// # Errors
    /// When the request is wrong or the record is refused.
    pub async fn put(&self, request: PutRequest) -> Result<PublishReport, Failure> {
        let (name, _) = find_name(&self.keys, &request.name)?;
        let put = Put {
            name,
            record: decode(&request.record)?,
            force: request.force,
            keep: false,
            policy: request.wait.into(),
            allow_offline: request.allow_offline,
        };
        Ok(PublishReport::from(&self.node.put(put).await?))
    }

    /// The present, by this node's clock.
    pub fn now(&self) -> Timestamp {
        self.clock.now().wall
    }
}

/// A record as requests carry it.
pub(crate) fn decode(record: &str) -> Result<Bytes, Failure> {
    let record = BASE64.decode(record.as_bytes());
    record.map(Bytes::from).map_err(|_| Failure::new(exit::USAGE, "usage", "the record is not base64"))
}

/// Makes a key and keeps it.
///
/// # Errors
/// When the name is taken or no key, or the size is out of range.
pub fn generate_key(keys: &KeyStore, key: &str, kind: KeyType, bits: usize) -> Result<KeyReport, Failure> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)
        .map_err(|error| Failure::new(exit::FAILED, "no_randomness", format!("no randomness: {error}")))?;
    if keys.contains(key)? {
        return Err(KeyStoreError::Exists { name: key.to_owned() }.into());
    }
    let secret = SecretKey::generate(kind, seed, bits)?;
    let report = store_key(keys, key, &secret)?;
    // That only makes its first publish faster.
    if let Err(error) = keys.mark_new(key, &report.name) {
        tracing::warn!(key, %error, "it could not be noted that a key is new");
    }
    Ok(report)
}

/// Whether a key was made here and neither published with nor given away since. From now on it is not new.
pub fn take_new(keys: &KeyStore, key: &str, secret: &SecretKey) -> bool {
    let took = keys.take_new(key, &secret.public_key().to_name().to_string());
    took.unwrap_or_else(|error| {
        tracing::warn!(key, %error, "whether a key is new is not known; it is taken for one that is not");
        false
    })
}

/// Keeps a key under a local name.
///
/// # Errors
/// When the name is taken, or no name of a key.
pub fn store_key(keys: &KeyStore, key: &str, secret: &SecretKey) -> Result<KeyReport, Failure> {
    keys.put(key, &secret.encode_protobuf())?;
    Ok(describe_key(key, secret))
}

/// Reads a key.
///
/// # Errors
/// When there is none of that name or it cannot be read.
pub fn load_key(keys: &KeyStore, key: &str) -> Result<SecretKey, Failure> {
    let bytes = keys.get(key)?;
    SecretKey::decode_protobuf(&bytes).map_err(|error| {
        Failure::new(exit::STORE, error.code(), format!("the key `{key}` in the key store cannot be read: {error}"))
    })
}

/// What there is to say of a key in public.
pub fn describe_key(key: &str, secret: &SecretKey) -> KeyReport {
    let public = secret.public_key();
    KeyReport { key: key.to_owned(), name: public.to_name().to_string(), kind: public.key_type().to_string() }
}

/// All keys, by local name.
///
/// # Errors
/// When the key store or one of its keys cannot be read.
pub fn list_keys(keys: &KeyStore) -> Result<Vec<KeyReport>, Failure> {
    keys.list()?.iter().map(|key| Ok(describe_key(key, &load_key(keys, key)?))).collect()
}

/// Whether a key that can be read owns a name.
///
/// # Errors
/// When the key store cannot be read.
pub fn has_key(keys: &KeyStore, name: &Name) -> Result<bool, Failure> {
    let owns = |key: &String| load_key(keys, key).is_ok_and(|secret| secret.public_key().to_name() == *name);
    Ok(keys.list()?.iter().any(owns))
}

/// Every key that can be read, to sign with. Those that cannot are logged: they are no reason to keep nothing alive.
///
/// # Errors
/// When the key store cannot be read.
pub fn load_signers(keys: &KeyStore) -> Result<Vec<Arc<dyn Signer>>, Failure> {
    let read = |key: &String| match load_key(keys, key) {
        Ok(secret) => Some(Arc::new(secret) as Arc<dyn Signer>),
        Err(failure) => {
            tracing::warn!(key, %failure, "a key cannot be used; its name will not be signed anew");
            None
        }
    };
    Ok(keys.list()?.iter().filter_map(read).collect())
}

/// The local key to publish with: the one that is named, else `self`, else the only one.
fn pick_key(keys: &KeyStore, key: Option<&str>) -> Result<String, Failure> {
    if let Some(key) = key {
        if keys.contains(key).unwrap_or(false) {
            return Ok(key.to_owned());
        }
        // People also name a key by the name that it owns.
        let by_name = key.parse::<Name>().ok().map(|name| name.to_string());
        let found = match by_name {
            Some(name) => list_keys(keys)?.into_iter().find(|known| known.name == name),
            None => None,
        };
        return found.map(|found| found.key).ok_or_else(|| {
            Failure::new(exit::STORE, "key_not_found", format!("there is no key `{key}`; see `ipns key list`"))
        });
    }
    let all = keys.list()?;
    match all.as_slice() {
        [] => Err(Failure::new(exit::STORE, "key_not_found", "there is no key yet; make one with `ipns key gen NAME`")),
        [only] => Ok(only.clone()),
        all if all.iter().any(|key| key == DEFAULT_KEY) => Ok(DEFAULT_KEY.to_owned()),
        all => {
            let message = format!("there are {} keys; choose one with -k: {}", all.len(), all.join(", "));
            Err(Failure::new(exit::USAGE, "usage", message))
        }
    }
}

/// A name in any spelling, with a path below it if one follows, or the name of a local key.
///
/// # Errors
/// When it is neither.
pub fn find_name(keys: &KeyStore, text: &str) -> Result<(Name, String), Failure> {
    let error = match text.parse::<Name>() {
        Ok(name) => return Ok((name, String::new())),
        Err(error) => error,
    };
    if keys.contains(text).unwrap_or(false) {
        return Ok((load_key(keys, text)?.public_key().to_name(), String::new()));
    }
    let bare = text.strip_prefix("/ipns/").or_else(|| text.strip_prefix("ipns://")).unwrap_or(text);
    if let Some((root, below)) = bare.split_once('/')
        && !below.is_empty()
        && let Ok(name) = root.parse::<Name>()
    {
        return Ok((name, format!("/{below}")));
    }
    Err(error.into())
}
