//! Users' credentials (KIP-554).

use bytes::Bytes;
use millstream_auth::{Derivation, Hash, Mechanism};
use millstream_wire::alter_user_scram_credentials_request::{
    ScramCredentialDeletion, ScramCredentialUpsertion,
};
use millstream_wire::describe_user_scram_credentials_request::UserName;
use millstream_wire::{
    AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse,
    DescribeUserScramCredentialsRequest, ErrorCode,
};

use super::Admin;
use super::topics::missing;
use crate::cluster::Target;
use crate::error::Error;

/// A user, and the credentials that he has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserListing {
    /// His name.
    pub name: String,
    /// Hash functions, and how often his password was hashed by each.
    pub credentials: Vec<(Hash, u32)>,
}

/// A credential to be made of a password, which stays here.
#[derive(Clone)]
pub struct NewCredential {
    /// The hash function.
    pub hash: Hash,
    /// How often the password is hashed.
    pub iterations: u32,
    /// Random.
    pub salt: Vec<u8>,
    /// The password.
    pub password: String,
}

/// The number of the mechanism of a hash function.
const fn number(hash: Hash) -> i8 {
    match hash {
        Hash::Sha256 => 1,
        Hash::Sha512 => 2,
    }
}

impl Admin {
    /// All users that have credentials, or those that are named, by name.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`]; for one that is named and not there with `RESOURCE_NOT_FOUND`.
    pub async fn users(&self, named: &[String]) -> Result<Vec<UserListing>, Error> {
        let users = named.iter().map(|name| UserName { name: name.clone().into() }).collect();
        let request =
            DescribeUserScramCredentialsRequest { users: (!named.is_empty()).then_some(users) };
        self.at(Target::Any, &request, |answer| {
            let what = || "users".to_owned();
            Error::check(answer.error_code, answer.error_message.as_deref(), what)?;
            let mut listed = Vec::new();
            for user in &answer.results {
                let what = || format!("user {}", user.user);
                Error::check(user.error_code, user.error_message.as_deref(), what)?;
                let held = user.credential_infos.iter().filter_map(|held| {
                    let hash =
                        Hash::ALL.into_iter().find(|hash| number(*hash) == held.mechanism)?;
                    Some((hash, u32::try_from(held.iterations).unwrap_or_default()))
                });
                let name = user.user.as_str().to_owned();
                let mut credentials: Vec<_> = held.collect();
                credentials.sort_unstable();
                listed.push(UserListing { name, credentials });
            }
            listed.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(listed)
        })
        .await
    }

    /// Sets a credential of a user, whom this makes if he is not there.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`], for example with `UNACCEPTABLE_CREDENTIAL`.
    pub async fn set_credential(&self, user: &str, new: NewCredential) -> Result<(), Error> {
        let NewCredential { hash, iterations, salt, password } = new;
        let salted = Derivation::new(hash, password.as_bytes(), &salt, iterations).finish();
        let upsertion = ScramCredentialUpsertion {
            name: user.to_owned().into(),
            mechanism: number(hash),
            iterations: i32::try_from(iterations).unwrap_or(i32::MAX),
            salt: Bytes::from(salt),
            salted_password: Bytes::from(salted),
        };
        let request = AlterUserScramCredentialsRequest {
            upsertions: vec![upsertion],
            ..AlterUserScramCredentialsRequest::default()
        };
        self.alter_user(user, &request).await
    }

    /// Deletes a credential of a user. Without any he can't log in.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`], with `RESOURCE_NOT_FOUND` when he has no such credential.
    pub async fn delete_credential(&self, user: &str, hash: Hash) -> Result<(), Error> {
        let deletion =
            ScramCredentialDeletion { name: user.to_owned().into(), mechanism: number(hash) };
        let request = AlterUserScramCredentialsRequest {
            deletions: vec![deletion],
            ..AlterUserScramCredentialsRequest::default()
        };
        self.alter_user(user, &request).await
    }

    async fn alter_user(
        &self,
        user: &str,
        request: &AlterUserScramCredentialsRequest,
    ) -> Result<(), Error> {
        let what = || format!("user {user}");
        self.at_controller(request, |answer: &AlterUserScramCredentialsResponse| {
            let found = answer.results.first().ok_or_else(|| missing(&what()))?;
            Error::check(found.error_code, found.error_message.as_deref(), what)
        })
        .await
    }

    /// Whether `error` says that there is no such user or credential.
    #[must_use]
    pub fn is_no_such_user(error: &Error) -> bool {
        error.code() == Some(ErrorCode::ResourceNotFound)
    }
}

impl UserListing {
    /// The mechanisms by which the user can log in, PLAIN apart.
    pub fn mechanisms(&self) -> impl Iterator<Item = Mechanism> {
        self.credentials.iter().map(|(hash, _)| Mechanism::Scram(*hash))
    }
}

impl std::fmt::Debug for NewCredential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewCredential")
            .field("hash", &self.hash)
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}
