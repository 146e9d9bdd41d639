//! `ipns republish`.

use std::future::ready;
use std::io::Write;

use futures_util::{StreamExt, TryStreamExt, stream};
use ipns_server::Failure;
use ipns_server::keeping::NameRequest;
use ipns_server::kept::KeptKind;
use ipns_server::report::PublishReport;
use serde_json::json;

use crate::backend::Backend;
use crate::output;
use crate::settings::Settings;

/// How many names are sent at once.
const PARALLELISM: usize = 16;

pub(crate) async fn run(settings: &Settings, names: Vec<String>) -> Result<u8, Failure> {
    let backend = Backend::open(settings).await?;
    let result = send(settings, &backend, names).await;
    backend.close(true).await;
    result
}

async fn send(settings: &Settings, backend: &Backend, mut names: Vec<String>) -> Result<u8, Failure> {
    backend.add_signers().await?;
    if names.is_empty() {
        let kept = backend.list().await?.try_filter(|kept| ready(kept.kind != KeptKind::Queued));
        names = kept.map_ok(|kept| kept.name).try_collect().await?;
        if names.is_empty() {
            let _ = writeln!(std::io::stderr(), "no name yet; publish one, or follow one with `ipns follow NAME`");
        }
    }
    let send = |name: String| async move {
        let result = backend.republish(NameRequest { name: name.clone() }).await;
        (name, result)
    };
    let mut sent = stream::iter(names).map(send).buffered(PARALLELISM);
    let mut status = 0;
    while let Some((name, result)) = sent.next().await {
        match result {
            Ok(report) => print(settings, &report)?,
            Err(failure) => {
                refused(settings, &name, &failure)?;
                // The first failure is as good a reason as any other.
                status = if status == 0 { failure.exit } else { status };
            }
        }
    }
    Ok(status)
}

fn print(settings: &Settings, report: &PublishReport) -> Result<(), Failure> {
    if settings.json {
        return output::document(report);
    }
    output::line(format!("Sent {}: {}", report.name, report.value))?;
    output::line(format!("sequence {}, valid until {}", report.sequence, report.validity))?;
    report.receipts.iter().try_for_each(|receipt| output::line(format!("  {}", output::receipt_line(receipt))))
}

/// Says why one of several names was not sent; the others are.
fn refused(settings: &Settings, name: &str, failure: &Failure) -> Result<(), Failure> {
    let mut err = std::io::stderr().lock();
    // Nothing helps when even stderr is gone.
    let _ = writeln!(err, "error: {name}: {failure}");
    for receipt in failure.published.iter().flat_map(|report| &report.receipts).chain(&failure.receipts) {
        let _ = writeln!(err, "  {}", output::receipt_line(receipt));
    }
    if settings.json {
        let receipts = failure.published.as_ref().map_or(&failure.receipts, |report| &report.receipts);
        output::document(&json!({ "name": name, "error": failure.error, "receipts": receipts }))?;
    }
    Ok(())
}
