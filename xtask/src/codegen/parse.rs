//! Reads a definition file.

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::model::{Default, Definition, Field, Kind, Message, Struct, Type, Versions};

/// Parses the file `stem.txt`.
pub(crate) fn definition(stem: &str, text: &str) -> Result<Definition> {
    let mut lines = Lines::new(text)?;
    let about = lines.next().and_then(|line| line.text.strip_prefix("about "));
    let about = about.context("the first line is not `about …`")?.to_owned();
    let mut messages = Vec::new();
    while let Some(head) = lines.next() {
        let message = message(head, &mut lines);
        messages.push(message.with_context(|| format!("line {}", head.number))?);
    }
    ensure!(!messages.is_empty(), "no message");
    // `008_offset_commit` and `offsets_01_offset_commit`: the numbers only sort the files.
    let words = stem.split('_').filter(|word| !word.bytes().all(|byte| byte.is_ascii_digit()));
    let module = words.collect::<Vec<_>>().join("_");
    Ok(Definition { module, about, messages })
}

#[derive(Clone, Copy)]
struct Line<'a> {
    number: usize,
    indent: usize,
    text: &'a str,
}

struct Lines<'a> {
    lines: std::iter::Peekable<std::vec::IntoIter<Line<'a>>>,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Result<Self> {
        let mut lines = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let text = line.trim_start();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let spaces = line.len() - text.len();
            ensure!(spaces % 2 == 0, "line {}: indented by {spaces} spaces", at + 1);
            lines.push(Line { number: at + 1, indent: spaces / 2, text: text.trim_end() });
        }
        Ok(Self { lines: lines.into_iter().peekable() })
    }

    fn next(&mut self) -> Option<Line<'a>> {
        self.lines.next()
    }

    fn next_at(&mut self, indent: usize) -> Option<Line<'a>> {
        self.lines.next_if(|line| line.indent == indent)
    }
}

fn message(head: Line<'_>, lines: &mut Lines<'_>) -> Result<Message> {
    ensure!(head.indent == 0, "expected a message");
    let mut words = Words(head.text.split_whitespace().peekable());
    let kind = match words.next()? {
        "request" => Kind::Request,
        "response" => Kind::Response,
        "header" => Kind::Header,
        "data" => Kind::Data,
        "coordinator-key" => Kind::Key,
        "coordinator-value" => Kind::Value,
        other => bail!("no such kind of message: {other}"),
    };
    let name = words.next()?.to_owned();
    let key = if words.take("key") { Some(words.next()?.parse()?) } else { None };
    ensure!(key.is_some() != matches!(kind, Kind::Header | Kind::Data), "a key too few or many");
    ensure!(words.take("versions"), "no versions");
    let versions = parse_versions(words.next()?, None)?;
    ensure!(words.take("flexible"), "no flexible versions");
    let flexible = match words.next()? {
        "none" => None,
        word => Some(parse_versions(word, Some(versions))?),
    };
    words.end()?;
    let mut structs = vec![Struct { name: name.clone(), versions, fields: Vec::new() }];
    structs[0].fields = fields(1, versions, lines, &mut structs)?;
    let mut message = Message { kind, name, key, versions, flexible, structs };
    message.resolve()?;
    Ok(message)
}

/// Parses the fields at `indent`, and the structs among and below them.
fn fields(
    indent: usize,
    versions: Versions,
    lines: &mut Lines<'_>,
    structs: &mut Vec<Struct>,
) -> Result<Vec<Field>> {
    let mut all = Vec::new();
    while let Some(line) = lines.next_at(indent) {
        let place = || format!("line {}: {}", line.number, line.text);
        let inner = match line.text.strip_prefix("struct ") {
            Some(name) => Some(name.to_owned()),
            None => {
                let field = field(line.text, versions).with_context(place)?;
                let inner = field.kind.struct_name().map(str::to_owned);
                all.push(field);
                inner
            }
        };
        let has_fields = lines.lines.peek().is_some_and(|next| next.indent > indent);
        if !has_fields {
            continue;
        }
        let name = inner.ok_or_else(|| anyhow!("{}: can't have fields", place()))?;
        ensure!(!structs.iter().any(|known| known.name == name), "{}: defined twice", place());
        let at = structs.len();
        structs.push(Struct { name, versions, fields: Vec::new() });
        structs[at].fields = fields(indent + 1, versions, lines, structs)?;
    }
    Ok(all)
}

fn field(text: &str, of: Versions) -> Result<Field> {
    let (name, rest) = text.split_once(": ").context("no type")?;
    let mut words = Words(rest.split_whitespace().peekable());
    let kind = parse_type(words.next()?)?;
    let versions = words.versions(of)?.unwrap_or(of);
    let nullable =
        if words.take("nullable") { words.versions(versions)?.or(Some(versions)) } else { None };
    let tag = if words.take("tag") { Some(words.next()?.parse()?) } else { None };
    let never_flexible = words.take("flexible");
    ensure!(!never_flexible || words.take("none"), "only `flexible none` can be said of a field");
    let default = if words.take("=") { parse_default(words.next()?)? } else { Default::Natural };
    let ignorable = words.take("ignorable");
    words.end()?;
    let name = name.to_owned();
    Ok(Field { name, kind, versions, nullable, tag, never_flexible, default, ignorable })
}

struct Words<'a>(std::iter::Peekable<std::str::SplitWhitespace<'a>>);

impl<'a> Words<'a> {
    fn next(&mut self) -> Result<&'a str> {
        self.0.next().context("the line ends too early")
    }

    fn take(&mut self, word: &str) -> bool {
        self.0.next_if_eq(&word).is_some()
    }

    /// A range of versions, if one comes next.
    fn versions(&mut self, of: Versions) -> Result<Option<Versions>> {
        let word = self.0.next_if(|word| word.starts_with(|first: char| first.is_ascii_digit()));
        word.map(|word| parse_versions(word, Some(of))).transpose()
    }

    fn end(mut self) -> Result<()> {
        self.0.next().map_or(Ok(()), |word| bail!("unexpected: {word}"))
    }
}

/// Parses `3`, `3-7` or, within `of`, `3+`.
fn parse_versions(word: &str, of: Option<Versions>) -> Result<Versions> {
    let (first, last) = match (word.strip_suffix('+'), word.split_once('-'), of) {
        (Some(first), _, Some(of)) => (first.parse()?, of.last),
        (None, Some((first, last)), _) => (first.parse()?, last.parse()?),
        _ => (word.parse()?, word.parse()?),
    };
    let inside = of.is_none_or(|of| first >= of.first && last <= of.last);
    ensure!(first <= last && inside, "{word} is no range of the message's versions");
    Ok(Versions { first, last })
}

fn parse_type(word: &str) -> Result<Type> {
    Ok(match word {
        "bool" => Type::Bool,
        "int8" => Type::Int8,
        "int16" => Type::Int16,
        "uint16" => Type::Uint16,
        "int32" => Type::Int32,
        "int64" => Type::Int64,
        "float64" => Type::Float64,
        "uuid" => Type::Uuid,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "records" => Type::Records,
        _ => match word.strip_prefix("[]") {
            Some(element) if !element.starts_with("[]") => {
                Type::Array(Box::new(parse_type(element)?))
            }
            None if word.starts_with(|first: char| first.is_ascii_uppercase()) => {
                Type::Struct(word.to_owned())
            }
            _ => bail!("no such type: {word}"),
        },
    })
}

fn parse_default(word: &str) -> Result<Default> {
    Ok(match word {
        "null" => Default::Null,
        "true" => Default::True,
        number => Default::Number(number.parse()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_refused(fields: &str, reason: &str) {
        let head = "about A test.\n\ndata Test versions 2-5 flexible 4+";
        let error = definition("data_test", &format!("{head}\n{fields}")).unwrap_err();
        assert!(format!("{error:#}").contains(reason), "{error:#}");
    }

    #[test]
    fn what_is_no_definition_is_refused() {
        for (fields, reason) in [
            ("  A: int", "no such type: int"),
            ("  A: [][]int8", "no such type"),
            ("  A int8", "no type"),
            ("  A: int8 1+", "no range of the message's versions"),
            ("  A: int8 4-3", "no range of the message's versions"),
            ("  A: int8 ignorable = 1", "unexpected: ="),
            ("  A: int8 nullable", "can't be null"),
            ("  A: string = null", "null is not legal"),
            ("  A: int8 tag 0", "tagged in a version that is not flexible"),
            ("  A: B", "no struct B"),
            ("  A: B nullable\n    C: int8", "null by default"),
            ("  A: B\n    C: int8\n  D: B\n    C: int8", "defined twice"),
            ("  A: B\n    C: B", "nests too deep"),
            ("  A: int8\n    C: int8", "can't have fields"),
            ("  struct B\n    C: int8", "the struct B is not used"),
            ("   A: int8", "indented by 3 spaces"),
            ("A: int8", "no such kind of message"),
        ] {
            check_refused(fields, reason);
        }
    }

    #[test]
    fn structs_occur_where_they_are_used() {
        let text = "about A test.\ndata Test versions 0-9 flexible none\n  A: B 2-3\n  C: []B 5+\n  \
                    struct B\n    D: E\n      F: int8\n";
        let parsed = definition("data_01_test", text).unwrap();
        assert_eq!((parsed.module.as_str(), parsed.about.as_str()), ("data_test", "A test."));
        let structs = &parsed.messages[0].structs;
        let found: Vec<_> =
            structs.iter().map(|each| (each.name.as_str(), each.versions.to_string())).collect();
        let expected = [("Test", "0-9"), ("B", "2-9"), ("E", "2-9")];
        assert_eq!(found, expected.map(|(name, versions)| (name, versions.to_owned())));
    }
}
