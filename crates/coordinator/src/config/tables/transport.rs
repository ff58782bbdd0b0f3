//! Configs of listeners and TLS.

use super::super::entry::Allowed::{ListOf, OneOf};
use super::super::entry::{Entry, boolean, list, string};
use super::super::listeners::DEFAULT_MAP;

pub(crate) static TRANSPORT: &[Entry] = &[
    list("listeners", "PLAINTEXT://127.0.0.1:9092").read_only().doc(
        "Where this broker listens for Kafka clients, as NAME://HOST:PORT; no host means all addresses of the \
         machine, port 0 a free one. `--kafka-listen` is the short way for one listener in plain text.",
    ),
    list("advertised.listeners", "").unset().read_only().doc(
        "Where clients of each listener are told to find this broker, as NAME://HOST:PORT; where a listener \
         is not named, where it listens. `--advertise` goes with `--kafka-listen`.",
    ),
    string("listener.security.protocol.map", DEFAULT_MAP).read_only().doc(
        "What each listener speaks, as NAME:PROTOCOL: PLAINTEXT, SSL (which is TLS), SASL_PLAINTEXT or \
         SASL_SSL.",
    ),
    boolean("millstream.allow.plaintext.on.network", "false").read_only().doc(
        "Whether listeners without TLS may be reached from other machines. Whoever can reach them, or reads \
         the network, reads and writes everything: for networks in which everybody may.",
    ),
    list("millstream.http.hosts", "").read_only().doc(
        "The names of this host under which `/metrics` may be asked for, besides `localhost`, its \
         addresses, and what clients of Kafka's protocol are told: a page that somebody looks at elsewhere can \
         make his browser ask, by a name of its own.",
    ),
    boolean("millstream.http.tls", "false").read_only().doc(
        "Whether the pages at `--http-listen` are served over TLS, with what `ssl.keystore.location` and \
         `ssl.enabled.protocols` say.",
    ),
    list("millstream.http.authentication", "")
        .allow(ListOf(&["basic", "bearer", "certificate"]))
        .read_only()
        .doc(
            "How clients of the pages say who they are, `/livez` and `/readyz` apart: `basic`, by name and \
             password; `bearer`, by a token of the issuer of `sasl.oauthbearer.`; `certificate`, by one that \
             `ssl.truststore.location` trusts, as `ssl.principal.mapping.rules` say. With several, any will do.",
        ),
    string("ssl.keystore.type", "PEM")
        .of_listeners()
        .read_only()
        .doc("What kind of file `ssl.keystore.location` is; always PEM."),
    string("ssl.keystore.location", "").unset().of_listeners().read_only().doc(
        "The PEM file with this broker's private key and its chain of certificates, its own first. It is \
         looked at every ten seconds, and used without a restart when it has changed and is good.",
    ),
    string("ssl.truststore.type", "PEM")
        .of_listeners()
        .read_only()
        .doc("What kind of file `ssl.truststore.location` is; always PEM."),
    string("ssl.truststore.location", "").unset().of_listeners().read_only().doc(
        "The PEM file with the authorities whose clients are trusted, for `ssl.client.auth`. It is looked at \
         like `ssl.keystore.location`.",
    ),
    string("ssl.client.auth", "none").allow(OneOf(&["none", "requested", "required"])).of_listeners().read_only().doc(
        "Whether clients of SSL listeners show certificates: `required`, those without are refused; \
         `requested`, they are anonymous, and only bad ones are refused; `none`, nobody is asked. Set for one \
         listener, it also counts where SASL is spoken, which still says who somebody is (KIP-684).",
    ),
    list("ssl.enabled.protocols", "TLSv1.2,TLSv1.3")
        .allow(ListOf(&["TLSv1.2", "TLSv1.3"]))
        .of_listeners()
        .read_only()
        .doc("Which versions of TLS are spoken; none older."),
    string("ssl.principal.mapping.rules", "DEFAULT").of_listeners().read_only().doc(
        "Which user a client's certificate stands for: rules of the form RULE:pattern/replacement/ with L or U \
         behind them, and DEFAULT, the subject itself; see security.md. The first that matches counts, and \
         whom none matches is refused.",
    ),
];
