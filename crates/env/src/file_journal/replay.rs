//! The frames of a session from a position on: of one that is sealed, or of one that is taken over.

use std::collections::VecDeque;
use std::sync::Arc;

use millstream_record::frame::Frame;
use millstream_types::{Lsn, SessionId};

use super::files::{Files, View};
use super::seal;
use super::walk::{Step, Stop, Walk, start_walk};
use crate::journal::{FrameAt, JournalError, Recovered};

/// How much is read and decoded at a time, in bytes.
pub(in crate::file_journal) const REPLAY_BYTES: usize = 1024 * 1024;

type Frames = VecDeque<(FrameAt, Frame)>;

/// A replay between two reads.
pub(super) struct Replay {
    files: Arc<Files>,
    session: SessionId,
    from: Lsn,
    walk: Option<(Walk, Lsn)>,
}

/// A take-over between two reads: a replay when it is known where the session ended, and otherwise the
/// search for that place.
pub(super) struct TakeOver {
    files: Arc<Files>,
    session: SessionId,
    from: Lsn,
    at: Place,
}

enum Place {
    Begin,
    /// It is known where it ended.
    Known(Replay, Lsn),
    /// It is not: on the way there.
    Searching(Walk, Option<Stop>),
    Ended(Lsn),
    Over,
}

impl Replay {
    pub(super) const fn new(files: Arc<Files>, session: SessionId, from: Lsn) -> Self {
        Self { files, session, from, walk: None }
    }

    /// The next frames; none at the end.
    pub(super) fn read(&mut self) -> Result<Frames, JournalError> {
        let mut found = VecDeque::new();
        if self.walk.is_none() {
            self.walk = self.start()?;
        }
        let Some((walk, end)) = &mut self.walk else { return Ok(found) };
        let mut bytes = 0;
        while bytes < REPLAY_BYTES && walk.at() < *end {
            match walk.step()? {
                // The step went on into a group that the seal has cut off.
                Step::Frame(at, _) if at.lsn >= *end => break,
                Step::Frame(at, frame) if at.lsn >= self.from => {
                    bytes += at.len as usize;
                    found.push_back((at, frame));
                }
                Step::Frame(..) => {}
                Step::Stop(_) if walk.skip_to(self.from) => {}
                Step::Stop(stop) if stop.at >= *end => break,
                Step::Stop(stop) => return Err(stop.corrupt(self.session, *end)),
            }
        }
        Ok(found)
    }

    fn start(&self) -> Result<Option<(Walk, Lsn)>, JournalError> {
        let session = self.session;
        let Some(end) = self.files.sealed(session) else {
            let why = format!("session {session} can't be replayed before it is sealed");
            return Err(JournalError::Storage(why));
        };
        if self.from >= end {
            return Ok(None);
        }
        let view = self.files.view(session)?;
        Ok(Some((walk_at(&view, self.from)?, end)))
    }
}

/// A walk from a group at or before `from`: the nearest, if it can be found.
fn walk_at(view: &View, from: Lsn) -> Result<Walk, JournalError> {
    match Walk::near(view, from)? {
        Some(walk) => Ok(walk),
        None => Walk::containing(view.clone(), from),
    }
}

impl TakeOver {
    pub(super) const fn new(files: Arc<Files>, session: SessionId, from: Lsn) -> Self {
        Self { files, session, from, at: Place::Begin }
    }

    /// What comes next; `None` after the end.
    pub(super) fn read(&mut self) -> Result<Option<Recovered>, JournalError> {
        if matches!(self.at, Place::Begin) {
            self.at = self.begin()?;
        }
        match &mut self.at {
            Place::Known(replay, end) => {
                let (found, end) = (replay.read()?, *end);
                if found.is_empty() {
                    self.at = Place::Over;
                    return Ok(Some(Recovered::End(end)));
                }
                Ok(Some(Recovered::Frames(found)))
            }
            Place::Searching(walk, stop) => {
                let (found, end) = search(walk, stop, self.from)?;
                if let Some(end) = end {
                    // Nothing of it counts before this is written down.
                    self.at = Place::Ended(self.files.seal(self.session, end)?);
                }
                Ok(Some(Recovered::Frames(found)))
            }
            Place::Ended(end) => {
                let end = *end;
                self.at = Place::Over;
                Ok(Some(Recovered::End(end)))
            }
            Place::Begin | Place::Over => Ok(None),
        }
    }

    fn begin(&self) -> Result<Place, JournalError> {
        let (session, from) = (self.session, self.from);
        let view = self.files.view(session).ok().filter(|view| view.ended.is_none());
        let Some(view) = view.filter(|_| self.files.sealed(session).is_none()) else {
            let end = seal(&self.files, session)?;
            return Ok(Place::Known(Replay::new(Arc::clone(&self.files), session, from), end));
        };
        for file in view.files.values() {
            file.drop_cache();
        }
        let is_within = (view.start()..view.end()).contains(&from.0);
        let near = if from.0 > 0 && is_within { Walk::near(&view, from)? } else { None };
        let (walk, stop) = match near {
            Some(walk) => (walk, None),
            None => start_walk(&view)?,
        };
        Ok(Place::Searching(walk, stop))
    }
}

/// The next frames, and where the session ends when that is found.
fn search(
    walk: &mut Walk,
    stop: &mut Option<Stop>,
    from: Lsn,
) -> Result<(Frames, Option<Lsn>), JournalError> {
    let mut found = VecDeque::new();
    let mut bytes = 0;
    while bytes < REPLAY_BYTES {
        if let Some(stop) = stop.take() {
            let end = walk.end(&stop)?;
            return Ok((found, Some(end)));
        }
        match walk.step()? {
            Step::Frame(at, frame) if at.lsn >= from => {
                bytes += at.len as usize;
                found.push_back((at, frame));
            }
            Step::Frame(..) => {}
            Step::Stop(_) if walk.skip_to(from) => {}
            Step::Stop(it) => *stop = Some(it),
        }
    }
    Ok((found, None))
}
