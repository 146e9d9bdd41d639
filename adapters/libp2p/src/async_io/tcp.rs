//! TCP.

use std::future::{Ready, ready};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::pin::Pin;
use std::task::{Context, Poll};

use ::async_io::Async;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::io::{AsyncRead, AsyncWrite, IoSlice};
use libp2p::Multiaddr;
use libp2p::core::transport::{DialOpts, ListenerId, PortUse, TransportError, TransportEvent};
use socket2::{Domain, Protocol, Socket, Type};

use super::address;
use super::listeners::{Accept, Arrival, Listeners};

/// Connections that the system has made and that nobody has asked for yet.
const BACKLOG: i32 = 1024;

/// A connection.
#[derive(Debug)]
pub(crate) struct Stream(Async<TcpStream>);

/// The transport without anything above it.
#[derive(Debug, Default)]
pub(crate) struct Transport {
    listeners: Listeners<Async<TcpListener>>,
}

impl libp2p::core::Transport for Transport {
    type Output = Stream;
    type Error = io::Error;
    type ListenerUpgrade = Ready<io::Result<Stream>>;
    type Dial = BoxFuture<'static, io::Result<Stream>>;

    fn listen_on(&mut self, id: ListenerId, addr: Multiaddr) -> Result<(), TransportError<io::Error>> {
        let at = address::tcp(&addr).ok_or(TransportError::MultiaddrNotSupported(addr))?;
        let (listener, local) = listen(at).map_err(TransportError::Other)?;
        self.listeners.push(id, listener, local).map_err(TransportError::Other)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.listeners.remove(id).is_some()
    }

    fn dial(&mut self, addr: Multiaddr, opts: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        let Some(remote) = address::tcp(&addr).filter(address::is_remote) else {
            return Err(TransportError::MultiaddrNotSupported(addr));
        };
        let port = match opts.port_use {
            PortUse::Reuse => self.listeners.reaching(remote.ip()).map(|(_, local)| local.port()),
            PortUse::New => None,
        };
        Ok(dial(remote, port).boxed())
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        self.listeners.poll(cx)
    }
}

impl Accept for Async<TcpListener> {
    type Upgrade = Ready<io::Result<Stream>>;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Arrival<Self::Upgrade>>>> {
        loop {
            match self.get_ref().accept() {
                Ok((stream, remote)) => return Poll::Ready(Some(arrived(stream, remote))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if let Err(error) = std::task::ready!(self.poll_readable(cx)) {
                        return Poll::Ready(Some(Err(error)));
                    }
                }
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }

    fn address(socket: SocketAddr) -> Multiaddr {
        address::of_tcp(socket)
    }
}

/// What goes wrong with one connection alone is told by its upgrade, and does not hold up the listener.
fn arrived(stream: TcpStream, remote: SocketAddr) -> io::Result<Arrival<Ready<io::Result<Stream>>>> {
    let local = stream.local_addr()?;
    let upgrade = ready(stream.set_nodelay(true).and_then(|()| Async::new(stream)).map(Stream));
    Ok(Arrival { upgrade, local, remote })
}

fn listen(at: SocketAddr) -> io::Result<(Async<TcpListener>, SocketAddr)> {
    let socket = socket(at)?;
    share(&socket)?;
    socket.bind(&at.into())?;
    socket.listen(BACKLOG)?;
    let listener = TcpListener::from(socket);
    let local = listener.local_addr()?;
    Ok((Async::new(listener)?, local))
}

/// Connects, from a port of ours if possible.
async fn dial(remote: SocketAddr, port: Option<u16>) -> io::Result<Stream> {
    let Some(port) = port else { return connect(remote, None).await };
    let any = if remote.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    match connect(remote, Some(SocketAddr::new(any, port))).await {
        Err(error) if matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse) => {
            // Between two sockets there is one connection, and there is or was one from that port already.
            tracing::debug!(%remote, port, %error, "cannot dial from the port of a listener");
            connect(remote, None).await
        }
        outcome => outcome,
    }
}

/// Connects, from `local` if given; dropped, it gives up.
pub(crate) async fn connect(remote: SocketAddr, local: Option<SocketAddr>) -> io::Result<Stream> {
    let socket = socket(remote)?;
    if let Some(local) = local {
        share(&socket)?;
        socket.bind(&local.into())?;
    }
    match socket.connect(&remote.into()) {
        Err(error) if !is_under_way(&error) => return Err(error),
        _ => {}
    }
    let stream = Async::new(TcpStream::from(socket))?;
    stream.writable().await?;
    match stream.get_ref().take_error()? {
        Some(error) => Err(error),
        None => Ok(Stream(stream)),
    }
}

fn is_under_way(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(libc::EINPROGRESS)
}

fn socket(peer: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(peer), Type::STREAM, Some(Protocol::TCP))?;
    if peer.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Lets connections begin at the port of a listener, and listeners begin where connections have just ended.
fn share(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_address(true)?;
    #[cfg(all(unix, not(any(target_os = "solaris", target_os = "illumos"))))]
    socket.set_reuse_port(true)?;
    Ok(())
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    /// Tells the peer that this was all, which async-io by itself does not.
    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.0.get_ref().shutdown(Shutdown::Write) {
            // A peer that is gone needs not be told.
            Err(error) if error.kind() != io::ErrorKind::NotConnected => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(())),
        }
    }
}
