//! Who may store and read the offsets of a streams group.

use super::member::Current;
use super::state::StreamsGroup;
use crate::group::command::{Commit, Reader};
use crate::group::reply::{CommitError, FetchRefused};

impl StreamsGroup {
    /// Whether a commit may be stored, `within` a transaction or not.
    ///
    /// A member may be behind the epoch that it was told last, for tasks that it had then and has had
    /// since: nobody else can have committed for them meanwhile (KIP-1251).
    pub(in crate::group) fn check_commit(
        &self,
        commit: &Commit,
        within: bool,
    ) -> Result<(), CommitError> {
        let speaker = &commit.speaker;
        if speaker.generation < 0 && self.members().is_empty() {
            return Ok(());
        }
        let member = self.member(&speaker.member).ok_or(CommitError::UnknownMember)?;
        if let Some(instance) = &speaker.instance
            && self.id_of(instance) != Some(&speaker.member)
        {
            return Err(CommitError::FencedInstance);
        }
        if !within && !commit.speaks_epochs {
            return Err(CommitError::NotServed);
        }
        let current = &member.current;
        let is_old = speaker.generation >= 0 && speaker.generation < current.epoch;
        let known = speaker.generation == current.epoch
            || (is_old && self.has_had_since(current, commit, speaker.generation));
        if known { Ok(()) } else { Err(CommitError::StaleEpoch) }
    }

    fn has_had_since(&self, current: &Current, commit: &Commit, epoch: i32) -> bool {
        let Some(topology) = self.topology() else { return false };
        commit.topics.iter().all(|topic| {
            let Some(part) = topology.reader_of(&topic.name) else { return false };
            let given = |index: i32| {
                let held = [&current.assigned, &current.revoking];
                held.into_iter().find_map(|held| held.active.get(part)?.get(&index).copied())
            };
            let mut indexes = topic.partitions.iter().map(|partition| partition.index);
            indexes.all(|index| given(index).is_some_and(|given| given <= epoch))
        })
    }

    /// Whether offsets may be told.
    pub(in crate::group) fn check_fetch(&self, reader: &Reader) -> Result<(), FetchRefused> {
        let Some(id) = reader.member.as_ref().filter(|_| reader.epoch >= 0) else { return Ok(()) };
        let member = self.member(id).ok_or(FetchRefused::UnknownMember)?;
        if reader.epoch == member.current.epoch { Ok(()) } else { Err(FetchRefused::StaleEpoch) }
    }
}
