//! The contents of one simulated file.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IoSlice;
use std::ops::RangeInclusive;

use crate::util::Dice;

const PAGE: usize = 4096;
const SECTOR: usize = 512;
const SECTORS: usize = PAGE / SECTOR;

/// A file's bytes. Pages that were never written are not there and read as zeros.
#[derive(Clone, Default)]
pub(super) struct Inode {
    pages: BTreeMap<u64, Page>,
    size: u64,
    durable_size: u64,
    /// Bits that were flipped by hand and not written since, by byte.
    flipped: BTreeMap<u64, u8>,
    /// Sectors that can't be read until they are written.
    broken: BTreeSet<u64>,
}

#[derive(Clone)]
struct Page {
    now: Box<[u8; PAGE]>,
    /// What is on the medium, where that may differ.
    medium: Option<Box<[u8; PAGE]>>,
    /// Sectors that were written since the last sync, one bit each.
    dirty: u8,
    /// Sectors that a failed sync has not written, and that no later one will.
    lost: u8,
}

impl Inode {
    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn read(&self, out: &mut [u8], position: u64) -> usize {
        let left = self.size.saturating_sub(position);
        let count = out.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let out = &mut out[..count];
        out.fill(0);
        for (page, at, range) in pieces(position, count) {
            if let Some(page) = self.pages.get(&page) {
                let len = range.len();
                out[range].copy_from_slice(&page.now[at..at + len]);
            }
        }
        count
    }

    /// Whether none of the sectors is broken.
    pub(super) fn is_readable(&self, position: u64, count: usize) -> bool {
        count == 0 || self.broken.range(sectors(position, count)).next().is_none()
    }

    pub(super) fn write(&mut self, bytes: &[u8], position: u64) {
        if !self.flipped.is_empty() {
            let written = position..position + bytes.len() as u64;
            self.flipped.retain(|byte, _| !written.contains(byte));
        }
        if !self.broken.is_empty() && !bytes.is_empty() {
            let written = sectors(position, bytes.len());
            self.broken.retain(|sector| !written.contains(sector));
        }
        for (number, at, range) in pieces(position, bytes.len()) {
            let bytes = &bytes[range];
            if !self.pages.contains_key(&number) && bytes.iter().all(|&byte| byte == 0) {
                continue;
            }
            let page = self.pages.entry(number).or_insert_with(Page::zero);
            page.write(at, bytes);
        }
        self.size = self.size.max(position + bytes.len() as u64);
    }

    /// Writes any of the sectors.
    pub(super) fn write_torn(&mut self, parts: &[IoSlice<'_>], position: u64, dice: &mut Dice) {
        let keep = dice.share();
        let mut at = position;
        for sector in parts.iter().flat_map(|part| part.chunks(SECTOR)) {
            if dice.chance(keep) {
                self.write(sector, at);
            }
            at += sector.len() as u64;
        }
    }

    pub(super) fn resize(&mut self, size: u64) {
        if size < self.size {
            let zeros = vec![0; usize::try_from(self.size - size).unwrap_or(usize::MAX)];
            self.write(&zeros, size);
        }
        self.size = size;
    }

    pub(super) fn sync(&mut self) {
        for page in self.pages.values_mut() {
            page.sync(u8::MAX);
        }
        self.durable_size = self.size;
    }

    pub(super) fn fail_sync(&mut self, dice: &mut Dice, keep: u8) {
        for page in self.pages.values_mut() {
            let mut kept = 0;
            for sector in 0..SECTORS {
                kept |= u8::from(dice.chance(keep)) << sector;
            }
            page.sync(kept);
            page.lost |= page.dirty;
            page.dirty = 0;
        }
    }

    pub(super) fn drop_cache(&mut self) {
        for page in self.pages.values_mut() {
            for sector in 0..SECTORS {
                if page.lost & (1 << sector) != 0 {
                    page.revert(sector, 0);
                }
            }
            page.lost = 0;
            page.settle();
        }
    }

    pub(super) fn power_cut(&mut self, dice: &mut Dice, keep: u8) {
        for page in self.pages.values_mut() {
            for sector in 0..SECTORS {
                let bit = 1 << sector;
                if page.lost & bit != 0 {
                    page.revert(sector, 0);
                } else if page.dirty & bit != 0 && !dice.chance(keep) {
                    // Mostly whole sectors are lost; a torn one keeps its first bytes.
                    let torn = dice.below(8) == 0;
                    let kept = if torn { dice.below(SECTOR as u64) as usize } else { 0 };
                    page.revert(sector, kept);
                }
            }
            (page.dirty, page.lost) = (0, 0);
            page.settle();
        }
        if !dice.chance(keep) {
            let size = self.durable_size.min(self.size);
            self.resize(size);
            self.size = self.durable_size;
        }
        self.sync();
    }

    pub(super) fn flipped(&self) -> impl Iterator<Item = u64> {
        self.flipped.keys().copied()
    }

    pub(super) fn flip_bit(&mut self, byte: u64, bit: u8) -> bool {
        *self.flipped.entry(byte).or_default() ^= 1 << (bit % 8);
        self.flip(byte, 1 << (bit % 8));
        byte < self.size
    }

    pub(super) fn break_sector(&mut self, byte: u64) -> bool {
        self.broken.extend(sectors(byte, 1));
        byte < self.size
    }

    pub(super) fn heal(&mut self) {
        self.broken.clear();
        for (byte, bits) in std::mem::take(&mut self.flipped) {
            self.flip(byte, bits);
        }
    }

    fn flip(&mut self, byte: u64, bits: u8) {
        let page = self.pages.entry(byte / PAGE as u64).or_insert_with(Page::zero);
        let at = usize::try_from(byte % PAGE as u64).unwrap_or(0);
        for copy in std::iter::once(&mut page.now).chain(&mut page.medium) {
            copy[at] ^= bits;
        }
    }
}

impl Page {
    fn zero() -> Self {
        Self { now: Box::new([0; PAGE]), medium: None, dirty: 0, lost: 0 }
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        if self.medium.is_none() {
            self.medium = Some(self.now.clone());
        }
        self.now[at..at + bytes.len()].copy_from_slice(bytes);
        for sector in at / SECTOR..(at + bytes.len()).div_ceil(SECTOR) {
            self.dirty |= 1 << sector;
            self.lost &= !(1 << sector);
        }
    }

    /// Makes the dirty ones of `sectors` durable.
    fn sync(&mut self, sectors: u8) {
        let Some(medium) = &mut self.medium else { return };
        for sector in 0..SECTORS {
            if self.dirty & sectors & (1 << sector) != 0 {
                let range = sector * SECTOR..(sector + 1) * SECTOR;
                medium[range.clone()].copy_from_slice(&self.now[range]);
            }
        }
        self.dirty &= !sectors;
        self.settle();
    }

    /// Puts a sector back to what the medium holds, but for its first `kept` bytes.
    fn revert(&mut self, sector: usize, kept: usize) {
        if let Some(medium) = &self.medium {
            let range = sector * SECTOR + kept..(sector + 1) * SECTOR;
            self.now[range.clone()].copy_from_slice(&medium[range]);
        }
    }

    /// Forgets the second copy when the two are equal.
    fn settle(&mut self) {
        if self.dirty == 0 && self.lost == 0 {
            self.medium = None;
        }
    }
}

/// The sectors of a range of bytes that is not empty.
fn sectors(position: u64, count: usize) -> RangeInclusive<u64> {
    position / SECTOR as u64..=(position + count as u64 - 1) / SECTOR as u64
}

/// The pages of a range of bytes: number, place in the page, place in the range.
fn pieces(
    position: u64,
    count: usize,
) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == count {
            return None;
        }
        let at = position + done as u64;
        let in_page = usize::try_from(at % PAGE as u64).ok()?;
        let len = (PAGE - in_page).min(count - done);
        let piece = (at / PAGE as u64, in_page, done..done + len);
        done += len;
        Some(piece)
    })
}
