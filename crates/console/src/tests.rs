//! Pages as clients meet them, over a broker in memory whose time stands still.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use millstream_auth::{Derivation, Hash};
use millstream_broker::acl::{Binding, Draft, Operation, PatternType, Permission, ResourceType};
use millstream_broker::{Alteration, Node, Stores, Upsertion};
use millstream_env::{DataDir, Env, HandClock, JournalSettings};
use millstream_types::BrokerId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;

const PASSWORD: &str = "open: sesame";
/// `connection.failed.authentication.delay.ms`.
const DELAY: Duration = Duration::from_millis(100);
const RIGHTS: &[(&str, &str)] =
    &[("authorizer.class.name", "standard"), ("super.users", "User:admin")];
const BY_PASSWORD: Logins = Logins { passwords: true, tokens: false, certificates: false };
const BY_TOKEN: Logins = Logins { passwords: false, tokens: true, certificates: false };

/// What is asked of [`serving`]'s client.
struct World {
    at: SocketAddr,
    ready: watch::Sender<bool>,
    notices: watch::Sender<String>,
    broker: Arc<OnceLock<Broker>>,
    metrics: Arc<Mutex<Registry>>,
}

/// A broker that knows admin, ann and bob.
async fn broker(settings: &[(&str, &str)]) -> (Broker, Arc<HandClock>) {
    let (env, clock) = Env::seeded(1);
    let data = DataDir::in_memory(env.clone()).expect("a directory");
    let stores = Stores {
        journals: data.journals(JournalSettings::default()).await.expect("journals"),
        blobs: data.blobs().expect("blobs"),
        metadata: data.meta(),
        reserve: data.reserve(),
    };
    let host = "in-memory".to_owned();
    let node = Node { id: BrokerId(1), cluster_id: data.cluster(), host, port: 0 };
    let settings: BTreeMap<_, _> =
        settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let broker = Broker::start(env, node, stores, settings).await.expect("it starts");
    for user in ["admin", "ann", "bob"] {
        let salt = user.as_bytes().to_vec();
        let derivation = Derivation::new(Hash::Sha256, PASSWORD.as_bytes(), &salt, 4_096);
        let salted_password = derivation.finish();
        let hash = Some(Hash::Sha256);
        let set = Upsertion { hash, iterations: 4_096, salt, salted_password };
        let wanted = vec![(Arc::from(user), Alteration::Set(set))];
        let outcomes = broker.alter_credentials(wanted).await.expect("written");
        assert!(outcomes.values().all(Result::is_ok));
    }
    (broker, clock)
}

/// Allows a user an operation on the cluster.
async fn allow(broker: &Broker, user: &str, operation: Operation) {
    let draft = Draft {
        resource: ResourceType::Cluster,
        pattern: PatternType::Literal,
        name: millstream_broker::acl::CLUSTER_NAME,
        principal: &format!("User:{user}"),
        host: "127.0.0.1",
        operation,
        permission: Permission::Allow,
    };
    let rule = Binding::new(&draft).expect("a rule");
    broker.add_acls(vec![rule]).await.expect("it is added");
}

/// Serves a page of one line for as long as `client` goes on.
async fn serving<T>(logins: Logins, client: impl AsyncFnOnce(&World) -> T) -> T {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let mut registry = Registry::default();
    let asked: Counter = Counter::default();
    registry.register("asked", "How often", asked.clone());
    asked.inc();
    let (ready, is_ready) = watch::channel(false);
    let (notices, notice) = watch::channel(String::new());
    let broker = Arc::new(OnceLock::new());
    let at = listener.local_addr().expect("bound");
    let metrics = Arc::new(Mutex::new(registry));
    let (known, shown) = (Arc::clone(&broker), Arc::clone(&metrics));
    let world = World { at, ready, notices, broker: known, metrics: shown };
    let hosts = Arc::from(["kafka.example.org".to_owned()]);
    let pages = Pages { ready: is_ready, notice, metrics, hosts, logins, issuer: None, broker };
    tokio::select! {
        served = serve(listener, None, pages, std::future::pending()) => panic!("{served:?}"),
        done = client(&world) => done,
    }
}

impl World {
    fn start(&self, broker: &Broker) {
        self.broker.set(broker.clone()).expect("it starts once");
    }

    /// The line that says how many logins have failed.
    fn failed_logins(&self) -> Option<String> {
        let mut text = String::new();
        encode(&mut text, &self.metrics.lock().expect("nobody panics")).expect("text");
        let mut lines = text.lines();
        lines
            .find(|line| line.starts_with("millstream_http_failed_logins_total"))
            .map(str::to_owned)
    }

    async fn ask(&self, path: &str) -> String {
        self.ask_with(path, "Host: localhost").await
    }

    /// As somebody who says this before and after the colon.
    async fn ask_as(&self, path: &str, said: &str) -> String {
        let said = BASE64.encode(said);
        self.ask_with(path, &format!("Host: localhost\r\nAuthorization: Basic {said}")).await
    }

    async fn ask_with(&self, path: &str, headers: &str) -> String {
        let mut stream = TcpStream::connect(self.at).await.expect("connects");
        let request = format!("GET {path} HTTP/1.1\r\n{headers}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sends");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("answers");
        answer
    }
}

fn status(answer: &str) -> u16 {
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.unwrap_or_else(|| panic!("no status: {answer}"))
}

#[tokio::test]
async fn pages_answer() {
    let (broker, _) = broker(&[]).await;
    serving(Logins::default(), async |world| {
        assert_eq!(status(&world.ask("/livez").await), 200);
        assert_eq!(status(&world.ask("/readyz").await), 503);
        let early = world.ask("/metrics").await;
        assert!(early.starts_with("HTTP/1.1 503") && early.ends_with("not ready\n"), "{early}");
        world.start(&broker);
        world.ready.send_replace(true);
        assert!(world.ask("/readyz").await.ends_with("\r\n\r\nready\n"));
        world.notices.send_replace("something is short".to_owned());
        let short = world.ask("/readyz").await;
        assert_eq!(status(&short), 200);
        assert!(short.ends_with("\r\n\r\nready\nsomething is short\n"), "{short}");
        let metrics = world.ask("/metrics").await;
        assert!(metrics.contains("\nasked_total 1\n"), "{metrics}");
        assert!(metrics.contains("\r\ncache-control: no-store\r\n"), "{metrics}");
        assert_eq!(status(&world.ask("/nothing").await), 404);
        for (path, headers, expected) in [
            ("/metrics", "Host: kafka.example.org:8080", 200),
            ("/metrics", "Host: evil.example.org:8080", 421),
            ("/metrics", "Host: localhost\r\nOrigin: http://evil.example.org", 403),
            ("/metrics", "Host: localhost\r\nHost: evil.example.org", 400),
            ("/metrics", "Host: localhost\r\nAuthorization: a\r\nAuthorization: b", 400),
            // Nobody is asked, and nothing that is said is looked at.
            ("/metrics", "Host: localhost\r\nAuthorization: Basic !", 200),
            ("/nothing", "Host: evil.example.org:8080", 421),
            ("/livez", "Host: evil.example.org:8080", 200),
            ("/readyz", "Host: evil.example.org:8080", 200),
        ] {
            let answer = world.ask_with(path, headers).await;
            assert_eq!(status(&answer), expected, "{path} {headers}: {answer}");
            assert_eq!(answer.contains("asked_total"), path == "/metrics" && expected == 200);
        }
    })
    .await;
}

/// Walks the table: what each page says it needs is what it needs.
#[tokio::test]
async fn every_page_needs_what_the_table_says() {
    for route in ROUTES {
        let (broker, _) = broker(RIGHTS).await;
        serving(BY_PASSWORD, async |world| {
            world.start(&broker);
            world.ready.send_replace(true);
            let ask = async |said: Option<&str>| match said {
                None => status(&world.ask(route.path).await),
                Some(user) => {
                    status(&world.ask_as(route.path, &format!("{user}:{PASSWORD}")).await)
                }
            };
            let Needs::OnCluster(needed) = route.needs else {
                assert_eq!(ask(None).await, 200, "{}", route.path);
                return;
            };
            assert_eq!(ask(None).await, 401, "{}", route.path);
            assert_eq!(ask(Some("admin")).await, 200, "{}", route.path);
            assert_eq!(ask(Some("ann")).await, 403, "{}", route.path);
            for operation in Operation::ALL.iter().filter(|one| !includes(**one, needed)) {
                allow(&broker, "ann", *operation).await;
            }
            assert_eq!(ask(Some("ann")).await, 403, "{}", route.path);
            allow(&broker, "bob", needed).await;
            assert_eq!(ask(Some("bob")).await, 200, "{}", route.path);
            assert_eq!(ask(Some("ann")).await, 403, "{}", route.path);
        })
        .await;
    }
}

/// Whether a rule on the first allows the second.
fn includes(allowed: Operation, needed: Operation) -> bool {
    use Operation::{All, Alter, Delete, Describe, Read, Write};
    let describes = matches!(allowed, Read | Write | Delete | Alter) && needed == Describe;
    allowed == needed || allowed == All || describes
}

#[tokio::test]
async fn what_there_is_not_is_told_only_to_those_who_say_who_they_are() {
    let (broker, _) = broker(RIGHTS).await;
    serving(BY_PASSWORD, async |world| {
        world.start(&broker);
        assert_eq!(status(&world.ask("/topics").await), 401);
        assert_eq!(status(&world.ask("/metrics/").await), 401);
        let as_ann = world.ask_as("/topics", &format!("ann:{PASSWORD}")).await;
        assert_eq!(status(&as_ann), 404);
    })
    .await;
}

#[tokio::test]
async fn who_lacks_something_is_told_what() {
    #[track_caller]
    fn check(answer: &str, expected: u16, pieces: &[&str]) {
        assert_eq!(status(answer), expected, "{answer}");
        for piece in pieces {
            assert!(answer.contains(piece), "no {piece:?} in: {answer}");
        }
        assert!(!answer.contains("asked_total") && !answer.contains(PASSWORD), "{answer}");
    }
    let challenge = "www-authenticate: Basic realm=\"millstream\", charset=\"UTF-8\"\r\n";
    let certificates = |passwords| Logins { passwords, tokens: false, certificates: true };
    let all = Logins { tokens: true, ..certificates(true) };
    let tokens = "www-authenticate: Bearer realm=\"millstream\"\r\n";
    for (logins, status, pieces) in [
        (Logins::default(), 403, &["millstream.http.authentication", "User:ANONYMOUS"][..]),
        (BY_PASSWORD, 401, &[challenge, "curl --user"]),
        (certificates(true), 401, &[challenge, "curl --user", "curl --cert"]),
        (certificates(false), 403, &["curl --cert"]),
        (BY_TOKEN, 401, &[tokens, "curl --oauth2-bearer"]),
        (all, 401, &[challenge, tokens, "curl --user", "curl --oauth2-bearer", "curl --cert"]),
    ] {
        let (broker, _) = broker(RIGHTS).await;
        serving(logins, async |world| {
            world.start(&broker);
            check(&world.ask("/metrics").await, status, pieces);
        })
        .await;
    }
    let (broker, _) = broker(RIGHTS).await;
    serving(BY_PASSWORD, async |world| {
        world.start(&broker);
        let denied = world.ask_as("/metrics", &format!("ann:{PASSWORD}")).await;
        let rule = "`millstream acl add --allow User:ann --operation describe --cluster`";
        check(&denied, 403, &[rule]);
    })
    .await;
}

/// Without an authorizer, who he is is asked all the same.
#[tokio::test]
async fn a_wrong_password_takes_its_time_and_ends_the_connection() {
    let (broker, clock) = broker(&[]).await;
    serving(BY_PASSWORD, async |world| {
        world.start(&broker);
        assert_eq!(status(&world.ask_as("/metrics", &format!("ann:{PASSWORD}")).await), 200);
        for said in ["ann:wrong", "nobody:wrong", "ann:", "not even that"] {
            let before = world.failed_logins();
            let mut asked = Box::pin(world.ask_as("/metrics", said));
            // It is counted in the moment from which on it waits.
            while world.failed_logins() == before {
                tokio::select! {
                    biased;
                    answer = &mut asked => panic!("too early: {answer}"),
                    () = tokio::task::yield_now() => {}
                }
            }
            clock.advance(DELAY);
            let answer = asked.await;
            assert_eq!(status(&answer), 401, "{said}: {answer}");
            assert!(answer.ends_with("the name or the password is wrong\n"), "{answer}");
            assert!(answer.contains("connection: close\r\n"), "{answer}");
        }
        let metrics = world.ask_as("/metrics", &format!("ann:{PASSWORD}")).await;
        assert!(metrics.contains("\nmillstream_http_logins_total 2\n"), "{metrics}");
        assert!(metrics.contains("\nmillstream_http_failed_logins_total 4\n"), "{metrics}");
    })
    .await;
}

/// Whoever takes all places and says nothing, or goes on asking, keeps no probe out: that would have the broker
/// stopped by those who look after it.
#[tokio::test]
async fn a_crowd_from_one_address_keeps_nobody_else_out() {
    serving(Logins::default(), async |world| {
        let mut crowd = Vec::new();
        for _ in 0..200 {
            crowd.push(TcpStream::connect(world.at).await.expect("the system takes it"));
        }
        let probe = async {
            let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
            socket.bind(SocketAddr::from(([127, 0, 0, 2], 0))).expect("another address");
            let mut stream = socket.connect(world.at).await.expect("connects");
            let request = "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
            stream.write_all(request.as_bytes()).await.expect("sends");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.expect("answers");
            answer
        };
        // Half of the time after which the crowd would have been left in any case.
        let answer = tokio::time::timeout(Duration::from_secs(5), probe).await;
        assert!(answer.expect("it is answered at once").ends_with("live\n"));
    })
    .await;
}

/// Time passes by itself when everybody waits.
#[tokio::test(start_paused = true)]
async fn more_connections_than_there_are_places_wait_and_none_waits_for_ever() {
    serving(Logins::default(), async |world| {
        let mut silent = Vec::new();
        for _ in 0..100 {
            silent.push(TcpStream::connect(world.at).await.expect("the system takes it"));
        }
        assert!(world.ask("/livez").await.ends_with("live\n"));
    })
    .await;
}
