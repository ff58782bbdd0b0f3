//! What the broker shows at `/metrics`: read when asked, so that counting costs nothing.

use std::fmt;
use std::sync::Arc;

use millstream_broker::{Broker, LogStats};
use millstream_env::JournalStats;
use millstream_oauth::Issuer;
use millstream_tls::ServerTls;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};

/// Reads a broker's figures when they are scraped.
#[derive(Debug)]
pub(crate) struct BrokerCollector {
    broker: Broker,
    journal: Arc<JournalStats>,
}

type LagLabels = [(&'static str, String); 3];
type NoLabels = [(&'static str, &'static str); 0];

impl BrokerCollector {
    pub(crate) fn new(broker: Broker, journal: Arc<JournalStats>) -> Self {
        Self { broker, journal }
    }

    /// The times of the journal's flushes, as a histogram.
    fn flushes(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let (name, help) = ("millstream_journal_flush_seconds", "Write and flush of one group");
        let mut encoder = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        let buckets: Vec<(f64, u64)> =
            self.journal.flush_times().map(|(below, count)| (below.as_secs_f64(), count)).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = self.journal.flush_time().as_secs_f64();
        encoder.encode_histogram::<NoLabels>(sum, count, &buckets, None)
    }

    /// Bytes that went to the disk, by what for.
    fn written(
        &self,
        log: &LogStats,
        encoder: &mut DescriptorEncoder<'_>,
    ) -> Result<(), fmt::Error> {
        let name = "millstream_device_written_bytes";
        let help = "Bytes written to the disk, in whole blocks, by what for; journal_zero fills new \
                    files once";
        let kinds = [
            ("journal", self.journal.bytes()),
            ("journal_zero", self.journal.zeroed()),
            ("segment", log.segment_written),
            ("pack", log.pack_written),
            ("merge", log.merge_written),
            ("compact", log.compact_written),
            ("checkpoint", log.checkpoint_written),
            ("metadata", self.broker.metadata_written()),
        ];
        let mut encoder = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (kind, bytes) in kinds {
            let labels = [("kind", kind)];
            let encoder = encoder.encode_family(&labels)?;
            ConstCounter::new(bytes).encode(encoder)?;
        }
        Ok(())
    }

    fn audit(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let counts = self.broker.audit_counts();
        let help = "Records of the audit that were written";
        counter(encoder, "millstream_audit_records", help, counts.records)?;
        let help =
            "Events that the audit has left out: too many came at once, or the log took none";
        counter(encoder, "millstream_audit_dropped_events", help, counts.dropped)
    }

    fn lag(&self) -> Family<LagLabels, Gauge> {
        let lag = Family::<LagLabels, Gauge>::default();
        for each in self.broker.group_lags() {
            let labels = [
                ("group", each.group.to_string()),
                ("topic", each.topic.to_string()),
                ("partition", each.partition.to_string()),
            ];
            lag.get_or_create(&labels).set(each.records);
        }
        lag
    }
}

impl Collector for BrokerCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let (log, reserve) = (self.broker.log_stats(), self.broker.reserve());
        let gauges = [
            ("millstream_topics", "Topics", self.broker.topics().len() as u64),
            ("millstream_partitions", "Partitions", log.partitions),
            ("millstream_tail_bytes", "Memory of recent batches", log.tail_bytes),
            ("millstream_index_bytes", "Memory of segments' indexes", log.index_bytes),
            ("millstream_journal_used_bytes", "Journal in use", log.journal_used),
            ("millstream_journal_max_bytes", "The most it may use", log.journal_max),
            ("millstream_backlog_bytes", "Batches in the journal only", log.backlog_bytes),
            ("millstream_segment_bytes", "Batches in segments", log.segment_bytes),
            (
                "millstream_lost_records",
                "Records that are known to be lost: damaged on the disk. See docs/operations.md",
                log.lost,
            ),
            (
                "millstream_disk_full",
                "1 while records are refused because the disk is full: delete records or topics, \
                 shorten their retention, or make the disk larger",
                reserve.is_low().into(),
            ),
            ("millstream_reserve_bytes", "Disk set aside for when it is full", reserve.held()),
            ("millstream_reserve_wanted_bytes", "How much it should be", reserve.reserve_bytes()),
        ];
        for (name, help, value) in gauges {
            gauge(&mut encoder, name, help, value)?;
        }
        let counters = [
            ("millstream_journal_writes", "Writes to the journal", self.journal.writes()),
            ("millstream_journal_written_bytes", "Bytes of them", self.journal.bytes()),
            ("millstream_appended_bytes", "Bytes of batches appended", log.appended_bytes),
            ("millstream_laid_out_bytes", "Bytes of batches laid out", log.laid_bytes),
            ("millstream_checkpoints", "Checkpoints taken", log.checkpoints),
            ("millstream_checkpoint_deltas", "Those of only what had changed", log.deltas),
            ("millstream_compactions", "Times a partition was compacted", log.compactions),
            (
                "millstream_compacted_records",
                "Records that went because a newer one has their key, or nothing needs them",
                log.compacted_records,
            ),
            (
                "millstream_compaction_moved_bytes",
                "Bytes of batches that compaction has read or written",
                log.compaction_moved,
            ),
            (
                "millstream_uncompacted_segments",
                "Times a segment was left alone because something in it is damaged. See the log",
                log.uncompacted,
            ),
            ("millstream_cold_reads", "Reads from segments", log.cold_reads),
            (
                "millstream_log_recoveries",
                "Sessions of the log that failed and were recovered without a restart",
                self.broker.recoveries(),
            ),
            ("millstream_journal_reads", "Reads from the journal", log.journal_reads),
        ];
        for (name, help, value) in counters {
            counter(&mut encoder, name, help, value)?;
        }
        self.audit(&mut encoder)?;
        self.written(&log, &mut encoder)?;
        self.flushes(&mut encoder)?;
        let help = "Records between a group's committed offset and the end";
        let lags =
            encoder.encode_descriptor("millstream_group_lag", help, None, MetricType::Gauge)?;
        self.lag().encode(lags)
    }
}

/// Reads the figures of TLS, of all listeners, when they are scraped.
#[derive(Debug)]
pub(crate) struct TlsCollector(pub(crate) Vec<Arc<ServerTls>>);

impl Collector for TlsCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let expires = self.0.iter().map(|tls| tls.expires()).min().unwrap_or_default();
        let expires = u64::try_from(expires.0 / 1_000).unwrap_or_default();
        gauge(
            &mut encoder,
            "millstream_tls_certificate_expiry_timestamp_seconds",
            "When the first of the certificates expires that this broker shows, in seconds since 1970",
            expires,
        )?;
        counter(
            &mut encoder,
            "millstream_tls_reloads",
            "Times that new certificates were taken without a restart",
            self.0.iter().map(|tls| tls.reloads()).sum(),
        )?;
        counter(
            &mut encoder,
            "millstream_tls_refused_reloads",
            "Times that new certificates were no good, so that those before them stayed in use",
            self.0.iter().map(|tls| tls.refusals()).sum(),
        )
    }
}

/// Reads the figures of the keys of all issuers when they are scraped.
#[derive(Debug)]
pub(crate) struct IssuerCollector(pub(crate) Vec<Arc<Issuer>>);

impl Collector for IssuerCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        counter(
            &mut encoder,
            "millstream_oauth_key_fetches",
            "Times that the keys were looked for by which tokens are verified",
            self.0.iter().map(|issuer| issuer.fetches()).sum(),
        )?;
        counter(
            &mut encoder,
            "millstream_oauth_failed_key_fetches",
            "Times that they could not be had, or were no good, so that those before them stayed in use",
            self.0.iter().map(|issuer| issuer.failed_fetches()).sum(),
        )?;
        let oldest = self.0.iter().map(|issuer| issuer.age()).max().unwrap_or_default();
        gauge(
            &mut encoder,
            "millstream_oauth_key_age_seconds",
            "How long ago the keys of the issuer were last read of which that is the longest",
            oldest.as_secs(),
        )
    }
}

pub(crate) fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: u64,
) -> Result<(), fmt::Error> {
    let value = i64::try_from(value).unwrap_or(i64::MAX);
    let encoder = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    ConstGauge::new(value).encode(encoder)
}

pub(crate) fn counter(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: u64,
) -> Result<(), fmt::Error> {
    let encoder = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    ConstCounter::new(value).encode(encoder)
}
