//! Where the tests run: in memory, on the real disk with direct IO, and without.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use millstream_env::disk::{Disk, RealDisk, SimDisk};
use millstream_env::{DataDir, Env};
use millstream_record::StoredBatch;
use millstream_record::crc32c;
use millstream_record::frame::{Frame, FrameBody};
use millstream_types::{PartitionId, Uuid};
use tempfile::TempDir;

/// A place to keep data that survives its users.
pub(crate) enum Place {
    Memory(Arc<SimDisk>),
    Direct(TempDir),
    Cached(TempDir),
}

impl Place {
    pub(crate) fn all() -> [Self; 3] {
        let dir = || TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        [Self::Memory(SimDisk::new(1)), Self::Direct(dir()), Self::Cached(dir())]
    }

    pub(crate) fn disk(&self) -> Arc<dyn Disk> {
        match self {
            Self::Memory(machine) => machine.mount(),
            Self::Direct(dir) => Arc::new(RealDisk::open(dir.path()).unwrap()),
            Self::Cached(dir) => Arc::new(RealDisk::open_cached(dir.path()).unwrap()),
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Memory(_) => "memory",
            Self::Direct(_) => "direct",
            Self::Cached(_) => "cached",
        }
    }

    /// Changes one byte of a file.
    pub(crate) fn damage(&self, path: &str, byte: u64) {
        use std::os::unix::fs::FileExt;
        match self {
            Self::Memory(machine) => assert!(machine.flip_bit(path, byte, 3)),
            Self::Direct(dir) | Self::Cached(dir) => {
                let mut options = std::fs::OpenOptions::new();
                let file = options.read(true).write(true).open(dir.path().join(path)).unwrap();
                let mut value = [0];
                file.read_exact_at(&mut value, byte).unwrap();
                value[0] ^= 1 << 3;
                file.write_all_at(&value, byte).unwrap();
                file.sync_all().unwrap();
            }
        }
    }

    pub(crate) fn open(&self) -> DataDir {
        DataDir::open_on(self.disk(), Env::real(tokio::runtime::Handle::current()), self.name())
            .unwrap()
    }
}

/// Runs `law` in every place, on one thread and on several.
pub(crate) fn everywhere<F: Future<Output = ()>>(law: impl Fn(Arc<Place>) -> F) {
    for several in [false, true] {
        for place in Place::all() {
            let mut builder = match several {
                true => tokio::runtime::Builder::new_multi_thread(),
                false => tokio::runtime::Builder::new_current_thread(),
            };
            let runtime = builder.worker_threads(2).enable_all().build().unwrap();
            println!("{} on {} threads", place.name(), if several { "several" } else { "one" });
            runtime.block_on(law(Arc::new(place)));
        }
    }
}

/// A batch with `size` bytes behind its header; different numbers make different ones.
pub(crate) fn batch(number: u64, size: usize) -> StoredBatch {
    let mut covered = vec![0; 40];
    covered[..8].copy_from_slice(&number.to_be_bytes());
    covered.extend((0..size).map(|at| (number as usize).wrapping_mul(31).wrapping_add(at) as u8));
    let mut rest = vec![2];
    rest.extend(crc32c(&covered).to_be_bytes());
    rest.extend(covered);
    let mut assigned = [0; 16];
    assigned[..8].copy_from_slice(&number.to_be_bytes());
    assigned[8..12].copy_from_slice(&u32::try_from(4 + rest.len()).unwrap().to_be_bytes());
    StoredBatch { assigned, rest: rest.into() }
}

/// A frame that is unlike others with another number.
pub(crate) fn frame(number: u64, size: usize) -> Frame {
    let partition = PartitionId { topic: Uuid([number as u8; 16]), index: number as i32 };
    let body = match number % 3 {
        0 => FrameBody::Layout(Bytes::from(vec![number as u8; size])),
        _ => FrameBody::Batch(batch(number, size)),
    };
    Frame { partition, body, urgent: false }
}
