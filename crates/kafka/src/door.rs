//! The door itself: takes connections and gives each a task, in the network or in process.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use millstream_broker::Broker;
use millstream_broker::audited::{Event, Kind, Outcome};
use millstream_env::open_files::sockets_max;
use millstream_env::{Env, Quiet};
use millstream_tls::{HandshakeError, ServerTls};
use prometheus_client::registry::Registry;
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::connection::{self, Bounds, Close};
use crate::dispatch::Dispatch;
use crate::listener::{Listener, Peer};
use crate::metrics::{IntakeCollector, Metrics};
use crate::pace::Pace;
use crate::places::{Place, Places};

/// How long accepting pauses when the system has no more sockets to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often it is looked whether a limit on connections that has been reached was raised.
const LIMIT_PAUSE: Duration = Duration::from_secs(1);

/// `max.connections` as it is when nobody has set it.
const CONNECTIONS_ANY: usize = i32::MAX as usize;

/// How long the goodbye of TLS is waited for: whoever does not read any more does not hear it.
const GOODBYE_MAX: Duration = Duration::from_secs(1);

/// What an in-process connection buffers in each direction, in bytes.
const DUPLEX_BYTES: usize = 64 * 1024;

/// The Kafka protocol in front of one broker. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Door(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    broker: Broker,
    dispatch: Arc<Dispatch>,
    metrics: Arc<Metrics>,
    /// Of clients in the process.
    inside: Arc<Listener>,
    /// Of connections in the network, of all listeners together.
    places: Arc<Places>,
    /// How many connections the process can have, whatever the configuration says.
    sockets_max: usize,
    /// Of connections that were refused.
    refusals: Quiet,
    stop: watch::Sender<bool>,
}

impl Door {
    /// A door to `broker`; its metrics go to `registry`.
    #[must_use]
    pub fn new(broker: Broker, registry: &mut Registry) -> Self {
        let metrics = Arc::new(Metrics::register(registry));
        let dispatch = Arc::new(Dispatch::new(broker.clone(), &metrics));
        registry.register_collector(Box::new(IntakeCollector(Arc::clone(&dispatch.intake))));
        let inside = Arc::new(Listener::in_process(broker.node()));
        Self(Arc::new(Inner {
            broker,
            dispatch,
            metrics,
            inside,
            places: Arc::default(),
            sockets_max: sockets_max().unwrap_or(usize::MAX),
            refusals: Quiet::default(),
            stop: watch::channel(false).0,
        }))
    }

    /// Takes the connections that come in at `at`, which is what `listener` is to clients, until
    /// [`Door::close`].
    pub async fn listen(&self, listener: TcpListener, at: Arc<Listener>) {
        let mut stopped = self.0.stop.subscribe();
        let mut pace = Pace::new(self.env().clock.monotonic());
        let mut complained = false;
        self.tell_limit();
        loop {
            let accepted = tokio::select! {
                biased;
                _ = stopped.wait_for(|stop| *stop) => return,
                accepted = self.accept(&listener, &mut pace) => accepted,
            };
            match accepted {
                Ok((stream, address)) => {
                    complained = false;
                    self.welcome(stream, address, &at);
                }
                Err(error) => {
                    if !std::mem::replace(&mut complained, true) {
                        warn!(%error, "can't accept connections for now: is the limit of open files of \
                              the whole system reached?");
                    }
                    self.env().sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Accepts a connection when there may be another one, in all and in this second. Until then others
    /// wait in the listener's queue, as with Apache Kafka.
    async fn accept(
        &self,
        listener: &TcpListener,
        pace: &mut Pace,
    ) -> io::Result<(TcpStream, SocketAddr)> {
        let clock = &self.env().clock;
        let rate = || self.0.broker.config().connection_rate_max;
        while let Some(next) = pace.next(clock.monotonic(), rate()) {
            clock.sleep_until(next).await;
        }
        while self.0.places.count() >= self.connections_max() {
            tokio::select! {
                biased;
                () = self.0.places.freed() => {}
                // Nobody tells when the limit is raised.
                () = self.env().sleep(LIMIT_PAUSE) => {}
            }
        }
        let accepted = listener.accept().await?;
        pace.pass(clock.monotonic(), rate());
        Ok(accepted)
    }

    /// The most connections at a time: what is configured, as far as the process may have as many.
    fn connections_max(&self) -> usize {
        self.0.broker.config().connections_max.min(self.0.sockets_max)
    }

    /// Says when the process may have fewer connections than somebody has asked for.
    fn tell_limit(&self) {
        let (wanted, possible) = (self.0.broker.config().connections_max, self.0.sockets_max);
        if possible >= wanted {
            return;
        }
        if wanted == CONNECTIONS_ANY {
            info!(connections = possible, "the limit of open files allows so many connections");
        } else {
            warn!(
                connections = possible,
                wanted,
                "the limit of open files is too low for \
                  max.connections: raise it (ulimit -n, LimitNOFILE= of systemd), or ask for fewer"
            );
        }
    }

    fn welcome(&self, stream: TcpStream, address: SocketAddr, at: &Arc<Listener>) {
        if !self.may_connect(address.ip()) {
            self.refuse(address, at, "its address has connected more often than its quota allows");
            return;
        }
        let config = self.0.broker.config();
        let limit = config.connections_of_addresses.get(&address.ip().to_canonical());
        let most = limit.copied().unwrap_or(config.connections_per_address_max);
        let Some(place) = self.0.places.take(address.ip(), most) else {
            self.refuse(address, at, "its address has as many connections as it may have");
            return;
        };
        if let Err(error) = prepare(&stream) {
            debug!(peer = %address, %error, "a socket without its options");
        }
        let listener = Arc::clone(at);
        let peer = Peer { address: Some(address), listener, certificate: None };
        match at.tls() {
            None => self.serve(stream, peer, Some(place)),
            Some(tls) => self.serve_tls(stream, peer, place, Arc::clone(tls)),
        }
    }

    /// Whether an address may have another connection now, by its quota (KIP-612).
    fn may_connect(&self, address: IpAddr) -> bool {
        let Some(quota) = self.0.broker.connection_quota(address.to_canonical()) else {
            return true;
        };
        let now = self.env().clock.monotonic();
        let may = quota.wait(now) == Duration::ZERO;
        if may {
            quota.charge(now, 1.0);
        }
        may
    }

    fn refuse(&self, peer: SocketAddr, at: &Listener, why: &str) {
        self.0.metrics.refused.inc();
        let event = Event::new(Kind::Connection, Outcome::Refused);
        self.0.broker.audit(event.from(Some(peer.ip()), at.name()).because(why));
        let now = self.env().clock.monotonic();
        if let Some(left_out) = self.0.refusals.may_say(Some(peer.ip()), now) {
            info!(%peer, why, left_out, "refused a connection");
        }
    }

    /// A connection without a network, for clients in the same process.
    #[must_use]
    pub fn connect(&self) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(DUPLEX_BYTES);
        self.serve(ours, self.insider(), None);
        theirs
    }

    /// Serves a connection over a stream of any kind, such as a simulated network's.
    pub fn take(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        self.serve(stream, self.insider(), None);
    }

    /// The same as if it had come in at `at`, which must not speak TLS: the stream is taken as it is.
    pub fn take_at(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        at: &Arc<Listener>,
    ) {
        let peer = Peer { listener: Arc::clone(at), ..self.insider() };
        self.serve(stream, peer, None);
    }

    fn insider(&self) -> Peer {
        Peer { address: None, listener: Arc::clone(&self.0.inside), certificate: None }
    }

    /// Begins to end every connection and takes no more.
    pub fn shut(&self) {
        self.0.stop.send_replace(true);
    }

    /// Ends every connection and takes no more. Requests that wait are not answered.
    pub async fn close(&self) {
        self.shut();
        // Each connection holds a receiver until its task has ended.
        self.0.stop.closed().await;
    }

    fn env(&self) -> &Env {
        self.0.broker.env()
    }

    fn serve(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: Peer,
        place: Option<Place>,
    ) {
        let inner = Arc::clone(&self.0);
        let stopped = self.0.stop.subscribe();
        self.env().spawn("kafka connection", async move {
            inner.metrics.connections.inc();
            let address = peer.address;
            let closed = inner.converse(stream, peer, stopped).await;
            drop(place);
            inner.metrics.connections.dec();
            inner.note(address, &closed);
        });
    }

    /// The same over TLS. The handshake is the connection's own affair: nobody waits for it, and it has a
    /// place like any other connection.
    fn serve_tls(&self, stream: TcpStream, peer: Peer, place: Place, tls: Arc<ServerTls>) {
        let inner = Arc::clone(&self.0);
        let stopped = self.0.stop.subscribe();
        self.env().spawn("kafka connection", async move {
            inner.metrics.connections.inc();
            let address = peer.address;
            let closed = inner.converse_over_tls(stream, peer, &tls, stopped).await;
            drop(place);
            inner.metrics.connections.dec();
            inner.note(address, &closed);
        });
    }
}

/// Completes when the door closes.
async fn stop(mut stopped: watch::Receiver<bool>) {
    // An error means that the door is gone, which is a stop too.
    let _ = stopped.wait_for(|stop| *stop).await;
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    // Answers are written whole; waiting to fill a packet only delays them.
    stream.set_nodelay(true)?;
    // A peer that has vanished without a word is found out by the system.
    Ok(sockopt::set_socket_keepalive(stream, true)?)
}

impl Inner {
    /// Serves a connection to its end.
    async fn converse(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send,
        peer: Peer,
        stopped: watch::Receiver<bool>,
    ) -> Close {
        let config = self.broker.config();
        let bounds = Bounds {
            request_bytes_max: config.request_bytes_max,
            in_flight_bytes_max: config.connection_request_bytes,
            idle_max: config.connection_idle_max,
            intake: Arc::clone(&self.dispatch.intake),
        };
        let service = self.dispatch.session(peer);
        service.note_connection();
        let env = self.broker.env().clone();
        connection::serve(stream, service, env, bounds, stop(stopped)).await
    }

    async fn converse_over_tls(
        &self,
        stream: TcpStream,
        peer: Peer,
        tls: &ServerTls,
        stopped: watch::Receiver<bool>,
    ) -> Close {
        let asks = peer.listener.asks_certificates();
        let accepted = tokio::select! {
            biased;
            () = stop(stopped.clone()) => return Close::Stopping,
            accepted = tls.accept(stream, asks) => accepted,
        };
        let (mut stream, certificate) = match accepted {
            Ok(accepted) => accepted,
            Err(HandshakeError::Gone) => return Close::Gone,
            Err(error) => {
                self.metrics.bad_handshakes.inc();
                let event = Event::new(Kind::Connection, Outcome::Refused);
                let address = peer.address.map(|address| address.ip());
                let event = event.from(address, peer.listener.name());
                self.broker.audit(event.because(&error.to_string()));
                return Close::Refused(error.to_string());
            }
        };
        self.metrics.handshakes.inc();
        let closed = self.converse(&mut stream, Peer { certificate, ..peer }, stopped).await;
        // So that the peer knows that nothing was cut off.
        tokio::select! {
            biased;
            _ = stream.shutdown() => {}
            () = self.broker.env().sleep(GOODBYE_MAX) => {}
        }
        closed
    }

    /// Counts and tells why a connection has ended.
    fn note(&self, peer: Option<SocketAddr>, closed: &Close) {
        match closed {
            Close::Refused(why) => {
                self.metrics.refused.inc();
                let now = self.broker.env().clock.monotonic();
                let address = peer.map(|peer| peer.ip());
                if let Some(left_out) = self.refusals.may_say(address, now) {
                    info!(?peer, why, left_out, "refused a connection");
                }
            }
            Close::Slow => {
                self.metrics.slow.inc();
                debug!(?peer, "left a connection that was slow while memory was short");
            }
            Close::Gone | Close::Stopping | Close::Idle => {
                debug!(?peer, ?closed, "connection closed");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pitfall 72.
    #[tokio::test]
    async fn accepted_sockets_have_their_options() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let client = TcpStream::connect(address).await.expect("it listens");
        let (stream, _) = listener.accept().await.expect("a connection");
        prepare(&stream).expect("a socket takes options");
        assert!(stream.nodelay().expect("a socket"));
        assert_eq!(sockopt::socket_keepalive(&stream), Ok(true));
        drop(client);
    }
}
