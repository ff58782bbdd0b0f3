//! The one thing that a coordinator reads in what consumers say for their protocol: their topics.
//!
//! ```text
//! subscription, any version: version i16, topics [string], then what newer versions add
//! ```

use std::collections::BTreeSet;

use bytes::Bytes;
use millstream_types::{Cursor, DecodeError};

/// The protocol type of groups of consumers.
pub(super) const PROTOCOL_TYPE: &str = "consumer";

/// All topics that any of the members reads; `None` when what one says cannot be read.
pub(super) fn topics_of_all(said: impl Iterator<Item = Bytes>) -> Option<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    for subscription in said {
        topics_into(&mut all, &subscription).ok()?;
    }
    Some(all)
}

fn topics_into(all: &mut BTreeSet<String>, subscription: &[u8]) -> Result<(), DecodeError> {
    let mut cursor = Cursor::new(subscription);
    let version = cursor.i16("version")?;
    if version < 0 {
        return Err(DecodeError::Invalid { field: "version" });
    }
    let count = cursor.i32("topics")?;
    if count < 0 {
        return Err(DecodeError::Invalid { field: "topics" });
    }
    for _ in 0..count {
        let len = usize::try_from(cursor.i16("topic")?)
            .map_err(|_| DecodeError::Invalid { field: "topic" })?;
        let topic = std::str::from_utf8(cursor.bytes(len, "topic")?)
            .map_err(|_| DecodeError::Invalid { field: "topic" })?;
        all.insert(topic.to_owned());
    }
    Ok(())
}
