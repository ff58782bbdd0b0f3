//! What admin tools ask beside topics and configuration: where partitions are, what they take, who
//! writes them. The codes are Apache Kafka's; the answers are those of a cluster of one node.

use bytes::Bytes;
use millstream::{Server, ServerConfig};
use millstream_record::BatchBuilder;
use millstream_types::{ProducerEpoch, ProducerId, Timestamp};
use millstream_wire::ErrorCode::{
    ElectionNotNeeded, InvalidReplicaAssignment, InvalidRequest, InvalidTopicException,
    InvalidUpdateVersion, LogDirNotFound, NoReassignmentInProgress, ReplicaNotAvailable,
    UnknownTopicOrPartition, UnsupportedVersion,
};
use millstream_wire::*;
use raw::{Client, batch};

#[allow(dead_code, reason = "other tests use more of it")]
mod raw;

const NO_ERROR: ErrorCode = ErrorCode::None;

/// A server with these settings and topics of so many partitions, and a client.
async fn start(settings: &[(&str, &str)], topics: &[(&'static str, i32)]) -> (Server, Client) {
    let mut config = ServerConfig::in_memory();
    for (name, value) in settings {
        config.settings.insert((*name).to_owned(), (*value).to_owned());
    }
    let server = Server::start(config).await.expect("starts");
    let mut client = Client::new(&server);
    create(&mut client, topics).await;
    (server, client)
}

async fn create(client: &mut Client, topics: &[(&'static str, i32)]) {
    let topics = topics.iter().map(|(name, partitions)| create_topics_request::CreatableTopic {
        name: (*name).into(),
        num_partitions: *partitions,
        replication_factor: 1,
        ..Default::default()
    });
    let request = CreateTopicsRequest { topics: topics.collect(), ..Default::default() };
    let answer = client.ask(7, request).await;
    assert!(answer.topics.iter().all(|topic| topic.error_code == 0), "{answer:?}");
}

async fn produce(client: &mut Client, topic: &'static str, records: Bytes) {
    use produce_request::{PartitionProduceData, TopicProduceData};
    let partition = PartitionProduceData { index: 0, records: Some(records.into()) };
    let request = ProduceRequest {
        transactional_id: None,
        acks: -1,
        timeout_ms: 1_000,
        topic_data: vec![TopicProduceData {
            name: topic.into(),
            partition_data: vec![partition],
            ..Default::default()
        }],
    };
    let answer = client.ask(9, request).await;
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
}

fn code(code: i16) -> ErrorCode {
    ErrorCode::or_unknown(code)
}

#[tokio::test]
async fn topics_are_described_a_page_at_a_time() {
    use describe_topic_partitions_request::{Cursor, TopicRequest};
    let topics = [("a", 3), ("b", 2), ("c", 1)];
    let (server, mut client) = start(&[("max.request.partition.size.limit", "2")], &topics).await;
    let all = [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1), ("c", 0)];
    // Asked for, wanted in a page, found in each page: partitions by topic; -1 is an error.
    for (asked, limit, pages) in [
        (vec![], 2_000, vec![&all[..2], &all[2..4], &all[4..]]),
        (vec![], 1, all.chunks(1).collect()),
        (vec![], -5, all.chunks(1).collect()),
        (vec!["c", "b", "b"], 2, vec![&all[3..5], &all[5..]]),
        (vec!["c", "aa"], 2, vec![&[("aa", -1), ("c", 0)]]),
        (vec!["x", "c", "aa"], 2, vec![&[("aa", -1), ("c", 0)], &[("x", -1)]]),
    ] {
        let mut cursor = None;
        for page in &pages {
            let topics = asked.iter().map(|name| TopicRequest { name: (*name).into() });
            let request = DescribeTopicPartitionsRequest {
                topics: topics.collect(),
                response_partition_limit: limit,
                cursor,
            };
            let answer = client.ask(0, request).await;
            let mut found = Vec::new();
            for topic in &answer.topics {
                let name = topic.name.as_deref().expect("a name");
                let partitions = topic.partitions.iter();
                match code(topic.error_code) {
                    NO_ERROR => found.extend(partitions.map(|one| (name, one.partition_index))),
                    error => {
                        assert_eq!(error, UnknownTopicOrPartition);
                        found.push((name, -1));
                    }
                }
            }
            assert_eq!(found, *page, "{asked:?}");
            cursor = answer.next_cursor.map(|next| Cursor {
                topic_name: next.topic_name,
                partition_index: next.partition_index,
            });
        }
        assert_eq!(cursor, None, "{asked:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn cursors_and_names_that_mean_nothing_are_refused() {
    use describe_topic_partitions_request::{Cursor, TopicRequest};
    let (server, mut client) = start(&[], &[("a", 1)]).await;
    let at = |topic: &'static str, partition_index| {
        Some(Cursor { topic_name: topic.into(), partition_index })
    };
    for (topic, cursor, expected) in [
        ("a", None, NO_ERROR),
        ("a", at("a", 0), NO_ERROR),
        ("a", at("a", 7), NO_ERROR),
        ("a", at("a", -1), InvalidRequest),
        ("a", at("b", 0), InvalidRequest),
        ("no/topic", None, InvalidTopicException),
    ] {
        let topics = vec![TopicRequest { name: topic.into() }];
        let request = DescribeTopicPartitionsRequest { topics, cursor, ..Default::default() };
        let asked = format!("{request:?}");
        let answer = client.ask(0, request).await;
        assert_eq!(code(answer.topics[0].error_code), expected, "{asked}");
    }
    server.stop().await;
}

#[tokio::test]
async fn log_dirs_tell_what_partitions_take_and_what_there_is() {
    use describe_log_dirs_request::DescribableLogDirTopic;
    let place = tempfile::tempdir().expect("a directory");
    let server = Server::start(ServerConfig::in_directory(place.path())).await.expect("starts");
    let mut client = Client::new(&server);
    create(&mut client, &[("a", 1), ("b", 2)]).await;
    produce(&mut client, "b", batch()).await;
    produce(&mut client, "b", batch()).await;
    let stored = 2 * batch().len() as i64;
    let named = |name: &'static str, partitions: &[i32]| DescribableLogDirTopic {
        topic: name.into(),
        partitions: partitions.to_vec(),
    };
    for (topics, expected) in [
        (None, vec![("a", 0, 0), ("b", 0, stored), ("b", 1, 0)]),
        (Some(vec![]), vec![]),
        (Some(vec![named("x", &[0]), named("b", &[0, 9, 0])]), vec![("b", 0, stored)]),
        (Some(vec![named("a", &[1])]), vec![]),
    ] {
        let answer = client.ask(4, DescribeLogDirsRequest { topics }).await;
        let [dir] = answer.results.as_slice() else { panic!("{answer:?}") };
        assert_eq!(dir.log_dir.as_str(), place.path().display().to_string());
        let found = dir.topics.iter().flat_map(|topic| {
            let one = |one: &describe_log_dirs_response::DescribeLogDirsPartition| {
                (topic.name.as_str(), one.partition_index, one.partition_size)
            };
            topic.partitions.iter().map(one)
        });
        assert_eq!(found.collect::<Vec<_>>(), expected);
        assert!(0 < dir.usable_bytes && dir.usable_bytes <= dir.total_bytes, "{dir:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn the_producers_of_a_partition_are_described() {
    use describe_producers_request::TopicRequest;
    let (server, mut client) = start(&[], &[("a", 1)]).await;
    let id = client.ask(4, InitProducerIdRequest { transactional_id: None, ..Default::default() });
    let id = id.await.producer_id;
    let mut sent = BatchBuilder::new().producer(ProducerId(id), ProducerEpoch(0), 0);
    for _ in 0..3 {
        sent.append(Timestamp(1_000), None, Some(b"v"), &[]);
    }
    produce(&mut client, "a", batch()).await;
    produce(&mut client, "a", sent.build().expect("a batch")).await;
    let topics = vec![
        TopicRequest { name: "a".into(), partition_indexes: vec![0, 1, 0] },
        TopicRequest { name: "b".into(), partition_indexes: vec![0] },
        TopicRequest { name: "no/topic".into(), partition_indexes: vec![0] },
    ];
    let answer = client.ask(0, DescribeProducersRequest { topics }).await;
    let told = answer.topics.iter().flat_map(|topic| &topic.partitions);
    let told: Vec<_> = told.map(|one| (one.partition_index, code(one.error_code))).collect();
    let expected = [
        (0, NO_ERROR),
        (1, UnknownTopicOrPartition),
        (0, UnknownTopicOrPartition),
        (0, InvalidTopicException),
    ];
    assert_eq!(told, expected);
    let [known] = answer.topics[0].partitions[0].active_producers.as_slice() else {
        panic!("{answer:?}")
    };
    assert_eq!((known.producer_id, known.producer_epoch, known.last_sequence), (id, 0, 2));
    assert_eq!((known.coordinator_epoch, known.current_txn_start_offset), (-1, -1));
    assert!(known.last_timestamp > 1_000, "by the broker's clock");
    server.stop().await;
}

#[tokio::test]
async fn what_is_configured_is_listed() {
    use incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
    let (server, mut client) = start(&[], &[("a", 1), ("b", 1)]).await;
    let set = |resource_type, name: &'static str, config: &'static str, value: &'static str| {
        AlterConfigsResource {
            resource_type,
            resource_name: name.into(),
            configs: vec![AlterableConfig {
                name: config.into(),
                config_operation: 0,
                value: Some(value.into()),
            }],
        }
    };
    let resources = vec![
        set(16, "metrics", "interval.ms", "1000"),
        set(32, "group", "consumer.session.timeout.ms", "50000"),
    ];
    let altered =
        client.ask(1, IncrementalAlterConfigsRequest { resources, ..Default::default() }).await;
    assert!(altered.responses.iter().all(|one| one.error_code == 0), "{altered:?}");
    let all = [(2, "a"), (2, "b"), (4, "1"), (16, "metrics"), (32, "group")];
    for (version, types, error, expected) in [
        (0, vec![], NO_ERROR, vec![all[3]]),
        (1, vec![], NO_ERROR, all.to_vec()),
        (1, vec![2, 2], NO_ERROR, all[..2].to_vec()),
        (1, vec![4, 8], NO_ERROR, vec![all[2]]),
        (1, vec![16, 32], NO_ERROR, all[3..].to_vec()),
        (1, vec![2, 3], UnsupportedVersion, vec![]),
    ] {
        let request = ListConfigResourcesRequest { resource_types: types.clone() };
        let answer = client.ask(version, request).await;
        assert_eq!(code(answer.error_code), error, "{types:?}");
        let resources = answer.config_resources.iter();
        let mut found: Vec<_> =
            resources.map(|one| (one.resource_type, one.resource_name.as_str())).collect();
        found.sort_unstable();
        assert_eq!(found, expected, "{types:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn no_leader_has_to_be_elected() {
    use elect_leaders_request::TopicPartitions;
    let (server, mut client) = start(&[], &[("a", 2)]).await;
    for election_type in [0, 1] {
        let topic = |name: &'static str, partitions: &[i32]| TopicPartitions {
            topic: name.into(),
            partitions: partitions.to_vec(),
        };
        let named = Some(vec![topic("a", &[1, 2]), topic("b", &[0])]);
        for (topic_partitions, expected) in [
            (named, vec![ElectionNotNeeded, UnknownTopicOrPartition, UnknownTopicOrPartition]),
            (None, vec![]),
        ] {
            let request =
                ElectLeadersRequest { election_type, topic_partitions, ..Default::default() };
            let answer = client.ask(2, request).await;
            assert_eq!(answer.error_code, 0);
            let results =
                answer.replica_election_results.iter().flat_map(|topic| &topic.partition_result);
            let told: Vec<_> = results.map(|one| code(one.error_code)).collect();
            assert_eq!(told, expected);
        }
    }
    let request = ElectLeadersRequest { election_type: 2, ..Default::default() };
    assert_eq!(code(client.ask(2, request).await.error_code), InvalidRequest);
    server.stop().await;
}

#[tokio::test]
async fn partitions_stay_where_they_are() {
    use alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
    let (server, mut client) = start(&[], &[("a", 1)]).await;
    for (topic, partition_index, replicas, expected) in [
        ("a", 0, Some(vec![1]), NO_ERROR),
        ("a", 0, Some(vec![7]), InvalidReplicaAssignment),
        ("a", 0, Some(vec![1, 7]), InvalidReplicaAssignment),
        ("a", 0, Some(vec![1, 1]), InvalidReplicaAssignment),
        ("a", 0, Some(vec![]), InvalidReplicaAssignment),
        ("a", 0, None, NoReassignmentInProgress),
        ("a", 1, Some(vec![1]), UnknownTopicOrPartition),
        ("b", 0, None, UnknownTopicOrPartition),
    ] {
        let partitions =
            vec![ReassignablePartition { partition_index, replicas: replicas.clone() }];
        let topics = vec![ReassignableTopic { name: topic.into(), partitions }];
        let request = AlterPartitionReassignmentsRequest { topics, ..Default::default() };
        let answer = client.ask(1, request).await;
        let told = code(answer.responses[0].partitions[0].error_code);
        assert_eq!(
            (answer.error_code, told),
            (0, expected),
            "{topic}-{partition_index} {replicas:?}"
        );
    }
    let request = ListPartitionReassignmentsRequest { topics: None, ..Default::default() };
    let moving = client.ask(0, request).await;
    assert_eq!((moving.error_code, moving.topics.len()), (0, 0));
    server.stop().await;
}

#[tokio::test]
async fn there_is_one_directory() {
    use alter_replica_log_dirs_request::{AlterReplicaLogDir, AlterReplicaLogDirTopic};
    let (server, mut client) = start(&[], &[("a", 1)]).await;
    for (path, partition, expected) in [
        ("memory", 0, NO_ERROR),
        ("memory", 1, ReplicaNotAvailable),
        ("/elsewhere", 0, LogDirNotFound),
    ] {
        let topics =
            vec![AlterReplicaLogDirTopic { name: "a".into(), partitions: vec![partition] }];
        let dirs = vec![AlterReplicaLogDir { path: path.into(), topics }];
        let answer = client.ask(2, AlterReplicaLogDirsRequest { dirs }).await;
        assert_eq!(code(answer.results[0].partitions[0].error_code), expected, "{path}");
    }
    server.stop().await;
}

#[tokio::test]
async fn the_metadata_are_kept_by_this_node_alone() {
    use describe_quorum_request::{PartitionData, TopicData};
    let (server, mut client) = start(&[], &[("a", 1)]).await;
    let asked = |topic: &'static str, indexes: &[i32]| {
        let partition = |index: &i32| PartitionData { partition_index: *index };
        let partitions = indexes.iter().map(partition).collect();
        DescribeQuorumRequest { topics: vec![TopicData { topic_name: topic.into(), partitions }] }
    };
    let answer = client.ask(2, asked("__cluster_metadata", &[0])).await;
    let before = answer.topics[0].partitions[0].clone();
    assert_eq!((before.error_code, before.leader_id, before.leader_epoch), (0, 1, 1));
    let [voter] = before.current_voters.as_slice() else { panic!("{answer:?}") };
    assert_eq!((voter.replica_id, voter.log_end_offset), (1, before.high_watermark));
    create(&mut client, &[("b", 1)]).await;
    let answer = client.ask(2, asked("__cluster_metadata", &[0])).await;
    assert_eq!(answer.topics[0].partitions[0].high_watermark, before.high_watermark + 1);
    for (topic, indexes) in
        [("a", vec![0]), ("__cluster_metadata", vec![1]), ("__cluster_metadata", vec![0, 0])]
    {
        let answer = client.ask(2, asked(topic, &indexes)).await;
        let told = answer.topics[0].partitions.iter().map(|one| code(one.error_code));
        let expected = vec![UnknownTopicOrPartition; indexes.len()];
        assert_eq!(told.collect::<Vec<_>>(), expected, "{topic} {indexes:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn features_that_are_not_there_can_only_be_switched_off() {
    use update_features_request::FeatureUpdateKey;
    let (server, mut client) = start(&[], &[]).await;
    for (max_version_level, upgrade_type, expected) in [
        (0, 1, NO_ERROR),
        (0, 2, NO_ERROR),
        (1, 1, InvalidUpdateVersion),
        (-1, 2, InvalidUpdateVersion),
        (0, 9, InvalidUpdateVersion),
    ] {
        for version in [1, 2] {
            let update = FeatureUpdateKey {
                feature: "metadata.version".into(),
                max_version_level,
                upgrade_type,
                ..Default::default()
            };
            let request =
                UpdateFeaturesRequest { feature_updates: vec![update], ..Default::default() };
            let answer = client.ask(version, request).await;
            let named = usize::from(version == 1 && expected == NO_ERROR);
            let told = (code(answer.error_code), answer.results.len());
            assert_eq!(told, (expected, named), "v{version} {max_version_level} {upgrade_type}");
        }
    }
    server.stop().await;
}
