//! What was asked for and what was acknowledged, and whether a broker holds it.
//!
//! The model is a map of topics with a list of what was sent to each partition. What is acknowledged
//! must be there, at its offset; what was asked for and not acknowledged may be there or not; nothing
//! else may be. What was on a part of the disk that was damaged may be missing where that is reported.

use std::collections::{BTreeMap, BTreeSet};

use millstream_broker::log::{Isolation, ReadError};
use millstream_broker::{Broker, OFFSETS_TOPIC, TopicRef};
use millstream_types::Timestamp;

use crate::session::committed_on;

/// What must be there, and what may be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) topics: BTreeMap<String, Topic>,
    /// What the group has committed, by topic and partition.
    pub(crate) committed: BTreeMap<(String, i32), Asked<Option<i64>>>,
}

/// Something that is set: what was acknowledged last, and what was asked for since.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked<T> {
    acked: T,
    asked: Vec<T>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Topic {
    pub(crate) is_there: Asked<bool>,
    pub(crate) partitions: Asked<i32>,
    /// `retention.ms`.
    pub(crate) keep_ms: Asked<Option<i64>>,
    pub(crate) logs: BTreeMap<i32, Log>,
}

/// A partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    /// In the order in which it was first sent.
    pub(crate) sent: Vec<Sent>,
    /// The log start that was acknowledged, and the highest that was asked for.
    pub(crate) start: (i64, i64),
}

/// A batch of one record, which no other is like.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) value: String,
    pub(crate) time: Timestamp,
    /// How often it was sent.
    pub(crate) tries: usize,
    /// The sequence number, if its producer is idempotent: then it is stored once.
    pub(crate) sequence: Option<i32>,
    /// Where it is, if that was acknowledged.
    pub(crate) at: Option<i64>,
}

/// What may be missing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Losses {
    /// What was reported, by topic, partition and offset.
    pub(crate) named: BTreeSet<(String, i32, i64)>,
    /// Whether the damage is in what was written last before a crash, which looks like a write that
    /// the crash has cut off.
    pub(crate) end_is_cut: bool,
    /// Whether the metadata are damaged, so that what an entry said is nowhere else.
    pub(crate) metadata: bool,
    /// Whether a repair was needed: where a log starts may have been known to what was damaged only.
    pub(crate) repaired: bool,
}

/// What a reader gets.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// By offset.
    pub(crate) found: Vec<(i64, String)>,
    /// Offsets that were reported as corrupt.
    pub(crate) lost: BTreeSet<i64>,
    start: i64,
}

pub(crate) type Checked<T = ()> = Result<T, String>;

fn ensure(holds: bool, why: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(why()) }
}

impl<T: Clone + PartialEq> Asked<T> {
    pub(crate) fn ask(&mut self, value: T) {
        self.asked.push(value);
    }

    /// What was asked for last is acknowledged.
    pub(crate) fn ack(&mut self) {
        if let Some(last) = self.asked.pop() {
            *self = Self { acked: last, asked: Vec::new() };
        }
    }

    fn allows(&self, value: &T) -> bool {
        self.acked == *value || self.asked.contains(value)
    }
}

impl Model {
    /// Whether the broker holds what it must, and nothing else, but for what may be missing. Returns how
    /// many acknowledged records are missing.
    pub(crate) async fn check(
        &self,
        broker: &Broker,
        now: Timestamp,
        losses: &Losses,
    ) -> Checked<usize> {
        let topics = broker.topics();
        let names: BTreeSet<_> = topics.iter().map(|topic| topic.name.to_string()).collect();
        for name in names.iter().filter(|name| *name != OFFSETS_TOPIC) {
            let known = self.topics.get(name);
            ensure(
                known.is_some_and(|topic| topic.is_there.allows(&true)) || losses.metadata,
                || format!("there is a topic {name}"),
            )?;
        }
        let mut missing = 0;
        for (name, topic) in &self.topics {
            if !names.contains(name) {
                ensure(topic.is_there.allows(&false) || losses.metadata, || {
                    format!("{name} is gone")
                })?;
                continue;
            }
            missing += self.check_topic(broker, name, topic, now, losses).await?;
        }
        self.check_commits(broker, losses).await?;
        Ok(missing)
    }

    async fn check_topic(
        &self,
        broker: &Broker,
        name: &str,
        topic: &Topic,
        now: Timestamp,
        losses: &Losses,
    ) -> Checked<usize> {
        let Some(there) = broker.topic(TopicRef::Name(name)) else { return Ok(0) };
        let count = there.partitions().len() as i32;
        ensure(topic.partitions.allows(&count) || losses.metadata, || {
            format!("{name} has {count} partitions: {:?}", topic.partitions)
        })?;
        let keep = there.config.retention.map(|keep| keep.as_millis() as i64);
        let keeps = |ms: &Option<i64>| ms.or(Some(7 * 24 * 3_600_000)) == keep;
        let mut kept = std::iter::once(&topic.keep_ms.acked).chain(&topic.keep_ms.asked);
        ensure(kept.any(keeps) || losses.metadata, || {
            format!("{name} keeps records for {keep:?}: {:?}", topic.keep_ms)
        })?;
        let mut missing = 0;
        for (index, log) in topic.logs.iter().filter(|(index, _)| **index < count) {
            let found = survey(broker, name, *index).await?;
            let what = format!("{name}-{index}");
            let expired = topic.expired(log, now);
            let allowed = log.start.1.max(expired);
            // Where a log starts may be known to a frame only that is damaged.
            let least = if losses.is_none() { log.start.0 } else { 0 };
            let starts = (least..=allowed).contains(&found.start);
            let is_told = (allowed..found.start).all(|at| losses.names(name, *index, at));
            ensure(starts || is_told, || {
                format!("{what} starts at {}, not {least} to {allowed}", found.start)
            })?;
            log.check_found(&found).map_err(|why| format!("{what}: {why}"))?;
            missing += log
                .check_missing(&found, |at| losses.names(name, *index, at), losses)
                .map_err(|why| format!("{what}: {why}"))?;
        }
        Ok(missing)
    }

    async fn check_commits(&self, broker: &Broker, losses: &Losses) -> Checked {
        let hit = losses.metadata
            || losses.end_is_cut
            || losses.named.iter().any(|(topic, ..)| topic == OFFSETS_TOPIC);
        for ((topic, index), asked) in &self.committed {
            if hit {
                continue;
            }
            let found = committed_on(broker, topic, *index).await;
            let found = found.map_err(|error| format!("no offsets: {error}"))?.map(|at| at.0);
            ensure(asked.allows(&found), || {
                format!("{topic}-{index}: {found:?} is committed: {asked:?}")
            })?;
        }
        Ok(())
    }
}

impl Topic {
    /// The first offset that retention keeps for sure.
    fn expired(&self, log: &Log, now: Timestamp) -> i64 {
        let kept = self.keep_ms.asked.iter().chain([&self.keep_ms.acked]);
        let Some(least) = kept.filter_map(|keep| *keep).min() else { return 0 };
        let old = log.sent.iter().filter(|sent| sent.time.0 + least < now.0);
        old.filter_map(|sent| sent.at).max().map_or(0, |at| at + 1)
    }
}

impl Losses {
    fn is_none(&self) -> bool {
        self.named.is_empty() && !self.end_is_cut && !self.metadata && !self.repaired
    }

    fn names(&self, topic: &str, index: i32, at: i64) -> bool {
        self.named.contains(&(topic.to_owned(), index, at))
    }
}

impl Log {
    /// Where the next record would be, as far as is known.
    pub(crate) fn end(&self) -> i64 {
        self.sent.iter().filter_map(|sent| sent.at).max().map_or(0, |at| at + 1)
    }

    /// Nothing is served that was not written, or more often, or elsewhere, or in another order.
    fn check_found(&self, found: &Survey) -> Checked {
        let mut times = BTreeMap::new();
        let mut sequence = -1;
        for (at, value) in &found.found {
            let short = &value[..value.len().min(20)];
            let Some(sent) = self.sent.iter().find(|sent| sent.value == *value) else {
                return Err(format!("serves at {at} what was not written: {short}"));
            };
            let count: &mut usize = times.entry(value).or_default();
            *count += 1;
            let most = if sent.sequence.is_some() { 1 } else { sent.tries };
            ensure(*count <= most, || format!("serves {short} {count} times"))?;
            if let Some(next) = sent.sequence {
                ensure(next > sequence, || format!("{short} at {at} is out of order"))?;
                sequence = next;
                ensure(sent.at.is_none_or(|acked| acked == *at), || {
                    format!("{short} is at {at}, and was acknowledged at {:?}", sent.at)
                })?;
            }
        }
        Ok(())
    }

    /// How many acknowledged records are missing; each must have been reported.
    fn check_missing(
        &self,
        found: &Survey,
        is_named: impl Fn(i64) -> bool,
        losses: &Losses,
    ) -> Checked<usize> {
        let there: BTreeMap<_, _> = found.found.iter().map(|(at, value)| (*at, value)).collect();
        let end = found.found.last().map_or(found.start, |(at, _)| at + 1);
        let mut missing = 0;
        for sent in &self.sent {
            let Some(at) = sent.at.filter(|at| *at >= found.start) else { continue };
            match there.get(&at) {
                Some(value) if **value == sent.value => continue,
                Some(_) => return Err(format!("serves something else at {at}")),
                None => {}
            }
            let is_end = losses.end_is_cut && at >= end;
            ensure(found.lost.contains(&at) || is_named(at) || is_end || losses.metadata, || {
                format!("{at} was acknowledged and is missing; there are {:?}", there.keys())
            })?;
            missing += 1;
        }
        ensure(missing == 0 || !losses.is_none() || !found.lost.is_empty(), || {
            format!("{missing} are missing")
        })?;
        Ok(missing)
    }
}

/// Everything that a reader of a partition gets; what is in between is told to be corrupt.
pub(crate) async fn survey(broker: &Broker, name: &str, index: i32) -> Checked<Survey> {
    let topic = broker.topic(TopicRef::Name(name)).ok_or("the topic is gone")?;
    let partition = topic.partition(index).ok_or("the partition is gone")?;
    let mut next = partition.ends().log_start;
    let mut survey = Survey { start: next.0, ..Survey::default() };
    while next < partition.ends().high_watermark {
        match partition.read(next, 1, true, Isolation::Uncommitted).await {
            Ok(slice) => {
                for batch in slice.batches {
                    let header = batch.header().unwrap();
                    ensure(header.base_offset == next, || {
                        format!("{name}-{index}: {next} is passed over without a word")
                    })?;
                    next = header.last_offset().next();
                    let records = batch.records(1 << 20).map_err(|error| error.to_string())?;
                    for (record, at) in records.iter().zip(header.base_offset.0..) {
                        let value = record.unwrap().value.unwrap_or_default().to_vec();
                        survey.found.push((at, String::from_utf8_lossy(&value).into_owned()));
                    }
                }
            }
            Err(ReadError::Corrupt { partition: hit, from, upto, .. }) => {
                ensure(hit == partition.id() && from <= next && next < upto, || {
                    format!("{name}-{index}: at {next}, {hit} is said to be corrupt: {from} {upto}")
                })?;
                survey.lost.extend(next.0..upto.0);
                next = upto;
            }
            Err(error) => return Err(format!("{name}-{index} at {next}: {error}")),
        }
    }
    Ok(survey)
}

/// Offsets that are served, or reported as corrupt.
pub(crate) async fn lost_offsets(broker: &Broker) -> Checked<BTreeSet<(String, i32, i64)>> {
    let mut lost = BTreeSet::new();
    for topic in broker.topics() {
        for index in 0..topic.partitions().len() as i32 {
            let found = survey(broker, &topic.name, index).await?;
            lost.extend(found.lost.into_iter().map(|at| (topic.name.to_string(), index, at)));
        }
    }
    Ok(lost)
}
