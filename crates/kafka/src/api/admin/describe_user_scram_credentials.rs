//! DescribeUserScramCredentials (50): which credentials users have, without what is kept (KIP-554).

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_broker::HeldCredential;
use millstream_broker::acl::Operation;
use millstream_wire::describe_user_scram_credentials_response::{
    CredentialInfo, DescribeUserScramCredentialsResult,
};
use millstream_wire::{
    DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse, ErrorCode, StrBytes,
};

use super::alter_user_scram_credentials::mechanism;
use crate::api::allowance::Allowance;
use crate::api::authorize::Resource;
use crate::api::repeats::{TWICE, distinct, repeated};
use crate::dispatch::Call;
use crate::errors::Refusal;

/// What a user takes in the answer besides his name, at most, in bytes.
const USER_BYTES: usize = 256;

/// Who there is, and what he has.
type Held = BTreeMap<Arc<str>, Vec<HeldCredential>>;

pub(crate) async fn handle(
    call: Call,
    request: DescribeUserScramCredentialsRequest,
) -> DescribeUserScramCredentialsResponse {
    let named = request.users.unwrap_or_default().into_iter().map(|user| user.name);
    let may = call.require(Operation::Describe, Resource::Cluster);
    match may.and_then(|()| describe(&call.broker().credentials(), named.collect())) {
        Ok(results) => DescribeUserScramCredentialsResponse {
            error_message: None,
            results,
            ..DescribeUserScramCredentialsResponse::default()
        },
        Err((error, why)) => DescribeUserScramCredentialsResponse {
            error_code: error.code(),
            error_message: Some(why),
            ..DescribeUserScramCredentialsResponse::default()
        },
    }
}

/// Nobody named means everybody.
fn describe(
    held: &Held,
    named: Vec<StrBytes>,
) -> Result<Vec<DescribeUserScramCredentialsResult>, Refusal> {
    let twice = repeated(named.iter().cloned());
    let names = if named.is_empty() {
        held.keys().map(|user| StrBytes::from(user.as_ref().to_owned())).collect()
    } else {
        distinct(named, StrBytes::clone)
    };
    let mut allowance = Allowance::new();
    let mut results = Vec::new();
    for user in names {
        allowance.take(USER_BYTES + user.len())?;
        let found = held.get(user.as_str());
        let refused = match found {
            _ if twice.contains(&user) => Some((ErrorCode::DuplicateResource, TWICE)),
            None => Some((ErrorCode::ResourceNotFound, "there is no such user")),
            Some(_) => None,
        };
        let (error, why) = refused.unzip();
        let infos = found.filter(|_| error.is_none()).into_iter().flatten().map(|held| {
            let iterations = i32::try_from(held.iterations).unwrap_or(i32::MAX);
            CredentialInfo { mechanism: mechanism(held.hash), iterations }
        });
        results.push(DescribeUserScramCredentialsResult {
            credential_infos: infos.collect(),
            user,
            error_code: error.unwrap_or(ErrorCode::None).code(),
            error_message: why.map(StrBytes::from),
        });
    }
    Ok(results)
}
