//! Reserve on a disk: a part is set aside, and given to those who must go on when the disk is full.
//!
//! The file `reserve` holds blocks that nobody uses. When something finds no space, first what is kept
//! only for speed goes (files of the journal that wait to be used again); then the file is cut, as far
//! as the one who asks may use it ([`Use`]), and the disk counts as full ([`Reserve::is_low`]): records
//! are refused from then on, so that nothing but what must go on, or gives space back, draws on it.
//!
//! [`Reserve::keep`] makes the file whole again. The disk counts as full until that has worked and there
//! was room besides for the largest thing that was refused: otherwise producers would be let in for a
//! moment, again and again.
//!
//! A file, and not merely a limit that is looked at: no other program can use it, it needs no figures
//! from the file system, and it is there in the very moment in which a write fails.

mod guarded;

use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use millstream_record::journal::BLOCK;
use tokio::sync::watch;

use crate::disk::{Access, Caching, Disk, DiskFile, SimDisk};
use crate::util::{blocking, lock};
use crate::world::Env;
use guarded::Guarded;

/// The file that holds what is set aside.
const FILE: &str = "reserve";

/// The least that is given at once is this part of the reserve.
const PARTS: u64 = 64;

/// How often a reserve that is not whole is looked after.
const LOOK_AFTER: Duration = Duration::from_secs(1);

/// For what a part of the disk writes, which says how far it may draw on the reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// For what can wait: the reserve is not touched.
    Ahead,
    /// Segments: an eighth. They give space in the journal back, none on the disk.
    Segments,
    /// The journal: all but a sixth. Deletions and commits go through it.
    Journal,
    /// Metadata and checkpoints: all of it. Without them nothing is ever given back.
    Metadata,
}

/// See the module.
pub struct Reserve {
    disk: Arc<dyn Disk>,
    /// How much is to be set aside, in bytes.
    size: u64,
    state: Mutex<State>,
    low: AtomicBool,
    news: watch::Sender<bool>,
    /// Held by whoever works on the file.
    working: Arc<tokio::sync::Mutex<()>>,
    resting: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    file: Option<Arc<dyn DiskFile>>,
    /// What is set aside now, in bytes.
    held: u64,
    /// Whether it has been all there is to set aside, as far as is known.
    was_whole: bool,
    /// The most bytes that were asked for in vain since the disk is full.
    wanted: u64,
    /// Rises when there may be more space than before.
    generation: u64,
    hoarders: Vec<Weak<dyn Hoarder>>,
}

/// Somebody who keeps space that it could do without.
pub(crate) trait Hoarder: Send + Sync {
    /// Gives it back. Returns whether there was any.
    fn shed(&self) -> bool;
}

impl Use {
    /// How much of a reserve of `size` bytes this use leaves.
    const fn floor(self, size: u64) -> u64 {
        match self {
            Self::Ahead => size,
            Self::Segments => size / 8 * 7,
            Self::Journal => size / 6,
            Self::Metadata => 0,
        }
    }
}

impl Reserve {
    /// Reserve without end, for stores that are on no disk of ours.
    #[must_use]
    pub fn unlimited() -> Arc<Self> {
        Self::without_reserve(SimDisk::new(0).mount())
    }

    /// The space of `disk`, of which `size` bytes are to be set aside. Takes over what is set aside
    /// already; more than that comes with [`Reserve::keep`]. Blocks.
    ///
    /// # Errors
    ///
    /// What the disk says.
    pub fn open(disk: Arc<dyn Disk>, size: u64) -> io::Result<Arc<Self>> {
        let mut state = State::default();
        match disk.open(FILE, Access::Write, Caching::Cached) {
            Ok(file) => {
                if file.size()? > size {
                    file.resize(size)?;
                }
                state.held = file.size()?;
                state.was_whole = true;
                state.file = Some(file);
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        // Whoever ran here before has drawn on it.
        let is_drawn_on = state.was_whole && state.held < size;
        let reserve = Self::of(disk, size, state);
        if is_drawn_on {
            reserve.set_low(true);
        }
        Ok(Arc::new(reserve))
    }

    /// The space of `disk` as it is, of which nothing is set aside.
    #[must_use]
    pub fn without_reserve(disk: Arc<dyn Disk>) -> Arc<Self> {
        Arc::new(Self::of(disk, 0, State::default()))
    }

    fn of(disk: Arc<dyn Disk>, size: u64, state: State) -> Self {
        let (news, _) = watch::channel(false);
        Self {
            disk,
            size,
            state: Mutex::new(state),
            low: AtomicBool::new(false),
            news,
            working: Arc::default(),
            resting: AtomicBool::new(false),
        }
    }

    /// Whether the disk is full: only what must go on may be written.
    #[must_use]
    pub fn is_low(&self) -> bool {
        self.low.load(Ordering::Relaxed)
    }

    /// Follows [`Reserve::is_low`].
    #[must_use]
    pub fn low(&self) -> watch::Receiver<bool> {
        self.news.subscribe()
    }

    /// What is to be set aside, in bytes.
    #[must_use]
    pub const fn reserve_bytes(&self) -> u64 {
        self.size
    }

    /// What is set aside now, in bytes.
    #[must_use]
    pub fn held(&self) -> u64 {
        lock(&self.state).held
    }

    /// Keeps the reserve whole, as long as this is there. The disk is held only while that is worked
    /// on: whoever has closed everything else finds it free after [`Reserve::rest`].
    pub fn keep(self: &Arc<Self>, env: &Env) {
        let (weak, clock) = (Arc::downgrade(self), env.clone());
        let (working, mut news) = (Arc::clone(&self.working), self.low());
        env.spawn("disk reserve", async move {
            loop {
                let held = working.lock().await;
                let whole = match weak.upgrade() {
                    None => return,
                    Some(reserve) if reserve.resting.load(Ordering::SeqCst) => return,
                    Some(reserve) if reserve.is_whole() => true,
                    Some(reserve) => {
                        let disk = Arc::clone(&reserve.disk);
                        blocking(&disk, move || reserve.refill()).await
                    }
                };
                drop(held);
                if !whole {
                    clock.sleep(LOOK_AFTER).await;
                } else if news.changed().await.is_err() {
                    return;
                }
            }
        });
    }

    /// Ends the work of [`Reserve::keep`], and waits for what is under way.
    pub async fn rest(&self) {
        self.resting.store(true, Ordering::SeqCst);
        drop(self.working.lock().await);
    }

    /// Makes the reserve whole if there is room for that, and with it the disk usable again. Whether
    /// nothing is left to be done. Blocks.
    pub fn refill(&self) -> bool {
        let mut state = lock(&self.state);
        let filled = self.fill(&mut state);
        // While it was tried there was less for others, who may try again.
        state.generation += 1;
        if let Ok(true) = filled {
            state.was_whole |= state.held >= self.size;
            state.wanted = 0;
        }
        drop(state);
        match filled {
            Ok(true) => self.set_low(false),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "the reserve on the disk can't be filled up"),
        }
        self.is_whole()
    }

    fn fill(&self, state: &mut State) -> io::Result<bool> {
        let disk = &self.disk;
        // Where even the reserve did not fit, it is enough that what was refused does.
        let reserve = if state.was_whole || !self.is_low() { self.size } else { state.held };
        let target = reserve.saturating_add(state.wanted);
        let missing = target.saturating_sub(state.held);
        if missing == 0 {
            return Ok(true);
        }
        // Trying takes the last blocks for a moment, which others may need to free some.
        if disk.space()?.is_some_and(|space| space.usable < missing) {
            return Ok(false);
        }
        let file = match &state.file {
            Some(file) => Arc::clone(file),
            None => match disk.open(FILE, Access::Create, Caching::Cached) {
                Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(false),
                made => made?,
            },
        };
        state.file = Some(Arc::clone(&file));
        let grown = file.resize(target);
        let whole = grown.is_ok();
        let keeps = if whole { reserve } else { state.held };
        // What failed halfway may have kept some.
        file.resize(keeps)?;
        state.held = keeps;
        if whole {
            // A crash must not give it to others.
            file.sync()?;
            disk.sync_dir("")?;
        }
        match grown {
            Err(error) if error.kind() != ErrorKind::StorageFull => Err(error),
            _ => Ok(whole),
        }
    }

    fn is_whole(&self) -> bool {
        let state = lock(&self.state);
        !self.is_low() && (state.held >= self.size)
    }

    /// The disk for one use: what finds no space there draws on the reserve.
    pub(crate) fn disk(self: &Arc<Self>, to: Use) -> Arc<dyn Disk> {
        let floor = to.floor(self.size);
        Arc::new(Guarded { inner: Arc::clone(&self.disk), reserve: Arc::clone(self), floor })
    }

    /// Asks `hoarder` to give back what it does not need, when space is short.
    pub(crate) fn ask_first(&self, hoarder: Weak<dyn Hoarder>) {
        let mut state = lock(&self.state);
        state.hoarders.retain(|hoarder| hoarder.strong_count() > 0);
        state.hoarders.push(hoarder);
    }

    fn generation(&self) -> u64 {
        lock(&self.state).generation
    }

    /// There was no space for `wanted` bytes, though there was some since `generation`. Whether
    /// another try is worth it. Blocks.
    fn make_room(&self, wanted: u64, floor: u64, generation: u64) -> bool {
        let hoarders = lock(&self.state).hoarders.clone();
        let shed = hoarders.iter().filter_map(Weak::upgrade).filter(|one| one.shed()).count();
        let mut state = lock(&self.state);
        if shed > 0 {
            state.generation += 1;
        }
        if state.generation != generation {
            return true;
        }
        state.wanted = state.wanted.max(wanted);
        let gives = state.held > floor;
        if gives {
            // No more than that: what is given is there for everybody on the disk.
            let part = wanted.next_multiple_of(BLOCK).max(self.size / PARTS);
            let floor = state.held.saturating_sub(part).max(floor);
            // Some file systems give blocks to others only when they have written down that they
            // are free. If that fails, the next try tells.
            let cut = state.file.as_ref().map_or(Ok(()), |file| {
                file.resize(floor)?;
                file.sync()
            });
            if let Err(error) = cut {
                tracing::warn!(%error, "the reserve on the disk can't be given out");
            }
            state.held = floor;
            state.generation += 1;
        }
        drop(state);
        self.set_low(true);
        gives
    }

    fn set_low(&self, low: bool) {
        if self.low.swap(low, Ordering::Relaxed) == low {
            return;
        }
        if low {
            tracing::error!(
                reserve = self.held(),
                "the disk is full: records are refused; reads, deletions, commits and changes of \
                 configuration go on. Delete records or topics, shorten their retention, or make \
                 the disk larger"
            );
        } else {
            tracing::info!("there is space on the disk again: records are taken");
        }
        self.news.send_replace(low);
    }
}

impl fmt::Debug for Reserve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (low, state) = (self.is_low(), lock(&self.state));
        let mut f = f.debug_struct("Reserve");
        f.field("reserve", &self.size).field("low", &low);
        f.field("held", &state.held).field("wanted", &state.wanted).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
