//! What belongs to a backup: a list of files, for programs and for people.
//!
//! ```text
//! millstream backup 1
//! cluster MkU3OEVBNTcwNTJENDM2Qg
//! e3069283 4096 journal/00000000000000000001-00000000000000000000.log
//! ...                                             checksum (CRC32C), bytes, path
//! end 1c291ca3                                    checksum of all lines before
//! ```
//!
//! Laws: decoding is total; `decode(encode(m)) == m`; what is cut or changed is refused.

use std::fmt::Write as _;

use millstream_record::crc32c;
use millstream_types::{ClusterId, Uuid};

const FIRST: &str = "millstream backup ";
const VERSION: &str = "1";

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Whose data it is.
    pub cluster: ClusterId,
    /// The files, by path.
    pub parts: Vec<Part>,
}

/// One file of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Where it is below the backup's directory; its parts are joined by slashes.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its CRC32C.
    pub checksum: u32,
}

/// Why a manifest can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It is not what was written, or not all of it.
    #[error("line {0} is damaged or missing")]
    Damaged(usize),
    /// A newer program wrote it.
    #[error(
        "it has version {0}, and this program knows {VERSION}: restore it with a newer release"
    )]
    Version(String),
}

impl Manifest {
    /// How many bytes the files have.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.size).fold(0, u64::saturating_add)
    }

    /// The manifest as text.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = format!("{FIRST}{VERSION}\ncluster {}\n", self.cluster);
        for Part { path, size, checksum } in &self.parts {
            // Writing to a string can't fail.
            let _ = writeln!(text, "{checksum:08x} {size} {path}");
        }
        let end = crc32c(text.as_bytes());
        let _ = writeln!(text, "end {end:08x}");
        text
    }

    /// Reads what [`Manifest::encode`] wrote.
    ///
    /// # Errors
    ///
    /// [`ManifestError`] when it is anything else.
    pub fn decode(text: &str) -> Result<Self, ManifestError> {
        let version = text.lines().next().and_then(|line| line.strip_prefix(FIRST));
        match version {
            Some(VERSION) => {}
            Some(newer) if !newer.is_empty() && newer.bytes().all(|b| b.is_ascii_digit()) => {
                return Err(ManifestError::Version(newer.to_owned()));
            }
            _ => return Err(ManifestError::Damaged(1)),
        }
        let count = text.lines().count();
        let rest = text.strip_suffix('\n').ok_or(ManifestError::Damaged(count))?;
        let (_, end) = rest.rsplit_once('\n').ok_or(ManifestError::Damaged(count))?;
        let body = text.get(..text.len() - end.len() - 1).unwrap_or_default();
        if end != format!("end {:08x}", crc32c(body.as_bytes())) {
            return Err(ManifestError::Damaged(count));
        }
        let mut lines = body.lines().zip(1..).skip(1);
        let cluster = lines.next().and_then(|(line, _)| line.strip_prefix("cluster "));
        let cluster = cluster.and_then(Uuid::parse).ok_or(ManifestError::Damaged(2))?;
        let parts = lines.map(|(line, at)| part(line).ok_or(ManifestError::Damaged(at)));
        Ok(Self { cluster, parts: parts.collect::<Result<_, _>>()? })
    }
}

fn part(line: &str) -> Option<Part> {
    let mut words = line.splitn(3, ' ');
    let checksum = u32::from_str_radix(words.next()?, 16).ok()?;
    let size = words.next()?.parse().ok()?;
    let path = words.next()?;
    // A path that leads elsewhere is none of ours.
    let is_name = |name: &str| !name.is_empty() && name != "." && name != "..";
    path.split('/').all(is_name).then(|| Part { path: path.to_owned(), size, checksum })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let part = |path: &str, size, checksum| Part { path: path.to_owned(), size, checksum };
        let parts = vec![
            part("blobs/seg/1-1.blob", 123_456, 0xe306_9283),
            part("cluster", 64, 1),
            part("journal/with a space", 0, 0),
        ];
        Manifest { cluster: Uuid([7; 16]), parts }
    }

    #[test]
    fn what_is_written_is_read() {
        for manifest in [manifest(), Manifest { parts: Vec::new(), ..manifest() }] {
            assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest));
        }
    }

    #[test]
    fn what_is_cut_or_changed_is_refused() {
        let text = manifest().encode();
        for cut in 0..text.len() {
            assert!(Manifest::decode(&text[..cut]).is_err(), "{cut}");
        }
        for at in 0..text.len() {
            for bit in 0..7 {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                if let Ok(changed) = String::from_utf8(bytes) {
                    assert!(Manifest::decode(&changed).is_err(), "{changed}");
                }
            }
        }
        assert!(Manifest::decode("").is_err());
    }

    #[test]
    fn newer_ones_and_paths_that_lead_elsewhere_are_refused() {
        let newer = manifest().encode().replacen("backup 1", "backup 2", 1);
        assert_eq!(Manifest::decode(&newer), Err(ManifestError::Version("2".to_owned())));
        for path in ["../x", "/x", "a//b", "a/./b", ""] {
            let parts = vec![Part { path: path.to_owned(), size: 0, checksum: 0 }];
            let manifest = Manifest { parts, ..manifest() };
            assert_eq!(Manifest::decode(&manifest.encode()), Err(ManifestError::Damaged(3)));
        }
    }
}
