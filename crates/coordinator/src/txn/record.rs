//! What is stored: Kafka's own records of `__transaction_state`.
//!
//! | key | value | lifetime |
//! |---|---|---|
//! | transactional id | [`Stored`] | until unused for `transactional.id.expiration.ms` |
//!
//! A value of `None` forgets the key. Values are written in version 1, in which a producer can
//! learn of a new id after the old one's epochs are used up; version 0 is read.
//!
//! The field `PreviousProducerId` is set where the holder of the identity before may still learn
//! of this one, and only there: see [`Stored::last`]. So everything that decides about a request
//! is in the record, and a coordinator that has read it back answers as before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_types::{ProducerEpoch, ProducerId, Timestamp};
use millstream_wire::stored::{
    StoredKey, decode_key, decode_value, encode_key, encode_value, prefix,
};
use millstream_wire::transaction_log_value::PartitionsSchema;
use millstream_wire::{DecodeError, EncodeError, StrBytes, TransactionLogKey, TransactionLogValue};

use super::reply::{Producer, TransactionState};
use crate::host::{ReplayError, StoredRecord};

/// The version of values that is written.
const VERSION: i16 = 1;
// What `ClientTransactionVersion` says of the two protocols.
const V2: i16 = 2;
const V1: i16 = 0;
/// The highest epoch that a producer is ever given: the one above it is kept for fencing it.
const EPOCH_GIVEN_MAX: ProducerEpoch = ProducerEpoch(i16::MAX - 1);

/// The partitions of a transaction, by topic.
pub(super) type Partitions = BTreeMap<Arc<str>, BTreeSet<i32>>;

/// All that is known of a transactional id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) producer: Producer,
    /// The producer id before the last change of identity, if its holder may learn of this one.
    pub(super) previous: Option<ProducerId>,
    /// Who the producer will be when all markers are written, if that is another id.
    pub(super) next: Option<ProducerId>,
    pub(super) timeout_ms: i32,
    pub(super) state: TransactionState,
    pub(super) partitions: Partitions,
    /// When the transaction began; it stays when it has ended.
    pub(super) started: Option<Timestamp>,
    pub(super) updated: Timestamp,
    /// Ongoing: a write has enlisted a partition by itself. Ended: the epoch was bumped by it.
    pub(super) v2: bool,
}

/// Whether a producer can have this identity: the highest epoch is nobody's.
pub(super) fn is_given(producer: Producer) -> bool {
    producer.epoch <= EPOCH_GIVEN_MAX
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fact {
    pub(super) id: Arc<str>,
    pub(super) value: Option<Stored>,
}

impl Stored {
    /// The identity before the last change, if its holder may learn of the present one: it sent
    /// the request that made the change, or a timeout did.
    pub(super) fn last(&self) -> Option<Producer> {
        let id = self.previous?;
        if id != self.producer.id {
            return Some(Producer { id, epoch: EPOCH_GIVEN_MAX });
        }
        let epoch = ProducerEpoch(self.producer.epoch.0.checked_sub(1)?);
        Some(Producer { id, epoch })
    }

    /// Who goes on when all markers are written.
    pub(super) fn successor(&self) -> Producer {
        match self.next {
            Some(id) => Producer { id, epoch: ProducerEpoch(0) },
            None => self.producer,
        }
    }

    /// Whether the producer can't be given another epoch.
    pub(super) fn is_exhausted(&self) -> bool {
        self.producer.epoch >= EPOCH_GIVEN_MAX
    }

    /// Whether the epoch is the one that is never given to a producer.
    pub(super) fn is_beyond(&self) -> bool {
        !is_given(self.producer)
    }

    /// The same producer in its next epoch.
    pub(super) fn bumped(&self) -> Producer {
        let epoch = ProducerEpoch(self.producer.epoch.0.saturating_add(1));
        Producer { epoch, ..self.producer }
    }

    pub(super) fn contains(&self, topic: &str, partition: i32) -> bool {
        self.partitions.get(topic).is_some_and(|known| known.contains(&partition))
    }

    /// The partitions, one by one.
    pub(super) fn flat(&self) -> Vec<(Arc<str>, i32)> {
        let one = |(topic, partitions): (&Arc<str>, &BTreeSet<i32>)| {
            let topic = Arc::clone(topic);
            partitions.iter().map(move |it| (Arc::clone(&topic), *it)).collect::<Vec<_>>()
        };
        self.partitions.iter().flat_map(one).collect()
    }
}

impl Fact {
    /// Adds the fact to `records`.
    pub(super) fn put(&self, records: &mut Vec<StoredRecord>) {
        match self.encode() {
            Ok(record) => records.push(record),
            Err(error) => debug_assert!(false, "texts are bounded: {error}"),
        }
    }

    fn encode(&self) -> Result<StoredRecord, EncodeError> {
        let key = encode_key(&TransactionLogKey { transactional_id: text(&self.id) })?;
        let value =
            self.value.as_ref().map(|it| encode_value(&written(it), VERSION)).transpose()?;
        Ok(StoredRecord { key, value })
    }

    /// Reads a record; `None` when it says something that only a newer coordinator knows.
    ///
    /// # Errors
    ///
    /// When the bytes are not what a coordinator writes.
    pub(super) fn decode(record: &StoredRecord) -> Result<Option<Self>, ReplayError> {
        decode(record).map_err(ReplayError)
    }
}

fn written(stored: &Stored) -> TransactionLogValue {
    let topic = |(topic, partitions): (&Arc<str>, &BTreeSet<i32>)| PartitionsSchema {
        topic: text(topic),
        partition_ids: partitions.iter().copied().collect(),
    };
    let partitions = (stored.state != TransactionState::Empty)
        .then(|| stored.partitions.iter().map(topic).collect());
    TransactionLogValue {
        producer_id: stored.producer.id.0,
        previous_producer_id: stored.previous.unwrap_or(ProducerId::NONE).0,
        next_producer_id: stored.next.unwrap_or(ProducerId::NONE).0,
        producer_epoch: stored.producer.epoch.0,
        next_producer_epoch: ProducerEpoch::NONE.0,
        transaction_timeout_ms: stored.timeout_ms,
        transaction_status: status(stored.state),
        transaction_partitions: partitions,
        transaction_last_update_timestamp_ms: stored.updated.0,
        transaction_start_timestamp_ms: stored.started.unwrap_or(Timestamp::NONE).0,
        client_transaction_version: if stored.v2 { V2 } else { V1 },
    }
}

fn decode(record: &StoredRecord) -> Result<Option<Fact>, DecodeError> {
    if prefix(&record.key)? != TransactionLogKey::TYPE {
        return Ok(None);
    }
    let key: TransactionLogKey = decode_key(&record.key)?;
    let value = record.value.as_ref().map(decode_value).transpose()?;
    let value = value.map(stored).transpose()?;
    Ok(Some(Fact { id: kept(&key.transactional_id), value }))
}

fn stored(value: TransactionLogValue) -> Result<Stored, DecodeError> {
    let invalid = |field| Err(DecodeError::Invalid { field });
    if value.producer_id < 0 {
        return invalid("TransactionLogValue.ProducerId");
    }
    if value.producer_epoch < 0 {
        return invalid("TransactionLogValue.ProducerEpoch");
    }
    let Some(state) = state(value.transaction_status) else {
        return invalid("TransactionLogValue.TransactionStatus");
    };
    let mut partitions = Partitions::new();
    for topic in value.transaction_partitions.unwrap_or_default() {
        partitions.entry(kept(&topic.topic)).or_default().extend(topic.partition_ids);
    }
    partitions.retain(|_, partitions| !partitions.is_empty());
    if state == TransactionState::Empty {
        partitions.clear();
    }
    let producer =
        Producer { id: ProducerId(value.producer_id), epoch: ProducerEpoch(value.producer_epoch) };
    Ok(Stored {
        producer,
        previous: known(value.previous_producer_id),
        next: known(value.next_producer_id),
        timeout_ms: value.transaction_timeout_ms,
        state,
        partitions,
        started: Some(Timestamp(value.transaction_start_timestamp_ms))
            .filter(|started| *started != Timestamp::NONE),
        updated: Timestamp(value.transaction_last_update_timestamp_ms),
        v2: value.client_transaction_version >= V2,
    })
}

const fn status(state: TransactionState) -> i8 {
    match state {
        TransactionState::Empty => 0,
        TransactionState::Ongoing => 1,
        TransactionState::PrepareCommit => 2,
        TransactionState::PrepareAbort => 3,
        TransactionState::CompleteCommit => 4,
        TransactionState::CompleteAbort => 5,
    }
}

/// Kafka has two more, which it never writes.
fn state(status_read: i8) -> Option<TransactionState> {
    TransactionState::ALL.into_iter().find(|state| status(*state) == status_read)
}

/// -1 stands for no producer.
fn known(id: i64) -> Option<ProducerId> {
    (id >= 0).then_some(ProducerId(id))
}

fn text(text: &Arc<str>) -> StrBytes {
    StrBytes::from(text.to_string())
}

fn kept(text: &StrBytes) -> Arc<str> {
    Arc::from(text.as_str())
}
