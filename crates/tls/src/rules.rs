//! `ssl.principal.mapping.rules` (KIP-371): which user the subject of a certificate becomes.
//!
//! Rules are asked in their order, and the first that matches decides:
//!
//! * `DEFAULT`: the user is called as the subject is;
//! * `RULE:pattern/replacement/`: where the pattern matches all of the subject, the user is called as the
//!   replacement says, in which `$1` stands for what the first group has matched. With `L` or `U` behind it
//!   the name is in lower or upper case.
//!
//! Where none matches, the connection is refused. What is refused besides, because a name like that has most
//! likely been forged: names that are empty, longer than [`NAME_LEN_MAX`] or have control characters; those that
//! mean others as well ([`is_reserved`]); those that get letters of ASCII only by `L` or `U`, as a Kelvin sign
//! becomes a `k`; and a group that ends between a backslash and the character that it escapes: `CN=(.*?),.*`
//! would make `eve\` of somebody who is called `eve,OU=admins`.

use std::fmt;

use millstream_types::is_reserved;
use regex::Regex;

/// The longest name of a user, in bytes.
pub(crate) const NAME_LEN_MAX: usize = 1_024;

/// Rules in their order.
#[derive(Clone)]
pub struct Rules(Vec<Rule>);

#[derive(Clone)]
enum Rule {
    Default,
    Rewrite { pattern: Regex, replacement: Vec<Piece>, case: Case },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Group(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    AsItIs,
    Lower,
    Upper,
}

/// Why rules can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    /// There is something that is no rule.
    #[error(
        "`{0}` is no rule: write DEFAULT, or RULE:pattern/replacement/ with L or U behind it, with commas \
         between rules"
    )]
    NotARule(String),
    /// The pattern is no regular expression.
    #[error("the pattern `{pattern}` can't be used: {why}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        why: String,
    },
    /// The replacement names a group that there can't be.
    #[error(
        "the replacement `{0}` can't be used: `$` needs the number of a group of the pattern behind it; \
         write `\\$` for the sign"
    )]
    Replacement(String),
}

/// Why nobody is meant by a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unmapped {
    /// No rule matches.
    #[error("none of ssl.principal.mapping.rules matches it")]
    NoRule,
    /// The name would be empty.
    #[error("it gives a user without a name")]
    Empty,
    /// The name would be too long.
    #[error("it gives a user whose name is too long")]
    TooLong,
    /// The name would have control characters.
    #[error("it gives a user whose name has control characters")]
    Control,
    /// The name would mean whoever does not say who he is, or everybody.
    #[error("it gives a user whose name means others as well")]
    Reserved,
    /// `L` or `U` would make a letter of ASCII of one that is none.
    #[error("in lower or upper case it would look like somebody else")]
    Lookalike,
    /// A group would end in the middle of an escape.
    #[error("a group of ssl.principal.mapping.rules ends between a backslash and what it escapes")]
    Torn,
}

impl Rules {
    /// Reads rules; an empty text has none, so that nobody matches.
    ///
    /// # Errors
    ///
    /// [`RulesError`] names what is wrong.
    pub fn parse(text: &str) -> Result<Self, RulesError> {
        let mut rules = Vec::new();
        let mut rest = text;
        loop {
            // As with Apache Kafka, there may be nothing between two commas.
            rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
            if rest.is_empty() {
                return Ok(Self(rules));
            }
            let (rule, behind) = Rule::parse(rest)?;
            let after = behind.trim_start();
            if !after.is_empty() && !after.starts_with(',') {
                return Err(RulesError::NotARule(rest.to_owned()));
            }
            rules.push(rule);
            rest = after;
        }
    }

    /// The name of the user that `subject` stands for, which is written as [`crate::subject`] does.
    ///
    /// # Errors
    ///
    /// [`Unmapped`], when nobody is meant or it can't be told who.
    pub fn map(&self, subject: &str) -> Result<String, Unmapped> {
        for rule in &self.0 {
            if let Some(name) = rule.apply(subject)? {
                return check(name);
            }
        }
        Err(Unmapped::NoRule)
    }
}

fn check(name: String) -> Result<String, Unmapped> {
    match name {
        name if name.is_empty() => Err(Unmapped::Empty),
        name if name.len() > NAME_LEN_MAX => Err(Unmapped::TooLong),
        name if name.contains(char::is_control) => Err(Unmapped::Control),
        name if is_reserved(&name) => Err(Unmapped::Reserved),
        name => Ok(name),
    }
}

impl Rule {
    /// Reads the rule that `text` begins with; also what is behind it.
    fn parse(text: &str) -> Result<(Self, &str), RulesError> {
        let no_rule = || RulesError::NotARule(text.to_owned());
        if let Some(rest) = text.strip_prefix("DEFAULT") {
            return Ok((Self::Default, rest));
        }
        let rest = text.strip_prefix("RULE:").ok_or_else(no_rule)?;
        let (pattern, rest) = to_slash(rest).ok_or_else(no_rule)?;
        let (replacement, rest) = to_slash(rest).ok_or_else(no_rule)?;
        let (case, rest) = match rest.strip_prefix('L') {
            Some(rest) => (Case::Lower, rest),
            None => match rest.strip_prefix('U') {
                Some(rest) => (Case::Upper, rest),
                None => (Case::AsItIs, rest),
            },
        };
        let pattern = compile(pattern)?;
        let replacement = pieces(replacement, pattern.captures_len() - 1)?;
        Ok((Self::Rewrite { pattern, replacement, case }, rest))
    }

    fn apply(&self, subject: &str) -> Result<Option<String>, Unmapped> {
        let Self::Rewrite { pattern, replacement, case } = self else {
            return Ok(Some(subject.to_owned()));
        };
        let Some(found) = pattern.captures(subject) else { return Ok(None) };
        let mut name = String::new();
        for piece in replacement {
            match piece {
                Piece::Text(text) => name.push_str(text),
                Piece::Group(group) => {
                    let part = found.get(*group).map_or("", |part| part.as_str());
                    if is_torn(part) {
                        return Err(Unmapped::Torn);
                    }
                    name.push_str(part);
                }
            }
        }
        let cased = match case {
            Case::AsItIs => return Ok(Some(name)),
            Case::Lower => name.to_lowercase(),
            Case::Upper => name.to_uppercase(),
        };
        let of_ascii = |text: &str| text.bytes().filter(u8::is_ascii).count();
        if of_ascii(&cased) == of_ascii(&name) { Ok(Some(cased)) } else { Err(Unmapped::Lookalike) }
    }
}

/// Whether what `part` ends with is a backslash that escapes something behind it.
fn is_torn(part: &str) -> bool {
    let before = part.trim_end_matches('\\');
    (part.len() - before.len()) % 2 == 1
}

/// What stands before the first slash that has no backslash before it, and what comes after.
fn to_slash(text: &str) -> Option<(&str, &str)> {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '/' => return Some((text.get(..at)?, text.get(at + 1..)?)),
            _ => {}
        }
    }
    None
}

/// The pattern, such that it matches all of a text or none of it.
fn compile(pattern: &str) -> Result<Regex, RulesError> {
    let error = |error: regex::Error| RulesError::Pattern {
        pattern: pattern.to_owned(),
        why: error.to_string(),
    };
    // By itself first: `a)|(b` becomes a whole expression only by what is put around it.
    Regex::new(pattern).map_err(error)?;
    Regex::new(&format!(r"\A(?:{pattern})\z")).map_err(error)
}

/// A replacement for a pattern with so many groups. A number of which only the first digits are a group's
/// means that group, as in Java; one without any means itself, as with Apache Kafka.
fn pieces(text: &str, groups: usize) -> Result<Vec<Piece>, RulesError> {
    let bad = || RulesError::Replacement(text.to_owned());
    let mut pieces = vec![Piece::Text(String::new())];
    let mut push = |piece: Piece| match (piece, pieces.last_mut()) {
        (Piece::Text(more), Some(Piece::Text(text))) => text.push_str(&more),
        (piece, _) => pieces.push(piece),
    };
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => push(Piece::Text(chars.next().ok_or_else(bad)?.to_string())),
            '$' => {
                let digit = |c: Option<&char>| c.and_then(|c| c.to_digit(10));
                let mut group = digit(chars.peek()).ok_or_else(bad)? as usize;
                chars.next();
                if group > groups {
                    if groups == 0 {
                        return Err(bad());
                    }
                    push(Piece::Text(format!("${group}")));
                    continue;
                }
                while let Some(next) = digit(chars.peek()) {
                    let longer = group * 10 + next as usize;
                    if longer > groups {
                        break;
                    }
                    group = longer;
                    chars.next();
                }
                push(Piece::Group(group));
            }
            c => push(Piece::Text(c.to_string())),
        }
    }
    Ok(pieces)
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rules({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rules(text: &str) -> Rules {
        Rules::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn subjects_become_users() {
        #[track_caller]
        fn check(text: &str, subject: &str, expected: Result<&str, Unmapped>) {
            let mapped = rules(text).map(subject);
            assert_eq!(mapped.as_deref().map_err(|error| *error), expected, "{text}: {subject}");
        }
        let several = "RULE:^CN=(.*?),OU=ServiceUsers.*$/$1/L, \
                       RULE:^CN=(.*?),OU=(.*?),O=(.*?),L=(.*?),ST=(.*?),C=(.*?)$/$1@$2/L,\
                       RULE:^cn=(.*?),ou=(.*?),dc=(.*?),dc=(.*?)$/$1@$2/U,\
                       RULE:^.*[Cc][Nn]=([a-zA-Z0-9.]*).*$/$1/U, DEFAULT";
        check(several, "CN=Mia,OU=ServiceUsers,O=Org,C=US", Ok("mia"));
        check(several, "CN=Mia,OU=Mill,O=Org,L=Ulm,ST=BW,C=DE", Ok("mia@mill"));
        check(several, "cn=mia,ou=mill,dc=example,dc=org", Ok("MIA@MILL"));
        check(several, "cN=mia,OU=Mill,O=Org", Ok("MIA"));
        check(several, "OU=Mill,O=Org,C=DE", Ok("OU=Mill,O=Org,C=DE"));
        // None matches, and nobody is meant.
        check("", "CN=mia", Err(Unmapped::NoRule));
        check("RULE:CN=(.*),O=.*/$1/", "CN=mia", Err(Unmapped::NoRule));
        // The first that matches decides.
        check("RULE:CN=mia/one/,RULE:CN=mia/two/", "CN=mia", Ok("one"));
        check("DEFAULT,RULE:CN=mia/two/", "CN=mia", Ok("CN=mia"));
        // Group 12 of one is group 1 and a 2; one that there is not means itself.
        check("RULE:CN=(.*)/$12/", "CN=mia", Ok("mia2"));
        check("RULE:CN=(.*)/$1@$4/", "CN=mia", Ok("mia@$4"));
        check("RULE:CN=(.*)/$0/", "CN=mia", Ok("CN=mia"));
        check(r"RULE:CN=(.*)/\$1\/$1/", "CN=mia", Ok("$1/mia"));
        check(r"RULE:CN=a\/(.*)/$1/", "CN=a/mia", Ok("mia"));
        check("RULE:CN=(mia)(,.*)?/$1$2/", "CN=mia", Ok("mia"));
    }

    /// A user must not become another by what stands in a certificate that a trusted authority gave to
    /// somebody else.
    #[test]
    fn nobody_becomes_somebody_else() {
        #[track_caller]
        fn check(text: &str, subject: &str, expected: Result<&str, Unmapped>) {
            let mapped = rules(text).map(subject);
            assert_eq!(mapped.as_deref().map_err(|error| *error), expected, "{text}: {subject}");
        }
        let lazy = "RULE:^CN=(.*?),OU=admins.*$/$1/,DEFAULT";
        // Called `root,OU=admins`, of the organisational unit `guests`.
        let forged = r"CN=root\,OU\=admins,OU=guests";
        check(lazy, forged, Ok(forged));
        check("RULE:CN=(.*?),.*/$1/,DEFAULT", forged, Err(Unmapped::Torn));
        check("RULE:CN=(.*?),.*/$1/,DEFAULT", r"CN=root\\,OU=guests", Ok(r"root\\"));
        // A pattern that is not anchored has to match everything all the same.
        check("RULE:CN=root/root/", "CN=rootless", Err(Unmapped::NoRule));
        check("RULE:CN=root/root/", "OU=x,CN=root", Err(Unmapped::NoRule));
        check("RULE:CN=root|CN=eve/root/", "CN=eve,OU=x", Err(Unmapped::NoRule));
        check("RULE:CN=root/root/", "CN=root\nCN=eve", Err(Unmapped::NoRule));
        check("RULE:(?m)^CN=root$/root/", "CN=root\nCN=eve", Err(Unmapped::NoRule));
        // What replaces is everything, not the first part that matches.
        check("RULE:CN=([a-z]*?)(,.*)?/$1/", "CN=eve,OU=root", Ok("eve"));
        for (subject, why) in [
            ("CN=", Unmapped::Empty),
            ("CN=root\n", Unmapped::Control),
            ("CN=root\u{0}", Unmapped::Control),
            // Whoever is called so is not nobody in particular, and not everybody.
            ("CN=ANONYMOUS", Unmapped::Reserved),
            ("CN=*", Unmapped::Reserved),
        ] {
            check("RULE:(?s)CN=(.*)/$1/", subject, Err(why));
        }
        let long = format!("CN={}", "a".repeat(NAME_LEN_MAX + 1));
        check("RULE:CN=(.*)/$1/", &long, Err(Unmapped::TooLong));
        check("DEFAULT", "", Err(Unmapped::Empty));
        check("DEFAULT", "CN=ANONYMOUS", Ok("CN=ANONYMOUS"));
        check("RULE:CN=(.*)/$1/U", "CN=anonymous", Err(Unmapped::Reserved));
        check("RULE:CN=(.*)/$1/L", "CN=JÖRG", Ok("jörg"));
        for (rule, subject) in [
            ("RULE:CN=(.*)/$1/L", "CN=\u{212a}ate"),
            ("RULE:CN=(.*)/$1/U", "CN=\u{17f}am"),
            ("RULE:CN=(.*)/$1/U", "CN=Groß"),
        ] {
            check(rule, subject, Err(Unmapped::Lookalike));
        }
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for text in [
            "default",
            "DEFAUL",
            "DEFAULT/L",
            "DEFAULT RULE:a/b/",
            "DEFAULTS",
            "RULE:CN=(.*)/$1",
            "rule:CN=(.*)/$1/",
            "RULE:CN=(.*)/$1/L/U",
            "RULE:CN=(.*)/$1/LU",
            "RULE:CN=(.*)/L",
            r"RULE:CN=(.*)\/$1/",
            "RULE:a",
            "DEFAULT;DEFAULT",
        ] {
            let refused = Rules::parse(text);
            assert!(matches!(refused, Err(RulesError::NotARule(_))), "{text}: {refused:?}");
        }
        for text in
            ["RULE:(/x/", "RULE:a)|(b/x/", "RULE:(?=a)a/x/", r"RULE:(a)\1/x/", "RULE:(?x)a #/x/"]
        {
            let refused = Rules::parse(text);
            assert!(matches!(refused, Err(RulesError::Pattern { .. })), "{text}: {refused:?}");
        }
        for text in
            ["RULE:a/$1/", "RULE:(a)/$/", "RULE:(a)/$x/", "RULE:(a)/${1}/", r"RULE:(a)/b\\\/"]
        {
            let refused = Rules::parse(text);
            let expected =
                matches!(refused, Err(RulesError::Replacement(_) | RulesError::NotARule(_)));
            assert!(expected, "{text}: {refused:?}");
        }
    }

    #[test]
    fn blanks_and_commas_between_rules_do_not_count() {
        for (text, count) in [
            ("", 0),
            (" , ,, ", 0),
            ("DEFAULT", 1),
            ("  RULE:a/b/U  ,  DEFAULT , ", 2),
            ("RULE:a,b/c,d/,DEFAULT", 2),
            ("RULE:RULE:a,DEFAULT/b/,RULE:,/,/", 2),
        ] {
            assert_eq!(rules(text).0.len(), count, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(DEFAULT|RULE:|[a-c$/\\\\(),. LU0-9*?^|])*", subject in "[ -~]{0,40}") {
            if let Ok(rules) = Rules::parse(&text)
                && let Ok(name) = rules.map(&subject)
            {
                prop_assert!(!name.is_empty() && name.len() <= NAME_LEN_MAX);
            }
        }

        /// The form of rule that the documentation recommends never takes a part of a value for all of it.
        #[test]
        fn the_recommended_rule_gives_whole_values(name in "[ -~]{1,20}", unit in "[ -~]{1,20}") {
            let written = |text: &str| text.replace(['\\', ',', '=', '+', '<', '>', '#', ';', '"'], "\\.");
            let rules = rules(r"RULE:^CN=([^,\\]+),OU=[^,\\]+$/$1/");
            let subject = format!("CN={},OU={}", written(&name), written(&unit));
            match rules.map(&subject) {
                Ok(mapped) => prop_assert_eq!(mapped, name),
                Err(Unmapped::Reserved) => prop_assert!(is_reserved(&name)),
                Err(why) => prop_assert_eq!(why, Unmapped::NoRule),
            }
        }
    }
}
