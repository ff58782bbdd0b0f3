//! Access rules at work: who may do what.
//!
//! Off unless `authorizer.class.name` is set: then everybody may do everything, at the price of one branch.
//! Who is asked about what, is the doors' affair.

use std::net::IpAddr;
use std::sync::Arc;

use millstream_coordinator::acl::{
    AclError, Acls, Binding, Filter, Operation, ResourceType, Verdict, Who,
};
use millstream_coordinator::cluster::{ClusterState, Entry};
use millstream_coordinator::config::AuthorizerConfig;
use millstream_coordinator::group::{Asker, Rights};
use tracing::info;

use crate::Broker;
use crate::metadata::ChangeError;

/// What one request may remove, in rules: the entries of one change are written, and replayed, at once.
pub const REMOVED_MAX: usize = 10_000;

/// Why rules were not removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemoveError {
    /// More match than one change may remove.
    #[error("more than {REMOVED_MAX} rules match: remove them by narrower filters, some at a time")]
    TooMany,
}

/// Decides on what is asked of the broker. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Authorizer(Option<Arc<AuthorizerConfig>>);

impl Authorizer {
    pub(crate) fn new(config: Option<&AuthorizerConfig>) -> Self {
        Self(config.cloned().map(Arc::new))
    }

    /// Whether somebody may, by `verdict` on him if it depends on rules.
    fn allows(&self, user: &str, verdict: impl FnOnce() -> Verdict) -> bool {
        let Some(config) = &self.0 else { return true };
        config.super_users.contains(user) || allows(config, verdict())
    }
}

const fn allows(config: &AuthorizerConfig, verdict: Verdict) -> bool {
    match verdict {
        Verdict::Allowed => true,
        Verdict::Denied => false,
        Verdict::NoRule => config.allow_if_no_rule,
    }
}

/// What somebody may know of by the rules as they were when he asked. It takes no lock: groups are decided upon under
/// theirs, which changes of the metadata take, too.
#[derive(Debug)]
struct Known {
    acls: Arc<Acls>,
    config: Arc<AuthorizerConfig>,
    user: String,
    address: Option<IpAddr>,
}

impl Rights for Known {
    fn version(&self) -> u64 {
        self.acls.version()
    }

    fn may_know_of(&self, topic: &str) -> bool {
        let who = Who { user: &self.user, address: self.address };
        let (operation, resource) = (Operation::Describe, ResourceType::Topic);
        allows(&self.config, self.acls.verdict(who, operation, resource, topic))
    }
}

impl Broker {
    /// Whether anybody needs a right for anything.
    #[must_use]
    pub fn authorizes(&self) -> bool {
        self.0.authorizer.0.is_some()
    }

    /// Whether `who` may do `operation` to the resource of that type and name.
    #[must_use]
    pub fn may(
        &self,
        who: Who<'_>,
        operation: Operation,
        resource: ResourceType,
        name: &str,
    ) -> bool {
        self.0.authorizer.allows(who.user, || {
            self.0.metadata.read(|state| state.acls().verdict(who, operation, resource, name))
        })
    }

    /// Whether `who` may do `operation` to a resource of that type that there may be (KIP-679).
    #[must_use]
    pub fn may_on_any(&self, who: Who<'_>, operation: Operation, resource: ResourceType) -> bool {
        self.0.authorizer.allows(who.user, || {
            self.0.metadata.read(|state| state.acls().verdict_on_any(who, operation, resource))
        })
    }

    /// Who asks groups for something, if there may be topics of which he may not know.
    #[must_use]
    pub fn asker(&self, who: Who<'_>) -> Option<Asker> {
        let config = self.0.authorizer.0.as_ref()?;
        if config.super_users.contains(who.user) {
            return None;
        }
        let acls = self.0.metadata.read(|state| Arc::clone(state.acls()));
        let (config, user) = (Arc::clone(config), who.user.to_owned());
        Some(Asker(Arc::new(Known { acls, config, user, address: who.address })))
    }

    /// The rules that `filter` wants.
    #[must_use]
    pub fn acls(&self, filter: &Filter) -> Vec<Binding> {
        self.0.metadata.read(|state| state.acls().matching(filter).cloned().collect())
    }

    /// Adds rules, those that are there already excepted.
    ///
    /// # Errors
    ///
    /// None was added then.
    pub async fn add_acls(&self, wanted: Vec<Binding>) -> Result<(), ChangeError<AclError>> {
        let count = wanted.len();
        let command = move |state: &ClusterState| {
            let missing = state.acls().missing(wanted)?;
            Ok((missing.into_iter().map(Entry::AclAdded).collect(), ()))
        };
        self.change(command).await?;
        info!(rules = count, "access rules added");
        Ok(())
    }

    /// Removes what each of `filters` matches. Returns that: a rule is told with the first that does.
    ///
    /// # Errors
    ///
    /// None was removed then.
    pub async fn remove_acls(
        &self,
        filters: Vec<Filter>,
    ) -> Result<Vec<Vec<Binding>>, ChangeError<RemoveError>> {
        let command = move |state: &ClusterState| {
            let removed = matched(state.acls(), &filters);
            let all: Vec<_> = removed.iter().flatten().cloned().map(Entry::AclRemoved).collect();
            match all.len() {
                ..=REMOVED_MAX => Ok((all, removed)),
                _ => Err(RemoveError::TooMany),
            }
        };
        let removed = self.change(command).await?;
        info!(rules = removed.iter().flatten().count(), "access rules removed");
        Ok(removed)
    }
}

fn matched(acls: &Acls, filters: &[Filter]) -> Vec<Vec<Binding>> {
    let mut found = vec![Vec::new(); filters.len()];
    for binding in acls.iter() {
        if let Some(at) = filters.iter().position(|filter| filter.wants(binding)) {
            found[at].push(binding.clone());
        }
    }
    found
}
