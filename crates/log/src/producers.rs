//! What a partition remembers of its producers: enough to recognise a retry, a gap and a zombie.
//!
//! The rules are Kafka's (`ProducerStateManager`, `ProducerAppendInfo`): the last five batches of
//! an epoch are remembered, and an exact retry of one is answered like the original; otherwise a
//! batch must follow the last one, where 2^31 - 1 is followed by 0; a new epoch begins at 0; of a
//! producer that is not remembered any sequence number is taken, unless a batch of it with a lower one
//! was refused just now (as Kafka's `VerificationStateEntry` does): that one comes again, and in front.
//! Who uses the second protocol of transactions has a new epoch in each and begins at 0, remembered or not.
//!
//! A transaction is begun by nobody but its coordinator, which enlists the producer
//! ([`Producers::enlist`]) before the first batch and ends it with a marker. What comes without, late
//! batches of a transaction that has ended among it, would open one that nobody ends (KIP-890).

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_record::BatchHeader;
use millstream_record::checkpoint::{PRODUCER_BATCHES, ProducerImage, SentBatch};
use millstream_types::{Lsn, Offset, ProducerEpoch, ProducerId, Timestamp};

use crate::error::AppendError;

/// Of so many producers that are not remembered it is known that a batch was refused.
const REFUSED_MAX: usize = 1_000;

/// A batch that was refused is waited for this long. Kafka's producers give up after two minutes.
const REFUSED_FOR: Duration = Duration::from_mins(2);

/// A batch that is remembered, and where the journal must have got to for it to be durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) batch: SentBatch,
    /// [`Lsn`] 0 when it is of a former session: that is durable already.
    pub(crate) end: Lsn,
}

/// One producer.
#[derive(Clone, Debug)]
pub(crate) struct Producer {
    epoch: ProducerEpoch,
    coordinator_epoch: i32,
    used: Timestamp,
    transaction: Option<Offset>,
    batches: Vec<Sent>,
}

/// A transaction that a marker has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Where it began.
    pub(crate) first: Offset,
}

/// The producers of one partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Producers {
    by_id: BTreeMap<ProducerId, Producer>,
    /// In memory only: what was refused of producers that are not in `by_id`.
    refused: BTreeMap<ProducerId, Refused>,
    /// In memory only, because coordinators know it: whose batches may begin a transaction.
    enlisted: BTreeMap<ProducerId, Enlisted>,
}

/// How the first batch of a transaction is numbered, when the partition does not remember its producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstSequence {
    /// In any way: one epoch spans many transactions, and what came before may be forgotten.
    Any,
    /// From 0: each transaction has an epoch of its own (KIP-890).
    Zero,
}

/// A producer whose batches may begin a transaction.
#[derive(Clone, Copy, Debug)]
struct Enlisted {
    epoch: ProducerEpoch,
    first: FirstSequence,
}

/// The first batch that a producer must send again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    epoch: ProducerEpoch,
    sequence: i32,
    at: Timestamp,
}

/// What is to be done with a batch that may be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It comes next.
    Next,
    /// It was appended before.
    Duplicate(Sent),
}

/// Limits of what is remembered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// Idle producers are forgotten after this long.
    pub(crate) expiry: Duration,
    /// No more producers than this.
    pub(crate) ids_max: usize,
}

/// The sequence number after `last`.
pub(crate) const fn next_sequence(last: i32) -> i32 {
    if last == i32::MAX { 0 } else { last + 1 }
}

impl Producer {
    fn verdict(&self, header: &BatchHeader) -> Result<Verdict, AppendError> {
        let producer = header.producer_id;
        if header.producer_epoch < self.epoch {
            return Err(AppendError::InvalidProducerEpoch {
                producer,
                current: self.epoch,
                found: header.producer_epoch,
            });
        }
        if header.producer_epoch > self.epoch {
            return in_order(producer, 0, header.base_sequence);
        }
        let retried = self.batches.iter().find(|sent| {
            sent.batch.base_sequence == header.base_sequence
                && sent.batch.last_sequence == header.last_sequence()
        });
        if let Some(sent) = retried {
            return Ok(Verdict::Duplicate(*sent));
        }
        if self.transaction.is_some() && !header.attributes.is_transactional() {
            return Err(AppendError::InvalidTxnState { producer });
        }
        let expected =
            self.batches.last().map_or(0, |sent| next_sequence(sent.batch.last_sequence));
        in_order(producer, expected, header.base_sequence)
    }

    fn idle(&self, now: Timestamp, expiry: Duration) -> bool {
        self.transaction.is_none() && self.used.plus(expiry) <= now
    }

    fn image(&self, id: ProducerId) -> ProducerImage {
        ProducerImage {
            id,
            epoch: self.epoch,
            coordinator_epoch: self.coordinator_epoch,
            used: self.used,
            transaction: self.transaction,
            batches: self.batches.iter().map(|sent| sent.batch).collect(),
        }
    }
}

impl Refused {
    /// Whether the batch is behind the one that was refused.
    fn precedes(&self, header: &BatchHeader, now: Timestamp) -> bool {
        self.epoch == header.producer_epoch
            && header.base_sequence > self.sequence
            && now < self.at.plus(REFUSED_FOR)
    }
}

impl Producers {
    pub(crate) fn from_images(images: Vec<ProducerImage>) -> Self {
        let by_id = images.into_iter().map(|image| {
            let batches =
                image.batches.into_iter().map(|batch| Sent { batch, end: Lsn(0) }).collect();
            let producer = Producer {
                epoch: image.epoch,
                coordinator_epoch: image.coordinator_epoch,
                used: image.used,
                transaction: image.transaction,
                batches,
            };
            (image.id, producer)
        });
        Self { by_id: by_id.collect(), ..Self::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn images(&self) -> Vec<ProducerImage> {
        self.by_id.iter().map(|(id, producer)| producer.image(*id)).collect()
    }

    /// Says what is to be done with a client's batch. Changes nothing.
    pub(crate) fn verdict(
        &self,
        header: &BatchHeader,
        now: Timestamp,
        expiry: Duration,
    ) -> Result<Verdict, AppendError> {
        let verdict = self.in_sequence(header, now, expiry)?;
        if verdict == Verdict::Next && header.attributes.is_transactional() {
            self.check_enlisted(header)?;
        }
        Ok(verdict)
    }

    fn in_sequence(
        &self,
        header: &BatchHeader,
        now: Timestamp,
        expiry: Duration,
    ) -> Result<Verdict, AppendError> {
        match self.by_id.get(&header.producer_id) {
            Some(producer) if !producer.idle(now, expiry) => producer.verdict(header),
            // Forgotten or never seen: where it goes on can't be known, but for what was refused.
            _ => match self.refused.get(&header.producer_id) {
                Some(refused) if refused.precedes(header, now) => Err(AppendError::OutOfTurn {
                    producer: header.producer_id,
                    refused: refused.sequence,
                    found: header.base_sequence,
                }),
                _ if self.begins_at_zero(header) => {
                    in_order(header.producer_id, 0, header.base_sequence)
                }
                _ => Ok(Verdict::Next),
            },
        }
    }

    /// A client's batch was refused for a reason that passes: batches behind it, which may be on their
    /// way already, must not get in front.
    pub(crate) fn note_refused(&mut self, header: &BatchHeader, now: Timestamp) {
        if header.producer_id.0 >= 0 && header.base_sequence >= 0 {
            let (epoch, sequence) = (header.producer_epoch, header.base_sequence);
            self.refuse(header.producer_id, Refused { epoch, sequence, at: now });
        }
    }

    /// What producers must send again when only what is below `durable` is left.
    pub(crate) fn unsure(&self, durable: Lsn, now: Timestamp) -> Vec<(ProducerId, Refused)> {
        let lost = self.by_id.iter().filter_map(|(id, producer)| {
            let first = producer.batches.iter().find(|sent| sent.end > durable)?;
            let (epoch, sequence) = (producer.epoch, first.batch.base_sequence);
            Some((*id, Refused { epoch, sequence, at: now }))
        });
        lost.chain(self.refused.iter().map(|(id, refused)| (*id, *refused))).collect()
    }

    /// Waits for what [`Producers::unsure`] said of the session before.
    pub(crate) fn inherit(&mut self, unsure: Vec<(ProducerId, Refused)>) {
        for (id, refused) in unsure {
            self.refuse(id, refused);
        }
    }

    fn refuse(&mut self, id: ProducerId, refused: Refused) {
        // What is remembered of a producer says what comes next.
        if self.by_id.contains_key(&id) {
            return;
        }
        if self.refused.len() >= REFUSED_MAX && !self.refused.contains_key(&id) {
            let oldest = self.refused.iter().min_by_key(|(_, refused)| refused.at);
            if let Some(oldest) = oldest.map(|(id, _)| *id) {
                self.refused.remove(&oldest);
            }
        }
        let first = self.refused.entry(id).or_insert(refused);
        if refused.epoch > first.epoch {
            *first = refused;
        } else if refused.epoch == first.epoch {
            first.sequence = first.sequence.min(refused.sequence);
            first.at = first.at.max(refused.at);
        }
    }

    fn begins_at_zero(&self, header: &BatchHeader) -> bool {
        let enlisted = self.enlisted.get(&header.producer_id);
        header.attributes.is_transactional()
            && enlisted.is_some_and(|it| {
                it.epoch == header.producer_epoch && it.first == FirstSequence::Zero
            })
    }

    /// Lets the producer's batches begin a transaction, until a marker ends it.
    pub(crate) fn enlist(
        &mut self,
        producer: ProducerId,
        epoch: ProducerEpoch,
        first: FirstSequence,
    ) {
        let known = self.enlisted.get(&producer).is_some_and(|known| known.epoch > epoch);
        if !known {
            self.enlisted.insert(producer, Enlisted { epoch, first });
        }
    }

    /// Whether batches of this epoch of the producer are part of a transaction that is open.
    pub(crate) fn is_enlisted(&self, producer: ProducerId, epoch: ProducerEpoch) -> bool {
        let open = self.by_id.get(&producer).filter(|known| known.transaction.is_some());
        self.enlisted.get(&producer).is_some_and(|it| it.epoch == epoch)
            || open.is_some_and(|it| it.epoch == epoch)
    }

    /// Whether the producer has a transaction that a marker must end.
    pub(crate) fn awaits_marker(&self, producer: ProducerId) -> bool {
        let open = self.by_id.get(&producer).is_some_and(|known| known.transaction.is_some());
        open || self.enlisted.contains_key(&producer)
    }

    /// Refuses a batch of a transaction that its coordinator does not know to be open here.
    pub(crate) fn check_enlisted(&self, header: &BatchHeader) -> Result<(), AppendError> {
        let (producer, epoch) = (header.producer_id, header.producer_epoch);
        if self.is_enlisted(producer, epoch) {
            Ok(())
        } else {
            Err(AppendError::NotEnlisted { producer, epoch })
        }
    }

    /// Refuses what was written on behalf of a producer by one who is no longer in charge.
    pub(crate) fn check_marker(
        &self,
        header: &BatchHeader,
        coordinator_epoch: i32,
    ) -> Result<(), AppendError> {
        let Some(known) = self.by_id.get(&header.producer_id) else { return Ok(()) };
        let producer = header.producer_id;
        if header.producer_epoch < known.epoch {
            let found = header.producer_epoch;
            return Err(AppendError::InvalidProducerEpoch {
                producer,
                current: known.epoch,
                found,
            });
        }
        if coordinator_epoch < known.coordinator_epoch {
            let current = known.coordinator_epoch;
            return Err(AppendError::CoordinatorFenced {
                producer,
                current,
                found: coordinator_epoch,
            });
        }
        Ok(())
    }

    /// Remembers a data batch of a producer. Returns where its open transaction begins.
    pub(crate) fn apply(
        &mut self,
        header: &BatchHeader,
        sent: Sent,
        now: Timestamp,
        memory: Memory,
    ) -> Option<Offset> {
        self.refused.remove(&header.producer_id);
        let idle =
            self.by_id.get(&header.producer_id).is_some_and(|known| known.idle(now, memory.expiry));
        if idle {
            self.by_id.remove(&header.producer_id);
        }
        let producer = self.entry(header, now);
        if header.base_sequence >= 0 {
            if producer.batches.len() == PRODUCER_BATCHES {
                producer.batches.remove(0);
            }
            producer.batches.push(sent);
        }
        if header.attributes.is_transactional() {
            producer.transaction.get_or_insert(sent.batch.base);
        }
        let first = producer.transaction;
        self.bound(memory.ids_max);
        first
    }

    /// Ends the producer's transaction, if it has one.
    pub(crate) fn apply_marker(
        &mut self,
        header: &BatchHeader,
        coordinator_epoch: i32,
        now: Timestamp,
        memory: Memory,
    ) -> Option<Ended> {
        if self
            .enlisted
            .get(&header.producer_id)
            .is_some_and(|it| it.epoch <= header.producer_epoch)
        {
            self.enlisted.remove(&header.producer_id);
        }
        let producer = self.entry(header, now);
        producer.coordinator_epoch = producer.coordinator_epoch.max(coordinator_epoch);
        let ended = producer.transaction.take().map(|first| Ended { first });
        self.bound(memory.ids_max);
        ended
    }

    /// Forgets idle producers.
    pub(crate) fn expire(&mut self, now: Timestamp, expiry: Duration) {
        self.by_id.retain(|_, producer| !producer.idle(now, expiry));
    }

    fn entry(&mut self, header: &BatchHeader, now: Timestamp) -> &mut Producer {
        let producer = self.by_id.entry(header.producer_id).or_insert_with(|| Producer {
            epoch: header.producer_epoch,
            coordinator_epoch: -1,
            used: now,
            transaction: None,
            batches: Vec::new(),
        });
        if header.producer_epoch > producer.epoch {
            producer.epoch = header.producer_epoch;
            producer.batches.clear();
        }
        producer.used = producer.used.max(now);
        producer
    }

    /// Forgets the longest idle when there are too many: a sixteenth at once, so that a flood of
    /// producers costs a bounded amount for each.
    fn bound(&mut self, ids_max: usize) {
        if self.by_id.len() <= ids_max {
            return;
        }
        let mut idle: Vec<_> = self
            .by_id
            .iter()
            .filter(|(_, producer)| producer.transaction.is_none())
            .map(|(id, producer)| (producer.used, *id))
            .collect();
        idle.sort_unstable();
        let newest = idle.pop();
        let gone = self.by_id.len() - ids_max + ids_max / 16;
        for (_, id) in idle.iter().take(gone) {
            self.by_id.remove(id);
        }
        debug_assert!(newest.is_none_or(|(_, id)| self.by_id.contains_key(&id)));
    }
}

fn in_order(producer: ProducerId, expected: i32, found: i32) -> Result<Verdict, AppendError> {
    if expected == found {
        Ok(Verdict::Next)
    } else {
        Err(AppendError::OutOfOrderSequence { producer, expected, found })
    }
}

#[cfg(test)]
mod tests;
