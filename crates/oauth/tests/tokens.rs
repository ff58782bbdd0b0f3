//! Tokens, good and bad, against keys that were really fetched: from a file, and by HTTP with and without TLS.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod signers;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_lc_rs::hmac;
use millstream_auth::{Algorithm, BadToken, Expected, TOKEN_BYTES_MAX, Verified};
use millstream_env::{Env, HandClock};
use millstream_oauth::{Issuer, IssuerSettings, Place, Signer, watch};
use millstream_tls::{ClientAuth, Rules, ServerTls, ServerTlsSettings, Version};
use millstream_types::Principal;
use proptest::prelude::*;
use signers::{Key, encoded};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// When the hand clock starts, in seconds since 1970.
const NOW: i64 = 1_767_225_600;

fn settings(place: Place) -> IssuerSettings {
    let expected = Expected {
        issuer: Some("https://issuer".to_owned()),
        audiences: vec!["kafka".to_owned()],
        skew: Duration::from_secs(30),
        subject_claim: "sub".to_owned(),
        scope_claim: "scope".to_owned(),
    };
    IssuerSettings {
        place,
        refresh: Duration::from_hours(1),
        retry: Duration::from_millis(100),
        retry_max: Duration::from_secs(10),
        age_max: Duration::from_hours(24),
        trust_store: None,
        expected,
    }
}

fn claims(issued: i64, expires: i64) -> String {
    format!(
        r#"{{"iss":"https://issuer","aud":"kafka","sub":"alice","iat":{},"exp":{}}}"#,
        NOW + issued,
        NOW + expires
    )
}

fn key_set(keys: &[(&Key, &str)]) -> String {
    let keys: Vec<_> = keys.iter().map(|(key, id)| key.jwk(id)).collect();
    format!(r#"{{"keys":[{}]}}"#, keys.join(","))
}

struct World {
    clock: Arc<HandClock>,
    env: Env,
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let (env, clock) = Env::seeded(1);
        Self { clock, env, folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("keys.json")
    }

    fn publish(&self, keys: &str) {
        write(&self.path(), keys);
    }

    /// An issuer whose keys are in the file.
    async fn open(&self) -> Arc<Issuer> {
        self.open_at(settings(Place::File(self.path()))).await
    }

    async fn open_at(&self, settings: IssuerSettings) -> Arc<Issuer> {
        let issuer = Issuer::open(settings, self.env.clone()).await.unwrap();
        self.env.spawn("keys", watch(Arc::downgrade(&issuer), self.env.clone()));
        issuer
    }
}

#[expect(clippy::disallowed_methods, reason = "a file of the test")]
fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

fn alice(seconds: u64) -> Result<Verified, BadToken> {
    Ok(Verified { user: Principal::user("alice"), lifetime: Duration::from_secs(seconds) })
}

#[tokio::test]
async fn tokens_are_verified_in_every_way_that_they_may_be_signed() {
    let world = World::new();
    for algorithm in Algorithm::ALL {
        let (key, other) = (Key::of(algorithm), Key::of(algorithm));
        world.publish(&key_set(&[(&key, "k")]));
        let issuer = world.open().await;
        let name = algorithm.name();
        let good = key.token(algorithm, "k", &claims(0, 60));
        assert_eq!(issuer.judge(&good).await, alice(60), "{name}");
        let forged = other.token(algorithm, "k", &claims(0, 60));
        assert_eq!(issuer.judge(&forged).await, Err(BadToken::Signature), "{name}");
        // What was signed with the same key in another way.
        let is_of_rsa =
            |one: Algorithm| one.name().starts_with("RS") || one.name().starts_with("PS");
        let others = Algorithm::ALL.into_iter().filter(|other| *other != algorithm);
        for other in others.filter(|other| is_of_rsa(algorithm) && is_of_rsa(*other)) {
            let header = format!(r#"{{"alg":"{name}","kid":"k"}}"#);
            let confused = key.token_with(&header, other, &claims(0, 60));
            let judged = issuer.judge(&confused).await;
            assert_eq!(judged, Err(BadToken::Signature), "{name} {}", other.name());
        }
    }
}

/// What is refused, and why.
type Bad = (&'static str, String, BadToken);

/// What a good issuer has signed, and what is no good all the same.
fn wrong_claims(signed: impl Fn(&str) -> String) -> Vec<Bad> {
    let good = claims(0, 60);
    let deep = format!("{}{}", "[".repeat(2_000), "]".repeat(2_000));
    let twice = good.replace(r#""sub":"#, r#""sub":"bob","sub":"#);
    let long = format!(r#"{{"x":"{}"}}"#, "x".repeat(TOKEN_BYTES_MAX));
    vec![
        ("expired", signed(&claims(-600, -30)), BadToken::Expired),
        ("long ago", signed(&claims(-600_000, -300_000)), BadToken::Expired),
        ("not yet", signed(&claims(31, 600)), BadToken::NotYet),
        ("issuer", signed(&good.replace("issuer", "evil")), BadToken::Issuer),
        ("audience", signed(&good.replace("kafka", "other")), BadToken::Audience),
        ("no subject", signed(&good.replace("sub", "bus")), BadToken::Subject),
        ("long", signed(&long), BadToken::TooLong),
        ("twice", signed(&twice), BadToken::Malformed),
        ("deep", signed(&good.replace('{', &format!(r#"{{"x":{deep},"#))), BadToken::Malformed),
        ("no JSON", signed("alice"), BadToken::Malformed),
        ("a list", signed("[]"), BadToken::Malformed),
    ]
}

/// What the issuer has not signed, `k` being its key for ES256 and `r` that of RSA.
fn forged(k: &Key, r: &Key) -> Vec<Bad> {
    let claims = claims(0, 60);
    let header = |alg: &str, kid: &str| format!(r#"{{"alg":"{alg}","kid":"{kid}"}}"#);
    // Signed with what everybody knows, as if it were a secret.
    let with_public = |header: &str, key: &Key| {
        let signed = format!("{}.{}", encoded(header), encoded(&claims));
        let secret = hmac::Key::new(hmac::HMAC_SHA256, &key.public());
        format!("{signed}.{}", encoded(hmac::sign(&secret, signed.as_bytes())))
    };
    let unsigned = |alg: &str| format!("{}.{}.", encoded(header(alg, "k")), encoded(&claims));
    let good = k.token(Algorithm::Es256, "k", &claims);
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let bobs = k.token(Algorithm::Es256, "k", &claims.replace("alice", "bobby"));
    let (bobs, _) = bobs.rsplit_once('.').unwrap();
    let other = Key::of(Algorithm::Es256);
    let own = r#"{"alg":"ES256","kid":"x","jwk":KEY,"jku":"https://evil","x5c":[]}"#;
    let own = other.token_with(&own.replace("KEY", &other.jwk("x")), Algorithm::Es256, &claims);
    let other_kind = r.token(Algorithm::Rs256, "k", &claims);
    let other_id = k.token(Algorithm::Es256, "other", &claims);
    vec![
        ("none", unsigned("none"), BadToken::Algorithm),
        ("NONE", unsigned("NONE"), BadToken::Algorithm),
        ("no signature", format!("{signed}."), BadToken::Signature),
        ("HS256", with_public(&header("HS256", "k"), k), BadToken::Algorithm),
        ("HS256 of RSA", with_public(&header("HS256", "r"), r), BadToken::Algorithm),
        ("HMAC called RS256", with_public(&header("RS256", "r"), r), BadToken::Signature),
        ("another kind of key", other_kind, BadToken::UnknownKey),
        ("another id", other_id, BadToken::UnknownKey),
        ("a key of its own", own, BadToken::UnknownKey),
        ("another's signature", format!("{bobs}.{signature}"), BadToken::Signature),
        ("cut", good[..good.len() - 2].to_owned(), BadToken::Signature),
        ("cut short", signed.to_owned(), BadToken::Malformed),
        ("empty", String::new(), BadToken::Malformed),
    ]
}

/// The attacker's list.
#[tokio::test]
async fn bad_tokens_are_refused_each_for_its_reason() {
    let world = World::new();
    let (key, rsa) = (Key::of(Algorithm::Es256), Key::of(Algorithm::Rs256));
    world.publish(&key_set(&[(&key, "k"), (&rsa, "r")]));
    let issuer = world.open().await;
    let signed = |claims: &str| key.token(Algorithm::Es256, "k", claims);
    let good = signed(&claims(0, 60));
    assert_eq!(issuer.judge(&good).await, alice(60));
    for (what, token, expected) in wrong_claims(signed).into_iter().chain(forged(&key, &rsa)) {
        assert_eq!(issuer.judge(&token).await, Err(expected), "{what}");
    }
    assert_eq!(issuer.judge(&good).await, alice(60), "it is still good");
}

#[tokio::test]
async fn the_session_is_as_long_as_the_token() {
    let world = World::new();
    let key = Key::of(Algorithm::EdDsa);
    world.publish(&key_set(&[(&key, "k")]));
    let issuer = world.open().await;
    let token = key.token(Algorithm::EdDsa, "k", &claims(0, 60));
    for (after, expected) in [
        (0, alice(60)),
        (59, alice(1)),
        (60, alice(30)),
        (89, alice(1)),
        (90, Err(BadToken::Expired)),
        (1_000, Err(BadToken::Expired)),
    ] {
        world.clock.set_wall(millstream_types::Timestamp((NOW + after) * 1_000));
        assert_eq!(issuer.judge(&token).await, expected, "after {after} s");
    }
}

/// A token that is signed by a new key has the keys fetched, at once, once.
#[tokio::test]
async fn new_keys_are_fetched_when_a_token_needs_them() {
    let world = World::new();
    let [old, new, third] = [(); 3].map(|()| Key::of(Algorithm::Es256));
    world.publish(&key_set(&[(&old, "old")]));
    let issuer = world.open().await;
    let by = |key: &Key, id: &str| key.token(Algorithm::Es256, id, &claims(0, 600));
    let judged = async |token: String| issuer.judge(&token).await.map(|_| ());
    assert_eq!(judged(by(&old, "old")).await, Ok(()));
    assert_eq!(judged(by(&third, "third")).await, Err(BadToken::UnknownKey));
    // Somebody has just had them fetched.
    world.publish(&key_set(&[(&old, "old"), (&new, "new")]));
    assert_eq!(judged(by(&new, "new")).await, Err(BadToken::UnknownKey));
    assert_eq!(judged(by(&old, "old")).await, Ok(()));
    world.clock.advance(Duration::from_secs(10));
    assert_eq!(judged(by(&new, "new")).await, Ok(()));
    assert_eq!(judged(by(&old, "old")).await, Ok(()));
    // What is half written, or gone, changes nothing.
    for text in ["", "{\"keys\":[", "{\"keys\":[]}"] {
        world.publish(text);
        world.clock.advance(Duration::from_secs(10));
        assert_eq!(judged(by(&third, "third")).await, Err(BadToken::UnknownKey));
        assert_eq!(judged(by(&new, "new")).await, Ok(()));
    }
    // A key that is taken back is good for nothing, though nobody asks.
    world.publish(&key_set(&[(&new, "new")]));
    world.clock.advance(Duration::from_secs(10));
    settle().await;
    world.clock.advance(Duration::from_secs(10));
    settle().await;
    assert_eq!(judged(by(&new, "new")).await, Ok(()));
    assert_eq!(judged(by(&old, "old")).await, Err(BadToken::UnknownKey));
}

/// Keys that a server can't be asked for any more are good for a day, and not for ever: one that was stolen, and taken
/// back, would be good as long as its thief keeps the issuer from being asked.
#[tokio::test]
async fn keys_that_cant_be_fetched_are_not_used_for_ever() {
    let world = World::new();
    let key = Key::of(Algorithm::Es256);
    let keys = key_set(&[(&key, "k")]);
    world.publish(&keys);
    let issuer = world.open().await;
    let token = key.token(Algorithm::Es256, "k", &claims(0, 10_000_000));
    let advance = async |time| {
        let before = issuer.fetches();
        world.clock.advance(time);
        while issuer.fetches() == before {
            tokio::task::yield_now().await;
        }
    };
    settle().await;
    advance(Duration::from_hours(1)).await;
    assert_eq!(issuer.age(), Duration::ZERO, "they were read");
    world.publish("");
    for (hours, is_used) in [(0, true), (1, true), (24, true), (25, false), (1_000, false)] {
        if hours > 0 {
            let rest = Duration::from_hours(hours).saturating_sub(issuer.age());
            advance(rest).await;
        }
        assert_eq!(issuer.age(), Duration::from_hours(hours));
        let expected = if is_used { Ok(()) } else { Err(BadToken::NoKeys) };
        let (judged, now) = (issuer.judge(&token).await, issuer.judge_now(&token));
        assert_eq!(judged.map(drop), expected, "after {hours} h");
        assert_eq!(now.map(drop), expected, "after {hours} h");
    }
    // The same ones are good again when the issuer says so.
    world.publish(&keys);
    advance(Duration::from_secs(10)).await;
    assert_eq!(issuer.judge(&token).await.map(drop), Ok(()));
    assert_eq!(issuer.age(), Duration::ZERO);
}

async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_file_has_to_be_there_at_the_start() {
    let world = World::new();
    let open = || Issuer::open(settings(Place::File(world.path())), world.env.clone());
    let refused = open().await.unwrap_err();
    assert!(refused.contains("can't read") && refused.contains("keys.json"), "{refused}");
    world.publish("{}");
    let refused = open().await.unwrap_err();
    assert!(refused.contains("RFC 7517"), "{refused}");
}

#[tokio::test]
async fn the_task_ends_with_its_issuer() {
    let world = World::new();
    let key = Key::of(Algorithm::Es256);
    world.publish(&key_set(&[(&key, "k")]));
    let settings = settings(Place::File(world.path()));
    let issuer = Issuer::open(settings, world.env.clone()).await.unwrap();
    let mut task = Box::pin(watch(Arc::downgrade(&issuer), world.env.clone()));
    let ended = tokio::select! { biased; () = &mut task => true, () = settle() => false };
    assert!(!ended);
    drop(issuer);
    task.await;
}

/// A server that answers each request with what `answer` makes of its number.
async fn serve(
    answer: impl Fn(usize) -> String + Send + 'static,
    tls: Option<ServerTls>,
) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let env = Env::real(tokio::runtime::Handle::current());
    env.spawn("keys of a test", async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer(counted.fetch_add(1, Ordering::Relaxed));
            match &tls {
                None => reply(stream, &answer).await,
                // Who does not trust the server says nothing.
                Some(tls) => {
                    if let Ok((stream, _)) = tls.accept(stream, false).await {
                        reply(stream, &answer).await;
                    }
                }
            }
        }
    });
    (port, asked)
}

async fn reply(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &str) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
    }
    assert!(request.starts_with(b"GET /keys HTTP/1.1\r\n"));
    // Whoever has enough has gone.
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

fn answer_of(keys: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{keys}",
        keys.len()
    )
}

#[tokio::test]
async fn keys_are_fetched_by_http_and_again_when_that_has_failed() {
    let world = World::new();
    let key = Key::of(Algorithm::Es256);
    let keys = key_set(&[(&key, "k")]);
    let answer = move |number| match number {
        0 => "HTTP/1.1 503 Service Unavailable\r\n\r\n".to_owned(),
        _ => answer_of(&keys),
    };
    let (port, asked) = serve(answer, None).await;
    let place = Place::parse(&format!("http://127.0.0.1:{port}/keys")).unwrap();
    let issuer = world.open_at(settings(place)).await;
    while issuer.fetches() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    // Nobody knows the keys, so that they are fetched; the second token finds them there.
    let token = key.token(Algorithm::Es256, "k", &claims(0, 60));
    assert_eq!(issuer.judge(&token).await, alice(60));
    assert_eq!(issuer.judge(&token).await, alice(60));
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    assert_eq!((issuer.fetches(), issuer.failed_fetches()), (2, 1));
}

#[tokio::test]
async fn without_keys_nobody_is_let_in() {
    let world = World::new();
    let (port, _) = serve(|_| "HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n".to_owned(), None).await;
    let place = Place::parse(&format!("http://127.0.0.1:{port}/keys")).unwrap();
    let issuer = world.open_at(settings(place)).await;
    let token = Key::of(Algorithm::Es256).token(Algorithm::Es256, "k", &claims(0, 60));
    assert_eq!(issuer.judge(&token).await, Err(BadToken::NoKeys));
}

/// The server's certificate has to be that of its name, by an authority that is trusted.
#[tokio::test]
async fn keys_are_fetched_over_tls_from_who_is_trusted() {
    let world = World::new();
    let made = |name: &str| {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    };
    let (certificate, private) = made("localhost");
    let (stranger, _) = made("localhost");
    let file = |name: &str, text: &str| {
        let path = world.folder.path().join(name);
        write(&path, text);
        path
    };
    let key_store = file("server.pem", &format!("{certificate}{private}"));
    // Its clock is the real one, as the certificate's is.
    let env = Env::real(tokio::runtime::Handle::current());
    let tls = ServerTlsSettings {
        key_store,
        trust_store: None,
        client_auth: ClientAuth::None,
        versions: vec![Version::Tls12, Version::Tls13],
        rules: Rules::parse("DEFAULT").unwrap(),
    };
    let tls = ServerTls::load(tls, env.clone()).unwrap();
    let signer = Signer::generate().unwrap();
    let keys = signer.key_set();
    let (port, _) = serve(move |_| answer_of(&keys), Some(tls)).await;
    let now = env.clock.wall().0 / 1_000;
    let token = claims(now - NOW, now - NOW + 60);
    let token = signer.token(&token).unwrap();
    for (host, authority, is_trusted) in [
        ("localhost", &certificate, true),
        ("127.0.0.1", &certificate, false),
        ("localhost", &stranger, false),
    ] {
        let place = Place::parse(&format!("https://{host}:{port}/keys")).unwrap();
        let trust_store = Some(file("ca.pem", authority));
        let settings = IssuerSettings { trust_store, ..settings(place) };
        let issuer = Issuer::open(settings, env.clone()).await.unwrap();
        env.spawn("keys", watch(Arc::downgrade(&issuer), env.clone()));
        let judged = issuer.judge(&token).await;
        assert_eq!(judged.is_ok(), is_trusted, "{host}: {judged:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is changed in a token makes it none.
    #[test]
    fn a_token_is_that_or_nothing(at in 0_usize..400, flip in 1_u8..=127, cut in 0_usize..500) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let world = World::new();
        let signer = Signer::generate().unwrap();
        world.publish(&signer.key_set());
        let token = signer.token(&claims(0, 60)).unwrap();
        let mut changed = token.clone().into_bytes();
        changed.truncate(cut);
        if let Some(byte) = changed.get_mut(at) {
            *byte = (*byte ^ flip) & 0x7f;
        }
        let changed = String::from_utf8(changed).unwrap();
        let is_same = changed == token;
        let judged = runtime.block_on(async {
            let settings = settings(Place::File(world.path()));
            Issuer::open(settings, world.env.clone()).await.unwrap().judge_now(&changed)
        });
        prop_assert_eq!(judged.is_ok(), is_same);
    }
}
