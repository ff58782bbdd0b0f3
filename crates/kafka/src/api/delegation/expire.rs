//! ExpireDelegationToken (40): ends a token at once, or says when it expires. v2: flexible.

use millstream_auth::TokenHmac;
use millstream_types::Timestamp;
use millstream_wire::{ErrorCode, ExpireDelegationTokenRequest, ExpireDelegationTokenResponse};

use super::time;
use crate::dispatch::Call;
use crate::errors::Code as _;

pub(crate) async fn handle(
    call: Call,
    request: ExpireDelegationTokenRequest,
) -> ExpireDelegationTokenResponse {
    let expires = expire(&call, &request).await;
    ExpireDelegationTokenResponse {
        error_code: expires.err().unwrap_or(ErrorCode::None).code(),
        expiry_timestamp_ms: expires.map_or(-1, |expires| expires.0),
        throttle_time_ms: 0,
    }
}

async fn expire(
    call: &Call,
    request: &ExpireDelegationTokenRequest,
) -> Result<Timestamp, ErrorCode> {
    call.may_ask_about_tokens()?;
    let hmac = TokenHmac::said(request.hmac.to_vec());
    // Less than nothing is at once.
    let period = (request.expiry_time_period_ms >= 0).then(|| time(request.expiry_time_period_ms));
    let expires = call.broker().expire_token(hmac, call.user(), period).await;
    expires.map_err(|error| error.code())
}
