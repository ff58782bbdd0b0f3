//! Whole logins: both sides of each mechanism, and the life of a connection, with good and bad passwords.

#![expect(clippy::panic, reason = "helpers of tests fail by panicking")]

mod users;

use std::time::Duration;

use millstream_auth::{
    Ask, BadToken, ClientExchange, Distrust, Exchange, Gate, HandshakeRefused, Hash,
    LOGIN_TIME_MAX, Mechanism, Nonce, Refused, Step, TokenStep, Verified,
};
use millstream_types::{Monotonic, Principal};
use users::{Known, PASSWORD, TOKEN_ID, TOKEN_TIME};

const SHA_256: Mechanism = Mechanism::Scram(Hash::Sha256);

fn at(seconds: u64) -> Monotonic {
    Monotonic(1_000_000_000 * seconds)
}

/// Logs in, both sides at once. What the server and the client think of it.
fn log_in(
    mechanism: Mechanism,
    users: &Known,
    user: &str,
    password: &str,
) -> (Result<Principal, Refused>, Result<(), Distrust>) {
    let mut client = ClientExchange::new(mechanism, user, password, Nonce([1; 24]));
    let mut server = Exchange::new(mechanism, Nonce([2; 24]));
    let mut message = client.first();
    loop {
        let answer = match server.step(&message, users) {
            Step::Challenge(answer) => answer,
            Step::Check(mut check) => {
                let outcome = loop {
                    if let Some(outcome) = check.advance(100) {
                        break outcome;
                    }
                };
                return (outcome, client.answer(b"").map(|_| ()));
            }
            Step::Done(proven) => {
                return (Ok(proven.user), client.answer(&proven.answer).map(|_| ()));
            }
            step @ (Step::Verify(_) | Step::Fault(_)) => panic!("no password: {step:?}"),
            Step::Refused(why) => return (Err(why), Ok(())),
        };
        match client.answer(&answer) {
            Ok(Some(next)) => message = next,
            Ok(None) => return (Err(Refused::Over), Ok(())),
            Err(why) => return (Err(Refused::Over), Err(why)),
        }
    }
}

#[test]
fn users_are_let_in_by_their_password_alone() {
    let users = Known::new();
    for mechanism in Mechanism::OF_PASSWORDS {
        for name in ["alice", "a,b=c", "käthe"] {
            let (server, client) = log_in(mechanism, &users, name, PASSWORD);
            assert_eq!((server, client), (Ok(Principal::user(name)), Ok(())), "{mechanism} {name}");
        }
        for (name, password) in [("alice", "wrong"), ("alice", "Password"), ("nobody", PASSWORD)] {
            let (server, _) = log_in(mechanism, &users, name, password);
            assert_eq!(server, Err(Refused::Credentials), "{mechanism} {name} {password}");
        }
    }
}

/// A user that there is not is challenged as one that there is, by the same salt each time.
#[test]
fn it_is_not_told_who_there_is() {
    let users = Known::new();
    let challenge = |name: &str| {
        let mut server = Exchange::new(SHA_256, Nonce([2; 24]));
        match server.step(format!("n,,n={name},r=abc").as_bytes(), &users) {
            Step::Challenge(answer) => String::from_utf8(answer).expect("text"),
            other => panic!("{other:?}"),
        }
    };
    let (alice, nobody) = (challenge("alice"), challenge("nobody"));
    assert_eq!(nobody, challenge("nobody"));
    assert_ne!(nobody, challenge("somebody"));
    assert_eq!(nobody.len(), alice.len());
    let without_salt = |text: &str| {
        let (nonce, rest) = text.split_once(",s=").expect("a salt");
        (nonce.to_owned(), rest.split_once(',').expect("iterations").1.to_owned())
    };
    assert_eq!(without_salt(&nobody), without_salt(&alice));
}

/// What was overheard of one login is of no use in another: the server's part of the nonce differs.
#[test]
fn a_login_can_not_be_replayed() {
    let users = Known::new();
    let mut client = ClientExchange::new(SHA_256, "alice", PASSWORD, Nonce([1; 24]));
    let first = client.first();
    let mut server = Exchange::new(SHA_256, Nonce([2; 24]));
    let Step::Challenge(answer) = server.step(&first, &users) else { panic!("no challenge") };
    let last = client.answer(&answer).expect("trusted").expect("a proof");
    assert!(matches!(server.step(&last, &users), Step::Done(..)));
    assert!(matches!(server.step(&last, &users), Step::Refused(Refused::Over)), "once is enough");
    let mut other = Exchange::new(SHA_256, Nonce([3; 24]));
    assert!(matches!(other.step(&first, &users), Step::Challenge(_)));
    assert!(matches!(other.step(&last, &users), Step::Refused(Refused::Nonce)));
    // And the proof alone, without its beginning.
    let mut fresh = Exchange::new(SHA_256, Nonce([2; 24]));
    assert!(matches!(fresh.step(&last, &users), Step::Refused(Refused::Malformed)));
}

/// A server that does not know the user can't pretend to, nor have a password hashed so little that it could
/// be guessed.
#[test]
fn a_client_is_not_deceived() {
    let begin = || ClientExchange::new(SHA_256, "alice", PASSWORD, Nonce([1; 24]));
    let nonce = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB";
    for (answer, expected) in [
        (format!("r={nonce}x,s=QUJD,i=1"), Distrust::Iterations(1)),
        (format!("r={nonce}x,s=QUJD,i=4000000000"), Distrust::Iterations(4_000_000_000)),
        (format!("r={nonce},s=QUJD,i=4096"), Distrust::Nonce),
        ("r=other,s=QUJD,i=4096".to_owned(), Distrust::Nonce),
        (format!("r={nonce}x,s=!,i=4096"), Distrust::Malformed),
        (format!("r={nonce}x,s=QUJD,i=x"), Distrust::Malformed),
        ("e=other-error".to_owned(), Distrust::Malformed),
    ] {
        assert_eq!(begin().answer(answer.as_bytes()), Err(expected), "{answer}");
    }
    let mut client = begin();
    let proof = client.answer(format!("r={nonce}x,s=QUJD,i=4096").as_bytes());
    assert!(proof.expect("trusted so far").is_some());
    assert_eq!(client.answer(b"v=QUJD"), Err(Distrust::Proof));
}

/// A gate whose client has logged in as `user` at `now`.
fn logged_in(users: &Known, user: &str, lifetime: Option<Duration>) -> Gate {
    let mut gate = Gate::new(at(1), lifetime);
    assert_eq!(gate.handshake(Some(Mechanism::Plain), true, Nonce([2; 24]), at(1)), Ok(()));
    let login = plain(&mut gate, users, user, PASSWORD, at(1));
    let TokenStep::Done(login) = login else { panic!("{login:?}") };
    assert_eq!((login.user, login.lifetime), (Principal::user(user), lifetime));
    gate
}

fn plain(gate: &mut Gate, users: &Known, user: &str, password: &str, now: Monotonic) -> TokenStep {
    match gate.token(format!("\0{user}\0{password}").as_bytes(), users, now) {
        TokenStep::Check(mut check) => {
            let outcome = check.advance(u32::MAX).expect("all rounds are done");
            gate.checked(outcome, now)
        }
        other => other,
    }
}

#[track_caller]
fn check_admitted(gate: &Gate, now: Monotonic, expected: [bool; 4]) {
    let asks = [Ask::ApiVersions, Ask::Handshake, Ask::Authenticate, Ask::Other];
    assert_eq!(asks.map(|ask| gate.admits(ask, now)), expected);
}

#[test]
fn nothing_is_served_before_the_login() {
    let users = Known::new();
    let mut gate = Gate::new(at(1), None);
    check_admitted(&gate, at(1), [true, true, true, false]);
    assert_eq!(gate.login_until(), Some(at(1).plus(LOGIN_TIME_MAX)));
    gate.handshake(Some(Mechanism::Plain), true, Nonce([2; 24]), at(1)).expect("offered");
    check_admitted(&gate, at(1), [false, true, true, false]);
    assert!(matches!(plain(&mut gate, &users, "alice", PASSWORD, at(1)), TokenStep::Done(_)));
    check_admitted(&gate, at(1_000_000), [true; 4]);
    assert_eq!(gate.login_until(), None);
    assert!(matches!(gate.token(b"", &users, at(1)), TokenStep::Unexpected));
    check_admitted(&gate, at(1), [true; 4]);
}

#[test]
fn who_is_refused_is_not_heard_again() {
    let users = Known::new();
    let mut gate = Gate::new(at(1), None);
    gate.handshake(Some(Mechanism::Plain), true, Nonce([2; 24]), at(1)).expect("offered");
    let refused = plain(&mut gate, &users, "alice", "wrong", at(1));
    assert!(matches!(refused, TokenStep::Refused(Refused::Credentials)));
    check_admitted(&gate, at(1), [false; 4]);
    let mechanism = Some(Mechanism::Plain);
    let again = gate.handshake(mechanism, true, Nonce([2; 24]), at(1));
    assert_eq!(again, Err(HandshakeRefused::Midst));
    assert!(matches!(plain(&mut gate, &users, "alice", PASSWORD, at(1)), TokenStep::Unexpected));
    for refused in [None, Some(mechanism)] {
        // A mechanism that there is not; and a handshake in the midst of a login.
        let mut gate = Gate::new(at(1), None);
        if let Some(mechanism) = refused {
            gate.handshake(mechanism, true, Nonce([2; 24]), at(1)).expect("offered");
            gate.handshake(mechanism, true, Nonce([2; 24]), at(1)).expect_err("in the midst");
        } else {
            let refused = gate.handshake(None, true, Nonce([2; 24]), at(1));
            assert_eq!(refused, Err(HandshakeRefused::Mechanism));
        }
        check_admitted(&gate, at(1), [false; 4]);
    }
    // A token before there was a handshake.
    let mut gate = Gate::new(at(1), None);
    assert!(matches!(gate.token(b"", &users, at(1)), TokenStep::Unexpected));
    check_admitted(&gate, at(1), [false; 4]);
}

/// Pitfall 70 (KIP-368).
#[test]
fn a_session_ends_unless_the_same_user_logs_in_again() {
    let users = Known::new();
    let lifetime = Some(Duration::from_secs(60));
    let nonce = Nonce([2; 24]);
    let mut gate = logged_in(&users, "alice", lifetime);
    check_admitted(&gate, at(61), [true; 4]);
    check_admitted(&gate, at(62), [false, true, true, false]);
    // In time.
    assert_eq!(gate.handshake(Some(Mechanism::Plain), true, nonce, at(50)), Ok(()));
    check_admitted(&gate, at(50), [false, true, true, false]);
    assert!(matches!(plain(&mut gate, &users, "alice", PASSWORD, at(50)), TokenStep::Done(_)));
    check_admitted(&gate, at(110), [true; 4]);
    // Not all the time.
    let soon = Monotonic(at(50).0 + 999_999_999);
    let refused = gate.handshake(Some(Mechanism::Plain), true, nonce, soon);
    assert_eq!(refused, Err(HandshakeRefused::NotNow));
    check_admitted(&gate, soon, [true; 4]);
    // Late, which is not too late.
    assert_eq!(gate.handshake(Some(Mechanism::Plain), true, nonce, at(200)), Ok(()));
    assert!(matches!(plain(&mut gate, &users, "alice", PASSWORD, at(200)), TokenStep::Done(_)));
    check_admitted(&gate, at(260), [true; 4]);
}

#[test]
fn a_connection_stays_that_of_its_user_and_mechanism() {
    let users = Known::new();
    let lifetime = Some(Duration::from_secs(60));
    for (mechanism, user, password, expected) in [
        (Mechanism::Plain, "a,b=c", PASSWORD, Refused::Changed),
        (Mechanism::Plain, "alice", "wrong", Refused::Credentials),
        (SHA_256, "alice", PASSWORD, Refused::Changed),
    ] {
        let mut gate = logged_in(&users, "alice", lifetime);
        assert_eq!(gate.handshake(Some(mechanism), true, Nonce([2; 24]), at(50)), Ok(()));
        let refused = plain(&mut gate, &users, user, password, at(50));
        assert!(matches!(refused, TokenStep::Refused(why) if why == expected), "{refused:?}");
        check_admitted(&gate, at(50), [false; 4]);
    }
    // Without an end there is no need to log in again.
    let mut gate = logged_in(&users, "alice", None);
    let refused = gate.handshake(Some(Mechanism::Plain), true, Nonce([2; 24]), at(50));
    assert_eq!(refused, Err(HandshakeRefused::NotNow));
    check_admitted(&gate, at(50), [true; 4]);
}

const TOKEN: &str = "header.payload.signature";

/// Shows a token, and says what it is worth. The client does its part.
fn bearer(
    gate: &mut Gate,
    (act_as, token): (&str, &str),
    worth: Result<Verified, BadToken>,
    now: Monotonic,
) -> TokenStep {
    let users = Known::new();
    let mut client = ClientExchange::new(Mechanism::OauthBearer, act_as, token, Nonce([1; 24]));
    let TokenStep::Verify(shown) = gate.token(&client.first(), &users, now) else {
        panic!("it is to be verified")
    };
    assert_eq!(shown.text(), token);
    match gate.verified(worth, now) {
        TokenStep::Fault(answer) => {
            assert_eq!(answer, br#"{"status":"invalid_token"}"#);
            let last = client.answer(answer).expect("understood").expect("one byte");
            assert_eq!(last, [1]);
            gate.token(&last, &users, now)
        }
        TokenStep::Done(login) => {
            assert_eq!(client.answer(&login.answer), Ok(None));
            TokenStep::Done(login)
        }
        other => other,
    }
}

fn worth(user: &str, seconds: u64) -> Result<Verified, BadToken> {
    Ok(Verified { user: Principal::user(user), lifetime: Duration::from_secs(seconds) })
}

fn begun(lifetime: Option<u64>) -> Gate {
    let mut gate = Gate::new(at(1), lifetime.map(Duration::from_secs));
    gate.handshake(Some(Mechanism::OauthBearer), true, Nonce([2; 24]), at(1)).expect("offered");
    gate
}

/// Whichever ends first: the token or what sessions may last.
#[test]
fn a_session_ends_with_its_token() {
    for (session, token, expected) in [(None, 60, 60), (Some(90), 60, 60), (Some(30), 60, 30)] {
        let mut gate = begun(session);
        let login = bearer(&mut gate, ("", TOKEN), worth("alice", token), at(1));
        let TokenStep::Done(login) = login else { panic!("{login:?}") };
        let lifetime = Some(Duration::from_secs(expected));
        assert_eq!((login.user, login.lifetime), (Principal::user("alice"), lifetime));
        check_admitted(&gate, at(1 + expected), [true; 4]);
        check_admitted(&gate, at(2 + expected), [false, true, true, false]);
    }
}

#[test]
fn a_renewed_token_must_be_the_same_users() {
    let again = |gate: &mut Gate, user: &str, act_as: &str, now| {
        let asked = gate.handshake(Some(Mechanism::OauthBearer), true, Nonce([2; 24]), now);
        asked.expect("it may be renewed");
        bearer(gate, (act_as, TOKEN), worth(user, 60), now)
    };
    let mut gate = begun(None);
    assert!(matches!(
        bearer(&mut gate, ("", TOKEN), worth("alice", 60), at(1)),
        TokenStep::Done(_)
    ));
    assert!(matches!(again(&mut gate, "alice", "alice", at(50)), TokenStep::Done(_)));
    check_admitted(&gate, at(110), [true; 4]);
    // Late, which is not too late; but nobody else.
    assert!(matches!(again(&mut gate, "alice", "", at(120)), TokenStep::Done(_)));
    let refused = again(&mut gate, "bob", "", at(130));
    assert!(matches!(refused, TokenStep::Refused(Refused::Changed)), "{refused:?}");
    check_admitted(&gate, at(130), [false; 4]);
}

/// RFC 7628 section 3.2.3: the client is told in two steps, and nothing of it is heard after that.
#[test]
fn a_token_that_is_no_good_ends_the_connection() {
    let mut gate = begun(None);
    let refused = bearer(&mut gate, ("", TOKEN), Err(BadToken::Expired), at(1));
    let expected = Refused::Token(BadToken::Expired);
    assert!(matches!(refused, TokenStep::Refused(why) if why == expected), "{refused:?}");
    check_admitted(&gate, at(1), [false; 4]);
    // Whatever is said in the second step.
    for second in [&b""[..], b"\x01\x01", b"n,,\x01auth=Bearer x\x01\x01"] {
        let mut gate = begun(None);
        let users = Known::new();
        let first = ClientExchange::new(Mechanism::OauthBearer, "", TOKEN, Nonce([1; 24])).first();
        assert!(matches!(gate.token(&first, &users, at(1)), TokenStep::Verify(_)));
        assert!(matches!(gate.verified(Err(BadToken::Signature), at(1)), TokenStep::Fault(_)));
        check_admitted(&gate, at(1), [false, true, true, false]);
        let refused = gate.token(second, &users, at(1));
        assert!(matches!(refused, TokenStep::Refused(Refused::Token(BadToken::Signature))));
        check_admitted(&gate, at(1), [false; 4]);
    }
    // A good token of somebody else than the client says it is.
    let mut gate = begun(None);
    let refused = bearer(&mut gate, ("bob", TOKEN), worth("alice", 60), at(1));
    assert!(matches!(refused, TokenStep::Refused(Refused::OtherIdentity)), "{refused:?}");
    // What nobody has asked about.
    let mut gate = begun(None);
    assert!(matches!(gate.verified(worth("alice", 60), at(1)), TokenStep::Refused(Refused::Over)));
    check_admitted(&gate, at(1), [false; 4]);
}

/// The habit of Azure Event Hubs, where it is allowed.
#[test]
fn a_connection_string_says_user_and_password() {
    let said = |user: &str, password: &str| {
        format!(
            "Endpoint=sb://a/;SharedAccessKeyName={user};SharedAccessKey={password};EntityPath=x"
        )
    };
    let log_in = |users: &Known, password: &str| {
        log_in(Mechanism::Plain, users, "$ConnectionString", password).0
    };
    let (with, without) = (Known::with_connection_strings(), Known::new());
    assert_eq!(log_in(&with, &said("alice", PASSWORD)), Ok(Principal::user("alice")));
    for (users, password, expected) in [
        (&with, said("alice", "wrong"), Refused::Credentials),
        (&with, said("nobody", PASSWORD), Refused::Credentials),
        (&with, said("$ConnectionString", PASSWORD), Refused::Credentials),
        (&with, PASSWORD.to_owned(), Refused::Malformed),
        (&without, said("alice", PASSWORD), Refused::Credentials),
    ] {
        assert_eq!(log_in(users, &password), Err(expected), "{password}");
    }
}

/// Logs in by SCRAM, as a user or by a delegation token.
fn scram(gate: &mut Gate, name: &str, by_token: bool, now: Monotonic) -> TokenStep {
    let users = Known::new();
    let mut client = ClientExchange::new(SHA_256, name, PASSWORD, Nonce([1; 24]));
    if by_token {
        client = client.by_token();
    }
    let TokenStep::Challenge(answer) = gate.token(&client.first(), &users, now) else {
        panic!("no challenge")
    };
    let last = client.answer(&answer).expect("trusted").expect("a proof");
    let step = gate.token(&last, &users, now);
    if let TokenStep::Done(login) = &step {
        assert_eq!(client.answer(&login.answer), Ok(None));
    }
    step
}

fn handshake(gate: &mut Gate, now: Monotonic) {
    gate.handshake(Some(SHA_256), true, Nonce([2; 24]), now).expect("offered");
}

/// KIP-48: the token's id is no user's name, and the other way round.
#[test]
fn a_delegation_token_stands_for_its_owner_for_a_while() {
    for (name, by_token, expected) in [
        (TOKEN_ID, true, Some((Some(TOKEN_TIME), true))),
        ("alice", false, Some((None, false))),
        ("alice", true, None),
        (TOKEN_ID, false, None),
        ("nobody", true, None),
    ] {
        let mut gate = Gate::new(at(1), None);
        handshake(&mut gate, at(1));
        match (scram(&mut gate, name, by_token, at(1)), expected) {
            (TokenStep::Done(login), Some(expected)) => {
                assert_eq!((login.lifetime, login.by_token), expected);
                assert_eq!(login.user, Principal::user("alice"));
            }
            (TokenStep::Refused(Refused::Credentials), None) => {}
            (other, _) => panic!("{name} {by_token}: {other:?}"),
        }
    }
}

/// What a token may not do, its owner's password does not do for it later, nor a token for what began with that.
#[test]
fn a_session_stays_one_by_a_token_or_not() {
    for begins_by_token in [true, false] {
        for goes_on_by_token in [true, false] {
            let name = |by_token| if by_token { TOKEN_ID } else { "alice" };
            let mut gate = Gate::new(at(1), Some(Duration::from_secs(60)));
            handshake(&mut gate, at(1));
            let begun = scram(&mut gate, name(begins_by_token), begins_by_token, at(1));
            assert!(matches!(begun, TokenStep::Done(_)));
            handshake(&mut gate, at(20));
            let gone_on = scram(&mut gate, name(goes_on_by_token), goes_on_by_token, at(20));
            let is_same = begins_by_token == goes_on_by_token;
            assert_eq!(matches!(gone_on, TokenStep::Done(_)), is_same, "{gone_on:?}");
            check_admitted(&gate, at(20), [is_same; 4]);
        }
    }
}

/// Whoever has a password or a token for nobody in particular, or for everybody, is still not that.
#[test]
fn nobody_logs_in_as_others() {
    for name in ["ANONYMOUS", "*"] {
        let mut gate = Gate::new(at(1), None);
        gate.handshake(Some(Mechanism::Plain), true, Nonce([2; 24]), at(1)).expect("offered");
        let refused = gate.checked(Ok(Principal::user(name)), at(1));
        assert!(matches!(refused, TokenStep::Refused(Refused::Credentials)), "{refused:?}");
        check_admitted(&gate, at(1), [false; 4]);
        let mut gate = begun(None);
        let refused = bearer(&mut gate, ("", TOKEN), worth(name, 60), at(1));
        assert!(matches!(refused, TokenStep::Refused(Refused::Credentials)), "{refused:?}");
    }
}
