//! Quotas: how much of a cluster clients may use (KIP-546).

use std::collections::BTreeMap;
use std::fmt;

use millstream_wire::alter_client_quotas_request::{EntityData, EntryData, OpData};
use millstream_wire::describe_client_quotas_request::ComponentData;
use millstream_wire::describe_client_quotas_response::EntityData as DescribedPart;
use millstream_wire::{AlterClientQuotasRequest, DescribeClientQuotasRequest, StrBytes};

use super::Admin;
use super::topics::missing;
use crate::cluster::Target;
use crate::error::Error;

/// Kinds of parts of an entity, as the protocol calls them.
const USER: &str = "user";
const CLIENT_ID: &str = "client-id";
const IP: &str = "ip";

/// How a part is looked for: by its name, or as the default of its kind.
const EXACT: i8 = 0;
const DEFAULT: i8 = 1;

/// One part of an entity.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum QuotaPart {
    /// All that have no quota by name.
    Default,
    /// This one.
    Named(String),
}

/// For whom a quota holds. An address stands alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct QuotaEntity {
    /// The user.
    pub user: Option<QuotaPart>,
    /// The client id.
    pub client_id: Option<QuotaPart>,
    /// The address.
    pub ip: Option<QuotaPart>,
}

/// What limits an entity, by the protocol's names (`producer_byte_rate`, ...), in their units.
pub type QuotaLimits = BTreeMap<String, f64>;

impl QuotaEntity {
    /// Its parts, with what the protocol calls them.
    pub fn parts(&self) -> impl Iterator<Item = (&'static str, &QuotaPart)> {
        let all = [(USER, &self.user), (CLIENT_ID, &self.client_id), (IP, &self.ip)];
        all.into_iter().filter_map(|(kind, part)| Some((kind, part.as_ref()?)))
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_nobody(&self) -> bool {
        self.parts().next().is_none()
    }

    /// What a broker calls so; `None` when this program does not know a part of it.
    fn read(parts: &[DescribedPart]) -> Option<Self> {
        let mut entity = Self::default();
        for part in parts {
            let place = match part.entity_type.as_str() {
                USER => &mut entity.user,
                CLIENT_ID => &mut entity.client_id,
                IP => &mut entity.ip,
                _ => return None,
            };
            let name = part.entity_name.as_ref().map(|name| name.as_str().to_owned());
            *place = Some(name.map_or(QuotaPart::Default, QuotaPart::Named));
        }
        Some(entity)
    }
}

impl QuotaPart {
    /// Its name; `None` for the default.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Default => None,
            Self::Named(name) => Some(name),
        }
    }

    fn text(&self) -> Option<StrBytes> {
        self.name().map(|name| StrBytes::from(name.to_owned()))
    }
}

/// As people are told: `user ann, client id (default)`.
impl fmt::Display for QuotaEntity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (kind, part)) in self.parts().enumerate() {
            let (between, kind) = (if at == 0 { "" } else { ", " }, kind.replace('-', " "));
            write!(f, "{between}{kind} {}", part.name().unwrap_or("(default)"))?;
        }
        Ok(())
    }
}

impl Admin {
    /// What limits the entities that have all parts of `like`; without any, all entities.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`], for example with `CLUSTER_AUTHORIZATION_FAILED`.
    pub async fn quotas(
        &self,
        like: &QuotaEntity,
    ) -> Result<BTreeMap<QuotaEntity, QuotaLimits>, Error> {
        let components = like.parts().map(|(kind, part)| ComponentData {
            entity_type: StrBytes::from_static(kind),
            match_type: if *part == QuotaPart::Default { DEFAULT } else { EXACT },
            r#match: part.text(),
        });
        let request =
            DescribeClientQuotasRequest { components: components.collect(), strict: false };
        self.at(Target::Any, &request, |answer| {
            let what = || "quotas".to_owned();
            Error::check(answer.error_code, answer.error_message.as_deref(), what)?;
            let mut found = BTreeMap::new();
            for entry in answer.entries.iter().flatten() {
                let unknown = || Error::Invalid("quotas of a kind that is not known".to_owned());
                let entity = QuotaEntity::read(&entry.entity).ok_or_else(unknown)?;
                let limits = entry.values.iter();
                let limits = limits.map(|limit| (limit.key.as_str().to_owned(), limit.value));
                found.insert(entity, limits.collect());
            }
            Ok(found)
        })
        .await
    }

    /// Sets limits of an entity, or removes those that are to be `None`; the others stay.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`], for example with `INVALID_REQUEST`. Nothing has changed then.
    pub async fn alter_quotas(
        &self,
        entity: &QuotaEntity,
        changes: &BTreeMap<String, Option<f64>>,
    ) -> Result<(), Error> {
        let parts = entity.parts().map(|(kind, part)| EntityData {
            entity_type: StrBytes::from_static(kind),
            entity_name: part.text(),
        });
        let ops = changes.iter().map(|(key, to)| OpData {
            key: StrBytes::from(key.clone()),
            value: to.unwrap_or_default(),
            remove: to.is_none(),
        });
        let entry = EntryData { entity: parts.collect(), ops: ops.collect() };
        let request = AlterClientQuotasRequest { entries: vec![entry], validate_only: false };
        let what = || format!("quotas of {entity}");
        self.at(Target::Controller, &request, |answer| {
            let altered = answer.entries.first().ok_or_else(|| missing(&what()))?;
            Error::check(altered.error_code, altered.error_message.as_deref(), what)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entities_are_told_as_people_say_them() {
        let named = |name: &str| Some(QuotaPart::Named(name.to_owned()));
        let nobody = QuotaEntity::default();
        for (entity, expected) in [
            (nobody.clone(), ""),
            (QuotaEntity { user: named("ann"), ..nobody.clone() }, "user ann"),
            (
                QuotaEntity {
                    user: Some(QuotaPart::Default),
                    client_id: named("x"),
                    ..nobody.clone()
                },
                "user (default), client id x",
            ),
            (QuotaEntity { ip: named("::1"), ..nobody }, "ip ::1"),
        ] {
            assert_eq!(entity.to_string(), expected);
            assert_eq!(entity.is_nobody(), expected.is_empty());
        }
    }

    #[test]
    fn parts_that_are_not_known_are_not_taken_for_others() {
        let part = |kind: &'static str, name: Option<&'static str>| DescribedPart {
            entity_type: StrBytes::from(kind),
            entity_name: name.map(StrBytes::from),
        };
        let both = QuotaEntity::read(&[part("user", None), part("client-id", Some("x"))]);
        assert_eq!(both.map(|it| it.to_string()), Some("user (default), client id x".to_owned()));
        assert_eq!(QuotaEntity::read(&[part("user", None), part("zone", None)]), None);
    }
}
