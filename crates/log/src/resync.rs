//! Where the batches of a run go on behind one whose header is damaged.
//!
//! A header says how long its batch is. Where it can't be believed, the index knows the next place, which
//! is some batches further on, or the run ends there. The batches in between are found by what they
//! are: a chain of headers, each beginning where the one before ends and with the offset after it, that
//! ends exactly at the next known place. That can't come about by accident, and whoever reads the batches
//! checks them as ever.

use millstream_record::BatchHeader;
use millstream_record::batch::HEADER_SIZE;
use millstream_types::Offset;

/// No more than this is searched, in bytes: a damaged batch that is larger is mostly alone up to the next
/// known place.
pub(crate) const SEARCHED_BYTES_MAX: u64 = 1024 * 1024;

/// A place in a run: a byte of it, and the offset of the batch that begins there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) position: u64,
    pub(crate) offset: Offset,
}

/// Where it goes on behind the damaged batch at `damaged`, before the next `known` place. `bytes` are
/// those of the run from the damaged batch on, as far as they were read.
pub(crate) fn find(bytes: &[u8], damaged: Known, known: Known, is_dense: bool) -> Option<Known> {
    let len = known.position.checked_sub(damaged.position)?;
    let searched = bytes.get(..usize::try_from(len).ok()?.min(bytes.len()))?;
    let starts = HEADER_SIZE..searched.len().saturating_sub(HEADER_SIZE - 1);
    let offset_at = |start: usize| {
        let first = searched.get(start..)?.first_chunk::<8>()?;
        let offset = Offset(i64::from_be_bytes(*first));
        (offset > damaged.offset && offset < known.offset).then_some(offset)
    };
    starts.filter_map(|start| Some((start, offset_at(start)?))).find_map(|(start, offset)| {
        let is_chain = leads(searched, start, len, known.offset, is_dense);
        is_chain.then(|| Known { position: damaged.position + start as u64, offset })
    })
}

/// Whether headers from `at` on lead to exactly `end`, where the batch at `last` begins.
fn leads(bytes: &[u8], mut at: usize, end: u64, last: Offset, is_dense: bool) -> bool {
    let mut expected = None;
    while let Some(Ok(header)) = bytes.get(at..).map(BatchHeader::decode) {
        let base = header.base_offset;
        let in_place =
            expected.is_none_or(|next| if is_dense { base == next } else { base >= next });
        let next = header.last_offset().next();
        if !in_place || header.last_offset_delta < 0 || next > last {
            return false;
        }
        at += header.size();
        if at as u64 >= end {
            return at as u64 == end && (next == last || !is_dense);
        }
        expected = Some(next);
    }
    false
}

#[cfg(test)]
mod tests {
    use millstream_record::BatchBuilder;
    use millstream_types::Timestamp;

    use super::*;

    /// Batches of one record with values of these sizes, from offset 10 on.
    fn run(sizes: &[usize]) -> (Vec<u8>, Vec<usize>) {
        let (mut run, mut starts) = (Vec::new(), Vec::new());
        for (offset, size) in (10_i64..).zip(sizes) {
            let mut batch = BatchBuilder::new();
            batch.append(Timestamp(1), None, Some(&vec![b'v'; *size]), &[]);
            let mut batch = batch.build().unwrap().to_vec();
            batch[..8].copy_from_slice(&offset.to_be_bytes());
            starts.push(run.len());
            run.extend(batch);
        }
        (run, starts)
    }

    /// The batch `hit` of four is damaged at `byte`; the index knows the first, and what comes after.
    #[track_caller]
    fn check(hit: usize, byte: usize, found: Option<usize>) {
        let (mut run, starts) = run(&[100, 20, 3_000, 5]);
        run[starts[hit] + byte] ^= 0x40;
        let damaged = Known { position: starts[hit] as u64, offset: Offset(10 + hit as i64) };
        let end = Known { position: run.len() as u64, offset: Offset(14) };
        let expected = found
            .map(|next| Known { position: starts[next] as u64, offset: Offset(10 + next as i64) });
        assert_eq!(find(&run[starts[hit]..], damaged, end, true), expected);
        // A batch that ends elsewhere than where the next is known to begin is none of them.
        let end = Known { position: end.position + 1, ..end };
        assert_eq!(find(&run[starts[hit]..], damaged, end, true), None);
    }

    #[test]
    fn the_next_batch_is_found_whatever_the_header_says() {
        // The offset, the length, the magic number, how many records there are.
        for byte in [0, 7, 8, 11, 16, 26, 57] {
            check(0, byte, Some(1));
            check(1, byte, Some(2));
            check(2, byte, Some(3));
            check(3, byte, None);
        }
    }

    #[test]
    fn what_a_record_holds_is_no_batch_of_the_log() {
        let (inner, _) = run(&[10, 20]);
        let mut batch = BatchBuilder::new();
        batch.append(Timestamp(1), None, Some(&inner), &[]);
        let mut bytes = batch.build().unwrap().to_vec();
        bytes[..8].copy_from_slice(&9_i64.to_be_bytes());
        let len = bytes.len() as u64;
        bytes.extend(run(&[40]).0);
        let end = Known { position: bytes.len() as u64, offset: Offset(11) };
        let damaged = Known { position: 0, offset: Offset(9) };
        let expected = Known { position: len, offset: Offset(10) };
        assert_eq!(find(&bytes, damaged, end, true), Some(expected));
    }

    #[test]
    fn any_bytes_are_searched_without_harm() {
        let (mut run, _) = run(&[100, 20, 30]);
        for cut in 0..run.len() {
            let end = Known { position: 1 << 40, offset: Offset(13) };
            assert_eq!(
                find(&run[..cut], Known { position: 0, offset: Offset(10) }, end, true),
                None
            );
        }
        run.truncate(30);
        let end = Known { position: 5, offset: Offset(13) };
        assert_eq!(find(&run, Known { position: 7, offset: Offset(10) }, end, true), None);
    }
}
