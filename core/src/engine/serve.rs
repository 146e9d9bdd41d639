//! Answering others over HTTP: what this node knows or can find, and records that they bring.

use core::cmp::Ordering;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use crate::name::Name;
use crate::record::{Verified, compare};
use crate::routing::http::server::{Asked, PutOutcome, found, put_response, timed_out, unavailable};
use crate::routing::{CallId, RouterId};

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
    pub(crate) fn new(cx: &Context, op: OpId, to: InboundId, asked: Asked) -> Result<Self, Response> {
        let (name, stage) = match asked {
            Asked::Answer(response) => return Err(response),
            Asked::Get { name, head, if_none_match } => (name, Stage::Get { head, if_none_match }),
            Asked::Put { name, record } => match cx.checks().verify(record, &name) {
                Ok(record) => (name, Stage::Put(record)),
                Err(error) => return Err(put_response(PutOutcome::Invalid(error))),
            },
        };
        Ok(Self { op, to, name, stage })
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
        cx.set_timer(self.op, Some(cx.now.monotonic + PATIENCE));
        // Two who bring records of one name at once must not overtake each other between comparing and storing.
        let may = matches!(self.stage, Stage::Get { .. }) || cx.lock(self.op, self.name);
        if may {
            cx.look_up(self.op, self.name, false);
        }
        None
    }

    fn look(&mut self, cx: &mut Context) -> Option<Response> {
        let checks = cx.checks();
        let lookup = cx.lookup(&self.name)?;
        let known = lookup.answer(&checks).cloned();
        let (phase, fresh, since) = (lookup.phase(), lookup.fresh, lookup.since);
        if let (Phase::Loading { .. }, _) | (_, Stage::Storing(_) | Stage::Sending { .. }) = (phase, &self.stage) {
            return None;
        }
        match &self.stage {
            Stage::Get { head, if_none_match } => {
                let reads = cx.calls.routers().any(|(_, router)| router.read);
                let own = cx.own.contains_key(&self.name);
                let enough = fresh || own || !reads || cx.is_enough(&self.name, Enough::Probable);
                if known.is_none() && reads && phase == Phase::Done && !lookup.anyone_answered() {
                    return Some(unavailable("no router could be reached"));
                }
                if (known.is_some() && enough) || phase == Phase::Done || !reads {
                    let wall = cx.now.wall;
                    return Some(found(known.as_ref(), *head, if_none_match.as_deref(), since.unwrap_or(wall), wall));
                }
                if phase == Phase::Known {
                    cx.look_up(self.op, self.name, true);
                }
                None
            }
            Stage::Put(record) => {
                let newest = lookup.newest();
                match newest.map_or(Ordering::Greater, |newest| compare(record, newest)) {
                    Ordering::Less => {
                        let current = newest.map_or(0, |newest| newest.sequence());
                        Some(put_response(PutOutcome::Older { current }))
                    }
                    // The same again: its bearer wants it alive, so its clock starts anew.
                    order => {
                        let record = record.clone();
                        let writes = cx.index.keep(&record, cx.now.wall, cx.config.max_records);
                        cx.release(self.op, &self.name);
                        if order == Ordering::Equal {
                            cx.learn(record, BTreeMap::new(), false);
                            cx.write_behind(writes);
                            return Some(put_response(PutOutcome::Unchanged));
                        }
                        self.stage = Stage::Storing(record);
                        cx.commit(self.op, writes);
                        None
                    }
                }
            }
            Stage::Storing(_) | Stage::Sending { .. } => None,
        }
    }

    fn stored(&mut self, cx: &mut Context, result: Result<(), crate::store::StoreError>) -> Option<Response> {
        let Stage::Storing(record) = &self.stage else { return None };
        if let Err(error) = result {
            return Some(put_response(PutOutcome::Failed { reason: error.code().into() }));
        }
        let record = record.clone();
        cx.learn(record.clone(), BTreeMap::new(), false);
        cx.announce(&record);
        cx.unlock(self.op, &self.name);
        let routers: Vec<RouterId> = cx.calls.routers().filter(|(_, router)| router.write).map(|(id, _)| id).collect();
        if routers.is_empty() {
            return Some(put_response(PutOutcome::Stored));
        }
        let calls = routers.into_iter().map(|router| cx.send(self.op, router, &record)).collect();
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
            Stage::Get { head, if_none_match } => {
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
