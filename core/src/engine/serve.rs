//! Answering others over HTTP: what this node knows or can find, and records that they bring.

use core::cmp::Ordering;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use crate::name::Name;
use crate::record::{Verified, compare};
use crate::routing::http::server::{Asked, PutOutcome, for_head, found, put_response, timed_out, unavailable};
use crate::routing::{CallId, Depth, RouterId};

use super::context::{Context, Wake};
use super::ids::{InboundId, OpId};
use super::io::Output;
use super::lookup::Phase;
use super::request::Enough;

/// How long someone who asked over HTTP is kept waiting.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Serving {
    op: OpId,
    to: InboundId,
    name: Name,
    stage: Stage,
}

enum Stage {
    Get {
        head: bool,
        if_none_match: Option<String>,
        /// Whether the routers are being asked on behalf of this request.
        asked: bool,
    },
    /// A record that someone brought, verified, not yet compared with what is known.
    Put(Verified),
    Storing(Verified),
    Sending {
        calls: BTreeSet<CallId>,
        refusals: Vec<String>,
    },
}

type Response = http::Response<bytes::Bytes>;

impl Serving {
    /// The operation that answers `asked`, unless the answer is clear at once.
    pub(crate) fn new(cx: &mut Context, op: OpId, to: InboundId, asked: Asked) -> Result<Self, Response> {
        let (name, stage) = match asked {
            Asked::Answer(response) => return Err(response),
            Asked::Get { name, head, if_none_match } => (name, Stage::Get { head, if_none_match, asked: false }),
            Asked::Put { name, record } => match cx.checks().verify(record, &name) {
                Ok(record) => (name, Stage::Put(record)),
                Err(error) => return Err(put_response(PutOutcome::Invalid(error))),
            },
        };
        cx.set_timer(op, Some(cx.now.monotonic + PATIENCE));
        Ok(Self { op, to, name, stage })
    }

    /// Whether it needs a store that can be trusted.
    pub(crate) fn writes(&self) -> bool {
        !matches!(self.stage, Stage::Get { .. })
    }

    /// Moves on. Returns `true` when the operation has ended.
    pub(crate) fn step(&mut self, cx: &mut Context, wake: Wake) -> bool {
        let response = match wake {
            Wake::Start => self.start(cx),
            Wake::Lookup => self.look(cx),
            Wake::Stored(result) => self.stored(cx, result),
            Wake::Call(call, end) => match end {
                Some(end) => self.sent(call, end.result.map(|_| ())),
                None => None,
            },
            Wake::Time => Some(self.out_of_time(cx)),
            Wake::Cancel => {
                self.leave(cx);
                return true;
            }
            Wake::Learned(_) | Wake::Signed(..) => None,
        };
        let Some(response) = response else { return false };
        self.leave(cx);
        let bare = matches!(self.stage, Stage::Get { head: true, .. });
        let response = if bare { for_head(response) } else { response };
        cx.output(Output::Respond { to: self.to, response });
        true
    }

    fn leave(&mut self, cx: &mut Context) {
        cx.release(self.op, &self.name);
        cx.unlock(self.op, &self.name);
        if let Stage::Sending { calls, .. } = &self.stage {
            for call in calls {
                cx.disown(*call);
            }
        }
    }

    fn start(&mut self, cx: &mut Context) -> Option<Response> {
        // Two who bring records of one name at once must not overtake each other between comparing and storing.
        let may = matches!(self.stage, Stage::Get { .. }) || cx.lock(self.op, self.name);
        if may {
            cx.look_up(self.op, self.name, None);
        }
        None
    }

    fn look(&mut self, cx: &mut Context) -> Option<Response> {
        if let Phase::Loading { .. } = cx.lookup(&self.name)?.phase() {
            return None;
        }
        match &self.stage {
            Stage::Get { .. } => self.look_for_get(cx),
            Stage::Put(record) => {
                let record = record.clone();
                self.look_for_put(cx, record)
            }
            Stage::Storing(_) | Stage::Sending { .. } => None,
        }
    }

    fn look_for_get(&mut self, cx: &mut Context) -> Option<Response> {
        let (op, name, checks) = (self.op, self.name, cx.checks());
        let Stage::Get { head, if_none_match, asked } = &mut self.stage else { return None };
        let known = cx.lookup(&name)?.answer(&checks).cloned();
        let fresh = known.as_ref().is_some_and(|known| cx.is_fresh(known));
        let own = cx.memory.is_own(&name);
        let heard = *asked && cx.is_enough(op, &name, Enough::Probable);
        // An own name is answered at once and refreshed behind: another device may have published it.
        let ready = !cx.calls.routers().any(|(_, router)| router.read) || heard || (known.is_some() && (fresh || own));
        if !*asked && !fresh {
            *asked = true;
            cx.look_up(op, name, Some(Depth::Usual));
        }
        if !ready {
            return None;
        }
        if known.is_none() && heard && !cx.lookup(&name)?.anyone_answered() {
            return Some(unavailable("no router could be reached"));
        }
        let since = cx.memory.since(&name).unwrap_or(cx.now.wall);
        Some(found(known.as_ref(), *head, if_none_match.as_deref(), since, cx.now.wall))
    }

    fn look_for_put(&mut self, cx: &mut Context, record: Verified) -> Option<Response> {
        let newest = cx.lookup(&self.name)?.newest().cloned();
        let order = newest.as_ref().map_or(Ordering::Greater, |newest| compare(&record, newest));
        // The store may hold a newer one that could not be read just now.
        if order == Ordering::Less || cx.memory.index.outranks(&record) {
            let known = newest.map(|newest| newest.sequence());
            let stored = cx.memory.index.rank(&self.name).map(|(sequence, _)| sequence);
            return Some(put_response(PutOutcome::Older { current: known.max(stored).unwrap_or_default() }));
        }
        cx.release(self.op, &self.name);
        if order == Ordering::Equal {
            // The same again: its bearer wants it alive, so its clock starts anew.
            cx.confirm(&record, BTreeMap::new());
            cx.write_record(&record);
            return Some(put_response(PutOutcome::Unchanged));
        }
        self.stage = Stage::Storing(record.clone());
        cx.commit(self.op, record, None);
        None
    }

    fn stored(&mut self, cx: &mut Context, result: Result<(), crate::store::StoreError>) -> Option<Response> {
        let Stage::Storing(record) = &self.stage else { return None };
        if let Err(error) = result {
            return Some(put_response(PutOutcome::Failed { reason: error.code().into() }));
        }
        let record = record.clone();
        let routers: Vec<RouterId> = cx.calls.routers().filter(|(_, router)| router.write).map(|(id, _)| id).collect();
        if routers.is_empty() {
            return Some(put_response(PutOutcome::Stored));
        }
        let calls = routers.into_iter().map(|router| cx.send(self.op, router, &record, Depth::Usual)).collect();
        self.stage = Stage::Sending { calls, refusals: Vec::new() };
        None
    }

    /// The first router that takes the record is enough; the others go on.
    fn sent(&mut self, call: CallId, result: Result<(), crate::routing::RouteError>) -> Option<Response> {
        let Stage::Sending { calls, refusals } = &mut self.stage else { return None };
        calls.remove(&call);
        match result {
            Ok(()) => return Some(put_response(PutOutcome::Stored)),
            Err(error) => refusals.push(error.to_string()),
        }
        let reason = format!("stored here, but no router took it: {}", refusals.join("; "));
        calls.is_empty().then(|| put_response(PutOutcome::Unrouted { reason }))
    }

    fn out_of_time(&mut self, cx: &mut Context) -> Response {
        match &self.stage {
            Stage::Get { head, if_none_match, .. } => {
                let checks = cx.checks();
                let known = cx.lookup(&self.name).and_then(|lookup| lookup.answer(&checks).cloned());
                match known {
                    Some(record) => found(Some(&record), *head, if_none_match.as_deref(), cx.now.wall, cx.now.wall),
                    None => timed_out(),
                }
            }
            Stage::Put(_) | Stage::Storing(_) => {
                put_response(PutOutcome::Failed { reason: "the store did not answer in time".into() })
            }
            Stage::Sending { .. } => {
                let reason = "stored here, but no router answered in time".into();
                put_response(PutOutcome::Unrouted { reason })
            }
        }
    }
}
