//! Reading the text tables that say what golden files hold.
//!
//! One record a line: timestamp, key, value, then headers as `name=value`, separated by blanks.
//! Bytes are `-` (null), `'text'` (UTF-8 without blanks or quotes; `''` is empty), `0x...`
//! (hexadecimal) or `count*0..n` (`count` bytes that count from 0 to n-1, again and again). Lines
//! that start with `#` and empty lines are left out.

use crate::batches::RecordPlan;

/// Reads a table. Panics with the line when it is not one.
#[must_use]
pub fn records(table: &str) -> Vec<RecordPlan> {
    table
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| record(line).unwrap_or_else(|| panic!("not a record: {line}")))
        .collect()
}

fn record(line: &str) -> Option<RecordPlan> {
    let mut words = line.split_whitespace();
    let timestamp = words.next()?.parse().ok()?;
    let key = bytes(words.next()?)?;
    let value = bytes(words.next()?)?;
    let headers = words
        .map(|word| {
            let (name, value) = word.split_once('=')?;
            Some((name.as_bytes().to_vec(), bytes(value)?))
        })
        .collect::<Option<_>>()?;
    Some(RecordPlan { hole: 0, timestamp, key, value, headers })
}

fn bytes(word: &str) -> Option<Option<Vec<u8>>> {
    if word == "-" {
        return Some(None);
    }
    if let Some(text) = word.strip_prefix('\'') {
        return text.strip_suffix('\'').map(|text| Some(text.as_bytes().to_vec()));
    }
    if let Some(digits) = word.strip_prefix("0x") {
        let pairs = (0..digits.len()).step_by(2);
        return pairs
            .map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok())
            .collect::<Option<Vec<u8>>>()
            .map(Some);
    }
    let (count, end) = word.split_once("*0..")?;
    let (count, end) = (count.parse::<usize>().ok()?, end.parse::<u16>().ok()?);
    let unit = (0..end).map(u8::try_from).collect::<Result<Vec<_>, _>>().ok()?;
    Some(Some(unit.into_iter().cycle().take(count).collect()))
}
