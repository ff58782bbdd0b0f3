//! Reading back: groups and frames in order, one frame by its position, and where it all ends.

pub(super) mod survey;

use std::io;
use std::ops::Range;

use bytes::Bytes;
use millstream_record::frame::{FRAME_BODY_MAX, FRAME_HEADER_SIZE, Frame, FrameError};
use millstream_record::journal::{
    BLOCK, GROUP_HEADER_SIZE, GroupHeader, GroupKind, align_down, align_up,
};
use millstream_types::{Lsn, SessionId};

use super::files::{View, storage};
use crate::disk::AlignedBuffer;
use crate::journal::{FrameAt, JournalError};

/// How much is read at a time, in bytes. What is cut at its end is read again.
const WINDOW: usize = 4 * 1024 * 1024;

/// Frames are read at once when no more than this lies between two of them, in bytes: reading it costs less
/// than another read.
const GAP_BYTES_MAX: u64 = 16 * 1024;

/// The most that is read at once for several frames, in bytes.
const READ_BYTES_MAX: u64 = 1024 * 1024;

/// Frames of at least so many bytes are not copied out of what they were read with.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// So often the end of a journal that is being written is read before it is believed, where it is
/// found farther on each time.
const LIVE_READS: usize = 3;
/// After so many reads it can't be found.
const LIVE_READS_MAX: usize = 100;

/// How much is read at a time, in bytes, to find a group that begins before a position.
const STEP_BACK: u64 = 256 * 1024;

/// Goes through a session's groups and frames.
pub(super) struct Walk {
    window: Window,
    /// Where the next frame or group is.
    at: Lsn,
    /// The group that is gone through.
    group: Option<GroupHeader>,
}

/// What a walk meets.
pub(super) enum Step {
    /// A frame, intact.
    Frame(FrameAt, Frame),
    /// Something else; the walk is over.
    Stop(Stop),
}

/// Where a walk could not go on.
#[derive(Debug)]
pub(super) struct Stop {
    /// The position of what could not be read.
    pub(super) at: Lsn,
    /// What was wrong with it.
    why: String,
    /// The first position at which a later group may start.
    later: u64,
    /// It is intact, but of a kind that only a newer program knows.
    is_newer: bool,
}

/// A part of the stream in memory.
struct Window {
    view: View,
    start: u64,
    bytes: Bytes,
}

impl Walk {
    /// A walk from a group at or before `position`.
    pub(super) fn containing(view: View, position: Lsn) -> Result<Self, JournalError> {
        let file = position.0 / view.area * view.area;
        let session = view.stream.session;
        if file < view.start() || file >= view.end() {
            let why = format!("the files of session {session} around {position} are gone");
            return Err(JournalError::Corrupt(why));
        }
        let area = view.area;
        let (first, window) = first_group(view, file)?;
        // A group that fills several files may end in this one. What is asked for comes after it.
        let is_next = |first: &GroupHeader| {
            follows_giant(first, area) && first.position.0 <= align_up(position.0)
        };
        match first {
            Some(first) if first.position.0 == file || is_next(&first) => {
                Ok(Self { window, at: first.position, group: None })
            }
            _ => Err(JournalError::Corrupt(format!(
                "no group of session {session} is readable between {file} and {position}"
            ))),
        }
    }

    /// A walk from the group that holds `position`, or the last one before it in the same file, reading
    /// nothing before that. `None` when there is none.
    pub(super) fn near(view: &View, position: Lsn) -> Result<Option<Self>, JournalError> {
        let file = position.0 / view.area * view.area;
        let mut upto = align_down(position.0) + BLOCK;
        while upto > file {
            let from = upto.saturating_sub(STEP_BACK).max(file);
            let count = usize::try_from(upto - from).unwrap_or(STEP_BACK as usize);
            let bytes = view.read(from, count).map_err(storage)?;
            let blocks = bytes.chunks(BLOCK as usize).take(count / BLOCK as usize);
            let starts = (from..).step_by(BLOCK as usize).map(Lsn);
            let groups: Vec<_> = starts
                .zip(blocks)
                .filter_map(|(at, block)| GroupHeader::decode(block, view.stream, at).ok())
                .collect();
            if let Some(group) = groups.last() {
                let window = Window { view: view.clone(), start: 0, bytes: Bytes::new() };
                return Ok(Some(Self { window, at: group.position, group: None }));
            }
            upto = from;
        }
        Ok(None)
    }

    /// Goes on at `position`, past what can't be read in the same group before it. Whether it lies in
    /// that group.
    pub(super) fn skip_to(&mut self, position: Lsn) -> bool {
        let is_within = self.group.is_some_and(|group| {
            self.at < position && group.frames_start() <= position && position < group.frames_end()
        });
        if is_within {
            self.at = position;
        }
        is_within
    }

    /// Where the session ends, if the walk stops like this: at the first thing that can't be read. When
    /// a later group says that it was durable, that is no end but damage.
    pub(super) fn end(&mut self, stop: &Stop) -> Result<Lsn, JournalError> {
        let session = self.window.view.stream.session;
        if stop.is_newer {
            return Err(stop.corrupt(session, stop.at));
        }
        match self.window.durable_above(stop.later, stop.at)? {
            Some(durable) => Err(stop.corrupt(session, durable)),
            None => Ok(stop.at),
        }
    }

    /// Where the walk is.
    pub(super) const fn at(&self) -> Lsn {
        self.at
    }

    pub(super) fn step(&mut self) -> Result<Step, JournalError> {
        loop {
            let Some(group) = self.group else {
                match self.window.group_at(self.at.0)? {
                    Ok(group) if group.kind == GroupKind::Frames => {
                        self.group = Some(group);
                        self.at = group.frames_start();
                    }
                    Ok(skip) => self.at = skip.next(self.window.view.area),
                    Err(why) => {
                        let later = self.at.0 + BLOCK;
                        let stop = Stop { at: self.at, why, later, is_newer: false };
                        return Ok(Step::Stop(stop));
                    }
                }
                continue;
            };
            if self.at < group.frames_end() {
                return self.frame(group);
            }
            self.at = group.next(self.window.view.area);
            self.group = None;
        }
    }

    fn frame(&mut self, group: GroupHeader) -> Result<Step, JournalError> {
        let at = self.at;
        match self.window.frame_at(at, group.frames_end())? {
            Ok((frame, size)) => {
                self.at = Lsn(at.0 + size as u64);
                let len = u32::try_from(size).unwrap_or(u32::MAX);
                let session = self.window.view.stream.session;
                Ok(Step::Frame(FrameAt { session, lsn: at, len }, frame))
            }
            Err(error) => Ok(Step::Stop(Stop {
                at,
                why: error.to_string(),
                later: group.next(self.window.view.area).0,
                is_newer: matches!(error, FrameError::Unknown { .. }),
            })),
        }
    }
}

impl Stop {
    /// The error for a stop below a position that is known to have been durable.
    pub(super) fn corrupt(&self, session: SessionId, durable: Lsn) -> JournalError {
        let Self { at, why, .. } = self;
        if self.is_newer {
            return JournalError::Storage(format!("position {at} of session {session}: {why}"));
        }
        JournalError::Corrupt(format!(
            "session {session}: what is stored at {at} can't be read ({why}), though everything \
             below {durable} was durable"
        ))
    }
}

/// Finds where an unsealed session ends.
pub(super) fn find_end(view: &View) -> Result<Lsn, JournalError> {
    for file in view.files.values() {
        file.drop_cache();
    }
    let (mut walk, stop) = start_walk(view)?;
    let stop = match stop {
        Some(stop) => stop,
        None => stop_of(&mut walk)?,
    };
    walk.end(&stop)
}

/// Up to where a session that somebody else may be writing is intact: at least to what was durable
/// before the call. Everything below `known` is known to be.
///
/// What can't be read is read again: it may have been written meanwhile, or have gone wrong on the way
/// from the disk. What can't be read then is the end, or damaged when a group behind it says that it
/// was durable there.
pub(super) fn live_end(view: &View, known: Lsn) -> Result<Lsn, JournalError> {
    let session = view.stream.session;
    let from = |position: Lsn| Walk::containing(view.clone(), position).ok();
    let (mut walk, mut stop) = match known.0.checked_sub(1).and_then(|before| from(Lsn(before))) {
        Some(walk) => (walk, None),
        None => start_walk(view)?,
    };
    for reads in 1..=LIVE_READS_MAX {
        let here = match stop.take() {
            Some(stop) => stop,
            None => stop_of(&mut walk)?,
        };
        if here.is_newer {
            return Err(here.corrupt(session, here.at));
        }
        let before = here.at.0.checked_sub(1).and_then(|before| from(Lsn(before)));
        let again = match before {
            Some(again) => {
                walk = again;
                stop_of(&mut walk)?
            }
            // It is the first thing that there is.
            None => {
                let (again, stop) = start_walk(view)?;
                walk = again;
                match stop {
                    Some(stop) => stop,
                    None => stop_of(&mut walk)?,
                }
            }
        };
        let durable = walk.window.durable_above(again.later, again.at)?;
        match durable {
            // Who writes all the time is ahead of every reader. What was there at first has been read
            // more than once.
            None if again.at <= here.at || reads >= LIVE_READS => return Ok(again.at),
            Some(durable) if again.at <= here.at => return Err(again.corrupt(session, durable)),
            _ => stop = Some(again),
        }
    }
    Err(JournalError::Storage(format!("session {session} is written faster than it can be read")))
}

/// Goes on to the first thing that can't be read.
fn stop_of(walk: &mut Walk) -> Result<Stop, JournalError> {
    loop {
        if let Step::Stop(stop) = walk.step()? {
            return Ok(stop);
        }
    }
}

/// A walk from the oldest group of an unsealed session, or why there is none at the start of its
/// oldest file.
pub(super) fn start_walk(view: &View) -> Result<(Walk, Option<Stop>), JournalError> {
    let start = view.start();
    let walk_from = |window, at| Walk { window, at, group: None };
    let (first, window) = first_group(view.clone(), start)?;
    let stop = |later| {
        let why = "there is no group".to_owned();
        Some(Stop { at: Lsn(start), why, later, is_newer: false })
    };
    let Some(first) = first else {
        // The session has just come to this file, or has not yet.
        return Ok((walk_from(window, Lsn(start)), stop(view.end())));
    };
    if first.position.0 == start {
        return Ok((walk_from(window, first.position), None));
    }
    if first.durable.0 >= start || start == 0 {
        // What is missing was written together with what was found, or is damaged.
        return Ok((walk_from(window, Lsn(start)), stop(first.position.0)));
    }
    // The write that this group was part of began in a file that has been trimmed since, so that
    // all of it was durable. Before the group is the end of one that fills several files.
    if follows_giant(&first, view.area) {
        return Ok((walk_from(window, first.position), None));
    }
    let session = view.stream.session;
    let why = format!("session {session}: what is stored at {start} can't be read");
    Err(JournalError::Corrupt(why))
}

/// Reads frames, all of the session that `view` is of, in the order of their positions: those that lie
/// close together at once, because each read has its price.
pub(super) fn read_frames(view: &View, at: &[FrameAt]) -> Vec<Result<Frame, JournalError>> {
    if let [one] = at {
        return vec![read_frame(view, *one)];
    }
    let mut found = Vec::with_capacity(at.len());
    let mut kept = Kept::new(at);
    let mut rest = at;
    while let Some(first) = rest.first() {
        let mut end = first.end().0;
        let is_near = |next: &&FrameAt| {
            let near = (end..=end + GAP_BYTES_MAX).contains(&next.lsn.0)
                && next.end().0 - first.lsn.0 <= READ_BYTES_MAX;
            if near {
                end = next.end().0;
            }
            near
        };
        let count = 1 + rest.iter().skip(1).take_while(is_near).count();
        let (now, later) = rest.split_at(count);
        rest = later;
        read_together(view, now, end, &mut kept, &mut found);
    }
    let kept = kept.into_bytes();
    let found = found.into_iter().zip(at);
    found.map(|(found, at)| decode_frame(found?.of(&kept), *at)).collect()
}

/// Small frames that were read, one after the other in memory of their own: what each of them was read with may
/// be far larger, and pieces of all sizes from all threads would leave the heap full of holes.
struct Kept {
    memory: AlignedBuffer,
    used: usize,
}

/// The bytes of a frame.
enum Found {
    Kept(Range<usize>),
    Large(Bytes),
}

impl Kept {
    fn new(at: &[FrameAt]) -> Self {
        let small = at.iter().map(|at| at.len as usize).filter(|size| *size < KEPT_BYTES_MAX);
        Self { memory: AlignedBuffer::new(small.sum()), used: 0 }
    }

    /// Takes what was read of a frame; a part of it where the journal ends before.
    fn keep(&mut self, bytes: Bytes) -> Found {
        let at = self.used..self.used + bytes.len();
        match self.memory.bytes_mut().get_mut(at.clone()) {
            Some(room) if bytes.len() < KEPT_BYTES_MAX => {
                room.copy_from_slice(&bytes);
                self.used = at.end;
                Found::Kept(at)
            }
            _ => Found::Large(bytes),
        }
    }

    fn into_bytes(self) -> Bytes {
        self.memory.into_bytes(0..self.used)
    }
}

impl Found {
    fn of(self, kept: &Bytes) -> Bytes {
        match self {
            Self::Kept(at) => kept.slice(at),
            Self::Large(bytes) => bytes,
        }
    }
}

/// Reads frames that end at `end` with one read.
fn read_together(
    view: &View,
    at: &[FrameAt],
    end: u64,
    kept: &mut Kept,
    found: &mut Vec<Result<Found, JournalError>>,
) {
    let start = at.first().map_or(end, |first| first.lsn.0);
    let read = at
        .iter()
        .try_for_each(|at| check_place(view, *at))
        .and_then(|()| view.read(start, (end - start) as usize).map_err(storage));
    match read {
        Ok(bytes) => found.extend(at.iter().map(|at| {
            let from = ((at.lsn.0 - start) as usize).min(bytes.len());
            let upto = (from + at.len as usize).min(bytes.len());
            Ok(kept.keep(bytes.slice(from..upto)))
        })),
        // Each says for itself what is the matter.
        Err(_) => found.extend(at.iter().map(|at| {
            check_place(view, *at)?;
            let bytes = view.read(at.lsn.0, at.len as usize).map_err(storage)?;
            Ok(kept.keep(bytes))
        })),
    }
}

fn check_place(view: &View, at: FrameAt) -> Result<(), JournalError> {
    let size = at.len as usize;
    if !(FRAME_HEADER_SIZE..=FRAME_HEADER_SIZE + FRAME_BODY_MAX).contains(&size) {
        return Err(JournalError::Corrupt(format!("{at}: none is as long")));
    }
    if at.lsn.0 < view.start() {
        return Err(JournalError::Storage(format!("{at} was trimmed")));
    }
    Ok(())
}

/// Reads one frame.
fn read_frame(view: &View, at: FrameAt) -> Result<Frame, JournalError> {
    check_place(view, at)?;
    decode_frame(view.read(at.lsn.0, at.len as usize).map_err(storage)?, at)
}

fn decode_frame(bytes: Bytes, at: FrameAt) -> Result<Frame, JournalError> {
    let size = at.len as usize;
    match Frame::decode(&bytes, at.session, at.lsn) {
        Ok((frame, found)) if found == size => Ok(frame),
        Ok((_, found)) => Err(JournalError::Corrupt(format!("{at} is in fact {found} bytes long"))),
        Err(error @ FrameError::Unknown { .. }) => Err(JournalError::Storage(error.to_string())),
        Err(error) => Err(JournalError::Corrupt(format!("{at}: {error}"))),
    }
}

/// Whether `group` may be the first after one that fills several files: nothing but a skip comes
/// into the last file of such a one.
const fn follows_giant(group: &GroupHeader, area: u64) -> bool {
    matches!(group.kind, GroupKind::Skip) || group.position.0.is_multiple_of(area)
}

/// The first group at or after `file`, the start of a file.
fn first_group(view: View, file: u64) -> Result<(Option<GroupHeader>, Window), JournalError> {
    let end = view.end();
    let mut window = Window { view, start: 0, bytes: Bytes::new() };
    let mut at = file;
    while at < end {
        if let Ok(group) = window.group_at(at)? {
            return Ok((Some(group), window));
        }
        at += BLOCK;
    }
    Ok((None, window))
}

impl Window {
    /// The bytes from `at` on: at least `count` of them where there are so many.
    fn get(&mut self, at: u64, count: usize) -> Result<Bytes, JournalError> {
        let ahead = at.checked_sub(self.start).and_then(|ahead| usize::try_from(ahead).ok());
        if let Some(ahead) = ahead.filter(|ahead| ahead + count <= self.bytes.len()) {
            return Ok(self.bytes.slice(ahead..));
        }
        self.start = at;
        self.bytes = self.view.read(at, count.max(WINDOW)).map_err(storage)?;
        Ok(self.bytes.clone())
    }

    /// The group at `at`, or why there is none.
    fn group_at(&mut self, at: u64) -> Result<Result<GroupHeader, String>, JournalError> {
        let bytes = self.get(at, GROUP_HEADER_SIZE)?;
        if bytes.is_empty() {
            return Ok(Err("there are no more files".to_owned()));
        }
        let found = GroupHeader::decode(&bytes, self.view.stream, Lsn(at));
        Ok(found.map_err(|error| error.to_string()))
    }

    /// The frame at `at`, which ends at or before `end`.
    fn frame_at(
        &mut self,
        at: Lsn,
        end: Lsn,
    ) -> Result<Result<(Frame, usize), FrameError>, JournalError> {
        let room = usize::try_from(end.0 - at.0).unwrap_or(usize::MAX);
        let mut want = FRAME_HEADER_SIZE;
        loop {
            let bytes = self.get(at.0, want.min(room))?;
            let bytes = bytes.slice(..bytes.len().min(room));
            match Frame::decode(&bytes, self.view.stream.session, at) {
                Err(FrameError::Truncated { needed }) if needed <= room && needed > bytes.len() => {
                    // Once more with all of it, unless the files end before.
                    if want == needed {
                        return Ok(Err(FrameError::Truncated { needed }));
                    }
                    want = needed;
                }
                found => return Ok(found),
            }
        }
    }

    /// A durable position above `position` that a group at or after `from` names.
    fn durable_above(&mut self, from: u64, position: Lsn) -> Result<Option<Lsn>, JournalError> {
        let mut at = from;
        while at < self.view.end() {
            at = match self.group_at(at)? {
                Ok(group) if group.durable > position => return Ok(Some(group.durable)),
                Ok(group) => group.next(self.view.area).0,
                Err(_) => at + BLOCK,
            };
        }
        Ok(None)
    }
}

impl View {
    /// The bytes of the stream from `from` on, `count` of them, fewer where the files end.
    fn read(&self, from: u64, count: usize) -> io::Result<Bytes> {
        let start = align_down(from);
        let end = align_up(from.saturating_add(count as u64)).min(self.end());
        if from < self.start() || from >= end {
            return Ok(Bytes::new());
        }
        let mut buffer = AlignedBuffer::new(usize::try_from(end - start).unwrap_or(0));
        let mut rest = buffer.bytes_mut();
        let mut at = start;
        while at < end {
            let (sequence, in_area) = (at / self.area, at % self.area);
            let count = (self.area - in_area).min(end - at);
            let (now, later) = rest.split_at_mut(usize::try_from(count).unwrap_or(0));
            let file = self.files.get(&sequence).ok_or(io::ErrorKind::NotFound)?;
            if file.read_at(now, BLOCK + in_area)? < now.len() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            rest = later;
            at += count;
        }
        let first = usize::try_from(from - start).unwrap_or(0);
        Ok(buffer.into_bytes(first..first.saturating_add(count.max(WINDOW))))
    }
}
