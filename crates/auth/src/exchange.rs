//! One login by one mechanism.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use millstream_types::Principal;

use crate::password::PasswordCheck;
use crate::scram::{Challenge, Final, First};
use crate::{Credential, Hash, Mechanism, plain};

/// Who there is. Asked only for what a login needs.
pub trait Users {
    /// What is kept of the password of `user`; of one that there is not, what looks the same and stays the
    /// same ([`Credential::decoy`]).
    fn credential(&self, user: &str, hash: Hash) -> Credential;

    /// That by which a password is checked that is said, and its hash function; the same goes for a user
    /// that there is not.
    fn any_credential(&self, user: &str) -> (Hash, Credential);
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
    /// A delegation token.
    #[error("delegation tokens are not offered")]
    DelegationToken,
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
    /// The client is who it says, and is to be sent this.
    Done(Principal, Vec<u8>),
    /// Work that takes a while says whether the client is who it says.
    Check(Box<PasswordCheck>),
    /// The client is refused. Nothing further of it counts.
    Refused(Refused),
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
                let said = plain::parse(message)?;
                let (hash, credential) = users.any_credential(said.user);
                let password = said.password.as_bytes();
                let check = PasswordCheck::new(said.user, password, hash, credential);
                Ok(Step::Check(Box::new(check)))
            }
            (State::First(nonce), Mechanism::Scram(hash)) => {
                let first = First::parse(message)?;
                let credential = users.credential(&first.user, hash);
                let (challenge, answer) =
                    Challenge::new(hash, &first, credential, &BASE64.encode(nonce.0));
                self.state = State::Proof(Box::new(challenge));
                Ok(Step::Challenge(answer))
            }
            (State::Proof(challenge), _) => {
                let (user, answer) = challenge.verify(&Final::parse(message)?)?;
                Ok(Step::Done(user, answer))
            }
            (State::Over, _) => Err(Refused::Over),
        }
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nonce")
    }
}
