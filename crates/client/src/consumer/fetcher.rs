//! Fetching: each leader has one request under way that asks for all of its partitions, and gets
//! the next one as soon as the answer is in, while the user works on that.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use millstream_types::{Monotonic, Offset, ProducerId, Uuid};
use millstream_wire::fetch_request::{FetchPartition, FetchTopic};
use millstream_wire::fetch_response::PartitionData;
use millstream_wire::{ErrorCode, FetchRequest, FetchResponse, StrBytes};

use super::fetched::{Aborted, FetchedBatch, Opened, open};
use super::{ConsumerSettings, Reset, Start};
use crate::admin::{OffsetSpec, list_offsets};
use crate::cluster::{Cluster, Lane, LaneOwner, Target, TopicName, TopicPartition};
use crate::error::Error;

/// The newest version that is used; the next one is for replicas.
const NEWEST: i16 = 17;
/// The newest version that names topics rather than their ids.
const NEWEST_BY_NAME: i16 = 12;

/// Fetches partitions. Everything is driven by [`Fetcher::progress`].
#[derive(Debug)]
pub(super) struct Fetcher {
    cluster: Cluster,
    settings: ConsumerSettings,
    lane: Lane,
    partitions: BTreeMap<TopicPartition, Reading>,
    under_way: FuturesUnordered<BoxFuture<'static, Answer>>,
    /// Leaders that have been asked and have not answered.
    asked: BTreeSet<i32>,
    /// Counts assignments and answers.
    tick: u64,
}

/// How far a partition has been read.
#[derive(Clone, Debug)]
struct Reading {
    start: Start,
    /// The next offset to fetch; not known before the start has been looked up.
    position: Option<Offset>,
    /// Tells this assignment from one before it.
    assigned_at: u64,
    /// When it last had records: whoever has waited longest comes first.
    served_at: u64,
    in_flight: bool,
    not_before: Monotonic,
    failures: u32,
    failing_since: Option<Monotonic>,
}

/// What was asked for.
#[derive(Clone, Debug)]
struct Asked {
    partition: TopicPartition,
    from: Offset,
    assigned_at: u64,
    topic_id: Uuid,
}

#[derive(Debug)]
struct Answer {
    leader: i32,
    asked: Vec<Asked>,
    result: Result<FetchResponse, Error>,
}

/// What has happened.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Batches, in the order of each partition.
    pub(super) batches: Vec<FetchedBatch>,
    /// Whether a position has changed, with or without batches.
    pub(super) moved: bool,
}

impl Fetcher {
    pub(super) fn new(cluster: Cluster, settings: ConsumerSettings, owner: LaneOwner) -> Self {
        Self {
            cluster,
            settings,
            lane: Lane::Fetch(owner),
            partitions: BTreeMap::new(),
            under_way: FuturesUnordered::new(),
            asked: BTreeSet::new(),
            tick: 0,
        }
    }

    /// Reads `partition` from `start` on; forgets how far it had been read.
    pub(super) fn assign(&mut self, partition: TopicPartition, start: Start) {
        self.tick += 1;
        let position = match start {
            Start::At(offset) => Some(offset),
            Start::Earliest | Start::Latest | Start::Time(_) => None,
        };
        let reading = Reading {
            start,
            position,
            assigned_at: self.tick,
            served_at: 0,
            in_flight: false,
            not_before: Monotonic::default(),
            failures: 0,
            failing_since: None,
        };
        self.partitions.insert(partition, reading);
    }

    pub(super) fn unassign(&mut self, partition: &TopicPartition) {
        self.partitions.remove(partition);
    }

    pub(super) fn clear(&mut self) {
        self.partitions.clear();
    }

    pub(super) fn assigned(&self) -> impl Iterator<Item = &TopicPartition> {
        self.partitions.keys()
    }

    /// The next offset of each partition whose start is known.
    pub(super) fn positions(&self) -> BTreeMap<TopicPartition, Offset> {
        let known = self.partitions.iter();
        known.filter_map(|(of, reading)| Some((of.clone(), reading.position?))).collect()
    }

    /// Waits until positions move. Nothing is lost when this is dropped before it completes.
    ///
    /// # Errors
    ///
    /// What will not go away by itself, or has not for as long as the settings say.
    pub(super) async fn progress(&mut self) -> Result<Progress, Error> {
        loop {
            if self.find_starts().await? {
                self.ask().await?;
                return Ok(Progress { moved: true, ..Progress::default() });
            }
            let wake = self.ask().await?;
            let env = self.cluster.env().clone();
            tokio::select! {
                biased;
                Some(answer) = self.under_way.next(), if !self.under_way.is_empty() => {
                    let progress = self.on_answer(answer)?;
                    if progress.moved {
                        // The next batches travel while the user works on these.
                        self.ask().await?;
                        return Ok(progress);
                    }
                }
                () = env.clock.sleep_until(wake.unwrap_or_default()), if wake.is_some() => {}
                else => std::future::pending().await,
            }
        }
    }

    /// Looks up where to start where that is not an offset. Returns whether there was such a place.
    async fn find_starts(&mut self) -> Result<bool, Error> {
        let unknown = self.partitions.iter().filter(|(_, reading)| reading.position.is_none());
        let wanted: Vec<_> =
            unknown.map(|(of, reading)| (of.clone(), reading.start.spec())).collect();
        if wanted.is_empty() {
            return Ok(false);
        }
        let found = list_offsets(&self.cluster, &wanted, self.settings.isolation).await?;
        // No record is as late as the time asked for: what comes next will be.
        let late =
            wanted.iter().filter(|(of, _)| found.get(of).is_some_and(|f| f.offset.is_none()));
        let late: Vec<_> = late.map(|(of, _)| (of.clone(), OffsetSpec::Latest)).collect();
        let ends = list_offsets(&self.cluster, &late, self.settings.isolation).await?;
        for (of, found) in found.into_iter().chain(ends) {
            if let (Some(reading), Some(offset)) = (self.partitions.get_mut(&of), found.offset) {
                reading.position = Some(offset);
            }
        }
        Ok(true)
    }

    /// Sends requests to all leaders that have none under way. Returns when to do so again.
    async fn ask(&mut self) -> Result<Option<Monotonic>, Error> {
        let now = self.cluster.env().clock.monotonic();
        let mut wake: Option<Monotonic> = None;
        let mut requests: BTreeMap<i32, Vec<(u64, Asked)>> = BTreeMap::new();
        let idle: Vec<_> = self
            .partitions
            .iter()
            .filter(|(_, reading)| !reading.in_flight && reading.position.is_some())
            .map(|(of, reading)| (of.clone(), reading.clone()))
            .collect();
        for (partition, reading) in idle {
            if now < reading.not_before {
                wake = Some(wake.map_or(reading.not_before, |wake| wake.min(reading.not_before)));
                continue;
            }
            match leader(&self.cluster, &partition).await {
                Ok((leader, topic_id)) if !self.asked.contains(&leader) => {
                    let from = reading.position.unwrap_or_default();
                    let assigned_at = reading.assigned_at;
                    let asked = Asked { partition, from, assigned_at, topic_id };
                    requests.entry(leader).or_default().push((reading.served_at, asked));
                }
                Ok(_) => {}
                Err(error) => {
                    self.failed(&partition, error)?;
                    let again = self.partitions.get(&partition).map(|reading| reading.not_before);
                    wake = wake.into_iter().chain(again).min();
                }
            }
        }
        for (leader, mut asked) in requests {
            asked.sort_by_key(|(served_at, _)| *served_at);
            self.send(leader, asked.into_iter().map(|(_, asked)| asked).collect());
        }
        Ok(wake)
    }

    fn send(&mut self, leader: i32, asked: Vec<Asked>) {
        for asked in &asked {
            if let Some(reading) = self.partitions.get_mut(&asked.partition) {
                reading.in_flight = true;
            }
        }
        self.asked.insert(leader);
        let (cluster, lane, settings) = (self.cluster.clone(), self.lane, self.settings.clone());
        let mut answer = async move {
            let result = fetch(&cluster, lane, leader, &asked, &settings).await;
            Answer { leader, asked, result }
        }
        .boxed();
        // So that the request is on its way before the user is given what came before it: polled
        // once, it goes as far as the connection's queue, if there is a connection.
        if let Some(answer) = (&mut answer).now_or_never() {
            self.under_way.push(std::future::ready(answer).boxed());
        } else {
            self.under_way.push(answer);
        }
    }

    fn on_answer(&mut self, answer: Answer) -> Result<Progress, Error> {
        let Answer { leader, asked, result } = answer;
        self.asked.remove(&leader);
        // Partitions that were assigned anew meanwhile have nothing to do with this answer.
        let mut current = Vec::new();
        for asked in asked {
            if let Some(reading) = self.partitions.get_mut(&asked.partition)
                && reading.assigned_at == asked.assigned_at
            {
                reading.in_flight = false;
                current.push(asked);
            }
        }
        let answer = match result.and_then(|answer| {
            let what = || format!("fetch from broker {leader}");
            Error::check(answer.error_code, None, what).map(|()| answer)
        }) {
            Ok(answer) => answer,
            Err(error) => {
                for asked in current {
                    self.failed(&asked.partition, error.clone())?;
                }
                return Ok(Progress::default());
            }
        };
        let mut progress = Progress::default();
        for asked in current {
            if let Some(partition) = find(&answer, &asked) {
                self.take(&asked, partition, &mut progress)?;
            }
        }
        Ok(progress)
    }

    /// Takes in what came for one partition.
    fn take(
        &mut self,
        asked: &Asked,
        answer: &PartitionData,
        progress: &mut Progress,
    ) -> Result<(), Error> {
        let partition = &asked.partition;
        let what = || format!("partition {partition}");
        if let Err(error) = Error::check(answer.error_code, None, what) {
            return self.refused(partition, error);
        }
        let high_watermark = Offset(answer.high_watermark);
        let aborted = answer.aborted_transactions.iter().flatten();
        let aborted = aborted.map(|each| (ProducerId(each.producer_id), Offset(each.first_offset)));
        let aborted = Aborted::new(aborted);
        let opened = match &answer.records {
            Some(records) => open(partition, records, asked.from, high_watermark, aborted)?,
            None => Opened::default(),
        };
        let Some(reading) = self.partitions.get_mut(partition) else { return Ok(()) };
        reading.failures = 0;
        reading.failing_since = None;
        if let Some(next) = opened.next {
            self.tick += 1;
            reading.served_at = self.tick;
            reading.position = Some(next);
            progress.moved = true;
            progress.batches.extend(opened.batches);
        }
        Ok(())
    }

    /// Deals with an error that the leader gave for a partition.
    fn refused(&mut self, partition: &TopicPartition, error: Error) -> Result<(), Error> {
        if error.code() != Some(ErrorCode::OffsetOutOfRange) {
            return self.failed(partition, error);
        }
        let Some(reading) = self.partitions.get_mut(partition) else { return Ok(()) };
        let start = match self.settings.reset {
            Reset::Earliest => Start::Earliest,
            Reset::Latest => Start::Latest,
            Reset::Fail => {
                let at = reading.position.unwrap_or_default();
                let message = format!("there is no offset {at} any more, or not yet");
                let (what, code) = (format!("partition {partition}"), ErrorCode::OffsetOutOfRange);
                return Err(Error::Refused { what, code, message: Some(message) });
            }
        };
        reading.start = start;
        reading.position = None;
        Ok(())
    }

    /// Tries a partition again later, unless that is of no use.
    fn failed(&mut self, partition: &TopicPartition, error: Error) -> Result<(), Error> {
        if !error.is_retriable() {
            return Err(error);
        }
        let Some(reading) = self.partitions.get_mut(partition) else { return Ok(()) };
        let env = self.cluster.env();
        let now = env.clock.monotonic();
        let since = *reading.failing_since.get_or_insert(now);
        if self.settings.patience.is_some_and(|patience| now.since(since) >= patience) {
            return Err(error);
        }
        reading.failures = reading.failures.saturating_add(1);
        reading.not_before = now.plus(self.cluster.settings().backoff.wait(reading.failures, env));
        tracing::debug!(%partition, %error, "fetching again");
        self.cluster.forget(&Target::Leader(partition.clone()));
        Ok(())
    }
}

/// Does not borrow the fetcher, whose requests under way can't be shared between threads: a poll
/// shall be able to move from one to another.
async fn leader(cluster: &Cluster, of: &TopicPartition) -> Result<(i32, Uuid), Error> {
    let topic = cluster.topic(&of.topic).await?;
    Ok((cluster.leader(of).await?, topic.id))
}

async fn fetch(
    cluster: &Cluster,
    lane: Lane,
    leader: i32,
    asked: &[Asked],
    settings: &ConsumerSettings,
) -> Result<FetchResponse, Error> {
    let connection = cluster.connection(&Target::Broker(leader), lane).await?;
    let has_ids = asked.iter().all(|asked| asked.topic_id != Uuid::NIL);
    let newest = if has_ids { NEWEST } else { NEWEST_BY_NAME };
    let version = connection.version_within::<FetchRequest>(newest)?;
    let request = request(asked, settings);
    let limit = cluster.settings().request_timeout + settings.fetch_wait;
    connection.call_within(&request, version, limit).await
}

fn request(asked: &[Asked], settings: &ConsumerSettings) -> FetchRequest {
    let number = |bytes: usize| i32::try_from(bytes).unwrap_or(i32::MAX);
    // A topic's partitions stand together; topics in the order of their first partitions.
    let mut topics: Vec<(&TopicName, FetchTopic)> = Vec::new();
    for asked in asked {
        let TopicPartition { topic, partition } = &asked.partition;
        let at = topics.iter().position(|(name, _)| *name == topic).unwrap_or_else(|| {
            let name = StrBytes::from(topic.to_string());
            let entry = FetchTopic { topic: name, topic_id: asked.topic_id, ..Default::default() };
            topics.push((topic, entry));
            topics.len() - 1
        });
        if let Some((_, entry)) = topics.get_mut(at) {
            entry.partitions.push(FetchPartition {
                partition: *partition,
                fetch_offset: asked.from.0,
                partition_max_bytes: number(settings.partition_bytes),
                ..Default::default()
            });
        }
    }
    FetchRequest {
        max_wait_ms: i32::try_from(settings.fetch_wait.as_millis()).unwrap_or(i32::MAX),
        min_bytes: 1,
        max_bytes: number(settings.fetch_bytes),
        isolation_level: settings.isolation.level(),
        topics: topics.into_iter().map(|(_, entry)| entry).collect(),
        ..Default::default()
    }
}

/// The answer's part for a partition, by its topic's name or id.
fn find<'a>(answer: &'a FetchResponse, asked: &Asked) -> Option<&'a PartitionData> {
    let TopicPartition { topic, partition } = &asked.partition;
    let topics = answer.responses.iter().filter(|found| {
        found.topic == topic.as_ref()
            || (found.topic.is_empty() && found.topic_id == asked.topic_id)
    });
    topics.flat_map(|topic| &topic.partitions).find(|found| found.partition_index == *partition)
}

impl Start {
    const fn spec(self) -> OffsetSpec {
        match self {
            Self::Earliest => OffsetSpec::Earliest,
            // An offset is not looked up.
            Self::Latest | Self::At(_) => OffsetSpec::Latest,
            Self::Time(at) => OffsetSpec::At(at),
        }
    }
}
