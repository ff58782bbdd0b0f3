//! The HTTP side: liveness, readiness, metrics. The only crate that knows HTTP.
//!
//! | path | answers |
//! |---|---|
//! | `/livez` | 200 as long as the process can answer at all |
//! | `/readyz` | 200 when clients are served, 503 while starting, recovering or stopping; and a notice |
//! | `/metrics` | everything that is counted, as OpenMetrics text for Prometheus |
//!
//! Clients are few at a time, and must ask and take their answers within seconds ([`patience`]);
//! metrics are put together for one of them at a time.

mod origin;
mod patience;

use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::origin::Foreign;
use crate::patience::Bounded;

/// What the pages show. Cheap to clone.
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
}

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Answers on `listener` until `stop` completes and open answers are out.
///
/// # Errors
///
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    pages: Pages,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let routes = Router::new()
        .route("/metrics", get(metrics))
        .layer(from_fn_with_state(Arc::clone(&pages.hosts), ours_only))
        // Whoever looks after us may ask by any name, and learns nothing else.
        .route("/livez", get(|| async { "live\n" }))
        .route("/readyz", get(readyz))
        .with_state(Shown { pages, rendering: Arc::new(Semaphore::new(1)) });
    axum::serve(Bounded::new(listener), routes).with_graceful_shutdown(stop).await
}

/// Refuses what is for others: see [`origin`].
async fn ours_only(State(hosts): State<Arc<[String]>>, request: Request, next: Next) -> Response {
    match verdict(request.headers(), &hosts) {
        Ok(()) => next.run(request).await,
        Err(refused) => refused.into_response(),
    }
}

fn verdict(headers: &HeaderMap, hosts: &[String]) -> Result<(), (StatusCode, &'static str)> {
    let twice = |()| (StatusCode::BAD_REQUEST, "two hosts or origins\n");
    let host = only(headers, header::HOST).map_err(twice)?;
    let origin = only(headers, header::ORIGIN).map_err(twice)?;
    origin::check(host, origin, hosts).map_err(|why| match why {
        Foreign::Host => (
            StatusCode::MISDIRECTED_REQUEST,
            "this host has another name: ask for it by its address, or list the name in the setting \
             millstream.http.hosts\n",
        ),
        Foreign::Origin => (StatusCode::FORBIDDEN, "pages of other hosts may not ask\n"),
    })
}

/// The value of a header that may be there once; what is no text is none of ours, and is empty.
fn only(headers: &HeaderMap, name: HeaderName) -> Result<Option<&str>, ()> {
    let mut values = headers.get_all(name).iter();
    let first = values.next().map(|value| value.to_str().unwrap_or_default());
    if values.next().is_some() { Err(()) } else { Ok(first) }
}

/// What handlers share.
#[derive(Clone, Debug)]
struct Shown {
    pages: Pages,
    /// Held by whoever renders the metrics: that keeps a processor busy, and the others would wait for
    /// the lock with theirs.
    rendering: Arc<Semaphore>,
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

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::metrics::counter::Counter;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;
    use tokio::sync::oneshot;

    async fn ask(address: std::net::SocketAddr, path: &str) -> String {
        ask_with(address, path, "Host: localhost").await
    }

    async fn ask_with(address: std::net::SocketAddr, path: &str, headers: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("connects");
        let request = format!("GET {path} HTTP/1.1\r\n{headers}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sends");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("answers");
        answer
    }

    #[tokio::test]
    async fn pages_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let mut registry = Registry::default();
        let asked: Counter = Counter::default();
        registry.register("asked", "How often", asked.clone());
        asked.inc();
        let (ready, pages_ready) = watch::channel(false);
        let (tell, notice) = watch::channel(String::new());
        let metrics = Arc::new(Mutex::new(registry));
        let hosts = Arc::from(["kafka.example.org".to_owned()]);
        let pages = Pages { ready: pages_ready, notice, metrics, hosts };
        let (stop, stopped) = oneshot::channel::<()>();
        let server = serve(listener, pages, async {
            let _ = stopped.await;
        });
        let client = async {
            assert!(ask(address, "/livez").await.starts_with("HTTP/1.1 200"));
            assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 503"));
            ready.send_replace(true);
            assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 200"));
            assert!(ask(address, "/readyz").await.ends_with("\r\n\r\nready\n"));
            tell.send_replace("something is short".to_owned());
            let short = ask(address, "/readyz").await;
            assert!(short.starts_with("HTTP/1.1 200"), "{short}");
            assert!(short.ends_with("\r\n\r\nready\nsomething is short\n"), "{short}");
            assert!(ask(address, "/metrics").await.contains("asked_total 1\n"));
            assert!(ask(address, "/nothing").await.starts_with("HTTP/1.1 404"));
            for (path, headers, status) in [
                ("/metrics", "Host: kafka.example.org:8080", 200),
                ("/metrics", "Host: evil.example.org:8080", 421),
                ("/metrics", "Host: localhost\r\nOrigin: http://evil.example.org", 403),
                ("/metrics", "Host: localhost\r\nHost: evil.example.org", 400),
                ("/livez", "Host: evil.example.org:8080", 200),
                ("/readyz", "Host: evil.example.org:8080", 200),
            ] {
                let answer = ask_with(address, path, headers).await;
                let expected = format!("HTTP/1.1 {status}");
                assert!(answer.starts_with(&expected), "{path} {headers}: {answer}");
                assert_eq!(answer.contains("asked_total"), path == "/metrics" && status == 200);
            }
            drop(stop);
        };
        let (served, ()) = tokio::join!(server, client);
        served.expect("stops cleanly");
    }

    /// Serves an empty registry for as long as `client` goes on.
    async fn serving<T>(client: impl AsyncFnOnce(std::net::SocketAddr) -> T) -> T {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (_ready, is_ready) = watch::channel(true);
        let (_tell, notice) = watch::channel(String::new());
        let (metrics, hosts) = (Arc::default(), Arc::from([]));
        let pages = Pages { ready: is_ready, notice, metrics, hosts };
        tokio::select! {
            served = serve(listener, pages, std::future::pending()) => panic!("{served:?}"),
            done = client(address) => done,
        }
    }

    /// Time passes by itself when everybody waits.
    #[tokio::test(start_paused = true)]
    async fn more_connections_than_there_are_places_wait_and_none_waits_for_ever() {
        serving(async |address| {
            let mut silent = Vec::new();
            for _ in 0..100 {
                silent.push(TcpStream::connect(address).await.expect("the system takes it"));
            }
            assert!(ask(address, "/livez").await.ends_with("live\n"));
        })
        .await;
    }
}
