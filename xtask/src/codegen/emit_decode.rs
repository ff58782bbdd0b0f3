//! Decoders.

use std::fmt::Write as _;

use anyhow::Result;

use super::emit::Place;
use super::model::{Message, Struct, Type, Versions};
use super::names;

/// The body of a struct's `decode`.
pub(crate) fn body(message: &Message, within: &Struct) -> Result<String> {
    let places: Vec<_> =
        within.fields.iter().map(|field| Place { message, within, field }).collect();
    let has_tags = places.iter().any(|place| place.field.tag.is_some());
    let tail = tail(&places, message.flexible_in(within.versions))?;
    let mut literal = String::from("Self {\n");
    for place in &places {
        let value = match (place.field.tag, place.condition()) {
            (Some(_), _) => place.default(),
            (None, None) => value(place)?,
            (None, Some(condition)) => {
                format!("if {condition} {{ {} }} else {{ {} }}", value(place)?, place.default())
            }
        };
        writeln!(literal, "{}: {value},", place.rust_name())?;
    }
    literal.push('}');
    let rest = if tail.is_empty() {
        format!("Ok({literal})")
    } else {
        let mutable = if has_tags { "mut " } else { "" };
        format!("let {mutable}message = {literal};\n{tail}Ok(message)")
    };
    Ok(flexible_flag(message, &rest))
}

/// Puts `let flexible = …` before `body`, if it needs one.
pub(crate) fn flexible_flag(message: &Message, body: &str) -> String {
    let needs = names::mentions(body, "flexible");
    match message.flexible {
        Some(versions) if needs => {
            format!("let flexible = version >= {};\n{body}", versions.first)
        }
        _ => body.to_owned(),
    }
}

/// What reads the tagged fields after the others.
fn tail(places: &[Place<'_>], flexible: Option<bool>) -> Result<String> {
    let tagged: Vec<_> = places.iter().filter(|place| place.field.tag.is_some()).collect();
    let mut section = String::new();
    if tagged.is_empty() {
        section.push_str("reader.skip_tags()?;\n");
    } else {
        section.push_str("for _ in 0..reader.tag_count()? {\nlet (tag, end) = reader.tag()?;\n");
        section.push_str("match tag {\n");
        for place in tagged {
            let guard = match place.condition() {
                // All flexible versions have the field.
                Some(_) if Some(place.versions()) == flexible_versions(place) => String::new(),
                Some(condition) => format!(" if {condition}"),
                None => String::new(),
            };
            writeln!(
                section,
                "{}{guard} => {{ message.{} = {}; reader.end_tag(end, {})?; }}",
                place.field.tag.unwrap_or_default(),
                place.rust_name(),
                value(place)?,
                place.path(),
            )?;
        }
        section.push_str("_ => reader.skip_tag(end)?,\n}\n}\n");
    }
    Ok(match flexible {
        Some(true) => section,
        Some(false) => String::new(),
        None => format!("if flexible {{\n{section}}}\n"),
    })
}

fn flexible_versions(place: &Place<'_>) -> Option<Versions> {
    place.message.flexible?.and(place.within.versions)
}

/// The expression that reads a field's value where the field is there.
fn value(place: &Place<'_>) -> Result<String> {
    if !place.is_optional() {
        return Ok(format!("{}?", read(place, &place.field.kind, false)?));
    }
    if let Type::Struct(name) = &place.field.kind {
        let present = if place.field.tag.is_some() { "tag_present" } else { "present" };
        return Ok(format!(
            "if reader.{present}({})? {{ Some({name}::decode(reader, version)?) }} else {{ None }}",
            place.path()
        ));
    }
    let nullable = read(place, &place.field.kind, true)?;
    Ok(match place.null_condition() {
        None => format!("{nullable}?"),
        Some(condition) => {
            let never = read(place, &place.field.kind, false)?;
            format!("if {condition} {{ {nullable}? }} else {{ Some({never}?) }}")
        }
    })
}

/// The expression that reads a value or fails.
fn read(place: &Place<'_>, kind: &Type, nullable: bool) -> Result<String> {
    let path = place.path();
    let flexible = place.flexible();
    let prefix = if nullable { "nullable_" } else { "" };
    Ok(match kind {
        Type::Bool => format!("reader.bool({path})"),
        Type::Int8 => format!("reader.i8({path})"),
        Type::Int16 => format!("reader.i16({path})"),
        Type::Uint16 => format!("reader.u16({path})"),
        Type::Int32 => format!("reader.i32({path})"),
        Type::Int64 => format!("reader.i64({path})"),
        Type::Float64 => format!("reader.f64({path})"),
        Type::Uuid => format!("reader.uuid({path})"),
        Type::String => format!("reader.{prefix}string({flexible}, {path})"),
        Type::Bytes => format!("reader.{prefix}bytes({flexible}, {path})"),
        Type::Records => format!("reader.{prefix}records({flexible}, {path})"),
        Type::Struct(name) => format!("{name}::decode(reader, version)"),
        Type::Array(element) => {
            let size_min = element_size_min(place, element)?;
            let element = read(place, element, false)?;
            format!("reader.{prefix}array({flexible}, {size_min}, {path}, |reader| {element})")
        }
    })
}

/// The fewest bytes that an element of the array takes in any version that has the array.
fn element_size_min(place: &Place<'_>, element: &Type) -> Result<usize> {
    let Versions { first, last } = place.versions();
    let mut least = usize::MAX;
    for version in first..=last {
        least = least.min(size_min(place.message, element, version)?);
    }
    Ok(least)
}

fn size_min(message: &Message, kind: &Type, version: i16) -> Result<usize> {
    let only = Versions { first: version, last: version };
    let flexible = message.flexible_in(only) == Some(true);
    Ok(match kind {
        Type::Bool | Type::Int8 => 1,
        Type::Int16 | Type::Uint16 => 2,
        Type::Int32 => 4,
        Type::Int64 | Type::Float64 => 8,
        Type::Uuid => 16,
        Type::String | Type::Bytes | Type::Records | Type::Array(_) if flexible => 1,
        Type::String => 2,
        Type::Bytes | Type::Records | Type::Array(_) => 4,
        Type::Struct(name) => {
            let mut size = usize::from(flexible);
            for field in &message.find(name)?.fields {
                let is_there = field.tag.is_none() && field.versions.and(only).is_some();
                let is_struct = matches!(field.kind, Type::Struct(_));
                size += match is_there {
                    false => 0,
                    // One byte says that a struct is null.
                    true if is_struct && field.nullable.is_some() => 1,
                    true => size_min(message, &field.kind, version)?,
                };
            }
            size
        }
    })
}
