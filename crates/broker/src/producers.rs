//! Producer ids: from blocks that the metadata log hands out.

use std::convert::Infallible;
use std::ops::Range;
use std::sync::Arc;

use millstream_coordinator::cluster::{ClusterState, PRODUCER_ID_BLOCK};
use millstream_types::ProducerId;
use tokio::sync::Mutex;

use crate::metadata::{ChangeError, Metadata};

/// Ids that are this node's to give, and have not been given.
#[derive(Debug, Default)]
pub(crate) struct ProducerIds {
    left: Mutex<Range<i64>>,
}

impl ProducerIds {
    /// An id that nobody else has or will have.
    pub(crate) async fn next(
        &self,
        metadata: &Arc<Metadata>,
    ) -> Result<ProducerId, ChangeError<Infallible>> {
        let mut left = self.left.lock().await;
        if left.is_empty() {
            let take = |state: &ClusterState| {
                let (entry, first) = state.allocate_producer_ids();
                Ok((vec![entry], first))
            };
            let first = metadata.change(take).await?;
            *left = first.0..first.0.saturating_add(PRODUCER_ID_BLOCK);
        }
        let id = left.start;
        left.start += 1;
        Ok(ProducerId(id))
    }
}
