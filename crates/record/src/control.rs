//! Control records: what a log says about its own records, in batches that no consumer shows.
//!
//! ```text
//! key                  version i16 (0), type i16 (0 abort, 1 commit, 2 leader change, ...)
//! end of transaction   version i16 (0), coordinator epoch i32
//! leader change        version i16, leader id i32, ... (Kafka's own metadata log writes it)
//! ```
//!
//! A transaction's end is one control batch with one record, transactional, with the producer's id
//! and epoch and without a sequence number.
//!
//! Laws, tested here: decoding gives back what was encoded; every proper prefix is `Truncated`;
//! newer versions, which may only add fields, are read as far as they are known.

#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)
)]

use millstream_types::{BrokerId, Cursor, DecodeError, ProducerEpoch, ProducerId, Timestamp};

use crate::batch::ValidBatch;
use crate::builder::{BatchBuilder, BuildError};
use crate::record::Record;

/// What a control record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlRecord {
    /// A transaction has ended.
    EndTransaction(EndTransaction),
    /// A leader was elected. Only Kafka's metadata log has these; they are read, never written.
    LeaderChange {
        /// Who leads now.
        leader: BrokerId,
    },
    /// A type that says nothing about a topic's records (snapshots and voters of Kafka's metadata
    /// log), or one from the future.
    Other {
        /// The number in the key.
        kind: i16,
    },
}

/// The end of a transaction, in one of the partitions that it wrote to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndTransaction {
    /// How it ended.
    pub outcome: Outcome,
    /// The epoch of the coordinator that decided; older coordinators are fenced.
    pub coordinator_epoch: i32,
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Its records do not count.
    Abort,
    /// Its records count.
    Commit,
}

const KEY_VERSION: i16 = 0;
const VALUE_VERSION: i16 = 0;
const ABORT: i16 = 0;
const COMMIT: i16 = 1;
const LEADER_CHANGE: i16 = 2;

const KEY_SIZE: usize = 4;
const VALUE_SIZE: usize = 6;

impl ControlRecord {
    /// Decodes a record of a control batch.
    ///
    /// # Errors
    ///
    /// `Truncated` when key or value is shorter than its version says; `Invalid` when it is null
    /// or its version negative.
    pub fn decode(record: &Record<'_>) -> Result<Self, DecodeError> {
        Self::decode_parts(
            record.key.ok_or(DecodeError::Invalid { field: "control_key" })?,
            record.value,
        )
    }

    fn decode_parts(key: &[u8], value: Option<&[u8]>) -> Result<Self, DecodeError> {
        let mut key = Cursor::new(key);
        version(&mut key, "control_key_version")?;
        let kind = key.i16("control_type")?;
        let mut value = value.map(Cursor::new).ok_or(DecodeError::Invalid { field: "value" });
        let outcome = match kind {
            ABORT => Outcome::Abort,
            COMMIT => Outcome::Commit,
            LEADER_CHANGE => {
                let value = value.as_mut().map_err(|error| *error)?;
                version(value, "leader_change_version")?;
                return Ok(Self::LeaderChange { leader: BrokerId(value.i32("leader_id")?) });
            }
            kind => return Ok(Self::Other { kind }),
        };
        let value = value.as_mut().map_err(|error| *error)?;
        version(value, "end_transaction_version")?;
        let coordinator_epoch = value.i32("coordinator_epoch")?;
        Ok(Self::EndTransaction(EndTransaction { outcome, coordinator_epoch }))
    }
}

impl EndTransaction {
    /// The key of the control record.
    #[must_use]
    pub const fn encode_key(&self) -> [u8; KEY_SIZE] {
        let kind = match self.outcome {
            Outcome::Abort => ABORT,
            Outcome::Commit => COMMIT,
        };
        let ([a, b], [c, d]) = (KEY_VERSION.to_be_bytes(), kind.to_be_bytes());
        [a, b, c, d]
    }

    /// The value of the control record.
    #[must_use]
    pub const fn encode_value(&self) -> [u8; VALUE_SIZE] {
        let [a, b] = VALUE_VERSION.to_be_bytes();
        let [c, d, e, f] = self.coordinator_epoch.to_be_bytes();
        [a, b, c, d, e, f]
    }

    /// The whole control batch that ends the transaction of this producer.
    ///
    /// # Errors
    ///
    /// Never in practice: the batch is small and not compressed.
    pub fn batch(
        &self,
        producer: ProducerId,
        epoch: ProducerEpoch,
        now: Timestamp,
    ) -> Result<ValidBatch, BuildError> {
        let mut builder =
            BatchBuilder::new().producer(producer, epoch, -1).transactional().control();
        builder.append(now, Some(&self.encode_key()), Some(&self.encode_value()), &[]);
        builder.build_valid()
    }
}

fn version(cursor: &mut Cursor<'_>, field: &'static str) -> Result<i16, DecodeError> {
    let version = cursor.i16(field)?;
    if version < 0 { Err(DecodeError::Invalid { field }) } else { Ok(version) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn outcome() -> impl Strategy<Value = Outcome> {
        prop_oneof![Just(Outcome::Abort), Just(Outcome::Commit)]
    }

    proptest! {
        #[test]
        fn ends_of_transactions_round_trip(outcome in outcome(), coordinator_epoch: i32) {
            let end = EndTransaction { outcome, coordinator_epoch };
            let (key, value) = (end.encode_key(), end.encode_value());
            let decoded = ControlRecord::decode_parts(&key, Some(&value));
            prop_assert_eq!(decoded, Ok(ControlRecord::EndTransaction(end)));
            for cut in 0..KEY_SIZE {
                let decoded = ControlRecord::decode_parts(&key[..cut], Some(&value));
                prop_assert!(matches!(decoded, Err(DecodeError::Truncated { .. })), "{}", cut);
            }
            for cut in 0..VALUE_SIZE {
                let decoded = ControlRecord::decode_parts(&key, Some(&value[..cut]));
                prop_assert!(matches!(decoded, Err(DecodeError::Truncated { .. })), "{}", cut);
            }
        }

        #[test]
        fn no_bytes_panic(key: Vec<u8>, value: Option<Vec<u8>>) {
            let _ = ControlRecord::decode_parts(&key, value.as_deref());
        }

        #[test]
        fn newer_versions_are_read_as_far_as_known(
            outcome in outcome(),
            coordinator_epoch: i32,
            more: Vec<u8>,
            version in 0..i16::MAX,
        ) {
            let end = EndTransaction { outcome, coordinator_epoch };
            let newer = |known: &[u8]| [&version.to_be_bytes(), &known[2..], &more].concat();
            let (key, value) = (newer(&end.encode_key()), newer(&end.encode_value()));
            let decoded = ControlRecord::decode_parts(&key, Some(&value));
            prop_assert_eq!(decoded, Ok(ControlRecord::EndTransaction(end)));
        }
    }

    #[test]
    fn a_marker_is_one_record_in_a_control_batch() {
        let end = EndTransaction { outcome: Outcome::Abort, coordinator_epoch: 12 };
        let batch = end.batch(ProducerId(5), ProducerEpoch(2), Timestamp(99)).unwrap();
        let header = batch.header();
        assert!(header.attributes.is_control() && header.attributes.is_transactional());
        assert_eq!((header.producer_id, header.base_sequence), (ProducerId(5), -1));
        let records = batch.records(100).unwrap();
        let decoded: Vec<_> =
            records.iter().map(|record| ControlRecord::decode(&record.unwrap())).collect();
        assert_eq!(decoded, [Ok(ControlRecord::EndTransaction(end))]);
    }

    #[test]
    fn other_types() {
        let leader_change = ControlRecord::LeaderChange { leader: BrokerId(7) };
        type Row<'a> = (&'a [u8], Option<&'a [u8]>, Result<ControlRecord, DecodeError>);
        let rows: [Row<'_>; 5] = [
            (&[0, 0, 0, 2], Some(&[0, 0, 0, 0, 0, 7, 1, 2]), Ok(leader_change)),
            (&[0, 0, 0, 2], None, Err(DecodeError::Invalid { field: "value" })),
            (&[0, 0, 0, 3], None, Ok(ControlRecord::Other { kind: 3 })),
            (&[0, 0, 0, 1], None, Err(DecodeError::Invalid { field: "value" })),
            (&[0x80, 0, 0, 1], None, Err(DecodeError::Invalid { field: "control_key_version" })),
        ];
        for (key, value, expected) in rows {
            assert_eq!(ControlRecord::decode_parts(key, value), expected);
        }
    }
}
