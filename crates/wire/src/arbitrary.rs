//! Arbitrary messages for tests, and a table of all messages, so that one test checks them all.

use bytes::Bytes;
use millstream_types::Uuid;

use crate::error::{DecodeError, EncodeError};
use crate::message::Message;
use crate::reader::Reader;
use crate::records::Records;
use crate::text::StrBytes;
use crate::writer::Writer;

/// A stream of numbers that depends on its seed only (splitmix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

/// Messages and their structs, made from random numbers.
pub trait Arbitrary {
    /// A value in which only fields of `version` differ from their defaults, and which can be
    /// written in that version.
    fn arbitrary(random: &mut Random, version: i16) -> Self;
}

/// One message of the protocol with its type erased: what a test needs to check it.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The published name.
    pub name: &'static str,
    /// The API's key, of requests and responses.
    pub api: Option<i16>,
    /// The oldest version.
    pub version_min: i16,
    /// The newest version.
    pub version_max: i16,
    /// The default message, encoded.
    pub default_bytes: fn(i16) -> Result<Bytes, EncodeError>,
    /// An arbitrary message, made for the first version and encoded in the second.
    pub sample: fn(&mut Random, i16, i16) -> Result<Sample, EncodeError>,
    /// Whether an arbitrary message is what is decoded from its encoding.
    pub round_trips: fn(&mut Random, i16) -> bool,
    /// Decodes and encodes again; also how many bytes were left.
    pub recode: Recode,
}

/// Decodes a message in a version and encodes it again; the number is of the bytes left over.
pub type Recode = fn(&Bytes, i16) -> Result<(Bytes, usize), DecodeError>;

/// An encoded message.
#[derive(Clone, Debug)]
pub struct Sample {
    /// What the writer yielded.
    pub segments: Vec<Bytes>,
    /// How long the writer said that it is, in bytes.
    pub len: usize,
    /// How the message prints.
    pub text: String,
}

impl Sample {
    /// The segments in one piece.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        self.segments.concat().into()
    }
}

impl Case {
    /// The case of the message `M`.
    #[must_use]
    pub fn of<M: Message + Arbitrary>(api: Option<i16>) -> Self {
        Self {
            name: M::NAME,
            api,
            version_min: *M::VERSIONS.start(),
            version_max: *M::VERSIONS.end(),
            default_bytes: |version| M::default().to_bytes(version),
            sample: |random, made_for, version| {
                let message = M::arbitrary(random, made_for);
                let mut writer = Writer::new();
                message.encode(&mut writer, version)?;
                let len = writer.len();
                Ok(Sample { segments: writer.finish()?, len, text: format!("{message:?}") })
            },
            round_trips: |random, version| {
                let message = M::arbitrary(random, version);
                let bytes = message.to_bytes(version);
                bytes.is_ok_and(|bytes| M::from_bytes(&bytes, version) == Ok(message))
            },
            recode: |bytes, version| {
                let mut reader = Reader::new(bytes);
                let message = M::decode(&mut reader, version)?;
                let again = message.to_bytes(version);
                // What was decoded can be encoded in the same version.
                let again = again.map_err(|_| DecodeError::Invalid { field: "encoded again" })?;
                Ok((again, reader.remaining()))
            },
        }
    }
}

/// Every message of the protocol.
#[must_use]
pub fn cases() -> Vec<Case> {
    crate::generated::arbitrary::cases()
}

const WORDS: [&str; 6] = ["", "a", "orders", "größe", "a.b-c_d", "日本語"];

impl Random {
    /// The stream that `seed` starts.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub const fn u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not zero.
    pub const fn below(&mut self, end: usize) -> usize {
        (self.u64() % end as u64) as usize
    }

    /// True once in `n` times.
    pub const fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// `len` random bytes.
    pub fn raw(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.u64() as u8).collect()
    }

    /// An integer, often one at an edge.
    pub const fn i64(&mut self) -> i64 {
        match self.below(6) {
            0 => 0,
            1 => -1,
            2 => i64::MAX,
            3 => i64::MIN,
            4 => self.below(100) as i64,
            _ => self.u64() as i64,
        }
    }

    /// The high half of an `i64`, so that edges stay edges.
    pub const fn i32(&mut self) -> i32 {
        match self.below(3) {
            0 => self.below(100) as i32,
            _ => (self.i64() >> 32) as i32,
        }
    }

    pub(crate) const fn i16(&mut self) -> i16 {
        (self.i32() >> 16) as i16
    }

    pub(crate) const fn i8(&mut self) -> i8 {
        (self.i16() >> 8) as i8
    }

    pub(crate) const fn u16(&mut self) -> u16 {
        self.i16() as u16
    }

    pub(crate) fn f64(&mut self) -> f64 {
        f64::from(self.i32()) / 8.0
    }

    pub(crate) const fn bool(&mut self) -> bool {
        self.once_in(2)
    }

    pub(crate) fn uuid(&mut self) -> Uuid {
        if self.once_in(4) {
            return Uuid::NIL;
        }
        let (high, low) = (u128::from(self.u64()), u128::from(self.u64()));
        Uuid(((high << 64) | low).to_be_bytes())
    }

    pub(crate) fn string(&mut self) -> StrBytes {
        if self.once_in(50) {
            // Longer than one byte of a compact length can say.
            return StrBytes::from("x".repeat(200));
        }
        StrBytes::from(WORDS[self.below(WORDS.len())])
    }

    pub(crate) fn bytes(&mut self) -> Bytes {
        // Now and then long enough to become a segment of its own.
        let len = if self.once_in(12) { 1000 } else { self.below(20) };
        self.raw(len).into()
    }

    pub(crate) fn records(&mut self) -> Records {
        let mut records = Records::new();
        for _ in 0..self.below(3) {
            records.push(self.bytes());
        }
        if self.once_in(2) {
            let assigned = u128::from(self.u64()).to_be_bytes();
            records.push_batch(assigned, self.bytes());
        }
        records
    }

    pub(crate) fn array<T>(&mut self, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(4)).map(|_| make(self)).collect()
    }

    /// Null now and then.
    pub(crate) fn nullable<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.once_in(4) { None } else { Some(make(self)) }
    }
}
