//! Looking quotas up (KIP-546).

use std::sync::Arc;

use super::{Entity, Name};

/// What one part of an entity is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// This name.
    Is(Arc<str>),
    /// The default of its kind.
    Default,
    /// A name or the default.
    Any,
}

/// Which entities are wanted. A part without a match does not matter, unless the filter is strict.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of the user.
    pub user: Option<Match>,
    /// Of the client id.
    pub client_id: Option<Match>,
    /// Of the address.
    pub address: Option<Match>,
    /// Whether entities must have no other parts than those with a match.
    pub strict: bool,
}

impl Filter {
    /// Whether `entity` is wanted.
    #[must_use]
    pub fn wants(&self, entity: &Entity) -> bool {
        let parts = [
            (&self.user, &entity.user),
            (&self.client_id, &entity.client_id),
            (&self.address, &entity.address),
        ];
        parts.into_iter().all(|(wanted, part)| match (wanted, part) {
            (None, None) => true,
            (None, Some(_)) => !self.strict,
            (Some(_), None) => false,
            (Some(Match::Any), Some(_)) => true,
            (Some(Match::Default), Some(part)) => *part == Name::Default,
            (Some(Match::Is(name)), Some(part)) => part.as_option() == Some(name),
        })
    }
}
