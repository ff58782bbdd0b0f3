#![expect(clippy::disallowed_methods, reason = "the tests write the files that a server reads")]

use std::fs;

use std::pin::Pin;
use std::task::{Context, Poll};

use rcgen::{CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadBuf};
use tokio_rustls::TlsConnector;
use tokio_rustls::client;

use super::*;

type Authority = CertifiedIssuer<'static, KeyPair>;

/// An authority that is valid in 2026 to 2030, as is what it signs.
fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate with its key, as PEM.
fn signed(by: &Authority, name: &str, year_last: i32) -> String {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(year_last, 12, 31);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, by).unwrap();
    format!("{}{}", certificate.pem(), key.serialize_pem())
}

struct World {
    dir: TempDir,
    env: Env,
    authority: Authority,
    tls: Arc<ServerTls>,
}

/// 2026-11-27.
const NOW: Timestamp = Timestamp(1_795_737_600_000);

fn world(client_auth: ClientAuth, rules: &str) -> World {
    let dir = tempfile::tempdir().unwrap();
    let (env, clock) = Env::seeded(1);
    clock.set_wall(NOW);
    let authority = authority("our authority");
    fs::write(dir.path().join("server.pem"), signed(&authority, "server", 2030)).unwrap();
    fs::write(dir.path().join("ca.pem"), authority.pem()).unwrap();
    let settings = ServerTlsSettings {
        key_store: dir.path().join("server.pem"),
        trust_store: Some(dir.path().join("ca.pem")),
        client_auth,
        versions: vec![Version::Tls12, Version::Tls13],
        rules: Rules::parse(rules).unwrap(),
    };
    let tls = Arc::new(ServerTls::load(settings, env.clone()).unwrap());
    World { dir, env, authority, tls }
}

impl World {
    /// A client that trusts `authority` and shows `certificate`.
    fn client(
        &self,
        trusted: &Authority,
        certificate: Option<&str>,
        version: Version,
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(trusted.der().clone()).unwrap();
        let clock = Arc::new(Wall::of(&self.env));
        let config = ClientConfig::builder_with_details(crate::provider(), clock)
            .with_protocol_versions(&[version.rustls()])
            .unwrap()
            .with_root_certificates(roots);
        Arc::new(match certificate {
            None => config.with_no_client_auth(),
            Some(pem) => {
                let chain =
                    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>();
                let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap();
                config.with_client_auth_cert(chain.unwrap(), key).unwrap()
            }
        })
    }

    /// What the server makes of a client, and what the client makes of the server when it has sent a byte and
    /// waits for one.
    async fn meet(
        &self,
        client: Arc<ClientConfig>,
    ) -> (Result<Option<String>, HandshakeError>, io::Result<u8>) {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        tokio::join!(
            async {
                let (mut stream, principal) = self.tls.accept(ours, true).await?;
                let byte = stream.read_u8().await.map_err(HandshakeError::of)?;
                stream.write_u8(byte + 1).await.unwrap();
                stream.flush().await.unwrap();
                Ok(principal.map(|principal| principal.name().to_owned()))
            },
            async {
                let mut stream = connect(client, theirs).await?;
                stream.write_u8(7).await?;
                stream.flush().await?;
                stream.read_u8().await
            }
        )
    }
}

async fn connect(
    config: Arc<ClientConfig>,
    stream: DuplexStream,
) -> io::Result<client::TlsStream<DuplexStream>> {
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(config).connect(name, stream).await
}

const BOTH: [Version; 2] = [Version::Tls12, Version::Tls13];

#[tokio::test]
async fn clients_are_known_by_their_certificates() {
    use ClientAuth::*;
    for version in BOTH {
        for (auth, shows, expected) in [
            (None, false, Option::None),
            (None, true, Option::None),
            (Requested, false, Option::None),
            (Requested, true, Some("alice")),
            (Required, true, Some("alice")),
        ] {
            let world = world(auth, "RULE:^CN=([^,]+)$/$1/");
            let certificate = signed(&world.authority, "alice", 2030);
            let shown = shows.then_some(certificate.as_str());
            let client = world.client(&world.authority, shown, version);
            let (server, client) = world.meet(client).await;
            assert_eq!(server.unwrap().as_deref(), expected, "{auth:?} {version:?}");
            assert_eq!(client.unwrap(), 8);
        }
    }
}

#[tokio::test]
async fn who_is_not_to_come_in_is_told() {
    for version in BOTH {
        for auth in [ClientAuth::Requested, ClientAuth::Required] {
            let world = world(auth, "RULE:^CN=(a.*)$/$1/");
            let other = authority("another authority");
            let (ours, theirs) = (&world.authority, &other);
            for (shown, trusted, expected) in [
                (signed(theirs, "alice", 2030), ours, "the client's certificate is refused"),
                (signed(ours, "alice", 2025), ours, "the client's certificate is refused"),
                (signed(ours, "bob", 2030), ours, "`CN=bob` stands for no user"),
                (
                    signed(ours, "alice", 2030),
                    theirs,
                    "the client refuses the server's certificate",
                ),
            ] {
                let (server, client) =
                    world.meet(world.client(trusted, Some(&shown), version)).await;
                let refused = server.expect_err(expected).to_string();
                assert!(refused.contains(expected), "{refused}");
                assert!(client.is_err());
            }
        }
        let world = world(ClientAuth::Required, "DEFAULT");
        let client = world.client(&world.authority, None, version);
        let (server, client) = world.meet(client).await;
        assert!(matches!(server, Err(HandshakeError::NoCertificate)), "{server:?}");
        assert!(client.is_err());
    }
}

#[tokio::test]
async fn what_is_no_handshake_is_named() {
    let world = world(ClientAuth::None, "DEFAULT");
    for (sent, expected) in [
        (&b""[..], "the client left"),
        (&b"\x16\x03\x01"[..], "the client left"),
        (&b"\0\0\0\x10\0\x12\0\0"[..], "does not speak TLS"),
        (&b"GET / HTTP/1.1\r\n"[..], "does not speak TLS"),
        // A handshake message of 16 MiB.
        (&b"\x16\x03\x01\x40\x00\x01\xff\xff\xff"[..], "the client left"),
    ] {
        let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
        theirs.write_all(sent).await.unwrap();
        theirs.shutdown().await.unwrap();
        let refused = world.tls.accept(ours, true).await.expect_err(expected).to_string();
        assert!(refused.contains(expected), "{sent:?}: {refused}");
    }
}

#[tokio::test]
async fn who_takes_too_long_is_left() {
    let (env, clock) = Env::seeded(1);
    let mut world = world(ClientAuth::None, "DEFAULT");
    let tls = Arc::get_mut(&mut world.tls).unwrap();
    tls.env = env;
    let (ours, mut theirs) = tokio::io::duplex(1024);
    theirs.write_all(b"\x16\x03\x01").await.unwrap();
    let mut accepts = Box::pin(world.tls.accept(ours, true));
    let pending = std::future::poll_fn(|context| {
        std::task::Poll::Ready(accepts.as_mut().poll(context).is_pending())
    });
    assert!(pending.await);
    clock.advance(HANDSHAKE_MAX);
    assert!(matches!(accepts.await, Err(HandshakeError::Late)));
}

#[tokio::test]
async fn new_files_are_used_and_bad_ones_are_not() {
    let world = world(ClientAuth::None, "DEFAULT");
    let path = world.dir.path().join("server.pem");
    let before = fs::read(&path).unwrap();
    assert!(matches!(world.tls.reload(), Reload::Unchanged));
    for (text, expected) in [
        ("no certificate", "has no certificate"),
        (&signed(&world.authority, "server", 2025), "has expired"),
        (
            &signed(&world.authority, "a", 2030).replace(
                "-----BEGIN PRIVATE",
                &format!("{}-----BEGIN PRIVATE", signed(&world.authority, "b", 2030)),
            ),
            "does not belong",
        ),
    ] {
        // Of two keys the first counts, which is that of the second certificate.
        fs::write(&path, text).unwrap();
        let Reload::Refused(refused) = world.tls.reload() else { panic!("{expected}") };
        assert!(refused.to_string().contains(expected), "{refused}");
        assert!(matches!(world.tls.reload(), Reload::StillRefused));
        let client = world.client(&world.authority, None, Version::Tls13);
        assert_eq!(world.meet(client).await.1.unwrap(), 8, "the old one is in use");
    }
    fs::remove_file(&path).unwrap();
    assert!(matches!(world.tls.reload(), Reload::Refused(TlsError::Unreadable { .. })));
    fs::write(&path, &before).unwrap();
    assert!(matches!(world.tls.reload(), Reload::Unchanged));
    let other = authority("another authority");
    fs::write(&path, signed(&other, "server", 2031)).unwrap();
    assert!(matches!(world.tls.reload(), Reload::Changed));
    assert_eq!((world.tls.reloads(), world.tls.refusals()), (1, 4));
    assert_eq!(world.tls.expires(), Timestamp(1_956_441_600_000));
    let client = world.client(&other, None, Version::Tls13);
    assert_eq!(world.meet(client).await.1.unwrap(), 8);
    let client = world.client(&world.authority, None, Version::Tls13);
    assert!(matches!(world.meet(client).await.0, Err(HandshakeError::Mistrusted(_))));
}

/// A ticket must bring nobody in whose authority is no longer trusted, or whose certificate has expired.
#[tokio::test]
async fn sessions_are_resumed_but_not_for_those_who_may_not_come_in() {
    for version in BOTH {
        let world = world(ClientAuth::Required, "DEFAULT");
        let certificate = signed(&world.authority, "alice", 2030);
        let client = world.client(&world.authority, Some(&certificate), version);
        let come = async |client: Arc<ClientConfig>| {
            let (ours, theirs) = tokio::io::duplex(64 * 1024);
            tokio::join!(accepted(&world, ours), used(client, theirs)).0
        };
        assert_eq!(come(Arc::clone(&client)).await, Ok(rustls::HandshakeKind::Full));
        assert_eq!(come(Arc::clone(&client)).await, Ok(rustls::HandshakeKind::Resumed));
        // Another authority is trusted from now on.
        let other = authority("another authority");
        fs::write(world.dir.path().join("ca.pem"), other.pem()).unwrap();
        assert!(matches!(world.tls.reload(), Reload::Changed));
        let refused = come(client).await.unwrap_err();
        assert!(refused.contains("the client's certificate is refused"), "{refused}");
    }
}

async fn accepted(world: &World, stream: DuplexStream) -> Result<rustls::HandshakeKind, String> {
    let (mut stream, _) =
        world.tls.accept(stream, true).await.map_err(|error| error.to_string())?;
    let kind = stream.get_ref().1.handshake_kind().expect("it is done");
    stream.write_u8(1).await.unwrap();
    stream.flush().await.unwrap();
    Ok(kind)
}

/// Who logs in by SASL is asked for no certificate, and does not get around one by that.
#[tokio::test]
async fn a_session_without_a_certificate_is_not_resumed_where_one_is_asked_for() {
    for version in BOTH {
        let world = world(ClientAuth::Required, "DEFAULT");
        let client = world.client(&world.authority, None, version);
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let silent = async {
            let (mut stream, principal) = world.tls.accept(ours, false).await.unwrap();
            stream.write_u8(1).await.unwrap();
            stream.flush().await.unwrap();
            principal
        };
        let (principal, ()) = tokio::join!(silent, used(Arc::clone(&client), theirs));
        assert_eq!(principal, None);
        let (server, _) = world.meet(client).await;
        assert!(matches!(server, Err(HandshakeError::NoCertificate)), "{version:?}: {server:?}");
    }
}

/// Counts how often the system is asked for bytes.
struct Counting<'a>(DuplexStream, &'a AtomicU64);

impl AsyncRead for Counting<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.0).poll_read(context, room);
        self.1.fetch_add(u64::from(polled.is_ready()), Ordering::Relaxed);
        polled
    }
}

impl AsyncWrite for Counting<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[tokio::test]
async fn a_large_request_takes_few_reads() {
    const BYTES: usize = 1024 * 1024;
    let world = world(ClientAuth::None, "DEFAULT");
    let client = world.client(&world.authority, None, Version::Tls13);
    let (ours, theirs) = tokio::io::duplex(4 * BYTES);
    let reads = AtomicU64::new(0);
    tokio::join!(
        async {
            let (mut stream, _) = world.tls.accept(Counting(ours, &reads), true).await.unwrap();
            let before = reads.load(Ordering::Relaxed);
            stream.read_exact(&mut vec![0; BYTES]).await.unwrap();
            let reads = reads.load(Ordering::Relaxed) - before;
            // Of 32 KiB each; rustls alone takes more than 256.
            assert!(reads <= 64, "{reads}");
        },
        async {
            let mut stream = connect(client, theirs).await.unwrap();
            stream.write_all(&vec![7; BYTES]).await.unwrap();
            stream.flush().await.unwrap();
            // Stays until the server has everything.
            assert!(stream.read_u8().await.is_err());
        }
    );
}

async fn used(config: Arc<ClientConfig>, stream: DuplexStream) {
    // Where the server refuses, nothing comes.
    if let Ok(mut stream) = connect(config, stream).await {
        let _ = stream.read_u8().await;
    }
}

#[test]
fn what_is_shown_of_it_has_no_secret() {
    let world = world(ClientAuth::None, "DEFAULT");
    let shown = format!("{:?}", world.tls);
    assert!(shown.contains("server.pem") && !shown.contains("PRIVATE"), "{shown}");
}
