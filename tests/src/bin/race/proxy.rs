//! The long way to a node: a proxy on loopback that takes the time which the internet would.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::sleep;

use crate::pipe::pipe;

/// Connections through one proxy at once; more wait to be taken.
const CONNECTIONS: usize = 1_024;
/// How long to wait when the system has no more sockets.
const RELAX: Duration = Duration::from_millis(100);

/// What all proxies of a network share.
#[derive(Debug, Default)]
pub(crate) struct Roads {
    /// Whether ways are as long as they are; else they are as short as loopback.
    pub(crate) long: AtomicBool,
    /// Connections that were taken to nodes, so far.
    pub(crate) dials: AtomicU64,
    /// Connections that were taken and led nowhere, so far.
    pub(crate) dead_dials: AtomicU64,
    /// Connections to nodes that are open.
    pub(crate) open: AtomicU64,
}

impl Roads {
    fn length(&self, duration: Duration) -> Duration {
        if self.long.load(Ordering::Relaxed) { duration } else { Duration::ZERO }
    }
}

/// Where connections lead.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leads {
    /// To the node. The number changes when all connections are cut.
    There(u64),
    /// Nowhere: nothing is forwarded and nothing answered, as when the node's machine is gone.
    Nowhere,
}

/// A proxy in front of a node. It ends, with its connections, when this is dropped.
pub(crate) struct Proxy {
    address: SocketAddr,
    leads: watch::Sender<Leads>,
}

impl Proxy {
    /// Starts one for the node that listens at `node`, so far away.
    pub(crate) async fn start(node: SocketAddr, round_trip: Duration, roads: Arc<Roads>) -> io::Result<Self> {
        Ok(Ahead::bind().await?.start(node, round_trip, roads))
    }

    /// Where the node can be reached.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes all connections that lead to the node.
    pub(crate) fn cut(&self) {
        self.leads.send_if_modified(|leads| match leads {
            Leads::There(times) => {
                *times += 1;
                true
            }
            // Whoever dials the dead is to wait.
            Leads::Nowhere => false,
        });
    }

    /// Closes all connections, and never answers any that comes.
    pub(crate) fn go_silent(&self) {
        self.leads.send_replace(Leads::Nowhere);
    }
}

/// The address of a proxy whose node does not listen yet; connections wait.
pub(crate) struct Ahead {
    listener: TcpListener,
    address: SocketAddr,
}

impl Ahead {
    pub(crate) async fn bind() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// The node listens at `node`, so far away.
    pub(crate) fn start(self, node: SocketAddr, round_trip: Duration, roads: Arc<Roads>) -> Proxy {
        let (leads, state) = watch::channel(Leads::There(0));
        tokio::spawn(listen(self.listener, Way { node, round_trip, roads }, state));
        Proxy { address: self.address, leads }
    }
}

#[derive(Clone)]
struct Way {
    node: SocketAddr,
    round_trip: Duration,
    roads: Arc<Roads>,
}

async fn listen(listener: TcpListener, way: Way, mut state: watch::Receiver<Leads>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let taken = tokio::select! {
            taken = listener.accept() => taken,
            () = gone(&mut state) => return,
        };
        let Ok((stream, _)) = taken else {
            sleep(RELAX).await;
            continue;
        };
        let (way, mut state) = (way.clone(), state.clone());
        tokio::spawn(async move {
            let leads = *state.borrow_and_update();
            let carried = async {
                match leads {
                    Leads::There(_) => there(stream, &way).await,
                    Leads::Nowhere => nowhere(stream, &way.roads).await,
                }
            };
            tokio::select! {
                () = carried => {}
                _ = state.changed() => {}
            }
            drop(slot);
        });
    }
}

/// Returns when the proxy has been dropped.
async fn gone(state: &mut watch::Receiver<Leads>) {
    while state.changed().await.is_ok() {}
}

/// Carries a connection to the node and back.
async fn there(mut near: TcpStream, way: &Way) {
    way.roads.dials.fetch_add(1, Ordering::Relaxed);
    let _open = Open::new(&way.roads.open);
    // Loopback connects at once. A handshake of TCP takes one round trip before the first byte can leave.
    sleep(way.roads.length(way.round_trip)).await;
    let Ok(mut far) = TcpStream::connect(way.node).await else { return };
    if near.set_nodelay(true).and_then(|()| far.set_nodelay(true)).is_err() {
        return;
    }
    let one_way = || way.roads.length(way.round_trip / 2);
    let (from_near, to_near) = near.split();
    let (from_far, to_far) = far.split();
    tokio::join!(pipe(from_near, to_far, one_way), pipe(from_far, to_near, one_way));
}

async fn nowhere(mut near: TcpStream, roads: &Roads) {
    roads.dead_dials.fetch_add(1, Ordering::Relaxed);
    // It is read, so that its end is seen, and nothing is ever written.
    let _ = tokio::io::copy(&mut near, &mut tokio::io::sink()).await;
}

/// Counts a connection for as long as it is open.
struct Open<'a>(&'a AtomicU64);

impl<'a> Open<'a> {
    fn new(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::{Instant, timeout};

    use super::*;

    const ROUND_TRIP: Duration = Duration::from_millis(40);

    /// A node that sends back what it gets, and the proxy in front of it.
    async fn echo(roads: &Arc<Roads>) -> Proxy {
        let node = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = node.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = node.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        Proxy::start(address, ROUND_TRIP, roads.clone()).await.unwrap()
    }

    async fn say(stream: &mut TcpStream) -> Duration {
        let begun = Instant::now();
        stream.write_u32(7).await.unwrap();
        assert_eq!(stream.read_u32().await.unwrap(), 7);
        begun.elapsed()
    }

    #[tokio::test]
    async fn connecting_takes_a_round_trip_and_so_does_every_question() {
        let roads = Arc::new(Roads::default());
        roads.long.store(true, Ordering::Relaxed);
        let proxy = echo(&roads).await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert!(say(&mut stream).await >= 2 * ROUND_TRIP - Duration::from_millis(1));
        assert!(say(&mut stream).await >= ROUND_TRIP);
        assert_eq!(roads.dials.load(Ordering::Relaxed), 1);
        // The end of one side comes out at the other.
        stream.shutdown().await.unwrap();
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn what_is_cut_ends_and_can_be_dialled_again() {
        let roads = Arc::new(Roads::default());
        let proxy = echo(&roads).await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        say(&mut stream).await;
        proxy.cut();
        assert!(matches!(stream.read(&mut [0]).await, Ok(0) | Err(_)));
        say(&mut TcpStream::connect(proxy.address()).await.unwrap()).await;
    }

    #[tokio::test]
    async fn a_black_hole_takes_connections_and_never_answers() {
        let roads = Arc::new(Roads::default());
        let proxy = echo(&roads).await;
        let mut before = TcpStream::connect(proxy.address()).await.unwrap();
        say(&mut before).await;
        proxy.go_silent();
        assert!(matches!(before.read(&mut [0]).await, Ok(0) | Err(_)));
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        stream.write_u32(7).await.unwrap();
        assert!(timeout(5 * ROUND_TRIP, stream.read_u32()).await.is_err());
        // A cut does not bring it back.
        proxy.cut();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        stream.write_u32(7).await.unwrap();
        assert!(timeout(5 * ROUND_TRIP, stream.read_u32()).await.is_err());
        assert_eq!(roads.dead_dials.load(Ordering::Relaxed), 2);
    }
}
