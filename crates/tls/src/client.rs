//! TLS as a client uses it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use millstream_env::Env;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::pem::{self, TlsError};
use crate::server::Wall;

/// How a client uses TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTlsSettings {
    /// The PEM file with the authorities that it trusts.
    pub trust_store: PathBuf,
    /// The PEM file with its own key and certificate, for servers that ask for one.
    pub key_store: Option<PathBuf>,
}

/// TLS for any number of connections to servers.
#[derive(Clone)]
pub struct ClientTls(TlsConnector);

impl ClientTls {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// [`TlsError`] says which of them can't be used, and what to do about it.
    pub fn load(settings: &ClientTlsSettings, env: &Env) -> Result<Self, TlsError> {
        let roots = pem::trust_store(&settings.trust_store, &pem::read(&settings.trust_store)?)?;
        let config = ClientConfig::builder_with_details(crate::provider(), Arc::new(Wall::of(env)))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let config = match &settings.key_store {
            None => config.with_no_client_auth(),
            Some(path) => {
                let store = pem::key_store(path, &pem::read(path)?)?;
                let config = config.with_client_auth_cert(store.chain, store.key);
                config.map_err(|error| pem::unusable(path, &error))?
            }
        };
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// Does the handshake over `stream` with a server that must be called `host`.
    ///
    /// # Errors
    ///
    /// The server is another one, or does not speak TLS, or has gone.
    pub async fn connect<S>(&self, host: &str, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            let why = format!("`{host}` is no name that a certificate can have");
            io::Error::new(io::ErrorKind::InvalidInput, why)
        })?;
        self.0.connect(name, stream).await
    }
}

impl std::fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientTls")
    }
}
