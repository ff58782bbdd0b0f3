//! Consumer groups (KIP-848) over the wire: numbers, versions, configuration.

use millstream::{Server, ServerConfig};
use millstream_wire::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use millstream_wire::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use millstream_wire::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use millstream_wire::update_features_request::FeatureUpdateKey;
use millstream_wire::*;
use raw::Client;

#[expect(dead_code, reason = "other tests have records")]
mod raw;

const GROUP: i8 = 32;

fn code(error_code: i16) -> ErrorCode {
    ErrorCode::or_unknown(error_code)
}

fn join(member: &str) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: "g".into(),
        member_id: member.to_owned().into(),
        rebalance_timeout_ms: 10_000,
        subscribed_topic_names: Some(vec!["t".into()]),
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    }
}

async fn start() -> (Server, Client) {
    let server = Server::start(ServerConfig::in_memory()).await.expect("starts");
    let mut client = Client::new(&server);
    let topic = create_topics_request::CreatableTopic {
        name: "t".into(),
        num_partitions: 2,
        replication_factor: 1,
        ..Default::default()
    };
    let request =
        CreateTopicsRequest { topics: vec![topic], timeout_ms: 1_000, ..Default::default() };
    assert_eq!(client.ask(7, request).await.topics[0].error_code, 0);
    let find = FindCoordinatorRequest { coordinator_keys: vec!["g".into()], ..Default::default() };
    client.ask(4, find).await;
    (server, client)
}

/// Pitfalls 58 and 59.
#[tokio::test]
async fn a_member_and_what_others_see_of_it() {
    let (server, mut client) = start().await;
    let beat = client.ask(1, join("m")).await;
    assert_eq!((beat.error_code, beat.member_epoch), (0, 1), "{beat:?}");
    let assigned = beat.assignment.expect("told what to read").topic_partitions;
    assert_eq!(assigned[0].partitions, [0, 1]);
    // Version 0 leaves the id to the coordinator, version 1 does not.
    let nobody = client.ask(1, join("")).await;
    assert_eq!(code(nobody.error_code), ErrorCode::InvalidRequest);
    let found = client.ask(5, ListGroupsRequest::default()).await.groups;
    assert_eq!((&*found[0].group_type, &*found[0].group_state), ("consumer", "Stable"));
    let request = DescribeGroupsRequest { groups: vec!["g".into()], ..Default::default() };
    let found = client.ask(6, request).await.groups;
    assert_eq!(code(found[0].error_code), ErrorCode::GroupIdNotFound, "not a classic group");
    let request =
        ConsumerGroupDescribeRequest { group_ids: vec!["g".into()], ..Default::default() };
    let found = client.ask(1, request).await.groups;
    let member = &found[0].members[0];
    assert_eq!(
        (&*found[0].assignor_name, member.member_type, member.member_epoch),
        ("uniform", 1, 1)
    );
    assert_eq!(&*member.assignment.topic_partitions[0].topic_name, "t");
    server.stop().await;
}

/// Pitfall 54.
#[tokio::test]
async fn commits_and_fetches_name_the_members_epoch() {
    let (server, mut client) = start().await;
    client.ask(1, join("m")).await;
    for (version, epoch, expected) in [
        (9, 1, ErrorCode::None),
        (9, 2, ErrorCode::StaleMemberEpoch),
        (8, 1, ErrorCode::UnsupportedVersion),
        (9, -1, ErrorCode::StaleMemberEpoch),
    ] {
        let partition = OffsetCommitRequestPartition { committed_offset: 5, ..Default::default() };
        let topic = OffsetCommitRequestTopic {
            name: "t".into(),
            partitions: vec![partition],
            ..Default::default()
        };
        let request = OffsetCommitRequest {
            group_id: "g".into(),
            member_id: "m".into(),
            generation_id_or_member_epoch: epoch,
            topics: vec![topic],
            ..Default::default()
        };
        let answer = client.ask(version, request).await;
        let told = code(answer.topics[0].partitions[0].error_code);
        assert_eq!(told, expected, "v{version} in epoch {epoch}");
    }
    for (member, epoch, expected) in [
        (None, -1, ErrorCode::None),
        (Some("m"), 1, ErrorCode::None),
        (Some("m"), 2, ErrorCode::StaleMemberEpoch),
        (Some("x"), 1, ErrorCode::UnknownMemberId),
    ] {
        let topic = OffsetFetchRequestTopics {
            name: "t".into(),
            partition_indexes: vec![0],
            ..Default::default()
        };
        let group = OffsetFetchRequestGroup {
            group_id: "g".into(),
            member_id: member.map(Into::into),
            member_epoch: epoch,
            topics: Some(vec![topic]),
        };
        let request = OffsetFetchRequest { groups: vec![group], ..Default::default() };
        let answer = client.ask(9, request).await;
        assert_eq!(code(answer.groups[0].error_code), expected, "{member:?} in epoch {epoch}");
    }
    server.stop().await;
}

#[tokio::test]
async fn groups_are_configured_one_by_one() {
    let (server, mut client) = start().await;
    for (value, expected, interval) in [
        ("7000", ErrorCode::None, 7_000),
        ("1", ErrorCode::InvalidConfig, 7_000),
        ("15001", ErrorCode::InvalidConfig, 7_000),
        ("15000", ErrorCode::None, 15_000),
    ] {
        let config = AlterableConfig {
            name: "consumer.heartbeat.interval.ms".into(),
            value: Some(value.into()),
            ..Default::default()
        };
        let resource = AlterConfigsResource {
            resource_type: GROUP,
            resource_name: "g".into(),
            configs: vec![config],
        };
        let request =
            IncrementalAlterConfigsRequest { resources: vec![resource], ..Default::default() };
        let answer = client.ask(1, request).await;
        assert_eq!(code(answer.responses[0].error_code), expected, "{value}");
        assert_eq!(client.ask(1, join("m")).await.heartbeat_interval_ms, interval);
    }
    server.stop().await;
}

/// Pitfall 3.
#[tokio::test]
async fn the_feature_is_finalized() {
    let (server, mut client) = start().await;
    for (version, supported) in [(3, 0), (4, 1)] {
        let request = ApiVersionsRequest {
            client_software_name: "test".into(),
            client_software_version: "1".into(),
            ..Default::default()
        };
        let answer = client.ask(version, request).await;
        assert!(answer.finalized_features_epoch >= 0);
        let of = answer.finalized_features.iter().find(|it| it.name == "group.version");
        assert_eq!(of.map(|it| it.max_version_level), Some(1), "v{version}");
        // Older clients can't read that a feature may be switched off (KAFKA-17492).
        let named = answer.supported_features.iter().filter(|it| it.name == "group.version");
        assert_eq!(named.count(), supported, "v{version}");
    }
    for (level, expected) in [(1, ErrorCode::None), (0, ErrorCode::InvalidUpdateVersion)] {
        let update = FeatureUpdateKey {
            feature: "group.version".into(),
            max_version_level: level,
            upgrade_type: 2,
            ..Default::default()
        };
        let request = UpdateFeaturesRequest { feature_updates: vec![update], ..Default::default() };
        assert_eq!(code(client.ask(2, request).await.error_code), expected, "level {level}");
    }
    server.stop().await;
}
