//! The HTTP side: liveness, readiness, metrics. The only crate that knows HTTP.
//!
//! | path | answers |
//! |---|---|
//! | `/livez` | 200 as long as the process can answer at all |
//! | `/readyz` | 200 when clients are served, 503 while starting, recovering or stopping; and a notice |
//! | `/metrics` | everything that is counted, as OpenMetrics text for Prometheus |
//!
//! What whoever asks needs, [`ROUTES`] says, and [`guard`] looks at: the first two anybody may ask. Clients
//! are few at a time, and must ask and take their answers within seconds ([`patience`]); metrics are put
//! together for one of them at a time.

mod arrivals;
mod basic;
mod bearer;
mod guard;
mod origin;
mod patience;
mod places;
mod routes;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use millstream_broker::Broker;
use millstream_env::Quiet;
use millstream_oauth::Issuer;
use millstream_tls::ServerTls;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

pub use routes::{Needs, ROUTES, Route};

use crate::arrivals::{Arrivals, Guest};

/// What the pages show, and to whom. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Pages {
    /// Whether clients are being served.
    pub ready: watch::Receiver<bool>,
    /// What a person should know who asks, though clients are served: one line, or nothing.
    pub notice: watch::Receiver<String>,
    /// What is counted. Locked only to render it.
    pub metrics: Arc<Mutex<Registry>>,
    /// The names that this host has, besides its addresses and `localhost`: requests for others are
    /// refused.
    pub hosts: Arc<[String]>,
    /// By what clients say who they are.
    pub logins: Logins,
    /// Whose tokens they may say.
    pub issuer: Option<Arc<Issuer>>,
    /// Who knows users and rights, once he is there: before, nothing is shown that needs one.
    pub broker: Arc<OnceLock<Broker>>,
}

/// By what clients say who they are. Where there is nothing, nobody is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Logins {
    /// By a name and its password (RFC 7617).
    pub passwords: bool,
    /// By a token of the issuer (RFC 6750).
    pub tokens: bool,
    /// By the certificate that they show; TLS has to ask for it, and not to insist.
    pub certificates: bool,
}

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Answers on `listener`, over TLS if there is any, until `stop` completes and open answers are out.
///
/// # Errors
///
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Arc<ServerTls>>,
    pages: Pages,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let counts =
        Counts::register(&mut pages.metrics.lock().unwrap_or_else(PoisonError::into_inner));
    let broker = Arc::clone(&pages.broker);
    let arrivals = Arrivals::new(listener, tls, counts.bad_handshakes.clone(), broker);
    let (rendering, refusals) = (Arc::new(Semaphore::new(1)), Arc::default());
    let routes = routes::router(&Shown { pages, counts, rendering, refusals });
    let service = routes.into_make_service_with_connect_info::<Guest>();
    axum::serve(arrivals, service).with_graceful_shutdown(stop).await
}

/// What handlers share.
#[derive(Clone, Debug)]
struct Shown {
    pages: Pages,
    counts: Counts,
    /// Held by whoever renders the metrics: that keeps a processor busy, and the others would wait for
    /// the lock with theirs.
    rendering: Arc<Semaphore>,
    /// Of requests that were refused.
    refusals: Arc<Quiet>,
}

#[derive(Clone, Debug, Default)]
struct Counts {
    logins: Counter,
    failed_logins: Counter,
    denied: Counter,
    bad_handshakes: Counter,
}

impl Counts {
    fn register(registry: &mut Registry) -> Self {
        let counts = Self::default();
        for (name, help, counter) in [
            ("logins", "Requests for pages with a right password or token", &counts.logins),
            ("failed_logins", "Those with a wrong one", &counts.failed_logins),
            ("denied", "Those of users who lack the right", &counts.denied),
            (
                "refused_tls_handshakes",
                "Connections for pages that came to nothing during the TLS handshake",
                &counts.bad_handshakes,
            ),
        ] {
            registry.register(format!("millstream_http_{name}"), help, counter.clone());
        }
        counts
    }
}

async fn readyz(State(shown): State<Shown>) -> (StatusCode, String) {
    let (status, word) = match *shown.pages.ready.borrow() {
        true => (StatusCode::OK, "ready"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
    };
    let notice = shown.pages.notice.borrow();
    let text = match notice.is_empty() {
        true => format!("{word}\n"),
        false => format!("{word}\n{}\n", *notice),
    };
    (status, text)
}

async fn metrics(State(shown): State<Shown>) -> Response {
    // Nobody closes it.
    let _turn = shown.rendering.acquire().await;
    let mut text = String::new();
    let registry = shown.pages.metrics.lock().unwrap_or_else(PoisonError::into_inner);
    match encode(&mut text, &registry) {
        Ok(()) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
