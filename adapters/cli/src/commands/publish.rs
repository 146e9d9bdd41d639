//! `ipns publish`.

use std::time::Duration;

use ipns_server::Failure;
use ipns_server::api::PublishRequest;
use ipns_server::report::PublishReport;

use crate::args::PublishArgs;
use crate::backend::Backend;
use crate::output;
use crate::settings::Settings;

pub(crate) async fn run(settings: &Settings, args: PublishArgs) -> Result<u8, Failure> {
    let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let request = PublishRequest {
        value: args.value,
        key: args.key,
        lifetime_ns: args.lifetime.map(nanos),
        ttl_ns: args.ttl.map(nanos),
        sequence: args.sequence,
        if_sequence: args.if_sequence,
        v2_only: args.v2_only,
        metadata: args.metadata.into_iter().collect(),
        allow_offline: args.allow_offline,
        wait: args.wait,
    };
    let backend = Backend::open(settings).await?;
    let result = backend.publish(request).await;
    let keeps = backend.is_daemon();
    backend.close(true).await;
    let report = result?;
    print(settings, &report, args.quieter)?;
    if !settings.json && !args.quieter && !report.receipts.iter().any(|receipt| receipt.ok) {
        let daemon = if keeps { "" } else { " and a daemon runs on this home (`ipns daemon`)" };
        output::line(format!("stored; it is sent when a router can be reached{daemon}"))?;
    }
    Ok(0)
}

pub(crate) fn print(settings: &Settings, report: &PublishReport, quieter: bool) -> Result<u8, Failure> {
    if settings.json {
        output::document(report)?;
    } else if quieter {
        output::line(&report.name)?;
    } else {
        output::line(format!("Published to {}: {}", report.name, report.value))?;
        output::line(format!("sequence {}, valid until {}", report.sequence, report.validity))?;
        for receipt in &report.receipts {
            output::line(format!("  {}", output::receipt_line(receipt)))?;
        }
    }
    Ok(0)
}
