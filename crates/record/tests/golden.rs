//! Batches that real clients made, byte for byte: `golden/README.md` says which and how.

use bytes::Bytes;
use millstream_record::batch::HEADER_SIZE;
use millstream_record::control::{ControlRecord, EndTransaction, Outcome};
use millstream_record::{
    BatchBuilder, BatchHeader, Check, Compression, Header, Records, StoredBatch, TimestampType,
    ValidBatch,
};
use millstream_testkit::batches::{RecordPlan, header_of};
use millstream_testkit::{golden, oracle};
use millstream_types::{BrokerId, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};

const LIMIT: usize = 1 << 20;

macro_rules! file {
    ($name:expr) => {
        include_bytes!(concat!("golden/", $name, ".bin")).as_slice()
    };
}

/// The batches of one client, one for each codec.
macro_rules! client {
    ($client:literal, $($codec:ident = $suffix:literal),+) => {
        &[$((Compression::$codec, file!(concat!($client, "-", $suffix)))),+]
    };
}

macro_rules! all_codecs {
    ($client:literal) => {
        client!(
            $client,
            None = "none",
            Gzip = "gzip",
            Snappy = "snappy",
            Lz4 = "lz4",
            Zstd = "zstd"
        )
    };
}

/// How a client's batches differ from what it was told to send.
#[derive(Clone, Copy, Debug, Default)]
struct Quirks {
    /// It can't send null as a header's value: the table's nulls are empty.
    no_null_headers: bool,
    /// It was idempotent.
    producer: bool,
}

const PLAIN: Quirks = Quirks { no_null_headers: false, producer: false };

fn expected(codec: Compression, quirks: Quirks) -> Vec<RecordPlan> {
    let mut records = golden::records(include_str!("golden/records.txt"));
    if codec != Compression::None {
        records.extend(golden::records(include_str!("golden/large.txt")));
    }
    if quirks.no_null_headers {
        for (_, value) in records.iter_mut().flat_map(|record| &mut record.headers) {
            value.get_or_insert_default();
        }
    }
    records
}

fn decoded(records: &Records) -> Vec<RecordPlan> {
    let plan = |(index, record): (usize, Result<_, _>)| {
        let record: millstream_record::Record<'_> = record.expect("a valid record");
        assert_eq!(usize::try_from(record.offset_delta), Ok(index));
        RecordPlan {
            hole: 0,
            timestamp: record.timestamp(records.header()).0,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: record
                .headers()
                .map(|header| (header.key.to_vec(), header.value.map(<[u8]>::to_vec)))
                .collect(),
        }
    };
    records.iter().enumerate().map(plan).collect()
}

/// The batch that our builder makes of the same records, at the same offset.
fn rebuilt(header: &BatchHeader, records: &[RecordPlan]) -> Vec<u8> {
    let mut builder = BatchBuilder::new().producer(
        header.producer_id,
        header.producer_epoch,
        header.base_sequence,
    );
    if header.attributes.is_transactional() {
        builder = builder.transactional();
    }
    for record in records {
        let headers: Vec<_> = record
            .headers
            .iter()
            .map(|(key, value)| Header { key, value: value.as_deref() })
            .collect();
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        builder.append(Timestamp(record.timestamp), key, value, &headers);
    }
    let batch = builder.build_valid().expect("builds");
    batch.assign(header.base_offset, header.leader_epoch).to_bytes().to_vec()
}

#[track_caller]
fn check(batches: &[(Compression, &'static [u8])], quirks: Quirks) {
    for &(codec, file) in batches {
        let sent = header_of(file);
        assert_eq!(sent.attributes.compression(), Ok(codec));
        assert_eq!(sent.encode(), file[..HEADER_SIZE], "{codec}: canonical header");
        assert_eq!(sent.has_producer(), quirks.producer, "{codec}");

        let how = Check { full: true, ..Check::client() };
        let batch = ValidBatch::check(Bytes::from_static(file), &how).expect("a client sent it");
        assert_eq!(batch.bytes(), file, "{codec}: taken as it is");
        assert_eq!(sent.max_timestamp, Timestamp(1_700_001_000_000));

        let expected = expected(codec, quirks);
        let records = batch.records(LIMIT).expect("decompresses");
        assert_eq!(decoded(&records), expected, "{codec}");

        let oracle = oracle::decode(file, LIMIT).expect("the second decoder reads it");
        let timestamps: Vec<_> = oracle.records.iter().map(|record| record.timestamp).collect();
        let expected_times: Vec<_> = expected.iter().map(|record| record.timestamp).collect();
        assert_eq!(timestamps, expected_times, "{codec}");

        let ours = rebuilt(&sent, &expected);
        assert!(ours[HEADER_SIZE..] == records.bytes()[..], "{codec}: canonical records");
        if codec == Compression::None {
            assert_eq!(batch.bytes(), &ours, "the whole batch");
        }
    }
}

#[test]
fn java() {
    check(all_codecs!("java"), Quirks { producer: true, ..PLAIN });
}

#[test]
fn librdkafka() {
    check(all_codecs!("librdkafka"), Quirks { producer: true, ..PLAIN });
}

#[test]
fn franz_go() {
    check(all_codecs!("franz-go"), Quirks { producer: true, ..PLAIN });
}

#[test]
fn sarama() {
    check(all_codecs!("sarama"), PLAIN);
}

#[test]
fn kafka_python() {
    check(all_codecs!("kafka-python"), Quirks { no_null_headers: true, producer: true });
}

#[test]
fn aiokafka() {
    check(all_codecs!("aiokafka"), PLAIN);
}

#[test]
fn kafkajs() {
    check(
        client!("kafkajs", None = "none", Gzip = "gzip", Snappy = "snappy"),
        Quirks { no_null_headers: true, ..PLAIN },
    );
}

/// Today's bytes stay today's bytes. (Compressed ones may change with the codecs' libraries: those
/// need only be read.)
#[test]
fn millstream() {
    check(all_codecs!("millstream"), Quirks { producer: true, ..PLAIN });
}

/// What Apache Kafka's own library makes, as a broker stores it.
fn stored(file: &'static [u8]) -> (StoredBatch, BatchHeader) {
    let batch = StoredBatch::from_bytes(Bytes::from_static(file)).expect("valid");
    let header = batch.header().expect("decoded before");
    let how = Check { full: true, ..Check::internal() };
    let checked = ValidBatch::check(Bytes::from_static(file), &how).expect("valid");
    assert_eq!(checked.bytes(), file);
    (batch, header)
}

#[test]
fn append_time() {
    let (batch, header) = stored(file!("kafka-append-time"));
    assert_eq!(header.attributes.timestamp_type(), TimestampType::LogAppendTime);
    let now = header.max_timestamp;
    let records = decoded(&batch.records(LIMIT).expect("not compressed"));
    assert!(records.iter().all(|record| record.timestamp == now.0));
    assert_eq!(batch.first_at_or_after(now, Offset(5_002), LIMIT), Ok(Some((Offset(5_002), now))));
    // The same, made by us of what the Java client sent.
    let client = Bytes::from_static(file!("java-none"));
    let client = ValidBatch::check(client, &Check::client()).expect("a client sent it");
    let ours = client.with_log_append_time(now);
    assert_eq!(ours.header().attributes, header.attributes);
    assert_eq!(&ours.bytes()[HEADER_SIZE..], &file!("kafka-append-time")[HEADER_SIZE..]);
}

#[test]
fn transactional() {
    let (_, header) = stored(file!("kafka-transactional"));
    assert!(header.attributes.is_transactional());
    assert_eq!((header.producer_id, header.producer_epoch), (ProducerId(4_000), ProducerEpoch(3)));
    assert_eq!((header.leader_epoch, header.base_offset), (LeaderEpoch(9), Offset(7_000)));
    // Sequence numbers 2^31-3, 2^31-2, 2^31-1, 0, 1, 2.
    assert_eq!((header.base_sequence, header.last_sequence()), (2_147_483_645, 2));
    let expected = expected(Compression::None, PLAIN);
    assert_eq!(rebuilt(&header, &expected), file!("kafka-transactional"));
}

#[test]
fn ends_of_transactions() {
    let rows = [
        (file!("kafka-commit"), Outcome::Commit, 11, 4_000, 1_700_000_000_000),
        (file!("kafka-abort"), Outcome::Abort, 12, 4_001, 1_700_000_000_001),
    ];
    for (file, outcome, coordinator_epoch, producer, time) in rows {
        let (batch, header) = stored(file);
        let end = EndTransaction { outcome, coordinator_epoch };
        assert_eq!(only_control_record(&batch), ControlRecord::EndTransaction(end));
        let ours = end.batch(ProducerId(producer), ProducerEpoch(3), Timestamp(time));
        let ours = ours.expect("builds").assign(header.base_offset, header.leader_epoch);
        assert_eq!(ours.to_bytes(), file);
    }
}

#[test]
fn leader_change() {
    let (batch, _) = stored(file!("kafka-leader-change"));
    let expected = ControlRecord::LeaderChange { leader: BrokerId(77) };
    assert_eq!(only_control_record(&batch), expected);
}

fn only_control_record(batch: &StoredBatch) -> ControlRecord {
    assert!(batch.header().expect("valid").attributes.is_control());
    let records = batch.records(LIMIT).expect("not compressed");
    let mut records = records.iter();
    let record = records.next().expect("one record").expect("valid");
    assert!(records.next().is_none());
    ControlRecord::decode(&record).expect("valid")
}
