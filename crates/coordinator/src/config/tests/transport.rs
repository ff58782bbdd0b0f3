//! What the configs of listeners and TLS come to.

use super::super::{BrokerOverrides, ClientCertificates, TlsConfig, TransportConfig};
use super::started;

fn defaults() -> TransportConfig {
    TransportConfig {
        plaintext_on_network: false,
        http_hosts: Vec::new(),
        http_tls: false,
        http_passwords: false,
        http_tokens: false,
        http_certificates: false,
        tls: TlsConfig {
            key_store_type: "PEM".to_owned(),
            key_store: None,
            trust_store_type: "PEM".to_owned(),
            trust_store: None,
            client_certificates: ClientCertificates::None,
            tls12: true,
            tls13: true,
            principal_rules: "DEFAULT".to_owned(),
        },
    }
}

/// What is set for a listener counts there, before what is set for all.
#[test]
fn settings_of_a_listener() {
    let set = started(&[
        ("ssl.client.auth", "requested"),
        ("ssl.keystore.location", "all.pem"),
        ("listener.name.outside.ssl.client.auth", "required"),
        ("listener.name.inside.ssl.keystore.location", "inside.pem"),
    ]);
    let of = |listener| {
        let tls = TransportConfig::resolve(&set.for_listener(listener)).tls;
        (tls.client_certificates, tls.key_store.unwrap_or_default())
    };
    let (required, requested) = (ClientCertificates::Required, ClientCertificates::Requested);
    assert_eq!(of("OUTSIDE"), (required, "all.pem".to_owned()));
    assert_eq!(of("INSIDE"), (requested, "inside.pem".to_owned()));
    assert_eq!(of("OTHER"), (requested, "all.pem".to_owned()));
    let all = TransportConfig::resolve(&set).tls;
    assert_eq!(all.key_store.as_deref(), Some("all.pem"));
}

#[test]
fn every_field_follows_its_config() {
    #[track_caller]
    fn check(name: &str, value: &str, change: impl Fn(&mut TransportConfig)) {
        let mut expected = defaults();
        change(&mut expected);
        assert_ne!(expected, defaults(), "this shows nothing");
        assert_eq!(TransportConfig::resolve(&started(&[(name, value)])), expected);
    }
    assert_eq!(TransportConfig::resolve(&BrokerOverrides::default()), defaults());
    check("millstream.allow.plaintext.on.network", "true", |c| c.plaintext_on_network = true);
    check("millstream.http.hosts", "a,b", |c| {
        c.http_hosts = vec!["a".to_owned(), "b".to_owned()];
    });
    check("millstream.http.tls", "true", |c| c.http_tls = true);
    check("millstream.http.authentication", "basic", |c| c.http_passwords = true);
    check("millstream.http.authentication", "bearer", |c| c.http_tokens = true);
    check("millstream.http.authentication", "certificate,basic", |c| {
        (c.http_passwords, c.http_certificates) = (true, true);
    });
    check("ssl.keystore.type", "JKS", |c| c.tls.key_store_type = "JKS".to_owned());
    check("ssl.keystore.location", "a.pem", |c| c.tls.key_store = Some("a.pem".to_owned()));
    check("ssl.truststore.type", "JKS", |c| c.tls.trust_store_type = "JKS".to_owned());
    check("ssl.truststore.location", "a.pem", |c| c.tls.trust_store = Some("a.pem".to_owned()));
    check("ssl.client.auth", "requested", |c| {
        c.tls.client_certificates = ClientCertificates::Requested;
    });
    check("ssl.client.auth", "required", |c| {
        c.tls.client_certificates = ClientCertificates::Required;
    });
    check("ssl.enabled.protocols", "TLSv1.3", |c| c.tls.tls12 = false);
    check("ssl.enabled.protocols", "TLSv1.2", |c| c.tls.tls13 = false);
    check("ssl.enabled.protocols", "", |c| (c.tls.tls12, c.tls.tls13) = (false, false));
    check("ssl.principal.mapping.rules", "", |c| c.tls.principal_rules = String::new());
}
