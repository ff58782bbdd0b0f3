//! Who may store and read the offsets of a consumer group.

use super::member::{Current, Owned};
use super::state::ConsumerGroup;
use super::world::World;
use crate::group::command::{Commit, Reader};
use crate::group::reply::{CommitError, FetchRefused};

impl ConsumerGroup {
    /// Whether a commit may be stored.
    ///
    /// A member may be behind the epoch that it was told last, for partitions that it had then and
    /// has had since: nobody else can have committed them meanwhile (KIP-1251).
    pub(in crate::group) fn check_commit(
        &self,
        commit: &Commit,
        world: &dyn World,
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
        let current = &member.current;
        if member.about.classic.is_some() {
            let known = speaker.generation == current.epoch;
            return if known { Ok(()) } else { Err(CommitError::IllegalGeneration) };
        }
        if !commit.speaks_epochs {
            return Err(CommitError::NotServed);
        }
        let is_old = speaker.generation >= 0 && speaker.generation < current.epoch;
        let known = speaker.generation == current.epoch
            || (is_old && has_had_since(current, commit, speaker.generation, world));
        if known { Ok(()) } else { Err(CommitError::StaleEpoch) }
    }

    /// Whether offsets may be told.
    pub(in crate::group) fn check_fetch(&self, reader: &Reader) -> Result<(), FetchRefused> {
        let Some(id) = reader.member.as_ref().filter(|_| reader.epoch >= 0) else { return Ok(()) };
        let member = self.member(id).ok_or(FetchRefused::UnknownMember)?;
        if reader.epoch == member.current.epoch { Ok(()) } else { Err(FetchRefused::StaleEpoch) }
    }
}

fn has_had_since(current: &Current, commit: &Commit, epoch: i32, world: &dyn World) -> bool {
    let had = |owned: &Owned, topic, index| {
        let given = owned.get(&topic).and_then(|of_topic| of_topic.get(&index));
        given.is_some_and(|given| *given <= epoch)
    };
    commit.topics.iter().all(|topic| {
        let id = topic.id.or_else(|| world.named(&topic.name).map(|(id, _)| id));
        let indexes = topic.partitions.iter().map(|partition| partition.index);
        id.is_some_and(|id| {
            indexes
                .into_iter()
                .all(|index| had(&current.assigned, id, index) || had(&current.revoking, id, index))
        })
    })
}
