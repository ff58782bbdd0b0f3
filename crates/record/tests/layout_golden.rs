//! What a partition's layout did, byte for byte: what one release wrote, the next must read.

use millstream_record::layout::{LayoutEntry, LostRange, SegmentRef};
use millstream_record::run::Run;
use millstream_types::{Offset, PartitionId, Timestamp, Uuid};

fn segment(compacted: bool) -> SegmentRef {
    let partition = PartitionId { topic: Uuid([0xab; 16]), index: 3 };
    let run = Run {
        partition,
        base: Offset(10),
        end: Offset(20),
        dense: !compacted,
        compacted,
        position: 64,
        len: 1_000,
        index_position: 1_064,
        index_len: 48,
        index_crc: 0x0102_0304,
        max_timestamp: Timestamp(1_700_000_000_000),
        max_timestamp_at: Offset(12),
    };
    SegmentRef { blob: "seg/1".into(), written: Timestamp(7), run }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[track_caller]
fn check(entry: &LayoutEntry, expected: &str) {
    let expected: String = expected.split_whitespace().collect();
    let bytes = entry.encode();
    assert_eq!(hex(&bytes), expected);
    assert_eq!(LayoutEntry::decode(&bytes), Ok(entry.clone()));
}

/// As the table in `run` has it; the flags say which of the two it is.
fn segment_hex(flags: &str) -> String {
    format!(
        "0005 7365672f31 0000000000000007 abababababababababababababababab 00000003 {flags}
         000000000000000a 0000000000000014 0000000000000040 00000000000003e8
         0000000000000428 00000030 01020304 0000018bcfe56800 000000000000000c"
    )
}

#[test]
fn layout_entries_keep_their_bytes() {
    let (dense, compacted) = (segment_hex("00000001"), segment_hex("00000002"));
    check(&LayoutEntry::LogStart(Offset(5)), "01 0000000000000005");
    check(&LayoutEntry::SegmentCommitted(segment(false)), &format!("02 {dense}"));
    let removed = vec![Offset(10), Offset(15)];
    let gone = "00000002 000000000000000a 000000000000000f 00000001";
    let added = vec![segment(false)];
    let replaced = LayoutEntry::SegmentsReplaced { removed: removed.clone(), added };
    check(&replaced, &format!("03 {gone} {dense}"));
    let (from, upto, max_timestamp) = (Offset(5), Offset(6), Timestamp::NONE);
    let lost = LayoutEntry::Lost(LostRange { from, upto, max_timestamp });
    check(&lost, "04 0000000000000005 0000000000000006 ffffffffffffffff");
    let (added, forgotten) = (vec![segment(true)], vec![Offset(19)]);
    let entry = LayoutEntry::Compacted { removed, added, forgotten };
    check(&entry, &format!("05 {gone} {compacted} 00000001 0000000000000013"));
}
