//! Numbers that must not be mixed up. None has an invariant, so the inner value is public.

use std::fmt;
use std::time::Duration;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

number!(
    /// The position of a record in its partition. The first record of a partition has offset 0.
    Offset(i64)
);
number!(
    /// How many times the leadership of a partition has changed hands; -1 means "not known".
    LeaderEpoch(i32)
);
number!(
    /// Identifies a producer for deduplication and transactions; -1 means "none".
    ProducerId(i64)
);
number!(
    /// Which incarnation of a producer id is speaking; older ones are fenced. -1 means "none".
    ProducerEpoch(i16)
);
number!(
    /// Milliseconds since the Unix epoch; -1 means "no timestamp".
    Timestamp(i64)
);
number!(
    /// Log sequence number: a byte position in one session's journal. Positions of different
    /// sessions are not comparable.
    Lsn(u64)
);
number!(
    /// Nanoseconds on a clock that never goes back; only differences have a meaning.
    Monotonic(u64)
);

impl Offset {
    /// The first offset of every partition.
    pub const ZERO: Self = Self(0);

    /// The offset right after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        self.plus(1)
    }

    /// The offset `records` further on; saturates at the largest offset.
    #[must_use]
    pub const fn plus(self, records: i64) -> Self {
        Self(self.0.saturating_add(records))
    }
}

impl LeaderEpoch {
    /// "Not known": skips the epoch check where a request carries it.
    pub const NONE: Self = Self(-1);
}

impl ProducerId {
    /// A batch without a producer id: neither idempotent nor transactional.
    pub const NONE: Self = Self(-1);
}

impl ProducerEpoch {
    /// Stands beside [`ProducerId::NONE`].
    pub const NONE: Self = Self(-1);
}

impl Timestamp {
    /// "No timestamp".
    pub const NONE: Self = Self(-1);

    /// This time `by` later; saturates.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
    }
}

impl Monotonic {
    /// This instant `by` later; saturates.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// The time from `earlier` to this instant; zero when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}
