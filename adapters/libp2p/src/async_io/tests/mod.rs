//! The transports over real sockets, on an executor of one thread.

mod names;
mod peers;
mod sockets;
mod swarms;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join;
use libp2p::core::Endpoint;
use libp2p::core::transport::{DialOpts, ListenerId, PortUse, Transport, TransportEvent};
use libp2p::{Multiaddr, PeerId};

use super::Executor;
use crate::frames::within;

/// No test takes so long.
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn run<F: Future>(test: impl FnOnce(Executor) -> F) -> F::Output {
    let executor = Arc::new(smol::Executor::new());
    let tasks = executor.clone();
    let test = within(LIMIT, test(Arc::new(move |task| tasks.spawn(task).detach())));
    smol::block_on(executor.run(test)).expect("the test ends in time")
}

pub(crate) fn dialling(port_use: PortUse) -> DialOpts {
    DialOpts { role: Endpoint::Dialer, port_use }
}

pub(crate) async fn event<T: Transport + Unpin>(transport: &mut T) -> TransportEvent<T::ListenerUpgrade, T::Error> {
    poll_fn(|cx| Pin::new(&mut *transport).poll(cx)).await
}

/// Listens, and tells where first.
pub(crate) async fn listen<T: Transport<Error = io::Error> + Unpin>(
    transport: &mut T,
    at: &str,
) -> (ListenerId, Multiaddr) {
    let id = ListenerId::next();
    transport.listen_on(id, at.parse().unwrap()).unwrap();
    match event(transport).await {
        TransportEvent::NewAddress { listener_id, listen_addr } if listener_id == id => (id, listen_addr),
        _ => panic!("an address comes first"),
    }
}

pub(crate) async fn accept<T: Transport<Error = io::Error> + Unpin>(
    server: &mut T,
) -> io::Result<(T::Output, Multiaddr)> {
    loop {
        match event(server).await {
            TransportEvent::Incoming { upgrade, send_back_addr, .. } => return Ok((upgrade.await?, send_back_addr)),
            TransportEvent::ListenerError { error, .. } => return Err(error),
            _ => {}
        }
    }
}

/// What the one who dials has, what the one who listens has, and from where the dial came.
pub(crate) async fn connect<T: Transport<Error = io::Error> + Unpin>(
    client: &mut T,
    server: &mut T,
    at: &Multiaddr,
    port: PortUse,
) -> (T::Output, T::Output, Multiaddr) {
    let dial = client.dial(at.clone(), dialling(port)).map_err(|error| error.to_string()).unwrap();
    let (dialled, accepted) = join(dial, accept(server)).await;
    let (accepted, from) = accepted.unwrap();
    (dialled.unwrap(), accepted, from)
}

pub(crate) fn some_peer() -> PeerId {
    libp2p::identity::Keypair::generate_ed25519().public().to_peer_id()
}
