//! Values: text read by its entry's type and rules, and written back in one way.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use super::entry::{Allowed, ConfigType, Entry};
use crate::group::Pattern;

/// A value that its entry allows.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Flag(bool),
    Number(i64),
    Fraction(f64),
    Text(String),
    Items(Vec<String>),
}

/// What a subscription to client metrics may select clients by.
const CLIENT_SELECTORS: &[&str] = &[
    "client_instance_id",
    "client_id",
    "client_software_name",
    "client_software_version",
    "client_source_address",
    "client_source_port",
];

/// Reads `text` as a value of `entry`; `None` when `entry` doesn't allow it.
pub(super) fn parse(entry: &Entry, text: &str) -> Option<Value> {
    // As Kafka: blanks around a value don't count, except in free text.
    let trimmed = text.trim();
    match entry.config_type {
        ConfigType::Boolean => {
            let known = [("true", true), ("false", false)];
            let found = known.iter().find(|(word, _)| trimmed.eq_ignore_ascii_case(word));
            found.map(|(_, flag)| Value::Flag(*flag))
        }
        ConfigType::Int => number::<i32>(trimmed, entry.allowed),
        ConfigType::Short => number::<i16>(trimmed, entry.allowed),
        ConfigType::Long => number::<i64>(trimmed, entry.allowed),
        ConfigType::Double => fraction(trimmed, entry.allowed),
        ConfigType::String | ConfigType::Password => self::text(text, entry.allowed),
        ConfigType::Class => self::text(trimmed, entry.allowed),
        ConfigType::List => items(trimmed, entry.allowed),
    }
}

/// The items of a list; none where there is only blank space.
pub(super) fn split(list: &str) -> Vec<String> {
    if list.trim().is_empty() {
        return Vec::new();
    }
    list.split(',').map(|item| item.trim().to_owned()).collect()
}

fn number<T: TryFrom<i64>>(text: &str, allowed: Allowed) -> Option<Value> {
    let value: i64 = text.parse().ok()?;
    T::try_from(value).ok()?;
    let fits = match allowed {
        Allowed::AtLeast(low) => low <= value,
        Allowed::Between(low, high) => (low..=high).contains(&value),
        Allowed::BetweenOrDefault(low, high) => value == -1 || (low..=high).contains(&value),
        Allowed::NotZero => value != 0,
        _ => true,
    };
    let no_limit = allowed == Allowed::NotZero && value < 0;
    fits.then_some(Value::Number(if no_limit { -1 } else { value }))
}

fn fraction(text: &str, allowed: Allowed) -> Option<Value> {
    let value: f64 = text.parse().ok()?;
    let fits = value.is_finite() && (allowed != Allowed::Share || (0.0..=1.0).contains(&value));
    fits.then_some(Value::Fraction(value))
}

fn text(text: &str, allowed: Allowed) -> Option<Value> {
    let fits = match allowed {
        Allowed::OneOf(words) => words.contains(&text),
        Allowed::OneOfAnyCase(words) => words.iter().any(|word| text.eq_ignore_ascii_case(word)),
        Allowed::StartOffset => is_start_offset(text),
        Allowed::Secret(least) => text.is_empty() || text.len() >= least,
        Allowed::Users => users(text).is_some(),
        Allowed::AddressLimits => address_limits(text).is_some(),
        _ => true,
    };
    fits.then(|| Value::Text(text.to_owned()))
}

fn items(text: &str, allowed: Allowed) -> Option<Value> {
    let mut items = split(text);
    let fits = match allowed {
        Allowed::ListOf(words) => items.iter().all(|item| words.contains(&item.as_str())),
        Allowed::Distinct => {
            let mut seen = BTreeSet::new();
            items.iter().all(|item| !item.is_empty() && seen.insert(item))
        }
        Allowed::ThrottledReplicas => text == "*" || items.iter().all(|item| is_replica(item)),
        Allowed::ClientMatch => items.iter().all(|item| is_selector(item)),
        _ => true,
    };
    if matches!(allowed, Allowed::ListOf(_)) {
        // As Kafka: to name a word twice is no error and means nothing.
        let mut seen = BTreeSet::new();
        items.retain(|item| seen.insert(item.clone()));
    }
    fits.then_some(Value::Items(items))
}

/// Whether `text` is `partition:broker`.
fn is_replica(text: &str) -> bool {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once(':')
        .is_some_and(|(partition, broker)| is_number(partition) && is_number(broker))
}

fn is_selector(text: &str) -> bool {
    text.split_once('=').is_some_and(|(name, pattern)| {
        let pattern = pattern.trim();
        let is_one = !pattern.is_empty() && !pattern.contains('=') && Pattern::new(pattern).is_ok();
        CLIENT_SELECTORS.contains(&name.trim()) && is_one
    })
}

/// What `address:number` says, with commas between; `None` when a part of it is something else.
pub(super) fn address_limits(text: &str) -> Option<BTreeMap<IpAddr, usize>> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let each = parts.map(|part| {
        let (address, most) = part.rsplit_once(':')?;
        let address = address.trim_start_matches('[').trim_end_matches(']');
        let address: IpAddr = address.parse().ok()?;
        Some((address.to_canonical(), usize::try_from(most.parse::<u32>().ok()?).ok()?))
    });
    each.collect()
}

/// The names in `User:name`, with semicolons between several, because the names of certificates have
/// commas; `None` when a part of it is something else.
pub(super) fn users(text: &str) -> Option<BTreeSet<String>> {
    let parts = text.split(';').map(str::trim).filter(|part| !part.is_empty());
    let names = parts.map(|part| part.strip_prefix("User:").filter(|name| !name.is_empty()));
    names.map(|name| name.map(str::to_owned)).collect()
}

fn is_start_offset(text: &str) -> bool {
    let duration = |text: &str| text.strip_prefix("by_duration:").is_some_and(is_duration);
    text == "earliest" || text == "latest" || duration(text)
}

/// Whether `text` is an ISO 8601 duration of days, hours, minutes and seconds: `P1DT2H30.5S`.
fn is_duration(text: &str) -> bool {
    let text = text.to_ascii_uppercase();
    let Some(text) = text.strip_prefix('P') else { return false };
    let (days, time) = match text.split_once('T') {
        Some((days, time)) => (days, Some(time)),
        None => (text, None),
    };
    let empty = days.is_empty() && time.is_none();
    !empty
        && are_parts(days, &['D'])
        && time.is_none_or(|time| !time.is_empty() && are_parts(time, &['H', 'M', 'S']))
}

/// Whether `text` is a run of numbers, each with one of `units`, in their order.
fn are_parts(mut text: &str, units: &[char]) -> bool {
    for &unit in units {
        let Some((number, rest)) = text.split_once(unit) else { continue };
        let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let fits = (1..=9).contains(&whole.len()) && part.len() <= 9;
        if !fits || !digits(whole) || !digits(part) || (unit != 'S' && number != whole) {
            return false;
        }
        text = rest;
    }
    text.is_empty()
}

/// What `entry` takes, in words.
pub(super) fn expects(entry: &Entry) -> String {
    let quoted = |words: &[&str]| {
        let quote = |word: &&str| match *word {
            "" => "nothing".to_owned(),
            word => format!("`{word}`"),
        };
        words.iter().map(quote).collect::<Vec<_>>().join(", ")
    };
    let noun = match entry.config_type {
        ConfigType::Boolean => "`true` or `false`",
        ConfigType::Int | ConfigType::Short | ConfigType::Long => "a whole number",
        ConfigType::Double => "a number",
        ConfigType::List => "a list with commas",
        ConfigType::Class => "a class name",
        ConfigType::String | ConfigType::Password => "text",
    };
    let type_max = match entry.config_type {
        ConfigType::Int => Some(i64::from(i32::MAX)),
        ConfigType::Short => Some(i64::from(i16::MAX)),
        _ => None,
    };
    match (entry.allowed, type_max) {
        (Allowed::Any, Some(high)) => format!("{noun} up to {high}"),
        (Allowed::Any, None) => noun.to_owned(),
        (Allowed::AtLeast(low), Some(high)) => format!("{noun} from {low} to {high}"),
        (Allowed::AtLeast(low), None) => format!("{noun}, at least {low}"),
        (Allowed::Between(low, high), _) => format!("{noun} from {low} to {high}"),
        (Allowed::BetweenOrDefault(low, high), _) => format!("{noun} from {low} to {high}, or -1"),
        (Allowed::NotZero, _) => format!("{noun} other than 0"),
        (Allowed::Share, _) => format!("{noun} from 0 to 1"),
        (Allowed::OneOf(words) | Allowed::OneOfAnyCase(words), _) => {
            format!("one of {}", quoted(words))
        }
        (Allowed::ListOf(words), _) => format!("a list of {}", quoted(words)),
        (Allowed::Distinct, _) => format!("{noun} that names nothing twice"),
        (Allowed::ThrottledReplicas, _) => "`*`, or a list of `partition:broker`".to_owned(),
        (Allowed::AddressLimits, _) => {
            "a list of `address:number`, such as `192.0.2.7:100,[2001:db8::7]:5`".to_owned()
        }
        (Allowed::Users, _) => {
            "`User:name`, several with semicolons, such as `User:ann;User:bob`".to_owned()
        }
        (Allowed::Secret(least), _) => {
            format!(
                "a secret of at least {least} bytes, as `openssl rand -base64 {least}` makes one"
            )
        }
        (Allowed::StartOffset, _) => {
            "`earliest`, `latest`, or `by_duration:` and an ISO 8601 duration".to_owned()
        }
        (Allowed::ClientMatch, _) => {
            let names = quoted(CLIENT_SELECTORS);
            format!("a list of `name=regular expression`, each name one of {names}")
        }
    }
}

impl Value {
    /// The value in a unit that is `scale` times smaller. Negative numbers are not amounts but
    /// stand for "no limit", in every unit.
    pub(super) fn scaled(self, scale: i64) -> Self {
        match self {
            Self::Number(number) if number >= 0 => Self::Number(number.saturating_mul(scale)),
            other => other,
        }
    }
}

/// A number as Java writes it: with a fraction even where that is zero, and with an exponent from ten
/// million on and below a thousandth.
fn java_double(number: f64) -> String {
    let size = number.abs();
    if size == 0.0 || (1e-3..1e7).contains(&size) {
        return format!("{number:?}");
    }
    let text = format!("{number:E}");
    match text.split_once('E') {
        Some((digits, exponent)) if !digits.contains('.') => format!("{digits}.0E{exponent}"),
        _ => text,
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Fraction(fraction) => f.write_str(&java_double(*fraction)),
            Self::Text(text) => f.write_str(text),
            Self::Items(items) => f.write_str(&items.join(",")),
        }
    }
}
