//! The server: listens, bounds the connections that it serves, and ends in good order.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;

use crate::api::Api;
use crate::connection::{self, Peer, Slots};
use crate::failure::{Failure, exit};
use crate::listen::{Incoming, Listeners};
use crate::routes::App;
use crate::token::Token;

/// How long accepting rests when it fails: out of descriptors, it would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The limits of a server. [`Default`] is sound but has no admin interface.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// What the admin interface asks for; without it there is none.
    pub token: Option<Token>,
    /// The socket file to listen on beside the TCP addresses. Where it cannot be had there is a warning, and none.
    pub socket: Option<PathBuf>,
    /// Connections at once. What comes beyond is turned away with 503.
    pub max_connections: usize,
    /// Connections from this machine at once when the others are used up.
    pub max_local_connections: usize,
    /// Requests for `/routing/v1` being answered at once. What comes beyond is answered with 429.
    pub max_requests: usize,
    /// How long a client may take for the headers of a request, and for being idle before them.
    pub header_timeout: Duration,
    /// How long a request may take: all of one for `/routing/v1`, the reading of its body for `/admin/v1`, where what
    /// is asked for has time-outs of its own.
    pub request_timeout: Duration,
    /// How long a client may leave unread what is sent to it.
    pub write_timeout: Duration,
    /// How long requests under way may take to end after the shutdown.
    pub grace: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            token: None,
            socket: None,
            max_connections: 1024,
            max_local_connections: 64,
            max_requests: 512,
            header_timeout: Duration::from_secs(15),
            // The engine lets nobody who asks over HTTP wait for longer than 30 s; the rest is for the body.
            request_timeout: Duration::from_secs(45),
            write_timeout: Duration::from_secs(30),
            grace: Duration::from_secs(10),
        }
    }
}

/// A server that listens. Nothing is answered before [`serve`](Self::serve).
pub struct Server {
    listeners: Listeners,
    app: App,
}

impl Server {
    /// Listens on TCP addresses (port 0 for any that is free) and on the socket file of `config`.
    ///
    /// # Errors
    /// When an address cannot be listened on.
    pub async fn bind(addrs: &[SocketAddr], api: Api, config: ServerConfig) -> Result<Self, Failure> {
        let mut listeners = Listeners::bind(addrs).await.map_err(|(addr, error)| {
            let message = format!("cannot listen on {addr}: {error}; choose another address with --http");
            Failure::new(exit::NETWORK, "listen", message)
        })?;
        if let Some(path) = &config.socket
            && let Err(error) = listeners.bind_socket(path)
        {
            tracing::warn!(path = %path.display(), %error, "no socket file; commands will come over TCP");
        }
        Ok(Self { listeners, app: App::new(api, config) })
    }

    /// The first TCP address; 0.0.0.0:0 if there is none.
    pub fn local_addr(&self) -> SocketAddr {
        self.listeners.addrs().first().copied().unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)))
    }

    /// Every TCP address.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        self.listeners.addrs()
    }

    /// The socket file, if there is one.
    pub fn socket(&self) -> Option<&Path> {
        self.listeners.socket()
    }

    /// Serves until `shutdown` is ready; then takes no connection any more, answers the requests under way for at
    /// most [`ServerConfig::grace`], and returns. Whoever stops the node does that afterwards.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) {
        let Self { mut listeners, app } = self;
        let slots = Slots::new(app.config());
        let (close, closing) = watch::channel(false);
        let mut connections = JoinSet::new();
        let mut shutdown = pin!(shutdown);
        loop {
            tokio::select! {
                biased;
                () = shutdown.as_mut() => break,
                Some(ended) = connections.join_next() => log_panic(ended),
                incoming = listeners.accept() => match incoming {
                    Ok(incoming) => spawn(&mut connections, incoming, &slots, &app, &closing),
                    Err(error) => {
                        tracing::warn!(%error, "a connection cannot be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        app.close();
        drop(listeners);
        let _ = close.send(true);
        let drain = async {
            while let Some(ended) = connections.join_next().await {
                log_panic(ended);
            }
        };
        if timeout(app.config().grace, drain).await.is_err() {
            tracing::warn!(connections = connections.len(), "connections are cut: their time to end is over");
            connections.shutdown().await;
        }
    }
}

fn spawn(connections: &mut JoinSet<()>, incoming: Incoming, slots: &Slots, app: &App, closing: &watch::Receiver<bool>) {
    let peer = match &incoming {
        Incoming::Tcp(_, addr) => Peer::Tcp(*addr),
        #[cfg(unix)]
        Incoming::Socket(_) => Peer::Socket,
    };
    let Some(slot) = slots.take(peer) else {
        app.metrics().refused.inc();
        tracing::debug!(?peer, "a connection is turned away: there are too many");
        if let Incoming::Tcp(stream, _) = incoming {
            connection::turn_away(stream);
        }
        return;
    };
    let (app, closing) = (app.clone(), closing.clone());
    connections.spawn(async move {
        let _slot = slot;
        let _open = app.opened();
        match incoming {
            Incoming::Tcp(stream, _) => {
                // Answers are written whole; waiting to fill a packet only delays them.
                let _ = stream.set_nodelay(true);
                connection::run(stream, peer, app.clone(), closing).await;
            }
            #[cfg(unix)]
            Incoming::Socket(stream) => connection::run(stream, peer, app.clone(), closing).await,
        }
    });
}

fn log_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "the task of a connection panicked");
    }
}
