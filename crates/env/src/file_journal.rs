//! The journal of one node in files of a local disk.
//!
//! `millstream_record::journal` draws the bytes. Who does what here:
//!
//! * `group`: frames are copied once, into memory that direct IO can use;
//! * `appender`: gives positions, keeps the groups that wait, and says when there is no room;
//! * `writer`: takes all that waits, writes it, flushes once, publishes; a loop around one `step`;
//! * `files`: names, headers, preparing files ahead and recycling them;
//! * `copy`: copies them while somebody writes;
//! * `walk`: reads groups and frames back, finds the end; its `survey` goes on behind damage;
//! * `replay`: the frames of a session from a position on, and taking over one that was not closed;
//! * this file: the store.

mod appender;
mod copy;
mod files;
mod group;
mod replay;
mod stats;
mod walk;
mod writer;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use millstream_record::frame::Frame;
use millstream_record::journal::{BLOCK, Stream};
use millstream_types::{ClusterId, Lsn, SessionId};

use crate::data_dir::Flaw;
use crate::disk::Disk;
use crate::journal::{FrameAt, Journal, JournalError, JournalState, JournalStore, Recovered};
use crate::reserve::{Reserve, Use};
use crate::util::{blocking, lock, pumped};
use crate::world::Env;
use appender::{FileJournal, Shared};
pub use copy::JournalCopy;
use files::{Files, View};
use replay::{Replay, TakeOver};
pub use stats::JournalStats;
pub use walk::survey::{Damage, Surveyed};

/// The largest file, in blocks: 1 GiB.
const FILE_BLOCKS_MAX: u64 = 1 << 18;

/// How a journal on a local disk behaves.
#[derive(Clone, Debug)]
pub struct JournalSettings {
    /// The size of one file in bytes, a multiple of 4,096 between 20 KiB and 1 GiB. Larger files
    /// mean fewer changes of file, and coarser recycling. Default: 64 MiB.
    pub file_bytes: u64,
    /// The most files that there may be; then [`JournalError::Full`] until something is trimmed.
    /// Each session may have one in any case. Default: 16.
    pub files_max: usize,
    /// What is kept back of the files for urgent frames, in bytes: all of it for those that give
    /// space back, half of it for others. Default: 8 MiB.
    pub reserve_bytes: u64,
    /// The most bytes of frames that may wait for the disk, in memory; then
    /// [`JournalError::Full`], unless the frame waits alone. Default: 32 MiB.
    pub pending_bytes_max: usize,
    /// What "durable" means.
    pub durability: Durability,
}

/// What makes an append durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// It is on stable storage: no crash and no power cut loses it.
    #[default]
    Flushed,
    /// The operating system has it: a crash of the process loses nothing, a power cut or a crash
    /// of the machine loses what was acknowledged. For comparison with systems that work so.
    Os,
}

/// The journals of all sessions in one data directory.
///
/// The frames of a replay are slices of what was read at once, up to some megabytes: whoever keeps
/// one for long should copy it out. A frame that was read alone stands alone.
#[derive(Debug)]
pub struct FileJournalStore {
    disk: Arc<dyn Disk>,
    env: Env,
    settings: JournalSettings,
    files: Arc<Files>,
    /// Sessions that were created here and may still be written.
    live: Mutex<BTreeMap<SessionId, Weak<Shared>>>,
    stats: Arc<JournalStats>,
}

impl Default for JournalSettings {
    fn default() -> Self {
        Self {
            file_bytes: 64 * 1024 * 1024,
            files_max: 16,
            reserve_bytes: 8 * 1024 * 1024,
            pending_bytes_max: 32 * 1024 * 1024,
            durability: Durability::Flushed,
        }
    }
}

impl JournalSettings {
    /// For a data directory in memory, where what the journal holds costs memory: smaller files,
    /// and at most 256 MiB of them.
    #[must_use]
    pub fn in_memory() -> Self {
        Self {
            file_bytes: 8 * 1024 * 1024,
            files_max: 32,
            reserve_bytes: 2 * 1024 * 1024,
            ..Self::default()
        }
    }

    /// The size of a file's data area in bytes; at least four blocks.
    fn area(&self) -> u64 {
        let blocks = (self.file_bytes / BLOCK).clamp(5, FILE_BLOCKS_MAX);
        (blocks - 1) * BLOCK
    }

    /// What is kept back, at most half of a file.
    fn reserve(&self) -> u64 {
        self.reserve_bytes.min(self.area() / 2)
    }
}

impl FileJournalStore {
    /// Opens the journals in the folder `journal` of `disk`, or makes it.
    ///
    /// # Errors
    ///
    /// [`JournalError::Corrupt`] when a file is not what its name says, [`JournalError::Storage`]
    /// when it belongs to another cluster or a newer release, or the disk fails.
    pub async fn open(
        disk: Arc<dyn Disk>,
        env: Env,
        cluster: ClusterId,
        settings: JournalSettings,
    ) -> Result<Arc<Self>, JournalError> {
        Self::open_in(&Reserve::without_reserve(disk), env, cluster, settings, false).await
    }

    /// The same on a disk of which a part is set aside.
    pub(crate) async fn open_in(
        reserve: &Arc<Reserve>,
        env: Env,
        cluster: ClusterId,
        settings: JournalSettings,
        lenient: bool,
    ) -> Result<Arc<Self>, JournalError> {
        if settings.durability == Durability::Os {
            tracing::warn!(
                "durability = os: records are acknowledged before they are on stable storage, and \
                 a power cut loses records that were acknowledged and read"
            );
        }
        let (area, files_max) = (settings.area(), settings.files_max);
        let disk = reserve.disk(Use::Journal);
        let disks = (Arc::clone(&disk), reserve.disk(Use::Ahead), Arc::clone(reserve));
        let stats = Arc::new(JournalStats::default());
        let counts = Arc::clone(&stats);
        let open = move || Files::open(disks, cluster, (area, files_max), counts, lenient);
        let files = Arc::new(blocking(&disk, open).await?);
        let hoarder = Arc::downgrade(&files);
        reserve.ask_first(hoarder);
        let live = Mutex::new(BTreeMap::new());
        Ok(Arc::new(Self { disk, env, settings, files, live, stats }))
    }

    /// What is wrong with files that were opened all the same, by who only looks or repairs.
    #[must_use]
    pub fn flaws(&self) -> &[Flaw] {
        &self.files.flaws
    }

    /// All files of the journals, below the data directory.
    ///
    /// # Errors
    ///
    /// What the disk says.
    pub fn paths(&self) -> std::io::Result<Vec<String>> {
        self.files.paths()
    }

    /// Counts of what the journals have done.
    #[must_use]
    pub fn stats(&self) -> Arc<JournalStats> {
        Arc::clone(&self.stats)
    }

    fn live(&self, session: SessionId) -> Option<Arc<Shared>> {
        lock(&self.live).get(&session).and_then(Weak::upgrade)
    }

    async fn create_journal(&self, session: SessionId) -> Result<Arc<dyn Journal>, JournalError> {
        let mut salt = [0; 8];
        self.env.random.fill(&mut salt);
        let stream = Stream { session, salt: u64::from_be_bytes(salt) };
        let files = Arc::clone(&self.files);
        let first = blocking(&self.disk, move || files.start(stream)).await?;
        let shared = Shared::new(
            stream,
            Arc::clone(&self.files),
            self.env.clone(),
            self.settings.clone(),
            Arc::clone(&self.stats),
        );
        lock(&self.live).retain(|_, shared| shared.strong_count() > 0);
        lock(&self.live).insert(session, Arc::downgrade(&shared));
        writer::start(&shared, first.zeroed)
            .map_err(|error| JournalError::Storage(error.to_string()))?;
        Ok(Arc::new(FileJournal::new(shared)))
    }

    async fn seal_session(&self, session: SessionId) -> Result<Lsn, JournalError> {
        if let Some(live) = self.live(session) {
            live.stop(JournalState::Fenced);
            live.finished().await;
        }
        let files = Arc::clone(&self.files);
        blocking(&self.disk, move || seal(&files, session)).await
    }

    async fn trim_session(&self, session: SessionId, below: Lsn) -> Result<(), JournalError> {
        let durable = self.live(session).map(|live| live.durable());
        let files = Arc::clone(&self.files);
        blocking(&self.disk, move || files.trim(session, below, durable)).await?;
        let live: Vec<_> = lock(&self.live).values().filter_map(Weak::upgrade).collect();
        for journal in live {
            journal.room_came_back();
        }
        Ok(())
    }
}

impl JournalStore for FileJournalStore {
    fn create(&self, session: SessionId) -> BoxFuture<'_, Result<Arc<dyn Journal>, JournalError>> {
        Box::pin(self.create_journal(session))
    }

    fn seal(&self, session: SessionId) -> BoxFuture<'_, Result<Lsn, JournalError>> {
        Box::pin(self.seal_session(session))
    }

    fn recover(
        &self,
        session: SessionId,
        from: Lsn,
    ) -> BoxStream<'static, Result<Recovered, JournalError>> {
        let files = Arc::clone(&self.files);
        let disk = Arc::clone(&self.disk);
        let live = self.live(session);
        let begun = async move {
            if let Some(live) = live {
                live.stop(JournalState::Fenced);
                live.finished().await;
            }
            let mut takeover = TakeOver::new(files, session, from);
            Ok(pumped(&disk, move || takeover.read()))
        };
        Box::pin(stream::once(begun).try_flatten())
    }

    fn replay(
        &self,
        session: SessionId,
        from: Lsn,
    ) -> BoxStream<'static, Result<(FrameAt, Frame), JournalError>> {
        let mut replay = Replay::new(Arc::clone(&self.files), session, from);
        let next = move || {
            let found = replay.read()?;
            Ok((!found.is_empty()).then_some(found))
        };
        let found = pumped(&self.disk, next);
        Box::pin(found.map_ok(|found| stream::iter(found).map(Ok)).try_flatten())
    }

    fn read_at(&self, at: FrameAt) -> BoxFuture<'static, Result<Frame, JournalError>> {
        let read = self.read_many(vec![at]);
        let none = move || JournalError::Storage(format!("{at} was not read"));
        Box::pin(async move { read.await.pop().unwrap_or_else(|| Err(none())) })
    }

    fn read_many(&self, at: Vec<FrameAt>) -> BoxFuture<'static, Vec<Result<Frame, JournalError>>> {
        let durable = |session| self.live(session).map(|live| live.durable());
        let durable: BTreeMap<_, _> =
            at.iter().map(|at| (at.session, durable(at.session))).collect();
        let files = Arc::clone(&self.files);
        let disk = Arc::clone(&self.disk);
        Box::pin(async move { blocking(&disk, move || read_many(&files, &durable, &at)).await })
    }

    fn sessions(&self) -> BoxFuture<'_, Result<Vec<SessionId>, JournalError>> {
        Box::pin(std::future::ready(Ok(self.files.sessions())))
    }

    fn trim(&self, session: SessionId, below: Lsn) -> BoxFuture<'_, Result<(), JournalError>> {
        Box::pin(self.trim_session(session, below))
    }
}

/// Reads frames, in whatever order they are asked for, in that of their positions. Of sessions that are
/// being written it is known what is `durable`.
fn read_many(
    files: &Files,
    durable: &BTreeMap<SessionId, Option<Lsn>>,
    at: &[FrameAt],
) -> Vec<Result<Frame, JournalError>> {
    let mut order: Vec<usize> = (0..at.len()).collect();
    order.sort_by_key(|nth| at[*nth]);
    let sorted: Vec<FrameAt> = order.iter().map(|nth| at[*nth]).collect();
    let mut read = Vec::with_capacity(at.len());
    for same in sorted.chunk_by(|one, next| one.session == next.session) {
        let Some(session) = same.first().map(|at| at.session) else { continue };
        let upto = durable.get(&session).copied().flatten().unwrap_or(Lsn(u64::MAX));
        let (there, missing) = same.split_at(same.partition_point(|at| at.end() <= upto));
        match files.view(session) {
            Ok(view) => read.extend(walk::read_frames(&view, there)),
            Err(error) => read.extend(there.iter().map(|_| Err(error.clone()))),
        }
        let not_yet = |at| Err(JournalError::Storage(format!("{at} is not durable yet")));
        read.extend(missing.iter().map(not_yet));
    }
    let mut found: Vec<_> = order.into_iter().zip(read).collect();
    found.sort_by_key(|(nth, _)| *nth);
    found.into_iter().map(|(_, read)| read).collect()
}

/// Finds where `session` ends, makes what is kept durable, and writes that down.
fn seal(files: &Files, session: SessionId) -> Result<Lsn, JournalError> {
    if let Some(end) = files.sealed(session) {
        return Ok(end);
    }
    let end = match files.view(session) {
        // What is above was never acknowledged, and after a failed flush the cache may show what
        // the medium does not have.
        Ok(View { ended: Some(durable), .. }) => durable,
        Ok(view) => walk::find_end(&view)?,
        // It has written nothing, and now never will.
        Err(_) => Lsn(0),
    };
    files.seal(session, end)
}
