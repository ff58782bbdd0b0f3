//! Passwords: read from a file or typed without being seen, never from the command line, which others see.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, bail};
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};

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
    let typed = read_typed(&mut io::stdin().lock(), Typed::new(&quiet.0));
    drop(quiet);
    writeln!(stderr)?;
    first_line(&typed?).context("no password was typed")
}

/// Reads what is typed, to the end of the line.
fn read_typed(input: &mut impl io::Read, mut typed: Typed) -> anyhow::Result<String> {
    let mut key = [0];
    loop {
        let is_over = match input.read(&mut key) {
            Ok(0) => true,
            Ok(_) => typed.take(key[0])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => false,
            Err(error) => return Err(error.into()),
        };
        if is_over {
            return String::from_utf8(typed.line).context("what was typed is not UTF-8");
        }
    }
}

/// A line as it is typed. The terminal hands over each key, those included by which somebody stops the
/// program: if it ended us by a signal, it would stay as quiet as it is.
struct Typed {
    line: Vec<u8>,
    keys: Keys,
}

/// What is no part of a line, as the user has set his terminal.
#[derive(Clone, Copy)]
struct Keys {
    stops: [u8; 2],
    erases: u8,
    kills: u8,
    ends: u8,
}

impl Typed {
    fn new(terminal: &Termios) -> Self {
        let key = |index| terminal.special_codes[index];
        let keys = Keys {
            stops: [key(SpecialCodeIndex::VINTR), key(SpecialCodeIndex::VQUIT)],
            erases: key(SpecialCodeIndex::VERASE),
            kills: key(SpecialCodeIndex::VKILL),
            ends: key(SpecialCodeIndex::VEOF),
        };
        Self { line: Vec::new(), keys }
    }

    /// Takes a key. Whether the line is over.
    fn take(&mut self, key: u8) -> anyhow::Result<bool> {
        match key {
            b'\n' | b'\r' => return Ok(true),
            // A key that is not set is 0, which nobody types.
            0 => {}
            key if self.keys.stops.contains(&key) => bail!("interrupted"),
            key if key == self.keys.ends => return Ok(true),
            key if key == self.keys.kills => self.line.clear(),
            key if key == self.keys.erases || key == 8 || key == 127 => {
                // A character, which may be of several bytes.
                let is_rest = |byte: &u8| (0x80..0xc0).contains(byte);
                while self.line.pop().as_ref().is_some_and(is_rest) {}
            }
            key => self.line.push(key),
        }
        Ok(false)
    }
}

/// While it lives, what is typed is not shown, and each key is handed over at once.
struct Quiet(Termios);

impl Quiet {
    fn new() -> io::Result<Self> {
        let former = tcgetattr(io::stdin())?;
        let mut quiet = former.clone();
        quiet.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        quiet.special_codes[SpecialCodeIndex::VMIN] = 1;
        quiet.special_codes[SpecialCodeIndex::VTIME] = 0;
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

    /// What comes of keys on a terminal as most are set.
    fn typed(keys: &[u8]) -> Result<String, String> {
        let set = Keys { stops: [3, 28], erases: 127, kills: 21, ends: 4 };
        let mut keys = keys;
        let typed = read_typed(&mut keys, Typed { line: Vec::new(), keys: set });
        typed.map_err(|error| error.to_string())
    }

    #[test]
    fn a_password_is_typed_key_by_key() {
        for (keys, expected) in [
            (&b"secret\n and what comes then"[..], Ok("secret")),
            (b"secret\r", Ok("secret")),
            (b"secret", Ok("secret")),
            (b"secrex\x7ft\x08t\n", Ok("secret")),
            ("pässwört\u{7f}\u{7f}\u{7f}\u{7f}ort\n".as_bytes(), Ok("pässort")),
            (b"\x7fa\n", Ok("a")),
            (b"wrong\x15right\n", Ok("right")),
            (b"secret\x04more\n", Ok("secret")),
            (b"sec\x03ret\n", Err("interrupted")),
            (b"sec\x1cret\n", Err("interrupted")),
            (b"\xff\n", Err("what was typed is not UTF-8")),
            (b"a\0b\n", Ok("ab")),
        ] {
            let typed = typed(keys);
            assert_eq!(typed.as_deref().map_err(String::as_str), expected, "{keys:?}");
        }
    }
}
