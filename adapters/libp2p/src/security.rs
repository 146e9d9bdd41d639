//! Noise or TLS, as the other side likes: SwarmBuilder's choice between them is for its own use alone.

use std::io;

use futures_util::future::{BoxFuture, Either, FutureExt};
use futures_util::{AsyncRead, AsyncWrite, TryFutureExt};
use libp2p::core::UpgradeInfo;
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade};
use libp2p::identity::Keypair;
use libp2p::{PeerId, noise, tls};

use crate::node::NodeError;

/// Offers Noise before TLS.
#[derive(Clone)]
pub(crate) struct Security {
    noise: noise::Config,
    tls: tls::Config,
}

/// What either makes of a stream of bytes.
pub(crate) type Secured<C> = (PeerId, Either<noise::Output<C>, tls::TlsStream<C>>);

impl Security {
    pub(crate) fn new(keypair: &Keypair) -> Result<Self, NodeError> {
        let noise = noise::Config::new(keypair).map_err(|error| NodeError::Security(error.to_string()))?;
        let tls = tls::Config::new(keypair).map_err(|error| NodeError::Security(error.to_string()))?;
        Ok(Self { noise, tls })
    }

    fn is_noise(&self, chosen: &str) -> bool {
        self.noise.protocol_info().any(|name| name == chosen)
    }
}

impl UpgradeInfo for Security {
    type Info = &'static str;
    type InfoIter = std::vec::IntoIter<&'static str>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.noise.protocol_info().chain(self.tls.protocol_info()).collect::<Vec<_>>().into_iter()
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin + Send + 'static> InboundConnectionUpgrade<C> for Security {
    type Output = Secured<C>;
    type Error = io::Error;
    type Future = BoxFuture<'static, Result<Secured<C>, io::Error>>;

    fn upgrade_inbound(self, socket: C, chosen: &'static str) -> Self::Future {
        match self.is_noise(chosen) {
            true => self.noise.upgrade_inbound(socket, chosen).map(with_noise).boxed(),
            false => self.tls.upgrade_inbound(socket, chosen).map_err(io::Error::other).map_ok(with_tls).boxed(),
        }
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin + Send + 'static> OutboundConnectionUpgrade<C> for Security {
    type Output = Secured<C>;
    type Error = io::Error;
    type Future = BoxFuture<'static, Result<Secured<C>, io::Error>>;

    fn upgrade_outbound(self, socket: C, chosen: &'static str) -> Self::Future {
        match self.is_noise(chosen) {
            true => self.noise.upgrade_outbound(socket, chosen).map(with_noise).boxed(),
            false => self.tls.upgrade_outbound(socket, chosen).map_err(io::Error::other).map_ok(with_tls).boxed(),
        }
    }
}

fn with_noise<C>(result: Result<(PeerId, noise::Output<C>), noise::Error>) -> io::Result<Secured<C>> {
    let (peer, stream) = result.map_err(io::Error::other)?;
    Ok((peer, Either::Left(stream)))
}

fn with_tls<C>((peer, stream): (PeerId, tls::TlsStream<C>)) -> Secured<C> {
    (peer, Either::Right(stream))
}
