//! What people ask of the DHTs of a node, for those who look inside.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt;
use ipld_core::cid::Cid;
use ipns_core::Name;
use ipns_core::dht::{Event, Multiaddr, PeerId, PeerInfo, Standing, TableEntry};
use ipns_core::routing::{Inquiry, RouterId};
use ipns_driver::DhtHealth;
use serde::{Deserialize, Serialize};

use crate::api::Api;
use crate::failure::{Failure, exit};

/// A question to all DHTs of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum DhtRequest {
    /// Where a peer can be reached.
    FindPeer {
        /// Its id.
        peer: String,
    },
    /// The peers nearest to a key.
    Closest {
        /// A CID, a peer id, or a name with `/ipns/` before it.
        key: String,
    },
    /// Announce that this node provides something, now and every 22 hours while it runs.
    Provide {
        /// What.
        cid: String,
    },
    /// Who provides something.
    FindProviders {
        /// What.
        cid: String,
        /// How many are enough.
        want: usize,
    },
    /// Whether a peer answers.
    Ping {
        /// Its id, or a multiaddr that ends in it.
        peer: String,
    },
    /// The routing tables.
    Table,
}

/// What one DHT says to a [`DhtRequest`]: the fields that the question is about.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DhtReport {
    /// The DHT's label.
    pub dht: String,
    /// The peers that it names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peers: Option<Vec<PeerReport>>,
    /// Peers that took an announcement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acks: Option<u32>,
    /// Peers that were asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<u32>,
    /// How long a peer took to answer, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ms: Option<f64>,
    /// Why a peer did not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How the node stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthReport>,
}

/// A peer, and, out of a routing table, what is known of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PeerReport {
    /// Its id.
    pub id: String,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// The bits that its key shares with the node's: its bucket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<u32>,
    /// Failures since it last answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failures: Option<u32>,
    /// Its smoothed round trip in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<f64>,
}

/// How a node stands in a DHT.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HealthReport {
    /// `alone`, `joining` or `joined`.
    pub standing: String,
    /// Whether it serves others.
    pub serving: bool,
    /// Peers in the routing table.
    pub table: usize,
    /// Those of them that are not suspected to be dead.
    pub live: usize,
    /// Servers remembered.
    pub known: usize,
    /// How many servers the DHT has, as far as lookups or a crawl tell.
    pub size: Option<u64>,
    /// Since all servers were last known, in seconds, for a node that crawls.
    pub crawled_s: Option<u64>,
    /// Since the last answer of any peer, in seconds.
    pub last_answer_s: Option<u64>,
    /// Records kept for others.
    pub records: usize,
    /// Provider records kept for others.
    pub providers: usize,
}

impl From<&DhtHealth> for HealthReport {
    fn from(dht: &DhtHealth) -> Self {
        Self {
            standing: match dht.health.standing {
                Standing::Alone => "alone",
                Standing::Joining => "joining",
                Standing::Joined => "joined",
            }
            .into(),
            serving: dht.serving,
            table: dht.health.table,
            live: dht.health.live,
            known: dht.health.known,
            size: dht.health.size.map(|size| size as u64),
            crawled_s: dht.crawled.map(|since| since.as_secs()),
            last_answer_s: dht.last_answer.map(|since| since.as_secs()),
            records: dht.usage.values,
            providers: dht.usage.providers,
        }
    }
}

impl From<PeerInfo> for PeerReport {
    fn from(peer: PeerInfo) -> Self {
        let addresses = peer.addresses.iter().map(ToString::to_string).collect();
        Self { id: peer.id.to_string(), addresses, ..Self::default() }
    }
}

impl From<TableEntry> for PeerReport {
    fn from(entry: TableEntry) -> Self {
        Self {
            prefix: Some(entry.prefix),
            failures: Some(entry.failures),
            rtt_ms: entry.round_trip.map(millis),
            ..entry.peer.into()
        }
    }
}

impl Api {
    /// Asks all DHTs of the node: one report from each.
    ///
    /// # Errors
    /// When the question is wrong, or the node has no DHT.
    pub async fn dht(&self, request: &DhtRequest) -> Result<Vec<DhtReport>, Failure> {
        let all = self.node().health().await?;
        if all.is_empty() {
            let message = "this node has no DHT; give it one with --router dht";
            return Err(Failure::new(exit::USAGE, "no_dht", message));
        }
        let mut reports: BTreeMap<RouterId, DhtReport> = BTreeMap::new();
        for dht in &all {
            let report = DhtReport { dht: dht.label.clone(), ..DhtReport::default() };
            reports.insert(dht.router, report);
        }
        match inquiry(request)? {
            Ask::Inquire(inquiry) => {
                let mut answers = self.node().inquire(None, inquiry);
                while let Some((router, event)) = answers.next().await.transpose()? {
                    if let Some(report) = reports.get_mut(&router) {
                        take(report, event);
                    }
                }
            }
            Ask::Table => {
                for (router, report) in &mut reports {
                    let table = self.node().routing_table(*router).await?;
                    report.peers = Some(table.into_iter().map(PeerReport::from).collect());
                }
            }
        }
        if let DhtRequest::Table = request {
            for dht in &all {
                if let Some(report) = reports.get_mut(&dht.router) {
                    report.health = Some(dht.into());
                }
            }
        }
        Ok(reports.into_values().collect())
    }
}

enum Ask {
    Inquire(Inquiry),
    Table,
}

fn inquiry(request: &DhtRequest) -> Result<Ask, Failure> {
    Ok(Ask::Inquire(match request {
        DhtRequest::FindPeer { peer } => Inquiry::FindPeer(parse_peer(peer)?.id),
        DhtRequest::Closest { key } => Inquiry::Closest(parse_key(key)?.into()),
        DhtRequest::Provide { cid } => Inquiry::Provide(parse_cid(cid)?.hash().to_bytes().into()),
        DhtRequest::FindProviders { cid, want } => {
            Inquiry::FindProviders { key: parse_cid(cid)?.hash().to_bytes().into(), want: *want }
        }
        DhtRequest::Ping { peer } => Inquiry::Ping(parse_peer(peer)?),
        DhtRequest::Table => return Ok(Ask::Table),
    }))
}

fn take(report: &mut DhtReport, event: Event) {
    match event {
        Event::FindPeerDone { peer, .. } => report.peers = Some(vec![peer.into()]),
        Event::ClosestDone { closest, .. } => report.peers = Some(closest.into_iter().map(Into::into).collect()),
        Event::Provider { provider, .. } => report.peers.get_or_insert_default().push(provider.into()),
        Event::ProvidersDone { .. } => {
            report.peers.get_or_insert_default();
        }
        Event::PutDone { tally, .. } => {
            report.acks = Some(tally.acked as u32);
            report.asked = Some(tally.asked() as u32);
        }
        Event::Pong { result, .. } => match result {
            Ok(took) => report.ms = Some(millis(took)),
            Err(error) => report.error = Some(error.to_string()),
        },
        _ => {}
    }
}

/// A peer id in any spelling, or a multiaddr that ends in one.
///
/// # Errors
/// When it is neither.
pub fn parse_peer(text: &str) -> Result<PeerInfo, Failure> {
    let id = text.parse::<PeerId>().ok().or_else(|| Some(text.parse::<Name>().ok()?.to_peer_id()));
    let address = || text.parse::<Multiaddr>().ok().and_then(|address| PeerInfo::from_multiaddr(&address));
    id.map(|id| PeerInfo { id, addresses: Vec::new() }).or_else(address).ok_or_else(|| {
        let message = format!("`{text}` is neither a peer id nor a multiaddr that ends in /p2p/ and one");
        Failure::new(exit::USAGE, "peer_malformed", message)
    })
}

fn parse_cid(text: &str) -> Result<Cid, Failure> {
    let bare = text.strip_prefix("/ipfs/").or_else(|| text.strip_prefix("ipfs://")).unwrap_or(text);
    bare.parse().map_err(|error| Failure::new(exit::USAGE, "cid_malformed", format!("`{text}` is no CID: {error}")))
}

/// What the nearest peers are looked for by.
fn parse_key(text: &str) -> Result<Vec<u8>, Failure> {
    if text.starts_with("/ipns/") || text.starts_with("ipns://") {
        return Ok(text.parse::<Name>()?.routing_key());
    }
    match parse_peer(text) {
        Ok(peer) => Ok(peer.id.to_bytes()),
        Err(_) => Ok(parse_cid(text)?.hash().to_bytes()),
    }
}

fn millis(took: Duration) -> f64 {
    (took.as_secs_f64() * 10_000.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "12D3KooWLQzUv2FHWGVPXTXSZpdHs7oHbXub2G5WC8Tx4NQhyd2d";

    #[test]
    fn peers_and_keys_in_every_spelling() {
        let id: PeerId = PEER.parse().unwrap();
        let name = "k51qzi5uqu5dk3v4rmjber23h16xnr23bsggmqqil9z2gduiis5se8dht36dam";
        for text in [PEER, name, &format!("/p2p/{PEER}")] {
            assert_eq!(parse_peer(text).unwrap(), PeerInfo { id, addresses: Vec::new() }, "{text}");
        }
        let full = parse_peer(&format!("/ip4/127.0.0.1/tcp/1/p2p/{PEER}")).unwrap();
        assert_eq!(full.addresses[0].to_string(), "/ip4/127.0.0.1/tcp/1");
        assert_eq!(parse_peer("/ip4/127.0.0.1/tcp/1").unwrap_err().error.code, "peer_malformed");
        assert_eq!(parse_key(name).unwrap(), id.to_bytes());
        assert_eq!(parse_key(&format!("/ipns/{name}")).unwrap(), [b"/ipns/", &id.to_bytes()[..]].concat());
        let cid = "bafkreidfdrlkeq4m4xnxuyx6iae76fdm4wgl5d4xzsb77ixhyqwumhz244";
        assert_eq!(parse_key(cid).unwrap(), parse_key(&format!("/ipfs/{cid}")).unwrap());
        assert_eq!(parse_key("what").unwrap_err().exit, exit::USAGE);
    }

    #[test]
    fn requests_are_one_object() {
        let request: DhtRequest = serde_json::from_str(r#"{"ask":"find-providers","cid":"x","want":3}"#).unwrap();
        assert_eq!(request, DhtRequest::FindProviders { cid: "x".into(), want: 3 });
        assert_eq!(serde_json::to_string(&DhtRequest::Table).unwrap(), r#"{"ask":"table"}"#);
    }
}
