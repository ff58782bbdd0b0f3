//! A disk that is really full: `tests/clients/kill/full.py` with a data directory on a small file system.
//!
//! The file system is an ext4 in a file, or where that can't be mounted one in memory (tmpfs). Mounting
//! either needs rights that not everybody has; where it can't be done, the step is skipped and says why.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::clients::Places;
use super::matrix::{Outcome, Verdict};
use super::options::Options;
use super::{kill, server};

/// The name of the step.
pub(crate) const NAME: &str = "full-disk";

/// The size of the file system: a journal of default size does not fit beside the reserve.
const BYTES: u64 = 1024 * 1024 * 1024;
const LIMIT: Duration = Duration::from_secs(600);

/// A small file system; unmounted when dropped.
pub(crate) struct Mounted {
    pub folder: PathBuf,
    kind: &'static str,
}

/// Fills a disk up, and prints the outcome.
pub(crate) fn run(options: &Options, places: &Places) -> Outcome {
    println!("a file system of {} MiB is filled up", BYTES >> 20);
    let started = std::time::Instant::now();
    let mut outcome =
        attempt(options, places).unwrap_or_else(|error| Outcome::of(NAME, "set-up", Err(error)));
    outcome.seconds = started.elapsed().as_secs_f64();
    outcome.print();
    outcome
}

fn attempt(options: &Options, places: &Places) -> anyhow::Result<Outcome> {
    let folder = places.run.join(NAME);
    fs::create_dir_all(folder.join("disk"))?;
    let mounted = match Mounted::new(&folder, BYTES) {
        Ok(mounted) => mounted,
        Err(why) => {
            let why = format!("no small file system can be mounted here: {why}");
            return Ok(Outcome::new(NAME, "set-up", Verdict::Skip, why));
        }
    };
    println!("  on {}", mounted.kind);
    let (port, http) = (server::free_port()?, server::free_port()?);
    let command = server::fill(&options.server, port, http, &mounted.folder.join("data"));
    let mut driver = Command::new(places.python());
    driver.arg(places.sources.join("kill/full.py"));
    driver.args(["--bootstrap", &format!("127.0.0.1:{port}")]);
    driver.args(["--http", &format!("127.0.0.1:{http}")]);
    let outcome = kill::drive(driver, &command, places, &folder, (NAME, mounted.kind), LIMIT)?;
    drop(mounted);
    if outcome.verdict == Verdict::Pass {
        // It may be gone already: one in memory has none.
        let _ = fs::remove_file(folder.join("image"));
    }
    Ok(outcome)
}

impl Mounted {
    /// Mounts one of so many bytes at `disk` below `folder`, or says why that can't be done.
    pub(crate) fn new(folder: &Path, bytes: u64) -> Result<Self, String> {
        let disk = folder.join("disk");
        let in_file = Self::image(folder, bytes).and_then(|image| {
            mount(Command::new("mount").args(["-o", "loop"]).arg(image).arg(&disk))
        });
        let kind = match in_file {
            Ok(()) => "ext4",
            Err(why_not_file) => {
                let size = format!("size={bytes}");
                let in_memory = mount(
                    Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&disk),
                );
                in_memory.map_err(|why| format!("ext4: {why_not_file}; tmpfs: {why}"))?;
                "tmpfs"
            }
        };
        Ok(Self { folder: disk, kind })
    }

    fn image(folder: &Path, bytes: u64) -> Result<PathBuf, String> {
        let image = folder.join("image");
        let file = File::create(&image).map_err(|error| error.to_string())?;
        file.set_len(bytes).map_err(|error| error.to_string())?;
        mount(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image))?;
        Ok(image)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(why) = mount(Command::new("umount").arg(&self.folder)) {
            println!("  {} stays mounted: {why}", self.folder.display());
        }
    }
}

/// Runs a command that prepares, mounts or unmounts, or says what it complains of.
fn mount(command: &mut Command) -> Result<(), String> {
    let out = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    if out.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&out.stderr);
    Err(said.lines().next().unwrap_or("it failed without a word").to_owned())
}
