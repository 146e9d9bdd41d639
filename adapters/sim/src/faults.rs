//! What goes wrong in a world beside its links: nodes that lie or are slow, and networks that fall apart.

use std::collections::BTreeMap;

use bytes::Bytes;
use ipns_core::dht::{PeerInfo, Request, Response, ValueRecord};

use crate::dice::mix;
use crate::identity;

/// How a node deceives those who ask it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// It names peers that are not there.
    WrongPeers,
    /// It returns the first record that it ever saw of a key, however old.
    Older,
    /// It returns records with a changed byte.
    Invalid,
    /// It takes requests and does not answer.
    Silent,
}

impl Lie {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::WrongPeers, Self::Older, Self::Invalid, Self::Silent];
}

/// Peers that are not there have numbers from here on.
const NOBODY: u32 = 1 << 31;

/// A liar, and what it remembers for its lies.
#[derive(Debug)]
pub(crate) struct Liar {
    lie: Lie,
    first: BTreeMap<Bytes, ValueRecord>,
}

impl Liar {
    pub(crate) fn new(lie: Lie) -> Self {
        Self { lie, first: BTreeMap::new() }
    }

    /// Notes what it is asked.
    pub(crate) fn hear(&mut self, request: &Request) {
        if let Request::PutValue { record } = request {
            self.first.entry(record.key.clone()).or_insert_with(|| record.clone());
        }
    }

    /// What it says instead of the truth; `None` for nothing at all.
    pub(crate) fn twist(&self, key: &[u8], chance: u64, response: Response) -> Option<Response> {
        let made_up = || -> Vec<PeerInfo> {
            let numbers = (0..20).map(|n| NOBODY | (mix(&[chance, n]) as u32 >> 1));
            numbers.map(|n| PeerInfo { id: identity::peer(n), addresses: vec![identity::address(n)] }).collect()
        };
        Some(match (self.lie, response) {
            (Lie::Silent, _) => return None,
            (Lie::WrongPeers, Response::FindNode { .. }) => Response::FindNode { closer: made_up() },
            (Lie::WrongPeers, Response::GetValue { record, .. }) => Response::GetValue { record, closer: made_up() },
            (Lie::Older, Response::GetValue { record, closer }) => {
                Response::GetValue { record: self.first.get(key).cloned().or(record), closer }
            }
            (Lie::Invalid, Response::GetValue { record: Some(mut record), closer }) => {
                let mut bytes = record.value.to_vec();
                let at = chance as usize % bytes.len().max(1);
                bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= 1 << (chance >> 61));
                record.value = bytes.into();
                Response::GetValue { record: Some(record), closer }
            }
            (_, response) => response,
        })
    }
}
