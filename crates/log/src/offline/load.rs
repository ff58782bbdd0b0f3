//! From checkpoint and journals to what is stored of each partition.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use millstream_env::{BlobError, Damage, FrameAt, JournalError, Surveyed};
use millstream_record::checkpoint::PartitionImage;
use millstream_record::frame::{Frame, FrameBody};
use millstream_record::layout::LayoutEntry;
use millstream_types::{Lsn, Offset, PartitionId, SessionId};

use super::{Finding, FindingKind, Journaled, Offline, OfflineStores, Place, SessionPart, Stored};
use crate::chain::Chain;
use crate::epochs::Epochs;
use crate::error::OpenError;
use crate::settings::{Former, Trim};
use crate::state::Change;

/// A load under way.
struct Load {
    stores: OfflineStores,
    former: SessionId,
    trim: Option<Trim>,
    partitions: BTreeMap<PartitionId, Stored>,
    sessions: Vec<SessionPart>,
    findings: Vec<Finding>,
    chain: Chain,
    /// Whether there should be a checkpoint and it can't be read: then partitions begin anywhere.
    is_blind: bool,
    reach: BTreeMap<SessionId, Lsn>,
}

impl Offline {
    /// Loads the log of `partitions` as `former` left it, from a survey of the same journals. What
    /// else the journals hold is of deleted topics and left out.
    ///
    /// Never fails: what can't be read is among [`Offline::findings`].
    pub async fn load(
        stores: OfflineStores,
        mut journal: BoxStream<'static, Result<Surveyed, JournalError>>,
        former: Option<Former>,
        partitions: impl IntoIterator<Item = PartitionId>,
    ) -> Self {
        let (session, trim) =
            former.map_or((SessionId(0), None), |former| (former.session, former.trim));
        let mut load = Load {
            stores,
            former: session,
            trim,
            partitions: partitions.into_iter().map(|id| (id, Stored::default())).collect(),
            sessions: Vec::new(),
            findings: Vec::new(),
            chain: Chain::default(),
            is_blind: false,
            reach: BTreeMap::new(),
        };
        if let Some(trim) = load.trim.clone()
            && let Err(error) = load.checkpoint(&trim).await
        {
            let kind = match error {
                OpenError::Blob(ref error) if !matches!(error, BlobError::NotFound(_)) => {
                    FindingKind::Storage
                }
                _ => FindingKind::Checkpoint,
            };
            let place = Place::Blob { name: trim.checkpoint.clone(), position: 0 };
            load.findings.push(Finding::new(kind, error.to_string()).at(place));
            load.is_blind = true;
            // What older ones of the chain say does not fit what is left of the journal.
            load.partitions.values_mut().for_each(|stored| *stored = Stored::default());
        }
        while let Some(next) = journal.next().await {
            load.survey(next);
        }
        load.check_reach();
        let newest = load.trim.map(|trim| trim.checkpoint);
        let checkpoints = load.chain.names().cloned().chain(newest).collect();
        let mut offline = Self {
            stores: load.stores,
            checkpoints,
            is_blind: load.is_blind,
            partitions: load.partitions,
            sessions: load.sessions,
            findings: load.findings,
            reach: load.reach,
        };
        if load.is_blind {
            offline.adopt_segments().await;
        }
        offline
    }
}

impl Load {
    async fn checkpoint(&mut self, trim: &Trim) -> Result<(), OpenError> {
        let (blobs, cluster) = (Arc::clone(&self.stores.blobs), self.stores.cluster);
        if trim.lsn > Lsn(0) {
            self.reaches(trim.session, Lsn(trim.lsn.0 + 1));
        }
        let take = |image: PartitionImage| {
            self.reaches(trim.session, image.applied);
            for batch in &image.backlog {
                let end = batch.lsn.0.saturating_add(u64::from(batch.len));
                self.reaches(batch.session, Lsn(end));
            }
            if let Some(stored) = self.partitions.get_mut(&image.id) {
                *stored = Stored::from(image);
            }
            Ok(())
        };
        self.chain = Chain::load(blobs.as_ref(), cluster, trim, take).await?;
        Ok(())
    }

    fn reaches(&mut self, session: SessionId, lsn: Lsn) {
        let reach = self.reach.entry(session).or_default();
        *reach = lsn.max(*reach);
    }

    fn survey(&mut self, next: Result<Surveyed, JournalError>) {
        match next {
            Ok(Surveyed::Begin { session, start, sealed }) => {
                let end = sealed.unwrap_or(start);
                let sealed = sealed.is_some();
                self.sessions.push(SessionPart { session, start, end, sealed, frames: 0 });
                self.check_start(session, start);
                // Positions of different sessions are not comparable.
                if self.trim.as_ref().is_none_or(|trim| session > trim.session) {
                    self.partitions.values_mut().for_each(|stored| stored.applied = Lsn(0));
                }
            }
            Ok(Surveyed::Frame(at, frame)) => {
                if let Some(part) = self.sessions.last_mut() {
                    part.frames += 1;
                }
                if self.is_replayed(at.session, at.end()) {
                    self.frame(at, &frame);
                }
            }
            Ok(Surveyed::Damage(damage)) => self.damage(damage),
            Ok(Surveyed::End { end, .. }) => {
                if let Some(part) = self.sessions.last_mut() {
                    part.end = end;
                }
            }
            Err(error) => {
                let kind = match error {
                    JournalError::Corrupt(_) => FindingKind::Journal,
                    _ => FindingKind::Storage,
                };
                self.findings.push(Finding::new(kind, error.to_string()));
            }
        }
    }

    /// Recovery reads a session from the checkpoint on, or from its beginning.
    fn check_start(&mut self, session: SessionId, start: Lsn) {
        let from = match &self.trim {
            _ if self.is_blind || session > self.former => return,
            Some(trim) if session < trim.session => return,
            Some(trim) if session == trim.session => trim.lsn,
            _ => Lsn(0),
        };
        if start > from {
            let why = format!(
                "session {session}: recovery begins at {from}, and the files before {start} are gone"
            );
            let place = Place::Journal { session, position: start };
            self.findings.push(Finding::new(FindingKind::Journal, why).at(place));
        }
    }

    /// The frame that recovery begins with must be there.
    fn check_reach(&mut self) {
        let Some(trim) = self.trim.as_ref().filter(|trim| trim.lsn > Lsn(0)) else { return };
        let part = self.sessions.iter().find(|part| part.session == trim.session);
        if part.is_none_or(|part| part.end <= trim.lsn) {
            let (session, lsn) = (trim.session, trim.lsn);
            let why = format!("the journal of session {session} does not reach {lsn}: it is lost");
            self.findings.push(Finding::new(FindingKind::Journal, why));
        }
    }

    /// Whether what ends at `end` in the journal of `session` comes after the checkpoint.
    fn is_replayed(&self, session: SessionId, end: Lsn) -> bool {
        // Without the checkpoint, whatever is left of the journal is worth having.
        let after = self.is_blind
            || self.trim.as_ref().is_none_or(|trim| {
                session > trim.session || (session == trim.session && end > trim.lsn)
            });
        after && session <= self.former
    }

    fn damage(&mut self, damage: Damage) {
        let Damage { session, from, upto, why, about, .. } = damage;
        // What is below the checkpoint nobody reads; of a session that is not sealed and that the
        // checkpoint says nothing of, all is read, to find its end.
        let is_read = self.sessions.last().is_some_and(|part| {
            let is_of_trim = |trim: &Trim| trim.session == session;
            let nothing_left =
                |trim: &Trim| is_of_trim(trim) && part.sealed && trim.lsn >= part.end;
            let is_replayed =
                self.is_replayed(session, upto) && !self.trim.as_ref().is_some_and(nothing_left);
            is_replayed || !part.sealed && !self.trim.as_ref().is_some_and(is_of_trim)
        });
        let kind = if is_read { FindingKind::Journal } else { FindingKind::UnreadJournal };
        let why = format!("{why}; reading goes on at {upto}, {} bytes later", upto.0 - from.0);
        let place = Place::Journal { session, position: from };
        let mut finding = Finding::new(kind, why).at(place);
        if let Some((id, offsets)) = about.filter(|(id, _)| self.partitions.contains_key(id)) {
            finding = finding.of(id);
            finding.offsets = offsets.map(|(base, last)| base..last.next());
        }
        self.findings.push(finding);
    }

    fn frame(&mut self, at: FrameAt, frame: &Frame) {
        let id = frame.partition;
        let is_blind = self.is_blind;
        let Some(stored) = self.partitions.get_mut(&id) else { return };
        if at.end() <= stored.applied {
            return;
        }
        let change = match Change::decode(&frame.body) {
            Ok(change) => stored.apply(at, change, &frame.body, is_blind),
            Err(error) => Err(error.to_string()),
        };
        if let Err(why) = change {
            let place = Place::Journal { session: at.session, position: at.lsn };
            self.findings.push(Finding::new(FindingKind::Frame, why).of(id).at(place));
        }
    }
}

impl Stored {
    /// Does what a frame says, as far as it makes sense. Gaps are not judged here: they show when
    /// the partition is read, if nothing has filled them.
    fn apply(
        &mut self,
        at: FrameAt,
        change: Change,
        body: &FrameBody,
        is_blind: bool,
    ) -> Result<(), String> {
        match change {
            Change::Batch(header) | Change::Marker(header, _) => {
                let (base, last) = (header.base_offset, header.last_offset());
                if is_blind && self.log_end == Offset::ZERO && self.segments.is_empty() {
                    (self.log_start, self.log_end) = (base, base);
                }
                if base < self.log_end {
                    return Err(format!(
                        "a batch at {base}, though the log ends at {}",
                        self.log_end
                    ));
                }
                let FrameBody::Batch(batch) = body else { return Ok(()) };
                let size = u32::try_from(batch.size()).unwrap_or(u32::MAX);
                self.backlog.push_back(Journaled { at, base, last, size });
                if header.producer_id.0 >= 0 && !header.attributes.is_control() {
                    self.sent.push(header);
                }
                self.epochs.apply(header.leader_epoch, base);
                self.log_end = last.next();
            }
            Change::Layout(LayoutEntry::LogStart(offset)) => self.move_start(offset),
            Change::Layout(LayoutEntry::SegmentCommitted(segment)) => {
                let (base, end) = (segment.run.base, segment.run.end);
                let laid_end = self.segments.last().map_or(self.log_start, |last| last.run.end);
                if end <= laid_end {
                    return Err(format!(
                        "a segment up to {end}, though segments go to {laid_end} already"
                    ));
                }
                self.backlog.retain(|batch| batch.base >= end || batch.last < base);
                self.log_end = self.log_end.max(end);
                self.segments.push(segment);
            }
            Change::Layout(LayoutEntry::SegmentsReplaced { removed, added }) => {
                self.segments.retain(|segment| !removed.contains(&segment.run.base));
                self.segments.extend(added);
                self.segments.sort_by_key(|segment| segment.run.base);
            }
            Change::Layout(LayoutEntry::Compacted { removed, added, forgotten }) => {
                self.segments.retain(|segment| !removed.contains(&segment.run.base));
                self.segments.extend(added);
                self.segments.sort_by_key(|segment| segment.run.base);
                self.aborted.retain(|txn| !forgotten.contains(&txn.last));
            }
            Change::Layout(LayoutEntry::Lost(range)) => {
                self.backlog.retain(|batch| batch.base >= range.upto || batch.last < range.from);
                self.log_end = self.log_end.max(range.upto);
                self.lost.push(range);
            }
        }
        Ok(())
    }

    fn move_start(&mut self, offset: Offset) {
        self.floor = self.floor.max(offset);
        if offset <= self.log_start {
            return;
        }
        self.log_start = offset;
        self.log_end = self.log_end.max(offset);
        self.segments.retain(|segment| segment.run.end > offset);
        self.lost.retain(|range| range.upto > offset);
        while self.backlog.pop_front_if(|batch| batch.last < offset).is_some() {}
        self.epochs.trim(offset);
    }
}

impl From<PartitionImage> for Stored {
    fn from(image: PartitionImage) -> Self {
        let backlog = image.backlog.into_iter().map(|batch| Journaled {
            at: FrameAt { session: batch.session, lsn: batch.lsn, len: batch.len },
            base: batch.base,
            last: batch.last,
            size: batch.size,
        });
        Self {
            applied: image.applied,
            log_start: image.log_start,
            floor: image.log_start,
            log_end: image.log_end,
            epochs: Epochs::new(image.epochs),
            backlog: backlog.collect(),
            segments: image.segments,
            lost: image.lost,
            producers: image.producers,
            aborted: image.aborted,
            last_append_time: image.last_append_time,
            sent: Vec::new(),
        }
    }
}
