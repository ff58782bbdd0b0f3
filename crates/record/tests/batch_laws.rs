//! The laws of the batch format, as its module's header states them.

use bytes::Bytes;
use millstream_record::batch::{ASSIGNED_SIZE, HEADER_SIZE, Scan, scan, split};
use millstream_record::{
    Attributes, BatchError, BatchHeader, Check, Compression, StoredBatch, TimestampType, ValidBatch,
};
use millstream_testkit::batches::{self, Plan, RecordPlan, client_plan, damaged, stored_plan};
use millstream_testkit::oracle;
use millstream_types::{DecodeError, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};
use proptest::prelude::*;

const LIMIT: usize = 1 << 20;

fn full() -> Check {
    Check { full: true, decompressed_bytes_max: LIMIT, ..Check::internal() }
}

fn headers() -> impl Strategy<Value = BatchHeader> {
    let fixed = (any::<i64>(), 49..=i32::MAX, any::<i32>(), any::<u32>(), any::<u16>());
    let times = (any::<i32>(), any::<i64>(), any::<i64>());
    let producer = (any::<i64>(), any::<i16>(), any::<i32>(), any::<i32>());
    (fixed, times, producer).prop_map(|(fixed, times, producer)| BatchHeader {
        base_offset: Offset(fixed.0),
        batch_length: fixed.1,
        leader_epoch: LeaderEpoch(fixed.2),
        crc: fixed.3,
        attributes: Attributes(fixed.4),
        last_offset_delta: times.0,
        base_timestamp: Timestamp(times.1),
        max_timestamp: Timestamp(times.2),
        producer_id: ProducerId(producer.0),
        producer_epoch: ProducerEpoch(producer.1),
        base_sequence: producer.2,
        records_count: producer.3,
    })
}

/// What a valid batch holds, in the oracle's words.
fn contents(batch: &StoredBatch) -> Result<oracle::Batch, BatchError> {
    let records = batch.records(LIMIT)?;
    let header = *records.header();
    let decoded = records
        .iter()
        .map(|record| {
            let record = record?;
            Ok(oracle::Record {
                offset: record.offset(&header).0,
                timestamp: record.timestamp(&header).0,
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
                headers: record
                    .headers()
                    .map(|header| (header.key.to_vec(), header.value.map(<[u8]>::to_vec)))
                    .collect(),
            })
        })
        .collect::<Result<_, BatchError>>()?;
    Ok(oracle::Batch {
        base_offset: header.base_offset.0,
        leader_epoch: header.leader_epoch.0,
        attributes: header.attributes.0,
        last_offset_delta: header.last_offset_delta,
        base_timestamp: header.base_timestamp.0,
        max_timestamp: header.max_timestamp.0,
        producer: (header.producer_id.0, header.producer_epoch.0, header.base_sequence),
        records: decoded,
    })
}

/// What the plan says a batch holds.
fn planned(plan: &Plan) -> Vec<oracle::Record> {
    let mut offset = 0;
    plan.records
        .iter()
        .map(|record| {
            let at = offset + i64::from(record.hole);
            offset = at + 1;
            oracle::Record {
                offset: at,
                timestamp: record.timestamp,
                key: record.key.clone(),
                value: record.value.clone(),
                headers: record.headers.clone(),
            }
        })
        .collect()
}

/// A run of stored batches, their offsets without a gap.
fn run_of(plans: &[Plan]) -> Vec<u8> {
    let mut next = Offset(1000);
    plans
        .iter()
        .flat_map(|plan| {
            let batch = ValidBatch::check(plan.build(), &full()).expect("built");
            let stored = batch.assign(next, LeaderEpoch(3));
            next = stored.header().expect("assigned").last_offset().next();
            stored.to_bytes()
        })
        .collect()
}

fn small_plan(compression: Compression) -> Plan {
    let records = vec![
        RecordPlan {
            key: Some(b"k".to_vec()),
            headers: vec![(b"a".to_vec(), None), (b"a".to_vec(), Some(b"1".to_vec()))],
            ..RecordPlan::new(1_700_000_000_000, "value value value value")
        },
        RecordPlan { value: None, ..RecordPlan::new(1_700_000_000_005, "") },
    ];
    Plan { compression, producer: Some((7, 1, 40)), transactional: true, records }
}

proptest! {
    /// Total, on bytes that are far from a batch.
    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        let bytes = Bytes::from(bytes);
        let _ = ValidBatch::check(bytes.clone(), &Check::client());
        let _ = StoredBatch::from_bytes(bytes.clone());
        let _ = scan(&bytes);
        prop_assert!(split(&bytes).count() <= bytes.len() / HEADER_SIZE + 1);
    }

    /// Total, and in agreement with the second decoder, on bytes that are near a batch.
    #[test]
    fn damaged_batches_are_judged_alike(bytes in damaged()) {
        let bytes = Bytes::from(bytes);
        let ours = ValidBatch::check(bytes.clone(), &full());
        let theirs = oracle::decode(&bytes, LIMIT);
        let compressed = bytes.get(22).is_some_and(|low| low & 7 != 0);
        // Damaged streams of a codec may be refused by one decoder and read by another.
        if !compressed {
            prop_assert_eq!(ours.is_ok(), theirs.is_ok(), "{:?} {:?}", ours, theirs);
        }
        if let (Ok(_), Ok(theirs)) = (ours, theirs) {
            let stored = StoredBatch::from_bytes(bytes).expect("checked more than this");
            prop_assert_eq!(contents(&stored), Ok(theirs));
        }
    }

    /// Round trip and canonical form of the header.
    #[test]
    fn headers_round_trip(header in headers()) {
        let bytes = header.encode();
        prop_assert_eq!(BatchHeader::decode(&bytes), Ok(header));
        prop_assert_eq!(BatchHeader::decode(&bytes).map(|header| header.encode()), Ok(bytes));
        for cut in 0..HEADER_SIZE {
            let decoded = BatchHeader::decode(&bytes[..cut]);
            prop_assert!(matches!(decoded, Err(DecodeError::Truncated { .. })), "{cut}");
        }
    }

    /// Round trip of records, repeated header keys kept, and agreement with the second decoder.
    #[test]
    fn batches_round_trip(plan in stored_plan()) {
        let batch = ValidBatch::check(plan.build(), &full());
        prop_assert!(batch.is_ok(), "{:?}", batch);
        let stored = batch.expect("checked").assign(Offset::ZERO, LeaderEpoch::NONE);
        let decoded = contents(&stored).expect("decodes");
        prop_assert_eq!(&decoded.records, &planned(&plan));
        prop_assert_eq!(oracle::decode(&stored.to_bytes(), LIMIT), Ok(decoded));
    }

    /// What clients send is taken as it is, byte for byte, without a copy.
    #[test]
    fn client_batches_are_kept_as_sent(plan in client_plan()) {
        let bytes = plan.build();
        let batch = ValidBatch::check(bytes.clone(), &Check { full: true, ..Check::client() });
        let batch = batch.expect("a client may send it");
        prop_assert_eq!(batch.bytes().as_ptr(), bytes.as_ptr());
        prop_assert_eq!(batch.bytes(), &bytes);
        prop_assert_eq!(batch.header().max_timestamp, plan.max_timestamp());
    }

    /// Truncation: every proper prefix.
    #[test]
    fn every_proper_prefix_is_truncated(plan in client_plan()) {
        let bytes = plan.build();
        for cut in 0..bytes.len() {
            let prefix = bytes.slice(..cut);
            let checked = ValidBatch::check(prefix.clone(), &Check::client());
            prop_assert!(matches!(checked, Err(BatchError::Truncated { .. })), "{cut}");
            let stored = StoredBatch::from_bytes(prefix);
            prop_assert!(matches!(stored, Err(BatchError::Truncated { .. })), "{cut}");
        }
    }

    /// Assigning copies nothing, changes nothing else, and leaves the checksum valid.
    #[test]
    fn assigning_leaves_the_checksum_valid(
        plan in stored_plan(),
        base in 0..i64::MAX / 2,
        epoch: i32,
    ) {
        let batch = ValidBatch::check(plan.build(), &full()).expect("built");
        let stored = batch.assign(Offset(base), LeaderEpoch(epoch));
        prop_assert_eq!(stored.rest.as_ptr(), batch.bytes()[ASSIGNED_SIZE..].as_ptr());
        let expected = BatchHeader {
            base_offset: Offset(base),
            leader_epoch: LeaderEpoch(epoch),
            ..*batch.header()
        };
        prop_assert_eq!(stored.header(), Ok(expected));
        prop_assert_eq!(stored.size(), batch.bytes().len());
        prop_assert_eq!(stored.segments().concat(), stored.to_bytes());
        prop_assert_eq!(StoredBatch::from_bytes(stored.to_bytes()), Ok(stored));
    }

    /// Maximum timestamp: whatever an uncompressed header claims, and a compressed one when it is
    /// walked.
    #[test]
    fn max_timestamp_is_the_true_one(plan in client_plan(), claimed: i64) {
        let mut bytes = plan.build().to_vec();
        bytes[35..43].copy_from_slice(&claimed.to_be_bytes());
        batches::refit(&mut bytes);
        let how = Check { full: true, ..Check::client() };
        let batch = ValidBatch::check(bytes.into(), &how).expect("only its time is wrong");
        prop_assert_eq!(batch.header().max_timestamp, plan.max_timestamp());
        prop_assert_eq!(batch.bytes(), &plan.build());
    }

    /// A missing max timestamp is found without a full check, in compressed batches too.
    #[test]
    fn a_missing_max_timestamp_is_found(plan in client_plan()) {
        let mut bytes = plan.build().to_vec();
        bytes[35..43].copy_from_slice(&(-1_i64).to_be_bytes());
        batches::refit(&mut bytes);
        let batch = ValidBatch::check(bytes.into(), &Check::client()).expect("only its time");
        prop_assert_eq!(batch.bytes(), &plan.build());
    }

    /// Append time: one for all records, under a right checksum; the records stay as they are.
    #[test]
    fn append_time_counts_for_every_record(plan in client_plan(), now: i64) {
        let batch = ValidBatch::check(plan.build(), &full()).expect("built");
        let stamped = batch.with_log_append_time(Timestamp(now));
        let header = stamped.header();
        prop_assert_eq!(header.attributes.timestamp_type(), TimestampType::LogAppendTime);
        prop_assert_eq!(ValidBatch::check(stamped.bytes().clone(), &full()), Ok(stamped.clone()));
        prop_assert_eq!(&stamped.bytes()[HEADER_SIZE..], &batch.bytes()[HEADER_SIZE..]);
        let decoded = contents(&stamped.assign(Offset::ZERO, LeaderEpoch::NONE)).expect("valid");
        prop_assert!(decoded.records.iter().all(|record| record.timestamp == now));
    }

    /// Another compression keeps the records and all other fields.
    #[test]
    fn recompressing_keeps_the_records(plan in client_plan(), to in batches::compression()) {
        let batch = ValidBatch::check(plan.build(), &full()).expect("built");
        let other = batch.recompress(to, None, LIMIT).expect("valid records");
        prop_assert_eq!(ValidBatch::check(other.bytes().clone(), &full()), Ok(other.clone()));
        let expected = Plan { compression: to, ..plan.clone() }.build();
        prop_assert_eq!(other.bytes(), &expected);
        let back = other.recompress(plan.compression, None, LIMIT).expect("valid records");
        prop_assert_eq!(back.bytes(), &plan.build());
    }

    /// Scan: a cut anywhere leaves the batches before it; scanning those again finds them all.
    #[test]
    fn scan_finds_the_longest_valid_prefix(
        plans in prop::collection::vec(stored_plan(), 0..4),
        cut in any::<prop::sample::Index>(),
        flip in prop::option::of((any::<prop::sample::Index>(), 0..8_u32)),
    ) {
        let mut run = run_of(&plans);
        run.truncate(cut.index(run.len() + 1));
        let mut ends = vec![0];
        for batch in split(&Bytes::from(run.clone())).flatten() {
            ends.push(ends.last().expect("not empty") + batch.len());
        }
        let mut whole = *ends.last().expect("not empty");
        if let (Some((at, bit)), false) = (flip, run.is_empty()) {
            let at = at.index(run.len());
            run[at] ^= 1 << bit;
            // Not noticed: another epoch, and an offset that still rises and stays below the next.
            let start = *ends.iter().rfind(|&&end| end <= at).expect("starts with 0");
            if at - start >= ASSIGNED_SIZE {
                whole = start;
            } else {
                return check_scan_is_idempotent(&run);
            }
        }
        let found = scan(&run);
        prop_assert_eq!(found.valid_bytes, whole);
        prop_assert_eq!(found.stopped.is_none(), whole == run.len());
        check_scan_is_idempotent(&run)?;
    }

    /// Splitting cuts without copying, and gives back all of the run.
    #[test]
    fn split_gives_back_the_run(plans in prop::collection::vec(stored_plan(), 0..4)) {
        let run = Bytes::from(run_of(&plans));
        let parts = split(&run).collect::<Result<Vec<_>, _>>().expect("whole batches");
        prop_assert_eq!(parts.len(), plans.len());
        let mut at = run.as_ptr() as usize;
        for part in &parts {
            prop_assert_eq!(part.as_ptr() as usize, at);
            at += part.len();
        }
        prop_assert_eq!(parts.concat(), run);
    }

    /// Look-ups by time find what a search of all records finds.
    #[test]
    fn look_ups_agree_with_a_search(plan in stored_plan(), time: i64, from in 0..20_i64) {
        let batch = ValidBatch::check(plan.build(), &full()).expect("built");
        let stored = batch.assign(Offset::ZERO, LeaderEpoch::NONE);
        let records = planned(&plan);
        let times = records.iter().map(|record| record.timestamp).chain([time, -1]);
        for time in times {
            // Below -1 there is no time to look for, and a header can't say when its latest is.
            let time = time.max(-1);
            let expected = records
                .iter()
                .find(|record| record.timestamp >= time && record.offset >= from)
                .map(|record| (Offset(record.offset), Timestamp(record.timestamp)));
            let found = stored.first_at_or_after(Timestamp(time), Offset(from), LIMIT);
            prop_assert_eq!(found, Ok(expected));
        }
        let latest = records.iter().map(|record| record.timestamp).max();
        let expected = records
            .iter()
            .find(|record| Some(record.timestamp) == latest)
            .map(|record| (Offset(record.offset), Timestamp(record.timestamp)));
        prop_assert_eq!(stored.max_timestamp_record(LIMIT), Ok(expected));
    }

    /// The last sequence number wraps as the protocol says: after 2^31-1 comes 0.
    #[test]
    fn sequence_numbers_wrap(base in 0..=i32::MAX, delta in 0..=i32::MAX) {
        let mut header = batches::header_of(&small_plan(Compression::None).build());
        header.base_sequence = base;
        header.last_offset_delta = delta;
        let last = (i64::from(base) + i64::from(delta)) % (i64::from(i32::MAX) + 1);
        prop_assert_eq!(i64::from(header.last_sequence()), last);
        header.base_sequence = -1;
        prop_assert_eq!(header.last_sequence(), -1);
    }
}

fn check_scan_is_idempotent(run: &[u8]) -> Result<(), TestCaseError> {
    let found = scan(run);
    let again = scan(&run[..found.valid_bytes]);
    prop_assert_eq!(again, Scan { stopped: None, ..found });
    Ok(())
}

/// Checksum: each bit of a batch, flipped.
#[test]
fn every_flipped_bit_is_noticed() {
    for compression in Compression::ALL {
        let bytes = small_plan(compression).build();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let result = StoredBatch::from_bytes(flipped.into());
            let noticed = match bit / 8 {
                // Base offset and leader epoch are assigned, and not covered.
                0..8 | 12..16 => result.is_ok(),
                8..12 => matches!(
                    result,
                    Err(BatchError::Truncated { .. }
                        | BatchError::TrailingBytes { .. }
                        | BatchError::Length { .. })
                ),
                16 => matches!(result, Err(BatchError::UnsupportedMagic(_))),
                _ => matches!(result, Err(BatchError::Crc { .. })),
            };
            assert!(noticed, "{compression}: bit {bit}");
        }
    }
}

/// Scan: batches whose offsets don't rise end it.
#[test]
fn scan_stops_where_offsets_do_not_rise() {
    let batch = ValidBatch::check(small_plan(Compression::None).build(), &full()).expect("built");
    let at = |base| batch.assign(Offset(base), LeaderEpoch(0)).to_bytes();
    // Two records each: offsets 10 and 11, then the next may start at 12.
    for (second, batches) in [(9, 1), (10, 1), (11, 1), (12, 2), (100, 2)] {
        let run = [at(10), at(second)].concat();
        assert_eq!(scan(&run).batches, batches, "{second}");
    }
    assert_eq!(scan(&at(-1)).batches, 0);
    // Where offsets end, nothing follows.
    assert_eq!(scan(&[at(i64::MAX - 1), at(i64::MAX)].concat()).batches, 1);
}
