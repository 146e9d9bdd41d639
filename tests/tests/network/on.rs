//! The runtimes that nodes of ours run on. What is tested runs on each of them, with none of the others around it.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures_timer::Delay;
use futures_util::future::{Either, select};
use ipns_core::key::SecretKey;
use ipns_driver::{Builder, Handle, HttpClient};
use ipns_libp2p::{Listening, NodeConfig, NodeError, Platform};

/// Far beyond what anything here takes.
pub(crate) const LONG: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum On {
    Tokio,
    Smol,
    AsyncStd,
}

impl On {
    pub(crate) const ALL: [Self; 3] = [Self::Tokio, Self::Smol, Self::AsyncStd];

    /// Runs a test there.
    pub(crate) fn run(self, test: impl Future<Output = ()>) {
        match self {
            Self::Tokio => tokio::runtime::Runtime::new().unwrap().block_on(test),
            Self::Smol => smol::block_on(test),
            Self::AsyncStd => async_std::task::block_on(test),
        }
    }

    /// Starts a node.
    pub(crate) fn spawn(self, builder: Builder) -> Handle {
        match self {
            Self::Tokio => ipns_tokio::spawn(builder).unwrap(),
            Self::Smol => ipns_smol::spawn(builder).unwrap(),
            Self::AsyncStd => ipns_async_std::spawn(builder).unwrap(),
        }
    }

    /// Starts a node with a network of its own.
    pub(crate) async fn spawn_with_network(
        self,
        builder: Builder,
        config: NodeConfig,
        key: &SecretKey,
    ) -> Result<(Handle, Listening), NodeError> {
        match self {
            Self::Tokio => ipns_tokio::spawn_with_network(builder, config, key).await,
            Self::Smol => ipns_smol::spawn_with_network(builder, config, key).await,
            Self::AsyncStd => ipns_async_std::spawn_with_network(builder, config, key).await,
        }
    }

    /// Runs something in the background.
    pub(crate) fn detach(self, task: impl Future<Output = ()> + Send + 'static) {
        match self {
            Self::Tokio => drop(tokio::spawn(task)),
            Self::Smol => smol::spawn(task).detach(),
            Self::AsyncStd => drop(async_std::task::spawn(task)),
        }
    }

    pub(crate) fn platform(self) -> Platform {
        match self {
            Self::Tokio => Platform::tokio(),
            on => Platform::async_io(move |task| on.detach(task)),
        }
    }

    /// The HTTP client of nodes there.
    pub(crate) fn http(self) -> Box<dyn HttpClient> {
        match self {
            Self::Tokio => Box::new(ipns_tokio::Reqwest::new().unwrap()),
            Self::Smol => Box::new(ipns_smol::Isahc::new().unwrap()),
            Self::AsyncStd => Box::new(ipns_async_std::Isahc::new().unwrap()),
        }
    }
}

/// Makes a test on each runtime of each of these functions.
macro_rules! on_each_runtime {
    ($($test:ident),+ $(,)?) => {$(
        mod $test {
            use crate::on::On;

            #[test]
            fn tokio() {
                On::Tokio.run(super::$test(On::Tokio));
            }

            #[test]
            fn smol() {
                On::Smol.run(super::$test(On::Smol));
            }

            #[test]
            fn async_std() {
                On::AsyncStd.run(super::$test(On::AsyncStd));
            }
        }
    )+};
}
pub(crate) use on_each_runtime;

/// What comes of a future within a time, if it ends; it is dropped otherwise.
pub(crate) async fn within<T>(time: Duration, future: impl Future<Output = T>) -> Option<T> {
    match select(pin!(future), Delay::new(time)).await {
        Either::Left((output, _)) => Some(output),
        Either::Right(_) => None,
    }
}

/// Waits until it is so, of what nothing tells.
pub(crate) async fn until(mut reached: impl AsyncFnMut() -> bool) {
    while !reached().await {
        Delay::new(Duration::from_millis(10)).await;
    }
}
