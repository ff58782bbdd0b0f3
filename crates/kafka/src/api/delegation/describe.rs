//! DescribeDelegationToken (41): the tokens that somebody owns or may renew, and those of others of which he may
//! be told. v2: flexible. v3: who has asked for them.

use std::collections::HashSet;

use bytes::Bytes;
use millstream_auth::TokenHmac;
use millstream_broker::acl::Operation;
use millstream_broker::delegation::Delegation;
use millstream_wire::describe_delegation_token_request::DescribeDelegationTokenOwner;
use millstream_wire::describe_delegation_token_response::{
    DescribedDelegationToken, DescribedDelegationTokenRenewer,
};
use millstream_wire::{DescribeDelegationTokenRequest, DescribeDelegationTokenResponse, ErrorCode};

use super::{USER, name, requester, user_type};
use crate::api::authorize::Resource;
use crate::dispatch::Call;
use crate::errors::Code as _;

pub(crate) async fn handle(
    call: Call,
    request: DescribeDelegationTokenRequest,
) -> DescribeDelegationTokenResponse {
    match describe(&call, request.owners.as_deref()) {
        Ok(tokens) => DescribeDelegationTokenResponse { tokens, ..Default::default() },
        Err(error) => {
            DescribeDelegationTokenResponse { error_code: error.code(), ..Default::default() }
        }
    }
}

/// Those of `owners`; of all where there are none.
fn describe(
    call: &Call,
    owners: Option<&[DescribeDelegationTokenOwner]>,
) -> Result<Vec<DescribedDelegationToken>, ErrorCode> {
    call.may_ask_about_tokens()?;
    let owners = owners.map(|owners| {
        let users = owners.iter().filter(|owner| &*owner.principal_type == USER);
        users.map(|owner| owner.principal_name.as_str()).collect::<HashSet<_>>()
    });
    let is_wanted = |token: &Delegation| match &owners {
        None => true,
        Some(owners) => owners.iter().any(|owner| token.is_managed_by(owner)),
    };
    let tokens = call.broker().tokens(is_wanted).map_err(|error| error.code())?;
    let told = tokens.into_iter().filter(|(token, _)| may_be_told(call, token));
    Ok(told.map(|(token, hmac)| described(call.version, &token, &hmac)).collect())
}

/// Of others' tokens only those are told who have the right. Kafka tells them all of it, too.
fn may_be_told(call: &Call, token: &Delegation) -> bool {
    let owner = format!("User:{}", token.owner);
    token.is_managed_by(call.principal().name())
        || call.may(Operation::Describe, Resource::DelegationToken(&token.id))
        || call.may(Operation::DescribeTokens, Resource::User(&owner))
}

fn described(version: i16, token: &Delegation, hmac: &TokenHmac) -> DescribedDelegationToken {
    let (requester_type, requester_name) = requester(version, &token.requester);
    let renewers = token.renewers.iter().map(|renewer| DescribedDelegationTokenRenewer {
        principal_type: user_type(),
        principal_name: name(renewer),
    });
    DescribedDelegationToken {
        principal_type: user_type(),
        principal_name: name(&token.owner),
        token_requester_principal_type: requester_type,
        token_requester_principal_name: requester_name,
        issue_timestamp: token.issued.0,
        expiry_timestamp: token.expires.0,
        max_timestamp: token.ends.0,
        token_id: name(&token.id),
        hmac: Bytes::copy_from_slice(hmac.bytes()),
        renewers: renewers.collect(),
    }
}
