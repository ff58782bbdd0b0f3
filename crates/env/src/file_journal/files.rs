//! The files of all sessions: names, headers, preparing and recycling.
//!
//! ```text
//! journal/<session>-<sequence>.log   a piece of a session, numbers with 20 digits
//! journal/<session>.seal             where a session ended
//! journal/free-<number>              a file to be used again; what it holds has no meaning
//! journal/new-<number>, *.tmp        left behind by a crash
//! ```
//!
//! A file gets its name after its header is durable, and its name is durable before anything is
//! written behind the header. Files of a session are prepared one after the other and recycled
//! from the oldest, so that a gap is what a power cut left of recycling: what is below it was not
//! needed any more. Or a file was lost, and then those below it may be all that is left: they are
//! hidden, and recycled when somebody says that they are not needed. Only behind a seal are files
//! recycled whatever is before them.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use millstream_record::file::FileError;
use millstream_record::journal::{BLOCK, JournalHeader, Seal, Stream};
use millstream_types::{ClusterId, Lsn, SessionId};

use super::JournalStats;
use crate::data_dir::Flaw;
use crate::disk::{Access, AlignedBuffer, Caching, Disk, DiskFile, read_whole, write_whole};
use crate::journal::{JournalError, JournalState};
use crate::reserve::{Hoarder, Reserve};
use crate::util::lock;

pub(super) const DIR: &str = "journal";

/// How much is zeroed at a time, in bytes.
pub(super) const ZERO_BYTES: usize = 256 * 1024;

/// How many seals are kept of sessions that have no files any more: a start that failed may ask
/// again for the one before it.
const SEALS_KEPT: usize = 8;

type FileMap = BTreeMap<u64, Arc<dyn DiskFile>>;

#[derive(Debug)]
pub(super) struct Files {
    disk: Arc<dyn Disk>,
    /// The same for files that are made ahead of the need: they don't draw on the reserve.
    ahead: Arc<dyn Disk>,
    reserve: Arc<Reserve>,
    cluster: ClusterId,
    /// The data area of files made now, in bytes; older sessions have their own.
    area: u64,
    files_max: usize,
    stats: Arc<JournalStats>,
    state: Mutex<State>,
    /// Held while a seal is written: there is one, and the first counts.
    sealing: Mutex<()>,
    /// What is wrong with files that were opened all the same, for those who look or repair.
    pub(super) flaws: Vec<Flaw>,
}

/// A file whose header is damaged.
struct Headless {
    path: String,
    session: SessionId,
    sequence: u64,
    size: u64,
}

#[derive(Debug, Default)]
struct State {
    sessions: BTreeMap<SessionId, View>,
    seals: BTreeMap<SessionId, Lsn>,
    free: Vec<String>,
    /// Files to be used again once their names are durable.
    renamed: Vec<String>,
    next_number: u64,
}

/// The files of one session at one moment.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) stream: Stream,
    pub(super) area: u64,
    /// By sequence, without gaps; not empty.
    pub(super) files: Arc<FileMap>,
    /// Those before a gap.
    hidden: Arc<FileMap>,
    /// What was durable when the session ended, if it was written by this process.
    pub(super) ended: Option<Lsn>,
    /// Whether it ended because writing failed. What holds it may be broken: it is not used again.
    failed: bool,
}

/// A file that is ready to be written.
#[derive(Debug)]
pub(super) struct Prepared {
    /// How much of its data area has been written before, in bytes from its start.
    pub(super) zeroed: u64,
}

enum Name {
    Piece(SessionId, u64),
    Seal(SessionId),
    Free(u64),
    Rubbish,
    Foreign,
}

impl View {
    /// The first position that there is a file for.
    pub(super) fn start(&self) -> u64 {
        self.files.keys().next().map_or(0, |sequence| sequence * self.area)
    }

    /// How many files it has.
    fn count(&self) -> usize {
        self.files.len() + self.hidden.len()
    }

    /// The first position that there is no file for any more.
    pub(super) fn end(&self) -> u64 {
        self.files.keys().next_back().map_or(0, |sequence| (sequence + 1) * self.area)
    }
}

impl Files {
    pub(super) fn open(
        (disk, ahead, reserve): (Arc<dyn Disk>, Arc<dyn Disk>, Arc<Reserve>),
        cluster: ClusterId,
        (area, files_max): (u64, usize),
        stats: Arc<JournalStats>,
        lenient: bool,
    ) -> Result<Self, JournalError> {
        disk.create_dir(DIR).map_err(storage)?;
        // What a process that was killed has renamed is to be seen, but may still be undone.
        disk.sync_dir(DIR).map_err(storage)?;
        let (state, sealing) = (Mutex::default(), Mutex::default());
        let flaws = Vec::new();
        let mut files =
            Self { disk, ahead, reserve, cluster, area, files_max, stats, state, sealing, flaws };
        let (mut headless, mut flaws) = (Vec::new(), Vec::new());
        let mut state = State::default();
        for entry in files.disk.list(DIR).map_err(storage)? {
            let path = format!("{DIR}/{}", entry.name);
            match parse(&entry.name) {
                Name::Piece(session, sequence) => {
                    match files.open_piece(&mut state, &path, session, sequence, entry.size) {
                        Err(JournalError::Corrupt(why)) if lenient => {
                            flaws.push(Flaw { file: path.clone(), why });
                            headless.push(Headless { path, session, sequence, size: entry.size });
                        }
                        opened => opened?,
                    }
                }
                Name::Seal(session) => match files.read_seal(&path, session) {
                    Err(JournalError::Corrupt(why)) if lenient => {
                        flaws.push(Flaw { file: path, why });
                    }
                    seal => drop(state.seals.insert(session, seal?.end)),
                },
                Name::Free(number) => {
                    state.next_number = state.next_number.max(number + 1);
                    if entry.size == BLOCK + area {
                        state.free.push(path);
                    } else {
                        files.disk.remove(&path).map_err(storage)?;
                    }
                }
                Name::Rubbish => files.disk.remove(&path).map_err(storage)?,
                Name::Foreign => tracing::warn!(path, "not a file of the journal: left alone"),
            }
        }
        for file in headless {
            files.open_headless(&mut state, &file)?;
        }
        files.flaws = flaws;
        files.drop_leftovers(state)?;
        Ok(files)
    }

    /// Opens a file whose header can't be read: the other files of its session, and what it holds,
    /// say the same. Does nothing when they don't.
    fn open_headless(&self, state: &mut State, file: &Headless) -> Result<(), JournalError> {
        let opened = self.disk.open(&file.path, Access::Write, Caching::Direct).map_err(storage)?;
        let (salt, area) = match state.sessions.get(&file.session) {
            Some(known) => (known.stream.salt, known.area),
            None => {
                let mut block = AlignedBuffer::new(BLOCK as usize);
                opened.read_at(block.bytes_mut(), BLOCK).map_err(storage)?;
                let Some(salt) = Stream::salt_of(block.bytes()) else { return Ok(()) };
                (salt, file.size.saturating_sub(BLOCK))
            }
        };
        if area > 0 && file.size >= BLOCK + area {
            let stream = Stream { session: file.session, salt };
            state.add(stream, file.sequence, area, opened);
        }
        Ok(())
    }

    pub(super) fn paths(&self) -> io::Result<Vec<String>> {
        let listed = self.disk.list(DIR)?;
        let is_ours = |name: &str| matches!(parse(name), Name::Piece(..) | Name::Seal(_));
        let ours = listed.into_iter().filter(|entry| is_ours(&entry.name));
        Ok(ours.map(|entry| format!("{DIR}/{}", entry.name)).collect())
    }

    /// The sessions that have files, oldest first.
    pub(super) fn sessions(&self) -> Vec<SessionId> {
        lock(&self.state).sessions.keys().copied().collect()
    }

    pub(super) fn sealed(&self, session: SessionId) -> Option<Lsn> {
        lock(&self.state).seals.get(&session).copied()
    }

    /// Where sessions that are over ended, oldest first.
    pub(super) fn seals(&self) -> Vec<(SessionId, Lsn)> {
        lock(&self.state).seals.iter().map(|(session, end)| (*session, *end)).collect()
    }

    /// The cluster that the files belong to.
    pub(super) const fn cluster(&self) -> ClusterId {
        self.cluster
    }

    pub(super) fn view(&self, session: SessionId) -> Result<View, JournalError> {
        let view = lock(&self.state).sessions.get(&session).cloned();
        view.filter(|view| !view.files.is_empty()).ok_or_else(|| {
            JournalError::Storage(format!("session {session} has no files in this journal"))
        })
    }

    pub(super) const fn area(&self) -> u64 {
        self.area
    }

    pub(super) fn in_memory(&self) -> bool {
        self.disk.in_memory()
    }

    /// As [`Disk::pause`].
    pub(super) fn pause(&self) -> Option<BoxFuture<'static, ()>> {
        self.disk.pause()
    }

    /// Bytes in files of sessions, but for what of `session` is at or above `end`; and the most
    /// that there may be.
    pub(super) fn usage(&self, session: SessionId, end: Lsn) -> (u64, u64) {
        let state = lock(&self.state);
        let used = state.sessions.iter().map(|(&of, view)| {
            let all = view.count() as u64 * view.area;
            let unused = if of == session { view.end().saturating_sub(end.0) } else { 0 };
            all.saturating_sub(unused)
        });
        (used.sum(), self.files_max as u64 * self.area)
    }

    /// Whether one more file may be made.
    pub(super) fn may_grow(&self) -> bool {
        let state = lock(&self.state);
        state.sessions.values().map(View::count).sum::<usize>() < self.files_max
    }

    /// Makes the first file of a new session.
    pub(super) fn start(&self, stream: Stream) -> Result<Prepared, JournalError> {
        let session = stream.session;
        let state = lock(&self.state);
        if state.sessions.contains_key(&session) || state.seals.contains_key(&session) {
            return Err(JournalError::Over(JournalState::Fenced));
        }
        drop(state);
        self.prepare(stream, 0, true, &mut || false).map_err(storage)
    }

    /// Makes file `sequence` of a session: recycles one, or makes one and fills it with zeros as
    /// long as `go_on` says so. `urgent`: what gives space back, or must go on, waits for it.
    pub(super) fn prepare(
        &self,
        stream: Stream,
        sequence: u64,
        urgent: bool,
        go_on: &mut dyn FnMut() -> bool,
    ) -> io::Result<Prepared> {
        let mut state = lock(&self.state);
        let recycled = state.free.pop();
        let number = state.next_number;
        state.next_number += u64::from(recycled.is_none());
        drop(state);
        let is_new = recycled.is_none();
        let path = recycled.unwrap_or_else(|| format!("{DIR}/new-{number:020}"));
        let made = self.fill(&path, is_new, urgent, go_on).and_then(|(file, zeroed)| {
            let header = JournalHeader {
                cluster: self.cluster,
                session: stream.session,
                sequence,
                area: self.area,
                salt: stream.salt,
            };
            let mut block = AlignedBuffer::new(BLOCK as usize);
            block.bytes_mut()[..header.encode().len()].copy_from_slice(&header.encode());
            file.write_at(&[io::IoSlice::new(block.bytes())], 0)?;
            self.stats.wrote_aside(BLOCK);
            file.sync()?;
            self.disk.rename(&path, &piece_path(stream.session, sequence))?;
            self.disk.sync_dir(DIR)?;
            Ok((file, zeroed))
        });
        match &made {
            // Best effort, to give back the space; the next start removes it in any case.
            Err(_) if is_new => drop(self.disk.remove(&path)),
            // Another failure may be the file's own fault. The next start tries it again.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                lock(&self.state).free.push(path);
            }
            _ => {}
        }
        let (file, zeroed) = made?;
        self.add(stream, sequence, self.area, file);
        Ok(Prepared { zeroed })
    }

    /// Remembers what was durable when a session of this process ended, and whether it failed.
    pub(super) fn ended(&self, session: SessionId, durable: Lsn, failed: bool) {
        if let Some(view) = lock(&self.state).sessions.get_mut(&session) {
            view.ended = Some(durable);
            view.failed = failed;
        }
    }

    /// Makes what is below `end` durable, writes down that the session ended there, and recycles
    /// the files that it has not come to. The result is where it ended, if it was sealed before.
    pub(super) fn seal(&self, session: SessionId, end: Lsn) -> Result<Lsn, JournalError> {
        let _held = lock(&self.sealing);
        if let Some(end) = self.sealed(session) {
            return Ok(end);
        }
        let view = lock(&self.state).sessions.get(&session).cloned();
        for (sequence, file) in view.iter().flat_map(|view| view.files.iter()) {
            let area = view.as_ref().map_or(0, |view| view.area);
            if sequence * area < end.0 {
                file.sync().map_err(storage)?;
            }
        }
        let seal = Seal { cluster: self.cluster, session, end };
        write_whole(&*self.disk, &seal_path(session), &[&seal.encode()]).map_err(storage)?;
        self.stats.wrote_aside(BLOCK);
        lock(&self.state).seals.insert(session, end);
        self.recycle(session, |start, _| start >= end.0)?;
        self.forget_seals()?;
        Ok(end)
    }

    /// Recycles the files of `session` that hold nothing at or above `below`. Of a session that
    /// is being written, those below `durable`.
    pub(super) fn trim(
        &self,
        session: SessionId,
        below: Lsn,
        durable: Option<Lsn>,
    ) -> Result<(), JournalError> {
        match (durable, self.sealed(session)) {
            (_, Some(end)) if below >= end => self.recycle(session, |_, _| true)?,
            (_, Some(_)) => self.recycle(session, |_, end| end <= below.0)?,
            (Some(durable), None) => {
                self.recycle(session, |_, end| end <= below.0.min(durable.0))?;
            }
            (None, None) if lock(&self.state).sessions.contains_key(&session) => {
                let why = format!("session {session} can't be trimmed before it is sealed");
                return Err(JournalError::Storage(why));
            }
            (None, None) => {}
        }
        self.forget_seals()
    }

    fn open_piece(
        &self,
        state: &mut State,
        path: &str,
        session: SessionId,
        sequence: u64,
        size: u64,
    ) -> Result<(), JournalError> {
        let file = self.disk.open(path, Access::Write, Caching::Direct).map_err(storage)?;
        let mut block = AlignedBuffer::new(BLOCK as usize);
        file.read_at(block.bytes_mut(), 0).map_err(storage)?;
        let header = JournalHeader::decode(block.bytes()).map_err(|error| refused(path, error))?;
        check_cluster(path, header.cluster, self.cluster)?;
        let named = (session, sequence) == (header.session, header.sequence);
        if !named || size < BLOCK + header.area {
            return Err(JournalError::Corrupt(format!("{path} is not what its name says")));
        }
        let stream = Stream { session, salt: header.salt };
        let known = state.sessions.get(&session);
        if known.is_some_and(|known| known.stream != stream || known.area != header.area) {
            return Err(JournalError::Corrupt(format!("{path} is of another session {session}")));
        }
        state.add(stream, sequence, header.area, file);
        Ok(())
    }

    fn read_seal(&self, path: &str, session: SessionId) -> Result<Seal, JournalError> {
        let bytes = read_whole(&*self.disk, path, BLOCK).map_err(storage)?;
        let seal = Seal::decode(&bytes).map_err(|error| refused(path, error))?;
        check_cluster(path, seal.cluster, self.cluster)?;
        if seal.session != session {
            return Err(JournalError::Corrupt(format!("{path} is not what its name says")));
        }
        Ok(seal)
    }

    /// Takes over what was found, but for what lies behind a seal, and hides what is before a gap.
    fn drop_leftovers(&self, state: State) -> Result<(), JournalError> {
        let sessions: Vec<_> = state.sessions.keys().copied().collect();
        *lock(&self.state) = state;
        for session in sessions {
            // First what lies behind a seal, where a gap says nothing about what is before it.
            if let Some(end) = self.sealed(session) {
                self.recycle(session, |start, _| start >= end.0)?;
            }
            if let Some(view) = lock(&self.state).sessions.get_mut(&session) {
                view.hide();
            }
        }
        self.forget_seals()
    }

    /// Recycles the files of `session` whose first position and end `which` says yes to.
    fn recycle(
        &self,
        session: SessionId,
        which: impl Fn(u64, u64) -> bool,
    ) -> Result<(), JournalError> {
        let Some((view, chosen)) = self.take(session, which) else { return Ok(()) };
        for (nth, sequence) in chosen.iter().enumerate() {
            if let Err(error) = self.free(session, *sequence, &view) {
                lock(&self.state).put_back(session, &view, &chosen[nth..]);
                return Err(storage(error));
            }
        }
        // Before they are used again: no power cut may bring back an old name for new content.
        self.disk.sync_dir(DIR).map_err(storage)?;
        let mut state = lock(&self.state);
        let renamed = std::mem::take(&mut state.renamed);
        state.free.extend(renamed);
        drop(state);
        if self.reserve.is_low() {
            self.shed();
        }
        Ok(())
    }

    /// Takes the files that `which` chooses away from `session`; returns what it had before, and
    /// their sequences.
    fn take(
        &self,
        session: SessionId,
        which: impl Fn(u64, u64) -> bool,
    ) -> Option<(View, Vec<u64>)> {
        let mut state = lock(&self.state);
        let view = state.sessions.get_mut(&session)?;
        let (before, area) = (view.clone(), view.area);
        let all = before.hidden.keys().chain(before.files.keys()).copied();
        let chosen: Vec<u64> =
            all.filter(|sequence| which(sequence * area, (sequence + 1) * area)).collect();
        if chosen.is_empty() {
            return None;
        }
        for sequence in &chosen {
            Arc::make_mut(&mut view.files).remove(sequence);
            Arc::make_mut(&mut view.hidden).remove(sequence);
        }
        if view.count() == 0 {
            state.sessions.remove(&session);
        }
        Some((before, chosen))
    }

    /// Gives a file of `session` another name, or removes it when it has another size than those
    /// made now, or may be broken.
    fn free(&self, session: SessionId, sequence: u64, view: &View) -> io::Result<()> {
        let path = piece_path(session, sequence);
        if view.area != self.area || view.failed {
            return self.disk.remove(&path);
        }
        let mut state = lock(&self.state);
        let to = format!("{DIR}/free-{:020}", state.next_number);
        state.next_number += 1;
        drop(state);
        self.disk.rename(&path, &to)?;
        lock(&self.state).renamed.push(to);
        Ok(())
    }

    /// Removes the seals of sessions that are long gone.
    fn forget_seals(&self) -> Result<(), JournalError> {
        let state = lock(&self.state);
        let gone: Vec<_> = state
            .seals
            .keys()
            .rev()
            .filter(|session| !state.sessions.contains_key(session))
            .skip(SEALS_KEPT)
            .copied()
            .collect();
        drop(state);
        for session in gone {
            self.disk.remove(&seal_path(session)).map_err(storage)?;
            lock(&self.state).seals.remove(&session);
        }
        Ok(())
    }

    /// Opens or makes the file at `path`; says how much of its data area is no hole.
    fn fill(
        &self,
        path: &str,
        is_new: bool,
        urgent: bool,
        go_on: &mut dyn FnMut() -> bool,
    ) -> io::Result<(Arc<dyn DiskFile>, u64)> {
        if !is_new {
            let file = self.disk.open(path, Access::Write, Caching::Direct)?;
            return Ok((file, self.area));
        }
        let disk = if urgent { &self.disk } else { &self.ahead };
        let file = disk.open(path, Access::Create, Caching::Direct)?;
        file.resize(BLOCK + self.area)?;
        let mut zeroed = 0;
        if !self.disk.in_memory() {
            let zeros = AlignedBuffer::new(ZERO_BYTES);
            while zeroed < self.area && go_on() {
                let count = (self.area - zeroed).min(zeros.size() as u64);
                let piece = zeros.bytes().get(..count as usize).unwrap_or_default();
                file.write_at(&[io::IoSlice::new(piece)], BLOCK + zeroed)?;
                self.stats.wrote_zeros(count);
                zeroed += count;
            }
        }
        // Not every file system keeps its word about what was set aside: what is written later may
        // draw on the reserve.
        let file = self.disk.open(path, Access::Write, Caching::Direct)?;
        Ok((file, zeroed))
    }

    fn add(&self, stream: Stream, sequence: u64, area: u64, file: Arc<dyn DiskFile>) {
        lock(&self.state).add(stream, sequence, area, file);
    }
}

impl Hoarder for Files {
    /// Removes the files that wait to be used again, but for one: the next one that is needed should
    /// not depend on space.
    fn shed(&self) -> bool {
        let gone = {
            let mut state = lock(&self.state);
            let kept = state.free.len().min(1);
            state.free.split_off(kept)
        };
        for path in &gone {
            if let Err(error) = self.disk.remove(path) {
                // It is only a file less to be used again; the next start finds it.
                tracing::warn!(path, %error, "a file of the journal can't be removed");
            }
        }
        !gone.is_empty()
    }
}

impl View {
    /// Hides what is before the last gap.
    fn hide(&mut self) {
        let newest_first = self.files.keys().rev().copied();
        let first =
            newest_first.reduce(|run, sequence| if sequence + 1 == run { sequence } else { run });
        let files = Arc::make_mut(&mut self.files);
        let needed = files.split_off(&first.unwrap_or(0));
        self.hidden = Arc::new(std::mem::replace(files, needed));
        if !self.hidden.is_empty() {
            tracing::warn!(
                session = %self.stream.session,
                files = self.hidden.len(),
                "the journal has a gap: what is before it is kept, but not read"
            );
        }
    }
}

impl State {
    /// Gives files back to `session` that were taken from `view`.
    fn put_back(&mut self, session: SessionId, view: &View, sequences: &[u64]) {
        let now = self.sessions.entry(session).or_insert_with(|| View {
            files: Arc::default(),
            hidden: Arc::default(),
            ..view.clone()
        });
        for sequence in sequences {
            if let Some(file) = view.files.get(sequence) {
                Arc::make_mut(&mut now.files).insert(*sequence, Arc::clone(file));
            }
            if let Some(file) = view.hidden.get(sequence) {
                Arc::make_mut(&mut now.hidden).insert(*sequence, Arc::clone(file));
            }
        }
    }

    fn add(&mut self, stream: Stream, sequence: u64, area: u64, file: Arc<dyn DiskFile>) {
        let view = self.sessions.entry(stream.session).or_insert_with(|| View {
            stream,
            area,
            files: Arc::default(),
            hidden: Arc::default(),
            ended: None,
            failed: false,
        });
        Arc::make_mut(&mut view.files).insert(sequence, file);
    }
}

pub(super) fn storage(error: io::Error) -> JournalError {
    if error.kind() == io::ErrorKind::StorageFull {
        return JournalError::Full;
    }
    JournalError::Storage(error.to_string())
}

fn refused(path: &str, error: FileError) -> JournalError {
    let why = format!("{path}: {error}");
    match error {
        FileError::Version { .. } | FileError::Critical { .. } => JournalError::Storage(why),
        _ => JournalError::Corrupt(why),
    }
}

fn check_cluster(path: &str, found: ClusterId, expected: ClusterId) -> Result<(), JournalError> {
    if found == expected {
        return Ok(());
    }
    let error = FileError::Cluster { expected, found };
    Err(JournalError::Storage(format!("{path}: {error}")))
}

pub(super) fn piece_path(session: SessionId, sequence: u64) -> String {
    format!("{DIR}/{:020}-{sequence:020}.log", session.0)
}

pub(super) fn seal_path(session: SessionId) -> String {
    format!("{DIR}/{:020}.seal", session.0)
}

/// The session and sequence that a piece's name says; `None` when it is the name of something else.
pub(super) fn piece_of(name: &str) -> Option<(SessionId, u64)> {
    match parse(name) {
        Name::Piece(session, sequence) => Some((session, sequence)),
        Name::Seal(_) | Name::Free(_) | Name::Rubbish | Name::Foreign => None,
    }
}

fn parse(name: &str) -> Name {
    let number = |text: &str| text.parse::<u64>().ok().filter(|_| text.len() == 20);
    if name.ends_with(".tmp") || name.strip_prefix("new-").and_then(number).is_some() {
        return Name::Rubbish;
    }
    if let Some(number) = name.strip_prefix("free-").and_then(number) {
        return Name::Free(number);
    }
    if let Some(session) = name.strip_suffix(".seal").and_then(number) {
        return Name::Seal(SessionId(session));
    }
    let piece = name.strip_suffix(".log").and_then(|name| name.split_once('-'));
    match piece.and_then(|(session, sequence)| Some((number(session)?, number(sequence)?))) {
        Some((session, sequence)) => Name::Piece(SessionId(session), sequence),
        None => Name::Foreign,
    }
}
