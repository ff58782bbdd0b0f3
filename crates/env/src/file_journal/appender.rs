//! The front of the journal: gives positions, keeps what waits for the disk.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::Thread;

use futures_util::future::BoxFuture;
use millstream_record::frame::{EncodedFrame, Frame, Urgency};
use millstream_record::journal::{GROUP_HEADER_SIZE, GroupKind, Stream, align_up};
use millstream_types::{Lsn, Monotonic, SessionId};
use tokio::sync::{Notify, watch};

use super::files::Files;
use super::group::{GROUP_BYTES, Group, Pool};
use super::{JournalSettings, JournalStats};
use crate::journal::{FrameAt, Journal, JournalError, JournalState, JournalStatus, Listener};
use crate::util::lock;
use crate::world::Env;

/// The handle of a session's journal. Dropping it closes the journal.
pub(super) struct FileJournal {
    shared: Arc<Shared>,
}

/// What the appenders and the writer of one session share.
pub(super) struct Shared {
    pub(super) stream: Stream,
    pub(super) files: Arc<Files>,
    pub(super) env: Env,
    pub(super) settings: JournalSettings,
    pub(super) stats: Arc<JournalStats>,
    pub(super) open: Mutex<Open>,
    pub(super) wake: Wake,
    /// Survives the writer, so that its last word is heard after it has let go of everything.
    pub(super) status: Arc<watch::Sender<JournalStatus>>,
    /// Who hears first what is durable.
    pub(super) listener: OnceLock<Listener>,
}

/// What is appended and not yet taken by the writer.
#[derive(Debug)]
pub(super) struct Open {
    /// What `append` says. The status follows when the writer has stopped.
    pub(super) state: JournalState,
    /// Full groups, and the one that takes frames.
    pub(super) queue: VecDeque<Group>,
    pub(super) pool: Pool,
    /// The data area of a file, in bytes.
    area: u64,
    /// How large a group becomes before the next one is begun, in bytes.
    group_bytes: u64,
    /// Where the next group starts.
    pub(super) next: u64,
    /// The end of the last frame.
    end: u64,
    /// Bytes of frames that are not on disk yet, also those that the writer has taken.
    pub(super) pending: usize,
    /// The end of the files that are ready to be written.
    pub(super) ready: u64,
    /// An end that a frame did not fit below.
    wanted: u64,
    /// Whether a file is being prepared.
    pub(super) preparing: bool,
    /// Whether there was no room for another file, and nothing says that there is now.
    pub(super) starved: bool,
    /// Whether something urgent waits for the next file, so that it may draw on the reserve.
    pub(super) urgent: bool,
    /// Before then a disk that was full is not asked for another file by appends.
    pub(super) retry_at: Monotonic,
    /// Whether a frame was refused for lack of room since the last flush.
    pub(super) refused: bool,
    /// Whether the writer waits to be woken.
    pub(super) sleeping: bool,
}

/// How the writer is woken.
pub(super) enum Wake {
    /// It has its own thread.
    Thread(OnceLock<Thread>),
    /// It is a task.
    Task(Notify),
}

/// Where a frame goes.
struct Place {
    /// The start of its group, if that is a new one.
    group: Option<u64>,
    /// From where the rest of a file is skipped before.
    skip: Option<u64>,
    lsn: Lsn,
    frame_end: u64,
    /// Where the stream ends then.
    end: u64,
    /// Where the next group starts then.
    next: u64,
}

impl Shared {
    pub(super) fn new(
        stream: Stream,
        files: Arc<Files>,
        env: Env,
        settings: JournalSettings,
        stats: Arc<JournalStats>,
    ) -> Arc<Self> {
        let status =
            JournalStatus { durable: Lsn(0), state: JournalState::Open, room: 0, disk_full: false };
        let wake = match files.in_memory() {
            true => Wake::Task(Notify::new()),
            false => Wake::Thread(OnceLock::new()),
        };
        let open = Mutex::new(Open::new(files.area()));
        let status = Arc::new(watch::Sender::new(status));
        let listener = OnceLock::new();
        Arc::new(Self { stream, files, env, settings, stats, open, wake, status, listener })
    }

    /// Everything below is durable.
    pub(super) fn durable(&self) -> Lsn {
        self.status.borrow().durable
    }

    /// Ends the session. The first reason counts, but that a journal that fails while it is being
    /// closed has failed.
    pub(super) fn stop(&self, state: JournalState) {
        let mut open = lock(&self.open);
        let fails = matches!(state, JournalState::Failed(_));
        if open.state == JournalState::Open || open.state == JournalState::Closed && fails {
            open.state = state;
        }
        open.sleeping = false;
        drop(open);
        self.wake.wake();
    }

    /// Completes when the writer has stopped for good.
    pub(super) fn finished(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut status = self.status.subscribe();
        async move {
            // An error means that the writer is gone without a word, with its runtime.
            let _ = status.wait_for(|status| status.state != JournalState::Open).await;
        }
    }

    /// Something was trimmed.
    pub(super) fn room_came_back(&self) {
        let mut open = lock(&self.open);
        open.starved = false;
        open.retry_at = Monotonic(0);
        let wakes = open.wants_file() && std::mem::take(&mut open.sleeping);
        drop(open);
        if wakes {
            self.wake.wake();
        }
        self.status.send_modify(|status| {
            status.room += 1;
            status.disk_full = false;
        });
    }

    fn append(&self, frame: &Frame) -> Result<FrameAt, JournalError> {
        let size = frame.encoded_size();
        let mut open = lock(&self.open);
        if open.state != JournalState::Open {
            return Err(JournalError::Over(open.state.clone()));
        }
        let place = open.place(size);
        let encoded = frame
            .encode(self.stream.session, place.lsn)
            .map_err(|error| JournalError::Corrupt(error.to_string()))?;
        let room = self.check_room(&mut open, size, frame.urgency(), place.next);
        match room {
            Ok(()) => open.put(&encoded, &place),
            Err(_) => open.refused = true,
        }
        let wakes = (room.is_ok() || open.wants_file()) && std::mem::take(&mut open.sleeping);
        drop(open);
        if wakes {
            self.wake.wake();
        }
        room?;
        let len = u32::try_from(size).unwrap_or(u32::MAX);
        Ok(FrameAt { session: self.stream.session, lsn: place.lsn, len })
    }

    fn check_room(
        &self,
        open: &mut Open,
        size: usize,
        urgency: Urgency,
        end: u64,
    ) -> Result<(), JournalError> {
        let (most, reserve) = (self.settings.pending_bytes_max, self.settings.reserve());
        // What is urgent unblocks others, so that it may go over, but not without bound; and what
        // gives space back must not find the reserve used up by commits.
        let (most, reserve) = match urgency {
            Urgency::Client => (most, reserve),
            Urgency::Internal => (most.saturating_mul(2), reserve / 2),
            Urgency::Layout => (most.saturating_mul(3), 0),
        };
        if open.pending > 0 && open.pending.saturating_add(size) > most {
            return Err(JournalError::Full);
        }
        if end + reserve > open.ready {
            open.wanted = open.wanted.max(end + reserve);
            // What clients were refused, something urgent may still get.
            let is_urgent = urgency != Urgency::Client;
            let may_get = is_urgent && !std::mem::replace(&mut open.urgent, true);
            if may_get || self.env.clock.monotonic() >= open.retry_at {
                open.starved = false;
            }
            return Err(JournalError::Full);
        }
        Ok(())
    }
}

impl Open {
    fn new(area: u64) -> Self {
        Self {
            state: JournalState::Open,
            queue: VecDeque::new(),
            pool: Pool::default(),
            area,
            // Small files get small groups, so that tests meet several of them in one write.
            group_bytes: (GROUP_BYTES as u64).min(area / 2),
            next: 0,
            end: 0,
            pending: 0,
            ready: area,
            wanted: 0,
            preparing: false,
            starved: false,
            urgent: false,
            retry_at: Monotonic(0),
            refused: false,
            sleeping: false,
        }
    }

    /// Whether another file should be prepared: half a file before it is needed.
    pub(super) fn wants_file(&self) -> bool {
        let ahead = self.next + self.area / 2;
        !self.preparing && !self.starved && (self.ready < ahead || self.ready < self.wanted)
    }

    /// Whether the next file is needed so soon that nothing may hold it up.
    pub(super) fn hurries(&self) -> bool {
        let ahead = self.next + self.area / 4;
        self.ready < ahead || self.ready < self.wanted || self.state != JournalState::Open
    }

    /// Drops what will never be written, and all memory.
    pub(super) fn let_go(&mut self) {
        self.queue = VecDeque::new();
        self.pool = Pool::default();
        self.pending = 0;
    }

    /// Finds the place of a frame of `size` bytes.
    fn place(&self, size: usize) -> Place {
        let (area, size) = (self.area, size as u64);
        if let Some(group) = self.queue.back().filter(|group| group.takes_frames()) {
            let file_end = (group.position() / area + 1) * area;
            let end = group.end() + size;
            if end <= file_end && group.end() + size <= group.position() + self.group_bytes {
                let (lsn, next) = (Lsn(group.end()), align_up(end));
                return Place { group: None, skip: None, lsn, frame_end: end, end, next };
            }
        }
        let whole = GROUP_HEADER_SIZE as u64 + size;
        let room = area - self.next % area;
        let skip = (whole > room && room < area).then_some(self.next);
        let group = if skip.is_some() { self.next + room } else { self.next };
        let end = group + whole;
        // Nothing else comes into the last file of a group that takes more than one, so that a
        // file starts with a group or holds a part of such a one only.
        let next = if whole > area { end.next_multiple_of(area) } else { align_up(end) };
        let lsn = Lsn(group + GROUP_HEADER_SIZE as u64);
        // The end of the stream is then the place of the next group: whoever trims below it and
        // replays from it finds a file that starts with one, or nothing.
        let said = if whole > area { next } else { end };
        Place { group: Some(group), skip, lsn, frame_end: end, end: said, next }
    }

    fn put(&mut self, frame: &EncodedFrame<'_>, place: &Place) {
        if let Some(at) = place.skip {
            self.queue.push_back(Group::new(GroupKind::Skip, at, &mut self.pool));
        }
        if let Some(at) = place.group {
            self.queue.push_back(Group::new(GroupKind::Frames, at, &mut self.pool));
        }
        if let Some(group) = self.queue.back_mut() {
            for part in [frame.head.as_slice(), frame.body[0], frame.body[1]] {
                group.put(part, &mut self.pool);
                self.pending += part.len();
            }
        }
        self.end = place.end;
        self.next = place.next;
        let written = align_up(place.frame_end);
        if written < self.next {
            self.queue.push_back(Group::new(GroupKind::Skip, written, &mut self.pool));
        }
    }
}

impl Wake {
    pub(super) fn wake(&self) {
        match self {
            // Before it is set, the writer has not started and will look by itself.
            Self::Thread(thread) => drop(thread.get().map(Thread::unpark)),
            Self::Task(notify) => notify.notify_one(),
        }
    }
}

impl FileJournal {
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl Journal for FileJournal {
    fn session(&self) -> SessionId {
        self.shared.stream.session
    }

    fn append(&self, frame: Frame) -> Result<FrameAt, JournalError> {
        self.shared.append(&frame)
    }

    fn end(&self) -> Lsn {
        Lsn(lock(&self.shared.open).end)
    }

    fn status(&self) -> watch::Receiver<JournalStatus> {
        self.shared.status.subscribe()
    }

    fn listen(&self, listener: Listener) -> bool {
        self.shared.listener.set(listener).is_ok()
    }

    fn usage(&self) -> (u64, u64) {
        self.shared.files.usage(self.session(), self.end())
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        self.shared.stop(JournalState::Closed);
        Box::pin(self.shared.finished())
    }
}

impl Drop for FileJournal {
    fn drop(&mut self) {
        self.shared.stop(JournalState::Closed);
    }
}

impl fmt::Debug for FileJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(f)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileJournal")
            .field("session", &self.stream.session)
            .field("status", &*self.status.borrow())
            .finish_non_exhaustive()
    }
}
