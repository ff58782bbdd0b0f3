//! The audit: who did what, from where, with which outcome. What is noted, how it is written down, and what
//! waits to be.
//!
//! Events come from requests, which must neither wait for them nor fail because of them: [`Queue`] takes as
//! many as it has room for and counts the others; what was left out is an event, too. Events say what
//! somebody wanted and never a secret: no value of a setting, no token, no password, and of a login that has
//! failed not even the name, because people type passwords where names belong.

mod event;
mod queue;

pub use event::{Event, Kind, Outcome, VERSION};
pub use queue::{EVENTS_MAX, Line, Queue};

/// How much is noted (`millstream.audit.level`); each level includes those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing.
    #[default]
    None,
    /// What was refused: logins, rights, connections.
    Denied,
    /// What was changed: topics, configuration, rights, users, quotas, groups.
    Changes,
    /// Also logins that have succeeded, and connections.
    All,
}

impl Level {
    /// The levels and their names.
    pub const ALL: [(Self, &'static str); 4] = [
        (Self::None, "none"),
        (Self::Denied, "denied"),
        (Self::Changes, "changes"),
        (Self::All, "all"),
    ];

    /// The level of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, known)| *known == name).map(|(level, _)| level)
    }
}

#[cfg(test)]
mod tests;
