//! How much, as people write it: `10MB/s`, `50%`, `20/s`.

use crate::output::human;

/// Units of bytes. A small `b` would be bits, and is none of them.
const UNITS: [(&str, f64); 18] = [
    ("", 1.0),
    ("B", 1.0),
    ("kB", 1e3),
    ("KB", 1e3),
    ("k", 1e3),
    ("K", 1e3),
    ("KiB", 1_024.0),
    ("MB", 1e6),
    ("M", 1e6),
    ("MiB", 1_048_576.0),
    ("GB", 1e9),
    ("G", 1e9),
    ("GiB", 1_073_741_824.0),
    ("TB", 1e12),
    ("TiB", 1_099_511_627_776.0),
    ("Ki", 1_024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
];

/// What can be shown exactly by one of these, is: the first that fits, from the largest on.
const SHOWN: [(&str, u64); 8] = [
    ("TB", 1_000_000_000_000),
    ("TiB", 1 << 40),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("KB", 1_000),
    ("KiB", 1 << 10),
];

/// A number, and what stands behind it; nothing else is a number here.
fn number(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end)?;
    let number: f64 = digits.parse().ok()?;
    (number.is_finite() && number > 0.0).then_some((number, rest.trim()))
}

/// Without `/s`, which goes without saying.
fn in_a_second(text: &str) -> &str {
    let text = text.trim();
    text.strip_suffix("/s").unwrap_or(text).trim_end()
}

/// Bytes in a second, a whole number of them.
pub(super) fn bytes(text: &str) -> Result<f64, String> {
    let bad = || {
        let bits = if in_a_second(text).ends_with('b') { " (`b` would be bits)" } else { "" };
        format!(
            "`{text}` is no rate of bytes{bits}: write 10MB/s for ten millions of them in a second, 10MiB/s \
             for ten times 1,048,576, or a number of bytes"
        )
    };
    let (number, unit) = number(in_a_second(text)).ok_or_else(bad)?;
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(bad)?;
    let bytes = (number * factor).round();
    if bytes < 1.0 { Err(bad()) } else { Ok(bytes) }
}

/// Percent of one core.
pub(super) fn percent(text: &str) -> Result<f64, String> {
    match number(text.trim()) {
        Some((number, "" | "%")) => Ok(number),
        _ => Err(format!("`{text}` is no share: write 50% for half a core, 200% for two of them")),
    }
}

/// Something in a second.
pub(super) fn count(text: &str) -> Result<f64, String> {
    match number(in_a_second(text)) {
        Some((number, "")) => Ok(number),
        _ => Err(format!("`{text}` is no rate: write 20/s for twenty in a second, or 0.5/s")),
    }
}

/// Bytes in a second, for people: exactly what they are.
pub(super) fn show_bytes(rate: f64) -> String {
    let whole = rate.round();
    if (rate - whole).abs() > f64::EPSILON || !(1.0..1e15).contains(&whole) {
        return format!("{rate} B/s");
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
    let bytes = whole as u64;
    for (unit, size) in SHOWN {
        let tenths = bytes.checked_mul(10).filter(|tenths| tenths.is_multiple_of(size));
        let is_whole = unit.contains('i');
        match tenths.map(|tenths| tenths / size) {
            Some(tenths) if tenths < 10 || (is_whole && !tenths.is_multiple_of(10)) => {}
            Some(tenths) if tenths.is_multiple_of(10) => {
                return format!("{} {unit}/s", human::count(tenths / 10));
            }
            Some(tenths) => {
                return format!("{}.{} {unit}/s", human::count(tenths / 10), tenths % 10);
            }
            None => {}
        }
    }
    format!("{} B/s", human::count(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_people_write_them() {
        for (text, expected) in [
            ("10MB/s", Some(1e7)),
            ("10 MB/s", Some(1e7)),
            (" 10M ", Some(1e7)),
            ("1.5MB/s", Some(1.5e6)),
            ("10MiB/s", Some(10_485_760.0)),
            ("512KiB", Some(524_288.0)),
            ("64Ki/s", Some(65_536.0)),
            ("3kB/s", Some(3e3)),
            ("2GB/s", Some(2e9)),
            ("2GiB/s", Some(2_147_483_648.0)),
            ("1TB/s", Some(1e12)),
            ("500000", Some(5e5)),
            ("500000B/s", Some(5e5)),
            ("0.0001KB", None),
            ("10Mb/s", None),
            ("10mb/s", None),
            ("10MB/min", None),
            ("MB/s", None),
            ("-1", None),
            ("1e6", None),
            ("inf", None),
            ("NaN", None),
            ("0", None),
            ("1.2.3", None),
            ("", None),
            ("/s", None),
        ] {
            assert_eq!(bytes(text).ok(), expected, "{text}");
        }
        assert!(bytes("10Mb/s").is_err_and(|why| why.contains("would be bits")));
    }

    #[test]
    fn shares_and_counts_are_read_as_people_write_them() {
        for (text, share, rate) in [
            ("50%", Some(50.0), None),
            ("12.5 %", Some(12.5), None),
            ("200", Some(200.0), Some(200.0)),
            ("20/s", None, Some(20.0)),
            ("0.5/s", None, Some(0.5)),
            ("0.5 / s", None, None),
            ("20/min", None, None),
            ("0%", None, None),
            ("x", None, None),
        ] {
            assert_eq!((percent(text).ok(), count(text).ok()), (share, rate), "{text}");
        }
    }

    #[test]
    fn what_is_shown_is_what_it_is() {
        for (rate, expected) in [
            (1e7, "10 MB/s"),
            (1.5e6, "1.5 MB/s"),
            (10_485_760.0, "10 MiB/s"),
            (524_288.0, "512 KiB/s"),
            (1_024_000.0, "1,024 KB/s"),
            (999.0, "999 B/s"),
            (1_234_567.0, "1,234,567 B/s"),
            (2e9, "2 GB/s"),
            (1_073_741_824.0, "1 GiB/s"),
            (1_000.0, "1 KB/s"),
            (1_024.0, "1 KiB/s"),
            (0.5, "0.5 B/s"),
            (1e18, "1000000000000000000 B/s"),
        ] {
            assert_eq!(show_bytes(rate), expected);
            let shown = expected.replace(',', "");
            assert!(bytes(&shown).is_ok_and(|read| read == rate) || rate < 1.0, "{expected}");
        }
    }
}
