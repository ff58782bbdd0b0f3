//! A request of each API that names things by a prefix, in the newest version that does so by name.

use bytes::Bytes;
use millstream_types::Uuid;
use millstream_wire::*;

use crate::raw::{Client, batch};

/// Things whose names begin with a prefix.
struct Names<'a>(&'a str);

impl Names<'_> {
    fn of(&self, kind: &str) -> StrBytes {
        StrBytes::from(format!("{}-{kind}", self.0))
    }

    fn topic(&self) -> StrBytes {
        self.of("topic")
    }

    fn group(&self) -> StrBytes {
        self.of("group")
    }

    fn transactional_id(&self) -> StrBytes {
        self.of("tx")
    }
}

macro_rules! told {
    ($client:expr, $version:expr, $request:expr) => {
        Some(format!("{:?}", $client.ask($version, $request).await))
    };
}

/// What `api` answers to a request that names things that begin with `prefix`, in words.
pub(crate) async fn ask(client: &mut Client, api: ApiKey, prefix: &str) -> String {
    let names = Names(prefix);
    if let Some(answer) = records(client, api, &names).await {
        return answer;
    }
    if let Some(answer) = groups(client, api, &names).await {
        return answer;
    }
    if let Some(answer) = offsets(client, api, &names).await {
        return answer;
    }
    if let Some(answer) = new_groups(client, api, &names).await {
        return answer;
    }
    if let Some(answer) = transactions(client, api, &names).await {
        return answer;
    }
    if let Some(answer) = topics(client, api, &names).await {
        return answer;
    }
    if let Some(answer) = partitions(client, api, &names).await {
        return answer;
    }
    if let Some(answer) = configs(client, api, &names).await {
        return answer;
    }
    if let Some(answer) = logins(client, api, &names).await {
        return answer;
    }
    if let Some(answer) = tokens(client, api, &names).await {
        return answer;
    }
    if let Some(answer) = telemetry(client, api, prefix).await {
        return answer;
    }
    let answer = cluster(client, api, &names).await;
    answer.unwrap_or_else(|| panic!("there is no sample of {}: add one", api.name()))
}

async fn records(client: &mut Client, api: ApiKey, names: &Names<'_>) -> Option<String> {
    use fetch_request::{FetchPartition, FetchTopic};
    use list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
    use offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
    use produce_request::{PartitionProduceData, TopicProduceData};
    match api {
        ApiKey::Produce => {
            let records = Some(batch().into());
            let partition = PartitionProduceData { index: 0, records };
            let topic = TopicProduceData {
                name: names.topic(),
                partition_data: vec![partition],
                ..Default::default()
            };
            let topic_data = vec![topic];
            let request =
                ProduceRequest { acks: -1, timeout_ms: 1_000, topic_data, ..Default::default() };
            told!(client, 12, request)
        }
        ApiKey::Fetch => {
            let partition = FetchPartition { partition_max_bytes: 1, ..Default::default() };
            let topic = FetchTopic {
                topic: names.topic(),
                partitions: vec![partition],
                ..Default::default()
            };
            let request = FetchRequest {
                max_bytes: 1,
                session_epoch: -1,
                topics: vec![topic],
                ..Default::default()
            };
            told!(client, 12, request)
        }
        ApiKey::ListOffsets => {
            let partition = ListOffsetsPartition { timestamp: -1, ..Default::default() };
            let topic = ListOffsetsTopic { name: names.topic(), partitions: vec![partition] };
            told!(client, 11, ListOffsetsRequest { topics: vec![topic], ..Default::default() })
        }
        ApiKey::OffsetForLeaderEpoch => {
            let partitions = vec![OffsetForLeaderPartition::default()];
            let topics = vec![OffsetForLeaderTopic { topic: names.topic(), partitions }];
            told!(client, 4, OffsetForLeaderEpochRequest { topics, ..Default::default() })
        }
        _ => None,
    }
}

async fn groups(client: &mut Client, api: ApiKey, names: &Names<'_>) -> Option<String> {
    use join_group_request::JoinGroupRequestProtocol;
    let group_id = names.group();
    match api {
        ApiKey::FindCoordinator => {
            let coordinator_keys = vec![group_id];
            told!(client, 6, FindCoordinatorRequest { coordinator_keys, ..Default::default() })
        }
        ApiKey::JoinGroup => {
            let metadata = Bytes::from_static(b"m");
            let request = JoinGroupRequest {
                group_id,
                session_timeout_ms: 30_000,
                rebalance_timeout_ms: 30_000,
                protocol_type: "consumer".into(),
                protocols: vec![JoinGroupRequestProtocol { name: "range".into(), metadata }],
                ..Default::default()
            };
            // Nobody is told an id of his own that differs from request to request.
            told!(client, 3, request).map(without_member)
        }
        ApiKey::Heartbeat => told!(client, 4, HeartbeatRequest { group_id, ..Default::default() }),
        ApiKey::LeaveGroup => {
            let members = vec![Default::default()];
            told!(client, 5, LeaveGroupRequest { group_id, members, ..Default::default() })
        }
        ApiKey::SyncGroup => told!(client, 4, SyncGroupRequest { group_id, ..Default::default() }),
        ApiKey::DescribeGroups => {
            told!(
                client,
                6,
                DescribeGroupsRequest {
                    groups: vec![group_id],
                    include_authorized_operations: true
                }
            )
        }
        ApiKey::ListGroups => told!(client, 5, ListGroupsRequest::default()),
        ApiKey::DeleteGroups => {
            told!(client, 3, DeleteGroupsRequest { groups_names: vec![group_id] })
        }
        _ => None,
    }
}

async fn offsets(client: &mut Client, api: ApiKey, names: &Names<'_>) -> Option<String> {
    use offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
    use offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
    use offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
    let group_id = names.group();
    match api {
        ApiKey::OffsetCommit => {
            let partition =
                OffsetCommitRequestPartition { committed_offset: 1, ..Default::default() };
            let topic = OffsetCommitRequestTopic {
                name: names.topic(),
                partitions: vec![partition],
                ..Default::default()
            };
            let request = OffsetCommitRequest {
                group_id,
                generation_id_or_member_epoch: -1,
                topics: vec![topic],
                ..Default::default()
            };
            told!(client, 9, request)
        }
        ApiKey::OffsetFetch => {
            let topic = OffsetFetchRequestTopics {
                name: names.topic(),
                partition_indexes: vec![0],
                ..Default::default()
            };
            let topics = Some(vec![topic]);
            let groups = vec![OffsetFetchRequestGroup { group_id, topics, ..Default::default() }];
            told!(client, 9, OffsetFetchRequest { groups, ..Default::default() })
        }
        ApiKey::OffsetDelete => {
            let partitions = vec![OffsetDeleteRequestPartition::default()];
            let topics = vec![OffsetDeleteRequestTopic { name: names.topic(), partitions }];
            told!(client, 0, OffsetDeleteRequest { group_id, topics })
        }
        _ => None,
    }
}

/// Members' ids are random.
fn without_member(answer: String) -> String {
    answer.split("member_id").next().unwrap_or_default().to_owned()
}

async fn new_groups(client: &mut Client, api: ApiKey, names: &Names<'_>) -> Option<String> {
    use streams_group_heartbeat_request::{Subtopology, Topology};
    match api {
        ApiKey::ConsumerGroupHeartbeat => {
            let request = ConsumerGroupHeartbeatRequest {
                group_id: names.of("consumers"),
                member_id: "member".into(),
                rebalance_timeout_ms: 1_000,
                subscribed_topic_names: Some(vec![names.topic()]),
                topic_partitions: Some(Vec::new()),
                ..Default::default()
            };
            told!(client, 1, request)
        }
        ApiKey::ConsumerGroupDescribe => {
            let group_ids = vec![names.of("consumers")];
            let include_authorized_operations = true;
            let request = ConsumerGroupDescribeRequest { group_ids, include_authorized_operations };
            told!(client, 1, request)
        }
        ApiKey::StreamsGroupHeartbeat => {
            let subtopology = Subtopology {
                subtopology_id: "0".into(),
                source_topics: vec![names.topic()],
                ..Default::default()
            };
            let request = StreamsGroupHeartbeatRequest {
                group_id: names.of("streams"),
                member_id: "member".into(),
                rebalance_timeout_ms: 1_000,
                topology: Some(Topology { epoch: 0, subtopologies: vec![subtopology] }),
                process_id: Some("process".into()),
                active_tasks: Some(Vec::new()),
                standby_tasks: Some(Vec::new()),
                warmup_tasks: Some(Vec::new()),
                ..Default::default()
            };
            told!(client, 1, request)
        }
        ApiKey::StreamsGroupDescribe => {
            let request = StreamsGroupDescribeRequest {
                group_ids: vec![names.of("streams")],
                include_authorized_operations: true,
                include_topology_description: true,
            };
            told!(client, 1, request)
        }
        _ => None,
    }
}

async fn transactions(client: &mut Client, api: ApiKey, names: &Names<'_>) -> Option<String> {
    use add_partitions_to_txn_request::AddPartitionsToTxnTopic;
    use txn_offset_commit_request::{TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic};
    use write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
    let transactional_id = names.transactional_id();
    match api {
        ApiKey::InitProducerId => {
            let request = InitProducerIdRequest {
                transactional_id: Some(transactional_id),
                transaction_timeout_ms: 1_000,
                producer_id: -1,
                producer_epoch: -1,
                ..Default::default()
            };
            told!(client, 5, request)
        }
        ApiKey::AddPartitionsToTxn => {
            let topic = AddPartitionsToTxnTopic { name: names.topic(), partitions: vec![0] };
            let request = AddPartitionsToTxnRequest {
                v3_and_below_transactional_id: transactional_id,
                v3_and_below_topics: vec![topic],
                ..Default::default()
            };
            told!(client, 3, request)
        }
        ApiKey::AddOffsetsToTxn => {
            let group_id = names.group();
            let request =
                AddOffsetsToTxnRequest { transactional_id, group_id, ..Default::default() };
            told!(client, 4, request)
        }
        ApiKey::TxnOffsetCommit => {
            let topic = TxnOffsetCommitRequestTopic {
                name: names.topic(),
                partitions: vec![TxnOffsetCommitRequestPartition::default()],
                ..Default::default()
            };
            let request = TxnOffsetCommitRequest {
                transactional_id,
                group_id: names.group(),
                topics: vec![topic],
                ..Default::default()
            };
            told!(client, 5, request)
        }
        ApiKey::EndTxn => {
            told!(client, 5, EndTxnRequest { transactional_id, ..Default::default() })
        }
        ApiKey::WriteTxnMarkers => {
            let (name, partition_indexes) = (names.topic(), vec![0]);
            let topics = vec![WritableTxnMarkerTopic { name, partition_indexes }];
            let marker = WritableTxnMarker { producer_id: 7, topics, ..Default::default() };
            told!(client, 2, WriteTxnMarkersRequest { markers: vec![marker] })
        }
        ApiKey::DescribeTransactions => {
            let transactional_ids = vec![transactional_id];
            told!(client, 0, DescribeTransactionsRequest { transactional_ids })
        }
        ApiKey::ListTransactions => told!(client, 2, ListTransactionsRequest::default()),
        _ => None,
    }
}

async fn topics(client: &mut Client, api: ApiKey, names: &Names<'_>) -> Option<String> {
    use create_partitions_request::CreatePartitionsTopic;
    use create_topics_request::CreatableTopic;
    use delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
    use delete_topics_request::DeleteTopicState;
    use metadata_request::MetadataRequestTopic;
    let name = names.topic();
    match api {
        ApiKey::Metadata => {
            let topic = MetadataRequestTopic { name: Some(name), ..Default::default() };
            let request = MetadataRequest {
                topics: Some(vec![topic]),
                allow_auto_topic_creation: true,
                include_topic_authorized_operations: true,
                ..Default::default()
            };
            told!(client, 13, request)
        }
        ApiKey::DescribeTopicPartitions => {
            let topics = vec![describe_topic_partitions_request::TopicRequest { name }];
            told!(client, 0, DescribeTopicPartitionsRequest { topics, ..Default::default() })
        }
        ApiKey::CreateTopics => {
            let topic = CreatableTopic {
                name,
                num_partitions: 1,
                replication_factor: 1,
                ..Default::default()
            };
            told!(client, 7, CreateTopicsRequest { topics: vec![topic], ..Default::default() })
        }
        ApiKey::DeleteTopics => {
            let topics = vec![DeleteTopicState { name: Some(name), ..Default::default() }];
            told!(client, 6, DeleteTopicsRequest { topics, ..Default::default() })
        }
        ApiKey::CreatePartitions => {
            let topics = vec![CreatePartitionsTopic { name, count: 2, assignments: None }];
            told!(client, 3, CreatePartitionsRequest { topics, ..Default::default() })
        }
        ApiKey::DeleteRecords => {
            let partitions = vec![DeleteRecordsPartition { partition_index: 0, offset: -1 }];
            let topics = vec![DeleteRecordsTopic { name, partitions }];
            told!(client, 2, DeleteRecordsRequest { topics, ..Default::default() })
        }
        _ => None,
    }
}

async fn partitions(client: &mut Client, api: ApiKey, names: &Names<'_>) -> Option<String> {
    use alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
    use alter_replica_log_dirs_request::{AlterReplicaLogDir, AlterReplicaLogDirTopic};
    use elect_leaders_request::TopicPartitions;
    let name = names.topic();
    match api {
        ApiKey::ElectLeaders => {
            let topic_partitions = Some(vec![TopicPartitions { topic: name, partitions: vec![0] }]);
            told!(client, 2, ElectLeadersRequest { topic_partitions, ..Default::default() })
        }
        ApiKey::AlterPartitionReassignments => {
            let partitions = vec![ReassignablePartition { partition_index: 0, replicas: None }];
            let topics = vec![ReassignableTopic { name, partitions }];
            told!(client, 1, AlterPartitionReassignmentsRequest { topics, ..Default::default() })
        }
        ApiKey::ListPartitionReassignments => {
            told!(client, 0, ListPartitionReassignmentsRequest::default())
        }
        ApiKey::AlterReplicaLogDirs => {
            let topics = vec![AlterReplicaLogDirTopic { name, partitions: vec![0] }];
            let dirs = vec![AlterReplicaLogDir { path: "memory".into(), topics }];
            told!(client, 2, AlterReplicaLogDirsRequest { dirs })
        }
        ApiKey::DescribeLogDirs => {
            told!(client, 5, DescribeLogDirsRequest { topics: None })
        }
        ApiKey::DescribeProducers => {
            let topic =
                describe_producers_request::TopicRequest { name, partition_indexes: vec![0] };
            told!(client, 0, DescribeProducersRequest { topics: vec![topic] })
        }
        _ => None,
    }
}

/// Of everything that has a configuration.
async fn configs(client: &mut Client, api: ApiKey, names: &Names<'_>) -> Option<String> {
    use describe_configs_request::DescribeConfigsResource;
    let all = [
        (2, names.topic()),
        (32, names.group()),
        (16, names.of("metrics")),
        (4, StrBytes::from("1")),
    ];
    match api {
        ApiKey::DescribeConfigs => {
            let resources = all.map(|(resource_type, resource_name)| DescribeConfigsResource {
                resource_type,
                resource_name,
                configuration_keys: None,
            });
            let resources = resources.into();
            told!(client, 4, DescribeConfigsRequest { resources, ..Default::default() })
        }
        ApiKey::AlterConfigs => {
            let resources = all.map(|(resource_type, resource_name)| {
                alter_configs_request::AlterConfigsResource {
                    resource_type,
                    resource_name,
                    ..Default::default()
                }
            });
            let resources = resources.into();
            told!(client, 2, AlterConfigsRequest { resources, validate_only: true })
        }
        ApiKey::IncrementalAlterConfigs => {
            let resources = all.map(|(resource_type, resource_name)| {
                incremental_alter_configs_request::AlterConfigsResource {
                    resource_type,
                    resource_name,
                    ..Default::default()
                }
            });
            let resources = resources.into();
            told!(client, 1, IncrementalAlterConfigsRequest { resources, validate_only: true })
        }
        ApiKey::ListConfigResources => {
            told!(client, 1, ListConfigResourcesRequest::default())
        }
        ApiKey::DescribeClientQuotas => {
            told!(client, 1, DescribeClientQuotasRequest::default())
        }
        ApiKey::AlterClientQuotas => {
            let entity = alter_client_quotas_request::EntityData {
                entity_type: "user".into(),
                entity_name: Some(names.of("user")),
            };
            let entry = alter_client_quotas_request::EntryData {
                entity: vec![entity],
                ..Default::default()
            };
            let request = AlterClientQuotasRequest { entries: vec![entry], validate_only: true };
            told!(client, 1, request)
        }
        _ => None,
    }
}

async fn logins(client: &mut Client, api: ApiKey, names: &Names<'_>) -> Option<String> {
    match api {
        ApiKey::SaslHandshake => {
            told!(client, 1, SaslHandshakeRequest { mechanism: "PLAIN".into() })
        }
        ApiKey::SaslAuthenticate => told!(client, 2, SaslAuthenticateRequest::default()),
        ApiKey::DescribeUserScramCredentials => {
            told!(client, 0, DescribeUserScramCredentialsRequest { users: None })
        }
        ApiKey::AlterUserScramCredentials => {
            let upsertion = alter_user_scram_credentials_request::ScramCredentialUpsertion {
                name: names.of("user"),
                mechanism: 1,
                iterations: 4_096,
                salt: Bytes::from_static(b"salt"),
                salted_password: Bytes::from_static(&[7; 32]),
            };
            let request = AlterUserScramCredentialsRequest {
                upsertions: vec![upsertion],
                ..Default::default()
            };
            told!(client, 0, request)
        }
        _ => None,
    }
}

async fn tokens(client: &mut Client, api: ApiKey, names: &Names<'_>) -> Option<String> {
    use describe_delegation_token_request::DescribeDelegationTokenOwner;
    let hmac = Bytes::from_static(&[7; 64]);
    match api {
        ApiKey::CreateDelegationToken => {
            let request = CreateDelegationTokenRequest {
                owner_principal_type: Some("User".into()),
                owner_principal_name: Some(names.of("user")),
                ..Default::default()
            };
            told!(client, 3, request)
        }
        ApiKey::RenewDelegationToken => {
            told!(client, 2, RenewDelegationTokenRequest { hmac, renew_period_ms: -1 })
        }
        ApiKey::ExpireDelegationToken => {
            told!(client, 2, ExpireDelegationTokenRequest { hmac, expiry_time_period_ms: -1 })
        }
        ApiKey::DescribeDelegationToken => {
            let (principal_type, principal_name) = ("User".into(), names.of("user"));
            let owner = DescribeDelegationTokenOwner { principal_type, principal_name };
            told!(client, 3, DescribeDelegationTokenRequest { owners: Some(vec![owner]) })
        }
        _ => None,
    }
}

/// Each prefix has an instance of its own for each API; what it is asked for is told without its number,
/// which is made from the instance's.
async fn telemetry(client: &mut Client, api: ApiKey, prefix: &str) -> Option<String> {
    let kind = u8::from(api == ApiKey::PushTelemetry);
    let of_prefix = prefix.as_bytes().first().copied().unwrap_or_default();
    let mut id = [kind; 16];
    id[0] = of_prefix;
    let client_instance_id = Uuid(id);
    let ask = GetTelemetrySubscriptionsRequest { client_instance_id };
    match api {
        ApiKey::GetTelemetrySubscriptions => {
            let mut told = client.ask(0, ask).await;
            assert_eq!(told.client_instance_id, client_instance_id, "{told:?}");
            told.client_instance_id = Uuid::NIL;
            told.subscription_id = 0;
            Some(format!("{told:?}"))
        }
        ApiKey::PushTelemetry => {
            let subscription_id = client.ask(0, ask).await.subscription_id;
            let push =
                PushTelemetryRequest { client_instance_id, subscription_id, ..Default::default() };
            told!(client, 0, push)
        }
        _ => None,
    }
}

async fn cluster(client: &mut Client, api: ApiKey, names: &Names<'_>) -> Option<String> {
    match api {
        ApiKey::ApiVersions => {
            let request = ApiVersionsRequest {
                client_software_name: "test".into(),
                client_software_version: "1".into(),
                ..Default::default()
            };
            told!(client, 4, request)
        }
        ApiKey::DescribeCluster => told!(
            client,
            2,
            DescribeClusterRequest {
                include_cluster_authorized_operations: true,
                endpoint_type: 1,
                ..Default::default()
            }
        ),
        ApiKey::DescribeQuorum => told!(client, 2, DescribeQuorumRequest::default()),
        ApiKey::UpdateFeatures => told!(client, 2, UpdateFeaturesRequest::default()),
        ApiKey::DescribeAcls => {
            let request = DescribeAclsRequest {
                resource_type_filter: 1,
                pattern_type_filter: 1,
                operation: 1,
                permission_type: 1,
                ..Default::default()
            };
            // Those of now are what the test has made.
            told!(client, 3, request).map(|answer| match answer.split_once("resources: [") {
                Some((before, _)) => before.to_owned(),
                None => answer,
            })
        }
        ApiKey::CreateAcls => {
            let creation = create_acls_request::AclCreation {
                resource_type: 2,
                resource_name: names.topic(),
                resource_pattern_type: 3,
                principal: "User:ann".into(),
                host: "*".into(),
                operation: 3,
                permission_type: 3,
            };
            told!(client, 3, CreateAclsRequest { creations: vec![creation] })
        }
        ApiKey::DeleteAcls => {
            let filter = delete_acls_request::DeleteAclsFilter {
                resource_type_filter: 2,
                resource_name_filter: Some(names.topic()),
                pattern_type_filter: 3,
                operation: 3,
                permission_type: 3,
                ..Default::default()
            };
            told!(client, 3, DeleteAclsRequest { filters: vec![filter] })
        }
        _ => None,
    }
}
