//! Where the pages are: what was asked for, checked before anything is opened.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{anyhow, bail};
use millstream_broker::config::{BrokerOverrides, ClientCertificates, TransportConfig};
use millstream_console::Logins;
use millstream_env::Env;
use millstream_oauth::Issuer;
use millstream_tls::ServerTls;
use tokio::net::TcpListener;
use tracing::warn;

use crate::issuer::Issuers;
use crate::listeners::{ALLOW_PLAINTEXT, is_on_network, tls_settings};

/// An open socket for the pages.
pub(crate) struct PagesAt {
    pub(crate) socket: TcpListener,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<Arc<ServerTls>>,
    pub(crate) logins: Logins,
    /// Whose tokens log in, where they do.
    pub(crate) issuer: Option<Arc<Issuer>>,
}

impl PagesAt {
    /// Opens it at `at`, as `transport`, which is of `start`, says.
    pub(crate) async fn open(
        at: SocketAddr,
        transport: &TransportConfig,
        start: &BrokerOverrides,
        issuers: &mut Issuers,
        env: &Env,
    ) -> anyhow::Result<Self> {
        check(at, transport)?;
        let logins = Logins {
            passwords: transport.http_passwords,
            tokens: transport.http_tokens,
            certificates: transport.http_certificates,
        };
        let issuer = match logins.tokens {
            true => {
                Some(issuers.issuer(start, "millstream.http.authentication=bearer", env).await?)
            }
            false => None,
        };
        let tls = match transport.http_tls {
            false => None,
            true => {
                // Never insisted on: whoever asks for `/livez` needs none.
                let asks = match logins.certificates {
                    true => ClientCertificates::Requested,
                    false => ClientCertificates::None,
                };
                let settings = tls_settings(&transport.tls, asks)?;
                Some(Arc::new(ServerTls::load(settings, env.clone())?))
            }
        };
        let socket = TcpListener::bind(at).await.map_err(|error| {
            let advice = "is something else there? choose another with --http-listen";
            anyhow!("can't listen at {at}: {error}; {advice}")
        })?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address, tls, logins, issuer })
    }
}

/// Whether pages may be served like that.
fn check(at: SocketAddr, transport: &TransportConfig) -> anyhow::Result<()> {
    if transport.http_certificates && !transport.http_tls {
        bail!(
            "millstream.http.authentication=certificate needs TLS, by which certificates are shown: set \
             millstream.http.tls=true"
        );
    }
    if transport.http_tls || !is_on_network(at) {
        return Ok(());
    }
    if transport.plaintext_on_network {
        warn!(%at, "pages are sent in the clear: {ALLOW_PLAINTEXT}=true");
        return Ok(());
    }
    bail!(
        "the pages at {at} would be sent in the clear to everybody who reads the network, with the passwords and \
         tokens of those who log in: set millstream.http.tls=true (docs/security.md says how), keep them on loopback \
         (--http-listen 127.0.0.1:{}), or, where everybody may read them, --set {ALLOW_PLAINTEXT}=true",
        at.port()
    )
}
