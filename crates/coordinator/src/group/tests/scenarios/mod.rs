//! The life of groups, as scripts.

mod failures;
mod membership;
mod offsets;
mod statics;

use std::time::Duration;

use super::super::GroupSettings;

/// The first member does not wait for others.
fn at_once() -> GroupSettings {
    GroupSettings { initial_rebalance_delay: Duration::ZERO, ..GroupSettings::default() }
}
