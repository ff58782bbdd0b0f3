//! A partition as far as transactions are concerned: open writes, and how they ended.

use std::collections::{BTreeMap, BTreeSet};

use millstream_types::{ProducerEpoch, ProducerId};

use super::super::super::{MarkerOrder, Producer};
use super::rules::Rule;

/// A transaction as its client knows it: which client, its how manieth life, its how manieth
/// transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tag {
    pub(super) client: usize,
    pub(super) life: u8,
    pub(super) transaction: u8,
}

/// One write: of which transaction, and its how manieth.
pub(super) type Write = (Tag, u8);

/// One partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Partition {
    /// The newest epoch that a write or a marker had.
    epochs: BTreeMap<ProducerId, ProducerEpoch>,
    /// What no marker has ended yet, with the epoch of the write.
    open: BTreeMap<ProducerId, BTreeMap<Write, ProducerEpoch>>,
    /// What was committed, and what was aborted.
    pub(super) committed: BTreeSet<Write>,
    pub(super) aborted: BTreeSet<Write>,
}

impl Partition {
    pub(super) fn takes(&self, producer: Producer) -> bool {
        self.epochs.get(&producer.id).is_none_or(|newest| producer.epoch >= *newest)
    }

    pub(super) fn write(&mut self, producer: Producer, write: Write) {
        self.epochs.insert(producer.id, producer.epoch);
        self.open.entry(producer.id).or_default().insert(write, producer.epoch);
    }

    pub(super) fn mark(&mut self, order: &MarkerOrder) -> Result<(), Rule> {
        let writer = Producer { id: order.producer, epoch: order.epoch };
        if !self.takes(writer) {
            return Err(Rule::MarkersAreTaken);
        }
        self.epochs.insert(writer.id, writer.epoch);
        for (write, epoch) in self.open.remove(&writer.id).unwrap_or_default() {
            if order.v2 && epoch >= order.epoch {
                return Err(Rule::MarkersFence);
            }
            let (ended, other) = match order.commit {
                true => (&mut self.committed, &self.aborted),
                false => (&mut self.aborted, &self.committed),
            };
            if other.contains(&write) {
                return Err(Rule::OneDecision);
            }
            ended.insert(write);
        }
        Ok(())
    }

    pub(super) fn is_settled(&self) -> bool {
        self.open.is_empty()
    }
}
