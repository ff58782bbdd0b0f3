//! Connections as they arrive: few at a time, and over TLS where that is wanted.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use millstream_broker::Broker;
use millstream_broker::audited::{Kind, Outcome};
use millstream_tls::{HandshakeError, ServerTls};
use millstream_types::Principal;
use prometheus_client::metrics::counter::Counter;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tracing::debug;

use crate::guard;
use crate::patience::Patient;
use crate::places::Places;

/// Who has connected, as far as the connection itself tells.
#[derive(Clone, Debug)]
pub(super) struct Guest {
    /// Where he connects from.
    pub(super) address: SocketAddr,
    /// Whom his certificate speaks for, if he has shown one.
    pub(super) certificate: Option<Principal>,
}

/// A connection, whatever is below HTTP.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// One who may ask.
type Arrived = (Box<dyn Stream>, Guest);

/// A handshake under way; nobody comes of one that fails.
type Handshake = Pin<Box<dyn Future<Output = Option<Arrived>> + Send>>;

/// Where guests arrive.
pub(super) struct Arrivals {
    listener: TcpListener,
    places: Places,
    tls: Option<Arc<ServerTls>>,
    /// Whoever is slow with his holds nobody up.
    handshakes: FuturesUnordered<Handshake>,
    bad_handshakes: Counter,
    /// Whose audit notes those that are refused.
    broker: Arc<OnceLock<Broker>>,
}

impl Arrivals {
    pub(super) fn new(
        listener: TcpListener,
        tls: Option<Arc<ServerTls>>,
        bad_handshakes: Counter,
        broker: Arc<OnceLock<Broker>>,
    ) -> Self {
        let (places, handshakes) = (Places::new(), FuturesUnordered::new());
        Self { listener, places, tls, handshakes, bad_handshakes, broker }
    }

    fn begin(&self, stream: Patient, address: SocketAddr, tls: &Arc<ServerTls>) -> Handshake {
        let (tls, bad_handshakes) = (Arc::clone(tls), self.bad_handshakes.clone());
        let broker = Arc::clone(&self.broker);
        Box::pin(async move {
            match tls.accept(stream, true).await {
                Ok((stream, certificate)) => {
                    Some((Box::new(stream) as Box<dyn Stream>, Guest { address, certificate }))
                }
                Err(error) => {
                    if !matches!(error, HandshakeError::Gone) {
                        bad_handshakes.inc();
                        debug!(peer = %address, %error, "refused a connection to the pages");
                        if let Some(broker) = broker.get() {
                            let event = guard::event(Kind::Connection, Outcome::Refused, address);
                            broker.audit(event.because(&error.to_string()));
                        }
                    }
                    None
                }
            }
        })
    }
}

/// The next connection, with its place, which it has from its first byte.
async fn next(listener: &mut TcpListener, places: &Places) -> (Patient, SocketAddr) {
    let ticket = places.ticket().await;
    let (stream, peer) = Listener::accept(listener).await;
    (Patient::new(stream, Some(places.take(peer.ip(), ticket))), peer)
}

impl Listener for Arrivals {
    type Io = Box<dyn Stream>;
    type Addr = Guest;

    async fn accept(&mut self) -> Arrived {
        loop {
            let Self { listener, places, handshakes, .. } = self;
            let (stream, address) = tokio::select! {
                biased;
                Some(done) = handshakes.next() => match done {
                    Some(arrived) => return arrived,
                    None => continue,
                },
                next = next(listener, places) => next,
            };
            match &self.tls {
                None => return (Box::new(stream), Guest { address, certificate: None }),
                Some(tls) => self.handshakes.push(self.begin(stream, address, tls)),
            }
        }
    }

    fn local_addr(&self) -> io::Result<Guest> {
        Ok(Guest { address: self.listener.local_addr()?, certificate: None })
    }
}

impl Connected<IncomingStream<'_, Arrivals>> for Guest {
    fn connect_info(stream: IncomingStream<'_, Arrivals>) -> Self {
        stream.remote_addr().clone()
    }
}
