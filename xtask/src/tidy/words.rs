//! Words that mean "not finished" and lines that are too wide for two columns.

use super::{Finding, Source};

const LINE_WIDTH_MAX: usize = 120;

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    // Spelt in halves, so that this file does not find itself.
    let banned =
        [concat!("FIX", "ME"), concat!("XX", "X"), concat!("TO", "DO"), concat!("HA", "CK")];
    let mut findings = Vec::new();
    for source in sources {
        for (number, line) in source.text.lines().enumerate() {
            let place = || format!("{}:{}", source.path.display(), number + 1);
            if let Some(word) = banned.iter().find(|word| has_word(line, word)) {
                let what = format!("`{word}`: do it, or say in the docs that it is missing");
                findings.push(Finding { place: place(), what });
            }
            if line.chars().count() > LINE_WIDTH_MAX {
                let what = format!("more than {LINE_WIDTH_MAX} characters wide");
                findings.push(Finding { place: place(), what });
            }
        }
    }
    findings
}

fn has_word(line: &str, word: &str) -> bool {
    let boundary = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && c != '_');
    line.match_indices(word).any(|(at, _)| {
        boundary(line[..at].chars().next_back()) && boundary(line[at + word.len()..].chars().next())
    })
}
