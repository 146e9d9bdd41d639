//! `ipns get`.

use std::time::Duration;

use data_encoding::BASE64;
use ipns_server::api::ResolveRequest;
use ipns_server::{Failure, exit};
use serde_json::json;

use crate::args::GetArgs;
use crate::backend::Backend;
use crate::settings::Settings;
use crate::{files, output};

pub(crate) async fn run(settings: &Settings, args: GetArgs) -> Result<u8, Failure> {
    let request = ResolveRequest {
        name: args.name,
        recursive: false,
        timeout_ns: args.timeout.map(|timeout: Duration| u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX)),
        with_record: true,
        ..ResolveRequest::default()
    };
    let backend = Backend::open(settings).await?;
    let result = backend.resolve_once(&request).await;
    backend.close(false).await;
    let report = result?;
    let record = report.record.as_deref().and_then(|text| BASE64.decode(text.as_bytes()).ok());
    let record = record.ok_or_else(|| Failure::new(exit::FAILED, "no_record", "the node sent no record"))?;
    match &args.output {
        Some(path) => files::write(path, &record)?,
        None if !settings.json => output::write(&record)?,
        None => {}
    }
    if settings.json {
        let file = args.output.as_ref();
        output::document(
            &json!({ "name": report.name, "sequence": report.sequence, "size": record.len(), "file": file, "record": report.record }),
        )?;
    }
    Ok(0)
}
