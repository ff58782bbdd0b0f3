//! SaslHandshake (17): which mechanism a client logs in by (KIP-43).
//!
//! v1: tokens come as SaslAuthenticate requests; before, as they are, with nothing but their length.

use millstream_auth::{HandshakeRefused, Mechanism};
use millstream_wire::{ErrorCode, SaslHandshakeRequest, SaslHandshakeResponse, StrBytes};

use crate::connection::Close;
use crate::dispatch::{Call, Outcome};

const FRAMED_SINCE: i16 = 1;

pub(crate) async fn handle(
    call: Call,
    request: SaslHandshakeRequest,
) -> Outcome<SaslHandshakeResponse> {
    let Some(login) = call.login() else {
        return Outcome::Answer(refused(ErrorCode::IllegalSaslState));
    };
    let offered = call.mechanisms();
    let wanted = Mechanism::named(&request.mechanism).filter(|wanted| offered.contains(wanted));
    let answered = |error: ErrorCode| SaslHandshakeResponse {
        error_code: error.code(),
        mechanisms: offered.iter().map(|offered| StrBytes::from_static(offered.name())).collect(),
    };
    match login.handshake(&call.broker().env().clone(), wanted, call.version >= FRAMED_SINCE) {
        Ok(()) => Outcome::Answer(answered(ErrorCode::None)),
        Err(HandshakeRefused::NotNow) => Outcome::Answer(refused(ErrorCode::IllegalSaslState)),
        Err(HandshakeRefused::Mechanism) => {
            let names: Vec<_> = offered.iter().map(|offered| offered.name()).collect();
            let why = format!(
                "a client wants to log in by a mechanism that is not offered; sasl.enabled.mechanisms \
                 offers {}",
                names.join(", ")
            );
            call.delay_refusal().await;
            Outcome::Last(answered(ErrorCode::UnsupportedSaslMechanism), Close::Refused(why))
        }
        Err(HandshakeRefused::Midst) => {
            let why = "a client begins a login in the midst of another".to_owned();
            call.delay_refusal().await;
            Outcome::Last(refused(ErrorCode::IllegalSaslState), Close::Refused(why))
        }
    }
}

fn refused(error: ErrorCode) -> SaslHandshakeResponse {
    SaslHandshakeResponse { error_code: error.code(), mechanisms: Vec::new() }
}
