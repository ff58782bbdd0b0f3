//! A stretch of memory of its own.

use std::io;
use std::ops::{Deref, DerefMut};

use memmap2::{MmapMut, MmapRaw};

/// The size of a huge page in bytes, and what addresses here are multiples of.
pub const HUGE: usize = 2 * 1024 * 1024;

/// Bytes that begin at a huge page: zeros at first. They go back to the system when this is dropped, and those
/// that are never touched are never taken from it, 2 MiB at a time.
#[derive(Debug)]
pub struct Pages {
    map: MmapMut,
    start: usize,
    size: usize,
}

impl Pages {
    /// At least `size` bytes, to the end of a huge page.
    ///
    /// # Errors
    ///
    /// When the system has no address space left.
    pub fn new(size: usize) -> io::Result<Self> {
        let size = size.next_multiple_of(HUGE);
        let map = map(size)?;
        let start = map.as_ptr().align_offset(HUGE);
        Ok(Self { map, start, size })
    }
}

impl Deref for Pages {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.map.get(self.start..self.start + self.size).unwrap_or_default()
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.map.get_mut(self.start..self.start + self.size).unwrap_or_default()
    }
}

impl AsRef<[u8]> for Pages {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// The same for those who borrow parts of it by themselves, and where it begins.
pub(crate) fn raw(size: usize) -> io::Result<(MmapRaw, usize)> {
    let map = MmapRaw::from(map(size)?);
    let start = map.as_ptr().align_offset(HUGE);
    Ok((map, start))
}

/// `size` bytes, and as many more as it takes to begin at a huge page.
fn map(size: usize) -> io::Result<MmapMut> {
    let map = MmapMut::map_anon(size + HUGE)?;
    // Advice: without it the same memory comes in small pages.
    #[cfg(target_os = "linux")]
    let _ = map.advise(memmap2::Advice::HugePage);
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_at_a_huge_page_and_is_as_long_as_was_asked_for() {
        for size in [1, 4096, HUGE - 1, HUGE, HUGE + 1, 9 * HUGE] {
            let mut pages = Pages::new(size).unwrap();
            assert_eq!(pages.as_ptr().align_offset(HUGE), 0, "{size}");
            assert_eq!(pages.len(), size.next_multiple_of(HUGE), "{size}");
            assert!(pages.iter().step_by(4096).all(|&byte| byte == 0), "{size}");
            pages.fill(7);
            assert_eq!(pages.as_ref().last(), Some(&7), "{size}");
        }
    }
}
