//! Deleting the oldest records of partitions.

use std::collections::BTreeMap;

use millstream_types::Offset;
use millstream_wire::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use millstream_wire::{DeleteRecordsRequest, DeleteRecordsResponse, StrBytes};

use super::{Admin, CHANGE_TIMEOUT_MS, by_leader, by_topic};
use crate::cluster::{Lane, Target, TopicPartition};
use crate::error::Error;

impl Admin {
    /// Deletes all records below the given offsets; `None` stands for all that are there. Returns
    /// the first offset that each partition keeps.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`], for example with `OFFSET_OUT_OF_RANGE`. Other partitions may have been
    /// dealt with.
    pub async fn delete_records(
        &self,
        before: &[(TopicPartition, Option<Offset>)],
    ) -> Result<BTreeMap<TopicPartition, Offset>, Error> {
        let mut kept = BTreeMap::new();
        let mut retry = self.cluster.retry(Target::Controller);
        loop {
            let missing = before.iter().filter(|(of, _)| !kept.contains_key(of)).cloned();
            let missing: Vec<_> = missing.collect();
            if missing.is_empty() {
                return Ok(kept);
            }
            if let Err(error) = self.delete_records_once(missing, &mut kept).await {
                retry.after(error).await?;
            }
        }
    }

    async fn delete_records_once(
        &self,
        before: Vec<(TopicPartition, Option<Offset>)>,
        kept: &mut BTreeMap<TopicPartition, Offset>,
    ) -> Result<(), Error> {
        let mut outcome = Ok(());
        for (leader, before) in by_leader(&self.cluster, before).await? {
            let request =
                DeleteRecordsRequest { topics: encode(before), timeout_ms: CHANGE_TIMEOUT_MS };
            let target = Target::Broker(leader);
            let answer = self.cluster.call(&target, Lane::Control, &request).await;
            outcome = outcome.and(answer.and_then(|answer| read(&answer, kept)));
        }
        outcome
    }
}

fn encode(before: Vec<(TopicPartition, Option<Offset>)>) -> Vec<DeleteRecordsTopic> {
    let topics = by_topic(before).into_iter().map(|(name, partitions)| DeleteRecordsTopic {
        name: StrBytes::from(name.to_string()),
        partitions: partitions
            .into_iter()
            .map(|(partition_index, before)| DeleteRecordsPartition {
                partition_index,
                // -1 is the high watermark.
                offset: before.map_or(-1, |offset| offset.0),
            })
            .collect(),
    });
    topics.collect()
}

fn read(
    answer: &DeleteRecordsResponse,
    kept: &mut BTreeMap<TopicPartition, Offset>,
) -> Result<(), Error> {
    let mut outcome = Ok(());
    for topic in &answer.topics {
        for partition in &topic.partitions {
            let of = TopicPartition::new(topic.name.as_str(), partition.partition_index);
            match Error::check(partition.error_code, None, || format!("partition {of}")) {
                Ok(()) => {
                    kept.insert(of, Offset(partition.low_watermark));
                }
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
    }
    outcome
}
