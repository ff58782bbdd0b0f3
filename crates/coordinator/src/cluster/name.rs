//! What a topic may be called (Kafka's `Topic.validate`).

use std::fmt;

use millstream_types::limits::TOPIC_NAME_LEN_MAX;

/// Why a name is not one for a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// It is empty.
    Empty,
    /// It is `.` or `..`.
    Dots,
    /// It is longer than [`TOPIC_NAME_LEN_MAX`].
    TooLong,
    /// It has a character other than ASCII letters, digits, `.`, `_` and `-`.
    Character(char),
}

/// Whether `name` may name a topic.
///
/// # Errors
///
/// Says what is wrong with it.
pub fn check_name(name: &str) -> Result<(), NameError> {
    let legal = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() {
        Err(NameError::Empty)
    } else if name == "." || name == ".." {
        Err(NameError::Dots)
    } else if name.len() > TOPIC_NAME_LEN_MAX {
        Err(NameError::TooLong)
    } else if let Some(wrong) = name.chars().find(|c| !legal(c)) {
        Err(NameError::Character(wrong))
    } else {
        Ok(())
    }
}

/// Names that become the same metric name in Kafka's tools must not exist side by side: those with
/// the same key. Names without `.` and `_` collide with none.
pub(super) fn collision_key(name: &str) -> Option<String> {
    name.contains(['.', '_']).then(|| name.replace('.', "_"))
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a topic needs a name"),
            Self::Dots => f.write_str("a topic can't be named `.` or `..`"),
            Self::TooLong => {
                write!(f, "a topic's name has at most {TOPIC_NAME_LEN_MAX} characters")
            }
            Self::Character(wrong) => {
                write!(
                    f,
                    "{wrong:?} can't be in a topic's name; letters, digits, `.`, `_` and `-` can"
                )
            }
        }
    }
}

impl std::error::Error for NameError {}
