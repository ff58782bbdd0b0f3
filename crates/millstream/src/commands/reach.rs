//! How commands reach a cluster: over TCP, or over TLS.

use std::fmt;
use std::io;
use std::sync::Arc;

use millstream_client::{Address, Connector, Duplex, TcpConnector};
use millstream_env::Env;
use millstream_tls::{ClientTls, ClientTlsSettings, TlsError};
use tokio::net::TcpStream;

use crate::cli::ClusterArgs;

/// What opens streams as the command line wants them.
pub(super) fn connector(args: &ClusterArgs, env: &Env) -> Result<Arc<dyn Connector>, TlsError> {
    let Some(trust_store) = args.ca.clone() else { return Ok(Arc::new(TcpConnector)) };
    let settings = ClientTlsSettings { trust_store, key_store: args.cert.clone() };
    Ok(Arc::new(OverTls(ClientTls::load(&settings, env)?)))
}

/// Connects over TLS, to who can show that he is called as the address says.
struct OverTls(ClientTls);

type Connecting = std::pin::Pin<Box<dyn Future<Output = io::Result<Box<dyn Duplex>>> + Send>>;

impl Connector for OverTls {
    fn connect(&self, address: &Address) -> Connecting {
        let (tls, Address { host, port }) = (self.0.clone(), address.clone());
        Box::pin(async move {
            let stream = TcpStream::connect((host.as_str(), port)).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(tls.connect(&host, stream).await?) as Box<dyn Duplex>)
        })
    }
}

impl fmt::Debug for OverTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OverTls")
    }
}
