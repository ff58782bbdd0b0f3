//! One file per API; a folder per family. Each opens with what its versions changed.

pub(crate) mod admin;
mod allowance;
pub(crate) mod api_versions;
pub(crate) mod authorize;
pub(crate) mod delegation;
pub(crate) mod fetch;
pub(crate) mod get_telemetry_subscriptions;
pub(crate) mod group;
pub(crate) mod init_producer_id;
pub(crate) mod list_offsets;
pub(crate) mod metadata;
pub(crate) mod offset_for_leader_epoch;
pub(crate) mod produce;
pub(crate) mod push_telemetry;
mod repeats;
pub(crate) mod sasl_authenticate;
pub(crate) mod sasl_handshake;
pub(crate) mod transaction;
