//! A machine with a simulated disk, and logs that run on it one after the other.

use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use millstream_env::disk::SimDisk;
use millstream_env::{
    BlobError, BlobName, BlobStore, Created, DataDir, Env, FrameAt, HandClock, Journal,
    JournalError, JournalSettings, JournalStats, JournalStatus, JournalStore, MetaError, Recovered,
};
use millstream_log::{
    Former, Isolation, Log, LogSettings, OpenError, Partition, PartitionConfig, PartitionSpec,
    Trim, TrimSink,
};
use millstream_record::frame::Frame;
use millstream_record::{BatchBuilder, StoredBatch, ValidBatch};
use millstream_types::{
    LeaderEpoch, Lsn, Offset, PartitionId, ProducerEpoch, ProducerId, SessionId, Timestamp, Uuid,
};
use tokio::sync::watch;

/// What the metadata log would hold: durable at once, unless the power is off.
#[derive(Default)]
pub(crate) struct Trims {
    pub(crate) newest: Mutex<Option<Trim>>,
    pub(crate) machine: Mutex<Option<Arc<SimDisk>>>,
}

impl TrimSink for Trims {
    fn publish(&self, trim: Trim) -> BoxFuture<'_, Result<(), MetaError>> {
        Box::pin(async move {
            if self.machine.lock().unwrap().as_ref().is_some_and(|machine| machine.is_off()) {
                return Err(MetaError::Storage("no power".to_owned()));
            }
            *self.newest.lock().unwrap() = Some(trim);
            Ok(())
        })
    }
}

/// A machine that can lose its power.
pub(crate) struct World {
    pub(crate) machine: Arc<SimDisk>,
    pub(crate) env: Env,
    pub(crate) clock: Arc<HandClock>,
    pub(crate) trims: Arc<Trims>,
    pub(crate) session: u64,
    pub(crate) journal: JournalSettings,
    pub(crate) settings: LogSettings,
    pub(crate) config: Arc<PartitionConfig>,
    pub(crate) partitions: Vec<PartitionId>,
    /// What [`World::open_hooked`] put between.
    pub(crate) hooks: Option<Arc<Hooked>>,
    /// What the journal of the log that runs has written.
    pub(crate) journal_stats: Option<Arc<JournalStats>>,
    /// The stores of the log that runs.
    pub(crate) stores: Option<(Arc<dyn JournalStore>, Arc<dyn BlobStore>)>,
}

pub(crate) const TOPIC: Uuid = Uuid([7; 16]);

pub(crate) fn partition(index: i32) -> PartitionId {
    PartitionId { topic: TOPIC, index }
}

/// Small enough that every limit is met.
pub(crate) fn tiny() -> LogSettings {
    LogSettings {
        tail_bytes: 8 * 1024,
        index_cache_bytes: 2 * 1024,
        layout_rate: None,
        segment_bytes_min: 16 * 1024,
        merge_bytes_min: 16 * 1024,
        run_bytes_max: 48 * 1024,
        pack_bytes_max: 32 * 1024,
        small_runs_max: 3,
        layout_age: Duration::from_secs(60),
        journal_used_percent: 50,
        checkpoint_bytes: 128 * 1024,
        checkpoint_whole_bytes: 0,
        checkpoint_chain_max: 4,
        background: false,
        ..LogSettings::default()
    }
}

impl World {
    pub(crate) fn new(seed: u64, partitions: i32) -> Self {
        let (env, clock) = Env::seeded(seed);
        let machine = SimDisk::new(seed);
        let trims = Arc::new(Trims::default());
        *trims.machine.lock().unwrap() = Some(Arc::clone(&machine));
        Self {
            machine,
            env,
            clock,
            trims,
            session: 0,
            journal: JournalSettings {
                // Some frames fit a file, some don't.
                file_bytes: if seed.is_multiple_of(2) { 64 * 1024 } else { 256 * 1024 },
                files_max: if seed.is_multiple_of(2) { 12 } else { 6 },
                reserve_bytes: 64 * 1024,
                ..JournalSettings::default()
            },
            settings: tiny(),
            config: Arc::new(PartitionConfig {
                retention: None,
                segment_bytes: 1024 * 1024,
                ..PartitionConfig::default()
            }),
            partitions: (0..partitions).map(partition).collect(),
            hooks: None,
            journal_stats: None,
            stores: None,
        }
    }

    pub(crate) fn specs(&self) -> Vec<PartitionSpec> {
        let epoch = LeaderEpoch(i32::try_from(self.session).unwrap());
        let config = &self.config;
        let spec = |id: &PartitionId| PartitionSpec { id: *id, epoch, config: Arc::clone(config) };
        self.partitions.iter().map(spec).collect()
    }

    /// Starts the program on the machine: opens the directory and the log, in a new session.
    pub(crate) async fn open(&mut self) -> Result<Log, String> {
        let dir = DataDir::open_on(self.machine.mount(), self.env.clone(), "sim")
            .map_err(|error| format!("directory: {error}"))?;
        let journals = dir.journals(self.journal.clone()).await;
        let journals = journals.map_err(|error| format!("journals: {error}"))?;
        let blobs = dir.blobs().map_err(|error| format!("blobs: {error}"))?;
        self.journal_stats = Some(journals.stats());
        self.stores = Some((journals, blobs));
        self.settings.cluster = dir.cluster();
        self.reopen().await.map_err(|error| format!("log: {error}"))
    }

    /// [`World::open`], with hooks in the blob store.
    pub(crate) async fn open_hooked(&mut self) -> Log {
        let log = self.open().await.unwrap();
        drop(log);
        settle().await;
        let (journals, blobs) = self.stores.clone().unwrap();
        let hooked = Arc::new(Hooked {
            blobs,
            gets: watch::Sender::new(false),
            uploading: Mutex::default(),
            uploaded: Mutex::default(),
            appended: Arc::default(),
        });
        self.hooks = Some(Arc::clone(&hooked));
        let (news, appended) = (hooked.gets.clone(), Arc::clone(&hooked.appended));
        self.stores = Some((Arc::new(Late { journals, news, appended }), hooked));
        self.reopen().await.unwrap()
    }

    /// Opens a log of the next session over the same stores.
    pub(crate) async fn reopen(&mut self) -> Result<Log, OpenError> {
        let (journals, blobs) = self.stores.clone().unwrap();
        let former = (self.session > 0).then(|| Former {
            session: SessionId(self.session),
            trim: self.trims.newest.lock().unwrap().clone(),
        });
        self.session += 1;
        Log::open(
            self.env.clone(),
            journals,
            blobs,
            SessionId(self.session),
            former,
            self.specs(),
            Arc::clone(&self.trims) as Arc<dyn TrimSink>,
            self.settings.clone(),
        )
        .await
    }

    /// Cuts the power; what runs on the machine is gone.
    pub(crate) async fn power_cut(&mut self, log: Log) {
        drop(log);
        self.stores = None;
        self.machine.power_cut();
        settle().await;
    }

    /// Closes politely.
    pub(crate) async fn close(&mut self, log: Log) {
        log.close().await;
        drop(log);
        self.stores = None;
        settle().await;
    }

    /// The names of the blobs that start with `prefix`.
    pub(crate) async fn blobs(&self, prefix: &str) -> Vec<String> {
        let (_, blobs) = self.stores.as_ref().unwrap();
        let names = blobs.list(prefix).await.unwrap();
        names.into_iter().map(|(name, _)| name.to_string()).collect()
    }
}

type Hook = Box<dyn FnOnce() + Send>;

/// A blob store whose users can be stopped in the middle.
pub(crate) struct Hooked {
    blobs: Arc<dyn BlobStore>,
    /// Whether reads of blobs, and news of durability, wait.
    gets: watch::Sender<bool>,
    uploading: Mutex<Option<Hook>>,
    uploaded: Mutex<Option<Hook>>,
    appended: Appended,
}

/// What is called when a frame has its place in the journal, and nobody knows of it yet.
type Appended = Arc<Mutex<Option<Box<dyn FnOnce(FrameAt) + Send>>>>;

/// Lets reads go on when it is dropped.
pub(crate) struct Gate(watch::Sender<bool>);

impl Drop for Gate {
    fn drop(&mut self) {
        self.0.send_replace(false);
    }
}

impl Hooked {
    /// Makes reads of blobs, and news of what is durable, wait.
    pub(crate) fn hold_gets(&self) -> Gate {
        self.gets.send_replace(true);
        Gate(self.gets.clone())
    }

    /// Calls `hook` when the next upload begins.
    pub(crate) fn before_upload(&self, hook: impl FnOnce() + Send + 'static) {
        *self.uploading.lock().unwrap() = Some(Box::new(hook));
    }

    /// Calls `hook` when the next frame has been appended, before the log learns of it.
    pub(crate) fn after_append(&self, hook: impl FnOnce(FrameAt) + Send + 'static) {
        *self.appended.lock().unwrap() = Some(Box::new(hook));
    }

    /// Calls `hook` when the next upload has been stored.
    pub(crate) fn after_upload(&self, hook: impl FnOnce() + Send + 'static) {
        *self.uploaded.lock().unwrap() = Some(Box::new(hook));
    }
}

impl std::fmt::Debug for Hooked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hooked")
    }
}

impl BlobStore for Hooked {
    fn create(
        &self,
        name: BlobName,
        body: Vec<Bytes>,
    ) -> BoxFuture<'_, Result<Created, BlobError>> {
        self.blobs.create(name, body)
    }

    fn upload(
        &self,
        name: BlobName,
        body: BoxStream<'static, Result<Bytes, BlobError>>,
    ) -> BoxFuture<'_, Result<u64, BlobError>> {
        Box::pin(async move {
            if let Some(hook) = self.uploading.lock().unwrap().take() {
                hook();
            }
            let stored = self.blobs.upload(name, body).await;
            if let Some(hook) = self.uploaded.lock().unwrap().take() {
                hook();
            }
            stored
        })
    }

    fn get(
        &self,
        name: BlobName,
        range: Option<Range<u64>>,
    ) -> BoxFuture<'_, Result<Bytes, BlobError>> {
        Box::pin(async move {
            let mut held = self.gets.subscribe();
            held.wait_for(|held| !held).await.unwrap();
            self.blobs.get(name, range).await
        })
    }

    fn list(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<(BlobName, u64)>, BlobError>> {
        self.blobs.list(prefix)
    }

    fn delete(&self, names: Vec<BlobName>) -> BoxFuture<'_, Result<(), BlobError>> {
        self.blobs.delete(names)
    }
}

/// Journals whose news of durability waits while [`Hooked::hold_gets`] holds.
struct Late {
    journals: Arc<dyn JournalStore>,
    news: watch::Sender<bool>,
    appended: Appended,
}

struct LateJournal {
    journal: Arc<dyn Journal>,
    status: watch::Receiver<JournalStatus>,
    appended: Appended,
}

impl std::fmt::Debug for Late {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Late")
    }
}

impl std::fmt::Debug for LateJournal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LateJournal")
    }
}

impl Journal for LateJournal {
    fn session(&self) -> SessionId {
        self.journal.session()
    }

    fn append(&self, frame: Frame) -> Result<FrameAt, JournalError> {
        let appended = self.journal.append(frame)?;
        let hook = self.appended.lock().unwrap().take();
        if let Some(hook) = hook {
            hook(appended);
        }
        Ok(appended)
    }

    fn end(&self) -> Lsn {
        self.journal.end()
    }

    fn status(&self) -> watch::Receiver<JournalStatus> {
        self.status.clone()
    }

    fn usage(&self) -> (u64, u64) {
        self.journal.usage()
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        self.journal.close()
    }
}

impl JournalStore for Late {
    fn create(&self, session: SessionId) -> BoxFuture<'_, Result<Arc<dyn Journal>, JournalError>> {
        Box::pin(async move {
            let journal = self.journals.create(session).await?;
            let mut real = journal.status();
            let (tell, status) = watch::channel(real.borrow().clone());
            let mut held = self.news.subscribe();
            #[expect(clippy::disallowed_methods, reason = "the test's own task")]
            tokio::spawn(async move {
                while real.changed().await.is_ok() {
                    if held.wait_for(|held| !held).await.is_err() {
                        return;
                    }
                    let news = real.borrow().clone();
                    tell.send_replace(news);
                }
            });
            let appended = Arc::clone(&self.appended);
            Ok(Arc::new(LateJournal { journal, status, appended }) as Arc<dyn Journal>)
        })
    }

    fn seal(&self, session: SessionId) -> BoxFuture<'_, Result<Lsn, JournalError>> {
        self.journals.seal(session)
    }

    fn recover(
        &self,
        session: SessionId,
        from: Lsn,
    ) -> BoxStream<'static, Result<Recovered, JournalError>> {
        self.journals.recover(session, from)
    }

    fn replay(
        &self,
        session: SessionId,
        from: Lsn,
    ) -> BoxStream<'static, Result<(FrameAt, Frame), JournalError>> {
        self.journals.replay(session, from)
    }

    fn read_at(&self, at: FrameAt) -> BoxFuture<'static, Result<Frame, JournalError>> {
        self.journals.read_at(at)
    }

    fn read_many(&self, at: Vec<FrameAt>) -> BoxFuture<'static, Vec<Result<Frame, JournalError>>> {
        self.journals.read_many(at)
    }

    fn sessions(&self) -> BoxFuture<'_, Result<Vec<SessionId>, JournalError>> {
        self.journals.sessions()
    }

    fn trim(&self, session: SessionId, below: Lsn) -> BoxFuture<'_, Result<(), JournalError>> {
        self.journals.trim(session, below)
    }
}

/// Lets the tasks of what was dropped end.
pub(crate) async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

/// Runs `test` on one thread, with simulated time.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(test)
}

/// A batch with one record for each of `times`, each with a value of `size` bytes.
pub(crate) fn batch(times: &[i64], size: usize) -> ValidBatch {
    build(BatchBuilder::new(), times, size)
}

/// The same of an idempotent producer.
pub(crate) fn sent(
    producer: i64,
    epoch: i16,
    sequence: i32,
    times: &[i64],
    size: usize,
) -> ValidBatch {
    let builder = BatchBuilder::new();
    build(builder.producer(ProducerId(producer), ProducerEpoch(epoch), sequence), times, size)
}

pub(crate) fn build(mut builder: BatchBuilder, times: &[i64], size: usize) -> ValidBatch {
    let value = vec![b'v'; size];
    for time in times {
        builder.append(Timestamp(*time), None, Some(&value), &[]);
    }
    builder.build_valid().unwrap()
}

/// Everything visible from `from` on, read in slices of `bytes_max`.
pub(crate) async fn read_all(
    partition: &Partition,
    mut from: Offset,
    bytes_max: usize,
) -> Result<Vec<StoredBatch>, String> {
    let mut all = Vec::new();
    loop {
        let slice = partition.read(from, bytes_max, true, Isolation::Uncommitted).await;
        let slice = slice.map_err(|error| error.to_string())?;
        let Some(last) = slice.batches.last() else { return Ok(all) };
        from = last.header().unwrap().last_offset().next();
        all.extend(slice.batches);
    }
}

/// The batches' bytes.
pub(crate) fn bytes(batches: &[StoredBatch]) -> Vec<Bytes> {
    batches.iter().map(StoredBatch::to_bytes).collect()
}
