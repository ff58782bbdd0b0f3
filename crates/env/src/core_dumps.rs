//! What is left of the process when it crashes.

use std::io;

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// Asks the system for no image of the process's memory when it crashes, however it is set up to make them: there are
/// keys, passwords and records in it. Other programs of the same user can't read the memory either from then on
/// (`PR_SET_DUMPABLE` in prctl(2)). For programs: a library should leave its process alone.
///
/// # Errors
///
/// When the system does not want to.
pub fn forbid_core_dumps() -> io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}
