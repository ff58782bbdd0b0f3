//! Where clients connect, and who has connected.

use std::net::SocketAddr;
use std::sync::Arc;

use millstream_broker::Node;
use millstream_broker::config::SecurityProtocol;
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
        Ok(Self { name: name.into(), protocol, host: StrBytes::from(host), port, tls })
    }

    /// Clients in the same process: they are told what the node says of itself.
    pub(crate) fn in_process(node: &Node) -> Self {
        Self {
            name: "IN_PROCESS".to_owned(),
            protocol: SecurityProtocol::Plaintext,
            host: StrBytes::from(node.host.clone()),
            port: u16::try_from(node.port).unwrap_or_default(),
            tls: None,
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

    pub(crate) const fn tls(&self) -> Option<&Arc<ServerTls>> {
        self.tls.as_ref()
    }
}
