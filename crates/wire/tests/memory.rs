//! How much memory hostile bytes may take. A file of its own, with one test, because memory is
//! measured for the whole process.

use std::collections::BTreeSet;

use bytes::Bytes;
use millstream_wire::arbitrary::{Case, Random, cases};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const KIB: usize = 1024;

/// The length of the hostile bytes: more empty strings than the reader's budget has room for.
const HOSTILE_LEN: usize = 300 * KIB;

/// What decoding and encoding again may take: the reader's budget of 4 MiB and eight times the
/// input, and a little for what is encoded.
const MEMORY_MAX: usize = 4 * KIB * KIB + 8 * HOSTILE_LEN + 4 * HOSTILE_LEN;

#[track_caller]
fn check(case: &Case, version: i16, hostile: Vec<u8>) {
    let hostile = Bytes::from(hostile);
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let decoded = (case.recode)(&hostile, version).is_ok();
    let taken = MEMORY.peak_usage() - before;
    let (name, len) = (case.name, hostile.len());
    assert!(taken <= MEMORY_MAX, "{name} v{version}: {taken} for {len} bytes, decoded: {decoded}");
}

#[test]
fn hostile_bytes_take_bounded_memory() {
    // 2^31 - 1 elements, the most that either kind of length can say, and as many as there are bytes.
    let claims: [&[u8]; 4] = [
        &[0x7f, 0xff, 0xff, 0xff],
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0x00, 0x04, 0x90, 0x00],
        &[0x80, 0xa0, 0x12],
    ];
    for case in cases() {
        let mut random = Random::new(7);
        for version in BTreeSet::from([case.version_min, case.version_max]) {
            let bytes = (case.sample)(&mut random, version, version).unwrap().bytes();
            for _ in 0..5 {
                // Early, where the arrays begin.
                let at = random.below(bytes.len().min(60) + 1);
                let mut hostile = bytes[..at].to_vec();
                hostile.extend_from_slice(claims[random.below(claims.len())]);
                // Null or empty strings and arrays: the least that an element can take.
                let filler = [0, 1][random.below(2)];
                hostile.resize(HOSTILE_LEN, filler);
                check(&case, version, hostile);
            }
        }
    }
}
