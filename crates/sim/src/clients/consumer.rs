//! A member of a group of the consumer protocol (KIP-848): all it does is send heartbeats, and give up or
//! take what it is told in the answers.

use std::sync::Arc;
use std::time::Duration;

use millstream_testkit::history::Group;
use millstream_types::Monotonic;
use millstream_wire::ErrorCode;
use millstream_wire::messages::consumer_group_heartbeat_request::{
    ConsumerGroupHeartbeatRequest, TopicPartitions,
};

use super::member::{Member, Whim};
use super::offsets::find_coordinators;
use crate::drive::Topic;
use crate::rpc::{Link, Lost, version};
use crate::trace::note;
use crate::world::World;

/// How long a member may take to give up partitions, in milliseconds.
const REBALANCE_MS: i32 = 3_000;

const PATIENCE: Duration = Duration::from_secs(5);

/// The epoch of who leaves.
const LEAVES: i32 = -1;

/// The version in which members draw their own ids.
const OWN_ID_SINCE: i16 = 1;

/// A member, and what it knows of its assignment.
struct Beating {
    member: Member,
    version: i16,
    /// Whether the next heartbeat must say everything.
    in_full: bool,
    next: Monotonic,
    interval: Duration,
}

/// Is a member until it is told to come to an end.
pub(crate) async fn run(world: Arc<World>, group: (&'static str, Group), topic: Topic) {
    let mut member = Member::new(&world, "consumer", group, topic, true);
    let version = version::<ConsumerGroupHeartbeatRequest>(&mut member.dice, 0, 1);
    let (next, interval) = (Monotonic(0), Duration::from_millis(500));
    let mut beating = Beating { member, version, in_full: true, next, interval };
    beating.begin_anew();
    while !world.is_closing() {
        let mut link = Link::open_soon(&world, &beating.member.name, PATIENCE).await;
        beating.member.reconnected();
        beating.in_full = true;
        match beating.take_part(&mut link).await {
            Ok(Whim::Freeze(time)) => world.sleep(time).await,
            Ok(Whim::Leave | Whim::Crash) => {
                beating.begin_anew();
                world.nap(Duration::from_secs(3)).await;
            }
            Ok(Whim::None) | Err(Lost) => world.nap(Duration::from_millis(300)).await,
        }
    }
}

impl Beating {
    /// Is another member from now on.
    fn begin_anew(&mut self) {
        self.member.lose_all();
        self.member.epoch = 0;
        self.in_full = true;
        self.member.id.clear();
        if self.version >= OWN_ID_SINCE {
            self.member.id = self.member.world.env.uuid().to_string();
        }
    }

    async fn take_part(&mut self, link: &mut Link) -> Result<Whim, Lost> {
        while !self.member.world.is_closing() {
            let now = self.member.world.env.clock.monotonic();
            if now >= self.next || self.in_full {
                self.heartbeat(link, self.member.epoch).await?;
            }
            match self.member.whim() {
                Whim::None => {}
                Whim::Leave => {
                    self.heartbeat(link, LEAVES).await?;
                    return Ok(Whim::Leave);
                }
                whim => {
                    note!(self.member.world, "{}: {whim:?}", self.member.name);
                    return Ok(whim);
                }
            }
            self.member.poll(link).await?;
            if self.member.dice.chance(120)
                && let Some(error) = self.member.commit(link).await?
            {
                self.refused(error, link).await?;
            }
            self.member.world.nap(Duration::from_millis(400)).await;
        }
        self.heartbeat(link, LEAVES).await?;
        Ok(Whim::Leave)
    }

    async fn heartbeat(&mut self, link: &mut Link, epoch: i32) -> Result<(), Lost> {
        let member = &mut self.member;
        let full = self.in_full || epoch == 0;
        let owned = TopicPartitions { topic_id: member.topic.id, partitions: member.owned() };
        let owned = if member.owned().is_empty() { Vec::new() } else { vec![owned] };
        let request = ConsumerGroupHeartbeatRequest {
            group_id: member.group.0.into(),
            member_id: member.id.clone().into(),
            member_epoch: epoch,
            rebalance_timeout_ms: if full { REBALANCE_MS } else { -1 },
            subscribed_topic_names: full.then(|| vec![member.topic.name.into()]),
            topic_partitions: Some(owned),
            ..ConsumerGroupHeartbeatRequest::default()
        };
        let answer = link.call(&request, self.version).await?;
        let error = ErrorCode::or_unknown(answer.error_code);
        if error != ErrorCode::None {
            note!(member.world, "{}: heartbeat: {error:?}", member.name);
            return self.refused(error, link).await;
        }
        if epoch == LEAVES {
            return Ok(());
        }
        self.in_full = false;
        member.epoch = answer.member_epoch;
        if let Some(id) = answer.member_id.filter(|_| member.id.is_empty()) {
            member.id = id.to_string();
        }
        self.interval =
            Duration::from_millis(u64::try_from(answer.heartbeat_interval_ms).unwrap_or(500));
        self.next = member.world.env.clock.monotonic().plus(self.interval);
        let Some(assignment) = answer.assignment else { return Ok(()) };
        let owned: Vec<i32> =
            assignment.topic_partitions.into_iter().flat_map(|topic| topic.partitions).collect();
        // What it gives up it commits before.
        if member.owned().iter().any(|index| !owned.contains(index)) {
            member.commit(link).await?;
        }
        // The next heartbeat says what it owns now.
        self.next = Monotonic(0);
        match member.take_over(link, owned).await? {
            Ok(()) => Ok(()),
            Err(error) => self.refused(error, link).await,
        }
    }

    /// What follows from an error.
    async fn refused(&mut self, error: ErrorCode, link: &mut Link) -> Result<(), Lost> {
        match error {
            ErrorCode::FencedMemberEpoch | ErrorCode::UnknownMemberId => self.begin_anew(),
            ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable => {
                find_coordinators(link, self.member.group.0).await?;
            }
            // The next heartbeat brings the new one.
            ErrorCode::StaleMemberEpoch => self.next = Monotonic(0),
            _ => {}
        }
        self.member.world.nap(Duration::from_millis(300)).await;
        Ok(())
    }
}
