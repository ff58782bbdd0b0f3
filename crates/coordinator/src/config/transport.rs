//! What the configs of listeners and TLS come to. They are read at the start and never change.

use super::layers::{BrokerOverrides, Values};

/// How connections are protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportConfig {
    /// Whether listeners without TLS may be reached from other machines
    /// (`millstream.allow.plaintext.on.network`).
    pub plaintext_on_network: bool,
    /// The names under which pages are asked for (`millstream.http.hosts`).
    pub http_hosts: Vec<String>,
    /// Whether pages are served over TLS (`millstream.http.tls`).
    pub http_tls: bool,
    /// Whether clients of pages say who they are by a password (`millstream.http.authentication`).
    pub http_passwords: bool,
    /// Whether they may do so by a token of an issuer (`millstream.http.authentication`).
    pub http_tokens: bool,
    /// Whether they may do so by a certificate (`millstream.http.authentication`).
    pub http_certificates: bool,
    /// What TLS listeners use.
    pub tls: TlsConfig,
}

/// What TLS listeners use (`ssl.`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// The kind of the key store (`ssl.keystore.type`), as it was set.
    pub key_store_type: String,
    /// The key store (`ssl.keystore.location`).
    pub key_store: Option<String>,
    /// The kind of the trust store (`ssl.truststore.type`), as it was set.
    pub trust_store_type: String,
    /// The trust store (`ssl.truststore.location`).
    pub trust_store: Option<String>,
    /// Whether clients show certificates (`ssl.client.auth`).
    pub client_certificates: ClientCertificates,
    /// Whether TLS 1.2 is spoken (`ssl.enabled.protocols`).
    pub tls12: bool,
    /// Whether TLS 1.3 is spoken (`ssl.enabled.protocols`).
    pub tls13: bool,
    /// Which users certificates stand for (`ssl.principal.mapping.rules`), as it was set.
    pub principal_rules: String,
}

/// Whether clients show certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificates {
    /// Nobody is asked.
    None,
    /// Who has one may show it.
    Requested,
    /// Who has none is refused.
    Required,
}

impl TransportConfig {
    /// What `overrides` come to, which were checked when they were set.
    #[must_use]
    pub fn resolve(overrides: &BrokerOverrides) -> Self {
        let values = Values::of_broker(overrides);
        let text = |name| values.text(name).trim().to_owned();
        let place = |name| Some(text(name)).filter(|place| !place.is_empty());
        let versions = "ssl.enabled.protocols";
        Self {
            plaintext_on_network: values.flag("millstream.allow.plaintext.on.network"),
            http_hosts: values.items("millstream.http.hosts").to_vec(),
            http_tls: values.flag("millstream.http.tls"),
            http_passwords: values.has_item("millstream.http.authentication", "basic"),
            http_tokens: values.has_item("millstream.http.authentication", "bearer"),
            http_certificates: values.has_item("millstream.http.authentication", "certificate"),
            tls: TlsConfig {
                key_store_type: text("ssl.keystore.type"),
                key_store: place("ssl.keystore.location"),
                trust_store_type: text("ssl.truststore.type"),
                trust_store: place("ssl.truststore.location"),
                client_certificates: match values.text("ssl.client.auth") {
                    "required" => ClientCertificates::Required,
                    "requested" => ClientCertificates::Requested,
                    _ => ClientCertificates::None,
                },
                tls12: values.has_item(versions, "TLSv1.2"),
                tls13: values.has_item(versions, "TLSv1.3"),
                principal_rules: values.text("ssl.principal.mapping.rules").to_owned(),
            },
        }
    }
}
