//! Fuzz targets: batches as clients send them, and what the disk gives back.
//!
//! `cargo test` runs each briefly; `cargo xtask test --long` for minutes (CONTRIBUTING.md).

use bolero::check;
use bytes::Bytes;
use millstream_record::batch::{Origin, TimestampBounds, scan, split};
use millstream_record::checkpoint::{
    CHUNK_HEAD_SIZE, CheckpointHeader, CheckpointWriter, ChunkHead, PartitionImage, ProducerImage,
};
use millstream_record::compression::{self, Compression};
use millstream_record::control::ControlRecord;
use millstream_record::file::FILE_HEADER_SIZE;
use millstream_record::frame::{Frame, FrameBody};
use millstream_record::index::{AbortedTxn, RunIndex};
use millstream_record::journal::{GroupHeader, GroupKind, JournalHeader, Seal, Stream};
use millstream_record::layout::{LayoutEntry, SegmentRef};
use millstream_record::meta::MetaHeader;
use millstream_record::segment::{FOOTER_SIZE, Footer, SegmentWriter, decode_index, place};
use millstream_record::{BatchBuilder, Check, StoredBatch, ValidBatch, crc32c};
use millstream_testkit::edits::{Edit, edited};
use millstream_types::{
    ClusterId, LeaderEpoch, Lsn, Offset, PartitionId, ProducerEpoch, ProducerId, SessionId,
    Timestamp, Uuid,
};

const ITERATIONS: usize = 500;

/// What a batch may decompress to here, in bytes: enough to see that it is a bound.
const LIMIT: usize = 64 * 1024;

const PARTITION: PartitionId = PartitionId { topic: Uuid([7; 16]), index: 3 };
const SESSION: SessionId = SessionId(5);

/// How a batch is made, and damaged.
type Sent = (u8, Vec<(bool, Vec<u8>)>, Vec<Edit>, Vec<Edit>, (bool, bool, bool));

/// A batch with a right checksum and length around damaged records, and then damaged itself.
fn batch((codec, records, inside, outside, (seals, ..)): &Sent) -> Vec<u8> {
    let codec = Compression::ALL[usize::from(*codec) % Compression::ALL.len()];
    let mut builder = BatchBuilder::new().compression(codec, None);
    builder.append(Timestamp(1_000), None, Some(b"first"), &[]);
    for (keyed, value) in records {
        builder.append(Timestamp(1_000), keyed.then_some(b"key"), Some(value), &[]);
    }
    let whole = builder.build().expect("a small batch");
    let (header, records) = whole.split_at(61);
    let mut bytes = [header, &edited(records, inside)].concat();
    if *seals {
        bytes = edited(&bytes, outside);
    }
    if let Some(length) = bytes.len().checked_sub(12).filter(|_| bytes.len() >= 61) {
        let length = i32::try_from(length).expect("small");
        bytes.splice(8..12, length.to_be_bytes());
        let crc = crc32c(&bytes[21..]);
        bytes.splice(17..21, crc.to_be_bytes());
    }
    if *seals { bytes } else { edited(&bytes, outside) }
}

#[test]
fn batches() {
    check!().with_type::<Sent>().with_iterations(ITERATIONS).for_each(|sent| {
        compressed(sent);
        let bytes = Bytes::from(batch(sent));
        let (_, full, internal) = sent.4;
        split(&bytes).for_each(drop);
        let _ = scan(&bytes);
        let bounds = TimestampBounds {
            now: Timestamp(2_000),
            before_max: std::time::Duration::MAX,
            after_max: std::time::Duration::from_secs(1),
        };
        let rules = Check {
            decompressed_bytes_max: LIMIT,
            full,
            origin: if internal { Origin::Internal } else { Origin::Client },
            timestamps: (!internal).then_some(bounds),
            ..Check::client()
        };
        if let Ok(valid) = ValidBatch::check(bytes.clone(), &rules) {
            check_valid(&valid, &rules);
        }
        if let Ok(stored) = StoredBatch::from_bytes(bytes) {
            read(&stored);
        }
    });
}

/// What was found to be valid can be read, stored and read again.
fn check_valid(valid: &ValidBatch, rules: &Check) {
    let count = valid.header().records_count;
    let records = valid.records(LIMIT);
    if let Ok(records) = &records {
        assert!(records.bytes().len() <= LIMIT);
        let good = records.iter().take_while(Result::is_ok).count();
        let walked = rules.full || valid.header().attributes.compression() == Ok(Compression::None);
        assert!(!walked || i32::try_from(good) == Ok(count), "{good} of {count} can be read");
    }
    assert!(!rules.full || records.is_ok(), "it was read when it was checked");
    let sent = valid.header().attributes.compression();
    // What is in the right compression already is left as it came.
    for codec in Compression::ALL.into_iter().filter(|codec| Ok(*codec) != sent) {
        if let Ok(again) = valid.recompress(codec, None, LIMIT) {
            assert_eq!(again.header().records_count, count);
            assert!(again.records(LIMIT).is_ok(), "what we compress can be read");
        }
    }
    let stored = valid.with_log_append_time(Timestamp(9)).assign(Offset(40), LeaderEpoch(2));
    let again = StoredBatch::from_bytes(stored.to_bytes()).expect("what is stored can be read");
    assert_eq!(again.header().expect("a header").base_offset, Offset(40));
    read(&again);
}

fn read(stored: &StoredBatch) {
    let Ok(records) = stored.records(LIMIT) else { return };
    for record in records.iter() {
        let Ok(record) = record else { return };
        let _ = ControlRecord::decode(&record);
        record.headers().for_each(drop);
    }
}

/// Bytes go through a codec and come back; damaged ones give no more than is allowed.
fn compressed((codec, records, edits, ..): &Sent) {
    let codec = Compression::ALL[usize::from(*codec) % Compression::ALL.len()];
    let nothing = Vec::new();
    let bytes = records.first().map_or(&nothing, |(_, value)| value);
    let whole = compression::compress(codec, None, bytes).expect("small");
    assert_eq!(compression::decompress(codec, &whole, bytes.len()).as_ref(), Ok(bytes));
    for input in [bytes, &whole] {
        for limit in [0, bytes.len(), LIMIT] {
            if let Ok(out) = compression::decompress(codec, &edited(input, edits), limit) {
                assert!(out.len() <= limit, "{} of {limit}", out.len());
            }
        }
    }
}

/// What lies in files, by kind: decoded as it was written, and after damage as nothing else.
#[test]
fn stored_formats() {
    type Input = (Vec<u8>, Vec<(u16, u16, i32)>, Vec<Edit>);
    check!().with_type::<Input>().with_iterations(ITERATIONS).for_each(|(raw, places, edits)| {
        headers(raw);
        frames(raw, edits);
        segments(places, edits);
        layouts(raw, places, edits);
    });
}

fn headers(raw: &[u8]) {
    let stream = Stream { session: SESSION, salt: 1 };
    let _ = JournalHeader::decode(raw);
    let _ = Seal::decode(raw);
    let _ = GroupHeader::decode(raw, stream, Lsn(4_096));
    let _ = Footer::decode(raw);
    let _ = RunIndex::decode(raw);
    let _ = MetaHeader::decode(raw, 1);
    if let Ok(entry) = LayoutEntry::decode(raw) {
        assert_eq!(LayoutEntry::decode(&entry.encode()), Ok(entry));
    }
}

fn frames(raw: &[u8], edits: &[Edit]) {
    let stream = Stream { session: SESSION, salt: 1 };
    let group = GroupHeader {
        kind: GroupKind::Frames,
        position: Lsn(4_096),
        durable: Lsn(0),
        length: u32::try_from(raw.len()).expect("small"),
    };
    let damaged = edited(&group.encode(stream), edits);
    if let Ok(read) = GroupHeader::decode(&damaged, stream, Lsn(4_096)) {
        assert_eq!(read, group);
    }
    let layout = Frame {
        partition: PARTITION,
        body: FrameBody::Layout(Bytes::copy_from_slice(raw)),
        urgent: true,
    };
    let encoded = layout.encode(SESSION, Lsn(8)).expect("it fits");
    let whole = [&encoded.head[..], encoded.body[0], encoded.body[1]].concat();
    let damaged = Bytes::from(edited(&whole, edits));
    if let Ok((read, size)) = Frame::decode(&damaged, SESSION, Lsn(8)) {
        assert_eq!((read, size), (layout, whole.len()));
    }
    let mut builder = BatchBuilder::new();
    builder.append(Timestamp(1), None, Some(raw), &[]);
    let batch = builder.build_valid().expect("small").assign(Offset(1), LeaderEpoch(1));
    let frame = Frame { partition: PARTITION, body: FrameBody::Batch(batch), urgent: false };
    let encoded = frame.encode(SESSION, Lsn(8)).expect("it fits");
    let whole = [&encoded.head[..], encoded.body[0], encoded.body[1]].concat();
    let damaged = Bytes::from(edited(&whole, edits));
    if let Ok((Frame { body: FrameBody::Batch(read), .. }, _)) =
        Frame::decode(&damaged, SESSION, Lsn(8))
    {
        self::read(&read);
    }
}

fn segments(places: &[(u16, u16, i32)], edits: &[Edit]) {
    let (mut writer, head) = SegmentWriter::new(Uuid([1; 16]), SESSION);
    let mut next = Offset(0);
    for (skipped, size, index) in places {
        let base = Offset(next.0 + i64::from(*skipped % 4));
        next = base.next();
        let partition = PartitionId { index: index % 2, ..PARTITION };
        writer.push(partition, &place(base, base, Timestamp::NONE, u64::from(*size) + 1));
        let aborted = AbortedTxn { producer: ProducerId(1), first: base, last: base };
        if index % 5 == 0 {
            writer.set_aborted(vec![aborted]);
        }
    }
    let finished = writer.finish();
    let start =
        head.len() as u64 + places.iter().map(|(_, size, _)| u64::from(*size) + 1).sum::<u64>();
    for tail in [finished.tail.to_vec(), edited(&finished.tail, edits)] {
        let intact = tail == finished.tail;
        let Some(footer_at) = tail.len().checked_sub(FOOTER_SIZE) else { continue };
        let Ok(footer) = Footer::decode(&tail[footer_at..]) else {
            assert!(!intact);
            continue;
        };
        let at = usize::try_from(footer.directory_position - start).expect("as it was written");
        let directory = tail.get(at..footer_at).unwrap_or_default();
        let Ok(runs) = footer.runs(directory) else {
            assert!(!intact);
            continue;
        };
        assert_eq!(runs, finished.runs);
        for run in &runs {
            let from = usize::try_from(run.index_position - start).expect("as it was written");
            let index = tail.get(from..from + run.index_len as usize).unwrap_or_default();
            assert!(decode_index(run, index).is_ok() || !intact);
        }
    }
}

fn layouts(raw: &[u8], places: &[(u16, u16, i32)], edits: &[Edit]) {
    let mut writer = SegmentWriter::new(Uuid([1; 16]), SESSION).0;
    writer.push(PARTITION, &place(Offset(1), Offset(1), Timestamp(raw.len() as i64), 9));
    let run = writer.finish().runs[0];
    let segment = SegmentRef { blob: "segments/one".into(), written: Timestamp(3), run };
    let count = places.len() % 4;
    let entry = match count {
        0 => LayoutEntry::LogStart(Offset(9)),
        1 => LayoutEntry::SegmentCommitted(segment),
        2 => {
            let (removed, forgotten) = (vec![Offset(1)], vec![Offset(7), Offset(9)]);
            LayoutEntry::Compacted { removed, added: vec![segment], forgotten }
        }
        _ => {
            LayoutEntry::SegmentCommitted(SegmentRef { blob: "x".repeat(count).into(), ..segment })
        }
    };
    let bytes = entry.encode();
    assert_eq!(LayoutEntry::decode(&bytes), Ok(entry));
    if let Ok(read) = LayoutEntry::decode(&edited(&bytes, edits)) {
        assert_eq!(LayoutEntry::decode(&read.encode()), Ok(read));
    }
}

/// How many of each thing a partition's state has, and its numbers.
type State = (u8, u8, u8, i64, Vec<i64>);

fn image((epochs, producers, aborted, end, numbers): &State) -> PartitionImage {
    let number = |at: u8| numbers.get(usize::from(at)).copied().unwrap_or_default();
    let end = Offset(end & i64::MAX);
    let producer = |at: u8| ProducerImage {
        id: ProducerId(number(at)),
        epoch: ProducerEpoch(1),
        coordinator_epoch: -1,
        used: Timestamp(number(at)),
        transaction: at.is_multiple_of(2).then_some(end),
        batches: Vec::new(),
    };
    let txn = |at: u8| AbortedTxn { producer: ProducerId(number(at)), first: end, last: end };
    PartitionImage {
        id: PARTITION,
        applied: Lsn(7),
        log_start: Offset(0),
        log_end: end,
        last_append_time: Timestamp(number(0)),
        epochs: (0..epochs % 5)
            .map(|at| (LeaderEpoch(i32::from(at)), Offset(number(at))))
            .collect(),
        producers: (0..producers % 5).map(producer).collect(),
        aborted: (0..aborted % 5).map(txn).collect(),
        segments: Vec::new(),
        backlog: Vec::new(),
        lost: Vec::new(),
    }
}

#[test]
fn checkpoints() {
    type Input = (Vec<State>, Vec<Edit>, bool);
    check!().with_type::<Input>().with_iterations(ITERATIONS).for_each(|(states, edits, seals)| {
        let header = CheckpointHeader {
            cluster: ClusterId::default(),
            session: SESSION,
            lsn: Lsn(9),
            has_lost: states.len().is_multiple_of(2),
            is_delta: states.len().is_multiple_of(3),
        };
        let (mut writer, head) = CheckpointWriter::new(header, &["checkpoint/one", "two"]);
        let images: Vec<_> = states.iter().map(image).collect();
        let mut body: Vec<u8> =
            images.iter().filter_map(|image| writer.push(image)).flatten().collect();
        body.extend_from_slice(&writer.finish());
        assert_eq!(CheckpointHeader::decode(&head), Ok(header));
        assert_eq!(load(&header, &body), Some(images.clone()));
        if let Ok(read) = CheckpointHeader::decode(&edited(&head, edits)) {
            assert_eq!(read, header);
        }
        if let Some((head, former)) = edited(&head, edits).get(FILE_HEADER_SIZE..).and_then(chunk)
            && let Ok(names) = head.former(former)
        {
            assert_eq!(names, ["checkpoint/one".into(), "two".into()]);
        }
        let damaged = edited(&body, edits);
        if let Some(read) = load(&header, &damaged) {
            assert_eq!(read, images, "damage that goes unnoticed");
        }
        // A checksum that is right says only who wrote it.
        if *seals && let Some(chunk) = damaged.get(CHUNK_HEAD_SIZE..) {
            let mut cursor = millstream_types::Cursor::new(chunk);
            while !cursor.is_empty() && PartitionImage::decode(&mut cursor, header.has_lost).is_ok()
            {
            }
        }
    });
}

/// A chunk's head, and its body as far as it is there.
fn chunk(bytes: &[u8]) -> Option<(ChunkHead, &[u8])> {
    let head = ChunkHead::decode(bytes).ok()?;
    let body = bytes.get(CHUNK_HEAD_SIZE..)?;
    Some((head, body.get(..head.len as usize).unwrap_or(body)))
}

/// All states of a checkpoint, or nothing when anything of it is not as it was written.
fn load(header: &CheckpointHeader, mut bytes: &[u8]) -> Option<Vec<PartitionImage>> {
    let mut images = Vec::new();
    loop {
        let head = ChunkHead::decode(bytes).ok()?;
        let end = CHUNK_HEAD_SIZE.checked_add(head.len as usize)?;
        let body = bytes.get(CHUNK_HEAD_SIZE..end)?;
        images.extend(head.images(header, body).ok()?);
        bytes = bytes.get(end..)?;
        if head.len == 0 {
            let counted = usize::try_from(head.partitions) == Ok(images.len());
            return (counted && bytes.is_empty()).then_some(images);
        }
    }
}

const _: () = assert!(FILE_HEADER_SIZE == 64, "the head of a checkpoint is a file header");
