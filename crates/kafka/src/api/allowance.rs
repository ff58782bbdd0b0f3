//! How long an answer may become where few bytes of a request can ask for many.

use millstream_wire::{ErrorCode, StrBytes};

use crate::errors::Refusal;

/// The longest answer, in bytes: librdkafka takes no longer one (`receive.message.max.bytes`). What
/// is counted is what an answer takes in memory, which is no less than what is sent.
const ANSWER_BYTES_MAX: usize = 100_000_000;

/// What an answer may still grow by.
#[derive(Debug)]
pub(super) struct Allowance(usize);

impl Allowance {
    /// For an answer that has nothing in it yet.
    pub(super) const fn new() -> Self {
        Self(ANSWER_BYTES_MAX)
    }

    /// Takes room for `bytes` more.
    ///
    /// # Errors
    ///
    /// When there is not as much left; less may still be taken.
    pub(super) fn take(&mut self, bytes: usize) -> Result<(), Refusal> {
        match self.0.checked_sub(bytes) {
            Some(left) => {
                self.0 = left;
                Ok(())
            }
            None => Err((ErrorCode::InvalidRequest, StrBytes::from(TOO_LONG))),
        }
    }
}

const TOO_LONG: &str = "the answer would be too long: ask for less at a time";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_taken_than_there_is() {
        let mut allowance = Allowance(10);
        for (bytes, fits) in [(4, true), (7, false), (6, true), (0, true), (1, false)] {
            assert_eq!(allowance.take(bytes).is_ok(), fits, "{bytes}");
        }
    }
}
