//! The formats of checkpoints, segments and layout entries reverse and refuse.

use proptest::prelude::*;

use super::*;
use crate::file::FILE_HEADER_SIZE;
use crate::layout::{LayoutEntry, LostRange};
use crate::run::Run;

fn offset() -> impl Strategy<Value = Offset> {
    (0..i64::MAX / 4).prop_map(Offset)
}

fn partition() -> impl Strategy<Value = PartitionId> {
    (any::<[u8; 16]>(), any::<i32>())
        .prop_map(|(topic, index)| PartitionId { topic: Uuid(topic), index })
}

prop_compose! {
    fn run()(
        partition in partition(), base in offset(), records in 1..i64::MAX / 4,
        (dense, compacted) in any::<(bool, bool)>(),
        position in 0..u64::MAX / 4, len in 1..u64::MAX / 4, index_position in 0..u64::MAX / 4,
        index_len: u32, index_crc: u32, max_timestamp: i64, max_timestamp_at in offset(),
    ) -> Run {
        Run {
            partition, base, end: base.plus(records), dense, compacted, position, len, index_position,
            index_len, index_crc, max_timestamp: Timestamp(max_timestamp), max_timestamp_at,
        }
    }
}

fn segment() -> impl Strategy<Value = SegmentRef> {
    let name = proptest::collection::vec(proptest::char::range('a', 'z'), 1..20);
    (name, any::<i64>(), run()).prop_map(|(name, written, run)| SegmentRef {
        blob: name.into_iter().collect::<String>().into(),
        written: Timestamp(written),
        run,
    })
}

prop_compose! {
    fn producer()(
        id: i64, epoch: i16, coordinator_epoch: i32, used: i64,
        transaction in proptest::option::of(offset()),
        batches in proptest::collection::vec(any::<(i32, i32, i64, i64, i64)>(), 0..=5),
    ) -> ProducerImage {
        ProducerImage {
            id: ProducerId(id),
            epoch: ProducerEpoch(epoch),
            coordinator_epoch,
            used: Timestamp(used),
            transaction,
            batches: batches.into_iter().map(|(base_sequence, last_sequence, base, last, time)| {
                SentBatch {
                    base_sequence, last_sequence, base: Offset(base), last: Offset(last),
                    log_append_time: Timestamp(time),
                }
            }).collect(),
        }
    }
}

prop_compose! {
    fn backlog()(
        session: u64, lsn: u64, len: u32, base: i64, last: i64, size: u32, time: i64,
    ) -> BacklogImage {
        BacklogImage {
            session: SessionId(session), lsn: Lsn(lsn), len, base: Offset(base),
            last: Offset(last), size, max_timestamp: Timestamp(time),
        }
    }
}

prop_compose! {
    fn lost()(from in offset(), more in 1..1000_i64, time: i64) -> LostRange {
        LostRange { from, upto: from.plus(more), max_timestamp: Timestamp(time) }
    }
}

prop_compose! {
    fn image()(
        id in partition(), applied: u64, log_start in offset(), records in 0..i64::MAX / 4,
        time: i64,
        epochs in proptest::collection::vec((any::<i32>(), offset()), 0..3),
        producers in proptest::collection::vec(producer(), 0..3),
        aborted in proptest::collection::vec((any::<i64>(), offset(), 0..1000_i64), 0..3),
        segments in proptest::collection::vec(segment(), 0..3),
        backlog in proptest::collection::vec(backlog(), 0..3),
        lost in proptest::collection::vec(lost(), 0..3),
    ) -> PartitionImage {
        PartitionImage {
            id,
            applied: Lsn(applied),
            log_start,
            log_end: log_start.plus(records),
            last_append_time: Timestamp(time),
            epochs: epochs.into_iter().map(|(epoch, at)| (LeaderEpoch(epoch), at)).collect(),
            producers,
            aborted: aborted.into_iter().map(|(id, first, more)| AbortedTxn {
                producer: ProducerId(id), first, last: first.plus(more),
            }).collect(),
            segments,
            backlog,
            lost,
        }
    }
}

const HEADER: CheckpointHeader = CheckpointHeader {
    cluster: Uuid([3; 16]),
    session: SessionId(4),
    lsn: Lsn(5),
    has_lost: true,
    is_delta: false,
};

fn read(bytes: &[u8]) -> Result<Vec<PartitionImage>, DecodeError> {
    read_as(HEADER, bytes)
}

fn read_as(header: CheckpointHeader, mut bytes: &[u8]) -> Result<Vec<PartitionImage>, DecodeError> {
    let mut images = Vec::new();
    loop {
        let head = ChunkHead::decode(bytes)?;
        let len = head.len as usize;
        let body = bytes
            .get(CHUNK_HEAD_SIZE..)
            .and_then(|rest| rest.get(..len))
            .ok_or(DecodeError::Truncated { field: "chunk" })?;
        images.extend(head.images(&header, body)?);
        bytes = &bytes[CHUNK_HEAD_SIZE + len..];
        if len == 0 {
            let all = u32::try_from(images.len()) == Ok(head.partitions) && bytes.is_empty();
            return if all { Ok(images) } else { Err(DecodeError::Invalid { field: "count" }) };
        }
    }
}

fn written(images: &[PartitionImage]) -> Vec<u8> {
    written_as(HEADER, images)
}

fn written_as(header: CheckpointHeader, images: &[PartitionImage]) -> Vec<u8> {
    let (mut writer, head) = CheckpointWriter::new(header, &[]);
    assert_eq!(CheckpointHeader::decode(&head), Ok(header));
    let mut out = Vec::new();
    for image in images {
        out.extend(writer.push(image).into_iter().flatten());
    }
    out.extend_from_slice(&writer.finish());
    out
}

/// What comes behind the header of a delta to these.
fn former_bytes(names: &[&str]) -> Vec<u8> {
    let delta = CheckpointHeader { is_delta: true, ..HEADER };
    let (_, head) = CheckpointWriter::new(delta, names);
    assert_eq!(CheckpointHeader::decode(&head), Ok(delta));
    head[FILE_HEADER_SIZE..].to_vec()
}

fn read_former(bytes: &[u8]) -> Result<Vec<Box<str>>, DecodeError> {
    let body = bytes.get(CHUNK_HEAD_SIZE..).unwrap_or_default();
    ChunkHead::decode(bytes)?.former(body)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_delta_says_to_what_it_is_one(
        names in proptest::collection::vec("[a-z0-9/-]{1,80}", 1..8),
        bit: usize,
    ) {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut bytes = former_bytes(&names);
        let read = read_former(&bytes).unwrap();
        prop_assert_eq!(read.iter().map(|name| &**name).collect::<Vec<_>>(), names);
        for cut in 0..bytes.len() {
            prop_assert!(read_former(&bytes[..cut]).is_err());
        }
        let bit = bit % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(read_former(&bytes).is_err());
    }

    #[test]
    fn a_checkpoint_reads_back(images in proptest::collection::vec(image(), 0..4)) {
        let bytes = written(&images);
        prop_assert_eq!(read(&bytes), Ok(images));
        for cut in 0..bytes.len() {
            prop_assert!(read(&bytes[..cut]).is_err());
        }
    }

    #[test]
    fn a_flipped_bit_is_refused(image in image(), at: prop::sample::Index, bit in 0..8_u8) {
        let mut bytes = written(&[image]);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(read(&bytes).is_err());
    }

    #[test]
    fn a_layout_entry_reads_back(
        removed in proptest::collection::vec(offset(), 0..4),
        added in proptest::collection::vec(segment(), 1..3),
        range in lost(),
    ) {
        let entries = [
            LayoutEntry::LogStart(added[0].run.base),
            LayoutEntry::SegmentCommitted(added[0].clone()),
            LayoutEntry::SegmentsReplaced { removed: removed.clone(), added: added.clone() },
            LayoutEntry::Lost(range),
            LayoutEntry::Compacted { forgotten: removed.clone(), removed, added },
        ];
        for entry in entries {
            let bytes = entry.encode();
            prop_assert_eq!(LayoutEntry::decode(&bytes), Ok(entry));
            for cut in 0..bytes.len() {
                prop_assert!(LayoutEntry::decode(&bytes[..cut]).is_err());
            }
        }
    }

    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        let (len, partitions) = (u32::try_from(bytes.len()).unwrap(), 1);
        let head = ChunkHead { len, partitions, crc: chunk_crc(len, partitions, &bytes) };
        let _ = head.former(&bytes);
        let _ = PartitionImage::decode(&mut Cursor::new(&bytes), false);
        let _ = PartitionImage::decode(&mut Cursor::new(&bytes), true);
        let _ = LayoutEntry::decode(&bytes);
        let _ = crate::index::RunIndex::decode(&bytes);
        let _ = crate::segment::Footer::decode(&bytes);
    }
}

#[test]
fn many_states_take_several_chunks() {
    let image = PartitionImage {
        id: PartitionId { topic: Uuid([9; 16]), index: 0 },
        applied: Lsn(1),
        log_start: Offset(0),
        log_end: Offset(2),
        last_append_time: Timestamp::NONE,
        epochs: vec![(LeaderEpoch(0), Offset(0)); 60_000],
        producers: Vec::new(),
        aborted: Vec::new(),
        segments: Vec::new(),
        backlog: Vec::new(),
        lost: Vec::new(),
    };
    let images = vec![image; 4];
    let bytes = written(&images);
    let first = ChunkHead::decode(&bytes).unwrap();
    assert_eq!(first.partitions, 2);
    assert_eq!(read(&bytes).unwrap(), images);
}

/// Programs that know nothing of losses and deltas read the whole checkpoint of a log that has none,
/// byte for byte as before, and refuse the others.
#[test]
fn only_losses_and_deltas_change_the_format() {
    let undamaged = CheckpointHeader { has_lost: false, ..HEADER };
    let (_, head) = CheckpointWriter::new(undamaged, &[]);
    assert!(FileHeader::decode(&head, FileKind::Checkpoint).is_ok());
    assert_eq!(head.len(), FILE_HEADER_SIZE);
    let (_, head) = CheckpointWriter::new(HEADER, &[]);
    let refused = FileHeader::decode(&head, FileKind::Checkpoint);
    assert!(matches!(refused, Err(FileError::Critical { found: 1, .. })), "{refused:?}");
    let delta = CheckpointHeader { is_delta: true, ..undamaged };
    let (_, head) = CheckpointWriter::new(delta, &["checkpoint/one"]);
    let refused = FileHeader::decode_with(&head, FileKind::Checkpoint, CRITICAL_LOST);
    assert!(matches!(refused, Err(FileError::Critical { found: 2, .. })), "{refused:?}");
    let image = PartitionImage {
        id: PartitionId { topic: Uuid([9; 16]), index: 0 },
        applied: Lsn(1),
        log_start: Offset(0),
        log_end: Offset(2),
        last_append_time: Timestamp::NONE,
        epochs: Vec::new(),
        producers: Vec::new(),
        aborted: Vec::new(),
        segments: Vec::new(),
        backlog: Vec::new(),
        lost: Vec::new(),
    };
    let bytes = written_as(undamaged, std::slice::from_ref(&image));
    assert_eq!(read_as(undamaged, &bytes).unwrap(), [image]);
    assert_eq!(bytes.len(), CHUNK_HEAD_SIZE + 20 + 8 + 24 + 5 * 4 + CHUNK_HEAD_SIZE);
}

#[test]
fn todays_names_stay_todays_bytes() {
    let body = b"\x00\x04ab/c\x00\x01d";
    let crc = chunk_crc(9, 2, body).to_be_bytes();
    let golden = [&[0, 0, 0, 9, 0, 0, 0, 2], crc.as_slice(), body].concat();
    assert_eq!(former_bytes(&["ab/c", "d"]), golden);
    // None, one of no length, and one too few.
    for (len, count, body) in [(0, 0, &b""[..]), (2, 1, b"\x00\x00"), (3, 2, b"\x00\x01d")] {
        let crc = chunk_crc(len, count, body);
        let head = ChunkHead { len, partitions: count, crc };
        assert!(head.former(body).is_err(), "{body:?}");
    }
}

#[test]
fn unknown_layout_tags_are_refused() {
    assert_eq!(LayoutEntry::decode(&[9]), Err(DecodeError::Invalid { field: "layout.tag" }));
}
