//! The client's side of a login.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use subtle::ConstantTimeEq as _;

use crate::exchange::Nonce;
use crate::{Derivation, ITERATIONS_MIN, Mechanism};

/// The most rounds that a client hashes its password with because a server says so. Apache Kafka asks for
/// 16,384 at most.
const ITERATIONS_OF_SERVERS_MAX: u32 = 1_000_000;

/// Why a client does not trust a server, or can't understand it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// It is no message of the mechanism.
    #[error("the server's answer is not a message of this mechanism")]
    Malformed,
    /// The server answers somebody else.
    #[error("the server's answer belongs to another login")]
    Nonce,
    /// So few rounds that the password could be guessed, or so many that it would take hours.
    #[error("the server wants the password hashed {0} times, which is too little or too much")]
    Iterations(u32),
    /// It does not know what belongs to the password.
    #[error("the server does not prove that it knows the user: it may not be what it says it is")]
    Proof,
}

/// A client that logs in.
pub struct ClientExchange {
    mechanism: Mechanism,
    user: String,
    password: String,
    /// Whether these are id and HMAC of a delegation token.
    by_token: bool,
    /// What it adds to make the exchange its own.
    nonce: String,
    state: State,
}

enum State {
    /// Nothing was answered.
    Begun,
    /// The server must prove itself by this.
    Proven(Vec<u8>),
    /// All is said.
    Over,
}

impl ClientExchange {
    /// Begins to log `user` in. For OAUTHBEARER the password is the token, and without a user its own counts.
    #[must_use]
    pub fn new(mechanism: Mechanism, user: &str, password: &str, nonce: Nonce) -> Self {
        let (user, password) = (user.to_owned(), password.to_owned());
        let (by_token, nonce) = (false, BASE64.encode(nonce.0));
        Self { mechanism, user, password, by_token, nonce, state: State::Begun }
    }

    /// The same by a delegation token: the user is its id, and the password its HMAC in base64 (KIP-48). Only
    /// SCRAM knows such logins.
    #[must_use]
    pub fn by_token(mut self) -> Self {
        self.by_token = true;
        self
    }

    /// The mechanism.
    #[must_use]
    pub const fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// What to send first.
    #[must_use]
    pub fn first(&self) -> Vec<u8> {
        match self.mechanism {
            Mechanism::Plain => format!("\0{}\0{}", self.user, self.password).into_bytes(),
            Mechanism::Scram(_) => format!("n,,{}", self.bare()).into_bytes(),
            Mechanism::OauthBearer => {
                let act_as = match self.user.as_str() {
                    "" => String::new(),
                    user => format!("a={}", escaped(user)),
                };
                format!("n,{act_as},\u{1}auth=Bearer {}\u{1}\u{1}", self.password).into_bytes()
            }
        }
    }

    fn bare(&self) -> String {
        let token = if self.by_token { ",tokenauth=true" } else { "" };
        format!("n={},r={}{token}", escaped(&self.user), self.nonce)
    }

    /// Takes the server's answer. What to send next; `None` when all is said.
    ///
    /// # Errors
    ///
    /// When the server is not to be trusted: no login then.
    pub fn answer(&mut self, answer: &[u8]) -> Result<Option<Vec<u8>>, Distrust> {
        match (std::mem::replace(&mut self.state, State::Over), self.mechanism) {
            (State::Begun, Mechanism::Plain) => Ok(None),
            (State::Begun, Mechanism::Scram(hash)) => self.prove(hash, answer).map(Some),
            (State::Begun, Mechanism::OauthBearer) if answer.is_empty() => Ok(None),
            // The token is no good. The server says why when it has heard that this was understood.
            (State::Begun, Mechanism::OauthBearer) => Ok(Some(vec![1])),
            (State::Proven(expected), _) => {
                let said = answer.strip_prefix(b"v=").ok_or(Distrust::Malformed)?;
                let said = said.split(|byte| *byte == b',').next().unwrap_or_default();
                let said = BASE64.decode(said).map_err(|_| Distrust::Malformed)?;
                if said.ct_eq(&expected).into() { Ok(None) } else { Err(Distrust::Proof) }
            }
            (State::Over, _) => Err(Distrust::Malformed),
        }
    }

    fn prove(&mut self, hash: crate::Hash, server_first: &[u8]) -> Result<Vec<u8>, Distrust> {
        let text = std::str::from_utf8(server_first).map_err(|_| Distrust::Malformed)?;
        let mut parts = text.split(',');
        let mut part = |prefix| {
            let part: Option<&str> = parts.next();
            part.and_then(|part| part.strip_prefix(prefix)).ok_or(Distrust::Malformed)
        };
        let nonce = part("r=")?;
        if nonce.len() <= self.nonce.len() || !nonce.starts_with(&self.nonce) {
            return Err(Distrust::Nonce);
        }
        let salt = BASE64.decode(part("s=")?).map_err(|_| Distrust::Malformed)?;
        let iterations = part("i=")?.parse().map_err(|_| Distrust::Malformed)?;
        if !(ITERATIONS_MIN..=ITERATIONS_OF_SERVERS_MAX).contains(&iterations) {
            return Err(Distrust::Iterations(iterations));
        }
        let salted = Derivation::new(hash, self.password.as_bytes(), &salt, iterations).finish();
        let without_proof = format!("c={},r={nonce}", BASE64.encode("n,,"));
        let said = format!("{},{text},{without_proof}", self.bare());
        let client_key = hash.hmac(&salted, &[b"Client Key"]);
        let signature = hash.hmac(&hash.digest(&client_key), &[said.as_bytes()]);
        let proof: Vec<u8> =
            client_key.iter().zip(&signature).map(|(key, signature)| key ^ signature).collect();
        let server_key = hash.hmac(&salted, &[b"Server Key"]);
        self.state = State::Proven(hash.hmac(&server_key, &[said.as_bytes()]));
        Ok(format!("{without_proof},p={}", BASE64.encode(proof)).into_bytes())
    }
}

/// A name as these mechanisms write it.
fn escaped(name: &str) -> String {
    name.replace('=', "=3D").replace(',', "=2C")
}

impl std::fmt::Debug for ClientExchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientExchange")
            .field("mechanism", &self.mechanism)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}
