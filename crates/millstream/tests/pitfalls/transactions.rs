//! Transactions, in both protocols.

use millstream_wire::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use millstream_wire::fetch_response::PartitionData;
use millstream_wire::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use millstream_wire::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use millstream_wire::*;

use super::raw::Client;
use super::{
    FETCH, From, GROUP, NO_ERROR, TOPIC, batches, code, fetch_request, only, produce_request, sent,
    start, text,
};

const ID: &str = "id";
/// The last versions of the first protocol.
const PRODUCE_V1: i16 = 11;
const END_V1: i16 = 4;
/// The first of the second.
const PRODUCE_V2: i16 = 12;
const END_V2: i16 = 5;

async fn init(client: &mut Client, version: i16, was: (i64, i16)) -> Result<(i64, i16), ErrorCode> {
    let request = InitProducerIdRequest {
        transactional_id: Some(text(ID)),
        transaction_timeout_ms: 60_000,
        producer_id: was.0,
        producer_epoch: was.1,
        ..Default::default()
    };
    let told = client.ask(version, request).await;
    match code(told.error_code) {
        ErrorCode::None => Ok((told.producer_id, told.producer_epoch)),
        error => Err(error),
    }
}

const NOBODY: (i64, i16) = (-1, -1);

async fn add(client: &mut Client, version: i16, (id, epoch): (i64, i16)) -> ErrorCode {
    let request = AddPartitionsToTxnRequest {
        v3_and_below_transactional_id: text(ID),
        v3_and_below_producer_id: id,
        v3_and_below_producer_epoch: epoch,
        v3_and_below_topics: vec![AddPartitionsToTxnTopic {
            name: text(TOPIC),
            partitions: vec![0],
        }],
        ..Default::default()
    };
    let told = client.ask(version, request).await.results_by_topic_v3_and_below.remove(0);
    code(told.results_by_partition[0].partition_error_code)
}

/// Sends a batch of one record within a transaction. Its offset.
async fn send(client: &mut Client, version: i16, from: From) -> Result<i64, ErrorCode> {
    let batch = sent(from).transactional().build().expect("a batch");
    let request =
        ProduceRequest { transactional_id: Some(text(ID)), ..produce_request(TOPIC, batch) };
    let told = client.ask(version, request).await.responses.remove(0).partition_responses.remove(0);
    match code(told.error_code) {
        ErrorCode::None => Ok(told.base_offset),
        error => Err(error),
    }
}

async fn end(
    client: &mut Client,
    version: i16,
    (id, epoch): (i64, i16),
    committed: bool,
) -> Result<(i64, i16), ErrorCode> {
    let request = EndTxnRequest {
        transactional_id: text(ID),
        producer_id: id,
        producer_epoch: epoch,
        committed,
    };
    let told = client.ask(version, request).await;
    match code(told.error_code) {
        ErrorCode::None => Ok((told.producer_id, told.producer_epoch)),
        error => Err(error),
    }
}

async fn read(client: &mut Client, isolation_level: i8) -> PartitionData {
    only(client.ask(FETCH, FetchRequest { isolation_level, ..fetch_request(TOPIC, 0) }).await)
}

/// Pitfalls 26 and 30: who was fenced is told so by the coordinator in versions that have a word for it,
/// and by partitions always in the old one.
#[tokio::test]
async fn who_is_fenced_is_told_in_words_that_it_knows() {
    let (server, mut client) = start().await;
    let old = init(&mut client, 4, NOBODY).await.expect("given");
    let new = init(&mut client, 4, NOBODY).await.expect("given");
    assert_eq!(new, (old.0, old.1 + 1));
    let (epoch, fenced) = (ErrorCode::InvalidProducerEpoch, ErrorCode::ProducerFenced);
    for (version, expected) in [(3, epoch), (4, fenced)] {
        assert_eq!(init(&mut client, version, old).await, Err(expected), "init v{version}");
    }
    for (version, expected) in [(1, epoch), (2, fenced)] {
        assert_eq!(add(&mut client, version, old).await, expected, "add v{version}");
        assert_eq!(end(&mut client, version, old, true).await, Err(expected), "end v{version}");
    }
    for version in [PRODUCE_V1, PRODUCE_V2] {
        let told = send(&mut client, version, (old.0, old.1, 0)).await;
        assert!(matches!(told, Err(ErrorCode::InvalidProducerEpoch)), "v{version}: {told:?}");
    }
    server.stop().await;
}

/// Pitfalls 29, 64 and 65: each transaction of the second protocol enlists what it writes to, has an epoch
/// of its own that begins at 0, ends with one record per partition, and its end may be asked for again.
#[tokio::test]
async fn each_transaction_has_an_epoch_of_its_own() {
    let (server, mut client) = start().await;
    let (id, epoch) = init(&mut client, 5, NOBODY).await.expect("given");
    let out_of_order = Err(ErrorCode::OutOfOrderSequenceNumber);
    assert_eq!(send(&mut client, PRODUCE_V2, (id, epoch, 3)).await, out_of_order);
    assert_eq!(send(&mut client, PRODUCE_V2, (id, epoch, 0)).await, Ok(0));
    assert_eq!(send(&mut client, PRODUCE_V2, (id, epoch, 1)).await, Ok(1));
    let next = (id, epoch + 1);
    for _ in 0..2 {
        assert_eq!(end(&mut client, END_V2, (id, epoch), true).await, Ok(next));
    }
    let wrong = end(&mut client, END_V2, (id, epoch), false).await;
    assert_eq!(wrong, Err(ErrorCode::InvalidTxnState));
    // One marker, which has the new epoch.
    assert_eq!(read(&mut client, 1).await.high_watermark, 3);
    let late = send(&mut client, PRODUCE_V2, (id, epoch, 2)).await;
    assert_eq!(late, Err(ErrorCode::InvalidProducerEpoch));
    assert_eq!(send(&mut client, PRODUCE_V2, (id, epoch + 1, 0)).await, Ok(3));
    server.stop().await;
}

/// Pitfalls 29, 63 and 64 in the first protocol: partitions are added first, the epoch stays, a first batch
/// may have any number when nothing is known of the producer, and an end may be asked for again, also by
/// another client that has kept id and epoch.
#[tokio::test]
async fn an_end_may_be_asked_for_again_and_by_others() {
    let (server, mut client) = start().await;
    let (id, epoch) = init(&mut client, 4, NOBODY).await.expect("given");
    let not_added = send(&mut client, PRODUCE_V1, (id, epoch, 0)).await;
    assert_eq!(not_added, Err(ErrorCode::TransactionAbortable));
    assert_eq!(add(&mut client, 3, (id, epoch)).await, NO_ERROR);
    assert_eq!(send(&mut client, PRODUCE_V1, (id, epoch, 7)).await, Ok(0));
    let mut client = Client::new(&server);
    for _ in 0..2 {
        assert_eq!(end(&mut client, END_V1, (id, epoch), true).await, Ok(NOBODY));
    }
    let wrong = end(&mut client, END_V1, (id, epoch), false).await;
    assert_eq!(wrong, Err(ErrorCode::InvalidTxnState));
    assert_eq!(read(&mut client, 1).await.high_watermark, 2);
    let unknown = end(&mut client, END_V1, (id + 1, epoch), true).await;
    assert_eq!(unknown, Err(ErrorCode::InvalidProducerIdMapping));
    server.stop().await;
}

/// Pitfalls 40 and 41: who reads what is committed stops at the first open transaction, and is told which
/// were aborted; who reads all is told of none, and reads the aborted too.
#[tokio::test]
async fn aborted_transactions_are_named_to_those_who_skip_them() {
    let (server, mut client) = start().await;
    let (id, epoch) = init(&mut client, 5, NOBODY).await.expect("given");
    assert_eq!(send(&mut client, PRODUCE_V2, (id, epoch, 0)).await, Ok(0));
    let open = read(&mut client, 1).await;
    let bounds = (open.last_stable_offset, open.high_watermark, batches(&open).len());
    assert_eq!(bounds, (0, 1, 0));
    let all = read(&mut client, 0).await;
    assert_eq!((batches(&all).len(), all.aborted_transactions), (1, None));
    let (_, next) = end(&mut client, END_V2, (id, epoch), false).await.expect("aborted");
    assert_eq!(send(&mut client, PRODUCE_V2, (id, next, 0)).await, Ok(2));
    end(&mut client, END_V2, (id, next), true).await.expect("committed");
    let committed = read(&mut client, 1).await;
    assert_eq!((committed.last_stable_offset, batches(&committed).len()), (4, 4));
    let aborted = committed.aborted_transactions.expect("told");
    let named: Vec<_> = aborted.iter().map(|one| (one.producer_id, one.first_offset)).collect();
    assert_eq!(named, [(id, 0)]);
    let all = read(&mut client, 0).await;
    assert_eq!((batches(&all).len(), all.aborted_transactions), (4, None));
    // Only those that the answer overlaps.
    let request = FetchRequest { isolation_level: 1, ..fetch_request(TOPIC, 2) };
    let behind = only(client.ask(FETCH, request).await);
    assert_eq!(behind.aborted_transactions, Some(Vec::new()));
    server.stop().await;
}

/// What OffsetFetch says of partition 0: the offset or an error.
async fn offset(client: &mut Client, require_stable: bool) -> Result<i64, ErrorCode> {
    let topic = OffsetFetchRequestTopics {
        name: text(TOPIC),
        partition_indexes: vec![0],
        ..Default::default()
    };
    let group = OffsetFetchRequestGroup {
        group_id: text(GROUP),
        topics: Some(vec![topic]),
        ..Default::default()
    };
    let request = OffsetFetchRequest { groups: vec![group], require_stable, ..Default::default() };
    let told = client.ask(8, request).await.groups.remove(0).topics.remove(0).partitions.remove(0);
    match code(told.error_code) {
        ErrorCode::None => Ok(told.committed_offset),
        error => Err(error),
    }
}

/// Pitfall 56: offsets within a transaction count when it commits; until then, who must not read past them
/// is told to wait.
#[tokio::test]
async fn offsets_count_when_their_transaction_commits() {
    let (server, mut client) = start().await;
    let (id, mut epoch) = init(&mut client, 5, NOBODY).await.expect("given");
    for (commit, expected) in [(false, -1), (true, 5)] {
        let partition =
            TxnOffsetCommitRequestPartition { committed_offset: 5, ..Default::default() };
        let request = TxnOffsetCommitRequest {
            transactional_id: text(ID),
            group_id: text(GROUP),
            producer_id: id,
            producer_epoch: epoch,
            generation_id_or_member_epoch: -1,
            topics: vec![TxnOffsetCommitRequestTopic {
                name: text(TOPIC),
                partitions: vec![partition],
                ..Default::default()
            }],
            ..Default::default()
        };
        let told = client.ask(5, request).await.topics.remove(0).partitions.remove(0);
        assert_eq!(code(told.error_code), NO_ERROR);
        assert_eq!(offset(&mut client, true).await, Err(ErrorCode::UnstableOffsetCommit));
        assert_eq!(offset(&mut client, false).await, Ok(-1));
        (_, epoch) = end(&mut client, END_V2, (id, epoch), commit).await.expect("ends");
        for stable in [true, false] {
            assert_eq!(offset(&mut client, stable).await, Ok(expected), "commit {commit}");
        }
    }
    server.stop().await;
}
