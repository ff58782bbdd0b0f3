//! Quotas: how much of a broker clients may use, and for whom that holds (KIP-13, KIP-124, KIP-546,
//! KIP-599).
//!
//! A quota is set on an *entity*: a user, a client id, both together, or an address; each by name, or
//! for all of its kind that have none of their own. Of those that fit a client the most specific one
//! that limits the kind of use counts, and says whether the client shares it with others of its user
//! or of its client id.

use std::collections::BTreeMap;
use std::sync::Arc;

mod bucket;
mod change;
mod filter;

pub use bucket::{Bucket, DEBT_MAX};
pub use change::{Change, QuotaError};
pub use filter::{Filter, Match};

/// What can be limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Use {
    /// Bytes of Produce requests in a second.
    ProducerByteRate,
    /// Bytes of answers to Fetch in a second.
    ConsumerByteRate,
    /// Time spent on requests, in percent of one core.
    RequestPercentage,
    /// Partitions made and deleted in a second.
    ControllerMutationRate,
    /// Connections accepted in a second, from an address.
    ConnectionCreationRate,
}

/// Each use, and what the protocol and the tools call it.
const USES: [(Use, &str); 5] = [
    (Use::ProducerByteRate, "producer_byte_rate"),
    (Use::ConsumerByteRate, "consumer_byte_rate"),
    (Use::RequestPercentage, "request_percentage"),
    (Use::ControllerMutationRate, "controller_mutation_rate"),
    (Use::ConnectionCreationRate, "connection_creation_rate"),
];

impl Use {
    /// What the protocol calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        USES.iter().find(|(known, _)| *known == self).map_or("", |(_, name)| name)
    }

    /// The use that the protocol calls so.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        USES.iter().find(|(_, known)| *known == name).map(|(known, _)| *known)
    }

    /// Whether it is limited by the address rather than by user and client id.
    const fn is_of_addresses(self) -> bool {
        matches!(self, Self::ConnectionCreationRate)
    }
}

/// How much of something, in its unit: finite and more than nothing.
#[derive(Clone, Copy, Debug)]
pub struct Limit(f64);

impl Limit {
    /// `value`, if it can be a limit.
    #[must_use]
    pub fn new(value: f64) -> Option<Self> {
        (value.is_finite() && value > 0.0).then_some(Self(value))
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl PartialEq for Limit {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Eq for Limit {}

/// One part of an entity.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Name {
    /// All that have no quota by name.
    Default,
    /// This one.
    Is(Arc<str>),
}

impl Name {
    /// The name, as the protocol writes it: `None` stands for the default.
    #[must_use]
    pub fn as_option(&self) -> Option<&Arc<str>> {
        match self {
            Self::Default => None,
            Self::Is(name) => Some(name),
        }
    }
}

/// For whom a quota holds. An address stands alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entity {
    /// The user.
    pub user: Option<Name>,
    /// The client id.
    pub client_id: Option<Name>,
    /// The address.
    pub address: Option<Name>,
}

/// What is limited for one entity, and to how much.
pub type Limits = BTreeMap<Use, Limit>;

/// Who shares a limit: the clients of one user, of one client id, or of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope {
    /// Each user has it for himself.
    pub by_user: bool,
    /// Each client id has it for itself.
    pub by_client_id: bool,
}

/// All quotas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quotas(BTreeMap<Entity, Limits>);

impl Quotas {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is set, by entity.
    pub fn iter(&self) -> impl Iterator<Item = (&Entity, &Limits)> {
        self.0.iter()
    }

    /// What is set on `entity`.
    #[must_use]
    pub fn of(&self, entity: &Entity) -> Option<&Limits> {
        self.0.get(entity)
    }

    /// Replaces what is set on `entity`.
    pub fn set(&mut self, entity: Entity, limits: Limits) {
        if limits.is_empty() {
            self.0.remove(&entity);
        } else {
            self.0.insert(entity, limits);
        }
    }

    /// What limits a client's `of`, and with whom it shares that.
    #[must_use]
    pub fn limit(&self, of: Use, user: &str, client_id: &str) -> Option<(Limit, Scope)> {
        let user = [Name::Is(Arc::from(user)), Name::Default].map(Some);
        let client_id = [Name::Is(Arc::from(client_id)), Name::Default].map(Some);
        let [user, any_user] = &user;
        let [client_id, any_client_id] = &client_id;
        // The most specific first.
        let order = [
            (user, client_id),
            (user, any_client_id),
            (user, &None),
            (any_user, client_id),
            (any_user, any_client_id),
            (any_user, &None),
            (&None, client_id),
            (&None, any_client_id),
        ];
        order.into_iter().find_map(|(user, client_id)| {
            let (by_user, by_client_id) = (user.is_some(), client_id.is_some());
            let entity = Entity { user: user.clone(), client_id: client_id.clone(), address: None };
            let limit = self.0.get(&entity)?.get(&of)?;
            Some((*limit, Scope { by_user, by_client_id }))
        })
    }

    /// How many connections in a second are accepted from `address`.
    #[must_use]
    pub fn connection_rate(&self, address: &str) -> Option<Limit> {
        let of = |name| {
            let entity = Entity { address: Some(name), ..Entity::default() };
            self.0.get(&entity)?.get(&Use::ConnectionCreationRate).copied()
        };
        of(Name::Is(Arc::from(address))).or_else(|| of(Name::Default))
    }
}

#[cfg(test)]
mod tests;
