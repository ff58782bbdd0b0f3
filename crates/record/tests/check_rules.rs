//! What `ValidBatch::check` refuses, and why: one line per rule.

use std::time::Duration;

use bytes::Bytes;
use millstream_record::batch::{Origin, RecordFault, TimestampBounds};
use millstream_record::builder::BuildError;
use millstream_record::compression::CompressionError;
use millstream_record::control::{EndTransaction, Outcome};
use millstream_record::{
    Attributes, BatchBuilder, BatchError, Check, Compression, Header, StoredBatch, TimestampType,
    ValidBatch,
};
use millstream_testkit::batches::refit;
use millstream_types::{DecodeError, Offset, ProducerEpoch, ProducerId, Timestamp};

const NOW: i64 = 1_700_000_000_000;
const HOUR: Duration = Duration::from_secs(3600);

fn builder() -> BatchBuilder {
    let mut builder = BatchBuilder::new().producer(ProducerId(9), ProducerEpoch(0), 5);
    builder.append(Timestamp(NOW), Some(b"key"), Some(b"value"), &[]);
    builder.append(Timestamp(NOW + 1), None, None, &[]);
    builder
}

fn built(builder: BatchBuilder) -> Vec<u8> {
    builder.build().expect("builds").to_vec()
}

/// The batch of [`builder`] with `change` made to its bytes, and a checksum that fits.
fn changed(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = built(builder());
    change(&mut bytes);
    refit(&mut bytes);
    bytes
}

fn put<const N: usize>(at: usize, value: [u8; N]) -> Vec<u8> {
    changed(|bytes| bytes[at..at + N].copy_from_slice(&value))
}

#[track_caller]
fn check(bytes: &[u8], how: Check, expected: Result<(), BatchError>) {
    let result = ValidBatch::check(Bytes::copy_from_slice(bytes), &how);
    assert_eq!(result.map(drop), expected);
}

fn bounded() -> Check {
    let bounds = TimestampBounds { now: Timestamp(NOW), before_max: HOUR, after_max: HOUR };
    Check { timestamps: Some(bounds), ..Check::client() }
}

fn bad_record(index: i32, why: RecordFault) -> Result<(), BatchError> {
    Err(BatchError::InvalidRecord { index, why })
}

#[test]
fn what_is_right_passes() {
    check(&built(builder()), Check::client(), Ok(()));
    check(&built(builder().transactional()), Check::client(), Ok(()));
    check(&built(builder()), bounded(), Ok(()));
    for codec in Compression::ALL {
        let bytes = built(builder().compression(codec, None));
        check(&bytes, Check { full: true, ..Check::client() }, Ok(()));
    }
    // Any base offset: it is overwritten.
    check(&put(0, (-5_i64).to_be_bytes()), Check::client(), Ok(()));
    // Attribute bits without a meaning.
    check(&put(21, [0x80, 0]), Check::client(), Ok(()));
}

#[test]
fn formats_and_sizes() {
    for magic in [0_i8, 1, 3, -1] {
        let bytes = put(16, magic.to_be_bytes());
        check(&bytes, Check::client(), Err(BatchError::UnsupportedMagic(magic)));
    }
    let bytes = built(builder());
    let size = bytes.len();
    check(&bytes, Check { batch_bytes_max: size, ..Check::client() }, Ok(()));
    check(
        &bytes,
        Check { batch_bytes_max: size - 1, ..Check::client() },
        Err(BatchError::TooLarge { bytes: size, bytes_max: size - 1 }),
    );
    check(
        &[bytes.as_slice(), &[0; 3]].concat(),
        Check::client(),
        Err(BatchError::TrailingBytes { bytes: 3 }),
    );
    for batch_length in [48_i32, 0, -1, i32::MIN] {
        let mut bytes = bytes.clone();
        bytes[8..12].copy_from_slice(&batch_length.to_be_bytes());
        check(&bytes, Check::client(), Err(BatchError::Length { batch_length }));
    }
    for id in [5_u8, 6, 7] {
        let error = Err(BatchError::UnknownCompression(id));
        check(&put(21, [0, id]), Check::client(), error);
        check(&put(21, [0, id]), Check::internal(), error);
    }
}

/// A message of format 1, as clients before Kafka 0.11 sent it: the magic has the same place.
#[test]
fn old_formats_are_named() {
    let mut message = vec![0; 12];
    message.extend([0xde, 0xad, 0xbe, 0xef, 1, 0]);
    message.extend([0; 8]);
    message.extend([0xff; 8]);
    let length = u8::try_from(message.len() - 12).expect("short");
    message[11] = length;
    check(&message, Check::client(), Err(BatchError::UnsupportedMagic(1)));
    message[16] = 0;
    check(&message, Check::client(), Err(BatchError::UnsupportedMagic(0)));
}

/// Pitfall 32.
#[test]
fn counts() {
    let rows = [(0_i32, 1_i32), (1, 1), (3, 1), (-1, 1), (2, -1), (2, 9), (0, -1)];
    for (records_count, last_offset_delta) in rows {
        let bytes = changed(|bytes| {
            bytes[57..61].copy_from_slice(&records_count.to_be_bytes());
            bytes[23..27].copy_from_slice(&last_offset_delta.to_be_bytes());
        });
        let error = Err(BatchError::Count { records_count, last_offset_delta });
        check(&bytes, Check::client(), error);
        if records_count < 0 || last_offset_delta < 0 || records_count > last_offset_delta + 1 {
            check(&bytes, Check::internal(), error);
        }
    }
    // Holes and emptied batches come from compaction only.
    let mut holes = BatchBuilder::new();
    holes.append_at(2, Timestamp(NOW), None, None, &[]);
    let holes = built(holes);
    check(&holes, Check::internal(), Ok(()));
    let error = BatchError::Count { records_count: 1, last_offset_delta: 2 };
    check(&holes, Check::client(), Err(error));
    let emptied = changed(|bytes| {
        bytes.truncate(61);
        bytes[57..61].copy_from_slice(&0_i32.to_be_bytes());
    });
    check(&emptied, Check::internal(), Ok(()));
    let emptied_gzip = changed(|bytes| {
        bytes.truncate(61);
        bytes[57..61].copy_from_slice(&0_i32.to_be_bytes());
        bytes[22] = 1;
    });
    check(&emptied_gzip, Check { full: true, ..Check::internal() }, Ok(()));
}

/// Pitfall 32.
#[test]
fn what_clients_may_not_send() {
    check(&built(builder().control()), Check::client(), Err(BatchError::Control));
    let marker = EndTransaction { outcome: Outcome::Commit, coordinator_epoch: 3 };
    let marker = marker.batch(ProducerId(9), ProducerEpoch(0), Timestamp(NOW)).expect("builds");
    check(marker.bytes(), Check::client(), Err(BatchError::Control));
    check(marker.bytes(), Check::internal(), Ok(()));
    let stamped = ValidBatch::check(built(builder()).into(), &Check::client())
        .expect("valid")
        .with_log_append_time(Timestamp(NOW));
    check(stamped.bytes(), Check::client(), Err(BatchError::TimestampType));
    check(stamped.bytes(), Check::internal(), Ok(()));
    let producer = |field| Err(BatchError::Producer { field });
    check(&put(53, (-1_i32).to_be_bytes()), Check::client(), producer("base_sequence"));
    check(&put(53, (-1_i32).to_be_bytes()), Check::internal(), Ok(()));
    check(&put(51, (-1_i16).to_be_bytes()), Check::client(), producer("producer_epoch"));
    let mut anonymous = BatchBuilder::new().transactional();
    anonymous.append(Timestamp(NOW), None, None, &[]);
    check(&built(anonymous), Check::client(), producer("producer_id"));
}

#[test]
fn keys_of_compacted_topics() {
    let how = Check { keys_required: true, ..Check::client() };
    for codec in Compression::ALL {
        let bytes = built(builder().compression(codec, None));
        check(&bytes, how, bad_record(1, RecordFault::NoKey));
        check(&bytes, Check::client(), Ok(()));
    }
}

#[test]
fn every_record_that_is_refused_is_named() {
    let how = Check { keys_required: true, ..bounded() };
    let timestamp = Timestamp(NOW + 3_600_001);
    let no_key = |index| BatchError::InvalidRecord { index, why: RecordFault::NoKey };
    let late = |index| BatchError::Timestamp { index: Some(index), timestamp };
    for codec in Compression::ALL {
        let mut builder = BatchBuilder::new().compression(codec, None);
        for (key, at) in [(true, NOW), (false, NOW), (true, timestamp.0), (false, timestamp.0)] {
            builder.append(Timestamp(at), key.then_some(b"k"), None, &[]);
        }
        let bytes = Bytes::from(built(builder));
        // A record without a key is not judged further.
        let all = [no_key(1), late(2), no_key(3)];
        for (refused_max, expected) in [(9, &all[..]), (2, &all[..2]), (0, &[])] {
            assert_eq!(ValidBatch::refused(&bytes, &how, refused_max), expected, "{codec:?}");
        }
        assert_eq!(ValidBatch::refused(&bytes, &Check::client(), 9), []);
    }
    assert_eq!(ValidBatch::refused(&Bytes::from_static(b"no batch"), &how, 9), []);
}

/// Pitfall 33.
#[test]
fn timestamps_out_of_bounds() {
    let hour = 3_600_000;
    let rows = [(-1, true), (-hour, true), (-hour - 1, false), (hour, true), (hour + 1, false)];
    for codec in Compression::ALL {
        for (after, allowed) in rows {
            let timestamp = if after == -1 { Timestamp::NONE } else { Timestamp(NOW + after) };
            let mut builder = BatchBuilder::new().compression(codec, None);
            builder.append(Timestamp(NOW), None, None, &[]);
            builder.append(timestamp, None, None, &[]);
            let bytes = built(builder);
            let error = BatchError::Timestamp { index: Some(1), timestamp };
            let expected = if allowed { Ok(()) } else { Err(error) };
            check(&bytes, Check { full: true, ..bounded() }, expected);
            // Not walked: the header's latest is judged, its earliest is not known.
            let expected = match (codec, after > hour) {
                (Compression::None, _) => expected,
                (_, true) => Err(BatchError::Timestamp { index: None, timestamp }),
                (_, false) => Ok(()),
            };
            check(&bytes, bounded(), expected);
        }
    }
    let mut extremes = BatchBuilder::new();
    extremes.append(Timestamp(i64::MIN), None, None, &[]);
    let error = BatchError::Timestamp { index: Some(0), timestamp: Timestamp(i64::MIN) };
    check(&built(extremes), bounded(), Err(error));
}

#[test]
fn records_that_do_not_fit() {
    let malformed = |error| RecordFault::Malformed(error);
    let truncated = |field| malformed(DecodeError::Truncated { field });
    let invalid = |field| malformed(DecodeError::Invalid { field });
    // The first record: length at 61, attributes, timestamp delta, offset delta at 64, key length
    // 65, key, value length 69, value, header count 75; the second starts at 76: length, attributes,
    // timestamp delta, offset delta at 79, key, value, header count at 82.
    let rows: [(usize, u8, i32, RecordFault); 10] = [
        (61, 0x1e, 0, invalid("record_length")),
        (61, 0x01, 0, invalid("record_length")),
        (76, 0x7e, 1, truncated("record")),
        (64, 0x02, 1, RecordFault::OffsetDelta(1)),
        (64, 0x01, 0, RecordFault::OffsetDelta(-1)),
        (79, 0x04, 1, RecordFault::OffsetDelta(2)),
        (65, 0x03, 0, invalid("key")),
        (65, 0x7e, 0, invalid("key")),
        (82, 0x01, 1, invalid("header_count")),
        (82, 0x02, 1, invalid("header_key")),
    ];
    for (at, byte, index, why) in rows {
        check(&put(at, [byte]), Check::client(), bad_record(index, why));
    }
    check(
        &changed(|bytes| bytes.push(0)),
        Check::client(),
        bad_record(2, RecordFault::TrailingBytes(1)),
    );
    check(
        &changed(|bytes| bytes.truncate(76)),
        Check::client(),
        bad_record(1, truncated("record_length")),
    );
}

#[test]
fn streams_that_do_not_decompress() {
    for codec in Compression::ALL.into_iter().skip(1) {
        let bytes = built(builder().compression(codec, None));
        let cut = {
            let mut bytes = bytes[..bytes.len() - 1].to_vec();
            refit(&mut bytes);
            bytes
        };
        let corrupt = Err(BatchError::Compression(CompressionError::Corrupt(codec)));
        check(&cut, Check { full: true, ..Check::client() }, corrupt);
        // What isn't walked isn't decompressed either.
        check(&cut, Check::client(), Ok(()));
        check(
            &bytes,
            Check { full: true, decompressed_bytes_max: 5, ..Check::client() },
            Err(BatchError::Compression(CompressionError::TooLarge { limit: 5 })),
        );
    }
}

/// A batch whose stream is cut, with these attributes besides the codec, and these timestamps: what
/// looks at its records fails.
fn unreadable(attributes: u8, base_timestamp: i64, max_timestamp: i64) -> Vec<u8> {
    let mut bytes = built(builder().compression(Compression::Zstd, None));
    bytes.pop();
    bytes[22] |= attributes;
    bytes[27..35].copy_from_slice(&base_timestamp.to_be_bytes());
    bytes[35..43].copy_from_slice(&max_timestamp.to_be_bytes());
    refit(&mut bytes);
    bytes
}

#[test]
fn when_compressed_records_are_walked() {
    let (append_time, delete_horizon) = (1 << 3, 1 << 6);
    let rows = [
        (0, NOW, NOW, false),
        (0, NOW, NOW - 1, true),
        (0, -1, -1, true),
        (0, NOW, -1, true),
        (append_time, NOW, NOW - 1, false),
        (delete_horizon, NOW, NOW - 1, false),
    ];
    for (attributes, base, max, walked) in rows {
        let corrupt = BatchError::Compression(CompressionError::Corrupt(Compression::Zstd));
        let expected = if walked { Err(corrupt) } else { Ok(()) };
        check(&unreadable(attributes, base, max), Check::internal(), expected);
    }
}

#[test]
fn look_ups_decompress_only_when_they_must() {
    let stored = StoredBatch::from_bytes(unreadable(0, NOW, NOW + 1).into()).expect("not walked");
    let find = |time, from| stored.first_at_or_after(Timestamp(time), Offset(from), 1 << 20);
    assert_eq!(find(NOW + 2, 0), Ok(None));
    assert_eq!(find(NOW, 2), Ok(None));
    let corrupt = BatchError::Compression(CompressionError::Corrupt(Compression::Zstd));
    assert_eq!(find(NOW, 1), Err(corrupt));
}

/// The header's max timestamp may be wrong in a compressed batch that was never walked.
#[test]
fn the_latest_record_is_found_without_the_header() {
    let mut builder = BatchBuilder::new();
    for timestamp in [3, 7, 5, 7] {
        builder.append(Timestamp(timestamp), None, None, &[]);
    }
    let mut bytes = built(builder);
    bytes[35..43].copy_from_slice(&99_i64.to_be_bytes());
    refit(&mut bytes);
    let stored = StoredBatch::from_bytes(bytes.into()).expect("not walked");
    let expected = Some((Offset(1), Timestamp(7)));
    assert_eq!(stored.max_timestamp_record(1 << 20), Ok(expected));
}

/// A compressed batch that was not walked is walked before its records become uncompressed.
#[test]
fn recompressing_walks_the_records() {
    let mut bytes = built(builder().compression(Compression::Lz4, None));
    bytes[57..61].copy_from_slice(&3_i32.to_be_bytes());
    bytes[23..27].copy_from_slice(&2_i32.to_be_bytes());
    refit(&mut bytes);
    let batch = ValidBatch::check(bytes.into(), &Check::client()).expect("not walked");
    let why = RecordFault::Malformed(DecodeError::Truncated { field: "record_length" });
    assert_eq!(batch.recompress(Compression::None, None, 1 << 20).map(drop), bad_record(2, why));
}

#[test]
fn builders_refuse_what_makes_no_batch() {
    assert_eq!(BatchBuilder::new().build(), Err(BuildError::Empty));
    let mut backwards = builder();
    backwards.append_at(1, Timestamp(NOW), None, None, &[]);
    backwards.append_at(0, Timestamp(NOW), None, None, &[]);
    assert_eq!(backwards.build(), Err(BuildError::OffsetDelta(1)), "the first fault");
    let mut large = BatchBuilder::new();
    let value = vec![0; 60 << 20];
    large.append(Timestamp(NOW), None, Some(&value), &[]);
    large.append(Timestamp(NOW), None, Some(&value), &[]);
    assert_eq!(large.build(), Err(BuildError::TooLarge));
}

#[test]
fn builders_count_as_they_go() {
    let mut builder = BatchBuilder::default();
    assert!(builder.is_empty());
    let header = Header { key: b"name", value: Some(b"value") };
    let size = builder.append(Timestamp(NOW), Some(b"k"), None, &[header]);
    assert_eq!((builder.records_count(), builder.size()), (1, size));
    assert_eq!(builder.build().map(|bytes| bytes.len()), Ok(size));
}

#[test]
fn attributes_are_independent_bits() {
    let all = Attributes::default()
        .with_compression(Compression::Zstd)
        .with_timestamp_type(TimestampType::LogAppendTime)
        .with_transactional(true)
        .with_control(true)
        .with_delete_horizon(true);
    assert_eq!(all, Attributes(0b0111_1100));
    assert_eq!(all.compression(), Ok(Compression::Zstd));
    assert!(all.is_transactional() && all.is_control() && all.has_delete_horizon());
    let none = all
        .with_compression(Compression::None)
        .with_timestamp_type(TimestampType::CreateTime)
        .with_transactional(false)
        .with_control(false)
        .with_delete_horizon(false);
    assert_eq!(none, Attributes::default());
    assert_eq!(Check::internal().origin, Origin::Internal);
}
