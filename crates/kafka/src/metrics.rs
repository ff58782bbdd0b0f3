//! What the Kafka door counts. Every handle is made once; a request touches no map.

use std::time::Duration;

use millstream_wire::ApiKey;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

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
        metrics
    }

    /// The handles for one API, to be kept.
    pub(crate) fn api(&self, key: ApiKey) -> ApiMetrics {
        ApiMetrics { latency: self.latency.get_or_create_owned(&[("api", key.name())]) }
    }
}

impl ApiMetrics {
    /// Counts one answered request.
    pub(crate) fn answered(&self, after: Duration) {
        self.latency.observe(after.as_secs_f64());
    }
}
