//! The messages of SCRAM (RFC 5802 section 7).

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::exchange::Refused;

/// A client's first message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct First<'a> {
    /// What is said about channel binding and whom to act as, with its commas.
    pub(crate) header: &'a str,
    /// The rest, which is signed as it came.
    pub(crate) bare: &'a str,
    pub(crate) user: Cow<'a, str>,
    pub(crate) nonce: &'a str,
    /// Whether the name is that of a delegation token (KIP-48), and no user's.
    pub(crate) by_token: bool,
}

/// A client's last message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Final<'a> {
    /// The header of the first message, as it was meant.
    pub(crate) binding: Vec<u8>,
    pub(crate) nonce: &'a str,
    pub(crate) proof: Vec<u8>,
    /// All but the proof, which is signed as it came.
    pub(crate) without_proof: &'a str,
}

impl<'a> First<'a> {
    /// `gs2-header [reserved-mext ","] "n=" name ",r=" nonce ["," extensions]`.
    pub(crate) fn parse(message: &'a [u8]) -> Result<Self, Refused> {
        let text = std::str::from_utf8(message).map_err(|_| Refused::Malformed)?;
        let mut rest = text.splitn(3, ',');
        let (Some(flag), Some(act_as), Some(bare)) = (rest.next(), rest.next(), rest.next()) else {
            return Err(Refused::Malformed);
        };
        match flag {
            // `y`: the client could bind channels and believes that the server can't, which is so.
            "n" | "y" => {}
            _ if flag.starts_with("p=") => return Err(Refused::ChannelBinding),
            _ => return Err(Refused::Malformed),
        }
        let header = text.get(..text.len() - bare.len()).ok_or(Refused::Malformed)?;
        let mut parts = bare.split(',');
        let mut part = || parts.next().ok_or(Refused::Malformed);
        // An extension that must be understood (`m=`) would stand here.
        let user = name(part()?.strip_prefix("n=").ok_or(Refused::Malformed)?)?;
        let nonce = part()?.strip_prefix("r=").ok_or(Refused::Malformed)?;
        if !is_nonce(nonce) {
            return Err(Refused::Malformed);
        }
        let mut by_token = false;
        for extension in parts {
            by_token |= attribute(extension)? == ("tokenauth", "true");
        }
        if !act_as.is_empty() {
            let act_as = name(act_as.strip_prefix("a=").ok_or(Refused::Malformed)?)?;
            if act_as != user {
                return Err(Refused::OtherIdentity);
            }
        }
        Ok(Self { header, bare, user, nonce, by_token })
    }
}

impl<'a> Final<'a> {
    /// `"c=" base64 ",r=" nonce ["," extensions] ",p=" base64`.
    pub(crate) fn parse(message: &'a [u8]) -> Result<Self, Refused> {
        let text = std::str::from_utf8(message).map_err(|_| Refused::Malformed)?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(Refused::Malformed)?;
        let proof = BASE64.decode(proof).map_err(|_| Refused::Malformed)?;
        let mut parts = without_proof.split(',');
        let mut part = |prefix| {
            let part: Option<&str> = parts.next();
            part.and_then(|part| part.strip_prefix(prefix)).ok_or(Refused::Malformed)
        };
        let binding = BASE64.decode(part("c=")?).map_err(|_| Refused::Malformed)?;
        let nonce = part("r=")?;
        for extension in parts {
            attribute(extension)?;
        }
        Ok(Self { binding, nonce, proof, without_proof })
    }
}

/// A server's first message.
pub(super) fn server_first(nonce: &str, salt: &[u8], iterations: u32) -> String {
    format!("r={nonce},s={},i={iterations}", BASE64.encode(salt))
}

/// A server's last message.
pub(super) fn server_final(signature: &[u8]) -> String {
    format!("v={}", BASE64.encode(signature))
}

/// Reads a name, in which `=2C` stands for a comma and `=3D` for `=`.
pub(crate) fn name(text: &str) -> Result<Cow<'_, str>, Refused> {
    if text.is_empty() || text.contains('\0') {
        return Err(Refused::Malformed);
    }
    if !text.contains('=') {
        return Ok(Cow::Borrowed(text));
    }
    let mut parts = text.split('=');
    let mut name = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (letter, rest) = match part.split_at_checked(2) {
            Some(("2C", rest)) => (',', rest),
            Some(("3D", rest)) => ('=', rest),
            _ => return Err(Refused::Malformed),
        };
        name.push(letter);
        name.push_str(rest);
    }
    Ok(Cow::Owned(name))
}

fn is_nonce(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
}

/// Reads `name "=" value`.
fn attribute(text: &str) -> Result<(&str, &str), Refused> {
    let (name, value) = text.split_once('=').ok_or(Refused::Malformed)?;
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphabetic());
    if is_name && !value.is_empty() && !value.contains('\0') {
        Ok((name, value))
    } else {
        Err(Refused::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_first(message: &str, expected: Result<(&str, &str), Refused>) {
        let parsed = First::parse(message.as_bytes());
        let parsed = parsed.as_ref().map(|first| (first.header, first.user.as_ref()));
        assert_eq!(parsed.map_err(Clone::clone), expected, "{message}");
    }

    #[test]
    fn first_messages_are_read_as_the_rfc_says() {
        check_first("n,,n=user,r=nonce", Ok(("n,,", "user")));
        check_first("y,,n=user,r=nonce", Ok(("y,,", "user")));
        check_first("n,a=user,n=user,r=nonce", Ok(("n,a=user,", "user")));
        check_first("n,,n=a=2Cb=3Dc,r=n", Ok(("n,,", "a,b=c")));
        check_first("n,a=a=2Cb,n=a=2Cb,r=n", Ok(("n,a=a=2Cb,", "a,b")));
        check_first("n,,n=käthe,r=n", Ok(("n,,", "käthe")));
        check_first("n,,n=user,r=n,tokenauth=false,x=y", Ok(("n,,", "user")));
        check_first("n,a=other,n=user,r=nonce", Err(Refused::OtherIdentity));
        check_first("p=tls-unique,,n=user,r=nonce", Err(Refused::ChannelBinding));
        for (extensions, expected) in [
            ("", false),
            (",tokenauth=true", true),
            (",x=y,tokenauth=true,z=y", true),
            (",tokenauth=false", false),
            (",Tokenauth=true", false),
        ] {
            let message = format!("n,,n=token,r=n{extensions}");
            let first = First::parse(message.as_bytes()).expect("a message");
            assert_eq!(first.by_token, expected, "{message}");
        }
        for malformed in [
            "",
            "n",
            "n,",
            "n,,",
            "x,,n=user,r=nonce",
            "n,b=user,n=user,r=nonce",
            "n,,m=must,n=user,r=nonce",
            "n,,n=,r=nonce",
            "n,,n=user",
            "n,,n=user,r=",
            "n,,n=user,r=no nonce",
            "n,,r=nonce,n=user",
            "n,,n=a=,r=n",
            "n,,n=a=2c,r=n",
            "n,,n=a=41,r=n",
            "n,,n=a=2ä,r=n",
            "n,,n=a\0b,r=n",
            "n,,n=user,r=n,",
            "n,,n=user,r=n,x",
            "n,,n=user,r=n,x=",
            "n,,n=user,r=n,1=x",
        ] {
            check_first(malformed, Err(Refused::Malformed));
        }
    }

    #[test]
    fn last_messages_are_read_as_the_rfc_says() {
        let parsed = Final::parse(b"c=biws,r=nonce,x=y,p=cHJvb2Y=").expect("a message");
        assert_eq!(parsed.binding, b"n,,");
        assert_eq!((parsed.nonce, parsed.proof), ("nonce", b"proof".to_vec()));
        assert_eq!(parsed.without_proof, "c=biws,r=nonce,x=y");
        for malformed in [
            "",
            "c=biws,r=nonce",
            "p=cHJvb2Y=",
            "r=nonce,c=biws,p=cHJvb2Y=",
            "c=biws,r=nonce,p=cHJvb2Y",
            "c=biws,r=nonce,p=cHJvb2Y=,x=y",
            "c=!,r=nonce,p=cHJvb2Y=",
            "c=biws,r=nonce,,p=cHJvb2Y=",
        ] {
            assert_eq!(Final::parse(malformed.as_bytes()), Err(Refused::Malformed), "{malformed}");
        }
    }
}
