//! The features that a cluster finalizes (KIP-584): what clients switch parts of themselves on by.
//! Levels follow from the configuration; none is raised or lowered by a request.

use millstream_broker::config::BrokerConfig;

/// A feature, as clients see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Feature {
    pub(crate) name: &'static str,
    /// The highest level that this broker could serve; the lowest is 0, which is without it.
    pub(crate) max: i16,
    /// The level that it serves.
    pub(crate) level: i16,
    /// Why it is that one, for people.
    pub(crate) why: &'static str,
}

/// All features.
pub(crate) fn all(config: &BrokerConfig) -> [Feature; 3] {
    [
        Feature {
            // Level 1 is the consumer protocol (KIP-848).
            name: "group.version",
            max: 1,
            level: i16::from(config.consumer_groups.served),
            why: "because of the setting group.coordinator.rebalance.protocols at the start",
        },
        Feature {
            // Level 1 is the streams protocol (KIP-1071).
            name: "streams.version",
            max: 1,
            level: i16::from(config.streams_groups.served),
            why: "because of the setting group.coordinator.rebalance.protocols at the start",
        },
        Feature {
            // Level 2 has another epoch for every transaction (KIP-890); clients below it are served, too.
            name: "transaction.version",
            max: 2,
            level: 2,
            why: "and does not change: clients that know only lower levels are served as well",
        },
    ]
}
