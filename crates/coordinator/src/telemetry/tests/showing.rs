//! Names, labels, and what happens where they clash.

use millstream_testkit::otlp::{counter, gauge, histogram, metric, point, push};

use super::pushing::{all, at, client, id};
use crate::telemetry::{Batch, Matched, Push, Shown, Telemetry, families, otlp};

/// What one client pushes.
type Metrics<'a> = &'a [Vec<u8>];
/// What clients push, how many series of which name are shown, and how many are not.
type Case<'a> = (&'a [Metrics<'a>], &'a [(&'a str, usize)], u64);

fn wanting(prefixes: &[&str]) -> Matched {
    let metrics = prefixes.iter().map(|prefix| (*prefix).to_owned()).collect();
    Matched { id: 0, metrics, interval: std::time::Duration::from_secs(60) }
}

/// The series of a push, in words, and how many are left out.
fn told(metrics: &[Vec<u8>], prefixes: &[&str]) -> (Vec<String>, u64) {
    let push = push(&[], metrics);
    let batch = Batch::new(otlp::decode(&push).expect("metrics"), &wanting(prefixes));
    let series = batch.series.iter().map(|(series, _)| {
        let labels = series.labels.iter().map(|(key, value)| format!(" {key}={value}"));
        format!("{}{}", series.name, labels.collect::<String>())
    });
    (series.collect(), batch.left_out)
}

#[test]
fn names_and_labels_are_what_they_may_be() {
    let with = |attributes: &[(&str, &str)]| metric("g", 5, &[point(1.0, attributes)]);
    let long = "x".repeat(257);
    let cases: Vec<(Vec<u8>, &[&str], u64)> = vec![
        (
            gauge("org.apache.kafka.producer.record.send.rate", 1.0),
            &["kafka_client_producer_record_send_rate"],
            0,
        ),
        (
            counter("org.apache.kafka.producer.record.send.total", 1.0, false),
            &["kafka_client_producer_record_send"],
            0,
        ),
        (gauge("mine.total", 1.0), &["kafka_client_mine_total"], 0),
        (gauge("a{b=\"c\"} 1\n# EOF", 1.0), &["kafka_client_a_b__c___1___EOF"], 0),
        (gauge("\u{fc}", 1.0), &["kafka_client___"], 0),
        (gauge("", 1.0), &[], 1),
        (gauge(&long[..201], 1.0), &[], 1),
        (with(&[("b", "2"), ("a.b", "1")]), &["kafka_client_g a_b=1 b=2"], 0),
        (with(&[("a", "\n\"")]), &["kafka_client_g a=\n\""], 0),
        (
            with(&[("client_instance_id", "x"), ("le", "1"), ("__name__", "y"), ("9", "z")]),
            &["kafka_client_g tag_9=z tag___name__=y tag_client_instance_id=x tag_le=1"],
            0,
        ),
        (with(&[("a.b", "1"), ("a_b", "2")]), &[], 1),
        (with(&[("a", &long)]), &[], 1),
        (with(&[("", "1")]), &[], 1),
    ];
    for (metric, expected, left_out) in cases {
        let expected = expected.iter().map(|line| (*line).to_owned()).collect();
        assert_eq!(told(&[metric], &["*"]), (expected, left_out));
    }
}

#[test]
fn only_what_was_asked_for_is_shown_and_of_two_that_look_alike_the_last() {
    let metrics = [gauge("a.b", 1.0), gauge("a_b", 2.0), gauge("c", 3.0)];
    let cases: &[(&[&str], &[&str], u64)] = &[
        (&["*"], &["kafka_client_a_b", "kafka_client_c"], 0),
        (&["a."], &["kafka_client_a_b"], 2),
        (&["c", "d"], &["kafka_client_c"], 2),
        (&[], &[], 3),
    ];
    for (prefixes, expected, left_out) in cases {
        let expected = expected.iter().map(|line| (*line).to_owned()).collect();
        assert_eq!(told(&metrics, prefixes), (expected, *left_out));
    }
}

/// What several clients show, each after the one before.
fn shown(pushes: &[&[Vec<u8>]]) -> Vec<Shown> {
    let mut telemetry: Telemetry = all();
    for (number, metrics) in pushes.iter().enumerate().rev() {
        // The first to come has the largest id.
        let who = id(u32::try_from(number).expect("small"));
        let told = telemetry.ask(at(0), who, &client()).expect("told");
        let push_of = Push {
            id: who,
            subscription: told.id,
            terminating: false,
            can_be_read: true,
            bytes: 0,
        };
        telemetry.push(at(0), push_of, &client(), 1).expect("taken");
        let push = push(&[("group_id", "g"), ("user", "root")], metrics);
        let batch = Batch::new(otlp::decode(&push).expect("metrics"), &told);
        telemetry.keep(at(0), who, batch);
    }
    telemetry.show(at(0))
}

#[test]
fn who_comes_first_keeps_a_name() {
    let cases: &[Case<'_>] = &[
        (&[&[gauge("a", 1.0)], &[gauge("a", 2.0)]], &[("kafka_client_a", 2)], 0),
        (&[&[counter("a", 1.0, false)], &[gauge("a", 2.0)]], &[("kafka_client_a", 1)], 1),
        (
            &[&[counter("a", 1.0, false)], &[gauge("a.total", 2.0)]],
            &[("kafka_client_a_total", 1)],
            1,
        ),
        (
            &[&[gauge("h.count", 1.0)], &[histogram("h", 1.0, &[1], &[])]],
            &[("kafka_client_h", 1)],
            1,
        ),
        (&[&[gauge("info", 1.0)]], &[], 1),
    ];
    for (pushes, expected, left_out) in cases {
        let shown = shown(pushes);
        let (families, clashing) = families(&shown);
        let told: Vec<_> =
            families.iter().map(|family| (family.name, family.samples.len())).collect();
        assert_eq!((&*told, clashing), (*expected, *left_out));
    }
}

#[test]
fn what_a_client_says_of_itself_is_beside_what_is_known() {
    let shown = shown(&[&[gauge("a", 1.0)]]);
    let info: Vec<_> = shown[0].info.iter().map(|(key, value)| (&**key, &**value)).collect();
    let expected = [
        ("client_id", "orders-1"),
        ("user", "ann"),
        ("client_software_name", "librdkafka"),
        ("client_software_version", "2.11.0"),
        ("client_address", "192.0.2.7"),
        ("group_id", "g"),
        ("tag_user", "root"),
    ];
    assert_eq!(info, expected);
}
