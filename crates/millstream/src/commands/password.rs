//! Passwords: read from a file or typed without being seen, never from the command line, which others see.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, bail};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// What stands for standard input in the place of a file.
const STDIN: &str = "-";

/// Reads a password from a file: its first line. `-` stands for standard input.
pub(super) fn from_file(path: &Path) -> anyhow::Result<String> {
    if path == Path::new(STDIN) {
        return from_stdin();
    }
    let what = || format!("can't read a password from {}", path.display());
    #[expect(clippy::disallowed_methods, reason = "the user's own file")]
    let bytes = std::fs::read(path).with_context(what)?;
    let text = String::from_utf8(bytes).ok().context("it is not UTF-8").with_context(what)?;
    first_line(&text).with_context(what)
}

/// The password of a new user: typed twice on a terminal, or the first line of standard input.
pub(super) fn of_new_user(user: &str) -> anyhow::Result<String> {
    if !io::stdin().is_terminal() {
        return from_stdin();
    }
    let password = ask(&format!("Password of {user}: "))?;
    if ask("Again: ")? != password {
        bail!("that was not the same twice");
    }
    Ok(password)
}

/// The password of whoever logs in, typed on a terminal.
pub(super) fn of_login(user: &str) -> anyhow::Result<String> {
    if !io::stdin().is_terminal() {
        bail!("there is no terminal to ask for the password of {user}: use --login-password-file");
    }
    ask(&format!("Password of {user}: "))
}

fn from_stdin() -> anyhow::Result<String> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    first_line(&line).context("can't read a password from standard input")
}

fn first_line(text: &str) -> anyhow::Result<String> {
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => bail!("its first line is empty"),
    }
}

fn ask(prompt: &str) -> anyhow::Result<String> {
    let mut stderr = io::stderr();
    write!(stderr, "{prompt}")?;
    stderr.flush()?;
    let quiet = Quiet::new()?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    drop(quiet);
    writeln!(stderr)?;
    first_line(&line).context("no password was typed")
}

/// While it lives, what is typed is not shown.
struct Quiet(Termios);

impl Quiet {
    fn new() -> io::Result<Self> {
        let former = tcgetattr(io::stdin())?;
        let mut quiet = former.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &quiet)?;
        Ok(Self(former))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // A terminal that has gone needs no setting.
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_the_first_line() {
        for (text, expected) in [
            ("secret", Some("secret")),
            ("secret\n", Some("secret")),
            ("secret\r\nmore\n", Some("secret")),
            (" two words ", Some(" two words ")),
            ("", None),
            ("\nsecret\n", None),
        ] {
            assert_eq!(first_line(text).ok().as_deref(), expected, "{text:?}");
        }
    }
}
