//! What goes wrong in a world, when it is told to.

use std::time::Duration;

use super::{NodeId, What, World};
use crate::dice::unit;
use crate::faults::{Liar, Lie};
use crate::witness::{Violation, Witness};

impl World {
    /// Splits the network: a node hears only from those of its own group. Nodes that are not named are in group 0.
    pub fn split(&mut self, groups: impl IntoIterator<Item = (NodeId, u8)>) {
        self.groups = groups.into_iter().map(|(node, group)| (node.0, group)).collect();
    }

    /// Ends a split.
    pub fn heal(&mut self) {
        self.groups.clear();
    }

    pub(super) fn is_cut(&self, a: u32, b: u32) -> bool {
        let group = |n: u32| self.groups.get(&n).copied().unwrap_or(0);
        !self.groups.is_empty() && group(a) != group(b)
    }

    /// Every server that is up is somewhere in its stay.
    pub(super) fn begin_churn(&mut self) {
        let Some(churn) = self.churn else { return };
        for n in 0..self.servers.len() {
            if self.servers.is_up(n) {
                let (session, spent) = (churn.session(self.chance()), unit(self.chance()));
                self.queue.push(session.mul_f64(spent), What::Leave(n));
            }
        }
    }

    pub(super) fn on_leave(&mut self, n: u32) {
        let Some(churn) = self.churn else { return };
        self.note(&[10, n.into()]);
        self.servers.set_up(n, false);
        self.disconnect(n);
        if self.servers.is_replaced(n) {
            self.servers.forget(n);
        }
        let (len, start) = (u64::from(self.servers.len()), self.chance());
        let comes = (0..len).map(|step| (start.wrapping_add(step) % len) as u32).find(|n| !self.servers.is_up(*n));
        if let Some(comes) = comes {
            self.servers.set_up(comes, true);
            let session = churn.session(self.chance());
            self.queue.push(self.now + session, What::Leave(comes));
        }
    }

    /// Has a node with an engine lie, or be honest again; over restarts, too.
    pub fn set_lie(&mut self, node: NodeId, lie: Option<Lie>) {
        self.hosts[node.0].liar = lie.map(Liar::new);
    }

    /// Has a node with an engine take so much longer for every answer.
    pub fn set_slow(&mut self, node: NodeId, by: Duration) {
        self.hosts[node.0].slow = by;
    }

    /// Has every commit of a node's disk take so much longer.
    pub fn set_slow_disk(&mut self, node: NodeId, by: Duration) {
        self.hosts[node.0].disk.slow = by;
    }

    /// Looks from now on for what must never happen. Every name must have one publisher.
    pub fn watch(&mut self) {
        self.witness = Some(Witness::default());
    }

    /// What must never happen and did, since the world is watched.
    pub fn violations(&self) -> &[Violation] {
        self.witness.as_ref().map_or(&[], |witness| &witness.violations)
    }
}
