//! What a restart must find again of one group: its record and its committed offsets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use millstream_types::{Offset, ProducerId, Timestamp};

use crate::host::{StoredRecord, TEXT_LEN_MAX};

use super::command::{Commit, DeleteOffsets, FetchTopic};
use super::consumer::state::{ConsumerFact, ConsumerGroup};
use super::live::{Live, Phase, Subscribed};
use super::record::{Fact, StoredGroup, StoredOffset};
use super::reply::{
    CommitPartitionError, Committed, CommittedTopic, DeletePartitionError, DeletedTopic,
    FetchError, Fetched,
};
use super::streams::state::{StreamsFact, StreamsGroup};

/// Hard state of one group. Changed by [`Hard::apply`] alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Hard {
    /// A classic group as of the end of its last rebalance.
    pub(super) stored: Option<StoredGroup>,
    /// A consumer group.
    pub(super) consumer: Option<Box<ConsumerGroup>>,
    /// A streams group.
    pub(super) streams: Option<Box<StreamsGroup>>,
    offsets: BTreeMap<Arc<str>, BTreeMap<i32, StoredOffset>>,
    staged: Staged,
}

impl Hard {
    /// Whether there is nothing to remember.
    pub(super) fn is_void(&self) -> bool {
        self.stored.is_none()
            && self.is_classic()
            && self.offsets.is_empty()
            && self.staged.is_empty()
    }

    /// Whether it is no group of another protocol.
    pub(super) fn is_classic(&self) -> bool {
        self.consumer.is_none() && self.streams.is_none()
    }

    /// Takes in what a transaction says of the offset of one partition: nothing until it commits.
    pub(super) fn stage(
        &mut self,
        producer: ProducerId,
        topic: Arc<str>,
        partition: i32,
        offset: StoredOffset,
    ) {
        self.staged.put(producer, topic, partition, offset);
    }

    /// The producer's transaction has ended.
    pub(super) fn end_transaction(&mut self, producer: ProducerId, commit: bool) {
        for (order, topic, partition, offset) in self.staged.take(producer) {
            if commit {
                self.staged.supersede(&topic, partition, order);
                self.offsets.entry(topic).or_default().insert(partition, offset);
            }
        }
    }

    pub(super) fn offsets_count(&self) -> usize {
        self.offsets.values().map(BTreeMap::len).sum()
    }

    /// Takes in what a record says of a consumer group. Its end is that of the record that begins it.
    pub(super) fn apply_consumer(&mut self, fact: ConsumerFact) {
        match (&mut self.consumer, fact) {
            (consumer, ConsumerFact::Epoch(None)) => *consumer = None,
            (Some(consumer), fact) => consumer.apply(fact),
            (None, fact) if fact.is_end() => {}
            (consumer @ None, fact) => consumer.insert(Box::default()).apply(fact),
        }
    }

    /// The same of a streams group.
    pub(super) fn apply_streams(&mut self, fact: StreamsFact) {
        match (&mut self.streams, fact) {
            (streams, StreamsFact::Group(None)) => *streams = None,
            (Some(streams), fact) => streams.apply(fact),
            (None, fact) if fact.is_end() => {}
            (streams @ None, fact) => streams.insert(Box::default()).apply(fact),
        }
    }

    /// Takes in what a record says of the offset of one partition.
    pub(super) fn apply_offset(
        &mut self,
        topic: Arc<str>,
        partition: i32,
        value: Option<StoredOffset>,
    ) {
        // Whatever was staged before comes too late when its transaction commits.
        self.staged.supersede(&topic, partition, u64::MAX);
        if let Some(offset) = value {
            self.offsets.entry(topic).or_default().insert(partition, offset);
        } else if let Some(partitions) = self.offsets.get_mut(&topic) {
            partitions.remove(&partition);
            if partitions.is_empty() {
                self.offsets.remove(&topic);
            }
        }
    }

    /// Whether a member of a consumer or streams group reads the topic.
    fn reads(&self, topic: &str) -> bool {
        self.consumer.as_ref().is_some_and(|consumer| consumer.reads(topic))
            || self.streams.as_ref().is_some_and(|streams| streams.reads(topic))
    }

    /// Whether it is a group in which there is nobody.
    pub(super) fn has_nobody(&self) -> bool {
        self.consumer.as_ref().is_none_or(|consumer| consumer.members().is_empty())
            && self.streams.as_ref().is_none_or(|streams| streams.members().is_empty())
    }

    fn get(&self, topic: &str, partition: i32) -> Option<&StoredOffset> {
        self.offsets.get(topic)?.get(&partition)
    }

    /// The records that rebuild this state.
    pub(super) fn facts(&self, group: &Arc<str>) -> impl Iterator<Item = Fact> {
        let stored = self
            .stored
            .clone()
            .map(|stored| Fact::Group { group: Arc::clone(group), value: Some(stored) });
        let offsets = self.iter().map(|(topic, partition, offset)| Fact::Offset {
            group: Arc::clone(group),
            topic: Arc::clone(topic),
            partition,
            value: Some(offset.clone()),
        });
        let consumer = self.consumer.iter().flat_map(|consumer| consumer.facts());
        let consumer = consumer.map(|fact| Fact::Consumer { group: Arc::clone(group), fact });
        let streams = self.streams.iter().flat_map(|streams| streams.facts());
        let streams = streams.map(|fact| Fact::Streams { group: Arc::clone(group), fact });
        stored.into_iter().chain(consumer).chain(streams).chain(offsets)
    }

    fn iter(&self) -> impl Iterator<Item = (&Arc<str>, i32, &StoredOffset)> {
        self.offsets.iter().flat_map(|(topic, partitions)| {
            partitions.iter().map(move |(partition, offset)| (topic, *partition, offset))
        })
    }

    /// Records that forget everything.
    pub(super) fn forget_all(&self, group: &Arc<str>, records: &mut Vec<StoredRecord>) {
        let stored = self.iter().map(|(topic, partition, _)| (topic, partition));
        let all: BTreeSet<_> = stored.chain(self.staged.partitions()).collect();
        for (topic, partition) in all {
            forget(group, topic, partition, records);
        }
        self.forget_group(group, records);
    }

    /// Records that forget everything but offsets.
    pub(super) fn forget_group(&self, group: &Arc<str>, records: &mut Vec<StoredRecord>) {
        if self.stored.is_some() {
            Fact::Group { group: Arc::clone(group), value: None }.put(records);
        }
        for fact in self.consumer.iter().flat_map(|consumer| consumer.farewell()) {
            Fact::Consumer { group: Arc::clone(group), fact }.put(records);
        }
        for fact in self.streams.iter().flat_map(|streams| streams.farewell()) {
            Fact::Streams { group: Arc::clone(group), fact }.put(records);
        }
    }

    /// Records that forget the offsets of a topic.
    pub(super) fn forget_topic(
        &self,
        group: &Arc<str>,
        topic: &Arc<str>,
        records: &mut Vec<StoredRecord>,
    ) {
        let stored = self.offsets.get(topic).into_iter().flat_map(BTreeMap::keys).copied();
        let staged = self.staged.partitions().filter(|(of, _)| *of == topic);
        let all: BTreeSet<i32> = stored.chain(staged.map(|(_, partition)| partition)).collect();
        for partition in all {
            forget(group, topic, partition, records);
        }
    }

    /// Records that forget what a request names, unless a member reads it.
    pub(super) fn delete(
        &self,
        request: &DeleteOffsets,
        subscribed: &Subscribed,
        records: &mut Vec<StoredRecord>,
    ) -> Vec<DeletedTopic> {
        let mut results = Vec::with_capacity(request.topics.len());
        for (topic, partitions) in &request.topics {
            let result = if self.reads(topic) || subscribed.includes(topic) {
                Err(DeletePartitionError::SubscribedToTopic)
            } else {
                Ok(())
            };
            for &partition in partitions {
                let known =
                    self.get(topic, partition).is_some() || self.staged.has(topic, partition);
                if result.is_ok() && known {
                    forget(&request.group, topic, partition, records);
                }
            }
            let per_partition = partitions.iter().map(|index| (*index, result)).collect();
            results.push((Arc::clone(topic), per_partition));
        }
        results
    }

    /// The offsets of some topics, in the order asked, or all there are; `stable` refuses those that an
    /// open transaction may change.
    pub(super) fn fetch(
        &self,
        asked: Option<&[FetchTopic]>,
        stable: bool,
    ) -> Vec<(Arc<str>, Vec<Fetched>)> {
        let unstable = |topic: &str, index: i32| stable && self.staged.has(topic, index);
        let told = |topic: &str, index: i32, offset: Option<&StoredOffset>| {
            if unstable(topic, index) {
                Fetched { index, committed: Err(FetchError::Unstable) }
            } else {
                fetched(index, offset)
            }
        };
        let Some(asked) = asked else {
            let all = self.offsets.iter().map(|(topic, partitions)| {
                let each =
                    partitions.iter().map(|(index, offset)| told(topic, *index, Some(offset)));
                (Arc::clone(topic), each.collect())
            });
            return all.collect();
        };
        let of_topic = |topic: &FetchTopic| {
            let each = topic.partitions.iter().map(|&index| {
                let offset = self.get(&topic.name, index);
                told(&topic.name, index, offset.filter(|offset| offset.belongs_to(topic)))
            });
            (Arc::clone(&topic.name), each.collect())
        };
        asked.iter().map(of_topic).collect()
    }

    /// Records that forget what has expired; whether nothing is left then.
    pub(super) fn expire(
        &self,
        live: &Live,
        wall: Timestamp,
        retention: Duration,
        records: &mut Vec<StoredRecord>,
    ) -> bool {
        let Some(rule) = Expiry::of(live) else { return self.offsets.is_empty() };
        let subscribed = live.subscribed();
        let mut nothing_left = self.staged.is_empty();
        for (topic, partition, offset) in self.iter() {
            let expired = !self.reads(topic)
                && !subscribed.includes(topic)
                && !self.staged.has(topic, partition)
                && offset.expires_at.map_or_else(
                    || rule.base(offset).plus(retention) <= wall,
                    |expires_at| expires_at <= wall,
                );
            if expired {
                forget(&live.id, topic, partition, records);
            } else {
                nothing_left = false;
            }
        }
        nothing_left
    }
}

/// By topic and partition: when it came, and the offset.
type StagedByOne = BTreeMap<(Arc<str>, i32), (u64, StoredOffset)>;

/// Offsets that open transactions store when they commit.
///
/// Of several for a partition the one that came last counts, whichever transaction ends first: so each
/// has its place in the order in which they came, and what is superseded is dropped at once.
#[derive(Clone, Debug, Default)]
struct Staged {
    by_producer: BTreeMap<ProducerId, StagedByOne>,
    came: u64,
}

impl Staged {
    fn is_empty(&self) -> bool {
        self.by_producer.is_empty()
    }

    fn put(&mut self, producer: ProducerId, topic: Arc<str>, partition: i32, offset: StoredOffset) {
        self.came = self.came.saturating_add(1);
        let staged = self.by_producer.entry(producer).or_default();
        staged.insert((topic, partition), (self.came, offset));
    }

    /// All of a producer's.
    fn take(
        &mut self,
        producer: ProducerId,
    ) -> impl Iterator<Item = (u64, Arc<str>, i32, StoredOffset)> + use<> {
        let all = self.by_producer.remove(&producer).unwrap_or_default();
        all.into_iter().map(|((topic, partition), (came, offset))| (came, topic, partition, offset))
    }

    /// Drops what came before `order` for a partition.
    fn supersede(&mut self, topic: &Arc<str>, partition: i32, order: u64) {
        if self.is_empty() {
            return;
        }
        let key = (Arc::clone(topic), partition);
        self.by_producer.retain(|_, staged| {
            if staged.get(&key).is_some_and(|(came, _)| *came < order) {
                staged.remove(&key);
            }
            !staged.is_empty()
        });
    }

    fn has(&self, topic: &str, partition: i32) -> bool {
        self.partitions().any(|(of, index)| of.as_ref() == topic && index == partition)
    }

    fn partitions(&self) -> impl Iterator<Item = (&Arc<str>, i32)> {
        let keys = self.by_producer.values().flat_map(BTreeMap::keys);
        keys.map(|(topic, partition)| (topic, *partition))
    }
}

/// Two are the same when the same would come of them: where the count began does not matter.
impl PartialEq for Staged {
    fn eq(&self, other: &Self) -> bool {
        let in_order = |staged: &Self| {
            let all = staged.by_producer.iter().flat_map(|(producer, offsets)| {
                offsets
                    .iter()
                    .map(|(key, (came, offset))| (*came, *producer, key.clone(), offset.clone()))
            });
            let mut all: Vec<_> = all.collect();
            all.sort_by_key(|(came, ..)| *came);
            all.into_iter().map(|(_, producer, key, offset)| (producer, key, offset)).collect()
        };
        let ours: Vec<_> = in_order(self);
        ours == in_order(other)
    }
}

impl Eq for Staged {}

/// From when on the retention of a group's offsets counts.
enum Expiry {
    /// From the moment when its last member left, where that is known.
    SinceEmpty(Option<Timestamp>),
    /// From each commit.
    SinceCommit,
}

impl Expiry {
    /// `None` when nothing may expire.
    fn of(live: &Live) -> Option<Self> {
        if live.protocol_type.is_none() {
            return Some(Self::SinceCommit);
        }
        match live.phase {
            Phase::Empty => Some(Self::SinceEmpty(live.since)),
            // Topics that no member reads any more; which those are, consumers say.
            Phase::Stable if matches!(live.subscribed(), Subscribed::Topics(_)) => {
                Some(Self::SinceCommit)
            }
            Phase::Stable | Phase::Preparing { .. } | Phase::Completing => None,
        }
    }

    fn base(&self, offset: &StoredOffset) -> Timestamp {
        match self {
            Self::SinceEmpty(Some(since)) => *since,
            Self::SinceEmpty(None) | Self::SinceCommit => offset.committed_at,
        }
    }
}

impl StoredOffset {
    /// Whether the offset was committed for the topic that is asked for, not for a deleted
    /// namesake. Who names a topic by name alone takes what is there.
    fn belongs_to(&self, topic: &FetchTopic) -> bool {
        self.topic_id.zip(topic.id).is_none_or(|(stored, asked)| stored == asked)
    }
}

fn fetched(index: i32, offset: Option<&StoredOffset>) -> Fetched {
    let committed = offset.map(|offset| Committed {
        offset: offset.offset,
        leader_epoch: offset.leader_epoch,
        metadata: Arc::clone(&offset.metadata),
        topic_id: offset.topic_id,
    });
    Fetched { index, committed: Ok(committed) }
}

fn forget(group: &Arc<str>, topic: &Arc<str>, partition: i32, records: &mut Vec<StoredRecord>) {
    let (group, topic) = (Arc::clone(group), Arc::clone(topic));
    Fact::Offset { group, topic, partition, value: None }.put(records);
}

/// The records that store a commit, and what each partition is answered.
pub(super) fn commit(
    commit: &Commit,
    wall: Timestamp,
    metadata_max: usize,
    records: &mut Vec<StoredRecord>,
) -> Vec<CommittedTopic> {
    let expires_at = commit.retention_ms.map(|ms| Timestamp(wall.0.saturating_add(ms)));
    let mut results = Vec::with_capacity(commit.topics.len());
    for topic in &commit.topics {
        let mut per_partition = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let note = &partition.metadata;
            if is_longer(note, metadata_max) || note.len() > TEXT_LEN_MAX {
                per_partition.push((partition.index, Err(CommitPartitionError::MetadataTooLarge)));
                continue;
            }
            let value = StoredOffset {
                offset: Offset(partition.offset.0),
                leader_epoch: partition.leader_epoch,
                metadata: Arc::clone(&partition.metadata),
                committed_at: wall,
                expires_at,
                topic_id: topic.id,
            };
            Fact::Offset {
                group: Arc::clone(&commit.speaker.group),
                topic: Arc::clone(&topic.name),
                partition: partition.index,
                value: Some(value),
            }
            .put(records);
            per_partition.push((partition.index, Ok(())));
        }
        results.push((Arc::clone(&topic.name), per_partition));
    }
    results
}

/// Whether a text has more than `max` UTF-16 units, which is how Kafka counts.
fn is_longer(text: &str, max: usize) -> bool {
    // A unit takes at least one byte, so that most texts need no counting.
    text.len() > max && text.encode_utf16().count() > max
}
