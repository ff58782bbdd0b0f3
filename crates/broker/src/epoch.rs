//! Leader epochs: whether a client and this node mean the same leadership (KIP-320).

use millstream_types::LeaderEpoch;

/// The client's view of the leadership is not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EpochError {
    /// The client is behind: it must refresh its metadata.
    #[error("the leader epoch {asked} is over; now it is {current}")]
    Fenced {
        /// What the client said.
        asked: LeaderEpoch,
        /// What is true.
        current: LeaderEpoch,
    },
    /// The client knows of a leadership that this node has not heard of.
    #[error("the leader epoch {asked} is not known here yet; now it is {current}")]
    Unknown {
        /// What the client said.
        asked: LeaderEpoch,
        /// What is true.
        current: LeaderEpoch,
    },
}

/// Compares the epoch that a request carries with the true one.
///
/// # Errors
///
/// When the request carries one and it differs.
pub(crate) fn check(asked: LeaderEpoch, current: LeaderEpoch) -> Result<(), EpochError> {
    if asked == LeaderEpoch::NONE || asked == current {
        Ok(())
    } else if asked < current {
        Err(EpochError::Fenced { asked, current })
    } else {
        Err(EpochError::Unknown { asked, current })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pitfall 47.
    #[test]
    fn only_a_differing_epoch_is_an_error() {
        let current = LeaderEpoch(5);
        let fenced = EpochError::Fenced { asked: LeaderEpoch(4), current };
        let unknown = EpochError::Unknown { asked: LeaderEpoch(6), current };
        let cases = [(-1, Ok(())), (5, Ok(())), (4, Err(fenced)), (6, Err(unknown))];
        for (asked, expected) in cases {
            assert_eq!(check(LeaderEpoch(asked), current), expected);
        }
    }
}
