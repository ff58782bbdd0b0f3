//! Words and numbers that several tables share.

pub(super) const CLEANUP_POLICIES: &[&str] = &["compact", "delete"];
pub(super) const COMPRESSIONS: &[&str] =
    &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];
pub(super) const AUTHORIZERS: &[&str] =
    &["", "standard", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"];
pub(super) const TIMESTAMP_TYPES: &[&str] = &["CreateTime", "LogAppendTime"];
pub(super) const ISOLATION_LEVELS: &[&str] = &["read_committed", "read_uncommitted"];
/// The mechanisms of SASL that there are.
pub(super) const MECHANISMS: &[&str] = &["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"];

/// The largest 64-bit number: Kafka's "never" and "no limit".
pub(super) const NEVER: &str = "9223372036854775807";
/// The largest 32-bit number: Kafka's "no limit" for counts.
pub(super) const INT_MAX: &str = "2147483647";
/// The largest Java array, in bytes.
pub(super) const INT_MAX_ARRAY: &str = "2147483639";
pub(super) const AUDIT_LEVELS: &[&str] = &["auto", "none", "denied", "changes", "all"];
