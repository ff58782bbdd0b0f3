//! Who is asked for what, and who may push when.

use std::net::SocketAddr;
use std::time::Duration;

use millstream_testkit::otlp::{counter, gauge, push};
use millstream_types::{Monotonic, Uuid};

use crate::config::Overrides;
use crate::telemetry::otlp::Figure;
use crate::telemetry::{Batch, Client, INSTANCES_MAX, Matched, Push, Refused, Telemetry, otlp};

const MINUTE: u64 = 60;

/// What is set on a subscription.
type Configs<'a> = &'a [(&'a str, &'a str)];
/// Subscriptions, and what a client is asked for: metrics, and how often.
type Case<'a> = (&'a [Configs<'a>], (&'a [&'a str], u64));

pub(super) fn at(seconds: u64) -> Monotonic {
    Monotonic(1_000_000_000 * (1_000 + seconds))
}

pub(super) fn id(number: u32) -> Uuid {
    Uuid((u128::from(number) + 1).to_be_bytes())
}

pub(super) fn client() -> Client {
    let address: SocketAddr = "192.0.2.7:4711".parse().expect("an address");
    Client::new("ann", "orders-1", Some(("librdkafka", "2.11.0")), Some(address))
}

pub(super) fn set(telemetry: &mut Telemetry, name: &str, configs: &[(&str, &str)]) {
    let overrides: Overrides =
        configs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    telemetry.set_subscription(name, &overrides);
}

/// Everything, every minute.
pub(super) fn all() -> Telemetry {
    let mut telemetry = Telemetry::new(1 << 20);
    set(&mut telemetry, "all", &[("metrics", "*"), ("interval.ms", "60000")]);
    telemetry
}

fn a_push(who: Uuid, matched: &Matched) -> Push {
    Push { id: who, subscription: matched.id, terminating: false, can_be_read: true, bytes: 10 }
}

#[test]
fn a_client_is_asked_for_what_the_subscriptions_that_fit_want_together() {
    let default: (&[&str], u64) = (&[], 300_000);
    let cases: &[Case<'_>] = &[
        (&[], default),
        (&[&[("metrics", "a.,b.")]], (&["a.", "b."], 300_000)),
        (
            &[&[("metrics", "b.,a."), ("interval.ms", "900")], &[("metrics", "b.")]],
            (&["a.", "b."], 900),
        ),
        (
            &[&[("metrics", "a.")], &[("metrics", "*"), ("interval.ms", "3600000")]],
            (&["*"], 300_000),
        ),
        (&[&[("metrics", "a."), ("match", "client_id=orders-.*")]], (&["a."], 300_000)),
        (&[&[("metrics", "a."), ("match", "client_id=orders-")]], default),
        (
            &[&[
                ("metrics", "a."),
                ("match", "client_software_name=librdkafka,client_software_version=2\\..*"),
            ]],
            (&["a."], 300_000),
        ),
        (
            &[&[
                ("metrics", "a."),
                ("match", "client_software_name=librdkafka,client_software_version=1\\..*"),
            ]],
            default,
        ),
        (
            &[&[
                ("metrics", "a."),
                ("match", "client_source_address=192\\.0\\.2\\.[0-9]+,client_source_port=4711"),
            ]],
            (&["a."], 300_000),
        ),
        (&[&[("metrics", "a."), ("match", "client_source_port=471")]], default),
        (&[&[("metrics", "a."), ("match", "client_instance_id=A.*AQ")]], (&["a."], 300_000)),
    ];
    for (subscriptions, (metrics, interval)) in cases {
        let mut telemetry = Telemetry::new(1 << 20);
        for (number, configs) in subscriptions.iter().enumerate() {
            set(&mut telemetry, &number.to_string(), configs);
        }
        let told = telemetry.ask(at(0), id(0), &client()).expect("told");
        let told_metrics: Vec<_> = told.metrics.iter().map(String::as_str).collect();
        assert_eq!((&*told_metrics, told.interval.as_millis()), (*metrics, u128::from(*interval)));
    }
    let mut telemetry = Telemetry::new(1 << 20);
    set(&mut telemetry, "s", &[("metrics", "a."), ("match", "client_source_address=.*")]);
    let inside = Client::new("ann", "c", None, None);
    assert!(telemetry.ask(at(0), id(0), &inside).expect("told").metrics.is_empty());
}

/// `(int) crc32c("[*]60000") ^ id.hashCode()`, computed with Python.
#[test]
fn the_number_of_what_is_asked_for_is_kafkas_and_survives_a_restart() {
    let cases = [
        (id(0), 8_205_842),
        (id(7), 8_205_851),
        (Uuid([0xab; 16]), 8_205_843),
        (Uuid(*b"0123456789abcdef"), 1_596_208_659),
        (Uuid(0x0123_4567_89ab_cdef_0f1e_2d3c_4b5a_6978_u128.to_be_bytes()), -860_751_137),
    ];
    for (who, number) in cases {
        assert_eq!(all().ask(at(0), who, &client()).expect("told").id, number, "{who}");
    }
}

#[test]
fn requests_come_in_their_time() {
    let mut telemetry = all();
    let (who, me) = (id(0), client());
    let told = telemetry.ask(at(0), who, &me).expect("the first time");
    assert_eq!(telemetry.ask(at(59), who, &me), Err(Refused::Early));
    let mut push = |seconds, push| telemetry.push(at(seconds), push, &me, 100).err();
    // Half an interval after it has asked: clients spread their first pushes.
    assert_eq!(push(30, a_push(who, &told)), None);
    assert_eq!(push(89, a_push(who, &told)), Some(Refused::Early));
    assert_eq!(push(90, a_push(who, &told)), None);
    assert_eq!(push(91, Push { terminating: true, ..a_push(who, &told) }), None);
    assert_eq!(push(200, a_push(who, &told)), Some(Refused::Invalid), "it has said that it ends");
    assert_eq!(push(201, a_push(Uuid::NIL, &told)), Some(Refused::Invalid));
    let other = Client { user: "bob".into(), ..client() };
    assert_eq!(telemetry.ask(at(202), who, &other), Err(Refused::Invalid), "it is somebody else's");
    assert_eq!(telemetry.counts().refused, 5);
}

#[test]
fn a_push_that_is_wrong_is_told_so_in_kafkas_order() {
    let told = all().ask(at(0), id(0), &client()).expect("told");
    let right = a_push(id(0), &told);
    let wrong = Push { subscription: 7, can_be_read: false, bytes: 101, ..right };
    let cases = [
        (right, None),
        (Push { bytes: 100, ..right }, None),
        (Push { bytes: 101, ..right }, Some(Refused::TooLarge)),
        (Push { can_be_read: false, bytes: 101, ..right }, Some(Refused::Compression)),
        (wrong, Some(Refused::UnknownSubscription)),
        (Push { id: Uuid::NIL, ..wrong }, Some(Refused::Invalid)),
    ];
    for (push, refused) in cases {
        // An instance that is not known, as after a restart, is known from then on.
        assert_eq!(all().push(at(0), push, &client(), 100).err(), refused, "{push:?}");
    }
}

#[test]
fn who_is_told_to_ask_again_may_do_so_at_once() {
    let mut telemetry = all();
    let (who, me) = (id(0), client());
    let told = telemetry.ask(at(0), who, &me).expect("told");
    set(&mut telemetry, "more", &[("metrics", "*"), ("interval.ms", "30000")]);
    let refused = telemetry.push(at(10), a_push(who, &told), &me, 100);
    assert_eq!(refused, Err(Refused::UnknownSubscription));
    let told = telemetry.ask(at(10), who, &me).expect("told anew");
    assert_eq!(told.interval, Duration::from_secs(30));
    assert_eq!(telemetry.ask(at(11), who, &me), Err(Refused::Early), "once");
    assert_eq!(telemetry.push(at(12), a_push(who, &told), &me, 100).err(), None);
    set(&mut telemetry, "more", &[]);
    assert_eq!(telemetry.ask(at(13), who, &me).expect("told").interval.as_secs(), MINUTE);
}

fn keep(telemetry: &mut Telemetry, seconds: u64, who: Uuid, metrics: &[Vec<u8>]) {
    let told = telemetry.ask(at(seconds), who, &client()).expect("told");
    let told = telemetry.push(at(seconds), a_push(who, &told), &client(), 1_000).expect("taken");
    let push = push(&[], metrics);
    let batch = Batch::new(otlp::decode(&push).expect("metrics"), &told);
    telemetry.keep(at(seconds), who, batch);
}

fn figures(telemetry: &mut Telemetry, seconds: u64) -> Vec<Figure> {
    let shown = telemetry.show(at(seconds));
    shown.iter().flat_map(|one| one.series.iter().map(|series| series.figure.clone())).collect()
}

#[test]
fn who_is_silent_for_three_intervals_is_shown_no_longer() {
    let mut telemetry = all();
    keep(&mut telemetry, 0, id(0), &[gauge("g", 1.0)]);
    keep(&mut telemetry, 60, id(1), &[gauge("g", 2.0)]);
    let expected = [(179, vec![1.0, 2.0]), (180, vec![2.0]), (239, vec![2.0]), (240, vec![])];
    for (seconds, expected) in expected {
        let expected: Vec<_> = expected.into_iter().map(Figure::Gauge).collect();
        assert_eq!(figures(&mut telemetry, seconds), expected, "{seconds}");
    }
    let counts = telemetry.counts();
    assert_eq!((counts.instances, counts.bytes, counts.pushes), (0, 0, 2));
}

#[test]
fn a_push_takes_the_place_of_the_one_before_and_what_counts_from_it_is_added_up() {
    let mut telemetry = all();
    let both = |value, is_delta| [gauge("g", value), counter("c", value, is_delta)];
    let steps = [
        (both(1.0, true), 1.0),
        (both(2.0, true), 3.0),
        (both(9.0, false), 9.0),
        (both(1.0, true), 10.0),
    ];
    for (step, (metrics, sum)) in steps.into_iter().enumerate() {
        let seconds = 60 * step as u64;
        keep(&mut telemetry, seconds, id(0), &metrics);
        let shown = figures(&mut telemetry, seconds);
        assert!(
            matches!(shown[..], [Figure::Counter(all), Figure::Gauge(_)] if all == sum),
            "{shown:?}"
        );
    }
    keep(&mut telemetry, 240, id(0), &[gauge("g", 1.0)]);
    assert_eq!(figures(&mut telemetry, 240), [Figure::Gauge(1.0)]);
}

#[test]
fn names_that_are_made_up_take_no_more_memory_than_they_may() {
    let mut telemetry = Telemetry::new(32 * 1024);
    set(&mut telemetry, "all", &[("metrics", "*"), ("interval.ms", "60000")]);
    let many: Vec<_> = (0..1_000).map(|number| gauge(&format!("g{number}"), 1.0)).collect();
    for number in 0..100 {
        keep(&mut telemetry, 0, id(number), &many);
    }
    let counts = telemetry.counts();
    assert!(counts.bytes <= 32 * 1024, "{counts:?}");
    let shown = telemetry.show(at(0));
    let of_first = shown[0].series.len();
    assert!((10..1_000).contains(&of_first), "one has no more than its share: {of_first}");
    let all: usize = shown.iter().map(|one| one.series.len()).sum();
    assert_eq!(counts.left_out, 100_000 - all as u64);
}

#[test]
fn there_are_no_more_instances_than_are_kept() {
    let mut telemetry = all();
    for number in 0..=INSTANCES_MAX {
        let number = u32::try_from(number).expect("small");
        telemetry.ask(at(u64::from(number / 1_000)), id(number), &client()).expect("told");
    }
    assert_eq!(telemetry.counts().instances, INSTANCES_MAX);
    let mut again = |number| telemetry.ask(at(20), id(number), &client()).err();
    assert_eq!(again(1), Some(Refused::Early), "it is known");
    assert_eq!(again(0), None, "it was forgotten");
}
