//! `ipns follow` and `ipns unfollow`.

use std::io::Write;

use indicatif::ProgressBar;
use ipns_server::keeping::{MAX_NAMES, NamesRequest};
use ipns_server::kept::FollowReport;
use ipns_server::{Failure, FailureText, exit};
use serde_json::json;

use crate::args::FollowArgs;
use crate::backend::Backend;
use crate::list_file::ListFile;
use crate::output;
use crate::settings::Settings;

/// The most bytes of JSON in one request; a daemon takes 64 KiB.
const MAX_BATCH: usize = 48 << 10;

pub(crate) async fn run(settings: &Settings, args: FollowArgs) -> Result<u8, Failure> {
    let mut list = args.file.as_deref().map(ListFile::open).transpose()?;
    let backend = Backend::open(&settings.offline()).await?;
    let progress = list.as_ref().map_or_else(ProgressBar::hidden, ListFile::progress);
    let mut following = Following { settings, backend: &backend, progress, counts: Counts::default() };
    let mut done = following.given(args.names).await;
    if let (Ok(()), Some(list)) = (&done, &mut list) {
        done = following.listed(list).await;
    }
    following.progress.finish_and_clear();
    let (counts, keeps) = (following.counts, backend.is_daemon());
    backend.close(false).await;
    done?;
    if list.is_some() && !settings.json {
        let bad = if counts.bad == 0 { String::new() } else { format!("; {} could not be", counts.bad) };
        output::line(format!("following {} names, {} of them new{bad}", counts.good, counts.new))?;
    }
    if counts.good > 0 && !keeps {
        let _ = writeln!(
            std::io::stderr(),
            "stored; no daemon runs on this home: start `ipns daemon`, which keeps names alive"
        );
    }
    Ok(counts.status)
}

pub(crate) async fn unfollow(settings: &Settings, names: Vec<String>) -> Result<u8, Failure> {
    let backend = Backend::open(&settings.offline()).await?;
    let result = let_go(settings, &backend, names).await;
    backend.close(false).await;
    result
}

async fn let_go(settings: &Settings, backend: &Backend, names: Vec<String>) -> Result<u8, Failure> {
    let mut status = 0;
    for batch in batches(names) {
        for report in &backend.unfollow(NamesRequest { names: batch.names }).await? {
            status = status.max(unfollowed(settings, report)?);
        }
    }
    Ok(status)
}

fn unfollowed(settings: &Settings, report: &FollowReport) -> Result<u8, Failure> {
    let not_followed = || FailureText {
        code: "not_followed".into(),
        message: "it is not followed; see `ipns list` (an own name ends with `ipns key rm`)".into(),
    };
    let (error, status) = match (&report.error, report.changed) {
        (Some(error), _) => (error.clone(), exit::INVALID),
        (None, false) => (not_followed(), exit::NOT_FOUND),
        (None, true) => {
            match settings.json {
                true => output::document(report)?,
                false => output::line(format!("no longer following {}", report.name))?,
            }
            return Ok(0);
        }
    };
    refused(settings, None, &report.name, &error)?;
    Ok(status)
}

/// Says why one of several names was not done; the others are.
fn refused(settings: &Settings, line: Option<usize>, name: &str, error: &FailureText) -> Result<(), Failure> {
    let place = line.map(|line| format!("line {line}: ")).unwrap_or_default();
    let _ = writeln!(std::io::stderr(), "error: {place}{name}: {}", error.message);
    if settings.json {
        output::document(&match line {
            Some(line) => json!({ "line": line, "name": name, "error": error }),
            None => json!({ "name": name, "error": error }),
        })?;
    }
    Ok(())
}

#[derive(Clone, Copy, Default)]
struct Counts {
    good: usize,
    new: usize,
    bad: usize,
    /// The exit status so far.
    status: u8,
}

struct Following<'a> {
    settings: &'a Settings,
    backend: &'a Backend,
    progress: ProgressBar,
    counts: Counts,
}

impl Following<'_> {
    /// The names of the command line.
    async fn given(&mut self, names: Vec<String>) -> Result<(), Failure> {
        for batch in batches(names) {
            self.send(batch).await?;
        }
        Ok(())
    }

    /// The names of a list.
    async fn listed(&mut self, list: &mut ListFile) -> Result<(), Failure> {
        let mut batch = Batch::default();
        while let Some((line, name)) = list.next()? {
            match name {
                Ok(name) => {
                    if batch.is_full(&name) {
                        self.send(std::mem::take(&mut batch)).await?;
                        self.progress.set_message(format!("{} names", self.counts.good));
                    }
                    batch.add(Some(line), name);
                }
                Err(message) => {
                    let error = FailureText { code: "line_malformed".into(), message: message.into() };
                    self.bad(Some(line), "not read", &error)?;
                }
            }
        }
        self.send(batch).await
    }

    async fn send(&mut self, batch: Batch) -> Result<(), Failure> {
        if batch.names.is_empty() {
            return Ok(());
        }
        let reports = self.backend.follow(NamesRequest { names: batch.names }).await?;
        for (report, line) in reports.iter().zip(batch.lines) {
            if let Some(error) = &report.error {
                self.bad(line, &report.name, error)?;
                continue;
            }
            self.counts.good += 1;
            self.counts.new += usize::from(report.changed);
            if self.settings.json {
                output::document(report)?;
            } else if line.is_none() {
                let already = if report.changed { "" } else { " already" };
                output::line(format!("following {}{already}", report.name))?;
            }
        }
        Ok(())
    }

    fn bad(&mut self, line: Option<usize>, name: &str, error: &FailureText) -> Result<(), Failure> {
        self.counts.bad += 1;
        // Names that are none say most of what is to be done.
        let status = if error.code == "followed_too_many" { exit::FAILED } else { exit::INVALID };
        self.counts.status = self.counts.status.max(status);
        self.progress.suspend(|| refused(self.settings, line, name, error))
    }
}

/// Names of the command line, in requests.
fn batches(names: Vec<String>) -> Vec<Batch> {
    let mut batches = vec![Batch::default()];
    for name in names {
        match batches.last_mut() {
            Some(last) if !last.is_full(&name) => last.add(None, name),
            _ => {
                let mut next = Batch::default();
                next.add(None, name);
                batches.push(next);
            }
        }
    }
    batches
}

/// What goes to the node at once.
#[derive(Default)]
struct Batch {
    names: Vec<String>,
    lines: Vec<Option<usize>>,
    bytes: usize,
}

impl Batch {
    fn is_full(&self, next: &str) -> bool {
        self.names.len() >= MAX_NAMES || (self.bytes + json_len(next) > MAX_BATCH && !self.names.is_empty())
    }

    fn add(&mut self, line: Option<usize>, name: String) {
        self.bytes += json_len(&name);
        self.names.push(name);
        self.lines.push(line);
    }
}

/// How many bytes of a request a name takes: what is no name may have characters that JSON writes with six.
fn json_len(name: &str) -> usize {
    name.chars().map(|c| if c.is_ascii_graphic() && c != '"' && c != '\\' { 1 } else { 6 }).sum::<usize>() + 3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_fit_into_a_request() {
        for name in ["k51", "x\u{1}\"\\é", &"y".repeat(1024), &"\u{2}".repeat(1024)] {
            let names = vec![name.to_owned(); 5000];
            let batches = batches(names.clone());
            for batch in &batches {
                let json = serde_json::to_string(&NamesRequest { names: batch.names.clone() }).unwrap();
                assert!(json.len() <= 64 << 10 && batch.names.len() <= MAX_NAMES, "{}", json.len());
            }
            assert!(batches.into_iter().flat_map(|batch| batch.names).eq(names));
        }
    }
}
