//! `ipns resolve`.

use std::time::Duration;

use futures_util::StreamExt;
use ipns_server::Failure;
use ipns_server::api::ResolveRequest;

use crate::args::ResolveArgs;
use crate::backend::Backend;
use crate::output;
use crate::settings::Settings;

pub(crate) async fn run(settings: &Settings, args: ResolveArgs) -> Result<u8, Failure> {
    if args.watch {
        return super::watch::run(settings, args.name, args.timeout).await;
    }
    let request = ResolveRequest {
        name: args.name,
        freshness: args.freshness,
        cache: !args.no_cache,
        offline: args.offline,
        recursive: args.recursive,
        stream: args.stream,
        timeout_ns: args.timeout.map(|timeout: Duration| u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX)),
        with_record: false,
    };
    let backend = Backend::open(settings).await?;
    let result = print(settings, &backend, &request).await;
    backend.close(false).await;
    result
}

async fn print(settings: &Settings, backend: &Backend, request: &ResolveRequest) -> Result<u8, Failure> {
    let mut answers = backend.resolve(request).await?;
    let mut shown = None;
    while let Some(answer) = answers.next().await {
        let report = answer?;
        if settings.json {
            output::document(&report)?;
        } else if shown.as_ref() != Some(&report.value) {
            output::line(&report.value)?;
            shown = Some(report.value);
        }
    }
    Ok(0)
}
