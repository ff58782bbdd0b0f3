//! One event, and how it is written: one line of JSON, in ASCII.

use std::fmt::Write as _;
use std::net::IpAddr;

use millstream_types::Timestamp;

use super::Level;

/// The version of what is written. It rises when a field changes its meaning or goes; fields may come
/// without.
pub const VERSION: u32 = 1;

/// The longest text of a field, in bytes. What is longer is cut, and ends with `...`.
const TEXT_LEN_MAX: usize = 256;
/// The most details.
const DETAILS_MAX: usize = 32;

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Somebody has connected, or was not let in.
    Connection,
    /// Somebody has logged in, or has failed to.
    Login,
    /// Somebody wanted what he has no right to.
    Access,
    /// Something was changed, or was to be.
    Change,
    /// Events were left out.
    Dropped,
}

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// As was wanted.
    Done,
    /// It was refused, or went wrong.
    Refused,
}

/// Something that somebody did or wanted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Event {
    kind: Kind,
    outcome: Outcome,
    user: Option<Box<str>>,
    address: Option<IpAddr>,
    listener: Option<Box<str>>,
    client_id: Option<Box<str>>,
    api: Option<&'static str>,
    operation: Option<&'static str>,
    resource: Option<(&'static str, Box<str>)>,
    why: Option<Box<str>>,
    details: Vec<(Box<str>, Box<str>)>,
}

impl Kind {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Login => "login",
            Self::Access => "access",
            Self::Change => "change",
            Self::Dropped => "dropped",
        }
    }
}

impl Outcome {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
        }
    }
}

impl Event {
    /// An event of which nothing else is known.
    #[must_use]
    pub const fn new(kind: Kind, outcome: Outcome) -> Self {
        Self {
            kind,
            outcome,
            user: None,
            address: None,
            listener: None,
            client_id: None,
            api: None,
            operation: None,
            resource: None,
            why: None,
            details: Vec::new(),
        }
    }

    /// Who it was, without the kind of principal.
    #[must_use]
    pub fn by(mut self, user: &str) -> Self {
        self.user = Some(cut(user));
        self
    }

    /// From where, and by which listener; without an address from within the process.
    #[must_use]
    pub fn from(mut self, address: Option<IpAddr>, listener: &str) -> Self {
        self.address = address;
        self.listener = Some(cut(listener));
        self
    }

    /// By which API of the Kafka protocol, and what the client calls itself.
    #[must_use]
    pub fn through(mut self, api: &'static str, client_id: &str) -> Self {
        self.api = Some(api);
        self.client_id = Some(cut(client_id));
        self
    }

    /// What was done to what.
    #[must_use]
    pub fn what(mut self, operation: &'static str, (kind, name): (&'static str, &str)) -> Self {
        self.operation = Some(operation);
        self.resource = Some((kind, cut(name)));
        self
    }

    /// Why it was refused.
    #[must_use]
    pub fn because(mut self, why: &str) -> Self {
        self.why = Some(cut(why));
        self
    }

    /// What else is known; never a secret.
    #[must_use]
    pub fn with(mut self, details: impl IntoIterator<Item = (String, String)>) -> Self {
        let details = details.into_iter().take(DETAILS_MAX);
        self.details = details.map(|(name, value)| (cut(&name), cut(&value))).collect();
        self
    }

    /// What it is about.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether it is a change that was made. What was refused may come from anybody, as often as he likes.
    #[must_use]
    pub const fn is_made(&self) -> bool {
        matches!((self.kind, self.outcome), (Kind::Change, Outcome::Done))
    }

    /// From which level on it is noted.
    #[must_use]
    pub const fn level(&self) -> Level {
        match (self.kind, self.outcome) {
            (Kind::Change | Kind::Dropped, _) => Level::Changes,
            (Kind::Connection | Kind::Login | Kind::Access, Outcome::Refused) => Level::Denied,
            (Kind::Connection | Kind::Login | Kind::Access, Outcome::Done) => Level::All,
        }
    }

    /// The event as JSON. `count`: how often it happened within a moment, `at` for the first time.
    #[must_use]
    pub fn json(&self, at: Timestamp, count: u64) -> String {
        let mut out = String::with_capacity(256);
        // Nothing here can fail: it is written to memory.
        let _ = write!(out, "{{\"version\":{VERSION},\"time\":{}", at.0);
        text(&mut out, "kind", self.kind.name());
        text(&mut out, "outcome", self.outcome.name());
        let address = self.address.map(|address| address.to_canonical().to_string());
        let texts = [
            ("user", self.user.as_deref()),
            ("address", address.as_deref()),
            ("listener", self.listener.as_deref()),
            ("client_id", self.client_id.as_deref()),
            ("api", self.api),
            ("operation", self.operation),
            ("resource_type", self.resource.as_ref().map(|(kind, _)| *kind)),
            ("resource", self.resource.as_ref().map(|(_, name)| &**name)),
            ("why", self.why.as_deref()),
        ];
        for (name, value) in texts {
            value.into_iter().for_each(|value| text(&mut out, name, value));
        }
        let _ = write!(out, ",\"count\":{count}");
        if !self.details.is_empty() {
            out.push_str(",\"details\":{");
            let mut names: Vec<&str> = Vec::new();
            for (name, value) in &self.details {
                // An object has each name once.
                if names.contains(&&**name) {
                    continue;
                }
                if !names.is_empty() {
                    out.push(',');
                }
                names.push(name);
                quote(&mut out, name);
                out.push(':');
                quote(&mut out, value);
            }
            out.push('}');
        }
        out.push('}');
        out
    }
}

fn cut(text: &str) -> Box<str> {
    if text.len() <= TEXT_LEN_MAX {
        return text.into();
    }
    let end = text.floor_char_boundary(TEXT_LEN_MAX);
    format!("{}...", text.get(..end).unwrap_or_default()).into()
}

fn text(out: &mut String, name: &str, value: &str) {
    out.push(',');
    quote(out, name);
    out.push(':');
    quote(out, value);
}

/// With everything escaped that is not printable ASCII: whatever shows it shows what is there.
fn quote(out: &mut String, text: &str) {
    out.push('"');
    for unit in text.encode_utf16() {
        match u8::try_from(unit) {
            Ok(b'"') => out.push_str("\\\""),
            Ok(b'\\') => out.push_str("\\\\"),
            Ok(byte @ b' '..=b'~') => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
    out.push('"');
}
