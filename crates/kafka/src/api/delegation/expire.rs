//! ExpireDelegationToken (40): ends a token at once, or says when it expires. v2: flexible.

use millstream_broker::acl::Operation;
use millstream_wire::{ExpireDelegationTokenRequest, ExpireDelegationTokenResponse};

use super::time;
use crate::dispatch::Call;

pub(crate) async fn handle(
    call: Call,
    request: ExpireDelegationTokenRequest,
) -> ExpireDelegationTokenResponse {
    // Less than nothing is at once.
    let period = (request.expiry_time_period_ms >= 0).then(|| time(request.expiry_time_period_ms));
    let operation = if period.is_some() { Operation::Alter } else { Operation::Delete };
    let expire = |hmac, user| call.broker().expire_token(hmac, user, period);
    let (error_code, expiry_timestamp_ms) =
        call.change_token(operation, &request.hmac, expire).await;
    ExpireDelegationTokenResponse { error_code, expiry_timestamp_ms, throttle_time_ms: 0 }
}
