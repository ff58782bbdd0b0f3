//! Blobs as a whole: what they say of themselves, and which of them nothing refers to.

use std::collections::BTreeMap;

use millstream_env::{BlobError, BlobName};
use millstream_record::file::{FILE_HEADER_SIZE, FileHeader, FileKind};
use millstream_record::run::Run;
use millstream_record::segment::{FOOTER_SIZE, Footer};

use super::{Finding, FindingKind, Offline, Place};
use crate::blobs::is_checkpoint;

impl Offline {
    /// Checks header, directory and footer of every segment and pack in use, and looks for blobs
    /// that nothing refers to. Missing ones show when their partitions are read.
    pub async fn check_blobs(&self) -> Vec<Finding> {
        let mut used = BTreeMap::<&str, Vec<Run>>::new();
        for segment in self.partitions.values().flat_map(|stored| &stored.segments) {
            used.entry(&segment.blob).or_default().push(segment.run);
        }
        let listed = match self.stores.blobs.list("").await {
            Ok(listed) => listed,
            Err(error) => return vec![Finding::new(FindingKind::Storage, error.to_string())],
        };
        let mut findings = Vec::new();
        for (name, size) in listed {
            let place = Place::Blob { name: name.clone(), position: 0 };
            match used.get(name.as_str()) {
                Some(runs) => {
                    let (kind, why) = match self.check_segment(&name, size, runs).await {
                        Ok(None) => continue,
                        Ok(Some(why)) => (FindingKind::Segment, why),
                        Err(error) => (FindingKind::Storage, error.to_string()),
                    };
                    findings.extend(runs.iter().map(|run| {
                        let finding = Finding::new(kind, why.clone()).at(place.clone());
                        finding.of(run.partition).offsets(run.base..run.end)
                    }));
                }
                None if self.checkpoints.contains(&name) => {}
                // Nobody can say what the one that can't be read adds to.
                None if self.is_blind && is_checkpoint(&name) => {}
                None => {
                    let why = format!("nothing refers to this file of {size} bytes");
                    findings.push(Finding::new(FindingKind::Orphan, why).at(place));
                }
            }
        }
        findings
    }
    /// What is wrong with a segment that holds `runs`, apart from batches and indexes.
    async fn check_segment(
        &self,
        name: &BlobName,
        size: u64,
        runs: &[Run],
    ) -> Result<Option<String>, BlobError> {
        let get = |from: u64, upto: u64| self.stores.blobs.get(name.clone(), Some(from..upto));
        let head = get(0, FILE_HEADER_SIZE as u64).await?;
        let header = FileHeader::decode(&head, FileKind::Segment);
        if let Err(error) = header.and_then(|header| header.of(self.stores.cluster)) {
            return Ok(Some(error.to_string()));
        }
        let footer = get(size.saturating_sub(FOOTER_SIZE as u64), size).await?;
        let footer = match Footer::decode(&footer) {
            Ok(footer) => footer,
            Err(error) => return Ok(Some(format!("the footer can't be read: {error}"))),
        };
        let start = footer.directory_position;
        let end = start.saturating_add(footer.directory_len.into());
        if end.saturating_add(FOOTER_SIZE as u64) != size {
            return Ok(Some("the directory does not lie before the footer".to_owned()));
        }
        let listed = match footer.runs(&get(start, end).await?) {
            Ok(listed) => listed,
            Err(error) => return Ok(Some(format!("the directory can't be read: {error}"))),
        };
        let unlisted = runs.iter().find(|run| !listed.contains(run));
        Ok(unlisted.map(|run| {
            let (id, base, end) = (run.partition, run.base, run.end);
            format!("the directory does not list the run of {id} from {base} to {end}")
        }))
    }
}
