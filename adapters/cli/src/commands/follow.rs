//! `ipns follow` and `ipns unfollow`.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};
use ipns_server::keeping::{MAX_NAMES, NamesRequest};
use ipns_server::kept::FollowReport;
use ipns_server::{Failure, FailureText, exit};
use serde_json::json;

use crate::args::FollowArgs;
use crate::backend::Backend;
use crate::output;
use crate::settings::Settings;

/// The most lines of a list.
const MAX_LINES: usize = 1_000_000;
/// The most bytes of a line; no name is as long.
const MAX_LINE: usize = 1024;
/// The most bytes of names in one request to a daemon, which takes 64 KiB of JSON.
const MAX_BATCH: usize = 32 << 10;

pub(crate) async fn run(settings: &Settings, args: FollowArgs) -> Result<u8, Failure> {
    let mut list = args.file.as_deref().map(List::open).transpose()?;
    let backend = Backend::open(&settings.offline()).await?;
    let mut following = Following { settings, backend: &backend, counts: Counts::default() };
    let mut done = following.given(args.names).await;
    if let (Ok(()), Some(list)) = (&done, &mut list) {
        done = following.listed(list).await;
    }
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
    let mut status = 0;
    let mut done = Ok(());
    for names in names.chunks(MAX_NAMES) {
        match backend.unfollow(NamesRequest { names: names.to_vec() }).await {
            Ok(reports) => {
                for report in &reports {
                    status = status.max(unfollowed(settings, report)?);
                }
            }
            Err(failure) => {
                done = Err(failure);
                break;
            }
        }
    }
    backend.close(false).await;
    done.map(|()| status)
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
    counts: Counts,
}

impl Following<'_> {
    /// The names of the command line.
    async fn given(&mut self, names: Vec<String>) -> Result<(), Failure> {
        let mut batch = Batch::default();
        for name in names {
            if batch.is_full(&name) {
                self.send(std::mem::take(&mut batch)).await?;
            }
            batch.add(None, name);
        }
        self.send(batch).await
    }

    /// The names of a list.
    async fn listed(&mut self, list: &mut List) -> Result<(), Failure> {
        let mut batch = Batch::default();
        while let Some((line, name)) = list.next()? {
            match name {
                Ok(name) => {
                    if batch.is_full(&name) {
                        self.send(std::mem::take(&mut batch)).await?;
                        list.progress.set_message(format!("{} names", self.counts.good));
                    }
                    batch.add(Some(line), name);
                }
                Err(message) => {
                    let error = FailureText { code: "line_malformed".into(), message: message.into() };
                    list.progress.suspend(|| self.bad(Some(line), "not read", &error))?;
                }
            }
        }
        let sent = self.send(batch).await;
        list.progress.finish_and_clear();
        sent
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
        refused(self.settings, line, name, error)
    }
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
        self.names.len() >= MAX_NAMES || (self.bytes + next.len() > MAX_BATCH && !self.names.is_empty())
    }

    fn add(&mut self, line: Option<usize>, name: String) {
        self.bytes += name.len();
        self.names.push(name);
        self.lines.push(line);
    }
}

/// Names in a file or on stdin, which are read as they are needed.
struct List {
    lines: Box<dyn BufRead + Send>,
    line: usize,
    progress: ProgressBar,
}

impl List {
    fn open(path: &Path) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| {
            Failure::new(exit::FAILED, "file", format!("cannot read {}: {error}", path.display()))
        };
        if path.as_os_str() == "-" {
            let progress = ProgressBar::new_spinner();
            return Ok(Self { lines: Box::new(BufReader::new(std::io::stdin())), line: 0, progress });
        }
        let file = File::open(path).map_err(failed)?;
        let progress = ProgressBar::new(file.metadata().map_err(failed)?.len());
        if let Ok(style) = ProgressStyle::with_template("{msg} {bar:40} {percent}%") {
            progress.set_style(style);
        }
        Ok(Self { lines: Box::new(BufReader::new(file)), line: 0, progress })
    }

    /// The next name with the number of its line, or what is wrong with that line; `None` at the end.
    fn next(&mut self) -> Result<Option<(usize, Result<String, &'static str>)>, Failure> {
        loop {
            let mut line = Vec::new();
            // One byte more than a line may have, beside its end.
            let taken = self.lines.by_ref().take(MAX_LINE as u64 + 2).read_until(b'\n', &mut line);
            let mut read = taken.map_err(|error| failed(&error))?;
            if read == 0 {
                return Ok(None);
            }
            self.line += 1;
            if self.line > MAX_LINES {
                // The rest is not read: what follows would be the end.
                self.lines = Box::new(std::io::empty());
                return Ok(Some((
                    self.line,
                    Err("a list may have 1,000,000 lines; split it, and follow the rest then"),
                )));
            }
            let ended = line.ends_with(b"\n");
            if !ended && line.len() > MAX_LINE {
                read += self.skip_line()?;
            }
            self.progress.inc(read as u64);
            let text = line.strip_suffix(b"\n").unwrap_or(&line);
            if text.len() > MAX_LINE {
                return Ok(Some((self.line, Err("a line may have 1,024 bytes; no name is as long"))));
            }
            let Ok(text) = std::str::from_utf8(text) else {
                return Ok(Some((self.line, Err("it is not UTF-8; write one name a line"))));
            };
            let name = text.split('#').next().unwrap_or_default().trim();
            if !name.is_empty() {
                return Ok(Some((self.line, Ok(name.to_owned()))));
            }
        }
    }

    /// Reads to the end of a line that is too long, without keeping it.
    fn skip_line(&mut self) -> Result<usize, Failure> {
        let mut skipped = 0;
        loop {
            let buffer = self.lines.fill_buf().map_err(|error| failed(&error))?;
            let end = buffer.iter().position(|byte| *byte == b'\n').map(|end| end + 1);
            let count = end.unwrap_or(buffer.len());
            self.lines.consume(count);
            skipped += count;
            if end.is_some() || count == 0 {
                return Ok(skipped);
            }
        }
    }
}

fn failed(error: &std::io::Error) -> Failure {
    Failure::new(exit::FAILED, "file", format!("cannot read the list: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: Vec<u8>) -> Vec<(usize, Result<String, &'static str>)> {
        let progress = ProgressBar::hidden();
        let mut list = List { lines: Box::new(BufReader::new(std::io::Cursor::new(bytes))), line: 0, progress };
        std::iter::from_fn(|| list.next().unwrap()).collect()
    }

    #[test]
    fn a_list_has_names_comments_and_blank_lines() {
        let found = read(b"# mine\n\n  one  # the first\r\ntwo".to_vec());
        assert_eq!(found, [(3, Ok("one".into())), (4, Ok("two".into()))]);
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped_and_the_next_one_is_read() {
        for length in [MAX_LINE, MAX_LINE + 1, MAX_LINE + 2, 100_000] {
            let found = read([vec![b'x'; length], b"\nnext\n".to_vec()].concat());
            assert_eq!(found.len(), 2, "{length}");
            assert_eq!(found[0].1.is_ok(), length <= MAX_LINE, "{length}");
            assert_eq!(found[1], (2, Ok("next".into())), "{length}");
        }
        assert!(read(b"\xff\n".to_vec())[0].1.is_err());
    }

    #[test]
    fn a_list_ends_after_a_million_lines() {
        let found = read([b"\n".repeat(MAX_LINES), b"late\nlater\n".to_vec()].concat());
        assert_eq!(found.len(), 1);
        assert!(found[0].0 == MAX_LINES + 1 && found[0].1.is_err());
    }

    #[test]
    fn batches_fit_into_a_request() {
        let mut batch = Batch::default();
        let name = "x".repeat(MAX_LINE);
        while !batch.is_full(&name) {
            batch.add(None, name.clone());
        }
        assert!(batch.bytes <= MAX_BATCH && batch.names.len() <= MAX_NAMES);
    }
}
