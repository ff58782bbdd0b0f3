//! What is shown of clients' metrics: names, labels and values as Prometheus wants them.
//!
//! A client says what it wants. So names begin with [`PREFIX`], which none of our own has, and have
//! letters that a name may have; labels that we give can't be taken; everything has a length.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_types::Uuid;

use super::Matched;
use super::otlp::{Figure, Histogram, Pushed};

/// What all names begin with.
pub const PREFIX: &str = "kafka_client";
/// What Kafka's own names begin with, and is left away.
const KAFKAS: &[u8] = b"org.apache.kafka.";
/// The longest name, and the longest key of a label, in bytes. What is longer is left out.
const NAME_LEN_MAX: usize = 200;
/// The longest value of a label, in bytes: topics have no longer names. What is longer is left out.
const VALUE_LEN_MAX: usize = 256;
/// What a series takes beside its texts, in bytes, roughly.
const SERIES_BYTES: usize = 96;
const LABEL_BYTES: usize = 48;

/// The labels that every series, and what is said of each instance, has from us.
pub const INSTANCE_LABEL: &str = "client_instance_id";
const RESERVED: [&str; 8] = [
    INSTANCE_LABEL,
    "client_id",
    "client_software_name",
    "client_software_version",
    "client_address",
    "user",
    "le",
    "quantile",
];

/// Keys and values.
pub type Labels = Vec<(Box<str>, Box<str>)>;

/// One line of figures, or a histogram's.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Its name, as Prometheus knows it; of counters without `_total`.
    pub name: Box<str>,
    /// What tells it from others of its name, apart from the instance.
    pub labels: Labels,
    /// What it says.
    pub figure: Figure,
}

/// What a push comes to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// What the client says of itself.
    pub(super) info: Labels,
    /// By name and labels, each with whether it counts from the last push on.
    pub(super) series: Vec<(Series, bool)>,
    pub(super) left_out: u64,
}

/// What kind of figures a name has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Values that go up and down.
    Gauge,
    /// Sums that only grow.
    Counter,
    /// Values by size.
    Histogram,
}

/// What one instance shows. Cheap to clone.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// Which it is.
    pub id: Uuid,
    /// What is known of it, and what it says of itself.
    pub info: Arc<Labels>,
    /// Its series.
    pub series: Arc<Vec<Series>>,
}

/// All series of one name.
#[derive(Clone, Debug, PartialEq)]
pub struct Family<'a> {
    /// The name.
    pub name: &'a str,
    /// What kind they are of.
    pub kind: Kind,
    /// The series and the instance of each.
    pub samples: Vec<(Uuid, &'a Series)>,
}

impl Batch {
    /// What is shown of `pushed`, as far as it was asked for.
    #[must_use]
    pub fn new(pushed: Pushed<'_>, wanted: &Matched) -> Self {
        let mut left_out = pushed.left_out;
        let info = pushed.resource.iter().filter_map(|(key, value)| label(key, value));
        let mut series = BTreeMap::new();
        for point in pushed.points {
            let is_wanted = wanted.wants(point.name);
            let name = name(point.name, &point.figure).filter(|_| is_wanted);
            match name.zip(labels(&point.attributes)) {
                // Of two that look alike the last.
                Some(key) => {
                    series.insert(key, (point.figure, point.is_delta));
                }
                None => left_out += 1,
            }
        }
        let series = series.into_iter().map(|((name, labels), (figure, is_delta))| {
            (Series { name, labels, figure }, is_delta)
        });
        Self { info: distinct(info), series: series.collect(), left_out }
    }
}

/// The first of each key, by key.
fn distinct(labels: impl Iterator<Item = (Box<str>, Box<str>)>) -> Labels {
    let mut by_key = BTreeMap::new();
    for (key, value) in labels {
        by_key.entry(key).or_insert(value);
    }
    by_key.into_iter().collect()
}

/// The name of a metric; `None` when it is too long.
fn name(of: &[u8], figure: &Figure) -> Option<Box<str>> {
    let of = of.strip_prefix(KAFKAS).unwrap_or(of);
    if of.is_empty() || of.len() > NAME_LEN_MAX {
        return None;
    }
    let name = format!("{PREFIX}_{}", plain(of));
    Some(match figure {
        Figure::Counter(_) => name.strip_suffix("_total").unwrap_or(&name).into(),
        Figure::Gauge(_) | Figure::Histogram(_) => name.into(),
    })
}

/// The labels, by key; `None` when one is too long, or two look alike.
fn labels(attributes: &[(&[u8], Cow<'_, str>)]) -> Option<Labels> {
    let labels: Option<Vec<_>> = attributes.iter().map(|(key, value)| label(key, value)).collect();
    let labels = labels?;
    let count = labels.len();
    let labels = distinct(labels.into_iter());
    (labels.len() == count).then_some(labels)
}

fn label(key: &[u8], value: &str) -> Option<(Box<str>, Box<str>)> {
    if key.is_empty() || key.len() > NAME_LEN_MAX || value.len() > VALUE_LEN_MAX {
        return None;
    }
    let key = plain(key);
    let is_ours = RESERVED.contains(&&*key) || !key.starts_with(|c: char| c.is_ascii_alphabetic());
    let key = if is_ours { format!("tag_{key}") } else { key };
    Some((key.into(), value.into()))
}

/// With nothing but letters, digits and underscores.
fn plain(name: &[u8]) -> String {
    let plain = |byte: &u8| if byte.is_ascii_alphanumeric() { char::from(*byte) } else { '_' };
    name.iter().map(plain).collect()
}

/// `text` as the value of a label: its beginning, if it is long.
pub(super) fn cut(text: &str) -> Box<str> {
    text.get(..text.floor_char_boundary(VALUE_LEN_MAX)).unwrap_or_default().into()
}

impl Series {
    /// What kind of figure it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self.figure {
            Figure::Gauge(_) => Kind::Gauge,
            Figure::Counter(_) => Kind::Counter,
            Figure::Histogram(_) => Kind::Histogram,
        }
    }

    /// What it takes in memory, in bytes, roughly.
    pub(super) fn bytes(&self) -> usize {
        let figure = match &self.figure {
            Figure::Gauge(_) | Figure::Counter(_) => 0,
            Figure::Histogram(histogram) => 16 * histogram.counts.len(),
        };
        SERIES_BYTES + self.name.len() + figure + bytes_of(&self.labels)
    }

    /// Adds what it was before.
    pub(super) fn add(&mut self, before: &Self) {
        let both = match (&self.figure, &before.figure) {
            (Figure::Counter(now), Figure::Counter(before)) => {
                Some(now + before).filter(|sum| sum.is_finite()).map(Figure::Counter)
            }
            (Figure::Histogram(now), Figure::Histogram(before)) => {
                now.and(before).map(Figure::Histogram)
            }
            _ => None,
        };
        // Otherwise it begins anew, which whoever reads it can tell.
        if let Some(both) = both {
            self.figure = both;
        }
    }
}

impl Histogram {
    /// The values of both; `None` when they have other bounds, or there are more than can be counted.
    fn and(&self, other: &Self) -> Option<Self> {
        let mut all: u64 = 0;
        let mut counts = Vec::with_capacity(self.counts.len());
        for (one, another) in self.counts.iter().zip(&other.counts) {
            let both = one.checked_add(*another)?;
            all = all.checked_add(both)?;
            counts.push(both);
        }
        let sum = self.sum + other.sum;
        let fits = self.bounds == other.bounds && sum.is_finite();
        fits.then(|| Self { sum, bounds: self.bounds.clone(), counts })
    }
}

pub(super) fn bytes_of(labels: &Labels) -> usize {
    labels.iter().map(|(key, value)| LABEL_BYTES + key.len() + value.len()).sum()
}

/// All series of `shown` by name, and how many are left out: those of a name that has figures of another
/// kind, or with which the lines of another name could be mixed up. Who was first keeps his.
#[must_use]
pub fn families(shown: &[Shown]) -> (Vec<Family<'_>>, u64) {
    let mut families: BTreeMap<&str, Family<'_>> = BTreeMap::new();
    // What is said of instances comes first.
    let mut lines = BTreeSet::from([PREFIX.to_owned(), format!("{PREFIX}_info")]);
    let mut left_out = 0;
    for (id, series) in shown.iter().flat_map(|one| one.series.iter().map(|each| (one.id, each))) {
        let (name, kind) = (&*series.name, series.kind());
        if let Some(family) = families.get_mut(name) {
            match family.kind == kind {
                true => family.samples.push((id, series)),
                false => left_out += 1,
            }
            continue;
        }
        let suffixes: &[&str] = match kind {
            Kind::Gauge => &[""],
            Kind::Counter => &["", "_total"],
            Kind::Histogram => &["", "_bucket", "_sum", "_count"],
        };
        let names = suffixes.iter().map(|suffix| format!("{name}{suffix}"));
        if names.clone().any(|name| lines.contains(&name)) {
            left_out += 1;
            continue;
        }
        lines.extend(names);
        families.insert(name, Family { name, kind, samples: vec![(id, series)] });
    }
    (families.into_values().collect(), left_out)
}
