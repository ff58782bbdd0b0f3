//! Places in a partition, as they are typed.

use std::fmt;
use std::str::FromStr;

use millstream_types::{Offset, Timestamp};

use crate::output::time::{Moment, TIME_FORMS};

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position(pub(super) Place);

/// Where to begin, or how far to go from where one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewPosition(pub(super) Move);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Earliest,
    Latest,
    At(Offset),
    Time(Moment),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Move {
    To(Place),
    By(i64),
}

/// A text that is no position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadPosition {
    text: String,
    shifts: bool,
}

impl fmt::Display for BadPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { text, shifts } = self;
        let more = if *shifts { ", +N or -N to move from where the group is" } else { "" };
        write!(f, "`{text}` is none of: earliest, latest, an offset{more}, a time ({TIME_FORMS})")
    }
}

impl std::error::Error for BadPosition {}

impl FromStr for Position {
    type Err = BadPosition;

    fn from_str(text: &str) -> Result<Self, BadPosition> {
        let place = parse_place(text);
        place.map(Self).ok_or_else(|| BadPosition { text: text.to_owned(), shifts: false })
    }
}

impl FromStr for NewPosition {
    type Err = BadPosition;

    fn from_str(text: &str) -> Result<Self, BadPosition> {
        let shift = text.starts_with(['+', '-']).then(|| text.parse().ok()).flatten();
        let parsed = shift.map(Move::By).or_else(|| parse_place(text).map(Move::To));
        parsed.map(Self).ok_or_else(|| BadPosition { text: text.to_owned(), shifts: true })
    }
}

fn parse_place(text: &str) -> Option<Place> {
    match text {
        "earliest" | "beginning" => Some(Place::Earliest),
        "latest" | "end" => Some(Place::Latest),
        _ if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            text.parse().ok().map(|offset| Place::At(Offset(offset)))
        }
        _ => text.parse().ok().map(Place::Time),
    }
}

impl NewPosition {
    /// The time, if it is one, when it is `now`.
    pub(super) const fn time(self, now: Timestamp) -> Option<Timestamp> {
        match self.0 {
            Move::To(Place::Time(moment)) => Some(moment.resolve(now)),
            Move::To(Place::Earliest | Place::Latest | Place::At(_)) | Move::By(_) => None,
        }
    }
}

impl Place {
    /// For the client.
    pub(super) fn start(self, now: Timestamp) -> millstream_client::Start {
        use millstream_client::Start;
        match self {
            Self::Earliest => Start::Earliest,
            Self::Latest => Start::Latest,
            Self::At(offset) => Start::At(offset),
            Self::Time(moment) => Start::Time(moment.resolve(now)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions() {
        for (text, expected) in [
            ("earliest", Some(Place::Earliest)),
            ("latest", Some(Place::Latest)),
            ("0", Some(Place::At(Offset(0)))),
            ("9223372036854775807", Some(Place::At(Offset(i64::MAX)))),
            ("9223372036854775808", None),
            ("-1h", Some(Place::Time(Moment::Ago(3_600_000)))),
            ("1970-01-02", Some(Place::Time(Moment::At(86_400_000)))),
            ("-1", None),
            ("+1", None),
            ("", None),
            ("first", None),
        ] {
            assert_eq!(text.parse::<Position>().ok(), expected.map(Position), "{text}");
        }
    }

    #[test]
    fn new_positions() {
        for (text, expected) in [
            ("+10", Some(Move::By(10))),
            ("-10", Some(Move::By(-10))),
            ("10", Some(Move::To(Place::At(Offset(10))))),
            ("-10s", Some(Move::To(Place::Time(Moment::Ago(10_000))))),
            ("+10s", None),
            ("-", None),
        ] {
            assert_eq!(text.parse::<NewPosition>().ok(), expected.map(NewPosition), "{text}");
        }
    }

    #[test]
    fn the_error_lists_what_there_is() {
        let error = "x".parse::<NewPosition>().unwrap_err().to_string();
        assert!(error.starts_with("`x` is none of: earliest, latest, an offset, +N or -N"));
    }
}
