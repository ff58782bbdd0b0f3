//! The header that every file of a data directory starts with.
//!
//! ```text
//!  0  magic      8 bytes  which kind of file this is ([`FileKind`])
//!  8  version    u16      format version; a newer one is refused before anything else is read
//! 10  critical   u16      flags that a reader must know, by kind; those of [`FileKind::Checkpoint`] are
//!                         in [`crate::checkpoint`], the others have none, so zero
//! 12  checksum   u32      CRC32C of bytes 0..12 and 16..64
//! 16  cluster    16 bytes the cluster that the file belongs to
//! 32  numbers    4 x u64  what they mean depends on the kind, see [`FileKind`]
//! 64
//! ```
//!
//! Integers are big-endian. Laws: decoding is total; `decode(encode(h)) == h`; any flipped bit and
//! any cut are refused.

use std::fmt;

use millstream_types::{ClusterId, Cursor, DecodeError, Uuid};

use crate::checksum::Crc;
use crate::fixed::Fixed;

/// The size of a file header in bytes.
pub const FILE_HEADER_SIZE: usize = 64;

/// The newest format version that this program reads and the one it writes.
pub const FORMAT_VERSION: u16 = 1;

/// Everything that a data directory or a bucket holds. The magics are persisted and must be kept
/// stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Says whose the directory is. Lives as long as the directory. Numbers: none.
    Cluster,
    /// A piece of a session's journal; recycled when trimmed.
    /// Numbers: session, sequence of the file in the session, bytes of its data area, salt.
    Journal,
    /// Where a session ended. Lives until the session's journal is trimmed whole.
    /// Numbers: session, the first position that is not part of it.
    Seal,
    /// Entries of the metadata log; replaced when a snapshot covers them.
    /// Numbers: number of the first entry, salt.
    Meta,
    /// The state that entries of the metadata log add up to; replaced by the next one.
    /// Numbers: the last entry in it, bytes of the state, CRC32C of the state.
    Snapshot,
    /// Batches of one partition (a segment) or of several (a pack), see [`crate::segment`]. Lives
    /// until no partition has a run in it.
    /// Numbers: the session that wrote it.
    Segment,
    /// The states of all partitions, see [`crate::checkpoint`]. Lives until the next one.
    /// Numbers: session, the position in its journal from which it must be replayed.
    Checkpoint,
}

/// The first 64 bytes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHeader {
    /// What the file holds.
    pub kind: FileKind,
    /// The cluster that it belongs to.
    pub cluster: ClusterId,
    /// What [`FileKind`] says.
    pub numbers: [u64; 4],
}

/// Why a file is not taken for what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileError {
    /// The file is too short to hold a header.
    Truncated,
    /// It starts with other bytes than files of this kind do.
    Magic(FileKind),
    /// Its format is not known to this program.
    Version {
        /// What was expected.
        kind: FileKind,
        /// What the file says.
        found: u16,
    },
    /// It needs abilities that this program has not.
    Critical {
        /// What was expected.
        kind: FileKind,
        /// The flags that the file carries.
        found: u16,
    },
    /// The header is damaged.
    Checksum(FileKind),
    /// It belongs to another cluster.
    Cluster {
        /// Whose it should be.
        expected: ClusterId,
        /// Whose it is.
        found: ClusterId,
    },
}

impl FileError {
    /// Whether another release has written the file, so that it is no damage and nothing to repair.
    #[must_use]
    pub const fn is_of_another_release(self) -> bool {
        matches!(self, Self::Version { .. } | Self::Critical { .. })
    }
}

impl FileKind {
    const fn magic(self) -> [u8; 8] {
        match self {
            Self::Cluster => *b"MSTRclus",
            Self::Journal => *b"MSTRjrnl",
            Self::Seal => *b"MSTRseal",
            Self::Meta => *b"MSTRmeta",
            Self::Snapshot => *b"MSTRsnap",
            Self::Segment => *b"MSTRsegm",
            Self::Checkpoint => *b"MSTRckpt",
        }
    }
}

impl FileHeader {
    /// The header's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; FILE_HEADER_SIZE] {
        self.encode_with(0)
    }

    /// The bytes of a header with flags: a program that does not know all of them refuses the file.
    #[must_use]
    pub fn encode_with(&self, critical: u16) -> [u8; FILE_HEADER_SIZE] {
        let head: [u8; 12] = Fixed::new()
            .put(&self.kind.magic())
            .put(&FORMAT_VERSION.to_be_bytes())
            .put(&critical.to_be_bytes())
            .whole();
        let numbers = self.numbers.map(u64::to_be_bytes);
        let tail: [u8; FILE_HEADER_SIZE - 16] =
            Fixed::new().put(&self.cluster.0).put(numbers.as_flattened()).whole();
        let checksum = Crc::new().and(&head).and(&tail).value();
        Fixed::new().put(&head).put(&checksum.to_be_bytes()).put(&tail).whole()
    }

    /// Reads the header at the start of `bytes`, of a file that must be of this `kind`.
    ///
    /// # Errors
    ///
    /// [`FileError`], never [`FileError::Cluster`]: whose it is, is the caller's to compare.
    pub fn decode(bytes: &[u8], kind: FileKind) -> Result<Self, FileError> {
        Self::decode_with(bytes, kind, 0).map(|(header, _)| header)
    }

    /// Reads the header of a file that may carry the flags in `known`, and those that it carries.
    ///
    /// # Errors
    ///
    /// As [`FileHeader::decode`].
    pub fn decode_with(bytes: &[u8], kind: FileKind, known: u16) -> Result<(Self, u16), FileError> {
        let truncated = |_: DecodeError| FileError::Truncated;
        let head = bytes.get(..12).ok_or(FileError::Truncated)?;
        let mut cursor = Cursor::new(bytes);
        if cursor.array::<8>("magic").map_err(truncated)? != kind.magic() {
            return Err(FileError::Magic(kind));
        }
        // Before the checksum: a newer format may have moved it. Unless everything but the version is as
        // this program writes it: then that is what is damaged.
        let found = cursor.u16("version").map_err(truncated)?;
        if found != FORMAT_VERSION {
            return match is_ours_but_for_the_version(bytes) {
                true => Err(FileError::Checksum(kind)),
                false => Err(FileError::Version { kind, found }),
            };
        }
        let critical = cursor.u16("critical").map_err(truncated)?;
        let checksum = cursor.u32("checksum").map_err(truncated)?;
        let tail = bytes.get(16..FILE_HEADER_SIZE).ok_or(FileError::Truncated)?;
        if Crc::new().and(head).and(tail).value() != checksum {
            return Err(FileError::Checksum(kind));
        }
        if critical & !known != 0 {
            return Err(FileError::Critical { kind, found: critical });
        }
        let cluster = Uuid(cursor.array("cluster").map_err(truncated)?);
        let mut numbers = [0; 4];
        for number in &mut numbers {
            *number = cursor.u64("number").map_err(truncated)?;
        }
        Ok((Self { kind, cluster, numbers }, critical))
    }

    /// The same header, if it belongs to `cluster`.
    ///
    /// # Errors
    ///
    /// [`FileError::Cluster`] when it does not.
    pub fn of(self, cluster: ClusterId) -> Result<Self, FileError> {
        if self.cluster == cluster {
            Ok(self)
        } else {
            Err(FileError::Cluster { expected: cluster, found: self.cluster })
        }
    }
}

fn is_ours_but_for_the_version(bytes: &[u8]) -> bool {
    let Some(header) = bytes.first_chunk::<FILE_HEADER_SIZE>() else { return false };
    let (magic, critical, tail) = (&header[..8], &header[10..12], &header[16..]);
    let checksum = Crc::new().and(magic).and(&FORMAT_VERSION.to_be_bytes()).and(critical).and(tail);
    checksum.value().to_be_bytes() == header[12..16]
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cluster => "cluster file",
            Self::Journal => "journal file",
            Self::Seal => "seal of a journal",
            Self::Meta => "metadata log",
            Self::Snapshot => "metadata snapshot",
            Self::Segment => "segment",
            Self::Checkpoint => "checkpoint",
        })
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("the file is too short to hold a header"),
            Self::Magic(kind) => write!(f, "this is not a {kind}"),
            Self::Version { kind, found } => write!(
                f,
                "the {kind} has format version {found}, and this program knows version \
                 {FORMAT_VERSION}: start the release of Millstream that wrote it, or a newer one"
            ),
            Self::Critical { kind, found } => write!(
                f,
                "the {kind} needs features {found:#06x} that this program has not: start the \
                 release of Millstream that wrote it, or a newer one"
            ),
            Self::Checksum(kind) => write!(f, "the header of the {kind} is damaged"),
            Self::Cluster { expected, found } => write!(
                f,
                "the file belongs to cluster {found}, and this directory to {expected}: it was \
                 copied here from another data directory"
            ),
        }
    }
}

impl std::error::Error for FileError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KINDS: [FileKind; 5] =
        [FileKind::Cluster, FileKind::Journal, FileKind::Seal, FileKind::Meta, FileKind::Snapshot];

    fn headers() -> impl Strategy<Value = FileHeader> {
        (proptest::sample::select(KINDS.to_vec()), any::<[u8; 16]>(), any::<[u64; 4]>()).prop_map(
            |(kind, cluster, numbers)| FileHeader { kind, cluster: Uuid(cluster), numbers },
        )
    }

    #[test]
    fn todays_bytes_stay_todays_bytes() {
        let header =
            FileHeader { kind: FileKind::Seal, cluster: Uuid([7; 16]), numbers: [1, 2, 3, 4] };
        let golden = [
            b"MSTRseal\x00\x01\x00\x00".as_slice(),
            &header.encode()[12..16],
            &[7; 16],
            &[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2],
            &[0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4],
        ];
        assert_eq!(header.encode().as_slice(), golden.concat());
        assert_eq!(header.encode()[12..16], [0x5e, 0x9f, 0xf5, 0xc7], "CRC32C by another program");
    }

    #[test]
    fn a_newer_format_is_refused_by_name() {
        let header = FileHeader { kind: FileKind::Meta, cluster: Uuid::NIL, numbers: [0; 4] };
        let mut bytes = header.encode();
        bytes[9] = 2;
        let checksum = Crc::new().and(&bytes[..12]).and(&bytes[16..]).value();
        bytes[12..16].copy_from_slice(&checksum.to_be_bytes());
        let refused = FileHeader::decode(&bytes, FileKind::Meta);
        assert_eq!(refused, Err(FileError::Version { kind: FileKind::Meta, found: 2 }));
    }

    /// Found by the sweep of flipped bits: it was taken for a newer format, which nobody repairs.
    #[test]
    fn a_version_that_is_damaged_is_no_newer_format() {
        let header = FileHeader { kind: FileKind::Seal, cluster: Uuid::NIL, numbers: [7; 4] };
        for bit in 0..16 {
            let mut bytes = header.encode();
            bytes[8 + bit / 8] ^= 1 << (bit % 8);
            let refused = FileHeader::decode(&bytes, FileKind::Seal);
            assert_eq!(refused, Err(FileError::Checksum(FileKind::Seal)), "{bit}");
        }
    }

    #[test]
    fn flags_are_refused_by_who_does_not_know_them() {
        let kind = FileKind::Checkpoint;
        let header = FileHeader { kind, cluster: Uuid::NIL, numbers: [0; 4] };
        let bytes = header.encode_with(0b101);
        for (known, read) in [
            (0b101, Ok((header, 0b101))),
            (0b111, Ok((header, 0b101))),
            (0b001, Err(FileError::Critical { kind, found: 0b101 })),
            (0, Err(FileError::Critical { kind, found: 0b101 })),
        ] {
            assert_eq!(FileHeader::decode_with(&bytes, kind, known), read, "{known}");
        }
        assert!(FileHeader::decode(&bytes, kind).is_err());
    }

    proptest! {
        #[test]
        fn decode_reverses_encode(header in headers()) {
            prop_assert_eq!(FileHeader::decode(&header.encode(), header.kind), Ok(header));
        }

        #[test]
        fn damage_is_refused(header in headers(), bit in 0..FILE_HEADER_SIZE * 8) {
            let mut bytes = header.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(FileHeader::decode(&bytes, header.kind).is_err());
        }

        #[test]
        fn every_cut_is_truncated(header in headers(), cut in 0..FILE_HEADER_SIZE) {
            let cut = FileHeader::decode(&header.encode()[..cut], header.kind);
            prop_assert_eq!(cut, Err(FileError::Truncated));
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = FileHeader::decode(&bytes, FileKind::Journal);
        }
    }
}
