//! Access rules (ACLs): who may do what to which resource, from where (KIP-11, KIP-290, KIP-1276).
//!
//! A rule allows or denies one operation, or all, to one user, or to everybody, from one address, a network
//! or everywhere, on the resources of one type that its pattern matches: one by its name, all whose name
//! begins so, or all. A rule that denies wins over all that allow. What no rule speaks of is decided by
//! whoever asks.
//!
//! [`Acls`] keeps the rules and an index of them: a decision looks up the name, those prefixes of it that
//! are as long as some rule's, and `*`, and in each the user and everybody. It scans nothing and
//! allocates nothing.

use std::fmt;
use std::sync::Arc;

mod filter;
mod host;
mod index;

pub use filter::{Filter, PatternFilter};
pub use host::Host;
pub use index::{Verdict, Who};

use index::Index;
use std::collections::BTreeSet;

/// The name of the only cluster, as rules write it.
pub const CLUSTER_NAME: &str = "kafka-cluster";

/// Stands for every name, user and address.
const EVERY: &str = "*";

/// The most rules there may be. Each is looked for by name, so that the bound is one of memory.
pub const RULES_MAX: usize = 100_000;

/// What kind of thing a rule speaks of. The numbers are Kafka's (`ResourceType`); they are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i8)]
pub enum ResourceType {
    /// A topic, by name.
    Topic = 2,
    /// A group, by name.
    Group = 3,
    /// The cluster; its name is [`CLUSTER_NAME`].
    Cluster = 4,
    /// A transactional id.
    TransactionalId = 5,
    /// A delegation token, by its id.
    DelegationToken = 6,
    /// A user, as `User:name`.
    User = 7,
}

/// What may be done. The numbers are Kafka's (`AclOperation`); they are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i8)]
pub enum Operation {
    /// Everything.
    All = 2,
    /// Reading records or offsets, being a member of a group.
    Read = 3,
    /// Writing records, under a transactional id.
    Write = 4,
    /// Making topics.
    Create = 5,
    /// Deleting.
    Delete = 6,
    /// Changing what is not configuration.
    Alter = 7,
    /// Knowing that it is there, and what it is like.
    Describe = 8,
    /// What brokers do to each other.
    ClusterAction = 9,
    /// Reading configuration.
    DescribeConfigs = 10,
    /// Changing configuration.
    AlterConfigs = 11,
    /// Writing with a producer id.
    IdempotentWrite = 12,
    /// Making delegation tokens for somebody.
    CreateTokens = 13,
    /// Knowing somebody's delegation tokens.
    DescribeTokens = 14,
    /// Taking part in a two-phase commit (KIP-939).
    TwoPhaseCommit = 15,
}

/// Whether a rule allows or denies. The numbers are Kafka's (`AclPermissionType`); they are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i8)]
pub enum Permission {
    /// It denies.
    Deny = 2,
    /// It allows.
    Allow = 3,
}

/// How a rule's name is meant. The numbers are Kafka's (`PatternType`); they are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i8)]
pub enum PatternType {
    /// The resource of that name; `*` is every one.
    Literal = 3,
    /// All whose name begins so.
    Prefixed = 4,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Binding {
    /// What kind of resource it speaks of.
    pub resource: ResourceType,
    /// How `name` is meant.
    pub pattern: PatternType,
    /// Which resource; never empty.
    pub name: Arc<str>,
    /// Whom it speaks of: a user's name, or `*` for everybody.
    pub user: Arc<str>,
    /// From where.
    pub host: Host,
    /// What.
    pub operation: Operation,
    /// Whether that is allowed.
    pub permission: Permission,
}

/// A rule as somebody writes it, in words that may be wrong.
#[derive(Clone, Copy, Debug)]
pub struct Draft<'a> {
    /// What kind of resource.
    pub resource: ResourceType,
    /// How `name` is meant.
    pub pattern: PatternType,
    /// Which resource.
    pub name: &'a str,
    /// Whom: `User:name` or `User:*`.
    pub principal: &'a str,
    /// From where: an address, `*`, or a network as `address/bits`.
    pub host: &'a str,
    /// What.
    pub operation: Operation,
    /// Whether that is allowed.
    pub permission: Permission,
}

/// Why there can't be such a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AclError {
    /// It names no resource.
    #[error("a rule names a resource; `*` stands for all of its type")]
    NoName,
    /// It names a cluster that is not there.
    #[error("there is one cluster, and rules call it `{CLUSTER_NAME}`")]
    NotTheCluster,
    /// It speaks of nobody that can be.
    #[error("`{0}` is nobody: write `User:` and a name, or `User:*` for everybody")]
    Principal(String),
    /// It speaks of no address.
    #[error(
        "`{0}` is no address: write an IP address, a network such as `10.0.0.0/8`, or `*`; names of \
         hosts are not looked up"
    )]
    Host(String),
    /// There are as many rules as may be.
    #[error(
        "there may be {RULES_MAX} rules: put those together that differ only in a name, by a prefix"
    )]
    TooMany,
}

/// Messages quote so many characters at most of what was sent.
const QUOTE_LEN_MAX: usize = 100;

fn quote(text: &str) -> String {
    text.chars().take(QUOTE_LEN_MAX).collect()
}

/// Kinds of principals: there is one.
const USER: &str = "User:";

impl Binding {
    /// The rule that `draft` means.
    ///
    /// # Errors
    ///
    /// When it would never match anything, or means nothing.
    pub fn new(draft: &Draft<'_>) -> Result<Self, AclError> {
        if draft.name.is_empty() {
            return Err(AclError::NoName);
        }
        if draft.resource == ResourceType::Cluster && !names_cluster(draft.pattern, draft.name) {
            return Err(AclError::NotTheCluster);
        }
        let user = draft.principal.strip_prefix(USER).filter(|user| !user.is_empty());
        let user = user.ok_or_else(|| AclError::Principal(quote(draft.principal)))?;
        let host = Host::new(draft.host).ok_or_else(|| AclError::Host(quote(draft.host)))?;
        Ok(Self {
            resource: draft.resource,
            pattern: draft.pattern,
            name: Arc::from(draft.name),
            user: Arc::from(user),
            host,
            operation: draft.operation,
            permission: draft.permission,
        })
    }

    /// Whom it speaks of, as it is written.
    #[must_use]
    pub fn principal(&self) -> String {
        format!("{USER}{}", self.user)
    }

    /// Whether it speaks of `operation`. What allows one thing allows to know of it, too; what denies it
    /// does not hide it.
    #[cfg(test)]
    fn covers(&self, operation: Operation) -> bool {
        covers(self.operation, self.permission, operation)
    }
}

/// As in Kafka, tools may write a star for the one cluster.
fn names_cluster(pattern: PatternType, name: &str) -> bool {
    pattern == PatternType::Literal && (name == CLUSTER_NAME || name == EVERY)
}

/// Whether a rule of `rule` speaks of `operation` (`StandardAuthorizerData.findResult`).
fn covers(rule: Operation, permission: Permission, operation: Operation) -> bool {
    use Operation::{All, Alter, AlterConfigs, Delete, Describe, DescribeConfigs, Read, Write};
    if rule == All || rule == operation {
        return true;
    }
    permission == Permission::Allow
        && match operation {
            Describe => matches!(rule, Read | Write | Delete | Alter),
            DescribeConfigs => rule == AlterConfigs,
            _ => false,
        }
}

/// All rules.
#[derive(Clone, Debug, Default)]
pub struct Acls {
    bindings: BTreeSet<Binding>,
    /// Follows from `bindings`.
    index: Index,
    /// How often they have changed.
    changes: u64,
}

/// They are the same whatever they have been.
impl PartialEq for Acls {
    fn eq(&self, other: &Self) -> bool {
        (&self.bindings, &self.index) == (&other.bindings, &other.index)
    }
}

impl Eq for Acls {}

impl Acls {
    /// All rules, in an order of their own.
    pub fn iter(&self) -> impl Iterator<Item = &Binding> {
        self.bindings.iter()
    }

    /// Those that `filter` wants.
    pub fn matching<'a>(&'a self, filter: &'a Filter) -> impl Iterator<Item = &'a Binding> {
        self.iter().filter(|binding| filter.wants(binding))
    }

    /// Another one whenever they are others than before, while this process lives.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.changes
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bindings.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bindings.is_empty()
    }

    /// What is to be added so that all of `wanted` are there.
    ///
    /// # Errors
    ///
    /// [`AclError::TooMany`].
    pub fn missing(
        &self,
        wanted: impl IntoIterator<Item = Binding>,
    ) -> Result<Vec<Binding>, AclError> {
        let missing: BTreeSet<Binding> =
            wanted.into_iter().filter(|binding| !self.bindings.contains(binding)).collect();
        if self.len() + missing.len() > RULES_MAX {
            return Err(AclError::TooMany);
        }
        Ok(missing.into_iter().collect())
    }

    /// Adds a rule, unless it is there.
    pub fn add(&mut self, binding: Binding) {
        if self.bindings.insert(binding.clone()) {
            self.index.add(&binding);
            self.changes += 1;
        }
    }

    /// Removes a rule, if it is there.
    pub fn remove(&mut self, binding: &Binding) {
        if self.bindings.remove(binding) {
            self.index.remove(binding);
            self.changes += 1;
        }
    }

    /// What the rules say of somebody doing something to one resource.
    #[must_use]
    pub fn verdict(
        &self,
        who: Who<'_>,
        operation: Operation,
        resource: ResourceType,
        name: &str,
    ) -> Verdict {
        self.index.verdict(who, operation, resource, name)
    }

    /// Whether there may be a resource of that type on which the rules allow it (KIP-679): `Allowed` if
    /// so; otherwise `NoRule` if there may be one that no rule speaks of.
    #[must_use]
    pub fn verdict_on_any(
        &self,
        who: Who<'_>,
        operation: Operation,
        resource: ResourceType,
    ) -> Verdict {
        self.index.verdict_on_any(who, operation, resource)
    }
}

macro_rules! numbered {
    ($($type:ident: $($variant:ident = $text:literal),+;)+) => {$(
        impl $type {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Its number.
            #[must_use]
            pub const fn number(self) -> i8 {
                self as i8
            }

            /// As Kafka's tools write it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// The one of that number.
            #[must_use]
            pub fn numbered(number: i8) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.number() == number)
            }
        }

        /// As Kafka's tools write it.
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    )+};
}

numbered! {
    ResourceType:
        Topic = "Topic", Group = "Group", Cluster = "Cluster", TransactionalId = "TransactionalId",
        DelegationToken = "DelegationToken", User = "User";
    Permission: Deny = "Deny", Allow = "Allow";
    PatternType: Literal = "Literal", Prefixed = "Prefixed";
    Operation:
        All = "All", Read = "Read", Write = "Write", Create = "Create", Delete = "Delete",
        Alter = "Alter", Describe = "Describe", ClusterAction = "ClusterAction",
        DescribeConfigs = "DescribeConfigs", AlterConfigs = "AlterConfigs",
        IdempotentWrite = "IdempotentWrite", CreateTokens = "CreateTokens",
        DescribeTokens = "DescribeTokens", TwoPhaseCommit = "TwoPhaseCommit";
}

#[cfg(test)]
mod tests;
