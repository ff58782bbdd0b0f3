//! What a producer has been given and has not got rid of: batches by partition, in order.
//!
//! Pure: the sender asks what to send ([`Accumulator::drain`]) and says what came of it
//! ([`Accumulator::resolve`]).
//!
//! Order and sequences. A partition's batches are numbered as they are opened, and sent in that
//! order. An idempotent producer may have several of a partition under way; when one of them has to
//! be sent again, nothing else of the partition is sent until all that are under way have come
//! back, and then they go out again in their order and with their sequences, so that the broker
//! recognises those that it has. It remembers the last five of a partition: so no batch is sent
//! five places after one that has no outcome. A producer that is not idempotent has one batch of a
//! partition under way at a time.
//!
//! A batch that fails for good leaves a hole in the partition's sequences. The partition then
//! *pauses* until all that are under way have come back. What was certainly not stored will be sent
//! again under a new producer id, from sequence 0; what may be stored fails, because sending it
//! again under another id could store it twice.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_record::batch::HEADER_SIZE;
use millstream_record::{BatchBuilder, BatchHeader, Compression, Header, crc32c};
use millstream_types::{DecodeError, Monotonic, ProducerEpoch, ProducerId, Timestamp};
use millstream_wire::ErrorCode;

use super::ProducerRecord;
use super::delivery::{Delivery, Outcome, Stored};
use crate::cluster::TopicPartition;
use crate::error::Error;

/// Who produces, as the broker knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) id: ProducerId,
    pub(super) epoch: ProducerEpoch,
}

/// What the accumulator goes by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) compression: Compression,
    pub(super) level: Option<i32>,
    pub(super) linger: Duration,
    pub(super) batch_bytes: usize,
    pub(super) request_bytes: usize,
    /// Of one partition, in places.
    pub(super) in_flight_max: u64,
    pub(super) delivery_timeout: Duration,
}

#[derive(Debug)]
pub(super) struct Accumulator {
    rules: Rules,
    /// Who produces; `None` when not idempotent.
    identity: Option<Identity>,
    partitions: BTreeMap<TopicPartition, Queue>,
    /// Everything that has no outcome yet, by number.
    unresolved: BTreeMap<u64, Arc<Outcome>>,
    next_number: u64,
    /// Why the last attempt to reach a broker failed, if it did: what keeps batches back.
    trouble: Option<Error>,
}

/// One partition's batches, oldest first: in flight, then `returned`, then `sealed`, then `open`.
#[derive(Debug, Default)]
struct Queue {
    open: Option<Filling>,
    sealed: VecDeque<Filling>,
    /// To be sent again, by place.
    returned: BTreeMap<u64, Batch>,
    /// Places of batches under way.
    in_flight: BTreeSet<u64>,
    /// The place of the next batch that has none.
    next_place: u64,
    identity: Option<Identity>,
    next_sequence: i32,
    /// Whether a new identity is needed before anything more is sent.
    paused: bool,
    not_before: Monotonic,
    failures: u32,
}

/// A batch that has not been built.
#[derive(Debug)]
struct Filling {
    content: Content,
    number: u64,
    since: Monotonic,
    reserved: usize,
    outcome: Arc<Outcome>,
}

#[derive(Debug)]
enum Content {
    Records(BatchBuilder),
    /// Made by the user.
    Whole(Bytes),
}

/// A batch that is ready to be sent.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) partition: TopicPartition,
    pub(super) bytes: Bytes,
    number: u64,
    /// Its place among those of its partition that have been sent.
    place: u64,
    since: Monotonic,
    /// Bytes of the producer's buffer that it takes.
    reserved: usize,
    outcome: Arc<Outcome>,
    /// Why it has to be sent again, after it was sent.
    last_error: Option<Error>,
    /// Whether it may be stored for all that is known.
    may_be_stored: bool,
    /// How many records are numbered here; 0 for a batch with a producer id of its own.
    records: i32,
}

/// A batch that is taken out to be sent, and may have to be built before that.
#[derive(Debug)]
pub(super) struct Parcel {
    batch: Batch,
    to_do: ToDo,
}

/// What has to be done to a batch before it is sent.
#[derive(Debug)]
enum ToDo {
    Nothing,
    Build(BatchBuilder),
    Stamp(Identity, i32),
}

/// What came of a batch that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Stored(Stored),
    /// It may be stored or not; sending it again may help. Not before the given time.
    Again(Error, Monotonic),
    /// The broker has not stored it because one before it is missing.
    OutOfOrder(Error),
    /// It is not stored and never will be.
    Refused(Error),
}

/// What to do next.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// What to send, by leader; at most one batch of a partition.
    pub(super) requests: BTreeMap<i32, Vec<Parcel>>,
    /// Partitions whose leader has to be looked up.
    pub(super) leaderless: BTreeSet<TopicPartition>,
    /// Whether a new identity is needed.
    pub(super) needs_identity: bool,
    /// When to ask again, if nothing happens before.
    pub(super) wake: Option<Monotonic>,
    /// Bytes of the producer's buffer that came free.
    pub(super) freed: usize,
}

/// What is known of a partition's leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leader {
    /// It takes another request.
    Ready(i32),
    /// It will, after something that wakes the sender.
    Busy,
    /// Not known.
    Unknown,
}

impl Accumulator {
    pub(super) const fn new(rules: Rules, identity: Option<Identity>) -> Self {
        Self {
            rules,
            identity,
            partitions: BTreeMap::new(),
            unresolved: BTreeMap::new(),
            next_number: 0,
            trouble: None,
        }
    }

    /// Adds a record that takes `reserved` bytes of the buffer; also whether there is a batch to
    /// send now, or there will be after some time for which nobody waits yet.
    pub(super) fn append(
        &mut self,
        partition: &TopicPartition,
        record: &ProducerRecord,
        timestamp: Timestamp,
        reserved: usize,
        now: Monotonic,
    ) -> (Delivery, bool) {
        let batch_bytes = self.rules.batch_bytes;
        let queue = entry(&mut self.partitions, partition);
        let full = |open: &Filling| open.size().saturating_add(reserved) > batch_bytes;
        let sealed = queue.open.as_ref().is_some_and(full);
        if sealed {
            queue.seal();
        }
        let opened = queue.open.is_none();
        let mut open = queue.open.take().unwrap_or_else(|| {
            let builder = self.rules.builder();
            let number = next(&mut self.next_number);
            let filling = Filling::new(Content::Records(builder), number, partition, now);
            self.unresolved.insert(number, Arc::clone(&filling.outcome));
            filling
        });
        let index = open.append(record, timestamp, reserved);
        let delivery = Delivery::new(Arc::clone(&open.outcome), index);
        let fills = open.size() >= batch_bytes;
        queue.open = Some(open);
        if fills {
            queue.seal();
        }
        (delivery, sealed || opened || fills)
    }

    /// Adds a whole batch, which is sent as it is.
    pub(super) fn append_batch(
        &mut self,
        partition: &TopicPartition,
        batch: Bytes,
        reserved: usize,
        now: Monotonic,
    ) -> Delivery {
        let number = next(&mut self.next_number);
        let mut filling = Filling::new(Content::Whole(batch), number, partition, now);
        filling.reserved = reserved;
        let outcome = Arc::clone(&filling.outcome);
        self.unresolved.insert(number, Arc::clone(&outcome));
        let queue = entry(&mut self.partitions, partition);
        queue.seal();
        queue.sealed.push_back(filling);
        Delivery::new(outcome, 0)
    }

    /// Makes everything ready to be sent, and returns the outcomes to wait for.
    pub(super) fn flush(&mut self) -> Vec<Arc<Outcome>> {
        for queue in self.partitions.values_mut() {
            queue.seal();
        }
        self.unresolved.values().cloned().collect()
    }

    /// Whether everything has an outcome.
    pub(super) fn is_empty(&self) -> bool {
        self.unresolved.is_empty()
    }

    /// Takes out what can be sent now.
    pub(super) fn drain(
        &mut self,
        now: Monotonic,
        mut leader: impl FnMut(&TopicPartition) -> Leader,
    ) -> Plan {
        let mut plan = Plan::default();
        let mut bytes: BTreeMap<i32, usize> = BTreeMap::new();
        let Self { rules, partitions, unresolved, identity, trouble, .. } = self;
        let trouble = trouble.as_ref();
        for (partition, queue) in partitions.iter_mut() {
            plan.freed += queue.expire(now, rules.delivery_timeout, partition, unresolved, trouble);
            if queue.paused {
                plan.needs_identity |= queue.in_flight.is_empty();
                continue;
            }
            match queue.ready(now, rules) {
                Ready::Now => {}
                Ready::At(time) => {
                    plan.wake = Some(plan.wake.map_or(time, |wake| wake.min(time)));
                    continue;
                }
                Ready::Never => continue,
            }
            let id = match leader(partition) {
                Leader::Ready(id) => id,
                Leader::Busy => continue,
                Leader::Unknown => {
                    plan.leaderless.insert(partition.clone());
                    continue;
                }
            };
            let sent = bytes.entry(id).or_default();
            if *sent >= rules.request_bytes {
                continue;
            }
            if let Some(parcel) = queue.take(partition, *identity) {
                *sent = sent.saturating_add(parcel.size());
                plan.requests.entry(id).or_default().push(parcel);
            }
        }
        plan
    }

    /// Says what came of a batch that was sent. Returns how many bytes of the buffer came free.
    pub(super) fn resolve(&mut self, mut batch: Batch, verdict: Verdict) -> usize {
        let idempotent = self.identity.is_some();
        let Self { partitions, unresolved, .. } = self;
        let queue = entry(partitions, &batch.partition);
        queue.in_flight.remove(&batch.place);
        let result = match verdict {
            Verdict::Stored(stored) => {
                queue.failures = 0;
                Ok(stored)
            }
            Verdict::Again(error, not_before) => {
                batch.may_be_stored |= may_be_stored(&error);
                if queue.paused && batch.may_be_stored {
                    return settle(unresolved, batch, Err(error));
                }
                queue.failures = queue.failures.saturating_add(1);
                queue.not_before = queue.not_before.max(not_before);
                return queue.put_back(batch, error);
            }
            Verdict::OutOfOrder(error)
                if batch.records > 0 && (queue.paused || queue.has_before(batch.place)) =>
            {
                // It would have been recognised.
                batch.may_be_stored = false;
                return queue.put_back(batch, error);
            }
            Verdict::OutOfOrder(error) | Verdict::Refused(error) => {
                queue.paused |= idempotent && batch.records > 0;
                Err(error)
            }
        };
        settle(unresolved, batch, result)
    }

    /// How often in a row batches of a partition had to be sent again.
    pub(super) fn failures(&self, partition: &TopicPartition) -> u32 {
        self.partitions.get(partition).map_or(0, |queue| queue.failures)
    }

    /// Goes on under a new identity where partitions wait for one. Returns how many bytes of the
    /// buffer came free.
    pub(super) fn renew(&mut self, identity: Identity) -> usize {
        self.identity = Some(identity);
        let Self { partitions, unresolved, .. } = self;
        let mut freed = 0;
        for queue in partitions.values_mut() {
            if !queue.paused || !queue.in_flight.is_empty() {
                continue;
            }
            queue.paused = false;
            queue.identity = Some(identity);
            queue.next_sequence = 0;
            for (place, mut batch) in std::mem::take(&mut queue.returned) {
                match batch.renew(identity, queue.next_sequence) {
                    Ok(bytes) => {
                        batch.bytes = bytes;
                        queue.next_sequence = after(queue.next_sequence, batch.records);
                        queue.returned.insert(place, batch);
                    }
                    Err(error) => freed += settle(unresolved, batch, Err(error)),
                }
            }
        }
        freed
    }

    /// Notes why a broker can't be reached, or that one can.
    pub(super) fn reached(&mut self, broker: Result<(), Error>) {
        self.trouble = broker.err();
    }

    /// Fails everything that has no outcome. What is in flight stays so.
    pub(super) fn abort(&mut self, error: &Error) {
        for outcome in std::mem::take(&mut self.unresolved).into_values() {
            outcome.complete(Err(error.clone()));
        }
        self.partitions.clear();
    }
}

fn entry<'a>(
    partitions: &'a mut BTreeMap<TopicPartition, Queue>,
    partition: &TopicPartition,
) -> &'a mut Queue {
    partitions.entry(partition.clone()).or_default()
}

fn next(number: &mut u64) -> u64 {
    *number += 1;
    *number
}

/// Where the part of a batch begins that its checksum covers: with the attributes.
const CHECKED_FROM: usize = 21;

/// Gives a batch its outcome; returns the bytes of the buffer that it took.
fn settle(
    unresolved: &mut BTreeMap<u64, Arc<Outcome>>,
    batch: Batch,
    result: Result<Stored, Error>,
) -> usize {
    unresolved.remove(&batch.number);
    batch.outcome.complete(result);
    batch.reserved
}

/// Whether a batch may be stored although its producer was told so.
fn may_be_stored(error: &Error) -> bool {
    match error.code() {
        Some(code) => matches!(
            code,
            ErrorCode::RequestTimedOut
                | ErrorCode::NotEnoughReplicasAfterAppend
                | ErrorCode::NetworkException
                | ErrorCode::UnknownServerError
        ),
        // No answer: nobody knows.
        None => true,
    }
}

/// The sequence `records` after `sequence`; after the largest comes 0.
fn after(sequence: i32, records: i32) -> i32 {
    let sum = i64::from(sequence) + i64::from(records);
    i32::try_from(sum % (i64::from(i32::MAX) + 1)).unwrap_or(0)
}

/// Whether a queue has something to send.
enum Ready {
    Now,
    At(Monotonic),
    Never,
}

impl Queue {
    fn seal(&mut self) {
        self.sealed.extend(self.open.take());
    }

    /// The place of the first batch that has been sent and has no outcome.
    fn first_place(&self) -> Option<u64> {
        self.in_flight.first().into_iter().chain(self.returned.keys().next()).min().copied()
    }

    fn has_before(&self, place: u64) -> bool {
        self.first_place().is_some_and(|first| first < place)
    }

    /// Keeps a batch to be sent again; nothing of the buffer comes free.
    fn put_back(&mut self, mut batch: Batch, error: Error) -> usize {
        batch.last_error = Some(error);
        self.returned.insert(batch.place, batch);
        0
    }

    fn ready(&self, now: Monotonic, rules: &Rules) -> Ready {
        let later = |time| if now >= time { Ready::Now } else { Ready::At(time) };
        if !self.returned.is_empty() {
            // Only batches that are sent again may follow one another.
            let behind = self.in_flight.last() > self.returned.keys().next();
            return if behind { Ready::Never } else { later(self.not_before) };
        }
        if self.first_place().is_some_and(|first| self.next_place - first >= rules.in_flight_max) {
            return Ready::Never;
        }
        if !self.sealed.is_empty() {
            return later(self.not_before);
        }
        match &self.open {
            Some(open) => later(self.not_before.max(open.since.plus(rules.linger))),
            None => Ready::Never,
        }
    }

    /// Takes the next batch to send.
    fn take(&mut self, partition: &TopicPartition, identity: Option<Identity>) -> Option<Parcel> {
        if let Some((place, batch)) = self.returned.pop_first() {
            self.in_flight.insert(place);
            return Some(Parcel { batch, to_do: ToDo::Nothing });
        }
        if self.sealed.is_empty() {
            self.seal();
        }
        let filling = self.sealed.pop_front()?;
        // A partition keeps the identity that it began with.
        self.identity = self.identity.or(identity);
        let mut parcel = filling.into_parcel(partition, self.identity, self.next_sequence);
        self.next_sequence = after(self.next_sequence, parcel.batch.records);
        parcel.batch.place = self.next_place;
        self.in_flight.insert(self.next_place);
        self.next_place += 1;
        Some(parcel)
    }

    /// Fails what has waited for too long. Returns how many bytes of the buffer came free.
    fn expire(
        &mut self,
        now: Monotonic,
        limit: Duration,
        partition: &TopicPartition,
        unresolved: &mut BTreeMap<u64, Arc<Outcome>>,
        trouble: Option<&Error>,
    ) -> usize {
        let mut freed = 0;
        let expired = |since: Monotonic| now.since(since) >= limit;
        let error = |last: Option<Error>| {
            let last = trouble.cloned().or(last);
            let last = last.unwrap_or_else(|| Error::NoLeader { what: partition.to_string() });
            Error::Undelivered { what: partition.to_string(), limit, last: Box::new(last) }
        };
        if self.returned.values().next().is_some_and(|batch| expired(batch.since)) {
            // Whether they are stored is not known, so that none can be left out before another.
            for (_, batch) in std::mem::take(&mut self.returned) {
                let why = error(batch.last_error.clone());
                freed += settle(unresolved, batch, Err(why));
            }
            self.paused = self.identity.is_some();
        }
        if self.open.as_ref().is_some_and(|open| expired(open.since)) {
            self.seal();
        }
        while self.sealed.front().is_some_and(|filling| expired(filling.since)) {
            if let Some(filling) = self.sealed.pop_front() {
                unresolved.remove(&filling.number);
                filling.outcome.complete(Err(error(None)));
                freed += filling.reserved;
            }
        }
        freed
    }
}

impl Filling {
    fn new(content: Content, number: u64, of: &TopicPartition, since: Monotonic) -> Self {
        Self { content, number, since, reserved: 0, outcome: Outcome::new(of.clone()) }
    }

    fn size(&self) -> usize {
        match &self.content {
            Content::Records(builder) => builder.size(),
            Content::Whole(bytes) => bytes.len(),
        }
    }

    fn append(&mut self, record: &ProducerRecord, timestamp: Timestamp, reserved: usize) -> i32 {
        self.reserved += reserved;
        let Content::Records(builder) = &mut self.content else { return 0 };
        let headers: Vec<_> = record
            .headers
            .iter()
            .map(|(key, value)| Header { key, value: value.as_deref() })
            .collect();
        let index = builder.records_count();
        builder.append(timestamp, record.key.as_deref(), record.value.as_deref(), &headers);
        index
    }

    fn into_parcel(
        self,
        partition: &TopicPartition,
        identity: Option<Identity>,
        sequence: i32,
    ) -> Parcel {
        let (bytes, records, to_do) = match self.content {
            Content::Whole(bytes) => match (identity, records_to_number(&bytes)) {
                (Some(identity), Some(records)) => {
                    (bytes, records, ToDo::Stamp(identity, sequence))
                }
                (_, _) => (bytes, 0, ToDo::Nothing),
            },
            Content::Records(builder) => {
                let records = builder.records_count();
                let builder = match identity {
                    Some(Identity { id, epoch }) => builder.producer(id, epoch, sequence),
                    None => builder,
                };
                (Bytes::new(), records, ToDo::Build(builder))
            }
        };
        let batch = Batch {
            partition: partition.clone(),
            bytes,
            number: self.number,
            place: 0,
            since: self.since,
            reserved: self.reserved,
            outcome: self.outcome,
            last_error: None,
            may_be_stored: false,
            records,
        };
        Parcel { batch, to_do }
    }
}

impl Batch {
    /// Its bytes under another identity.
    ///
    /// # Errors
    ///
    /// Why it was returned, when it may be stored already.
    fn renew(&self, identity: Identity, sequence: i32) -> Result<Bytes, Error> {
        if self.may_be_stored {
            return Err(self.last_error.clone().unwrap_or(Error::Closed));
        }
        if self.records == 0 {
            return Ok(self.bytes.clone());
        }
        stamp(&self.bytes, identity, sequence).map_err(|error| Error::Records {
            what: self.partition.to_string(),
            why: error.to_string(),
        })
    }
}

/// How many records a batch has, if no producer has numbered them.
fn records_to_number(batch: &[u8]) -> Option<i32> {
    let header = BatchHeader::decode(batch).ok()?;
    (!header.has_producer()).then_some(header.records_count)
}

/// A copy of a batch under another identity, with a new checksum.
fn stamp(batch: &[u8], identity: Identity, sequence: i32) -> Result<Bytes, DecodeError> {
    let header = BatchHeader {
        producer_id: identity.id,
        producer_epoch: identity.epoch,
        base_sequence: sequence,
        ..BatchHeader::decode(batch)?
    };
    let mut stamped = [&header.encode(), batch.get(HEADER_SIZE..).unwrap_or_default()].concat();
    let crc = crc32c(stamped.get(CHECKED_FROM..).unwrap_or_default());
    if let Some(head) = stamped.first_chunk_mut::<HEADER_SIZE>() {
        *head = BatchHeader { crc, ..header }.encode();
    }
    Ok(stamped.into())
}

impl Parcel {
    /// About how many bytes it takes in a request.
    fn size(&self) -> usize {
        match &self.to_do {
            ToDo::Build(builder) => builder.size(),
            ToDo::Nothing | ToDo::Stamp(..) => self.batch.bytes.len(),
        }
    }

    /// The batch, which is built now if it has not been: the slow part of sending.
    ///
    /// # Errors
    ///
    /// The batch and what is wrong with it, to be handed to [`Accumulator::resolve`].
    pub(super) fn build(self) -> Result<Batch, Box<(Batch, Verdict)>> {
        let Self { mut batch, to_do } = self;
        let built = match to_do {
            ToDo::Nothing => return Ok(batch),
            ToDo::Build(builder) => builder.build().map_err(|error| error.to_string()),
            ToDo::Stamp(identity, sequence) => {
                stamp(&batch.bytes, identity, sequence).map_err(|error| error.to_string())
            }
        };
        match built {
            Ok(bytes) => {
                batch.bytes = bytes;
                Ok(batch)
            }
            Err(why) => {
                let what = batch.partition.to_string();
                Err(Box::new((batch, Verdict::Refused(Error::Records { what, why }))))
            }
        }
    }
}

impl Rules {
    fn builder(&self) -> BatchBuilder {
        BatchBuilder::new().compression(self.compression, self.level)
    }
}
