//! What the Kafka door counts. Every handle is made once; a request touches no map.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use millstream_wire::ApiKey;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::intake::Intake;

/// Upper bounds of the latency buckets in seconds: from a tenth of a flush to a long poll.
const LATENCY_BUCKETS: [f64; 14] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0,
    30.0,
];

type ApiLabels = [(&'static str, &'static str); 1];

/// The door's metrics, registered once.
#[derive(Debug)]
pub(crate) struct Metrics {
    latency: Family<ApiLabels, Histogram, fn() -> Histogram>,
    /// Bytes received in request frames.
    pub(crate) bytes_in: Counter,
    /// Bytes sent in response frames.
    pub(crate) bytes_out: Counter,
    /// Connections that are open now.
    pub(crate) connections: Gauge,
    /// Connections that were ended because of what the client sent.
    pub(crate) refused: Counter,
    /// TLS handshakes that were done.
    pub(crate) handshakes: Counter,
    /// TLS handshakes that came to nothing.
    pub(crate) bad_handshakes: Counter,
    /// Connections that were left because they were slow while memory was short.
    pub(crate) slow: Counter,
    /// Answers that told the client to wait because of a quota.
    pub(crate) throttled: Counter,
    /// Logins that have succeeded, those among them that renew a session.
    pub(crate) logins: Counter,
    /// Those that renew a session (KIP-368).
    pub(crate) renewed_logins: Counter,
    /// Logins that have failed.
    pub(crate) failed_logins: Counter,
}

/// The handles of one API.
#[derive(Clone, Debug)]
pub(crate) struct ApiMetrics {
    latency: Histogram,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let new_histogram: fn() -> Histogram = || Histogram::new(LATENCY_BUCKETS);
        let metrics = Self {
            latency: Family::new_with_constructor(new_histogram),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            connections: Gauge::default(),
            refused: Counter::default(),
            handshakes: Counter::default(),
            bad_handshakes: Counter::default(),
            slow: Counter::default(),
            throttled: Counter::default(),
            logins: Counter::default(),
            renewed_logins: Counter::default(),
            failed_logins: Counter::default(),
        };
        let door = registry.sub_registry_with_prefix("millstream_kafka");
        door.register_with_unit(
            "request",
            "Time from a request's arrival to its answer, by API",
            Unit::Seconds,
            metrics.latency.clone(),
        );
        door.register("received_bytes", "Bytes of requests", metrics.bytes_in.clone());
        door.register("sent_bytes", "Bytes of answers", metrics.bytes_out.clone());
        door.register("connections", "Open connections", metrics.connections.clone());
        door.register(
            "refused_connections",
            "Connections ended for what the client sent",
            metrics.refused.clone(),
        );
        door.register(
            "tls_handshakes",
            "TLS handshakes that were done",
            metrics.handshakes.clone(),
        );
        door.register(
            "refused_tls_handshakes",
            "TLS handshakes that came to nothing; the log says why",
            metrics.bad_handshakes.clone(),
        );
        door.register(
            "slow_connections",
            "Connections left because they were slow while memory was short",
            metrics.slow.clone(),
        );
        door.register(
            "throttled_answers",
            "Answers that told the client to wait because of a quota",
            metrics.throttled.clone(),
        );
        door.register("logins", "Logins that have succeeded", metrics.logins.clone());
        door.register(
            "renewed_logins",
            "Those among them that renew a session on the same connection",
            metrics.renewed_logins.clone(),
        );
        door.register("failed_logins", "Logins that have failed", metrics.failed_logins.clone());
        metrics
    }

    /// The handles for one API, to be kept.
    pub(crate) fn api(&self, key: ApiKey) -> ApiMetrics {
        ApiMetrics { latency: self.latency.get_or_create_owned(&[("api", key.name())]) }
    }
}

/// Reads the figures of the room for requests when they are scraped.
#[derive(Debug)]
pub(crate) struct IntakeCollector(pub(crate) Arc<Intake>);

impl Collector for IntakeCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let used = i64::try_from(self.0.used()).unwrap_or(i64::MAX);
        let name = "millstream_kafka_request_memory_bytes";
        let help = "Memory of requests that are read and not answered, but for small ones";
        let gauge = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(used).encode(gauge)?;
        let name = "millstream_kafka_held_back_requests";
        let help = "Requests that were left unread until there was memory for them";
        let counter = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(self.0.held_back()).encode(counter)
    }
}

impl ApiMetrics {
    /// Counts one answered request.
    pub(crate) fn answered(&self, after: Duration) {
        self.latency.observe(after.as_secs_f64());
    }
}
