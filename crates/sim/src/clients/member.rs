//! What members of groups of both protocols have in common: they read what they own, commit how far they
//! are, and must not succeed with that once another one owns it.

use std::sync::Arc;
use std::time::Duration;

use millstream_env::Dice;
use millstream_testkit::history::{Client, Group, Moment, Outcome, Place, Step};
use millstream_types::Offset;
use millstream_wire::ErrorCode;
use millstream_wire::messages::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use millstream_wire::messages::offset_fetch_request::OffsetFetchRequest;

use super::offsets::{self, Asker};
use super::reader::{Fetcher, Position};
use crate::drive::Topic;
use crate::history::partition;
use crate::rpc::{Link, Lost, version};
use crate::trace::note;
use crate::world::World;

/// The first version of OffsetCommit and OffsetFetch in which topics are named by their ids.
const IDS_SINCE: i16 = 10;

/// The first version of both that members of the consumer protocol use.
const EPOCHS_SINCE: i16 = 9;

/// A member of a group.
pub(crate) struct Member {
    pub(crate) world: Arc<World>,
    pub(crate) dice: Dice,
    pub(crate) name: String,
    pub(crate) client: Client,
    pub(crate) group: (&'static str, Group),
    pub(crate) topic: Topic,
    pub(crate) id: String,
    /// Its generation, or member epoch.
    pub(crate) epoch: i32,
    fetcher: Fetcher,
    /// Whether it speaks the consumer protocol.
    speaks_consumer: bool,
}

/// What a member does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whim {
    /// It goes on.
    None,
    /// It leaves properly.
    Leave,
    /// It is gone without a word.
    Crash,
    /// It does nothing for so long, and then goes on.
    Freeze(Duration),
}

impl Member {
    pub(crate) fn new(
        world: &Arc<World>,
        role: &str,
        group: (&'static str, Group),
        topic: Topic,
        speaks_consumer: bool,
    ) -> Self {
        let (world, mut dice) = (Arc::clone(world), world.dice());
        let fetcher = Fetcher::new(&world, role, dice.chance(128), Vec::new());
        let (client, name) = (fetcher.client, fetcher.name.clone());
        let (id, epoch) = (String::new(), 0);
        Self { world, dice, name, client, group, topic, id, epoch, fetcher, speaks_consumer }
    }

    /// What it owns now.
    pub(crate) fn owned(&self) -> Vec<i32> {
        self.fetcher.positions.iter().map(|it| it.index).collect()
    }

    /// Draws what it does next.
    pub(crate) fn whim(&mut self) -> Whim {
        match self.dice.below(60) {
            0 => Whim::Leave,
            1 => Whim::Crash,
            2 | 3 => Whim::Freeze(Duration::from_millis(self.dice.below(8_000))),
            _ => Whim::None,
        }
    }

    /// Owns these partitions from now on, and goes on in them where the group is.
    pub(crate) async fn take_over(
        &mut self,
        link: &mut Link,
        mut owned: Vec<i32>,
    ) -> Result<Result<(), ErrorCode>, Lost> {
        owned.sort_unstable();
        note!(self.world, "{}: owns {owned:?} in {}", self.name, self.epoch);
        let mut kept = self.fetcher.positions.clone();
        kept.retain(|it| owned.contains(&it.index));
        let new = owned.into_iter().filter(|index| !kept.iter().any(|it| it.index == *index));
        let new: Vec<_> = new.collect();
        for index in &new {
            let what = (self.group.1, partition(self.topic.number, *index));
            self.world.claim(what, self.client, self.epoch);
        }
        self.fetcher.assign(kept);
        for index in new {
            match self.committed(link, index).await? {
                Ok(next) => {
                    let mut positions = self.fetcher.positions.clone();
                    positions.push(Position::new(self.topic.clone(), index, next));
                    self.fetcher.assign(positions);
                }
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(Ok(()))
    }

    /// Owns nothing any more.
    pub(crate) fn lose_all(&mut self) {
        self.fetcher.assign(Vec::new());
    }

    /// A new connection.
    pub(crate) fn reconnected(&mut self) {
        self.fetcher.reconnected();
    }

    async fn committed(
        &mut self,
        link: &mut Link,
        index: i32,
    ) -> Result<Result<Offset, ErrorCode>, Lost> {
        let least = if self.speaks_consumer { EPOCHS_SINCE } else { 7 };
        let version = version::<OffsetFetchRequest>(&mut self.dice, least, 10);
        let member = (self.speaks_consumer && self.epoch > 0).then(|| self.id.clone());
        let asker = Asker { member, epoch: self.epoch };
        loop {
            let (client, asked) = (self.client, (version, &asker));
            let at = (&self.topic, index);
            match offsets::fetch(&self.world, link, client, self.group, at, asked).await? {
                Ok(offset) => return Ok(Ok(offset.unwrap_or(Offset(0)))),
                Err(ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable) => {
                    offsets::find_coordinators(link, self.group.0).await?;
                }
                Err(error) if !error.retriable() => return Ok(Err(error)),
                Err(_) => {}
            }
            self.world.nap(Duration::from_millis(300)).await;
        }
    }

    /// Reads what it owns.
    pub(crate) async fn poll(&mut self, link: &mut Link) -> Result<(), Lost> {
        if self.fetcher.positions.is_empty() {
            return Ok(());
        }
        self.fetcher.poll(link).await.map(|_| ())
    }

    /// Commits how far it is; what it was told, if that was an error.
    pub(crate) async fn commit(&mut self, link: &mut Link) -> Result<Option<ErrorCode>, Lost> {
        if self.fetcher.positions.is_empty() {
            return Ok(None);
        }
        let begun = self.world.history.moment();
        let least = if self.speaks_consumer { EPOCHS_SINCE } else { 2 };
        let version = version::<OffsetCommitRequest>(&mut self.dice, least, 10);
        let request = self.commit_request(version);
        let answer = link.call(&request, version).await;
        let Ok(answer) = answer else {
            for at in 0..self.fetcher.positions.len() {
                self.committed_as(begun, at, Outcome::Unknown);
            }
            return Err(Lost);
        };
        let mut told = None;
        let codes = answer.topics.iter().flat_map(|topic| &topic.partitions);
        let codes: Vec<_> = codes.map(|it| (it.partition_index, it.error_code)).collect();
        for (at, index) in self.owned().into_iter().enumerate() {
            let code = codes.iter().find(|(of, _)| *of == index).map_or(-1, |(_, code)| *code);
            let error = ErrorCode::or_unknown(code);
            let outcome = match error {
                ErrorCode::None => Outcome::Succeeded,
                error if error.retriable() => Outcome::Unknown,
                _ => Outcome::Failed,
            };
            self.committed_as(begun, at, outcome);
            if error != ErrorCode::None {
                note!(self.world, "{}: commit of {index}: {error:?}", self.name);
                told = Some(error);
            }
        }
        Ok(told)
    }

    fn commit_request(&self, version: i16) -> OffsetCommitRequest {
        let partitions = self.fetcher.positions.iter().map(|it| OffsetCommitRequestPartition {
            partition_index: it.index,
            committed_offset: it.next.0,
            committed_leader_epoch: -1,
            committed_metadata: Some("".into()),
        });
        let mut topic =
            OffsetCommitRequestTopic { partitions: partitions.collect(), ..Default::default() };
        if version >= IDS_SINCE {
            topic.topic_id = self.topic.id;
        } else {
            topic.name = self.topic.name.into();
        }
        OffsetCommitRequest {
            group_id: self.group.0.into(),
            generation_id_or_member_epoch: self.epoch,
            member_id: self.id.clone().into(),
            topics: vec![topic],
            ..OffsetCommitRequest::default()
        }
    }

    /// Writes down how the commit of one of its partitions ended.
    fn committed_as(&self, begun: Moment, at: usize, outcome: Outcome) {
        let Some(position) = self.fetcher.positions.get(at) else { return };
        let partition = partition(self.topic.number, position.index);
        let (group, place) = (self.group.1, Place { partition, offset: position.next });
        if outcome == Outcome::Succeeded {
            self.world.count("commits");
            let me = (self.client, self.epoch);
            if let Some(other) = self.world.claimed_since((group, partition), me, begun) {
                self.world.violation(format!(
                    "{} has committed {} in {partition:?}, which client {} owned before",
                    self.name, position.next, other.0
                ));
            }
        }
        let step = Step::Commit { group, place };
        self.world.history.plain(self.client, begun, outcome, step);
    }
}
