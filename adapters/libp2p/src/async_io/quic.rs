//! QUIC.

mod connection;
mod said;
mod settings;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use libp2p::core::Endpoint as Role;
use libp2p::core::transport::{DialOpts, ListenerId, PortUse, TransportError, TransportEvent};
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId, tls};
use quinn::rustls::pki_types::CertificateDer;
use socket2::{Domain, Protocol, Socket, Type};

use super::address;
use super::listeners::{Accept, Arrival, Listeners};
use crate::frames::within;
use crate::node::NodeError;
use crate::platform::Executor;
use settings::{OnExecutor, Settings};

pub(crate) use connection::Connection;

/// A peer that has not proved who it is by then is given up.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// TLS wants a name to ask for; peers have none.
const NO_NAME: &str = "l";

/// The transport: encrypted, authenticated and multiplexed as it is.
#[derive(Debug)]
pub(crate) struct Transport {
    settings: Settings,
    runtime: Arc<OnExecutor>,
    listeners: Listeners<Listening>,
    /// One for each family that has no listener to dial from.
    clients: HashMap<Family, quinn::Endpoint>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Family {
    V4,
    V6,
}

impl Transport {
    pub(crate) fn new(keypair: &Keypair, executor: Executor) -> Result<Self, NodeError> {
        Ok(Self {
            settings: Settings::new(keypair)?,
            runtime: Arc::new(OnExecutor(executor)),
            listeners: Listeners::default(),
            clients: HashMap::new(),
        })
    }

    fn listen(&self, at: SocketAddr) -> io::Result<(Listening, SocketAddr)> {
        let socket = Socket::new(Domain::for_address(at), Type::DGRAM, Some(Protocol::UDP))?;
        if at.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind(&at.into())?;
        let socket = UdpSocket::from(socket);
        let local = socket.local_addr()?;
        Ok((Listening::new(self.endpoint(socket, Some(self.settings.server.clone()))?, local), local))
    }

    fn endpoint(&self, socket: UdpSocket, server: Option<quinn::ServerConfig>) -> io::Result<quinn::Endpoint> {
        quinn::Endpoint::new(self.settings.endpoint.clone(), server, socket, self.runtime.clone())
    }

    fn dialler(&mut self, remote: SocketAddr, port: PortUse) -> io::Result<quinn::Endpoint> {
        if let PortUse::New = port {
            return self.client(remote);
        }
        if let Some((listening, _)) = self.listeners.reaching(remote.ip()) {
            return Ok(listening.endpoint.clone());
        }
        let family = Family::of(remote);
        if let Some(client) = self.clients.get(&family).filter(|client| is_alive(client)) {
            return Ok(client.clone());
        }
        let client = self.client(remote)?;
        self.clients.insert(family, client.clone());
        Ok(client)
    }

    fn client(&self, remote: SocketAddr) -> io::Result<quinn::Endpoint> {
        let any = match Family::of(remote) {
            Family::V4 => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            Family::V6 => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        self.endpoint(UdpSocket::bind(any)?, None)
    }
}

impl Family {
    fn of(socket: SocketAddr) -> Self {
        if socket.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

impl libp2p::core::Transport for Transport {
    type Output = (PeerId, Connection);
    type Error = io::Error;
    type ListenerUpgrade = BoxFuture<'static, io::Result<Self::Output>>;
    type Dial = BoxFuture<'static, io::Result<Self::Output>>;

    fn listen_on(&mut self, id: ListenerId, addr: Multiaddr) -> Result<(), TransportError<io::Error>> {
        let at = address::quic(&addr).ok_or(TransportError::MultiaddrNotSupported(addr))?;
        let (listening, local) = self.listen(at).map_err(TransportError::Other)?;
        self.listeners.push(id, listening, local).map_err(TransportError::Other)?;
        // It ends with its last connection; new ones begin at the listener.
        self.clients.remove(&Family::of(local));
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        let listening = self.listeners.remove(id);
        // Connections that have come or gone out by its socket live on.
        listening.inspect(|listening| listening.endpoint.set_server_config(None)).is_some()
    }

    fn dial(&mut self, addr: Multiaddr, opts: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        let Some(remote) = address::quic(&addr).filter(address::is_remote) else {
            return Err(TransportError::MultiaddrNotSupported(addr));
        };
        if let (Role::Listener, PortUse::New) = (opts.role, opts.port_use) {
            let error = io::Error::new(io::ErrorKind::Unsupported, "no holes are punched for QUIC");
            return Err(TransportError::Other(error));
        }
        let endpoint = self.dialler(remote, opts.port_use).map_err(TransportError::Other)?;
        let client = self.settings.client.clone();
        Ok(async move {
            let connecting = endpoint.connect_with(client, remote, NO_NAME).map_err(io::Error::other)?;
            establish(connecting).await
        }
        .boxed())
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        self.listeners.poll(cx)
    }
}

/// An endpoint that lets connections in.
struct Listening {
    endpoint: quinn::Endpoint,
    local: SocketAddr,
    next: BoxFuture<'static, Option<quinn::Incoming>>,
}

impl Listening {
    fn new(endpoint: quinn::Endpoint, local: SocketAddr) -> Self {
        let next = next(endpoint.clone());
        Self { endpoint, local, next }
    }
}

impl std::fmt::Debug for Listening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listening").field("local", &self.local).finish_non_exhaustive()
    }
}

impl Accept for Listening {
    type Upgrade = BoxFuture<'static, io::Result<(PeerId, Connection)>>;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Arrival<Self::Upgrade>>>> {
        let Some(incoming) = ready!(self.next.poll_unpin(cx)) else { return Poll::Ready(None) };
        self.next = next(self.endpoint.clone());
        let remote = incoming.remote_address();
        let connecting = incoming.accept().map_err(|error| io::Error::new(io::ErrorKind::ConnectionAborted, error));
        Poll::Ready(Some(connecting.map(|connecting| Arrival {
            upgrade: establish(connecting).boxed(),
            local: self.local,
            remote,
        })))
    }

    fn address(socket: SocketAddr) -> Multiaddr {
        address::of_quic(socket)
    }
}

fn next(endpoint: quinn::Endpoint) -> BoxFuture<'static, Option<quinn::Incoming>> {
    async move { endpoint.accept().await }.boxed()
}

/// Whether the endpoint's socket still works; a client lets nobody in, so asking takes nothing from it.
fn is_alive(client: &quinn::Endpoint) -> bool {
    client.accept().now_or_never().is_none()
}

/// A connection as soon as the peer has proved who it is; dropped, it closes.
async fn establish(connecting: quinn::Connecting) -> io::Result<(PeerId, Connection)> {
    let connection = within(HANDSHAKE, connecting).await.ok_or(io::ErrorKind::TimedOut)??;
    let peer = peer(&connection).ok_or_else(|| {
        connection.close(0u32.into(), b"");
        io::Error::new(io::ErrorKind::InvalidData, "the certificate names no peer")
    })?;
    Ok((peer, Connection::new(connection)))
}

/// Who the certificate names; that the peer has its key was proved by the handshake.
fn peer(connection: &quinn::Connection) -> Option<PeerId> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    tls::certificate::parse(chain.first()?).ok().map(|certificate| certificate.peer_id())
}
