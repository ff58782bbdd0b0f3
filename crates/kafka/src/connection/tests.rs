//! A connection over a duplex stream, with a service whose answers the test gives by hand.

use std::sync::{Arc, Mutex};

use bytes::BufMut as _;
use millstream_env::HandClock;
use tokio::io::DuplexStream;
use tokio::sync::oneshot;

use super::*;

/// Requests that have been started, each with the hand that answers it.
type Log = Arc<Mutex<Vec<(Bytes, oneshot::Sender<Answer>)>>>;

/// Frames that begin with `p` may be pipelined.
struct ByHand(Log);

impl Service for ByHand {
    fn pipelines(&self, frame: &[u8]) -> bool {
        frame.starts_with(b"p")
    }

    fn start(&mut self, frame: Frame) -> Started {
        let (sender, receiver) = oneshot::channel();
        self.0.lock().expect("not poisoned").push((frame.bytes, sender));
        Box::pin(async { receiver.await.unwrap_or(Err(Close::Stopping)) })
    }
}

struct Bench {
    peer: DuplexStream,
    log: Log,
    clock: Arc<HandClock>,
    closed: oneshot::Receiver<Close>,
}

const IDLE_MAX: Duration = Duration::from_secs(60);

fn connect(buffer: usize) -> Bench {
    let (ours, peer) = tokio::io::duplex(buffer);
    let log = Log::default();
    let (env, clock) = Env::seeded(1);
    let (sender, closed) = oneshot::channel();
    let bounds = Bounds { request_bytes_max: 1_000, idle_max: IDLE_MAX };
    let serving =
        serve(ours, ByHand(Arc::clone(&log)), env.clone(), bounds, std::future::pending());
    env.spawn("connection", async move {
        let _ = sender.send(serving.await);
    });
    Bench { peer, log, clock, closed }
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
