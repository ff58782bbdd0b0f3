//! Regular expressions over names of topics, in RE2's language: no look-around, no references back,
//! and time in proportion to the text.

use regex::{Regex, RegexBuilder};

/// What a compiled expression may take in memory, in bytes.
const COMPILED_BYTES_MAX: usize = 256 * 1024;
/// The longest expression, in bytes.
const PATTERN_LEN_MAX: usize = 4 * 1024;

/// An expression that matches whole names.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl Pattern {
    /// Reads an expression.
    ///
    /// # Errors
    ///
    /// Says, for people, what is wrong with it.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.len() > PATTERN_LEN_MAX {
            return Err(format!("it has more than {PATTERN_LEN_MAX} bytes"));
        }
        let text = unquoted(text);
        // First as it is: closing a group that the frame below opens must not count as well-formed.
        compile(&text)?;
        compile(&format!(r"\A(?:{text})\z")).map(Self)
    }

    /// Whether the whole of `name` matches.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.0.is_match(name)
    }
}

fn compile(text: &str) -> Result<Regex, String> {
    let built = RegexBuilder::new(text).size_limit(COMPILED_BYTES_MAX).build();
    built.map_err(|error| error.to_string())
}

/// Writes `\Q...\E`, which RE2 knows and `regex` does not, in other words.
fn unquoted(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, after) = rest.split_at(at);
        plain.push_str(before);
        if let Some(quoted) = after.strip_prefix(r"\Q") {
            let (literal, behind) = quoted.split_once(r"\E").unwrap_or((quoted, ""));
            plain.push_str(&regex::escape(literal));
            rest = behind;
        } else {
            // A backslash and what it escapes, so that `\\Q` is not taken for a quotation.
            let end = after.char_indices().nth(2).map_or(after.len(), |(end, _)| end);
            let (escape, behind) = after.split_at(end);
            plain.push_str(escape);
            rest = behind;
        }
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_names_match() {
        let cases: &[(&str, &[&str], &[&str])] = &[
            ("a.*", &["a", "ab"], &["ba", ""]),
            ("a|ab", &["a", "ab"], &["abc", "b"]),
            ("^a$", &["a"], &["ab"]),
            (r"\Qa.b\E", &["a.b"], &["axb", "a.bc"]),
            (r"x\Qa|b\E|c", &["xa|b", "c"], &["xa", "b"]),
            (r"\Qa.", &["a."], &["ab"]),
            (r"\\Qa", &[r"\Qa"], &["a"]),
            ("(?i)orders", &["ORDERS", "orders"], &["order"]),
            (r"t[0-9]{1,2}", &["t1", "t12"], &["t", "t123"]),
            ("", &[""], &["a"]),
        ];
        for (text, yes, no) in cases {
            let pattern = Pattern::new(text).expect(text);
            assert!(yes.iter().all(|name| pattern.matches(name)), "{text} matches {yes:?}");
            assert!(!no.iter().any(|name| pattern.matches(name)), "{text} does not match {no:?}");
        }
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        let long = "a".repeat(PATTERN_LEN_MAX + 1);
        let nested = format!("{}a{}", "(".repeat(1_000), ")".repeat(1_000));
        for text in [
            "(",
            "a)|(b",
            "[",
            "*",
            r"(?=a)",
            r"(a)\1",
            "(?<",
            "\\",
            "a{1000}{1000}",
            &long,
            &nested,
        ] {
            assert!(Pattern::new(text).is_err(), "{text}");
        }
    }
}
