//! RenewDelegationToken (39): makes a token last longer, as far as it may. v2: flexible.

use millstream_auth::TokenHmac;
use millstream_types::Timestamp;
use millstream_wire::{ErrorCode, RenewDelegationTokenRequest, RenewDelegationTokenResponse};

use super::time;
use crate::dispatch::Call;
use crate::errors::Code as _;

pub(crate) async fn handle(
    call: Call,
    request: RenewDelegationTokenRequest,
) -> RenewDelegationTokenResponse {
    let renewed = renew(&call, &request).await;
    RenewDelegationTokenResponse {
        error_code: renewed.err().unwrap_or(ErrorCode::None).code(),
        expiry_timestamp_ms: renewed.map_or(-1, |expires| expires.0),
        throttle_time_ms: 0,
    }
}

async fn renew(call: &Call, request: &RenewDelegationTokenRequest) -> Result<Timestamp, ErrorCode> {
    call.may_ask_about_tokens()?;
    let hmac = TokenHmac::said(request.hmac.to_vec());
    // Nothing, or less, is as long as tokens last.
    let period = (request.renew_period_ms > 0).then(|| time(request.renew_period_ms));
    let renewed = call.broker().renew_token(hmac, call.user(), period).await;
    renewed.map_err(|error| error.code())
}
