//! Servers and routers that do what a test tells them.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, DATE, RETRY_AFTER};
use http::{HeaderValue, Method, Request, Response, StatusCode};

use crate::name::Name;
use crate::record::{Checks, MAX_RECORD_BYTES, Record};
use crate::routing::http::format_date;
use crate::routing::http::server::{Asked, PutOutcome, found, put_response, read_request};
use crate::routing::{HttpError, Operation, RouteError, RouteUpdate, Tally};
use crate::time::Timestamp;

/// What a server does with one request.
#[derive(Debug, Clone)]
pub(super) enum Act {
    /// What a good server does.
    Serve,
    /// No connection.
    Refuse,
    /// Nothing, for ever.
    Hang,
    Status(u16),
    /// This status and `Retry-After` in seconds.
    Later(u16, u64),
    /// These bytes as the record, whatever is asked.
    Give(Bytes),
    /// A page instead of a record.
    Html,
    /// More than a record may have.
    Huge,
    /// 304, whatever was shown.
    Unchanged,
}

/// A server, or a router that the application brings.
pub(super) struct Script {
    pub(super) plan: VecDeque<Act>,
    /// After the plan.
    pub(super) then: Act,
    /// From the request to the response.
    pub(super) delay: Duration,
    pub(super) held: BTreeMap<Name, Bytes>,
    /// Whether it refuses records that are older than the one it holds.
    pub(super) selects: bool,
    /// How far its clock is ahead, in seconds, if it sends `Date`.
    pub(super) date: Option<i64>,
    pub(super) seen: Vec<Seen>,
}

/// One request and its answer.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) at: Duration,
    pub(super) put: bool,
    /// 0 for none.
    pub(super) status: u16,
    pub(super) sequence: Option<u64>,
}

impl Script {
    pub(super) fn new() -> Self {
        Self {
            plan: VecDeque::new(),
            then: Act::Serve,
            delay: Duration::ZERO,
            held: BTreeMap::new(),
            selects: true,
            date: None,
            seen: Vec::new(),
        }
    }

    pub(super) fn always(act: Act) -> Self {
        Self { then: act, ..Self::new() }
    }

    pub(super) fn first(plan: impl IntoIterator<Item = Act>) -> Self {
        Self { plan: plan.into_iter().collect(), ..Self::new() }
    }

    /// Holding a record that someone made elsewhere.
    pub(super) fn holding(mut self, name: Name, record: Bytes) -> Self {
        self.held.insert(name, record);
        self
    }

    pub(super) fn slow(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    pub(super) fn sequence(&self, name: &Name) -> Option<u64> {
        self.held.get(name).map(|held| Record::decode(held.clone()).unwrap().sequence())
    }

    pub(super) fn gets(&self) -> usize {
        self.seen.iter().filter(|seen| !seen.put).count()
    }

    pub(super) fn puts(&self) -> Vec<u64> {
        self.seen.iter().filter(|seen| seen.put).filter_map(|seen| seen.sequence).collect()
    }

    fn act(&mut self) -> Act {
        self.plan.pop_front().unwrap_or_else(|| self.then.clone())
    }

    /// The answer to a request; `None` is silence.
    pub(super) fn answer(
        &mut self,
        now: Duration,
        wall: Timestamp,
        request: &Request<Bytes>,
    ) -> Option<Result<Response<Bytes>, HttpError>> {
        let put = request.method() != Method::GET;
        let sequence = Record::decode(request.body().clone()).ok().map(|record| record.sequence());
        let answer = match self.act() {
            Act::Serve => Some(Ok(self.serve(wall, request))),
            Act::Refuse => Some(Err(HttpError::Connect("connection refused".into()))),
            Act::Hang => None,
            Act::Status(code) => Some(Ok(status(code))),
            Act::Later(code, wait) => {
                let mut response = status(code);
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait));
                Some(Ok(response))
            }
            Act::Give(record) => Some(Ok(given(record))),
            Act::Html => {
                let mut response = Response::new(Bytes::from_static(b"<html>"));
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html"));
                Some(Ok(response))
            }
            Act::Huge => Some(Err(HttpError::TooLarge(MAX_RECORD_BYTES + 1))),
            Act::Unchanged => Some(Ok(status(304))),
        };
        let status = answer.as_ref().map_or(0, |answer| answer.as_ref().map_or(0, |r| r.status().as_u16()));
        self.seen.push(Seen { at: now, put, status, sequence });
        let date = self.date.map(|ahead| Timestamp::from_unix_secs(wall.as_unix_secs() + ahead));
        answer.map(|answer| {
            answer.map(|mut response| {
                if let Some(date) = date {
                    response.headers_mut().insert(DATE, HeaderValue::try_from(format_date(date)).unwrap());
                }
                response
            })
        })
    }

    fn serve(&mut self, wall: Timestamp, request: &Request<Bytes>) -> Response<Bytes> {
        match read_request(request) {
            Asked::Answer(response) => response,
            Asked::Get { name, head, if_none_match } => {
                let held = self.held.get(&name).and_then(|held| Checks::at(wall).verify(held.clone(), &name).ok());
                found(held.as_ref(), head, if_none_match.as_deref(), wall, wall)
            }
            Asked::Put { name, record } => put_response(self.take(name, record)),
        }
    }

    fn take(&mut self, name: Name, record: Bytes) -> PutOutcome {
        let rank = |bytes: &Bytes| Checks::at(Timestamp::MIN).verify(bytes.clone(), &name);
        let taken = match rank(&record) {
            Ok(record) => record,
            Err(error) => return PutOutcome::Invalid(error),
        };
        if let Some(Ok(held)) = self.held.get(&name).map(rank)
            && self.selects
            && crate::record::compare(&taken, &held).is_lt()
        {
            return PutOutcome::Older { current: held.sequence() };
        }
        self.held.insert(name, record);
        PutOutcome::Stored
    }

    /// The answer of a router that the application brings.
    pub(super) fn route(&mut self, now: Duration, operation: &Operation) -> Vec<RouteUpdate> {
        let (put, sequence) = match operation {
            Operation::Get { .. } => (false, None),
            Operation::Put { record } => (true, Some(record.sequence())),
        };
        let act = self.act();
        self.seen.push(Seen { at: now, put, status: 0, sequence });
        let done = RouteUpdate::Done(Ok(Tally::ONE));
        match (act, operation) {
            (Act::Serve, Operation::Get { name }) => {
                self.held.get(name).cloned().map(RouteUpdate::Record).into_iter().chain([done]).collect()
            }
            (Act::Serve, Operation::Put { record }) => match self.take(*record.name(), record.as_bytes().clone()) {
                PutOutcome::Stored => vec![done],
                PutOutcome::Older { current } => {
                    vec![RouteUpdate::Done(Err(RouteError::Conflict { current: Some(current) }))]
                }
                other => vec![RouteUpdate::Done(Err(RouteError::Refused(format!("{other:?}"))))],
            },
            (Act::Refuse, _) => vec![RouteUpdate::Done(Err(RouteError::Unreachable("no peers".into())))],
            (Act::Hang, _) => Vec::new(),
            (Act::Give(record), _) => vec![RouteUpdate::Record(record), done],
            // What peers that were asked and did not answer amount to.
            (Act::Html, _) => vec![RouteUpdate::Done(Ok(Tally { acks: 0, asked: 20 }))],
            (other, _) => vec![RouteUpdate::Done(Err(RouteError::Refused(format!("{other:?}"))))],
        }
    }
}

fn status(code: u16) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}

fn given(record: Bytes) -> Response<Bytes> {
    let mut response = Response::new(record);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/vnd.ipfs.ipns-record"));
    response
}
