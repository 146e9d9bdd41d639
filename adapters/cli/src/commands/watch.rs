//! `ipns resolve --watch`.

use std::time::Duration;

use futures_util::StreamExt;
use ipns_server::keeping::NameRequest;
use ipns_server::{Failure, exit};
use tokio::signal;
use tokio::time::{Instant, sleep_until};

use crate::backend::Backend;
use crate::output;
use crate::settings::Settings;

pub(crate) async fn run(settings: &Settings, name: String, timeout: Option<Duration>) -> Result<u8, Failure> {
    let backend = Backend::open(settings).await?;
    let result = print(settings, &backend, name, timeout).await;
    backend.close(false).await;
    result
}

async fn print(settings: &Settings, backend: &Backend, name: String, timeout: Option<Duration>) -> Result<u8, Failure> {
    // A time that cannot be reached is none.
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let mut changes = backend.watch(NameRequest { name: name.clone() }).await?;
    let mut shown = None;
    loop {
        let over = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let change = tokio::select! {
            change = changes.next() => change.unwrap_or_else(|| Err(ipns_tokio::Stopped.into()))?,
            _ = signal::ctrl_c() => return Ok(0),
            () = over => return match shown {
                Some(_) => Ok(0),
                None => Err(Failure::new(exit::NETWORK, "timeout", format!("no record of {name} was found in time"))),
            },
        };
        if settings.json {
            output::document(&change)?;
        } else if shown.as_ref() != Some(&(change.sequence, change.value.clone())) {
            // A record that was signed anew only says that it lives longer.
            output::line(&change.value)?;
        }
        shown = Some((change.sequence, change.value));
    }
}
