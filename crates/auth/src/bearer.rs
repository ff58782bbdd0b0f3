//! OAUTHBEARER (RFC 7628): a client shows a token that an issuer has given it.

use std::collections::BTreeSet;
use std::fmt;

use crate::exchange::Refused;
use crate::scram;

/// What a client whose token is no good is told first (RFC 7628 section 3.2.2). It says one byte then, and hears
/// the rest.
pub(crate) const INVALID_TOKEN: &[u8] = br#"{"status":"invalid_token"}"#;

/// What separates the parts of a message, and what a client says that has heard that its token is no good.
pub(crate) const SEPARATOR: char = '\u{1}';

/// A token as a client shows it. Whoever has it can log in: it is left out of `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct BearerToken(pub(crate) String);

impl BearerToken {
    /// Its text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerToken")
    }
}

/// What a client says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// Whom to act as, which must be the token's user.
    pub(crate) act_as: Option<String>,
    pub(crate) token: BearerToken,
}

/// Reads `gs2-header 0x01 *(key "=" value 0x01) 0x01`. Pairs but for `auth` mean nothing here.
pub(crate) fn parse(message: &[u8]) -> Result<Message, Refused> {
    let text = std::str::from_utf8(message).map_err(|_| Refused::Malformed)?;
    let (header, pairs) = text.split_once(SEPARATOR).ok_or(Refused::Malformed)?;
    let act_as = act_as(header)?;
    let pairs = pairs.strip_suffix(SEPARATOR).and_then(|pairs| pairs.strip_suffix(SEPARATOR));
    let (mut keys, mut token) = (BTreeSet::new(), None);
    for pair in pairs.ok_or(Refused::Malformed)?.split(SEPARATOR) {
        let (key, value) = pair.split_once('=').ok_or(Refused::Malformed)?;
        let is_key = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphabetic());
        if !is_key || !value.bytes().all(is_of_value) || !keys.insert(key) {
            return Err(Refused::Malformed);
        }
        if key == "auth" {
            token = Some(bearer(value)?);
        }
    }
    Ok(Message { act_as, token: token.ok_or(Refused::Malformed)? })
}

/// Reads the header that SCRAM has, too.
fn act_as(header: &str) -> Result<Option<String>, Refused> {
    let mut parts = header.split(',');
    let (Some(flag), Some(act_as), Some(""), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Refused::Malformed);
    };
    match flag {
        "n" | "y" => {}
        _ if flag.starts_with("p=") => return Err(Refused::ChannelBinding),
        _ => return Err(Refused::Malformed),
    }
    if act_as.is_empty() {
        return Ok(None);
    }
    let name = act_as.strip_prefix("a=").ok_or(Refused::Malformed)?;
    Ok(Some(scram::name(name)?.into_owned()))
}

/// Reads `"Bearer" 1*SP b64token` (RFC 6750 section 2.1).
fn bearer(value: &str) -> Result<BearerToken, Refused> {
    let (scheme, token) = value.split_once(' ').ok_or(Refused::Malformed)?;
    let token = token.trim_start_matches(' ');
    let is_of_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    if scheme.eq_ignore_ascii_case("Bearer") && !token.is_empty() && token.bytes().all(is_of_token)
    {
        Ok(BearerToken(token.to_owned()))
    } else {
        Err(Refused::Malformed)
    }
}

fn is_of_value(byte: u8) -> bool {
    byte.is_ascii_graphic() || matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(message: &str, expected: Result<(Option<&str>, &str), Refused>) {
        let message = message.replace('^', "\u{1}");
        let parsed = parse(message.as_bytes());
        let parsed = parsed.as_ref().map(|one| (one.act_as.as_deref(), one.token.text()));
        assert_eq!(parsed.map_err(|why| *why), expected, "{message:?}");
    }

    /// `^` stands for the separator.
    #[test]
    fn messages_are_read_as_the_rfc_says() {
        check("n,,^auth=Bearer a.b-c_d~e+f/g=^^", Ok((None, "a.b-c_d~e+f/g=")));
        check("y,,^auth=bearer  t^^", Ok((None, "t")));
        check("n,a=alice,^auth=Bearer t^^", Ok((Some("alice"), "t")));
        check("n,a=a=2Cb=3Dc,^auth=Bearer t^^", Ok((Some("a,b=c"), "t")));
        // RFC 7628 section 4.1.
        check(
            "n,a=user@example.com,^host=server.example.com^port=143^auth=Bearer vF9dft4qmT==^^",
            Ok((Some("user@example.com"), "vF9dft4qmT==")),
        );
        check("n,,^auth=Bearer t^traceId=1 2^^", Ok((None, "t")));
        check("p=tls-unique,,^auth=Bearer t^^", Err(Refused::ChannelBinding));
        for malformed in [
            "",
            "^",
            "^^",
            "n,,",
            "n,,^",
            "n,,^^",
            "n,,^^^",
            "n,,^auth=Bearer t",
            "n,,^auth=Bearer t^",
            "n,,^auth=Bearer t^^^",
            "n,,^^auth=Bearer t^^",
            "n,,^auth=Bearer t^^x",
            "n,^auth=Bearer t^^",
            "n,,,^auth=Bearer t^^",
            "x,,^auth=Bearer t^^",
            "n,b=x,^auth=Bearer t^^",
            "n,a=,^auth=Bearer t^^",
            "n,,^auth=Bearer^^",
            "n,,^auth=Bearer ^^",
            "n,,^auth=Basic t^^",
            "n,,^auth=Bearer t t^^",
            "n,,^auth=Bearer t,t^^",
            "n,,^auth=Bearer tä^^",
            "n,,^Auth=Bearer t^^",
            "n,,^host=x^^",
            "n,,^auth=Bearer t^auth=Bearer u^^",
            "n,,^auth=Bearer t^x=1^x=2^^",
            "n,,^auth=Bearer t^1=x^^",
            "n,,^auth=Bearer t^=x^^",
            "n,,^auth=Bearer t^x^^",
            "n,,^auth=Bearer t^x=\0^^",
        ] {
            check(malformed, Err(Refused::Malformed));
        }
        assert_eq!(parse(b"n,,\x01auth=Bearer \xff\x01\x01"), Err(Refused::Malformed));
    }

    #[test]
    fn a_token_is_not_shown() {
        let parsed = parse(b"n,,\x01auth=Bearer secret\x01\x01").expect("a message");
        assert!(!format!("{parsed:?}").contains("secret"));
    }
}
