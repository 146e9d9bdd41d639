//! What people ask of a node about the names that it keeps alive.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::{Stream, StreamExt, stream};
use ipns_core::key::{SecretKey, Signer};
use ipns_core::{Name, Timestamp};
use ipns_store::KeyStore;
use serde::{Deserialize, Serialize};

use crate::api::{Api, decode, find_name, list_keys, load_key, load_signers};
use crate::failure::{Failure, exit};
use crate::kept::{ChangeReport, FollowReport, KeptReport};
use crate::report::PublishReport;

/// The most names in one request.
pub const MAX_NAMES: usize = 1000;

/// So many names are listed at once.
const PART: usize = 1000;

/// Where a list goes on.
enum Part {
    /// With own names, of which the keys' names by those of the names are known after the first part.
    Own {
        keys: Option<BTreeMap<String, String>>,
        after: Option<Name>,
    },
    Followed {
        after: Option<Name>,
    },
    Queued,
}

/// Names to follow, or to keep alive no more.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NamesRequest {
    /// The names in any spelling, or local keys' names; at most [`MAX_NAMES`].
    pub names: Vec<String>,
}

/// A name to send now, or to watch.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NameRequest {
    /// The name in any spelling, or a local key's name.
    pub name: String,
}

/// A record that was signed to be sent later.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct QueueRequest {
    /// Whose record it is: the name in any spelling, or a local key's name.
    pub name: String,
    /// The record, in base64.
    pub record: String,
    /// When it is to be sent, as RFC 3339 says times.
    pub at: String,
}

impl Api {
    /// The names that are kept alive, own ones first, and the records that wait for their time: some at a time, so that
    /// the node does not stand still meanwhile. The first part tells whether there is any answer; the last may be empty.
    pub fn list(&self) -> impl Stream<Item = Result<Vec<KeptReport>, Failure>> + Send + use<> {
        let first = Part::Own { keys: None, after: None };
        stream::try_unfold((self.clone(), Some(first)), |(api, part)| async move {
            let Some(part) = part else { return Ok(None) };
            let (kept, next) = api.part(part).await?;
            Ok(Some((kept, (api, next))))
        })
    }

    async fn part(&self, part: Part) -> Result<(Vec<KeptReport>, Option<Part>), Failure> {
        let now = self.now();
        Ok(match part {
            Part::Own { keys, after } => {
                let keys = match keys {
                    Some(keys) => keys,
                    None => self.with_keys(list_keys).await?.into_iter().map(|key| (key.name, key.key)).collect(),
                };
                let own = self.node().list_after(after, PART).await?;
                let key = |name: &Name| keys.get(&name.to_string()).cloned();
                let kept = own.iter().map(|(name, own)| KeptReport::own(name, own, key(name), now)).collect();
                let next = match own.last().filter(|_| own.len() == PART) {
                    Some((last, _)) => Part::Own { keys: Some(keys), after: Some(*last) },
                    None => Part::Followed { after: None },
                };
                (kept, Some(next))
            }
            Part::Followed { after } => {
                let followed = self.node().followed_after(after, PART).await?;
                let kept = followed.iter().map(|(name, followed)| KeptReport::followed(name, followed, now)).collect();
                let next = match followed.last().filter(|_| followed.len() == PART) {
                    Some((last, _)) => Part::Followed { after: Some(*last) },
                    None => Part::Queued,
                };
                (kept, Some(next))
            }
            Part::Queued => {
                let queued = self.node().queued().await?;
                (queued.iter().map(|(name, at)| KeptReport::queued(name, *at)).collect(), None)
            }
        })
    }

    /// Follows names, and says of each what became of it.
    ///
    /// # Errors
    /// When there are too many in the request, or the node has stopped.
    pub async fn follow(&self, request: NamesRequest) -> Result<Vec<FollowReport>, Failure> {
        self.each(request, |name| async move { Ok(self.node().follow(name).await?) }).await
    }

    /// Follows names no more, and says of each what became of it.
    ///
    /// # Errors
    /// When there are too many in the request, or the node has stopped.
    pub async fn unfollow(&self, request: NamesRequest) -> Result<Vec<FollowReport>, Failure> {
        self.each(request, |name| async move { Ok(self.node().unfollow(name).await?) }).await
    }

    /// Sends a kept name now.
    ///
    /// # Errors
    /// When the name is none, is not kept, or no router takes it.
    pub async fn republish(&self, request: NameRequest) -> Result<PublishReport, Failure> {
        let (name, key) = self.with_keys(move |keys| find_key(keys, &request.name)).await?;
        if let Some(key) = key {
            self.node().add_signer(Arc::new(key));
        }
        Ok(PublishReport::from(&self.node().republish(name).await?))
    }

    /// Stores a record that is to be sent when its time has come; from then on its name is kept alive.
    ///
    /// # Errors
    /// When the name, the record or the time is none, the record will have ended by then, or too many wait.
    pub async fn queue(&self, request: QueueRequest) -> Result<KeptReport, Failure> {
        let QueueRequest { name, record, at } = request;
        let at: Timestamp =
            at.parse().map_err(|error| Failure::new(exit::USAGE, "usage", format!("`{at}` is no time: {error}")))?;
        let record = decode(&record)?;
        let (_, name) = self.with_keys(move |keys| Ok(find_bare(keys, name))).await?;
        let name = name?;
        self.node().queue(name, record, at).await?;
        Ok(KeptReport::queued(&name, at))
    }

    /// Every verified change of a name, from its present record on, until the node stops.
    ///
    /// # Errors
    /// When the name is none.
    pub async fn watch(
        &self,
        request: NameRequest,
    ) -> Result<impl Stream<Item = ChangeReport> + Send + Unpin + use<>, Failure> {
        let (name, below) = self.with_keys(move |keys| find_name(keys, &request.name)).await?;
        Ok(self.node().watch(name).map(move |record| ChangeReport::new(&record, &below)))
    }

    /// Lets the node sign with every key that there is at present; says how many those are.
    ///
    /// # Errors
    /// When the key store cannot be read.
    pub async fn add_signers(&self) -> Result<usize, Failure> {
        let signers = self.with_keys(load_signers).await?;
        let count = signers.len();
        for signer in signers {
            self.node().add_signer(signer);
        }
        Ok(count)
    }

    /// Keeps own names alive no more, and signs for them no more. Says of each whether it was an own one.
    ///
    /// # Errors
    /// When there are too many in the request, or the node has stopped.
    pub async fn disown(&self, request: NamesRequest) -> Result<Vec<FollowReport>, Failure> {
        self.each(request, |name| self.disown_name(name)).await
    }

    /// Does something with each of the names, and says what became of it.
    async fn each<F: Future<Output = Result<bool, Failure>>>(
        &self,
        request: NamesRequest,
        act: impl Fn(Name) -> F,
    ) -> Result<Vec<FollowReport>, Failure> {
        let mut reports = Vec::new();
        for (text, name) in self.find_names(request).await? {
            let result = match &name {
                Ok(name) => act(*name).await,
                Err(failure) => Err(failure.clone()),
            };
            reports.push(report(text, &name, result)?);
        }
        Ok(reports)
    }

    pub(crate) async fn disown_name(&self, name: Name) -> Result<bool, Failure> {
        self.node().remove_signer(&name);
        Ok(self.node().disown(name).await?)
    }

    async fn find_names(&self, request: NamesRequest) -> Result<Vec<(String, Result<Name, Failure>)>, Failure> {
        if request.names.len() > MAX_NAMES {
            let message = format!("{} names at once; send at most {MAX_NAMES}", request.names.len());
            return Err(Failure::new(exit::USAGE, "usage", message));
        }
        self.with_keys(move |keys| Ok(request.names.into_iter().map(|text| find_bare(keys, text)).collect())).await
    }
}

/// A name without a path: what is below it is not kept alive.
fn find_bare(keys: &KeyStore, text: String) -> (String, Result<Name, Failure>) {
    let found = match find_name(keys, &text) {
        Ok((name, below)) if below.is_empty() => Ok(name),
        Ok((_, below)) => {
            let message =
                format!("`{text}` is a path; leave {below} out: names are kept alive, not what is below them");
            Err(Failure::new(exit::INVALID, "name_malformed", message))
        }
        Err(failure) => Err(failure),
    };
    (text, found)
}

/// A name, and its key if it was named by that.
fn find_key(keys: &KeyStore, text: &str) -> Result<(Name, Option<SecretKey>), Failure> {
    let (name, found) = find_bare(keys, text.to_owned());
    let found = found?;
    let key = if keys.contains(&name).unwrap_or(false) { Some(load_key(keys, &name)?) } else { None };
    Ok((found, key.filter(|key| key.public_key().to_name() == found)))
}

/// What became of one name. What concerns all of them is a failure.
fn report(text: String, name: &Result<Name, Failure>, result: Result<bool, Failure>) -> Result<FollowReport, Failure> {
    let name = name.as_ref().map_or(text, Name::to_string);
    match result {
        Ok(changed) => Ok(FollowReport { name, changed, error: None }),
        Err(failure) if failure.error.code == "stopped" => Err(failure),
        Err(failure) => Ok(FollowReport { name, changed: false, error: Some(failure.error) }),
    }
}
