//! PushTelemetry (72): takes a client's metrics (KIP-714). They are shown at `/metrics`.

use millstream_broker::Pushing;
use millstream_broker::record::Compression;
use millstream_wire::{PushTelemetryRequest, PushTelemetryResponse};

use crate::dispatch::Call;
use crate::errors::Code as _;

pub(crate) async fn handle(call: Call, request: PushTelemetryRequest) -> PushTelemetryResponse {
    let push = Pushing {
        id: request.client_instance_id,
        subscription: request.subscription_id,
        terminating: request.terminating,
        compression: u8::try_from(request.compression_type).ok().and_then(Compression::from_id),
        metrics: &request.metrics,
    };
    let pushed = call.broker().push_telemetry(push, &call.as_pusher()).await;
    let error_code = pushed.err().map_or(0, |error| error.code().code());
    PushTelemetryResponse { error_code, ..Default::default() }
}
