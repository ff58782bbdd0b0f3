//! Journal files, groups and seals.
//!
//! A session's journal is one stream of bytes, cut into files of one size. The first block of a
//! file is its header; the rest, its data area, is a piece of the stream, so that a position
//! ([`Lsn`]) alone says which file and which byte:
//!
//! ```text
//! file 0                             file 1
//! +--------+--------- area --------+ +--------+--------- area ---------+
//! | header | group | group | skip  | | header | group | group |  ...   |
//! +--------+-----------------------+ +--------+------------------------+
//! 0      4096                        position 0 of file 1 = bytes of one area
//! ```
//!
//! What one write to the disk holds is a group. It starts at a multiple of 4,096 bytes and is
//! padded to one, so that a block which holds acknowledged bytes is never written again:
//!
//! ```text
//!  0  magic      u32  0x4d537267
//!  4  length     u32  bytes of frames after this header; the padding is not counted
//!  8  session    u64
//! 16  position   u64  of this header in the session's stream
//! 24  durable    u64  everything below was on stable storage before this group was written
//! 32  salt       u64  drawn once per session: what clients send can't be taken for a header
//! 40  kind       u8   1 frames, 2 skip: the rest of the file is unused, go on in the next one
//! 41  zero       3 bytes
//! 44  checksum   u32  CRC32C of bytes 0..44; frames have their own
//! 48  frames     back to back
//!     padding    to the next multiple of 4,096; its bytes have no meaning
//! ```
//!
//! Only a group whose frames do not fit into one file reaches into the next ones, and it begins
//! at the first byte of a file.
//!
//! Laws: decoding is total; `decode(encode(g)) == g`; any flipped bit, another session, position or
//! salt is refused.

use millstream_types::{ClusterId, Cursor, DecodeError, Lsn, SessionId};

use crate::checksum::crc32c;
use crate::file::{FILE_HEADER_SIZE, FileError, FileHeader, FileKind};
use crate::fixed::Fixed;

/// What groups are aligned to, and the size of the block that holds a file's header, in bytes.
pub const BLOCK: u64 = 4096;

/// The size of a group's header in bytes.
pub const GROUP_HEADER_SIZE: usize = 48;

const GROUP_MAGIC: u32 = 0x4d53_7267;
const KIND_FRAMES: u8 = 1;
const KIND_SKIP: u8 = 2;

/// What the first block of a journal file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalHeader {
    /// The cluster that the file belongs to.
    pub cluster: ClusterId,
    /// The session that writes it.
    pub session: SessionId,
    /// Which piece of the session's stream it holds, from 0.
    pub sequence: u64,
    /// The bytes of its data area; a multiple of [`BLOCK`], the same for all of a session's files.
    pub area: u64,
    /// The session's salt.
    pub salt: u64,
}

/// Where a session ended, and that it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    /// The cluster that the session belongs to.
    pub cluster: ClusterId,
    /// The session that is over.
    pub session: SessionId,
    /// The first position that is not part of it.
    pub end: Lsn,
}

/// Which session's groups are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// The session.
    pub session: SessionId,
    /// Its salt.
    pub salt: u64,
}

/// What stands before a group's frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupHeader {
    /// What the group is for.
    pub kind: GroupKind,
    /// The position of the header.
    pub position: Lsn,
    /// What was durable before the group was written.
    pub durable: Lsn,
    /// Bytes of frames; zero for a skip.
    pub length: u32,
}

/// What a group is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupKind {
    /// Holds frames.
    Frames,
    /// Says that the rest of the file is unused.
    Skip,
}

/// The position of the first block at or after `position`.
#[must_use]
pub const fn align_up(position: u64) -> u64 {
    position.saturating_add(BLOCK - 1) / BLOCK * BLOCK
}

/// The position of the block that holds `position`.
#[must_use]
pub const fn align_down(position: u64) -> u64 {
    position / BLOCK * BLOCK
}

impl Stream {
    /// The salt that a group's header at the start of `bytes` names, unchecked: for a file whose own
    /// header is damaged.
    #[must_use]
    pub fn salt_of(bytes: &[u8]) -> Option<u64> {
        let mut cursor = Cursor::new(bytes);
        let magic = cursor.u32("group magic").ok()?;
        cursor.array::<28>("up to the salt").ok()?;
        let salt = cursor.u64("salt").ok()?;
        (magic == GROUP_MAGIC).then_some(salt)
    }
}

impl JournalHeader {
    /// The header's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; FILE_HEADER_SIZE] {
        FileHeader {
            kind: FileKind::Journal,
            cluster: self.cluster,
            numbers: [self.session.0, self.sequence, self.area, self.salt],
        }
        .encode()
    }

    /// Reads the header at the start of `bytes`.
    ///
    /// # Errors
    ///
    /// [`FileError`] when it is no header of a journal file that this program can read.
    pub fn decode(bytes: &[u8]) -> Result<Self, FileError> {
        let header = FileHeader::decode(bytes, FileKind::Journal)?;
        let [session, sequence, area, salt] = header.numbers;
        let end = sequence.checked_add(1).and_then(|files| files.checked_mul(area));
        if area == 0 || !area.is_multiple_of(BLOCK) || end.is_none() {
            return Err(FileError::Checksum(FileKind::Journal));
        }
        let session = SessionId(session);
        Ok(Self { cluster: header.cluster, session, sequence, area, salt })
    }
}

impl Seal {
    /// The seal's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; FILE_HEADER_SIZE] {
        FileHeader {
            kind: FileKind::Seal,
            cluster: self.cluster,
            numbers: [self.session.0, self.end.0, 0, 0],
        }
        .encode()
    }

    /// Reads the seal at the start of `bytes`.
    ///
    /// # Errors
    ///
    /// [`FileError`] when it is no seal that this program can read.
    pub fn decode(bytes: &[u8]) -> Result<Self, FileError> {
        let header = FileHeader::decode(bytes, FileKind::Seal)?;
        let [session, end, ..] = header.numbers;
        Ok(Self { cluster: header.cluster, session: SessionId(session), end: Lsn(end) })
    }
}

impl GroupHeader {
    /// The header's bytes.
    #[must_use]
    pub fn encode(&self, stream: Stream) -> [u8; GROUP_HEADER_SIZE] {
        let kind = match self.kind {
            GroupKind::Frames => KIND_FRAMES,
            GroupKind::Skip => KIND_SKIP,
        };
        let out = Fixed::new()
            .put(&GROUP_MAGIC.to_be_bytes())
            .put(&self.length.to_be_bytes())
            .put(&stream.session.0.to_be_bytes())
            .put(&self.position.0.to_be_bytes())
            .put(&self.durable.0.to_be_bytes())
            .put(&stream.salt.to_be_bytes())
            .put(&[kind, 0, 0, 0]);
        let checksum = crc32c(out.filled());
        out.put(&checksum.to_be_bytes()).whole()
    }

    /// Reads the header at the start of `bytes`, which must be the one at `position` of `stream`.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when there is no such header.
    pub fn decode(bytes: &[u8], stream: Stream, position: Lsn) -> Result<Self, DecodeError> {
        let invalid = |field| Err(DecodeError::Invalid { field });
        let mut cursor = Cursor::new(bytes);
        if cursor.u32("group magic")? != GROUP_MAGIC {
            return invalid("group magic");
        }
        let length = cursor.u32("group length")?;
        if cursor.u64("group session")? != stream.session.0 {
            return invalid("group session");
        }
        if cursor.u64("group position")? != position.0 {
            return invalid("group position");
        }
        let durable = Lsn(cursor.u64("group durable")?);
        if cursor.u64("group salt")? != stream.salt {
            return invalid("group salt");
        }
        let kind = cursor.u8("group kind")?;
        let zero = cursor.array::<3>("group zero")?;
        let covered = bytes.get(..GROUP_HEADER_SIZE - 4).unwrap_or_default();
        if crc32c(covered) != cursor.u32("group checksum")? {
            return invalid("group checksum");
        }
        let kind = match kind {
            KIND_FRAMES => GroupKind::Frames,
            KIND_SKIP if length == 0 => GroupKind::Skip,
            _ => return invalid("group kind"),
        };
        if zero != [0; 3] || durable > position {
            return invalid("group durable");
        }
        Ok(Self { kind, position, durable, length })
    }

    /// Where the frames end. Saturates, which no position that is in use can reach.
    #[must_use]
    pub const fn frames_end(&self) -> Lsn {
        Lsn(self.position.0.saturating_add(GROUP_HEADER_SIZE as u64 + self.length as u64))
    }

    /// Where the first frame is.
    #[must_use]
    pub const fn frames_start(&self) -> Lsn {
        Lsn(self.position.0.saturating_add(GROUP_HEADER_SIZE as u64))
    }

    /// Where the next group starts, in a journal whose files have data areas of `area` bytes.
    #[must_use]
    pub const fn next(&self, area: u64) -> Lsn {
        match self.kind {
            GroupKind::Frames => Lsn(align_up(self.frames_end().0)),
            GroupKind::Skip => Lsn((self.position.0 / area).saturating_add(1).saturating_mul(area)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_types::Uuid;
    use proptest::prelude::*;

    fn groups() -> impl Strategy<Value = (GroupHeader, Stream)> {
        (any::<bool>(), any::<[u64; 4]>(), any::<u32>()).prop_map(|(skip, numbers, length)| {
            let [position, durable, session, salt] = numbers;
            let kind = if skip { GroupKind::Skip } else { GroupKind::Frames };
            let group = GroupHeader {
                kind,
                position: Lsn(position),
                durable: Lsn(durable.min(position)),
                length: if skip { 0 } else { length },
            };
            (group, Stream { session: SessionId(session), salt })
        })
    }

    #[test]
    fn todays_bytes_stay_todays_bytes() {
        let group = GroupHeader {
            kind: GroupKind::Frames,
            position: Lsn(8192),
            durable: Lsn(4096),
            length: 5,
        };
        let bytes = group.encode(Stream { session: SessionId(3), salt: 0x0102_0304_0506_0708 });
        let golden = [
            [0x4d, 0x53, 0x72, 0x67, 0, 0, 0, 5].as_slice(),
            &[0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0x20, 0],
            &[0, 0, 0, 0, 0, 0, 0x10, 0, 1, 2, 3, 4, 5, 6, 7, 8, 1, 0, 0, 0],
        ];
        assert_eq!(bytes[..44], golden.concat());
        assert_eq!(bytes[44..], [0xe7, 0x76, 0x7e, 0x9c], "CRC32C by another program");
    }

    #[test]
    fn the_next_group_is_found_by_arithmetic() {
        let check = |kind, position, length, next| {
            let group = GroupHeader { kind, position: Lsn(position), durable: Lsn(0), length };
            assert_eq!(group.next(8 * BLOCK), Lsn(next), "{group:?}");
        };
        check(GroupKind::Frames, 0, 1, BLOCK);
        check(GroupKind::Frames, BLOCK, 4048, 2 * BLOCK);
        check(GroupKind::Frames, BLOCK, 4049, 3 * BLOCK);
        check(GroupKind::Skip, BLOCK, 0, 8 * BLOCK);
        check(GroupKind::Skip, 8 * BLOCK, 0, 16 * BLOCK);
        check(GroupKind::Frames, u64::MAX - 4095, u32::MAX, u64::MAX / BLOCK * BLOCK);
    }

    proptest! {
        #[test]
        fn decode_reverses_encode((group, stream) in groups()) {
            let bytes = group.encode(stream);
            prop_assert_eq!(GroupHeader::decode(&bytes, stream, group.position), Ok(group));
        }

        #[test]
        fn damage_is_refused((group, stream) in groups(), bit in 0..GROUP_HEADER_SIZE * 8) {
            let mut bytes = group.encode(stream);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(GroupHeader::decode(&bytes, stream, group.position).is_err());
        }

        #[test]
        fn cuts_are_truncated((group, stream) in groups(), cut in 0..GROUP_HEADER_SIZE) {
            let found = GroupHeader::decode(&group.encode(stream)[..cut], stream, group.position);
            let truncated = matches!(found, Err(DecodeError::Truncated { .. }));
            // The checksum is looked at when it can be read, so a cut before it may show as that.
            prop_assert!(truncated, "{found:?}");
        }

        #[test]
        fn what_another_left_behind_is_refused(
            (group, stream) in groups(), session: u64, salt: u64, position: u64,
        ) {
            let bytes = group.encode(stream);
            let others = [
                (Stream { session: SessionId(session), ..stream }, group.position),
                (Stream { salt, ..stream }, group.position),
                (stream, Lsn(position)),
            ];
            for (other, at) in others {
                let same = other == stream && at == group.position;
                prop_assert_eq!(GroupHeader::decode(&bytes, other, at).is_ok(), same);
            }
        }

        #[test]
        fn file_headers_and_seals_round_trip(
            cluster: [u8; 16], session: u64, sequence in 0..1_u64 << 40, blocks in 1..1_u64 << 10,
            salt: u64, end: u64,
        ) {
            let (cluster, session) = (Uuid(cluster), SessionId(session));
            let header = JournalHeader { cluster, session, sequence, area: blocks * BLOCK, salt };
            prop_assert_eq!(JournalHeader::decode(&header.encode()), Ok(header));
            let seal = Seal { cluster, session, end: Lsn(end) };
            prop_assert_eq!(Seal::decode(&seal.encode()), Ok(seal));
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, session: u64, salt: u64, position: u64) {
            let stream = Stream { session: SessionId(session), salt };
            let _ = GroupHeader::decode(&bytes, stream, Lsn(position));
            let _ = JournalHeader::decode(&bytes);
            let _ = Seal::decode(&bytes);
        }
    }
}
