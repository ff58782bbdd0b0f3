//! As much of HTTP/1.1 (RFC 9112) as it takes to get a small file: one request, one answer, and the end.

use crate::place::authority;

/// The longest head of an answer, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// The largest answer, in bytes: key sets have a few thousand.
pub(crate) const ANSWER_BYTES_MAX: usize = 512 * 1024;

/// Why an answer is none that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// It is not HTTP.
    #[error("the answer is not HTTP/1.1")]
    Malformed,
    /// It says something else than what was asked for.
    #[error("the answer is `{0}`, not 200; redirects are not followed")]
    Status(u16),
    /// It is encoded in a way that was not asked for.
    #[error("the answer is compressed, though that was not asked for")]
    Encoded,
    /// It is too long.
    #[error("the answer has more than {ANSWER_BYTES_MAX} bytes")]
    TooLong,
    /// It has ended too soon.
    #[error("the connection ended before the answer did")]
    CutOff,
}

/// What asks for `path`.
pub(crate) fn request(host: &str, port: u16, tls: bool, path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nAccept: application/json\r\nAccept-Encoding: identity\r\n\
         User-Agent: millstream/{}\r\nConnection: close\r\n\r\n",
        authority(host, port, tls),
        env!("CARGO_PKG_VERSION"),
    )
}

/// The body of an answer of which this much has come; `None` when more has to. `ended`: nothing more will.
pub(crate) fn body(bytes: &[u8], ended: bool) -> Result<Option<Vec<u8>>, HttpError> {
    if bytes.len() > ANSWER_BYTES_MAX {
        return Err(HttpError::TooLong);
    }
    let unfinished = || if ended { Err(HttpError::CutOff) } else { Ok(None) };
    let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return if bytes.len() > HEAD_BYTES_MAX { Err(HttpError::Malformed) } else { unfinished() };
    };
    let (head, rest) = (&bytes[..at], &bytes[at + 4..]);
    let head = Head::parse(head)?;
    match head.length {
        Length::Chunked => match chunks(rest)? {
            Some(body) => Ok(Some(body)),
            None => unfinished(),
        },
        Length::Known(length) if length > ANSWER_BYTES_MAX => Err(HttpError::TooLong),
        Length::Known(length) => match rest.get(..length) {
            Some(body) => Ok(Some(body.to_vec())),
            None => unfinished(),
        },
        Length::ToTheEnd if ended => Ok(Some(rest.to_vec())),
        Length::ToTheEnd => Ok(None),
    }
}

struct Head {
    length: Length,
}

enum Length {
    Known(usize),
    Chunked,
    ToTheEnd,
}

impl Head {
    fn parse(head: &[u8]) -> Result<Self, HttpError> {
        let text = std::str::from_utf8(head).map_err(|_| HttpError::Malformed)?;
        let mut lines = text.split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1."));
        let status =
            status.and_then(|line| line.split(' ').nth(1)).and_then(|word| word.parse().ok());
        match status {
            Some(200) => {}
            Some(other) => return Err(HttpError::Status(other)),
            None => return Err(HttpError::Malformed),
        }
        let mut length = Length::ToTheEnd;
        for line in lines {
            let (name, value) = line.split_once(':').ok_or(HttpError::Malformed)?;
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "transfer-encoding" if value.eq_ignore_ascii_case("chunked") => {
                    length = Length::Chunked;
                }
                "transfer-encoding" => return Err(HttpError::Encoded),
                "content-encoding" if !value.eq_ignore_ascii_case("identity") => {
                    return Err(HttpError::Encoded);
                }
                // Where both are said, the chunks count (RFC 9112 section 6.3).
                "content-length" if !matches!(length, Length::Chunked) => {
                    let known = value.parse().map_err(|_| HttpError::Malformed)?;
                    length = Length::Known(known);
                }
                _ => {}
            }
        }
        Ok(Self { length })
    }
}

/// What chunks hold; `None` when they are not complete. What follows the last one is left.
fn chunks(mut rest: &[u8]) -> Result<Option<Vec<u8>>, HttpError> {
    let mut body = Vec::new();
    loop {
        let Some(at) = rest.windows(2).position(|window| window == b"\r\n") else {
            return Ok(None);
        };
        let (line, after) = (&rest[..at], &rest[at + 2..]);
        let size = line.split(|byte| *byte == b';').next().unwrap_or_default();
        let size = std::str::from_utf8(size).map_err(|_| HttpError::Malformed)?.trim();
        let is_hex = !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_hexdigit());
        let size = usize::from_str_radix(size, 16).ok().filter(|_| is_hex);
        let size = size.ok_or(HttpError::Malformed)?;
        if size == 0 {
            return Ok(Some(body));
        }
        if size > ANSWER_BYTES_MAX {
            return Err(HttpError::TooLong);
        }
        let Some(chunk) = after.get(..size + 2) else { return Ok(None) };
        let Some(data) = chunk.strip_suffix(b"\r\n") else { return Err(HttpError::Malformed) };
        body.extend_from_slice(data);
        rest = &after[size + 2..];
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(answer: &str, ended: bool, expected: Result<Option<&str>, HttpError>) {
        let body = body(answer.as_bytes(), ended);
        let body = body.map(|body| body.map(|body| String::from_utf8(body).expect("text")));
        assert_eq!(body, expected.map(|body| body.map(ToOwned::to_owned)), "{answer:?} {ended}");
    }

    #[test]
    fn the_length_of_an_answer_is_said_in_three_ways() {
        let known = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        check(known, false, Ok(Some("hello")));
        check(&known[..known.len() - 1], false, Ok(None));
        check(&known[..known.len() - 1], true, Err(HttpError::CutOff));
        let to_the_end = "HTTP/1.0 200\r\nServer: x\r\n\r\nhello";
        check(to_the_end, false, Ok(None));
        check(to_the_end, true, Ok(Some("hello")));
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\nContent-Length: 1\r\n\r\n\
                       3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n";
        check(chunked, false, Ok(Some("hello")));
        check(&chunked[..chunked.len() - 6], false, Ok(None));
        check(&chunked[..chunked.len() - 6], true, Err(HttpError::CutOff));
        check("HTTP/1.1 200 OK\r\n", true, Err(HttpError::CutOff));
        check("", true, Err(HttpError::CutOff));
    }

    #[test]
    fn what_was_not_asked_for_is_refused() {
        let head = |lines: &str| format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\n");
        for (answer, expected) in [
            ("HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n".to_owned(), HttpError::Status(302)),
            ("HTTP/1.1 500 \r\n\r\n".to_owned(), HttpError::Status(500)),
            ("SSH-2.0-x\r\n\r\n".to_owned(), HttpError::Malformed),
            ("HTTP/1.1 OK\r\n\r\n".to_owned(), HttpError::Malformed),
            (head("no header"), HttpError::Malformed),
            (head("Content-Length: -1"), HttpError::Malformed),
            (head("Content-Length: 99999999"), HttpError::TooLong),
            (head("Content-Encoding: gzip"), HttpError::Encoded),
            (head("Transfer-Encoding: gzip, chunked"), HttpError::Encoded),
            (format!("{}zz\r\n", head("Transfer-Encoding: chunked")), HttpError::Malformed),
            (format!("{}+1\r\nx\r\n", head("Transfer-Encoding: chunked")), HttpError::Malformed),
            (format!("{}1\r\nxyz", head("Transfer-Encoding: chunked")), HttpError::Malformed),
            (format!("{}ffffffff\r\n", head("Transfer-Encoding: chunked")), HttpError::TooLong),
            ("x".repeat(HEAD_BYTES_MAX + 1), HttpError::Malformed),
            ("x".repeat(ANSWER_BYTES_MAX + 1), HttpError::TooLong),
        ] {
            check(&answer, false, Err(expected));
        }
    }

    #[test]
    fn a_request_names_its_host() {
        let asked = request("::1", 8443, true, "/keys?a=b");
        assert!(asked.starts_with("GET /keys?a=b HTTP/1.1\r\nHost: [::1]:8443\r\n"), "{asked}");
        assert!(asked.ends_with("\r\n\r\n"));
    }

    proptest! {
        /// No bytes do any harm, and a body is never longer than its answer.
        #[test]
        fn any_bytes_are_an_answer_or_none(
            raw in prop::collection::vec(any::<u8>(), 0..300),
            chunked in any::<bool>(),
            ended in any::<bool>(),
        ) {
            let head: &[u8] = if chunked {
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            } else {
                b""
            };
            let answer = [head, &raw].concat();
            if let Ok(Some(body)) = body(&answer, ended) {
                prop_assert!(body.len() <= raw.len());
            }
        }
    }
}
