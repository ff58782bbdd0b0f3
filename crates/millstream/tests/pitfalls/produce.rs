//! Producing: sequence numbers, timestamps, compression.

use millstream_record::{BatchHeader, Compression, crc32c};
use millstream_wire::*;

use super::raw::Client;
use super::{
    FETCH, NO_ERROR, TOPIC, batches, code, create, fetch, fetch_request, look_up, only, produce,
    produce_request, records, sent, start,
};

async fn producer(client: &mut Client) -> (i64, i16) {
    let request = InitProducerIdRequest { transactional_id: None, ..Default::default() };
    let given = client.ask(4, request).await;
    assert_eq!(code(given.error_code), NO_ERROR);
    (given.producer_id, given.producer_epoch)
}

/// Pitfalls 26, 27, 28 and 30: an id is given to who asks for none of its own; an exact retry of one of the
/// last five batches gets the answer of the first; other sequence numbers are out of order; the one after
/// the greatest is 0; a new epoch begins at 0, and the old one is over.
#[tokio::test]
async fn sequence_numbers_tell_retries_from_gaps() {
    let (server, mut client) = start().await;
    let (id, epoch) = producer(&mut client).await;
    assert!(id >= 0 && epoch == 0);
    let out_of_order = Err(ErrorCode::OutOfOrderSequenceNumber);
    const MAX: i32 = i32::MAX;
    for (id, epoch, sequence, expected) in [
        (id, 0, 0, Ok(0)),
        (id, 0, 1, Ok(1)),
        (id, 0, 0, Ok(0)),
        (id, 0, 3, out_of_order),
        (id, 0, 2, Ok(2)),
        (id, 0, 3, Ok(3)),
        (id, 0, 4, Ok(4)),
        (id, 0, 5, Ok(5)),
        (id, 0, 1, Ok(1)),
        // Not one of the last five any more.
        (id, 0, 0, out_of_order),
        (id, 1, 1, out_of_order),
        (id, 1, 0, Ok(6)),
        (id, 0, 6, Err(ErrorCode::InvalidProducerEpoch)),
        // Nothing is known of this one: retention may have taken it.
        (id + 1, 0, MAX, Ok(7)),
        (id + 1, 0, 0, Ok(8)),
        (id + 1, 0, MAX, Ok(7)),
        (id + 1, 0, 2, out_of_order),
    ] {
        let answer = produce(&mut client, TOPIC, sent((id, epoch, sequence))).await;
        let found = match code(answer.error_code) {
            ErrorCode::None => Ok(answer.base_offset),
            error => Err(error),
        };
        assert_eq!(found, expected, "producer {id} in epoch {epoch} with {sequence}");
    }
    server.stop().await;
}

/// Pitfall 33: the greatest timestamp of a batch is what its records say, also where its header says
/// nothing; and what is too far from the broker's time is refused.
#[tokio::test]
async fn the_greatest_timestamp_is_that_of_the_records() {
    let (server, mut client) = start().await;
    for times in [&[1_000, 3_000, 2_000][..], &[5_000]] {
        let mut batch = records(times).build().expect("a batch").to_vec();
        // As some clients send it: without one.
        batch[35..43].copy_from_slice(&(-1_i64).to_be_bytes());
        let crc = crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        let request = produce_request(TOPIC, batch.into());
        let answer = client.ask(9, request).await;
        assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
    }
    let found = batches(&fetch(&mut client, TOPIC, 0).await);
    let greatest = found.iter().map(|batch| BatchHeader::decode(batch).expect("whole"));
    assert_eq!(greatest.map(|it| it.max_timestamp.0).collect::<Vec<_>>(), [3_000, 5_000]);
    let bounded = [("message.timestamp.before.max.ms", "1000")];
    assert_eq!(create(&mut client, "bounded", &bounded).await, NO_ERROR);
    // Long ago, and long from now: an hour is the most by default.
    for (topic, time) in [("bounded", 1_000), (TOPIC, i64::MAX / 2)] {
        let answer = produce(&mut client, topic, records(&[time])).await;
        assert_eq!(code(answer.error_code), ErrorCode::InvalidTimestamp, "{topic}");
        assert_eq!(answer.record_errors.len(), 1);
    }
    server.stop().await;
}

/// Pitfall 34: with append time, the batch says so, its greatest timestamp is the broker's time, its
/// checksum holds, and the answer tells the time; without, the answer tells none.
#[tokio::test]
async fn append_time_is_in_the_batch_and_in_the_answer() {
    let (server, mut client) = start().await;
    let configs = [("message.timestamp.type", "LogAppendTime")];
    assert_eq!(create(&mut client, "appended", &configs).await, NO_ERROR);
    let told = produce(&mut client, "appended", records(&[1_000, 9_000])).await;
    assert!(told.log_append_time_ms > 9_000);
    let batch = batches(&fetch(&mut client, "appended", 0).await).remove(0);
    let header = BatchHeader::decode(&batch).expect("whole");
    assert_eq!(header.max_timestamp.0, told.log_append_time_ms);
    assert_eq!(batch[22] & 1 << 3, 1 << 3, "the bit of append time");
    assert_eq!(batch[17..21], crc32c(&batch[21..]).to_be_bytes());
    assert_eq!(produce(&mut client, TOPIC, records(&[1_000])).await.log_append_time_ms, -1);
    server.stop().await;
}

/// Pitfall 35: what a client sent is what others get, but for base offset and leader epoch, which lie
/// outside of the checksum; a topic's own compression is another matter; zstd is for those who know it.
#[tokio::test]
async fn batches_stay_as_they_were_sent() {
    let (server, mut client) = start().await;
    for codec in Compression::ALL {
        let batch = records(&[1_000; 9]).compression(codec, None).build().expect("a batch");
        let request = produce_request(TOPIC, batch.clone());
        let answer = client.ask(9, request).await.responses.remove(0);
        let at = answer.partition_responses[0].base_offset;
        let stored = batches(&fetch(&mut client, TOPIC, at).await).remove(0);
        assert_eq!(stored[..8], at.to_be_bytes());
        assert_eq!((&stored[8..12], &stored[16..]), (&batch[8..12], &batch[16..]), "{codec:?}");
    }
    let zstd = || records(&[1_000; 9]).compression(Compression::Zstd, None);
    for (version, expected) in [(6, ErrorCode::UnsupportedCompressionType), (7, NO_ERROR)] {
        let request = produce_request(TOPIC, zstd().build().expect("a batch"));
        let answer = client.ask(version, request).await.responses.remove(0);
        assert_eq!(code(answer.partition_responses[0].error_code), expected, "v{version}");
    }
    assert_eq!(create(&mut client, "zstd", &[("compression.type", "zstd")]).await, NO_ERROR);
    assert_eq!(produce(&mut client, "zstd", records(&[1_000; 9])).await.error_code, 0);
    for (version, expected) in [(9, ErrorCode::UnsupportedCompressionType), (10, NO_ERROR)] {
        let answer = only(client.ask(version, fetch_request("zstd", 0)).await);
        assert_eq!(code(answer.error_code), expected, "v{version}");
        assert_eq!(batches(&answer).len(), usize::from(expected == NO_ERROR));
    }
    let stored = batches(&fetch(&mut client, "zstd", 0).await).remove(0);
    assert_eq!(stored[22] & 7, Compression::Zstd as u8);
    server.stop().await;
}

/// Pitfalls 36 and 45: where the log starts is in every answer, and another leader only in that of who
/// asked the wrong one; nobody is sent to a replica.
#[tokio::test]
async fn answers_name_another_leader_only_when_there_is_one() {
    let (server, mut client) = start().await;
    let told = produce(&mut client, TOPIC, records(&[1_000])).await;
    assert_eq!(told.log_start_offset, 0);
    let nobody = (-1, -1);
    assert_eq!((told.current_leader.leader_id, told.current_leader.leader_epoch), nobody);
    let mut request = fetch_request("", 0);
    request.topics[0].topic_id = look_up(&mut client, TOPIC).await.topic_id;
    let whole = client.ask(16, FetchRequest { rack_id: "anywhere".into(), ..request }).await;
    assert!(whole.node_endpoints.is_empty());
    let told = only(whole);
    assert_eq!((told.current_leader.leader_id, told.current_leader.leader_epoch), nobody);
    assert_eq!((told.preferred_read_replica, told.log_start_offset), (-1, 0));
    for version in [11, FETCH] {
        let told = only(client.ask(version, fetch_request(TOPIC, 0)).await);
        assert_eq!(told.preferred_read_replica, -1);
    }
    server.stop().await;
}
