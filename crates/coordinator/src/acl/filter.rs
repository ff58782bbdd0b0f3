//! Looking rules up (KIP-140, KIP-290).

use std::sync::Arc;

use super::{Binding, EVERY, Operation, PatternType, Permission, ResourceType, USER};

/// How a filter's name is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PatternFilter {
    /// Rules that are written with this name, in either way.
    #[default]
    Any,
    /// Rules that speak of the resource of this name, by whatever they are written with.
    Match,
    /// Rules that are written with this name, in this way.
    Is(PatternType),
}

/// Which rules are wanted. What is `None` does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this type.
    pub resource: Option<ResourceType>,
    /// How `name` is meant; it counts without a name, too.
    pub pattern: PatternFilter,
    /// Of this name.
    pub name: Option<Arc<str>>,
    /// Of this principal, as it is written.
    pub principal: Option<Arc<str>>,
    /// For this address or network, as it is written.
    pub host: Option<Arc<str>>,
    /// Of this operation itself.
    pub operation: Option<Operation>,
    /// That allow, or that deny.
    pub permission: Option<Permission>,
}

impl Filter {
    /// Whether `binding` is wanted.
    #[must_use]
    pub fn wants(&self, binding: &Binding) -> bool {
        self.resource.is_none_or(|resource| resource == binding.resource)
            && self.wants_name(binding)
            && self.principal.as_ref().is_none_or(|principal| {
                principal.strip_prefix(USER).is_some_and(|user| *user == *binding.user)
            })
            && self.host.as_ref().is_none_or(|host| **host == *binding.host.text())
            && self.operation.is_none_or(|operation| operation == binding.operation)
            && self.permission.is_none_or(|permission| permission == binding.permission)
    }

    fn wants_name(&self, binding: &Binding) -> bool {
        let wanted = |name: &str| self.name.as_ref().is_none_or(|wanted| **wanted == *name);
        match self.pattern {
            PatternFilter::Any => wanted(&binding.name),
            PatternFilter::Is(pattern) => pattern == binding.pattern && wanted(&binding.name),
            PatternFilter::Match => match binding.pattern {
                PatternType::Literal => &*binding.name == EVERY || wanted(&binding.name),
                PatternType::Prefixed => {
                    self.name.as_ref().is_none_or(|wanted| wanted.starts_with(&*binding.name))
                }
            },
        }
    }
}
