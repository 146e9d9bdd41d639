//! The addresses at which a socket that listens can be reached.

use std::collections::HashSet;
use std::io;
use std::mem::replace;
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ::async_io::Timer;
use futures_util::FutureExt;
use if_watch::IfEvent;
use if_watch::smol::IfWatcher;

use super::address::same_family;

/// How long the system is left alone when it no longer tells of its interfaces.
const RETRY: Duration = Duration::from_secs(1);

/// The one address that a socket is bound to, or those of all interfaces of its family as they come and go.
#[derive(Debug)]
pub(crate) struct Interfaces {
    local: SocketAddr,
    source: Source,
    /// What has been told; as many as the machine has.
    up: HashSet<IpAddr>,
}

#[derive(Debug)]
enum Source {
    One { told: bool },
    All(IfWatcher),
    Broken(Timer),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Up(SocketAddr),
    Down(SocketAddr),
}

impl Interfaces {
    pub(crate) fn new(local: SocketAddr) -> io::Result<Self> {
        let all = local.ip().is_unspecified();
        let source = if all { Source::All(IfWatcher::new()?) } else { Source::One { told: false } };
        Ok(Self { local, source, up: HashSet::new() })
    }

    pub(crate) fn local(&self) -> SocketAddr {
        self.local
    }

    /// Whether one can dial `remote` from the socket: same family, and the loopback leads nowhere else.
    pub(crate) fn reach(&self, remote: IpAddr) -> bool {
        let ip = self.local.ip();
        same_family(ip, remote) && (ip.is_unspecified() || ip.is_loopback() == remote.is_loopback())
    }

    /// The next change; an error is no end.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Change>> {
        loop {
            match &mut self.source {
                Source::One { told: true } => return Poll::Pending,
                Source::One { told } => {
                    let _ = replace(told, true);
                    return Poll::Ready(Ok(Change::Up(self.local)));
                }
                Source::Broken(pause) => {
                    ready!(pause.poll_unpin(cx));
                    match IfWatcher::new() {
                        Ok(watcher) => self.source = Source::All(watcher),
                        Err(error) => return Poll::Ready(Err(self.broken(error))),
                    }
                }
                Source::All(watcher) => match ready!(watcher.poll_if_event(cx)) {
                    Ok(IfEvent::Up(net)) => {
                        if same_family(net.addr(), self.local.ip()) && self.up.insert(net.addr()) {
                            return Poll::Ready(Ok(Change::Up(self.at(net.addr()))));
                        }
                    }
                    Ok(IfEvent::Down(net)) => {
                        if self.up.remove(&net.addr()) {
                            return Poll::Ready(Ok(Change::Down(self.at(net.addr()))));
                        }
                    }
                    Err(error) => return Poll::Ready(Err(self.broken(error))),
                },
            }
        }
    }

    fn at(&self, ip: IpAddr) -> SocketAddr {
        SocketAddr::new(ip, self.local.port())
    }

    /// A watcher that has failed must not be asked again; what it has told stays until a new one knows better.
    fn broken(&mut self, error: io::Error) -> io::Error {
        self.source = Source::Broken(Timer::after(RETRY));
        error
    }
}
