//! Metrics of clients as OTLP, written field by field: what the decoder has to read.

use millstream_types::varint::put_unsigned;

/// A field of bytes, or a message.
#[must_use]
pub fn bytes(number: u64, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_unsigned(&mut out, number << 3 | 2);
    put_unsigned(&mut out, value.len() as u64);
    out.extend(value);
    out
}

/// A field with a number.
#[must_use]
pub fn varint(number: u64, value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    put_unsigned(&mut out, number << 3);
    put_unsigned(&mut out, value);
    out
}

/// A field with a double.
#[must_use]
pub fn double(number: u64, value: f64) -> Vec<u8> {
    fixed(number, value.to_le_bytes())
}

/// A field with eight bytes of a number.
#[must_use]
pub fn long(number: u64, value: i64) -> Vec<u8> {
    fixed(number, value.to_le_bytes())
}

fn fixed(number: u64, value: [u8; 8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_unsigned(&mut out, number << 3 | 1);
    out.extend(value);
    out
}

/// A `KeyValue` with text, as field `number`.
#[must_use]
pub fn text(number: u64, key: &str, value: &str) -> Vec<u8> {
    let value = bytes(2, &bytes(1, value.as_bytes()));
    bytes(number, &[bytes(1, key.as_bytes()), value].concat())
}

/// A `NumberDataPoint`, as a field of `Gauge` and `Sum`.
#[must_use]
pub fn point(value: f64, attributes: &[(&str, &str)]) -> Vec<u8> {
    let attributes: Vec<u8> =
        attributes.iter().flat_map(|(key, value)| text(7, key, value)).collect();
    bytes(1, &[double(4, value), attributes].concat())
}

/// A `Metric`; `kind` is the number of its kind's field.
#[must_use]
pub fn metric(name: &str, kind: u64, parts: &[Vec<u8>]) -> Vec<u8> {
    bytes(2, &[bytes(1, name.as_bytes()), bytes(kind, &parts.concat())].concat())
}

/// A metric that goes up and down.
#[must_use]
pub fn gauge(name: &str, value: f64) -> Vec<u8> {
    metric(name, 5, &[point(value, &[])])
}

/// A sum that grows.
#[must_use]
pub fn counter(name: &str, value: f64, is_delta: bool) -> Vec<u8> {
    let temporality = varint(2, if is_delta { 1 } else { 2 });
    metric(name, 7, &[point(value, &[]), temporality, varint(3, 1)])
}

/// A histogram: its sum, values in each bucket, and upper bounds.
#[must_use]
pub fn histogram(name: &str, sum: f64, counts: &[i64], bounds: &[f64]) -> Vec<u8> {
    let counts: Vec<u8> = counts.iter().flat_map(|count| long(6, *count)).collect();
    let packed: Vec<u8> = bounds.iter().flat_map(|bound| bound.to_le_bytes()).collect();
    let point = [double(5, sum), counts, bytes(7, &packed)].concat();
    metric(name, 9, &[bytes(1, &point), varint(2, 2)])
}

/// `MetricsData` of one resource, whose attributes come last.
#[must_use]
pub fn push(resource: &[(&str, &str)], metrics: &[Vec<u8>]) -> Vec<u8> {
    let resource: Vec<u8> = resource.iter().flat_map(|(key, value)| text(1, key, value)).collect();
    let scope = bytes(2, &metrics.concat());
    bytes(1, &[scope, bytes(1, &resource)].concat())
}
