//! Records as JSON, one to a line, both ways.
//!
//! Keys, values and headers are bytes. Those that are UTF-8 are strings; the others are objects
//! `{"base64": "..."}`; null is null.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Bytes as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "keys and values are text in quotes, {\"base64\":\"...\"} or null")]
pub(crate) enum Blob {
    Text(String),
    Binary { base64: String },
}

/// A header as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HeaderJson {
    pub(crate) key: String,
    #[serde(default)]
    pub(crate) value: Option<Blob>,
}

/// A record that was read.
#[derive(Debug, Serialize)]
pub(crate) struct RecordOut<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    /// Milliseconds since 1970.
    pub(crate) timestamp: i64,
    pub(crate) key: Option<Blob>,
    pub(crate) value: Option<Blob>,
    pub(crate) headers: Vec<HeaderJson>,
}

/// A record to be written. What `consume --json` shows can be read; topic and offset don't count.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecordIn {
    #[serde(default)]
    pub(crate) key: Option<Blob>,
    #[serde(default)]
    pub(crate) value: Option<Blob>,
    #[serde(default)]
    pub(crate) headers: Headers,
    #[serde(default)]
    pub(crate) partition: Option<i32>,
    #[serde(default)]
    pub(crate) timestamp: Option<When>,
    #[serde(default, rename = "topic")]
    _topic: serde::de::IgnoredAny,
    #[serde(default, rename = "offset")]
    _offset: serde::de::IgnoredAny,
}

/// Headers, which may be repeated, or an object, where they can't be.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(
    untagged,
    expecting = "headers are an object of texts, or a list of {\"key\":\"...\",\"value\":\"...\"}"
)]
pub(crate) enum Headers {
    List(Vec<HeaderJson>),
    Map(std::collections::BTreeMap<String, Option<Blob>>),
}

/// A time in milliseconds since 1970, or as text.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "a timestamp is milliseconds since 1970, or a time in quotes")]
pub(crate) enum When {
    Milliseconds(i64),
    Text(String),
}

impl Default for Headers {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

impl Headers {
    pub(crate) fn into_list(self) -> Vec<HeaderJson> {
        match self {
            Self::List(list) => list,
            Self::Map(map) => {
                map.into_iter().map(|(key, value)| HeaderJson { key, value }).collect()
            }
        }
    }
}

impl Blob {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Binary { base64: encode_base64(bytes) },
        }
    }

    /// The bytes; `None` when they are not base64.
    pub(crate) fn into_bytes(self) -> Option<Bytes> {
        match self {
            Self::Text(text) => Some(text.into()),
            Self::Binary { base64 } => decode_base64(&base64).map(Bytes::from),
        }
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// RFC 4648, with padding.
fn encode_base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let whole = (0..3)
            .fold(0_u32, |sum, at| (sum << 8) | u32::from(three.get(at).copied().unwrap_or(0)));
        for at in 0..4 {
            let six = (whole >> (18 - 6 * at)) & 0x3f;
            let letter = ALPHABET.get(six as usize).copied().unwrap_or(b'=');
            text.push(if at <= three.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let letters = text.trim_end_matches('=');
    let padding = text.len() - letters.len();
    let bits_left = letters.len() * 6 % 8;
    if padding > 2 || letters.len() % 4 == 1 || !text.len().is_multiple_of(4) {
        return None;
    }
    let (mut bytes, mut held, mut bits) = (Vec::with_capacity(letters.len() * 3 / 4), 0_u32, 0);
    for letter in letters.bytes() {
        let six = ALPHABET.iter().position(|&each| each == letter)?;
        held = (held << 6) | u32::try_from(six).ok()?;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from((held >> bits) & 0xff).ok()?);
        }
    }
    // Bits that belong to no byte have to be zero: one text for each sequence of bytes.
    (held & ((1 << bits_left) - 1) == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn base64_is_rfc_4648s() {
        for (bytes, text) in [
            (&b""[..], ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"foobar", "Zm9vYmFy"),
            (&[0xff, 0xfe, 0xfb], "//77"),
        ] {
            assert_eq!(encode_base64(bytes), text);
            assert_eq!(decode_base64(text).as_deref(), Some(bytes));
        }
        for text in ["Z", "Zg", "Zg=", "Zh==", "Zm9v!", "=", "====", "Zg==Zg==", "Zm9vY==="] {
            assert_eq!(decode_base64(text), None, "{text}");
        }
    }

    #[track_caller]
    fn read(json: &str) -> RecordIn {
        serde_json::from_str(json).unwrap()
    }

    fn text(text: &str) -> Option<Blob> {
        Some(Blob::Text(text.to_owned()))
    }

    #[test]
    fn records_are_read() {
        assert_eq!(read("{}"), RecordIn::default());
        let record = read(r#"{"key":"k","value":null,"partition":3,"timestamp":17}"#);
        assert_eq!((record.key, record.value), (text("k"), None));
        assert_eq!((record.partition, record.timestamp), (Some(3), Some(When::Milliseconds(17))));
        let record = read(r#"{"value":{"base64":"//77"},"timestamp":"2026-01-31"}"#);
        assert_eq!(record.value.unwrap().into_bytes().unwrap(), [0xff, 0xfe, 0xfb].as_slice());
        assert_eq!(record.timestamp, Some(When::Text("2026-01-31".to_owned())));
    }

    #[test]
    fn headers_are_a_list_or_an_object() {
        let list = read(r#"{"headers":[{"key":"a","value":"1"},{"key":"a"}]}"#).headers;
        let header = |key: &str, value| HeaderJson { key: key.to_owned(), value };
        assert_eq!(list.into_list(), [header("a", text("1")), header("a", None)]);
        let map = read(r#"{"headers":{"b":"2","c":null}}"#).headers;
        let expected = BTreeMap::from([("b".to_owned(), text("2")), ("c".to_owned(), None)]);
        assert_eq!(map, Headers::Map(expected));
        assert_eq!(map.into_list(), [header("b", text("2")), header("c", None)]);
    }

    #[test]
    fn what_consume_shows_produce_reads() {
        let out = RecordOut {
            topic: "t",
            partition: 1,
            offset: 7,
            timestamp: 5,
            key: None,
            value: Some(Blob::new(b"\xff")),
            headers: vec![HeaderJson { key: "h".to_owned(), value: text("v") }],
        };
        let json = serde_json::to_string(&out).unwrap();
        let expected = r#"{"topic":"t","partition":1,"offset":7,"timestamp":5,"key":null,"#;
        assert!(json.starts_with(expected), "{json}");
        let record = read(&json);
        assert_eq!(record.value, Some(Blob::Binary { base64: "/w==".to_owned() }));
        assert_eq!(record.headers.into_list(), out.headers);
    }

    #[test]
    fn what_is_misspelt_is_refused() {
        let error = serde_json::from_str::<RecordIn>(r#"{"vlaue":"x"}"#).unwrap_err();
        assert!(error.to_string().starts_with("unknown field `vlaue`"), "{error}");
    }

    #[test]
    fn what_is_of_another_kind_is_explained() {
        for (json, expected) in [
            (r#"{"value":1}"#, "keys and values are text in quotes, {\"base64\":\"...\"} or null"),
            (r#"{"key":{"a":"b"}}"#, "keys and values are text in quotes"),
            (r#"{"headers":"x"}"#, "headers are an object of texts, or a list of"),
            (
                r#"{"timestamp":true}"#,
                "a timestamp is milliseconds since 1970, or a time in quotes",
            ),
        ] {
            let error = serde_json::from_str::<RecordIn>(json).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{json}: {error}");
        }
    }
}
