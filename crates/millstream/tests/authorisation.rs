//! Who may ask what: the table of rights against every API that is served, and access rules from end to end.
//!
//! The clients here are in the process, and nobody in particular: `User:ANONYMOUS`.

#![expect(clippy::panic, reason = "helpers of tests fail by panicking")]

use std::collections::BTreeSet;

use authorisation::samples::ask;
use millstream::{Server, ServerConfig};
use millstream_broker::TopicRequest;
use millstream_broker::acl::{
    Binding, CLUSTER_NAME, Draft, Filter, Operation, PatternType, Permission, ResourceType,
};
use millstream_types::TopicId;
use millstream_wire::*;
use raw::{Client, batch};

mod authorisation {
    pub(crate) mod samples;
}
#[allow(dead_code, reason = "other tests use more of it")]
mod raw;

/// What is there, and must not be told of. What is not there begins with `absent`.
const HIDDEN: &str = "hidden";
const ABSENT: &str = "absent";

/// The codes of missing rights.
const DENIALS: [ErrorCode; 4] = [
    ErrorCode::TopicAuthorizationFailed,
    ErrorCode::GroupAuthorizationFailed,
    ErrorCode::ClusterAuthorizationFailed,
    ErrorCode::TransactionalIdAuthorizationFailed,
];

/// APIs that need no right, and those that leave out what may not be told.
const SILENT: [ApiKey; 12] = [
    ApiKey::ApiVersions,
    ApiKey::SaslHandshake,
    ApiKey::SaslAuthenticate,
    ApiKey::DescribeCluster,
    ApiKey::ListGroups,
    ApiKey::ListTransactions,
    ApiKey::CreateDelegationToken,
    ApiKey::RenewDelegationToken,
    ApiKey::ExpireDelegationToken,
    ApiKey::DescribeDelegationToken,
    ApiKey::GetTelemetrySubscriptions,
    ApiKey::PushTelemetry,
];

const CONFIG: [(&str, &str); 2] =
    [("authorizer.class.name", "standard"), ("super.users", "User:admin")];

async fn start() -> Server {
    let mut config = ServerConfig::in_memory();
    config.settings.extend(CONFIG.map(|(name, value)| (name.to_owned(), value.to_owned())));
    Server::start(config).await.expect("starts")
}

fn rule(
    permission: Permission,
    operation: Operation,
    resource: ResourceType,
    (pattern, name): (PatternType, &str),
) -> Binding {
    let (principal, host) = ("User:ANONYMOUS", "*");
    Binding::new(&Draft { resource, pattern, name, principal, host, operation, permission })
        .expect("a rule")
}

/// Allows it on the cluster, or on all that is hidden or absent.
fn allow(operation: Operation, resource: ResourceType) -> Vec<Binding> {
    let names = match resource {
        ResourceType::Cluster => vec![(PatternType::Literal, CLUSTER_NAME)],
        _ => vec![(PatternType::Prefixed, HIDDEN), (PatternType::Prefixed, ABSENT)],
    };
    names.into_iter().map(|name| rule(Permission::Allow, operation, resource, name)).collect()
}

/// The rules from now on.
async fn set_rules(server: &Server, rules: Vec<Binding>) {
    let all = vec![Filter::default()];
    server.broker().remove_acls(all).await.expect("removed");
    server.broker().add_acls(rules).await.expect("added");
}

/// A topic, a group of each type, a transactional id; and no right left for anybody.
async fn set_up(server: &Server) -> TopicId {
    let broker = server.broker();
    let every = ResourceType::ALL.iter().flat_map(|resource| allow(Operation::All, *resource));
    set_rules(server, every.collect()).await;
    broker.set_up_groups().await.expect("a coordinator");
    broker.set_up_transactions().await.expect("a coordinator");
    let name = format!("{HIDDEN}-topic");
    let topic = TopicRequest { name, partitions: Some(1), ..TopicRequest::default() };
    let made = broker.create_topic(topic, false).await.expect("made");
    let mut client = Client::new(server);
    for api in [
        ApiKey::OffsetCommit,
        ApiKey::ConsumerGroupHeartbeat,
        ApiKey::StreamsGroupHeartbeat,
        ApiKey::InitProducerId,
    ] {
        let answer = ask(&mut client, api, HIDDEN).await;
        assert_eq!(errors(&answer), BTreeSet::new(), "{}: {answer}", api.name());
    }
    set_rules(server, Vec::new()).await;
    made.id
}

/// The error codes in an answer, wherever they are.
fn errors(answer: &str) -> BTreeSet<ErrorCode> {
    let parts = answer.split("error_code: ").skip(1);
    let codes = parts.map(|part| {
        let end = part.find(|c: char| c != '-' && !c.is_ascii_digit()).expect("a number ends");
        ErrorCode::or_unknown(part[..end].parse().expect("a number"))
    });
    // The clients here have nothing to log in to, and are told so whatever they may do; nobody in particular
    // gets no delegation tokens.
    let none =
        [ErrorCode::None, ErrorCode::IllegalSaslState, ErrorCode::DelegationTokenRequestNotAllowed];
    codes.filter(|code| !none.contains(code)).collect()
}

fn denials(answer: &str) -> BTreeSet<ErrorCode> {
    errors(answer).into_iter().filter(|code| DENIALS.contains(code)).collect()
}

#[tokio::test]
async fn without_rights_every_api_is_refused_and_nothing_is_told() {
    let server = start().await;
    let id = set_up(&server).await;
    let mut client = Client::new(&server);
    for served in millstream::served() {
        let (api, name) = (served.api, served.api.name());
        let hidden = ask(&mut client, api, HIDDEN).await;
        let absent = ask(&mut client, api, ABSENT).await;
        assert_eq!(hidden.replace(HIDDEN, ABSENT), absent, "{name}: it shows whether it is there");
        assert!(!hidden.contains(&id.to_string()), "{name}: {hidden}");
        assert_eq!(errors(&hidden), denials(&hidden), "{name}: {hidden}");
        assert_eq!(denials(&hidden).is_empty(), SILENT.contains(&api), "{name}: {hidden}");
    }
    for api in [ApiKey::ListGroups, ApiKey::ListTransactions] {
        let answer = ask(&mut client, api, HIDDEN).await;
        assert!(!answer.contains(HIDDEN), "{answer}");
    }
    server.stop().await;
}

#[tokio::test]
async fn with_the_rights_of_the_table_every_api_is_served_and_with_less_it_is_not() {
    for needs in millstream::needs() {
        let (api, name) = (needs.api, needs.api.name());
        let server = start().await;
        set_up(&server).await;
        let mut client = Client::new(&server);
        let all_but = |left_out: Option<usize>| {
            let rights = needs.rights.iter().enumerate();
            let rights = rights.filter(move |(at, _)| Some(*at) != left_out);
            rights.flat_map(|(_, right)| allow(right.operation, right.resource)).collect()
        };
        for (at, right) in needs.rights.iter().enumerate() {
            // Others are needed for some requests only, or one of two is enough; or another right to
            // the same resource includes it.
            let includes_it =
                right.operation == Operation::Describe
                    && needs.rights.iter().enumerate().any(|(other_at, other)| {
                        other_at != at && other.resource == right.resource
                    });
            if right.note.is_empty() && !includes_it {
                set_rules(&server, all_but(Some(at))).await;
                let answer = ask(&mut client, api, HIDDEN).await;
                assert_ne!(denials(&answer), BTreeSet::new(), "{name} without {right:?}: {answer}");
            }
        }
        set_rules(&server, all_but(None)).await;
        let answer = ask(&mut client, api, HIDDEN).await;
        assert_eq!(denials(&answer), BTreeSet::new(), "{name}: {answer}");
        server.stop().await;
    }
}

/// What is not named is left out where all are asked for.
#[tokio::test]
async fn lists_leave_out_what_may_not_be_described() {
    use offset_fetch_request::OffsetFetchRequestGroup;
    let server = start().await;
    let id = set_up(&server).await;
    let mut client = Client::new(&server);
    let describes = [ResourceType::Topic, ResourceType::Group, ResourceType::TransactionalId];
    let describes = describes.map(|resource| allow(Operation::Describe, resource));
    let group = allow(Operation::Describe, ResourceType::Group);
    for (rules, is_told) in [(group, false), (describes.concat(), true)] {
        set_rules(&server, rules).await;
        let metadata = MetadataRequest { topics: None, ..Default::default() };
        let metadata = format!("{:?}", client.ask(12, metadata).await);
        let pages = client.ask(0, DescribeTopicPartitionsRequest::default()).await;
        let pages = format!("{pages:?}");
        let group = format!("{HIDDEN}-group");
        let group =
            OffsetFetchRequestGroup { group_id: group.into(), topics: None, ..Default::default() };
        let offsets = OffsetFetchRequest { groups: vec![group], ..Default::default() };
        let offsets = format!("{:?}", client.ask(9, offsets).await);
        let transactions = format!("{:?}", client.ask(2, ListTransactionsRequest::default()).await);
        for (answer, name) in [
            (&metadata, "hidden-topic"),
            (&pages, "hidden-topic"),
            (&offsets, "hidden-topic"),
            (&transactions, "hidden-tx"),
        ] {
            assert_eq!(answer.contains(name), is_told, "{answer}");
            assert_eq!(denials(answer), BTreeSet::new(), "{answer}");
        }
        assert!(!metadata.contains("__consumer_offsets"), "{metadata}");
        // By id it is said that it may not be told, as in Kafka; its name is not.
        let by_id = metadata_request::MetadataRequestTopic { topic_id: id, ..Default::default() };
        let by_id = MetadataRequest { topics: Some(vec![by_id]), ..Default::default() };
        let by_id = format!("{:?}", client.ask(12, by_id).await);
        assert_eq!(by_id.contains(HIDDEN), is_told, "{by_id}");
        assert_eq!(denials(&by_id).is_empty(), is_told, "{by_id}");
    }
    // Whoever may describe the cluster is told of all groups.
    set_rules(&server, allow(Operation::Describe, ResourceType::Cluster)).await;
    let groups = client.ask(5, ListGroupsRequest::default()).await;
    assert_eq!(groups.groups.len(), 3, "{groups:?}");
    server.stop().await;
}

/// Rules count at once, also for what a fetch session remembers.
#[tokio::test]
async fn a_fetch_session_reads_only_what_may_be_read_now() {
    use fetch_request::{FetchPartition, FetchTopic};
    let server = start().await;
    let id = set_up(&server).await;
    let mut client = Client::new(&server);
    let rights = [Operation::Read, Operation::Write];
    set_rules(&server, rights.map(|one| allow(one, ResourceType::Topic)).concat()).await;
    ask(&mut client, ApiKey::Produce, HIDDEN).await;
    let partition = FetchPartition { partition_max_bytes: 1 << 20, ..Default::default() };
    let topic = FetchTopic { topic_id: id, partitions: vec![partition], ..Default::default() };
    let first = FetchRequest {
        max_bytes: 1 << 20,
        session_epoch: 0,
        topics: vec![topic],
        ..Default::default()
    };
    let answer = client.ask(17, first).await;
    let session = answer.session_id;
    assert_ne!(session, 0, "{answer:?}");
    assert_eq!(errors(&format!("{answer:?}")), BTreeSet::new());
    let next = |epoch| FetchRequest {
        max_bytes: 1 << 20,
        session_id: session,
        session_epoch: epoch,
        ..Default::default()
    };
    set_rules(&server, Vec::new()).await;
    let answer = format!("{:?}", client.ask(17, next(1)).await);
    let denied = BTreeSet::from([ErrorCode::TopicAuthorizationFailed]);
    assert_eq!(errors(&answer), denied, "{answer}");
    set_rules(&server, allow(Operation::Read, ResourceType::Topic)).await;
    let answer = format!("{:?}", client.ask(17, next(2)).await);
    assert_eq!(errors(&answer), BTreeSet::new(), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn topics_are_made_by_those_who_may() {
    use metadata_request::MetadataRequestTopic;
    let server = start().await;
    let mut client = Client::new(&server);
    let topic = |name: &str| MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: Some(StrBytes::from(name.to_owned())),
            ..Default::default()
        }]),
        allow_auto_topic_creation: true,
        include_topic_authorized_operations: true,
        include_cluster_authorized_operations: true,
    };
    let describe = || allow(Operation::Describe, ResourceType::Topic);
    let with = |operation, resource| [describe(), allow(operation, resource)].concat();
    let denied = ErrorCode::TopicAuthorizationFailed;
    let cases = [
        ("hidden-1", Vec::new(), denied),
        ("hidden-1", describe(), denied),
        ("hidden-1", with(Operation::Create, ResourceType::Topic), ErrorCode::None),
        ("hidden-2", with(Operation::Create, ResourceType::Cluster), ErrorCode::None),
        ("hidden-3", allow(Operation::Create, ResourceType::Cluster), denied),
    ];
    for (name, rules, expected) in cases {
        set_rules(&server, rules).await;
        let answer = client.ask(10, topic(name)).await;
        assert_eq!(answer.topics[0].error_code, expected.code(), "{answer:?}");
    }
    let made = server.broker().topics();
    let made = made.iter().filter(|topic| !topic.internal);
    assert_eq!(made.map(|topic| &*topic.name).collect::<Vec<_>>(), ["hidden-1", "hidden-2"]);
    // What may be done is told, by Kafka's bits, to those who ask.
    let cases = [
        (describe(), 1 << 8, 0),
        (with(Operation::AlterConfigs, ResourceType::Topic), 1 << 8 | 1 << 10 | 1 << 11, 0),
        (with(Operation::All, ResourceType::Topic), 3_576, 0),
        (with(Operation::All, ResourceType::Cluster), 1 << 8, 8_096),
        (with(Operation::Create, ResourceType::Cluster), 1 << 8, 0),
    ];
    for (rules, of_topic, of_cluster) in cases {
        set_rules(&server, rules).await;
        let answer = client.ask(10, topic("hidden-1")).await;
        assert_eq!(answer.topics[0].topic_authorized_operations, of_topic);
        assert_eq!(answer.cluster_authorized_operations, of_cluster);
    }
    server.stop().await;
}

/// Producers without a transactional id need none, if they may write anywhere (KIP-679).
#[tokio::test]
async fn who_may_write_somewhere_gets_a_producer_id() {
    let server = start().await;
    let mut client = Client::new(&server);
    let literal = |name| (PatternType::Literal, name);
    let write = |permission, name| rule(permission, Operation::Write, ResourceType::Topic, name);
    let allowed = || write(Permission::Allow, literal("t"));
    let cases = [
        (vec![], false),
        (vec![allowed()], true),
        (vec![allowed(), write(Permission::Deny, (PatternType::Prefixed, "t"))], false),
        (vec![allowed(), write(Permission::Deny, literal("u"))], true),
        (allow(Operation::IdempotentWrite, ResourceType::Cluster), true),
        (allow(Operation::Read, ResourceType::Topic), false),
    ];
    for (rules, may) in cases {
        set_rules(&server, rules.clone()).await;
        let request = InitProducerIdRequest { transactional_id: None, ..Default::default() };
        let answer = client.ask(5, request).await;
        let expected = if may { ErrorCode::None } else { ErrorCode::ClusterAuthorizationFailed };
        assert_eq!(answer.error_code, expected.code(), "{rules:?}");
    }
    server.stop().await;
}

/// A transactional batch is not written under a transactional id that is somebody else's.
#[tokio::test]
async fn transactional_ids_are_not_for_everybody() {
    use produce_request::{PartitionProduceData, TopicProduceData};
    let server = start().await;
    set_up(&server).await;
    let mut client = Client::new(&server);
    let mut transactional = batch().to_vec();
    // The attribute of a transaction and a producer. Who may write is asked before it is checked whole.
    transactional[22] |= 1 << 4;
    transactional[43..57].copy_from_slice(&[0; 14]);
    let request = |records: Vec<u8>| ProduceRequest {
        transactional_id: Some("hidden-tx".into()),
        acks: -1,
        timeout_ms: 1_000,
        topic_data: vec![TopicProduceData {
            name: "hidden-topic".into(),
            partition_data: vec![PartitionProduceData {
                index: 0,
                records: Some(bytes::Bytes::from(records).into()),
            }],
            ..Default::default()
        }],
    };
    set_rules(&server, allow(Operation::Write, ResourceType::Topic)).await;
    let answer = format!("{:?}", client.ask(12, request(transactional.clone())).await);
    let denied = BTreeSet::from([ErrorCode::TransactionalIdAuthorizationFailed]);
    assert_eq!(errors(&answer), denied, "{answer}");
    let both = [ResourceType::Topic, ResourceType::TransactionalId];
    set_rules(&server, both.map(|one| allow(Operation::Write, one)).concat()).await;
    let answer = format!("{:?}", client.ask(12, request(transactional)).await);
    assert_eq!(denials(&answer), BTreeSet::new(), "{answer}");
    server.stop().await;
}

/// `type, pattern, name, principal, host, operation, permission`.
type Rule = (i8, i8, &'static str, &'static str, &'static str, i8, i8);

const READ: Rule = (2, 4, "orders", "User:ann", "10.0.0.0/8", 3, 3);

fn creation(rule: Rule) -> create_acls_request::AclCreation {
    let (resource_type, resource_pattern_type, name, principal, host, operation, permission) = rule;
    create_acls_request::AclCreation {
        resource_type,
        resource_name: name.into(),
        resource_pattern_type,
        principal: principal.into(),
        host: host.into(),
        operation,
        permission_type: permission,
    }
}

async fn create(client: &mut Client, rules: &[Rule]) -> Vec<ErrorCode> {
    let creations = rules.iter().map(|rule| creation(*rule)).collect();
    let answer = client.ask(3, CreateAclsRequest { creations }).await;
    answer.results.iter().map(|result| ErrorCode::or_unknown(result.error_code)).collect()
}

async fn describe(
    client: &mut Client,
    pattern: i8,
    name: Option<&'static str>,
) -> DescribeAclsResponse {
    let request = DescribeAclsRequest {
        resource_type_filter: 1,
        resource_name_filter: name.map(StrBytes::from),
        pattern_type_filter: pattern,
        principal_filter: Some("User:ann".into()),
        host_filter: None,
        operation: 1,
        permission_type: 1,
    };
    client.ask(3, request).await
}

fn delete(name: Option<&'static str>, operation: i8) -> delete_acls_request::DeleteAclsFilter {
    delete_acls_request::DeleteAclsFilter {
        resource_type_filter: 2,
        resource_name_filter: name.map(StrBytes::from),
        pattern_type_filter: 1,
        principal_filter: None,
        host_filter: None,
        operation,
        permission_type: 1,
    }
}

#[tokio::test]
async fn rules_are_made_told_and_removed() {
    use ErrorCode::{InvalidRequest, None as Fine};
    let server = start().await;
    let mut client = Client::new(&server);
    set_rules(&server, allow(Operation::Alter, ResourceType::Cluster)).await;
    let wrong: [Rule; 10] = [
        (1, 3, "t", "User:ann", "*", 3, 3),
        (9, 3, "t", "User:ann", "*", 3, 3),
        (2, 1, "t", "User:ann", "*", 3, 3),
        (2, 2, "t", "User:ann", "*", 3, 3),
        (2, 3, "", "User:ann", "*", 3, 3),
        (4, 3, "mine", "User:ann", "*", 3, 3),
        (2, 3, "t", "ann", "*", 3, 3),
        (2, 3, "t", "User:ann", "localhost", 3, 3),
        (2, 3, "t", "User:ann", "*", 1, 3),
        (2, 3, "t", "User:ann", "*", 3, 1),
    ];
    for rule in wrong {
        assert_eq!(create(&mut client, &[rule, READ]).await, [InvalidRequest, Fine], "{rule:?}");
    }
    let denied: Rule = (2, 3, "orders-eu", "User:ann", "*", 4, 2);
    assert_eq!(create(&mut client, &[READ, denied, denied]).await, [Fine; 3]);
    for (pattern, name, expected) in [
        (1, None, 2),
        (1, Some("orders"), 1),
        (2, Some("orders-eu"), 2),
        (2, Some("orders-us"), 1),
        (3, Some("orders"), 0),
        (4, None, 1),
    ] {
        let told = describe(&mut client, pattern, name).await;
        let rules: usize = told.resources.iter().map(|resource| resource.acls.len()).sum();
        assert_eq!((told.error_code, rules), (0, expected), "{pattern} {name:?}: {told:?}");
    }
    let told = describe(&mut client, 4, None).await;
    let (resource, acl) = (&told.resources[0], &told.resources[0].acls[0]);
    let as_made = (resource.resource_type, resource.pattern_type, resource.resource_name.as_str());
    assert_eq!(as_made, (READ.0, READ.1, READ.2));
    let as_made = (acl.principal.as_str(), acl.host.as_str(), acl.operation, acl.permission_type);
    assert_eq!(as_made, (READ.3, READ.4, READ.5, READ.6));
    assert_eq!(describe(&mut client, 0, None).await.error_code, InvalidRequest.code());
    let filters = vec![delete(Some("orders"), 1), delete(None, 1), delete(None, 0)];
    let removed = client.ask(3, DeleteAclsRequest { filters }).await;
    let counts: Vec<_> = removed
        .filter_results
        .iter()
        .map(|one| (ErrorCode::or_unknown(one.error_code), one.matching_acls.len()))
        .collect();
    assert_eq!(counts, [(Fine, 1), (Fine, 1), (InvalidRequest, 0)], "{removed:?}");
    assert_eq!(describe(&mut client, 1, None).await.resources, vec![]);
    server.stop().await;
}

#[tokio::test]
async fn rules_survive_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let start = || {
        let mut config = ServerConfig::in_directory(directory.path());
        config.settings.extend(CONFIG.map(|(name, value)| (name.to_owned(), value.to_owned())));
        Server::start(config)
    };
    let server = start().await.expect("starts");
    let rules = allow(Operation::Describe, ResourceType::Cluster);
    set_rules(&server, rules.clone()).await;
    server.stop().await;
    let server = start().await.expect("starts again");
    assert_eq!(server.broker().acls(&Filter::default()), rules);
    let mut client = Client::new(&server);
    let quorum = client.ask(2, DescribeQuorumRequest::default()).await;
    assert_eq!(quorum.error_code, 0);
    server.stop().await;
}

#[tokio::test]
async fn without_an_authorizer_everybody_may_and_rules_are_off() {
    let server = Server::start(ServerConfig::in_memory()).await.expect("starts");
    let mut client = Client::new(&server);
    let disabled = ErrorCode::SecurityDisabled;
    assert_eq!(create(&mut client, &[READ]).await, [disabled]);
    assert_eq!(describe(&mut client, 1, None).await.error_code, disabled.code());
    let filters = vec![delete(None, 1)];
    let removed = client.ask(3, DeleteAclsRequest { filters }).await;
    assert_eq!(removed.filter_results[0].error_code, disabled.code());
    assert_eq!(client.ask(2, DescribeQuorumRequest::default()).await.error_code, 0);
    server.stop().await;
}

#[tokio::test]
async fn who_switches_rights_on_says_who_may_give_them() {
    let mut config = ServerConfig::in_memory();
    config.settings.insert("authorizer.class.name".to_owned(), "standard".to_owned());
    let refused = Server::start(config.clone()).await.expect_err("nobody could do anything");
    assert!(refused.to_string().contains("super.users"), "{refused}");
    // Whoever connects is nobody in particular, who may be one of them; or rules may not be needed.
    for more in [("super.users", "User:ANONYMOUS"), ("allow.everyone.if.no.acl.found", "true")] {
        let mut config = config.clone();
        config.settings.insert("super.users".to_owned(), "User:admin".to_owned());
        config.settings.insert(more.0.to_owned(), more.1.to_owned());
        let server = Server::start(config).await.expect("starts");
        let mut client = Client::new(&server);
        assert_eq!(create(&mut client, &[READ]).await, [ErrorCode::None]);
        server.stop().await;
    }
}

/// Rights that the table names for some requests only, each missing by itself.
#[tokio::test]
async fn rights_for_some_requests_are_needed_by_themselves() {
    use Operation::{Describe, Read, Write};
    use ResourceType::{Group, Topic, TransactionalId};
    let (topic, tx) =
        (ErrorCode::TopicAuthorizationFailed, ErrorCode::TransactionalIdAuthorizationFailed);
    for (api, given, expected) in [
        (ApiKey::ConsumerGroupHeartbeat, (Read, Group), topic),
        (ApiKey::ConsumerGroupDescribe, (Describe, Group), topic),
        (ApiKey::StreamsGroupHeartbeat, (Read, Group), topic),
        (ApiKey::StreamsGroupDescribe, (Describe, Group), topic),
        (ApiKey::OffsetFetch, (Describe, Group), topic),
        (ApiKey::AddPartitionsToTxn, (Write, TransactionalId), topic),
        (ApiKey::AddPartitionsToTxn, (Write, Topic), tx),
    ] {
        let server = start().await;
        set_up(&server).await;
        let mut client = Client::new(&server);
        set_rules(&server, allow(given.0, given.1)).await;
        let answer = ask(&mut client, api, HIDDEN).await;
        assert_eq!(denials(&answer), BTreeSet::from([expected]), "{}: {answer}", api.name());
        server.stop().await;
    }
}

/// By id it takes the right that a name takes, and both ways at once do not tell that they mean the same.
#[tokio::test]
async fn topics_by_id_are_no_way_around() {
    use delete_topics_request::DeleteTopicState;
    use offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
    let server = start().await;
    let topic_id = set_up(&server).await;
    let mut client = Client::new(&server);
    let denied = BTreeSet::from([ErrorCode::TopicAuthorizationFailed]);
    let by_name = DeleteTopicState { name: Some("hidden-topic".into()), ..Default::default() };
    let by_id = DeleteTopicState { name: None, topic_id };
    let delete = |topics: Vec<_>| DeleteTopicsRequest { topics, ..Default::default() };
    let both = format!("{:?}", client.ask(6, delete(vec![by_name, by_id.clone()])).await);
    assert_eq!(errors(&both), denied, "{both}");
    // It would be answered the name.
    let literal = (PatternType::Literal, "hidden-topic");
    let may = rule(Permission::Allow, Operation::Delete, ResourceType::Topic, literal);
    let may_not = rule(Permission::Deny, Operation::Describe, ResourceType::Topic, literal);
    set_rules(&server, vec![may, may_not]).await;
    let answer = format!("{:?}", client.ask(6, delete(vec![by_id])).await);
    assert_eq!(errors(&answer), denied, "{answer}");
    assert!(!answer.contains(HIDDEN), "{answer}");
    set_rules(&server, allow(Operation::Describe, ResourceType::Group)).await;
    let topic =
        OffsetFetchRequestTopics { topic_id, partition_indexes: vec![0], ..Default::default() };
    let (group_id, topics) = ("hidden-group".into(), Some(vec![topic]));
    let groups = vec![OffsetFetchRequestGroup { group_id, topics, ..Default::default() }];
    let fetch = OffsetFetchRequest { groups, ..Default::default() };
    let answer = format!("{:?}", client.ask(10, fetch).await);
    assert_eq!(errors(&answer), denied, "{answer}");
    server.stop().await;
}

/// What the right to make a topic does not include: to be told its configuration.
#[tokio::test]
async fn a_new_topics_configuration_is_told_to_those_who_may_know_it() {
    let server = start().await;
    let mut client = Client::new(&server);
    let create = allow(Operation::Create, ResourceType::Topic);
    let configs = allow(Operation::DescribeConfigs, ResourceType::Topic);
    let denied = ErrorCode::TopicAuthorizationFailed.code();
    for (name, rules, expected) in [
        ("hidden-1", create.clone(), denied),
        ("hidden-2", [create, configs].concat(), ErrorCode::None.code()),
    ] {
        set_rules(&server, rules).await;
        let topic = create_topics_request::CreatableTopic {
            name: name.into(),
            num_partitions: 1,
            replication_factor: 1,
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
        let made = client.ask(7, request).await.topics.remove(0);
        assert_eq!((made.error_code, made.topic_config_error_code), (0, expected), "{made:?}");
        let is_told = made.configs.is_some_and(|configs| !configs.is_empty());
        assert_eq!(is_told, expected == 0, "{name}");
    }
    server.stop().await;
}

/// Neither partitions of topics that one may not write to become part of one's transaction, nor is told which
/// topics a transaction writes to that one may not describe.
#[tokio::test]
async fn transactions_have_no_part_in_what_may_not_be_written() {
    use produce_request::{PartitionProduceData, TopicProduceData};
    let server = start().await;
    set_up(&server).await;
    let mut client = Client::new(&server);
    let tx = |operation| allow(operation, ResourceType::TransactionalId);
    let topics = |operation| allow(operation, ResourceType::Topic);
    set_rules(&server, tx(Operation::Write)).await;
    let begin = InitProducerIdRequest {
        transactional_id: Some("hidden-tx".into()),
        transaction_timeout_ms: 60_000,
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    };
    let producer = client.ask(5, begin).await;
    assert_eq!(producer.error_code, 0);
    let mut records = batch().to_vec();
    records[22] |= 1 << 4;
    records[43..51].copy_from_slice(&producer.producer_id.to_be_bytes());
    records[51..53].copy_from_slice(&producer.producer_epoch.to_be_bytes());
    records[53..57].copy_from_slice(&[0; 4]);
    let records = Some(bytes::Bytes::from(records).into());
    let request = ProduceRequest {
        transactional_id: Some("hidden-tx".into()),
        acks: -1,
        timeout_ms: 1_000,
        topic_data: vec![TopicProduceData {
            name: "hidden-topic".into(),
            partition_data: vec![PartitionProduceData { index: 0, records }],
            ..Default::default()
        }],
    };
    let answer = format!("{:?}", client.ask(12, request).await);
    let denied = BTreeSet::from([ErrorCode::TopicAuthorizationFailed]);
    assert_eq!(errors(&answer), denied, "{answer}");
    let described =
        async |client: &mut Client| ask(client, ApiKey::DescribeTransactions, HIDDEN).await;
    set_rules(&server, [tx(Operation::Describe), topics(Operation::Describe)].concat()).await;
    let answer = described(&mut client).await;
    assert!(!answer.contains("hidden-topic"), "{answer}");
    // With the right it is, and is told of to those who may know.
    set_rules(&server, [tx(Operation::Write), topics(Operation::Write)].concat()).await;
    let topic = add_partitions_to_txn_request::AddPartitionsToTxnTopic {
        name: "hidden-topic".into(),
        partitions: vec![0],
    };
    let add = AddPartitionsToTxnRequest {
        v3_and_below_transactional_id: "hidden-tx".into(),
        v3_and_below_producer_id: producer.producer_id,
        v3_and_below_producer_epoch: producer.producer_epoch,
        v3_and_below_topics: vec![topic],
        ..Default::default()
    };
    let answer = format!("{:?}", client.ask(3, add).await);
    assert_eq!(errors(&answer), BTreeSet::new(), "{answer}");
    for (rules, is_told) in [
        (tx(Operation::Describe), false),
        ([tx(Operation::Describe), topics(Operation::Describe)].concat(), true),
    ] {
        set_rules(&server, rules).await;
        let answer = described(&mut client).await;
        assert_eq!(answer.contains("hidden-topic"), is_told, "{answer}");
    }
    // What is for brokers is not for whoever may write.
    set_rules(&server, [tx(Operation::All), topics(Operation::All)].concat()).await;
    let answer = client.ask(5, AddPartitionsToTxnRequest::default()).await;
    assert_eq!(answer.error_code, ErrorCode::ClusterAuthorizationFailed.code(), "{answer:?}");
    server.stop().await;
}

/// An expression finds no topic that its member may not describe: its id would tell that it is there, and how large.
#[tokio::test]
async fn an_expression_finds_no_topic_that_may_not_be_described() {
    let mut config = ServerConfig::in_memory();
    let at_once = ("group.consumer.assignment.interval.ms", "0");
    let settings = CONFIG.into_iter().chain([at_once]);
    config.settings.extend(settings.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let server = Server::start(config).await.expect("starts");
    let hidden = set_up(&server).await;
    let name = format!("{ABSENT}-no-more");
    let topic = TopicRequest { name, partitions: Some(1), ..TopicRequest::default() };
    let seen = server.broker().create_topic(topic, false).await.expect("made").id;
    let read = allow(Operation::Read, ResourceType::Group);
    let names = |prefix| {
        let pattern = (PatternType::Prefixed, prefix);
        rule(Permission::Allow, Operation::Describe, ResourceType::Topic, pattern)
    };
    let mut client = Client::new(&server);
    let mut epoch = 0;
    let mut told = BTreeSet::new();
    let regex = format!("{HIDDEN}-.*|{ABSENT}-.*");
    for (rules, expected) in [
        (vec![names(ABSENT)], BTreeSet::from([seen])),
        (vec![names(ABSENT), names(HIDDEN)], BTreeSet::from([seen, hidden])),
        (vec![names(ABSENT)], BTreeSet::from([seen])),
        (vec![names(HIDDEN)], BTreeSet::from([hidden])),
    ] {
        set_rules(&server, [read.clone(), rules].concat()).await;
        // What it is told now is what it owns at the next heartbeat.
        for _ in 0..6 {
            let owned = |topic_id: &TopicId| consumer_group_heartbeat_request::TopicPartitions {
                topic_id: *topic_id,
                partitions: vec![0],
            };
            let joins = epoch == 0;
            let request = ConsumerGroupHeartbeatRequest {
                group_id: format!("{HIDDEN}-expression").into(),
                member_id: "member".into(),
                member_epoch: epoch,
                rebalance_timeout_ms: if joins { 60_000 } else { -1 },
                subscribed_topic_regex: joins.then(|| regex.clone().into()),
                topic_partitions: Some(told.iter().map(owned).collect()),
                ..Default::default()
            };
            let answer = client.ask(1, request).await;
            assert_eq!(answer.error_code, 0, "{answer:?}");
            epoch = answer.member_epoch;
            if let Some(assignment) = answer.assignment {
                told = assignment.topic_partitions.iter().map(|topic| topic.topic_id).collect();
                assert!(told.is_subset(&expected), "{told:?}, and may know of {expected:?}");
            }
        }
        assert_eq!(told, expected);
    }
    server.stop().await;
}

/// Whoever may read a streams group is not told of the topics of others' topology by joining with an older one of his
/// own, which names nothing.
#[tokio::test]
async fn a_topology_of_others_is_not_told_to_who_may_not_know_its_topics() {
    use streams_group_heartbeat_request::{Subtopology, Topology};
    let server = start().await;
    set_up(&server).await;
    let mut client = Client::new(&server);
    let read = || allow(Operation::Read, ResourceType::Group);
    let describe = || allow(Operation::Describe, ResourceType::Topic);
    let source = Subtopology {
        subtopology_id: "0".into(),
        source_topics: vec!["hidden-topic".into(), "hidden-none".into()],
        ..Default::default()
    };
    let request = |member: &'static str, epoch, subtopologies| StreamsGroupHeartbeatRequest {
        group_id: "hidden-application".into(),
        member_id: member.into(),
        rebalance_timeout_ms: 1_000,
        topology: Some(Topology { epoch, subtopologies }),
        process_id: Some("process".into()),
        active_tasks: Some(Vec::new()),
        standby_tasks: Some(Vec::new()),
        warmup_tasks: Some(Vec::new()),
        ..Default::default()
    };
    set_rules(&server, [read(), describe()].concat()).await;
    let answer = client.ask(1, request("one", 7, vec![source])).await;
    assert_eq!(answer.error_code, 0, "{answer:?}");
    for (rules, expected) in [
        (read(), ErrorCode::TopicAuthorizationFailed),
        ([read(), describe()].concat(), ErrorCode::None),
    ] {
        set_rules(&server, rules).await;
        let answer = client.ask(1, request("another", 3, Vec::new())).await;
        assert_eq!(answer.error_code, expected.code(), "{answer:?}");
        let is_told = format!("{answer:?}").contains("hidden-none");
        assert_eq!(is_told, expected == ErrorCode::None, "{answer:?}");
    }
    server.stop().await;
}

/// A transaction would write its end into topics in which only the broker's own records belong.
#[tokio::test]
async fn a_transaction_has_no_part_in_the_brokers_own_topics() {
    let server = start().await;
    set_up(&server).await;
    let mut client = Client::new(&server);
    let every =
        rule(Permission::Allow, Operation::Write, ResourceType::Topic, (PatternType::Literal, "*"));
    let tx = allow(Operation::Write, ResourceType::TransactionalId);
    set_rules(&server, [tx, vec![every]].concat()).await;
    let begin = InitProducerIdRequest {
        transactional_id: Some("hidden-tx".into()),
        transaction_timeout_ms: 60_000,
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    };
    let producer = client.ask(5, begin).await;
    assert_eq!(producer.error_code, 0);
    for (topic, expected) in [
        ("__consumer_offsets", ErrorCode::TopicAuthorizationFailed),
        ("__transaction_state", ErrorCode::TopicAuthorizationFailed),
        ("hidden-topic", ErrorCode::None),
    ] {
        let topic = add_partitions_to_txn_request::AddPartitionsToTxnTopic {
            name: topic.into(),
            partitions: vec![0],
        };
        let add = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: "hidden-tx".into(),
            v3_and_below_producer_id: producer.producer_id,
            v3_and_below_producer_epoch: producer.producer_epoch,
            v3_and_below_topics: vec![topic.clone()],
            ..Default::default()
        };
        let answer = client.ask(3, add).await;
        let partition = &answer.results_by_topic_v3_and_below[0].results_by_partition[0];
        assert_eq!(partition.partition_error_code, expected.code(), "{topic:?}");
    }
    server.stop().await;
}

/// Who may delete what he may not know of does not learn by that whether it is there.
#[tokio::test]
async fn a_right_to_delete_tells_nothing_where_it_is_forbidden_to_know() {
    use delete_topics_request::DeleteTopicState;
    let server = start().await;
    set_up(&server).await;
    let mut client = Client::new(&server);
    let delete = allow(Operation::Delete, ResourceType::Topic);
    let forbidden = [HIDDEN, ABSENT].map(|prefix| {
        let pattern = (PatternType::Prefixed, prefix);
        rule(Permission::Deny, Operation::Describe, ResourceType::Topic, pattern)
    });
    set_rules(&server, [delete, forbidden.to_vec()].concat()).await;
    for name in ["hidden-topic", "absent-topic"] {
        let topics = vec![DeleteTopicState { name: Some(name.into()), ..Default::default() }];
        let request = DeleteTopicsRequest { topics, ..Default::default() };
        let answer = client.ask(6, request).await;
        let denied = ErrorCode::TopicAuthorizationFailed.code();
        assert_eq!(answer.responses[0].error_code, denied, "{answer:?}");
    }
    let topics = server.broker().topics();
    assert!(topics.iter().any(|topic| &*topic.name == "hidden-topic"), "it is still there");
    server.stop().await;
}

/// A topology has topics made that are missing, by those who may.
#[tokio::test]
async fn a_topology_makes_no_topics_without_the_right() {
    use streams_group_heartbeat_request::{Subtopology, TopicInfo, Topology};
    let server = start().await;
    set_up(&server).await;
    let mut client = Client::new(&server);
    let read = allow(Operation::Read, ResourceType::Group);
    let describe = allow(Operation::Describe, ResourceType::Topic);
    let create = allow(Operation::Create, ResourceType::Topic);
    for (number, (rules, is_made)) in [
        ([read.clone(), describe.clone()].concat(), false),
        ([read, describe, create].concat(), true),
    ]
    .into_iter()
    .enumerate()
    {
        set_rules(&server, rules).await;
        let missing = StrBytes::from(format!("hidden-part-{number}"));
        let internal = TopicInfo { name: missing.clone(), partitions: 1, ..Default::default() };
        let subtopology = Subtopology {
            subtopology_id: "0".into(),
            source_topics: vec!["hidden-topic".into()],
            repartition_source_topics: vec![internal],
            repartition_sink_topics: vec![missing.clone()],
            ..Default::default()
        };
        let request = StreamsGroupHeartbeatRequest {
            group_id: StrBytes::from(format!("hidden-streams-{number}")),
            member_id: "member".into(),
            rebalance_timeout_ms: 1_000,
            topology: Some(Topology { epoch: 0, subtopologies: vec![subtopology] }),
            process_id: Some("process".into()),
            active_tasks: Some(Vec::new()),
            standby_tasks: Some(Vec::new()),
            warmup_tasks: Some(Vec::new()),
            ..Default::default()
        };
        let answer = client.ask(1, request).await;
        assert_eq!(answer.error_code, 0, "{answer:?}");
        let is_there = server.broker().topics().iter().any(|topic| *topic.name == *missing);
        assert_eq!(is_there, is_made, "{answer:?}");
    }
    server.stop().await;
}
