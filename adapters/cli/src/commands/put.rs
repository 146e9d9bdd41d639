//! `ipns put`.

use data_encoding::BASE64;
use ipns_server::Failure;
use ipns_server::api::PutRequest;
use ipns_server::keeping::QueueRequest;

use crate::args::PutArgs;
use crate::backend::Backend;
use crate::settings::Settings;
use crate::{files, output};

pub(crate) async fn run(settings: &Settings, args: PutArgs) -> Result<u8, Failure> {
    let record = BASE64.encode(&files::read(&args.file)?);
    if let Some(at) = args.at {
        return queue(settings, QueueRequest { name: args.name, record, at: at.to_string() }).await;
    }
    let request =
        PutRequest { name: args.name, record, force: args.force, allow_offline: args.allow_offline, wait: args.wait };
    let backend = Backend::open(settings).await?;
    let result = backend.put(request).await;
    backend.close(true).await;
    let report = result?;
    super::publish::print(settings, &report, false)?;
    if !settings.json && !report.receipts.iter().any(|receipt| receipt.ok) {
        output::line("stored here only; to have it sent later, follow the name")?;
    }
    Ok(0)
}

async fn queue(settings: &Settings, request: QueueRequest) -> Result<u8, Failure> {
    let backend = Backend::open(&settings.offline()).await?;
    let result = backend.queue(request).await;
    backend.close(true).await;
    let queued = result?;
    match settings.json {
        true => output::document(&queued)?,
        false => output::line(format!("{} is sent at {}", queued.name, queued.next.unwrap_or_default()))?,
    }
    Ok(0)
}
