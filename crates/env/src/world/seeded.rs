//! A world for tests: time moves by hand, and the same seed gives the same randomness.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use millstream_types::{Monotonic, Timestamp};
use tokio::sync::oneshot;

use super::steady::Steady;
use super::{Clock, Env, Random, Spawn};
use crate::util::{Dice, lock};

/// What a [`HandClock`] shows first: 2026-01-01T00:00:00Z.
const WALL_START: Timestamp = Timestamp(1_767_225_600_000);

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct HandClock {
    state: Mutex<Hands>,
}

#[derive(Debug)]
struct Hands {
    monotonic: Monotonic,
    wall: Timestamp,
    steady: Steady,
    sleepers: BTreeMap<(Monotonic, u64), oneshot::Sender<()>>,
    next_sleeper: u64,
}

#[derive(Debug)]
struct SeededRandom {
    dice: Mutex<Dice>,
}

/// Tasks of the tokio runtime that the spawning code runs in.
#[derive(Debug)]
struct HereTasks;

impl Env {
    /// A world that depends on `seed` only, and the clock that moves its time. Its tasks run on
    /// the tokio runtime from which they are spawned: take one with a single thread.
    #[must_use]
    pub fn seeded(seed: u64) -> (Self, Arc<HandClock>) {
        let clock = Arc::new(HandClock {
            state: Mutex::new(Hands {
                monotonic: Monotonic(0),
                wall: WALL_START,
                steady: Steady::new(WALL_START, Monotonic(0)),
                sleepers: BTreeMap::new(),
                next_sleeper: 0,
            }),
        });
        let random = Arc::new(SeededRandom { dice: Mutex::new(Dice::new(seed)) });
        let env =
            Self { clock: Arc::<HandClock>::clone(&clock), random, tasks: Arc::new(HereTasks) };
        (env, clock)
    }
}

impl HandClock {
    /// Moves both clocks on, and wakes who has slept long enough.
    pub fn advance(&self, by: Duration) {
        let mut hands = lock(&self.state);
        hands.monotonic = hands.monotonic.plus(by);
        hands.wall = hands.wall.plus(by);
        let now = hands.monotonic;
        let later = hands.sleepers.split_off(&(now, u64::MAX));
        let woken = std::mem::replace(&mut hands.sleepers, later);
        drop(hands);
        for sleeper in woken.into_values() {
            // A sleeper that was dropped needs no waking.
            let _ = sleeper.send(());
        }
    }

    /// Moves on to the next moment that somebody waits for. Whether there was one.
    pub fn advance_to_next(&self) -> bool {
        let hands = lock(&self.state);
        let next = hands.sleepers.keys().next().map(|&(deadline, _)| deadline);
        let now = hands.monotonic;
        drop(hands);
        if let Some(next) = next {
            self.advance(next.since(now));
        }
        next.is_some()
    }

    /// Sets the time of day, as an operator would: the monotonic clock does not notice.
    pub fn set_wall(&self, now: Timestamp) {
        lock(&self.state).wall = now;
    }
}

impl Clock for HandClock {
    fn monotonic(&self) -> Monotonic {
        lock(&self.state).monotonic
    }

    fn wall(&self) -> Timestamp {
        lock(&self.state).wall
    }

    fn expiry(&self) -> Timestamp {
        let hands = &mut *lock(&self.state);
        hands.steady.now(hands.wall, hands.monotonic)
    }

    fn sleep_until(&self, deadline: Monotonic) -> BoxFuture<'static, ()> {
        let mut hands = lock(&self.state);
        if deadline <= hands.monotonic {
            return Box::pin(std::future::ready(()));
        }
        let (wake, woken) = oneshot::channel();
        let number = hands.next_sleeper;
        hands.next_sleeper += 1;
        // Who gave up sleeping would stay here until their time; there are few in a test.
        hands.sleepers.retain(|_, sleeper| !sleeper.is_closed());
        hands.sleepers.insert((deadline, number), wake);
        Box::pin(async move {
            if woken.await.is_err() {
                // The clock is gone, and with it time.
                std::future::pending::<()>().await;
            }
        })
    }
}

impl Random for SeededRandom {
    fn fill(&self, bytes: &mut [u8]) {
        let mut dice = lock(&self.dice);
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&dice.next().to_be_bytes()[..chunk.len()]);
        }
    }
}

impl Spawn for HereTasks {
    fn spawn(&self, _name: &'static str, task: BoxFuture<'static, ()>) {
        #[expect(clippy::disallowed_methods, reason = "this is `Env::spawn`")]
        drop(tokio::spawn(task));
    }

    fn compute(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        Box::pin(async {
            // So that others get their turn here, as they do in the real world.
            tokio::task::yield_now().await;
            work();
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_ids() {
        let draw = |seed| Env::seeded(seed).0.uuid();
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[tokio::test]
    async fn sleepers_wake_in_order_when_time_is_moved() {
        let (env, clock) = Env::seeded(1);
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        for seconds in [3, 1, 2] {
            let sleep = env.sleep(Duration::from_secs(seconds));
            let tell = tell.clone();
            env.spawn("sleeper", async move {
                sleep.await;
                let _ = tell.send(seconds);
            });
        }
        tokio::task::yield_now().await;
        told.try_recv().unwrap_err();
        for expected in [1, 2, 3] {
            assert!(clock.advance_to_next());
            assert_eq!(told.recv().await, Some(expected));
            assert_eq!(clock.monotonic(), Monotonic(expected * 1_000_000_000));
        }
        assert_eq!(clock.wall(), WALL_START.plus(Duration::from_secs(3)));
        assert!(!clock.advance_to_next());
        env.clock.sleep_until(Monotonic(5)).await;
    }
}
