//! Whose tokens a server takes: what was asked for, checked before anything is opened.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{anyhow, bail};
use millstream_auth::Expected;
use millstream_broker::config::{BrokerOverrides, OauthConfig};
use millstream_env::Env;
use millstream_oauth::{Issuer, IssuerSettings, Place};
use tracing::warn;

/// The setting without which there are no such logins.
const KEYS: &str = "sasl.oauthbearer.jwks.endpoint.url";
const REFRESH: &str = "sasl.oauthbearer.jwks.endpoint.refresh.ms";
const AGE_MAX: &str = "millstream.oauthbearer.jwks.age.max.ms";

/// The issuers that listeners and pages want: one for all that are set alike.
#[derive(Default)]
pub(crate) struct Issuers(Vec<(OauthConfig, Arc<Issuer>)>);

impl Issuers {
    /// The one that `set` names, for `whom`, who offers logins by its tokens.
    pub(crate) async fn issuer(
        &mut self,
        set: &BrokerOverrides,
        whom: &str,
        env: &Env,
    ) -> anyhow::Result<Arc<Issuer>> {
        let config = OauthConfig::resolve(set);
        if let Some((_, issuer)) = self.0.iter().find(|(known, _)| *known == config) {
            return Ok(Arc::clone(issuer));
        }
        let issuer = Issuer::open(settings(&config, whom)?, env.clone()).await;
        let issuer = issuer.map_err(|error| anyhow!("{whom}: {error}; {KEYS} names it"))?;
        env.spawn("keys of tokens", millstream_oauth::watch(Arc::downgrade(&issuer), env.clone()));
        self.0.push((config, Arc::clone(&issuer)));
        Ok(issuer)
    }

    /// All of them.
    pub(crate) fn into_all(self) -> Vec<Arc<Issuer>> {
        self.0.into_iter().map(|(_, issuer)| issuer).collect()
    }
}

fn settings(config: &OauthConfig, whom: &str) -> anyhow::Result<IssuerSettings> {
    let Some(keys) = &config.keys else {
        bail!(
            "{whom}: nobody's tokens (OAUTHBEARER) could be verified: say where the issuer's public keys are, as \
             --set {KEYS}=https://... or file:///...; docs/security.md says how"
        );
    };
    let place = Place::parse(keys)
        .map_err(|error| anyhow!("{whom}: {KEYS}={keys} can't be used: {error}"))?;
    if config.age_max <= config.refresh {
        bail!(
            "{whom}: keys would be too old before they are fetched again: {AGE_MAX} has to be more than {REFRESH}"
        );
    }
    if config.audiences.is_empty() {
        warn!(
            %whom,
            "sasl.oauthbearer.expected.audience is not set: tokens of the issuer are taken that it made for others"
        );
    }
    let config = config.clone();
    Ok(IssuerSettings {
        place,
        refresh: config.refresh,
        retry: config.retry,
        retry_max: config.retry_max,
        age_max: config.age_max,
        trust_store: config.trust_store.map(PathBuf::from),
        expected: Expected {
            issuer: config.issuer,
            audiences: config.audiences,
            skew: config.skew,
            subject_claim: config.subject_claim,
            scope_claim: config.scope_claim,
        },
    })
}
