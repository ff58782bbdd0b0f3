//! Fuzz target: the state of a connection before it is authenticated, and after.
//!
//! `cargo test` runs it briefly; `cargo xtask test --long` for minutes (CONTRIBUTING.md).

#![expect(clippy::panic, reason = "helpers of tests fail by panicking")]

mod users;

use std::time::Duration;

use bolero::check;
use millstream_auth::{
    Ask, BadToken, ClientExchange, Exchange, Expected, Gate, Hash, Jwt, KeySet, Mechanism, Nonce,
    Step, TokenStep, Verified,
};
use millstream_types::{Monotonic, Principal, Timestamp};
use proptest::prelude::*;
use users::{Known, NAMES, PASSWORD};

/// What a client does next: a kind, numbers that say more, and bytes of its own.
type Move = (u8, u8, u8, Vec<u8>);

/// One client that keeps its side of a login, and does not have to.
struct World {
    users: Known,
    gate: Gate,
    now: Monotonic,
    client: Option<ClientExchange>,
    /// Whom a good token stands for.
    name: &'static str,
    /// What the client would say next, if it were honest, and whether its password is right.
    next: Vec<u8>,
    honest: bool,
    /// Who has logged in, by which mechanism, until when. This is the model.
    session: Option<(Principal, Mechanism, Monotonic)>,
    shut: bool,
}

const LIFETIME: Duration = Duration::from_secs(60);
/// For how long a token is valid.
const TOKEN_LIFETIME: Duration = Duration::from_secs(30);

impl World {
    fn new() -> Self {
        let now = Monotonic(1_000_000_000);
        Self {
            users: Known::new(),
            gate: Gate::new(now, Some(LIFETIME)),
            now,
            client: None,
            name: "",
            next: Vec::new(),
            honest: false,
            session: None,
            shut: false,
        }
    }

    fn handshake(&mut self, which: u8, who: u8) {
        let mechanism = Mechanism::ALL.get(usize::from(which % 5)).copied();
        let begun = self.gate.handshake(mechanism, which < 128, Nonce([which; 24]), self.now);
        if let (Ok(()), Some(mechanism)) = (begun, mechanism) {
            let name = NAMES[usize::from(who % 3)];
            self.name = name;
            self.honest = who < 200;
            let password = if self.honest { PASSWORD } else { "wrong" };
            let client = ClientExchange::new(mechanism, name, password, Nonce([who; 24]));
            self.next = client.first();
            self.client = Some(client);
        }
    }

    fn token(&mut self, token: &[u8]) {
        let step = match self.gate.token(token, &self.users, self.now) {
            TokenStep::Check(mut check) => {
                let outcome = check.advance(u32::MAX).expect("all rounds are done");
                self.gate.checked(outcome, self.now)
            }
            TokenStep::Verify(token) => {
                let is_good = token.text() == PASSWORD;
                let verified =
                    Verified { user: Principal::user(self.name), lifetime: TOKEN_LIFETIME };
                let outcome = if is_good { Ok(verified) } else { Err(BadToken::Signature) };
                self.gate.verified(outcome, self.now)
            }
            step => step,
        };
        match step {
            TokenStep::Challenge(answer) => self.answer(&answer),
            TokenStep::Fault(answer) => self.answer(answer),
            TokenStep::Done(login) => {
                assert!(self.honest, "a wrong password");
                let mechanism = self.client.as_ref().map(ClientExchange::mechanism);
                let mechanism = mechanism.expect("it has begun");
                let lifetime = match mechanism {
                    // What is around a token can be written in several ways.
                    Mechanism::OauthBearer => TOKEN_LIFETIME,
                    _ => {
                        assert_eq!(token, self.next, "what was said is no proof");
                        LIFETIME
                    }
                };
                assert_eq!(login.lifetime, Some(lifetime));
                if let Some((user, by, _)) = &self.session {
                    assert_eq!((user, *by), (&login.user, mechanism), "somebody else's");
                }
                self.session = Some((login.user, mechanism, self.now.plus(lifetime)));
            }
            TokenStep::Check(_) | TokenStep::Verify(_) => panic!("it was checked"),
            TokenStep::Refused(_) | TokenStep::Unexpected => {}
        }
    }

    fn answer(&mut self, answer: &[u8]) {
        let answered = self.client.as_mut().map(|client| client.answer(answer));
        self.next = answered.and_then(Result::ok).flatten().unwrap_or_default();
    }

    fn play(&mut self, (kind, a, b, bytes): &Move) {
        match kind % 8 {
            0 | 1 => self.handshake(*a, *b),
            2..=4 => {
                let next = self.next.clone();
                self.token(&next);
            }
            5 => self.token(bytes),
            6 => {
                let mut next = self.next.clone();
                if let Some(byte) = next.get_mut(usize::from(*a)) {
                    *byte ^= b | 1;
                }
                next.truncate(usize::from(*a) + usize::from(*b));
                self.token(&next);
            }
            _ => self.now = self.now.plus(Duration::from_millis(u64::from(*a) * 500)),
        }
        self.look();
    }

    fn look(&mut self) {
        let admitted = self.gate.admits(Ask::Other, self.now);
        let valid = self.session.as_ref().is_some_and(|(_, _, until)| self.now <= *until);
        assert!(!admitted || valid, "served without a login");
        let open = self.gate.open_until().is_some_and(|until| self.now <= until);
        assert_eq!(admitted, open);
        let heard = self.gate.admits(Ask::Handshake, self.now);
        assert!(!(self.shut && heard), "who is refused is not heard again");
        self.shut = !heard;
        assert!(!self.shut || !admitted);
        assert_eq!(self.gate.login_until().is_none(), self.session.is_some());
    }
}

#[test]
fn connections_before_their_login() {
    check!().with_type::<Vec<Move>>().with_iterations(300).for_each(|moves| {
        let mut world = World::new();
        // Each login is a thousandth of a second's work.
        moves.iter().take(12).for_each(|one| world.play(one));
    });
}

/// Tokens and key sets, raw, and as JSON with parts of good ones.
#[test]
fn tokens_and_keys_before_they_are_trusted() {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
    const PIECES: [&str; 16] = [
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        r#""alg""#,
        r#""RS256""#,
        r#""kid""#,
        r#""keys""#,
        r#""kty""#,
        r#""exp""#,
        r#""sub""#,
        r#""aud""#,
        "1e9",
        "\\u0000",
    ];
    let expected = Expected {
        issuer: Some("i".to_owned()),
        audiences: vec!["a".to_owned()],
        skew: Duration::from_secs(30),
        subject_claim: "sub".to_owned(),
        scope_claim: "scope".to_owned(),
    };
    check!().with_type::<(Vec<u8>, Vec<u8>)>().with_iterations(1_000).for_each(|(raw, built)| {
        let text: String = built.iter().map(|piece| PIECES[usize::from(piece % 16)]).collect();
        let header = r#"{"alg":"ES256"}"#;
        for bytes in [raw.as_slice(), text.as_bytes()] {
            let _ = KeySet::parse(bytes);
            let part = BASE64.encode(bytes);
            let tokens = [
                String::from_utf8_lossy(bytes).into_owned(),
                format!("{part}.e30.AAAA"),
                format!("{}.{part}.AAAA", BASE64.encode(header)),
            ];
            for token in &tokens {
                let Ok(jwt) = Jwt::parse(token) else { continue };
                let refused = jwt.judge(|_, _| false, &expected, Timestamp(0));
                assert_eq!(refused, Err(BadToken::Signature));
                if let Ok(one) = jwt.judge(|_, _| true, &expected, Timestamp(0)) {
                    assert!(one.lifetime > Duration::ZERO && !one.user.name().is_empty());
                }
            }
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is cut from, added to or changed in a proof makes it none.
    #[test]
    fn a_proof_is_that_or_nothing(cut in 0_usize..200, at in 0_usize..200, flip in 1_u8..=255) {
        let users = Known::new();
        let mechanism = Mechanism::Scram(Hash::Sha512);
        let mut client = ClientExchange::new(mechanism, "alice", PASSWORD, Nonce([1; 24]));
        let mut server = Exchange::new(mechanism, Nonce([2; 24]));
        let Step::Challenge(answer) = server.step(&client.first(), &users) else {
            panic!("no challenge")
        };
        let proof = client.answer(&answer).expect("trusted").expect("a proof");
        let mut changed = proof.clone();
        changed.truncate(cut);
        if let Some(byte) = changed.get_mut(at) {
            *byte ^= flip;
        }
        let accepted = matches!(server.step(&changed, &users), Step::Done(..));
        prop_assert_eq!(accepted, changed == proof);
    }

    /// No bytes from outside do any harm, and none let anybody in.
    #[test]
    fn noise_lets_nobody_in(
        which in 0_usize..4,
        messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..4),
    ) {
        let mut server = Exchange::new(Mechanism::ALL[which], Nonce([2; 24]));
        for message in messages {
            let step = server.step(&message, &Known::new());
            prop_assert!(!matches!(step, Step::Done(..)));
        }
    }
}
