//! Configs of logins by tokens of an issuer (OAUTHBEARER). Each listener may have its own.

use super::super::entry::Allowed::{AtLeast, Between};
use super::super::entry::{Entry, int, list, long, string};

pub(crate) static OAUTH: &[Entry] = &[
    string("sasl.oauthbearer.jwks.endpoint.url", "").unset().of_listeners().read_only().doc(
        "Where the public keys of the issuer are whose tokens are taken, a JSON web key set (RFC 7517): \
         https://HOST/PATH, or file:///PATH; http: from this machine alone. OAUTHBEARER needs it.",
    ),
    long("sasl.oauthbearer.jwks.endpoint.refresh.ms", "3600000").allow(AtLeast(1)).of_listeners().read_only().doc(
        "How often the keys are fetched, in milliseconds; a file is looked at every ten seconds at least. A \
         token by a key that is not known has them fetched at once, every ten seconds at most.",
    ),
    long("sasl.oauthbearer.jwks.endpoint.retry.backoff.ms", "100").allow(AtLeast(1)).of_listeners().read_only().doc(
        "How long it is waited after keys could not be fetched, in milliseconds; twice as long each time.",
    ),
    long("sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms", "10000")
        .allow(AtLeast(1))
        .of_listeners().read_only()
        .doc("The longest of those waits, in milliseconds."),
    long("millstream.oauthbearer.jwks.age.max.ms", "86400000").allow(AtLeast(1)).of_listeners().read_only().doc(
        "How long keys that can't be fetched again stay in use, in milliseconds; then nobody logs in by tokens until \
         they can. Longer than `sasl.oauthbearer.jwks.endpoint.refresh.ms`.",
    ),
    string("sasl.oauthbearer.expected.issuer", "").unset().of_listeners().read_only().doc(
        "Who must have made a token (its claim `iss`). Unset: anybody whose keys are in the key set.",
    ),
    list("sasl.oauthbearer.expected.audience", "").unset().of_listeners().read_only().doc(
        "For whom a token must be made: for one of these (its claim `aud`). Unset: for anybody, so that whoever \
         gets a token from a user for another purpose can use it here.",
    ),
    int("sasl.oauthbearer.clock.skew.seconds", "30").allow(Between(0, 86_400)).of_listeners().read_only().doc(
        "By how much the issuer's clock may differ from this one, in seconds.",
    ),
    string("sasl.oauthbearer.sub.claim.name", "sub")
        .of_listeners().read_only()
        .doc("The claim of a token that names the user whom it stands for."),
    string("sasl.oauthbearer.scope.claim.name", "scope").of_listeners().read_only().doc(
        "The claim of a token that says what it is good for. It gives no rights here: a token in which it is \
         neither a text nor a list of different ones is refused.",
    ),
    string("millstream.oauthbearer.truststore.location", "").unset().of_listeners().read_only().doc(
        "The PEM file with the authorities that are trusted when keys are fetched by https:. Unset: those that \
         the system trusts.",
    ),
];
