//! What an application can ask of the DHTs of a node.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use ipns_core::dht::{self, Health, PeerId, PeerInfo, RpcError, TableEntry, Tally, Usage};
use ipns_core::engine::InquireError;
use ipns_core::routing::{Inquiry, RouterId};

use crate::handle::{Command, Handle, Stopped, Updates};

/// How a node stands in one DHT.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct DhtHealth {
    /// The DHT.
    pub router: RouterId,
    /// Its label.
    pub label: String,
    /// How the node stands.
    pub health: Health,
    /// Since the last answer of any peer, if there was one.
    pub last_answer: Option<Duration>,
    /// How long ago a crawl was last complete, for a node that crawls.
    pub crawled: Option<Duration>,
    /// Whether the node serves others.
    pub serving: bool,
    /// What it keeps for others and has in flight.
    pub usage: Usage,
}

/// What a DHT said to an inquiry, and which.
pub type Told = (RouterId, dht::Event);

/// What DHTs say to an inquiry as it comes; it ends when all have answered, or with an error when it could not be made
/// or the node has stopped. Dropping it gives the inquiry up.
pub struct Answers {
    updates: Updates<Answer>,
    ended: bool,
}

/// What the node tells of an inquiry.
pub(crate) enum Answer {
    Told(Told),
    Ended(Result<(), InquireError>),
}

impl Stream for Answers {
    type Item = Result<Told, InquireError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let answer = ready!(Pin::new(&mut self.updates).poll_next(cx));
        self.ended = !matches!(answer, Some(Answer::Told(_)));
        Poll::Ready(match answer {
            Some(Answer::Told(told)) => Some(Ok(told)),
            Some(Answer::Ended(result)) => result.err().map(Err),
            None => Some(Err(InquireError::Cancelled)),
        })
    }
}

impl Handle {
    /// More peers by which the DHTs join. A node that is alone tries them at once.
    pub fn bootstrap(&self, peers: Vec<PeerInfo>) {
        let _ = self.commands.unbounded_send(Command::Bootstrap(peers));
    }

    /// How this node stands in each of its DHTs: peers, last answer, alone or joined.
    ///
    /// # Errors
    /// When the node has stopped.
    pub async fn health(&self) -> Result<Vec<DhtHealth>, Stopped> {
        self.ask(Command::Health).await
    }

    /// The routing table of a DHT, the farthest entry first.
    ///
    /// # Errors
    /// When the node has stopped.
    pub async fn routing_table(&self, router: RouterId) -> Result<Vec<TableEntry>, Stopped> {
        self.ask(|answer| Command::Table(router, answer)).await
    }

    /// Asks one DHT, or all, something about themselves, and gives everything that they say. A node that has stopped
    /// is `Cancelled`.
    pub fn inquire(&self, of: Option<RouterId>, what: Inquiry) -> Answers {
        Answers { updates: self.updates(|id, updates| Command::Inquire(of, what, id, updates)), ended: false }
    }

    /// Where a peer can be reached, as others in the DHTs tell; its addresses are empty when nobody knows it.
    ///
    /// # Errors
    /// See [`InquireError`]. A node that has stopped is `Cancelled`.
    pub async fn find_peer(&self, peer: PeerId) -> Result<PeerInfo, InquireError> {
        let mut found = PeerInfo { id: peer, addresses: Vec::new() };
        let mut answers = self.inquire(None, Inquiry::FindPeer(peer));
        while let Some((_, event)) = answers.next().await.transpose()? {
            if let dht::Event::FindPeerDone { peer, .. } = event {
                let more = peer.addresses.into_iter().filter(|address| !found.addresses.contains(address));
                found.addresses.extend(more.collect::<Vec<_>>());
            }
        }
        Ok(found)
    }

    /// The peers nearest to what these bytes hash to, of each DHT.
    ///
    /// # Errors
    /// See [`InquireError`]. A node that has stopped is `Cancelled`.
    pub async fn closest(&self, key: impl Into<Bytes>) -> Result<Vec<(RouterId, Vec<PeerInfo>)>, InquireError> {
        let mut found = Vec::new();
        let mut answers = self.inquire(None, Inquiry::Closest(key.into()));
        while let Some((router, event)) = answers.next().await.transpose()? {
            if let dht::Event::ClosestDone { closest, .. } = event {
                found.push((router, closest));
            }
        }
        Ok(found)
    }

    /// Announces, now and every 22 hours, that this node provides what has this multihash. Says what the peers of each
    /// DHT said.
    ///
    /// # Errors
    /// See [`InquireError`]. A node that has stopped is `Cancelled`.
    pub async fn provide(&self, key: impl Into<Bytes>) -> Result<Vec<(RouterId, Tally)>, InquireError> {
        let mut tallies = Vec::new();
        let mut answers = self.inquire(None, Inquiry::Provide(key.into()));
        while let Some((router, event)) = answers.next().await.transpose()? {
            if let dht::Event::PutDone { tally, .. } = event {
                tallies.push((router, tally));
            }
        }
        Ok(tallies)
    }

    /// Announces a multihash no more. Others forget it within 48 hours.
    ///
    /// # Errors
    /// See [`InquireError`]. A node that has stopped is `Cancelled`.
    pub async fn stop_providing(&self, key: impl Into<Bytes>) -> Result<(), InquireError> {
        let mut answers = self.inquire(None, Inquiry::StopProviding(key.into()));
        while answers.next().await.transpose()?.is_some() {}
        Ok(())
    }

    /// At most `want` providers of what has this multihash.
    ///
    /// # Errors
    /// See [`InquireError`]. A node that has stopped is `Cancelled`.
    pub async fn find_providers(&self, key: impl Into<Bytes>, want: usize) -> Result<Vec<PeerInfo>, InquireError> {
        let mut found: Vec<PeerInfo> = Vec::new();
        let mut answers = self.inquire(None, Inquiry::FindProviders { key: key.into(), want });
        while let Some((_, event)) = answers.next().await.transpose()? {
            match event {
                dht::Event::Provider { provider, .. } if found.iter().all(|known| known.id != provider.id) => {
                    found.push(provider);
                }
                _ => {}
            }
        }
        found.truncate(want);
        Ok(found)
    }

    /// How long a peer takes to answer in each DHT, the dial included, or why it does not.
    ///
    /// # Errors
    /// See [`InquireError`]. A node that has stopped is `Cancelled`.
    pub async fn ping(&self, peer: PeerInfo) -> Result<Vec<(RouterId, Result<Duration, RpcError>)>, InquireError> {
        let mut pongs = Vec::new();
        let mut answers = self.inquire(None, Inquiry::Ping(peer));
        while let Some((router, event)) = answers.next().await.transpose()? {
            if let dht::Event::Pong { result, .. } = event {
                pongs.push((router, result));
            }
        }
        Ok(pongs)
    }
}
