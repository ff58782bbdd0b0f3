//! Files for nobody else: keys, tokens.

use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, bail};

/// Makes a file that nobody else can read. It is there whole or not at all, so that a broker that looks at it
/// meanwhile sees the one before.
pub(super) fn write(path: &Path, text: &str, replace: bool) -> anyhow::Result<()> {
    if !replace && path.exists() {
        bail!("{} is there already; --force replaces it", path.display());
    }
    let what = || format!("can't write {}", path.display());
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    write_new(&new, text).with_context(what)?;
    #[expect(clippy::disallowed_methods, reason = "the user's own file")]
    let renamed = std::fs::rename(&new, path);
    renamed.with_context(what)
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    // What an interrupted run has left behind would keep the permissions that it has.
    #[expect(clippy::disallowed_methods, reason = "the user's own file")]
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
