//! Identifiers of clusters, topics, partitions, brokers and sessions.

use std::fmt;

/// Sixteen bytes that are never used twice. Written as Kafka writes them: URL-safe base64 without
/// padding, 22 characters.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub [u8; 16]);

/// The identity of a topic: new when a topic is created again under the same name, so that what
/// was stored for the old one can never be taken for the new one's.
pub type TopicId = Uuid;

/// The identity of a cluster, drawn once when its first data directory or bucket is made.
pub type ClusterId = Uuid;

/// One partition of one topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId {
    /// The topic's identity, never its name.
    pub topic: TopicId,
    /// The partition's number, from 0.
    pub index: i32,
}

/// A node, by the number that clients see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BrokerId(pub i32);

/// One run of one node, and of the journal it writes: rises by one each time a node starts or
/// takes over from another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const TEXT_LEN: usize = 22;

impl Uuid {
    /// All zero: Kafka's "no id".
    pub const NIL: Self = Self([0; 16]);

    /// Reads what [`fmt::Display`] writes; `None` when `text` is anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != TEXT_LEN {
            return None;
        }
        let mut value: u128 = 0;
        let mut spare = 0;
        for (at, byte) in text.bytes().enumerate() {
            let six = u128::try_from(ALPHABET.iter().position(|&letter| letter == byte)?).ok()?;
            if at < TEXT_LEN - 1 {
                value = (value << 6) | six;
            } else {
                // 22 letters hold 132 bits: the last letter's low four are not ours.
                value = (value << 2) | (six >> 4);
                spare = six & 0xf;
            }
        }
        (spare == 0).then(|| Self(value.to_be_bytes()))
    }

    /// Draws an id from sixteen random bytes (RFC 9562, version 4). Like Kafka, skips ids whose
    /// text starts with a dash, which command lines would take for an option: the first bit is
    /// cleared, which leaves 121 random bits.
    #[must_use]
    pub const fn from_random(mut bytes: [u8; 16]) -> Self {
        bytes[0] &= 0x7f;
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        Self(bytes)
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = u128::from_be_bytes(self.0);
        let mut text = [0_u8; TEXT_LEN];
        for (at, letter) in text.iter_mut().enumerate() {
            let six = if at < TEXT_LEN - 1 { value >> (122 - 6 * at) } else { value << 4 };
            *letter = ALPHABET[(six & 0x3f) as usize];
        }
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.index)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Display for BrokerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_is_what_kafka_writes() {
        // RFC 4648 base64url of the sixteen bytes, computed with Python's base64 module.
        let bytes = 0x0f5c_6a14_7c0e_4b9c_8d53_6f2f_0a9a_4e11_u128.to_be_bytes();
        assert_eq!(Uuid(bytes).to_string(), "D1xqFHwOS5yNU28vCppOEQ");
        assert_eq!(Uuid::NIL.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
    }

    #[test]
    fn parse_refuses_what_display_does_not_write() {
        for text in
            ["", "D1xqFHwOS5yNU28vCppOE", "D1xqFHwOS5yNU28vCppOER", "D1xqFHwOS5yNU28vCppO+Q"]
        {
            assert_eq!(Uuid::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn parse_reverses_display(bytes: [u8; 16]) {
            prop_assert_eq!(Uuid::parse(&Uuid(bytes).to_string()), Some(Uuid(bytes)));
        }

        #[test]
        fn random_ids_never_start_with_a_dash(bytes: [u8; 16]) {
            prop_assert!(!Uuid::from_random(bytes).to_string().starts_with('-'));
        }
    }
}
