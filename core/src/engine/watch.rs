//! Watching a name: looked up again whenever its TTL has passed, and told at once when this node learns of a change.

use core::time::Duration;

use crate::name::Name;
use crate::record::Verified;
use crate::routing::Depth;

use super::context::{Context, Wake};
use super::event::Event;
use super::ids::OpId;
use super::lookup::is_newer;
use super::request::Enough;

/// A TTL may be zero; the network is asked no more often than this.
const SHORTEST: Duration = Duration::from_secs(5);
/// How long to wait after nothing was found; doubles up to [`LONGEST`].
const FIRST_RETRY: Duration = Duration::from_secs(30);
/// A TTL may be years; a watch looks more often than that.
const LONGEST: Duration = Duration::from_secs(3600);

pub(crate) struct Watching {
    op: OpId,
    name: Name,
    last: Option<Verified>,
    retry: Duration,
    looking: bool,
}

impl Watching {
    pub(crate) fn new(op: OpId, name: Name) -> Self {
        Self { op, name, last: None, retry: FIRST_RETRY, looking: false }
    }

    /// Moves on. Returns `true` when the watch has ended.
    pub(crate) fn step(&mut self, cx: &mut Context, wake: Wake) -> bool {
        match wake {
            Wake::Start => {
                cx.watch(self.op, self.name);
                self.look(cx);
            }
            Wake::Time => self.look(cx),
            Wake::Learned(record) if !cx.is_expired(&record) => self.tell(cx, record),
            Wake::Lookup if self.looking => self.read(cx),
            Wake::Learned(_) | Wake::Lookup | Wake::Signed(..) | Wake::Stored(_) | Wake::Call(..) => {}
            Wake::Cancel => {
                cx.unwatch(self.op, &self.name);
                cx.release(self.op, &self.name);
                return true;
            }
        }
        false
    }

    fn look(&mut self, cx: &mut Context) {
        self.looking = true;
        cx.look_up(self.op, self.name, Some(Depth::Usual));
    }

    fn read(&mut self, cx: &mut Context) {
        let checks = cx.checks();
        let Some(lookup) = cx.lookup(&self.name) else { return };
        let record = lookup.answer(&checks).cloned();
        let done = cx.is_enough(self.op, &self.name, Enough::Probable);
        if let Some(record) = record.clone() {
            self.tell(cx, record);
        }
        if !done {
            return;
        }
        self.looking = false;
        cx.release(self.op, &self.name);
        let pause = match record {
            Some(record) => {
                self.retry = FIRST_RETRY;
                record.fresh_for(cx.now.wall).clamp(SHORTEST, LONGEST)
            }
            None => {
                let pause = self.retry;
                self.retry = (pause * 2).min(LONGEST);
                pause
            }
        };
        cx.set_timer(self.op, Some(cx.now.monotonic + pause));
    }

    fn tell(&mut self, cx: &mut Context, record: Verified) {
        if is_newer(&record, self.last.as_ref()) {
            self.last = Some(record.clone());
            cx.emit(Event::Changed { op: self.op, record });
        }
    }
}
