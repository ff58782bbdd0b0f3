//! Finding offsets.

use std::collections::BTreeMap;

use millstream_types::{LeaderEpoch, Offset, Timestamp};
use millstream_wire::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use millstream_wire::{ListOffsetsRequest, ListOffsetsResponse, StrBytes};

use super::{Admin, by_leader, by_topic};
use crate::cluster::{Cluster, Lane, Target, TopicPartition};
use crate::error::Error;

/// Which offset is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The first that is kept.
    Earliest,
    /// The next that will be written.
    Latest,
    /// The record with the latest timestamp.
    MaxTimestamp,
    /// The first record with this timestamp or a later one.
    At(Timestamp),
}

/// Whether records of open and aborted transactions count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// They do.
    #[default]
    ReadUncommitted,
    /// They don't.
    ReadCommitted,
}

/// An offset that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundOffset {
    /// The offset; `None` when no record is meant (none is as late as that).
    pub offset: Option<Offset>,
    /// The record's timestamp, where one record was looked for.
    pub timestamp: Option<Timestamp>,
    /// The epoch of the leader that wrote it, if known.
    pub leader_epoch: LeaderEpoch,
}

impl OffsetSpec {
    const fn timestamp(self) -> i64 {
        match self {
            Self::Latest => -1,
            Self::Earliest => -2,
            Self::MaxTimestamp => -3,
            Self::At(Timestamp(at)) => {
                // Negative numbers have other meanings; no record is older than 1970.
                if at < 0 { 0 } else { at }
            }
        }
    }

    /// The first version of ListOffsets that understands it.
    const fn version_min(self) -> i16 {
        match self {
            Self::MaxTimestamp => 7,
            Self::Earliest | Self::Latest | Self::At(_) => 1,
        }
    }
}

impl Isolation {
    /// The number on the wire.
    #[must_use]
    pub const fn level(self) -> i8 {
        match self {
            Self::ReadUncommitted => 0,
            Self::ReadCommitted => 1,
        }
    }
}

impl Admin {
    /// Finds one offset for each partition.
    ///
    /// # Errors
    ///
    /// When one of them can't be had.
    pub async fn list_offsets(
        &self,
        wanted: &[(TopicPartition, OffsetSpec)],
        isolation: Isolation,
    ) -> Result<BTreeMap<TopicPartition, FoundOffset>, Error> {
        list_offsets(&self.cluster, wanted, isolation).await
    }
}

/// As [`Admin::list_offsets`].
pub(crate) async fn list_offsets(
    cluster: &Cluster,
    wanted: &[(TopicPartition, OffsetSpec)],
    isolation: Isolation,
) -> Result<BTreeMap<TopicPartition, FoundOffset>, Error> {
    let mut found = BTreeMap::new();
    // Leadership is what goes stale; which one is asked for makes no difference to that.
    let mut retry = cluster.retry(Target::Controller);
    loop {
        let missing = wanted.iter().filter(|(of, _)| !found.contains_key(of)).cloned();
        let missing: Vec<_> = missing.collect();
        if missing.is_empty() {
            return Ok(found);
        }
        if let Err(error) = attempt(cluster, missing, isolation, &mut found).await {
            retry.after(error).await?;
        }
    }
}

/// Asks every leader once; what was found is kept whatever fails after it.
async fn attempt(
    cluster: &Cluster,
    wanted: Vec<(TopicPartition, OffsetSpec)>,
    isolation: Isolation,
    found: &mut BTreeMap<TopicPartition, FoundOffset>,
) -> Result<(), Error> {
    let leaders = by_leader(cluster, wanted).await?;
    let calls = leaders.into_iter().map(|(leader, wanted)| ask(cluster, leader, wanted, isolation));
    let mut outcome = Ok(());
    for answer in futures_util::future::join_all(calls).await {
        let read = answer.and_then(|answer| read(&answer, found));
        outcome = outcome.and(read);
    }
    outcome
}

async fn ask(
    cluster: &Cluster,
    leader: i32,
    wanted: Vec<(TopicPartition, OffsetSpec)>,
    isolation: Isolation,
) -> Result<ListOffsetsResponse, Error> {
    let connection = cluster.connection(&Target::Broker(leader), Lane::Control).await?;
    let version = connection.version::<ListOffsetsRequest>()?;
    if let Some((_, spec)) = wanted.iter().find(|(_, spec)| spec.version_min() > version) {
        let (oldest, newest) = (spec.version_min(), i16::MAX);
        let address = connection.address().clone();
        return Err(Error::Unsupported { address, request: "ListOffsets", oldest, newest });
    }
    let topics = by_topic(wanted).into_iter().map(|(name, partitions)| ListOffsetsTopic {
        name: StrBytes::from(name.to_string()),
        partitions: partitions
            .into_iter()
            .map(|(partition_index, spec)| ListOffsetsPartition {
                partition_index,
                timestamp: spec.timestamp(),
                ..Default::default()
            })
            .collect(),
    });
    let request = ListOffsetsRequest {
        replica_id: -1,
        isolation_level: if version >= 2 { isolation.level() } else { 0 },
        topics: topics.collect(),
        ..Default::default()
    };
    connection.call(&request, version).await
}

fn read(
    answer: &ListOffsetsResponse,
    found: &mut BTreeMap<TopicPartition, FoundOffset>,
) -> Result<(), Error> {
    let mut outcome = Ok(());
    for topic in &answer.topics {
        for partition in &topic.partitions {
            let of = TopicPartition::new(topic.name.as_str(), partition.partition_index);
            match Error::check(partition.error_code, None, || format!("partition {of}")) {
                Ok(()) => {
                    let offset = (partition.offset >= 0).then_some(Offset(partition.offset));
                    let timestamp =
                        (partition.timestamp >= 0).then_some(Timestamp(partition.timestamp));
                    let leader_epoch = LeaderEpoch(partition.leader_epoch);
                    found.insert(of, FoundOffset { offset, timestamp, leader_epoch });
                }
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
    }
    outcome
}
