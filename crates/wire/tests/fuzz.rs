//! Fuzz target: what a socket gives, as requests and answers of every API and version.
//!
//! `cargo test` runs it briefly; `cargo xtask test --long` for minutes (CONTRIBUTING.md).

use bolero::check;
use bytes::Bytes;
use millstream_testkit::edits::{Edit, edited};
use millstream_wire::arbitrary::{Random, cases};
use millstream_wire::{DecodeError, Reader, decode_request_header};

/// Which message in which version, made from which number, damaged how; or just bytes.
type Input = (u16, u8, u64, Vec<Edit>, Option<Vec<u8>>);

#[test]
fn requests() {
    let cases = cases();
    check!().with_type::<Input>().with_iterations(2_000).for_each(
        |(case, version, seed, edits, raw)| {
            let case = &cases[usize::from(*case) % cases.len()];
            let versions = case.version_max - case.version_min + 1;
            let version = case.version_min + i16::from(*version) % versions;
            let sample = (case.sample)(&mut Random::new(*seed), version, version);
            let bytes = match raw {
                Some(raw) => raw.clone(),
                None => edited(&sample.expect("it can be written").bytes(), edits),
            };
            let bytes = Bytes::from(bytes);
            let outcome = (case.recode)(&bytes, version);
            let refused = outcome == Err(DecodeError::Invalid { field: "encoded again" });
            assert!(!refused, "{} v{version}: decoded but can't be encoded", case.name);
            if let Ok((again, _)) = outcome {
                let twice = (case.recode)(&again, version);
                assert_eq!(twice, Ok((again, 0)), "{} v{version}: now another one", case.name);
            }
            let mut reader = Reader::new(&bytes);
            if let Ok((api, header)) = decode_request_header(&mut reader) {
                assert_eq!(api.code(), header.request_api_key);
                assert!(reader.remaining() < bytes.len());
            }
        },
    );
}
