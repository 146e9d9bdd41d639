//! Where walks to names have ended: a put that follows soon needs no walk of its own.

use core::time::Duration;
use std::collections::BTreeMap;

use super::message::PeerInfo;
use crate::name::Name;

/// How long the end of a walk is good for.
const LIFETIME: Duration = Duration::from_secs(60);
/// The most ends that are remembered.
const MAX_WALKS: usize = 256;

#[derive(Debug, Default)]
pub(crate) struct Walks {
    ends: BTreeMap<Name, (Duration, Vec<PeerInfo>)>,
}

impl Walks {
    /// A walk to the name has ended at these peers, the nearest first.
    pub(crate) fn note(&mut self, now: Duration, name: Name, closest: Vec<PeerInfo>) {
        if closest.is_empty() {
            return;
        }
        if self.ends.len() >= MAX_WALKS {
            self.ends.retain(|_, (at, _)| now.saturating_sub(*at) < LIFETIME);
        }
        if self.ends.len() < MAX_WALKS {
            self.ends.insert(name, (now, closest));
        }
    }

    /// Where the last walk to the name has ended, if that was lately. It is told once.
    pub(crate) fn take(&mut self, now: Duration, name: &Name) -> Option<Vec<PeerInfo>> {
        let (at, closest) = self.ends.remove(name)?;
        (now.saturating_sub(at) < LIFETIME).then_some(closest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dht::testing::{Publisher, peer};

    #[test]
    fn an_end_is_told_once_and_soon() {
        let (name, second) = (Publisher::new(1).name(), Duration::from_secs(1));
        let closest = vec![PeerInfo { id: peer(1), addresses: Vec::new() }];
        let mut walks = Walks::default();
        walks.note(second, name, closest.clone());
        assert_eq!(walks.take(60 * second, &name), Some(closest.clone()));
        assert_eq!(walks.take(60 * second, &name), None);
        walks.note(second, name, closest);
        assert_eq!(walks.take(61 * second, &name), None);
    }
}
