//! `ipns put`.

use data_encoding::BASE64;
use ipns_server::Failure;
use ipns_server::api::PutRequest;

use crate::args::PutArgs;
use crate::backend::Backend;
use crate::files;
use crate::settings::Settings;

pub(crate) async fn run(settings: &Settings, args: PutArgs) -> Result<u8, Failure> {
    let request = PutRequest {
        name: args.name,
        record: BASE64.encode(&files::read(&args.file)?),
        force: args.force,
        allow_offline: args.allow_offline,
        wait: args.wait,
    };
    let backend = Backend::open(settings).await?;
    let result = backend.put(request).await;
    backend.close(true).await;
    super::publish::print(settings, &result?, false)
}
