//! The load generators. Each returns what was acknowledged and in which time; what it cost the
//! server is read from outside.

mod consume;
mod numbered;
mod paced;
mod produce;
mod tail;

use std::time::Duration;

pub(crate) use consume::consume;
pub(crate) use numbered::numbered;
pub(crate) use paced::{Due, Paced, Waits, paced};
pub(crate) use produce::{Flood, flood};
pub(crate) use tail::Tailing;

/// What a throughput load moved.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moved {
    /// Bytes of record batches.
    pub(crate) bytes: u64,
    /// Records.
    pub(crate) records: u64,
    /// The share of requests that the server would not take for now.
    pub(crate) refused: f64,
    /// From the first request to the last answer.
    pub(crate) elapsed: Duration,
}

impl Moved {
    /// In 10^6 bytes per second.
    pub(crate) fn megabytes_per_second(&self) -> f64 {
        self.bytes as f64 / 1e6 / self.elapsed.as_secs_f64()
    }

    /// Records per second.
    pub(crate) fn records_per_second(&self) -> f64 {
        self.records as f64 / self.elapsed.as_secs_f64()
    }

    /// In 2^30 bytes.
    pub(crate) fn gibibytes(&self) -> f64 {
        self.bytes as f64 / f64::from(1 << 30)
    }
}
