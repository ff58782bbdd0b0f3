//! Changing quotas.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Entity, Limit, Limits, Name, Quotas, Use};

/// A change of one limit of an entity.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// What it limits, as the protocol calls it.
    pub of: String,
    /// To how much; `None` to remove the limit.
    pub to: Option<f64>,
}

/// Why quotas can't be changed like that.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuotaError {
    /// The entity is nobody.
    #[error("a quota needs somebody to hold for: a user, a client id or an address")]
    NoEntity,
    /// An address together with something else.
    #[error("an address can't be combined with a user or a client id")]
    AddressAndMore,
    /// What stands for an address is none.
    #[error("`{0}` is not an IP address; names are not looked up")]
    NotAnAddress(String),
    /// There is no such limit, or not for this kind of entity.
    #[error("`{name}` can't be limited here; there are {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// One limit is named twice.
    #[error("`{0}` is named twice")]
    Twice(String),
    /// A limit of nothing, or of nothing that is a number.
    #[error("{0} must be more than 0")]
    NotPositive(&'static str),
    /// A limit that has to be a whole number is none, or too large for one.
    #[error("{name} must be a whole number of at most {most}")]
    NotWhole {
        /// The limit.
        name: &'static str,
        /// The largest.
        most: i64,
    },
}

/// As far from a whole number as a limit may be, to count as one.
const ROUNDING: f64 = 1e-6;

impl Quotas {
    /// What the limits of `entity` are after `changes`.
    ///
    /// # Errors
    ///
    /// When one of them can't be made: then none is.
    pub fn changed(&self, entity: &Entity, changes: &[Change]) -> Result<Limits, QuotaError> {
        check_entity(entity)?;
        let mut limits = self.of(entity).cloned().unwrap_or_default();
        let mut named = BTreeSet::new();
        for change in changes {
            let of = Use::named(&change.of)
                .filter(|of| of.is_of_addresses() == entity.address.is_some())
                .ok_or_else(|| unknown(&change.of, entity))?;
            if !named.insert(of) {
                return Err(QuotaError::Twice(change.of.clone()));
            }
            match change.to {
                Some(value) => limits.insert(of, check_value(of, value)?),
                None => limits.remove(&of),
            };
        }
        Ok(limits)
    }
}

fn check_entity(entity: &Entity) -> Result<(), QuotaError> {
    let has_more = entity.user.is_some() || entity.client_id.is_some();
    match &entity.address {
        None if has_more => Ok(()),
        None => Err(QuotaError::NoEntity),
        Some(_) if has_more => Err(QuotaError::AddressAndMore),
        Some(Name::Is(address)) if address.parse::<IpAddr>().is_err() => {
            Err(QuotaError::NotAnAddress(address.to_string()))
        }
        Some(_) => Ok(()),
    }
}

fn unknown(name: &str, entity: &Entity) -> QuotaError {
    let fits = |of: &Use| of.is_of_addresses() == entity.address.is_some();
    let known = super::USES.iter().filter(|(of, _)| fits(of)).map(|(_, name)| *name);
    let known = known.collect::<Vec<_>>().join(", ");
    QuotaError::Unknown { name: name.to_owned(), known }
}

fn check_value(of: Use, value: f64) -> Result<Limit, QuotaError> {
    let limit = Limit::new(value).ok_or(QuotaError::NotPositive(of.name()))?;
    let most = match of {
        Use::ProducerByteRate | Use::ConsumerByteRate => i64::MAX,
        Use::ConnectionCreationRate => i64::from(i32::MAX),
        Use::RequestPercentage | Use::ControllerMutationRate => return Ok(limit),
    };
    // Above 2^53 a number may be off by more than one; nobody's network is as fast.
    if value > most as f64 || value % 1.0 > ROUNDING {
        return Err(QuotaError::NotWhole { name: of.name(), most });
    }
    Ok(limit)
}
