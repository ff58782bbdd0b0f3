//! Repairing a data directory that a broker refuses.
//!
//! First it is read with all its damage, and it is said what would be lost. Only then, and only when
//! somebody wants it, is anything changed; and what is replaced is moved below `quarantine`.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use millstream_coordinator::cluster::{self, ClusterState, Overrides};
use millstream_env::{DataDir, Env, MetaError};
use millstream_log::TrimSink;
use millstream_log::offline::{Plan, RepairError};
use millstream_types::{BrokerId, SessionId};

use crate::metadata::{Metadata, MetadataError};
use crate::offline::StoredLog;
use crate::{StartError, configs, open_session, topics};

/// What is stored, and what a repair of it would do.
#[derive(Debug)]
pub struct Repair {
    /// What is stored.
    pub stored: StoredLog,
    /// What would be done to the log.
    pub plan: Plan,
}

/// Why a repair did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum RepairFailed {
    /// A file could not be moved or written.
    #[error("a file can't be moved or written: {0}")]
    Disk(#[from] io::Error),
    /// The log could not be written anew.
    #[error(transparent)]
    Log(#[from] RepairError),
    /// The metadata could not be written.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
}

impl From<MetaError> for RepairFailed {
    fn from(error: MetaError) -> Self {
        Self::Metadata(error.into())
    }
}

impl Repair {
    /// Reads everything, and says what a repair would do. Changes nothing.
    ///
    /// # Errors
    ///
    /// As [`StoredLog::read`]: that is what no repair can help with.
    pub async fn plan(data: &DataDir) -> Result<Self, StartError> {
        let stored = StoredLog::read(data).await?;
        let plan = stored.offline.plan_repair().await;
        Ok(Self { stored, plan })
    }

    /// Whether nothing is damaged.
    #[must_use]
    pub fn is_needless(&self) -> bool {
        self.plan.is_empty() && self.stored.findings.is_empty()
    }

    /// Does it, in the directory `data` that this was planned for, opened to be repaired. Returns the
    /// folder in which everything is that was replaced.
    ///
    /// # Errors
    ///
    /// [`RepairFailed`]. It may be begun again: what is moved or removed is in the folder.
    pub async fn carry_out(self, data: &DataDir, env: &Env) -> Result<String, RepairFailed> {
        let quarantine = data.new_quarantine()?;
        let newest = self.stored.metadata.former.as_ref().map_or(SessionId(0), |f| f.session);
        if !data.flaws().is_empty() {
            data.set_aside(&quarantine, &["cluster".to_owned()])?;
            data.write_identity()?;
        }
        if self.stored.metadata_are_damaged {
            data.copy_metadata_aside(&quarantine)?;
            let mut state = self.stored.state.clone();
            // The entries of the newest sessions may be among what is lost. Who stops here must not leave
            // metadata by which their numbers would be used again.
            while state.session() < newest {
                let opened = state.open_session();
                state.replay(opened);
            }
            let state = Bytes::from(cluster::encode(&state.snapshot()));
            data.meta().rewrite(state).await?;
        }
        let metadata = Metadata::open(env.clone(), data.meta(), data.reserve()).await?;
        loop {
            open_session(&metadata).await?;
            // No number of a session is used twice.
            if metadata.read(ClusterState::session) > newest {
                break;
            }
        }
        let session = metadata.read(ClusterState::session);
        let specs = metadata.read(|state| {
            let config = configs::broker_config(&Overrides::new(), state, BrokerId(1));
            topics::specs(state, &config)
        });
        let sink = Arc::clone(&metadata) as Arc<dyn TrimSink>;
        self.stored.offline.repair(&self.plan, env, session, specs, sink).await?;
        // Nothing refers to these any more.
        let blobs = self.plan.blobs.iter().chain(&self.plan.orphans);
        let mut files: Vec<_> = blobs.map(|name| format!("blobs/{name}.blob")).collect();
        files.extend(self.stored.journals.paths()?);
        data.set_aside(&quarantine, &files)?;
        Ok(quarantine)
    }
}
