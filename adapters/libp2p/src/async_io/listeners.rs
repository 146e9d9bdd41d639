//! Sockets that listen: what they announce, who comes, and what goes wrong with them.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ::async_io::Timer;
use futures_util::FutureExt;
use libp2p::Multiaddr;
use libp2p::core::transport::{ListenerId, TransportEvent};

use super::interfaces::{Change, Interfaces};

/// How long nobody is let in after an error that the next attempt would meet as well, such as no free descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// A socket that lets connections in.
pub(crate) trait Accept {
    /// What becomes a connection.
    type Upgrade;

    /// The next one who comes; nothing when the socket is of no use any more.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Arrival<Self::Upgrade>>>>;

    /// The address of a socket of this kind.
    fn address(socket: SocketAddr) -> Multiaddr;
}

#[derive(Debug)]
pub(crate) struct Arrival<U> {
    pub(crate) upgrade: U,
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
}

/// All listeners of a transport; how many is the owner's choice.
#[derive(Debug)]
pub(crate) struct Listeners<A> {
    /// Whose turn it is comes first.
    open: VecDeque<Listener<A>>,
    closed: VecDeque<(ListenerId, io::Result<()>)>,
    waker: Option<Waker>,
}

#[derive(Debug)]
struct Listener<A> {
    id: ListenerId,
    accept: A,
    interfaces: Interfaces,
    pause: Option<Timer>,
}

impl<A> Default for Listeners<A> {
    fn default() -> Self {
        Self { open: VecDeque::new(), closed: VecDeque::new(), waker: None }
    }
}

impl<A: Accept> Listeners<A> {
    /// A socket bound to `local` begins to listen.
    pub(crate) fn push(&mut self, id: ListenerId, accept: A, local: SocketAddr) -> io::Result<()> {
        self.open.push_back(Listener { id, accept, interfaces: Interfaces::new(local)?, pause: None });
        self.wake();
        Ok(())
    }

    /// The socket of the listener, which is one no longer.
    pub(crate) fn remove(&mut self, id: ListenerId) -> Option<A> {
        let at = self.open.iter().position(|listener| listener.id == id)?;
        let listener = self.open.remove(at)?;
        self.closed.push_back((id, Ok(())));
        self.wake();
        Some(listener.accept)
    }

    /// A listener whose port can be used to dial `remote`, and where it is bound.
    pub(crate) fn reaching(&self, remote: IpAddr) -> Option<(&A, SocketAddr)> {
        let fitting = self.open.iter().filter(|listener| listener.interfaces.reach(remote));
        // Always the same one, so that a peer sees one port of ours.
        let listener = fitting.min_by_key(|listener| listener.interfaces.local().port())?;
        Some((&listener.accept, listener.interfaces.local()))
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<TransportEvent<A::Upgrade, io::Error>> {
        if let Some((listener_id, reason)) = self.closed.pop_front() {
            return Poll::Ready(TransportEvent::ListenerClosed { listener_id, reason });
        }
        for _ in 0..self.open.len() {
            let Some(listener) = self.open.front_mut() else { break };
            let event = listener.poll(cx);
            match event {
                Poll::Ready(event) => {
                    if let TransportEvent::ListenerClosed { .. } = event {
                        self.open.pop_front();
                    } else {
                        self.open.rotate_left(1);
                    }
                    return Poll::Ready(event);
                }
                Poll::Pending => self.open.rotate_left(1),
            }
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl<A: Accept> Listener<A> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<TransportEvent<A::Upgrade, io::Error>> {
        let listener_id = self.id;
        if let Poll::Ready(change) = self.interfaces.poll(cx) {
            return Poll::Ready(match change {
                Ok(Change::Up(at)) => TransportEvent::NewAddress { listener_id, listen_addr: A::address(at) },
                Ok(Change::Down(at)) => TransportEvent::AddressExpired { listener_id, listen_addr: A::address(at) },
                Err(error) => TransportEvent::ListenerError { listener_id, error },
            });
        }
        if let Some(pause) = &mut self.pause {
            match pause.poll_unpin(cx) {
                Poll::Ready(_) => self.pause = None,
                Poll::Pending => return Poll::Pending,
            }
        }
        self.accept.poll_accept(cx).map(|arrival| match arrival {
            Some(Ok(Arrival { upgrade, local, remote })) => TransportEvent::Incoming {
                listener_id,
                upgrade,
                local_addr: A::address(local),
                send_back_addr: A::address(remote),
            },
            Some(Err(error)) => {
                if !is_over(&error) {
                    self.pause = Some(Timer::after(PAUSE));
                }
                TransportEvent::ListenerError { listener_id, error }
            }
            None => {
                let reason = Err(io::Error::other("the socket has failed"));
                TransportEvent::ListenerClosed { listener_id, reason }
            }
        })
    }
}

/// Whether an error took its connection with it, so that the next attempt finds another.
fn is_over(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use futures_util::future::poll_fn;

    use super::*;
    use crate::async_io::address;

    /// Tells what it was told to tell.
    struct Script(VecDeque<Option<io::ErrorKind>>);

    impl Accept for Script {
        type Upgrade = ();

        fn poll_accept(&mut self, _: &mut Context<'_>) -> Poll<Option<io::Result<Arrival<()>>>> {
            match self.0.pop_front() {
                Some(Some(kind)) => Poll::Ready(Some(Err(kind.into()))),
                Some(None) => Poll::Ready(None),
                None => {
                    let at = SocketAddr::from(([127, 0, 0, 1], 9));
                    Poll::Ready(Some(Ok(Arrival { upgrade: (), local: at, remote: at })))
                }
            }
        }

        fn address(socket: SocketAddr) -> Multiaddr {
            address::of_tcp(socket)
        }
    }

    fn listening(script: &[Option<io::ErrorKind>]) -> (Listeners<Script>, ListenerId) {
        let mut listeners = Listeners::default();
        let id = ListenerId::next();
        let local = SocketAddr::from(([127, 0, 0, 1], 9));
        listeners.push(id, Script(script.iter().copied().collect()), local).unwrap();
        (listeners, id)
    }

    fn next(listeners: &mut Listeners<Script>) -> TransportEvent<(), io::Error> {
        smol::block_on(poll_fn(|cx| listeners.poll(cx)))
    }

    #[test]
    fn an_error_does_not_end_a_listener_and_does_not_spin() {
        let descriptors = Some(io::ErrorKind::Other);
        let (mut listeners, _) = listening(&[Some(io::ErrorKind::ConnectionAborted), descriptors, descriptors]);
        assert!(matches!(next(&mut listeners), TransportEvent::NewAddress { .. }));
        let start = Instant::now();
        for _ in 0..3 {
            assert!(matches!(next(&mut listeners), TransportEvent::ListenerError { .. }));
        }
        assert!(matches!(next(&mut listeners), TransportEvent::Incoming { .. }));
        assert!(start.elapsed() >= 2 * PAUSE);
    }

    #[test]
    fn a_listener_ends_when_it_is_removed_or_of_no_use() {
        let (mut listeners, id) = listening(&[None]);
        assert!(matches!(next(&mut listeners), TransportEvent::NewAddress { .. }));
        assert!(matches!(next(&mut listeners), TransportEvent::ListenerClosed { reason: Err(_), .. }));
        assert!(listeners.remove(id).is_none());

        let (mut listeners, id) = listening(&[]);
        assert!(listeners.remove(id).is_some());
        assert!(matches!(next(&mut listeners), TransportEvent::ListenerClosed { reason: Ok(()), .. }));
        assert!(listeners.remove(id).is_none());
    }

    #[test]
    fn no_listener_starves_another() {
        let (mut listeners, first) = listening(&[]);
        let second = ListenerId::next();
        listeners.push(second, Script(VecDeque::new()), SocketAddr::from(([127, 0, 0, 1], 10))).unwrap();
        let mut seen = Vec::new();
        for _ in 0..6 {
            if let TransportEvent::Incoming { listener_id, .. } = next(&mut listeners) {
                seen.push(listener_id);
            }
        }
        assert!(seen.contains(&first) && seen.contains(&second));
    }
}
