//! Times, bytes and numbers as people read them.

use std::fmt::Write as _;

use millstream_types::Timestamp;

const DAY: i64 = 24 * 60 * 60 * 1_000;

/// A time in RFC 3339, in UTC, to the millisecond; `None` for no timestamp. What no year of four
/// digits holds is told in milliseconds since 1970.
pub(super) fn time(Timestamp(at): Timestamp) -> Option<String> {
    if at == Timestamp::NONE.0 {
        return None;
    }
    let (days, rest) = (at.div_euclid(DAY), at.rem_euclid(DAY));
    let (year, month, day) = civil(days);
    if !(0..=9999).contains(&year) {
        return Some(format!("{at} ms"));
    }
    let (seconds, millis) = (rest / 1_000, rest % 1_000);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    Some(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z"))
}

/// The Gregorian date so many days after 1970-01-01. Counts in eras of 400 years that begin in
/// March, so that the leap day comes last.
const fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let leaps = day_of_era / 1_460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leaps) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era;
    (if month <= 2 { year + 1 } else { year }, month, day)
}

/// Bytes as text in quotes when they are UTF-8, as hexadecimal digits when not.
pub(super) fn bytes(bytes: Option<&[u8]>) -> String {
    match bytes.map(std::str::from_utf8) {
        None => "null".to_owned(),
        Some(Ok(text)) => format!("{text:?}"),
        Some(Err(_)) => format!("0x{}", hex(bytes.unwrap_or_default())),
    }
}

/// Hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// First and last, or the one when they are the same.
pub(super) fn range(first: i64, last: i64) -> String {
    if first == last { first.to_string() } else { format!("{first}..{last}") }
}

/// A number with a comma after each thousand.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (at, expected) in [
            (0, Some("1970-01-01T00:00:00.000Z")),
            (951_782_400_000, Some("2000-02-29T00:00:00.000Z")),
            (1_769_866_200_123, Some("2026-01-31T13:30:00.123Z")),
            (-2, Some("1969-12-31T23:59:59.998Z")),
            (-1, None),
            (253_402_300_799_999, Some("9999-12-31T23:59:59.999Z")),
            (253_402_300_800_000, Some("253402300800000 ms")),
            (i64::MIN, Some("-9223372036854775808 ms")),
            (i64::MAX, Some("9223372036854775807 ms")),
        ] {
            assert_eq!(time(Timestamp(at)).as_deref(), expected, "{at}");
        }
    }

    #[test]
    fn bytes_are_text_or_digits() {
        assert_eq!(bytes(None), "null");
        assert_eq!(bytes(Some(b"")), r#""""#);
        assert_eq!(bytes(Some("a \"ü\"\n".as_bytes())), r#""a \"ü\"\n""#);
        assert_eq!(bytes(Some(&[0xff, 0x00])), "0xff00");
    }

    #[test]
    fn numbers() {
        for (number, expected) in [(0, "0"), (999, "999"), (1_000, "1,000"), (336_776, "336,776")] {
            assert_eq!(count(number), expected);
        }
        assert_eq!((range(3, 3), range(3, 5)), ("3".to_owned(), "3..5".to_owned()));
    }
}
