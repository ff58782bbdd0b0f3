//! GetTelemetrySubscriptions (71): which of its metrics a client is asked to push (KIP-714).

use millstream_broker::record::Compression;
use millstream_wire::{
    GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse, StrBytes,
};

use crate::dispatch::Call;
use crate::errors::Code as _;

/// How metrics may be compressed, what is wanted most first; or not at all.
const COMPRESSIONS: [Compression; 4] =
    [Compression::Zstd, Compression::Lz4, Compression::Gzip, Compression::Snappy];

pub(crate) async fn handle(
    call: Call,
    request: GetTelemetrySubscriptionsRequest,
) -> GetTelemetrySubscriptionsResponse {
    let client = call.as_pusher();
    let (id, matched) =
        match call.broker().telemetry_subscription(request.client_instance_id, &client) {
            Ok(told) => told,
            Err(refused) => {
                let error_code = refused.code().code();
                return GetTelemetrySubscriptionsResponse { error_code, ..Default::default() };
            }
        };
    let most = call.broker().config().telemetry.push_bytes_max;
    GetTelemetrySubscriptionsResponse {
        client_instance_id: id,
        subscription_id: matched.id,
        accepted_compression_types: COMPRESSIONS.map(|one| one.id().cast_signed()).to_vec(),
        push_interval_ms: i32::try_from(matched.interval.as_millis()).unwrap_or(i32::MAX),
        telemetry_max_bytes: i32::try_from(most).unwrap_or(i32::MAX),
        // Sums since the client's start: a restart, or a push that is lost, takes nothing from them.
        delta_temporality: false,
        requested_metrics: matched.metrics.iter().map(|one| StrBytes::from(one.clone())).collect(),
        ..Default::default()
    }
}
