//! Metrics of clients (KIP-714): asked for, pushed, and shown at `/metrics`.

#![expect(clippy::panic, reason = "helpers of tests fail by panicking")]

use bytes::Bytes;
use millstream::{Server, ServerConfig};
use millstream_record::compression::{Compression, compress};
use millstream_testkit::otlp::{counter, gauge, histogram, metric, point, push};
use millstream_types::Uuid;
use millstream_wire::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use millstream_wire::*;
use raw::Client;

#[allow(dead_code, reason = "other tests use more of it")]
mod raw;

const CLIENT_METRICS: i8 = 16;

async fn start(mut config: ServerConfig) -> (Server, Client) {
    config.http_listen = Some(([127, 0, 0, 1], 0).into());
    let server = start_when_free(config).await;
    let mut client = Client::new(&server);
    let hello = ApiVersionsRequest {
        client_software_name: "test-client".into(),
        client_software_version: "1.2.3".into(),
        ..Default::default()
    };
    client.ask(3, hello).await;
    (server, client)
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

/// Sets configs of the subscription `s`. Returns the error.
async fn set(client: &mut Client, configs: &[(&'static str, &'static str)]) -> ErrorCode {
    let config = |(name, value): &(&'static str, &'static str)| AlterableConfig {
        name: StrBytes::from(*name),
        config_operation: 0,
        value: Some(StrBytes::from(*value)),
    };
    let resource = AlterConfigsResource {
        resource_type: CLIENT_METRICS,
        resource_name: "s".into(),
        configs: configs.iter().map(config).collect(),
    };
    let request =
        IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    ErrorCode::or_unknown(client.ask(1, request).await.responses[0].error_code)
}

async fn ask(client: &mut Client, id: Uuid) -> GetTelemetrySubscriptionsResponse {
    client.ask(0, GetTelemetrySubscriptionsRequest { client_instance_id: id }).await
}

/// Asks as instance `id` and pushes `metrics`.
async fn pushed(client: &mut Client, id: Uuid, (compression, metrics): (i8, Vec<u8>)) -> ErrorCode {
    let told = ask(client, id).await;
    assert_eq!(told.error_code, 0, "{told:?}");
    let push = PushTelemetryRequest {
        client_instance_id: told.client_instance_id,
        subscription_id: told.subscription_id,
        terminating: false,
        compression_type: compression,
        metrics: Bytes::from(metrics),
    };
    ErrorCode::or_unknown(client.ask(0, push).await.error_code)
}

async fn scrape(server: &Server) -> String {
    raw::get(server.http_address().expect("pages"), "/metrics").await
}

/// The lines of clients' metrics, without those that say what they are.
fn of_clients(page: &str) -> Vec<&str> {
    page.lines().filter(|line| line.starts_with("kafka_client_")).collect()
}

#[tokio::test]
async fn what_clients_push_is_shown() {
    let (server, mut client) = start(ServerConfig::in_memory()).await;
    let nothing = ask(&mut client, Uuid([9; 16])).await;
    assert_eq!((nothing.requested_metrics.len(), nothing.push_interval_ms), (0, 300_000));
    let configs = [("metrics", "org.apache.kafka."), ("match", "client_software_name=test-.*")];
    assert_eq!(set(&mut client, &configs).await, ErrorCode::None);
    let told = ask(&mut client, Uuid::NIL).await;
    assert_ne!(told.client_instance_id, Uuid::NIL);
    assert_eq!(told.requested_metrics, ["org.apache.kafka."]);
    assert_eq!(told.accepted_compression_types, [4, 3, 1, 2], "zstd, lz4, gzip, snappy");
    assert_eq!((told.telemetry_max_bytes, told.delta_temporality), (1_048_576, false));
    let topic = [("topic", "a\"b")];
    let metrics = [
        gauge("org.apache.kafka.producer.rate", 1.5),
        gauge("org.example.other", 1.0),
        counter("org.apache.kafka.producer.send.total", 7.0, false),
        metric("org.apache.kafka.producer.topic", 5, &[point(2.0, &topic)]),
        histogram("org.apache.kafka.latency", 12.5, &[1, 2, 3], &[0.5, 5.0]),
    ];
    let id = Uuid([7; 16]);
    let metrics = push(&[("group_id", "g")], &metrics);
    let answer = pushed(&mut client, id, (0, metrics)).await;
    assert_eq!(answer, ErrorCode::None);
    let page = scrape(&server).await;
    let i = format!("client_instance_id=\"{id}\"");
    let expected = [
        format!(
            "kafka_client_info{{{i},client_id=\"c\",user=\"ANONYMOUS\",\
             client_software_name=\"test-client\",client_software_version=\"1.2.3\",\
             group_id=\"g\"}} 1"
        ),
        format!("kafka_client_latency_sum{{{i}}} 12.5"),
        format!("kafka_client_latency_count{{{i}}} 6"),
        format!("kafka_client_latency_bucket{{le=\"0.5\",{i}}} 1"),
        format!("kafka_client_latency_bucket{{le=\"5.0\",{i}}} 3"),
        format!("kafka_client_latency_bucket{{le=\"+Inf\",{i}}} 6"),
        format!("kafka_client_producer_rate{{{i}}} 1.5"),
        format!("kafka_client_producer_send_total{{{i}}} 7.0"),
        format!("kafka_client_producer_topic{{{i},topic=\"a\\\"b\"}} 2.0"),
    ];
    assert_eq!(of_clients(&page), expected);
    assert!(page.contains("\nmillstream_telemetry_pushes_total 1\n"), "{page}");
    assert!(page.contains("\nmillstream_telemetry_left_out_points_total 1\n"), "{page}");
    server.stop().await;
}

#[tokio::test]
async fn every_compression_is_read_and_what_is_none_or_too_much_is_refused() {
    let (server, mut client) = start(ServerConfig::in_memory()).await;
    assert_eq!(set(&mut client, &[("metrics", "*")]).await, ErrorCode::None);
    let metrics = || push(&[], &[gauge("g", 1.0)]);
    let packed = |compression, bytes: &[u8]| {
        (compression as i8, compress(compression, None, bytes).expect("compressed"))
    };
    let bomb = vec![0; 9 * 1024 * 1024];
    let mut cases = Vec::new();
    for compression in Compression::ALL {
        cases.push((packed(compression, &metrics()), ErrorCode::None));
        cases.push(((compression as i8, Vec::new()), ErrorCode::None));
        cases.push(((compression as i8, vec![0xff; 40]), ErrorCode::InvalidRecord));
        cases.push((packed(compression, &bomb), ErrorCode::TelemetryTooLarge));
    }
    cases.push(((5, metrics()), ErrorCode::UnsupportedCompressionType));
    cases.push(((-1, metrics()), ErrorCode::UnsupportedCompressionType));
    cases.push(((0, vec![0; 1_048_577]), ErrorCode::TelemetryTooLarge));
    for (number, ((compression, metrics), expected)) in cases.into_iter().enumerate() {
        let id = Uuid([u8::try_from(number).expect("few") + 1; 16]);
        let length = metrics.len();
        let answer = pushed(&mut client, id, (compression, metrics)).await;
        assert_eq!(answer, expected, "{length} bytes, compressed by {compression}");
    }
    let page = scrape(&server).await;
    let lines = of_clients(&page);
    let shown = lines.iter().filter(|line| line.starts_with("kafka_client_g{")).count();
    assert_eq!(shown, Compression::ALL.len(), "{lines:?}");
    server.stop().await;
}

/// Whether it is a line of OpenMetrics: a name, labels whose values are quoted, a number.
fn is_line(line: &str) -> bool {
    let is_name = |name: &str| {
        let mut bytes = name.bytes();
        bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic())
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let Some((name, mut rest)) = line.split_once('{') else { return false };
    if !is_name(name) {
        return false;
    }
    loop {
        let Some((key, behind)) = rest.split_once("=\"") else { return false };
        if !is_name(key) {
            return false;
        }
        let mut escaped = false;
        let end = behind.bytes().position(|byte| match byte {
            _ if escaped => {
                escaped = false;
                false
            }
            b'\\' => {
                escaped = true;
                false
            }
            byte => byte == b'"',
        });
        let Some(end) = end else { return false };
        rest = &behind[end + 1..];
        match rest.strip_prefix(',') {
            Some(next) => rest = next,
            None => break,
        }
    }
    rest.strip_prefix("} ").is_some_and(|number| number.parse::<f64>().is_ok_and(f64::is_finite))
}

#[tokio::test]
async fn names_that_are_made_up_break_no_line() {
    let (server, mut client) = start(ServerConfig::in_memory()).await;
    assert_eq!(set(&mut client, &[("metrics", "*")]).await, ErrorCode::None);
    let hostile = [
        "\n# EOF\n",
        "a\"} 1\nmillstream_topics 99\n",
        "\\",
        "a\\\"",
        "\r\n",
        "\u{1f980}\0",
        "{}",
        "millstream_topics",
    ];
    let mut metrics = Vec::new();
    for name in hostile {
        metrics.push(gauge(name, f64::NAN));
        metrics.push(metric(name, 5, &[point(1.0, &[(name, name)])]));
    }
    let resource: Vec<_> = hostile.iter().map(|name| (*name, *name)).collect();
    let metrics = push(&resource, &metrics);
    assert_eq!(pushed(&mut client, Uuid([1; 16]), (0, metrics)).await, ErrorCode::None);
    let page = scrape(&server).await;
    let lines = of_clients(&page);
    assert!(lines.len() > 5, "{lines:?}");
    for line in lines {
        assert!(is_line(line), "{line}");
    }
    assert!(page.contains("\nmillstream_topics 0\n"), "{page}");
    assert_eq!(page.lines().filter(|line| *line == "# EOF").count(), 1, "{page}");
    server.stop().await;
}

#[tokio::test]
async fn subscriptions_are_checked_told_and_survive_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let (server, mut client) = start(ServerConfig::in_directory(directory.path())).await;
    for (configs, expected) in [
        (("interval.ms", "99"), ErrorCode::InvalidRequest),
        (("interval.ms", "soon"), ErrorCode::InvalidRequest),
        (("intervals", "1"), ErrorCode::InvalidRequest),
        (("match", "client_id"), ErrorCode::InvalidConfig),
        (("match", "client_id=("), ErrorCode::InvalidConfig),
        (("match", "user=ann"), ErrorCode::InvalidConfig),
        (("match", "client_id=c"), ErrorCode::None),
        (("interval.ms", "100"), ErrorCode::None),
        (("metrics", "org.apache.kafka.producer."), ErrorCode::None),
    ] {
        assert_eq!(set(&mut client, &[configs]).await, expected, "{configs:?}");
    }
    let before = ask(&mut client, Uuid([7; 16])).await;
    server.stop().await;
    let (server, mut client) = start(ServerConfig::in_directory(directory.path())).await;
    let told = ask(&mut client, Uuid([7; 16])).await;
    assert_eq!(told, before);
    assert_eq!(told.push_interval_ms, 100);
    let listed = client.ask(0, ListConfigResourcesRequest::default()).await;
    let listed: Vec<_> =
        listed.config_resources.iter().map(|one| one.resource_name.as_str()).collect();
    assert_eq!(listed, ["s"]);
    server.stop().await;
}
