//! Every limit in one place, each with its unit and its reason.

/// A request frame larger than this is refused before it is read, in bytes (Kafka's
/// `socket.request.max.bytes`).
pub const REQUEST_BYTES_MAX: usize = 100 * 1024 * 1024;

/// A record batch larger than this is refused unless the topic says otherwise, in bytes (Kafka's
/// `max.message.bytes`).
pub const BATCH_BYTES_MAX: usize = 1_048_588;

/// No batch may ever be larger, whatever a topic says, in bytes: it must fit a request, and a
/// decompressed one must fit memory.
pub const BATCH_BYTES_CEILING: usize = REQUEST_BYTES_MAX;

/// A topic's name, in characters (Kafka's `Topic.MAX_NAME_LENGTH`).
pub const TOPIC_NAME_LEN_MAX: usize = 249;

const _: () = assert!(BATCH_BYTES_MAX <= BATCH_BYTES_CEILING);

/// Up to so many bytes are decompressed right where they are needed, which takes a few milliseconds
/// at most; more are decompressed where nobody else is held up.
pub const DECOMPRESSED_AT_ONCE_MAX: usize = 1024 * 1024;
