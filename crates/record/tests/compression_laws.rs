//! The laws of compression, as its module's header states them.

use std::io::Write;

use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use millstream_record::compression::{
    Compression, CompressionError, UnknownCompression, compress, decompress,
};
use millstream_testkit::batches::{compression, payload};
use proptest::prelude::*;

/// Long enough for several blocks of every codec.
fn long() -> Vec<u8> {
    (0..300_000_u64).map(|n| (n * n / 1000) as u8).collect()
}

#[track_caller]
fn check_both_ends(codec: Compression, packed: &[u8], content: &[u8]) {
    let length = content.len();
    assert!(decompress(codec, packed, length).as_deref() == Ok(content), "{codec}");
    if let Some(limit) = length.checked_sub(1) {
        let expected = Err(CompressionError::TooLarge { limit });
        assert_eq!(decompress(codec, packed, limit), expected, "{codec}");
        assert_eq!(decompress(codec, packed, length / 3).map(drop), {
            Err(CompressionError::TooLarge { limit: length / 3 })
        });
    }
}

proptest! {
    /// Round trip, bounded, truncation.
    #[test]
    fn what_was_compressed_comes_back(
        content in prop::collection::vec(payload(), 0..20),
        codec in compression(),
        level in prop::option::of(-10..30),
    ) {
        let content = content.concat();
        let packed = compress(codec, level, &content).expect("compresses");
        check_both_ends(codec, &packed, &content);
        for cut in 0..packed.len() {
            let cut = decompress(codec, &packed[..cut], content.len());
            prop_assert_ne!(cut.as_ref(), Ok(&content));
        }
    }

    /// Total and bounded, on bytes that are near a stream.
    #[test]
    fn no_bytes_panic(
        content in payload(),
        codec in compression(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        limit in 0..200_usize,
    ) {
        let mut packed = compress(codec, None, &content).expect("compresses");
        for (at, byte) in changes {
            if !packed.is_empty() {
                let at = at.index(packed.len());
                packed[at] = byte;
            }
        }
        if let Ok(out) = decompress(codec, &packed, limit) {
            prop_assert!(out.len() <= limit);
        }
    }

    /// Total and bounded, on any bytes.
    #[test]
    fn no_stream_panics(packed: Vec<u8>, codec in compression(), limit in 0..200_usize) {
        if let Ok(out) = decompress(codec, &packed, limit) {
            prop_assert!(out.len() <= limit);
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// lz4 frames as other clients make them: linked blocks, all checksums, sizes.
    #[test]
    fn lz4_frames_of_other_clients(
        linked: bool, block_checksums: bool, content_checksum: bool, sized: bool,
        size in prop::sample::select(&[BlockSize::Max64KB, BlockSize::Max256KB][..]),
        damage in any::<prop::sample::Index>(),
    ) {
        let content = long();
        let info = FrameInfo::new()
            .block_mode(if linked { BlockMode::Linked } else { BlockMode::Independent })
            .block_checksums(block_checksums)
            .content_checksum(content_checksum)
            .content_size(sized.then_some(content.len() as u64))
            .block_size(size);
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(&content).expect("to memory");
        let packed = encoder.finish().expect("to memory");
        check_both_ends(Compression::Lz4, &packed, &content);
        if block_checksums || content_checksum {
            let mut packed = packed;
            let at = damage.index(packed.len());
            packed[at] ^= 0x10;
            let result = decompress(Compression::Lz4, &packed, content.len());
            prop_assert!(result.is_err(), "byte {at}");
        }
    }
}

#[test]
fn long_contents_at_each_level() {
    let content = long();
    let levels = [None, Some(i32::MIN), Some(-5), Some(1), Some(9), Some(i32::MAX)];
    for codec in Compression::ALL {
        for level in levels {
            // The highest level of zstd is slow, and no different here.
            if codec == Compression::Zstd && level == Some(i32::MAX) {
                continue;
            }
            let packed = compress(codec, level, &content).expect("compresses");
            check_both_ends(codec, &packed, &content);
        }
    }
}

/// Streams may be put one behind the other.
#[test]
fn several_streams_in_one() {
    for codec in Compression::ALL {
        let [a, b] = [&long()[..100_000], b"tail"];
        let packed = [compress(codec, None, a), compress(codec, None, b)];
        let packed = packed.map(|packed| packed.expect("compresses")).concat();
        check_both_ends(codec, &packed, &[a, b].concat());
    }
}

/// Clients in C send snappy raw.
#[test]
fn snappy_without_framing() {
    for content in [long(), b"short".to_vec(), Vec::new()] {
        let raw = snap::raw::Encoder::new().compress_vec(&content).expect("compresses");
        check_both_ends(Compression::Snappy, &raw, &content);
    }
}

/// A few bytes that would become gigabytes, and claims that no bytes stand behind.
#[test]
fn bombs_are_refused() {
    let limit = 1 << 20;
    for codec in Compression::ALL {
        let packed = compress(codec, None, &vec![0; 32 << 20]).expect("compresses");
        let expected = Err(CompressionError::TooLarge { limit });
        assert_eq!(decompress(codec, &packed, limit), expected, "{codec}");
    }
    let claims_two_gigabytes = [0xff, 0xff, 0xff, 0xff, 0x07, 0x00, b'x'];
    let corrupt = Err(CompressionError::Corrupt(Compression::Snappy));
    assert_eq!(decompress(Compression::Snappy, &claims_two_gigabytes, usize::MAX), corrupt);
    // Judged before the limit is: no bytes stand behind it.
    assert_eq!(decompress(Compression::Snappy, &claims_two_gigabytes, limit), corrupt);
}

#[test]
fn no_stream_is_not_an_empty_stream() {
    for codec in Compression::ALL.into_iter().skip(1) {
        let expected = Err(CompressionError::Corrupt(codec));
        assert_eq!(decompress(codec, b"", 100), expected, "{codec}");
    }
}

/// What the Java client can read: blocks of 64 KiB that don't refer to each other, no checksums.
#[test]
fn lz4_is_written_as_java_reads_it() {
    let packed = compress(Compression::Lz4, None, &long()).expect("compresses");
    let (version_1_independent, blocks_of_64_kib) = (0x60, 0x40);
    let start = [0x04, 0x22, 0x4d, 0x18, version_1_independent, blocks_of_64_kib];
    assert_eq!(packed.get(..6), Some(start.as_slice()));
}

#[test]
fn names_and_numbers() {
    for codec in Compression::ALL {
        assert_eq!(Compression::from_id(codec.id()), Some(codec));
        assert_eq!(codec.to_string().parse(), Ok(codec));
    }
    assert_eq!(Compression::from_id(5), None);
    assert_eq!("producer".parse::<Compression>(), Err(UnknownCompression));
}
