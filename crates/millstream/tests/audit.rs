//! The audit: what clients do over the protocol, and the record that it leaves.

#![expect(clippy::panic, reason = "helpers of tests fail by panicking")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use millstream::{Server, ServerConfig};
use millstream_auth::{Derivation, Hash, Mechanism};
use millstream_broker::{AUDIT_TOPIC, Alteration, Upsertion};
use millstream_client::{Address, Admin, Cluster, ClusterSettings, LoginSettings, TcpConnector};
use millstream_env::Env;
use millstream_record::batch::{StoredBatch, split};
use millstream_wire::*;
use raw::{Client, batch};
use serde_json::Value;
use tokio::runtime::Handle;

mod audit {
    mod rights;
    mod tokens;
}
#[allow(dead_code, reason = "other tests use more of it")]
mod raw;

const RIGHTS: [(&str, &str); 2] =
    [("authorizer.class.name", "standard"), ("super.users", "User:ANONYMOUS")];

async fn start(directory: &Path, settings: &[(&str, &str)]) -> Server {
    let mut config = ServerConfig::in_directory(directory);
    for (name, value) in settings {
        config.settings.insert((*name).to_owned(), (*value).to_owned());
    }
    start_when_free(config).await
}

/// A server that has just stopped may still have its hand on the directory.
async fn start_when_free(config: ServerConfig) -> Server {
    loop {
        match Server::start(config.clone()).await {
            Ok(server) => return server,
            Err(error) if error.to_string().contains("in use") => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

async fn add_user(server: &Server, user: &str, password: &str) {
    let derivation = Derivation::new(Hash::Sha256, password.as_bytes(), b"salt", 4_096);
    let (hash, salted_password) = (Some(Hash::Sha256), derivation.finish());
    let set = Upsertion { hash, iterations: 4_096, salt: b"salt".to_vec(), salted_password };
    let wanted = vec![(Arc::from(user), Alteration::Set(set))];
    let outcomes = server.broker().alter_credentials(wanted).await.expect("written");
    assert!(outcomes.values().all(Result::is_ok));
}

/// All records of the audit in `directory`: their keys, and what they say.
async fn audit(directory: &Path) -> Vec<(String, Value)> {
    use fetch_request::{FetchPartition, FetchTopic};
    let settings = [&RIGHTS[..], &[("millstream.audit.level", "none")]].concat();
    let server = start(directory, &settings).await;
    let mut client = Client::new(&server);
    let partition = FetchPartition { partition_max_bytes: 1 << 24, ..Default::default() };
    let topic =
        FetchTopic { topic: AUDIT_TOPIC.into(), partitions: vec![partition], ..Default::default() };
    let fetch = FetchRequest {
        max_bytes: 1 << 24,
        session_epoch: -1,
        topics: vec![topic],
        ..Default::default()
    };
    let answer = client.ask(12, fetch).await;
    server.stop().await;
    let mut records = Vec::new();
    let partition =
        answer.responses.into_iter().next().and_then(|it| it.partitions.into_iter().next());
    let Some(bytes) = partition.and_then(|partition| partition.records) else { return records };
    let bytes = bytes.to_bytes();
    for batch in split(&bytes) {
        let batch = StoredBatch::from_bytes(batch.expect("whole")).expect("a batch");
        for record in &batch.records(1 << 24).expect("records") {
            let record = record.expect("a record");
            let key = String::from_utf8(record.key.expect("a key").to_vec()).expect("text");
            let value: Value =
                serde_json::from_slice(record.value.expect("a value")).expect("JSON");
            assert_eq!((&value["version"], &value["kind"]), (&1.into(), &key.as_str().into()));
            assert!(value["time"].is_i64() && value["count"].is_u64(), "{value}");
            records.push((key, value));
        }
    }
    records
}

/// What a record says, in short.
fn short(record: &Value) -> String {
    let text = |name: &str| record[name].as_str().unwrap_or("-").to_owned();
    let details = record["details"].as_object().into_iter().flatten();
    let details: String = details
        .filter(|(name, _)| *name != "topic_id")
        .map(|(name, value)| format!(" {name}={}", value.as_str().expect("text")))
        .collect();
    let count = match record["count"].as_u64() {
        Some(1) => String::new(),
        count => format!(" x{}", count.unwrap_or_default()),
    };
    format!(
        "{} {}: {} {} {} `{}` {}{details}{count}",
        text("kind"),
        text("outcome"),
        text("api"),
        text("operation"),
        text("resource_type"),
        text("resource"),
        text("why"),
    )
}

fn creation(name: &str, partitions: i32) -> CreateTopicsRequest {
    let topic = create_topics_request::CreatableTopic {
        name: StrBytes::from(name.to_owned()),
        num_partitions: partitions,
        replication_factor: 1,
        ..Default::default()
    };
    CreateTopicsRequest { topics: vec![topic], ..Default::default() }
}

async fn topics(client: &mut Client) {
    client.ask(7, creation("orders", 2)).await;
    client.ask(7, creation("orders", 2)).await;
    client.ask(7, CreateTopicsRequest { validate_only: true, ..creation("checked", 1) }).await;
    let wanted = create_partitions_request::CreatePartitionsTopic {
        name: "orders".into(),
        count: 3,
        assignments: None,
    };
    client.ask(3, CreatePartitionsRequest { topics: vec![wanted], ..Default::default() }).await;
    let partition =
        delete_records_request::DeleteRecordsPartition { partition_index: 1, offset: 0 };
    let topic = delete_records_request::DeleteRecordsTopic {
        name: "orders".into(),
        partitions: vec![partition],
    };
    client.ask(2, DeleteRecordsRequest { topics: vec![topic], ..Default::default() }).await;
    let asked =
        metadata_request::MetadataRequestTopic { name: Some("made".into()), ..Default::default() };
    let metadata = MetadataRequest {
        topics: Some(vec![asked]),
        allow_auto_topic_creation: true,
        ..Default::default()
    };
    client.ask(12, metadata).await;
    let state = |name: &'static str| delete_topics_request::DeleteTopicState {
        name: Some(name.into()),
        ..Default::default()
    };
    let topics = vec![state("made"), state("absent")];
    client.ask(6, DeleteTopicsRequest { topics, ..Default::default() }).await;
}

async fn configs(client: &mut Client) {
    use alter_client_quotas_request::{EntityData, EntryData, OpData};
    use incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
    let config = AlterableConfig {
        name: "retention.ms".into(),
        value: Some("60000".into()),
        ..Default::default()
    };
    for (resource_type, name) in [(2, "orders"), (16, "s")] {
        let resource = AlterConfigsResource {
            resource_type,
            resource_name: name.into(),
            configs: vec![config.clone()],
        };
        let resources = vec![resource];
        client.ask(1, IncrementalAlterConfigsRequest { resources, validate_only: false }).await;
    }
    let resource = alter_configs_request::AlterConfigsResource {
        resource_type: 2,
        resource_name: "orders".into(),
        configs: Vec::new(),
    };
    let resources = vec![resource];
    client.ask(2, AlterConfigsRequest { resources, validate_only: false }).await;
    let entry = EntryData {
        entity: vec![EntityData { entity_type: "user".into(), entity_name: Some("ann".into()) }],
        ops: vec![OpData { key: "producer_byte_rate".into(), value: 1000.0, remove: false }],
    };
    client.ask(1, AlterClientQuotasRequest { entries: vec![entry], validate_only: false }).await;
}

async fn rights(client: &mut Client) {
    let creation = |pattern: i8| create_acls_request::AclCreation {
        resource_type: 2,
        resource_name: "orders-".into(),
        resource_pattern_type: pattern,
        principal: "User:ann".into(),
        host: "*".into(),
        operation: 3,
        permission_type: 3,
    };
    let creations = vec![creation(4), creation(1)];
    client.ask(3, CreateAclsRequest { creations }).await;
    let filter = delete_acls_request::DeleteAclsFilter {
        resource_type_filter: 2,
        resource_name_filter: None,
        principal_filter: None,
        host_filter: None,
        pattern_type_filter: 1,
        operation: 1,
        permission_type: 1,
    };
    client.ask(3, DeleteAclsRequest { filters: vec![filter] }).await;
    let upsertion = alter_user_scram_credentials_request::ScramCredentialUpsertion {
        name: "ann".into(),
        mechanism: 1,
        iterations: 4_096,
        salt: bytes::Bytes::from_static(b"salt"),
        salted_password: bytes::Bytes::from_static(&[7; 32]),
    };
    let upsertions = vec![upsertion];
    client.ask(0, AlterUserScramCredentialsRequest { upsertions, ..Default::default() }).await;
    let deletion =
        |name: &'static str| alter_user_scram_credentials_request::ScramCredentialDeletion {
            name: name.into(),
            mechanism: 1,
        };
    let deletions = vec![deletion("ann"), deletion("bob")];
    client.ask(0, AlterUserScramCredentialsRequest { deletions, ..Default::default() }).await;
    let groups_names = vec!["absent".into()];
    client.ask(2, DeleteGroupsRequest { groups_names }).await;
}

#[tokio::test]
async fn every_change_leaves_its_record() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = start(directory.path(), &RIGHTS).await;
    server.broker().set_up_groups().await.expect("a coordinator");
    let mut client = Client::new(&server);
    topics(&mut client).await;
    configs(&mut client).await;
    rights(&mut client).await;
    server.stop().await;
    let records = audit(directory.path()).await;
    for (_, record) in &records {
        assert_eq!((&record["user"], &record["client_id"]), (&"ANONYMOUS".into(), &"c".into()));
    }
    let told: Vec<_> = records.iter().map(|(_, record)| short(record)).collect();
    let rule = "Allow User:ann Read Topic orders- (Prefixed) from *";
    let expected = [
        "change done: CreateTopics Create Topic `orders` -".to_owned(),
        "change refused: CreateTopics Create Topic `orders` TOPIC_ALREADY_EXISTS".to_owned(),
        "change done: CreatePartitions Alter Topic `orders` - partitions=3".to_owned(),
        "change done: DeleteRecords Delete Topic `orders` - records of partition 1=before 0".to_owned(),
        "change done: Metadata Create Topic `made` -".to_owned(),
        "change done: DeleteTopics Delete Topic `made` -".to_owned(),
        "change refused: DeleteTopics Delete Topic `absent` UNKNOWN_TOPIC_OR_PARTITION".to_owned(),
        "change done: IncrementalAlterConfigs AlterConfigs Topic `orders` - retention.ms=set or removed".to_owned(),
        "change refused: IncrementalAlterConfigs AlterConfigs ClientMetrics `s` INVALID_REQUEST \
         retention.ms=set or removed"
            .to_owned(),
        "change done: AlterConfigs AlterConfigs Topic `orders` -".to_owned(),
        "change done: AlterClientQuotas AlterConfigs Quota `user=ann` - producer_byte_rate=1000".to_owned(),
        format!("change done: CreateAcls Create Acl `{rule}` -"),
        "change refused: CreateAcls Create Acl `` INVALID_REQUEST".to_owned(),
        format!("change done: DeleteAcls Delete Acl `{rule}` -"),
        "change done: AlterUserScramCredentials Alter User `ann` -".to_owned(),
        "change done: AlterUserScramCredentials Delete User `ann` -".to_owned(),
        "change refused: AlterUserScramCredentials Delete User `bob` RESOURCE_NOT_FOUND".to_owned(),
        "change refused: DeleteGroups Delete Group `absent` GROUP_ID_NOT_FOUND".to_owned(),
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn what_somebody_has_no_right_to_leaves_a_record_and_what_is_left_out_does_not() {
    let directory = tempfile::tempdir().expect("a directory");
    let rights = [("authorizer.class.name", "standard"), ("super.users", "User:admin")];
    let settings = [&rights[..], &[("millstream.audit.level", "denied")]].concat();
    let server = start(directory.path(), &settings).await;
    let mut client = Client::new(&server);
    let produce = |topic: &'static str| {
        let records = Some(batch().into());
        let data = produce_request::PartitionProduceData { index: 0, records };
        let topic = produce_request::TopicProduceData {
            name: topic.into(),
            partition_data: vec![data],
            ..Default::default()
        };
        ProduceRequest {
            acks: -1,
            timeout_ms: 1_000,
            topic_data: vec![topic],
            ..Default::default()
        }
    };
    client.ask(12, produce("a\"\n\u{202e}")).await;
    client.ask(7, creation("orders", 1)).await;
    client.ask(2, DescribeQuorumRequest::default()).await;
    let init = InitProducerIdRequest { transactional_id: None, ..Default::default() };
    client.ask(5, init).await;
    // All that there is, of which nothing may be told: nobody is refused anything.
    client.ask(12, MetadataRequest { topics: None, ..Default::default() }).await;
    client.ask(5, ListGroupsRequest::default()).await;
    server.stop().await;
    let records = audit(directory.path()).await;
    let told: Vec<_> = records.iter().map(|(_, record)| short(record)).collect();
    let expected = [
        "access refused: Produce Write Topic `a\"\n\u{202e}` TOPIC_AUTHORIZATION_FAILED",
        "access refused: CreateTopics Create Topic `orders` TOPIC_AUTHORIZATION_FAILED",
        "access refused: DescribeQuorum Describe Cluster `kafka-cluster` CLUSTER_AUTHORIZATION_FAILED",
        "access refused: InitProducerId IdempotentWrite Cluster `kafka-cluster` CLUSTER_AUTHORIZATION_FAILED",
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn the_same_refusals_of_a_moment_are_counted_and_each_change_has_its_record() {
    for (super_user, kind) in [("User:admin", "access"), ("User:ANONYMOUS", "change")] {
        let directory = tempfile::tempdir().expect("a directory");
        let rights = [("authorizer.class.name", "standard"), ("super.users", super_user)];
        let server = start(directory.path(), &rights).await;
        let mut client = Client::new(&server);
        for _ in 0..30 {
            client.ask(7, creation("orders", 1)).await;
        }
        server.stop().await;
        let records = audit(directory.path()).await;
        assert!(records.iter().all(|(key, _)| key == kind), "{records:?}");
        let all: u64 = records.iter().filter_map(|(_, record)| record["count"].as_u64()).sum();
        assert_eq!(all, 30, "{records:?}");
        assert_eq!(records.len() == 30, kind == "change", "{records:?}");
    }
}

async fn log_in(server: &Server, user: &str, password: &str) -> bool {
    let at = server.kafka_address().expect("it listens");
    let bootstrap = vec![Address::new(at.ip().to_string(), at.port())];
    let login = LoginSettings {
        mechanism: Mechanism::Scram(Hash::Sha256),
        user: user.to_owned(),
        password: password.to_owned(),
        by_token: false,
    };
    let login = Some(login);
    let settings =
        ClusterSettings { login, patience: Duration::ZERO, ..ClusterSettings::new(bootstrap) };
    let env = Env::real(Handle::current());
    Cluster::connect(env, Arc::new(TcpConnector), settings).await.map(Admin::new).is_ok()
}

#[tokio::test]
async fn logins_leave_records_without_what_was_typed() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut config =
        ServerConfig { kafka_listen: None, ..ServerConfig::in_directory(directory.path()) };
    for (name, value) in [
        ("listeners", "SASL_PLAINTEXT://127.0.0.1:0"),
        ("connection.failed.authentication.delay.ms", "0"),
        ("millstream.audit.level", "all"),
    ] {
        config.settings.insert(name.to_owned(), value.to_owned());
    }
    let server = Server::start(config).await.expect("starts");
    add_user(&server, "ann", "pencil").await;
    assert!(log_in(&server, "ann", "pencil").await);
    assert!(!log_in(&server, "hunter2", "pencil").await);
    server.stop().await;
    let records = audit(directory.path()).await;
    let told: std::collections::BTreeSet<_> = records
        .iter()
        .map(|(_, record)| {
            let of = |name: &str| record[name].as_str().unwrap_or("-").to_owned();
            let why = of("why");
            format!("{} {} {} {} {why}", of("kind"), of("outcome"), of("user"), of("listener"))
        })
        .collect();
    let mut told = told.into_iter();
    let mut next = || told.next().unwrap_or_else(|| panic!("{records:?}"));
    assert_eq!(next(), "connection done ANONYMOUS SASL_PLAINTEXT -");
    assert_eq!(next(), "login done ann SASL_PLAINTEXT -");
    let failed = next();
    assert!(failed.starts_with("login refused - SASL_PLAINTEXT "), "{failed}");
    assert!(failed.contains("the name or the password is wrong"), "{failed}");
    assert!(records.iter().all(|(_, record)| record["address"] == "127.0.0.1"), "{records:?}");
    assert!(!format!("{records:?}").contains("hunter2"));
}

#[tokio::test]
async fn who_asks_for_pages_leaves_records() {
    let directory = tempfile::tempdir().expect("a directory");
    let http_listen = Some(([127, 0, 0, 1], 0).into());
    let mut config = ServerConfig { http_listen, ..ServerConfig::in_directory(directory.path()) };
    for (name, value) in [
        ("authorizer.class.name", "standard"),
        ("super.users", "User:admin"),
        ("millstream.http.authentication", "basic"),
        ("connection.failed.authentication.delay.ms", "0"),
        ("millstream.audit.level", "all"),
    ] {
        config.settings.insert(name.to_owned(), value.to_owned());
    }
    let server = Server::start(config).await.expect("starts");
    for user in ["admin", "ann"] {
        add_user(&server, user, "pencil").await;
    }
    let at = server.http_address().expect("pages");
    for (user, password, status) in
        [("admin", "pencil", 200), ("ann", "pencil", 403), ("ann", "hunter2", 401)]
    {
        let answer = raw::get_as(at, "/metrics", (user, password)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    }
    // Who says nothing has not tried to log in, and anybody may ask for this.
    let answer = raw::get(at, "/livez").await;
    assert!(answer.ends_with("live\n"), "{answer}");
    server.stop().await;
    let records = audit(directory.path()).await;
    let told: Vec<_> = records
        .iter()
        .map(|(_, record)| {
            assert_eq!(
                (&record["listener"], &record["address"]),
                (&"HTTP".into(), &"127.0.0.1".into())
            );
            format!("{}: {}", record["user"].as_str().unwrap_or("-"), short(record))
        })
        .collect();
    let expected = [
        "admin: login done: - - - `-` -",
        "ann: login done: - - - `-` -",
        "ann: access refused: - Describe Cluster `kafka-cluster` an access rule (ACL) would have to allow it",
        "-: login refused: - - - `-` the name or the password is wrong",
    ];
    assert_eq!(told, expected);
    assert!(!format!("{records:?}").contains("hunter2"));
}
