//! Groups and their offsets.

use bytes::Bytes;
use millstream_wire::join_group_request::JoinGroupRequestProtocol;
use millstream_wire::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use millstream_wire::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use millstream_wire::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use millstream_wire::*;

use super::raw::Client;
use super::{GROUP, NO_ERROR, TOPIC, code, start_with, text};

fn join(member: &str) -> JoinGroupRequest {
    // What it subscribes to: version 0, one topic, no user data.
    let metadata = Bytes::from_static(b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff");
    JoinGroupRequest {
        group_id: text(GROUP),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: 30_000,
        member_id: text(member),
        protocol_type: text("consumer"),
        protocols: vec![JoinGroupRequestProtocol { name: text("range"), metadata }],
        ..Default::default()
    }
}

async fn start() -> (millstream::Server, Client) {
    start_with(&[("group.initial.rebalance.delay.ms", "0")]).await
}

/// A member that is alone in its group, and its generation.
async fn member(client: &mut Client) -> (StrBytes, i32) {
    let given = client.ask(5, join("")).await;
    assert_eq!(code(given.error_code), ErrorCode::MemberIdRequired);
    let joined = client.ask(5, join(&given.member_id)).await;
    assert_eq!((code(joined.error_code), &joined.leader), (NO_ERROR, &joined.member_id));
    (joined.member_id, joined.generation_id)
}

fn sync(member: &StrBytes, generation: i32, assignment: Option<&'static [u8]>) -> SyncGroupRequest {
    let assignments = assignment.map(|bytes| sync_group_request::SyncGroupRequestAssignment {
        member_id: member.clone(),
        assignment: Bytes::from_static(bytes),
    });
    SyncGroupRequest {
        group_id: text(GROUP),
        generation_id: generation,
        member_id: member.clone(),
        assignments: assignments.into_iter().collect(),
        ..Default::default()
    }
}

/// Pitfalls 48, 50 and 51: a newcomer comes back with the id that it is given; heartbeats say in which phase
/// the group is; and what a member is assigned it is told again and again.
#[tokio::test]
async fn a_member_joins_in_steps() {
    let (server, mut client) = start().await;
    let (member, generation) = member(&mut client).await;
    let beat = |generation_id| HeartbeatRequest {
        group_id: text(GROUP),
        generation_id,
        member_id: member.clone(),
        ..Default::default()
    };
    assert_eq!(client.ask(4, beat(generation)).await.error_code, 0, "the leader computes");
    for assignment in [Some(&b"mine"[..]), None] {
        let told = client.ask(3, sync(&member, generation, assignment)).await;
        assert_eq!((told.error_code, told.assignment), (0, Bytes::from_static(b"mine")));
    }
    assert_eq!(client.ask(4, beat(generation)).await.error_code, 0);
    let stale = client.ask(4, beat(generation + 1)).await.error_code;
    assert_eq!(code(stale), ErrorCode::IllegalGeneration);
    let unknown = client.ask(3, sync(&text("nobody"), generation, None)).await.error_code;
    assert_eq!(code(unknown), ErrorCode::UnknownMemberId);
    // Before version 4 the first answer is the generation.
    let other = JoinGroupRequest { group_id: text("other"), ..join("") };
    assert_eq!(client.ask(3, other).await.error_code, 0);
    server.stop().await;
}

/// Pitfall 24: groups with members stay, and so do offsets of what they read.
#[tokio::test]
async fn what_members_need_is_not_deleted() {
    let (server, mut client) = start().await;
    let (member, generation) = member(&mut client).await;
    client.ask(3, sync(&member, generation, Some(b"mine"))).await;
    let request = DeleteGroupsRequest { groups_names: vec![text(GROUP), text("gone")] };
    let told = client.ask(2, request.clone()).await.results;
    let codes = told.iter().map(|one| code(one.error_code)).collect::<Vec<_>>();
    assert_eq!(codes, [ErrorCode::NonEmptyGroup, ErrorCode::GroupIdNotFound]);
    let partitions = vec![OffsetDeleteRequestPartition { partition_index: 0 }];
    let topics = vec![OffsetDeleteRequestTopic { name: text(TOPIC), partitions }];
    let delete = OffsetDeleteRequest { group_id: text(GROUP), topics };
    let told = client.ask(0, delete).await.topics.remove(0).partitions.remove(0);
    assert_eq!(code(told.error_code), ErrorCode::GroupSubscribedToTopic);
    let leave = LeaveGroupRequest {
        group_id: text(GROUP),
        members: vec![leave_group_request::MemberIdentity {
            member_id: member,
            ..Default::default()
        }],
        ..Default::default()
    };
    assert_eq!(client.ask(5, leave).await.error_code, 0);
    assert_eq!(client.ask(2, request).await.results[0].error_code, 0);
    server.stop().await;
}

fn commit(member: &str, generation: i32, note: &str) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition {
        committed_offset: 5,
        committed_leader_epoch: 0,
        committed_metadata: Some(text(note)),
        ..Default::default()
    };
    let topic = OffsetCommitRequestTopic {
        name: text(TOPIC),
        partitions: vec![partition],
        ..Default::default()
    };
    OffsetCommitRequest {
        group_id: text(GROUP),
        generation_id_or_member_epoch: generation,
        member_id: text(member),
        topics: vec![topic],
        ..Default::default()
    }
}

async fn committed(client: &mut Client, request: OffsetCommitRequest) -> ErrorCode {
    code(client.ask(8, request).await.topics[0].partitions[0].error_code)
}

/// What is stored of partition 0 and of one that has no offset.
async fn stored(client: &mut Client) -> Vec<(i64, i32, Option<String>, i16)> {
    let topic = OffsetFetchRequestTopics {
        name: text(TOPIC),
        partition_indexes: vec![0, 7],
        ..Default::default()
    };
    let group = OffsetFetchRequestGroup {
        group_id: text(GROUP),
        topics: Some(vec![topic]),
        ..Default::default()
    };
    let request = OffsetFetchRequest { groups: vec![group], ..Default::default() };
    let topic = client.ask(8, request).await.groups.remove(0).topics.remove(0);
    let each = topic.partitions.into_iter().map(|one| {
        let note = one.metadata.map(|note| note.as_str().to_owned());
        (one.committed_offset, one.committed_leader_epoch, note, one.error_code)
    });
    each.collect()
}

/// Pitfalls 54 and 57: who may commit and when; notes come back as they were, and are not endless; where
/// nothing is committed, -1 is no error.
#[tokio::test]
async fn commits_are_for_members_and_for_those_without_a_group() {
    let (server, mut client) = start().await;
    assert_eq!(committed(&mut client, commit("", -1, "n\u{f6}te")).await, NO_ERROR, "no group yet");
    let note = Some("n\u{f6}te".to_owned());
    assert_eq!(stored(&mut client).await, [(5, 0, note, 0), (-1, -1, Some(String::new()), 0)]);
    for (length, expected) in [(4_096, NO_ERROR), (4_097, ErrorCode::OffsetMetadataTooLarge)] {
        let note = "x".repeat(length);
        assert_eq!(committed(&mut client, commit("", -1, &note)).await, expected, "{length}");
    }
    let (member, generation) = member(&mut client).await;
    let computing = ErrorCode::RebalanceInProgress;
    assert_eq!(committed(&mut client, commit(&member, generation, "")).await, computing);
    client.ask(3, sync(&member, generation, Some(b"mine"))).await;
    for (member, generation, expected) in [
        (&*member, generation, NO_ERROR),
        (&*member, generation + 1, ErrorCode::IllegalGeneration),
        ("nobody", generation, ErrorCode::UnknownMemberId),
        ("", -1, ErrorCode::UnknownMemberId),
    ] {
        let told = committed(&mut client, commit(member, generation, "")).await;
        assert_eq!(told, expected, "{member} in {generation}");
    }
    server.stop().await;
}

/// Pitfall 58: the names of states, and what is said of a group that there is not.
#[tokio::test]
async fn states_have_the_names_that_tools_know() {
    let (server, mut client) = start().await;
    let state = async |client: &mut Client, version: i16, group: &str| {
        let request = DescribeGroupsRequest { groups: vec![text(group)], ..Default::default() };
        let found = client.ask(version, request).await.groups.remove(0);
        (found.group_state.as_str().to_owned(), code(found.error_code))
    };
    let not_found = ErrorCode::GroupIdNotFound;
    assert_eq!(state(&mut client, 5, GROUP).await, ("Dead".to_owned(), NO_ERROR));
    assert_eq!(state(&mut client, 6, GROUP).await, ("Dead".to_owned(), not_found));
    assert_eq!(committed(&mut client, commit("", -1, "")).await, NO_ERROR);
    assert_eq!(state(&mut client, 6, GROUP).await, ("Empty".to_owned(), NO_ERROR));
    let (member, generation) = member(&mut client).await;
    assert_eq!(state(&mut client, 6, GROUP).await.0, "CompletingRebalance");
    client.ask(3, sync(&member, generation, Some(b"mine"))).await;
    assert_eq!(state(&mut client, 6, GROUP).await.0, "Stable");
    let listed = client.ask(5, ListGroupsRequest::default()).await.groups.remove(0);
    let told = (&*listed.group_type, &*listed.group_state, &*listed.protocol_type);
    assert_eq!(told, ("classic", "Stable", "consumer"));
    server.stop().await;
}

/// Pitfall 60: from version 4 on errors are those of each key, and before there is one.
#[tokio::test]
async fn coordinators_are_told_for_each_key() {
    let (server, mut client) = start().await;
    let keys = || vec![text("a"), text("b")];
    for (key_type, expected) in [(0, NO_ERROR), (1, NO_ERROR), (9, ErrorCode::InvalidRequest)] {
        let request =
            FindCoordinatorRequest { key_type, coordinator_keys: keys(), ..Default::default() };
        let told = client.ask(4, request).await;
        assert_eq!((code(told.error_code), told.coordinators.len()), (NO_ERROR, 2));
        for (one, key) in told.coordinators.iter().zip(keys()) {
            assert_eq!((code(one.error_code), &one.key), (expected, &key));
            assert_eq!(one.node_id, if expected == NO_ERROR { 1 } else { -1 });
        }
        let request = FindCoordinatorRequest { key_type, key: text("a"), ..Default::default() };
        let told = client.ask(3, request).await;
        assert_eq!((code(told.error_code), told.coordinators.len()), (expected, 0));
    }
    server.stop().await;
}
