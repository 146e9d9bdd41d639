//! What the program says: results on stdout, everything else on stderr.

use std::io::{self, Write};

use ipns_server::Failure;
use ipns_server::report::ReceiptReport;
use serde::Serialize;
use serde_json::json;

/// Writes to stdout; a reader that went away ends the program quietly.
pub(crate) fn write(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Failure::new(1, "stdout", format!("cannot write to stdout: {error}"))),
        Ok(()) => Ok(()),
    }
}

/// A line for people or scripts.
pub(crate) fn line(text: impl AsRef<str>) -> Result<(), Failure> {
    write(format!("{}\n", text.as_ref()).as_bytes())
}

/// A JSON document on a line.
pub(crate) fn document(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value).map_err(|error| Failure::new(1, "json", error.to_string()))?;
    line(text)
}

/// Says why a command failed, and with which status the program ends.
pub(crate) fn failure(failure: &Failure, json: bool) -> u8 {
    let mut err = io::stderr().lock();
    // Nothing helps when even stderr is gone.
    let _ = writeln!(err, "error: {failure}");
    for receipt in failure.published.iter().flat_map(|report| &report.receipts).chain(&failure.receipts) {
        let _ = writeln!(err, "  {}", receipt_line(receipt));
    }
    if json {
        let mut document = json!({ "error": failure.error });
        if let Some(published) = &failure.published {
            document["published"] = json!(published);
        }
        if !failure.receipts.is_empty() {
            document["receipts"] = json!(failure.receipts);
        }
        let _ = line(document.to_string());
    }
    failure.exit
}

/// One receipt for people.
pub(crate) fn receipt_line(receipt: &ReceiptReport) -> String {
    let said = match (&receipt.error, receipt.acks, receipt.asked) {
        (Some(error), ..) => error.clone(),
        (None, Some(acks), Some(asked)) if asked != 1 => format!("ok, {acks} of {asked} peers"),
        _ => "ok".into(),
    };
    let sequence = receipt.sequence.map(|sequence| format!(", sequence {sequence}")).unwrap_or_default();
    let attempts = if receipt.attempts > 1 { format!(", {} attempts", receipt.attempts) } else { String::new() };
    format!("{}: {said}{sequence}{attempts} ({} ms)", receipt.router, receipt.ms)
}

/// A JSON array on a line, written bit by bit.
#[derive(Default)]
pub(crate) struct Array {
    begun: bool,
}

impl Array {
    pub(crate) fn extend(&mut self, items: &[impl Serialize]) -> Result<(), Failure> {
        let mut text = String::new();
        for item in items {
            text.push(if self.begun { ',' } else { '[' });
            self.begun = true;
            text += &serde_json::to_string(item).map_err(|error| Failure::new(1, "json", error.to_string()))?;
        }
        write(text.as_bytes())
    }

    pub(crate) fn end(self) -> Result<(), Failure> {
        line(if self.begun { "]" } else { "[]" })
    }
}

/// How wide the columns of a table are.
pub(crate) struct Columns(Vec<usize>);

impl Columns {
    /// Each as wide as its widest cell. Rows that come later may have wider ones.
    pub(crate) fn fit(header: &[&str], rows: &[Vec<String>]) -> Self {
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain([header[column].len()]).max().unwrap_or_default()
        };
        Self((0..header.len()).map(width).collect())
    }

    /// One row.
    pub(crate) fn line<'a>(&self, cells: impl IntoIterator<Item = &'a str>) -> String {
        let padded: Vec<String> =
            cells.into_iter().zip(&self.0).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    }
}

/// Columns, each as wide as its widest cell.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let columns = Columns::fit(header, rows);
    let mut lines = vec![columns.line(header.iter().copied())];
    lines.extend(rows.iter().map(|row| columns.line(row.iter().map(String::as_str))));
    lines.join("\n")
}
