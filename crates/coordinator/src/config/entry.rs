//! What the tables are made of.

use super::value;

/// What a value is, with the number that DescribeConfigs gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigType {
    /// `true` or `false`, in any case.
    Boolean = 1,
    /// Text, taken as it is.
    String = 2,
    /// A whole number of 32 bits.
    Int = 3,
    /// A whole number of 16 bits.
    Short = 4,
    /// A whole number of 64 bits.
    Long = 5,
    /// A number with a fraction.
    Double = 6,
    /// Items with commas between them.
    List = 7,
    /// The name of a Java class.
    Class = 8,
    /// Text that is never told.
    Password = 9,
}

/// Which values of its type an entry takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Allowed {
    /// All of them.
    Any,
    /// Numbers from this one on.
    AtLeast(i64),
    /// Numbers from the first to the second, both included.
    Between(i64, i64),
    /// Numbers from the first to the second, and -1 for the codec's own choice.
    BetweenOrDefault(i64, i64),
    /// Every number but zero; those below it stand for "no limit".
    NotZero,
    /// Fractions from 0 to 1, both included.
    Share,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// One of these words, in any case.
    OneOfAnyCase(&'static [&'static str]),
    /// A list of these words, or an empty one.
    ListOf(&'static [&'static str]),
    /// A list that names nothing twice.
    Distinct,
    /// `*`, or a list of `partition:broker`.
    ThrottledReplicas,
    /// Where a share group starts: `earliest`, `latest` or `by_duration:` and an ISO 8601 duration.
    StartOffset,
    /// A secret of at least so many bytes, or nothing.
    Secret(usize),
    /// `User:name`, several with semicolons between them, or nothing.
    Users,
    /// A list of `address:number`, or nothing.
    AddressLimits,
    /// A list of `name=pattern` that selects clients by what they say of themselves.
    ClientMatch,
}

/// What an entry does here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// What its sentence says.
    Honoured,
    /// Some of its values do; the sentence says which.
    Partly,
    /// Nothing yet: it belongs to something that is not built.
    Later,
    /// Nothing, ever: it tunes a mechanism that does not exist here.
    AcceptedOnly,
    /// It tells tools about this broker. It can't be set under this name: this option or file
    /// decides.
    Reported(&'static str),
}

/// When an entry can be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// When the broker starts.
    ReadOnly,
    /// Also while it runs, with (Incremental)AlterConfigs.
    Dynamic,
}

/// A broker config that gives an entry its default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Synonym {
    /// The broker config.
    pub name: &'static str,
    /// What its number is to be multiplied with.
    pub scale: i64,
}

/// One config: all that parsing, validation, DescribeConfigs and the reference page know of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry {
    /// Its name, unique among its kind.
    pub name: &'static str,
    /// What its value is.
    pub config_type: ConfigType,
    /// Its value unless something sets it. `None`: it has none.
    pub default: Option<&'static str>,
    /// Which values it takes.
    pub allowed: Allowed,
    /// The broker configs that give its default, the one that wins first; none for a broker config.
    pub synonyms: &'static [Synonym],
    /// When it can be changed.
    pub update: Update,
    /// What it does here.
    pub effect: Effect,
    /// Whether it can be set for one listener, as `listener.name.<listener>.<name>`.
    pub of_listeners: bool,
    /// Whether it is listed only where it has been set: Kafka's internal configs.
    pub hidden: bool,
    /// What it means, with its unit, in a sentence or two.
    pub doc: &'static str,
}

/// A synonym with the same unit.
pub(super) const fn same(name: &'static str) -> Synonym {
    Synonym { name, scale: 1 }
}

/// A synonym in minutes for an entry in milliseconds.
pub(super) const fn minutes(name: &'static str) -> Synonym {
    Synonym { name, scale: 60_000 }
}

/// A synonym in hours for an entry in milliseconds.
pub(super) const fn hours(name: &'static str) -> Synonym {
    Synonym { name, scale: 3_600_000 }
}

const fn new(name: &'static str, config_type: ConfigType, default: &'static str) -> Entry {
    Entry {
        name,
        config_type,
        default: Some(default),
        allowed: Allowed::Any,
        synonyms: &[],
        update: Update::Dynamic,
        effect: Effect::Honoured,
        of_listeners: false,
        hidden: false,
        doc: "",
    }
}

pub(super) const fn boolean(name: &'static str, default: &'static str) -> Entry {
    new(name, ConfigType::Boolean, default)
}

pub(super) const fn string(name: &'static str, default: &'static str) -> Entry {
    new(name, ConfigType::String, default)
}

pub(super) const fn int(name: &'static str, default: &'static str) -> Entry {
    new(name, ConfigType::Int, default)
}

pub(super) const fn short(name: &'static str, default: &'static str) -> Entry {
    new(name, ConfigType::Short, default)
}

pub(super) const fn long(name: &'static str, default: &'static str) -> Entry {
    new(name, ConfigType::Long, default)
}

pub(super) const fn double(name: &'static str, default: &'static str) -> Entry {
    new(name, ConfigType::Double, default)
}

/// A secret, which has no default.
pub(super) const fn password(name: &'static str) -> Entry {
    new(name, ConfigType::Password, "").unset()
}

pub(super) const fn list(name: &'static str, default: &'static str) -> Entry {
    new(name, ConfigType::List, default)
}

impl Entry {
    pub(super) const fn allow(mut self, allowed: Allowed) -> Self {
        self.allowed = allowed;
        self
    }

    /// With the synonyms, the one that wins first.
    pub(super) const fn from(mut self, synonyms: &'static [Synonym]) -> Self {
        self.synonyms = synonyms;
        self
    }

    /// Without a default.
    pub(super) const fn unset(mut self) -> Self {
        self.default = None;
        self
    }

    /// Can be set for one listener.
    pub(super) const fn of_listeners(mut self) -> Self {
        self.of_listeners = true;
        self
    }

    pub(super) const fn read_only(mut self) -> Self {
        self.update = Update::ReadOnly;
        self
    }

    pub(super) const fn effect(mut self, effect: Effect) -> Self {
        self.effect = effect;
        self
    }

    pub(super) const fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }

    pub(super) const fn doc(mut self, doc: &'static str) -> Self {
        self.doc = doc;
        self
    }

    /// Whether its value is never told.
    #[must_use]
    pub const fn sensitive(&self) -> bool {
        matches!(self.config_type, ConfigType::Password)
    }

    /// Which values it takes, in words: "a whole number, at least -1".
    #[must_use]
    pub fn expects(&self) -> String {
        value::expects(self)
    }
}

impl ConfigType {
    /// The word for it on the reference page.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::String => "string",
            Self::Int => "int",
            Self::Short => "short",
            Self::Long => "long",
            Self::Double => "double",
            Self::List => "list",
            Self::Class => "class",
            Self::Password => "password",
        }
    }
}
