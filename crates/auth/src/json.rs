//! JSON as tokens and key sets hold it, read strictly: where a name stands twice, one reader would take the
//! first value and another the last, and whoever has signed may have meant the other.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

/// Names and values of an object.
pub(crate) type Object = BTreeMap<String, Json>;

/// A value.
#[derive(Clone, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool,
    Number(f64),
    Text(String),
    List(Vec<Json>),
    Object(Object),
}

/// Reads one object and nothing besides. `None` for everything else: what names something twice, and what is
/// nested more than 127 deep.
pub(crate) fn object(bytes: &[u8]) -> Option<Object> {
    match serde_json::from_slice(bytes) {
        Ok(Json::Object(object)) => Some(object),
        _ => None,
    }
}

impl Json {
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn list(&self) -> Option<&[Self]> {
        match self {
            Self::List(list) => Some(list),
            _ => None,
        }
    }

    /// A text, or all of a list of texts; `None` where anything else is in it.
    pub(crate) fn texts(&self) -> Option<Vec<&str>> {
        match self {
            Self::Text(text) => Some(vec![text]),
            Self::List(list) => list.iter().map(Self::text).collect(),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Json, E> {
        Ok(Json::Bool)
    }

    fn visit_i64<E>(self, number: i64) -> Result<Json, E> {
        Ok(Json::Number(number as f64))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
        Ok(Json::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Json, E> {
        Ok(Json::Number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Json, A::Error> {
        let mut object = Object::new();
        while let Some((name, value)) = pairs.next_entry::<String, Json>()? {
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("a name stands twice"));
            }
        }
        Ok(Json::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_object_is_read_that_means_the_same_to_everybody() {
        for (text, is_read) in [
            ("{}", true),
            (r#" {"a": [1, -1.5, "x", null, true, {"a": 1}]} "#, true),
            (r#"{"a": 1, "b": 1}"#, true),
            (r#"{"a": 1, "a": 1}"#, false),
            (r#"{"a": 1, "\u0061": 2}"#, false),
            (r#"{"a": {"b": 1, "b": 2}}"#, false),
            (r#"{"a": [{"b": 1, "b": 2}]}"#, false),
            ("{} {}", false),
            ("[]", false),
            ("1", false),
            ("", false),
            (r#"{"a": 1"#, false),
            (r#"{"a": NaN}"#, false),
            (r#"{"a": 1,}"#, false),
        ] {
            assert_eq!(object(text.as_bytes()).is_some(), is_read, "{text}");
        }
        assert!(object(b"{\"a\": \"\xff\"}").is_none());
        let deep = |depth| format!("{{\"a\":{}1{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(object(deep(100).as_bytes()).is_some());
        assert!(object(deep(1_000_000).as_bytes()).is_none());
    }
}
