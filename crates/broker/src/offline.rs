//! The metadata as tools read them that work on a data directory which no broker uses.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_coordinator::cluster::ClusterState;
use millstream_env::MetaLog;
use millstream_env::meta::MetaSnapshot;
use millstream_log::Former;
use millstream_types::{PartitionId, TopicId};

use crate::StartError;
use crate::metadata::{MetadataError, replay};

/// What the metadata log says, as far as the log of records needs it.
#[derive(Debug)]
pub struct StoredMetadata {
    /// The newest session and checkpoint; `None` before the first start.
    pub former: Option<Former>,
    /// All topics.
    pub topics: BTreeMap<TopicId, StoredTopic>,
}

/// A topic, as far as the log needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTopic {
    /// Its name.
    pub name: Arc<str>,
    /// How many partitions it has.
    pub partitions: i32,
}

impl StoredMetadata {
    /// Reads what `log` holds, and changes nothing.
    ///
    /// # Errors
    ///
    /// When it can't be read, or was written by a newer release.
    pub async fn read(log: &dyn MetaLog) -> Result<Self, StartError> {
        let (snapshot, entries) = log.load().await.map_err(MetadataError::from)?;
        let mut state = ClusterState::default();
        if let Some(MetaSnapshot { upto, state: bytes }) = snapshot {
            replay(&mut state, upto, &bytes)?;
        }
        for (at, bytes) in entries {
            replay(&mut state, at, &bytes)?;
        }
        let topics = state.topics().map(|topic| {
            let (name, partitions) = (Arc::clone(&topic.name), topic.partitions);
            (topic.id, StoredTopic { name, partitions })
        });
        Ok(Self { former: crate::former(&state)?, topics: topics.collect() })
    }

    /// All partitions, by name of the topic and number.
    #[must_use]
    pub fn partitions(&self) -> Vec<(PartitionId, Arc<str>)> {
        let mut topics: Vec<_> = self.topics.iter().collect();
        topics.sort_by(|(_, a), (_, b)| a.name.cmp(&b.name));
        let of_topic = |(id, topic): (&TopicId, &StoredTopic)| {
            let (id, name) = (*id, Arc::clone(&topic.name));
            (0..topic.partitions)
                .map(move |index| (PartitionId { topic: id, index }, Arc::clone(&name)))
        };
        topics.into_iter().flat_map(of_topic).collect()
    }
}
