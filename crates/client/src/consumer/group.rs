//! Membership in a classic group: joining, the heart that beats, leaving.
//!
//! ```text
//! JoinGroup  ->  everybody has joined; the leader learns who wants what
//! SyncGroup  ->  the leader tells who gets what, the others are told
//! Heartbeat      in a task of its own, until it is told that the group is rebalancing
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use millstream_types::Monotonic;
use millstream_wire::consumer_protocol_assignment::TopicPartition as AssignedTopic;
use millstream_wire::join_group_request::JoinGroupRequestProtocol;
use millstream_wire::leave_group_request::MemberIdentity;
use millstream_wire::sync_group_request::SyncGroupRequestAssignment;
use millstream_wire::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, ErrorCode, HeartbeatRequest,
    JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, OffsetCommitRequest, StrBytes,
    SyncGroupRequest, stored,
};
use tokio::sync::watch;

use super::assignor::{AssignedMember, Assignor, Subscriptions};
use crate::admin::{
    CommittedOffset, NEWEST_BY_NAME, by_topic, commit_answer, commit_request, committed_offsets,
    decode_assignment,
};
use crate::cluster::{Cluster, Coordinated, Lane, LaneOwner, Target, TopicName, TopicPartition};
use crate::error::Error;

/// How to be a member of a group.
#[derive(Clone, Debug)]
pub struct GroupSettings {
    /// The group.
    pub id: String,
    /// An id of the member's own, for a static member: it keeps its partitions while it restarts.
    pub instance_id: Option<String>,
    /// Who is not heard of for so long is no longer a member.
    pub session_timeout: Duration,
    /// How often to be heard of.
    pub heartbeat_interval: Duration,
    /// How long the others wait for a member to join again.
    pub rebalance_timeout: Duration,
    /// The ways to assign partitions that are offered, the preferred one first.
    pub assignors: Vec<Assignor>,
    /// How often what was read is committed; `None` for never.
    pub commit_every: Option<Duration>,
    /// How often the leader of the group looks whether topics have got more partitions.
    pub partitions_checked_every: Duration,
}

impl GroupSettings {
    /// The defaults, Kafka's where it has the same.
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            instance_id: None,
            session_timeout: Duration::from_secs(45),
            heartbeat_interval: Duration::from_secs(3),
            rebalance_timeout: Duration::from_secs(60),
            assignors: Assignor::ALL.to_vec(),
            commit_every: Some(Duration::from_secs(5)),
            partitions_checked_every: Duration::from_secs(30),
        }
    }
}

/// How a membership stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// It stands.
    Fine,
    /// Everybody has to join again.
    Rebalance,
    /// It is over, and what was assigned may be others' already. So it is at first.
    Lost,
    /// It can't be had.
    Failed(Error),
}

#[derive(Debug)]
pub(super) struct Membership {
    cluster: Cluster,
    settings: GroupSettings,
    lane: Lane,
    topics: BTreeSet<TopicName>,
    member_id: String,
    generation: i32,
    health: watch::Receiver<Health>,
    /// How many partitions topics had when this member, as the leader, assigned them.
    counted: Option<BTreeMap<TopicName, i32>>,
    checked_at: Monotonic,
}

/// The outcome of JoinGroup.
struct Joined {
    protocol: String,
    /// What the leader has to assign; `None` for all others.
    members: Option<Subscriptions>,
}

const PROTOCOL_TYPE: &str = "consumer";

/// What members tell of themselves and of the assignment is written in this version: these bytes
/// are for all members, whatever the brokers know.
const MEMBERS_VERSION: i16 = 1;

impl Membership {
    pub(super) fn new(
        cluster: Cluster,
        settings: GroupSettings,
        owner: LaneOwner,
        topics: BTreeSet<TopicName>,
    ) -> Self {
        let checked_at = cluster.env().clock.monotonic();
        Self {
            cluster,
            settings,
            lane: Lane::Group(owner),
            topics,
            member_id: String::new(),
            generation: -1,
            health: watch::channel(Health::Lost).1,
            counted: None,
            checked_at,
        }
    }

    pub(super) const fn settings(&self) -> &GroupSettings {
        &self.settings
    }

    pub(super) fn health(&self) -> Health {
        self.health.borrow().clone()
    }

    fn target(&self) -> Target {
        Target::Coordinator(Coordinated::Group(self.settings.id.clone()))
    }

    fn what(&self) -> String {
        format!("group {}", self.settings.id)
    }

    fn group_id(&self) -> StrBytes {
        self.settings.id.clone().into()
    }

    fn instance_id(&self) -> Option<StrBytes> {
        self.settings.instance_id.clone().map(StrBytes::from)
    }

    /// Completes when the consumer should look at its group again: the group rebalances, it is time
    /// to commit, or partitions were added.
    pub(super) fn until_something_is_due(&mut self) -> BoxFuture<'static, ()> {
        let mut health = self.health.clone();
        let cluster = self.cluster.clone();
        let commit = self.settings.commit_every;
        let counted = self.counted.clone();
        let now = cluster.env().clock.monotonic();
        let check_at = self.checked_at.plus(self.settings.partitions_checked_every);
        Box::pin(async move {
            let env = cluster.env();
            let changed = async {
                // An error means that the task is gone, and it says why before it goes.
                let _ = health.wait_for(|health| *health != Health::Fine).await;
            };
            let commit_due = async {
                match commit {
                    Some(every) => env.clock.sleep_until(now.plus(every)).await,
                    None => std::future::pending().await,
                }
            };
            let check_due = async {
                match counted {
                    Some(_) => env.clock.sleep_until(check_at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! { biased; () = changed => {}, () = commit_due => {}, () = check_due => {} }
        })
    }

    /// Whether partitions were added since this member, as the leader, assigned them.
    pub(super) async fn has_outgrown(&mut self) -> bool {
        let now = self.cluster.env().clock.monotonic();
        let Some(counted) = &self.counted else { return false };
        if now.since(self.checked_at) < self.settings.partitions_checked_every {
            return false;
        }
        self.checked_at = now;
        let topics = counted.keys().chain(&self.topics).cloned().collect();
        // Another time will do as well.
        self.cluster.partition_counts(&topics).await.is_ok_and(|counts| counts != *counted)
    }

    /// Joins, and returns what is assigned.
    pub(super) async fn join(&mut self) -> Result<Vec<TopicPartition>, Error> {
        // Stops the heart of the membership before: nobody listens to it any more.
        self.health = watch::channel(Health::Lost).1;
        let cluster = self.cluster.clone();
        let mut retry = cluster.retry(self.target());
        loop {
            let attempt = match self.join_once().await {
                Ok(joined) => self.sync(joined).await,
                Err(error) => Err(error),
            };
            match attempt {
                Ok(assignment) => {
                    self.start_heart();
                    return Ok(assignment);
                }
                Err(error) => match error.code() {
                    // The first answer to a new member is its id.
                    Some(ErrorCode::MemberIdRequired | ErrorCode::RebalanceInProgress) => {}
                    Some(ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration) => {
                        self.member_id.clear();
                        self.generation = -1;
                    }
                    _ => retry.after(error).await?,
                },
            }
        }
    }

    async fn join_once(&mut self) -> Result<Joined, Error> {
        let subscription = ConsumerProtocolSubscription {
            topics: self.topics.iter().map(|topic| topic.to_string().into()).collect(),
            ..Default::default()
        };
        let metadata = stored::encode_value(&subscription, MEMBERS_VERSION)?;
        let protocols = self.settings.assignors.iter().map(|assignor| JoinGroupRequestProtocol {
            name: assignor.name().into(),
            metadata: metadata.clone(),
        });
        let request = JoinGroupRequest {
            group_id: self.group_id(),
            session_timeout_ms: milliseconds(self.settings.session_timeout),
            rebalance_timeout_ms: milliseconds(self.settings.rebalance_timeout),
            member_id: self.member_id.clone().into(),
            group_instance_id: self.instance_id(),
            protocol_type: PROTOCOL_TYPE.into(),
            protocols: protocols.collect(),
            ..Default::default()
        };
        let connection = self.cluster.connection(&self.target(), self.lane).await?;
        let version = connection.version::<JoinGroupRequest>()?;
        let limit = self.settings.rebalance_timeout + self.cluster.settings().request_timeout;
        let answer = connection.call_within(&request, version, limit).await?;
        if !answer.member_id.is_empty() {
            self.member_id = answer.member_id.as_str().to_owned();
        }
        Error::check(answer.error_code, None, || self.what())?;
        self.generation = answer.generation_id;
        let protocol = answer.protocol_name.as_deref().unwrap_or_default().to_owned();
        let leads = answer.leader == answer.member_id && !answer.skip_assignment;
        let members = if leads { Some(subscriptions(&answer, &self.what())?) } else { None };
        Ok(Joined { protocol, members })
    }

    async fn sync(&mut self, joined: Joined) -> Result<Vec<TopicPartition>, Error> {
        let Joined { protocol, members } = joined;
        self.counted = None;
        let assignments = match members {
            Some(members) => self.assign(&protocol, &members).await?,
            None => Vec::new(),
        };
        let request = SyncGroupRequest {
            group_id: self.group_id(),
            generation_id: self.generation,
            member_id: self.member_id.clone().into(),
            group_instance_id: self.instance_id(),
            protocol_type: Some(PROTOCOL_TYPE.into()),
            protocol_name: Some(protocol.into()),
            assignments,
        };
        let connection = self.cluster.connection(&self.target(), self.lane).await?;
        let version = connection.version::<SyncGroupRequest>()?;
        let limit = self.settings.rebalance_timeout + self.cluster.settings().request_timeout;
        let answer = connection.call_within(&request, version, limit).await?;
        Error::check(answer.error_code, None, || self.what())?;
        if answer.assignment.is_empty() {
            return Ok(Vec::new());
        }
        let assignment = stored::decode_value::<ConsumerProtocolAssignment>(&answer.assignment);
        let assignment =
            assignment.map_err(|error| Error::protocol(connection.address(), error))?;
        Ok(decode_assignment(&assignment))
    }

    async fn assign(
        &mut self,
        protocol: &str,
        members: &Subscriptions,
    ) -> Result<Vec<SyncGroupRequestAssignment>, Error> {
        let assignor = Assignor::from_name(protocol).ok_or_else(|| {
            Error::Invalid(format!("{}: no assignor is called {protocol}", self.what()))
        })?;
        let topics = members.values().flatten().cloned().collect();
        let counts = self.cluster.partition_counts(&topics).await?;
        let assignment = assignor.assign(members, &counts);
        self.counted = Some(counts);
        self.checked_at = self.cluster.env().clock.monotonic();
        let encode = |(member, partitions): (String, Vec<TopicPartition>)| {
            Ok(SyncGroupRequestAssignment {
                member_id: member.into(),
                assignment: encode_assignment(partitions)?,
            })
        };
        assignment.into_iter().map(encode).collect()
    }

    /// Lets the group know that this member is there, until it is to join again.
    fn start_heart(&mut self) {
        let (health, watched) = watch::channel(Health::Fine);
        self.health = watched;
        let request = HeartbeatRequest {
            group_id: self.group_id(),
            generation_id: self.generation,
            member_id: self.member_id.clone().into(),
            group_instance_id: self.instance_id(),
        };
        let heart = Heart {
            cluster: self.cluster.clone(),
            target: self.target(),
            lane: self.lane,
            interval: self.settings.heartbeat_interval,
            patience: self.settings.session_timeout,
            what: self.what(),
        };
        self.cluster.env().spawn("group heartbeat", heart.beat(request, health));
    }

    /// The offsets that the group has committed.
    pub(super) async fn committed(
        &self,
        of: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, CommittedOffset>, Error> {
        if of.is_empty() {
            return Ok(BTreeMap::new());
        }
        committed_offsets(&self.cluster, &self.settings.id, Some(of)).await
    }

    pub(super) async fn commit(
        &mut self,
        offsets: &BTreeMap<TopicPartition, CommittedOffset>,
    ) -> Result<(), Error> {
        let request = OffsetCommitRequest {
            generation_id_or_member_epoch: self.generation,
            member_id: self.member_id.clone().into(),
            group_instance_id: self.instance_id(),
            ..commit_request(&self.settings.id, offsets)
        };
        let target = self.target();
        let mut retry = self.cluster.retry(target.clone());
        loop {
            let call =
                self.cluster.call_within(&target, Lane::Control, &request, NEWEST_BY_NAME).await;
            match call.and_then(|answer| commit_answer(&answer, &self.settings.id)) {
                Err(error) => retry.after(error).await?,
                done => return done,
            }
        }
    }

    /// Leaves, so that others get the partitions at once. A static member stays: it will be back.
    pub(super) async fn leave(&mut self) {
        self.health = watch::channel(Health::Lost).1;
        if self.member_id.is_empty() || self.settings.instance_id.is_some() {
            return;
        }
        let member_id = StrBytes::from(std::mem::take(&mut self.member_id));
        let left = async {
            let connection = self.cluster.connection(&self.target(), self.lane).await?;
            let version = connection.version::<LeaveGroupRequest>()?;
            let group_id = self.group_id();
            let request = if version >= 3 {
                let members = vec![MemberIdentity { member_id, ..Default::default() }];
                LeaveGroupRequest { group_id, members, ..Default::default() }
            } else {
                LeaveGroupRequest { group_id, member_id, ..Default::default() }
            };
            let answer = connection.call(&request, version).await?;
            Error::check(answer.error_code, None, || self.what())
        };
        if let Err(error) = left.await {
            // It will be missed before long.
            tracing::debug!(%error, "could not leave the group");
        }
    }
}

/// The task that keeps a membership alive.
struct Heart {
    cluster: Cluster,
    target: Target,
    lane: Lane,
    interval: Duration,
    patience: Duration,
    what: String,
}

impl Heart {
    /// Beats until nobody listens or there is something to be said.
    async fn beat(self, request: HeartbeatRequest, health: watch::Sender<Health>) {
        let env = self.cluster.env();
        let mut heard_at = env.clock.monotonic();
        loop {
            tokio::select! {
                biased;
                () = env.sleep(self.interval) => {}
                () = health.closed() => return,
            }
            let call = self.cluster.call(&self.target, self.lane, &request).await;
            let answer =
                call.and_then(|answer| Error::check(answer.error_code, None, || self.what.clone()));
            let now = env.clock.monotonic();
            let news = match answer {
                Ok(()) => {
                    heard_at = now;
                    continue;
                }
                Err(error) => match error.code() {
                    Some(ErrorCode::RebalanceInProgress) => Health::Rebalance,
                    Some(ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration) => Health::Lost,
                    _ if !error.is_retriable() => Health::Failed(error),
                    _ if now.since(heard_at) >= self.patience => Health::Lost,
                    _ => {
                        self.cluster.forget(&self.target);
                        continue;
                    }
                },
            };
            health.send_replace(news);
            return;
        }
    }
}

fn milliseconds(time: Duration) -> i32 {
    i32::try_from(time.as_millis()).unwrap_or(i32::MAX)
}

/// What the members want, as the leader is told.
fn subscriptions(answer: &JoinGroupResponse, what: &str) -> Result<Subscriptions, Error> {
    let members = answer.members.iter().map(|member| {
        let subscription = stored::decode_value::<ConsumerProtocolSubscription>(&member.metadata);
        let subscription = subscription.map_err(|error| {
            Error::Invalid(format!(
                "{what}: member {} can't be understood: {error}",
                member.member_id
            ))
        })?;
        let topics = subscription.topics.iter().map(|topic| topic.as_str().into()).collect();
        let instance = member.group_instance_id.as_deref().map(str::to_owned);
        Ok((AssignedMember::new(member.member_id.as_str().to_owned(), instance), topics))
    });
    members.collect()
}

fn encode_assignment(partitions: Vec<TopicPartition>) -> Result<Bytes, Error> {
    let topics = by_topic(partitions.into_iter().map(|of| (of, ())));
    let assigned_partitions = topics.into_iter().map(|(topic, partitions)| AssignedTopic {
        topic: topic.to_string().into(),
        partitions: partitions.into_iter().map(|(index, ())| index).collect(),
    });
    let assignment = ConsumerProtocolAssignment {
        assigned_partitions: assigned_partitions.collect(),
        ..Default::default()
    };
    Ok(stored::encode_value(&assignment, MEMBERS_VERSION)?)
}
