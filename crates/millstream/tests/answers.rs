//! What the broker says to requests at the edge: those that are refused, those that name a thing
//! twice, those that ask for more than they should. The codes are Apache Kafka's.

use bytes::Bytes;
use millstream::{Server, ServerConfig};
use millstream_record::{BatchBuilder, Compression, crc32c};
use millstream_types::{Timestamp, Uuid};
use millstream_wire::ErrorCode::{
    CorruptMessage, InconsistentGroupProtocol, InvalidConfig, InvalidRecord, InvalidRequest,
    InvalidTimestamp, InvalidTopicException, MessageTooLarge, NotCoordinator, RebootstrapRequired,
    TopicAlreadyExists, TopicDeletionDisabled, UnknownMemberId, UnknownTopicId,
    UnknownTopicOrPartition, UnsupportedCompressionType,
};
use millstream_wire::*;
use raw::{Client, batch};

#[allow(dead_code, reason = "other tests use more of it")]
mod raw;

const TOPIC: &str = "t";
const GROUP: &str = "g";
const NO_ERROR: ErrorCode = ErrorCode::None;

/// A server with these settings, the topic [`TOPIC`] of one partition, and a client.
async fn start(settings: &[(&str, &str)]) -> (Server, Client) {
    let mut config = ServerConfig::in_memory();
    for (name, value) in settings {
        config.settings.insert((*name).to_owned(), (*value).to_owned());
    }
    let server = Server::start(config).await.expect("starts");
    let mut client = Client::new(&server);
    assert_eq!(create(&mut client, TOPIC, &[]).await, NO_ERROR);
    let request = FindCoordinatorRequest { key: GROUP.into(), ..Default::default() };
    assert_eq!(client.ask(0, request).await.error_code, 0);
    (server, client)
}

fn code(code: i16) -> ErrorCode {
    ErrorCode::or_unknown(code)
}

async fn create(client: &mut Client, name: &str, configs: &[(&str, Option<&str>)]) -> ErrorCode {
    use create_topics_request::{CreatableTopic, CreatableTopicConfig};
    let configs = configs.iter().map(|(name, value)| CreatableTopicConfig {
        name: StrBytes::from((*name).to_owned()),
        value: value.map(|value| StrBytes::from(value.to_owned())),
    });
    let topic = CreatableTopic {
        name: StrBytes::from(name.to_owned()),
        num_partitions: 1,
        replication_factor: 1,
        configs: configs.collect(),
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
    code(client.ask(7, request).await.topics[0].error_code)
}

#[tokio::test]
async fn offsets_are_stored_only_of_partitions_that_are_there() {
    use offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
    use offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
    let (server, mut client) = start(&[]).await;
    let partition = |partition_index| OffsetCommitRequestPartition {
        partition_index,
        committed_offset: 5,
        ..Default::default()
    };
    let topic = |name: &str, partitions: &[i32]| OffsetCommitRequestTopic {
        name: StrBytes::from(name.to_owned()),
        partitions: partitions.iter().copied().map(partition).collect(),
        ..Default::default()
    };
    let request = OffsetCommitRequest {
        group_id: GROUP.into(),
        generation_id_or_member_epoch: -1,
        group_instance_id: Some("by-hand".into()),
        topics: vec![topic(TOPIC, &[99, 0, -1]), topic("gone", &[0])],
        ..Default::default()
    };
    let answer = client.ask(7, request).await;
    let told = |index, error: ErrorCode| (index, error.code());
    let expected = [
        vec![
            told(99, UnknownTopicOrPartition),
            told(0, NO_ERROR),
            told(-1, UnknownTopicOrPartition),
        ],
        vec![told(0, UnknownTopicOrPartition)],
    ];
    let told = |topic: &offset_commit_response::OffsetCommitResponseTopic| -> Vec<_> {
        topic.partitions.iter().map(|one| (one.partition_index, one.error_code)).collect()
    };
    assert_eq!(answer.topics.iter().map(told).collect::<Vec<_>>(), expected);

    let group = offset_fetch_request::OffsetFetchRequestGroup {
        group_id: GROUP.into(),
        topics: None,
        ..Default::default()
    };
    let request = OffsetFetchRequest { groups: vec![group], ..Default::default() };
    let stored = client.ask(8, request).await;
    let partitions = &stored.groups[0].topics[0].partitions;
    let stored: Vec<_> = partitions.iter().map(|one| one.partition_index).collect();
    assert_eq!(stored, [0]);

    let partition = |partition_index| OffsetDeleteRequestPartition { partition_index };
    let topic = |name: &str, partitions: &[i32]| OffsetDeleteRequestTopic {
        name: StrBytes::from(name.to_owned()),
        partitions: partitions.iter().copied().map(partition).collect(),
    };
    let topics = vec![topic("gone", &[0]), topic(TOPIC, &[99, 0, -1])];
    let answer = client.ask(0, OffsetDeleteRequest { group_id: GROUP.into(), topics }).await;
    let told = |topic: &offset_delete_response::OffsetDeleteResponseTopic| -> Vec<_> {
        topic.partitions.iter().map(|one| (one.partition_index, one.error_code)).collect()
    };
    let expected = [expected[1].clone(), expected[0].clone()];
    assert_eq!(answer.topics.iter().map(told).collect::<Vec<_>>(), expected);
    server.stop().await;
}

#[tokio::test]
async fn a_topic_that_exists_exists_whatever_else_is_wrong() {
    let (server, mut client) = start(&[]).await;
    assert_eq!(create(&mut client, "a.b", &[]).await, NO_ERROR);
    let wrong: &[_] = &[("no.such.config", Some("1"))];
    for (name, configs, expected) in [
        (TOPIC, wrong, TopicAlreadyExists),
        ("a_b", wrong, InvalidTopicException),
        ("\u{e4}", wrong, InvalidTopicException),
        ("new", wrong, InvalidConfig),
        ("new", &[("retention.ms", None)], InvalidConfig),
        ("new", &[("retention.ms", Some("5"))], NO_ERROR),
    ] {
        assert_eq!(create(&mut client, name, configs).await, expected, "{name} {configs:?}");
    }
    server.stop().await;
}

async fn produce(client: &mut Client, topic: &'static str, records: Bytes) -> ErrorCode {
    code(produce_all(client, topic, vec![records]).await[0].error_code)
}

/// The answers to one request that carries each of `batches` for partition 0.
async fn produce_all(
    client: &mut Client,
    topic: &'static str,
    batches: Vec<Bytes>,
) -> Vec<produce_response::PartitionProduceResponse> {
    use produce_request::{PartitionProduceData, TopicProduceData};
    let partition =
        |records: Bytes| PartitionProduceData { index: 0, records: Some(records.into()) };
    let request = ProduceRequest {
        transactional_id: None,
        acks: -1,
        timeout_ms: 1_000,
        topic_data: vec![TopicProduceData {
            name: topic.into(),
            partition_data: batches.into_iter().map(partition).collect(),
            ..Default::default()
        }],
    };
    client.ask(9, request).await.responses.remove(0).partition_responses
}

/// A batch with one record of `bytes` times the same letter.
fn long(bytes: usize, codec: Compression) -> Bytes {
    let mut batch = BatchBuilder::new().compression(codec, None);
    batch.append(Timestamp(1_000), Some(b"k"), Some(&vec![b'v'; bytes]), &[]);
    batch.build().expect("a batch")
}

/// A batch with other bytes from `at` on, and with the checksum of what it is now.
fn forged(batch: &[u8], at: usize, bytes: &[u8]) -> Bytes {
    let mut batch = batch.to_vec();
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    let crc = crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch.into()
}

/// Pitfall 32.
#[tokio::test]
async fn batches_are_refused_as_kafka_refuses_them() {
    let (server, mut client) = start(&[("record.validation", "full")]).await;
    let small: &[_] = &[("max.decompressed.message.bytes", Some("1000"))];
    assert_eq!(create(&mut client, "small", small).await, NO_ERROR);
    let plain: &[_] =
        &[("compression.type", Some("uncompressed")), ("max.message.bytes", Some("1000"))];
    assert_eq!(create(&mut client, "plain", plain).await, NO_ERROR);
    let whole = batch();
    let mut flipped = whole.to_vec();
    flipped[40] ^= 1;
    let mut old = whole.to_vec();
    old[16] = 1;
    let append_time = 1 << 3;
    let zipped = long(50_000, Compression::Lz4);
    for (what, topic, records, expected) in [
        ("whole", TOPIC, whole.clone(), NO_ERROR),
        ("empty", TOPIC, Bytes::new(), InvalidRecord),
        ("a part", TOPIC, whole.slice(..30), InvalidRecord),
        ("less than a length", TOPIC, whole.slice(..10), InvalidRecord),
        ("two", TOPIC, [&whole[..], &whole].concat().into(), InvalidRecord),
        ("damaged", TOPIC, flipped.into(), CorruptMessage),
        ("of before 2017", TOPIC, old.into(), InvalidRecord),
        ("append time", TOPIC, forged(&whole, 22, &[append_time]), InvalidTimestamp),
        ("no codec", TOPIC, forged(&whole, 22, &[7]), UnsupportedCompressionType),
        ("not lz4", TOPIC, forged(&zipped, 61, &[0; 8]), CorruptMessage),
        ("long inside", "small", zipped.clone(), MessageTooLarge),
        ("long when stored", "plain", zipped, MessageTooLarge),
        ("short when stored", "plain", long(500, Compression::Lz4), NO_ERROR),
    ] {
        assert_eq!(produce(&mut client, topic, records).await, expected, "{what}");
    }
    server.stop().await;
}

/// Clients take a single one that is named for the fault of the whole batch (librdkafka's test 0011).
/// Pitfall 32.
#[tokio::test]
async fn every_record_without_a_key_is_named() {
    let (server, mut client) = start(&[]).await;
    let compacted: &[_] = &[("cleanup.policy", Some("compact"))];
    assert_eq!(create(&mut client, "compacted", compacted).await, NO_ERROR);
    let mixed = |count: usize, keyless: usize| {
        let mut batch = BatchBuilder::new().compression(Compression::Lz4, None);
        for index in 0..count {
            let key = (index % keyless != 0).then_some(&b"k"[..]);
            batch.append(Timestamp(1_000), key, Some(b"v"), &[]);
        }
        batch.build().expect("a batch")
    };
    // Of many, in one request: the first of each batch, and a thousand in all.
    let batches = vec![mixed(100, 10), mixed(3_000, 2), mixed(5, 1), mixed(1, 2), mixed(4, 9)];
    let answers = produce_all(&mut client, "compacted", batches).await;
    let named: Vec<Vec<_>> = answers
        .iter()
        .map(|answer| answer.record_errors.iter().map(|error| error.batch_index).collect())
        .collect();
    assert_eq!(named[0], (0..10).map(|tenth| tenth * 10).collect::<Vec<_>>());
    assert_eq!(named[1], (0..990).map(|half| half * 2).collect::<Vec<_>>());
    assert_eq!(named[2..], [[0], [0], [0]]);
    for answer in &answers {
        assert_eq!(code(answer.error_code), InvalidRecord);
        assert!(answer.error_message.as_ref().is_some_and(|text| text.contains("needs a key")));
    }
    server.stop().await;
}

/// A resource (type and name) and what is to be set on it: name, operation and value.
type Resource<'a> = (i8, &'a str, &'a [(&'a str, i8, Option<&'a str>)]);

const BROKER: i8 = 4;
const SET: i8 = 0;
const APPEND: i8 = 2;

async fn patch(client: &mut Client, resources: &[Resource<'_>]) -> Vec<ErrorCode> {
    use incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
    let resources = resources.iter().map(|(kind, name, configs)| AlterConfigsResource {
        resource_type: *kind,
        resource_name: StrBytes::from((*name).to_owned()),
        configs: configs
            .iter()
            .map(|(name, op, value)| AlterableConfig {
                name: StrBytes::from((*name).to_owned()),
                config_operation: *op,
                value: value.map(|value| StrBytes::from(value.to_owned())),
            })
            .collect(),
    });
    let request =
        IncrementalAlterConfigsRequest { resources: resources.collect(), ..Default::default() };
    let answer = client.ask(1, request).await;
    answer.responses.iter().map(|one| code(one.error_code)).collect()
}

async fn replace(client: &mut Client, resources: &[Resource<'_>]) -> Vec<ErrorCode> {
    use alter_configs_request::{AlterConfigsResource, AlterableConfig};
    let resources = resources.iter().map(|(kind, name, configs)| AlterConfigsResource {
        resource_type: *kind,
        resource_name: StrBytes::from((*name).to_owned()),
        configs: configs
            .iter()
            .map(|(name, _, value)| AlterableConfig {
                name: StrBytes::from((*name).to_owned()),
                value: value.map(|value| StrBytes::from(value.to_owned())),
            })
            .collect(),
    });
    let request = AlterConfigsRequest { resources: resources.collect(), ..Default::default() };
    // The last version with two-byte lengths: what does not fit would end the connection.
    let answer = client.ask(1, request).await;
    answer.responses.iter().map(|one| code(one.error_code)).collect()
}

#[tokio::test]
async fn changes_of_configuration_are_refused_as_kafka_refuses_them() {
    let (server, mut client) = start(&[]).await;
    let endless = "9".repeat(32_767);
    let good: (&str, i8, Option<&str>) = ("retention.ms", SET, Some("5"));
    let cases: &[(&[Resource<'_>], &[ErrorCode])] = &[
        (&[(2, TOPIC, &[good])], &[NO_ERROR]),
        (&[(2, TOPIC, &[good, good])], &[InvalidRequest]),
        (&[(2, TOPIC, &[("retention.ms", SET, None)])], &[InvalidRequest]),
        (&[(2, TOPIC, &[("retention.ms", SET, Some("x"))])], &[InvalidConfig]),
        (&[(2, TOPIC, &[("no.such", SET, Some("x"))])], &[InvalidConfig]),
        (&[(2, "gone", &[good])], &[UnknownTopicOrPartition]),
        (&[(2, "\u{e4}", &[good])], &[InvalidTopicException]),
        (&[(2, TOPIC, &[good]), (2, TOPIC, &[])], &[InvalidRequest, InvalidRequest]),
        (&[(BROKER, "1", &[("num.partitions", SET, Some("3"))])], &[InvalidRequest]),
        (&[(BROKER, "", &[("log.retention.ms", SET, Some("x"))])], &[InvalidRequest]),
        (&[(BROKER, "1", &[("no.such", SET, Some("x"))])], &[InvalidRequest]),
        (&[(BROKER, "7", &[])], &[InvalidRequest]),
        (&[(BROKER, &endless, &[])], &[InvalidRequest]),
        (&[(16, "", &[])], &[InvalidRequest]),
        (&[(32, "", &[])], &[InvalidRequest]),
        (&[(32, GROUP, &[("no.such", SET, Some("x"))])], &[InvalidConfig]),
        (&[(99, "x", &[])], &[InvalidRequest]),
    ];
    for (resources, expected) in cases {
        assert_eq!(patch(&mut client, resources).await, *expected, "patch {resources:?}");
        assert_eq!(replace(&mut client, resources).await, *expected, "replace {resources:?}");
    }
    for (kind, name, config) in [(2, TOPIC, "retention.ms"), (BROKER, "", "log.retention.ms")] {
        let refused = patch(&mut client, &[(kind, name, &[(config, APPEND, Some("5"))])]).await;
        assert_eq!(refused, [InvalidConfig], "append to {config}");
    }
    server.stop().await;
}

/// A resource to be described: type, name and keys.
type Asked<'a> = (i8, String, Option<&'a [&'a str]>);

/// For each resource that was described: its name, its code, how many configs, and their values.
async fn describe(client: &mut Client, resources: &[Asked<'_>]) -> DescribeConfigsResponse {
    use describe_configs_request::DescribeConfigsResource;
    let text = |text: &str| StrBytes::from(text.to_owned());
    let resources = resources.iter().map(|(kind, name, keys)| DescribeConfigsResource {
        resource_type: *kind,
        resource_name: text(name),
        configuration_keys: keys.map(|keys| keys.iter().map(|key| text(key)).collect()),
    });
    let request = DescribeConfigsRequest {
        resources: resources.collect(),
        include_synonyms: true,
        include_documentation: true,
    };
    client.ask(4, request).await
}

/// Pitfall 12.
#[tokio::test]
async fn the_broker_says_where_it_is() {
    let config = ServerConfig {
        advertise: Some(("2001:db8::1".to_owned(), 9092)),
        ..ServerConfig::in_memory()
    };
    let server = Server::start(config).await.expect("starts");
    let mut client = Client::new(&server);
    let listens = format!("PLAINTEXT://{}", server.kafka_address().expect("it listens"));
    let answer = describe(&mut client, &[(BROKER, "1".to_owned(), None)]).await;
    for (name, expected) in [
        ("listeners", listens.as_str()),
        ("advertised.listeners", "PLAINTEXT://[2001:db8::1]:9092"),
        ("log.dir", "memory"),
        ("log.dirs", "memory"),
        ("node.id", "1"),
    ] {
        let found = answer.results[0].configs.iter().find(|config| config.name == name);
        let value = found.and_then(|config| config.value.as_deref());
        assert_eq!(value, Some(expected), "{name}");
    }
    server.stop().await;
}

#[tokio::test]
async fn resources_are_described_once_and_not_without_end() {
    let (server, mut client) = start(&[]).await;
    let one = "1".to_owned();
    let nodes = (BROKER, one.clone(), Some(&["node.id"][..]));
    for (asked, configs) in [
        (vec![nodes.clone(), nodes.clone(), nodes.clone()], 1),
        (vec![nodes.clone(), (BROKER, one.clone(), Some(&["log.dir"])), nodes.clone()], 2),
    ] {
        let answer = describe(&mut client, &asked).await;
        let counts: Vec<_> = answer.results.iter().map(|result| result.configs.len()).collect();
        assert_eq!(counts, [configs], "{asked:?}");
    }
    let all = describe(&mut client, &[(BROKER, one.clone(), None)]).await;
    let answer = describe(&mut client, &[nodes, (BROKER, one, Some(&[]))]).await;
    assert_eq!(answer.results, all.results);

    // As many names for the one broker as one likes.
    let endless: Vec<_> =
        (0..3_000).map(|zeros| (BROKER, format!("{}1", "0".repeat(zeros)), None)).collect();
    let answer = describe(&mut client, &endless).await;
    assert_eq!(answer.results.len(), endless.len());
    assert_eq!(code(answer.results[0].error_code), NO_ERROR);
    assert_eq!(code(answer.results[2_999].error_code), InvalidRequest);
    for (kind, name, expected) in [
        (2, "\u{e4}", InvalidTopicException),
        (2, "gone", UnknownTopicOrPartition),
        (16, "", InvalidRequest),
        (32, "", InvalidRequest),
    ] {
        let answer = describe(&mut client, &[(kind, name.to_owned(), None)]).await;
        assert_eq!(code(answer.results[0].error_code), expected, "{kind} {name}");
    }
    server.stop().await;
}

#[tokio::test]
async fn what_is_named_twice_is_answered_once_or_refused() {
    use create_partitions_request::CreatePartitionsTopic;
    use list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
    use metadata_request::MetadataRequestTopic;
    let (server, mut client) = start(&[]).await;
    let topic = || MetadataRequestTopic { name: Some(TOPIC.into()), ..Default::default() };
    let request = MetadataRequest { topics: Some(vec![topic(), topic()]), ..Default::default() };
    let found = client.ask(12, request).await.topics;
    assert_eq!(found.len(), 1);
    let by_id = |name: Option<&'static str>| MetadataRequestTopic {
        topic_id: found[0].topic_id,
        name: name.map(StrBytes::from),
    };
    let topics = Some(vec![by_id(None), by_id(Some("x")), by_id(Some("y"))]);
    let request = MetadataRequest { topics, ..Default::default() };
    assert_eq!(client.ask(12, request).await.topics.len(), 1);

    let partition = |partition_index, timestamp| ListOffsetsPartition {
        partition_index,
        timestamp,
        ..Default::default()
    };
    let partitions = vec![partition(0, -1), partition(1, -1), partition(0, -2)];
    let topics = vec![ListOffsetsTopic { name: TOPIC.into(), partitions }];
    let answer = client.ask(5, ListOffsetsRequest { topics, ..Default::default() }).await;
    let codes: Vec<_> =
        answer.topics[0].partitions.iter().map(|one| code(one.error_code)).collect();
    assert_eq!(codes, [InvalidRequest, UnknownTopicOrPartition, InvalidRequest]);

    let topic = || CreatePartitionsTopic { name: TOPIC.into(), count: 2, assignments: None };
    let request = CreatePartitionsRequest { topics: vec![topic(), topic()], ..Default::default() };
    let answer = client.ask(1, request).await;
    let codes: Vec<_> = answer.results.iter().map(|one| code(one.error_code)).collect();
    assert_eq!(codes, [InvalidRequest]);

    let request = DescribeGroupsRequest { groups: vec!["x".into(); 3], ..Default::default() };
    assert_eq!(client.ask(5, request).await.groups.len(), 1);
    let request =
        FindCoordinatorRequest { coordinator_keys: vec!["x".into(); 3], ..Default::default() };
    assert_eq!(client.ask(4, request).await.coordinators.len(), 1);
    let group = offset_fetch_request::OffsetFetchRequestGroup {
        group_id: GROUP.into(),
        ..Default::default()
    };
    let request = OffsetFetchRequest { groups: vec![group; 3], ..Default::default() };
    let answer = client.ask(8, request).await;
    let codes: Vec<_> = answer.groups.iter().map(|one| code(one.error_code)).collect();
    assert_eq!(codes, [NO_ERROR, InvalidRequest, InvalidRequest]);
    server.stop().await;
}

#[tokio::test]
async fn topics_are_deleted_once() {
    use delete_topics_request::DeleteTopicState;
    let (server, mut client) = start(&[]).await;
    let request = MetadataRequest { topics: None, ..Default::default() };
    let all = client.ask(12, request).await;
    let found = all.topics.iter().find(|topic| topic.name.as_deref() == Some(TOPIC));
    let id = found.expect("it was made").topic_id;
    let name =
        |name: &'static str| DeleteTopicState { name: Some(name.into()), topic_id: Uuid::NIL };
    let by_id = |topic_id| DeleteTopicState { name: None, topic_id };
    let both = DeleteTopicState { name: Some(TOPIC.into()), topic_id: id };
    for (topics, expected) in [
        (
            vec![name(TOPIC), name("gone"), name(TOPIC)],
            vec![InvalidRequest, UnknownTopicOrPartition],
        ),
        (vec![by_id(id), by_id(id)], vec![InvalidRequest]),
        (vec![by_id(id), name(TOPIC)], vec![InvalidRequest, InvalidRequest]),
        (vec![both], vec![InvalidRequest]),
        (vec![by_id(Uuid::NIL)], vec![InvalidRequest]),
        (vec![by_id(Uuid([9; 16]))], vec![UnknownTopicId]),
        (vec![name(TOPIC)], vec![NO_ERROR]),
    ] {
        let asked = format!("{topics:?}");
        let answer = client.ask(6, DeleteTopicsRequest { topics, ..Default::default() }).await;
        let codes: Vec<_> = answer.responses.iter().map(|one| code(one.error_code)).collect();
        assert_eq!(codes, expected, "{asked}");
    }
    server.stop().await;

    let (server, mut client) = start(&[("delete.topic.enable", "false")]).await;
    for (version, expected) in [(2, InvalidRequest), (3, TopicDeletionDisabled)] {
        let request = DeleteTopicsRequest { topic_names: vec![TOPIC.into()], ..Default::default() };
        let answer = client.ask(version, request).await;
        assert_eq!(code(answer.responses[0].error_code), expected, "v{version}");
    }
    server.stop().await;
}

/// Pitfall 7.
#[tokio::test]
async fn fields_that_belong_together_come_together() {
    let (server, mut client) = start(&[]).await;
    let cluster = server.broker().node().cluster_id.to_string();
    for (cluster_id, node_id, expected) in [
        (None, -1, NO_ERROR),
        (Some(cluster.as_str()), 1, NO_ERROR),
        (Some("elsewhere"), 1, RebootstrapRequired),
        (Some(cluster.as_str()), 2, RebootstrapRequired),
        (Some(cluster.as_str()), -1, InvalidRequest),
        (None, 1, InvalidRequest),
    ] {
        let request = ApiVersionsRequest {
            client_software_name: "test".into(),
            client_software_version: "1".into(),
            cluster_id: cluster_id.map(|id| StrBytes::from(id.to_owned())),
            node_id,
        };
        let answer = client.ask(5, request).await;
        assert_eq!(code(answer.error_code), expected, "{cluster_id:?} {node_id}");
    }
    for (producer_id, producer_epoch, expected) in
        [(-1, -1, NO_ERROR), (5, 0, NO_ERROR), (5, -1, InvalidRequest), (-1, 0, InvalidRequest)]
    {
        let request = InitProducerIdRequest {
            transactional_id: None,
            producer_id,
            producer_epoch,
            ..Default::default()
        };
        let answer = client.ask(4, request).await;
        assert_eq!(code(answer.error_code), expected, "{producer_id} {producer_epoch}");
    }
    for (protocol_type, protocol_name, expected) in [
        (None, Some("range"), InconsistentGroupProtocol),
        (Some("consumer"), None, InconsistentGroupProtocol),
        (Some("consumer"), Some("range"), UnknownMemberId),
    ] {
        let request = SyncGroupRequest {
            group_id: GROUP.into(),
            member_id: "nobody".into(),
            protocol_type: protocol_type.map(StrBytes::from),
            protocol_name: protocol_name.map(StrBytes::from),
            ..Default::default()
        };
        let answer = client.ask(5, request).await;
        assert_eq!(code(answer.error_code), expected, "{protocol_type:?} {protocol_name:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn topic_ids_are_refused_where_the_version_has_only_their_field() {
    use metadata_request::MetadataRequestTopic;
    let (server, mut client) = start(&[]).await;
    for version in [10, 11] {
        for (name, topic_id) in [(None, Uuid([1; 16])), (Some(TOPIC), Uuid([1; 16]))] {
            let topic = MetadataRequestTopic { name: name.map(StrBytes::from), topic_id };
            let request = MetadataRequest { topics: Some(vec![topic]), ..Default::default() };
            let answer = client.ask(version, request).await;
            assert_eq!(code(answer.topics[0].error_code), InvalidRequest, "{name:?} v{version}");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn the_earliest_offset_has_the_epoch_of_its_record() {
    use list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
    let (server, mut client) = start(&[]).await;
    for (wrote, epoch) in [(false, -1), (true, 0)] {
        if wrote {
            assert_eq!(produce(&mut client, TOPIC, batch()).await, NO_ERROR);
        }
        for timestamp in [-2, -4] {
            let partitions = vec![ListOffsetsPartition { timestamp, ..Default::default() }];
            let topics = vec![ListOffsetsTopic { name: TOPIC.into(), partitions }];
            let request = ListOffsetsRequest { topics, ..Default::default() };
            let answer = client.ask(8, request).await;
            let found = &answer.topics[0].partitions[0];
            assert_eq!((found.offset, found.leader_epoch), (0, epoch), "{timestamp}");
        }
    }
    server.stop().await;
}

/// Version 1 has no place for an error of the whole answer.
#[tokio::test]
async fn offset_fetch_without_a_coordinator_says_so_for_each_partition() {
    use offset_fetch_request::OffsetFetchRequestTopic;
    let server = Server::start(ServerConfig::in_memory()).await.expect("starts");
    let mut client = Client::new(&server);
    for (version, top, partitions) in
        [(1, NO_ERROR, vec![NotCoordinator; 2]), (2, NotCoordinator, vec![])]
    {
        let topic = OffsetFetchRequestTopic { name: TOPIC.into(), partition_indexes: vec![0, 7] };
        let request = OffsetFetchRequest {
            group_id: GROUP.into(),
            topics: Some(vec![topic]),
            ..Default::default()
        };
        let answer = client.ask(version, request).await;
        let each = answer.topics.iter().flat_map(|topic| &topic.partitions);
        let codes: Vec<_> = each.map(|one| code(one.error_code)).collect();
        assert_eq!((code(answer.error_code), codes), (top, partitions), "v{version}");
    }
    server.stop().await;
}
