//! What commands show: tables and sentences for people, JSON for programs.

pub(crate) mod human;
pub(crate) mod record;
mod table;
pub(crate) mod time;

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use millstream_env::Env;
use millstream_types::Monotonic;
use serde::Serialize;

pub(crate) use table::Table;

/// Writes a command's result to standard output: what `human` returns, or `value` as one line of
/// JSON.
///
/// # Errors
///
/// When nobody reads any more, or the disk is full.
pub(crate) fn show(
    json: bool,
    value: &impl Serialize,
    human: impl FnOnce() -> String,
) -> anyhow::Result<()> {
    let mut text = if json { serde_json::to_string(value)? } else { human() };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    Ok(())
}

/// Writes lines to standard error, where people read them.
pub(crate) fn remark(text: &dyn fmt::Display) {
    // Where standard error is closed nobody would read it, and nothing else suffers.
    let _ = writeln!(io::stderr(), "{text}");
}

/// A line on standard error that says how far something has come, when a person looks at that.
#[derive(Debug)]
pub(crate) struct Progress {
    env: Env,
    enabled: bool,
    started: Monotonic,
    /// When the line last changed; `None` while there is none.
    shown: Option<Monotonic>,
}

/// How often the line changes.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

impl Progress {
    /// Shown on a terminal only, and not while the result goes to the same terminal.
    pub(crate) fn new(env: &Env, result_is_shown_at_the_end: bool) -> Self {
        let alone = result_is_shown_at_the_end || !io::stdout().is_terminal();
        Self {
            env: env.clone(),
            enabled: io::stderr().is_terminal() && alone,
            started: env.clock.monotonic(),
            shown: None,
        }
    }

    /// How long it has taken so far.
    pub(crate) fn elapsed(&self) -> Duration {
        self.env.clock.monotonic().since(self.started)
    }

    /// Shows that so many records and bytes are done.
    pub(crate) fn update(&mut self, records: u64, bytes: u64) {
        let time = self.elapsed();
        self.say(|| {
            let rate = human::bytes(human::per_second(bytes, time));
            format!("{}, {} ({rate}/s)", human::counted(records, "record"), human::bytes(bytes))
        });
    }

    /// Shows that `done` of `total` bytes are done, and what comes now.
    pub(crate) fn update_of(&mut self, done: u64, total: u64, at: &dyn fmt::Display) {
        let time = self.elapsed();
        self.say(|| {
            let share = u128::from(done.min(total)) * 100 / u128::from(total.max(1));
            let rate = human::bytes(human::per_second(done, time));
            format!("{share} % of {} ({rate}/s), {at}", human::bytes(total))
        });
    }

    /// Shows what is being done, where nobody knows how much there is.
    pub(crate) fn doing(&mut self, what: &dyn fmt::Display) {
        self.say(|| what.to_string());
    }

    /// Shows a line, unless the last one is too young, or the work: what is soon done needs none.
    fn say(&mut self, line: impl FnOnce() -> String) {
        let now = self.env.clock.monotonic();
        if !self.enabled || now.since(self.shown.unwrap_or(self.started)) < PROGRESS_INTERVAL {
            return;
        }
        self.shown = Some(now);
        // Who can't see it does not need it.
        let _ = write!(io::stderr(), "\r\x1b[K{}", line());
    }

    /// Takes the line away.
    pub(crate) fn clear(&mut self) {
        if self.shown.take().is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
