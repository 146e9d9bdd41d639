//! What a test does in a world, and how it waits for what comes of it.

use core::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use rand_chacha::rand_core::RngCore;

use crate::name::Name;
use crate::routing::Inquiry;

use super::super::event::{Event, Publication, PublishError, Resolution, ResolveError};
use super::super::ids::{InboundId, OpId};
use super::super::io::Input;
use super::super::request::{Publish, Put, Resolve};
use super::config;
use super::script::Script;
use super::world::World;

impl World {
    /// A node with one server, `a`.
    pub(super) fn one(script: Script) -> (Self, usize) {
        let mut world = Self::new(1);
        world.host("a", script);
        let node = world.node(config(&["a"]));
        (world, node)
    }

    /// A node with the servers `a` and `b`, both good.
    pub(super) fn two() -> (Self, usize) {
        let mut world = Self::new(2);
        world.host("a", Script::new());
        world.host("b", Script::new());
        let node = world.node(config(&["a", "b"]));
        (world, node)
    }

    pub(super) fn start_publish(&mut self, node: usize, what: Publish) -> OpId {
        let (now, limit) = (self.at(node), self.nodes[node].config.publish_timeout);
        let op = self.nodes[node].engine.publish(now, what);
        self.begun(node, op, limit)
    }

    pub(super) fn start_put(&mut self, node: usize, what: Put) -> OpId {
        let (now, limit) = (self.at(node), self.nodes[node].config.publish_timeout);
        let op = self.nodes[node].engine.put(now, what);
        self.begun(node, op, limit)
    }

    pub(super) fn start_republish(&mut self, node: usize, name: Name) -> OpId {
        let (now, limit) = (self.at(node), self.nodes[node].config.publish_timeout);
        let op = self.nodes[node].engine.republish(now, name);
        self.begun(node, op, limit)
    }

    pub(super) fn start_resolve(&mut self, node: usize, name: Name, how: Resolve) -> OpId {
        let now = self.at(node);
        let limit = how.timeout.unwrap_or(self.nodes[node].config.resolve_timeout);
        let op = self.nodes[node].engine.resolve(now, name, how);
        self.begun(node, op, limit)
    }

    fn begun(&mut self, node: usize, op: OpId, limit: Duration) -> OpId {
        self.nodes[node].open.insert(op, self.now + limit);
        self.drain(node);
        op
    }

    pub(super) fn watch(&mut self, node: usize, name: Name) -> OpId {
        let now = self.at(node);
        let op = self.nodes[node].engine.watch(now, name);
        self.drain(node);
        op
    }

    pub(super) fn inquire(&mut self, node: usize, what: &Inquiry) -> OpId {
        let now = self.at(node);
        let op = self.nodes[node].engine.inquire(now, None, what);
        self.drain(node);
        op
    }

    pub(super) fn cancel(&mut self, node: usize, op: OpId) {
        let now = self.at(node);
        self.nodes[node].engine.cancel(now, op);
        self.drain(node);
    }

    pub(super) fn disown(&mut self, node: usize, name: &Name) -> bool {
        let now = self.at(node);
        let known = self.nodes[node].engine.disown(now, name);
        self.drain(node);
        known
    }

    pub(super) fn publish(&mut self, node: usize, what: Publish) -> Result<Publication, PublishError> {
        let op = self.start_publish(node, what);
        self.published(node, op)
    }

    pub(super) fn put(&mut self, node: usize, what: Put) -> Result<Publication, PublishError> {
        let op = self.start_put(node, what);
        self.published(node, op)
    }

    pub(super) fn resolve(&mut self, node: usize, name: Name, how: Resolve) -> Result<Resolution, ResolveError> {
        let op = self.start_resolve(node, name, how);
        self.resolved(node, op)
    }

    pub(super) fn published(&mut self, node: usize, op: OpId) -> Result<Publication, PublishError> {
        self.finish(node, op);
        let end = |event: &Event| match event {
            Event::Published { op: ended, result } if *ended == op => Some(result.clone()),
            _ => None,
        };
        self.nodes[node].life_events().find_map(end).expect("a publish ends with its event")
    }

    pub(super) fn resolved(&mut self, node: usize, op: OpId) -> Result<Resolution, ResolveError> {
        self.finish(node, op);
        let end = |event: &Event| match event {
            Event::Resolved { op: ended, result } if *ended == op => Some(result.clone()),
            _ => None,
        };
        self.nodes[node].life_events().find_map(end).expect("a resolve ends with its event")
    }

    pub(super) fn finish(&mut self, node: usize, op: OpId) {
        while self.is_open(node, op) {
            self.step(Duration::MAX);
        }
    }

    pub(super) fn is_open(&self, node: usize, op: OpId) -> bool {
        self.nodes[node].open.contains_key(&op)
    }

    /// What streaming resolves were told before their ends.
    pub(super) fn improvements(&self, node: usize) -> Vec<Resolution> {
        let improved = |event: &Event| match event {
            Event::Improved { resolution, .. } => Some(resolution.clone()),
            _ => None,
        };
        self.nodes[node].life_events().filter_map(improved).collect()
    }

    /// The records that a watch told of, by sequence.
    pub(super) fn changes(&self, node: usize, op: OpId) -> Vec<u64> {
        let change = |event: &Event| match event {
            Event::Changed { op: watch, record } if *watch == op => Some(record.sequence()),
            _ => None,
        };
        self.nodes[node].life_events().filter_map(change).collect()
    }

    /// Someone asks a node over HTTP; the response is in [`World::responses`].
    pub(super) fn ask(&mut self, node: usize, request: Request<Bytes>) -> InboundId {
        let id = self.inbound_id();
        self.inbound.insert(id, (node, None));
        self.input(node, Input::Request { id, request });
        id
    }

    /// Waits for the response to [`World::ask`].
    pub(super) fn response(&mut self, id: InboundId) -> Response<Bytes> {
        while !self.responses.contains_key(&id) {
            self.step(Duration::MAX);
        }
        self.responses[&id].clone()
    }

    pub(super) fn gone(&mut self, node: usize, id: InboundId) {
        self.inbound.remove(&id);
        self.input(node, Input::RequestGone { id });
    }

    /// Lets time pass.
    pub(super) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while self.step(until) {}
    }

    /// Lets time pass until nothing is under way any more; watches must have been cancelled.
    pub(super) fn settle(&mut self) {
        while !self.queue.is_empty() || self.nodes.iter().any(|node| node.engine.next_timeout().is_some()) {
            self.step(Duration::MAX);
        }
    }

    pub(super) fn chance(&mut self, percent: u32) -> bool {
        self.below(100) < percent
    }

    pub(super) fn below(&mut self, limit: u32) -> u32 {
        self.random.next_u32() % limit.max(1)
    }
}
