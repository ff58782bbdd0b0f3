//! Topics, metadata, configuration.

use millstream_types::Uuid;
use millstream_wire::create_partitions_request::CreatePartitionsTopic;
use millstream_wire::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use millstream_wire::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use millstream_wire::delete_topics_request::DeleteTopicState;
use millstream_wire::describe_configs_request::DescribeConfigsResource;
use millstream_wire::metadata_request::MetadataRequestTopic;
use millstream_wire::*;

use super::raw::Client;
use super::{
    NO_ERROR, TOPIC, code, create, fetch, fetch_request, look_up, produce, records, start,
    start_with, text,
};

/// Pitfall 14: a topic is made by being asked for only when the client, the broker and the name allow it.
/// Unlike in Apache Kafka it is in the same answer.
#[tokio::test]
async fn topics_are_made_by_being_asked_for_when_all_agree() {
    for (broker, client_allows, name, expected) in [
        ("true", true, "made", NO_ERROR),
        ("true", false, "made", ErrorCode::UnknownTopicOrPartition),
        ("false", true, "made", ErrorCode::UnknownTopicOrPartition),
        ("true", true, "no topic", ErrorCode::InvalidTopicException),
        ("false", false, "no topic", ErrorCode::InvalidTopicException),
    ] {
        let (server, mut client) = start_with(&[("auto.create.topics.enable", broker)]).await;
        let topic = MetadataRequestTopic { name: Some(text(name)), ..Default::default() };
        let request = MetadataRequest {
            topics: Some(vec![topic]),
            allow_auto_topic_creation: client_allows,
            ..Default::default()
        };
        let found = client.ask(12, request).await.topics.remove(0);
        assert_eq!(code(found.error_code), expected, "{broker} {client_allows} {name}");
        assert_eq!(!found.partitions.is_empty(), expected == NO_ERROR);
        // Nothing is made by a question for all topics.
        let all = client.ask(12, MetadataRequest { topics: None, ..Default::default() }).await;
        let there = all.topics.iter().any(|topic| topic.name.as_deref() == Some(name));
        assert_eq!(there, expected == NO_ERROR);
        server.stop().await;
    }
}

fn topic(name: &str) -> CreatableTopic {
    CreatableTopic {
        name: text(name),
        num_partitions: 3,
        replication_factor: 1,
        ..Default::default()
    }
}

/// Pitfalls 15 and 16: each topic of a request is answered by itself, with what was made; what only was to
/// be checked is not made; and what was made can be written and read at once.
#[tokio::test]
async fn created_topics_are_answered_one_by_one_and_are_there() {
    let (server, mut client) = start().await;
    let config = CreatableTopicConfig { name: text("retention.ms"), value: Some(text("5000")) };
    let wrong = CreatableTopicConfig { name: text("retention.ms"), value: Some(text("soon")) };
    for (validate_only, expected) in [(true, ErrorCode::UnknownTopicOrPartition), (false, NO_ERROR)]
    {
        let topics = vec![
            CreatableTopic { configs: vec![config.clone()], ..topic("good") },
            topic("not good"),
            CreatableTopic { configs: vec![wrong.clone()], ..topic("bad-config") },
            CreatableTopic { num_partitions: 0, ..topic("none") },
            CreatableTopic { num_partitions: -1, replication_factor: -1, ..topic("defaults") },
        ];
        let request = CreateTopicsRequest { topics, validate_only, ..Default::default() };
        let made = client.ask(7, request).await.topics;
        let told: Vec<_> = made.iter().map(|one| (&*one.name, code(one.error_code))).collect();
        let all = [
            ("good", NO_ERROR),
            ("not good", ErrorCode::InvalidTopicException),
            ("bad-config", ErrorCode::InvalidConfig),
            ("none", ErrorCode::InvalidPartitions),
            ("defaults", NO_ERROR),
        ];
        assert_eq!(told, all);
        assert_eq!((made[0].num_partitions, made[0].replication_factor), (3, 1));
        let configs = made[0].configs.as_ref().expect("configs");
        let retention = configs.iter().find(|one| one.name == "retention.ms").expect("listed");
        // Of a topic.
        assert_eq!((retention.value.as_deref(), retention.config_source), (Some("5000"), 1));
        let found = look_up(&mut client, "good").await;
        assert_eq!(code(found.error_code), expected, "validate_only {validate_only}");
        assert_eq!(found.topic_id, if validate_only { Uuid::NIL } else { made[0].topic_id });
        assert_eq!(found.topic_id == Uuid::NIL, validate_only);
    }
    let leaders: Vec<_> =
        look_up(&mut client, "good").await.partitions.iter().map(|one| one.leader_id).collect();
    assert_eq!(leaders, [1, 1, 1]);
    assert_eq!(produce(&mut client, "good", records(&[1_000])).await.error_code, 0);
    assert_eq!(fetch(&mut client, "good", 0).await.high_watermark, 1);
    server.stop().await;
}

/// Pitfall 17: whatever is asked for has its entry in the answer.
#[tokio::test]
async fn what_is_asked_for_is_in_the_answer() {
    let (server, mut client) = start().await;
    let more =
        |name: &str, count| CreatePartitionsTopic { name: text(name), count, assignments: None };
    let topics = vec![more(TOPIC, 2), more("gone", 2), more("no topic", 2)];
    let request = CreatePartitionsRequest { topics, ..Default::default() };
    let told = client.ask(3, request).await.results;
    let told: Vec<_> = told.iter().map(|one| (&*one.name, code(one.error_code))).collect();
    let unknown = ErrorCode::UnknownTopicOrPartition;
    assert_eq!(told, [(TOPIC, NO_ERROR), ("gone", unknown), ("no topic", unknown)]);
    assert_eq!(look_up(&mut client, TOPIC).await.partitions.len(), 2);
    let request = CreatePartitionsRequest { topics: vec![more(TOPIC, 2)], ..Default::default() };
    let told = client.ask(3, request).await.results;
    assert_eq!(code(told[0].error_code), ErrorCode::InvalidPartitions);
    let names = ["gone", TOPIC]
        .map(|name| DeleteTopicState { name: Some(text(name)), topic_id: Uuid::NIL });
    let request = DeleteTopicsRequest { topics: names.into(), ..Default::default() };
    let told = client.ask(6, request).await.responses;
    let told: Vec<_> = told.iter().map(|one| code(one.error_code)).collect();
    assert_eq!(told, [unknown, NO_ERROR]);
    server.stop().await;
}

/// Pitfall 18: a topic that is made again is another one. By id the old one is not known any more, in a
/// fetch session neither; by name clients before topic ids read the new one.
#[tokio::test]
async fn a_topic_made_again_has_another_id() {
    let (server, mut client) = start().await;
    let first = look_up(&mut client, TOPIC).await.topic_id;
    assert_ne!(first, Uuid::NIL);
    let by_id = |id: Uuid, session_id: i32, session_epoch: i32| {
        let mut request = fetch_request("", 0);
        request.topics[0].topic_id = id;
        FetchRequest { session_id, session_epoch, ..request }
    };
    let opened = client.ask(17, by_id(first, 0, 0)).await;
    assert_ne!(opened.session_id, 0);
    let name = DeleteTopicState { name: Some(text(TOPIC)), topic_id: Uuid::NIL };
    client.ask(6, DeleteTopicsRequest { topics: vec![name], ..Default::default() }).await;
    assert_eq!(create(&mut client, TOPIC, &[]).await, NO_ERROR);
    let second = look_up(&mut client, TOPIC).await.topic_id;
    assert!(second != first && second != Uuid::NIL);
    assert_eq!(produce(&mut client, TOPIC, records(&[1_000])).await.error_code, 0);

    let same_session = FetchRequest { topics: Vec::new(), ..by_id(first, opened.session_id, 1) };
    for request in [by_id(first, 0, -1), same_session] {
        let answer = super::only(client.ask(17, request).await);
        assert_eq!(code(answer.error_code), ErrorCode::UnknownTopicId);
    }
    let answer = super::only(client.ask(17, by_id(second, 0, -1)).await);
    assert_eq!((answer.error_code, answer.high_watermark), (0, 1));
    // Before version 13 the request has no id, and the answer names the topic.
    let answer = client.ask(12, fetch_request(TOPIC, 0)).await.responses.remove(0);
    assert_eq!((&*answer.topic, answer.partitions[0].high_watermark), (TOPIC, 1));
    let asked = MetadataRequestTopic { name: None, topic_id: first };
    let request = MetadataRequest { topics: Some(vec![asked]), ..Default::default() };
    let answer = client.ask(12, request).await;
    assert_eq!(code(answer.topics[0].error_code), ErrorCode::UnknownTopicId);
    server.stop().await;
}

/// Pitfall 20: what the client may do is told when it asks for it.
#[tokio::test]
async fn operations_are_told_when_asked_for() {
    let (server, mut client) = start().await;
    for asked in [false, true] {
        let topic = MetadataRequestTopic { name: Some(text(TOPIC)), ..Default::default() };
        let request = MetadataRequest {
            topics: Some(vec![topic]),
            include_cluster_authorized_operations: asked,
            include_topic_authorized_operations: asked,
            ..Default::default()
        };
        let found = client.ask(10, request).await;
        let told =
            [found.cluster_authorized_operations, found.topics[0].topic_authorized_operations];
        assert_eq!(told.map(|it| it == i32::MIN), [!asked; 2]);
        let request =
            DescribeGroupsRequest { groups: vec![text("g")], include_authorized_operations: asked };
        let found = client.ask(5, request).await.groups.remove(0);
        assert_eq!(found.authorized_operations == i32::MIN, !asked);
    }
    server.stop().await;
}

/// What DescribeConfigs says of one config of [`TOPIC`]: its value and where that is from.
async fn config(client: &mut Client, name: &str) -> (String, i8) {
    let resource = DescribeConfigsResource {
        resource_type: 2,
        resource_name: text(TOPIC),
        configuration_keys: None,
    };
    let request = DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
    let found = client.ask(4, request).await.results.remove(0);
    let found = found.configs.into_iter().find(|config| config.name == name).expect("listed");
    (found.value.expect("a value").as_str().to_owned(), found.config_source)
}

const OF_TOPIC: i8 = 1;
const BY_DEFAULT: i8 = 5;

/// Pitfall 22: one API replaces, the other changes; what is set is set, also to the default.
#[tokio::test]
async fn configs_are_replaced_or_changed() {
    use incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
    let (server, mut client) = start().await;
    let change = |op: i8, name: &str, value: Option<&str>| {
        let config =
            AlterableConfig { name: text(name), config_operation: op, value: value.map(text) };
        let resource = AlterConfigsResource {
            resource_type: 2,
            resource_name: text(TOPIC),
            configs: vec![config],
        };
        IncrementalAlterConfigsRequest { resources: vec![resource], ..Default::default() }
    };
    let (set, delete, append, subtract) = (0, 1, 2, 3);
    for (op, name, value, error, expected) in [
        (set, "retention.ms", Some("604800000"), NO_ERROR, ("604800000", OF_TOPIC)),
        (append, "cleanup.policy", Some("compact"), NO_ERROR, ("delete,compact", OF_TOPIC)),
        (subtract, "cleanup.policy", Some("delete"), NO_ERROR, ("compact", OF_TOPIC)),
        (append, "retention.ms", Some("1"), ErrorCode::InvalidConfig, ("604800000", OF_TOPIC)),
        (delete, "cleanup.policy", None, NO_ERROR, ("delete", BY_DEFAULT)),
        (set, "segment.ms", Some("60000"), NO_ERROR, ("60000", OF_TOPIC)),
    ] {
        let answer = client.ask(1, change(op, name, value)).await.responses.remove(0);
        assert_eq!(code(answer.error_code), error, "{op} {name} {value:?}");
        let (value, source) = config(&mut client, name).await;
        assert_eq!((value.as_str(), source), expected, "{op} {name}");
    }
    // Set before, and not named now.
    let request = AlterConfigsRequest {
        resources: vec![alter_configs_request::AlterConfigsResource {
            resource_type: 2,
            resource_name: text(TOPIC),
            configs: vec![alter_configs_request::AlterableConfig {
                name: text("segment.ms"),
                value: Some(text("70000")),
            }],
        }],
        ..Default::default()
    };
    assert_eq!(client.ask(2, request).await.responses[0].error_code, 0);
    assert_eq!(config(&mut client, "segment.ms").await, ("70000".to_owned(), OF_TOPIC));
    assert_eq!(config(&mut client, "retention.ms").await.1, BY_DEFAULT);
    server.stop().await;
}

/// Pitfall 23: what is deleted already is deleted; -1 is all that can be seen; and only what is not there
/// is unknown.
#[tokio::test]
async fn records_are_deleted_up_to_where_they_are() {
    let (server, mut client) = start().await;
    for _ in 0..5 {
        assert_eq!(produce(&mut client, TOPIC, records(&[1_000])).await.error_code, 0);
    }
    let unknown = ErrorCode::UnknownTopicOrPartition;
    for (name, partition_index, offset, expected) in [
        (TOPIC, 0, 3, Ok(3)),
        (TOPIC, 0, 1, Ok(3)),
        (TOPIC, 0, 0, Ok(3)),
        (TOPIC, 0, 6, Err(ErrorCode::OffsetOutOfRange)),
        (TOPIC, 0, -2, Err(ErrorCode::OffsetOutOfRange)),
        (TOPIC, 0, -1, Ok(5)),
        (TOPIC, 0, -1, Ok(5)),
        (TOPIC, 0, 5, Ok(5)),
        (TOPIC, 1, 0, Err(unknown)),
        ("gone", 0, 0, Err(unknown)),
    ] {
        let partitions = vec![DeleteRecordsPartition { partition_index, offset }];
        let topics = vec![DeleteRecordsTopic { name: text(name), partitions }];
        let answer = client.ask(2, DeleteRecordsRequest { topics, timeout_ms: 1_000 }).await;
        let told = &answer.topics[0].partitions[0];
        let found = match code(told.error_code) {
            ErrorCode::None => Ok(told.low_watermark),
            error => Err(error),
        };
        assert_eq!(found, expected, "{name}-{partition_index} before {offset}");
    }
    let low = fetch(&mut client, TOPIC, 5).await;
    assert_eq!((low.log_start_offset, low.high_watermark), (5, 5));
    server.stop().await;
}
