//! A list of names in a file or on stdin: one a line, with comments, within bounds.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};
use ipns_server::{Failure, exit};

/// The most lines of a list.
const MAX_LINES: usize = 1_000_000;
/// The most bytes of a line; no name is as long.
const MAX_LINE: usize = 1024;

/// A line by its number: a name, or what is wrong with it.
pub(crate) type Line = (usize, Result<String, &'static str>);

/// Names in a file or on stdin, which are read as they are needed.
pub(crate) struct ListFile {
    lines: Box<dyn BufRead + Send>,
    line: usize,
    progress: ProgressBar,
}

impl ListFile {
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
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

    /// How far it has been read: a bar on a terminal, and nothing elsewhere.
    pub(crate) fn progress(&self) -> ProgressBar {
        self.progress.clone()
    }

    /// The next line that is not empty; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Line>, Failure> {
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

    fn read(bytes: Vec<u8>) -> Vec<Line> {
        let progress = ProgressBar::hidden();
        let mut list = ListFile { lines: Box::new(BufReader::new(std::io::Cursor::new(bytes))), line: 0, progress };
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
}
