//! What a daemon logs of keeping names alive, and how it comes by keys that were added later.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt;
use ipns_core::engine::{Event, Publication, PublishError};
use ipns_server::api::Api;
use tokio::time::Instant;

/// How many lines of each kind are logged in a [`WINDOW`]: there may be a million names, and a network that is away.
const LINES: u32 = 20;
const WINDOW: Duration = Duration::from_secs(60);

/// Runs until the node stops.
pub(crate) async fn run(api: Api) {
    let mut events = api.node().events();
    let mut log = Log::default();
    let mut looked: Option<Instant> = None;
    while let Some(event) = events.next().await {
        match event {
            Event::Kept { name, result: Ok(sent) } => {
                let (sequence, routers) = (sent.record.sequence(), receipts(&sent));
                log.line("sent", || tracing::info!(%name, sequence, routers, "sent a kept name"));
            }
            // Whoever runs a daemon without routers knows that nothing is sent.
            Event::Kept { name, result: Err(error @ PublishError::NoRouter) } => {
                tracing::debug!(%name, %error, "a kept name was not sent");
            }
            Event::Kept { name, result: Err(error) } => {
                log.line("failed", || tracing::warn!(%name, code = error.code(), %error, "a kept name was not sent"));
            }
            Event::NotRenewed { name, eol, error } => {
                log.line("not renewed", || {
                    tracing::warn!(%name, %eol, code = error.code(), %error, "an own name was not signed anew");
                });
                // Its key may have been imported since the start: then its next turn succeeds.
                if looked.is_none_or(|looked| looked.elapsed() >= WINDOW) {
                    looked = Some(Instant::now());
                    if let Err(error) = api.add_signers().await {
                        tracing::warn!(%error, "the keys cannot be read");
                    }
                }
            }
            Event::Expiring { name, eol } => {
                let message = if eol <= api.now() {
                    "the record of a kept name has ended, and there is no newer one"
                } else {
                    "the record of a kept name ends soon, and there is no newer one"
                };
                log.line("expiring", || tracing::warn!(%name, %eol, "{message}"));
            }
            _ => {}
        }
    }
}

/// Who took a record.
fn receipts(sent: &Publication) -> String {
    let took = sent.receipts.iter().filter(|receipt| receipt.is_ok());
    took.map(|receipt| receipt.label.as_str()).collect::<Vec<_>>().join(", ")
}

/// Lines of each kind, so many in a window; those left out are counted.
#[derive(Default)]
struct Log {
    kinds: BTreeMap<&'static str, Window>,
}

struct Window {
    began: Instant,
    lines: u32,
}

impl Log {
    fn line(&mut self, kind: &'static str, write: impl FnOnce()) {
        let window = self.kinds.entry(kind).or_insert_with(|| Window { began: Instant::now(), lines: 0 });
        if window.began.elapsed() >= WINDOW {
            if window.lines > LINES {
                tracing::warn!(kind, more = window.lines - LINES, "more names of this kind were not logged");
            }
            *window = Window { began: Instant::now(), lines: 0 };
        }
        window.lines = window.lines.saturating_add(1);
        if window.lines <= LINES {
            write();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn a_flood_is_a_few_lines_a_minute() {
        let mut log = Log::default();
        let mut written = 0;
        for _ in 0..3 {
            for _ in 0..1000 {
                log.line("failed", || written += 1);
            }
            tokio::time::advance(WINDOW).await;
        }
        assert_eq!(written, 3 * LINES);
    }
}
