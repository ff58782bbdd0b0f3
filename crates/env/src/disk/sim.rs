//! A disk in memory whose power can be cut.
//!
//! Every file is kept twice: as its users see it, and, where that differs, as it is on the medium.
//! A sync makes them equal. A power cut keeps, drops or tears each 512-byte sector in which they
//! differ, and applies any subset of a directory's pending changes: what a real disk may do.

mod inode;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, ErrorKind, IoSlice};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::disk::{Access, Caching, DirEntry, Disk, DiskFile, Space, parent};
use crate::util::{Dice, lock};
use crate::world::Env;
use inode::Inode;

/// What can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Any of those that change something: all but reading.
    Any,
    /// Reading from a file.
    Read,
    /// Writing into a file, or changing its length.
    Write,
    /// Making a file durable.
    Sync,
    /// Creating, renaming or removing a name, or making names durable.
    Name,
}

/// What happens then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The operation fails. Of a sync, some sectors become durable, and the others never do, though
    /// later syncs report success.
    Fail,
    /// A write stops halfway; other operations fail.
    Short,
    /// Of a write any of its sectors arrive, and it fails; so do other operations.
    Torn,
    /// A bit flips on the way, and nobody notices: of a read in what is returned, of a write in what is
    /// stored. Other operations go well.
    Flip,
    /// There is no space left for this one.
    Full,
    /// The disk is full from then on, until [`SimDisk::set_capacity`] says otherwise.
    Fills,
    /// The power goes during the operation, and nothing works until [`SimDisk::power_cut`].
    PowerCut,
    /// The process is killed after the operation, and nothing works until [`SimDisk::kill`].
    Kill,
}

/// A fault to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultAt {
    /// Which operations count.
    pub on: Operation,
    /// How many of them come before, unharmed.
    pub after: u64,
    /// What happens to the next one.
    pub fault: Fault,
}

/// A disk in memory, and the machine around it. The same seed and the same calls give the same
/// faults.
pub struct SimDisk {
    state: Mutex<State>,
}

struct State {
    dice: Dice,
    /// Rises with each restart: who opened something before has lost it.
    boot: u64,
    /// Whether the power has gone or the process was killed, by which fault.
    off: Option<Fault>,
    names: BTreeMap<String, Arc<Mutex<Inode>>>,
    durable_names: BTreeMap<String, Arc<Mutex<Inode>>>,
    /// Changes to names that no sync has made durable, by directory.
    pending: BTreeMap<String, Vec<Change>>,
    /// How many changes of names there have been.
    changes: u64,
    locks: BTreeMap<String, String>,
    faults: Vec<FaultAt>,
    operations: u64,
    /// Bytes written, in whole blocks, by folder.
    written: BTreeMap<Box<str>, u64>,
    ignore_sync: bool,
    capacity: Option<u64>,
    slow: Option<(Env, Duration)>,
}

/// One change to the names of a directory. On the medium it happens as a whole or not at all.
#[derive(Clone)]
struct Change {
    /// How many changes came before.
    number: u64,
    unlink: Option<String>,
    link: Option<Link>,
}

/// A name, and what it stands for.
type Link = (String, Arc<Mutex<Inode>>);

/// The disk as one run of the machine sees it.
#[derive(Debug)]
struct Mounted {
    disk: Arc<SimDisk>,
    boot: u64,
    lock: Mutex<Option<SimLock>>,
}

struct SimFile {
    disk: Arc<SimDisk>,
    boot: u64,
    direct: bool,
    /// Where it lies: the first part of its path.
    folder: Box<str>,
    inode: Arc<Mutex<Inode>>,
}

#[derive(Debug)]
struct SimLock {
    disk: Arc<SimDisk>,
    boot: u64,
    path: String,
}

impl SimDisk {
    /// An empty disk.
    #[must_use]
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                dice: Dice::new(seed),
                boot: 0,
                off: None,
                names: BTreeMap::new(),
                durable_names: BTreeMap::new(),
                pending: BTreeMap::new(),
                changes: 0,
                locks: BTreeMap::new(),
                faults: Vec::new(),
                operations: 0,
                written: BTreeMap::new(),
                ignore_sync: false,
                capacity: None,
                slow: None,
            }),
        })
    }

    /// Bytes that were written to files in a folder of the root, in whole blocks of 4 KiB: what a
    /// disk takes.
    #[must_use]
    pub fn written(&self, folder: &str) -> u64 {
        lock(&self.state).written.get(folder).copied().unwrap_or_default()
    }

    /// The disk for who runs now, until [`SimDisk::power_cut`] or [`SimDisk::kill`].
    #[must_use]
    pub fn mount(self: &Arc<Self>) -> Arc<dyn Disk> {
        let boot = lock(&self.state).boot;
        Arc::new(Mounted { disk: Arc::clone(self), boot, lock: Mutex::new(None) })
    }

    /// Cuts the power and switches it on again. What was not synced is kept, lost or torn, sector
    /// by sector and name by name. Everything that was open is dead, and no fault is planned any more.
    pub fn power_cut(&self) {
        let mut state = lock(&self.state);
        let state = &mut *state;
        let mut names = state.durable_names.clone();
        for changes in std::mem::take(&mut state.pending).into_values() {
            let keep = state.dice.share();
            for change in changes {
                if state.dice.chance(keep) {
                    change.apply(&mut names);
                }
            }
        }
        let mut seen = BTreeSet::new();
        let keep = state.dice.share();
        for inode in names.values() {
            if seen.insert(Arc::as_ptr(inode) as usize) {
                lock(inode).power_cut(&mut state.dice, keep);
            }
        }
        state.names = names.clone();
        state.durable_names = names;
        state.restart();
    }

    /// Kills the process and starts it again: everything that was open is dead, and what was
    /// written is there, though not durable. No fault is planned any more. When the power has gone
    /// by a planned fault, this is a power cut.
    pub fn kill(&self) {
        let mut state = lock(&self.state);
        if state.off != Some(Fault::PowerCut) {
            return state.restart();
        }
        drop(state);
        self.power_cut();
    }

    /// Whether a planned fault has killed the process, and left the power on.
    #[must_use]
    pub fn is_killed(&self) -> bool {
        lock(&self.state).off == Some(Fault::Kill)
    }

    /// Plans a fault.
    pub fn plan(&self, fault: FaultAt) {
        lock(&self.state).faults.push(fault);
    }

    /// How many planned faults have not happened yet.
    #[must_use]
    pub fn faults_left(&self) -> usize {
        lock(&self.state).faults.len()
    }

    /// Forgets the faults that are planned for such operations.
    pub fn clear_faults(&self, on: Operation) {
        lock(&self.state).faults.retain(|fault| fault.on != on);
    }

    /// How many operations that change something there have been.
    #[must_use]
    pub fn operations(&self) -> u64 {
        lock(&self.state).operations
    }

    /// Whether a planned fault has cut the power or killed the process.
    #[must_use]
    pub fn is_off(&self) -> bool {
        lock(&self.state).off.is_some()
    }

    /// Makes files' syncs do nothing and report success: what a build without flushes would do. A
    /// test of durability that does not fail then tests nothing.
    pub fn ignore_sync(&self, ignore: bool) {
        lock(&self.state).ignore_sync = ignore;
    }

    /// Lets so much time pass before each piece of work from now on.
    pub fn slow_down(&self, env: &Env, each: Duration) {
        lock(&self.state).slow = Some((env.clone(), each));
    }

    /// Limits the sum of all files' lengths, in bytes.
    pub fn set_capacity(&self, capacity: Option<u64>) {
        lock(&self.state).capacity = capacity;
    }

    /// The sum of all files' lengths, in bytes.
    #[must_use]
    pub fn used(&self) -> u64 {
        lock(&self.state).used()
    }

    /// Flips one bit of a file, on the medium and in the cache. Whether there was such a byte.
    pub fn flip_bit(&self, path: &str, byte: u64, bit: u8) -> bool {
        let inode = lock(&self.state).names.get(path).cloned();
        inode.is_some_and(|inode| lock(&inode).flip_bit(byte, bit))
    }

    /// Makes the sector that holds a byte unreadable, until it is written again. Whether there was
    /// such a byte.
    pub fn break_sector(&self, path: &str, byte: u64) -> bool {
        let inode = lock(&self.state).names.get(path).cloned();
        inode.is_some_and(|inode| lock(&inode).break_sector(byte))
    }

    /// Undoes what [`SimDisk::flip_bit`] and [`SimDisk::break_sector`] did to files that `path` is
    /// true for, where nothing else was written since: somebody has restored them from a copy.
    pub fn heal(&self, path: impl Fn(&str) -> bool) {
        let state = lock(&self.state);
        for (_, inode) in state.names.iter().filter(|(name, _)| path(name)) {
            lock(inode).heal();
        }
    }

    /// The places where bits are flipped, by a planned fault or by hand, and nothing was written since.
    #[must_use]
    pub fn flipped(&self) -> Vec<(String, u64)> {
        let state = lock(&self.state);
        let of = |(path, inode): (&String, &Arc<Mutex<Inode>>)| {
            lock(inode).flipped().map(|byte| (path.clone(), byte)).collect::<Vec<_>>()
        };
        state.names.iter().flat_map(of).collect()
    }

    /// Another disk with the same files, for a machine that starts anew; `seed` is for its faults. Names
    /// that are not durable yet are so there.
    #[must_use]
    pub fn copy(&self, seed: u64) -> Arc<Self> {
        let copy = Self::new(seed);
        let mut copied = lock(&copy.state);
        let state = lock(&self.state);
        for (path, inode) in &state.names {
            let inode = Arc::new(Mutex::new(lock(inode).clone()));
            copied.names.insert(path.clone(), inode);
        }
        copied.durable_names = copied.names.clone();
        copied.capacity = state.capacity;
        drop((copied, state));
        copy
    }

    /// What a file holds, as its users see it; nothing when it is not there.
    #[must_use]
    pub fn contents(&self, path: &str) -> Vec<u8> {
        let inode = lock(&self.state).names.get(path).cloned();
        let read = |inode: Arc<Mutex<Inode>>| {
            let inode = lock(&inode);
            let mut all = vec![0; usize::try_from(inode.size()).unwrap_or(0)];
            inode.read(&mut all, 0);
            all
        };
        inode.map(read).unwrap_or_default()
    }

    /// The places where files hold `bytes`, which are not empty, as their users see them.
    #[must_use]
    pub fn find(&self, bytes: &[u8]) -> Vec<(String, u64)> {
        let state = lock(&self.state);
        let mut found = Vec::new();
        for (path, inode) in &state.names {
            let inode = lock(inode);
            let mut all = vec![0; usize::try_from(inode.size()).unwrap_or(0)];
            inode.read(&mut all, 0);
            let at = |(at, window): (usize, &[u8])| (window == bytes).then_some(at as u64);
            let places = all.windows(bytes.len().max(1)).enumerate().filter_map(at);
            found.extend(places.map(|at| (path.clone(), at)));
        }
        found
    }

    /// All files with their lengths, by path.
    #[must_use]
    pub fn files(&self) -> Vec<(String, u64)> {
        let state = lock(&self.state);
        state.names.iter().map(|(path, inode)| (path.clone(), lock(inode).size())).collect()
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimDisk").finish_non_exhaustive()
    }
}

impl State {
    fn restart(&mut self) {
        self.boot += 1;
        self.off = None;
        self.locks.clear();
        self.faults.clear();
    }

    fn check(&self, boot: u64) -> io::Result<()> {
        if self.off.is_some() || boot != self.boot {
            return Err(dead());
        }
        Ok(())
    }

    /// Counts an operation, and says which fault hits it.
    fn begin(&mut self, boot: u64, kind: Operation) -> io::Result<Option<Fault>> {
        self.check(boot)?;
        let changes = kind != Operation::Read;
        self.operations += u64::from(changes);
        let mut hit = None;
        self.faults.retain_mut(|planned| {
            if planned.on != kind && !(planned.on == Operation::Any && changes) {
                return true;
            }
            if planned.after > 0 || hit.is_some() {
                planned.after = planned.after.saturating_sub(1);
                return true;
            }
            hit = Some(planned.fault);
            false
        });
        if let Some(Fault::PowerCut | Fault::Kill) = hit {
            self.off = hit;
        }
        if hit == Some(Fault::Fills) {
            self.capacity = Some(self.used());
            hit = None;
        }
        // Only bytes have bits.
        let has_bytes = matches!(kind, Operation::Read | Operation::Write);
        Ok(hit.filter(|hit| has_bytes || *hit != Fault::Flip))
    }

    fn change(
        &mut self,
        boot: u64,
        dir: &str,
        unlink: Option<String>,
        link: Option<Link>,
    ) -> io::Result<()> {
        self.changes += 1;
        let change = Change { number: self.changes, unlink, link };
        match self.begin(boot, Operation::Name)? {
            Some(Fault::Full) => Err(ErrorKind::StorageFull.into()),
            Some(Fault::Fail | Fault::Short | Fault::Torn) => {
                Err(io::Error::other("planned failure"))
            }
            Some(Fault::PowerCut) => {
                self.pending.entry(dir.to_owned()).or_default().push(change);
                Err(dead())
            }
            hit => {
                change.apply(&mut self.names);
                self.pending.entry(dir.to_owned()).or_default().push(change);
                if hit.is_some() { Err(dead()) } else { Ok(()) }
            }
        }
    }

    fn inode(&self, boot: u64, path: &str) -> io::Result<Arc<Mutex<Inode>>> {
        self.check(boot)?;
        self.names.get(path).cloned().ok_or_else(|| ErrorKind::NotFound.into())
    }

    /// Whether a file may grow by `more` bytes.
    fn has_room(&self, more: u64) -> bool {
        let Some(capacity) = self.capacity else { return true };
        more == 0 || self.used().saturating_add(more) <= capacity
    }

    fn used(&self) -> u64 {
        self.names.values().map(|inode| lock(inode).size()).sum()
    }
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<String, Arc<Mutex<Inode>>>) {
        if let Some(path) = &self.unlink {
            names.remove(path);
        }
        if let Some((path, inode)) = &self.link {
            names.insert(path.clone(), Arc::clone(inode));
        }
    }
}

impl Mounted {
    fn rename_to(&self, from: &str, to: &str, replace: bool) -> io::Result<()> {
        let mut state = lock(&self.disk.state);
        let inode = state.inode(self.boot, from)?;
        if !replace && state.names.contains_key(to) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        state.change(self.boot, parent(to), Some(from.to_owned()), Some((to.to_owned(), inode)))
    }
}

impl Disk for Mounted {
    fn in_memory(&self) -> bool {
        true
    }

    fn pause(&self) -> Option<BoxFuture<'static, ()>> {
        let (env, each) = lock(&self.disk.state).slow.clone()?;
        Some(env.sleep(each))
    }

    fn open(&self, path: &str, access: Access, caching: Caching) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = lock(&self.disk.state);
        let inode = match (access, state.inode(self.boot, path)) {
            (Access::Create, Ok(_)) => return Err(ErrorKind::AlreadyExists.into()),
            (Access::Create, Err(error)) if error.kind() == ErrorKind::NotFound => {
                let inode = Arc::new(Mutex::new(Inode::default()));
                let link = Some((path.to_owned(), Arc::clone(&inode)));
                state.change(self.boot, parent(path), None, link)?;
                inode
            }
            (_, found) => found?,
        };
        let direct = caching == Caching::Direct;
        let folder = path.split('/').next().unwrap_or(path).into();
        let disk = Arc::clone(&self.disk);
        Ok(Arc::new(SimFile { disk, boot: self.boot, direct, folder, inode }))
    }

    // Directories are where there are names; that they are durable is part of the contract.
    fn create_dir(&self, _path: &str) -> io::Result<()> {
        lock(&self.disk.state).check(self.boot)
    }

    fn remove_dir(&self, _path: &str) -> io::Result<()> {
        lock(&self.disk.state).check(self.boot)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<DirEntry>> {
        let state = lock(&self.disk.state);
        state.check(self.boot)?;
        let prefix = if dir.is_empty() { String::new() } else { format!("{dir}/") };
        let mut found = BTreeMap::new();
        for (path, inode) in state.names.range(prefix.clone()..) {
            let Some(rest) = path.strip_prefix(&prefix) else { break };
            let entry = match rest.split_once('/') {
                Some((name, _)) => DirEntry { name: name.to_owned(), size: 0, is_dir: true },
                None => DirEntry { name: rest.to_owned(), size: lock(inode).size(), is_dir: false },
            };
            found.insert(entry.name.clone(), entry);
        }
        Ok(found.into_values().collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.rename_to(from, to, true)
    }

    fn publish(&self, from: &str, to: &str) -> io::Result<()> {
        self.rename_to(from, to, false)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut state = lock(&self.disk.state);
        state.inode(self.boot, path)?;
        state.change(self.boot, parent(path), Some(path.to_owned()), None)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let mut state = lock(&self.disk.state);
        let fault = state.begin(self.boot, Operation::Name)?;
        if fault.is_none() || fault == Some(Fault::Kill) {
            let state = &mut *state;
            let mut changes = state.pending.remove(dir).unwrap_or_default();
            // What has gone elsewhere from here has: an old name can't go after a new one has come.
            let is_from_here = |change: &mut Change| {
                change.unlink.as_deref().is_some_and(|from| parent(from) == dir)
            };
            for others in state.pending.values_mut() {
                changes.extend(others.extract_if(.., is_from_here));
            }
            changes.sort_by_key(|change| change.number);
            for change in changes {
                change.apply(&mut state.durable_names);
            }
        }
        failure(fault)
    }

    fn space(&self) -> io::Result<Option<Space>> {
        let state = lock(&self.disk.state);
        state.check(self.boot)?;
        let space = |total: u64| Space { total, usable: total.saturating_sub(state.used()) };
        Ok(state.capacity.map(space))
    }

    fn lock(&self, path: &str, owner: &str) -> io::Result<()> {
        let mut state = lock(&self.disk.state);
        state.check(self.boot)?;
        if let Some(holder) = state.locks.get(path) {
            return Err(io::Error::new(ErrorKind::WouldBlock, holder.clone()));
        }
        state.locks.insert(path.to_owned(), owner.to_owned());
        drop(state);
        let disk = Arc::clone(&self.disk);
        *lock(&self.lock) = Some(SimLock { disk, boot: self.boot, path: path.to_owned() });
        Ok(())
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = lock(&self.disk.state);
        if state.boot == self.boot {
            state.locks.remove(&self.path);
        }
    }
}

impl SimFile {
    fn check_alignment(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let aligned = bytes.as_ptr().align_offset(4096) == 0
            && bytes.len().is_multiple_of(4096)
            && position.is_multiple_of(4096);
        if self.direct && !aligned {
            return Err(io::Error::new(ErrorKind::InvalidInput, "direct IO must be aligned"));
        }
        Ok(())
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, out: &mut [u8], position: u64) -> io::Result<usize> {
        self.check_alignment(out, position)?;
        let mut state = lock(&self.disk.state);
        let fault = state.begin(self.boot, Operation::Read)?;
        failure(fault)?;
        let inode = lock(&self.inode);
        if !inode.is_readable(position, out.len()) {
            return Err(io::Error::other("a sector can't be read"));
        }
        let count = inode.read(out, position);
        if fault == Some(Fault::Flip)
            && let Some(byte) = out.get_mut(state.dice.below(count.max(1) as u64) as usize)
        {
            *byte ^= 1 << state.dice.below(8);
        }
        Ok(count)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        let mut at = position;
        for part in parts {
            self.check_alignment(part, at)?;
            at += part.len() as u64;
        }
        let mut state = lock(&self.disk.state);
        let fault = state.begin(self.boot, Operation::Write)?;
        let mut inode = lock(&self.inode);
        let grows = at.saturating_sub(inode.size());
        drop(inode);
        if fault == Some(Fault::Full) || !state.has_room(grows) {
            return Err(ErrorKind::StorageFull.into());
        }
        let total = usize::try_from(at - position).map_err(io::Error::other)?;
        let blocks = at.next_multiple_of(4096) - position / 4096 * 4096;
        *state.written.entry(self.folder.clone()).or_default() += blocks;
        let mut budget = match fault {
            None | Some(Fault::PowerCut | Fault::Kill | Fault::Flip) => total,
            Some(Fault::Short) => state.dice.below(total as u64) as usize / 512 * 512,
            Some(_) => 0,
        };
        inode = lock(&self.inode);
        if fault == Some(Fault::Torn) {
            inode.write_torn(parts, position, &mut state.dice);
        }
        let mut at = position;
        for part in parts {
            let part = part.get(..budget.min(part.len())).unwrap_or_default();
            inode.write(part, at);
            at += part.len() as u64;
            budget -= part.len();
        }
        if fault == Some(Fault::Flip) && total > 0 {
            let byte = position + state.dice.below(total as u64);
            inode.flip_bit(byte, state.dice.below(8) as u8);
        }
        failure(fault)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = lock(&self.disk.state);
        let fault = state.begin(self.boot, Operation::Sync)?;
        let keep = state.dice.share();
        match fault {
            None | Some(Fault::Kill) if state.ignore_sync => {}
            None | Some(Fault::Kill) => lock(&self.inode).sync(),
            Some(Fault::PowerCut) => {}
            Some(_) => lock(&self.inode).fail_sync(&mut state.dice, keep),
        }
        failure(fault)
    }

    fn size(&self) -> io::Result<u64> {
        lock(&self.disk.state).check(self.boot)?;
        Ok(lock(&self.inode).size())
    }

    fn resize(&self, size: u64) -> io::Result<()> {
        let mut state = lock(&self.disk.state);
        let fault = state.begin(self.boot, Operation::Write)?;
        let grows = size.saturating_sub(lock(&self.inode).size());
        if fault == Some(Fault::Full) || !state.has_room(grows) {
            return Err(ErrorKind::StorageFull.into());
        }
        if matches!(fault, None | Some(Fault::PowerCut | Fault::Kill | Fault::Flip)) {
            lock(&self.inode).resize(size);
        }
        failure(fault)
    }

    fn drop_cache(&self) {
        lock(&self.inode).drop_cache();
    }
}

fn dead() -> io::Error {
    io::Error::other("the power is off")
}

fn failure(fault: Option<Fault>) -> io::Result<()> {
    match fault {
        None | Some(Fault::Flip) => Ok(()),
        Some(Fault::PowerCut | Fault::Kill) => Err(dead()),
        Some(fault) => Err(io::Error::other(format!("planned fault: {fault:?}"))),
    }
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimFile").field("boot", &self.boot).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
