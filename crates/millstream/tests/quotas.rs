//! Quotas, as clients meet them: set and told by the protocol, obeyed by Produce, Fetch, all requests, and
//! whoever makes topics.

use millstream::{Server, ServerConfig};
use millstream_wire::alter_client_quotas_request::{EntityData, EntryData, OpData};
use millstream_wire::create_topics_request::CreatableTopic;
use millstream_wire::describe_client_quotas_request::ComponentData;
use millstream_wire::fetch_request::{FetchPartition, FetchTopic};
use millstream_wire::metadata_request::MetadataRequestTopic;
use millstream_wire::produce_request::{PartitionProduceData, TopicProduceData};
use millstream_wire::{
    AlterClientQuotasRequest, CreateTopicsRequest, CreateTopicsResponse,
    DescribeClientQuotasRequest, DescribeClientQuotasResponse, ErrorCode, FetchRequest,
    MetadataRequest, ProduceRequest, Records, StrBytes,
};
use raw::{Client, batch};

#[allow(dead_code, reason = "other tests use more of it")]
mod raw;

const TOPIC: &str = "t";

/// The client id of [`Client`], and the quota of all.
const ME: &[(&str, Option<&str>)] = &[("client-id", Some("c"))];
const ALL: &[(&str, Option<&str>)] = &[("client-id", None)];
const LIMITS: [&str; 4] =
    ["producer_byte_rate", "consumer_byte_rate", "request_percentage", "controller_mutation_rate"];

/// Windows with which one second's worth may be used at once, and ten seconds' of mutations.
const WINDOWS: [(&str, &str); 2] =
    [("quota.window.num", "2"), ("controller.quota.window.num", "10")];

async fn start() -> (Server, Client) {
    start_with(&WINDOWS).await
}

async fn start_with(settings: &[(&str, &str)]) -> (Server, Client) {
    let mut config = ServerConfig::in_memory();
    for (name, value) in settings {
        config.settings.insert((*name).to_owned(), (*value).to_owned());
    }
    let server = Server::start(config).await.expect("starts");
    let mut client = Client::new(&server);
    let made = create(&mut client, TOPIC, 1, 7).await;
    assert_eq!(made.topics[0].error_code, 0);
    (server, client)
}

async fn create(
    client: &mut Client,
    name: &str,
    partitions: i32,
    version: i16,
) -> CreateTopicsResponse {
    let topic = CreatableTopic {
        name: StrBytes::from(name.to_owned()),
        num_partitions: partitions,
        replication_factor: 1,
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() };
    client.ask(version, request).await
}

/// Sets `of` for an entity, or removes it. Returns the error.
async fn alter(
    client: &mut Client,
    entity: &[(&'static str, Option<&'static str>)],
    of: &str,
    to: Option<f64>,
) -> ErrorCode {
    let entity = entity.iter().map(|(kind, name)| EntityData {
        entity_type: StrBytes::from(*kind),
        entity_name: name.map(StrBytes::from),
    });
    let op = OpData {
        key: StrBytes::from(of.to_owned()),
        value: to.unwrap_or_default(),
        remove: to.is_none(),
    };
    let entry = EntryData { entity: entity.collect(), ops: vec![op] };
    let request = AlterClientQuotasRequest { entries: vec![entry], validate_only: false };
    ErrorCode::or_unknown(client.ask(1, request).await.entries[0].error_code)
}

async fn describe(
    client: &mut Client,
    components: &[(&'static str, i8, Option<&'static str>)],
    strict: bool,
) -> DescribeClientQuotasResponse {
    let components = components.iter().map(|(kind, match_type, name)| ComponentData {
        entity_type: StrBytes::from(*kind),
        match_type: *match_type,
        r#match: name.map(StrBytes::from),
    });
    let request = DescribeClientQuotasRequest { components: components.collect(), strict };
    client.ask(1, request).await
}

/// Produces one batch. Returns for how long the client is then left alone, in milliseconds.
async fn produce(client: &mut Client) -> i32 {
    let partition = PartitionProduceData { index: 0, records: Some(Records::from(batch())) };
    let topic = TopicProduceData {
        name: TOPIC.into(),
        partition_data: vec![partition],
        ..TopicProduceData::default()
    };
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 1_000,
        topic_data: vec![topic],
        ..ProduceRequest::default()
    };
    let answer = client.ask(9, request).await;
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
    answer.throttle_time_ms
}

async fn fetch(client: &mut Client) -> (usize, i32) {
    let partition =
        FetchPartition { partition: 0, partition_max_bytes: 1 << 20, ..FetchPartition::default() };
    let topic =
        FetchTopic { topic: TOPIC.into(), partitions: vec![partition], ..FetchTopic::default() };
    let request = FetchRequest {
        max_bytes: 1 << 20,
        session_epoch: -1,
        topics: vec![topic],
        ..FetchRequest::default()
    };
    let answer = client.ask(12, request).await;
    let records = answer.responses[0].partitions[0].records.as_ref();
    (records.map_or(0, Records::len), answer.throttle_time_ms)
}

/// A tenth of a second's worth of `bytes`, when they come to eleven tenths.
fn rate_for(bytes: usize) -> f64 {
    (bytes as f64 / 1.1).round()
}

/// Pitfall 10.
#[tokio::test]
async fn who_writes_more_than_his_quota_is_answered_and_waits() {
    let (server, mut client) = start().await;
    assert_eq!(produce(&mut client).await, 0, "without a quota");
    let rate = rate_for(batch().len());
    assert_eq!(alter(&mut client, ME, "producer_byte_rate", Some(rate)).await, ErrorCode::None);
    let told = produce(&mut client).await;
    assert!((1..=101).contains(&told), "{told} ms for a tenth more than a second's worth");
    // It is heard again, and its debt is what it was.
    let told = produce(&mut client).await;
    assert!((900..=1_101).contains(&told), "{told} ms");
    assert_eq!(alter(&mut client, ME, "producer_byte_rate", None).await, ErrorCode::None);
    assert_eq!(produce(&mut client).await, 0, "the quota is gone");
    server.stop().await;
}

#[tokio::test]
async fn who_reads_more_than_his_quota_gets_it_and_waits() {
    let (server, mut client) = start().await;
    produce(&mut client).await;
    let rate = rate_for(batch().len());
    assert_eq!(alter(&mut client, ALL, "consumer_byte_rate", Some(rate)).await, ErrorCode::None);
    let (bytes, told) = fetch(&mut client).await;
    assert_eq!(bytes, batch().len(), "what is there is given");
    assert!((1..=101).contains(&told), "{told} ms");
    assert_eq!(produce(&mut client).await, 0, "writing is not reading");
    server.stop().await;
}

/// What may be used at once is what the windows allow: all of them but one, as in Kafka.
#[tokio::test]
async fn windows_say_what_may_be_used_at_once() {
    let (num, size) = ("quota.window.num", "quota.window.size.seconds");
    for (settings, seconds) in
        [(&[][..], 10), (&[(num, "3")], 2), (&[(num, "3"), (size, "5")], 10), (&[(num, "1")], 0)]
    {
        let (server, mut client) = start_with(settings).await;
        // A batch is what may be used in five seconds.
        let rate = batch().len() as f64 / 5.0;
        let set = alter(&mut client, ME, "producer_byte_rate", Some(rate.ceil())).await;
        assert_eq!(set, ErrorCode::None);
        let free = seconds / 5;
        for _ in 0..free {
            assert_eq!(produce(&mut client).await, 0, "{settings:?}");
        }
        let told = produce(&mut client).await;
        assert!((1..=5_001).contains(&told), "{settings:?}: {told} ms");
        server.stop().await;
    }
}

/// The same of partitions: all of the windows, as in Kafka.
#[tokio::test]
async fn windows_say_how_many_partitions_may_be_made_at_once() {
    let (num, size) = ("controller.quota.window.num", "controller.quota.window.size.seconds");
    for (settings, partitions) in [(&[][..], 11), (&[(num, "2"), (size, "3")], 6)] {
        let (server, mut client) = start_with(settings).await;
        let set = alter(&mut client, ALL, "controller_mutation_rate", Some(1.0)).await;
        assert_eq!(set, ErrorCode::None);
        // As long as there is any, all that is asked for is made.
        assert_eq!(create(&mut client, "most", partitions, 7).await.topics[0].error_code, 0);
        assert_eq!(create(&mut client, "few", 5, 7).await.topics[0].error_code, 0);
        let refused = create(&mut client, "more", 1, 7).await.topics[0].error_code;
        let error = ErrorCode::or_unknown(refused);
        assert_eq!(error, ErrorCode::ThrottlingQuotaExceeded, "{settings:?}");
        server.stop().await;
    }
}

#[tokio::test]
async fn any_request_takes_of_the_brokers_time() {
    let (server, mut client) = start().await;
    // A nanosecond in ten seconds: whatever the broker does takes longer than a burst of it.
    let set = alter(&mut client, ME, "request_percentage", Some(1e-8)).await;
    assert_eq!(set, ErrorCode::None);
    let asks = client.ask(12, MetadataRequest::default());
    let told = asks.await.throttle_time_ms;
    assert!(told > 0, "{told} ms");
    // On this connection it would be left alone for long; the quota is the client's, not the connection's.
    let mut other = Client::new(&server);
    let told = other.ask(12, MetadataRequest::default()).await.throttle_time_ms;
    assert!(told > 0, "{told} ms");
    server.stop().await;
}

#[tokio::test]
async fn who_makes_more_topics_than_his_quota_is_refused() {
    let (server, mut client) = start().await;
    let set = alter(&mut client, ALL, "controller_mutation_rate", Some(100.0)).await;
    assert_eq!(set, ErrorCode::None);
    // Ten seconds' worth and five partitions more.
    let made = create(&mut client, "many", 1_005, 7).await;
    assert_eq!(
        (made.topics[0].error_code, made.throttle_time_ms),
        (0, 0),
        "as long as there is any"
    );
    let refused = create(&mut client, "more", 1, 7).await;
    let error = ErrorCode::or_unknown(refused.topics[0].error_code);
    assert_eq!(error, ErrorCode::ThrottlingQuotaExceeded);
    assert!((1..=50).contains(&refused.throttle_time_ms), "{} ms", refused.throttle_time_ms);
    let made = create(&mut client, "more", 1, 7).await;
    assert_eq!(made.topics[0].error_code, 0, "once it has waited");
    // Clients that do not know the error wait, and are served.
    let made = create(&mut client, "many-again", 1_000, 5).await;
    assert_eq!(made.topics[0].error_code, 0);
    let made = create(&mut client, "old", 1, 5).await;
    assert_eq!(made.topics[0].error_code, 0);
    assert!(made.throttle_time_ms > 0);
    server.stop().await;
}

#[tokio::test]
async fn topics_made_by_asking_for_them_count() {
    let (server, mut client) = start().await;
    let set = alter(&mut client, ALL, "controller_mutation_rate", Some(100.0)).await;
    assert_eq!(set, ErrorCode::None);
    create(&mut client, "many", 1_050, 7).await;
    assert_eq!(ask_for(&mut client, "asked-for").await, ErrorCode::UnknownTopicOrPartition);
    assert_eq!(ask_for(&mut client, "asked-for").await, ErrorCode::None, "once it has waited");
    server.stop().await;
}

/// What Metadata says of a topic, which it may create.
async fn ask_for(client: &mut Client, name: &'static str) -> ErrorCode {
    let topic = MetadataRequestTopic { name: Some(name.into()), ..MetadataRequestTopic::default() };
    let request = MetadataRequest {
        topics: Some(vec![topic]),
        allow_auto_topic_creation: true,
        ..MetadataRequest::default()
    };
    ErrorCode::or_unknown(client.ask(12, request).await.topics[0].error_code)
}

#[tokio::test]
async fn quotas_are_told_as_they_were_set() {
    let (server, mut client) = start().await;
    for (entity, value) in [
        (&[("user", Some("u")), ("client-id", None)][..], 1.0),
        (&[("user", Some("u"))], 2.0),
        (ALL, 3.0),
    ] {
        for of in LIMITS {
            assert_eq!(alter(&mut client, entity, of, Some(value)).await, ErrorCode::None);
        }
    }
    let told = describe(&mut client, &[("user", 0, Some("u"))], false).await.entries;
    let told = told.expect("no error");
    assert_eq!(told.len(), 2);
    assert!(told.iter().all(|entry| entry.values.len() == LIMITS.len()));
    let strict = describe(&mut client, &[("user", 0, Some("u"))], true).await.entries;
    let values: Vec<_> = strict.expect("no error")[0]
        .values
        .iter()
        .map(|value| (value.key.as_str().to_owned(), value.value.to_string()))
        .collect();
    assert_eq!(values, LIMITS.map(|of| (of.to_owned(), "2".to_owned())));
    let any = describe(&mut client, &[("client-id", 2, None)], false).await.entries;
    assert_eq!(any.expect("no error").len(), 2);
    for wrong in [
        &[("group", 2, None)][..],
        &[("user", 0, None)],
        &[("user", 1, Some("u"))],
        &[("user", 3, None)],
        &[("user", 2, None), ("user", 2, None)],
        &[("user", 2, None), ("ip", 2, None)],
    ] {
        let refused = describe(&mut client, wrong, false).await;
        let error = ErrorCode::or_unknown(refused.error_code);
        assert_eq!((error, refused.entries), (ErrorCode::InvalidRequest, None), "{wrong:?}");
    }
    for (entity, of, value) in [
        (&[("host", None)][..], LIMITS[0], 1.0),
        (&[], LIMITS[0], 1.0),
        (&[("user", None), ("user", None)], LIMITS[0], 1.0),
        (&[("user", None), ("ip", None)], "connection_creation_rate", 1.0),
        (ALL, "connection_creation_rate", 1.0),
        (ALL, LIMITS[0], 0.0),
        (ALL, LIMITS[0], 0.5),
    ] {
        let refused = alter(&mut client, entity, of, Some(value)).await;
        assert_eq!(refused, ErrorCode::InvalidRequest, "{entity:?} {of} {value}");
    }
    server.stop().await;
}
