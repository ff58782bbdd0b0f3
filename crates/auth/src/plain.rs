//! PLAIN (RFC 4616): a client says its name and its password.

use crate::exchange::Refused;

/// What a client says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plain<'a> {
    pub(crate) user: &'a str,
    pub(crate) password: &'a str,
}

/// Reads `[authzid] NUL authcid NUL passwd`. Whom to act as may be said if it is the user himself.
pub(crate) fn parse(message: &[u8]) -> Result<Plain<'_>, Refused> {
    let text = std::str::from_utf8(message).map_err(|_| Refused::Malformed)?;
    let mut parts = text.split('\0');
    let (Some(act_as), Some(user), Some(password), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Refused::Malformed);
    };
    if user.is_empty() || password.is_empty() {
        return Err(Refused::Malformed);
    }
    if !act_as.is_empty() && act_as != user {
        return Err(Refused::OtherIdentity);
    }
    Ok(Plain { user, password })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(message: &[u8], expected: Result<(&str, &str), Refused>) {
        let parsed = parse(message).map(|plain| (plain.user, plain.password));
        assert_eq!(parsed, expected, "{message:?}");
    }

    /// The examples of RFC 4616 section 4, and what is none.
    #[test]
    fn messages_are_read_as_the_rfc_says() {
        check(b"\0tim\0tanstaaftanstaaf", Ok(("tim", "tanstaaftanstaaf")));
        check(b"Ursel\0Kurt\0xipj3plmq", Err(Refused::OtherIdentity));
        check(b"tim\0tim\0t", Ok(("tim", "t")));
        check("\0käthe\0pässwort".as_bytes(), Ok(("käthe", "pässwort")));
        check(b"\0tim\0a,b=c d", Ok(("tim", "a,b=c d")));
        for malformed in [
            &b""[..],
            b"\0",
            b"\0\0",
            b"\0tim",
            b"\0tim\0",
            b"\0\0password",
            b"tim\0password",
            b"\0tim\0pass\0word",
            b"\0tim\0password\0",
            b"\0tim\0\xff",
        ] {
            check(malformed, Err(Refused::Malformed));
        }
    }
}
