//! SaslAuthenticate (36): a client's next token (KIP-152).
//!
//! v1: for how long the session holds (KIP-368). v2: flexible.

use bytes::Bytes;
use millstream_wire::{ErrorCode, SaslAuthenticateRequest, SaslAuthenticateResponse, StrBytes};

use crate::connection::Close;
use crate::dispatch::{Call, Outcome};
use crate::login::Verdict;

const OUT_OF_PLACE: &str = "a login begins with SaslHandshake, and this connection needs none now";

pub(crate) async fn handle(
    call: Call,
    request: SaslAuthenticateRequest,
) -> Outcome<SaslAuthenticateResponse> {
    let Some(verdict) = call.take_token(&request.auth_bytes).await else {
        return Outcome::Answer(refused(ErrorCode::IllegalSaslState, OUT_OF_PLACE.to_owned()));
    };
    match verdict {
        Verdict::Answer { token, lifetime } => {
            // 0 would say that it never ends.
            let lifetime = lifetime.map_or(0, |lifetime| lifetime.as_millis().max(1));
            Outcome::Answer(SaslAuthenticateResponse {
                error_code: ErrorCode::None.code(),
                error_message: None,
                auth_bytes: Bytes::from(token),
                session_lifetime_ms: i64::try_from(lifetime).unwrap_or(i64::MAX),
            })
        }
        // RFC 7628: what is wrong is a challenge, and the client's next token is refused.
        Verdict::Fault(token) => Outcome::Answer(SaslAuthenticateResponse {
            auth_bytes: Bytes::from_static(token),
            ..SaslAuthenticateResponse::default()
        }),
        Verdict::Refused { why, .. } => {
            let answer = refused(ErrorCode::SaslAuthenticationFailed, why.clone());
            Outcome::Last(answer, Close::Refused(why))
        }
        Verdict::Unexpected => {
            let answer = refused(ErrorCode::IllegalSaslState, OUT_OF_PLACE.to_owned());
            let why = "a client authenticates before it has said how".to_owned();
            Outcome::Last(answer, Close::Refused(why))
        }
    }
}

fn refused(error: ErrorCode, why: String) -> SaslAuthenticateResponse {
    SaslAuthenticateResponse {
        error_code: error.code(),
        error_message: Some(StrBytes::from(why)),
        ..SaslAuthenticateResponse::default()
    }
}
