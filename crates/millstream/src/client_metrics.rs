//! What clients have pushed of their metrics (KIP-714), at `/metrics` beside our own: see docs/metrics.md.

use std::fmt;

use millstream_broker::Broker;
use millstream_broker::client_metrics::{
    Family, Figure, INSTANCE_LABEL, Kind, PREFIX, Series, Shown, families,
};
use millstream_types::Uuid;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::metrics::{counter, gauge};

/// Reads what clients have pushed when it is scraped.
#[derive(Debug)]
pub(crate) struct ClientMetricsCollector(pub(crate) Broker);

type NoLabels = [(&'static str, &'static str); 0];

impl Collector for ClientMetricsCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let shown = self.0.client_metrics();
        let (families, clashing) = families(&shown);
        let counts = self.0.client_metrics_counts();
        let name = "millstream_telemetry_clients";
        gauge(&mut encoder, name, "Clients that have asked which metrics to push", {
            counts.instances as u64
        })?;
        let name = "millstream_telemetry_memory_bytes";
        gauge(&mut encoder, name, "Memory of clients' metrics", counts.bytes as u64)?;
        let name = "millstream_telemetry_clashing_series";
        let help = "Series of clients that are not shown because another one has their name";
        gauge(&mut encoder, name, help, clashing)?;
        let name = "millstream_telemetry_pushes";
        counter(&mut encoder, name, "Times that clients have pushed metrics", counts.pushes)?;
        let name = "millstream_telemetry_refused_requests";
        let help = "Requests of clients that push metrics which were refused, such as those that come early";
        counter(&mut encoder, name, help, counts.refused)?;
        let name = "millstream_telemetry_left_out_points";
        let help = "Figures that clients have pushed and that are not shown: see docs/metrics.md";
        counter(&mut encoder, name, help, counts.left_out)?;
        if !shown.is_empty() {
            instances(&shown, &mut encoder)?;
        }
        families.iter().try_for_each(|family| encode_family(family, &mut encoder))
    }
}

/// What is known of each client that has pushed, in labels.
fn instances(shown: &[Shown], encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
    let name = format!("{PREFIX}_info");
    let help = "A client that pushes metrics";
    let mut encoder = encoder.encode_descriptor(&name, help, None, MetricType::Gauge)?;
    for one in shown {
        let id = one.id.to_string();
        let known = one.info.iter().map(|(key, value)| (&**key, &**value));
        let labels: Vec<(&str, &str)> =
            std::iter::once((INSTANCE_LABEL, &*id)).chain(known).collect();
        ConstGauge::new(1_i64).encode(encoder.encode_family(&labels)?)?;
    }
    Ok(())
}

fn encode_family(
    family: &Family<'_>,
    encoder: &mut DescriptorEncoder<'_>,
) -> Result<(), fmt::Error> {
    let kind = match family.kind {
        Kind::Gauge => MetricType::Gauge,
        Kind::Counter => MetricType::Counter,
        Kind::Histogram => MetricType::Histogram,
    };
    let help = "As clients push it";
    let mut encoder = encoder.encode_descriptor(family.name, help, None, kind)?;
    let samples = &family.samples;
    samples.iter().try_for_each(|(id, series)| sample(*id, series, &mut encoder))
}

fn sample(id: Uuid, series: &Series, encoder: &mut MetricEncoder<'_>) -> Result<(), fmt::Error> {
    let id = id.to_string();
    let own = series.labels.iter().map(|(key, value)| (&**key, &**value));
    let labels: Vec<(&str, &str)> = std::iter::once((INSTANCE_LABEL, &*id)).chain(own).collect();
    let mut encoder = encoder.encode_family(&labels)?;
    match &series.figure {
        Figure::Gauge(value) => ConstGauge::new(*value).encode(encoder),
        Figure::Counter(value) => ConstCounter::new(*value).encode(encoder),
        Figure::Histogram(histogram) => {
            let bounds = histogram.bounds.iter().copied().chain([f64::INFINITY]);
            let buckets: Vec<_> = bounds.zip(histogram.counts.iter().copied()).collect();
            let count = histogram.counts.iter().sum();
            encoder.encode_histogram::<NoLabels>(histogram.sum, count, &buckets, None)
        }
    }
}
