//! Delegation tokens: others act as a user for a while, without his password (KIP-48, KIP-373).

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use millstream_auth::TokenHmac;
use millstream_types::Timestamp;
use millstream_wire::create_delegation_token_request::CreatableRenewers;
use millstream_wire::describe_delegation_token_request::DescribeDelegationTokenOwner;
use millstream_wire::{
    CreateDelegationTokenRequest, DescribeDelegationTokenRequest, ExpireDelegationTokenRequest,
    RenewDelegationTokenRequest, StrBytes,
};

use super::Admin;
use crate::cluster::Target;
use crate::error::Error;

/// The one type of principals.
const USER: &str = "User";

/// What a broker takes for "as it is set".
const AS_SET: i64 = -1;

/// A delegation token. Who has its id and its HMAC can log in as its owner.
#[derive(Clone, PartialEq, Eq)]
pub struct DelegationToken {
    /// Its id: what a login by it goes by for a name.
    pub id: String,
    /// What a login by it goes by for a password.
    pub hmac: TokenHmac,
    /// As whom it lets act.
    pub owner: String,
    /// Who may renew and expire it besides its owner.
    pub renewers: Vec<String>,
    /// When it was made.
    pub issued: Timestamp,
    /// When it expires, unless it is renewed.
    pub expires: Timestamp,
    /// When it expires even so.
    pub ends: Timestamp,
}

/// A token to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewToken {
    /// As whom it is to let act; as whoever asks when there is none.
    pub owner: Option<String>,
    /// Who may renew it besides.
    pub renewers: Vec<String>,
    /// How long it lasts at most; as long as the broker lets any, when there is none.
    pub lifetime_max: Option<Duration>,
}

fn user_type() -> StrBytes {
    StrBytes::from_static(USER)
}

fn name(name: &str) -> StrBytes {
    StrBytes::from(name.to_owned())
}

/// In milliseconds; what is longer than can be said is as long as can be said.
fn milliseconds(time: Option<Duration>) -> i64 {
    time.map_or(AS_SET, |time| i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
}

impl Admin {
    /// Makes a token.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`]: with `DELEGATION_TOKEN_AUTH_DISABLED` where there are none, with
    /// `DELEGATION_TOKEN_REQUEST_NOT_ALLOWED` for who has not logged in, or has by a token.
    pub async fn create_token(&self, new: &NewToken) -> Result<DelegationToken, Error> {
        let renewers = new.renewers.iter().map(|renewer| CreatableRenewers {
            principal_type: user_type(),
            principal_name: name(renewer),
        });
        let request = CreateDelegationTokenRequest {
            owner_principal_type: new.owner.as_ref().map(|_| user_type()),
            owner_principal_name: new.owner.as_deref().map(name),
            renewers: renewers.collect(),
            max_lifetime_ms: milliseconds(new.lifetime_max),
        };
        self.at_controller(&request, |made| {
            Error::check(made.error_code, None, || "a delegation token".to_owned())?;
            Ok(DelegationToken {
                id: made.token_id.as_str().to_owned(),
                hmac: TokenHmac::said(made.hmac.to_vec()),
                owner: made.principal_name.as_str().to_owned(),
                renewers: new.renewers.clone(),
                issued: Timestamp(made.issue_timestamp_ms),
                expires: Timestamp(made.expiry_timestamp_ms),
                ends: Timestamp(made.max_timestamp_ms),
            })
        })
        .await
    }

    /// All tokens that the broker tells this client of: those that `owners` own or may renew; without any, of all.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`], as [`Self::create_token`].
    pub async fn tokens(&self, owners: &[String]) -> Result<Vec<DelegationToken>, Error> {
        let named = owners.iter().map(|owner| DescribeDelegationTokenOwner {
            principal_type: user_type(),
            principal_name: name(owner),
        });
        let request = DescribeDelegationTokenRequest {
            owners: (!owners.is_empty()).then(|| named.collect()),
        };
        self.at(Target::Any, &request, |answer| {
            Error::check(answer.error_code, None, || "delegation tokens".to_owned())?;
            let tokens = answer.tokens.iter().map(|token| DelegationToken {
                id: token.token_id.as_str().to_owned(),
                hmac: TokenHmac::said(token.hmac.to_vec()),
                owner: token.principal_name.as_str().to_owned(),
                renewers: token
                    .renewers
                    .iter()
                    .map(|renewer| renewer.principal_name.as_str().to_owned())
                    .collect(),
                issued: Timestamp(token.issue_timestamp),
                expires: Timestamp(token.expiry_timestamp),
                ends: Timestamp(token.max_timestamp),
            });
            let mut tokens: Vec<_> = tokens.collect();
            tokens.sort_by(|a, b| (&a.owner, a.issued, &a.id).cmp(&(&b.owner, b.issued, &b.id)));
            Ok(tokens)
        })
        .await
    }

    /// Makes a token last `period` from now, or as long as the broker lets any, but never beyond its end. When it
    /// expires now.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`], for example with `DELEGATION_TOKEN_NOT_FOUND`.
    pub async fn renew_token(
        &self,
        hmac: &TokenHmac,
        period: Option<Duration>,
    ) -> Result<Timestamp, Error> {
        let hmac = Bytes::copy_from_slice(hmac.bytes());
        let request = RenewDelegationTokenRequest { hmac, renew_period_ms: milliseconds(period) };
        self.at_controller(&request, |answer| {
            Error::check(answer.error_code, None, || "the delegation token".to_owned())?;
            Ok(Timestamp(answer.expiry_timestamp_ms))
        })
        .await
    }

    /// Ends a token at once, or after `period`. When it expires now.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`], for example with `DELEGATION_TOKEN_NOT_FOUND`.
    pub async fn expire_token(
        &self,
        hmac: &TokenHmac,
        period: Option<Duration>,
    ) -> Result<Timestamp, Error> {
        let hmac = Bytes::copy_from_slice(hmac.bytes());
        let expiry_time_period_ms = milliseconds(period);
        let request = ExpireDelegationTokenRequest { hmac, expiry_time_period_ms };
        self.at_controller(&request, |answer| {
            Error::check(answer.error_code, None, || "the delegation token".to_owned())?;
            Ok(Timestamp(answer.expiry_timestamp_ms))
        })
        .await
    }
}

impl fmt::Debug for DelegationToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DelegationToken")
            .field("id", &self.id)
            .field("owner", &self.owner)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}
