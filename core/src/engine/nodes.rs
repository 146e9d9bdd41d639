//! The DHT side of what operations share: nodes are given their turn, and what they say goes to whom it concerns.

use super::context::{Context, StoreWait};
use super::event::Event;
use super::ids::OpId;
use super::io::{Output, StoreAction};
use crate::dht::Standing;
use crate::routing::{NetEvent, NodeOutput};
use crate::store::{Entries, Table};

/// The tables that nodes load when an engine starts, in this order.
pub(crate) const NODE_TABLES: [Table; 3] = [Table::Values, Table::Providers, Table::Peers];

impl Context {
    pub(crate) fn on_net(&mut self, event: NetEvent) {
        self.nodes.on_net(self.now, event);
    }

    /// Takes entries that nodes stored before a restart.
    pub(crate) fn load_nodes(&mut self, table: Table, entries: Entries) {
        for (key, value) in entries {
            self.nodes.load(self.now, table, &key, &value);
        }
    }

    /// Moves what the nodes have to say to whom it concerns. Returns `false` when there was nothing.
    pub(crate) fn pump_nodes(&mut self) -> bool {
        let mut moved = false;
        while let Some(output) = self.nodes.poll_output() {
            moved = true;
            match output {
                NodeOutput::Net(command) => self.output(Output::Net(command)),
                NodeOutput::Store(write) => self.behind.add(write),
                NodeOutput::Call(call, update) => self.calls.on_node(call, update),
                NodeOutput::Told(op, router, event) => self.emit(Event::Told { op: OpId(op), router, event }),
                NodeOutput::Answered(op) => self.emit(Event::Answered { op: OpId(op), result: Ok(()) }),
                NodeOutput::Health(router, health) => {
                    if health.standing == Standing::Joined {
                        self.recover();
                    }
                    self.emit(Event::Health { router, health });
                }
                NodeOutput::Serving(router, serving) => self.emit(Event::Serving { router, serving }),
            }
        }
        if let Some(batch) = self.behind.next() {
            self.store(StoreWait::Nodes, StoreAction::Commit(batch));
        }
        moved
    }
}
