//! Broker, coordinators and clients in one thread, on one seed.
//!
//! [`run`] builds a machine with a simulated disk, starts a broker on it through the doors that production
//! uses, and has clients speak the Kafka protocol to it, byte by byte, over a simulated network. Time is
//! virtual and passes when nobody has anything to do; who goes next is drawn. Meanwhile the power is cut,
//! the process killed, the disk fails, fills and slows down, connections break, answers are lost, and
//! requests arrive long after their sender has given up.
//!
//! What clients see is judged: by the checker of histories (`testkit`), and by what clients can tell at
//! once, such as an end of a partition that went back. The same seed gives the same [`Outcome::hash`].
//!
//! Not simulated: sockets and the system's files and threads (a broker on a disk in memory writes its journal in
//! a task, not in a thread), bits that flip in silence (`broker/tests/faults` has those), static members,
//! streams groups, quotas, backups, and more than one broker.
//!
//! What does not depend on the seed: the order in which hash maps are walked, which nothing that is simulated
//! does where it shows, and in which of its eight lists tokio's `watch` lets somebody wait, which says
//! nothing here, because who is ready is a set. A test compares the hashes of two runs.
//!
//! A part of the seeds has the audit note everything, so that what writes it goes through all of this, too.
//!
//! * `executor`: tasks, and who is next; `net`: connections; `machine`: disk and broker; `world`: the loop;
//! * `plan`: what a seed is about; `drive`: its course; `faults`: what goes wrong;
//! * `clients`: one file per kind of client.

mod clients;
mod drive;
mod executor;
mod faults;
mod history;
mod machine;
mod net;
mod plan;
mod rpc;
mod trace;
mod world;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use millstream_testkit::history::{Expected, check};

pub use plan::Plan;
pub use world::Outcome;
use world::Sim;

/// Runs what `plan` says on `seed`; `aloud`: prints the trace as it comes.
#[must_use]
pub fn run(seed: u64, plan: Plan, aloud: bool) -> Outcome {
    let sim = Sim::new(seed, plan, aloud);
    let world = Arc::clone(&sim.world);
    world.env.spawn("drive", drive::drive(Arc::clone(&world)));
    let mut outcome = sim.run();
    let operations = world.history.operations();
    outcome.counts.insert("operations", operations.len() as u64);
    // What ended early was not drained.
    let drained = outcome.violations.is_empty();
    let report = check(&operations, Expected { idempotent: true, drained });
    outcome.violations.extend(report.violations.iter().map(ToString::to_string));
    outcome
}

/// Nothing is left half done under these locks.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
