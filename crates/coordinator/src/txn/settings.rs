//! What a coordinator of transactions may be told.

use std::time::Duration;

/// The settings of a coordinator of transactions; the defaults are Kafka's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxnSettings {
    /// The longest timeout that a producer may ask for (`transaction.max.timeout.ms`).
    pub timeout_max: Duration,
    /// How long a transactional id is remembered after its last use
    /// (`transactional.id.expiration.ms`).
    pub expiration: Duration,
    /// How often unused ids are looked for
    /// (`transaction.remove.expired.transaction.cleanup.interval.ms`).
    pub expiry_interval: Duration,
    /// The most transactional ids in the same partition of `__transaction_state`.
    pub ids_max: usize,
    /// When [`super::Transactions::tick`] looks again at what could not be done: an abort that was
    /// not appended, markers that were not written.
    pub retry_interval: Duration,
}

impl Default for TxnSettings {
    fn default() -> Self {
        Self {
            timeout_max: Duration::from_secs(15 * 60),
            expiration: Duration::from_secs(7 * 24 * 60 * 60),
            expiry_interval: Duration::from_secs(60 * 60),
            ids_max: 100_000,
            retry_interval: Duration::from_secs(1),
        }
    }
}
