//! Every API that is advertised answers, in every version that is advertised, with a response that
//! decodes. A field that a version lacks, or a null that it forbids, fails here and not at a client.

#![expect(clippy::panic, reason = "helpers of tests fail by panicking")]

use std::ops::RangeInclusive;

use bytes::Bytes;
use millstream::{Server, ServerConfig};
use millstream_types::Uuid;
use millstream_wire::*;
use raw::{Client, batch};

#[allow(dead_code, reason = "other tests use more of it")]
mod raw;

const TOPIC: &str = "t";
const GROUP: &str = "g";

fn versions(api: ApiKey) -> RangeInclusive<i16> {
    let served = millstream::served().iter().find(|served| served.api == api);
    served.unwrap_or_else(|| panic!("{} is not served", api.name())).versions.clone()
}

macro_rules! each {
    ($client:ident, $api:ident, |$version:ident| $request:expr) => {
        for $version in versions(ApiKey::$api) {
            let response = $client.ask($version, $request).await;
            // Shown by `--nocapture`, to read what clients get.
            println!("{} v{}: {response:?}", ApiKey::$api.name(), $version);
        }
    };
}

#[tokio::test]
async fn every_api_answers_in_every_version() {
    let server = Server::start(ServerConfig::in_memory()).await.expect("starts");
    let mut client = Client::new(&server);
    cluster(&mut client).await;
    let topic_id = topics(&mut client).await;
    records(&mut client, topic_id).await;
    groups(&mut client, topic_id).await;
    consumer_groups(&mut client).await;
    streams_groups(&mut client).await;
    transactions(&mut client).await;
    configs(&mut client).await;
    logins(&mut client).await;
    tokens(&mut client).await;
    placement(&mut client).await;
    deletions(&mut client).await;
    let mut advertised = Vec::new();
    for served in millstream::served() {
        advertised.extend(served.versions.clone().map(|version| (served.api.code(), version)));
    }
    client.asked.sort_unstable();
    client.asked.dedup();
    assert_eq!(client.asked, advertised, "asked, and advertised");
    server.stop().await;
}

async fn cluster(client: &mut Client) {
    each!(client, ApiVersions, |version| ApiVersionsRequest {
        client_software_name: "test".into(),
        client_software_version: "1".into(),
        ..Default::default()
    });
    each!(client, DescribeCluster, |version| DescribeClusterRequest::default());
    // Off: what they answer where they count is in `authorisation.rs`.
    each!(client, DescribeAcls, |version| DescribeAclsRequest {
        resource_type_filter: 1,
        pattern_type_filter: 1,
        operation: 1,
        permission_type: 1,
        ..Default::default()
    });
    each!(client, CreateAcls, |version| CreateAclsRequest {
        creations: vec![create_acls_request::AclCreation::default()],
    });
    each!(client, DeleteAcls, |version| DeleteAclsRequest {
        filters: vec![delete_acls_request::DeleteAclsFilter::default()],
    });
    each!(client, DescribeQuorum, |version| DescribeQuorumRequest {
        topics: vec![describe_quorum_request::TopicData {
            topic_name: "__cluster_metadata".into(),
            partitions: vec![Default::default()],
        }],
    });
    each!(client, UpdateFeatures, |version| UpdateFeaturesRequest {
        feature_updates: vec![update_features_request::FeatureUpdateKey {
            feature: "metadata.version".into(),
            max_version_level: version % 2,
            ..Default::default()
        }],
        ..Default::default()
    });
    each!(client, FindCoordinator, |version| FindCoordinatorRequest {
        key: if version < 4 { GROUP.into() } else { StrBytes::default() },
        coordinator_keys: if version < 4 { Vec::new() } else { vec![GROUP.into()] },
        ..Default::default()
    });
    each!(client, InitProducerId, |version| InitProducerIdRequest {
        transactional_id: None,
        ..Default::default()
    });
}

/// This connection needs no login: that is what it is told.
async fn logins(client: &mut Client) {
    use alter_user_scram_credentials_request::{ScramCredentialDeletion, ScramCredentialUpsertion};
    each!(client, SaslHandshake, |version| SaslHandshakeRequest { mechanism: "PLAIN".into() });
    each!(client, SaslAuthenticate, |version| SaslAuthenticateRequest {
        auth_bytes: Bytes::from_static(b"\0u\0p"),
    });
    each!(client, AlterUserScramCredentials, |version| AlterUserScramCredentialsRequest {
        upsertions: vec![ScramCredentialUpsertion {
            name: "u".into(),
            mechanism: 1,
            iterations: 4_096,
            salt: Bytes::from_static(b"salt"),
            salted_password: Bytes::from_static(&[7; 32]),
        }],
        deletions: vec![ScramCredentialDeletion { name: "nobody".into(), mechanism: 1 }],
    });
    each!(client, DescribeUserScramCredentials, |version| {
        use describe_user_scram_credentials_request::UserName;
        DescribeUserScramCredentialsRequest {
            users: Some(["u", "nobody"].map(|name| UserName { name: name.into() }).into()),
        }
    });
}

/// Nobody in particular gets no delegation tokens: that is what it is told.
async fn tokens(client: &mut Client) {
    let hmac = Bytes::from_static(&[7; 64]);
    each!(client, CreateDelegationToken, |version| CreateDelegationTokenRequest {
        renewers: vec![create_delegation_token_request::CreatableRenewers {
            principal_type: "User".into(),
            principal_name: "u".into(),
        }],
        max_lifetime_ms: -1,
        ..Default::default()
    });
    each!(client, RenewDelegationToken, |version| RenewDelegationTokenRequest {
        hmac: hmac.clone(),
        renew_period_ms: -1,
    });
    each!(client, ExpireDelegationToken, |version| ExpireDelegationTokenRequest {
        hmac: hmac.clone(),
        expiry_time_period_ms: -1,
    });
    each!(client, DescribeDelegationToken, |version| DescribeDelegationTokenRequest {
        owners: None,
    });
}

async fn transactions(client: &mut Client) {
    use add_partitions_to_txn_request::{AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction};
    use txn_offset_commit_request::{TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic};
    use write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
    let partition = || AddPartitionsToTxnTopic { name: TOPIC.into(), partitions: vec![0] };
    each!(client, AddPartitionsToTxn, |version| if version < 4 {
        AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: "t".into(),
            v3_and_below_topics: vec![partition()],
            ..Default::default()
        }
    } else {
        AddPartitionsToTxnRequest {
            transactions: vec![AddPartitionsToTxnTransaction {
                transactional_id: "t".into(),
                topics: vec![partition()],
                ..Default::default()
            }],
            ..Default::default()
        }
    });
    each!(client, AddOffsetsToTxn, |version| AddOffsetsToTxnRequest {
        transactional_id: "t".into(),
        group_id: GROUP.into(),
        ..Default::default()
    });
    each!(client, TxnOffsetCommit, |version| TxnOffsetCommitRequest {
        transactional_id: "t".into(),
        group_id: GROUP.into(),
        topics: vec![TxnOffsetCommitRequestTopic {
            name: TOPIC.into(),
            partitions: vec![TxnOffsetCommitRequestPartition::default()],
            ..Default::default()
        }],
        ..Default::default()
    });
    each!(client, EndTxn, |version| EndTxnRequest {
        transactional_id: "t".into(),
        ..Default::default()
    });
    each!(client, WriteTxnMarkers, |version| WriteTxnMarkersRequest {
        markers: vec![WritableTxnMarker {
            producer_id: 7,
            topics: vec![WritableTxnMarkerTopic {
                name: "nowhere".into(),
                partition_indexes: vec![0],
            }],
            ..Default::default()
        }],
    });
    each!(client, DescribeTransactions, |version| DescribeTransactionsRequest {
        transactional_ids: vec!["t".into()],
    });
    each!(client, ListTransactions, |version| ListTransactionsRequest::default());
}

async fn topics(client: &mut Client) -> Uuid {
    use create_partitions_request::CreatePartitionsTopic;
    use create_topics_request::CreatableTopic;
    use metadata_request::MetadataRequestTopic;
    each!(client, CreateTopics, |version| CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: if version == 2 { TOPIC.into() } else { format!("made-by-{version}").into() },
            num_partitions: 1,
            replication_factor: 1,
            ..Default::default()
        }],
        ..Default::default()
    });
    each!(client, CreatePartitions, |version| CreatePartitionsRequest {
        topics: vec![CreatePartitionsTopic {
            name: "made-by-3".into(),
            count: i32::from(version) + 2,
            assignments: None,
        }],
        ..Default::default()
    });
    each!(client, Metadata, |version| MetadataRequest {
        topics: Some(vec![MetadataRequestTopic { name: Some(TOPIC.into()), ..Default::default() }]),
        ..Default::default()
    });
    let all = client.ask(12, MetadataRequest { topics: None, ..Default::default() }).await;
    let found = all.topics.iter().find(|topic| topic.name.as_deref() == Some(TOPIC));
    found.expect("it was made").topic_id
}

async fn records(client: &mut Client, topic_id: Uuid) {
    use fetch_request::{FetchPartition, FetchTopic};
    use list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
    use offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
    use produce_request::{PartitionProduceData, TopicProduceData};
    let by_id = |version: i16| if version >= 13 { topic_id } else { Uuid::NIL };
    let by_name =
        |version: i16| if version >= 13 { StrBytes::default() } else { StrBytes::from(TOPIC) };
    // Records and an error: both must be told in every version.
    for index in [0, 99] {
        each!(client, Produce, |version| ProduceRequest {
            transactional_id: None,
            acks: -1,
            timeout_ms: 1_000,
            topic_data: vec![TopicProduceData {
                name: by_name(version),
                topic_id: by_id(version),
                partition_data: vec![PartitionProduceData { index, records: Some(batch().into()) }],
            }],
        });
        each!(client, Fetch, |version| FetchRequest {
            max_bytes: 1 << 20,
            topics: vec![FetchTopic {
                topic: by_name(version),
                topic_id: by_id(version),
                partitions: vec![FetchPartition {
                    partition: index,
                    partition_max_bytes: 1 << 20,
                    ..Default::default()
                }],
            }],
            ..Default::default()
        });
        each!(client, ListOffsets, |version| ListOffsetsRequest {
            replica_id: -1,
            topics: vec![ListOffsetsTopic {
                name: TOPIC.into(),
                partitions: vec![ListOffsetsPartition {
                    partition_index: index,
                    timestamp: 0,
                    ..Default::default()
                }],
            }],
            ..Default::default()
        });
        each!(client, OffsetForLeaderEpoch, |version| OffsetForLeaderEpochRequest {
            topics: vec![OffsetForLeaderTopic {
                topic: TOPIC.into(),
                partitions: vec![OffsetForLeaderPartition {
                    partition: index,
                    leader_epoch: 0,
                    ..Default::default()
                }],
            }],
            ..Default::default()
        });
    }
}

async fn streams_groups(client: &mut Client) {
    use streams_group_heartbeat_request::{Subtopology, Topology};
    each!(client, StreamsGroupHeartbeat, |version| {
        let subtopology = Subtopology {
            subtopology_id: "0".into(),
            source_topics: vec![TOPIC.into()],
            ..Default::default()
        };
        StreamsGroupHeartbeatRequest {
            group_id: "streams".into(),
            member_id: StrBytes::from(format!("member-{version}")),
            rebalance_timeout_ms: 1_000,
            topology: Some(Topology { epoch: 0, subtopologies: vec![subtopology] }),
            process_id: Some("process".into()),
            active_tasks: Some(Vec::new()),
            standby_tasks: Some(Vec::new()),
            warmup_tasks: Some(Vec::new()),
            ..Default::default()
        }
    });
    each!(client, StreamsGroupDescribe, |version| StreamsGroupDescribeRequest {
        group_ids: vec!["streams".into(), GROUP.into()],
        include_authorized_operations: true,
        include_topology_description: version >= 1,
    });
}

async fn consumer_groups(client: &mut Client) {
    each!(client, ConsumerGroupHeartbeat, |version| ConsumerGroupHeartbeatRequest {
        group_id: "consumers".into(),
        member_id: StrBytes::from(format!("member-{version}")),
        rebalance_timeout_ms: 1_000,
        subscribed_topic_names: Some(vec![TOPIC.into()]),
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    });
    each!(client, ConsumerGroupDescribe, |version| ConsumerGroupDescribeRequest {
        group_ids: vec!["consumers".into(), GROUP.into()],
        include_authorized_operations: true,
    });
}

async fn groups(client: &mut Client, topic_id: Uuid) {
    use join_group_request::JoinGroupRequestProtocol;
    use offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
    use offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopic};
    each!(client, JoinGroup, |version| JoinGroupRequest {
        group_id: format!("join-{version}").into(),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: if version >= 1 { 30_000 } else { -1 },
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".into(),
            metadata: Bytes::from_static(b"m"),
        }],
        ..Default::default()
    });
    each!(client, SyncGroup, |version| SyncGroupRequest {
        group_id: GROUP.into(),
        member_id: "nobody".into(),
        ..Default::default()
    });
    each!(client, Heartbeat, |version| HeartbeatRequest {
        group_id: GROUP.into(),
        member_id: "nobody".into(),
        ..Default::default()
    });
    each!(client, LeaveGroup, |version| LeaveGroupRequest {
        group_id: GROUP.into(),
        member_id: if version < 3 { "nobody".into() } else { StrBytes::default() },
        members: if version < 3 { Vec::new() } else { vec![Default::default()] },
    });
    each!(client, OffsetCommit, |version| OffsetCommitRequest {
        group_id: GROUP.into(),
        generation_id_or_member_epoch: -1,
        topics: vec![OffsetCommitRequestTopic {
            name: if version < 10 { TOPIC.into() } else { StrBytes::default() },
            topic_id: if version < 10 { Uuid::NIL } else { topic_id },
            partitions: vec![OffsetCommitRequestPartition {
                committed_offset: 1,
                ..Default::default()
            }],
        }],
        ..Default::default()
    });
    each!(client, OffsetFetch, |version| {
        let topics =
            vec![OffsetFetchRequestTopic { name: TOPIC.into(), partition_indexes: vec![0, 7] }];
        let group =
            OffsetFetchRequestGroup { group_id: GROUP.into(), topics: None, ..Default::default() };
        OffsetFetchRequest {
            group_id: if version < 8 { GROUP.into() } else { StrBytes::default() },
            topics: if version < 8 { Some(topics) } else { Some(Vec::new()) },
            groups: if version < 8 { Vec::new() } else { vec![group] },
            ..Default::default()
        }
    });
    each!(client, DescribeGroups, |version| DescribeGroupsRequest {
        groups: vec![GROUP.into(), "unknown".into(), "join-9".into()],
        ..Default::default()
    });
    each!(client, ListGroups, |version| ListGroupsRequest::default());
}

async fn configs(client: &mut Client) {
    use describe_configs_request::DescribeConfigsResource;
    use incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
    each!(client, DescribeConfigs, |version| DescribeConfigsRequest {
        resources: [(2, TOPIC), (4, "1"), (4, "7"), (32, GROUP)]
            .map(|(resource_type, name)| DescribeConfigsResource {
                resource_type,
                resource_name: name.into(),
                configuration_keys: None,
            })
            .into(),
        include_synonyms: true,
        include_documentation: version >= 3,
    });
    each!(client, IncrementalAlterConfigs, |version| IncrementalAlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: 2,
            resource_name: TOPIC.into(),
            configs: vec![AlterableConfig {
                name: "retention.ms".into(),
                config_operation: 0,
                value: Some("3600000".into()),
            }],
        }],
        ..Default::default()
    });
    each!(client, AlterConfigs, |version| AlterConfigsRequest {
        resources: vec![alter_configs_request::AlterConfigsResource {
            resource_type: 2,
            resource_name: TOPIC.into(),
            ..Default::default()
        }],
        ..Default::default()
    });
}

async fn placement(client: &mut Client) {
    use alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
    use alter_replica_log_dirs_request::{AlterReplicaLogDir, AlterReplicaLogDirTopic};
    use describe_producers_request::TopicRequest;
    each!(client, DescribeTopicPartitions, |version| DescribeTopicPartitionsRequest {
        topics: [TOPIC, "unknown"]
            .map(|name| describe_topic_partitions_request::TopicRequest { name: name.into() })
            .into(),
        ..Default::default()
    });
    each!(client, DescribeLogDirs, |version| DescribeLogDirsRequest { topics: None });
    each!(client, AlterReplicaLogDirs, |version| AlterReplicaLogDirsRequest {
        dirs: ["memory", "elsewhere"]
            .map(|path| AlterReplicaLogDir {
                path: path.into(),
                topics: vec![AlterReplicaLogDirTopic {
                    name: TOPIC.into(),
                    partitions: vec![0, 9],
                }],
            })
            .into(),
    });
    each!(client, DescribeProducers, |version| DescribeProducersRequest {
        topics: vec![TopicRequest { name: TOPIC.into(), partition_indexes: vec![0, 9] }],
    });
    each!(client, GetTelemetrySubscriptions, |version| {
        GetTelemetrySubscriptionsRequest { client_instance_id: Uuid([7; 16]) }
    });
    each!(client, PushTelemetry, |version| PushTelemetryRequest {
        client_instance_id: Uuid([7; 16]),
        ..Default::default()
    });
    each!(client, ListConfigResources, |version| ListConfigResourcesRequest::default());
    each!(client, AlterClientQuotas, |version| AlterClientQuotasRequest {
        entries: vec![alter_client_quotas_request::EntryData {
            entity: vec![alter_client_quotas_request::EntityData {
                entity_type: "user".into(),
                entity_name: None,
            }],
            ops: vec![alter_client_quotas_request::OpData {
                key: "request_percentage".into(),
                value: 10_000.0,
                remove: false
            }],
        }],
        validate_only: false,
    });
    each!(client, DescribeClientQuotas, |version| DescribeClientQuotasRequest::default());
    each!(client, ElectLeaders, |version| ElectLeadersRequest {
        topic_partitions: Some(vec![elect_leaders_request::TopicPartitions {
            topic: TOPIC.into(),
            partitions: vec![0, 9],
        }]),
        ..Default::default()
    });
    each!(client, AlterPartitionReassignments, |version| AlterPartitionReassignmentsRequest {
        topics: vec![ReassignableTopic {
            name: TOPIC.into(),
            partitions: [Some(vec![1]), Some(vec![7]), None]
                .map(|replicas| ReassignablePartition { partition_index: 0, replicas })
                .into(),
        }],
        ..Default::default()
    });
    each!(client, ListPartitionReassignments, |version| ListPartitionReassignmentsRequest {
        topics: None,
        ..Default::default()
    });
}

async fn deletions(client: &mut Client) {
    use delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
    use delete_topics_request::DeleteTopicState;
    use offset_delete_request::OffsetDeleteRequestTopic;
    each!(client, DeleteRecords, |version| DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: TOPIC.into(),
            partitions: vec![DeleteRecordsPartition { partition_index: 0, offset: -1 }],
        }],
        ..Default::default()
    });
    each!(client, OffsetDelete, |version| OffsetDeleteRequest {
        group_id: GROUP.into(),
        topics: vec![OffsetDeleteRequestTopic { name: TOPIC.into(), ..Default::default() }],
    });
    each!(client, DeleteGroups, |version| DeleteGroupsRequest {
        groups_names: vec![GROUP.into(), "unknown".into()],
    });
    each!(client, DeleteTopics, |version| DeleteTopicsRequest {
        topic_names: if version < 6 { vec![TOPIC.into()] } else { Vec::new() },
        topics: if version < 6 {
            Vec::new()
        } else {
            vec![DeleteTopicState { name: Some("made-by-5".into()), ..Default::default() }]
        },
        ..Default::default()
    });
}
