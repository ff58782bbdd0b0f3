//! The journal against power cuts: whatever is appended, trimmed and read, and whenever the power
//! goes, what comes back is a prefix of what was appended and holds everything that was published
//! as durable.
//!
//! `MILLSTREAM_SEEDS` says how many seeds are tried (default 300), `MILLSTREAM_SEED` which one.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use millstream_env::disk::{Fault, FaultAt, Operation, SimDisk};
use millstream_env::{
    DataDir, Env, FileJournalStore, FrameAt, Journal, JournalError, JournalSettings, JournalState,
    JournalStore, Recovered,
};
use millstream_record::frame::{Frame, FrameBody};
use millstream_record::{StoredBatch, crc32c};
use millstream_types::{Lsn, PartitionId, SessionId, Uuid};

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    /// The disk keeps its word.
    Honest,
    /// Syncs do nothing: the test must notice.
    NoSync,
    /// Bits flip while the power is off: what comes back is still what was appended, or an error.
    Flips,
}

/// What a session must hold.
struct Expected {
    id: SessionId,
    frames: Vec<(FrameAt, Frame)>,
    durable: Lsn,
    trimmed: Lsn,
    sealed: Option<Lsn>,
}

struct Run {
    mode: Mode,
    dice: u64,
    machine: Arc<SimDisk>,
    sessions: Vec<Expected>,
    number: u64,
    settings: JournalSettings,
    lives: usize,
    /// Faults of the first lives, the last one first; later lives draw theirs.
    planned: Vec<Option<FaultAt>>,
    /// Whether this life meets an operation that fails: then errors are fine.
    is_faulty: bool,
    trace: String,
}

/// Why a life ended.
enum End {
    /// The power went, as planned, or the program was done.
    Over,
    /// The journal refused to go on.
    Refused(String),
    /// The journal broke its promise.
    Violation(String),
}

impl Run {
    fn new(seed: u64, mode: Mode) -> Self {
        let machine = SimDisk::new(seed);
        machine.ignore_sync(mode == Mode::NoSync);
        let mut run = Self {
            mode,
            dice: seed ^ 0xda7a,
            machine,
            sessions: Vec::new(),
            number: 0,
            settings: JournalSettings::default(),
            lives: 5,
            planned: Vec::new(),
            is_faulty: false,
            trace: String::new(),
        };
        run.settings.file_bytes = 4096 * (6 + run.below(12));
        run.settings.files_max = 6 + run.below(6) as usize;
        run.settings.reserve_bytes = 4096;
        run
    }

    /// splitmix64
    fn below(&mut self, end: u64) -> u64 {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.dice;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    fn frame(&mut self) -> Frame {
        self.number += 1;
        let size = match self.below(12) {
            0 => 60_000 + self.below(60_000),
            1 | 2 => self.below(20_000),
            3..6 => self.below(5_000),
            _ => self.below(300),
        };
        let content = |size: u64| -> Vec<u8> {
            (0..size).map(|at| (self.number.wrapping_mul(57) ^ at) as u8).collect()
        };
        let body = match self.number % 3 {
            0 => FrameBody::Layout(Bytes::from(content(size))),
            _ => FrameBody::Batch(batch(&content(size))),
        };
        let partition = PartitionId { topic: Uuid([3; 16]), index: self.number as i32 };
        Frame { partition, body, urgent: self.number.is_multiple_of(5) }
    }

    /// An error is fine when the power went or something failed.
    fn failed(&self, what: &str, error: &dyn std::fmt::Display) -> End {
        match self.is_faulty && self.machine.faults_left() == 0 {
            true => End::Over,
            false => End::Refused(format!("{what}: {error}")),
        }
    }

    fn draw_fault(&mut self) -> Option<FaultAt> {
        let (on, fault) = match self.below(12) {
            0..2 => return None,
            2 => (Operation::Name, Fault::Kill),
            3 => (Operation::Sync, Fault::Fail),
            4 => (Operation::Write, Fault::Short),
            5 => (Operation::Any, Fault::Full),
            6 => (Operation::Any, Fault::Kill),
            _ => (Operation::Any, Fault::PowerCut),
        };
        let after = self.below(if on == Operation::Any { 150 } else { 40 });
        Some(FaultAt { on, after, fault })
    }

    async fn life(&mut self) -> Result<(), End> {
        let fault = self.planned.pop().unwrap_or_else(|| self.draw_fault());
        self.is_faulty = fault.is_some();
        if let Some(fault) = fault {
            self.machine.plan(fault);
        }
        let (env, _) = Env::seeded(self.dice);
        let dir = DataDir::open_on(self.machine.mount(), env, "sim")
            .map_err(|error| self.failed("open", &error))?;
        let store = dir
            .journals(self.settings.clone())
            .await
            .map_err(|error| self.failed("open", &error))?;
        for session in 0..self.sessions.len() {
            self.recover(&store, session).await?;
        }
        let id = SessionId(self.sessions.last().map_or(0, |last| last.id.0) + 1);
        let frames = Vec::new();
        let (durable, trimmed) = (Lsn(0), Lsn(0));
        self.sessions.push(Expected { id, frames, durable, trimmed, sealed: None });
        let journal = store.create(id).await.map_err(|error| self.failed("create", &error))?;
        for _ in 0..self.below(80) {
            self.act(&store, &*journal).await?;
        }
        if self.below(4) == 0 {
            journal.close().await;
            self.note(&*journal);
        }
        Ok(())
    }

    /// In some cases takes a session over from a frame that is known to be durable: from where, the end,
    /// and the frames.
    async fn take_over(
        &mut self,
        store: &FileJournalStore,
        number: usize,
    ) -> Result<Option<(Lsn, Lsn, Vec<(FrameAt, Frame)>)>, End> {
        let Expected { id, ref frames, durable, trimmed, .. } = self.sessions[number];
        let known = frames.iter().map(|(at, _)| at);
        let known = known.filter(|at| at.lsn >= trimmed && at.end() <= durable);
        let mut places: Vec<_> = known.map(|at| at.lsn).collect();
        places.extend((trimmed == Lsn(0)).then_some(Lsn(0)));
        if self.mode != Mode::Honest || places.is_empty() || self.below(2) == 0 {
            return Ok(None);
        }
        let from = places[self.below(places.len() as u64) as usize];
        let mut found = store.recover(id, from);
        let mut taken = Vec::new();
        while let Some(next) = found.next().await {
            match next.map_err(|error| self.failed("recover", &error))? {
                Recovered::Frames(frames) => taken.extend(frames),
                Recovered::End(end) => return Ok(Some((from, end, taken))),
            }
        }
        Err(End::Violation(format!("session {id}: taking over never ends")))
    }

    /// Seals and replays a session, and compares with what must be there.
    async fn recover(&mut self, store: &FileJournalStore, number: usize) -> Result<(), End> {
        let (id, trimmed) = (self.sessions[number].id, self.sessions[number].trimmed);
        let taken = self.take_over(store, number).await?;
        let end = store.seal(id).await.map_err(|error| self.failed("seal", &error))?;
        let replayed: Result<Vec<_>, _> = store.replay(id, trimmed).try_collect().await;
        let replayed = replayed.map_err(|error| self.failed("replay", &error))?;
        if let Some((from, taken_end, taken)) = taken {
            let same = replayed.iter().filter(|(at, _)| at.lsn >= from).eq(&taken);
            if taken_end != end || !same {
                return Err(End::Violation(format!("session {id}: taken over otherwise")));
            }
        }
        let (first, last) = (replayed.first(), replayed.last());
        let (from, to) = (first.map(|(at, _)| at.lsn), last.map(|(at, _)| at.end()));
        let _ = writeln!(self.trace, "session {id} ends at {end}: {from:?} to {to:?}");
        let expected = &mut self.sessions[number];
        let violation = |what: &str| Err(End::Violation(format!("session {id}: {what}")));
        if self.mode == Mode::Honest && expected.sealed.is_some_and(|sealed| sealed != end) {
            return violation("sealed at two positions");
        }
        let all: Vec<_> = expected.frames.iter().filter(|(at, _)| at.lsn >= trimmed).collect();
        if replayed.len() > all.len() || replayed.iter().zip(&all).any(|(a, b)| a != *b) {
            return violation("what comes back is not a prefix of what was appended");
        }
        let kept = |at: &FrameAt| at.end() <= to.unwrap_or(trimmed).max(trimmed);
        if let Some((lost, _)) =
            all.iter().find(|(at, _)| at.end() <= expected.durable && !kept(at))
            && (self.mode != Mode::Flips || expected.sealed.is_some())
        {
            return violation(&format!("{lost:?} was durable and is lost"));
        }
        if replayed.iter().any(|(at, _)| at.end() > end) {
            return violation("replayed beyond the end");
        }
        expected.frames.retain(|(at, _)| at.end() <= end);
        expected.sealed = Some(end);
        if let Some((at, frame)) = replayed.first() {
            let read = store.read_at(*at).await.map_err(|error| self.failed("read", &error))?;
            if read != *frame {
                return Err(End::Violation(format!("read_at {at:?} gives another frame")));
            }
        }
        Ok(())
    }

    async fn act(&mut self, store: &FileJournalStore, journal: &dyn Journal) -> Result<(), End> {
        match self.below(20) {
            0..10 => self.append(journal)?,
            10..15 => {
                for _ in 0..self.below(4) {
                    tokio::task::yield_now().await;
                }
            }
            15..17 => {
                let mut status = journal.status();
                let end = journal.end();
                let done = |durable: Lsn, state: &JournalState| {
                    durable >= end || *state != JournalState::Open
                };
                status.wait_for(|status| done(status.durable, &status.state)).await.unwrap();
            }
            17 => {
                let durable = self.sessions.last().unwrap().durable;
                let frames = &self.sessions.last().unwrap().frames;
                let Some((at, frame)) = frames.iter().rfind(|(at, _)| at.end() <= durable) else {
                    return Ok(());
                };
                if at.lsn >= self.sessions.last().unwrap().trimmed {
                    let read = store.read_at(*at).await;
                    if read.map_err(|error| self.failed("read", &error))? != *frame {
                        return Err(End::Violation(format!("read_at {at:?} gives another frame")));
                    }
                }
            }
            _ => self.trim(store).await?,
        }
        self.note(journal);
        Ok(())
    }

    fn append(&mut self, journal: &dyn Journal) -> Result<(), End> {
        let frame = self.frame();
        match journal.append(frame.clone()) {
            Ok(at) => {
                let expected = self.sessions.last_mut().unwrap();
                if expected.frames.last().is_some_and(|(last, _)| last.end() > at.lsn) {
                    return Err(End::Violation(format!("{at:?} overlaps the frame before")));
                }
                expected.frames.push((at, frame));
                Ok(())
            }
            Err(JournalError::Full) => Ok(()),
            Err(error) => Err(self.failed("append", &error)),
        }
    }

    async fn trim(&mut self, store: &FileJournalStore) -> Result<(), End> {
        let number = self.below(self.sessions.len() as u64) as usize;
        let expected = &self.sessions[number];
        let durable = expected.sealed.unwrap_or(expected.durable);
        let count = expected.frames.iter().filter(|(at, _)| at.end() <= durable).count();
        if count == 0 {
            return Ok(());
        }
        let chosen = self.below(count as u64) as usize;
        let expected = &mut self.sessions[number];
        let id = expected.id;
        // As the log does it: what is trimmed is never asked for again, even if the trim fails.
        expected.trimmed = expected.trimmed.max(expected.frames[chosen].0.lsn);
        let trimmed = expected.trimmed;
        store.trim(id, trimmed).await.map_err(|error| self.failed("trim", &error))
    }

    /// Notes what is published: from now on it must not be lost.
    fn note(&mut self, journal: &dyn Journal) {
        let expected = self.sessions.last_mut().unwrap();
        expected.durable = journal.status().borrow().durable;
    }

    fn flip(&mut self) {
        let files = self.machine.files();
        let files: Vec<_> = files.iter().filter(|(path, _)| path.ends_with(".log")).collect();
        if !files.is_empty() {
            let (path, size) = files[self.below(files.len() as u64) as usize];
            let (byte, bit) = (4096 + self.below(size - 4096), self.below(8) as u8);
            self.machine.flip_bit(path, byte, bit);
        }
    }

    fn run(mut self) -> (Result<(), String>, String) {
        for _ in 0..self.lives {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let ended = runtime.block_on(self.life());
            drop(runtime);
            match ended {
                Err(End::Refused(_)) if self.mode == Mode::Flips => return (Ok(()), self.trace),
                Err(End::Refused(why) | End::Violation(why)) => return (Err(why), self.trace),
                Err(End::Over) | Ok(()) => {}
            }
            match self.below(3) {
                0 => self.machine.kill(),
                _ if self.machine.is_killed() => self.machine.kill(),
                _ => self.machine.power_cut(),
            }
            if self.mode == Mode::Flips {
                self.flip();
            }
        }
        (Ok(()), self.trace)
    }
}

fn batch(content: &[u8]) -> StoredBatch {
    let covered = [[0; 40].as_slice(), content].concat();
    let rest = [[2].as_slice(), &crc32c(&covered).to_be_bytes(), &covered].concat();
    let mut assigned = [0; 16];
    assigned[8..12].copy_from_slice(&u32::try_from(4 + rest.len()).unwrap().to_be_bytes());
    StoredBatch { assigned, rest: rest.into() }
}

fn seeds() -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    match number("MILLSTREAM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("MILLSTREAM_SEEDS").unwrap_or(300),
    }
}

#[test]
fn a_power_cut_loses_nothing_that_was_durable() {
    for seed in seeds() {
        let (result, trace) = Run::new(seed, Mode::Honest).run();
        assert_eq!(result, Ok(()), "MILLSTREAM_SEED={seed}\n{trace}");
    }
}

#[test]
fn without_flushes_the_same_test_fails() {
    let found = (0..300).filter(|&seed| Run::new(seed, Mode::NoSync).run().0.is_err()).count();
    assert!(found > 100, "only {found} of 300 seeds noticed that nothing was flushed");
}

#[test]
fn flipped_bits_never_come_back_as_something_else() {
    for seed in seeds() {
        let (result, trace) = Run::new(seed, Mode::Flips).run();
        assert_eq!(result, Ok(()), "MILLSTREAM_SEED={seed}\n{trace}");
    }
}

/// A process that is killed after a change of names and before it is made durable, and a power cut
/// at any moment of the next one, which saw the change.
#[test]
fn what_a_killed_process_has_renamed_may_still_be_undone() {
    let cases = (0..12).flat_map(|killed| (0..25).map(move |cut| (killed, cut)));
    for (seed, (killed, cut)) in (0..4).flat_map(|seed| cases.clone().map(move |it| (seed, it))) {
        let mut run = Run::new(seed, Mode::Honest);
        run.planned = vec![
            Some(FaultAt { on: Operation::Any, after: cut, fault: Fault::PowerCut }),
            Some(FaultAt { on: Operation::Name, after: killed, fault: Fault::Kill }),
            None,
        ];
        run.lives = 4;
        let (result, trace) = run.run();
        assert_eq!(result, Ok(()), "seed {seed}, killed {killed}, cut {cut}\n{trace}");
    }
}

/// A write of several groups of which the first is torn, at the start of a file before which
/// everything is trimmed.
#[test]
fn what_was_never_flushed_is_no_damage() {
    for seed in seeds() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let machine = SimDisk::new(seed);
            let settings =
                JournalSettings { file_bytes: 17 * 4096, reserve_bytes: 0, ..Default::default() };
            let open = async || {
                let dir = DataDir::open_on(machine.mount(), Env::seeded(seed).0, "sim").unwrap();
                dir.journals(settings.clone()).await.unwrap()
            };
            let frame = |size| Frame {
                partition: PartitionId { topic: Uuid([3; 16]), index: 0 },
                body: FrameBody::Layout(vec![seed as u8; size].into()),
                urgent: false,
            };
            let store = open().await;
            let journal = store.create(SessionId(1)).await.unwrap();
            let mut status = journal.status();
            for _ in 0..2 {
                journal.append(frame(7 * 4096)).unwrap();
            }
            let start = Lsn(16 * 4096);
            status.wait_for(|status| status.durable == start).await.unwrap();
            store.trim(SessionId(1), start).await.unwrap();
            journal.append(frame(7 * 4096)).unwrap();
            let next = journal.append(frame(7 * 4096)).unwrap();
            tokio::task::yield_now().await;
            machine.power_cut();
            let store = open().await;
            let end = store.seal(SessionId(1)).await.unwrap();
            assert!(end >= start && end <= Lsn(next.end().0 + 4096), "MILLSTREAM_SEED={seed}");
            let frames: Vec<_> = store.replay(SessionId(1), start).try_collect().await.unwrap();
            let first = frames.first().map_or(start, |(at, _)| at.lsn);
            assert!(first.0 - start.0 < 4096, "MILLSTREAM_SEED={seed}");
        });
    }
}

#[test]
fn the_same_seed_takes_the_same_way() {
    for seed in 0..20 {
        let trace = |_| Run::new(seed, Mode::Honest).run().1;
        assert_eq!(trace(1), trace(2), "MILLSTREAM_SEED={seed}");
    }
}
