//! The list of error codes: a code, a name, and what a client may do.

use anyhow::{Context, Result, bail};

#[derive(Debug)]
pub(crate) struct ErrorCode {
    pub code: i16,
    pub name: String,
    /// The variant of `Remedy`.
    pub remedy: &'static str,
}

pub(crate) fn parse(text: &str) -> Result<Vec<ErrorCode>> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| parse_line(line).with_context(|| line.to_owned())).collect()
}

fn parse_line(line: &str) -> Result<ErrorCode> {
    let [code, name, remedy] = line.split_whitespace().collect::<Vec<_>>()[..] else {
        bail!("not `code NAME remedy`");
    };
    let remedy = match remedy {
        "-" => "GiveUp",
        "retry" => "Retry",
        "refresh" => "Refresh",
        "abort" => "Abort",
        _ => bail!("no such remedy"),
    };
    Ok(ErrorCode { code: code.parse()?, name: name.to_owned(), remedy })
}
