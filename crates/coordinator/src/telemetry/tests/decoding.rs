//! The decoder: what it reads, what it leaves out, and that nothing makes it fall.

use bolero::check;
use millstream_testkit::otlp::{
    bytes, counter, double, gauge, histogram, long, metric, point, push, text, varint,
};
use millstream_types::DecodeError;
use proptest::prelude::*;

use crate::telemetry::otlp::{
    ATTRIBUTES_MAX, BOUNDS_MAX, Figure, Histogram, POINTS_MAX, Point, Pushed, decode,
};

/// The figures of a push, in words, and how many are left out.
fn told(pushed: &Pushed<'_>) -> (Vec<String>, u64) {
    let tell = |point: &Point<'_>| {
        let figure = match &point.figure {
            Figure::Gauge(value) => format!("gauge {value}"),
            Figure::Counter(value) => format!("counter {value}"),
            Figure::Histogram(Histogram { sum, bounds, counts }) => {
                format!("histogram {sum} {counts:?} {bounds:?}")
            }
        };
        let attributes = point.attributes.iter();
        let attributes = attributes
            .map(|(key, value)| format!(" {}={value}", String::from_utf8_lossy(key)))
            .collect::<String>();
        let delta = if point.is_delta { " delta" } else { "" };
        format!("{} {figure}{delta}{attributes}", String::from_utf8_lossy(point.name))
    };
    (pushed.points.iter().map(tell).collect(), pushed.left_out)
}

#[test]
fn figures_are_read_and_what_is_not_needed_is_left_out() {
    let sum = |parts: &[Vec<u8>]| metric("s", 7, &[point(3.0, &[]), parts.concat()]);
    let one = |value: Vec<u8>| metric("g", 5, &[bytes(1, &value)]);
    let list = bytes(7, &[bytes(1, b"k"), bytes(2, &bytes(5, b""))].concat());
    let number = bytes(7, &[bytes(1, b"k"), bytes(2, &varint(3, u64::MAX))].concat());
    let flag = bytes(7, &[bytes(1, b"k"), bytes(2, &varint(2, 1))].concat());
    let cases: Vec<(Vec<u8>, &[&str], u64)> = vec![
        (gauge("g", 1.5), &["g gauge 1.5"], 0),
        (one(long(6, -7)), &["g gauge -7"], 0),
        (
            metric("g", 5, &[point(1.0, &[("a", "b")]), point(2.0, &[])]),
            &["g gauge 1 a=b", "g gauge 2"],
            0,
        ),
        (one([double(4, 1.0), number].concat()), &["g gauge 1 k=-1"], 0),
        (one([double(4, 1.0), flag].concat()), &["g gauge 1 k=true"], 0),
        (one([double(4, 1.0), list].concat()), &[], 1),
        (counter("c", 4.0, false), &["c counter 4"], 0),
        (counter("c", 4.0, true), &["c counter 4 delta"], 0),
        (counter("c", -4.0, true), &[], 1),
        (sum(&[varint(2, 2)]), &["s gauge 3"], 0),
        (sum(&[varint(2, 1)]), &["s gauge 3"], 0),
        (gauge("g", f64::NAN), &[], 1),
        (gauge("g", f64::INFINITY), &[], 1),
        (one(Vec::new()), &[], 1),
        (one([double(4, 1.0), varint(8, 1)].concat()), &[], 1),
        (histogram("h", 5.0, &[1, 2], &[10.0]), &["h histogram 5 [1, 2] [10.0]"], 0),
        (histogram("h", 5.0, &[1], &[10.0]), &[], 1),
        (histogram("h", 5.0, &[1, 2, 3], &[10.0, 10.0]), &[], 1),
        (histogram("h", 5.0, &[1, 2], &[f64::NAN]), &[], 1),
        (histogram("h", f64::NAN, &[1, 2], &[1.0]), &[], 1),
        (histogram("h", 5.0, &[-1, -1], &[1.0]), &[], 1),
        (
            metric("h", 9, &[bytes(1, &[long(4, 9), double(5, 2.0)].concat())]),
            &["h histogram 2 [9] []"],
            0,
        ),
        (metric("e", 10, &[point(1.0, &[])]), &[], 1),
        (metric("q", 11, &[point(1.0, &[])]), &[], 1),
        (bytes(2, &bytes(1, b"nothing")), &[], 0),
        (bytes(9, b"of a later release"), &[], 0),
    ];
    for (metric, expected, left_out) in cases {
        let push = push(&[], &[metric]);
        let pushed = decode(&push).expect("metrics");
        let expected = expected.iter().map(|line| (*line).to_owned()).collect();
        assert_eq!(told(&pushed), (expected, left_out));
    }
}

#[test]
fn a_resource_is_read_wherever_it_stands_and_the_first_of_a_name_counts() {
    let both = [push(&[("a", "1"), ("b", "2")], &[gauge("g", 1.0)]), push(&[("a", "3")], &[])];
    let both = both.concat();
    let pushed = decode(&both).expect("metrics");
    let resource: Vec<_> =
        pushed.resource.iter().map(|(key, value)| (*key, value.as_ref())).collect();
    assert_eq!(resource, [(&b"a"[..], "1"), (b"b", "2")]);
}

#[test]
fn what_is_no_message_is_an_error() {
    let invalid = DecodeError::Invalid { field: "OTLP metrics" };
    let truncated = DecodeError::Truncated { field: "OTLP metrics" };
    let cases = [
        (vec![0x0a, 5, 1], truncated),
        (vec![0x80], truncated),
        (vec![0xff; 11], invalid),
        // Field 0, a group, a type that there is not, and a resource that is a number.
        (vec![0x02, 0], invalid),
        (vec![0x0b], invalid),
        (vec![0x0f], invalid),
        (vec![0x08, 1], invalid),
        (vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], truncated),
    ];
    for (push, error) in cases {
        assert_eq!(decode(&push), Err(error), "{push:?}");
    }
}

#[test]
fn more_than_is_taken_is_left_out() {
    let points: Vec<_> = (0..POINTS_MAX + 7).map(|at| point(at as f64, &[])).collect();
    let many = push(&[], &[metric("g", 5, &points)]);
    let pushed = decode(&many).expect("metrics");
    assert_eq!((pushed.points.len(), pushed.left_out), (POINTS_MAX, 7));
    let attributes = vec![("k", "v"); ATTRIBUTES_MAX + 1];
    let wide = metric("g", 5, &[point(1.0, &attributes), point(1.0, &attributes[1..])]);
    let wide = push(&attributes, &[wide]);
    let pushed = decode(&wide).expect("metrics");
    assert_eq!((pushed.points.len(), pushed.left_out), (1, 1));
    let bounds: Vec<_> = (0..=BOUNDS_MAX).map(|bound| bound as f64).collect();
    let buckets = vec![1; BOUNDS_MAX + 2];
    let fine = histogram("h", 1.0, &buckets[1..], &bounds[1..]);
    let fine_and_not = push(&[], &[fine, histogram("h", 1.0, &buckets, &bounds)]);
    let pushed = decode(&fine_and_not).expect("metrics");
    assert_eq!((pushed.points.len(), pushed.left_out), (1, 1));
}

/// What holds of everything that is decoded.
fn is_sound(bytes: &[u8]) {
    let Ok(pushed) = decode(bytes) else { return };
    assert!(pushed.points.len() <= POINTS_MAX && pushed.resource.len() <= ATTRIBUTES_MAX);
    for point in &pushed.points {
        assert!(point.attributes.len() <= ATTRIBUTES_MAX);
        match &point.figure {
            Figure::Gauge(value) => assert!(value.is_finite() && !point.is_delta),
            Figure::Counter(value) => assert!(value.is_finite() && *value >= 0.0),
            Figure::Histogram(Histogram { sum, bounds, counts }) => {
                assert!(sum.is_finite() && counts.len() == bounds.len() + 1);
                assert!(bounds.len() <= BOUNDS_MAX && bounds.is_sorted());
            }
        }
    }
}

/// Fuzz target.
#[test]
fn no_bytes_make_it_fall() {
    let seed = push(
        &[("k", "v")],
        &[
            gauge("g", 1.0),
            counter("c", 2.0, true),
            histogram("h", 3.0, &[1, 2], &[4.0]),
            text(12, "m", "n"),
        ],
    );
    type Input = (Vec<(u16, u8)>, Vec<u8>);
    check!().with_type::<Input>().with_iterations(2_000).for_each(|(edits, raw)| {
        is_sound(raw);
        let mut edited = seed.clone();
        for (at, byte) in edits {
            let at = usize::from(*at) % edited.len();
            edited[at] = *byte;
        }
        is_sound(&edited);
    });
}

proptest! {
    #[test]
    fn no_proper_prefix_is_taken_for_the_whole(value: f64, cut in 1_usize..40) {
        let whole = push(&[("k", "v")], &[gauge("g", value)]);
        let shorter = &whole[..whole.len() - cut.min(whole.len() - 1)];
        prop_assert!(decode(&whole).is_ok());
        prop_assert!(decode(shorter).is_err());
    }
}
