//! Groups and the offsets that they have committed.

use std::collections::BTreeMap;

use millstream_types::{LeaderEpoch, Offset};
use millstream_wire::consumer_group_describe_response as consumer;
use millstream_wire::describe_groups_response as classic;
use millstream_wire::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use millstream_wire::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use millstream_wire::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use millstream_wire::{
    ConsumerGroupDescribeRequest, ConsumerProtocolAssignment, DeleteGroupsRequest,
    DescribeGroupsRequest, ErrorCode, ListGroupsRequest, OffsetCommitRequest, OffsetCommitResponse,
    OffsetDeleteRequest, OffsetFetchRequest, OffsetFetchResponse, StrBytes, stored,
};

use super::topics::missing;
use super::{Admin, by_topic};
use crate::cluster::{Cluster, Coordinated, Lane, Target, TopicPartition};
use crate::error::Error;

/// A group, in short.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupListing {
    /// Its id.
    pub id: String,
    /// `classic`, `consumer` and so on, in whatever case the broker writes it; empty where the
    /// broker is too old to say.
    pub kind: String,
    /// Its state, such as `Stable`; empty where the broker is too old to say.
    pub state: String,
    /// What kind of program it is for, such as `consumer`.
    pub protocol_type: String,
}

/// A group with its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    /// Its id.
    pub id: String,
    /// `classic`, `consumer` or `streams`.
    pub kind: &'static str,
    /// Its state, such as `Stable`.
    pub state: String,
    /// What kind of program it is for, such as `consumer`.
    pub protocol_type: String,
    /// How partitions are assigned.
    pub assignor: String,
    /// The broker that coordinates it.
    pub coordinator: i32,
    /// Its members.
    pub members: Vec<GroupMember>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// The id that the group knows it by.
    pub id: String,
    /// The id that it has given itself, if it is a static member.
    pub instance_id: Option<String>,
    /// How the client calls itself.
    pub client_id: String,
    /// Where it is.
    pub host: String,
    /// What it reads.
    pub assignment: Vec<TopicPartition>,
}

/// An offset that a group has committed: the next that it will read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The offset.
    pub offset: Offset,
    /// The epoch of the leader that the last record read was from, if known.
    pub leader_epoch: LeaderEpoch,
    /// What the committer noted.
    pub metadata: String,
}

impl CommittedOffset {
    /// An offset without epoch and note.
    #[must_use]
    pub const fn at(offset: Offset) -> Self {
        Self { offset, leader_epoch: LeaderEpoch::NONE, metadata: String::new() }
    }
}

impl Admin {
    /// All groups of all brokers, by id.
    ///
    /// # Errors
    ///
    /// When a broker does not answer: its groups would be missing.
    pub async fn list_groups(&self) -> Result<Vec<GroupListing>, Error> {
        // The list of brokers must be a new one.
        self.cluster.all_topics().await?;
        let mut groups = Vec::new();
        for &broker in self.cluster.metadata().brokers.keys() {
            let request = ListGroupsRequest::default();
            let listed = self.at(Target::Broker(broker), &request, |answer| {
                Error::check(answer.error_code, None, || format!("groups of broker {broker}"))?;
                let groups = answer.groups.iter().map(|group| GroupListing {
                    id: group.group_id.as_str().to_owned(),
                    kind: group.group_type.as_str().to_owned(),
                    state: group.group_state.as_str().to_owned(),
                    protocol_type: group.protocol_type.as_str().to_owned(),
                });
                Ok(groups.collect::<Vec<_>>())
            });
            groups.extend(listed.await?);
        }
        groups.sort();
        groups.dedup_by(|a, b| a.id == b.id);
        Ok(groups)
    }

    /// A group with its members.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with `GROUP_ID_NOT_FOUND` when there is no such group.
    pub async fn describe_group(&self, id: &str) -> Result<GroupDescription, Error> {
        // Brokers that know the newer protocols don't describe their groups by the older request.
        if let Some(group) = if_of_type(self.describe_consumer_group(id).await)? {
            return Ok(group);
        }
        if let Some(group) = if_of_type(self.describe_streams_group(id).await)? {
            return Ok(group);
        }
        self.describe_classic_group(id).await
    }

    async fn describe_classic_group(&self, id: &str) -> Result<GroupDescription, Error> {
        let request = DescribeGroupsRequest {
            groups: vec![StrBytes::from(id.to_owned())],
            ..Default::default()
        };
        let mut group = self
            .at(group_target(id), &request, |answer| {
                let found = answer.groups.first().ok_or_else(|| missing(&group_name(id)))?;
                let message = found.error_message.as_deref();
                Error::check(found.error_code, message, || group_name(id))?;
                // So brokers before version 6 say that there is none.
                if found.group_state == "Dead" {
                    let (what, code) = (group_name(id), ErrorCode::GroupIdNotFound);
                    return Err(Error::Refused { what, code, message: None });
                }
                Ok(decode_classic(found))
            })
            .await?;
        group.coordinator = self.coordinator_of(id).await?;
        Ok(group)
    }

    async fn describe_consumer_group(&self, id: &str) -> Result<GroupDescription, Error> {
        let request = ConsumerGroupDescribeRequest {
            group_ids: vec![StrBytes::from(id.to_owned())],
            ..Default::default()
        };
        let mut group = self
            .at(group_target(id), &request, |answer| {
                let found = answer.groups.first().ok_or_else(|| missing(&group_name(id)))?;
                let message = found.error_message.as_deref();
                Error::check(found.error_code, message, || group_name(id))?;
                Ok(decode_consumer(found))
            })
            .await?;
        group.coordinator = self.coordinator_of(id).await?;
        Ok(group)
    }

    pub(super) async fn coordinator_of(&self, id: &str) -> Result<i32, Error> {
        self.cluster.coordinator(&Coordinated::Group(id.to_owned())).await
    }

    /// Deletes a group that has no members, and its offsets.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`], for example with `NON_EMPTY_GROUP`.
    pub async fn delete_group(&self, id: &str) -> Result<(), Error> {
        let request = DeleteGroupsRequest { groups_names: vec![StrBytes::from(id.to_owned())] };
        self.at(group_target(id), &request, |answer| {
            let found = answer.results.first().ok_or_else(|| missing(&group_name(id)))?;
            Error::check(found.error_code, found.error_message.as_deref(), || group_name(id))
        })
        .await
    }

    /// All offsets that a group has committed. None for a group that there isn't.
    ///
    /// # Errors
    ///
    /// When the coordinator does not answer.
    pub async fn committed_offsets(
        &self,
        group: &str,
    ) -> Result<BTreeMap<TopicPartition, CommittedOffset>, Error> {
        committed_offsets(&self.cluster, group, None).await
    }

    /// Commits offsets on behalf of a group that has no members.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`], with `UNKNOWN_MEMBER_ID` when the group has members.
    pub async fn commit_offsets(
        &self,
        group: &str,
        offsets: &BTreeMap<TopicPartition, CommittedOffset>,
    ) -> Result<(), Error> {
        let request = commit_request(group, offsets);
        let target = group_target(group);
        let mut retry = self.cluster.retry(target.clone());
        loop {
            let call =
                self.cluster.call_within(&target, Lane::Control, &request, NEWEST_BY_NAME).await;
            match call.and_then(|answer| commit_answer(&answer, group)) {
                Err(error) => retry.after(error).await?,
                done => return done,
            }
        }
    }

    /// Deletes offsets that a group has committed for topics that none of its members reads.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`], for example with `GROUP_SUBSCRIBED_TO_TOPIC`.
    pub async fn delete_offsets(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<(), Error> {
        let items = partitions.iter().map(|of| (of.clone(), ()));
        let topics = by_topic(items).into_iter().map(|(name, partitions)| {
            let partitions = partitions
                .into_iter()
                .map(|(partition_index, ())| OffsetDeleteRequestPartition { partition_index });
            OffsetDeleteRequestTopic {
                name: StrBytes::from(name.to_string()),
                partitions: partitions.collect(),
            }
        });
        let request = OffsetDeleteRequest {
            group_id: StrBytes::from(group.to_owned()),
            topics: topics.collect(),
        };
        self.at(group_target(group), &request, |answer| {
            Error::check(answer.error_code, None, || group_name(group))?;
            let partitions = answer.topics.iter().flat_map(|topic| {
                topic.partitions.iter().map(move |partition| (&topic.name, partition))
            });
            for (topic, partition) in partitions {
                let what =
                    || format!("{} on {topic}-{}", group_name(group), partition.partition_index);
                Error::check(partition.error_code, None, what)?;
            }
            Ok(())
        })
        .await
    }
}

/// `None` where the group is of another type, or the broker does not know the type that was asked for.
fn if_of_type(
    described: Result<GroupDescription, Error>,
) -> Result<Option<GroupDescription>, Error> {
    match described {
        Ok(group) => Ok(Some(group)),
        Err(Error::Unsupported { .. }) => Ok(None),
        Err(error) => match error.code() {
            Some(ErrorCode::GroupIdNotFound | ErrorCode::UnsupportedVersion) => Ok(None),
            _ => Err(error),
        },
    }
}

pub(super) fn group_target(id: &str) -> Target {
    Target::Coordinator(Coordinated::Group(id.to_owned()))
}

pub(super) fn group_name(id: &str) -> String {
    format!("group {id}")
}

fn decode_classic(group: &classic::DescribedGroup) -> GroupDescription {
    let members = group.members.iter().map(|member| GroupMember {
        id: member.member_id.as_str().to_owned(),
        instance_id: member.group_instance_id.as_deref().map(str::to_owned),
        client_id: member.client_id.as_str().to_owned(),
        host: member.client_host.as_str().to_owned(),
        // Other protocols than the consumers' assign something else, which is none of ours.
        assignment: stored::decode_value::<ConsumerProtocolAssignment>(&member.member_assignment)
            .map(|assignment| decode_assignment(&assignment))
            .unwrap_or_default(),
    });
    GroupDescription {
        id: group.group_id.as_str().to_owned(),
        kind: "classic",
        state: group.group_state.as_str().to_owned(),
        protocol_type: group.protocol_type.as_str().to_owned(),
        assignor: group.protocol_data.as_str().to_owned(),
        coordinator: -1,
        members: members.collect(),
    }
}

fn decode_consumer(group: &consumer::DescribedGroup) -> GroupDescription {
    let members = group.members.iter().map(|member| {
        let assignment = member.assignment.topic_partitions.iter().flat_map(|topic| {
            let name = topic.topic_name.as_str();
            topic.partitions.iter().map(move |&partition| TopicPartition::new(name, partition))
        });
        GroupMember {
            id: member.member_id.as_str().to_owned(),
            instance_id: member.instance_id.as_deref().map(str::to_owned),
            client_id: member.client_id.as_str().to_owned(),
            host: member.client_host.as_str().to_owned(),
            assignment: assignment.collect(),
        }
    });
    GroupDescription {
        id: group.group_id.as_str().to_owned(),
        kind: "consumer",
        state: group.group_state.as_str().to_owned(),
        protocol_type: "consumer".to_owned(),
        assignor: group.assignor_name.as_str().to_owned(),
        coordinator: -1,
        members: members.collect(),
    }
}

/// The partitions of an assignment, in the order in which it names them.
pub(crate) fn decode_assignment(assignment: &ConsumerProtocolAssignment) -> Vec<TopicPartition> {
    let partitions = assignment.assigned_partitions.iter().flat_map(|topic| {
        let name: std::sync::Arc<str> = topic.topic.as_str().into();
        let partitions = topic.partitions.iter();
        partitions.map(move |&partition| TopicPartition { topic: name.clone(), partition })
    });
    partitions.collect()
}

/// A request that commits `offsets` on behalf of nobody in particular.
pub(crate) fn commit_request(
    group: &str,
    offsets: &BTreeMap<TopicPartition, CommittedOffset>,
) -> OffsetCommitRequest {
    let items = offsets.iter().map(|(of, committed)| (of.clone(), committed));
    let topics = by_topic(items).into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(partition_index, committed)| {
            OffsetCommitRequestPartition {
                partition_index,
                committed_offset: committed.offset.0,
                committed_leader_epoch: committed.leader_epoch.0,
                committed_metadata: Some(committed.metadata.clone().into()),
            }
        });
        OffsetCommitRequestTopic {
            name: StrBytes::from(name.to_string()),
            partitions: partitions.collect(),
            ..Default::default()
        }
    });
    OffsetCommitRequest {
        group_id: StrBytes::from(group.to_owned()),
        topics: topics.collect(),
        ..Default::default()
    }
}

/// Whether everything was committed.
pub(crate) fn commit_answer(answer: &OffsetCommitResponse, group: &str) -> Result<(), Error> {
    for topic in &answer.topics {
        for partition in &topic.partitions {
            let of = format_args!("{}-{}", topic.name, partition.partition_index).to_string();
            Error::check(partition.error_code, None, || format!("group {group} on {of}"))?;
        }
    }
    Ok(())
}

/// The newest version that names topics rather than their ids, of OffsetCommit and OffsetFetch.
pub(crate) const NEWEST_BY_NAME: i16 = 9;

/// The offsets that a group has committed, for some partitions or for all.
pub(crate) async fn committed_offsets(
    cluster: &Cluster,
    group: &str,
    of: Option<&[TopicPartition]>,
) -> Result<BTreeMap<TopicPartition, CommittedOffset>, Error> {
    let target = group_target(group);
    let mut retry = cluster.retry(target.clone());
    loop {
        let attempt = async {
            let connection = cluster.connection(&target, Lane::Control).await?;
            let version = connection.version_within::<OffsetFetchRequest>(NEWEST_BY_NAME)?;
            let request = fetch_request(group, of, version);
            fetch_answer(&connection.call(&request, version).await?, group)
        };
        match attempt.await {
            Err(error) => retry.after(error).await?,
            done => return done,
        }
    }
}

fn fetch_request(group: &str, of: Option<&[TopicPartition]>, version: i16) -> OffsetFetchRequest {
    let topics = of.map(|of| by_topic(of.iter().map(|of| (of.clone(), ()))));
    let numbers =
        |partitions: &Vec<(i32, ())>| partitions.iter().map(|(index, ())| *index).collect();
    let group_id = StrBytes::from(group.to_owned());
    let name = |name: &str| StrBytes::from(name.to_owned());
    if version < 8 {
        let topics = topics.map(|topics| {
            let each = topics.iter().map(|(topic, partitions)| OffsetFetchRequestTopic {
                name: name(topic),
                partition_indexes: numbers(partitions),
            });
            each.collect()
        });
        return OffsetFetchRequest { group_id, topics, ..Default::default() };
    }
    let topics = topics.map(|topics| {
        let each = topics.iter().map(|(topic, partitions)| OffsetFetchRequestTopics {
            name: name(topic),
            partition_indexes: numbers(partitions),
            ..Default::default()
        });
        each.collect()
    });
    let groups = vec![OffsetFetchRequestGroup { group_id, topics, ..Default::default() }];
    OffsetFetchRequest { groups, ..Default::default() }
}

fn fetch_answer(
    answer: &OffsetFetchResponse,
    group: &str,
) -> Result<BTreeMap<TopicPartition, CommittedOffset>, Error> {
    Error::check(answer.error_code, None, || group_name(group))?;
    let mut found = BTreeMap::new();
    let mut take = |topic: &str, partition, error, offset, epoch, metadata: Option<&str>| {
        let of = TopicPartition::new(topic, partition);
        Error::check(error, None, || format!("group {group} on {of}"))?;
        // -1: nothing is committed.
        if offset >= 0 {
            let (offset, leader_epoch) = (Offset(offset), LeaderEpoch(epoch));
            let metadata = metadata.unwrap_or_default().to_owned();
            found.insert(of, CommittedOffset { offset, leader_epoch, metadata });
        }
        Ok::<_, Error>(())
    };
    for topic in &answer.topics {
        for p in &topic.partitions {
            let note = p.metadata.as_deref();
            let (index, offset, epoch) =
                (p.partition_index, p.committed_offset, p.committed_leader_epoch);
            take(&topic.name, index, p.error_code, offset, epoch, note)?;
        }
    }
    for each in &answer.groups {
        Error::check(each.error_code, None, || group_name(group))?;
        for topic in &each.topics {
            for p in &topic.partitions {
                let note = p.metadata.as_deref();
                let (index, offset, epoch) =
                    (p.partition_index, p.committed_offset, p.committed_leader_epoch);
                take(&topic.name, index, p.error_code, offset, epoch, note)?;
            }
        }
    }
    Ok(found)
}
