//! Names in addresses, resolved before they are dialled.

mod lookup;
mod runtime;

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures_util::future::{BoxFuture, FutureExt};
use hickory_resolver::Resolver;
use hickory_resolver::config::{ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::system_conf::read_system_conf;
use libp2p::Multiaddr;
use libp2p::core::transport::{Boxed, DialOpts, ListenerId, Transport as _, TransportError, TransportEvent};

use super::Executor;
use lookup::{Failure, Search, has_name};
use runtime::OnAsyncIo;

/// What resolves names.
pub(crate) type Names = Resolver<OnAsyncIo>;

/// Addresses of one name that are dialled.
const MAX_DIALS: usize = 16;
/// Failures that a failed dial tells of.
const MAX_TOLD: usize = 16;

/// Names as this system resolves them; nothing when it does not say how.
pub(crate) fn system(executor: &Executor) -> Option<Names> {
    let names = read_system_conf().and_then(|(config, options)| names(config, options, executor));
    let warn = |error: &NetError| {
        tracing::warn!(%error, "this system says nothing of DNS; names in addresses cannot be resolved");
    };
    names.inspect_err(warn).ok()
}

/// Names as `config` says, and as the system's file of hosts does.
pub(crate) fn names(config: ResolverConfig, options: ResolverOpts, executor: &Executor) -> Result<Names, NetError> {
    Resolver::builder_with_config(config, OnAsyncIo::new(executor.clone())).with_options(options).build()
}

/// Another transport that is given no names to dial.
pub(crate) struct Transport<O> {
    /// Dialled once a name is resolved, which is later and elsewhere.
    inner: Arc<Mutex<Boxed<O>>>,
    names: Option<Names>,
}

impl<O> Transport<O> {
    pub(crate) fn new(inner: Boxed<O>, names: Option<Names>) -> Self {
        Self { inner: Arc::new(Mutex::new(inner)), names }
    }
}

impl<O> fmt::Debug for Transport<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("names", &self.names).finish_non_exhaustive()
    }
}

impl<O: Send + 'static> libp2p::core::Transport for Transport<O> {
    type Output = O;
    type Error = io::Error;
    type ListenerUpgrade = <Boxed<O> as libp2p::core::Transport>::ListenerUpgrade;
    type Dial = BoxFuture<'static, io::Result<O>>;

    fn listen_on(&mut self, id: ListenerId, addr: Multiaddr) -> Result<(), TransportError<io::Error>> {
        lock(&self.inner).listen_on(id, addr)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        lock(&self.inner).remove_listener(id)
    }

    fn dial(&mut self, addr: Multiaddr, opts: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        if !has_name(&addr) {
            return lock(&self.inner).dial(addr, opts);
        }
        let Some(names) = self.names.clone() else {
            let error = io::Error::new(io::ErrorKind::Unsupported, "this system has no DNS to resolve names");
            return Err(TransportError::Other(error));
        };
        Ok(dial(self.inner.clone(), Search::new(names, addr), opts).boxed())
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        Pin::new(&mut *lock(&self.inner)).poll(cx)
    }
}

fn lock<T>(inner: &Mutex<T>) -> MutexGuard<'_, T> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Dials what a name stands for, one address after the other, until one works.
async fn dial<O: Send + 'static>(inner: Arc<Mutex<Boxed<O>>>, mut search: Search, opts: DialOpts) -> io::Result<O> {
    let mut failures = Failures::default();
    let mut dials = 0;
    while let Some(found) = search.next().await {
        let address = match found {
            Ok(address) => address,
            Err(failure) => {
                failures.add(failure);
                continue;
            }
        };
        if dials == MAX_DIALS {
            failures.add(Failure::TooManyAddresses);
            break;
        }
        tracing::debug!(%address, "dialling what a name stands for");
        let dialling = lock(&inner).dial(address.clone(), opts);
        match dialling {
            Err(TransportError::MultiaddrNotSupported(address)) => failures.add(Failure::NoTransport(address)),
            Err(TransportError::Other(error)) => failures.add(Failure::Dial(address, error)),
            Ok(dialling) => {
                dials += 1;
                match dialling.await {
                    Ok(output) => return Ok(output),
                    Err(error) => failures.add(Failure::Dial(address, error)),
                }
            }
        }
    }
    Err(failures.into())
}

/// Why nothing that a name stands for could be dialled.
#[derive(Debug, Default)]
struct Failures {
    told: Vec<Failure>,
    more: usize,
}

impl Failures {
    fn add(&mut self, failure: Failure) {
        tracing::debug!(%failure, "dialling a name");
        if self.told.len() < MAX_TOLD { self.told.push(failure) } else { self.more += 1 }
    }
}

impl From<Failures> for io::Error {
    fn from(failures: Failures) -> Self {
        let kind = failures.told.iter().rev().find_map(|failure| match failure {
            Failure::Dial(_, error) => Some(error.kind()),
            _ => None,
        });
        Self::new(kind.unwrap_or(io::ErrorKind::NotFound), failures)
    }
}

impl std::error::Error for Failures {}

impl fmt::Display for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, failure) in self.told.iter().enumerate() {
            write!(f, "{}{failure}", if at == 0 { "" } else { "; " })?;
        }
        match (self.told.len(), self.more) {
            (0, _) => f.write_str("the name stands for no address of this kind"),
            (_, 0) => Ok(()),
            (_, more) => write!(f, "; and {more} more"),
        }
    }
}
