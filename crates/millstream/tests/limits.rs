//! Limits on what clients may have the broker keep: partitions, topics made by asking for them.

use millstream::{Server, ServerConfig};
use millstream_wire::create_partitions_request::CreatePartitionsTopic;
use millstream_wire::create_topics_request::CreatableTopic;
use millstream_wire::metadata_request::MetadataRequestTopic;
use millstream_wire::{
    CreatePartitionsRequest, CreateTopicsRequest, ErrorCode, MetadataRequest, StrBytes,
};
use raw::Client;

#[allow(dead_code, reason = "other tests use more of it")]
mod raw;

async fn start(settings: &[(&str, &str)]) -> (Server, Client) {
    let mut config = ServerConfig::in_memory();
    for (name, value) in settings {
        config.settings.insert((*name).to_owned(), (*value).to_owned());
    }
    let server = Server::start(config).await.expect("starts");
    let client = Client::new(&server);
    (server, client)
}

async fn create(client: &mut Client, name: &str, partitions: i32) -> ErrorCode {
    let topic = CreatableTopic {
        name: StrBytes::from(name.to_owned()),
        num_partitions: partitions,
        replication_factor: 1,
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() };
    ErrorCode::or_unknown(client.ask(7, request).await.topics[0].error_code)
}

/// What Metadata says of each of these topics, which it may create.
async fn metadata(client: &mut Client, names: impl IntoIterator<Item = String>) -> Vec<ErrorCode> {
    let topics = names.into_iter().map(|name| MetadataRequestTopic {
        name: Some(StrBytes::from(name)),
        ..MetadataRequestTopic::default()
    });
    let request = MetadataRequest {
        topics: Some(topics.collect()),
        allow_auto_topic_creation: true,
        ..MetadataRequest::default()
    };
    let answer = client.ask(12, request).await;
    answer.topics.iter().map(|topic| ErrorCode::or_unknown(topic.error_code)).collect()
}

#[tokio::test]
async fn there_are_no_more_partitions_than_are_allowed() {
    let (server, mut client) = start(&[("millstream.partitions.max", "10")]).await;
    assert_eq!(create(&mut client, "a", 6).await, ErrorCode::None);
    assert_eq!(create(&mut client, "b", 5).await, ErrorCode::PolicyViolation);
    assert_eq!(create(&mut client, "b", 3).await, ErrorCode::None);
    let topic = CreatePartitionsTopic { name: StrBytes::from("b"), count: 5, assignments: None };
    let request =
        CreatePartitionsRequest { topics: vec![topic], ..CreatePartitionsRequest::default() };
    let answer = client.ask(3, request).await;
    assert_eq!(answer.results[0].error_code, ErrorCode::PolicyViolation.code());
    let asked = ["c", "d"].map(str::to_owned);
    let told = metadata(&mut client, asked).await;
    assert_eq!(told, [ErrorCode::None, ErrorCode::PolicyViolation]);
    server.stop().await;
}

#[tokio::test]
async fn one_request_creates_only_so_many_topics() {
    let (server, mut client) = start(&[]).await;
    let names = || (0..150).map(|number| format!("t{number}"));
    let count = |told: &[ErrorCode], error| told.iter().filter(|told| **told == error).count();
    let told = metadata(&mut client, names()).await;
    assert_eq!(count(&told, ErrorCode::None), 100);
    assert_eq!(count(&told, ErrorCode::UnknownTopicOrPartition), 50);
    let told = metadata(&mut client, names()).await;
    assert_eq!(count(&told, ErrorCode::None), 150);
    server.stop().await;
}
