//! Logging in: who the client is, said before anything else.

use std::time::Duration;

use bytes::Bytes;
use millstream_auth::{ClientExchange, Mechanism, Nonce};
use millstream_wire::{SaslAuthenticateRequest, SaslHandshakeRequest, StrBytes};

use super::Connection;
use crate::error::Error;

/// Who the client is, and how it proves that.
#[derive(Clone, PartialEq, Eq)]
pub struct LoginSettings {
    /// How.
    pub mechanism: Mechanism,
    /// The user.
    pub user: String,
    /// His password. PLAIN sends it as it is: over TLS only.
    pub password: String,
    /// Whether these are the id and the HMAC of a delegation token (KIP-48): by SCRAM only.
    pub by_token: bool,
}

/// The oldest version of the handshake after which tokens are requests.
const HANDSHAKE_OLDEST: i16 = 1;

impl Connection {
    /// Logs in. For how long that holds, if not for ever.
    pub(super) async fn log_in(&self, login: &LoginSettings) -> Result<Option<Duration>, Error> {
        let what = || format!("login of `{}` by {}", login.user, login.mechanism);
        let version = self.version::<SaslHandshakeRequest>()?;
        if version < HANDSHAKE_OLDEST {
            return Err(Error::Invalid(format!("{}: the broker is too old", what())));
        }
        let mechanism = StrBytes::from_static(login.mechanism.name());
        let answer = self.call(&SaslHandshakeRequest { mechanism }, version).await?;
        let offered: Vec<_> = answer.mechanisms.iter().map(StrBytes::as_str).collect();
        let offered = match offered.as_slice() {
            [] => "there is nothing to log in to here".to_owned(),
            offered => format!("the broker offers {}", offered.join(", ")),
        };
        Error::check(answer.error_code, Some(&offered), what)?;
        let mut nonce = [0; 24];
        self.env.random.fill(&mut nonce);
        let mut exchange =
            ClientExchange::new(login.mechanism, &login.user, &login.password, Nonce(nonce));
        if login.by_token {
            exchange = exchange.by_token();
        }
        let version = self.version::<SaslAuthenticateRequest>()?;
        let mut token = exchange.first();
        loop {
            let request = SaslAuthenticateRequest { auth_bytes: Bytes::from(token) };
            let answer = self.call(&request, version).await?;
            Error::check(answer.error_code, answer.error_message.as_deref(), what)?;
            match exchange.answer(&answer.auth_bytes) {
                Ok(Some(next)) => token = next,
                Ok(None) => {
                    let lifetime = u64::try_from(answer.session_lifetime_ms).unwrap_or_default();
                    return Ok((lifetime > 0).then(|| Duration::from_millis(lifetime)));
                }
                Err(why) => return Err(Error::Invalid(format!("{}: {why}", what()))),
            }
        }
    }
}

impl std::fmt::Debug for LoginSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginSettings")
            .field("mechanism", &self.mechanism)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}
