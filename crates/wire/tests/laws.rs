//! The laws of every message in every version, each checked by one body over the table of all
//! messages.

use std::cell::Cell;

use millstream_wire::arbitrary::{Case, Random, cases};
use millstream_wire::{DecodeError, EncodeError};

/// Calls `law` for every message and version, with numbers that depend on nothing else.
#[track_caller]
fn for_all(law: impl Fn(&Case, i16, &mut Random)) {
    let cases = cases();
    assert!(cases.len() > 150, "the table of messages is not whole: {}", cases.len());
    for case in &cases {
        for version in case.version_min..=case.version_max {
            let seed = case.name.bytes().fold(version.unsigned_abs().into(), |seed: u64, byte| {
                seed.wrapping_mul(31).wrapping_add(byte.into())
            });
            law(case, version, &mut Random::new(seed));
        }
    }
}

/// Decodes hostile bytes: it must not panic, and what decodes can be encoded and is then decoded
/// as the same.
#[track_caller]
fn check_hostile(case: &Case, version: i16, bytes: Vec<u8>) {
    let outcome = (case.recode)(&bytes.into(), version);
    let is_refused = outcome == Err(DecodeError::Invalid { field: "encoded again" });
    assert!(!is_refused, "{} v{version}: decoded but can't be encoded", case.name);
    if let Ok((again, _)) = outcome {
        let twice = (case.recode)(&again, version);
        assert_eq!(twice, Ok((again, 0)), "{} v{version}: now another message", case.name);
    }
}

#[test]
fn messages_are_what_is_decoded_from_their_encodings() {
    for_all(|case, version, random| {
        for round in 0..100 {
            let before = random.clone();
            let round_trips = (case.round_trips)(random, version);
            let sample = (case.sample)(&mut before.clone(), version, version);
            assert!(round_trips, "{} v{version}, round {round}: {sample:?}", case.name);
        }
    });
}

#[test]
fn default_messages_can_be_encoded_in_every_version() {
    for_all(|case, version, _| {
        let bytes = (case.default_bytes)(version).unwrap();
        assert_eq!((case.recode)(&bytes, version), Ok((bytes, 0)), "{} v{version}", case.name);
    });
}

#[test]
fn what_another_version_has_is_dropped_or_refused() {
    let (mut encoded, mut refused) = (Cell::new(0), Cell::new(0));
    for_all(|case, version, random| {
        for made_for in case.version_min..=case.version_max {
            for _ in 0..20 {
                match (case.sample)(random, made_for, version) {
                    Ok(sample) => {
                        let again = (case.recode)(&sample.bytes(), version);
                        assert_eq!(again, Ok((sample.bytes(), 0)), "{} v{version}", case.name);
                        encoded.set(encoded.get() + 1);
                    }
                    Err(EncodeError::FieldNotInVersion { .. } | EncodeError::Null { .. }) => {
                        assert_ne!(made_for, version, "{}", case.name);
                        refused.set(refused.get() + 1);
                    }
                    Err(error) => panic!("{} v{version}: {error}", case.name),
                }
            }
        }
    });
    assert!(*encoded.get_mut() > 10_000 && *refused.get_mut() > 1_000);
}

#[test]
fn segments_add_up_and_none_is_empty() {
    for_all(|case, version, random| {
        for _ in 0..5 {
            let sample = (case.sample)(random, version, version).unwrap();
            assert_eq!(sample.bytes().len(), sample.len, "{} v{version}", case.name);
            assert!(sample.segments.iter().all(|segment| !segment.is_empty()), "{}", case.name);
        }
    });
}

#[test]
fn no_proper_prefix_of_an_encoding_decodes() {
    for_all(|case, version, random| {
        let bytes = (case.sample)(random, version, version).unwrap().bytes();
        let cuts: Vec<usize> = match bytes.len() {
            len @ 0..=1000 => (0..len).collect(),
            len => (0..1000).map(|_| random.below(len)).collect(),
        };
        for cut in cuts {
            let outcome = (case.recode)(&bytes.slice(..cut), version);
            assert!(outcome.is_err(), "{} v{version} cut at {cut}: {outcome:?}", case.name);
        }
    });
}

#[test]
fn other_versions_are_errors() {
    for case in cases() {
        for version in [case.version_min - 1, case.version_max + 1, i16::MIN, i16::MAX] {
            let unsupported = DecodeError::UnsupportedVersion { message: case.name, version };
            let bytes = vec![0; 64].into();
            assert_eq!((case.recode)(&bytes, version), Err(unsupported));
            assert!((case.default_bytes)(version).is_err(), "{} v{version}", case.name);
        }
    }
}

#[test]
fn random_bytes_do_no_harm() {
    for_all(|case, version, random| {
        for _ in 0..400 {
            let len = random.below(300);
            let mut bytes = random.raw(len);
            // Small bytes are plausible lengths and counts, so that decoding gets further.
            let small = random.below(3) * 8;
            for byte in bytes.iter_mut().filter(|_| small > 0) {
                *byte %= 16 / small as u8 + 1;
            }
            check_hostile(case, version, bytes);
        }
    });
}

#[test]
fn damaged_encodings_do_no_harm() {
    const CLAIMS: [&[u8]; 6] = [
        &[0x7f, 0xff, 0xff, 0xff],
        &[0xff, 0xff, 0xff, 0xff],
        &[0x80, 0x00, 0x00, 0x00],
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0x7f, 0xff],
    ];
    for_all(|case, version, random| {
        let bytes = (case.sample)(random, version, version).unwrap().bytes();
        for _ in 0..300 {
            let mut damaged = bytes.to_vec();
            let at = random.below(damaged.len() + 1);
            if random.once_in(3) {
                if let Some(byte) = damaged.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            } else {
                let claim = CLAIMS[random.below(CLAIMS.len())];
                let end = (at + claim.len()).min(damaged.len());
                damaged.splice(at..end, claim.iter().copied());
            }
            check_hostile(case, version, damaged);
        }
    });
}
