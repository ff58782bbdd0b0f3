//! What the configs of logins by tokens of an issuer come to.

use std::time::Duration;

use super::super::{BrokerOverrides, Kind, OauthConfig, validate};
use super::started;

fn defaults() -> OauthConfig {
    OauthConfig {
        keys: None,
        refresh: Duration::from_hours(1),
        retry: Duration::from_millis(100),
        retry_max: Duration::from_secs(10),
        age_max: Duration::from_hours(24),
        issuer: None,
        audiences: Vec::new(),
        skew: Duration::from_secs(30),
        subject_claim: "sub".to_owned(),
        scope_claim: "scope".to_owned(),
        trust_store: None,
    }
}

#[test]
fn every_field_follows_its_config() {
    #[track_caller]
    fn check(name: &str, value: &str, change: impl Fn(&mut OauthConfig)) {
        let mut expected = defaults();
        change(&mut expected);
        assert_ne!(expected, defaults(), "this shows nothing");
        assert_eq!(OauthConfig::resolve(&started(&[(name, value)])), expected);
    }
    assert_eq!(OauthConfig::resolve(&BrokerOverrides::default()), defaults());
    let second = Duration::from_secs(1);
    check("sasl.oauthbearer.jwks.endpoint.url", "file:/a", |c| c.keys = Some("file:/a".to_owned()));
    check("sasl.oauthbearer.jwks.endpoint.refresh.ms", "1000", |c| c.refresh = second);
    check("sasl.oauthbearer.jwks.endpoint.retry.backoff.ms", "1000", |c| c.retry = second);
    check("sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms", "1000", |c| c.retry_max = second);
    check("millstream.oauthbearer.jwks.age.max.ms", "1000", |c| c.age_max = second);
    check("sasl.oauthbearer.expected.issuer", "https://i", |c| {
        c.issuer = Some("https://i".to_owned());
    });
    check("sasl.oauthbearer.expected.audience", "a,b", |c| {
        c.audiences = vec!["a".to_owned(), "b".to_owned()];
    });
    check("sasl.oauthbearer.clock.skew.seconds", "1", |c| c.skew = second);
    check("sasl.oauthbearer.clock.skew.seconds", "0", |c| c.skew = Duration::ZERO);
    check("sasl.oauthbearer.sub.claim.name", "azp", |c| c.subject_claim = "azp".to_owned());
    check("sasl.oauthbearer.scope.claim.name", "scp", |c| c.scope_claim = "scp".to_owned());
    check("millstream.oauthbearer.truststore.location", "ca.pem", |c| {
        c.trust_store = Some("ca.pem".to_owned());
    });
}

#[test]
fn each_listener_may_have_its_own_issuer() {
    let set = started(&[
        ("sasl.oauthbearer.expected.issuer", "https://ours"),
        ("sasl.oauthbearer.expected.audience", "kafka"),
        ("listener.name.outside.sasl.oauthbearer.expected.issuer", "https://theirs"),
    ]);
    for (listener, issuer) in [("INSIDE", "https://ours"), ("OUTSIDE", "https://theirs")] {
        let of_listener = OauthConfig::resolve(&set.for_listener(listener));
        assert_eq!(of_listener.issuer.as_deref(), Some(issuer), "{listener}");
        assert_eq!(of_listener.audiences, ["kafka"], "{listener}");
    }
}

#[test]
fn clocks_do_not_differ_by_days() {
    for (seconds, is_taken) in [("-1", false), ("0", true), ("86400", true), ("86401", false)] {
        let validated = validate(Kind::Broker, "sasl.oauthbearer.clock.skew.seconds", seconds);
        assert_eq!(validated.is_ok(), is_taken, "{seconds}");
    }
}
