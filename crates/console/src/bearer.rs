//! HTTP's Bearer authentication (RFC 6750): a token in a header. Pure.

use crate::basic::HEADER_BYTES_MAX;

const SCHEME: &[u8] = b"bearer";

/// The token in the value of an `Authorization` header; `None` for another scheme, and for what is no token.
pub(super) fn parse(header: &[u8]) -> Option<&str> {
    if header.len() > HEADER_BYTES_MAX {
        return None;
    }
    let (_, rest) = header.split_at_checked(SCHEME.len()).filter(|_| is_meant(header))?;
    let token = rest.trim_ascii();
    let is_of_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(byte);
    let is_token = !token.is_empty() && token.iter().all(is_of_token);
    if is_token { std::str::from_utf8(token).ok() } else { None }
}

/// Whether a header says that there is a token in it.
pub(super) fn is_meant(header: &[u8]) -> bool {
    let Some((scheme, rest)) = header.split_at_checked(SCHEME.len()) else { return false };
    scheme.eq_ignore_ascii_case(SCHEME) && rest.first().is_none_or(u8::is_ascii_whitespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 6750 section 2.1, and what is none.
    #[test]
    fn headers_are_read_as_the_rfc_says() {
        for (header, expected) in [
            ("Bearer mF_9.B5f-4.1JqM", Some("mF_9.B5f-4.1JqM")),
            ("bEARER  a.b.c= ", Some("a.b.c=")),
            ("", None),
            ("Bearer", None),
            ("Bearer ", None),
            ("Bearera.b.c", None),
            ("Basic a.b.c", None),
            ("Bearer a b", None),
            ("Bearer a,b", None),
            ("Bearer a\u{e4}", None),
        ] {
            assert_eq!(parse(header.as_bytes()), expected, "{header}");
        }
        let long = format!("Bearer {}", "x".repeat(HEADER_BYTES_MAX - 7));
        assert_eq!(parse(long.as_bytes()).map(str::len), Some(HEADER_BYTES_MAX - 7));
        assert_eq!(parse(format!("{long}x").as_bytes()), None);
    }

    /// Whatever comes, nothing panics, and what is read is what was sent.
    #[test]
    fn fuzz_headers() {
        bolero::check!().for_each(|bytes: &[u8]| {
            let Some(token) = parse(bytes) else { return };
            assert!(is_meant(bytes));
            assert_eq!(parse(format!("Bearer {token}").as_bytes()), Some(token));
        });
    }
}
