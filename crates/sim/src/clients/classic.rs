//! A member of a group of the classic protocol: it joins, is told what to read or tells the others, and
//! joins again whenever the group changes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_testkit::history::Group;
use millstream_wire::consumer_protocol_assignment as assigned;
use millstream_wire::consumer_protocol_subscription as subscribed;
use millstream_wire::messages::heartbeat_request::HeartbeatRequest;
use millstream_wire::messages::join_group_request::{JoinGroupRequest, JoinGroupRequestProtocol};
use millstream_wire::messages::join_group_response::JoinGroupResponse;
use millstream_wire::messages::leave_group_request::{LeaveGroupRequest, MemberIdentity};
use millstream_wire::messages::sync_group_request::{SyncGroupRequest, SyncGroupRequestAssignment};
use millstream_wire::{ErrorCode, stored};

use super::member::{Member, Whim};
use super::offsets::find_coordinators;
use crate::drive::Topic;
use crate::rpc::{Link, Lost, version};
use crate::trace::note;
use crate::world::World;

/// How long the others wait for a member to join again, in milliseconds.
const REBALANCE_MS: i32 = 3_000;

/// Answers to joins come when all have joined.
const PATIENCE: Duration = Duration::from_secs(15);

const PROTOCOL_TYPE: &str = "consumer";
const PROTOCOL: &str = "range";

/// The first version that names who leaves.
const LEAVES_NAMED_SINCE: i16 = 3;

/// Is a member until it is told to come to an end.
pub(crate) async fn run(world: Arc<World>, group: (&'static str, Group), topic: Topic) {
    let mut member = Member::new(&world, "member", group, topic, false);
    while !world.is_closing() {
        let mut link = Link::open_soon(&world, &member.name, PATIENCE).await;
        member.reconnected();
        match take_part(&mut member, &mut link).await {
            Ok(Whim::Freeze(time)) => world.sleep(time).await,
            Ok(Whim::Leave | Whim::Crash) => {
                member.lose_all();
                member.id.clear();
                world.nap(Duration::from_secs(3)).await;
            }
            Ok(Whim::None) | Err(Lost) => world.nap(Duration::from_millis(300)).await,
        }
    }
}

/// Is a member on one connection: the same as before, if it was one.
async fn take_part(member: &mut Member, link: &mut Link) -> Result<Whim, Lost> {
    let mut joined = !member.owned().is_empty();
    while !member.world.is_closing() {
        if !joined && !join(member, link).await? {
            member.world.nap(Duration::from_millis(200)).await;
            continue;
        }
        joined = true;
        match member.whim() {
            Whim::None => {}
            Whim::Leave => {
                leave(member, link).await?;
                return Ok(Whim::Leave);
            }
            whim => {
                note!(member.world, "{}: {whim:?}", member.name);
                return Ok(whim);
            }
        }
        member.poll(link).await?;
        let mut told = None;
        if member.dice.chance(120) {
            told = member.commit(link).await?;
        }
        let beat = heartbeat(member, link).await?;
        match told.unwrap_or(beat) {
            ErrorCode::RebalanceInProgress => {
                // It may still say how far it is.
                member.commit(link).await?;
                joined = false;
            }
            ErrorCode::UnknownMemberId => {
                member.lose_all();
                member.id.clear();
                joined = false;
            }
            ErrorCode::IllegalGeneration => {
                member.lose_all();
                joined = false;
            }
            ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable => {
                find_coordinators(link, member.group.0).await?;
            }
            _ => {}
        }
        member.world.nap(Duration::from_millis(500)).await;
    }
    leave(member, link).await?;
    Ok(Whim::Leave)
}

/// Joins, and owns what it is told. Whether that has gone well.
async fn join(member: &mut Member, link: &mut Link) -> Result<bool, Lost> {
    // What it had may be another one's as soon as the group has a new generation.
    member.lose_all();
    let version = version::<JoinGroupRequest>(&mut member.dice, 0, 9);
    let subscription = subscribed::ConsumerProtocolSubscription {
        topics: vec![member.topic.name.into()],
        ..Default::default()
    };
    let metadata = stored::encode_value(&subscription, 1).unwrap_or_default();
    let request = JoinGroupRequest {
        group_id: member.group.0.into(),
        session_timeout_ms: member.world.plan.session_timeout_ms,
        rebalance_timeout_ms: REBALANCE_MS,
        member_id: member.id.clone().into(),
        protocol_type: PROTOCOL_TYPE.into(),
        protocols: vec![JoinGroupRequestProtocol { name: PROTOCOL.into(), metadata }],
        ..JoinGroupRequest::default()
    };
    let answer = link.call(&request, version).await?;
    let error = ErrorCode::or_unknown(answer.error_code);
    note!(member.world, "{}: joins: {error:?} {}", member.name, answer.generation_id);
    match error {
        ErrorCode::None => {}
        ErrorCode::MemberIdRequired => {
            member.id = answer.member_id.to_string();
            return Ok(false);
        }
        ErrorCode::UnknownMemberId => {
            member.lose_all();
            member.id.clear();
            return Ok(false);
        }
        ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable => {
            find_coordinators(link, member.group.0).await?;
            return Ok(false);
        }
        _ => return Ok(false),
    }
    member.id = answer.member_id.to_string();
    member.epoch = answer.generation_id;
    sync(member, link, &answer).await
}

async fn sync(
    member: &mut Member,
    link: &mut Link,
    joined: &JoinGroupResponse,
) -> Result<bool, Lost> {
    let leads = joined.leader == joined.member_id;
    let request = SyncGroupRequest {
        group_id: member.group.0.into(),
        generation_id: member.epoch,
        member_id: member.id.clone().into(),
        protocol_type: Some(PROTOCOL_TYPE.into()),
        protocol_name: Some(PROTOCOL.into()),
        assignments: if leads { assign(member, joined) } else { Vec::new() },
        ..SyncGroupRequest::default()
    };
    let version = version::<SyncGroupRequest>(&mut member.dice, 0, 5);
    let answer = link.call(&request, version).await?;
    let error = ErrorCode::or_unknown(answer.error_code);
    if error != ErrorCode::None {
        note!(member.world, "{}: syncs: {error:?}", member.name);
        if error == ErrorCode::UnknownMemberId {
            member.lose_all();
            member.id.clear();
        }
        return Ok(false);
    }
    let owned = stored::decode_value::<assigned::ConsumerProtocolAssignment>(&answer.assignment);
    let owned = match owned {
        Ok(owned) => owned,
        Err(_) if answer.assignment.is_empty() => assigned::ConsumerProtocolAssignment::default(),
        Err(error) => {
            member.world.violation(format!("an assignment that the leader did not send: {error}"));
            return Ok(false);
        }
    };
    let topics = owned.assigned_partitions.into_iter();
    let owned = topics.flat_map(|topic| topic.partitions).collect();
    Ok(member.take_over(link, owned).await?.is_ok())
}

/// Deals partitions out in turn.
fn assign(member: &Member, joined: &JoinGroupResponse) -> Vec<SyncGroupRequestAssignment> {
    let many = i32::try_from(joined.members.len()).unwrap_or(1).max(1);
    let each = joined.members.iter().zip(0..).map(|(other, turn)| {
        let partitions = (0..member.topic.partitions).filter(|it| it % many == turn).collect();
        let topic = assigned::TopicPartition { topic: member.topic.name.into(), partitions };
        let (assigned_partitions, user_data) = (vec![topic], None);
        let assignment = assigned::ConsumerProtocolAssignment { assigned_partitions, user_data };
        let assignment: Bytes = stored::encode_value(&assignment, 1).unwrap_or_default();
        SyncGroupRequestAssignment { member_id: other.member_id.clone(), assignment }
    });
    each.collect()
}

async fn heartbeat(member: &mut Member, link: &mut Link) -> Result<ErrorCode, Lost> {
    let request = HeartbeatRequest {
        group_id: member.group.0.into(),
        generation_id: member.epoch,
        member_id: member.id.clone().into(),
        ..HeartbeatRequest::default()
    };
    let version = version::<HeartbeatRequest>(&mut member.dice, 0, 4);
    let answer = link.call(&request, version).await?;
    let error = ErrorCode::or_unknown(answer.error_code);
    if error != ErrorCode::None {
        note!(member.world, "{}: heartbeat: {error:?}", member.name);
    }
    Ok(error)
}

async fn leave(member: &mut Member, link: &mut Link) -> Result<(), Lost> {
    note!(member.world, "{}: leaves", member.name);
    let version = version::<LeaveGroupRequest>(&mut member.dice, 0, 5);
    let mut request =
        LeaveGroupRequest { group_id: member.group.0.into(), ..LeaveGroupRequest::default() };
    let member_id = member.id.clone().into();
    if version >= LEAVES_NAMED_SINCE {
        request.members = vec![MemberIdentity { member_id, ..MemberIdentity::default() }];
    } else {
        request.member_id = member_id;
    }
    link.call(&request, version).await.map(|_| ())
}
