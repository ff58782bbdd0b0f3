//! What the configs of logins by tokens of an issuer come to. They are read at the start and never change.

use std::time::Duration;

use super::layers::{BrokerOverrides, Values};
use super::topic::millis;

/// Whose tokens are taken, and what they have to say (`sasl.oauthbearer.`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OauthConfig {
    /// Where the issuer's keys are (`jwks.endpoint.url`), as it was set.
    pub keys: Option<String>,
    /// How often they are fetched (`jwks.endpoint.refresh.ms`).
    pub refresh: Duration,
    /// The first wait after a fetch that has failed (`jwks.endpoint.retry.backoff.ms`).
    pub retry: Duration,
    /// The longest (`jwks.endpoint.retry.backoff.max.ms`).
    pub retry_max: Duration,
    /// How long they stay in use when they can't be fetched again (`millstream.oauthbearer.jwks.age.max.ms`).
    pub age_max: Duration,
    /// Who must have made a token (`expected.issuer`).
    pub issuer: Option<String>,
    /// For one of whom (`expected.audience`).
    pub audiences: Vec<String>,
    /// How much clocks may differ (`clock.skew.seconds`).
    pub skew: Duration,
    /// What names the user (`sub.claim.name`).
    pub subject_claim: String,
    /// What says what a token is good for (`scope.claim.name`).
    pub scope_claim: String,
    /// The authorities that are trusted for https: (`millstream.oauthbearer.truststore.location`).
    pub trust_store: Option<String>,
}

impl OauthConfig {
    /// What `overrides` come to, which were checked when they were set.
    #[must_use]
    pub fn resolve(overrides: &BrokerOverrides) -> Self {
        let values = Values::of_broker(overrides);
        let text = |name| values.text(name).trim().to_owned();
        let set = |name| Some(text(name)).filter(|text| !text.is_empty());
        let time = |name| millis(values.number(name));
        let skew = values.number("sasl.oauthbearer.clock.skew.seconds");
        Self {
            keys: set("sasl.oauthbearer.jwks.endpoint.url"),
            refresh: time("sasl.oauthbearer.jwks.endpoint.refresh.ms"),
            retry: time("sasl.oauthbearer.jwks.endpoint.retry.backoff.ms"),
            retry_max: time("sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms"),
            age_max: time("millstream.oauthbearer.jwks.age.max.ms"),
            issuer: set("sasl.oauthbearer.expected.issuer"),
            audiences: values.items("sasl.oauthbearer.expected.audience").to_vec(),
            skew: Duration::from_secs(skew.unsigned_abs()),
            subject_claim: text("sasl.oauthbearer.sub.claim.name"),
            scope_claim: text("sasl.oauthbearer.scope.claim.name"),
            trust_store: set("millstream.oauthbearer.truststore.location"),
        }
    }
}
