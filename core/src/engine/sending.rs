//! A durable record on its way to every router that takes records.

use core::time::Duration;
use std::collections::BTreeMap;

use crate::record::Verified;
use crate::routing::{CallEnd, CallId, Depth, Receipt, RouterId, Transport};

use super::context::Context;
use super::ids::OpId;
use super::request::Policy;

pub(crate) struct Sending {
    op: OpId,
    pub(crate) record: Verified,
    depth: Depth,
    /// Whoever is sent it when what it holds has been read.
    later: Vec<RouterId>,
    /// What has not ended, and whether an attempt of it has failed.
    calls: BTreeMap<CallId, (RouterId, bool)>,
    receipts: BTreeMap<RouterId, Receipt>,
    pub(crate) since: Duration,
}

impl Sending {
    /// Sends a record to every router that takes records.
    pub(crate) fn begin(cx: &mut Context, op: OpId, record: Verified, depth: Depth) -> Self {
        let mut sending = Self::ahead(cx, op, record, depth);
        sending.send_all(cx);
        sending
    }

    /// Sends a record while the routers are still being read: to a DHT at once, whose peers keep what they hold if that is
    /// newer, and to another router, which may take whatever comes last, when it [has answered](Self::send_to).
    pub(crate) fn ahead(cx: &mut Context, op: OpId, record: Verified, depth: Depth) -> Self {
        let later = cx.calls.routers().filter(|(_, router)| router.write).map(|(id, _)| id).collect();
        let (calls, receipts, since) = (BTreeMap::new(), BTreeMap::new(), cx.now.monotonic);
        let mut sending = Self { op, record, depth, later, calls, receipts, since };
        let dhts = cx.calls.routers().filter(|(_, router)| matches!(router.transport, Transport::Dht(_)));
        let dhts: Vec<RouterId> = dhts.map(|(id, _)| id).collect();
        sending.send_to(cx, &dhts);
        sending
    }

    /// Sends it to those of these routers that it is still to be sent to.
    pub(crate) fn send_to(&mut self, cx: &mut Context, routers: &[RouterId]) {
        for router in self.later.extract_if(.., |router| routers.contains(router)) {
            let call = cx.send(self.op, router, &self.record, self.depth);
            self.calls.insert(call, (router, cx.calls.is_suspect(router)));
        }
    }

    /// Sends it to all that it is still to be sent to.
    pub(crate) fn send_all(&mut self, cx: &mut Context) {
        self.send_to(cx, &self.later.clone());
    }

    /// A delivery ended, or goes on after a failed attempt (`None`).
    pub(crate) fn on_call(&mut self, cx: &Context, call: CallId, end: Option<CallEnd>) {
        match end {
            Some(end) if self.calls.remove(&call).is_some() => {
                let receipt = Receipt::new(cx.now.monotonic, end, &cx.calls);
                self.receipts.insert(receipt.router, receipt);
            }
            // It is of a record that this one has replaced.
            Some(_) => {}
            None => {
                self.calls.entry(call).and_modify(|(_, failing)| *failing = true);
            }
        }
    }

    /// Whether every router has answered, or the policy is met and only failing routers are left.
    pub(crate) fn is_over(&self, cx: &Context, policy: Policy) -> bool {
        let only_failing = self.calls.values().all(|(_, failing)| *failing);
        let waited = cx.now.monotonic >= self.since + cx.config.failing_grace;
        self.calls.is_empty() || (self.is_met(policy) && only_failing && waited)
    }

    pub(crate) fn is_met(&self, policy: Policy) -> bool {
        let took = self.receipts.values().filter(|receipt| receipt.is_ok()).count();
        took >= policy.needed(self.receipts.len() + self.calls.len())
    }

    /// What each router said so far.
    pub(crate) fn receipts(&self, cx: &Context) -> Vec<Receipt> {
        let mut receipts = self.receipts.clone();
        for end in self.calls.keys().filter_map(|call| cx.calls.progress(*call)) {
            receipts.insert(end.router, Receipt::new(cx.now.monotonic, end, &cx.calls));
        }
        receipts.into_values().collect()
    }

    /// Nobody waits for it any more: what is under way goes on, or, with `cancel`, is given up.
    pub(crate) fn leave(&self, cx: &mut Context, cancel: bool) {
        for call in self.calls.keys() {
            match cancel {
                true => cx.abandon(*call),
                false => cx.disown(*call),
            }
        }
    }
}
