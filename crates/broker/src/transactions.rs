//! Transactions, as the doors see them.

use std::sync::Arc;

use millstream_coordinator::txn::{
    AddPartitions, AddPartitionsError, Command, Description, ListFilter, Listed, Reply,
    partition_of,
};
use millstream_log::AppendError;
use millstream_record::BatchHeader;
use millstream_record::control::{EndTransaction, Outcome};
use millstream_types::{ProducerEpoch, ProducerId};

use crate::admin::COMPACTED;
use crate::group_host::MarkerError;
use crate::topics::{OFFSETS_TOPIC, TRANSACTIONS_TOPIC, Topic, TopicRef};
use crate::{Broker, Newest, TopicError, TxnError};

/// A marker that somebody else than the coordinator writes: another broker, or a tool that ends a
/// transaction which nobody else ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// Whose transaction it ends.
    pub producer: ProducerId,
    /// The producer's epoch.
    pub epoch: ProducerEpoch,
    /// The epoch of the coordinator that decided.
    pub coordinator_epoch: i32,
    /// Commit rather than abort.
    pub commit: bool,
}

/// Why a producer may not write to a partition within a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnlistError {
    /// The partition was not added to the transaction.
    #[error("the partition was not added to the transaction")]
    NotAdded,
    /// The coordinator refuses.
    #[error("the coordinator of transactions refuses: {0:?}")]
    Refused(AddPartitionsError),
    /// The coordinator can't be asked.
    #[error(transparent)]
    Coordinator(#[from] TxnError),
}

impl Broker {
    /// Sets the coordinator of transactions up, and that of groups: makes their topics if need be, and
    /// loads them.
    ///
    /// # Errors
    ///
    /// When a topic can't be made or read.
    pub async fn set_up_transactions(&self) -> Result<(), TopicError> {
        if self.0.life().transactions.is_ready() {
            return Ok(());
        }
        // Transactions may have offsets among their partitions.
        self.set_up_groups().await?;
        let _once = self.0.setting_up.lock().await;
        let config = self.config();
        if self.topic(TopicRef::Name(TRANSACTIONS_TOPIC)).is_none() {
            self.create_internal(
                TRANSACTIONS_TOPIC,
                config.transactions_topic_partitions,
                &COMPACTED,
            )
            .await?;
        }
        self.0.life().load_transactions(&config).await.map_err(TopicError::Groups)
    }

    /// Has a command on a transactional id carried out. Producer ids that it needs are found here.
    ///
    /// # Errors
    ///
    /// When the coordinator is not set up, or what the reply depends on did not become durable.
    pub async fn transaction(&self, command: Command) -> Result<Reply, TxnError> {
        let mut command = command;
        loop {
            let life = self.0.life();
            let id = id_of(&command);
            let reply = life.transactions.call(&life, &id, command.clone()).await?;
            if reply != Reply::NeedsProducerId {
                return Ok(reply);
            }
            let fresh = self.new_producer_id().await.map_err(|_| TxnError::NoProducerId)?;
            match &mut command {
                Command::Init(init) => init.fresh = Some(fresh),
                Command::End(end) => end.fresh = Some(fresh),
                // They never need one.
                Command::AddPartitions(_) | Command::Marked { .. } => return Ok(reply),
            }
        }
    }

    /// A transactional id; `None` when it is not known.
    ///
    /// # Errors
    ///
    /// As [`Broker::transaction`].
    pub async fn describe_transaction(&self, id: &str) -> Result<Option<Description>, TxnError> {
        self.0.life().transactions.describe(id).await
    }

    /// All transactional ids that `filter` lets through and that are `wanted`.
    ///
    /// # Errors
    ///
    /// As [`Broker::transaction`].
    pub async fn list_transactions(
        &self,
        filter: &ListFilter,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<Listed>, TxnError> {
        self.0.life().transactions.list(filter, wanted).await
    }

    /// The partition that keeps the offsets of a group; `None` before there is one.
    #[must_use]
    pub fn offsets_partition(&self, group: &str) -> Option<(Arc<str>, i32)> {
        let topic = self.topic(TopicRef::Name(OFFSETS_TOPIC))?;
        let count = i32::try_from(topic.partitions().len()).ok()?;
        Some((Arc::clone(&topic.name), partition_of(group, count)))
    }

    /// Appends the marker that ends a transaction in partition `index` of `topic`, on the word of whoever
    /// asks. Returns what must be durable for it to be.
    ///
    /// # Errors
    ///
    /// When the producer has moved on, or the log does not take it.
    pub fn write_marker(
        &self,
        topic: &Topic,
        index: i32,
        marker: Marker,
    ) -> Result<Newest, AppendError> {
        let outcome = if marker.commit { Outcome::Commit } else { Outcome::Abort };
        let end = EndTransaction { outcome, coordinator_epoch: marker.coordinator_epoch };
        let life = self.0.life();
        let session = life.log.session();
        match life.end_in(topic, index, (marker.producer, marker.epoch), end) {
            Ok(end) => Ok(Newest::At(session, end)),
            Err(MarkerError::NotReady) => Err(AppendError::NotLeader),
            Err(MarkerError::Append(error)) => Err(error),
        }
    }

    /// Sees to it that partitions are part of a producer's open transaction before it writes to them:
    /// `implicit`ly, as producers of the second protocol expect it, or only if they were added. What is
    /// appended to the same journal later is durable only if this is, so that nobody waits for it.
    ///
    /// # Errors
    ///
    /// When they are not.
    pub fn enlist(
        &self,
        id: &str,
        (producer, epoch): (ProducerId, ProducerEpoch),
        partitions: impl Iterator<Item = (Arc<str>, i32)>,
        implicit: bool,
    ) -> Result<(), EnlistError> {
        let is_enlisted = |(topic, index): &(Arc<str>, i32)| {
            let topic = self.topic(TopicRef::Name(topic));
            let partition = topic.as_ref().and_then(|topic| topic.partition(*index));
            partition.is_some_and(|partition| partition.is_enlisted(producer, epoch))
        };
        let missing: Vec<_> = partitions.filter(|one| !is_enlisted(one)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let (id, verify_only, v2) = (Arc::from(id), !implicit, implicit);
        let add = AddPartitions { id, producer, epoch, partitions: missing, verify_only, v2 };
        let life = self.0.life();
        let id = Arc::clone(&add.id);
        let (reply, _) = life.transactions.call_now(&life, &id, &Command::AddPartitions(add))?;
        match reply {
            Reply::AddPartitions(Ok(missing)) if verify_only && !missing.is_empty() => {
                Err(EnlistError::NotAdded)
            }
            Reply::AddPartitions(Err(error)) => Err(EnlistError::Refused(error)),
            _ => Ok(()),
        }
    }
}

/// The producer and epoch of a client's batch, if it says that it is part of a transaction. It has not
/// been checked.
#[must_use]
pub fn transactional_producer(batch: &[u8]) -> Option<(ProducerId, ProducerEpoch)> {
    let header = BatchHeader::decode(batch).ok()?;
    let is_transactional = header.attributes.is_transactional();
    is_transactional.then_some((header.producer_id, header.producer_epoch))
}

fn id_of(command: &Command) -> Arc<str> {
    match command {
        Command::Init(it) => Arc::clone(&it.id),
        Command::AddPartitions(it) => Arc::clone(&it.id),
        Command::End(it) => Arc::clone(&it.id),
        Command::Marked { id, .. } => Arc::clone(id),
    }
}
