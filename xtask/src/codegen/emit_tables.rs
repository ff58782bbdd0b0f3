//! The list of modules, the enum of APIs and the enum of error codes.

use std::fmt::Write as _;

use anyhow::Result;

use super::emit::HEAD;
use super::errors::ErrorCode;
use super::model::{Definition, Kind};
use super::names;

/// `mod.rs`.
pub(crate) fn root(definitions: &[Definition]) -> Result<String> {
    let mut out =
        format!("{HEAD}//! Every message, one module each, and the messages themselves.\n\n");
    out.push_str("mod api_key;\n#[cfg(feature = \"arbitrary\")]\npub(crate) mod arbitrary;\n");
    out.push_str("mod error_code;\n");
    for definition in definitions {
        writeln!(out, "mod {};", definition.module)?;
    }
    out.push_str("\npub use api_key::ApiKey;\npub use error_code::{ErrorCode, Remedy};\n");
    for definition in definitions {
        let mut items = Vec::new();
        for message in &definition.messages {
            items.push(format!("{}::{{self, {}}}", names::snake(&message.name), message.name));
        }
        writeln!(out, "pub use {}::{{{}}};", definition.module, items.join(", "))?;
    }
    Ok(out)
}

pub(crate) fn api_key(definitions: &[Definition]) -> Result<String> {
    let mut apis = Vec::new();
    for definition in definitions {
        for message in &definition.messages {
            if let (Kind::Request, Some(key)) = (message.kind, message.key) {
                let variant = message.name.trim_end_matches("Request");
                apis.push((key, variant, &definition.about));
            }
        }
    }
    let mut out = format!(
        "{HEAD}//! The APIs.\n\nuse std::ops::RangeInclusive;\n
        use crate::error::UnknownCode;\nuse crate::message::{{Message, Request}};\n
        /// An API that a client or an admin tool may call.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]\npub enum ApiKey {{\n"
    );
    for (key, variant, about) in &apis {
        writeln!(out, "/// {about}\n{variant} = {key},")?;
    }
    write!(
        out,
        "}}\n\nimpl ApiKey {{\n/// All of them, by key.\npub const ALL: [Self; {}] = [",
        apis.len()
    )?;
    for (_, variant, _) in &apis {
        write!(out, "Self::{variant},")?;
    }
    out.push_str(
        "];\n\n/// The key on the wire.\n#[must_use]
        pub const fn code(self) -> i16 { self as i16 }\n\n",
    );
    let arms = |value: &dyn Fn(&str) -> String| -> String {
        apis.iter()
            .map(|(_, variant, _)| format!("Self::{variant} => {},\n", value(variant)))
            .collect()
    };
    write!(
        out,
        "/// The published name.\n#[must_use]
        pub const fn name(self) -> &'static str {{ match self {{ {} }} }}\n
        /// The versions that can be decoded and encoded; a server may serve fewer.\n#[must_use]
        pub const fn versions(self) -> RangeInclusive<i16> {{ match self {{ {} }} }}\n
        /// The version of the header that comes before a request in `version`, known or not.
        #[must_use]
        pub fn request_header_version(self, version: i16) -> i16 {{ match self {{ {} }} }}\n
        /// The version of the header that comes before a response in `version`.\n#[must_use]
        pub fn response_header_version(self, version: i16) -> i16 {{ match self {{ {} }} }}\n}}\n\n",
        arms(&|variant| format!("\"{variant}\"")),
        arms(&|variant| format!("super::{variant}Request::VERSIONS")),
        arms(&|variant| format!("super::{variant}Request::request_header_version(version)")),
        arms(&|variant| format!("super::{variant}Request::response_header_version(version)")),
    )?;
    out.push_str("impl TryFrom<i16> for ApiKey {\ntype Error = UnknownCode;\n\n");
    out.push_str("fn try_from(key: i16) -> Result<Self, UnknownCode> {\nmatch key {\n");
    for (key, variant, _) in &apis {
        writeln!(out, "{key} => Ok(Self::{variant}),")?;
    }
    out.push_str("_ => Err(UnknownCode(key)),\n}\n}\n}\n");
    Ok(out)
}

pub(crate) fn error_code(errors: &[ErrorCode]) -> Result<String> {
    let mut out = format!(
        "{HEAD}//! The error codes.\n\nuse crate::error::UnknownCode;\n
        /// What a response says went wrong.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]\npub enum ErrorCode {{\n"
    );
    for ErrorCode { code, name, .. } in errors {
        let default = if *code == 0 { "#[default]\n" } else { "" };
        writeln!(out, "/// `{name}`.\n{default}{} = {code},", names::camel(name))?;
    }
    out.push_str(
        "}\n\n/// What a client may do about an error.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]\npub enum Remedy {
        /// Nothing: the same request will fail again.\nGiveUp,
        /// Send the request again.\nRetry,
        /// Ask for new metadata, or for the coordinator, and send the request again.\nRefresh,
        /// Abort the transaction.\nAbort,\n}\n\nimpl ErrorCode {
        /// The code on the wire.\n#[must_use]
        pub const fn code(self) -> i16 { self as i16 }\n
        /// The error that `code` means; [`ErrorCode::UnknownServerError`] when it means none.
        #[must_use]
        pub fn or_unknown(code: i16) -> Self {
            Self::try_from(code).unwrap_or(Self::UnknownServerError)
        }\n
        /// Whether the same request may succeed later.\n#[must_use]
        pub const fn retriable(self) -> bool {
            matches!(self.remedy(), Remedy::Retry | Remedy::Refresh)
        }\n\n",
    );
    out.push_str("/// The published name.\n#[must_use]\npub const fn name(self) -> &'static str {\nmatch self {\n");
    for ErrorCode { name, .. } in errors {
        writeln!(out, "Self::{} => \"{name}\",", names::camel(name))?;
    }
    out.push_str("}\n}\n\n/// What a client may do about it.\n#[must_use]\n");
    out.push_str("pub const fn remedy(self) -> Remedy {\nmatch self {\n");
    for remedy in ["Retry", "Refresh", "Abort"] {
        let with = errors.iter().filter(|error| error.remedy == remedy);
        let variants: Vec<_> =
            with.map(|error| format!("Self::{}", names::camel(&error.name))).collect();
        writeln!(out, "{} => Remedy::{remedy},", variants.join(" | "))?;
    }
    out.push_str("_ => Remedy::GiveUp,\n}\n}\n}\n\nimpl From<ErrorCode> for i16 {\n");
    out.push_str("fn from(error: ErrorCode) -> Self { error.code() }\n}\n\n");
    out.push_str("impl TryFrom<i16> for ErrorCode {\ntype Error = UnknownCode;\n\n");
    out.push_str("fn try_from(code: i16) -> Result<Self, UnknownCode> {\nmatch code {\n");
    for ErrorCode { code, name, .. } in errors {
        writeln!(out, "{code} => Ok(Self::{}),", names::camel(name))?;
    }
    out.push_str("_ => Err(UnknownCode(code)),\n}\n}\n}\n");
    Ok(out)
}
