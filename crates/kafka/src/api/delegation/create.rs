//! CreateDelegationToken (38): a token for the user himself, or for another (KIP-373).
//!
//! v2: flexible. v3: another owner.

use std::sync::Arc;

use bytes::Bytes;
use millstream_auth::TokenHmac;
use millstream_broker::TokenRequest;
use millstream_broker::acl::Operation;
use millstream_broker::delegation::{Delegation, RENEWERS_MAX};
use millstream_wire::{CreateDelegationTokenRequest, CreateDelegationTokenResponse, ErrorCode};

use super::{name, time, user, user_type};
use crate::api::authorize::Resource;
use crate::dispatch::Call;
use crate::errors::Code as _;

/// From here on it is said who has asked for a token.
const REQUESTER_SINCE: i16 = 3;

pub(crate) async fn handle(
    call: Call,
    request: CreateDelegationTokenRequest,
) -> CreateDelegationTokenResponse {
    let (requester_type, requester_name) = match call.version >= REQUESTER_SINCE {
        true => (user_type(), name(call.principal().name())),
        false => Default::default(),
    };
    match create(&call, &request).await {
        Ok((token, hmac)) => CreateDelegationTokenResponse {
            error_code: ErrorCode::None.code(),
            principal_type: user_type(),
            principal_name: name(&token.owner),
            token_requester_principal_type: requester_type,
            token_requester_principal_name: requester_name,
            issue_timestamp_ms: token.issued.0,
            expiry_timestamp_ms: token.expires.0,
            max_timestamp_ms: token.ends.0,
            token_id: name(&token.id),
            hmac: Bytes::copy_from_slice(hmac.bytes()),
            throttle_time_ms: 0,
        },
        Err(error) => CreateDelegationTokenResponse {
            error_code: error.code(),
            principal_type: user_type(),
            principal_name: request.owner_principal_name.unwrap_or_default(),
            token_requester_principal_type: requester_type,
            token_requester_principal_name: requester_name,
            issue_timestamp_ms: -1,
            expiry_timestamp_ms: -1,
            max_timestamp_ms: -1,
            ..CreateDelegationTokenResponse::default()
        },
    }
}

async fn create(
    call: &Call,
    request: &CreateDelegationTokenRequest,
) -> Result<(Arc<Delegation>, TokenHmac), ErrorCode> {
    call.may_ask_about_tokens()?;
    let requester = call.user();
    let owner = match request.owner_principal_name.as_deref() {
        None | Some("") => Arc::clone(&requester),
        Some(name) => user(request.owner_principal_type.as_deref().unwrap_or_default(), name)?,
    };
    if owner != requester {
        let owner = format!("User:{owner}");
        call.check(Operation::CreateTokens, Resource::User(&owner))?;
    }
    if request.renewers.len() > RENEWERS_MAX {
        return Err(ErrorCode::InvalidRequest);
    }
    let renewers = request.renewers.iter();
    let renewers = renewers.map(|one| user(&one.principal_type, &one.principal_name));
    let wanted = TokenRequest {
        owner,
        requester,
        renewers: renewers.collect::<Result<_, _>>()?,
        lifetime_max: (request.max_lifetime_ms > 0).then(|| time(request.max_lifetime_ms)),
    };
    call.broker().create_token(wanted).await.map_err(|error| error.code())
}
