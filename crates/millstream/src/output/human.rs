//! Numbers for people.

use std::time::Duration;

/// A number with a comma after each thousand.
pub(crate) fn count(number: impl Into<i128>) -> String {
    let number = number.into();
    let digits = number.unsigned_abs().to_string();
    let mut text = String::from(if number < 0 { "-" } else { "" });
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number and what it is of, with an `s` for more than one.
pub(crate) fn counted(number: impl Into<i128>, what: &str) -> String {
    let number = number.into();
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {what}{plural}", count(number))
}

/// A size with three digits or so and a binary unit.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(crate) fn bytes(number: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if number < 1024 {
        return format!("{number} B");
    }
    let mut size = number as f64 / 1024.0;
    let mut units = UNITS.iter();
    let mut unit = units.next();
    // What would be shown as 1024 is shown as 1 of the next unit.
    while size >= 1023.5
        && let Some(larger) = units.next()
    {
        size /= 1024.0;
        unit = Some(larger);
    }
    let decimals = if size < 9.995 {
        2
    } else if size < 99.95 {
        1
    } else {
        0
    };
    format!("{size:.decimals$} {}", unit.unwrap_or(&"B"))
}

/// A time with two or three digits and the unit that fits.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 0.001 {
        format!("{} µs", time.as_micros())
    } else if seconds < 1.0 {
        format!("{} ms", time.as_millis())
    } else if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else {
        let whole = time.as_secs();
        match (whole / 3600, whole / 60 % 60, whole % 60) {
            (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
            (hours, minutes, _) => format!("{hours} h {minutes} min"),
        }
    }
}

/// How many of something in one second; 0 for no time at all.
pub(crate) fn per_second(number: u64, time: Duration) -> u64 {
    let nanoseconds = time.as_nanos();
    let scaled = u128::from(number) * 1_000_000_000;
    scaled.checked_div(nanoseconds).and_then(|rate| u64::try_from(rate).ok()).unwrap_or(0)
}

/// What a setting's value means, where the bare number does not tell it at a glance: a time in
/// milliseconds, a size in bytes, or a number that stands for "no limit".
pub(crate) fn meaning(setting: &str, value: &str) -> Option<String> {
    let number: i64 = value.parse().ok()?;
    let unit = setting.rsplit('.').next()?;
    if number == i64::MAX || (number == -1 && setting.contains("retention.")) {
        return Some("no limit".to_owned());
    }
    let number = u64::try_from(number).ok()?;
    match unit {
        "ms" => span(number),
        "bytes" => size(number),
        _ => None,
    }
}

/// Milliseconds in the units that they are made of; none below a second.
fn span(milliseconds: u64) -> Option<String> {
    const UNITS: [(u64, &str); 4] =
        [(86_400_000, "day"), (3_600_000, "hour"), (60_000, "minute"), (1_000, "second")];
    if milliseconds < 1_000 {
        return None;
    }
    let mut rest = milliseconds;
    let mut parts = Vec::new();
    for (unit, name) in UNITS {
        if rest >= unit {
            parts.push(counted(rest / unit, name));
            rest %= unit;
        }
    }
    if rest > 0 {
        parts.push(format!("{rest} ms"));
    }
    Some(parts.join(" "))
}

/// A size in the largest unit of which it is a multiple, or about; none below a KiB.
fn size(number: u64) -> Option<String> {
    if number < 1024 {
        return None;
    }
    let text = bytes(number);
    let is_whole = number.is_multiple_of(1 << (number.ilog2() / 10 * 10));
    Some(match text.split_once(' ') {
        Some((digits, unit)) if is_whole => {
            let digits = digits.split_once('.').map_or(digits, |(whole, _)| whole);
            format!("{digits} {unit}")
        }
        _ => format!("about {text}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts() {
        for (number, expected) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (336_776, "336,776"),
            (-1_234_567, "-1,234,567"),
        ] {
            assert_eq!(count(number), expected);
        }
        assert_eq!(counted(1, "record"), "1 record");
        assert_eq!(counted(2_000, "record"), "2,000 records");
        assert_eq!(counted(0, "record"), "0 records");
    }

    #[test]
    fn sizes() {
        for (number, expected) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_024, "1.00 KiB"),
            (10_240, "10.0 KiB"),
            (102_400, "100 KiB"),
            (1_048_575, "1.00 MiB"),
            (1_048_576, "1.00 MiB"),
            (3 << 30, "3.00 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(bytes(number), expected, "{number}");
        }
    }

    #[test]
    fn durations() {
        for (milliseconds, expected) in [
            (0.5, "500 µs"),
            (12.0, "12 ms"),
            (1_250.0, "1.2 s"),
            (61_000.0, "1 min 1 s"),
            (7_260_000.0, "2 h 1 min"),
        ] {
            assert_eq!(duration(Duration::from_secs_f64(milliseconds / 1000.0)), expected);
        }
    }

    #[test]
    fn rates() {
        assert_eq!(per_second(500, Duration::from_millis(250)), 2_000);
        assert_eq!(per_second(500, Duration::ZERO), 0);
    }

    #[test]
    fn values_of_settings_have_a_meaning() {
        for (setting, value, expected) in [
            ("retention.ms", "604800000", "7 days"),
            ("retention.ms", "86400000", "1 day"),
            ("retention.ms", "129600000", "1 day 12 hours"),
            ("retention.ms", "5400000", "1 hour 30 minutes"),
            ("segment.ms", "61500", "1 minute 1 second 500 ms"),
            ("segment.ms", "500", ""),
            ("retention.ms", "-1", "no limit"),
            ("retention.bytes", "-1", "no limit"),
            ("flush.messages", "9223372036854775807", "no limit"),
            ("local.retention.ms", "-2", ""),
            ("remote.copy.lag.ms", "-1", ""),
            ("segment.bytes", "1073741824", "1 GiB"),
            ("max.message.bytes", "1048588", "about 1.00 MiB"),
            ("max.message.bytes", "1536", "about 1.50 KiB"),
            ("max.message.bytes", "1000", ""),
            ("min.insync.replicas", "1", ""),
            ("cleanup.policy", "delete", ""),
        ] {
            let meaning = meaning(setting, value).unwrap_or_default();
            assert_eq!(meaning, expected, "{setting}={value}");
        }
    }
}
