//! What a definition file says.

use anyhow::{Result, bail, ensure};

/// One definition file: the messages of one API, or of one stored record.
#[derive(Debug)]
pub(crate) struct Definition {
    /// The generated file's name without its suffix.
    pub module: String,
    /// One sentence.
    pub about: String,
    pub messages: Vec<Message>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Request,
    Response,
    Header,
    Data,
    Key,
    Value,
}

#[derive(Debug)]
pub(crate) struct Message {
    pub kind: Kind,
    pub name: String,
    /// The API's key, or a stored record's type.
    pub key: Option<i16>,
    pub versions: Versions,
    /// The versions with compact lengths and tagged fields.
    pub flexible: Option<Versions>,
    /// The message itself, then its structs in the order in which they appear.
    pub structs: Vec<Struct>,
}

#[derive(Debug)]
pub(crate) struct Struct {
    pub name: String,
    /// The versions of the message in which the struct occurs (from the first to the last).
    pub versions: Versions,
    pub fields: Vec<Field>,
}

#[derive(Debug)]
pub(crate) struct Field {
    /// As published.
    pub name: String,
    pub kind: Type,
    pub versions: Versions,
    /// The versions in which null is legal; none: it never is.
    pub nullable: Option<Versions>,
    pub tag: Option<u32>,
    /// Never has a compact length, though the message may be flexible.
    pub never_flexible: bool,
    pub default: Default,
    /// Dropped silently when the version lacks it.
    pub ignorable: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Bool,
    Int8,
    Int16,
    Uint16,
    Int32,
    Int64,
    Float64,
    Uuid,
    String,
    Bytes,
    Records,
    Struct(String),
    Array(Box<Type>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Default {
    /// Zero, false, empty.
    Natural,
    Null,
    Number(i64),
    True,
}

/// A range of versions, both ends included, never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Versions {
    pub first: i16,
    pub last: i16,
}

/// How deep structs may nest, which bounds a decoder's recursion. The deepest today is five.
const DEPTH_MAX: usize = 8;

impl Versions {
    pub(crate) fn and(self, other: Self) -> Option<Self> {
        let both = Self { first: self.first.max(other.first), last: self.last.min(other.last) };
        (both.first <= both.last).then_some(both)
    }

    fn or(self, other: Self) -> Self {
        Self { first: self.first.min(other.first), last: self.last.max(other.last) }
    }

    /// The Rust condition on `version` that holds in these versions and not in others of `of`;
    /// none when it would always hold.
    pub(crate) fn condition(self, of: Self) -> Option<String> {
        let Self { first, last } = self;
        match (first > of.first, last < of.last) {
            (false, false) => None,
            (true, false) => Some(format!("version >= {first}")),
            (false, true) => Some(format!("version <= {last}")),
            (true, true) if first == last => Some(format!("version == {first}")),
            (true, true) => Some(format!("({first}..={last}).contains(&version)")),
        }
    }
}

impl std::fmt::Display for Versions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

impl Type {
    /// The struct that this type is, or is an array of.
    pub(crate) fn struct_name(&self) -> Option<&str> {
        match self {
            Self::Struct(name) => Some(name),
            Self::Array(element) => element.struct_name(),
            _ => None,
        }
    }
}

impl Message {
    pub(crate) fn find(&self, name: &str) -> Result<&Struct> {
        match self.structs.iter().find(|known| known.name == name) {
            Some(found) => Ok(found),
            None => bail!("{}: no struct {name}", self.name),
        }
    }

    /// Whether `versions` are all flexible, none of them, or (none) some.
    pub(crate) fn flexible_in(&self, versions: Versions) -> Option<bool> {
        match self.flexible.and_then(|flexible| flexible.and(versions)) {
            None => Some(false),
            Some(both) if both == versions => Some(true),
            Some(_) => None,
        }
    }

    /// Finds in which versions each struct occurs, and checks what can be checked.
    pub(crate) fn resolve(&mut self) -> Result<()> {
        let mut found: Vec<Option<Versions>> = vec![None; self.structs.len()];
        self.visit(0, self.versions, 0, &mut found)?;
        for (known, versions) in self.structs.iter_mut().zip(found) {
            let Some(versions) = versions else {
                bail!("the struct {} is not used", known.name);
            };
            known.versions = versions;
        }
        self.structs.iter().flat_map(|known| &known.fields).try_for_each(|field| self.check(field))
    }

    fn visit(
        &self,
        at: usize,
        versions: Versions,
        depth: usize,
        found: &mut [Option<Versions>],
    ) -> Result<()> {
        ensure!(depth <= DEPTH_MAX, "{} nests too deep", self.structs[at].name);
        found[at] = Some(found[at].map_or(versions, |known| known.or(versions)));
        for field in &self.structs[at].fields {
            let Some(name) = field.kind.struct_name() else { continue };
            let Some(inner) = self.structs.iter().position(|known| known.name == name) else {
                bail!("{}: no struct {name}", field.name);
            };
            if let Some(versions) = field.versions.and(versions) {
                self.visit(inner, versions, depth + 1, found)?;
            }
        }
        Ok(())
    }

    fn check(&self, field: &Field) -> Result<()> {
        let name = &field.name;
        let is_null = field.default == Default::Null;
        ensure!(!is_null || field.nullable.is_some(), "{name}: null is not legal");
        if let Some(nullable) = field.nullable {
            let can = matches!(
                field.kind,
                Type::String | Type::Bytes | Type::Records | Type::Array(_) | Type::Struct(_)
            );
            ensure!(can, "{name}: its type can't be null");
            let is_struct = matches!(field.kind, Type::Struct(_));
            ensure!(
                !is_struct || (is_null && nullable == field.versions),
                "{name}: a nullable struct is null by default and nullable in every version"
            );
        }
        ensure!(
            field.tag.is_none() || self.flexible_in(field.versions) == Some(true),
            "{name}: tagged in a version that is not flexible"
        );
        Ok(())
    }
}
