//! Where a server listens for Kafka clients: what was asked for, checked before anything is opened.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{anyhow, bail};
use millstream_auth::Mechanism;
use millstream_broker::config::{
    BrokerConfig, BrokerOverrides, ClientCertificates, Endpoint, SecurityProtocol, TlsConfig,
    TransportConfig, listeners, of_listener,
};
use millstream_env::Env;
use millstream_kafka::Listener;
use millstream_oauth::Issuer;
use millstream_tls::{ClientAuth, Rules, ServerTls, ServerTlsSettings, Version};
use tokio::net::{TcpListener, lookup_host};
use tracing::warn;

use crate::issuer::Issuers;
use crate::{ServerConfig, Settings};

/// The setting that allows what is refused otherwise.
pub(crate) const ALLOW_PLAINTEXT: &str = "millstream.allow.plaintext.on.network";

/// Listeners with open sockets.
pub(crate) struct Listening {
    pub(crate) sockets: Vec<Socket>,
    /// What those that need it speak: one for all that are set alike.
    pub(crate) tls: Vec<Arc<ServerTls>>,
}

/// One of them.
pub(crate) struct Socket {
    pub(crate) socket: TcpListener,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    pub(crate) name: String,
    pub(crate) protocol: SecurityProtocol,
    /// Host and port that its clients are told to connect to.
    pub(crate) told: Endpoint,
    security: Security,
}

/// What a listener does besides what its protocol says.
struct Security {
    tls: Option<Arc<ServerTls>>,
    /// Whether clients are asked for certificates that log in besides.
    asks_certificates: bool,
    mechanisms: Vec<Mechanism>,
    /// Whose tokens log in, where that is offered.
    issuer: Option<Arc<Issuer>>,
}

/// One listener before it is open.
struct Plan {
    name: String,
    protocol: SecurityProtocol,
    at: SocketAddr,
    told: Option<Endpoint>,
}

impl Listening {
    /// Opens what `config` asks for.
    pub(crate) async fn open(
        config: &ServerConfig,
        transport: &TransportConfig,
        issuers: &mut Issuers,
        env: &Env,
    ) -> anyhow::Result<Self> {
        let plans = plans(config).await?;
        let start =
            BrokerOverrides { start: config.settings.clone(), ..BrokerOverrides::default() };
        check_names(&config.settings, &plans)?;
        for plan in &plans {
            plan.check(transport.plaintext_on_network)?;
        }
        let mut stores = TlsStores(Vec::new());
        let mut secured = Vec::with_capacity(plans.len());
        for plan in plans {
            let own = start.for_listener(&plan.name);
            let issuer = plan.issuer(&own, issuers, env).await?;
            let security = Security { issuer, ..plan.security(&start, &own, env, &mut stores)? };
            secured.push((plan, security));
        }
        let option = match is_set(&config.settings, "listeners") {
            true => "`listeners`",
            false => "--kafka-listen",
        };
        let mut sockets = Vec::with_capacity(secured.len());
        for (plan, security) in secured {
            sockets.push(plan.open(security, option).await?);
        }
        Ok(Self { sockets, tls: stores.0.into_iter().map(|(_, tls)| tls).collect() })
    }

    /// Where the clients of the first listener connect.
    pub(crate) fn first(&self) -> Option<&Socket> {
        self.sockets.first()
    }

    /// `listeners` and `advertised.listeners`, as tools are to be told.
    pub(crate) fn report(&self) -> [(String, String); 2] {
        let list = |place: fn(&Socket) -> String| {
            let each = self.sockets.iter().map(|one| format!("{}://{}", one.name, place(one)));
            each.collect::<Vec<_>>().join(",")
        };
        let listens = list(|one| one.address.to_string());
        let told = list(|one| one.told.to_string());
        [("listeners".to_owned(), listens), ("advertised.listeners".to_owned(), told)]
    }
}

impl Socket {
    /// What the Kafka door makes of it.
    pub(crate) fn into_parts(self) -> anyhow::Result<(TcpListener, Listener)> {
        let Security { tls, asks_certificates, mechanisms, issuer } = self.security;
        let told = (self.told.host, self.told.port);
        let listener = Listener::new(self.name, self.protocol, told, tls);
        let listener = listener.map_err(|error| anyhow!(error))?.offering(mechanisms);
        let listener = match issuer {
            Some(issuer) => listener.trusting(issuer),
            None => listener,
        };
        let asking = |listener: Listener| listener.asking_certificates();
        Ok((self.socket, if asks_certificates { asking(listener) } else { listener }))
    }
}

/// TLS of each kind that listeners want: files that are the same are read once.
struct TlsStores(Vec<(TlsConfig, Arc<ServerTls>)>);

impl TlsStores {
    fn tls(&mut self, config: TlsConfig, env: &Env) -> anyhow::Result<Arc<ServerTls>> {
        if let Some((_, tls)) = self.0.iter().find(|(known, _)| *known == config) {
            return Ok(Arc::clone(tls));
        }
        let settings = tls_settings(&config, config.client_certificates)?;
        let tls = Arc::new(ServerTls::load(settings, env.clone())?);
        self.0.push((config, Arc::clone(&tls)));
        Ok(tls)
    }
}

impl Plan {
    /// Whether it may be opened.
    fn check(&self, plaintext_on_network: bool) -> anyhow::Result<()> {
        let Self { name, protocol, at, .. } = self;
        let is_open = !protocol.has_tls() && is_on_network(*at);
        if is_open && plaintext_on_network {
            let who = match protocol.needs_sasl() {
                true => "a listener sends everything in the clear",
                false => "a listener is open to everybody who can reach it",
            };
            warn!(%name, %at, "{who}: {ALLOW_PLAINTEXT}=true");
        }
        if is_open && !plaintext_on_network && protocol.needs_sasl() {
            bail!(
                "listener `{name}` would send what logged in clients read and write, and the passwords of PLAIN, \
                 in the clear to everybody who reads the network: use SASL_SSL (docs/security.md says how), or, \
                 where nobody does, --set {ALLOW_PLAINTEXT}=true"
            );
        }
        if is_open && !plaintext_on_network {
            bail!(
                "listener `{name}` would be open to everybody who can reach {at}, without encryption and \
                 without asking who they are: use TLS (docs/security.md says how), or, where everybody in \
                 the network may read and write everything, --set {ALLOW_PLAINTEXT}=true"
            );
        }
        Ok(())
    }

    /// Whose tokens log in there, as `own`, which counts for it, says; `None` where that is not offered.
    async fn issuer(
        &self,
        own: &BrokerOverrides,
        issuers: &mut Issuers,
        env: &Env,
    ) -> anyhow::Result<Option<Arc<Issuer>>> {
        let offered = BrokerConfig::resolve(own).sasl_mechanisms;
        if !self.protocol.needs_sasl() || !offered.contains(&Mechanism::OauthBearer) {
            return Ok(None);
        }
        issuers.issuer(own, &format!("listener `{}`", self.name), env).await.map(Some)
    }

    /// What it does besides, as is set for all (`start`), or for it (`own`).
    fn security(
        &self,
        start: &BrokerOverrides,
        own: &BrokerOverrides,
        env: &Env,
        stores: &mut TlsStores,
    ) -> anyhow::Result<Security> {
        let mechanisms = BrokerConfig::resolve(own).sasl_mechanisms;
        if self.protocol.needs_sasl() && mechanisms.is_empty() {
            bail!(
                "nobody could log in at listener `{}`: name a mechanism in sasl.enabled.mechanisms, or leave \
                 that out for SCRAM-SHA-256,SCRAM-SHA-512",
                self.name
            );
        }
        let tls = match self.protocol.has_tls() {
            true => Some(stores.tls(TransportConfig::resolve(own).tls, env)?),
            false => None,
        };
        // Where SASL is spoken, only what is set for that listener counts (KIP-684).
        let client_auth = format!("listener.name.{}.ssl.client.auth", self.name.to_lowercase());
        let asks_certificates = tls.is_some() && start.start.contains_key(&client_auth);
        Ok(Security { tls, asks_certificates, mechanisms, issuer: None })
    }

    async fn open(self, security: Security, option: &str) -> anyhow::Result<Socket> {
        let Self { name, protocol, at, told } = self;
        let socket = TcpListener::bind(at).await.map_err(|error| {
            let advice = format!("is something else there? choose another with {option}");
            anyhow!("can't listen at {at}: {error}; {advice}")
        })?;
        let address = socket.local_addr()?;
        let told = told
            .unwrap_or_else(|| Endpoint { host: address.ip().to_string(), port: address.port() });
        Ok(Socket { socket, address, name, protocol, told, security })
    }
}

/// Whether other machines can reach what listens there.
pub(crate) fn is_on_network(at: SocketAddr) -> bool {
    !at.ip().to_canonical().is_loopback()
}

/// Whether all that is set for one listener is set for one that there is.
fn check_names(settings: &Settings, plans: &[Plan]) -> anyhow::Result<()> {
    for (listener, setting) in settings.keys().filter_map(|name| of_listener(name)) {
        if !plans.iter().any(|plan| plan.name.to_lowercase() == listener) {
            let known: Vec<_> = plans.iter().map(|plan| plan.name.to_lowercase()).collect();
            bail!(
                "listener.name.{listener}.{setting} is set, and there is no listener of that name; those that \
                 there are, as they are written there: {}",
                known.join(", ")
            );
        }
    }
    Ok(())
}

fn is_set(settings: &Settings, name: &str) -> bool {
    settings.get(name).is_some_and(|value| !value.trim().is_empty())
}

async fn plans(config: &ServerConfig) -> anyhow::Result<Vec<Plan>> {
    if !is_set(&config.settings, "listeners") {
        return Ok(simple(config)?.into_iter().collect());
    }
    if config.kafka_listen.is_some() {
        bail!("say where to listen once: in the setting `listeners`, or with --kafka-listen");
    }
    if config.advertise.is_some() {
        bail!("--advertise goes with --kafka-listen; with `listeners`, set `advertised.listeners`");
    }
    let mut plans = Vec::new();
    for one in listeners(&config.settings)? {
        let at = resolve(&one.bind).await?;
        // Who listens by a name is found by it.
        let named = !one.bind.host.is_empty() && one.bind.port != 0;
        let told = one.advertised.or_else(|| named.then_some(one.bind));
        plans.push(Plan { name: one.name, protocol: one.protocol, at, told });
    }
    Ok(plans)
}

/// The one listener of `--kafka-listen`, if there is any.
fn simple(config: &ServerConfig) -> anyhow::Result<Option<Plan>> {
    let told = config.advertise.clone().map(|(host, port)| Endpoint { host, port });
    let Some(at) = config.kafka_listen else { return Ok(None) };
    if told.is_none() && at.ip().is_unspecified() {
        let example = if at.is_ipv4() { "192.0.2.10" } else { "[2001:db8::10]" };
        bail!(
            "clients can't connect to {}: say which address they shall use, \
             for example --advertise {example}:{}",
            at.ip(),
            at.port()
        );
    }
    let protocol = SecurityProtocol::Plaintext;
    Ok(Some(Plan { name: protocol.to_string(), protocol, at, told }))
}

async fn resolve(place: &Endpoint) -> anyhow::Result<SocketAddr> {
    if place.host.is_empty() {
        return Ok(SocketAddr::from(([0, 0, 0, 0], place.port)));
    }
    let found = lookup_host((place.host.as_str(), place.port)).await;
    let unknown = |why: String| anyhow!("can't listen at {place}: {why}");
    let mut found = found.map_err(|error| unknown(error.to_string()))?;
    found.next().ok_or_else(|| unknown("that name has no address".to_owned()))
}

/// What TLS is to be where clients are asked for certificates in that way.
pub(crate) fn tls_settings(
    config: &TlsConfig,
    client_certificates: ClientCertificates,
) -> anyhow::Result<ServerTlsSettings> {
    for (name, kind) in [
        ("ssl.keystore.type", &config.key_store_type),
        ("ssl.truststore.type", &config.trust_store_type),
    ] {
        if !kind.eq_ignore_ascii_case("PEM") {
            bail!(
                "{name}={kind} is not read, only PEM is: `keytool -importkeystore ... -deststoretype PKCS12` \
                 and `openssl pkcs12 -in STORE.p12 -nodes -out STORE.pem` turn a Java store into PEM"
            );
        }
    }
    let Some(key_store) = &config.key_store else {
        bail!(
            "a listener of TLS needs a key and a certificate: name the PEM file with both in \
             `ssl.keystore.location` (for a try, `millstream cert server` makes one)"
        );
    };
    let client_auth = match client_certificates {
        ClientCertificates::None => ClientAuth::None,
        ClientCertificates::Requested => ClientAuth::Requested,
        ClientCertificates::Required => ClientAuth::Required,
    };
    if client_auth != ClientAuth::None && config.trust_store.is_none() {
        bail!(
            "clients are asked for certificates (ssl.client.auth, millstream.http.authentication): name the \
             PEM file with the authorities that sign them in `ssl.truststore.location`"
        );
    }
    let versions = [(config.tls12, Version::Tls12), (config.tls13, Version::Tls13)];
    let versions: Vec<_> = versions.into_iter().filter(|(on, _)| *on).map(|(_, it)| it).collect();
    if versions.is_empty() {
        bail!("`ssl.enabled.protocols` names no version: TLSv1.2, TLSv1.3, or both");
    }
    Ok(ServerTlsSettings {
        key_store: PathBuf::from(key_store),
        trust_store: config.trust_store.as_ref().map(PathBuf::from),
        client_auth,
        versions,
        rules: Rules::parse(&config.principal_rules)
            .map_err(|error| anyhow!("ssl.principal.mapping.rules: {error}"))?,
    })
}
