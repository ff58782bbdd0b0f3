//! Administration: topics, configurations, groups, offsets, users, delegation tokens, access rules, quotas.
//!
//! Every call retries what may go away for as long as the cluster's settings say. A call that
//! changes something and whose answer got lost is sent again, and may then find its work done.

mod acls;
mod configs;
mod groups;
mod offsets;
mod quotas;
mod records;
mod streams;
mod tokens;
mod topics;
mod users;

use std::collections::BTreeMap;

pub use acls::{AclFilter, AclOperation, AclPattern, AclPermission, AclResource, AclRule};
pub use configs::{ConfigChange, ConfigEntry, ConfigSource, Resource};
pub use groups::{CommittedOffset, GroupDescription, GroupListing, GroupMember};
pub(crate) use groups::{
    NEWEST_BY_NAME, commit_answer, commit_request, committed_offsets, decode_assignment,
};
pub(crate) use offsets::list_offsets;
pub use offsets::{FoundOffset, Isolation, OffsetSpec};
pub use quotas::{QuotaEntity, QuotaLimits, QuotaPart};
pub use tokens::{DelegationToken, NewToken};
pub use topics::{CreatedTopic, NewTopic};
pub use users::{NewCredential, UserListing};

use crate::cluster::{Cluster, TopicName, TopicPartition};
use crate::error::Error;

/// Administers a cluster. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Admin {
    cluster: Cluster,
}

impl Admin {
    /// An administrator of `cluster`.
    #[must_use]
    pub const fn new(cluster: Cluster) -> Self {
        Self { cluster }
    }

    /// The cluster.
    #[must_use]
    pub const fn cluster(&self) -> &Cluster {
        &self.cluster
    }
}

/// How long a broker may take to carry out a change, in milliseconds.
const CHANGE_TIMEOUT_MS: i32 = 30_000;

/// Partitions by topic, as requests nest them.
pub(crate) fn by_topic<T>(
    items: impl IntoIterator<Item = (TopicPartition, T)>,
) -> BTreeMap<TopicName, Vec<(i32, T)>> {
    let mut topics: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (TopicPartition { topic, partition }, item) in items {
        topics.entry(topic).or_default().push((partition, item));
    }
    topics
}

/// Partitions by the broker that leads them.
pub(crate) async fn by_leader<T>(
    cluster: &Cluster,
    items: impl IntoIterator<Item = (TopicPartition, T)>,
) -> Result<BTreeMap<i32, Vec<(TopicPartition, T)>>, Error> {
    let mut leaders: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (partition, item) in items {
        let leader = cluster.leader(&partition).await?;
        leaders.entry(leader).or_default().push((partition, item));
    }
    Ok(leaders)
}
