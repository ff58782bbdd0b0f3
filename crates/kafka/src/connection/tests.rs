//! A connection over a duplex stream, with a service whose answers the test gives by hand.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::BufMut as _;
use millstream_env::{Clock as _, HandClock};
use tokio::io::DuplexStream;
use tokio::sync::oneshot;

use super::*;

/// Requests that have been started, each with the hand that answers it.
type Log = Arc<Mutex<Vec<(Bytes, oneshot::Sender<Answer>)>>>;

/// Frames that begin with `p` may be pipelined.
struct ByHand {
    log: Log,
    /// Whether the memory of answers is short.
    short: Arc<AtomicBool>,
    /// Until when the client is left alone, in nanoseconds.
    muted_until: Arc<AtomicU64>,
    /// The largest request, in bytes.
    request_bytes_max: Arc<AtomicU64>,
    /// Until when the client must have logged in, in nanoseconds.
    login_until: Arc<AtomicU64>,
}

impl Service for ByHand {
    fn pipelines(&self, frame: &[u8]) -> bool {
        frame.starts_with(b"p")
    }

    fn cost(&self, _head: &[u8], length: usize) -> usize {
        length
    }

    fn is_short(&self) -> bool {
        self.short.load(Ordering::Relaxed)
    }

    fn muted_until(&self) -> Monotonic {
        Monotonic(self.muted_until.load(Ordering::Relaxed))
    }

    fn request_bytes_max(&self, most: usize) -> usize {
        most.min(usize::try_from(self.request_bytes_max.load(Ordering::Relaxed)).expect("64 bits"))
    }

    fn login_until(&self) -> Monotonic {
        Monotonic(self.login_until.load(Ordering::Relaxed))
    }

    fn start(&mut self, frame: Frame, room: Option<Held>) -> Started {
        let (sender, receiver) = oneshot::channel();
        self.log.lock().expect("not poisoned").push((frame.bytes, sender));
        Box::pin(async {
            let answer = receiver.await.unwrap_or(Err(Close::Stopping));
            drop(room);
            answer
        })
    }
}

struct Bench {
    peer: DuplexStream,
    log: Log,
    clock: Arc<HandClock>,
    closed: oneshot::Receiver<Close>,
    short: Arc<AtomicBool>,
    muted_until: Arc<AtomicU64>,
    request_bytes_max: Arc<AtomicU64>,
    login_until: Arc<AtomicU64>,
}

const IDLE_MAX: Duration = Duration::from_secs(60);

fn connect(buffer: usize) -> Bench {
    let (env, clock) = Env::seeded(1);
    connect_in(&env, &clock, &Intake::new(None), buffer)
}

fn connect_in(env: &Env, clock: &Arc<HandClock>, intake: &Arc<Intake>, buffer: usize) -> Bench {
    let (ours, peer) = tokio::io::duplex(buffer);
    let (log, short) = (Log::default(), Arc::default());
    let muted_until = Arc::default();
    let endless = || Arc::new(AtomicU64::new(u64::MAX));
    let (request_bytes_max, login_until) = (endless(), endless());
    let (sender, closed) = oneshot::channel();
    let bounds = Bounds {
        request_bytes_max: 1 << 20,
        in_flight_bytes_max: 1_000,
        idle_max: IDLE_MAX,
        intake: Arc::clone(intake),
    };
    let service = ByHand {
        log: Arc::clone(&log),
        short: Arc::clone(&short),
        muted_until: Arc::clone(&muted_until),
        request_bytes_max: Arc::clone(&request_bytes_max),
        login_until: Arc::clone(&login_until),
    };
    let serving = serve(ours, service, env.clone(), bounds, std::future::pending());
    env.spawn("connection", async move {
        let _ = sender.send(serving.await);
    });
    Bench {
        peer,
        log,
        clock: Arc::clone(clock),
        closed,
        short,
        muted_until,
        request_bytes_max,
        login_until,
    }
}

impl Bench {
    async fn send(&mut self, bodies: &[&str]) {
        let mut bytes = Vec::new();
        for body in bodies {
            bytes.put_i32(i32::try_from(body.len()).expect("small"));
            bytes.put_slice(body.as_bytes());
        }
        self.peer.write_all(&bytes).await.expect("connected");
        settle().await;
    }

    fn started(&self) -> Vec<String> {
        let log = self.log.lock().expect("not poisoned");
        log.iter().map(|(frame, _)| String::from_utf8_lossy(frame).into_owned()).collect()
    }

    /// Answers the request `body`, wherever it stands.
    async fn answer(&self, body: &str, answer: Answer) {
        let sender = {
            let mut log = self.log.lock().expect("not poisoned");
            let at = log.iter().position(|(frame, _)| frame == body).expect("it was started");
            log.remove(at).1
        };
        sender.send(answer).expect("somebody waits for it");
        settle().await;
    }

    /// Lets time pass.
    async fn pass(&self, time: Duration) {
        self.clock.advance(time);
        settle().await;
    }

    /// Has the client left alone for a while.
    fn mute(&self, time: Duration) {
        let until = self.clock.monotonic().plus(time);
        self.muted_until.store(until.0, Ordering::Relaxed);
    }

    fn is_open(&mut self) -> bool {
        self.closed.try_recv() == Err(oneshot::error::TryRecvError::Empty)
    }

    async fn receive(&mut self, bytes: usize) -> String {
        let mut answer = vec![0; bytes];
        self.peer.read_exact(&mut answer).await.expect("an answer");
        String::from_utf8(answer).expect("text")
    }
}

/// Lets the connection's task do all that it can do now.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

fn text(answer: &'static str) -> Answer {
    Ok(Some(vec![Bytes::from_static(answer.as_bytes())].into()))
}

#[tokio::test]
async fn pipelined_requests_start_at_once_and_are_answered_in_order() {
    let mut bench = connect(1_024);
    bench.send(&["p1", "p2", "p3"]).await;
    assert_eq!(bench.started(), ["p1", "p2", "p3"]);
    bench.answer("p3", text("three")).await;
    bench.answer("p1", text("one")).await;
    assert_eq!(bench.receive(3).await, "one");
    bench.answer("p2", text("two")).await;
    assert_eq!(bench.receive(8).await, "twothree");
}

/// Pitfall 9.
#[tokio::test]
async fn other_requests_wait_for_all_before_them() {
    let mut bench = connect(1_024);
    bench.send(&["p1", "x2", "p3"]).await;
    assert_eq!(bench.started(), ["p1"]);
    bench.answer("p1", text("1")).await;
    assert_eq!(bench.started(), ["x2"]);
    bench.answer("x2", text("2")).await;
    assert_eq!(bench.started(), ["p3"]);
}

#[tokio::test]
async fn a_request_without_answer_leaves_no_gap() {
    let mut bench = connect(1_024);
    bench.send(&["p1", "p2"]).await;
    bench.answer("p1", Ok(None)).await;
    bench.answer("p2", text("two")).await;
    assert_eq!(bench.receive(3).await, "two");
}

#[tokio::test]
async fn a_slow_reader_is_not_read_from() {
    let mut bench = connect(16);
    bench.send(&["p1"]).await;
    bench.answer("p1", text("an answer that does not fit into the socket")).await;
    bench.send(&["p2"]).await;
    assert_eq!(bench.started(), Vec::<String>::new(), "the answer comes first");
    bench.receive(43).await;
    settle().await;
    assert_eq!(bench.started(), ["p2"]);
}

#[tokio::test]
async fn endings_are_told_apart() {
    let mut bench = connect(64);
    bench.peer.write_all(&(-1_i32).to_be_bytes()).await.expect("connected");
    assert!(matches!(bench.closed.await, Ok(Close::Refused(_))));

    let bench = connect(64);
    drop(bench.peer);
    assert_eq!(bench.closed.await, Ok(Close::Gone));

    let mut bench = connect(64);
    bench.send(&["p1"]).await;
    bench.answer("p1", Err(Close::Refused("why".to_owned()))).await;
    assert_eq!(bench.closed.await, Ok(Close::Refused("why".to_owned())));
}

#[tokio::test]
async fn a_long_poll_ends_when_its_client_leaves() {
    let mut bench = connect(64);
    bench.send(&["x"]).await;
    assert_eq!(bench.started(), ["x"]);
    drop(bench.peer);
    assert_eq!(bench.closed.await, Ok(Close::Gone));
}

/// Pitfall 72.
#[tokio::test]
async fn who_asks_nothing_for_too_long_is_left() {
    let mut bench = connect(64);
    settle().await;
    bench.pass(IDLE_MAX - Duration::from_secs(1)).await;
    bench.send(&["x"]).await;
    bench.pass(IDLE_MAX * 10).await;
    assert!(bench.is_open(), "its answer is awaited");
    // The time that the answer took does not count against the peer.
    bench.answer("x", text("1")).await;
    bench.pass(IDLE_MAX - Duration::from_secs(1)).await;
    assert!(bench.is_open());
    bench.send(&["y"]).await;
    assert_eq!(bench.started(), ["y"]);
    bench.answer("y", text("2")).await;
    bench.pass(IDLE_MAX).await;
    assert_eq!(bench.closed.await, Ok(Close::Idle));
}

#[tokio::test]
async fn who_does_not_take_an_answer_for_too_long_is_left() {
    let mut bench = connect(16);
    bench.send(&["x"]).await;
    bench.answer("x", text("an answer that does not fit into the socket")).await;
    for _ in 0..2 {
        bench.pass(IDLE_MAX - Duration::from_secs(1)).await;
        assert!(bench.is_open(), "a slow reader is none that has stopped");
        bench.receive(10).await;
        settle().await;
    }
    bench.pass(IDLE_MAX).await;
    assert_eq!(bench.closed.await, Ok(Close::Idle));
}

#[tokio::test]
async fn answers_before_the_end_are_written() {
    let mut bench = connect(64);
    bench.send(&["p1", "p2", "p3"]).await;
    bench.answer("p2", text("two")).await;
    bench.answer("p3", Err(Close::Refused("why".to_owned()))).await;
    bench.answer("p1", text("one")).await;
    assert_eq!(bench.receive(6).await, "onetwo");
    assert_eq!(bench.closed.await, Ok(Close::Refused("why".to_owned())));
}

#[tokio::test]
async fn an_answer_that_took_long_has_its_time_to_be_taken() {
    let mut bench = connect(16);
    bench.send(&["x"]).await;
    bench.answer("x", text("sixteen letters!")).await;
    bench.send(&["y"]).await;
    bench.pass(IDLE_MAX * 2).await;
    // The socket is full.
    bench.answer("y", text("2")).await;
    assert!(bench.is_open());
    assert_eq!(bench.receive(17).await, "sixteen letters!2");
}

#[tokio::test]
async fn a_request_must_be_ended_in_time_however_slowly_it_comes() {
    let mut bench = connect(64);
    bench.send(&["x"]).await;
    bench.answer("x", text("1")).await;
    // Four bytes announce ten, of which one comes now and then.
    bench.peer.write_all(&10_i32.to_be_bytes()).await.expect("connected");
    for _ in 0..3 {
        settle().await;
        bench.pass(IDLE_MAX / 4).await;
        assert!(bench.is_open());
        bench.peer.write_all(b"d").await.expect("connected");
    }
    settle().await;
    bench.pass(IDLE_MAX / 4).await;
    assert_eq!(bench.closed.await, Ok(Close::Idle));
}

#[tokio::test]
async fn who_never_sends_anything_or_not_even_a_length_is_left() {
    for begins in [&b""[..], b"\0", b"\0\0\0"] {
        let mut bench = connect(64);
        bench.peer.write_all(begins).await.expect("connected");
        settle().await;
        bench.pass(IDLE_MAX - Duration::from_secs(1)).await;
        assert!(bench.is_open());
        bench.pass(Duration::from_secs(1)).await;
        assert_eq!(bench.closed.await, Ok(Close::Idle), "{begins:?}");
    }
}

/// A request of so many bytes.
fn large(letter: u8, length: usize) -> String {
    String::from_utf8(vec![letter; length]).expect("a letter")
}

const LARGE: usize = 10 * 1024;

#[tokio::test]
async fn large_requests_wait_unread_until_there_is_room() {
    let (env, clock) = Env::seeded(1);
    let intake = Intake::new(Some(40 * 1024));
    let mut benches: Vec<_> =
        (0..5).map(|_| connect_in(&env, &clock, &intake, 100 * 1024)).collect();
    for bench in &mut benches {
        bench.send(&[&large(b'a', LARGE)]).await;
    }
    let started = |benches: &[Bench]| -> Vec<usize> {
        benches.iter().map(|bench| bench.started().len()).collect()
    };
    assert_eq!(started(&benches), [1, 1, 1, 1, 0]);
    assert_eq!((intake.used(), intake.held_back()), (4 * LARGE, 1));
    // Small ones are served all the same, on another connection.
    let mut small = connect_in(&env, &clock, &intake, 64);
    small.send(&["x"]).await;
    assert_eq!(small.started(), ["x"]);
    benches[2].answer(&large(b'a', LARGE), text("1")).await;
    assert_eq!(started(&benches), [1, 1, 0, 1, 1]);
    drop(benches);
    settle().await;
    assert_eq!(intake.used(), 0);
}

#[tokio::test]
async fn who_does_not_go_on_with_a_request_loses_its_room_to_those_who_wait() {
    let (env, clock) = Env::seeded(1);
    let intake = Intake::new(Some(LARGE * 2));
    let mut slow = connect_in(&env, &clock, &intake, 100 * 1024);
    slow.peer.write_all(&(15 * 1024_i32).to_be_bytes()).await.expect("connected");
    slow.peer.write_all(&[b's'; 9 * 1024]).await.expect("connected");
    settle().await;
    slow.pass(SHORTAGE_PATIENCE * 2).await;
    assert!(slow.is_open(), "nobody needs its room");
    let mut other = connect_in(&env, &clock, &intake, 100 * 1024);
    other.send(&[&large(b'o', 15 * 1024)]).await;
    assert_eq!(other.started().len(), 0);
    slow.pass(SHORTAGE_PATIENCE).await;
    assert_eq!(slow.closed.await, Ok(Close::Slow));
    settle().await;
    assert_eq!(other.started().len(), 1);
    assert!(other.is_open());
}

/// It had the first part of its request taken in, and then used too much with the one before it.
#[tokio::test]
async fn who_is_left_alone_keeps_no_room_that_others_wait_for() {
    let (env, clock) = Env::seeded(1);
    let intake = Intake::new(Some(LARGE * 2));
    let mut muted = connect_in(&env, &clock, &intake, 100 * 1024);
    muted.send(&["x"]).await;
    muted.peer.write_all(&(15 * 1024_i32).to_be_bytes()).await.expect("connected");
    muted.peer.write_all(&[b'm'; 9 * 1024]).await.expect("connected");
    settle().await;
    muted.mute(SHORTAGE_PATIENCE * 100);
    muted.answer("x", text("one")).await;
    muted.pass(SHORTAGE_PATIENCE * 2).await;
    assert!(muted.is_open(), "nobody needs its room");
    let mut other = connect_in(&env, &clock, &intake, 100 * 1024);
    other.send(&[&large(b'o', 15 * 1024)]).await;
    assert_eq!(other.started().len(), 0);
    muted.pass(SHORTAGE_PATIENCE).await;
    assert_eq!(muted.closed.try_recv(), Ok(Close::Slow));
    settle().await;
    assert_eq!(other.started().len(), 1);
}

#[tokio::test]
async fn requests_in_flight_are_bounded_by_their_bytes() {
    let mut bench = connect(64 * 1024);
    let requests: Vec<_> = (0..4).map(|number| format!("p{number}{}", large(b'x', 598))).collect();
    let requests: Vec<&str> = requests.iter().map(String::as_str).collect();
    bench.send(&requests).await;
    assert_eq!(bench.started(), requests[..2], "one more than fits, so that one always may");
    bench.answer(requests[0], text("1")).await;
    assert_eq!(bench.started(), requests[1..3]);
}

#[tokio::test]
async fn who_stops_reading_is_left_when_memory_is_short() {
    let mut bench = connect(16);
    bench.send(&["x"]).await;
    bench.answer("x", text("an answer that does not fit into the socket")).await;
    bench.pass(SHORTAGE_PATIENCE).await;
    assert!(bench.is_open(), "there is memory");
    bench.short.store(true, Ordering::Relaxed);
    bench.pass(SHORTAGE_PATIENCE).await;
    assert_eq!(bench.closed.await, Ok(Close::Slow));
}

#[tokio::test]
async fn a_last_answer_is_written_before_the_end() {
    let mut bench = connect(64);
    bench.send(&["p1", "p2", "p3"]).await;
    bench.answer("p3", text("three")).await;
    let mut last = text("two").expect("an answer").expect("an answer");
    last.ends = Some(Close::Refused("why".to_owned()));
    bench.answer("p2", Ok(Some(last))).await;
    bench.answer("p1", text("one")).await;
    assert_eq!(bench.receive(6).await, "onetwo");
    assert_eq!(bench.closed.await, Ok(Close::Refused("why".to_owned())));
}

#[tokio::test]
async fn what_a_client_may_send_grows_with_its_login() {
    let mut bench = connect(64);
    bench.request_bytes_max.store(3, Ordering::Relaxed);
    bench.send(&["x12"]).await;
    assert_eq!(bench.started(), ["x12"]);
    bench.request_bytes_max.store(u64::MAX, Ordering::Relaxed);
    bench.answer("x12", text("one")).await;
    bench.send(&["x1234"]).await;
    assert_eq!(bench.started(), ["x1234"]);
    bench.request_bytes_max.store(3, Ordering::Relaxed);
    bench.answer("x1234", text("two")).await;
    bench.send(&["x1234"]).await;
    assert!(matches!(bench.closed.await, Ok(Close::Refused(_))));
}

#[tokio::test]
async fn who_does_not_log_in_in_time_is_left_whatever_it_does() {
    for begins in [&b""[..], b"\0\0", b"\0\0\0\x02x"] {
        let mut bench = connect(64);
        let limit = bench.clock.monotonic().plus(IDLE_MAX / 2);
        bench.login_until.store(limit.0, Ordering::Relaxed);
        bench.peer.write_all(begins).await.expect("connected");
        settle().await;
        bench.pass(IDLE_MAX / 2 - Duration::from_nanos(1)).await;
        assert!(bench.is_open());
        bench.pass(Duration::from_nanos(1)).await;
        assert!(matches!(bench.closed.await, Ok(Close::Refused(_))), "{begins:?}");
    }
    let mut bench = connect(64);
    let limit = bench.clock.monotonic().plus(IDLE_MAX / 2);
    bench.login_until.store(limit.0, Ordering::Relaxed);
    bench.send(&["x"]).await;
    bench.login_until.store(u64::MAX, Ordering::Relaxed);
    bench.answer("x", text("in")).await;
    bench.pass(IDLE_MAX / 2).await;
    assert!(bench.is_open(), "it has logged in");
}

/// One that went on asking what it may ask before it has logged in was never left.
#[tokio::test]
async fn who_talks_on_without_logging_in_is_left_too() {
    let mut bench = connect(64);
    let limit = bench.clock.monotonic().plus(IDLE_MAX / 2);
    bench.login_until.store(limit.0, Ordering::Relaxed);
    bench.send(&["x1", "x2", "x3"]).await;
    bench.answer("x1", text("one")).await;
    // The next one is there already: nothing is waited for.
    bench.clock.advance(IDLE_MAX / 2);
    bench.answer("x2", text("two")).await;
    assert!(matches!(bench.closed.try_recv(), Ok(Close::Refused(_))));
    assert_eq!(bench.started(), [""; 0], "nothing more is begun");
}

/// Nor was one whose answers were not ready, or that did not take them.
#[tokio::test]
async fn who_waits_for_an_answer_without_logging_in_is_left_too() {
    let mut waits = connect(64);
    let limit = waits.clock.monotonic().plus(IDLE_MAX / 2);
    waits.login_until.store(limit.0, Ordering::Relaxed);
    waits.send(&["x1", "x2"]).await;
    waits.pass(IDLE_MAX / 2).await;
    assert!(matches!(waits.closed.try_recv(), Ok(Close::Refused(_))));
    let mut takes_nothing = connect(4);
    takes_nothing.login_until.store(limit.0, Ordering::Relaxed);
    takes_nothing.peer.write_all(b"\0\0\0\x01x").await.expect("connected");
    settle().await;
    takes_nothing.answer("x", text("more than fits")).await;
    takes_nothing.pass(IDLE_MAX / 2 - Duration::from_nanos(1)).await;
    assert!(takes_nothing.is_open());
    takes_nothing.pass(Duration::from_nanos(1)).await;
    assert!(matches!(takes_nothing.closed.try_recv(), Ok(Close::Refused(_))));
}

#[tokio::test]
async fn a_connection_is_small() {
    let (env, clock) = Env::seeded(1);
    let (ours, peer) = tokio::io::duplex(64 * 1024);
    let bounds = Bounds {
        request_bytes_max: 1 << 20,
        in_flight_bytes_max: 1_000,
        idle_max: IDLE_MAX,
        intake: Intake::new(None),
    };
    let service = ByHand {
        log: Log::default(),
        short: Arc::default(),
        muted_until: Arc::default(),
        request_bytes_max: Arc::default(),
        login_until: Arc::default(),
    };
    let serving = serve(ours, service, env, bounds, std::future::pending());
    assert!(size_of_val(&serving) <= 2_048, "{} bytes", size_of_val(&serving));
    drop((serving, peer, clock));
}

/// Pitfall 10.
#[tokio::test]
async fn who_has_used_too_much_is_answered_and_then_left_alone() {
    let mut bench = connect(1_024);
    bench.send(&["p1"]).await;
    bench.mute(IDLE_MAX * 2);
    bench.send(&["p2", "x3"]).await;
    assert_eq!(bench.started(), ["p1"], "nothing is begun");
    bench.answer("p1", text("one")).await;
    assert_eq!(bench.receive(3).await, "one", "what was asked before is answered");
    bench.pass(IDLE_MAX * 2 - Duration::from_nanos(1)).await;
    assert!(bench.started().is_empty());
    assert!(bench.is_open(), "that nothing came is not the client's doing");
    bench.pass(Duration::from_nanos(1)).await;
    assert_eq!(bench.started(), ["p2"]);
    bench.answer("p2", text("two")).await;
    bench.pass(IDLE_MAX / 2).await;
    assert_eq!(bench.started(), ["x3"]);
    assert!(bench.is_open());
    bench.answer("x3", text("three")).await;
    assert_eq!(bench.receive(8).await, "twothree");
    bench.pass(IDLE_MAX).await;
    assert!(!bench.is_open(), "idle as anybody");
}
