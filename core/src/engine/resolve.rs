//! Resolving: a chain of names, each looked up, followed as soon as there is something to follow.
//!
//! A later name of the chain is looked up with the best answer so far of the one before; when that improves to
//! another value, the rest of the chain begins anew. So the first answer is early and the last one is right.

use core::time::Duration;

use crate::name::Name;
use crate::record::Verified;
use crate::routing::Receipt;
use crate::value::{Target, Value};

use super::context::{Context, Wake};
use super::event::{Event, Freshness, Resolution, ResolveError};
use super::ids::OpId;
use super::lookup::{Phase, is_newer};
use super::request::{Enough, Resolve};

pub(crate) struct Resolving {
    op: OpId,
    how: Resolve,
    hops: Vec<Hop>,
    started: Duration,
    /// The last answer that a streaming caller was told.
    told: Option<(Value, Verified)>,
}

/// One name of the chain.
struct Hop {
    name: Name,
    /// The path to carry over to this name's value.
    below: String,
    answer: Option<Answer>,
    /// Whether the routers are asked on behalf of this resolve.
    asked: bool,
    /// Whether enough was heard of it.
    done: bool,
    failure: Option<ResolveError>,
    receipts: Vec<Receipt>,
}

#[derive(Clone)]
struct Answer {
    record: Verified,
    value: Value,
    sources: Vec<String>,
    freshness: Freshness,
    cached: bool,
}

type Outcome = Result<Resolution, ResolveError>;

impl Hop {
    fn new(name: Name, below: String) -> Self {
        Self { name, below, answer: None, asked: false, done: false, failure: None, receipts: Vec::new() }
    }

    /// Takes a record as the answer, or as the failure if it points nowhere.
    fn take(&mut self, record: &Verified, sources: Vec<String>, freshness: Freshness, cached: bool) {
        (self.answer, self.failure) = match record.value() {
            Ok(value) => (Some(Answer { record: record.clone(), value, sources, freshness, cached }), None),
            Err(error) => (None, Some(ResolveError::Value { name: self.name, error })),
        };
    }

    fn value(&self) -> Option<&Value> {
        self.answer.as_ref().map(|answer| &answer.value)
    }
}

const HERE: &str = "store";

impl Resolving {
    pub(crate) fn new(cx: &mut Context, op: OpId, name: Name, how: Resolve) -> Self {
        let hops = vec![Hop::new(name, how.below.clone())];
        let started = cx.now.monotonic;
        cx.set_timer(op, Some(started + how.timeout.unwrap_or(cx.config.resolve_timeout)));
        Self { op, how, hops, started, told: None }
    }

    /// Moves on. Returns `true` when the operation has ended.
    pub(crate) fn step(&mut self, cx: &mut Context, wake: Wake) -> bool {
        let outcome = match wake {
            Wake::Start => {
                self.open(cx, 0);
                self.advance(cx)
            }
            Wake::Lookup => self.advance(cx),
            Wake::Learned(record) => {
                self.learned(cx, &record);
                self.advance(cx)
            }
            Wake::Time => Some(self.out_of_time(cx)),
            Wake::Cancel => Some(Err(ResolveError::Cancelled)),
            Wake::Signed(..) | Wake::Stored(_) | Wake::Call(..) => None,
        };
        let Some(result) = outcome else { return false };
        self.cut(cx, 0);
        cx.emit(Event::Resolved { op: self.op, result });
        true
    }

    /// Begins to look up a name of the chain. What this node knows comes first; routers are asked if that is not
    /// enough, which [`look`](Self::look) decides when it is known.
    fn open(&mut self, cx: &mut Context, index: usize) {
        let name = self.hops[index].name;
        cx.watch(self.op, name);
        cx.look_up(self.op, name, None);
    }

    /// Something else in this node brought a newer record: what is settled here must not be older.
    fn learned(&mut self, cx: &mut Context, record: &Verified) {
        let Some(index) = self.hops.iter().position(|hop| hop.name == *record.name() && hop.done) else { return };
        let hop = &mut self.hops[index];
        if let Some(answer) = hop.answer.as_ref().filter(|answer| is_newer(record, Some(&answer.record))) {
            let freshness = answer.freshness;
            hop.take(record, vec![HERE.into()], freshness, true);
            self.cut(cx, index + 1);
        }
    }

    fn advance(&mut self, cx: &mut Context) -> Option<Outcome> {
        let mut index = 0;
        while index < self.hops.len() {
            let before = self.hops[index].value().cloned();
            if self.hops[index].done {
                self.expire(cx, index);
            } else {
                self.look(cx, index);
            }
            if before.as_ref() != self.hops[index].value() {
                self.cut(cx, index + 1);
            }
            if self.hops[index].answer.is_none() {
                break;
            }
            if let Err(error) = self.follow(cx, index) {
                // An earlier name may still improve, and lead elsewhere.
                return self.hops[..=index].iter().all(|hop| hop.done).then_some(Err(error));
            }
            index += 1;
        }
        self.judge(cx)
    }

    /// Reads what the lookup of one name says at present.
    fn look(&mut self, cx: &mut Context, index: usize) {
        let hop = &mut self.hops[index];
        let (op, name, checks, now) = (self.op, hop.name, cx.checks(), cx.now.monotonic);
        let Some(lookup) = cx.lookup(&name) else { return };
        if let Phase::Loading { .. } = lookup.phase() {
            return;
        }
        let known = lookup.answer(&checks).cloned();
        let fresh = known.as_ref().is_some_and(|known| cx.is_fresh(known));
        let usable = known.is_some() && self.how.cache && (fresh || self.how.enough == Enough::First);
        if !(self.how.offline || hop.asked || (usable && fresh)) {
            // What is stale is served at once to those who want the first, and refreshed behind their back.
            hop.asked = true;
            cx.look_up(op, name, Some(self.how.enough.depth()));
        }
        let heard = hop.asked && cx.is_enough(op, &name, self.how.enough);
        hop.done = self.how.offline || usable || heard;
        let Some(lookup) = cx.lookup(&name) else { return };
        hop.receipts = lookup.receipts(now, &cx.calls);
        let cached = lookup.found().is_none();
        match &known {
            None => (hop.answer, hop.failure) = (None, None),
            Some(record) if hop.done || !cached => {
                let mut sources: Vec<String> =
                    lookup.holders(record).map(|id| cx.calls.router(id).label.clone()).collect();
                if sources.is_empty() {
                    sources.push(HERE.into());
                }
                hop.take(record, sources, lookup.freshness(record), cached);
            }
            Some(_) => {}
        }
        if hop.done && hop.answer.is_none() && hop.failure.is_none() {
            let receipts = hop.receipts.clone();
            hop.failure = Some(match lookup.invalid() {
                _ if self.how.offline => ResolveError::NotFound { name, receipts },
                Some(reason) => ResolveError::Invalid { name, reason: reason.into(), receipts },
                None if lookup.anyone_answered() => ResolveError::NotFound { name, receipts },
                None => ResolveError::Unreachable { name, receipts },
            });
        }
        if hop.done {
            cx.release(op, &name);
        }
    }

    /// An answer may end while the rest of its chain is awaited.
    fn expire(&mut self, cx: &Context, index: usize) {
        let hop = &mut self.hops[index];
        if hop.answer.as_ref().is_some_and(|answer| cx.is_expired(&answer.record)) {
            hop.answer = None;
            hop.failure = Some(ResolveError::NotFound { name: hop.name, receipts: hop.receipts.clone() });
        }
    }

    /// Forgets the chain from `index` on: the names before lead elsewhere now.
    fn cut(&mut self, cx: &mut Context, index: usize) {
        for hop in self.hops.drain(index..) {
            cx.release(self.op, &hop.name);
            cx.unwatch(self.op, &hop.name);
        }
    }

    /// Adds the name that the last answer points to, if it points to one.
    fn follow(&mut self, cx: &mut Context, index: usize) -> Result<(), ResolveError> {
        if index + 1 < self.hops.len() || !self.how.recursive {
            return Ok(());
        }
        let Some(value) = self.value_at(index) else { return Ok(()) };
        match value.target() {
            Target::Content => Ok(()),
            Target::DnsLink(domain, _) => Err(ResolveError::DnsLink { domain: domain.into() }),
            Target::Name(name, _) if self.hops.iter().any(|hop| hop.name == name) => Err(ResolveError::Loop { name }),
            Target::Name(..) if self.hops.len() > cx.config.max_depth => {
                Err(ResolveError::TooDeep { limit: cx.config.max_depth })
            }
            Target::Name(name, below) => {
                self.hops.push(Hop::new(name, below.into()));
                self.open(cx, index + 1);
                Ok(())
            }
        }
    }

    /// What a name of the chain points at, with the path of the names before carried over.
    fn value_at(&self, index: usize) -> Option<Value> {
        let hop = self.hops.get(index)?;
        Some(hop.answer.as_ref()?.value.join(&hop.below))
    }

    fn judge(&mut self, cx: &mut Context) -> Option<Outcome> {
        let settled = self.hops.iter().take_while(|hop| hop.done).count();
        if let Some(failed) = self.hops[..settled].iter_mut().find(|hop| hop.answer.is_none()) {
            return failed.failure.take().map(Err);
        }
        let complete = settled == self.hops.len();
        let resolution = self.resolution(cx, complete)?;
        if complete {
            return Some(Ok(resolution));
        }
        let told = (resolution.value.clone(), resolution.record.clone());
        if self.how.stream && self.told.as_ref() != Some(&told) {
            self.told = Some(told);
            cx.emit(Event::Improved { op: self.op, resolution });
        }
        None
    }

    fn resolution(&self, cx: &Context, is_final: bool) -> Option<Resolution> {
        let answers: Vec<&Answer> = self.hops.iter().map(|hop| hop.answer.as_ref()).collect::<Option<_>>()?;
        let last = answers.last()?;
        let weakest = answers
            .iter()
            .map(|answer| answer.freshness)
            .max_by(|a, b| a.miss_probability.total_cmp(&b.miss_probability));
        Some(Resolution {
            value: self.value_at(self.hops.len() - 1)?,
            record: last.record.clone(),
            path: self.hops.iter().map(|hop| hop.name).collect(),
            sources: last.sources.clone(),
            cached: answers.iter().all(|answer| answer.cached),
            is_final,
            freshness: weakest?,
            receipts: self.hops.iter().flat_map(|hop| hop.receipts.clone()).collect(),
            elapsed: cx.now.monotonic.saturating_sub(self.started),
        })
    }

    /// The time is up: the best answer so far is the answer, if the chain has come to an end.
    fn out_of_time(&mut self, cx: &mut Context) -> Outcome {
        let checks = cx.checks();
        for index in 0..self.hops.len() {
            self.expire(cx, index);
            let hop = &mut self.hops[index];
            let Some(lookup) = cx.lookup(&hop.name).filter(|_| !hop.done) else { continue };
            hop.receipts = lookup.receipts(cx.now.monotonic, &cx.calls);
            if let (None, Some(record)) = (&hop.answer, lookup.answer(&checks)) {
                hop.take(record, vec![HERE.into()], lookup.freshness(record), true);
            }
        }
        let last = self.hops.len() - 1;
        let leads_on =
            self.how.recursive && self.value_at(last).is_some_and(|value| !matches!(value.target(), Target::Content));
        match self.resolution(cx, true) {
            Some(resolution) if !leads_on => Ok(resolution),
            _ => {
                let hop = self.hops.iter().find(|hop| hop.answer.is_none()).unwrap_or(&self.hops[last]);
                Err(ResolveError::Timeout { name: hop.name, receipts: hop.receipts.clone() })
            }
        }
    }
}
