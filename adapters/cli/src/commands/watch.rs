//! `ipns resolve --watch`.

use std::pin::pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use ipns_server::keeping::NameRequest;
use ipns_server::kept::ChangeReport;
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
    let changes = backend.watch(NameRequest { name: name.clone() }).await?;
    let mut shown = None;
    let show = |change: ChangeReport| {
        if settings.json {
            output::document(&change)?;
        } else if shown.as_ref() != Some(&(change.sequence, change.value.clone())) {
            // A record that was signed anew only says that it lives longer.
            output::line(&change.value)?;
        }
        shown = Some((change.sequence, change.value));
        Ok(())
    };
    let interrupted = async {
        let _ = signal::ctrl_c().await;
    };
    match show_each(changes, show, deadline, interrupted).await? {
        End::Over if shown.is_none() => {
            Err(Failure::new(exit::NETWORK, "timeout", format!("no record of {name} was found in time")))
        }
        End::Over | End::Interrupted => Ok(0),
    }
}

/// Why a watch ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Over,
    Interrupted,
}

/// Shows changes until it is time, or somebody interrupts. An interrupt while a change is being shown counts, too.
async fn show_each<T>(
    mut changes: impl Stream<Item = Result<T, Failure>> + Unpin,
    mut show: impl FnMut(T) -> Result<(), Failure>,
    deadline: Option<Instant>,
    interrupted: impl Future<Output = ()>,
) -> Result<End, Failure> {
    let over = async {
        match deadline {
            Some(deadline) => sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    let (mut over, mut interrupted) = (pin!(over), pin!(interrupted));
    loop {
        let change = tokio::select! {
            biased;
            () = &mut interrupted => return Ok(End::Interrupted),
            () = &mut over => return Ok(End::Over),
            change = changes.next() => change.unwrap_or_else(|| Err(ipns_tokio::Stopped.into()))?,
        };
        show(change)?;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::stream;
    use tokio::sync::Notify;
    use tokio::time::timeout;

    use super::*;

    /// A signal reaches only those who wait for it when it comes.
    #[tokio::test]
    async fn an_interrupt_while_a_change_is_shown_is_not_lost() {
        let signal = Notify::new();
        let changes = stream::iter([Ok(1)]).chain(stream::pending());
        let show = |_| {
            signal.notify_waiters();
            Ok(())
        };
        let interrupted = async { signal.notified().await };
        let ended = timeout(Duration::from_secs(20), show_each(changes, show, None, interrupted)).await;
        assert_eq!(ended.unwrap().unwrap(), End::Interrupted);
    }

    #[tokio::test]
    async fn it_ends_when_it_is_time() {
        let changes = stream::pending::<Result<(), Failure>>();
        let ended = show_each(changes, |()| Ok(()), Some(Instant::now()), std::future::pending()).await;
        assert_eq!(ended.unwrap(), End::Over);
    }
}
