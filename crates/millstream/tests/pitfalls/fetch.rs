//! Fetching, offsets, leader epochs.

use millstream_record::BatchHeader;
use millstream_types::Uuid;
use millstream_wire::fetch_request::{FetchPartition, FetchTopic};
use millstream_wire::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use millstream_wire::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use millstream_wire::*;

use super::raw::Client;
use super::{
    FETCH, NO_ERROR, TOPIC, batches, code, create, fetch, fetch_request, only, produce, records,
    start, text,
};

/// Pitfalls 38 and 39: whole batches come, the one that the offset is in among them; the first one however
/// large it is; and partitions in the order in which they were asked for.
#[tokio::test]
async fn whole_batches_come_in_the_order_of_the_request() {
    let (server, mut client) = start().await;
    assert_eq!(create(&mut client, "u", &[]).await, NO_ERROR);
    for topic in [TOPIC, "u"] {
        for _ in 0..3 {
            assert_eq!(produce(&mut client, topic, records(&[1_000; 10])).await.error_code, 0);
        }
    }
    let first = |data: &fetch_response::PartitionData| {
        let header = batches(data).first().map(|batch| BatchHeader::decode(batch).expect("whole"));
        header.map(|header| header.base_offset.0)
    };
    for (from, expected) in [(0, 0), (7, 0), (10, 10), (29, 20)] {
        assert_eq!(first(&fetch(&mut client, TOPIC, from).await), Some(expected), "from {from}");
    }
    let partition = || FetchPartition {
        partition_max_bytes: 1,
        current_leader_epoch: -1,
        last_fetched_epoch: -1,
        ..Default::default()
    };
    for names in [[TOPIC, "u"], ["u", TOPIC]] {
        let topics = names.map(|name| FetchTopic {
            topic: text(name),
            topic_id: Uuid::NIL,
            partitions: vec![partition()],
        });
        let request = FetchRequest { max_bytes: 1, topics: topics.into(), ..fetch_request("", 0) };
        let answer = client.ask(FETCH, request).await.responses;
        assert_eq!([&*answer[0].topic, &*answer[1].topic], names);
        // One byte was asked for: one batch comes, of the first partition alone.
        let counts = answer.iter().map(|topic| batches(&topic.partitions[0]).len());
        assert_eq!(counts.collect::<Vec<_>>(), [1, 0]);
    }
    server.stop().await;
}

/// Pitfall 40: at the end there is nothing yet, beyond it and before the start there never will be.
#[tokio::test]
async fn only_what_is_outside_of_the_log_is_out_of_range() {
    let (server, mut client) = start().await;
    for _ in 0..2 {
        assert_eq!(produce(&mut client, TOPIC, records(&[1_000; 5])).await.error_code, 0);
    }
    let partitions =
        vec![delete_records_request::DeleteRecordsPartition { partition_index: 0, offset: 3 }];
    let topics = vec![delete_records_request::DeleteRecordsTopic { name: text(TOPIC), partitions }];
    client.ask(2, DeleteRecordsRequest { topics, timeout_ms: 1_000 }).await;
    let outside = ErrorCode::OffsetOutOfRange;
    for (from, expected) in
        [(2, outside), (3, NO_ERROR), (9, NO_ERROR), (10, NO_ERROR), (11, outside), (-1, outside)]
    {
        let told = fetch(&mut client, TOPIC, from).await;
        assert_eq!(code(told.error_code), expected, "from {from}");
        assert_eq!(batches(&told).is_empty(), expected == outside || from == 10);
    }
    server.stop().await;
}

/// Pitfall 43: a session is opened by who asks for one, tells only what is new, and whoever does not know
/// it is told so.
#[tokio::test]
async fn sessions_tell_what_is_new() {
    let (server, mut client) = start().await;
    let ask = |session_id, session_epoch, topics: bool| {
        let request = fetch_request(TOPIC, 0);
        let topics = if topics { request.topics } else { Vec::new() };
        FetchRequest { session_id, session_epoch, topics, ..fetch_request(TOPIC, 0) }
    };
    let none = client.ask(FETCH, ask(0, -1, true)).await;
    assert_eq!((none.session_id, none.responses.len()), (0, 1));
    let opened = client.ask(FETCH, ask(0, 0, true)).await;
    assert_ne!(opened.session_id, 0);
    let id = opened.session_id;
    let nothing = client.ask(FETCH, ask(id, 1, false)).await;
    assert_eq!((nothing.error_code, nothing.responses.len()), (0, 0));
    assert_eq!(produce(&mut client, TOPIC, records(&[1_000])).await.error_code, 0);
    let news = client.ask(FETCH, ask(id, 2, false)).await;
    assert_eq!(batches(&only(news)).len(), 1);
    for (session, epoch, expected) in [
        (id, 2, ErrorCode::InvalidFetchSessionEpoch),
        (id, 9, ErrorCode::InvalidFetchSessionEpoch),
        (id ^ 1, 3, ErrorCode::FetchSessionIdNotFound),
    ] {
        let told = client.ask(FETCH, ask(session, epoch, false)).await;
        assert_eq!(code(told.error_code), expected, "{session} {epoch}");
    }
    // By ids, in a session that was opened by names.
    let told = client.ask(13, FetchRequest { topics: Vec::new(), ..ask(id, 3, false) }).await;
    assert_eq!(code(told.error_code), ErrorCode::FetchSessionTopicIdError);
    server.stop().await;
}

/// What ListOffsets says: error, offset, timestamp.
async fn list(client: &mut Client, version: i16, timestamp: i64) -> (ErrorCode, i64, i64) {
    let partitions =
        vec![ListOffsetsPartition { timestamp, current_leader_epoch: -1, ..Default::default() }];
    let topics = vec![ListOffsetsTopic { name: text(TOPIC), partitions }];
    let request = ListOffsetsRequest { topics, ..Default::default() };
    let found = &client.ask(version, request).await.topics[0].partitions[0];
    (code(found.error_code), found.offset, found.timestamp)
}

/// Pitfall 46: times are found by the record and not by the batch; what is not found is no error.
#[tokio::test]
async fn offsets_are_found_by_the_time_of_a_record() {
    let (server, mut client) = start().await;
    assert_eq!(list(&mut client, 11, -3).await, (NO_ERROR, -1, -1), "an empty log");
    assert_eq!(list(&mut client, 11, 0).await, (NO_ERROR, -1, -1));
    for times in [&[1_000, 3_000, 2_000][..], &[2_500, 3_000]] {
        assert_eq!(produce(&mut client, TOPIC, records(times)).await.error_code, 0);
    }
    for (timestamp, expected) in [
        (-1, (5, -1)),
        (-2, (0, -1)),
        (-3, (1, 3_000)),
        (-4, (0, -1)),
        (-5, (-1, -1)),
        (0, (0, 1_000)),
        (1_000, (0, 1_000)),
        (1_001, (1, 3_000)),
        (3_000, (1, 3_000)),
        (3_001, (-1, -1)),
    ] {
        let (offset, time) = expected;
        assert_eq!(list(&mut client, 11, timestamp).await, (NO_ERROR, offset, time), "{timestamp}");
    }
    // Only where the version knows them.
    for (version, timestamp) in [(6, -3), (7, -4), (8, -5), (10, -6), (11, -7)] {
        let told = list(&mut client, version, timestamp).await;
        assert_eq!(told, (ErrorCode::UnsupportedVersion, -1, -1), "v{version} {timestamp}");
    }
    server.stop().await;
}

/// Pitfall 47: who knows an older leader or a newer one is told so; ends of epochs are told by the
/// largest epoch that is not larger than the one that is asked for.
#[tokio::test]
async fn leader_epochs_are_compared() {
    let directory = tempfile::tempdir().expect("a directory");
    // Each start raises the epoch: 0 and 2 have records, 1 has none.
    for run in 0..3 {
        let config = millstream::ServerConfig::in_directory(directory.path());
        let server = millstream::Server::start(config).await.expect("starts");
        let mut client = Client::new(&server);
        if run == 0 {
            assert_eq!(create(&mut client, TOPIC, &[]).await, NO_ERROR);
        }
        if run != 1 {
            assert_eq!(produce(&mut client, TOPIC, records(&[1_000; 4])).await.error_code, 0);
        }
        if run == 2 {
            compared(&mut client).await;
        }
        server.stop().await;
    }
}

async fn compared(client: &mut Client) {
    let (fenced, unknown) = (ErrorCode::FencedLeaderEpoch, ErrorCode::UnknownLeaderEpoch);
    for (current, asked, expected) in [
        (-1, 0, (NO_ERROR, 0, 4)),
        (-1, 1, (NO_ERROR, 0, 4)),
        (2, 2, (NO_ERROR, 2, 8)),
        (-1, 3, (NO_ERROR, -1, -1)),
        (1, 0, (fenced, -1, -1)),
        (3, 0, (unknown, -1, -1)),
    ] {
        let partition = OffsetForLeaderPartition {
            partition: 0,
            current_leader_epoch: current,
            leader_epoch: asked,
        };
        let topic = OffsetForLeaderTopic { topic: text(TOPIC), partitions: vec![partition] };
        let request = OffsetForLeaderEpochRequest { topics: vec![topic], ..Default::default() };
        let told = client.ask(4, request).await.topics.remove(0).partitions.remove(0);
        let found = (code(told.error_code), told.leader_epoch, told.end_offset);
        assert_eq!(found, expected, "{asked}, known to be {current}");
    }
    for (current, last, from, expected) in [
        (2, -1, 0, (NO_ERROR, -1, -1)),
        (1, -1, 0, (fenced, -1, -1)),
        (3, -1, 0, (unknown, -1, -1)),
        // The reader has more of epoch 0, or something of epoch 1: their logs part there.
        (-1, 0, 5, (NO_ERROR, 0, 4)),
        (-1, 1, 4, (NO_ERROR, 0, 4)),
        (-1, 0, 4, (NO_ERROR, -1, -1)),
    ] {
        let mut request = fetch_request(TOPIC, from);
        request.topics[0].partitions[0].current_leader_epoch = current;
        request.topics[0].partitions[0].last_fetched_epoch = last;
        let told = only(client.ask(FETCH, request).await);
        let diverging = told.diverging_epoch;
        let found = (code(told.error_code), diverging.epoch, diverging.end_offset);
        assert_eq!(found, expected, "from {from} after {last}, known to be {current}");
    }
}
