//! Metrics as clients push them: the part of OTLP that is needed (opentelemetry-proto,
//! `metrics/v1/metrics.proto`), in Protocol Buffers' encoding.
//!
//! Laws, each a property test: no input makes decoding panic or recurse; what it takes in memory is
//! bounded by [`POINTS_MAX`] and what a point may have, whatever the bytes say; unknown fields are
//! passed over, as the encoding wants. What is well-formed and not needed, or more than is taken, is
//! left out and counted; what is not well-formed is an error.

use std::borrow::Cow;

use millstream_types::{Cursor, DecodeError};

/// How many points one push may have: a client with a hundred topics has about a thousand.
pub const POINTS_MAX: usize = 5_000;
/// How many attributes a point may have, and a resource. Kafka's clients have two or three.
pub const ATTRIBUTES_MAX: usize = 16;
/// How many bounds a histogram may have. Kafka's clients push none yet.
pub const BOUNDS_MAX: usize = 100;

/// What was pushed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pushed<'a> {
    /// What the client says of itself; of two attributes of one name the first.
    pub resource: Vec<(&'a [u8], Cow<'a, str>)>,
    /// Its figures.
    pub points: Vec<Point<'a>>,
    /// Points that were left out: of other kinds, without a finite value, or more than are taken.
    pub left_out: u64,
}

/// One figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Point<'a> {
    /// The metric's name; it may be anything.
    pub name: &'a [u8],
    /// What tells it from others of that name.
    pub attributes: Vec<(&'a [u8], Cow<'a, str>)>,
    /// What it says.
    pub figure: Figure,
    /// Whether it counts from the last push on rather than from the client's start.
    pub is_delta: bool,
}

/// What a point says.
#[derive(Clone, Debug, PartialEq)]
pub enum Figure {
    /// A value that goes up and down: finite.
    Gauge(f64),
    /// A sum that only grows: finite and not below zero.
    Counter(f64),
    /// Values by size.
    Histogram(Histogram),
}

/// Values by size. `counts` has one more element than `bounds`, which rise: the last is of those above.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// The sum of the values: finite.
    pub sum: f64,
    /// Upper bounds, included.
    pub bounds: Vec<f64>,
    /// How many values are in each bucket; together no more than a `u64` holds.
    pub counts: Vec<u64>,
}

/// What is decoded at the moment: fields of one message.
struct Fields<'a>(Cursor<'a>);

/// A field's value.
#[derive(Clone, Copy)]
enum Field<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Bytes(&'a [u8]),
    /// Nothing that is needed has this type.
    Fixed32,
}

const FIELD: &str = "OTLP metrics";
const DELTA: u64 = 1;
/// `DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK`.
const NO_VALUE: u64 = 1;

/// Decodes `MetricsData` (or an `ExportMetricsServiceRequest`, which has the same form).
///
/// # Errors
///
/// When the bytes are not Protocol Buffers, or a field that is needed has another type.
pub fn decode(bytes: &[u8]) -> Result<Pushed<'_>, DecodeError> {
    let mut pushed = Pushed::default();
    let mut fields = Fields::of(bytes);
    while let Some((number, field)) = fields.next()? {
        if number == 1 {
            resource_metrics(field.bytes()?, &mut pushed)?;
        }
    }
    Ok(pushed)
}

fn resource_metrics<'a>(bytes: &'a [u8], pushed: &mut Pushed<'a>) -> Result<(), DecodeError> {
    let mut fields = Fields::of(bytes);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => resource(field.bytes()?, pushed)?,
            2 => scope_metrics(field.bytes()?, pushed)?,
            _ => {}
        }
    }
    Ok(())
}

fn resource<'a>(bytes: &'a [u8], pushed: &mut Pushed<'a>) -> Result<(), DecodeError> {
    let mut fields = Fields::of(bytes);
    while let Some((number, field)) = fields.next()? {
        if number != 1 {
            continue;
        }
        let Some((key, value)) = key_value(field.bytes()?)? else { continue };
        let is_known = pushed.resource.iter().any(|(known, _)| *known == key);
        if !is_known && pushed.resource.len() < ATTRIBUTES_MAX {
            pushed.resource.push((key, value));
        }
    }
    Ok(())
}

fn scope_metrics<'a>(bytes: &'a [u8], pushed: &mut Pushed<'a>) -> Result<(), DecodeError> {
    let mut fields = Fields::of(bytes);
    while let Some((number, field)) = fields.next()? {
        if number == 2 {
            metric(field.bytes()?, pushed)?;
        }
    }
    Ok(())
}

/// What is known of a metric before its points are read: its fields may come in any order.
#[derive(Clone, Copy)]
enum Kind {
    Gauge,
    Sum,
    Histogram,
}

fn metric<'a>(bytes: &'a [u8], pushed: &mut Pushed<'a>) -> Result<(), DecodeError> {
    let (mut name, mut data): (&[u8], _) = (&[], None);
    let mut fields = Fields::of(bytes);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => name = field.bytes()?,
            5 => data = Some((Kind::Gauge, field.bytes()?)),
            7 => data = Some((Kind::Sum, field.bytes()?)),
            9 => data = Some((Kind::Histogram, field.bytes()?)),
            // Exponential histograms and summaries.
            10 | 11 => {
                field.bytes()?;
                pushed.left_out += 1;
            }
            _ => {}
        }
    }
    match data {
        Some((kind, data)) => points(name, kind, data, pushed),
        None => Ok(()),
    }
}

fn points<'a>(
    name: &'a [u8],
    kind: Kind,
    data: &'a [u8],
    pushed: &mut Pushed<'a>,
) -> Result<(), DecodeError> {
    let (mut is_delta, mut is_monotonic) = (false, false);
    let mut fields = Fields::of(data);
    while let Some((number, field)) = fields.next()? {
        match (number, kind) {
            (2, Kind::Sum | Kind::Histogram) => is_delta = field.varint()? == DELTA,
            (3, Kind::Sum) => is_monotonic = field.varint()? != 0,
            _ => {}
        }
    }
    let mut fields = Fields::of(data);
    while let Some((number, field)) = fields.next()? {
        if number != 1 {
            continue;
        }
        let read = match kind {
            Kind::Histogram => histogram_point(field.bytes()?)?,
            Kind::Gauge => number_point(field.bytes()?, false)?,
            Kind::Sum => number_point(field.bytes()?, is_monotonic)?,
        };
        match read {
            Some((figure, attributes)) if pushed.points.len() < POINTS_MAX => {
                // What is added up must not be what goes up and down.
                let is_delta = is_delta && !matches!(figure, Figure::Gauge(_));
                pushed.points.push(Point { name, attributes, figure, is_delta });
            }
            _ => pushed.left_out += 1,
        }
    }
    Ok(())
}

/// A name, and a value as text.
type Attribute<'a> = (&'a [u8], Cow<'a, str>);
type Attributes<'a> = Vec<Attribute<'a>>;

/// `NumberDataPoint`; `None` when there is nothing to show.
fn number_point(
    bytes: &[u8],
    only_grows: bool,
) -> Result<Option<(Figure, Attributes<'_>)>, DecodeError> {
    let (mut value, mut attributes, mut flags) = (None, Some(Vec::new()), 0);
    let mut fields = Fields::of(bytes);
    while let Some((number, field)) = fields.next()? {
        match number {
            4 => value = Some(f64::from_le_bytes(field.fixed64()?)),
            6 => value = Some(i64::from_le_bytes(field.fixed64()?) as f64),
            7 => attribute(field.bytes()?, &mut attributes)?,
            8 => flags = field.varint()?,
            _ => {}
        }
    }
    let least = if only_grows { 0.0 } else { f64::MIN };
    let value = value.filter(|value| value.is_finite() && *value >= least && flags & NO_VALUE == 0);
    let figure = if only_grows { Figure::Counter } else { Figure::Gauge };
    Ok(value.map(figure).zip(attributes))
}

/// `HistogramDataPoint`; `None` when there is nothing to show.
fn histogram_point(bytes: &[u8]) -> Result<Option<(Figure, Attributes<'_>)>, DecodeError> {
    let (mut sum, mut counts, mut bounds) = (0.0, Some(Vec::new()), Some(Vec::new()));
    let (mut count, mut attributes, mut flags) = (0, Some(Vec::new()), 0);
    let mut fields = Fields::of(bytes);
    while let Some((number, field)) = fields.next()? {
        match number {
            4 => count = u64::from_le_bytes(field.fixed64()?),
            5 => sum = f64::from_le_bytes(field.fixed64()?),
            6 => packed(field, &mut counts, u64::from_le_bytes)?,
            7 => packed(field, &mut bounds, f64::from_le_bytes)?,
            9 => attribute(field.bytes()?, &mut attributes)?,
            10 => flags = field.varint()?,
            _ => {}
        }
    }
    let (Some(mut counts), Some(bounds), Some(attributes)) = (counts, bounds, attributes) else {
        return Ok(None);
    };
    if counts.is_empty() && bounds.is_empty() {
        counts.push(count);
    }
    let rises = bounds.windows(2).all(|pair| matches!(pair, [low, high] if low < high));
    let fits = counts.iter().try_fold(0_u64, |all, count| all.checked_add(*count)).is_some();
    let is_whole = counts.len() == bounds.len() + 1
        && rises
        && fits
        && sum.is_finite()
        && bounds.iter().all(|bound| bound.is_finite())
        && flags & NO_VALUE == 0;
    let histogram = Histogram { sum, bounds, counts };
    Ok(is_whole.then_some((Figure::Histogram(histogram), attributes)))
}

/// Adds eight bytes each, packed or not; `None` once there are too many.
fn packed<T>(
    field: Field<'_>,
    list: &mut Option<Vec<T>>,
    read: impl Fn([u8; 8]) -> T,
) -> Result<(), DecodeError> {
    let mut add = |bytes| match list {
        Some(values) if values.len() <= BOUNDS_MAX => values.push(read(bytes)),
        _ => *list = None,
    };
    match field {
        Field::Fixed64(bytes) => add(bytes),
        Field::Bytes(bytes) => {
            let (chunks, []) = bytes.as_chunks::<8>() else { return Err(wrong_type()) };
            chunks.iter().copied().for_each(add);
        }
        Field::Varint(_) | Field::Fixed32 => return Err(wrong_type()),
    }
    Ok(())
}

/// Adds an attribute; `None` once there are too many, or one can't be told in a word.
fn attribute<'a>(
    bytes: &'a [u8],
    attributes: &mut Option<Attributes<'a>>,
) -> Result<(), DecodeError> {
    let read = key_value(bytes)?;
    let Some(list) = attributes else { return Ok(()) };
    match read {
        Some(read) if list.len() < ATTRIBUTES_MAX => list.push(read),
        _ => *attributes = None,
    }
    Ok(())
}

/// A `KeyValue`; `None` when the value is a list, a map or bytes.
fn key_value(bytes: &[u8]) -> Result<Option<Attribute<'_>>, DecodeError> {
    let (mut key, mut value): (&[u8], _) = (&[], Some(Cow::Borrowed("")));
    let mut fields = Fields::of(bytes);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => key = field.bytes()?,
            2 => value = scalar(field.bytes()?)?,
            _ => {}
        }
    }
    Ok(value.map(|value| (key, value)))
}

fn scalar(bytes: &[u8]) -> Result<Option<Cow<'_, str>>, DecodeError> {
    let mut value = Some(Cow::Borrowed(""));
    let mut fields = Fields::of(bytes);
    while let Some((number, field)) = fields.next()? {
        value = match number {
            1 => Some(String::from_utf8_lossy(field.bytes()?)),
            2 => Some(Cow::Borrowed(if field.varint()? == 0 { "false" } else { "true" })),
            3 => Some(Cow::Owned(field.varint()?.cast_signed().to_string())),
            4 => Some(Cow::Owned(f64::from_le_bytes(field.fixed64()?).to_string())),
            5..=7 => None,
            _ => value,
        };
    }
    Ok(value)
}

impl<'a> Fields<'a> {
    const fn of(bytes: &'a [u8]) -> Self {
        Self(Cursor::new(bytes))
    }

    /// The next field and its number; `None` at the end.
    fn next(&mut self) -> Result<Option<(u64, Field<'a>)>, DecodeError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.0.unsigned_varlong(FIELD)?;
        let field = match tag & 7 {
            0 => Field::Varint(self.0.unsigned_varlong(FIELD)?),
            1 => Field::Fixed64(self.0.array(FIELD)?),
            2 => {
                let length = usize::try_from(self.0.unsigned_varlong(FIELD)?);
                Field::Bytes(self.0.bytes(length.unwrap_or(usize::MAX), FIELD)?)
            }
            5 => {
                self.0.array::<4>(FIELD)?;
                Field::Fixed32
            }
            // Groups, which nobody writes any more, and what there is not.
            _ => return Err(wrong_type()),
        };
        match tag >> 3 {
            0 => Err(wrong_type()),
            number => Ok(Some((number, field))),
        }
    }
}

impl<'a> Field<'a> {
    const fn varint(self) -> Result<u64, DecodeError> {
        match self {
            Self::Varint(value) => Ok(value),
            Self::Fixed64(_) | Self::Bytes(_) | Self::Fixed32 => Err(wrong_type()),
        }
    }

    const fn fixed64(self) -> Result<[u8; 8], DecodeError> {
        match self {
            Self::Fixed64(value) => Ok(value),
            Self::Varint(_) | Self::Bytes(_) | Self::Fixed32 => Err(wrong_type()),
        }
    }

    const fn bytes(self) -> Result<&'a [u8], DecodeError> {
        match self {
            Self::Bytes(value) => Ok(value),
            Self::Varint(_) | Self::Fixed64(_) | Self::Fixed32 => Err(wrong_type()),
        }
    }
}

const fn wrong_type() -> DecodeError {
    DecodeError::Invalid { field: FIELD }
}
