//! The subject of a certificate as text, in the form that Java's `X500Principal.getName()` gives it, which is
//! what mapping rules and ACLs of Apache Kafka are written for: RFC 2253, with more escapes than it asks for.
//!
//! Every character that separates is escaped where it is part of a value, so that one subject is never
//! written like another: `CN=a,OU=b` has two attributes, `CN=a\,OU\=b` has one.

use std::fmt::Write as _;
use std::net::IpAddr;

use millstream_types::Timestamp;
use rustls::pki_types::CertificateDer;
use x509_parser::asn1_rs::Tag;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// The attribute types that have a name; others are written as numbers, and their values in hexadecimal.
const KEYWORDS: &[(&str, &str)] = &[
    ("2.5.4.3", "CN"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
];

/// Characters that are written with a backslash before them.
const ESCAPED: &[char] = &[',', '=', '+', '<', '>', '#', ';', '"', '\\'];

/// The bytes are no certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it can't be read as an X.509 certificate")]
pub struct BadCertificate;

/// One attribute of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Attribute {
    /// Its type, with dots.
    oid: String,
    /// Its value as text, if it is one.
    text: Option<String>,
    /// Its value as it stands in the certificate.
    der: Vec<u8>,
}

/// The subject of `certificate`.
///
/// # Errors
///
/// [`BadCertificate`].
pub fn subject(certificate: &CertificateDer<'_>) -> Result<String, BadCertificate> {
    let (_, certificate) =
        X509Certificate::from_der(certificate.as_ref()).map_err(|_| BadCertificate)?;
    Ok(text(certificate.subject()))
}

/// Up to when `certificate` is valid.
///
/// # Errors
///
/// [`BadCertificate`].
pub fn not_after(certificate: &CertificateDer<'_>) -> Result<Timestamp, BadCertificate> {
    let (_, certificate) =
        X509Certificate::from_der(certificate.as_ref()).map_err(|_| BadCertificate)?;
    let seconds = certificate.validity().not_after.timestamp();
    Ok(Timestamp(seconds.saturating_mul(1_000)))
}

/// What people want to know of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Whom it speaks for, as mapping rules see it.
    pub subject: String,
    /// Who has signed it, in the same form.
    pub issuer: String,
    /// The names and addresses of the hosts that it is good for.
    pub hosts: Vec<String>,
    /// Whether others may be signed with it.
    pub is_authority: bool,
    /// From when it is valid.
    pub not_before: Timestamp,
    /// Up to when it is.
    pub not_after: Timestamp,
}

/// What `certificate` says.
///
/// # Errors
///
/// [`BadCertificate`].
pub fn summary(certificate: &CertificateDer<'_>) -> Result<Summary, BadCertificate> {
    let (_, found) = X509Certificate::from_der(certificate.as_ref()).map_err(|_| BadCertificate)?;
    let names = found.subject_alternative_name().map_err(|_| BadCertificate)?;
    let names = names.map(|names| &names.value.general_names).into_iter().flatten();
    let time = |seconds: i64| Timestamp(seconds.saturating_mul(1_000));
    Ok(Summary {
        subject: text(found.subject()),
        issuer: text(found.issuer()),
        hosts: names.filter_map(host).collect(),
        is_authority: found.is_ca(),
        not_before: time(found.validity().not_before.timestamp()),
        not_after: time(found.validity().not_after.timestamp()),
    })
}

fn host(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let short = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let address = short.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
            address.ok().map(|address| address.to_string())
        }
        _ => None,
    }
}

fn text(name: &X509Name<'_>) -> String {
    let sets: Vec<Vec<_>> = name.iter().map(|set| set.iter().map(attribute).collect()).collect();
    write(&sets)
}

fn attribute(found: &AttributeTypeAndValue<'_>) -> Attribute {
    let value = found.attr_value();
    let (tag, data) = (value.header.tag(), value.data);
    let is_text = match tag {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String => true,
        // What other signs mean there depends on whom one asks.
        Tag::T61String => data.is_ascii(),
        _ => false,
    };
    let text = is_text.then(|| std::str::from_utf8(data).ok()).flatten().map(str::to_owned);
    Attribute { oid: found.attr_type().to_id_string(), text, der: encode(tag, data) }
}

/// A value of a universal type in DER.
fn encode(tag: Tag, data: &[u8]) -> Vec<u8> {
    let mut der = vec![u8::try_from(tag.0).unwrap_or(u8::MAX)];
    match u8::try_from(data.len()) {
        Ok(length @ ..0x80) => der.push(length),
        _ => {
            let bytes = data.len().to_be_bytes();
            let first = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len() - 1);
            let bytes = bytes.get(first..).unwrap_or_default();
            der.push(0x80 | u8::try_from(bytes.len()).unwrap_or(0x7f));
            der.extend_from_slice(bytes);
        }
    }
    der.extend_from_slice(data);
    der
}

/// The sets of a name, which stand from the general to the particular, as text, which goes the other way.
fn write(sets: &[Vec<Attribute>]) -> String {
    let sets = sets.iter().rev().map(|set| {
        let each: Vec<_> = set.iter().map(write_attribute).collect();
        each.join("+")
    });
    sets.collect::<Vec<_>>().join(",")
}

fn write_attribute(attribute: &Attribute) -> String {
    let keyword = KEYWORDS.iter().find(|(oid, _)| *oid == attribute.oid);
    if let (Some((_, keyword)), Some(text)) = (keyword, &attribute.text) {
        return format!("{keyword}={}", escape(text));
    }
    let keyword = keyword.map_or(attribute.oid.as_str(), |(_, keyword)| keyword);
    let mut text = format!("{keyword}=#");
    for byte in &attribute.der {
        // Writing to a String can't fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn escape(text: &str) -> String {
    let is_blank = |c: char| matches!(c, ' ' | '\r');
    let inner = text.trim_start_matches(is_blank);
    let first = text.len() - inner.len();
    let end = first + inner.trim_end_matches(is_blank).len();
    let mut escaped = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        if c == '\0' {
            escaped.push_str("\\00");
            continue;
        }
        if ESCAPED.contains(&c) || at < first || at >= end {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair};

    use super::*;

    fn utf8(oid: &str, text: &str) -> Attribute {
        let der = encode(Tag::Utf8String, text.as_bytes());
        Attribute { oid: oid.to_owned(), text: Some(text.to_owned()), der }
    }

    fn common(text: &str) -> Attribute {
        utf8("2.5.4.3", text)
    }

    /// What Java 17 writes for the same names.
    #[test]
    fn names_are_written_as_java_does() {
        #[track_caller]
        fn check(sets: &[&[Attribute]], expected: &str) {
            let sets: Vec<_> = sets.iter().map(|set| set.to_vec()).collect();
            assert_eq!(write(&sets), expected);
        }
        check(&[], "");
        check(
            &[&[utf8("2.5.4.6", "DE")], &[utf8("2.5.4.10", "Mill")], &[common("alice")]],
            "CN=alice,O=Mill,C=DE",
        );
        check(&[&[common("a"), utf8("2.5.4.11", "b")]], "CN=a+OU=b");
        check(&[&[common("a,OU=b")]], r"CN=a\,OU\=b");
        check(&[&[common("\"<#;>\"\\+")]], r#"CN=\"\<\#\;\>\"\\\+"#);
        check(&[&[common("  a b  ")]], r"CN=\ \ a b\ \ ");
        check(&[&[common("   ")]], r"CN=\ \ \ ");
        check(&[&[common("a\0b")]], r"CN=a\00b");
        check(&[&[common("Jörg Ω")]], "CN=Jörg Ω");
        check(&[&[utf8("1.2.840.113549.1.9.1", "a@b")]], "1.2.840.113549.1.9.1=#0c03614062");
        check(
            &[&[utf8("2.5.4.8", "BW")], &[utf8("2.5.4.7", "Ulm")], &[utf8("2.5.4.9", "Weg 1")]],
            "STREET=Weg 1,L=Ulm,ST=BW",
        );
        check(&[&[utf8("2.5.4.5", "17")]], "2.5.4.5=#0c023137");
        check(&[&[common("\ra")], &[common("a\nb")]], "CN=a\nb,CN=\\\ra");
        let bits = Attribute { text: None, ..common("a") };
        check(&[&[bits]], "CN=#0c0161");
        check(
            &[
                &[utf8("0.9.2342.19200300.100.1.25", "org")],
                &[utf8("0.9.2342.19200300.100.1.1", "u")],
            ],
            "UID=u,DC=org",
        );
    }

    fn certificate(entries: &[(DnType, DnValue)]) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in entries {
            params.distinguished_name.push(kind.clone(), value.clone());
        }
        params.not_after = rcgen::date_time_ymd(2030, 2, 1);
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().clone()
    }

    #[test]
    fn subject_and_expiry_of_a_certificate() {
        let printable = |text: &str| DnValue::PrintableString(text.try_into().unwrap());
        let made = certificate(&[
            (DnType::CountryName, printable("DE")),
            (DnType::OrganizationName, "Mill, Stream & Co".into()),
            (DnType::CommonName, "alice".into()),
        ]);
        assert_eq!(subject(&made).unwrap(), r"CN=alice,O=Mill\, Stream & Co,C=DE");
        assert_eq!(not_after(&made).unwrap(), Timestamp(1_896_134_400_000));
        assert_eq!(subject(&certificate(&[])).unwrap(), "");
    }

    #[test]
    fn long_values_are_encoded_with_a_long_length() {
        for (length, head) in
            [(127, vec![12, 127]), (128, vec![12, 0x81, 128]), (300, vec![12, 0x82, 1, 44])]
        {
            let der = encode(Tag::Utf8String, &vec![b'a'; length]);
            assert_eq!(der[..head.len()], head);
            assert_eq!(der.len(), head.len() + length);
        }
    }

    /// Fuzz target: `cargo test` runs it briefly, `cargo xtask test --long` for minutes.
    #[test]
    fn fuzz_subject() {
        let made = certificate(&[(DnType::CommonName, "alice".into())]);
        type Input = (Vec<u8>, Vec<(u16, u8)>);
        bolero::check!().with_type::<Input>().with_iterations(500).for_each(|(raw, changes)| {
            let mut bytes = if raw.len() > 20 { raw.clone() } else { made.to_vec() };
            for (at, byte) in changes {
                let at = usize::from(*at) % bytes.len();
                bytes[at] = *byte;
            }
            let bytes = CertificateDer::from(bytes);
            // None panics, whatever they say.
            let _ = (subject(&bytes), not_after(&bytes), summary(&bytes));
        });
    }

    /// Takes what was written apart again, by RFC 2253.
    fn read(text: &str) -> Vec<(String, String)> {
        let (mut parts, mut part, mut chars) =
            (Vec::new(), (String::new(), None::<String>), text.chars());
        let mut end = |part: &mut (String, Option<String>)| {
            let (kind, value) = std::mem::take(part);
            parts.push((kind, value.unwrap_or_default()));
        };
        while let Some(c) = chars.next() {
            match (c, &mut part.1) {
                ('\\', Some(value)) => match chars.next().expect("something is escaped") {
                    '0' => {
                        assert_eq!(chars.next(), Some('0'));
                        value.push('\0');
                    }
                    escaped => value.push(escaped),
                },
                (',', Some(_)) => end(&mut part),
                ('=', None) => part.1 = Some(String::new()),
                (c, Some(value)) => value.push(c),
                (c, None) => part.0.push(c),
            }
        }
        end(&mut part);
        parts
    }

    proptest! {
        #[test]
        fn no_name_is_written_like_another(values in prop::collection::vec("[ -~\0é]{0,12}", 1..4)) {
            let sets: Vec<_> = values.iter().map(|value| vec![common(value)]).collect();
            let mut expected: Vec<_> =
                values.iter().map(|value| ("CN".to_owned(), value.clone())).collect();
            expected.reverse();
            prop_assert_eq!(read(&write(&sets)), expected);
        }
    }
}
