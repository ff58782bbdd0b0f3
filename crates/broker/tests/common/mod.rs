//! A broker in memory, whose time stands still unless a test moves it.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_broker::log::{Appended, Isolation};
use millstream_broker::{
    Answer, Bounds, Broker, FetchError, Fetched, Newest, Node, ProduceError, Sent, Stores, Topic,
    TopicRef, TopicRequest, Want,
};
use millstream_env::{DataDir, Env, HandClock, JournalSettings};
use millstream_record::BatchBuilder;
use millstream_types::{BrokerId, LeaderEpoch, Offset, Timestamp};

pub(crate) struct World {
    pub(crate) broker: Broker,
    pub(crate) clock: Arc<HandClock>,
    pub(crate) topic: Arc<Topic>,
}

/// A broker with this configuration and a topic `t`.
pub(crate) async fn world(
    partitions: i32,
    settings: &[(&str, &str)],
    journal: JournalSettings,
) -> World {
    world_in(Env::seeded(1), partitions, settings, journal).await
}

/// The same in this world.
pub(crate) async fn world_in(
    (env, clock): (Env, Arc<HandClock>),
    partitions: i32,
    settings: &[(&str, &str)],
    journal: JournalSettings,
) -> World {
    let data = DataDir::in_memory(env.clone()).unwrap();
    let stores = Stores {
        journals: data.journals(journal).await.unwrap(),
        blobs: data.blobs().unwrap(),
        metadata: data.meta(),
        reserve: data.reserve(),
    };
    let node =
        Node { id: BrokerId(1), cluster_id: data.cluster(), host: "in-memory".to_owned(), port: 0 };
    let settings: BTreeMap<_, _> =
        settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let broker = Broker::start(env, node, stores, settings).await.unwrap();
    let request = TopicRequest {
        name: "t".to_owned(),
        partitions: Some(partitions),
        ..TopicRequest::default()
    };
    broker.create_topic(request, false).await.unwrap();
    let topic = broker.topic(TopicRef::Name("t")).unwrap();
    World { broker, clock, topic }
}

/// A batch of one record that is `size` bytes long, as a whole.
pub(crate) fn batch(size: usize) -> Bytes {
    let build = |value: usize| {
        let mut builder = BatchBuilder::new();
        builder.append(Timestamp(1_767_225_600_000), None, Some(&vec![b'v'; value]), &[]);
        builder.build().unwrap()
    };
    let overhead = build(size).len() - size;
    let batch = build(size - overhead);
    assert_eq!(batch.len(), size);
    batch
}

/// What `future` gives as long as nobody moves the clock; `None` when it goes on waiting.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        done = future => Some(done),
        () = settle() => None,
    }
}

/// Lets all tasks do what they can do now.
pub(crate) async fn settle() {
    for _ in 0..2_000 {
        tokio::task::yield_now().await;
    }
}

impl World {
    pub(crate) async fn append(
        &self,
        index: i32,
        records: &Bytes,
    ) -> Result<Appended, ProduceError> {
        self.append_as(index, records, false).await
    }

    /// The same of somebody who has written much of late, or not.
    pub(crate) async fn append_as(
        &self,
        index: i32,
        records: &Bytes,
        heavy: bool,
    ) -> Result<Appended, ProduceError> {
        let env = self.broker.env();
        let how = Sent {
            now: env.clock.wall(),
            full_validation: self.broker.config().full_validation,
            buffer_bytes: records.len(),
            heavy,
            patience: env.clock.monotonic().plus(Duration::from_secs(10)),
        };
        self.broker.append(&self.topic, index, records, how).await
    }

    /// Appends one batch, which is visible then.
    pub(crate) async fn put(&self, index: i32, size: usize) {
        let appended = self.append(index, &batch(size)).await.unwrap();
        self.broker.wait_durable(Newest::At(appended.session, appended.end)).await.unwrap();
    }

    pub(crate) fn want(&self, partition: i32, from: i64, bytes_max: usize) -> Want {
        Want {
            topic: Arc::clone(&self.topic),
            partition,
            from: Offset(from),
            bytes_max,
            leader_epoch: LeaderEpoch::NONE,
            last_fetched_epoch: LeaderEpoch::NONE,
        }
    }
}

/// Half a second for at least `min` bytes, and at most `max`.
pub(crate) const fn bounds(min: usize, max: usize) -> Bounds {
    Bounds {
        bytes_min: min,
        bytes_max: max,
        wait_max: Duration::from_millis(500),
        isolation: Isolation::Uncommitted,
    }
}

/// How many batches came of each partition.
pub(crate) fn counts(answer: &Answer) -> Vec<usize> {
    let count = |result: &Result<Fetched, FetchError>| match result {
        Ok(Fetched::Records(slice)) => slice.batches.len(),
        _ => 0,
    };
    answer.results.iter().map(count).collect()
}
