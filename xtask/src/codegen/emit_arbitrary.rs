//! Arbitrary messages, and the table of all messages, for tests.

use std::fmt::Write as _;

use anyhow::Result;

use super::emit::{HEAD, Place};
use super::emit_encode::method;
use super::model::{Definition, Kind, Message, Type};
use super::names;

pub(crate) fn file(definitions: &[Definition]) -> Result<String> {
    let mut out = format!(
        "{HEAD}//! Arbitrary messages, and the table of all messages.\n\n
        use crate::arbitrary::{{Arbitrary, Case, Random}};\n
        /// Every message.\npub(crate) fn cases() -> Vec<Case> {{\nvec![\n"
    );
    let messages = || definitions.iter().flat_map(|definition| &definition.messages);
    for message in messages() {
        let api = match (message.kind, message.key) {
            (Kind::Request | Kind::Response, Some(key)) => format!("Some({key})"),
            _ => "None".to_owned(),
        };
        writeln!(out, "Case::of::<super::{}>({api}),", message.name)?;
    }
    out.push_str("]\n}\n\n");
    for message in messages() {
        write_message(&mut out, message)?;
    }
    Ok(out)
}

fn write_message(out: &mut String, message: &Message) -> Result<()> {
    let module = format!("super::{}", names::snake(&message.name));
    for within in &message.structs {
        let mut body = String::new();
        for field in &within.fields {
            let place = Place { message, within, field };
            let mut value = value(&place, &module);
            if field.tag.is_some() {
                let default = place.default();
                value = format!("if random.once_in(3) {{ {default} }} else {{ {value} }}");
            }
            if let Some(condition) = place.condition() {
                value = format!("if {condition} {{ {value} }} else {{ {} }}", place.default());
            }
            writeln!(body, "{}: {value},", place.rust_name())?;
        }
        // Defaults name their types without paths.
        let body = qualified(&body, &module, message);
        let version = if names::mentions(&body, "version") { "version" } else { "_version" };
        let random = if names::mentions(&body, "random") { "random" } else { "_random" };
        writeln!(
            out,
            "impl Arbitrary for {module}::{} {{
                fn arbitrary({random}: &mut Random, {version}: i16) -> Self {{
                    Self {{ {body} }}
                }}
            }}\n",
            within.name
        )?;
    }
    Ok(())
}

fn value(place: &Place<'_>, module: &str) -> String {
    let make = make(&place.field.kind, module);
    if !place.is_optional() {
        return make;
    }
    let nullable = format!("random.nullable({})", closure(&make));
    match place.null_condition() {
        None => nullable,
        Some(condition) => format!("if {condition} {{ {nullable} }} else {{ Some({make}) }}"),
    }
}

fn make(kind: &Type, module: &str) -> String {
    match kind {
        Type::Struct(name) => format!("{module}::{name}::arbitrary(random, version)"),
        Type::Array(element) => {
            format!("random.array({})", closure(&make(element, module)))
        }
        kind => format!("random.{}()", method(kind)),
    }
}

fn closure(make: &str) -> String {
    match make.strip_prefix("random.").and_then(|call| call.strip_suffix("()")) {
        Some(method) => format!("Random::{method}"),
        None => format!("|random| {make}"),
    }
}

fn qualified(body: &str, module: &str, message: &Message) -> String {
    let mut body = body.to_owned();
    let runtime = [
        ("Uuid", "millstream_types::Uuid"),
        ("StrBytes", "crate::StrBytes"),
        ("Bytes", "bytes::Bytes"),
        ("Records", "crate::Records"),
    ];
    for (name, path) in runtime {
        body = body.replace(&format!(" {name}::"), &format!(" {path}::"));
        body = body.replace(&format!("({name}::"), &format!("({path}::"));
    }
    for within in &message.structs {
        let default = format!(" {}::default()", within.name);
        body = body.replace(&default, &format!(" {module}::{}::default()", within.name));
    }
    body
}
