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
}
