//! Where an issuer's keys are.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

/// Where an issuer's keys are (`sasl.oauthbearer.jwks.endpoint.url`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In this file.
    File(PathBuf),
    /// At an address of HTTP.
    Http {
        /// Whether over TLS.
        tls: bool,
        /// The host, without brackets.
        host: String,
        /// The port.
        port: u16,
        /// Path and query.
        path: String,
    },
}

/// Why a text names no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPlace {
    /// It is none.
    #[error("it is no URL: write https://HOST/PATH, or file:///PATH")]
    Malformed,
    /// It is in plain text, from another machine.
    #[error(
        "keys that come by http: can be exchanged on their way, and whoever does so can log in as anybody: use \
         https:, or a file (http: is read from this machine alone)"
    )]
    PlainText,
    /// A name and a password stand in it.
    #[error("keys are public: a name and a password in their URL are not sent")]
    Secret,
}

impl Place {
    /// Reads a URL.
    ///
    /// # Errors
    ///
    /// [`BadPlace`].
    pub fn parse(text: &str) -> Result<Self, BadPlace> {
        if text.contains(|c: char| c.is_control() || c == ' ' || c == '#') {
            return Err(BadPlace::Malformed);
        }
        let (scheme, rest) = text.split_once(':').ok_or(BadPlace::Malformed)?;
        match scheme.to_ascii_lowercase().as_str() {
            // `file:/a`, `file:///a` and `file://localhost/a` are the same.
            "file" => {
                let path = match rest.strip_prefix("//") {
                    Some(rest) => rest.strip_prefix("localhost").unwrap_or(rest),
                    None => rest,
                };
                let is_path = path.starts_with('/') && !path.contains('%');
                is_path.then(|| Self::File(PathBuf::from(path))).ok_or(BadPlace::Malformed)
            }
            "https" => Self::http(rest, true),
            "http" => Self::http(rest, false),
            _ => Err(BadPlace::Malformed),
        }
    }

    fn http(rest: &str, tls: bool) -> Result<Self, BadPlace> {
        let rest = rest.strip_prefix("//").ok_or(BadPlace::Malformed)?;
        let ends = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(ends);
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        if authority.contains('@') {
            return Err(BadPlace::Secret);
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => rest.split_once(']').ok_or(BadPlace::Malformed)?,
            None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
        };
        let port = match (port, tls) {
            ("", true) => 443,
            ("", false) => 80,
            (port, _) => {
                let port = port.strip_prefix(':').and_then(|port| port.parse().ok());
                port.filter(|port| *port != 0).ok_or(BadPlace::Malformed)?
            }
        };
        if host.is_empty() || !path.is_ascii() {
            return Err(BadPlace::Malformed);
        }
        let is_here = host.eq_ignore_ascii_case("localhost")
            || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
        if !tls && !is_here {
            return Err(BadPlace::PlainText);
        }
        Ok(Self::Http { tls, host: host.to_owned(), port, path })
    }

    /// Whether it is a file.
    #[must_use]
    pub const fn is_file(&self) -> bool {
        matches!(self, Self::File(_))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file://{}", path.display()),
            Self::Http { tls, host, port, path } => {
                let scheme = if *tls { "https" } else { "http" };
                write!(f, "{scheme}://{}{path}", authority(host, *port, *tls))
            }
        }
    }
}

/// Host and port as a request names them: the usual port is left out.
pub(crate) fn authority(host: &str, port: u16, tls: bool) -> String {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    if port == if tls { 443 } else { 80 } { host } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_in_every_way_that_is_usual() {
        for text in ["file:/a/b.json", "file:///a/b.json", "FILE://localhost/a/b.json"] {
            assert_eq!(Place::parse(text), Ok(Place::File(PathBuf::from("/a/b.json"))), "{text}");
        }
    }

    #[test]
    fn addresses_of_http_are_read() {
        for (text, tls, host, port, path, shown) in [
            ("https://a.b/c?d=e", true, "a.b", 443, "/c?d=e", "https://a.b/c?d=e"),
            ("HTTPS://a.b:8443", true, "a.b", 8443, "/", "https://a.b:8443/"),
            ("https://a.b?c", true, "a.b", 443, "/?c", "https://a.b/?c"),
            (
                "https://[2001:db8::1]:1/x",
                true,
                "2001:db8::1",
                1,
                "/x",
                "https://[2001:db8::1]:1/x",
            ),
            ("http://localhost:8080/x", false, "localhost", 8080, "/x", "http://localhost:8080/x"),
            ("http://127.0.0.1/x", false, "127.0.0.1", 80, "/x", "http://127.0.0.1/x"),
            ("http://[::1]/x", false, "::1", 80, "/x", "http://[::1]/x"),
        ] {
            let place = Place::parse(text).expect(text);
            assert_eq!(place.to_string(), shown);
            let (host, path) = (host.to_owned(), path.to_owned());
            assert_eq!(place, Place::Http { tls, host, port, path });
        }
    }

    #[test]
    fn what_names_no_place_is_refused() {
        for text in [
            "",
            "a",
            "/a",
            "file:",
            "file:a",
            "file://host/a",
            "file:///a%20b",
            "ftp://a/b",
            "https:",
            "https:a",
            "https://",
            "https:///a",
            "https://a:/b",
            "https://a:0/b",
            "https://a:x/b",
            "https://a:65536/",
            "https://[::1/b",
            "https://[::1]x/b",
            "https://a/b#c",
            "https://a/ b",
            "https://a/\r\nb",
            "https://a/ä",
        ] {
            assert_eq!(Place::parse(text), Err(BadPlace::Malformed), "{text}");
        }
        for text in ["http://a/b", "http://10.0.0.1/b", "http://localhost.example.org/b"] {
            assert_eq!(Place::parse(text), Err(BadPlace::PlainText), "{text}");
        }
        assert_eq!(Place::parse("https://a:b@c/d"), Err(BadPlace::Secret));
        assert_eq!(Place::parse("http://localhost@c/d"), Err(BadPlace::Secret));
    }
}
