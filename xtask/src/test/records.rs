//! The records of every shape that each client produces and all others read.

use serde_json::{Value, json};

/// Size of the large records, in bytes.
const LARGE: usize = 900 * 1024;

/// A record, and what a client must be able to do to produce it.
struct Shape {
    needs: &'static str,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(&'static str, Option<Vec<u8>>)>,
}

fn shape(needs: &'static str, key: Option<&[u8]>, value: Option<&[u8]>) -> Shape {
    Shape {
        needs,
        key: key.map(<[u8]>::to_vec),
        value: value.map(<[u8]>::to_vec),
        headers: Vec::new(),
    }
}

impl Shape {
    fn with(mut self, name: &'static str, value: Option<&[u8]>) -> Self {
        self.headers.push((name, value.map(<[u8]>::to_vec)));
        self
    }
}

/// The records that a client which lacks the abilities in `cannot` produces, as its program reads
/// them: a JSON list, bytes in hex. Each is stamped one millisecond after the one before, from
/// `base` (milliseconds since 1970), unless the client can't set `timestamps`.
pub(crate) fn records(cannot: &[&str], base: u64) -> Value {
    let able = |shape: &Shape| !cannot.contains(&shape.needs);
    let stamped = !cannot.contains(&"timestamps");
    let record = |(at, shape): (u64, Shape)| {
        let headers: Vec<Value> = shape
            .headers
            .iter()
            .map(|(name, value)| json!([name, value.as_deref().map(hex)]))
            .collect();
        json!({
            "key": shape.key.as_deref().map(hex),
            "value": shape.value.as_deref().map(hex),
            "headers": headers,
            "timestamp": stamped.then_some(base + at),
        })
    };
    (0..).zip(shapes().into_iter().filter(able)).map(record).collect()
}

fn shapes() -> Vec<Shape> {
    let bytes: Vec<u8> = (0..=255).collect();
    let compressible: Vec<u8> =
        b"an upland river turns the wheel; ".iter().copied().cycle().take(LARGE).collect();
    let mut shapes = vec![
        shape("", Some(b"plain"), Some(b"a value")),
        shape("", None, Some(b"without a key")),
        shape("", Some(b"null value"), None),
        shape("empty-value", Some(b"empty value"), Some(b"")),
        shape("empty-key", Some(b""), Some(b"an empty key")),
        shape("", Some(b"headers"), Some(b"three, one name twice"))
            .with("a", Some(b"first"))
            .with("a", Some(b"second"))
            .with("b", Some(b"third")),
        shape("", Some(b"empty header"), Some(b"v")).with("empty", Some(b"")),
        shape("null-header", Some(b"null header"), Some(b"v")).with("null", None),
        shape("binary", Some(&bytes), Some(&bytes)),
        shape("binary-header", Some(b"binary header"), Some(b"v")).with("bytes", Some(&bytes)),
        shape("", Some("ключ".as_bytes()), Some("значение 値 🌾".as_bytes()))
            .with("ñ", Some("ö".as_bytes())),
        shape("", Some(b"large, compressible"), Some(&compressible)),
        shape("binary", Some(b"large, not compressible"), Some(&noise(LARGE))),
    ];
    for i in 0..50 {
        shapes.push(shape(
            "",
            Some(format!("key {i}").as_bytes()),
            Some(format!("value {i}").as_bytes()),
        ));
    }
    shapes
}

/// Bytes that no codec makes smaller (xorshift).
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(cannot: &[&str]) -> Vec<Value> {
        records(cannot, 1_000).as_array().expect("a list").clone()
    }

    #[test]
    fn what_a_client_cannot_do_is_left_out() {
        let (all, fewer) = (list(&[]), list(&["binary", "timestamps"]));
        assert_eq!(all.len(), fewer.len() + 2);
        assert_eq!(all[3]["timestamp"], 1_003);
        assert!(fewer.iter().all(|record| record["timestamp"].is_null()));
    }

    #[test]
    fn null_and_empty_differ() {
        let all = list(&[]);
        let value_of = |key: &str| {
            let key = hex(key.as_bytes());
            all.iter().find(|record| record["key"] == *key).expect("a record")["value"].clone()
        };
        assert_eq!(value_of("null value"), Value::Null);
        assert_eq!(value_of("empty value"), "");
    }

    #[test]
    fn large_records_have_their_size() {
        let large =
            |record: &&Value| record["value"].as_str().is_some_and(|hex| hex.len() == 2 * LARGE);
        assert_eq!(list(&[]).iter().filter(large).count(), 2);
    }
}
