//! What happens in a simulation, in the order in which it happens: a hash of all of it, and the last
//! lines in words.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex};

use millstream_env::{Clock, HandClock};
use millstream_types::Monotonic;

use crate::lock;

/// How many lines are kept for people.
const LINES_MAX: usize = 120;

pub(crate) struct Trace {
    clock: Arc<HandClock>,
    written: Mutex<Written>,
}

struct Written {
    hash: u64,
    lines: VecDeque<String>,
    /// Whether every line is printed as it comes.
    aloud: bool,
}

impl Trace {
    pub(crate) fn new(clock: Arc<HandClock>, aloud: bool) -> Self {
        // FNV-1a: it is to tell runs apart, and to be the same on every machine.
        let written = Written { hash: 0xcbf2_9ce4_8422_2325, lines: VecDeque::new(), aloud };
        Self { clock, written: Mutex::new(written) }
    }

    /// Adds a line for people.
    pub(crate) fn note(&self, line: fmt::Arguments<'_>) {
        let Monotonic(now) = self.clock.monotonic();
        let line = format!("{:>11.6} {line}", now as f64 / 1e9);
        self.fold(line.as_bytes());
        let mut written = lock(&self.written);
        if written.aloud {
            println!("{line}");
        }
        if written.lines.len() >= LINES_MAX {
            written.lines.pop_front();
        }
        written.lines.push_back(line);
    }

    /// Adds what only the hash is to hold.
    pub(crate) fn fold(&self, bytes: &[u8]) {
        let mut written = lock(&self.written);
        let hash = bytes.chunks(8).fold(written.hash, |hash, chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x0100_0000_01b3).rotate_left(23)
        });
        written.hash = hash;
    }

    pub(crate) fn hash(&self) -> u64 {
        lock(&self.written).hash
    }

    /// The last lines.
    pub(crate) fn tail(&self) -> Vec<String> {
        lock(&self.written).lines.iter().cloned().collect()
    }
}

/// Adds a line to the trace of a world.
macro_rules! note {
    ($world:expr, $($arg:tt)*) => { $world.trace.note(format_args!($($arg)*)) };
}
pub(crate) use note;
