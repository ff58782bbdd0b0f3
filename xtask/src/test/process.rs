//! Running programs: with a deadline, their output kept in files.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;

/// How often a running program is looked at.
const POLL: Duration = Duration::from_millis(10);

/// Starts `command` in a process group of its own, its output going to files.
pub(crate) fn start(mut command: Command, out: &Path, err: &Path) -> anyhow::Result<Child> {
    let file =
        |path: &Path| File::create(path).with_context(|| format!("creating {}", path.display()));
    command.stdin(Stdio::null()).stdout(file(out)?).stderr(file(err)?).process_group(0);
    command.spawn().with_context(|| format!("starting {:?}", command.get_program()))
}

/// Waits for the end of a program, at most `limit`.
pub(crate) fn wait(child: &mut Child, limit: Duration) -> anyhow::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        std::thread::sleep(POLL);
    }
}

/// Ends a program and its children at once.
pub(crate) fn kill(child: &mut Child) {
    // The group may be gone already: then there is nothing to end.
    let _ = signal(&format!("-{}", child.id()), "KILL");
    let _ = child.wait();
}

/// Sends a signal; a target that starts with `-` is a process group.
pub(crate) fn signal(target: &str, name: &str) -> anyhow::Result<()> {
    let mut command = Command::new("kill");
    command.args(["-s", name, "--", target]).stderr(Stdio::null());
    anyhow::ensure!(command.status().context("running kill")?.success(), "no process {target}");
    Ok(())
}

/// Runs a program to its end; on failure the error carries the end of its output.
pub(crate) fn run(what: &str, mut command: Command, log: &Path) -> anyhow::Result<()> {
    let file = File::create(log).with_context(|| format!("creating {}", log.display()))?;
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    let status = command.status().with_context(|| format!("{what}: starting the program"))?;
    anyhow::ensure!(status.success(), "{what} failed ({status}):\n{}", tail(log, 30));
    Ok(())
}

/// The last lines of a file; nothing when it can't be read.
pub(crate) fn tail(path: &Path, lines: usize) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Whether a program of this name is on the machine.
pub(crate) fn present(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
    })
}
