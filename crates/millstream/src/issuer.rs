//! Whose tokens a server takes: what was asked for, checked before anything is opened.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{anyhow, bail};
use millstream_auth::{Expected, Mechanism};
use millstream_broker::config::{BrokerConfig, BrokerOverrides, OauthConfig, of_listener};
use millstream_env::Env;
use millstream_oauth::{Issuer, IssuerSettings, Place};
use tracing::warn;

use crate::Settings;

/// The setting without which there are no such logins.
const KEYS: &str = "sasl.oauthbearer.jwks.endpoint.url";

/// The issuer that `settings` name; `None` where OAUTHBEARER is not offered.
pub(crate) async fn issuer(settings: &Settings, env: &Env) -> anyhow::Result<Option<Arc<Issuer>>> {
    let start = BrokerOverrides { start: settings.clone(), ..BrokerOverrides::default() };
    let offers = |set: &BrokerOverrides| {
        BrokerConfig::resolve(set).sasl_mechanisms.contains(&Mechanism::OauthBearer)
    };
    let mut listeners = settings.keys().filter_map(|name| of_listener(name));
    if !offers(&start) && !listeners.any(|(listener, _)| offers(&start.for_listener(listener))) {
        return Ok(None);
    }
    let config = OauthConfig::resolve(&start);
    let Some(keys) = &config.keys else {
        bail!(
            "sasl.enabled.mechanisms offers OAUTHBEARER, and nobody's tokens could be verified: say where the \
             issuer's public keys are, as --set {KEYS}=https://... or file:///...; docs/security.md says how"
        );
    };
    let place =
        Place::parse(keys).map_err(|error| anyhow!("{KEYS}={keys} can't be used: {error}"))?;
    if config.audiences.is_empty() {
        warn!(
            "sasl.oauthbearer.expected.audience is not set: tokens of the issuer are taken that it made for others"
        );
    }
    let settings = IssuerSettings {
        place,
        refresh: config.refresh,
        retry: config.retry,
        retry_max: config.retry_max,
        trust_store: config.trust_store.map(PathBuf::from),
        expected: Expected {
            issuer: config.issuer,
            audiences: config.audiences,
            skew: config.skew,
            subject_claim: config.subject_claim,
            scope_claim: config.scope_claim,
        },
    };
    let issuer = Issuer::open(settings, env.clone()).await;
    let issuer = issuer.map_err(|error| anyhow!("{error}; {KEYS} names it"))?;
    env.spawn("keys of tokens", millstream_oauth::watch(Arc::downgrade(&issuer), env.clone()));
    Ok(Some(issuer))
}
