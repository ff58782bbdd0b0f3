//! What the metadata log holds, as bytes.
//!
//! ```text
//! version  u8    1
//! entry*         tag u8, then its fields
//!
//! string         length unsigned varint, UTF-8
//! overrides      count unsigned varint, then name and value strings, names rising
//! acl            type u8, pattern u8, name string, principal string, host string, operation u8,
//!                permission u8, by Kafka's numbers
//! quotas         user, client id, address: u8 0 none, 1 default, 2 a string follows
//!                count unsigned varint, then use u8 and limit f64, uses rising
//! credential     user string, hash u8: 1 SHA-256, 2 SHA-512
//!                iterations u32, then salt, stored key and server key, each behind its length as
//!                unsigned varint; never a password, nor what could be used in its place
//! delegation     id, owner and requester strings, count unsigned varint, then renewers as strings
//!                issued, expires and ends i64, digest 32 bytes; count unsigned varint, then hash and
//!                credential as above; never what could be used to log in
//! ```
//!
//! The log below numbers and checksums these bytes; one append is one atomic change. Decoding is
//! total, and `decode(encode(entries)) == entries`.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_auth::{Credential, Hash, Secret};
use millstream_types::{Cursor, DecodeError, SessionId, Timestamp, TopicId, Uuid, varint};

use crate::acl::{Binding, Draft, Operation, PatternType, Permission, ResourceType};
use crate::delegation::Delegation;
use crate::quota::{Entity, Limit, Limits, Name, Use};

use super::{Overrides, Resource, TopicState, Trimmed};

const VERSION: u8 = 1;

/// One change. The tags are persisted and must be kept stable; all lives until a later entry says
/// otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Tag 1: a node has started, or taken over from its former self.
    SessionOpened {
        /// The new session.
        session: SessionId,
    },
    /// Tag 2.
    TopicCreated(TopicState),
    /// Tag 3.
    TopicDeleted {
        /// The topic's identity; its name is free again.
        id: TopicId,
    },
    /// Tag 4.
    PartitionsSet {
        /// The topic.
        id: TopicId,
        /// How many partitions it has from now on; never fewer than before.
        partitions: i32,
    },
    /// Tag 5: all overrides of a topic, replacing what was set before.
    TopicOverridesSet {
        /// The topic.
        id: TopicId,
        /// What differs from the defaults.
        overrides: Overrides,
    },
    /// Tag 6: all overrides of something else, replacing what was set before.
    OverridesSet {
        /// What they are set on.
        resource: Resource,
        /// What differs from the defaults.
        overrides: Overrides,
    },
    /// Tag 7: producer ids below `next` have been given out, or may have been.
    ProducerIdsTaken {
        /// The first that has not.
        next: i64,
    },
    /// Tag 8: a checkpoint of the log is durable.
    Trimmed(Trimmed),
    /// Tag 9: all limits of an entity, replacing what was set before.
    QuotasSet {
        /// For whom they hold.
        entity: Entity,
        /// What they are.
        limits: Limits,
    },
    /// Tag 12: there is this access rule from now on.
    AclAdded(Binding),
    /// Tag 13: there is this access rule no more.
    AclRemoved(Binding),
    /// Tag 10: what is kept of a user's password, replacing what was kept for this hash function.
    CredentialSet {
        /// The user.
        user: Arc<str>,
        /// The hash function.
        hash: Hash,
        /// What is kept.
        credential: Credential,
    },
    /// Tag 11.
    CredentialDeleted {
        /// The user.
        user: Arc<str>,
        /// The hash function.
        hash: Hash,
    },
    /// Tag 15: a delegation token, replacing what there was of its id.
    DelegationSet(Arc<Delegation>),
    /// Tag 16: there is this delegation token no more.
    DelegationRemoved {
        /// Its id.
        id: Arc<str>,
    },
    /// Tag 14: what credentials are made from of users that there are not.
    DecoySecretSet {
        /// Drawn at random.
        secret: Secret,
    },
}

/// Why stored metadata can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryError {
    /// Written by a newer release: run that one, or restore a backup of before the upgrade.
    Version(u8),
    /// An entry of a kind that this release does not know; the same advice.
    Tag(u8),
    /// The bytes are not what was written.
    Decode(DecodeError),
}

/// The bytes of one atomic change.
#[must_use]
pub fn encode(entries: &[Entry]) -> Vec<u8> {
    let mut out = vec![VERSION];
    for entry in entries {
        encode_one(entry, &mut out);
    }
    out
}

/// Reverses [`encode`].
///
/// # Errors
///
/// When the bytes are not what this or an earlier release has written.
pub fn decode(bytes: &[u8]) -> Result<Vec<Entry>, EntryError> {
    let mut cursor = Cursor::new(bytes);
    let version = cursor.u8("version")?;
    if version != VERSION {
        return Err(EntryError::Version(version));
    }
    let mut entries = Vec::new();
    while !cursor.is_empty() {
        entries.push(decode_one(&mut cursor)?);
    }
    Ok(entries)
}

fn encode_one(entry: &Entry, out: &mut Vec<u8>) {
    match entry {
        Entry::SessionOpened { session } => {
            out.push(1);
            out.extend(session.0.to_be_bytes());
        }
        Entry::TopicCreated(topic) => {
            out.push(2);
            out.extend(topic.id.0);
            put_string(&topic.name, out);
            out.extend(topic.partitions.to_be_bytes());
            out.extend(topic.replication.to_be_bytes());
            out.extend(topic.created.0.to_be_bytes());
            put_overrides(&topic.overrides, out);
        }
        Entry::TopicDeleted { id } => {
            out.push(3);
            out.extend(id.0);
        }
        Entry::PartitionsSet { id, partitions } => {
            out.push(4);
            out.extend(id.0);
            out.extend(partitions.to_be_bytes());
        }
        Entry::TopicOverridesSet { id, overrides } => {
            out.push(5);
            out.extend(id.0);
            put_overrides(overrides, out);
        }
        Entry::OverridesSet { resource, overrides } => {
            out.push(6);
            put_resource(resource, out);
            put_overrides(overrides, out);
        }
        Entry::ProducerIdsTaken { next } => {
            out.push(7);
            out.extend(next.to_be_bytes());
        }
        Entry::Trimmed(trimmed) => {
            out.push(8);
            out.extend(trimmed.session.0.to_be_bytes());
            out.extend(trimmed.lsn.to_be_bytes());
            put_string(&trimmed.checkpoint, out);
        }
        Entry::QuotasSet { entity, limits } => {
            out.push(9);
            put_quotas(entity, limits, out);
        }
        Entry::AclAdded(binding) => put_acl(12, binding, out),
        Entry::AclRemoved(binding) => put_acl(13, binding, out),
        Entry::CredentialSet { user, hash, credential } => {
            put_holder(10, user, *hash, out);
            put_credential(credential, out);
        }
        Entry::CredentialDeleted { user, hash } => put_holder(11, user, *hash, out),
        Entry::DecoySecretSet { secret } => {
            out.push(14);
            out.extend(secret.0);
        }
        Entry::DelegationSet(token) => put_delegation(15, token, out),
        Entry::DelegationRemoved { id } => {
            out.push(16);
            put_string(id, out);
        }
    }
}

fn decode_one(cursor: &mut Cursor<'_>) -> Result<Entry, EntryError> {
    Ok(match cursor.u8("tag")? {
        1 => Entry::SessionOpened { session: SessionId(cursor.u64("session")?) },
        2 => Entry::TopicCreated(TopicState {
            id: id(cursor)?,
            name: Arc::from(string(cursor, "name")?),
            partitions: cursor.i32("partitions")?,
            replication: cursor.i16("replication")?,
            created: SessionId(cursor.u64("created")?),
            overrides: overrides(cursor)?,
        }),
        3 => Entry::TopicDeleted { id: id(cursor)? },
        4 => Entry::PartitionsSet { id: id(cursor)?, partitions: cursor.i32("partitions")? },
        5 => Entry::TopicOverridesSet { id: id(cursor)?, overrides: overrides(cursor)? },
        6 => Entry::OverridesSet { resource: resource(cursor)?, overrides: overrides(cursor)? },
        7 => Entry::ProducerIdsTaken { next: cursor.i64("next")? },
        8 => Entry::Trimmed(Trimmed {
            session: SessionId(cursor.u64("session")?),
            lsn: cursor.u64("lsn")?,
            checkpoint: string(cursor, "checkpoint")?,
        }),
        9 => {
            let entity =
                Entity { user: name(cursor)?, client_id: name(cursor)?, address: name(cursor)? };
            Entry::QuotasSet { entity, limits: limits(cursor)? }
        }
        12 => Entry::AclAdded(acl(cursor)?),
        13 => Entry::AclRemoved(acl(cursor)?),
        10 => Entry::CredentialSet {
            user: Arc::from(string(cursor, "user")?),
            hash: hash(cursor)?,
            credential: credential(cursor)?,
        },
        11 => Entry::CredentialDeleted {
            user: Arc::from(string(cursor, "user")?),
            hash: hash(cursor)?,
        },
        14 => Entry::DecoySecretSet { secret: Secret(cursor.array("secret")?) },
        15 => Entry::DelegationSet(Arc::new(delegation(cursor)?)),
        16 => Entry::DelegationRemoved { id: Arc::from(string(cursor, "token")?) },
        tag => return Err(EntryError::Tag(tag)),
    })
}

fn put_holder(tag: u8, user: &str, hash: Hash, out: &mut Vec<u8>) {
    out.push(tag);
    put_string(user, out);
    out.push(hash_number(hash));
}

fn put_credential(credential: &Credential, out: &mut Vec<u8>) {
    out.extend(credential.iterations.to_be_bytes());
    for part in [&credential.salt, &credential.stored_key, &credential.server_key] {
        put_bytes(part, out);
    }
}

fn put_delegation(tag: u8, token: &Delegation, out: &mut Vec<u8>) {
    out.push(tag);
    for name in [&token.id, &token.owner, &token.requester] {
        put_string(name, out);
    }
    varint::put_unsigned(out, token.renewers.len() as u64);
    for renewer in &token.renewers {
        put_string(renewer, out);
    }
    for time in [token.issued, token.expires, token.ends] {
        out.extend(time.0.to_be_bytes());
    }
    out.extend(token.digest);
    varint::put_unsigned(out, token.credentials.len() as u64);
    for (hash, credential) in &token.credentials {
        out.push(hash_number(*hash));
        put_credential(credential, out);
    }
}

fn delegation(cursor: &mut Cursor<'_>) -> Result<Delegation, EntryError> {
    let name = |cursor: &mut Cursor<'_>| string(cursor, "token").map(Arc::from);
    let time = |cursor: &mut Cursor<'_>| cursor.i64("token").map(Timestamp);
    let (id, owner, requester) = (name(cursor)?, name(cursor)?, name(cursor)?);
    let count = cursor.unsigned_varint("renewers")?;
    // Each of these takes a byte at least, so that a wrong count ends soon.
    let mut renewers = Vec::new();
    for _ in 0..count {
        renewers.push(name(cursor)?);
    }
    let (issued, expires, ends) = (time(cursor)?, time(cursor)?, time(cursor)?);
    let digest = cursor.array("digest")?;
    let count = cursor.unsigned_varint("credentials")?;
    let mut credentials = BTreeMap::new();
    for _ in 0..count {
        let hash = hash(cursor)?;
        credentials.insert(hash, credential(cursor)?);
    }
    Ok(Delegation { id, owner, requester, renewers, issued, expires, ends, digest, credentials })
}

const fn hash_number(hash: Hash) -> u8 {
    match hash {
        Hash::Sha256 => 1,
        Hash::Sha512 => 2,
    }
}

fn hash(cursor: &mut Cursor<'_>) -> Result<Hash, EntryError> {
    match cursor.u8("hash")? {
        1 => Ok(Hash::Sha256),
        2 => Ok(Hash::Sha512),
        tag => Err(EntryError::Tag(tag)),
    }
}

fn credential(cursor: &mut Cursor<'_>) -> Result<Credential, EntryError> {
    Ok(Credential {
        iterations: cursor.u32("iterations")?,
        salt: bytes(cursor, "salt")?,
        stored_key: bytes(cursor, "stored key")?,
        server_key: bytes(cursor, "server key")?,
    })
}

fn put_quotas(entity: &Entity, limits: &Limits, out: &mut Vec<u8>) {
    for part in [&entity.user, &entity.client_id, &entity.address] {
        match part {
            None => out.push(0),
            Some(Name::Default) => out.push(1),
            Some(Name::Is(name)) => {
                out.push(2);
                put_string(name, out);
            }
        }
    }
    varint::put_unsigned(out, limits.len() as u64);
    for (of, limit) in limits {
        out.push(match of {
            Use::ProducerByteRate => 1,
            Use::ConsumerByteRate => 2,
            Use::RequestPercentage => 3,
            Use::ControllerMutationRate => 4,
            Use::ConnectionCreationRate => 5,
        });
        out.extend(limit.get().to_bits().to_be_bytes());
    }
}

fn name(cursor: &mut Cursor<'_>) -> Result<Option<Name>, EntryError> {
    Ok(match cursor.u8("part of an entity")? {
        0 => None,
        1 => Some(Name::Default),
        2 => Some(Name::Is(Arc::from(string(cursor, "entity")?))),
        tag => return Err(EntryError::Tag(tag)),
    })
}

fn limits(cursor: &mut Cursor<'_>) -> Result<Limits, EntryError> {
    let count = cursor.unsigned_varint("limits")?;
    let mut limits = Limits::new();
    // Each takes nine bytes, so that a wrong count ends soon.
    for _ in 0..count {
        let of = match cursor.u8("use")? {
            1 => Use::ProducerByteRate,
            2 => Use::ConsumerByteRate,
            3 => Use::RequestPercentage,
            4 => Use::ControllerMutationRate,
            5 => Use::ConnectionCreationRate,
            tag => return Err(EntryError::Tag(tag)),
        };
        let limit = Limit::new(f64::from_bits(cursor.u64("limit")?));
        limits.insert(of, limit.ok_or(DecodeError::Invalid { field: "limit" })?);
    }
    Ok(limits)
}

fn put_acl(tag: u8, binding: &Binding, out: &mut Vec<u8>) {
    out.push(tag);
    out.extend(binding.resource.number().to_be_bytes());
    out.extend(binding.pattern.number().to_be_bytes());
    put_string(&binding.name, out);
    put_string(&binding.principal(), out);
    put_string(binding.host.text(), out);
    out.extend(binding.operation.number().to_be_bytes());
    out.extend(binding.permission.number().to_be_bytes());
}

/// What can't be a rule is refused: left out, it might have denied something.
fn acl(cursor: &mut Cursor<'_>) -> Result<Binding, EntryError> {
    fn number<T>(
        cursor: &mut Cursor<'_>,
        field: &'static str,
        numbered: fn(i8) -> Option<T>,
    ) -> Result<T, EntryError> {
        let number = cursor.u8(field)?;
        let known = i8::try_from(number).ok().and_then(numbered);
        known.ok_or(EntryError::Tag(number))
    }
    let resource = number(cursor, "type of a resource", ResourceType::numbered)?;
    let pattern = number(cursor, "type of a pattern", PatternType::numbered)?;
    let (name, principal) = (string(cursor, "name")?, string(cursor, "principal")?);
    let host = string(cursor, "host")?;
    let draft = Draft {
        resource,
        pattern,
        name: &name,
        principal: &principal,
        host: &host,
        operation: number(cursor, "operation", Operation::numbered)?,
        permission: number(cursor, "permission", Permission::numbered)?,
    };
    Ok(Binding::new(&draft).map_err(|_| DecodeError::Invalid { field: "access rule" })?)
}

fn put_resource(resource: &Resource, out: &mut Vec<u8>) {
    match resource {
        Resource::Brokers => out.push(1),
        Resource::Broker(number) => {
            out.push(2);
            out.extend(number.to_be_bytes());
        }
        Resource::Group(name) => {
            out.push(3);
            put_string(name, out);
        }
        Resource::ClientMetrics(name) => {
            out.push(4);
            put_string(name, out);
        }
    }
}

fn resource(cursor: &mut Cursor<'_>) -> Result<Resource, EntryError> {
    Ok(match cursor.u8("resource")? {
        1 => Resource::Brokers,
        2 => Resource::Broker(cursor.i32("broker")?),
        3 => Resource::Group(string(cursor, "group")?),
        4 => Resource::ClientMetrics(string(cursor, "client metrics")?),
        tag => return Err(EntryError::Tag(tag)),
    })
}

fn put_overrides(overrides: &Overrides, out: &mut Vec<u8>) {
    varint::put_unsigned(out, overrides.len() as u64);
    for (name, value) in overrides {
        put_string(name, out);
        put_string(value, out);
    }
}

fn overrides(cursor: &mut Cursor<'_>) -> Result<Overrides, EntryError> {
    let count = cursor.unsigned_varint("overrides")?;
    let mut overrides = Overrides::new();
    // Each takes two bytes at least, so that a wrong count ends soon.
    for _ in 0..count {
        let name = string(cursor, "override")?;
        overrides.insert(name, string(cursor, "value")?);
    }
    Ok(overrides)
}

fn put_string(text: &str, out: &mut Vec<u8>) {
    put_bytes(text.as_bytes(), out);
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    varint::put_unsigned(out, bytes.len() as u64);
    out.extend(bytes);
}

fn bytes(cursor: &mut Cursor<'_>, field: &'static str) -> Result<Vec<u8>, EntryError> {
    let len = cursor.unsigned_varint(field)? as usize;
    Ok(cursor.bytes(len, field)?.to_vec())
}

fn string(cursor: &mut Cursor<'_>, field: &'static str) -> Result<String, EntryError> {
    let len = cursor.unsigned_varint(field)? as usize;
    let bytes = cursor.bytes(len, field)?;
    let text = std::str::from_utf8(bytes).map_err(|_| DecodeError::Invalid { field })?;
    Ok(text.to_owned())
}

fn id(cursor: &mut Cursor<'_>) -> Result<TopicId, EntryError> {
    Ok(Uuid(cursor.array("topic id")?))
}

impl From<DecodeError> for EntryError {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

impl std::fmt::Display for EntryError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Version(version) => write!(
                f,
                "metadata of format {version}, this release knows {VERSION}: run the newer release"
            ),
            Self::Tag(tag) => {
                write!(f, "a metadata entry of the unknown kind {tag}: run the newer release")
            }
            Self::Decode(error) => write!(f, "metadata that can't be read: {error}"),
        }
    }
}

impl std::error::Error for EntryError {}
