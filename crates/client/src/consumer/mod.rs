//! Consuming: partitions that the user chooses, or those that a group gives.

mod assignor;
mod fetched;
mod fetcher;
mod group;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use millstream_types::{Monotonic, Offset, Timestamp};

pub use assignor::{AssignedMember, Assignment, Assignor, Subscriptions};
pub use fetched::{FetchedBatch, FetchedRecord, FetchedRecordIter, FetchedRecords};
pub use group::GroupSettings;

use crate::admin::{CommittedOffset, Isolation};
use crate::cluster::{Cluster, LaneOwner, TopicPartition};
use crate::error::Error;
use fetcher::Fetcher;
use group::{Health, Membership};

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the first record that is kept.
    Earliest,
    /// With the next that will be written.
    Latest,
    /// With this offset.
    At(Offset),
    /// With the first record of this time or later.
    Time(Timestamp),
}

/// What to do where an offset is not there (any more).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reset {
    /// Go on with the first record that is kept.
    Earliest,
    /// Go on with the next that will be written.
    Latest,
    /// Fail.
    #[default]
    Fail,
}

/// How to consume.
#[derive(Clone, Debug)]
pub struct ConsumerSettings {
    /// How long a broker waits for records before it answers that there are none.
    pub fetch_wait: Duration,
    /// About how many bytes one answer has at most; at least one batch.
    pub fetch_bytes: usize,
    /// About how many of them are of one partition.
    pub partition_bytes: usize,
    /// Whether records of open and aborted transactions are seen.
    pub isolation: Isolation,
    /// What to do where an offset is not there, and where a group has none.
    pub reset: Reset,
    /// How long it is tried to read a partition that can't be read; `None` for ever.
    pub patience: Option<Duration>,
}

impl Default for ConsumerSettings {
    /// Half a second, 16 MiB, 1 MiB of each partition, everything, failing, for ever.
    fn default() -> Self {
        Self {
            fetch_wait: Duration::from_millis(500),
            fetch_bytes: 16 << 20,
            partition_bytes: 1 << 20,
            isolation: Isolation::default(),
            reset: Reset::default(),
            patience: None,
        }
    }
}

/// What a poll brings.
#[derive(Debug, Default)]
pub struct Polled {
    /// Batches, in the order of each partition. Empty when positions have moved without records:
    /// over markers, or to where reading starts.
    pub batches: Vec<FetchedBatch>,
    /// Whether the group has given other partitions than before.
    pub reassigned: bool,
}

/// Reads partitions. What it reads next is a *position* for each partition: the offset after the
/// last record that a poll has returned.
#[derive(Debug)]
pub struct Consumer {
    cluster: Cluster,
    settings: ConsumerSettings,
    fetcher: Fetcher,
    owner: LaneOwner,
    group: Option<Membership>,
    /// What the group has given and where reading has not begun yet: a poll that fails or is dropped
    /// leaves it to the next one.
    given: Option<Vec<TopicPartition>>,
    /// What the group is known to have committed.
    committed: BTreeMap<TopicPartition, Offset>,
    committed_at: Monotonic,
}

impl Consumer {
    /// A consumer of partitions that are still to be assigned.
    #[must_use]
    pub fn new(cluster: Cluster, settings: ConsumerSettings) -> Self {
        let owner = cluster.lane_owner();
        let fetcher = Fetcher::new(cluster.clone(), settings.clone(), owner);
        let committed_at = cluster.env().clock.monotonic();
        Self {
            cluster,
            settings,
            fetcher,
            owner,
            group: None,
            given: None,
            committed: BTreeMap::new(),
            committed_at,
        }
    }

    /// A consumer of those partitions of `topics` that a group gives it. It joins at the first
    /// poll, and must be polled from then on: who does not ask for records for longer than the
    /// rebalance timeout, while others join or leave, is left out.
    #[must_use]
    pub fn in_group(
        cluster: Cluster,
        settings: ConsumerSettings,
        group: GroupSettings,
        topics: impl IntoIterator<Item = impl Into<crate::TopicName>>,
    ) -> Self {
        let mut consumer = Self::new(cluster, settings);
        let topics: BTreeSet<_> = topics.into_iter().map(Into::into).collect();
        let cluster = consumer.cluster.clone();
        consumer.group = Some(Membership::new(cluster, group, consumer.owner, topics));
        consumer
    }

    /// Adds a partition, or begins anew with one. Not for members of a group.
    pub fn assign(&mut self, partition: TopicPartition, start: Start) {
        self.fetcher.assign(partition, start);
    }

    /// Takes a partition away.
    pub fn unassign(&mut self, partition: &TopicPartition) {
        self.fetcher.unassign(partition);
    }

    /// What is read.
    pub fn assignment(&self) -> impl Iterator<Item = &TopicPartition> {
        self.fetcher.assigned()
    }

    /// The next offset of each partition, where it is known already.
    #[must_use]
    pub fn positions(&self) -> BTreeMap<TopicPartition, Offset> {
        self.fetcher.positions()
    }

    /// Waits for records. In a group, what earlier polls have returned is taken for processed, and
    /// committed from time to time.
    ///
    /// Nothing is lost when the future is dropped before it completes.
    ///
    /// # Errors
    ///
    /// What will not go away by itself.
    pub async fn poll(&mut self) -> Result<Polled, Error> {
        loop {
            if self.join_if_need_be().await? {
                return Ok(Polled { reassigned: true, ..Polled::default() });
            }
            self.commit_from_time_to_time().await?;
            let Some(group) = &mut self.group else {
                let progress = self.fetcher.progress().await?;
                return Ok(Polled { batches: progress.batches, reassigned: false });
            };
            let patience = group.until_something_is_due();
            tokio::select! {
                biased;
                progress = self.fetcher.progress() => {
                    let batches = progress?.batches;
                    return Ok(Polled { batches, reassigned: false });
                }
                () = patience => {}
            }
        }
    }

    /// Joins the group if it is not a member, or the group asks it to. Returns whether it did.
    async fn join_if_need_be(&mut self) -> Result<bool, Error> {
        let Some(group) = &mut self.group else { return Ok(false) };
        match group.health() {
            Health::Fine if !group.has_outgrown().await => return self.begin_given().await,
            Health::Failed(error) => return Err(error),
            Health::Fine | Health::Rebalance => {
                // Others may get these partitions: they shall know how far they have been read.
                if group.settings().commit_every.is_some() {
                    match self.commit().await {
                        Err(error) if !error.is_about_membership() => return Err(error),
                        _ => {}
                    }
                }
            }
            Health::Lost => {}
        }
        let Some(group) = &mut self.group else { return Ok(false) };
        self.fetcher.clear();
        self.committed.clear();
        self.given = None;
        self.given = Some(group.join().await?);
        self.begin_given().await
    }

    /// Begins to read what the group has given. Returns whether there was anything new.
    async fn begin_given(&mut self) -> Result<bool, Error> {
        let (Some(group), Some(given)) = (&mut self.group, &self.given) else { return Ok(false) };
        let offsets = group.committed(given).await?;
        let mut starts = Vec::with_capacity(given.len());
        for partition in given {
            let start = match (offsets.get(partition), self.settings.reset) {
                (Some(committed), _) => Start::At(committed.offset),
                (None, Reset::Earliest) => Start::Earliest,
                (None, Reset::Latest) => Start::Latest,
                (None, Reset::Fail) => {
                    let group = &group.settings().id;
                    let why = format!("group {group} has no offset for partition {partition}");
                    return Err(Error::Invalid(why));
                }
            };
            starts.push((partition.clone(), start));
        }
        for (partition, start) in starts {
            self.fetcher.assign(partition, start);
        }
        self.committed = offsets.into_iter().map(|(of, at)| (of, at.offset)).collect();
        self.committed_at = self.cluster.env().clock.monotonic();
        self.given = None;
        Ok(true)
    }

    async fn commit_from_time_to_time(&mut self) -> Result<(), Error> {
        let every = self.group.as_ref().and_then(|group| group.settings().commit_every);
        let Some(every) = every else { return Ok(()) };
        let now = self.cluster.env().clock.monotonic();
        if now.since(self.committed_at) < every {
            return Ok(());
        }
        self.committed_at = now;
        match self.commit().await {
            // The next poll joins again, and what was not committed is read again.
            Err(error) if error.is_about_membership() => Ok(()),
            done => done,
        }
    }

    /// Commits all positions to the group.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] without a group; [`Error::Refused`] when the consumer is no longer a
    /// member.
    pub async fn commit(&mut self) -> Result<(), Error> {
        let positions = self.positions();
        self.commit_offsets(&positions).await
    }

    /// Commits these positions to the group.
    ///
    /// # Errors
    ///
    /// As [`Consumer::commit`].
    pub async fn commit_offsets(
        &mut self,
        positions: &BTreeMap<TopicPartition, Offset>,
    ) -> Result<(), Error> {
        let Some(group) = &mut self.group else {
            return Err(Error::Invalid("only members of a group can commit".to_owned()));
        };
        let changed = positions.iter().filter(|(of, at)| self.committed.get(of) != Some(at));
        let changed: BTreeMap<_, _> =
            changed.map(|(of, at)| (of.clone(), CommittedOffset::at(*at))).collect();
        if !changed.is_empty() {
            group.commit(&changed).await?;
            self.committed.extend(changed.into_iter().map(|(of, at)| (of, at.offset)));
        }
        Ok(())
    }

    /// Commits, if that is done automatically, and leaves the group.
    ///
    /// # Errors
    ///
    /// When the commit fails; the group is left all the same.
    pub async fn close(mut self) -> Result<(), Error> {
        let commits = self.group.as_ref().is_some_and(|group| {
            group.settings().commit_every.is_some() && matches!(group.health(), Health::Fine)
        });
        let committed = if commits { self.commit().await } else { Ok(()) };
        self.leave().await;
        committed
    }

    /// Leaves the group without a commit.
    pub async fn leave(mut self) {
        if let Some(group) = &mut self.group {
            group.leave().await;
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.cluster.release(self.owner);
    }
}
