//! The door itself: takes connections and gives each a task, in the network or in process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use millstream_broker::Broker;
use millstream_env::Env;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::connection::{self, Bounds, Close};
use crate::dispatch::Dispatch;
use crate::metrics::Metrics;

/// How long accepting pauses when the system has no more sockets to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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
    stop: watch::Sender<bool>,
}

impl Door {
    /// A door to `broker`; its metrics go to `registry`.
    #[must_use]
    pub fn new(broker: Broker, registry: &mut Registry) -> Self {
        let metrics = Arc::new(Metrics::register(registry));
        let dispatch = Arc::new(Dispatch::new(broker.clone(), &metrics));
        Self(Arc::new(Inner { broker, dispatch, metrics, stop: watch::channel(false).0 }))
    }

    /// Takes connections from `listener` until [`Door::close`].
    pub async fn listen(&self, listener: TcpListener) {
        let mut stopped = self.0.stop.subscribe();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stopped.wait_for(|stop| *stop) => return,
            };
            match accepted {
                Ok((stream, peer)) => {
                    // Answers are written whole; waiting to fill a packet only delays them.
                    if let Err(error) = stream.set_nodelay(true) {
                        debug!(%peer, %error, "no TCP_NODELAY");
                    }
                    self.serve(stream, Some(peer));
                }
                Err(error) => {
                    warn!(%error, "can't accept connections; is the limit of open files reached?");
                    self.env().sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// A connection without a network, for clients in the same process.
    #[must_use]
    pub fn connect(&self) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(DUPLEX_BYTES);
        self.serve(ours, None);
        theirs
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
        peer: Option<SocketAddr>,
    ) {
        let inner = Arc::clone(&self.0);
        let mut stopped = self.0.stop.subscribe();
        self.env().spawn("kafka connection", async move {
            inner.metrics.connections.inc();
            let config = inner.broker.config();
            let bounds = Bounds {
                request_bytes_max: config.request_bytes_max,
                idle_max: config.connection_idle_max,
            };
            let stop = async {
                // An error means that the door is gone, which is a stop too.
                let _ = stopped.wait_for(|stop| *stop).await;
            };
            let service = inner.dispatch.session(peer);
            let env = inner.broker.env().clone();
            let closed = connection::serve(stream, service, env, bounds, stop).await;
            inner.metrics.connections.dec();
            note(peer, &closed, &inner.metrics);
        });
    }
}

fn note(peer: Option<SocketAddr>, closed: &Close, metrics: &Metrics) {
    if let Close::Refused(why) = closed {
        metrics.refused.inc();
        info!(?peer, why, "refused a connection");
    } else {
        debug!(?peer, ?closed, "connection closed");
    }
}
