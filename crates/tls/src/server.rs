//! TLS as a server offers it: files, handshakes, and new files without a restart.
//!
//! What a connection does is bounded here: a handshake that is not done after [`HANDSHAKE_MAX`] is given up,
//! and rustls takes no handshake message of more than 64 KiB. Sessions are resumed by tickets that the server
//! encrypts, so that it keeps nothing for them; the keys of those go with the configuration that made them,
//! so that whoever is no longer trusted after a reload does not come back by a ticket. There is no early data
//! (which could be replayed) and no renegotiation.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, Weak};
use std::time::Duration;

use millstream_env::{Clock, Env};
use millstream_types::{Principal, Timestamp};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{info, warn};

use crate::ahead::Ahead;
use crate::name::{BadCertificate, not_after, subject};
use crate::pem::{self, TlsError};
use crate::rules::{Rules, Unmapped};

/// How long a handshake may take. Two round trips and a signature are enough; this is for lines that lose
/// packets, and no invitation to those who send a byte a minute.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// How often it is looked whether files have changed.
const LOOK_PAUSE: Duration = Duration::from_secs(10);

/// A certificate that expires within this time is worth a warning.
const EXPIRY_NEAR: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// How much of a subject is told where it is refused, in characters.
const SUBJECT_CHARS_TOLD_MAX: usize = 200;

/// How a server uses TLS.
#[derive(Clone, Debug)]
pub struct ServerTlsSettings {
    /// The file with the chain of certificates and the key (`ssl.keystore.location`).
    pub key_store: PathBuf,
    /// The file with the authorities whose clients are trusted (`ssl.truststore.location`).
    pub trust_store: Option<PathBuf>,
    /// Whether clients show certificates (`ssl.client.auth`).
    pub client_auth: ClientAuth,
    /// The versions that are spoken (`ssl.enabled.protocols`).
    pub versions: Vec<Version>,
    /// Which users certificates stand for (`ssl.principal.mapping.rules`).
    pub rules: Rules,
}

/// Whether clients show certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// None is asked for.
    #[default]
    None,
    /// One is asked for. A client without any is anonymous; a bad one is refused.
    Requested,
    /// A client without one is refused.
    Required,
}

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// Why a handshake came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The peer has gone.
    #[error("the client left during the TLS handshake")]
    Gone,
    /// It took longer than [`HANDSHAKE_MAX`].
    #[error("the TLS handshake took longer than {} s", HANDSHAKE_MAX.as_secs())]
    Late,
    /// The peer does not speak TLS.
    #[error(
        "the client does not speak TLS, and this listener does: it needs security.protocol=SSL"
    )]
    NotTls,
    /// The client shows no certificate, and has to.
    #[error("the client shows no certificate, and ssl.client.auth=required asks for one")]
    NoCertificate,
    /// The client's certificate is no good.
    #[error("the client's certificate is refused: {0}")]
    BadCertificate(String),
    /// The client does not trust the server's certificate.
    #[error("the client refuses the server's certificate: {0}; does it know the authority?")]
    Mistrusted(String),
    /// The client's certificate stands for nobody.
    #[error("the certificate of `{subject}` stands for no user: {why}")]
    Unmapped {
        /// Its subject.
        subject: String,
        /// Why.
        why: Unmapped,
    },
    /// Anything else.
    #[error("the TLS handshake failed: {0}")]
    Failed(String),
}

/// What became of a look at the files.
#[derive(Debug)]
pub enum Reload {
    /// They are as they were.
    Unchanged,
    /// New ones are used from now on.
    Changed,
    /// New ones are no good, and those before them stay in use.
    Refused(TlsError),
    /// They are no good, for the reason that was given at the last look.
    StillRefused,
}

/// TLS as one server offers it. Cheap to share. A connection that has been accepted stays as it is when this
/// changes.
pub struct ServerTls {
    settings: ServerTlsSettings,
    env: Env,
    current: RwLock<Current>,
    reloads: AtomicU64,
    refusals: AtomicU64,
}

struct Current {
    /// For clients that are asked for certificates as the settings say.
    asking: Arc<ServerConfig>,
    /// For clients that say who they are in another way. It has tickets of its own: a session that began
    /// without a certificate is not resumed where one is asked for.
    silent: Arc<ServerConfig>,
    expires: Timestamp,
    files: Files,
    /// Why what was found later is no good.
    refused: Option<String>,
}

/// What stands in the files. Has no `Debug`: there is a key in it.
#[derive(PartialEq, Eq)]
struct Files {
    key_store: Vec<u8>,
    trust_store: Option<Vec<u8>>,
}

/// The wall clock, as rustls asks for it.
#[derive(Debug)]
pub(crate) struct Wall(Arc<dyn Clock>);

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// [`TlsError`] says which of them can't be used, and what to do about it.
    pub fn load(settings: ServerTlsSettings, env: Env) -> Result<Self, TlsError> {
        let current = build(&settings, Files::read(&settings)?, &env)?;
        tell_expiry(&settings.key_store, current.expires, env.clock.wall());
        let (reloads, refusals) = (AtomicU64::new(0), AtomicU64::new(0));
        Ok(Self { settings, env, current: RwLock::new(current), reloads, refusals })
    }

    /// Looks whether the files have changed, and uses them if they are good.
    pub fn reload(&self) -> Reload {
        let read = Files::read(&self.settings);
        let built = match read {
            Ok(found) if found == self.current().files => None,
            Ok(found) => Some(self.successor(found)),
            Err(error) => Some(Err(error)),
        };
        // Nothing under this lock can leave a change half done.
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        match built {
            None => {
                current.refused = None;
                Reload::Unchanged
            }
            Some(Ok(new)) => {
                *current = new;
                self.reloads.fetch_add(1, Ordering::Relaxed);
                Reload::Changed
            }
            Some(Err(error)) => {
                let why = error.to_string();
                if current.refused.as_ref() == Some(&why) {
                    return Reload::StillRefused;
                }
                current.refused = Some(why);
                self.refusals.fetch_add(1, Ordering::Relaxed);
                Reload::Refused(error)
            }
        }
    }

    /// What new files come to; an error when those before them are better.
    fn successor(&self, found: Files) -> Result<Current, TlsError> {
        let new = build(&self.settings, found, &self.env)?;
        let now = self.env.clock.wall();
        if new.expires <= now && self.expires() > now {
            let path = self.settings.key_store.clone();
            return Err(TlsError::Unusable { path, why: "its certificate has expired".to_owned() });
        }
        Ok(new)
    }

    /// Does the handshake over `stream`, without a certificate of the client's unless `asks`. Also whom that
    /// speaks for, if it shows one.
    ///
    /// # Errors
    ///
    /// [`HandshakeError`]; the peer has been told, as far as TLS has words for it.
    pub async fn accept<S>(
        &self,
        stream: S,
        asks: bool,
    ) -> Result<(TlsStream<Ahead<S>>, Option<Principal>), HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = {
            let current = self.current();
            Arc::clone(if asks { &current.asking } else { &current.silent })
        };
        let acceptor = TlsAcceptor::from(config);
        let accepted = tokio::select! {
            biased;
            accepted = acceptor.accept(Ahead::new(stream)) => accepted,
            () = self.env.sleep(HANDSHAKE_MAX) => return Err(HandshakeError::Late),
        };
        let stream = accepted.map_err(HandshakeError::of)?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let principal = certificate.map(|certificate| self.principal(certificate)).transpose()?;
        Ok((stream, principal))
    }

    /// Whom a certificate speaks for that has been verified.
    fn principal(&self, certificate: &CertificateDer<'_>) -> Result<Principal, HandshakeError> {
        let unreadable = |error: BadCertificate| HandshakeError::BadCertificate(error.to_string());
        // Who resumes a session has been verified when it began, which may be hours ago.
        if not_after(certificate).map_err(unreadable)? < self.env.clock.wall() {
            return Err(HandshakeError::BadCertificate("it has expired".to_owned()));
        }
        let subject = subject(certificate).map_err(unreadable)?;
        let name = self.settings.rules.map(&subject).map_err(|why| {
            let subject = subject.chars().take(SUBJECT_CHARS_TOLD_MAX).flat_map(char::escape_debug);
            HandshakeError::Unmapped { subject: subject.collect(), why }
        })?;
        Ok(Principal::user(name))
    }

    /// Up to when the server's certificates are valid: those in the file that expire first.
    #[must_use]
    pub fn expires(&self) -> Timestamp {
        self.current().expires
    }

    /// How often new files were taken since the start.
    #[must_use]
    pub fn reloads(&self) -> u64 {
        self.reloads.load(Ordering::Relaxed)
    }

    /// How often new files were no good since the start.
    #[must_use]
    pub fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }

    fn current(&self) -> RwLockReadGuard<'_, Current> {
        self.current.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the files, and says what has come of it.
    fn look(&self) {
        let path = self.settings.key_store.display();
        match self.reload() {
            Reload::Changed => {
                info!(%path, "new certificates are in use");
                tell_expiry(&self.settings.key_store, self.expires(), self.env.clock.wall());
            }
            Reload::Refused(error) => {
                warn!(%error, "new certificates are no good; those before them stay in use");
            }
            Reload::Unchanged | Reload::StillRefused => {}
        }
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Looks at the files of `tls` from time to time, as long as somebody uses it.
pub async fn watch(tls: Weak<ServerTls>, env: Env) {
    loop {
        env.sleep(LOOK_PAUSE).await;
        let Some(tls) = tls.upgrade() else { return };
        tls.look();
    }
}

impl Files {
    fn read(settings: &ServerTlsSettings) -> Result<Self, TlsError> {
        Ok(Self {
            key_store: pem::read(&settings.key_store)?,
            trust_store: settings.trust_store.as_deref().map(pem::read).transpose()?,
        })
    }
}

fn build(settings: &ServerTlsSettings, files: Files, env: &Env) -> Result<Current, TlsError> {
    let path = &settings.key_store;
    let chain = pem::key_store(path, &files.key_store)?.chain;
    let expires = chain.iter().map(not_after).collect::<Result<Vec<_>, _>>();
    let expires = expires
        .map_err(|error| TlsError::Unusable { path: path.clone(), why: error.to_string() })?;
    Ok(Current {
        asking: config(settings, &files, env, settings.client_auth)?,
        silent: config(settings, &files, env, ClientAuth::None)?,
        expires: expires.into_iter().min().unwrap_or_default(),
        files,
        refused: None,
    })
}

fn config(
    settings: &ServerTlsSettings,
    files: &Files,
    env: &Env,
    client_auth: ClientAuth,
) -> Result<Arc<ServerConfig>, TlsError> {
    let path = &settings.key_store;
    let store = pem::key_store(path, &files.key_store)?;
    let provider = crate::provider();
    let versions: Vec<&SupportedProtocolVersion> =
        settings.versions.iter().map(|version| version.rustls()).collect();
    let builder =
        ServerConfig::builder_with_details(Arc::clone(&provider), Arc::new(Wall::of(env)));
    let builder = builder.with_protocol_versions(&versions)?;
    let builder = match (&settings.trust_store, &files.trust_store, client_auth) {
        (Some(path), Some(bytes), ClientAuth::Requested | ClientAuth::Required) => {
            let roots = Arc::new(pem::trust_store(path, bytes)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            let verifier = match client_auth {
                ClientAuth::Required => verifier,
                ClientAuth::Requested | ClientAuth::None => verifier.allow_unauthenticated(),
            };
            let unusable = |why: String| TlsError::Unusable { path: path.clone(), why };
            let verifier = verifier.build().map_err(|error| unusable(error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
        (None, _, ClientAuth::Requested | ClientAuth::Required) => {
            let why = "clients are asked for certificates, and it is not said whose are trusted";
            return Err(TlsError::Unusable { path: path.clone(), why: why.to_owned() });
        }
        _ => builder.with_no_client_auth(),
    };
    let config = builder.with_single_cert(store.chain, store.key);
    let mut config = config.map_err(|error| pem::unusable(path, &error))?;
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}

fn tell_expiry(path: &Path, expires: Timestamp, now: Timestamp) {
    let path = path.display();
    let left = Duration::from_millis(u64::try_from(expires.0 - now.0).unwrap_or_default());
    if left.is_zero() {
        warn!(%path, "a certificate has expired: clients will refuse it; put a new one in its place");
    } else if left < EXPIRY_NEAR {
        let hours = left.as_secs() / 3_600;
        warn!(%path, hours, "a certificate expires soon; put a new one in its place");
    }
}

impl HandshakeError {
    /// What tokio-rustls says, in our words.
    fn of(error: io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match inner {
            None => Self::Gone,
            Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)) => {
                Self::NotTls
            }
            Some(rustls::Error::NoCertificatesPresented) => Self::NoCertificate,
            Some(rustls::Error::InvalidCertificate(why)) => Self::BadCertificate(why.to_string()),
            Some(rustls::Error::AlertReceived(alert)) => match alert {
                AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnknownCA => Self::Mistrusted(format!("{alert:?}")),
                other => Self::Failed(format!("the client says {other:?}")),
            },
            Some(other) => Self::Failed(other.to_string()),
        }
    }
}

impl Version {
    const fn rustls(self) -> &'static SupportedProtocolVersion {
        match self {
            Self::Tls12 => &TLS12,
            Self::Tls13 => &TLS13,
        }
    }
}

impl Wall {
    pub(crate) fn of(env: &Env) -> Self {
        Self(Arc::clone(&env.clock))
    }
}

impl TimeProvider for Wall {
    fn current_time(&self) -> Option<UnixTime> {
        let millis = u64::try_from(self.0.wall().0).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_millis(millis)))
    }
}

#[cfg(test)]
mod tests;
