//! Where clients connect, and who has connected.

use std::net::SocketAddr;
use std::sync::Arc;

use millstream_auth::Mechanism;
use millstream_broker::Node;
use millstream_broker::config::SecurityProtocol;
use millstream_oauth::Issuer;
use millstream_tls::ServerTls;
use millstream_types::Principal;
use millstream_wire::StrBytes;

/// A place where clients connect.
#[derive(Debug)]
pub struct Listener {
    name: String,
    protocol: SecurityProtocol,
    /// What its clients are told to connect to: others may not be able to reach that.
    host: StrBytes,
    port: u16,
    tls: Option<Arc<ServerTls>>,
    /// Whether clients are asked for certificates, as that says.
    asks_certificates: bool,
    /// By what clients may log in, if not by what the broker's configuration says.
    mechanisms: Option<Vec<Mechanism>>,
    /// Whose tokens are taken.
    issuer: Option<Arc<Issuer>>,
}

/// Who is at the other end of a connection, as far as the connection itself tells.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// Where it connects from; `None` within the process.
    pub(crate) address: Option<SocketAddr>,
    /// Where it has connected.
    pub(crate) listener: Arc<Listener>,
    /// Whom its certificate speaks for, if it has shown one.
    pub(crate) certificate: Option<Principal>,
}

impl Listener {
    /// A listener whose clients are told to connect to `host` and `port`.
    ///
    /// # Errors
    ///
    /// The protocol needs TLS, and there is none; or there is, and nobody needs it.
    pub fn new(
        name: impl Into<String>,
        protocol: SecurityProtocol,
        (host, port): (String, u16),
        tls: Option<Arc<ServerTls>>,
    ) -> Result<Self, &'static str> {
        match (protocol.has_tls(), tls.is_some()) {
            (true, false) => return Err("a listener of TLS needs its certificates"),
            (false, true) => return Err("a listener in plain text has no use for certificates"),
            _ => {}
        }
        // Where SASL is spoken, that says who somebody is (KIP-684).
        let asks_certificates = !protocol.needs_sasl();
        let (name, host) = (name.into(), StrBytes::from(host));
        let (mechanisms, issuer) = (None, None);
        Ok(Self { name, protocol, host, port, tls, asks_certificates, mechanisms, issuer })
    }

    /// The same, whose clients are asked for certificates, as its TLS says, also where they log in.
    #[must_use]
    pub fn asking_certificates(self) -> Self {
        Self { asks_certificates: true, ..self }
    }

    /// The same, whose clients log in by one of these.
    #[must_use]
    pub fn offering(self, mechanisms: Vec<Mechanism>) -> Self {
        Self { mechanisms: Some(mechanisms), ..self }
    }

    /// The same, where one logs in also by tokens of `issuer`.
    #[must_use]
    pub fn trusting(self, issuer: Arc<Issuer>) -> Self {
        Self { issuer: Some(issuer), ..self }
    }

    /// Clients in the same process: they are told what the node says of itself.
    pub(crate) fn in_process(node: &Node) -> Self {
        Self {
            name: "IN_PROCESS".to_owned(),
            protocol: SecurityProtocol::Plaintext,
            host: StrBytes::from(node.host.clone()),
            port: u16::try_from(node.port).unwrap_or_default(),
            tls: None,
            asks_certificates: false,
            mechanisms: None,
            issuer: None,
        }
    }

    /// Its name, in capitals.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it speaks.
    #[must_use]
    pub const fn protocol(&self) -> SecurityProtocol {
        self.protocol
    }

    /// Host and port that its clients are told to connect to.
    pub(crate) fn advertised(&self) -> (StrBytes, i32) {
        (self.host.clone(), i32::from(self.port))
    }

    pub(crate) const fn asks_certificates(&self) -> bool {
        self.asks_certificates
    }

    pub(crate) fn mechanisms(&self) -> Option<&[Mechanism]> {
        self.mechanisms.as_deref()
    }

    pub(crate) fn issuer(&self) -> Option<&Issuer> {
        self.issuer.as_deref()
    }

    pub(crate) const fn tls(&self) -> Option<&Arc<ServerTls>> {
        self.tls.as_ref()
    }
}
