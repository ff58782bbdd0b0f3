//! Who may read the audit, and that nobody but the broker writes it.

use std::collections::BTreeSet;
use std::fmt::Debug;

use bytes::Bytes;
use millstream_broker::acl::{
    Binding, Draft, Filter, Operation, PatternType, Permission, ResourceType,
};
use millstream_record::BatchBuilder;
use millstream_types::{ProducerEpoch, ProducerId, Timestamp};

use super::super::*;

/// An authorizer, and nobody who may do everything among those who come.
const NO_RIGHTS: [(&str, &str); 2] =
    [("authorizer.class.name", "standard"), ("super.users", "User:admin")];

type Codes = BTreeSet<ErrorCode>;

/// The error codes in an answer, wherever they are.
fn codes(answer: impl Debug) -> Codes {
    let answer = format!("{answer:?}");
    let parts = answer.split("error_code: ").skip(1);
    let codes = parts.map(|part| {
        let end = part.find(|c: char| c != '-' && !c.is_ascii_digit()).expect("a number ends");
        ErrorCode::or_unknown(part[..end].parse().expect("a number"))
    });
    codes.filter(|code| *code != ErrorCode::None).collect()
}

async fn allow(server: &Server, operation: Operation, resource: ResourceType, name: &str) {
    let rule = Binding::new(&Draft {
        resource,
        pattern: PatternType::Literal,
        name,
        principal: "User:ANONYMOUS",
        host: "*",
        operation,
        permission: Permission::Allow,
    });
    server.broker().add_acls(vec![rule.expect("a rule")]).await.expect("added");
}

/// By all that tells of records, and what came of it.
async fn read(client: &mut Client) -> Vec<(&'static str, Codes)> {
    use fetch_request::{FetchPartition, FetchTopic};
    let partition = FetchPartition { partition_max_bytes: 1 << 20, ..Default::default() };
    let topic =
        FetchTopic { topic: AUDIT_TOPIC.into(), partitions: vec![partition], ..Default::default() };
    let fetch = FetchRequest {
        max_bytes: 1 << 20,
        session_epoch: -1,
        topics: vec![topic],
        ..Default::default()
    };
    let fetched = client.ask(12, fetch).await;
    let partition =
        list_offsets_request::ListOffsetsPartition { timestamp: -1, ..Default::default() };
    let topic = list_offsets_request::ListOffsetsTopic {
        name: AUDIT_TOPIC.into(),
        partitions: vec![partition],
    };
    let listed =
        client.ask(11, ListOffsetsRequest { topics: vec![topic], ..Default::default() }).await;
    let topic = offset_for_leader_epoch_request::OffsetForLeaderTopic {
        topic: AUDIT_TOPIC.into(),
        partitions: vec![offset_for_leader_epoch_request::OffsetForLeaderPartition::default()],
    };
    let request = OffsetForLeaderEpochRequest { topics: vec![topic], ..Default::default() };
    let ends = client.ask(4, request).await;
    let topic = describe_producers_request::TopicRequest {
        name: AUDIT_TOPIC.into(),
        partition_indexes: vec![0],
    };
    let producers = client.ask(0, DescribeProducersRequest { topics: vec![topic] }).await;
    assert!(!format!("{producers:?}").contains("producer_id"), "nobody writes it: {producers:?}");
    let name = Some(AUDIT_TOPIC.into());
    let topic = metadata_request::MetadataRequestTopic { name, ..Default::default() };
    let described =
        client.ask(12, MetadataRequest { topics: Some(vec![topic]), ..Default::default() }).await;
    vec![
        ("Fetch", codes(fetched)),
        ("ListOffsets", codes(listed)),
        ("OffsetForLeaderEpoch", codes(ends)),
        ("DescribeProducers", codes(producers)),
        ("Metadata", codes(described)),
    ]
}

fn produce(id: Option<&'static str>, records: Bytes) -> ProduceRequest {
    let data = produce_request::PartitionProduceData { index: 0, records: Some(records.into()) };
    let topic = produce_request::TopicProduceData {
        name: AUDIT_TOPIC.into(),
        partition_data: vec![data],
        ..Default::default()
    };
    ProduceRequest {
        transactional_id: id.map(StrBytes::from_static),
        acks: -1,
        timeout_ms: 1_000,
        topic_data: vec![topic],
    }
}

/// In a transaction: a partition that is part of an open one is read to where that begins, and not further.
async fn write_in_a_transaction(client: &mut Client) -> [Codes; 2] {
    let init = InitProducerIdRequest {
        transactional_id: Some("tx".into()),
        transaction_timeout_ms: 10_000,
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    };
    let producer = client.ask(4, init).await;
    assert_eq!(producer.error_code, 0, "{producer:?}");
    let topic = add_partitions_to_txn_request::AddPartitionsToTxnTopic {
        name: AUDIT_TOPIC.into(),
        partitions: vec![0],
    };
    let add = AddPartitionsToTxnRequest {
        v3_and_below_transactional_id: "tx".into(),
        v3_and_below_producer_id: producer.producer_id,
        v3_and_below_producer_epoch: producer.producer_epoch,
        v3_and_below_topics: vec![topic],
        ..Default::default()
    };
    let added = client.ask(3, add).await;
    let (id, epoch) = (ProducerId(producer.producer_id), ProducerEpoch(producer.producer_epoch));
    let mut records = BatchBuilder::new().producer(id, epoch, 0).transactional();
    records.append(Timestamp(1_000), Some(b"k"), Some(b"v"), &[]);
    let produced = client.ask(12, produce(Some("tx"), records.build().expect("a batch"))).await;
    let request = DescribeTransactionsRequest { transactional_ids: vec!["tx".into()] };
    let told = client.ask(0, request).await;
    assert!(told.transaction_states.iter().all(|one| one.topics.is_empty()), "{told:?}");
    [codes(added), codes(produced)]
}

/// By all that changes topics but their configs, and what came of it.
async fn write(client: &mut Client) -> Vec<(&'static str, Codes)> {
    let produced = client.ask(12, produce(None, batch())).await;
    let [added, in_transaction] = write_in_a_transaction(client).await;
    assert_eq!(added, [ErrorCode::TopicAuthorizationFailed].into(), "whatever rights there are");
    let partition =
        delete_records_request::DeleteRecordsPartition { partition_index: 0, offset: -1 };
    let topic = delete_records_request::DeleteRecordsTopic {
        name: AUDIT_TOPIC.into(),
        partitions: vec![partition],
    };
    let request = DeleteRecordsRequest { topics: vec![topic], ..Default::default() };
    let records_deleted = client.ask(2, request).await;
    let wanted = create_partitions_request::CreatePartitionsTopic {
        name: AUDIT_TOPIC.into(),
        count: 3,
        assignments: None,
    };
    let request = CreatePartitionsRequest { topics: vec![wanted], ..Default::default() };
    let grown = client.ask(3, request).await;
    let state = delete_topics_request::DeleteTopicState {
        name: Some(AUDIT_TOPIC.into()),
        ..Default::default()
    };
    let deleted =
        client.ask(6, DeleteTopicsRequest { topics: vec![state], ..Default::default() }).await;
    vec![
        ("Produce", codes(produced)),
        ("Produce in a transaction", in_transaction),
        ("DeleteRecords", codes(records_deleted)),
        ("CreatePartitions", codes(grown)),
        ("DeleteTopics", codes(deleted)),
    ]
}

#[track_caller]
fn check(all: Vec<(&'static str, Codes)>, expected: Option<ErrorCode>) {
    let expected: Codes = expected.into_iter().collect();
    for (what, codes) in all {
        assert_eq!(codes, expected, "{what}");
    }
}

async fn is_listed(client: &mut Client) -> bool {
    let all = client.ask(12, MetadataRequest { topics: None, ..Default::default() }).await;
    let mut audits = all.topics.iter().filter(|it| it.name.as_deref() == Some(AUDIT_TOPIC));
    audits.any(|audit| audit.is_internal)
}

#[tokio::test]
async fn the_audit_is_read_by_right_and_written_by_nobody() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = start(directory.path(), &RIGHTS).await;
    Client::new(&server).ask(7, creation("orders", 1)).await;
    server.stop().await;
    let server = start(directory.path(), &NO_RIGHTS).await;
    server.broker().set_up_transactions().await.expect("a coordinator");
    let mut client = Client::new(&server);
    let denied = Some(ErrorCode::TopicAuthorizationFailed);
    // Whoever may use a transactional id may not use it for this.
    let ids = ResourceType::TransactionalId;
    allow(&server, Operation::Write, ids, "tx").await;
    check(read(&mut client).await, denied);
    check(write(&mut client).await, denied);
    assert!(!is_listed(&mut client).await);
    // The right to read another topic is none to read this.
    allow(&server, Operation::All, ResourceType::Topic, "orders").await;
    check(read(&mut client).await, denied);
    allow(&server, Operation::Read, ResourceType::Topic, AUDIT_TOPIC).await;
    check(read(&mut client).await, None);
    check(write(&mut client).await, denied);
    assert!(is_listed(&mut client).await);
    // Whoever may do everything to all topics reads it, and does not write it.
    server.broker().remove_acls(vec![Filter::default()]).await.expect("removed");
    allow(&server, Operation::Write, ids, "tx").await;
    allow(&server, Operation::All, ResourceType::Topic, "*").await;
    check(read(&mut client).await, None);
    check(write(&mut client).await, Some(ErrorCode::InvalidTopicException));
    check(read(&mut client).await, None);
    server.stop().await;
    // All of it is as the broker writes it.
    assert!(!audit(directory.path()).await.is_empty());
}
