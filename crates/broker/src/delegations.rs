//! Delegation tokens: made, renewed and ended by the protocol, asked for by logins.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_auth::{
    Credential, Derivation, Hash, ITERATIONS_MIN, SALT_BYTES, TokenHmac, TokenKey,
};
use millstream_coordinator::cluster::ClusterState;
use millstream_coordinator::delegation::{Delegation, DelegationError};
use millstream_types::Timestamp;

use crate::Broker;
use crate::metadata::{ChangeError, MetadataError};

/// A token that somebody wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRequest {
    /// Whom it is to stand for.
    pub owner: Arc<str>,
    /// Who asks for it.
    pub requester: Arc<str>,
    /// Who may renew it besides its owner.
    pub renewers: Vec<Arc<str>>,
    /// How long it may last, if not as long as any may.
    pub lifetime_max: Option<Duration>,
}

/// Why nothing becomes of what was asked about a token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// There are none here: `delegation.token.secret.key` is not set.
    #[error("there are no delegation tokens here: delegation.token.secret.key is not set")]
    Disabled,
    /// See there.
    #[error(transparent)]
    Refused(#[from] DelegationError),
    /// The metadata can't be written.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
}

impl Broker {
    /// Makes a token. Also what proves that somebody has it, for its owner and no one else.
    ///
    /// # Errors
    ///
    /// [`TokenError`].
    pub async fn create_token(
        &self,
        request: TokenRequest,
    ) -> Result<(Arc<Delegation>, TokenHmac), TokenError> {
        let settings = self.config().delegation.clone();
        let key = settings.key.ok_or(TokenError::Disabled)?;
        let id = self.env().uuid().to_string();
        let hmac = key.hmac(&id);
        let credentials = self.derive(hmac.password()).await;
        let now = self.env().clock.wall();
        let most = settings.lifetime_max;
        let ends = now.plus(request.lifetime_max.map_or(most, |wanted| wanted.min(most)));
        let TokenRequest { owner, requester, renewers, .. } = request;
        let token = Delegation {
            id: Arc::from(id),
            owner,
            requester,
            renewers,
            issued: now,
            expires: now.plus(settings.renewal).min(ends),
            ends,
            digest: hmac.digest(),
            credentials,
        };
        let new = token.clone();
        self.change_tokens(move |state| Ok((state.delegations().added(new, now)?, ()))).await?;
        Ok((Arc::new(token), hmac))
    }

    /// Makes a token last longer, as long as tokens do unless `time` is less. When it expires then.
    ///
    /// # Errors
    ///
    /// [`TokenError`].
    pub async fn renew_token(
        &self,
        hmac: TokenHmac,
        user: Arc<str>,
        time: Option<Duration>,
    ) -> Result<Timestamp, TokenError> {
        let settings = self.config().delegation.clone();
        settings.key.ok_or(TokenError::Disabled)?;
        let time = time.map_or(settings.renewal, |time| time.min(settings.renewal));
        let now = self.env().clock.wall();
        self.change_tokens(move |state| state.delegations().renewed(&hmac, &user, time, now)).await
    }

    /// Makes a token expire after `time`, or at once. When it does.
    ///
    /// # Errors
    ///
    /// [`TokenError`].
    pub async fn expire_token(
        &self,
        hmac: TokenHmac,
        user: Arc<str>,
        time: Option<Duration>,
    ) -> Result<Timestamp, TokenError> {
        if self.config().delegation.key.is_none() {
            return Err(TokenError::Disabled);
        }
        let now = self.env().clock.wall();
        self.change_tokens(move |state| match time {
            Some(time) => state.delegations().renewed(&hmac, &user, time, now),
            None => Ok((state.delegations().ended(&hmac, &user, now)?, now)),
        })
        .await
    }

    /// The token of which `hmac` is the proof, if there is one, also when it has expired.
    #[must_use]
    pub fn token_of(&self, hmac: &TokenHmac) -> Option<Arc<Delegation>> {
        self.0.metadata.read(|state| state.delegations().of(hmac).cloned())
    }

    /// All tokens that count now and that `is_told` picks, with what proves that somebody has them.
    ///
    /// # Errors
    ///
    /// [`TokenError::Disabled`].
    pub fn tokens(
        &self,
        is_told: impl Fn(&Delegation) -> bool,
    ) -> Result<Vec<(Arc<Delegation>, TokenHmac)>, TokenError> {
        let config = self.config();
        let key = config.delegation.key.as_ref().ok_or(TokenError::Disabled)?;
        let now = self.env().clock.wall();
        let told = |token: &&Arc<Delegation>| is_told(token) && token.is_valid(key, now);
        let told: Vec<_> = self
            .0
            .metadata
            .read(|state| state.delegations().iter().filter(told).cloned().collect());
        Ok(with_proofs(told, key))
    }

    /// What SCRAM needs for logins with that password.
    async fn derive(&self, password: String) -> BTreeMap<Hash, Credential> {
        let mut credentials = BTreeMap::new();
        for hash in Hash::ALL {
            let mut salt = vec![0; SALT_BYTES];
            self.env().random.fill(&mut salt);
            let password = password.clone();
            let derive = move || {
                let derivation = Derivation::new(hash, password.as_bytes(), &salt, ITERATIONS_MIN);
                Credential::of_salted(hash, salt, ITERATIONS_MIN, &derivation.finish())
            };
            credentials.insert(hash, self.env().compute(derive).await);
        }
        credentials
    }

    async fn change_tokens<T: Send + 'static>(
        &self,
        command: impl FnOnce(
            &ClusterState,
        ) -> Result<
            (Vec<millstream_coordinator::cluster::Entry>, T),
            DelegationError,
        > + Send
        + 'static,
    ) -> Result<T, TokenError> {
        match self.0.metadata.change(command).await {
            Ok(done) => Ok(done),
            Err(ChangeError::Refused(why)) => Err(why.into()),
            Err(ChangeError::Metadata(error)) => Err(error.into()),
        }
    }
}

fn with_proofs(tokens: Vec<Arc<Delegation>>, key: &TokenKey) -> Vec<(Arc<Delegation>, TokenHmac)> {
    let with_proof = |token: Arc<Delegation>| {
        let hmac = key.hmac(&token.id);
        (token, hmac)
    };
    tokens.into_iter().map(with_proof).collect()
}
