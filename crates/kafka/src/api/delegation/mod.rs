//! Delegation tokens (KIP-48, KIP-373): others act as a user for a while, without his password.

pub(crate) mod create;
pub(crate) mod describe;
pub(crate) mod expire;
pub(crate) mod renew;

use std::sync::Arc;
use std::time::Duration;

use millstream_wire::{ErrorCode, StrBytes};

use crate::dispatch::Call;

/// The one type of principals.
const USER: &str = "User";

/// The longest name of a user, in bytes.
const NAME_BYTES_MAX: usize = 1_024;

fn user_type() -> StrBytes {
    StrBytes::from_static(USER)
}

fn name(name: &str) -> StrBytes {
    StrBytes::from(name.to_owned())
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
}
