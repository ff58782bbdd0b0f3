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

use super::{name, named, requester, time, user, user_type};
use crate::api::authorize::Resource;
use crate::audit::{Details, detail};
use crate::dispatch::Call;
use crate::errors::Code as _;

pub(crate) async fn handle(
    call: Call,
    request: CreateDelegationTokenRequest,
) -> CreateDelegationTokenResponse {
    let made = create(&call, &request).await;
    let (id, error) = match &made {
        Ok((token, _)) => (&*token.id, ErrorCode::None),
        Err(error) => ("", *error),
    };
    call.note_change(Operation::Create, named(id), error, || details(&call, &request));
    let (requester_type, requester_name) = requester(call.version, call.principal().name());
    let none = CreateDelegationTokenResponse {
        principal_type: user_type(),
        token_requester_principal_type: requester_type,
        token_requester_principal_name: requester_name,
        issue_timestamp_ms: -1,
        expiry_timestamp_ms: -1,
        max_timestamp_ms: -1,
        ..CreateDelegationTokenResponse::default()
    };
    match made {
        Ok((token, hmac)) => CreateDelegationTokenResponse {
            principal_name: name(&token.owner),
            issue_timestamp_ms: token.issued.0,
            expiry_timestamp_ms: token.expires.0,
            max_timestamp_ms: token.ends.0,
            token_id: name(&token.id),
            hmac: Bytes::copy_from_slice(hmac.bytes()),
            ..none
        },
        Err(_) => CreateDelegationTokenResponse {
            error_code: error.code(),
            principal_name: request.owner_principal_name.unwrap_or_default(),
            ..none
        },
    }
}

async fn create(
    call: &Call,
    request: &CreateDelegationTokenRequest,
) -> Result<(Arc<Delegation>, TokenHmac), ErrorCode> {
    call.may_ask_about_tokens()?;
    let requester = call.user();
    let owner = match other_owner(request) {
        None => Arc::clone(&requester),
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

/// The owner that is named, if one is.
fn other_owner(request: &CreateDelegationTokenRequest) -> Option<&str> {
    request.owner_principal_name.as_deref().filter(|name| !name.is_empty())
}

/// Whom the token is to stand for, and who may renew it.
fn details(call: &Call, request: &CreateDelegationTokenRequest) -> Details {
    let owner = other_owner(request).unwrap_or_else(|| call.principal().name());
    let renewers = request.renewers.iter().take(RENEWERS_MAX);
    let renewers: Vec<_> =
        renewers.map(|one| format!("{}:{}", one.principal_type, one.principal_name)).collect();
    let mut details = vec![detail("owner", owner)];
    if !renewers.is_empty() {
        details.push(detail("renewers", renewers.join(";")));
    }
    details
}
