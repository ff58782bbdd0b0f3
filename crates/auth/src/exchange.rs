//! One login by one mechanism.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use millstream_types::Principal;

use crate::bearer::{self, BearerToken};
use crate::password::PasswordCheck;
use crate::scram::{Challenge, Final, First, Whose};
use crate::{BadToken, Credential, Hash, Mechanism, Verified, connection_string, plain};

/// Who there is. Asked only for what a login needs.
pub trait Users {
    /// What is kept of the password of `user`; of one that there is not, what looks the same and stays the
    /// same ([`Credential::decoy`]).
    fn credential(&self, user: &str, hash: Hash) -> Credential;

    /// That by which a password is checked that is said, and its hash function; the same goes for a user
    /// that there is not.
    fn any_credential(&self, user: &str) -> (Hash, Credential);

    /// What is kept for logins by the delegation token of that id, and whom it stands for; for one that there is
    /// not, what looks the same, and nobody.
    fn token(&self, id: &str, hash: Hash) -> (Credential, Option<TokenOwner>) {
        (self.credential(id, hash), None)
    }

    /// Whether somebody who calls himself `$ConnectionString` says name and password in a connection string
    /// (`millstream.sasl.plain.connection.strings`).
    fn takes_connection_strings(&self) -> bool {
        false
    }
}

/// Whom a delegation token stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenOwner {
    /// The user.
    pub user: Principal,
    /// For how long from now.
    pub lifetime: Duration,
}

/// What a server adds to make an exchange its own: random, and never used twice.
#[derive(Clone, Copy)]
pub struct Nonce(pub [u8; 24]);

/// Why somebody is not let in. Says nothing that only a user may know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is no message of the mechanism.
    #[error("it is not a message of this mechanism")]
    Malformed,
    /// There is no such user, or the password is not his.
    #[error("the name or the password is wrong")]
    Credentials,
    /// A user that wants to act as another.
    #[error("the authorization id is not the name of the user: nobody can act as somebody else")]
    OtherIdentity,
    /// The client wants the login to be bound to the channel below, or speaks of another one in its last
    /// message than in its first: somebody in between may have changed it.
    #[error("channel binding is not offered, or was said differently before")]
    ChannelBinding,
    /// A proof that belongs to another exchange: it may have been overheard.
    #[error("the proof belongs to another login")]
    Nonce,
    /// A token of an issuer that is no good.
    #[error(transparent)]
    Token(#[from] BadToken),
    /// The exchange is over.
    #[error("this login is over: begin another")]
    Over,
    /// Somebody else, on a connection that is a user's already (KIP-368).
    #[error("a connection stays that of the user and the mechanism that it was opened by")]
    Changed,
}

/// What a message leads to.
#[derive(Debug)]
pub enum Step {
    /// This is to be sent, and another message awaited.
    Challenge(Vec<u8>),
    /// The client is who it says.
    Done(Proven),
    /// Work that takes a while says whether the client is who it says.
    Check(Box<PasswordCheck>),
    /// Whether the client is who it says depends on this token: [`Exchange::verified`] is to be told.
    Verify(BearerToken),
    /// The client is refused, and is to be sent this. It says that it has heard so, and is told why.
    Fault(&'static [u8]),
    /// The client is refused. Nothing further of it counts.
    Refused(Refused),
}

/// Who a client has proven to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// The user.
    pub user: Principal,
    /// What the client is to be sent.
    pub answer: Vec<u8>,
    /// For how long what it has shown is valid, if not for ever.
    pub lifetime: Option<Duration>,
    /// Whether it has proven that by a delegation token, which can't be used to get others.
    pub by_token: bool,
}

impl Proven {
    /// A user himself, for good, to whom nothing more is to be said.
    pub(crate) const fn of(user: Principal) -> Self {
        Self { user, answer: Vec::new(), lifetime: None, by_token: false }
    }
}

/// A login that has begun.
#[derive(Debug)]
pub struct Exchange {
    mechanism: Mechanism,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The first message is awaited.
    First(Nonce),
    /// The last message of SCRAM is awaited.
    Proof(Box<Challenge>),
    /// What a token is worth is awaited; the client wants to act as this user.
    Token(Option<String>),
    /// That the client has understood that its token is no good is awaited.
    Fault(BadToken),
    /// None is.
    Over,
}

impl Exchange {
    /// Begins one.
    #[must_use]
    pub const fn new(mechanism: Mechanism, nonce: Nonce) -> Self {
        Self { mechanism, state: State::First(nonce) }
    }

    /// The mechanism.
    #[must_use]
    pub const fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// Takes the client's next message.
    pub fn step(&mut self, message: &[u8], users: &impl Users) -> Step {
        let state = std::mem::replace(&mut self.state, State::Over);
        self.take(state, message, users).unwrap_or_else(Step::Refused)
    }

    fn take(&mut self, state: State, message: &[u8], users: &impl Users) -> Result<Step, Refused> {
        match (state, self.mechanism) {
            (State::First(_), Mechanism::Plain) => {
                let mut said = plain::parse(message)?;
                if said.user == connection_string::USER && users.takes_connection_strings() {
                    said = connection_string::parse(said.password)?;
                }
                let check = PasswordCheck::of(said.user, said.password, users);
                Ok(Step::Check(Box::new(check)))
            }
            (State::First(nonce), Mechanism::Scram(hash)) => {
                let first = First::parse(message)?;
                let known = if first.by_token {
                    let (credential, owner) = users.token(&first.user, hash);
                    (credential, Whose::Token(owner))
                } else {
                    let user = Principal::user(first.user.as_ref());
                    (users.credential(&first.user, hash), Whose::User(user))
                };
                let (challenge, answer) =
                    Challenge::new(hash, &first, known, &BASE64.encode(nonce.0));
                self.state = State::Proof(Box::new(challenge));
                Ok(Step::Challenge(answer))
            }
            (State::First(_), Mechanism::OauthBearer) => {
                let said = bearer::parse(message)?;
                self.state = State::Token(said.act_as);
                Ok(Step::Verify(said.token))
            }
            (State::Fault(why), _) => Err(Refused::Token(why)),
            (State::Proof(challenge), _) => {
                Ok(Step::Done(challenge.verify(&Final::parse(message)?)?))
            }
            (State::Token(_) | State::Over, _) => Err(Refused::Over),
        }
    }

    /// What the token has come to that [`Step::Verify`] asked about.
    pub fn verified(&mut self, outcome: Result<Verified, BadToken>) -> Step {
        match (std::mem::replace(&mut self.state, State::Over), outcome) {
            (State::Token(Some(name)), Ok(verified)) if name != verified.user.name() => {
                Step::Refused(Refused::OtherIdentity)
            }
            (State::Token(_), Ok(Verified { user, lifetime })) => {
                Step::Done(Proven { lifetime: Some(lifetime), ..Proven::of(user) })
            }
            (State::Token(_), Err(why)) => {
                self.state = State::Fault(why);
                Step::Fault(bearer::INVALID_TOKEN)
            }
            _ => Step::Refused(Refused::Over),
        }
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nonce")
    }
}
