//! Access rules (ACLs).

use std::fmt;
use std::str::FromStr;

use millstream_wire::create_acls_request::AclCreation;
use millstream_wire::delete_acls_request::DeleteAclsFilter;
use millstream_wire::{CreateAclsRequest, DeleteAclsRequest, DescribeAclsRequest, StrBytes};

use super::Admin;
use super::topics::missing;
use crate::cluster::Target;
use crate::error::Error;

/// "Any", in all of the protocol's enumerations.
const ANY: i8 = 1;

macro_rules! words {
    ($($(#[$doc:meta])+ $type:ident { $($(#[$of:meta])+ $variant:ident = $number:literal $word:literal,)+ })+) => {$(
        $(#[$doc])+
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(i8)]
        pub enum $type { $($(#[$of])+ $variant = $number,)+ }

        impl $type {
            const ALL: &[Self] = &[$(Self::$variant),+];

            fn from_number(number: i8) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| *one as i8 == number)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $word),+ })
            }
        }

        /// Also as Kafka's own tools write it: `DescribeConfigs`, `DESCRIBE_CONFIGS`.
        impl FromStr for $type {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let plain = |text: &str| text.replace(['-', '_'], "").to_ascii_lowercase();
                let known = || Self::ALL.iter().filter(|one| **one != Self::Unknown);
                let found = known().find(|one| plain(&one.to_string()) == plain(text));
                found.copied().ok_or_else(|| {
                    let words: Vec<_> = known().map(ToString::to_string).collect();
                    format!("`{text}` is none of {}", words.join(", "))
                })
            }
        }
    )+};
}

words! {
    /// What kind of resource a rule speaks of.
    AclResource {
        /// What this program does not know.
        #[default]
        Unknown = 0 "unknown",
        /// A topic.
        Topic = 2 "topic",
        /// A group.
        Group = 3 "group",
        /// The cluster.
        Cluster = 4 "cluster",
        /// A transactional id.
        TransactionalId = 5 "transactional-id",
        /// A delegation token.
        DelegationToken = 6 "delegation-token",
        /// A user.
        User = 7 "user",
    }
    /// How a rule's name is meant.
    AclPattern {
        /// What this program does not know.
        #[default]
        Unknown = 0 "unknown",
        /// In a filter: all rules that speak of the resource of that name.
        Match = 2 "match",
        /// The resource of that name; `*` is every one.
        Literal = 3 "literal",
        /// All whose name begins so.
        Prefixed = 4 "prefixed",
    }
    /// What a rule is about.
    AclOperation {
        /// What this program does not know.
        #[default]
        Unknown = 0 "unknown",
        /// Everything.
        All = 2 "all",
        /// Reading.
        Read = 3 "read",
        /// Writing.
        Write = 4 "write",
        /// Making topics.
        Create = 5 "create",
        /// Deleting.
        Delete = 6 "delete",
        /// Changing.
        Alter = 7 "alter",
        /// Knowing of it.
        Describe = 8 "describe",
        /// What brokers do to each other.
        ClusterAction = 9 "cluster-action",
        /// Reading configuration.
        DescribeConfigs = 10 "describe-configs",
        /// Changing configuration.
        AlterConfigs = 11 "alter-configs",
        /// Writing with a producer id.
        IdempotentWrite = 12 "idempotent-write",
        /// Making delegation tokens.
        CreateTokens = 13 "create-tokens",
        /// Knowing of delegation tokens.
        DescribeTokens = 14 "describe-tokens",
        /// Taking part in a two-phase commit.
        TwoPhaseCommit = 15 "two-phase-commit",
    }
    /// Whether a rule allows or denies.
    AclPermission {
        /// What this program does not know.
        #[default]
        Unknown = 0 "unknown",
        /// It denies.
        Deny = 2 "deny",
        /// It allows.
        Allow = 3 "allow",
    }
}

/// An access rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AclRule {
    /// What kind of resource.
    pub resource: AclResource,
    /// How `name` is meant.
    pub pattern: AclPattern,
    /// Which resource.
    pub name: String,
    /// Whom, as `User:name` or `User:*`.
    pub principal: String,
    /// From where: an address, a network, or `*`.
    pub host: String,
    /// What.
    pub operation: AclOperation,
    /// Whether that is allowed.
    pub permission: AclPermission,
}

/// Which rules are wanted. What is `None` does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AclFilter {
    /// Of this kind of resource.
    pub resource: Option<AclResource>,
    /// Written with the name in this way.
    pub pattern: Option<AclPattern>,
    /// Of this name.
    pub name: Option<String>,
    /// Of this principal.
    pub principal: Option<String>,
    /// For this host.
    pub host: Option<String>,
    /// Of this operation.
    pub operation: Option<AclOperation>,
    /// That allow, or that deny.
    pub permission: Option<AclPermission>,
}

fn what() -> String {
    "access rules".to_owned()
}

fn text(text: Option<&String>) -> Option<StrBytes> {
    text.map(|text| StrBytes::from(text.clone()))
}

impl Admin {
    /// Adds rules. Those that are there already are no error.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] for the first that was not added, for example with `SECURITY_DISABLED`.
    pub async fn create_acls(&self, rules: &[AclRule]) -> Result<(), Error> {
        let creations = rules.iter().map(|rule| AclCreation {
            resource_type: rule.resource as i8,
            resource_name: StrBytes::from(rule.name.clone()),
            resource_pattern_type: rule.pattern as i8,
            principal: StrBytes::from(rule.principal.clone()),
            host: StrBytes::from(rule.host.clone()),
            operation: rule.operation as i8,
            permission_type: rule.permission as i8,
        });
        let request = CreateAclsRequest { creations: creations.collect() };
        self.at(Target::Controller, &request, |answer| {
            let mut results = answer.results.iter();
            results.try_for_each(|result| {
                Error::check(result.error_code, result.error_message.as_deref(), what)
            })
        })
        .await
    }

    /// The rules that `filter` wants.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`], for example with `SECURITY_DISABLED`.
    pub async fn describe_acls(&self, filter: &AclFilter) -> Result<Vec<AclRule>, Error> {
        let request = DescribeAclsRequest {
            resource_type_filter: filter.resource.map_or(ANY, |one| one as i8),
            resource_name_filter: text(filter.name.as_ref()),
            pattern_type_filter: filter.pattern.map_or(ANY, |one| one as i8),
            principal_filter: text(filter.principal.as_ref()),
            host_filter: text(filter.host.as_ref()),
            operation: filter.operation.map_or(ANY, |one| one as i8),
            permission_type: filter.permission.map_or(ANY, |one| one as i8),
        };
        let mut rules = self
            .at(Target::Any, &request, |answer| {
                Error::check(answer.error_code, answer.error_message.as_deref(), what)?;
                let rules = answer.resources.iter().flat_map(|of| {
                    of.acls.iter().map(|acl| AclRule {
                        resource: known(AclResource::from_number(of.resource_type)),
                        pattern: known(AclPattern::from_number(of.pattern_type)),
                        name: of.resource_name.as_str().to_owned(),
                        principal: acl.principal.as_str().to_owned(),
                        host: acl.host.as_str().to_owned(),
                        operation: known(AclOperation::from_number(acl.operation)),
                        permission: known(AclPermission::from_number(acl.permission_type)),
                    })
                });
                Ok(rules.collect::<Vec<_>>())
            })
            .await?;
        rules.sort();
        Ok(rules)
    }

    /// Removes the rules that `filter` wants, and returns them.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`], for example with `SECURITY_DISABLED`.
    pub async fn delete_acls(&self, filter: &AclFilter) -> Result<Vec<AclRule>, Error> {
        let filters = vec![DeleteAclsFilter {
            resource_type_filter: filter.resource.map_or(ANY, |one| one as i8),
            resource_name_filter: text(filter.name.as_ref()),
            pattern_type_filter: filter.pattern.map_or(ANY, |one| one as i8),
            principal_filter: text(filter.principal.as_ref()),
            host_filter: text(filter.host.as_ref()),
            operation: filter.operation.map_or(ANY, |one| one as i8),
            permission_type: filter.permission.map_or(ANY, |one| one as i8),
        }];
        let mut rules = self
            .at(Target::Controller, &DeleteAclsRequest { filters }, |answer| {
                let found = answer.filter_results.first().ok_or_else(|| missing(&what()))?;
                Error::check(found.error_code, found.error_message.as_deref(), what)?;
                let removed = found.matching_acls.iter().map(|acl| {
                    Error::check(acl.error_code, acl.error_message.as_deref(), what)?;
                    Ok(AclRule {
                        resource: known(AclResource::from_number(acl.resource_type)),
                        pattern: known(AclPattern::from_number(acl.pattern_type)),
                        name: acl.resource_name.as_str().to_owned(),
                        principal: acl.principal.as_str().to_owned(),
                        host: acl.host.as_str().to_owned(),
                        operation: known(AclOperation::from_number(acl.operation)),
                        permission: known(AclPermission::from_number(acl.permission_type)),
                    })
                });
                removed.collect::<Result<Vec<_>, Error>>()
            })
            .await?;
        rules.sort();
        Ok(rules)
    }
}

/// A broker may be newer than this program.
fn known<T: Default>(found: Option<T>) -> T {
    found.unwrap_or_default()
}
