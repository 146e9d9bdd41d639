//! Sockets, timers and tasks for lookups.

use std::fmt;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ::async_io::{Async, Timer};
use futures_util::future::{BoxFuture, FutureExt};
use hickory_resolver::net::runtime::{DnsTcpStream, DnsUdpSocket, RuntimeProvider, Spawn, Time};

use crate::async_io::{Executor, tcp};
use crate::frames::within;

/// How long a server may take to accept a connection, if the resolver does not say.
const CONNECT: Duration = Duration::from_secs(5);

/// What lookups run on.
#[derive(Clone)]
pub(crate) struct OnAsyncIo(Tasks);

impl OnAsyncIo {
    pub(crate) fn new(executor: Executor) -> Self {
        Self(Tasks(executor))
    }
}

impl fmt::Debug for OnAsyncIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OnAsyncIo").finish_non_exhaustive()
    }
}

impl RuntimeProvider for OnAsyncIo {
    type Handle = Tasks;
    type Timer = Timers;
    type Udp = Udp;
    type Tcp = tcp::Stream;

    fn create_handle(&self) -> Tasks {
        self.0.clone()
    }

    fn connect_tcp(
        &self,
        server: SocketAddr,
        local: Option<SocketAddr>,
        limit: Option<Duration>,
    ) -> BoxFuture<'static, io::Result<tcp::Stream>> {
        let connect = async move {
            let connected = within(limit.unwrap_or(CONNECT), tcp::connect(server, local)).await;
            connected.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))
        };
        connect.boxed()
    }

    fn bind_udp(&self, local: SocketAddr, _: SocketAddr) -> BoxFuture<'static, io::Result<Udp>> {
        async move { Async::<UdpSocket>::bind(local).map(Udp) }.boxed()
    }
}

#[derive(Clone)]
pub(crate) struct Tasks(Executor);

impl Spawn for Tasks {
    fn spawn_bg(&mut self, future: impl Future<Output = ()> + Send + 'static) {
        (self.0)(future.boxed());
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Timers;

impl Time for Timers {
    fn delay_for<'a>(duration: Duration) -> BoxFuture<'a, ()> {
        async move {
            Timer::after(duration).await;
        }
        .boxed()
    }

    fn timeout<'a, F>(duration: Duration, future: F) -> BoxFuture<'a, io::Result<F::Output>>
    where
        F: 'static + Future + Send + 'a,
    {
        async move { within(duration, future).await.ok_or(io::ErrorKind::TimedOut.into()) }.boxed()
    }
}

#[derive(Debug)]
pub(crate) struct Udp(Async<UdpSocket>);

impl DnsUdpSocket for Udp {
    type Time = Timers;

    fn poll_recv_from(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
        loop {
            match self.0.get_ref().recv_from(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.0.poll_readable(cx))?,
                outcome => return Poll::Ready(outcome),
            }
        }
    }

    fn poll_send_to(&self, cx: &mut Context<'_>, bytes: &[u8], to: SocketAddr) -> Poll<io::Result<usize>> {
        loop {
            match self.0.get_ref().send_to(bytes, to) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.0.poll_writable(cx))?,
                outcome => return Poll::Ready(outcome),
            }
        }
    }
}

impl DnsTcpStream for tcp::Stream {
    type Time = Timers;
}
