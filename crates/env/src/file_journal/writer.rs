//! The back of the journal: writes what waits, flushes once, publishes.
//!
//! [`Writer::step`] does one thing and returns. On a real disk a thread calls it; on a disk in
//! memory a task does, so that everything runs in one thread of a simulation.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use millstream_record::journal::{BLOCK, align_up};
use millstream_types::{Lsn, Monotonic};
use tokio::sync::watch;

use super::Durability;
use super::appender::{Shared, Wake};
use super::files::{View, ZERO_BYTES, storage};
use super::group::Group;
use crate::disk::{AlignedBuffer, DiskFile};
use crate::journal::{JournalError, JournalState, JournalStatus};
use crate::util::lock;

/// How far ahead of the writing a new file is filled with zeros when there is nothing else to do,
/// in bytes.
const ZERO_AHEAD: u64 = 8 * 1024 * 1024;

/// For each byte that is appended so many are filled with zeros: half a file ahead it begins, and a quarter
/// of a file ahead it must be done. Faster than that it would only be in the way of what is written.
const ZEROS_PER_APPENDED: u64 = 5;

/// And so many when nothing is appended, in bytes per second.
const ZERO_RATE: u64 = 32 * 1024 * 1024;

/// How long the one who fills files waits before it looks again.
const ZERO_PAUSE: Duration = Duration::from_millis(2);

/// How long a disk that is full is left alone. Each try takes its last blocks for a moment, which others
/// need to free some.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// After how long without work the memory of groups is given back.
const IDLE_AFTER: Duration = Duration::from_secs(1);

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Something; there may be more to do.
    Worked,
    /// Nothing: it is woken when there is something to do.
    Idle,
    /// The session is over.
    Over,
}

struct Writer {
    shared: Arc<Shared>,
    view: View,
    /// Groups that are written and not flushed yet.
    written: Option<Written>,
    /// What is durable.
    durable: Lsn,
    /// Where the first file, if it is new, has been written or zeroed up to.
    zeroed: Option<u64>,
    /// The thread that made the newest file.
    preparer: Option<JoinHandle<()>>,
}

struct Written {
    groups: VecDeque<Group>,
    /// Where the next group starts.
    end: u64,
    began: Monotonic,
}

/// Ends the session when its writer dies without a word, by a mistake of ours: whoever waits would wait
/// for ever.
struct LastWord {
    shared: Weak<Shared>,
    status: Arc<watch::Sender<JournalStatus>>,
}

impl Drop for LastWord {
    fn drop(&mut self) {
        let died = JournalState::Failed("its writer has died".into());
        if self.status.borrow().state != JournalState::Open {
            return;
        }
        if let Some(shared) = self.shared.upgrade() {
            shared.stop(died.clone());
        }
        self.status.send_modify(|status| status.state = died);
    }
}

/// The same for who prepares a file: the writer would wait for it.
struct Preparing(Arc<Shared>);

impl Drop for Preparing {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop(JournalState::Failed("a file could not be prepared".into()));
        }
    }
}

/// Starts the writer of a new session, of whose first file `zeroed` bytes are written already.
pub(super) fn start(shared: &Arc<Shared>, zeroed: u64) -> Result<(), JournalError> {
    let view = shared.files.view(shared.stream.session)?;
    let is_new = zeroed < view.area && !shared.files.in_memory();
    let writer = Writer {
        shared: Arc::clone(shared),
        view,
        written: None,
        durable: Lsn(0),
        zeroed: is_new.then_some(zeroed),
        preparer: None,
    };
    let last_word = LastWord { shared: Arc::downgrade(shared), status: Arc::clone(&shared.status) };
    match shared.wake {
        Wake::Thread(_) => {
            let builder = std::thread::Builder::new().name("journal".to_owned());
            let run = move || {
                let _last_word = last_word;
                writer.run();
            };
            builder.spawn(run).map_err(storage)?;
        }
        Wake::Task(_) => shared.env.spawn("journal", async move {
            let _last_word = last_word;
            let mut writer = writer;
            loop {
                if let Some(pause) = writer.shared.files.pause() {
                    pause.await;
                }
                match writer.step() {
                    Step::Worked => tokio::task::yield_now().await,
                    Step::Idle => {
                        lock(&writer.shared.open).pool.shrink();
                        if let Wake::Task(notify) = &writer.shared.wake {
                            notify.notified().await;
                        }
                    }
                    Step::Over => return writer.finish(),
                }
            }
        }),
    }
    Ok(())
}

impl Writer {
    fn run(mut self) {
        if let Wake::Thread(thread) = &self.shared.wake {
            // Set once, here.
            let _ = thread.set(std::thread::current());
        }
        loop {
            match self.step() {
                Step::Worked => {}
                Step::Idle if self.zero_ahead() => {}
                Step::Idle => self.sleep(),
                Step::Over => return self.finish(),
            }
        }
    }

    fn sleep(&self) {
        let keeps_memory = lock(&self.shared.open).pool.has_surplus();
        if keeps_memory {
            std::thread::park_timeout(IDLE_AFTER);
            let mut open = lock(&self.shared.open);
            if open.sleeping {
                open.pool.shrink();
            }
        } else {
            std::thread::park();
        }
    }

    fn step(&mut self) -> Step {
        let done = match self.written.take() {
            Some(written) => self.flush(written).map(|()| Step::Worked),
            None => self.write(),
        };
        done.unwrap_or_else(|error| {
            self.shared.stop(JournalState::Failed(error.to_string().into()));
            Step::Over
        })
    }

    /// Takes what waits and writes it.
    fn write(&mut self) -> io::Result<Step> {
        let mut open = lock(&self.shared.open);
        if matches!(open.state, JournalState::Failed(_) | JournalState::Fenced) {
            return Ok(Step::Over);
        }
        if open.wants_file() {
            open.preparing = true;
            drop(open);
            self.prepare_file()?;
            open = lock(&self.shared.open);
        }
        if open.queue.is_empty() {
            if open.state == JournalState::Closed {
                return Ok(Step::Over);
            }
            open.sleeping = true;
            return Ok(Step::Idle);
        }
        let mut groups = std::mem::take(&mut open.queue);
        let end = open.next;
        drop(open);
        let began = self.shared.env.clock.monotonic();
        let mut bytes = 0;
        for group in &mut groups {
            bytes += self.write_group(group)?;
        }
        self.shared.stats.wrote(bytes);
        self.written = Some(Written { groups, end, began });
        Ok(Step::Worked)
    }

    fn write_group(&mut self, group: &mut Group) -> io::Result<u64> {
        // What was not flushed must not be missed after a power cut.
        let flushed = match self.shared.settings.durability {
            Durability::Flushed => self.durable,
            Durability::Os => Lsn(0),
        };
        let size = group.finish(self.shared.stream, flushed) as u64;
        let area = self.view.area;
        let mut done = 0;
        while done < size {
            let at = group.position() + done;
            let count = (area - at % area).min(size - done);
            let slices = group.slices(done as usize..(done + count) as usize);
            self.file(at)?.write_at(&slices, BLOCK + at % area)?;
            done += count;
        }
        if let Some(zeroed) = &mut self.zeroed {
            *zeroed = (*zeroed).max(group.position() + size);
        }
        Ok(size)
    }

    fn flush(&mut self, written: Written) -> io::Result<()> {
        if self.shared.settings.durability == Durability::Flushed {
            let area = self.view.area;
            let first = written.groups.front().map_or(written.end, Group::position) / area;
            // A position at the very end of a file belongs to the next one.
            for sequence in first..=(written.end - 1) / area {
                self.file(sequence * area)?.sync()?;
            }
            let time = self.shared.env.clock.monotonic().since(written.began);
            self.shared.stats.flushed(time);
        }
        let mut open = lock(&self.shared.open);
        // Who has sealed this session counts on the position that was published before.
        let goes_on = !matches!(open.state, JournalState::Failed(_) | JournalState::Fenced);
        for group in written.groups {
            open.pending -= group.frames_size();
            open.pool.give_back(group);
        }
        let refused = std::mem::take(&mut open.refused);
        drop(open);
        if goes_on {
            self.durable = Lsn(written.end);
            let listener = self.shared.listener.get();
            self.shared.status.send_if_modified(|status| {
                status.durable = Lsn(written.end);
                status.room += 1;
                refused || listener.is_none()
            });
            // Last: who hears of it may read it back at once, which goes by the status.
            if let Some(listener) = listener {
                listener(self.durable);
            }
        }
        Ok(())
    }

    /// The file that holds the position `at`.
    fn file(&mut self, at: u64) -> io::Result<Arc<dyn DiskFile>> {
        let sequence = at / self.view.area;
        if !self.view.files.contains_key(&sequence) {
            let view = self.shared.files.view(self.shared.stream.session);
            self.view = view.map_err(|error| io::Error::other(error.to_string()))?;
        }
        self.view.files.get(&sequence).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Makes the next file ready, beside the writer where that would hold up others.
    fn prepare_file(&mut self) -> io::Result<()> {
        if !self.shared.files.may_grow() {
            let mut open = lock(&self.shared.open);
            (open.preparing, open.starved) = (false, true);
            return Ok(());
        }
        if self.shared.files.in_memory() {
            return prepare_now(&self.shared);
        }
        let shared = Arc::clone(&self.shared);
        let builder = std::thread::Builder::new().name("journal-files".to_owned());
        self.preparer = Some(builder.spawn(move || {
            let preparing = Preparing(shared);
            if let Err(error) = prepare_now(&preparing.0) {
                preparing.0.stop(JournalState::Failed(error.to_string().into()));
            }
        })?);
        Ok(())
    }

    /// Zeroes a piece of the first file, if it is new and soon to be written: flushing what was
    /// never written costs the file system more. Whether there was something to do.
    fn zero_ahead(&mut self) -> bool {
        let Some(zeroed) = self.zeroed else { return false };
        let area = self.view.area;
        if zeroed >= area {
            self.zeroed = None;
            return false;
        }
        if zeroed >= align_up(self.durable.0).saturating_add(ZERO_AHEAD) {
            return false;
        }
        let zeros = AlignedBuffer::new((area - zeroed).min(ZERO_BYTES as u64) as usize);
        let piece = [io::IoSlice::new(zeros.bytes())];
        let wrote = self.file(0).and_then(|file| file.write_at(&piece, BLOCK + zeroed));
        // It is only about speed, and a disk that fails will say so again.
        self.zeroed = wrote.is_ok().then_some(zeroed + zeros.size() as u64);
        self.shared.stats.wrote_zeros(zeros.size() as u64);
        true
    }

    /// The last thing that a writer does. Lets go of everything before it says so.
    fn finish(mut self) {
        let session = self.shared.stream.session;
        if let Some(preparer) = self.preparer.take() {
            // It stops as soon as it can, and a panic of its own has been told already.
            let _ = preparer.join();
        }
        let state = lock(&self.shared.open).state.clone();
        let failed = matches!(state, JournalState::Failed(_));
        self.shared.files.ended(session, self.durable, failed);
        if state == JournalState::Closed
            && let Err(error) = self.shared.files.seal(session, self.durable)
        {
            // The next start will look for the end itself.
            tracing::warn!(%session, %error, "the journal was closed, but not sealed");
        }
        if let JournalState::Failed(why) = &state {
            tracing::error!(%session, %why, "the journal failed, and its session is over");
        }
        lock(&self.shared.open).let_go();
        let status = Arc::clone(&self.shared.status);
        drop(self);
        status.send_modify(|status| status.state = state);
    }
}

/// Filling a file with zeros, beside the writer and others who wait for the same disk.
struct Zeroing<'a> {
    shared: &'a Shared,
    begun: Monotonic,
    /// Where the next group was to start then.
    from: u64,
    pieces: u64,
}

impl<'a> Zeroing<'a> {
    fn new(shared: &'a Shared) -> Self {
        let from = lock(&shared.open).next;
        Self { shared, begun: shared.env.clock.monotonic(), from, pieces: 0 }
    }

    /// Waits until it is time for the next piece. `false`: the file is needed as it is.
    fn goes_on(&mut self) -> bool {
        loop {
            let open = lock(&self.shared.open);
            if open.hurries() {
                return false;
            }
            let appended = open.next - self.from;
            drop(open);
            let rested = self.shared.env.clock.monotonic().since(self.begun).as_secs_f64();
            let allowed = (rested * ZERO_RATE as f64) as u64 + appended * ZEROS_PER_APPENDED;
            if self.pieces * ZERO_BYTES as u64 <= allowed {
                self.pieces += 1;
                return true;
            }
            std::thread::park_timeout(ZERO_PAUSE);
        }
    }
}

fn prepare_now(shared: &Shared) -> io::Result<()> {
    let area = shared.files.area();
    let (sequence, urgent) = {
        let open = lock(&shared.open);
        (open.ready / area, open.urgent)
    };
    let mut zeroing = Zeroing::new(shared);
    let mut goes_on = || zeroing.goes_on();
    let made = shared.files.prepare(shared.stream, sequence, urgent, &mut goes_on);
    let mut open = lock(&shared.open);
    open.preparing = false;
    if urgent {
        open.urgent = false;
    }
    let disk_full = match made {
        Ok(_) => {
            open.ready += area;
            false
        }
        Err(error) if error.kind() == io::ErrorKind::StorageFull => {
            open.starved = true;
            open.retry_at = shared.env.clock.monotonic().plus(RETRY_AFTER);
            true
        }
        Err(error) => return Err(error),
    };
    // One may not be enough.
    let wakes = open.wants_file() && std::mem::take(&mut open.sleeping);
    drop(open);
    if wakes {
        shared.wake.wake();
    }
    shared.status.send_modify(|status| {
        status.room += 1;
        status.disk_full = disk_full;
    });
    Ok(())
}
