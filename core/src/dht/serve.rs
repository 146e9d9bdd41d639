//! Serving others: what each request is answered with.

use core::time::Duration;

use bytes::Bytes;
use libp2p_identity::PeerId;

use super::config::Limits;
use super::kept::{Tag, drop_provider, drop_value, keep_provider, keep_value};
use super::key::Key;
use super::message::{PeerInfo, Request, Response, ValueRecord};
use super::peers::Peers;
use super::provide::{PROVIDER_LIFETIME, Providers};
use super::values::{Refused, Values};
use crate::store::Write;
use crate::time::{Now, Timestamp};

/// What is kept for others.
#[derive(Debug)]
pub(crate) struct Server {
    tag: Tag,
    pub(crate) values: Values,
    pub(crate) providers: Providers,
}

impl Server {
    pub(crate) fn new(tag: Tag, local: Key, limits: &Limits) -> Self {
        Self {
            tag,
            values: Values::new(local, limits.values),
            providers: Providers::new(local, limits.providers, limits.providers_per_peer),
        }
    }

    /// Answers a request of `from`; `local` is ourselves. What changes in the store is left in `writes`.
    pub(crate) fn answer(
        &mut self,
        now: Now,
        from: &PeerInfo,
        local: &PeerInfo,
        request: Request,
        peers: &Peers,
        writes: &mut Vec<Write>,
    ) -> Result<Response, Refused> {
        let closer = |key: &[u8]| peers.closer(&Key::of(key), &from.id);
        Ok(match request {
            Request::Ping => Response::Ping,
            Request::FindNode { key } => {
                let mut closer = closer(&key);
                // Someone who looks for a very peer is told of it even when it is not among the nearest.
                if let Ok(wanted) = PeerId::from_bytes(&key)
                    && wanted != from.id
                    && closer.first().is_none_or(|first| first.id != wanted)
                {
                    let addresses = match wanted == local.id {
                        true => local.addresses.clone(),
                        false => peers.addresses(&wanted),
                    };
                    if !addresses.is_empty() {
                        closer.insert(0, PeerInfo { id: wanted, addresses });
                    }
                }
                Response::FindNode { closer }
            }
            Request::GetValue { key } => {
                Response::GetValue { record: self.values.get(now, &key), closer: closer(&key) }
            }
            Request::PutValue { record } => {
                // What we put ourselves is on nobody's account.
                let account = (from.id != local.id).then_some(from.id);
                let taken = self.values.put(now, account, record.clone(), now.wall)?;
                writes.extend(taken.evicted.map(|key| drop_value(self.tag, &key)));
                writes.push(keep_value(self.tag, &record.key, &record.value, taken.received));
                Response::PutValue { record }
            }
            Request::AddProvider { key, providers } => {
                let named = providers.into_iter().find(|provider| provider.id == from.id);
                let mut provider = peers.tidy(named.ok_or(Refused::NotTheProvider)?);
                if provider.addresses.is_empty() {
                    provider = peers.tidy(from.clone());
                }
                let gone = self.providers.add(now.monotonic, Duration::ZERO, key.clone(), provider.clone())?;
                writes.extend(gone.map(|gone| drop_provider(self.tag, &gone.key, &gone.peer)));
                writes.push(keep_provider(self.tag, &key, &provider, now.wall));
                Response::AddProvider
            }
            Request::GetProviders { key } => {
                Response::GetProviders { providers: self.providers.get(now.monotonic, &key), closer: closer(&key) }
            }
        })
    }

    /// Drops what has expired.
    pub(crate) fn expire(&mut self, now: Now, writes: &mut Vec<Write>) {
        writes.extend(self.values.expire(now).iter().map(|key| drop_value(self.tag, key)));
        let gone = self.providers.expire(now.monotonic);
        writes.extend(gone.iter().map(|gone| drop_provider(self.tag, &gone.key, &gone.peer)));
    }

    /// Takes a record that was kept before a restart. Returns the write that forgets it when it is not valid any more.
    pub(crate) fn load_value(&mut self, now: Now, key: Bytes, value: Bytes, received: Timestamp) -> Option<Write> {
        let record = ValueRecord { key: key.clone(), value, received: None };
        match self.values.put(now, None, record, received) {
            // Something newer came before this was read, and is in its place already.
            Ok(_) | Err(Refused::Older) => None,
            Err(_) => Some(drop_value(self.tag, &key)),
        }
    }

    /// Takes a provider record that was kept before a restart. Returns the write that forgets it when it has expired.
    pub(crate) fn load_provider(
        &mut self,
        now: Now,
        key: Bytes,
        provider: PeerInfo,
        received: Timestamp,
    ) -> Option<Write> {
        let age = now.wall.saturating_since(received);
        let drop = drop_provider(self.tag, &key, &provider.id);
        let taken = age < PROVIDER_LIFETIME && self.providers.add(now.monotonic, age, key, provider).is_ok();
        (!taken).then_some(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dht::address::AddressPolicy;
    use crate::dht::kept::tag;
    use crate::dht::message::ValueRecord;
    use crate::dht::testing::{Publisher, START, address, peer};

    struct Bed {
        server: Server,
        peers: Peers,
        writes: Vec<Write>,
    }

    fn info(n: u32) -> PeerInfo {
        PeerInfo { id: peer(n), addresses: vec![address(n)] }
    }

    impl Bed {
        fn new() -> Self {
            let mut peers = Peers::new(peer(0), 20, AddressPolicy::Public, None, false, 1000);
            for n in 1..100 {
                peers.met(Duration::ZERO, &info(n), Duration::ZERO, true);
            }
            Self {
                server: Server::new(tag("/x"), Key::of_peer(&peer(0)), &Limits::default()),
                peers,
                writes: Vec::new(),
            }
        }

        fn ask(&mut self, from: u32, request: Request) -> Result<Response, Refused> {
            self.server.answer(START, &info(from), &info(0), request, &self.peers, &mut self.writes)
        }
    }

    fn id(n: u32) -> Bytes {
        peer(n).to_bytes().into()
    }

    #[test]
    fn find_node_names_the_nearest_and_the_wanted() {
        let mut bed = Bed::new();
        let closer = bed.ask(500, Request::FindNode { key: id(7) }).unwrap().closer().to_vec();
        assert_eq!(closer[0], info(7));
        assert!((20..=21).contains(&closer.len()));
        assert_eq!(bed.ask(500, Request::FindNode { key: id(0) }).unwrap().closer()[0], info(0));
        assert!(bed.ask(7, Request::FindNode { key: id(7) }).unwrap().closer().iter().all(|near| near.id != peer(7)));
        assert_eq!(bed.ask(500, Request::Ping), Ok(Response::Ping));
    }

    #[test]
    fn what_is_put_is_echoed_stored_and_got() {
        let mut bed = Bed::new();
        let publisher = Publisher::new(1);
        let wire = |sequence| ValueRecord {
            key: publisher.name().routing_key().into(),
            value: publisher.record(sequence, 1000).as_bytes().clone(),
            received: None,
        };
        let get = Request::GetValue { key: wire(1).key };
        assert!(
            matches!(bed.ask(1, get.clone()), Ok(Response::GetValue { record: None, closer }) if closer.len() == 20)
        );
        assert_eq!(bed.ask(1, Request::PutValue { record: wire(2) }), Ok(Response::PutValue { record: wire(2) }));
        assert_eq!(bed.ask(1, Request::PutValue { record: wire(1) }), Err(Refused::Older));
        assert_eq!(bed.writes, [keep_value(tag("/x"), &wire(2).key, &wire(2).value, START.wall)]);
        let Ok(Response::GetValue { record: Some(record), .. }) = bed.ask(2, get) else { panic!() };
        assert_eq!((record.value, record.received), (wire(2).value, Some(START.wall)));
    }

    #[test]
    fn a_provider_names_only_itself_and_at_allowed_addresses() {
        let mut bed = Bed::new();
        let key = Bytes::from_static(b"hash");
        let add = |providers| Request::AddProvider { key: key.clone(), providers };
        assert_eq!(bed.ask(1, add(vec![info(2)])), Err(Refused::NotTheProvider));
        let private = PeerInfo { id: peer(3), addresses: vec!["/ip4/10.0.0.1/tcp/1".parse().unwrap()] };
        assert_eq!(bed.ask(3, add(vec![info(2), private])), Ok(Response::AddProvider));
        let Ok(Response::GetProviders { providers, closer }) = bed.ask(1, Request::GetProviders { key }) else {
            panic!()
        };
        assert_eq!(providers, [info(3)]);
        assert_eq!(closer.len(), 20);
    }
}
