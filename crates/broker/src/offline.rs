//! The metadata as tools read them that work on a data directory which no broker uses.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_coordinator::cluster::ClusterState;
use millstream_env::meta::{MetaContents, MetaSnapshot};
use millstream_env::{
    DataDir, FileJournalStore, Flaw, JournalSettings, JournalStore as _, MetaLog,
};
use millstream_log::Former;
use millstream_log::offline::{Finding, FindingKind, Offline, OfflineStores, Place};
use millstream_types::{PartitionId, SessionId, TopicId};

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

/// All that is stored in a data directory which no broker uses, damaged as it may be.
#[derive(Debug)]
pub struct StoredLog {
    /// Topics, as far as the metadata can be read.
    pub metadata: StoredMetadata,
    /// The log.
    pub offline: Offline,
    /// The journals.
    pub journals: Arc<FileJournalStore>,
    /// What is wrong beside the log: with the files that say what the directory is, with metadata, with
    /// what journals say of themselves.
    pub findings: Vec<Finding>,
    /// Whether metadata are damaged.
    pub(crate) metadata_are_damaged: bool,
    pub(crate) state: ClusterState,
}

impl StoredLog {
    /// Reads what `data` holds, which was opened to be looked at or to be repaired. Goes on behind
    /// damage.
    ///
    /// # Errors
    ///
    /// When the disk fails, a newer release has written it, or the metadata are gone.
    pub async fn read(data: &DataDir) -> Result<Self, StartError> {
        let found = |flaw: &Flaw| {
            let place = Place::File { path: flaw.file.clone() };
            Finding::new(FindingKind::Header, flaw.why.clone()).at(place)
        };
        let mut findings: Vec<_> = data.flaws().iter().map(found).collect();
        let (contents, flaws) = data.meta().look().await.map_err(MetadataError::from)?;
        let metadata_are_damaged = !flaws.is_empty();
        findings.extend(flaws.iter().map(found));
        let state = fold(contents)?;
        let stores = |error: &dyn std::fmt::Display| StartError::Stores(error.to_string());
        let journals =
            data.journals(JournalSettings::default()).await.map_err(|error| stores(&error))?;
        findings.extend(journals.flaws().iter().map(found));
        let blobs = data.blobs().map_err(|error| stores(&error))?;
        let mut metadata = StoredMetadata::of(&state)?;
        let sessions = journals.sessions().await.map_err(|error| stores(&error))?;
        let newest = sessions.into_iter().max();
        if metadata.former.is_none() && newest.is_some() {
            if !metadata_are_damaged {
                return Err(StartError::NoMetadata);
            }
            // The entry of the first session is what can't be read; the others are worth having.
            metadata.former = Some(crate::former_at(&state, SessionId(0))?);
        }
        if let (Some(former), Some(newest)) = (&mut metadata.former, newest)
            && newest > former.session
        {
            let why = format!(
                "there is a journal of session {newest}, and the metadata end in session {}: their \
                 last entries are lost",
                former.session
            );
            let place = Place::File { path: "meta".to_owned() };
            findings.push(Finding::new(FindingKind::Header, why).at(place));
            former.session = newest;
        }
        let (journal, cluster) = (journals.survey(), data.cluster());
        let stores = OfflineStores { journals: journals.clone(), blobs, cluster };
        let ids = metadata.partitions().into_iter().map(|(id, _)| id);
        let offline = Offline::load(stores, journal, metadata.former.clone(), ids).await;
        Ok(Self { metadata, offline, journals, findings, metadata_are_damaged, state })
    }
}

fn fold((snapshot, entries): MetaContents) -> Result<ClusterState, StartError> {
    let mut state = ClusterState::default();
    if let Some(MetaSnapshot { upto, state: bytes }) = snapshot {
        replay(&mut state, upto, &bytes)?;
    }
    for (at, bytes) in entries {
        replay(&mut state, at, &bytes)?;
    }
    Ok(state)
}

impl StoredMetadata {
    /// Reads what `log` holds, and changes nothing.
    ///
    /// # Errors
    ///
    /// When it can't be read, or was written by a newer release.
    pub async fn read(log: &dyn MetaLog) -> Result<Self, StartError> {
        Self::of(&fold(log.load().await.map_err(MetadataError::from)?)?)
    }

    fn of(state: &ClusterState) -> Result<Self, StartError> {
        let topics = state.topics().map(|topic| {
            let (name, partitions) = (Arc::clone(&topic.name), topic.partitions);
            (topic.id, StoredTopic { name, partitions })
        });
        Ok(Self { former: crate::former(state)?, topics: topics.collect() })
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
