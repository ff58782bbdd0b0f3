//! A consumer of partitions that it has chosen itself: it reads on from where it is, whatever happens.

use std::sync::Arc;
use std::time::Duration;

use millstream_env::Dice;
use millstream_testkit::history::{Client, Outcome, Place, Step};
use millstream_types::{Offset, ProducerId};
use millstream_wire::ErrorCode;
use millstream_wire::messages::fetch_request::{
    FetchPartition, FetchRequest, FetchTopic, ForgottenTopic,
};
use millstream_wire::messages::fetch_response::{FetchResponse, PartitionData};

use super::batches::{Seen, read};
use crate::drive::Topic;
use crate::history::partition;
use crate::rpc::{Link, Lost, version};
use crate::trace::note;
use crate::world::World;

/// How long it takes at most to read everything, when nobody is in the way.
const DRAIN_MAX: Duration = Duration::from_secs(120);

/// The first version in which topics are named by their ids.
const FETCH_BY_ID: i16 = 13;

/// A partition that is read, and how far.
#[derive(Clone, Debug)]
pub(crate) struct Position {
    pub(crate) topic: Topic,
    pub(crate) index: i32,
    pub(crate) next: Offset,
    /// The last high watermark it was told, if any.
    pub(crate) high: Option<Offset>,
    /// Up to where it may read, as it was last told: the end of what is visible to it.
    pub(crate) visible: Offset,
}

/// Reads partitions by Fetch requests.
pub(crate) struct Fetcher {
    pub(crate) world: Arc<World>,
    pub(crate) dice: Dice,
    pub(crate) name: String,
    pub(crate) client: Client,
    pub(crate) committed: bool,
    pub(crate) version: i16,
    pub(crate) positions: Vec<Position>,
    /// Whether what it sees goes into the history.
    pub(crate) is_judged: bool,
    /// The fetch session, if it uses one: id and next epoch.
    session: Option<(i32, i32)>,
}

impl Position {
    pub(crate) fn new(topic: Topic, index: i32, next: Offset) -> Self {
        Self { topic, index, next, high: None, visible: Offset(0) }
    }
}

/// All partitions of topics, from their beginning.
pub(crate) fn all_of(topics: &[Topic]) -> Vec<Position> {
    let of = |topic: &Topic| {
        let topic = topic.clone();
        (0..topic.partitions).map(move |index| Position::new(topic.clone(), index, Offset(0)))
    };
    topics.iter().flat_map(of).collect()
}

/// Reads topics until it is told to come to an end.
pub(crate) async fn run(world: Arc<World>, topics: Vec<Topic>, committed: bool) {
    let mut fetcher = Fetcher::new(&world, "reader", committed, all_of(&topics));
    let patience = Duration::from_millis(500 + fetcher.dice.below(20_000));
    while !world.is_closing() {
        let mut link = Link::open_soon(&world, &fetcher.name, patience).await;
        while !world.is_closing() && fetcher.poll(&mut link).await.is_ok() {
            world.nap(Duration::from_millis(100)).await;
        }
        fetcher.reconnected();
        world.nap(Duration::from_millis(100)).await;
    }
}

/// Reads topics to their ends, once nothing changes any more: what is there, in order.
pub(crate) async fn drain(
    world: &Arc<World>,
    topics: Vec<Topic>,
    committed: bool,
    is_judged: bool,
) -> Vec<(Place, Seen)> {
    let mut fetcher = Fetcher::new(world, "drain", committed, all_of(&topics));
    fetcher.is_judged = is_judged;
    let mut all = Vec::new();
    let deadline = world.env.clock.monotonic().plus(DRAIN_MAX);
    while !fetcher.is_at_end() {
        let mut link = Link::open_soon(world, &fetcher.name, Duration::from_secs(60)).await;
        while !fetcher.is_at_end() && world.env.clock.monotonic() <= deadline {
            let Ok(polled) = fetcher.poll(&mut link).await else { break };
            all.extend(polled);
            world.sleep(Duration::from_millis(5)).await;
        }
        fetcher.reconnected();
        if world.env.clock.monotonic() > deadline {
            let left =
                fetcher.positions.iter().filter(|it| it.high.is_none_or(|high| it.next < high));
            for it in left {
                let (name, index, next) = (it.topic.name, it.index, it.next);
                let (visible, high) = (it.visible, it.high);
                world.violation(format!(
                    "{name} {index} can't be read behind {next}: {visible} of {high:?} is visible"
                ));
            }
            break;
        }
    }
    all
}

impl Fetcher {
    pub(crate) fn new(
        world: &Arc<World>,
        role: &str,
        committed: bool,
        positions: Vec<Position>,
    ) -> Self {
        let (world, mut dice) = (Arc::clone(world), world.dice());
        let client = world.history.client();
        let version = version::<FetchRequest>(&mut dice, 4, 18);
        let session = (version >= 7 && dice.chance(128)).then_some((0, 0));
        let name = format!("{role} {}", client.0);
        note!(world, "{name}: version {version}, committed {committed}, session {session:?}");
        Self { world, dice, name, client, committed, version, positions, is_judged: true, session }
    }

    /// A new connection: sessions begin anew.
    pub(crate) fn reconnected(&mut self) {
        self.session = self.session.map(|_| (0, 0));
    }

    /// Reads other partitions, or from elsewhere.
    pub(crate) fn assign(&mut self, positions: Vec<Position>) {
        if self.is_judged {
            let begun = self.world.history.moment();
            self.world.history.plain(self.client, begun, Outcome::Succeeded, Step::Assign);
        }
        self.positions = positions;
        self.reconnected();
    }

    fn is_at_end(&self) -> bool {
        self.positions.iter().all(|it| it.high.is_some_and(|high| it.next >= high))
    }

    /// One Fetch, of all partitions.
    pub(crate) async fn poll(&mut self, link: &mut Link) -> Result<Vec<(Place, Seen)>, Lost> {
        let begun = self.world.history.moment();
        let request = self.request();
        let response = link.call(&request, self.version).await?;
        let mut polled = Vec::new();
        let error = ErrorCode::or_unknown(response.error_code);
        if error != ErrorCode::None {
            note!(self.world, "{}: {error:?}", self.name);
            self.reconnected();
            let known = matches!(
                error,
                ErrorCode::FetchSessionIdNotFound | ErrorCode::InvalidFetchSessionEpoch
            );
            if !known && !error.retriable() {
                self.world.violation(format!("{}: a Fetch was answered {error:?}", self.name));
            }
            return Ok(polled);
        }
        self.session = self.session.map(|_| (response.session_id, request.session_epoch + 1));
        if response.session_id == 0 {
            // It got none.
            self.reconnected();
        }
        for (at, data) in self.partitions(&response) {
            polled.extend(self.take(at, data));
        }
        if !polled.is_empty() && self.is_judged {
            let records = polled.iter().filter_map(|(at, seen)| Some((*at, seen.value?))).collect();
            let step = Step::Poll { committed: self.committed, records };
            self.world.history.plain(self.client, begun, Outcome::Succeeded, step);
            self.world.count("polls");
        }
        Ok(polled)
    }

    fn request(&mut self) -> FetchRequest {
        let by_id = self.version >= FETCH_BY_ID;
        let topics = self.positions.iter().map(|position| {
            let partition = FetchPartition {
                partition: position.index,
                current_leader_epoch: -1,
                fetch_offset: position.next.0,
                last_fetched_epoch: -1,
                log_start_offset: -1,
                partition_max_bytes: 1 << 20,
                ..FetchPartition::default()
            };
            let mut topic = FetchTopic { partitions: vec![partition], ..FetchTopic::default() };
            if by_id {
                topic.topic_id = position.topic.id;
            } else {
                topic.topic = position.topic.name.into();
            }
            topic
        });
        let (session_id, session_epoch) = self.session.unwrap_or((0, -1));
        FetchRequest {
            max_wait_ms: i32::try_from(self.dice.below(1_500)).unwrap_or_default(),
            min_bytes: 1,
            max_bytes: 1 << 20,
            isolation_level: i8::from(self.committed),
            session_id,
            session_epoch,
            topics: topics.collect(),
            forgotten_topics_data: Vec::<ForgottenTopic>::new(),
            ..FetchRequest::default()
        }
    }

    /// What was answered, with the place among the positions of each.
    fn partitions(&self, response: &FetchResponse) -> Vec<(usize, PartitionData)> {
        let mut found = Vec::new();
        for topic in &response.responses {
            for data in &topic.partitions {
                let at = self.positions.iter().position(|it| {
                    let same = if self.version >= FETCH_BY_ID {
                        it.topic.id == topic.topic_id
                    } else {
                        topic.topic == *it.topic.name
                    };
                    same && it.index == data.partition_index
                });
                match at {
                    Some(at) => found.push((at, data.clone())),
                    None => self.world.violation("a partition that nobody asked for".to_owned()),
                }
            }
        }
        found
    }

    /// Takes in what was answered of one partition.
    fn take(&mut self, at: usize, data: PartitionData) -> Vec<(Place, Seen)> {
        let Some(position) = self.positions.get_mut(at) else { return Vec::new() };
        let (world, name) = (&self.world, &self.name);
        let partition = partition(position.topic.number, position.index);
        let error = ErrorCode::or_unknown(data.error_code);
        if error != ErrorCode::None {
            note!(world, "{name}: {partition:?} {error:?}");
            if !error.retriable() {
                let next = position.next;
                world.violation(format!("{name}: {partition:?} at {next} was answered {error:?}"));
            }
            return Vec::new();
        }
        let high = Offset(data.high_watermark);
        if let Some(before) = position.high.filter(|before| high < *before) {
            world.violation(format!("{name}: {partition:?} ended at {before}, now at {high}"));
        }
        position.high = Some(high);
        position.visible = if self.committed { Offset(data.last_stable_offset) } else { high };
        let records = data.records.map(|records| records.to_bytes()).unwrap_or_default();
        let aborted = data.aborted_transactions.filter(|_| self.committed).unwrap_or_default();
        let aborted =
            aborted.iter().map(|it| (ProducerId(it.producer_id), Offset(it.first_offset)));
        match read(&records, position.next, aborted.collect()) {
            Ok((seen, next)) => {
                if next > position.visible {
                    let visible = position.visible;
                    world.violation(format!(
                        "{name}: {partition:?} was read to {next}, and ends at {visible}"
                    ));
                }
                if !seen.is_empty() {
                    let values = seen.iter().filter_map(|it| it.value).map(|value| value.0);
                    let values: Vec<_> = values.collect();
                    note!(world, "{name}: {partition:?} {}.. {values:?}", position.next);
                }
                position.next = next;
                seen.into_iter().map(|it| (Place { partition, offset: it.offset }, it)).collect()
            }
            Err(why) => {
                let next = position.next;
                world.violation(format!("{name}: {partition:?} at {next} can't be read: {why}"));
                Vec::new()
            }
        }
    }
}
