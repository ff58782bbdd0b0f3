//! Delegation tokens (KIP-48, KIP-373): others act as a user for a while, without his password.

pub(crate) mod create;
pub(crate) mod describe;
pub(crate) mod expire;
pub(crate) mod renew;

use std::sync::Arc;
use std::time::Duration;

use millstream_auth::TokenHmac;
use millstream_broker::TokenError;
use millstream_broker::acl::{Operation, ResourceType};
use millstream_types::Timestamp;
use millstream_wire::{ErrorCode, StrBytes};

use crate::audit::{Changed, detail};
use crate::dispatch::Call;
use crate::errors::Code as _;

/// The one type of principals.
const USER: &str = "User";

/// The longest name of a user, in bytes.
const NAME_BYTES_MAX: usize = 1_024;

/// From here on it is said who has asked for a token.
const REQUESTER_SINCE: i16 = 3;

fn user_type() -> StrBytes {
    StrBytes::from_static(USER)
}

fn name(name: &str) -> StrBytes {
    StrBytes::from(name.to_owned())
}

/// Type and name of who has asked for a token, for a client of that version.
fn requester(version: i16, requester: &str) -> (StrBytes, StrBytes) {
    match version >= REQUESTER_SINCE {
        true => (user_type(), name(requester)),
        false => Default::default(),
    }
}

/// The token of that id, as what was changed. By its HMAC it is known nowhere.
const fn named(id: &str) -> Changed<'_> {
    (ResourceType::DelegationToken.name(), id)
}

/// The user that a principal of a request is.
fn user(kind: &str, name: &str) -> Result<Arc<str>, ErrorCode> {
    if kind != USER {
        return Err(ErrorCode::InvalidPrincipalType);
    }
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(ErrorCode::InvalidRequest);
    }
    Ok(Arc::from(name))
}

/// A time that is said in milliseconds.
fn time(ms: i64) -> Duration {
    Duration::from_millis(ms.unsigned_abs())
}

impl Call {
    /// Whether the client may ask about tokens here: he has to have said who he is, and not by a token, from
    /// which others could be made without an end.
    fn may_ask_about_tokens(&self) -> Result<(), ErrorCode> {
        if self.has_said_who_it_is() && !self.is_by_token() {
            Ok(())
        } else {
            Err(ErrorCode::DelegationTokenRequestNotAllowed)
        }
    }

    fn user(&self) -> Arc<str> {
        Arc::from(self.principal().name())
    }

    /// Has the token of which `hmac` is the proof changed, and notes it. Code and time of the answer: when it
    /// expires then.
    async fn change_token<F>(
        &self,
        operation: Operation,
        hmac: &[u8],
        change: impl FnOnce(TokenHmac, Arc<str>) -> F,
    ) -> (i16, i64)
    where
        F: Future<Output = Result<Timestamp, TokenError>>,
    {
        let hmac = TokenHmac::said(hmac.to_vec());
        // Before: one that is ended is not there any more.
        let token = self.broker().token_of(&hmac);
        let changed = match self.may_ask_about_tokens() {
            Ok(()) => change(hmac, self.user()).await.map_err(|error| error.code()),
            Err(refused) => Err(refused),
        };
        let error = changed.err().unwrap_or(ErrorCode::None);
        let id = token.as_ref().map_or("", |token| &*token.id);
        let owner = || token.iter().map(|token| detail("owner", &token.owner)).collect();
        self.note_change(operation, named(id), error, owner);
        (error.code(), changed.map_or(-1, |expires| expires.0))
    }
}
