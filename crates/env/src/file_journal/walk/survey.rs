//! A survey: all journals from their first file to their end, for those who look for damage.
//!
//! A replay stops at the first thing that can't be read, because nothing may be served after it. A
//! survey says what it was, and goes on behind it. It writes nothing, so that a session need not be
//! sealed, and knows the end of one that is not by the rules of sealing.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::stream::{self, BoxStream};
use millstream_record::frame::{FRAME_HEADER_SIZE, Frame};
use millstream_record::journal::BLOCK;
use millstream_types::{Cursor, DecodeError, Lsn, Offset, PartitionId, SessionId, Uuid};

use super::{Step, Stop, Walk, first_group, start_walk};
use crate::file_journal::FileJournalStore;
use crate::file_journal::files::{View, piece_path};
use crate::file_journal::replay::REPLAY_BYTES;
use crate::journal::{FrameAt, JournalError};
use crate::util::blocking;

/// What a frame is about: a partition, and the offsets of a batch.
type About = (PartitionId, Option<(Offset, Offset)>);

/// What a frame's header says of its kind.
const KIND_BATCH: u8 = 1;
/// How many bytes of a batch lead up to its last offset.
const BATCH_HEAD_SIZE: usize = 27;

/// What a survey of all journals meets, in order; sessions come oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Surveyed {
    /// The files of a session begin.
    Begin {
        /// Which session.
        session: SessionId,
        /// The first position that there is a file for.
        start: Lsn,
        /// Where it was sealed, if it was.
        sealed: Option<Lsn>,
    },
    /// A frame, intact.
    Frame(FrameAt, Frame),
    /// Something that can't be read, though it was on stable storage.
    Damage(Damage),
    /// The session ends: nothing from here on was ever acknowledged.
    End {
        /// Which session.
        session: SessionId,
        /// The first position that is not part of it.
        end: Lsn,
    },
}

/// A part of a journal that can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Whose journal it is.
    pub session: SessionId,
    /// The first position that can't be read.
    pub from: Lsn,
    /// Where reading goes on.
    pub upto: Lsn,
    /// The first position of the file after the one that holds `from`.
    pub file_end: Lsn,
    /// What is wrong.
    pub why: String,
    /// Whose frame it was and, for a batch, its first and last offset: by what the frame itself
    /// says, unchecked.
    pub about: Option<(PartitionId, Option<(Offset, Offset)>)>,
}

/// The survey of one session, between two reads.
struct Survey {
    walk: Walk,
    sealed: Option<Lsn>,
    /// What was found and not yet told.
    found: VecDeque<Result<Surveyed, JournalError>>,
    is_over: bool,
}

impl FileJournalStore {
    /// Goes through all journals, damage included. After an error the next session follows.
    #[must_use]
    pub fn survey(&self) -> BoxStream<'static, Result<Surveyed, JournalError>> {
        let sessions: VecDeque<_> = self.files.sessions().into();
        let (files, disk) = (Arc::clone(&self.files), Arc::clone(&self.disk));
        let start = (sessions, None::<Survey>, VecDeque::new());
        Box::pin(stream::unfold(start, move |(mut sessions, mut survey, mut ready)| {
            let (files, disk) = (Arc::clone(&files), Arc::clone(&disk));
            async move {
                loop {
                    if let Some(next) = VecDeque::pop_front(&mut ready) {
                        return Some((next, (sessions, survey, ready)));
                    }
                    let current = survey.take();
                    if current.is_none() && sessions.is_empty() {
                        return None;
                    }
                    let session = if current.is_none() { sessions.pop_front() } else { None };
                    let files = Arc::clone(&files);
                    (survey, ready) = blocking(&disk, move || {
                        let begun = match (current, session) {
                            (Some(survey), _) => Ok(survey),
                            (None, Some(session)) => files
                                .view(session)
                                .and_then(|view| Survey::begin(&view, files.sealed(session))),
                            (None, None) => return (None, VecDeque::new()),
                        };
                        match begun {
                            Ok(survey) => survey.read(),
                            Err(error) => (None, VecDeque::from([Err(error)])),
                        }
                    })
                    .await;
                }
            }
        }))
    }

    /// The file that holds a position, below the data directory, and the byte in it; `None` when
    /// there is no such file any more. For people.
    #[must_use]
    pub fn file_of(&self, session: SessionId, position: Lsn) -> Option<(String, u64)> {
        let view = self.files.view(session).ok()?;
        let (sequence, in_area) = (position.0 / view.area, position.0 % view.area);
        view.files.get(&sequence)?;
        Some((piece_path(session, sequence), BLOCK + in_area))
    }
}

impl Survey {
    fn begin(view: &View, sealed: Option<Lsn>) -> Result<Self, JournalError> {
        let (session, start) = (view.stream.session, Lsn(view.start()));
        for file in view.files.values() {
            file.drop_cache();
        }
        let (walk, stop) = match start_walk(view) {
            Err(JournalError::Corrupt(why)) => {
                let (first, window) = first_group(view.clone(), start.0)?;
                let later = first.map_or_else(|| view.end(), |first| first.position.0);
                let stop = Stop { at: start, why, later, is_newer: false };
                (Walk { window, at: start, group: None }, Some(stop))
            }
            started => started?,
        };
        let found = VecDeque::from([Ok(Surveyed::Begin { session, start, sealed })]);
        let mut survey = Self { walk, sealed, found, is_over: false };
        if let Some(stop) = stop {
            survey.stopped(&stop)?;
        }
        Ok(survey)
    }

    /// What comes next, and the survey itself if it goes on.
    fn read(mut self) -> (Option<Self>, VecDeque<Result<Surveyed, JournalError>>) {
        let mut bytes = 0;
        while bytes < REPLAY_BYTES && !self.is_over {
            match self.step() {
                Ok(more) => bytes += more,
                Err(error) => {
                    self.found.push_back(Err(error));
                    self.is_over = true;
                }
            }
        }
        let found = std::mem::take(&mut self.found);
        (Some(self).filter(|survey| !survey.is_over), found)
    }

    /// Goes on by one frame; returns its size in bytes.
    fn step(&mut self) -> Result<usize, JournalError> {
        if let Some(end) = self.sealed.filter(|end| self.walk.at >= *end) {
            self.end(end);
            return Ok(0);
        }
        match self.walk.step()? {
            Step::Frame(at, frame) => match self.sealed {
                // The step went on into a group that the seal has cut off.
                Some(end) if at.lsn >= end => {
                    self.end(end);
                    Ok(0)
                }
                _ => {
                    self.found.push_back(Ok(Surveyed::Frame(at, frame)));
                    Ok(at.len as usize)
                }
            },
            Step::Stop(stop) => self.stopped(&stop).map(|()| 0),
        }
    }

    /// Ends the survey where the session ends, or notes the damage and goes on behind it.
    fn stopped(&mut self, stop: &Stop) -> Result<(), JournalError> {
        let is_end = match self.sealed {
            Some(end) => stop.at >= end,
            None if stop.is_newer => false,
            None => self.walk.window.durable_above(stop.later, stop.at)?.is_none(),
        };
        if is_end {
            self.end(self.sealed.unwrap_or(stop.at));
            return Ok(());
        }
        let about = self.about(stop.at)?;
        self.skip(stop)?;
        let area = self.walk.window.view.area;
        self.found.push_back(Ok(Surveyed::Damage(Damage {
            session: self.session(),
            from: stop.at,
            upto: self.walk.at,
            file_end: Lsn((stop.at.0 / area).saturating_add(1).saturating_mul(area)),
            why: stop.why.clone(),
            about,
        })));
        Ok(())
    }

    fn end(&mut self, end: Lsn) {
        self.found.push_back(Ok(Surveyed::End { session: self.session(), end }));
        self.is_over = true;
    }

    const fn session(&self) -> SessionId {
        self.walk.window.view.stream.session
    }

    /// Moves the walk behind what can't be read: to the next frame of the same group if the
    /// damaged one tells its length, else to the next group.
    fn skip(&mut self, stop: &Stop) -> Result<(), JournalError> {
        if let Some(group) = self.walk.group
            && let Some(next) = self.frame_end(stop.at)?
        {
            let end = group.frames_end();
            if next == end || (next < end && self.walk.window.frame_at(next, end)?.is_ok()) {
                self.walk.at = next;
                return Ok(());
            }
        }
        let window = &mut self.walk.window;
        let limit = self.sealed.map_or_else(|| window.view.end(), |end| end.0);
        let mut at = stop.later;
        while at < limit && window.group_at(at)?.is_err() {
            at = at.saturating_add(BLOCK);
        }
        self.walk.at = Lsn(at);
        self.walk.group = None;
        Ok(())
    }

    /// Where the frame at `at` ends, by its own header; `None` when that is not the frame's.
    fn frame_end(&mut self, at: Lsn) -> Result<Option<Lsn>, JournalError> {
        let head = self.head(at)?;
        Ok(head.map(|head| Lsn(at.0.saturating_add(FRAME_HEADER_SIZE as u64 + head.length))))
    }

    fn about(&mut self, at: Lsn) -> Result<Option<About>, JournalError> {
        if self.walk.group.is_none() {
            return Ok(None);
        }
        Ok(self.head(at)?.map(|head| (head.partition, head.offsets)))
    }

    fn head(&mut self, at: Lsn) -> Result<Option<Head>, JournalError> {
        let bytes = self.walk.window.get(at.0, FRAME_HEADER_SIZE + BATCH_HEAD_SIZE)?;
        let head = Head::decode(&bytes).ok();
        Ok(head.filter(|head| head.session == self.session() && head.position == at))
    }
}

/// What a damaged frame says of itself.
struct Head {
    length: u64,
    session: SessionId,
    position: Lsn,
    partition: PartitionId,
    offsets: Option<(Offset, Offset)>,
}

impl Head {
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut cursor = Cursor::new(bytes);
        let length = u64::from(cursor.u32("length")?);
        let kind = cursor.u8("kind")?;
        cursor.array::<3>("flags")?;
        let session = SessionId(cursor.u64("session")?);
        let position = Lsn(cursor.u64("position")?);
        let topic = Uuid(cursor.array("topic")?);
        let partition = PartitionId { topic, index: cursor.i32("partition")? };
        cursor.u32("checksum")?;
        let base = Offset(cursor.i64("base_offset")?);
        cursor.array::<15>("up to last_offset_delta")?;
        let delta = cursor.i32("last_offset_delta")?;
        let offsets = (kind == KIND_BATCH && base.0 >= 0 && delta >= 0)
            .then(|| (base, base.plus(i64::from(delta))));
        Ok(Self { length, session, position, partition, offsets })
    }
}
