//! Fetching an issuer's keys, within bounds of size and time.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use millstream_env::Env;
use millstream_tls::{ClientTls, ClientTlsSettings, TlsError};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::http::{self, HttpError};
use crate::place::Place;

/// How long a fetch may take, all in all.
pub(crate) const FETCH_TIME_MAX: Duration = Duration::from_secs(10);

/// The largest file of keys, in bytes.
const FILE_BYTES_MAX: u64 = 512 * 1024;

/// Where systems keep the authorities that they trust: Debian and its like, Fedora and its like, openSUSE,
/// Alpine, macOS and the BSDs.
const TRUST_STORES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
];

/// Why keys can't be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The file can't be read.
    #[error("can't read {path}: {error}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The file is larger than any set of keys.
    #[error("{0} has more than {FILE_BYTES_MAX} bytes")]
    TooLarge(PathBuf),
    /// The server can't be reached.
    #[error("can't reach the server of the keys: {0}")]
    Unreachable(#[from] io::Error),
    /// Nobody knows whom to trust.
    #[error(
        "this system has no file of trusted authorities where it is looked for: name one in \
         millstream.oauthbearer.truststore.location"
    )]
    NoTrustStore,
    /// The authorities can't be read.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The server answers something else.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// It took too long.
    #[error("it took longer than {} s", FETCH_TIME_MAX.as_secs())]
    Late,
}

/// What stands at `place`.
pub(crate) async fn fetch(
    place: &Place,
    trust_store: Option<&Path>,
    env: &Env,
) -> Result<Vec<u8>, FetchError> {
    match place {
        Place::File(path) => read(path),
        Place::Http { tls, host, port, path } => {
            let got = async {
                let request = http::request(host, *port, *tls, path);
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                if !*tls {
                    return ask(stream, &request).await;
                }
                let trust_store =
                    trust_store.map_or_else(of_the_system, |path| Ok(path.to_owned()))?;
                let settings = ClientTlsSettings { trust_store, key_store: None };
                let stream = ClientTls::load(&settings, env)?.connect(host, stream).await?;
                ask(stream, &request).await
            };
            tokio::select! {
                biased;
                got = got => got,
                () = env.sleep(FETCH_TIME_MAX) => Err(FetchError::Late),
            }
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, FetchError> {
    let unreadable = |error| FetchError::Unreadable { path: path.to_owned(), error };
    if std::fs::metadata(path).map_err(unreadable)?.len() > FILE_BYTES_MAX {
        return Err(FetchError::TooLarge(path.to_owned()));
    }
    #[expect(clippy::disallowed_methods, reason = "the user's own file")]
    std::fs::read(path).map_err(unreadable)
}

fn of_the_system() -> Result<PathBuf, FetchError> {
    let found = TRUST_STORES.iter().map(PathBuf::from).find(|path| path.is_file());
    found.ok_or(FetchError::NoTrustStore)
}

async fn ask(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &str,
) -> Result<Vec<u8>, FetchError> {
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    loop {
        let ended = match stream.read_buf(&mut answer).await {
            Ok(read) => read == 0,
            // A server that says no goodbye; whether all has come is seen by the answer, where that says so.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return http::body(&answer, false)?.ok_or(FetchError::Http(HttpError::CutOff));
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(body) = http::body(&answer, ended)? {
            return Ok(body);
        }
    }
}
