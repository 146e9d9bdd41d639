//! What a caller asks of the node: to look for something, and to send something.

use bytes::Bytes;
use libp2p_identity::PeerId;

#[cfg(doc)]
use super::config::Config;
use super::crawl::Region;
use super::get::{Get, Until};
use super::key::Key;
use super::message::{PeerInfo, Request, ValueRecord};
use super::node::{Dht, MAX_HELD, Purpose, QUERY_TIMEOUT};
#[cfg(doc)]
use super::output::Event;
use super::output::QueryId;
use super::peers::Lead;
use super::put::Fanout;
use super::query::Query;
use super::sweep::{AreaId, Waiting};
use super::walk::Goal;
use crate::name::Name;
use crate::record::Verified;
use crate::time::Now;

/// The probability with which a newer record may be missed before a put: holders of one would refuse the put.
const MISS_BEFORE_PUT: f64 = 1e-2;

impl Dht {
    /// Looks for the record of a name until `until` is met. Tells [`Event::Found`] and [`Event::GetDone`]; afterwards
    /// it corrects the peers that hold an older record, or should hold one and do not.
    pub fn get(&mut self, now: Now, name: Name, until: Until) -> QueryId {
        let now = self.tick(now);
        self.start_get(now, name, until, true)
    }

    /// Walks to a name before a [`publish`](Self::publish): until a newer record is unlikely to have been missed, and
    /// without correcting anybody. Tells [`Event::Found`] and [`Event::GetDone`], whose `best` is what to be newer than.
    pub fn walk(&mut self, now: Now, name: Name) -> QueryId {
        let now = self.tick(now);
        let query = self.start_get(now, name, Until::Probable(MISS_BEFORE_PUT), false);
        if self.held.len() < MAX_HELD && self.queries.get(&query).is_some_and(|query| !query.is_done()) {
            self.held.insert(name, query);
        }
        query
    }

    fn start_get(&mut self, now: Now, name: Name, until: Until, corrects: bool) -> QueryId {
        let known = self.server.values.verified(now, &name).cloned();
        let get = Get::new(name, until, corrects, known);
        let key = name.routing_key().into();
        self.start_walk(now, Request::GetValue { key }, Goal::Get(Box::new(get)))
    }

    /// Publishes a record: goes on with the last [`walk`](Self::walk) to its name, or begins one, and sends it to the
    /// nearest peers as they are found. If that walk still reads, the put goes on beside it and ends after it. It is a
    /// success at [`Config::acks`] acks; peers that are nearer, or that take the place of dead ones, get it afterwards
    /// too. A server keeps the record itself. Tells [`Event::Receipt`] and [`Event::PutDone`], under the id of the walk
    /// if it goes on with one.
    pub fn publish(&mut self, now: Now, record: &Verified) -> QueryId {
        let now = self.tick(now);
        let held = self.held.remove(record.name());
        self.cover(now, Key::from_digest(record.name().dht_id()));
        let record = self.keep_own(now, record);
        let key = record.key.clone();
        self.spread(now, held, Request::FindNode { key }, Request::PutValue { record })
    }

    /// No put follows to the last [`walk`](Self::walk) to this name. One that still reads goes on to its end.
    pub fn give_up(&mut self, name: &Name) {
        let Some(id) = self.held.remove(name) else { return };
        match self.queries.get_mut(&id) {
            Some(query) if query.holds().is_none() => query.detach(),
            _ => self.cancel(id),
        }
    }

    /// Sends nothing more of a put, of which nothing more is told. A [`walk`](Self::walk) that still reads beside it goes
    /// on to its end.
    pub fn stop_sending(&mut self, query: QueryId) {
        match self.queries.get_mut(&query) {
            Some(query) if query.is_walking() => query.detach(),
            _ => self.cancel(query),
        }
    }

    /// Sends `request` to the peers nearest to what `find` looks for.
    fn spread(&mut self, now: Now, held: Option<QueryId>, find: Request, request: Request) -> QueryId {
        let fanout = Fanout::open(request, self.config.acks);
        let deadline = now.monotonic + QUERY_TIMEOUT;
        if let Some(id) = held {
            self.run(now, id, |query, context, actions| {
                query.attach(deadline, fanout);
                query.advance(context, actions);
            });
            return id;
        }
        let lookup = self.lookup(now, &find);
        self.start_query(now, |id, deadline| Query::spread(id, deadline, lookup, find, fanout))
    }

    /// Sends a record to these peers. It is a success at `need` acks, or at as many as there are peers. A server keeps
    /// the record itself, too. Tells [`Event::Receipt`] and [`Event::PutDone`].
    pub fn put(&mut self, now: Now, record: &Verified, to: Vec<PeerInfo>, need: usize) -> QueryId {
        let now = self.tick(now);
        let record = self.keep_own(now, record);
        let to = to.into_iter().filter(|peer| peer.id != self.local.id).collect();
        let fanout = Fanout::new(Request::PutValue { record }, to, need);
        self.start_query(now, |id, deadline| Query::send(id, deadline, fanout))
    }

    /// Sends a record again that the peers near it had before: to the nearest, by what an exploration of their whole
    /// region has found, so that the next record there needs none. A node that does not know yet how large its network is
    /// [publishes](Self::publish) it. Tells [`Event::Receipt`] and [`Event::PutDone`].
    pub fn resend(&mut self, now: Now, record: &Verified) -> QueryId {
        let now = self.tick(now);
        let Some(bits) = self.bits_of_region(now.monotonic) else { return self.publish(now, record) };
        let key = Key::from_digest(record.name().dht_id());
        let size = self.size.estimate(now.monotonic);
        if let Some(peers) = self.sweep.nearest(now.monotonic, &key, self.config.params().k, size) {
            return self.put(now, record, peers, self.config.acks);
        }
        let query = QueryId(self.next_query);
        self.next_query += 1;
        let record = self.keep_own(now, record);
        if !self.wait_for_region(now, &key, bits, (query, Some(record.clone()))) {
            let (find, put) = (Request::FindNode { key: record.key.clone() }, Request::PutValue { record });
            return self.spread(now, None, find, put);
        }
        self.settle(now);
        query
    }

    /// Returns whether the region of `key` is being explored for it.
    fn wait_for_region(&mut self, now: Now, key: &Key, bits: u32, waiting: Waiting) -> bool {
        let book = &self.peers.book;
        let known = |region: Region| {
            let inside = book.iter().filter(|(key, known)| known.failures == 0 && region.contains(key));
            inside.map(|(key, known)| (*key, known.info.clone())).collect()
        };
        self.sweep.wait(now.monotonic, key, bits, waiting, known).is_ok()
    }

    /// Has a query around whose target peers crowd know of all that are there.
    pub(super) fn explore_around(&mut self, now: Now, query: QueryId, target: Key) {
        tracing::warn!(query = query.0, ?target, "more peers crowd about a key than chance puts there");
        let (k, size) = (self.config.params().k, self.size.estimate(now.monotonic));
        let known = self.sweep.beyond(now.monotonic, &target, k, size);
        let bits = self.bits_of_region(now.monotonic).filter(|_| known.is_none());
        if bits.is_some_and(|bits| self.wait_for_region(now, &target, bits, (query, None))) {
            return self.sweep_on(now);
        }
        self.found_around(now, query, known.unwrap_or_default());
    }

    fn found_around(&mut self, now: Now, query: QueryId, around: Vec<PeerInfo>) {
        let around = around.into_iter().map(Lead::from).collect();
        self.run(now, query, |query, context, actions| query.on_explored(context, around, actions));
    }

    /// Sends what waited for a region, now that it is known.
    pub(super) fn send_waiting(&mut self, now: Now, area: AreaId, records: Vec<Waiting>) {
        let (k, size) = (self.config.params().k, self.size.estimate(now.monotonic));
        for (query, record) in records {
            let Some(record) = record else {
                let target = self.queries.get(&query).and_then(|query| query.target());
                let around = target.map(|target| self.sweep.nearest_in(area, &target, k, size));
                self.found_around(now, query, around.unwrap_or_default());
                continue;
            };
            let key = Key::of(&record.key);
            let to = self.sweep.nearest_in(area, &key, k, size);
            let to = to.into_iter().filter(|peer| peer.id != self.local.id).collect();
            let fanout = Fanout::new(Request::PutValue { record }, to, self.config.acks);
            self.begin_query(now, query, Query::send(query, now.monotonic + QUERY_TIMEOUT, fanout));
        }
    }

    /// The record as it goes over the wire, after a server has kept it.
    fn keep_own(&mut self, now: Now, record: &Verified) -> ValueRecord {
        let key: Bytes = record.name().routing_key().into();
        // Receivers set the time anew, but js-libp2p reads it before it does.
        let record = ValueRecord { key, value: record.as_bytes().clone(), received: Some(now.wall) };
        if self.is_server() {
            let ourselves = self.local.clone();
            self.serve(now, &ourselves, Request::PutValue { record: record.clone() }).ok();
        }
        record
    }

    /// Asks a peer for its nearest peers, which every server answers, to see whether it is there. Tells [`Event::Pong`].
    pub fn ping(&mut self, now: Now, peer: PeerInfo) -> QueryId {
        let now = self.tick(now);
        let query = QueryId(self.next_query);
        self.next_query += 1;
        let key = peer.id.to_bytes().into();
        self.ask(now, peer, Request::FindNode { key }, Purpose::Ping(query));
        query
    }

    /// Looks for a peer's addresses. Tells [`Event::FindPeerDone`].
    pub fn find_peer(&mut self, now: Now, peer: PeerId) -> QueryId {
        let now = self.tick(now);
        let wanted = PeerInfo { id: peer, addresses: self.peers.addresses(&peer) };
        let key = peer.to_bytes().into();
        self.start_walk(now, Request::FindNode { key }, Goal::FindPeer(wanted))
    }

    /// Looks for the peers nearest to what `key` hashes to. Tells [`Event::ClosestDone`].
    pub fn closest(&mut self, now: Now, key: impl Into<Bytes>) -> QueryId {
        let now = self.tick(now);
        self.start_walk(now, Request::FindNode { key: key.into() }, Goal::Closest)
    }

    /// Announces, now and every 22 hours, that we provide what has the multihash `key`. Tells [`Event::Receipt`] and
    /// [`Event::PutDone`], also when it announces again.
    pub fn provide(&mut self, now: Now, key: impl Into<Bytes>) -> QueryId {
        let now = self.tick(now);
        let key = key.into();
        self.own.announced(now.monotonic, key.clone());
        let request = Request::AddProvider { key: key.clone(), providers: vec![self.local.clone()] };
        self.spread(now, None, Request::FindNode { key }, request)
    }

    /// Announces `key` no more. Others forget it within 48 hours.
    pub fn stop_providing(&mut self, key: &Bytes) {
        self.own.stop(key);
    }

    /// Looks for at most `want` providers of a multihash. Tells [`Event::Provider`] and [`Event::ProvidersDone`].
    pub fn find_providers(&mut self, now: Now, key: impl Into<Bytes>, want: usize) -> QueryId {
        let now = self.tick(now);
        let request = Request::GetProviders { key: key.into() };
        self.start_walk(now, request, Goal::find_providers(want))
    }

    /// Ends an operation. Nothing more is told of it; answers to its questions still teach the routing table.
    pub fn cancel(&mut self, query: QueryId) {
        self.sweep.cancel(query);
        if let Some(found) = self.queries.get(&query)
            && !found.is_private()
        {
            found.next_timeout().map(|at| self.deadlines.remove(&(at, query)));
            self.queries.remove(&query);
            self.held.retain(|_, held| *held != query);
        }
    }
}
