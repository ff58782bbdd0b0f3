//! RenewDelegationToken (39): makes a token last longer, as far as it may. v2: flexible.

use millstream_broker::acl::Operation;
use millstream_wire::{RenewDelegationTokenRequest, RenewDelegationTokenResponse};

use super::time;
use crate::dispatch::Call;

pub(crate) async fn handle(
    call: Call,
    request: RenewDelegationTokenRequest,
) -> RenewDelegationTokenResponse {
    // Nothing, or less, is as long as tokens last.
    let period = (request.renew_period_ms > 0).then(|| time(request.renew_period_ms));
    let renew = |hmac, user| call.broker().renew_token(hmac, user, period);
    let (error_code, expiry_timestamp_ms) =
        call.change_token(Operation::Alter, &request.hmac, renew).await;
    RenewDelegationTokenResponse { error_code, expiry_timestamp_ms, throttle_time_ms: 0 }
}
