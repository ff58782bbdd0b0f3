//! Streams groups (KIP-1071), described as other groups are: a member reads what its active tasks read.

use std::collections::BTreeMap;

use millstream_wire::streams_group_describe_response as streams;
use millstream_wire::{StrBytes, StreamsGroupDescribeRequest};

use super::Admin;
use super::groups::{GroupDescription, GroupMember, group_name, group_target};
use super::topics::missing;
use crate::cluster::TopicPartition;
use crate::error::Error;

impl Admin {
    pub(super) async fn describe_streams_group(&self, id: &str) -> Result<GroupDescription, Error> {
        let request = StreamsGroupDescribeRequest {
            group_ids: vec![StrBytes::from(id.to_owned())],
            ..Default::default()
        };
        let mut group = self
            .at(group_target(id), &request, |answer| {
                let found = answer.groups.first().ok_or_else(|| missing(&group_name(id)))?;
                let message = found.error_message.as_deref();
                Error::check(found.error_code, message, || group_name(id))?;
                Ok(decode(found))
            })
            .await?;
        group.coordinator = self.coordinator_of(id).await?;
        Ok(group)
    }
}

fn decode(group: &streams::DescribedGroup) -> GroupDescription {
    let parts = group.topology.iter().flat_map(|topology| topology.subtopologies.iter().flatten());
    let inputs: BTreeMap<&str, Vec<&str>> = parts
        .map(|part| {
            let sources = part.source_topics.iter().map(StrBytes::as_str);
            let between = part.repartition_source_topics.iter().map(|topic| topic.name.as_str());
            (part.subtopology_id.as_str(), sources.chain(between).collect())
        })
        .collect();
    let reads = |tasks: &streams::TaskIds| -> Vec<TopicPartition> {
        let topics = inputs.get(tasks.subtopology_id.as_str()).into_iter().flatten();
        let each = topics.flat_map(|topic| {
            tasks.partitions.iter().map(|&partition| TopicPartition::new(*topic, partition))
        });
        each.collect()
    };
    let members = group.members.iter().map(|member| GroupMember {
        id: member.member_id.as_str().to_owned(),
        instance_id: member.instance_id.as_deref().map(str::to_owned),
        client_id: member.client_id.as_str().to_owned(),
        host: member.client_host.as_str().to_owned(),
        assignment: member.assignment.active_tasks.iter().flat_map(reads).collect(),
    });
    GroupDescription {
        id: group.group_id.as_str().to_owned(),
        kind: "streams",
        state: group.group_state.as_str().to_owned(),
        protocol_type: "streams".to_owned(),
        assignor: group.assignor_name.as_deref().unwrap_or_default().to_owned(),
        coordinator: -1,
        members: members.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_read_what_their_active_tasks_read() {
        let ids = |part: &str, partitions: &[i32]| streams::TaskIds {
            subtopology_id: StrBytes::from(part.to_owned()),
            partitions: partitions.to_vec(),
        };
        let part = |id: &str, sources: &[&str], between: &[&str]| streams::Subtopology {
            subtopology_id: StrBytes::from(id.to_owned()),
            source_topics: sources.iter().map(|name| StrBytes::from((*name).to_owned())).collect(),
            repartition_source_topics: between
                .iter()
                .map(|name| streams::TopicInfo {
                    name: StrBytes::from((*name).to_owned()),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        };
        let parts = vec![part("0", &["a", "b"], &[]), part("1", &[], &["r"])];
        let member = streams::Member {
            member_id: StrBytes::from("m".to_owned()),
            assignment: streams::Assignment {
                active_tasks: vec![ids("0", &[0, 2]), ids("1", &[1]), ids("gone", &[0])],
                standby_tasks: vec![ids("1", &[0])],
                ..Default::default()
            },
            ..Default::default()
        };
        let group = streams::DescribedGroup {
            topology: Some(streams::Topology { epoch: 0, subtopologies: Some(parts) }),
            members: vec![member],
            ..Default::default()
        };
        let described = decode(&group);
        let read: Vec<_> = described.members.iter().flat_map(|it| &it.assignment).collect();
        let expected = [("a", 0), ("a", 2), ("b", 0), ("b", 2), ("r", 1)];
        let expected: Vec<_> = expected.map(|(topic, it)| TopicPartition::new(topic, it)).into();
        assert_eq!(read, expected.iter().collect::<Vec<_>>());
        assert_eq!((described.kind, described.members.len()), ("streams", 1));
    }
}
