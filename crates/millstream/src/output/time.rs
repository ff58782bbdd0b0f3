//! Times as people write them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use millstream_types::Timestamp;

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const WEEK: i64 = 7 * DAY;

/// A time that somebody has written: a date, or how long ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Milliseconds since 1970.
    At(i64),
    /// Milliseconds before now.
    Ago(i64),
}

/// What a time may look like, for help texts and errors.
pub(crate) const TIME_FORMS: &str =
    "2026-01-31, 2026-01-31T13:30:00Z, 2026-01-31T13:30:00+01:00, or so long ago: -90s, -1h, -2d";

/// A text that is no time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadMoment(String);

impl fmt::Display for BadMoment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is no time; write {TIME_FORMS}", self.0)
    }
}

impl std::error::Error for BadMoment {}

impl Moment {
    /// The time that is meant, when it is `now`.
    pub(crate) const fn resolve(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => Timestamp(at),
            Self::Ago(ago) => Timestamp(now.0.saturating_sub(ago)),
        }
    }
}

impl FromStr for Moment {
    type Err = BadMoment;

    fn from_str(text: &str) -> Result<Self, BadMoment> {
        let moment = match text.strip_prefix('-') {
            Some(span) => parse_span(span).map(Self::Ago),
            None => parse_date(text).map(Self::At),
        };
        moment.ok_or_else(|| BadMoment(text.to_owned()))
    }
}

/// Reads a span of time that is not nothing, as people type it.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    let span = parse_span(text).and_then(|ms| u64::try_from(ms).ok()).filter(|ms| *ms > 0);
    let bad = || format!("`{text}` is no span of time; write 90s, 1h30m or 7d");
    span.map(Duration::from_millis).ok_or_else(bad)
}

/// Reads `90s`, `1h30m`, `2d`.
fn parse_span(text: &str) -> Option<i64> {
    let mut rest = text;
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, after) = rest.split_at(digits);
        let unit_len = after.chars().take_while(char::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at(unit_len);
        let unit = match unit {
            "ms" => 1,
            "s" => SECOND,
            "m" | "min" => MINUTE,
            "h" => HOUR,
            "d" => DAY,
            "w" => WEEK,
            _ => return None,
        };
        total = total.checked_add(number.parse::<i64>().ok()?.checked_mul(unit)?)?;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

/// Reads RFC 3339, also without a time of day, and with a blank for the `T`.
fn parse_date(text: &str) -> Option<i64> {
    let (date, rest) = text.split_at_checked(10)?;
    let days = parse_day(date)?;
    let start = days.checked_mul(DAY)?;
    let Some(rest) = rest.strip_prefix(['T', 't', ' ']) else {
        return rest.is_empty().then_some(start);
    };
    let zone_at = rest.find(['Z', 'z', '+', '-'])?;
    let (time, zone) = rest.split_at(zone_at);
    start.checked_add(parse_time_of_day(time)?)?.checked_sub(parse_zone(zone)?)
}

fn parse_day(text: &str) -> Option<i64> {
    let (year, rest) = text.split_once('-')?;
    let (month, day) = rest.split_once('-')?;
    let (year, month, day) = (digits(year, 4)?, digits(month, 2)?, digits(day, 2)?);
    let legal = (1..=12).contains(&month) && (1..=days_in_month(year, month)).contains(&day);
    legal.then(|| days_from_civil(year, month, day))
}

fn parse_time_of_day(text: &str) -> Option<i64> {
    let (clock, fraction) = match text.split_once('.') {
        Some((clock, fraction)) => (clock, Some(fraction)),
        None => (text, None),
    };
    let mut parts = clock.split(':');
    let hour = digits(parts.next()?, 2)?;
    let minute = digits(parts.next()?, 2)?;
    let second = parts.next().map_or(Some(0), |second| digits(second, 2))?;
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let milliseconds = fraction.map_or(Some(0), |fraction| {
        let legal = !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit());
        // What is finer than a millisecond is cut off.
        let three: String = fraction.chars().chain("00".chars()).take(3).collect();
        if legal { three.parse().ok() } else { None }
    })?;
    Some(hour * HOUR + minute * MINUTE + second * SECOND + milliseconds)
}

fn parse_zone(text: &str) -> Option<i64> {
    if text.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let (sign, text) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = text.split_once(':')?;
    let (hours, minutes) = (digits(hours, 2)?, digits(minutes, 2)?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * HOUR + minutes * MINUTE))
}

/// A number of exactly so many digits.
fn digits(text: &str, count: usize) -> Option<i64> {
    let legal = text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    if legal { text.parse().ok() } else { None }
}

const fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days from 1970-01-01 in the Gregorian calendar, counted in eras of 400 years that begin in
/// March, so that the leap day is the last of its year.
const fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The reverse of [`days_from_civil`].
const fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400;
    (if month <= 2 { year + 1 } else { year }, month, day)
}

/// Year, month and day of a time, in UTC; as near as possible where no year of four digits holds it.
pub(crate) fn date(at: Timestamp) -> (i32, u8, u8) {
    let (year, month, day) = civil_from_days(at.0.div_euclid(DAY));
    let year = i32::try_from(year.clamp(0, 9_999)).unwrap_or_default();
    // Months and days are small.
    (year, u8::try_from(month).unwrap_or(1), u8::try_from(day).unwrap_or(1))
}

/// A time in RFC 3339, in UTC, with milliseconds if there are any.
pub(crate) fn display(at: Timestamp) -> String {
    let text = to_the_millisecond(at);
    text.strip_suffix(".000Z").map_or(text.clone(), |whole| format!("{whole}Z"))
}

/// A stored time in RFC 3339, in UTC, to the millisecond; `None` for no timestamp. What no year of
/// four digits holds is told in milliseconds since 1970.
pub(crate) fn stored(at: Timestamp) -> Option<String> {
    const YEARS: std::ops::Range<i64> = -62_167_219_200_000..253_402_300_800_000;
    match at {
        Timestamp::NONE => None,
        at if YEARS.contains(&at.0) => Some(to_the_millisecond(at)),
        Timestamp(at) => Some(format!("{at} ms")),
    }
}

fn to_the_millisecond(Timestamp(at): Timestamp) -> String {
    let (days, rest) = (at.div_euclid(DAY), at.rem_euclid(DAY));
    let (year, month, day) = civil_from_days(days);
    let (hour, minute) = (rest / HOUR, rest % HOUR / MINUTE);
    let (second, milliseconds) = (rest % MINUTE / SECOND, rest % SECOND);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milliseconds:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<Moment>) {
        assert_eq!(text.parse::<Moment>().ok(), expected, "{text}");
    }

    #[test]
    fn dates() {
        for (text, at) in [
            ("1970-01-01", 0),
            ("2000-02-29", 951_782_400_000),
            ("2026-01-31T13:30:00Z", 1_769_866_200_000),
            ("2026-01-31 13:30Z", 1_769_866_200_000),
            ("2026-01-31t14:30:00+01:00", 1_769_866_200_000),
            ("2026-01-31T12:00:00-01:30", 1_769_866_200_000),
            ("2026-01-31T13:30:00.5Z", 1_769_866_200_500),
            ("2026-01-31T13:30:00.123456789Z", 1_769_866_200_123),
            ("1969-12-31T23:59:59.999Z", -1),
            ("0001-01-01", -62_135_596_800_000),
        ] {
            check(text, Some(Moment::At(at)));
        }
    }

    #[test]
    fn how_long_ago() {
        for (text, ago) in [
            ("-90s", 90_000),
            ("-1h", 3_600_000),
            ("-1h30m", 5_400_000),
            ("-2d", 172_800_000),
            ("-1w", 604_800_000),
            ("-250ms", 250),
        ] {
            check(text, Some(Moment::Ago(ago)));
        }
        assert_eq!(Moment::Ago(5).resolve(Timestamp(7)), Timestamp(2));
        assert_eq!(Moment::At(5).resolve(Timestamp(7)), Timestamp(5));
    }

    #[test]
    fn spans() {
        for (text, seconds) in [
            ("90s", Some(90)),
            ("1h30m", Some(5_400)),
            ("7d", Some(604_800)),
            ("0s", None),
            ("", None),
            ("-1s", None),
            ("7", None),
            ("soon", None),
            ("99999999999999999w", None),
        ] {
            assert_eq!(span(text).ok(), seconds.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn what_is_no_time() {
        for text in [
            "",
            "-",
            "-h",
            "-1",
            "-1y",
            "-1h 2m",
            "now",
            "2026",
            "2026-13-01",
            "2026-02-29",
            "2026-1-1",
            "2026-01-31T",
            "2026-01-31T13",
            "2026-01-31T13:30",
            "2026-01-31T24:00Z",
            "2026-01-31T13:30:00.Z",
            "2026-01-31T13:30:00+1:00",
            "2026-01-31T13:30:00Zx",
            "2026-01-31x",
            "ä026-01-31",
            "-99999999999999999999h",
            "-9223372036854775807w",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn the_error_says_what_to_write() {
        let error = "yesterday".parse::<Moment>().unwrap_err();
        assert!(error.to_string().starts_with("`yesterday` is no time; write 2026-01-31, "));
    }

    #[test]
    fn display_is_what_parse_reads() {
        let mut at: i64 = -62_135_596_800_000;
        // Steps that are no multiple of anything, through two thousand years.
        while at < 253_402_300_799_999 {
            let text = display(Timestamp(at));
            assert_eq!(text.parse(), Ok(Moment::At(at)), "{text}");
            at += 7 * DAY + 12_345_679;
        }
        assert_eq!(display(Timestamp(951_782_400_000)), "2000-02-29T00:00:00Z");
    }

    #[test]
    fn stored_times() {
        for (at, expected) in [
            (0, Some("1970-01-01T00:00:00.000Z")),
            (951_782_400_000, Some("2000-02-29T00:00:00.000Z")),
            (1_769_866_200_123, Some("2026-01-31T13:30:00.123Z")),
            (-2, Some("1969-12-31T23:59:59.998Z")),
            (-1, None),
            (253_402_300_799_999, Some("9999-12-31T23:59:59.999Z")),
            (253_402_300_800_000, Some("253402300800000 ms")),
            (-62_167_219_200_000, Some("0000-01-01T00:00:00.000Z")),
            (i64::MIN, Some("-9223372036854775808 ms")),
            (i64::MAX, Some("9223372036854775807 ms")),
        ] {
            assert_eq!(stored(Timestamp(at)).as_deref(), expected, "{at}");
        }
    }
}
