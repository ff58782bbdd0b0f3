//! The consumer: fetching through troubles, and membership in a group.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use millstream_client::{
    Consumer, ConsumerSettings, GroupSettings, Polled, Reset, Start, TopicPartition,
};
use millstream_record::BatchBuilder;
use millstream_types::{LeaderEpoch, Offset, Timestamp};
use millstream_wire::consumer_protocol_assignment::TopicPartition as AssignedTopic;
use millstream_wire::fetch_response::{FetchableTopicResponse, PartitionData};
use millstream_wire::find_coordinator_response::Coordinator;
use millstream_wire::join_group_response::JoinGroupResponseMember;
use millstream_wire::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use millstream_wire::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};
use millstream_wire::{
    ApiKey, ApiVersionsRequest, ConsumerProtocolAssignment, ErrorCode, FetchRequest, FetchResponse,
    FindCoordinatorRequest, FindCoordinatorResponse, HeartbeatRequest, HeartbeatResponse,
    JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, ListOffsetsRequest,
    ListOffsetsResponse, MetadataRequest, OffsetCommitRequest, OffsetCommitResponse,
    OffsetFetchRequest, OffsetFetchResponse, SyncGroupRequest, SyncGroupResponse, stored,
};
use tokio::sync::Notify;

use support::{Call, Fake, Reply, TOPIC_ID, metadata};

/// Five records to a batch; each says its offset.
const BATCH: i64 = 5;
/// Records from 10 (the older ones have been deleted) to 49 in every partition.
const FIRST: i64 = 10;
const END: i64 = 50;

fn batch(base: i64) -> Bytes {
    let mut builder = BatchBuilder::new();
    for offset in base..base + BATCH {
        builder.append(Timestamp(offset * 100), None, Some(offset.to_string().as_bytes()), &[]);
    }
    let valid = builder.build_valid().unwrap();
    valid.assign(Offset(base), LeaderEpoch(0)).to_bytes()
}

/// At most two batches from the one that holds the wanted offset on.
fn fetch(call: &Call, by_name: bool) -> Option<Reply> {
    let request: FetchRequest = call.request();
    let topics = request.topics.into_iter().map(|topic| {
        assert_eq!(topic.topic.is_empty(), !by_name);
        assert!(by_name || topic.topic_id == TOPIC_ID);
        let partitions = topic.partitions.into_iter().map(|wanted| {
            let from = wanted.fetch_offset;
            let error = if (FIRST..=END).contains(&from) {
                ErrorCode::None
            } else {
                ErrorCode::OffsetOutOfRange
            };
            let bases = (FIRST..END).step_by(BATCH as usize).filter(|base| base + BATCH > from);
            let bytes: Vec<u8> = bases.take(2).flat_map(batch).collect();
            let records = (error == ErrorCode::None).then(|| Bytes::from(bytes).into());
            PartitionData {
                partition_index: wanted.partition,
                error_code: error.code(),
                high_watermark: END,
                records,
                ..Default::default()
            }
        });
        let partitions = partitions.collect();
        FetchableTopicResponse { topic: topic.topic, topic_id: topic.topic_id, partitions }
    });
    let answer = FetchResponse { responses: topics.collect(), ..Default::default() };
    call.answer::<FetchRequest>(&answer)
}

fn list_offsets(call: &Call) -> Option<Reply> {
    let request: ListOffsetsRequest = call.request();
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|wanted| {
            let offset = match wanted.timestamp {
                -1 => END,
                -2 => FIRST,
                time if time / 100 >= END => -1,
                time => (time / 100).max(FIRST),
            };
            let partition_index = wanted.partition_index;
            ListOffsetsPartitionResponse { partition_index, offset, ..Default::default() }
        });
        ListOffsetsTopicResponse { name: topic.name, partitions: partitions.collect() }
    });
    let answer = ListOffsetsResponse { topics: topics.collect(), ..Default::default() };
    call.answer::<ListOffsetsRequest>(&answer)
}

fn broker(call: &Call) -> Option<Reply> {
    match call.api {
        ApiKey::Fetch => fetch(call, false),
        ApiKey::ListOffsets => list_offsets(call),
        _ => None,
    }
}

fn settings() -> ConsumerSettings {
    let fetch_wait = Duration::from_millis(1);
    ConsumerSettings { fetch_wait, ..ConsumerSettings::default() }
}

/// Takes in what a poll brought; checks that offsets rise and records say their offsets.
fn take(polled: &Polled, read: &mut BTreeMap<i32, Vec<i64>>) {
    for batch in &polled.batches {
        let offsets = read.entry(batch.partition().partition).or_default();
        for record in &batch.records(1 << 20).unwrap() {
            let record = record.unwrap();
            assert!(offsets.last().is_none_or(|last| *last < record.offset.0));
            assert_eq!(record.record.value.unwrap(), record.offset.to_string().as_bytes());
            offsets.push(record.offset.0);
        }
    }
}

/// Reads from `start` to the end; returns the first offset that was read.
async fn first_read(fake: &Fake, start: Start, settings: ConsumerSettings) -> i64 {
    let mut consumer = Consumer::new(fake.cluster().await, settings);
    for partition in 0..4 {
        consumer.assign(TopicPartition::new("t", partition), start);
    }
    let mut read = BTreeMap::new();
    while consumer.positions().values().filter(|at| at.0 == END).count() < 4 {
        take(&consumer.poll().await.unwrap(), &mut read);
    }
    let first = read[&0][0];
    for partition in 0..4 {
        assert_eq!(read[&partition], (first..END).collect::<Vec<_>>());
    }
    first
}

#[tokio::test]
async fn reading_begins_where_it_is_told_to() {
    let fake = Fake::new(broker);
    for (start, expected) in [
        (Start::Earliest, FIRST),
        (Start::At(Offset(17)), 17),
        (Start::At(Offset(END - 1)), END - 1),
        (Start::Time(Timestamp(2_345)), 23),
        (Start::Time(Timestamp(-5)), FIRST),
    ] {
        assert_eq!(first_read(&fake, start, settings()).await, expected, "{start:?}");
    }
}

#[tokio::test]
async fn what_is_later_than_all_records_is_the_end() {
    let fake = Fake::new(broker);
    for start in [Start::Latest, Start::Time(Timestamp(END * 100))] {
        let mut consumer = Consumer::new(fake.cluster().await, settings());
        let of = TopicPartition::new("t", 0);
        consumer.assign(of.clone(), start);
        let fetched = fake.count(ApiKey::Fetch);
        let polled = consumer.poll();
        tokio::select! {
            // Nothing is there, which may be said at once or after a long poll.
            polled = polled => assert!(polled.unwrap().batches.is_empty()),
            () = async { while fake.count(ApiKey::Fetch) == fetched { tokio::task::yield_now().await } } => {}
        }
        assert_eq!(consumer.positions()[&of], Offset(END));
    }
}

#[tokio::test]
async fn brokers_that_know_no_topic_ids_are_asked_by_name() {
    let fake = Fake::new(|call| match call.api {
        ApiKey::ApiVersions => {
            let mut answer = support::api_versions(|_| true);
            let fetch = answer.api_keys.iter_mut().find(|api| api.api_key == ApiKey::Fetch.code());
            fetch.unwrap().max_version = 11;
            call.answer::<ApiVersionsRequest>(&answer)
        }
        ApiKey::Fetch => fetch(call, true),
        _ => broker(call),
    });
    assert_eq!(first_read(&fake, Start::Earliest, settings()).await, FIRST);
}

#[tokio::test]
async fn an_offset_that_is_gone_is_dealt_with_as_told() {
    let fake = Fake::new(broker);
    let gone = Start::At(Offset(3));
    let earliest = ConsumerSettings { reset: Reset::Earliest, ..settings() };
    assert_eq!(first_read(&fake, gone, earliest).await, FIRST);
    let mut consumer = Consumer::new(fake.cluster().await, settings());
    consumer.assign(TopicPartition::new("t", 0), gone);
    let error = consumer.poll().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "partition t-0: there is no offset 3 any more, or not yet (OFFSET_OUT_OF_RANGE)"
    );
}

#[tokio::test]
async fn nothing_is_lost_or_doubled_through_troubles() {
    let fetches = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&fetches);
    let fake = Fake::new(move |call| {
        let at = count.load(Ordering::Relaxed);
        match call.api {
            // Leadership goes to and fro.
            ApiKey::Metadata => {
                let leaders = if at.is_multiple_of(2) { [1, 2, 1, 2] } else { [2, 2, 1, 0] };
                call.answer::<MetadataRequest>(&metadata(&leaders))
            }
            ApiKey::Fetch => match count.fetch_add(1, Ordering::Relaxed) % 5 {
                0 => Some(Reply::HangUp),
                1 => {
                    let request: FetchRequest = call.request();
                    let topics = request.topics.into_iter().map(|topic| {
                        let refused = topic.partitions.into_iter().map(|wanted| PartitionData {
                            partition_index: wanted.partition,
                            error_code: ErrorCode::NotLeaderOrFollower.code(),
                            ..Default::default()
                        });
                        let topic_id = topic.topic_id;
                        let partitions = refused.collect();
                        FetchableTopicResponse { topic_id, partitions, ..Default::default() }
                    });
                    let responses = topics.collect();
                    call.answer::<FetchRequest>(&FetchResponse { responses, ..Default::default() })
                }
                _ => fetch(call, false),
            },
            _ => broker(call),
        }
    });
    assert_eq!(first_read(&fake, Start::Earliest, settings()).await, FIRST);
}

#[tokio::test]
async fn patience_has_an_end() {
    let fake = Fake::new(|call| match call.api {
        ApiKey::Metadata => call.answer::<MetadataRequest>(&metadata(&[0])),
        _ => broker(call),
    });
    let brief = ConsumerSettings { patience: Some(Duration::from_millis(5)), ..settings() };
    let mut consumer = Consumer::new(fake.cluster().await, brief);
    consumer.assign(TopicPartition::new("t", 0), Start::At(Offset(10)));
    let error = consumer.poll().await.unwrap_err();
    assert_eq!(error.to_string(), "t-0 has no leader at the moment");
}

#[tokio::test]
async fn a_partition_that_is_assigned_anew_begins_anew() {
    let fake = Fake::new(broker);
    let mut consumer = Consumer::new(fake.cluster().await, settings());
    let of = TopicPartition::new("t", 0);
    consumer.assign(of.clone(), Start::Earliest);
    let mut read = BTreeMap::new();
    take(&consumer.poll().await.unwrap(), &mut read);
    // A request is under way by now: its answer must not count.
    consumer.assign(of.clone(), Start::At(Offset(42)));
    let mut again = BTreeMap::new();
    take(&consumer.poll().await.unwrap(), &mut again);
    assert_eq!(again[&0][0], 42);
    consumer.unassign(&of);
    assert_eq!(consumer.positions(), BTreeMap::new());
}

/// A coordinator with one member, which is told to rebalance once.
#[derive(Default)]
struct Group {
    joins: usize,
    commits: Vec<Vec<(i32, i64)>>,
    left: bool,
    rebalance: bool,
}

fn coordinate(group: &Mutex<Group>, call: &Call) -> Option<Reply> {
    let mut group = group.lock().unwrap();
    match call.api {
        ApiKey::FindCoordinator => {
            let found = Coordinator {
                key: "g".into(),
                node_id: 2,
                host: "fake".into(),
                port: 9002,
                ..Default::default()
            };
            let coordinators = vec![found];
            call.answer::<FindCoordinatorRequest>(&FindCoordinatorResponse {
                coordinators,
                ..Default::default()
            })
        }
        ApiKey::JoinGroup => join(&mut group, call),
        ApiKey::SyncGroup => {
            let request: SyncGroupRequest = call.request();
            let assignment = request.assignments[0].assignment.clone();
            let decoded: ConsumerProtocolAssignment = stored::decode_value(&assignment).unwrap();
            let expected = AssignedTopic { topic: "t".into(), partitions: vec![0, 1, 2, 3] };
            assert_eq!(decoded.assigned_partitions, [expected]);
            call.answer::<SyncGroupRequest>(&SyncGroupResponse { assignment, ..Default::default() })
        }
        ApiKey::OffsetFetch => offsets(&group, call),
        ApiKey::Heartbeat => {
            let rebalance = std::mem::take(&mut group.rebalance);
            let code = if rebalance { ErrorCode::RebalanceInProgress } else { ErrorCode::None };
            let error_code = code.code();
            call.answer::<HeartbeatRequest>(&HeartbeatResponse { error_code, ..Default::default() })
        }
        ApiKey::OffsetCommit => {
            let request: OffsetCommitRequest = call.request();
            assert_eq!(request.member_id, "m");
            let commit = request.topics[0].partitions.iter();
            let commit = commit.map(|each| (each.partition_index, each.committed_offset));
            group.commits.push(commit.collect());
            call.answer::<OffsetCommitRequest>(&OffsetCommitResponse::default())
        }
        ApiKey::LeaveGroup => {
            group.left = true;
            call.answer::<LeaveGroupRequest>(&LeaveGroupResponse::default())
        }
        _ => broker(call),
    }
}

fn join(group: &mut Group, call: &Call) -> Option<Reply> {
    assert_eq!(call.port, 9002);
    let request: JoinGroupRequest = call.request();
    if request.member_id.is_empty() {
        let error_code = ErrorCode::MemberIdRequired.code();
        let member_id = "m".into();
        return call.answer::<JoinGroupRequest>(&JoinGroupResponse {
            error_code,
            member_id,
            protocol_name: Some("".into()),
            ..Default::default()
        });
    }
    group.joins += 1;
    let member = JoinGroupResponseMember {
        member_id: "m".into(),
        metadata: request.protocols[0].metadata.clone(),
        ..Default::default()
    };
    call.answer::<JoinGroupRequest>(&JoinGroupResponse {
        generation_id: i32::try_from(group.joins).unwrap(),
        protocol_name: Some(request.protocols[0].name.clone()),
        leader: "m".into(),
        member_id: "m".into(),
        members: vec![member],
        ..Default::default()
    })
}

fn offsets(group: &Group, call: &Call) -> Option<Reply> {
    let committed: BTreeMap<_, _> = group.commits.iter().flatten().copied().collect();
    let partitions = (0..4).map(|partition_index| OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: committed.get(&partition_index).copied().unwrap_or(-1),
        ..Default::default()
    });
    let topic = OffsetFetchResponseTopics {
        name: "t".into(),
        partitions: partitions.collect(),
        ..Default::default()
    };
    let each = OffsetFetchResponseGroup {
        group_id: "g".into(),
        topics: vec![topic],
        ..Default::default()
    };
    let groups = vec![each];
    call.answer::<OffsetFetchRequest>(&OffsetFetchResponse { groups, ..Default::default() })
}

#[tokio::test]
async fn a_member_reads_commits_rebalances_and_leaves() {
    let group = Arc::new(Mutex::new(Group::default()));
    let shared = Arc::clone(&group);
    let fake = Fake::new(move |call| coordinate(&shared, call));
    let member = GroupSettings {
        heartbeat_interval: Duration::from_millis(1),
        commit_every: Some(Duration::from_secs(3600)),
        ..GroupSettings::new("g")
    };
    let reset = ConsumerSettings { reset: Reset::Earliest, ..settings() };
    let cluster = fake.cluster().await;
    let mut consumer = Consumer::in_group(cluster.clone(), reset.clone(), member.clone(), ["t"]);
    let mut read = BTreeMap::new();
    let mut reassigned = 0;
    while consumer.positions().values().filter(|at| at.0 == END).count() < 4 {
        let polled = consumer.poll().await.unwrap();
        reassigned += usize::from(polled.reassigned);
        take(&polled, &mut read);
        if !read.is_empty() && reassigned == 1 {
            // Polling goes on until the heart has heard of it.
            group.lock().unwrap().rebalance = true;
            while !consumer
                .poll()
                .await
                .map(|polled| {
                    take(&polled, &mut read);
                    polled.reassigned
                })
                .unwrap()
            {}
            reassigned = 2;
        }
    }
    for partition in 0..4 {
        assert_eq!(read[&partition], (FIRST..END).collect::<Vec<_>>(), "once each, in order");
    }
    assert_eq!(group.lock().unwrap().joins, 2);
    consumer.close().await.unwrap();
    {
        let group = group.lock().unwrap();
        assert!(group.left);
        let committed: BTreeMap<_, _> = group.commits.iter().flatten().copied().collect();
        assert_eq!(committed, (0..4).map(|partition| (partition, END)).collect());
    }
    // Who comes next goes on where this one stopped.
    let mut next = Consumer::in_group(cluster, reset, member, ["t"]);
    assert!(next.poll().await.unwrap().reassigned);
    assert!(next.positions().values().all(|at| at.0 == END));
}

#[tokio::test]
async fn a_group_without_an_offset_starts_as_told_or_not_at_all() {
    let group = Arc::new(Mutex::new(Group::default()));
    let fake = Fake::new(move |call| coordinate(&group, call));
    let cluster = fake.cluster().await;
    let mut consumer = Consumer::in_group(cluster, settings(), GroupSettings::new("g"), ["t"]);
    // It says so until somebody does something about it.
    for _ in 0..2 {
        let error = consumer.poll().await.unwrap_err();
        assert_eq!(error.to_string(), "group g has no offset for partition t-0");
    }
}

#[tokio::test]
async fn what_a_group_has_given_outlives_a_poll_that_fails_or_is_dropped() {
    // How often the offsets are refused, then a poll is dropped while they are on their way.
    for (mut refusals, mut drops) in [(1, 0), (0, 1), (2, 2)] {
        let group = Arc::new(Mutex::new(Group::default()));
        let (shared, asked) = (Arc::clone(&group), Arc::new(Notify::new()));
        let tell = Arc::clone(&asked);
        let counts = Mutex::new((refusals, drops));
        let fake = Fake::new(move |call| {
            if call.api != ApiKey::OffsetFetch {
                return coordinate(&shared, call);
            }
            let (refusals, drops) = &mut *counts.lock().unwrap();
            if *refusals > 0 {
                *refusals -= 1;
                let group = OffsetFetchResponseGroup {
                    group_id: "g".into(),
                    error_code: ErrorCode::GroupAuthorizationFailed.code(),
                    ..Default::default()
                };
                let groups = vec![group];
                let answer = OffsetFetchResponse { groups, ..Default::default() };
                return call.answer::<OffsetFetchRequest>(&answer);
            }
            if *drops > 0 {
                *drops -= 1;
                tell.notify_one();
            }
            coordinate(&shared, call)
        });
        let reset = ConsumerSettings { reset: Reset::Earliest, ..settings() };
        let cluster = fake.cluster().await;
        let mut consumer = Consumer::in_group(cluster, reset, GroupSettings::new("g"), ["t"]);
        while refusals > 0 {
            refusals -= 1;
            consumer.poll().await.unwrap_err();
        }
        while drops > 0 {
            drops -= 1;
            tokio::select! {
                biased;
                () = asked.notified() => {}
                polled = consumer.poll() => panic!("{polled:?}"),
            }
        }
        assert!(consumer.poll().await.unwrap().reassigned);
        assert_eq!(consumer.assignment().count(), 4);
        assert_eq!(group.lock().unwrap().joins, 1, "it stays a member");
    }
}

/// Compiles only if a consumer's futures can move between threads.
#[tokio::test]
async fn a_consumer_can_be_driven_by_any_thread() {
    fn sent<T: Send>(future: T) -> T {
        future
    }
    let fake = Fake::new(broker);
    let mut consumer = Consumer::new(fake.cluster().await, settings());
    consumer.assign(TopicPartition::new("t", 0), Start::Earliest);
    let polled = sent(consumer.poll()).await;
    assert!(polled.is_ok());
    drop(sent(consumer.commit()));
    drop(sent(consumer.commit_offsets(&BTreeMap::new())));
    assert!(sent(consumer.close()).await.is_ok());
    let consumer = Consumer::new(fake.cluster().await, settings());
    sent(consumer.leave()).await;
}

#[tokio::test]
async fn only_members_commit() {
    let fake = Fake::new(broker);
    let mut consumer = Consumer::new(fake.cluster().await, settings());
    let error = consumer.commit().await.unwrap_err();
    assert_eq!(error.to_string(), "only members of a group can commit");
}
