//! The habit of Azure Event Hubs: PLAIN with the user `$ConnectionString`, whose password is a connection string
//! that has both the name and the key of a shared access policy.

use crate::exchange::Refused;
use crate::plain::Plain;

/// The user that stands for what the password says.
pub(crate) const USER: &str = "$ConnectionString";

/// Reads `Endpoint=sb://HOST/;SharedAccessKeyName=NAME;SharedAccessKey=KEY` with more such parts or without: the
/// user is NAME, and the password KEY. Names of parts are read in any case, each once.
pub(crate) fn parse(text: &str) -> Result<Plain<'_>, Refused> {
    let (mut endpoint, mut user, mut password) = (None, None, None);
    for part in text.split(';').filter(|part| !part.is_empty()) {
        // A key is base64, which may end with `=`.
        let (name, value) = part.split_once('=').ok_or(Refused::Malformed)?;
        let place = match name.trim().to_ascii_lowercase().as_str() {
            "endpoint" => &mut endpoint,
            "sharedaccesskeyname" => &mut user,
            "sharedaccesskey" => &mut password,
            _ => continue,
        };
        if place.replace(value).is_some() || value.is_empty() {
            return Err(Refused::Malformed);
        }
    }
    match (endpoint, user, password) {
        (Some(_), Some(user), Some(password)) => Ok(Plain { user, password }),
        _ => Err(Refused::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<(&str, &str)>) {
        let parsed = parse(text).ok().map(|plain| (plain.user, plain.password));
        assert_eq!(parsed, expected, "{text}");
    }

    #[test]
    fn a_connection_string_has_a_name_and_a_key() {
        let usual = "Endpoint=sb://a.example.org/;SharedAccessKeyName=Root;SharedAccessKey=a+/b=";
        check(usual, Some(("Root", "a+/b=")));
        check(&format!("{usual};EntityPath=orders"), Some(("Root", "a+/b=")));
        check(&format!("{usual};"), Some(("Root", "a+/b=")));
        check("sharedaccesskey=k;SHAREDACCESSKEYNAME=n;endpoint=sb://a", Some(("n", "k")));
        for none in [
            "",
            "x",
            ";",
            "SharedAccessKeyName=n;SharedAccessKey=k",
            "Endpoint=sb://a;SharedAccessKey=k",
            "Endpoint=sb://a;SharedAccessKeyName=n",
            "Endpoint=sb://a;SharedAccessKeyName=;SharedAccessKey=k",
            "Endpoint=sb://a;SharedAccessKeyName=n;SharedAccessKey=",
            "Endpoint=sb://a;SharedAccessKeyName=n;SharedAccessKeyName=m;SharedAccessKey=k",
            "Endpoint=sb://a;SharedAccessKeyName=n;SharedAccessKey=k;SharedAccessKey=l",
            "Endpoint=sb://a;SharedAccessSignature=SharedAccessSignature sr=x&sig=y",
            "Endpoint=sb://a;SharedAccessKeyName=n;SharedAccessKey=k;x",
        ] {
            check(none, None);
        }
    }
}
