//! One node-wide, totally ordered, single-writer stream of frames.

use std::collections::VecDeque;
use std::fmt::{self, Debug};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use millstream_record::frame::Frame;
use millstream_types::{Lsn, SessionId};
use tokio::sync::watch;

/// Where a frame lies: enough to read it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrameAt {
    /// The session whose journal holds it.
    pub session: SessionId,
    /// Its first byte.
    pub lsn: Lsn,
    /// Its encoded size in bytes. The frame is durable when the journal's durable position is at
    /// or above `lsn + len`.
    pub len: u32,
}

impl fmt::Display for FrameAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { session, lsn, len } = self;
        write!(f, "the frame of {len} bytes at {lsn} of session {session}")
    }
}

impl FrameAt {
    /// The position right after the frame.
    #[must_use]
    pub const fn end(self) -> Lsn {
        Lsn(self.lsn.0 + self.len as u64)
    }
}

/// What a journal has reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalStatus {
    /// Everything below may be acknowledged and served: every successor will recover it.
    pub durable: Lsn,
    /// Whether more can be appended.
    pub state: JournalState,
    /// Rises when an append that was refused as [`JournalError::Full`] is worth another try.
    pub room: u64,
    /// Whether there was no space on the disk the last time that the journal wanted to grow: room
    /// then comes back only when somebody frees some.
    pub disk_full: bool,
}

/// Whether a journal takes frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JournalState {
    /// It does.
    Open,
    /// A write or a flush failed; the session is over and `durable` will not move. Says why.
    Failed(Arc<str>),
    /// Another session has sealed this one.
    Fenced,
    /// It was closed by its owner; everything appended before is durable.
    Closed,
}

/// Why the journal refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// No space is left; it comes back when `trim` is called or the disk gains room. Nothing was
    /// appended.
    #[error("the journal is full")]
    Full,
    /// The session is over: failed, fenced or closed.
    #[error("the journal's session is over: {0:?}")]
    Over(JournalState),
    /// What is stored is not what was written: refuse to go on, never cut it off silently.
    #[error("the journal is corrupt: {0}")]
    Corrupt(String),
    /// The storage below failed.
    #[error("the journal's storage failed: {0}")]
    Storage(String),
}

/// Hears how far a journal is durable.
pub type Listener = Box<dyn Fn(Lsn) + Send + Sync>;

/// What is found of a session when it is taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recovered {
    /// The next frames.
    Frames(VecDeque<(FrameAt, Frame)>),
    /// Where it ended; it is sealed there.
    End(Lsn),
}

/// The journal of one session, open for appending.
pub trait Journal: Debug + Send + Sync {
    /// The session it belongs to.
    fn session(&self) -> SessionId;

    /// Gives `frame` its position and queues it. Never waits for the disk; the order of the calls
    /// is the order of the positions. [`Frame::urgency`] says how much of the reserve it may use
    /// that keeps deletion, commits and layout possible when the journal is full for others.
    ///
    /// # Errors
    ///
    /// [`JournalError::Full`] or [`JournalError::Over`]; then nothing was appended.
    fn append(&self, frame: Frame) -> Result<FrameAt, JournalError>;

    /// The position that the next frame will get, at least.
    fn end(&self) -> Lsn;

    /// Follows what is durable, and whether the session goes on.
    fn status(&self) -> watch::Receiver<JournalStatus>;

    /// Has `listener` called each time that more is durable, by who has made it so: that saves handing
    /// the news on to another thread, which costs as much as a flush. Returns whether it will be
    /// called; `false` means that [`Journal::status`] alone tells. For one listener, set before
    /// anything is appended; with it, changes of the status are only announced when the session ends, or
    /// when somebody was refused for lack of room.
    fn listen(&self, listener: Listener) -> bool {
        drop(listener);
        false
    }

    /// Bytes appended and not yet trimmed, of all sessions in the same store, and the most that
    /// there may be.
    fn usage(&self) -> (u64, u64);

    /// Everything appended becomes durable, then the journal is closed.
    fn close(&self) -> BoxFuture<'static, ()>;
}

/// All journals of one place.
pub trait JournalStore: Debug + Send + Sync {
    /// Starts the journal of a new session.
    fn create(&self, session: SessionId) -> BoxFuture<'_, Result<Arc<dyn Journal>, JournalError>>;

    /// Ends `session` for good: nothing after the returned position will ever be acknowledged by
    /// it. Idempotent. Flushes what it keeps before it returns.
    ///
    /// # Errors
    ///
    /// [`JournalError::Corrupt`] when a frame below a position that a later valid write names as
    /// durable can't be read.
    fn seal(&self, session: SessionId) -> BoxFuture<'_, Result<Lsn, JournalError>>;

    /// Takes `session` over: its frames from `from` on, in order, then where it ended, after which it
    /// is sealed as [`JournalStore::seal`] does. One pass, which reads nothing below `from`: that must
    /// be 0 or the position of a frame that is known to have been durable. A stream that ends without
    /// [`Recovered::End`] was interrupted.
    ///
    /// # Errors
    ///
    /// As [`JournalStore::seal`]; then nothing of what came before counts.
    fn recover(
        &self,
        session: SessionId,
        from: Lsn,
    ) -> BoxStream<'static, Result<Recovered, JournalError>>;

    /// The frames of a sealed session from `from` on, in order.
    fn replay(
        &self,
        session: SessionId,
        from: Lsn,
    ) -> BoxStream<'static, Result<(FrameAt, Frame), JournalError>>;

    /// Reads one durable frame back, checking its checksum.
    fn read_at(&self, at: FrameAt) -> BoxFuture<'static, Result<Frame, JournalError>>;

    /// Reads durable frames back one after the other, each as [`JournalStore::read_at`] does, in
    /// one piece of work: handing each over by itself costs more than reading it.
    fn read_many(&self, at: Vec<FrameAt>) -> BoxFuture<'static, Vec<Result<Frame, JournalError>>>;

    /// The sessions that have frames here, oldest first.
    fn sessions(&self) -> BoxFuture<'_, Result<Vec<SessionId>, JournalError>>;

    /// Gives back the space of everything in `session` below `below`, which nobody will read again.
    fn trim(&self, session: SessionId, below: Lsn) -> BoxFuture<'_, Result<(), JournalError>>;
}
