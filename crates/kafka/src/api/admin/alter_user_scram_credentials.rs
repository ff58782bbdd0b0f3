//! AlterUserScramCredentials (51): sets and deletes users' credentials (KIP-554).
//!
//! Passwords stay with the client: it sends what a salt and many rounds of hashing have made of one, of which
//! less is kept than anybody could log in with.

use std::sync::Arc;

use millstream_auth::Hash;
use millstream_broker::acl::Operation;
use millstream_broker::{Alteration, Upsertion};
use millstream_wire::alter_user_scram_credentials_request::ScramCredentialUpsertion;
use millstream_wire::alter_user_scram_credentials_response::AlterUserScramCredentialsResult;
use millstream_wire::{
    AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse, ErrorCode, StrBytes,
};

use crate::api::authorize::Resource;
use crate::dispatch::Call;
use crate::errors::{Refusal, refusal, text};

// `ScramMechanism`s.
const SHA_256: i8 = 1;
const SHA_512: i8 = 2;

pub(crate) async fn handle(
    call: Call,
    request: AlterUserScramCredentialsRequest,
) -> AlterUserScramCredentialsResponse {
    let mut wanted = Vec::with_capacity(request.deletions.len() + request.upsertions.len());
    for deletion in &request.deletions {
        wanted.push((user(&deletion.name), Alteration::Delete(hash(deletion.mechanism))));
    }
    for upsertion in &request.upsertions {
        wanted.push((user(&upsertion.name), Alteration::Set(set(upsertion))));
    }
    let users: Vec<_> = wanted.iter().map(|(user, _)| Arc::clone(user)).collect();
    let deleted: Vec<_> = request.deletions.iter().map(|deletion| user(&deletion.name)).collect();
    let altered = match call.require(Operation::Alter, Resource::Cluster) {
        Ok(()) => {
            let altered = call.broker().alter_credentials(wanted).await;
            altered.map_err(|error| (ErrorCode::KafkaStorageError, text(&error)))
        }
        Err(refused) => Err(refused),
    };
    let results: Vec<_> = match altered {
        Ok(outcomes) => outcomes
            .into_iter()
            .map(|(user, outcome)| result(&user, outcome.map_err(|error| refusal(&error))))
            .collect(),
        Err(refused) => users.iter().map(|user| result(user, Err(refused.clone()))).collect(),
    };
    for result in &results {
        let is_deletion = deleted.iter().any(|user| **user == *result.user);
        let operation = if is_deletion { Operation::Delete } else { Operation::Alter };
        let error = ErrorCode::or_unknown(result.error_code);
        call.note_change(operation, ("User", &result.user), error, Vec::new);
    }
    AlterUserScramCredentialsResponse { results, ..AlterUserScramCredentialsResponse::default() }
}

fn user(name: &StrBytes) -> Arc<str> {
    Arc::from(name.as_str())
}

fn set(upsertion: &ScramCredentialUpsertion) -> Upsertion {
    Upsertion {
        hash: hash(upsertion.mechanism),
        iterations: upsertion.iterations,
        salt: upsertion.salt.to_vec(),
        salted_password: upsertion.salted_password.to_vec(),
    }
}

fn result(user: &Arc<str>, outcome: Result<(), Refusal>) -> AlterUserScramCredentialsResult {
    let (error, error_message) = outcome.err().unzip();
    AlterUserScramCredentialsResult {
        user: StrBytes::from(user.as_ref().to_owned()),
        error_code: error.unwrap_or(ErrorCode::None).code(),
        error_message,
    }
}

/// The hash function of the mechanism that the protocol numbers so.
const fn hash(mechanism: i8) -> Option<Hash> {
    match mechanism {
        SHA_256 => Some(Hash::Sha256),
        SHA_512 => Some(Hash::Sha512),
        _ => None,
    }
}

/// The number of the mechanism of a hash function.
pub(super) const fn mechanism(hash: Hash) -> i8 {
    match hash {
        Hash::Sha256 => SHA_256,
        Hash::Sha512 => SHA_512,
    }
}
