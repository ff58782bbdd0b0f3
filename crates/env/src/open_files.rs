//! How many files and sockets the process may have open at a time.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What a broker needs for its own files, whoever connects: journals, segments that are read or written,
/// HTTP.
const OWN_FILES: u64 = 256;

/// The process's limit; `None` when there is none.
#[must_use]
pub fn open_files_max() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// How many sockets that leaves for clients: all but what the broker's own files need, and half of a
/// limit that is very low; `None` when there is no limit.
#[must_use]
pub fn sockets_max() -> Option<usize> {
    open_files_max().map(left_for_sockets)
}

fn left_for_sockets(files: u64) -> usize {
    usize::try_from(files - OWN_FILES.min(files / 2)).unwrap_or(usize::MAX)
}

/// Raises the process's limit to what the system allows it without privileges. Many systems start
/// processes with 1,024. For programs: a library should leave its process alone.
///
/// # Errors
///
/// When the system does not want to; the limit is what it was.
pub fn raise_open_files_max() -> io::Result<()> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_brokers_own_files_come_first() {
        for (files, sockets) in [(20_000, 19_744), (1_024, 768), (512, 256), (100, 50), (0, 0)] {
            assert_eq!(left_for_sockets(files), sockets, "{files}");
        }
    }

    #[test]
    fn the_limit_is_raised_as_far_as_it_goes() {
        raise_open_files_max().unwrap();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current, maximum);
        assert_eq!(open_files_max(), maximum);
    }
}
