//! HTTP's Basic authentication (RFC 7617): a name and its password in a header. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// The longest header that is looked at, in bytes: as much as a client of Kafka's protocol may send that has
/// not logged in.
pub(super) const HEADER_BYTES_MAX: usize = 8 * 1024;

const SCHEME: &[u8] = b"basic";

/// What a client says. Has no `Debug`: there is a password in it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) user: String,
    pub(super) password: String,
}

/// Reads the value of an `Authorization` header; `None` for another scheme, and for what RFC 7617 does not
/// allow.
pub(super) fn parse(header: &[u8]) -> Option<Said> {
    if header.len() > HEADER_BYTES_MAX {
        return None;
    }
    let (scheme, rest) = header.split_at_checked(SCHEME.len())?;
    let token = rest.trim_ascii_start();
    if !scheme.eq_ignore_ascii_case(SCHEME) || token.len() == rest.len() {
        return None;
    }
    let text = String::from_utf8(BASE64.decode(token.trim_ascii_end()).ok()?).ok()?;
    // A name has no colon, a password may.
    let (user, password) = text.split_once(':')?;
    let is_text = !text.contains(char::is_control);
    let is_said = !user.is_empty() && !password.is_empty();
    (is_text && is_said).then(|| Said { user: user.to_owned(), password: password.to_owned() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is read of a header, as a name and a password.
    fn read(header: &[u8]) -> Option<(String, String)> {
        parse(header).map(|said| (said.user, said.password))
    }

    #[track_caller]
    fn check(header: &str, expected: Option<(&str, &str)>) {
        let expected = expected.map(|(user, password)| (user.to_owned(), password.to_owned()));
        assert_eq!(read(header.as_bytes()), expected, "{header}");
    }

    fn encoded(text: &[u8]) -> String {
        format!("Basic {}", BASE64.encode(text))
    }

    /// The examples of RFC 7617 sections 2 and 2.1, and what is none.
    #[test]
    fn headers_are_read_as_the_rfc_says() {
        check("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", Some(("Aladdin", "open sesame")));
        check("Basic dGVzdDoxMjPCow==", Some(("test", "123£")));
        check("bASIC  dGVzdDoxMjPCow==", Some(("test", "123£")));
        check(&encoded(b"a:b:c"), Some(("a", "b:c")));
        for malformed in [
            "",
            "Basic",
            "Basic ",
            "BasicQWxhZGRpbjpvcGVuIHNlc2FtZQ==",
            "Bearer QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ",
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ== ,",
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZR==",
            &encoded(b"nobody"),
            &encoded(b":password"),
            &encoded(b"user:"),
            &encoded(b"us\0er:password"),
            &encoded(b"user:pass\nword"),
            &encoded(b"user:\xff"),
            &encoded(&[b"user:".to_vec(), vec![b'x'; HEADER_BYTES_MAX]].concat()),
        ] {
            check(malformed, None);
        }
    }

    proptest! {
        #[test]
        fn what_is_said_is_what_is_read(user in "[^:\\pC]{1,40}", password in "[^\\pC]{1,40}") {
            let header = encoded(format!("{user}:{password}").as_bytes());
            prop_assert_eq!(read(header.as_bytes()), Some((user, password)));
        }
    }

    /// Whatever comes, nothing panics, and what is read is what was sent.
    #[test]
    fn fuzz_headers() {
        bolero::check!().for_each(|bytes| {
            let Some((user, password)) = read(bytes) else { return };
            let text = encoded(format!("{user}:{password}").as_bytes());
            assert_eq!(read(text.as_bytes()), Some((user, password)));
        });
    }
}
