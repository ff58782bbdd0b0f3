//! Encoders.

use std::fmt::Write as _;

use anyhow::Result;

use super::emit::Place;
use super::emit_decode::flexible_flag;
use super::model::{Message, Struct, Type};

/// The body of a struct's `encode`.
pub(crate) fn body(message: &Message, within: &Struct) -> Result<String> {
    let places = within.fields.iter().map(|field| Place { message, within, field });
    let (tagged, plain): (Vec<_>, Vec<_>) = places.partition(|place| place.field.tag.is_some());
    let mut out = String::new();
    for place in &plain {
        let write = write_field(place);
        match (place.condition(), place.field.ignorable) {
            (None, _) => out.push_str(&write),
            (Some(condition), true) => writeln!(out, "if {condition} {{\n{write}}}")?,
            (Some(condition), false) => {
                let refuse = refuse(place, "FieldNotInVersion");
                let is_set = place.is_set();
                writeln!(out, "if {condition} {{\n{write}}} else if {is_set} {{\n{refuse}}}")?;
            }
        }
    }
    out.push_str(&tail(tagged, message.flexible_in(within.versions))?);
    out.push_str("Ok(())\n");
    Ok(flexible_flag(message, &out))
}

/// What writes the tagged fields after the others.
fn tail(mut tagged: Vec<Place<'_>>, flexible: Option<bool>) -> Result<String> {
    tagged.sort_by_key(|place| place.field.tag);
    let mut out = String::new();
    for place in &tagged {
        if let (Some(condition), false) = (place.condition(), place.field.ignorable) {
            let refuse = refuse(place, "FieldNotInVersion");
            writeln!(out, "if {} && {} {{\n{refuse}}}", negated(&condition), place.is_set())?;
        }
    }
    let mut section = String::new();
    if tagged.is_empty() {
        section.push_str("writer.no_tags();\n");
    } else {
        section.push_str("let mut tags = Tags::default();\n");
        for place in &tagged {
            let is_there = match place.condition() {
                Some(condition) if Some(place.versions()) != flexible_versions(place) => {
                    format!("{condition} && ")
                }
                _ => String::new(),
            };
            let write = write_field(place);
            let write = match write.strip_suffix("?;\n") {
                // One call that may fail is the closure's value.
                Some(call) if !call.contains(';') => call.to_owned(),
                _ => format!("{{\n{write}Ok(())\n}}"),
            };
            let (tag, is_set) = (place.field.tag.unwrap_or_default(), place.is_set());
            writeln!(section, "if {is_there}{is_set} {{")?;
            writeln!(section, "tags.field({tag}, |writer| {write})?;\n}}")?;
        }
        section.push_str("writer.tags(tags);\n");
    }
    match flexible {
        Some(true) => out.push_str(&section),
        Some(false) => {}
        None => writeln!(out, "if flexible {{\n{section}}}")?,
    }
    Ok(out)
}

fn flexible_versions(place: &Place<'_>) -> Option<super::model::Versions> {
    place.message.flexible?.and(place.within.versions)
}

fn negated(condition: &str) -> String {
    match condition.strip_prefix("version >= ") {
        Some(first) => format!("version < {first}"),
        None => format!("!({condition})"),
    }
}

fn refuse(place: &Place<'_>, error: &str) -> String {
    format!("return Err(EncodeError::{error} {{ field: {}, version }});\n", place.path())
}

/// The statements that write a field where it is there.
fn write_field(place: &Place<'_>) -> String {
    let name = format!("self.{}", place.rust_name());
    if !place.is_optional() {
        return match &place.field.kind {
            Type::Array(element) => {
                let length = format!("Some({name}.len())");
                write_array(place, &length, &format!("&{name}"), element)
            }
            Type::Struct(_) => format!("{name}.encode(writer, version)?;\n"),
            kind if is_number(kind) => write_value(place, &name, kind),
            kind => write_value(place, &format!("&{name}"), kind),
        };
    }
    let mut out = String::new();
    if let Some(condition) = place.null_condition() {
        let refuse = refuse(place, "Null");
        let _ = writeln!(out, "if {} && {name}.is_none() {{\n{refuse}}}", negated(&condition));
    }
    let (flexible, path) = (place.flexible(), place.path());
    let write = match &place.field.kind {
        Type::Struct(_) => format!(
            "match &{name} {{
                Some(value) => {{ writer.i8(1); value.encode(writer, version)?; }}
                None => writer.i8(-1),
            }}\n"
        ),
        Type::Array(element) => {
            let length = format!("{name}.as_ref().map(Vec::len)");
            write_array(place, &length, &format!("{name}.iter().flatten()"), element)
        }
        kind => {
            let method = method(kind);
            format!("writer.nullable_{method}({name}.as_ref(), {flexible}, {path})?;\n")
        }
    };
    out.push_str(&write);
    out
}

fn write_array(place: &Place<'_>, length: &str, elements: &str, element: &Type) -> String {
    let (flexible, path) = (place.flexible(), place.path());
    let write = match element {
        Type::Struct(_) => "element.encode(writer, version)?;\n".to_owned(),
        kind if is_number(kind) => write_value(place, "*element", kind),
        kind => write_value(place, "element", kind),
    };
    format!(
        "writer.length({length}, {flexible}, {path})?;
        for element in {elements} {{
            {write}
        }}\n"
    )
}

fn write_value(place: &Place<'_>, value: &str, kind: &Type) -> String {
    let method = method(kind);
    if is_number(kind) {
        return format!("writer.{method}({value});\n");
    }
    format!("writer.{method}({value}, {}, {})?;\n", place.flexible(), place.path())
}

/// Whether values of the type are copied and always take the same number of bytes.
fn is_number(kind: &Type) -> bool {
    !matches!(kind, Type::String | Type::Bytes | Type::Records | Type::Struct(_) | Type::Array(_))
}

/// The method of reader, writer and random numbers that deals with the type.
pub(crate) fn method(kind: &Type) -> &'static str {
    match kind {
        Type::Bool => "bool",
        Type::Int8 => "i8",
        Type::Int16 => "i16",
        Type::Uint16 => "u16",
        Type::Int32 => "i32",
        Type::Int64 => "i64",
        Type::Float64 => "f64",
        Type::Uuid => "uuid",
        Type::String => "string",
        Type::Bytes => "bytes",
        Type::Records => "records",
        Type::Struct(_) => "encode",
        Type::Array(_) => "array",
    }
}
