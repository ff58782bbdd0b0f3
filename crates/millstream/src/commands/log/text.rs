//! Stored bytes and offsets as people read them.

use std::fmt::Write as _;

/// Bytes as text in quotes when they are UTF-8, as hexadecimal digits when not.
pub(super) fn bytes(bytes: Option<&[u8]>) -> String {
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => "null".to_owned(),
        Some((_, Ok(text))) => format!("{text:?}"),
        Some((bytes, Err(_))) => bytes.iter().fold("0x".to_owned(), |mut text, byte| {
            // Writing to a string does not fail.
            let _ = write!(text, "{byte:02x}");
            text
        }),
    }
}

/// First and last, or the one when they are the same.
pub(super) fn range(first: i64, last: i64) -> String {
    if first == last { first.to_string() } else { format!("{first}..{last}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_text_or_digits() {
        assert_eq!(bytes(None), "null");
        assert_eq!(bytes(Some(b"")), r#""""#);
        assert_eq!(bytes(Some("a \"ü\"\n".as_bytes())), r#""a \"ü\"\n""#);
        assert_eq!(bytes(Some(&[0xff, 0x00])), "0xff00");
    }

    #[test]
    fn ranges() {
        assert_eq!((range(3, 3), range(3, 5)), ("3".to_owned(), "3..5".to_owned()));
    }
}
