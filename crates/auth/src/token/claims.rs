//! What a token claims, once it is known who says so.

use std::collections::BTreeSet;
use std::time::Duration;

use millstream_types::{Principal, Timestamp};

use super::BadToken;
use crate::json::{Json, Object};

/// The longest name of a user, in bytes.
const NAME_BYTES_MAX: usize = 1_024;

/// The last second that a date may name: in a hundred thousand years or so, far within the numbers that are
/// exact.
const SECOND_MAX: f64 = 1e12;

/// What a token has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Who has made it (`sasl.oauthbearer.expected.issuer`); `None`: anybody whose keys are trusted.
    pub issuer: Option<String>,
    /// For whom it is: for one of these (`sasl.oauthbearer.expected.audience`); none: for anybody.
    pub audiences: Vec<String>,
    /// How much the clocks of issuers may be wrong (`sasl.oauthbearer.clock.skew.seconds`).
    pub skew: Duration,
    /// What says whom it stands for (`sasl.oauthbearer.sub.claim.name`).
    pub subject_claim: String,
    /// What says what it is good for (`sasl.oauthbearer.scope.claim.name`).
    pub scope_claim: String,
}

/// Whom a token stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The user.
    pub user: Principal,
    /// For how long from now.
    pub lifetime: Duration,
}

pub(super) fn judge(
    claims: &Object,
    expected: &Expected,
    now: Timestamp,
) -> Result<Verified, BadToken> {
    let lifetime = lifetime(claims, expected.skew, now)?;
    if let Some(issuer) = &expected.issuer
        && claims.get("iss").and_then(Json::text) != Some(issuer)
    {
        return Err(BadToken::Issuer);
    }
    if !expected.audiences.is_empty() {
        let audiences = claims.get("aud").and_then(Json::texts).unwrap_or_default();
        let is_meant = |audience: &&str| expected.audiences.iter().any(|ours| ours == audience);
        if !audiences.iter().any(is_meant) {
            return Err(BadToken::Audience);
        }
    }
    check_scopes(claims.get(&expected.scope_claim))?;
    let subject = claims.get(&expected.subject_claim).and_then(Json::text);
    let is_name = |name: &&str| {
        (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.contains(char::is_control)
    };
    let subject = subject.filter(is_name).ok_or(BadToken::Subject)?;
    Ok(Verified { user: Principal::user(subject), lifetime })
}

/// For how long the token is valid from `now` on: as long as it says; where that is over and clocks may just
/// differ, as long as they may.
fn lifetime(claims: &Object, skew: Duration, now: Timestamp) -> Result<Duration, BadToken> {
    let date = |name| claims.get(name).map(date).transpose();
    let expires = date("exp")?.ok_or(BadToken::Dates)?;
    let issued = date("iat")?.ok_or(BadToken::Dates)?;
    let begins = date("nbf")?.unwrap_or(issued);
    let skew = i64::try_from(skew.as_millis()).unwrap_or(i64::MAX);
    let now = now.0;
    if now.saturating_sub(skew) >= expires {
        return Err(BadToken::Expired);
    }
    if now.saturating_add(skew) < begins.max(issued) {
        return Err(BadToken::NotYet);
    }
    let until = if now < expires { expires } else { expires.saturating_add(skew) };
    Ok(Duration::from_millis(until.saturating_sub(now).unsigned_abs()))
}

/// A date in milliseconds since 1970: tokens have seconds, with fractions if need be.
fn date(value: &Json) -> Result<i64, BadToken> {
    match value {
        Json::Number(seconds) if (0.0..=SECOND_MAX).contains(seconds) => {
            Ok((seconds * 1_000.0).round() as i64)
        }
        _ => Err(BadToken::Dates),
    }
}

/// Scopes give no rights here; but what is wrong with them shows that something is.
fn check_scopes(scopes: Option<&Json>) -> Result<(), BadToken> {
    let scopes = match scopes {
        None | Some(Json::Null) => return Ok(()),
        Some(scopes) => scopes.texts().ok_or(BadToken::Scope)?,
    };
    let mut seen = BTreeSet::new();
    let is_fine = |scope: &str| !scope.trim().is_empty() && seen.insert(scope.trim().to_owned());
    if scopes.into_iter().all(is_fine) { Ok(()) } else { Err(BadToken::Scope) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    const NOW: i64 = 1_700_000_000;

    fn expected() -> Expected {
        Expected {
            issuer: Some("https://issuer".to_owned()),
            audiences: vec!["kafka".to_owned(), "millstream".to_owned()],
            skew: Duration::from_secs(30),
            subject_claim: "sub".to_owned(),
            scope_claim: "scope".to_owned(),
        }
    }

    /// Claims that are good, and then some; what comes later counts.
    fn claims(besides: &[(&str, &str)]) -> Object {
        let (issued, expires) = ((NOW - 60).to_string(), (NOW + 300).to_string());
        let good = [
            ("iss", r#""https://issuer""#),
            ("aud", r#""kafka""#),
            ("sub", r#""alice""#),
            ("iat", issued.as_str()),
            ("exp", expires.as_str()),
        ];
        let mut claims = Object::new();
        for (name, value) in good.iter().chain(besides) {
            if value.is_empty() {
                claims.remove(*name);
                continue;
            }
            let one = json::object(format!(r#"{{"{name}":{value}}}"#).as_bytes()).expect("JSON");
            claims.extend(one);
        }
        claims
    }

    #[track_caller]
    fn check(besides: &[(&str, &str)], expected_outcome: Result<(&str, u64), BadToken>) {
        let judged = judge(&claims(besides), &expected(), Timestamp(NOW * 1_000));
        let judged = judged.as_ref().map(|one| (one.user.name(), one.lifetime.as_secs()));
        assert_eq!(judged.map_err(|why| *why), expected_outcome, "{besides:?}");
    }

    #[test]
    fn a_token_stands_for_a_user_if_all_is_as_expected() {
        check(&[], Ok(("alice", 300)));
        check(&[("aud", r#"["x","millstream"]"#)], Ok(("alice", 300)));
        check(&[("sub", r#""käthe = x, y""#)], Ok(("käthe = x, y", 300)));
        for (name, value, why) in [
            ("iss", "", BadToken::Issuer),
            ("iss", r#""https://issuer/""#, BadToken::Issuer),
            ("iss", r#"["https://issuer"]"#, BadToken::Issuer),
            ("aud", "", BadToken::Audience),
            ("aud", r#""Kafka""#, BadToken::Audience),
            ("aud", r#""kafka millstream""#, BadToken::Audience),
            ("aud", "[]", BadToken::Audience),
            ("aud", r#"["kafka",1]"#, BadToken::Audience),
            ("aud", r#"{"kafka":1}"#, BadToken::Audience),
            ("sub", "", BadToken::Subject),
            ("sub", r#""""#, BadToken::Subject),
            ("sub", "7", BadToken::Subject),
            ("sub", r#"["alice"]"#, BadToken::Subject),
            ("sub", r#""al\u0000ice""#, BadToken::Subject),
            ("sub", r#""alice\n""#, BadToken::Subject),
        ] {
            check(&[(name, value)], Err(why));
        }
        let name = |length| format!(r#""{}""#, "x".repeat(length));
        check(&[("sub", &name(NAME_BYTES_MAX + 1))], Err(BadToken::Subject));
        assert!(
            judge(&claims(&[("sub", &name(NAME_BYTES_MAX))]), &expected(), Timestamp(NOW * 1_000))
                .is_ok()
        );
    }

    #[test]
    fn scopes_are_texts_of_which_none_stands_twice() {
        for scopes in ["null", r#""a""#, r#""a b""#, "[]", r#"["a","b"]"#] {
            check(&[("scope", scopes)], Ok(("alice", 300)));
        }
        for scopes in
            ["1", "true", r#""""#, r#"" ""#, r#"["a","a"]"#, r#"["a"," a"]"#, r#"["a",1]"#, "{}"]
        {
            check(&[("scope", scopes)], Err(BadToken::Scope));
        }
    }

    #[test]
    fn other_claims_may_say_who_and_for_what() {
        let own = Expected {
            subject_claim: "client_id".to_owned(),
            scope_claim: "scp".to_owned(),
            issuer: None,
            audiences: Vec::new(),
            ..expected()
        };
        let judged =
            |besides: &[(&str, &str)]| judge(&claims(besides), &own, Timestamp(NOW * 1_000));
        let who = judged(&[("client_id", r#""app""#), ("scope", "1"), ("iss", ""), ("aud", "")]);
        assert_eq!(who.expect("good").user, Principal::user("app"));
        assert_eq!(judged(&[]), Err(BadToken::Subject));
        let twice = [("client_id", r#""app""#), ("scp", r#"["a","a"]"#)];
        assert_eq!(judged(&twice), Err(BadToken::Scope));
    }

    /// Seconds from now, with half a minute of skew.
    #[test]
    fn dates_hold_to_the_millisecond_and_the_skew() {
        for (issued, begins, expires, outcome) in [
            (-60.0, None, 300.0, Ok(300_000)),
            (-60.0, None, 0.001, Ok(1)),
            // Over, if only by the clocks: as long as they may differ.
            (-60.0, None, 0.0, Ok(30_000)),
            (-60.0, None, -29.999, Ok(1)),
            (-60.0, None, -30.0, Err(BadToken::Expired)),
            (-60.0, None, -31.0, Err(BadToken::Expired)),
            (30.0, None, 300.0, Ok(300_000)),
            (30.001, None, 300.0, Err(BadToken::NotYet)),
            (-60.0, Some(30.0), 300.0, Ok(300_000)),
            (-60.0, Some(30.001), 300.0, Err(BadToken::NotYet)),
            (30.001, Some(-60.0), 300.0, Err(BadToken::NotYet)),
            (-60.0, Some(-60.0), 300.0, Ok(300_000)),
        ] {
            let at = |seconds: f64| format!("{:.3}", NOW as f64 + seconds);
            let (issued, expires) = (at(issued), at(expires));
            let begins = begins.map_or_else(String::new, at);
            let claims = claims(&[
                ("iat", issued.as_str()),
                ("nbf", begins.as_str()),
                ("exp", expires.as_str()),
            ]);
            let judged = judge(&claims, &expected(), Timestamp(NOW * 1_000));
            let judged = judged.map(|one| one.lifetime.as_millis());
            assert_eq!(judged, outcome, "{issued} {begins} {expires}");
        }
        let exact = Expected { skew: Duration::ZERO, ..expected() };
        for (expires, outcome) in [(1, Ok(1_000)), (0, Err(BadToken::Expired))] {
            let expires = (NOW + expires).to_string();
            let judged = judge(&claims(&[("exp", &expires)]), &exact, Timestamp(NOW * 1_000));
            assert_eq!(judged.map(|one| one.lifetime.as_millis()), outcome);
        }
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for name in ["exp", "iat", "nbf"] {
            for value in [r#""1700000300""#, "-1", "1e13", "1e308", "null", "true", "[]", "{}"] {
                check(&[(name, value)], Err(BadToken::Dates));
            }
        }
        check(&[("exp", "")], Err(BadToken::Dates));
        check(&[("iat", "")], Err(BadToken::Dates));
    }
}
