//! Who somebody is.

use std::fmt;
use std::sync::Arc;

/// Who a connection speaks for. Cheap to clone.
///
/// Its kind is always `User`, Kafka's only one; its name is compared byte by byte.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Principal {
    name: Arc<str>,
}

/// The name of whoever does not say who he is (`KafkaPrincipal.ANONYMOUS`).
const ANONYMOUS: &str = "ANONYMOUS";

/// What stands for everybody in access rules.
const EVERYBODY: &str = "*";

/// Whether nobody may be called so who does say who he is: what is allowed to him would be allowed to others
/// as well, and what is to others, to him.
#[must_use]
pub fn is_reserved(name: &str) -> bool {
    matches!(name, ANONYMOUS | EVERYBODY)
}

impl Principal {
    /// The user of that name.
    #[must_use]
    pub fn user(name: impl Into<Arc<str>>) -> Self {
        Self { name: name.into() }
    }

    /// Whoever does not say who he is.
    #[must_use]
    pub fn anonymous() -> Self {
        Self::user(ANONYMOUS)
    }

    /// The user's name, without the kind.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Principal {
    /// As ACLs and tools write it: `User:alice`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "User:{}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn principals_are_written_as_tools_write_them() {
        assert_eq!(Principal::user("alice").to_string(), "User:alice");
        assert_eq!(Principal::anonymous().to_string(), "User:ANONYMOUS");
        assert_eq!(Principal::user("alice").name(), "alice");
    }

    #[test]
    fn names_that_mean_others_as_well_are_nobodys() {
        for (name, expected) in
            [("ANONYMOUS", true), ("*", true), ("anonymous", false), ("User:*", false), ("", false)]
        {
            assert_eq!(is_reserved(name), expected, "{name}");
        }
    }
}
