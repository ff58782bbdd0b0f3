//! A connection's life with logins: what it may ask before, and for how long after.
//!
//! ```text
//! Handshake --(mechanism)--> Tokens --(proof)--> Open --(another handshake, KIP-368)--> Tokens
//!                               |                  ^                                       |
//!                           (refused)              +------(the same user again)------------+
//!                               v
//!                             Shut
//! ```

use std::time::Duration;

use millstream_types::{Monotonic, Principal, is_reserved};

use crate::bearer::BearerToken;
use crate::exchange::{Exchange, Nonce, Proven, Refused, Step, Users};
use crate::{BadToken, Mechanism, PasswordCheck, Verified};

/// How long a connection may take until its first login has succeeded. Nobody needs as long, and whoever
/// does not log in takes the place of somebody who would.
pub const LOGIN_TIME_MAX: Duration = Duration::from_secs(30);

/// A connection does not log in again more often, as with Apache Kafka: a login is work.
const LOGIN_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// What can be asked for.
    ApiVersions,
    /// To log in by a mechanism.
    Handshake,
    /// That its next token be taken.
    Authenticate,
    /// Anything else.
    Other,
}

/// Why a client may not log in now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeRefused {
    /// Not by this mechanism. The connection is over.
    Mechanism,
    /// Not in the midst of a login. The connection is over.
    Midst,
    /// It is logged in, and its session does not end, or it has logged in a moment ago.
    NotNow,
}

/// A login that has succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Who it is.
    pub user: Principal,
    /// What the client is to be sent.
    pub answer: Vec<u8>,
    /// For how long it holds, if not for ever.
    pub lifetime: Option<Duration>,
    /// Whether it was by a delegation token.
    pub by_token: bool,
}

/// What a client's token leads to.
#[derive(Debug)]
pub enum TokenStep {
    /// This is to be sent, and another token awaited.
    Challenge(Vec<u8>),
    /// It is logged in.
    Done(Login),
    /// Work is to be done, and its result given to [`Gate::checked`].
    Check(Box<PasswordCheck>),
    /// What this token is worth is to be found out, and given to [`Gate::verified`].
    Verify(BearerToken),
    /// It is refused, and to be sent this; the connection is over after its next token, which tells nothing.
    Fault(&'static [u8]),
    /// It is refused. The connection is over.
    Refused(Refused),
    /// No token was awaited: the connection is over, unless it is logged in.
    Unexpected,
}

/// The state of one connection.
#[derive(Debug)]
pub struct Gate {
    state: State,
    /// Who is or was logged in.
    session: Option<Session>,
    /// How long a login holds (`connections.max.reauth.ms`); `None`: for ever.
    lifetime_max: Option<Duration>,
    /// Until when the first login must have succeeded.
    login_until: Monotonic,
}

#[derive(Debug)]
enum State {
    /// A handshake is awaited.
    Handshake,
    /// Tokens are awaited; `framed`: as requests of their own.
    Tokens { exchange: Exchange, framed: bool },
    /// The session holds.
    Open,
    /// Nothing is heard any more.
    Shut,
}

#[derive(Clone, Debug)]
struct Session {
    user: Principal,
    mechanism: Mechanism,
    /// Whether it was opened by a delegation token.
    by_token: bool,
    /// When the login was begun, if it was one after the first.
    renewed: Option<Monotonic>,
    expires: Option<Monotonic>,
}

impl Gate {
    /// Of a connection that is opened `now`.
    #[must_use]
    pub fn new(now: Monotonic, lifetime_max: Option<Duration>) -> Self {
        let login_until = now.plus(LOGIN_TIME_MAX);
        Self { state: State::Handshake, session: None, lifetime_max, login_until }
    }

    /// Whether a request may be taken. The requests of the login themselves always may: what they are
    /// answered depends on the state.
    #[must_use]
    pub fn admits(&self, ask: Ask, now: Monotonic) -> bool {
        match (&self.state, ask) {
            (State::Shut, _) => false,
            (_, Ask::Handshake | Ask::Authenticate) => true,
            (State::Handshake, Ask::ApiVersions) => true,
            (State::Open, Ask::ApiVersions | Ask::Other) => !self.has_expired(now),
            (State::Handshake | State::Tokens { .. }, Ask::ApiVersions | Ask::Other) => false,
        }
    }

    /// Whether what comes next is a token as it is, without a request around it.
    #[must_use]
    pub const fn takes_bare_tokens(&self) -> bool {
        matches!(self.state, State::Tokens { framed: false, .. })
    }

    /// Until when the connection must be logged in: never, once it is or was.
    #[must_use]
    pub fn login_until(&self) -> Option<Monotonic> {
        self.session.is_none().then_some(self.login_until)
    }

    /// Until when all may be asked, as it is: `None` if it may not.
    #[must_use]
    pub fn open_until(&self) -> Option<Monotonic> {
        match (&self.state, &self.session) {
            (State::Open, Some(session)) => Some(session.expires.unwrap_or(Monotonic(u64::MAX))),
            _ => None,
        }
    }

    /// Begins a login by `mechanism`; `None` for one that is not offered.
    ///
    /// # Errors
    ///
    /// See [`HandshakeRefused`].
    pub fn handshake(
        &mut self,
        mechanism: Option<Mechanism>,
        framed: bool,
        nonce: Nonce,
        now: Monotonic,
    ) -> Result<(), HandshakeRefused> {
        match &self.state {
            State::Handshake => {}
            State::Open => self.renew(now)?,
            State::Tokens { .. } | State::Shut => {
                self.state = State::Shut;
                return Err(HandshakeRefused::Midst);
            }
        }
        let Some(mechanism) = mechanism else {
            self.state = State::Shut;
            return Err(HandshakeRefused::Mechanism);
        };
        self.state = State::Tokens { exchange: Exchange::new(mechanism, nonce), framed };
        Ok(())
    }

    fn renew(&mut self, now: Monotonic) -> Result<(), HandshakeRefused> {
        let session = self.session.as_mut().filter(|session| session.expires.is_some());
        let session = session.ok_or(HandshakeRefused::NotNow)?;
        if session.renewed.is_some_and(|last| now.since(last) < LOGIN_INTERVAL_MIN) {
            return Err(HandshakeRefused::NotNow);
        }
        session.renewed = Some(now);
        Ok(())
    }

    /// Takes a client's token.
    pub fn token(&mut self, token: &[u8], users: &impl Users, now: Monotonic) -> TokenStep {
        let State::Tokens { exchange, .. } = &mut self.state else {
            if !matches!(self.state, State::Open) {
                self.state = State::Shut;
            }
            return TokenStep::Unexpected;
        };
        let mechanism = exchange.mechanism();
        if self.session.as_ref().is_some_and(|session| session.mechanism != mechanism) {
            return self.refuse(Refused::Changed);
        }
        let step = exchange.step(token, users);
        self.follow(step, now)
    }

    /// What the token has come to that [`TokenStep::Verify`] asked about.
    pub fn verified(&mut self, outcome: Result<Verified, BadToken>, now: Monotonic) -> TokenStep {
        let State::Tokens { exchange, .. } = &mut self.state else {
            return self.refuse(Refused::Over);
        };
        let step = exchange.verified(outcome);
        self.follow(step, now)
    }

    fn follow(&mut self, step: Step, now: Monotonic) -> TokenStep {
        match step {
            Step::Challenge(answer) => TokenStep::Challenge(answer),
            Step::Check(check) => TokenStep::Check(check),
            Step::Verify(token) => TokenStep::Verify(token),
            Step::Fault(answer) => TokenStep::Fault(answer),
            Step::Done(proven) => self.open(proven, now),
            Step::Refused(why) => self.refuse(why),
        }
    }

    /// What the work has come to that [`TokenStep::Check`] asked for.
    pub fn checked(&mut self, outcome: Result<Principal, Refused>, now: Monotonic) -> TokenStep {
        match outcome {
            Ok(user) => self.open(Proven::of(user), now),
            Err(why) => self.refuse(why),
        }
    }

    fn open(&mut self, proven: Proven, now: Monotonic) -> TokenStep {
        let State::Tokens { exchange, .. } = &self.state else {
            return self.refuse(Refused::Over);
        };
        let mechanism = exchange.mechanism();
        let Proven { user, answer, lifetime, by_token } = proven;
        // Whoever keeps the users must not have let anybody be called so; this does not rely on it.
        if is_reserved(user.name()) {
            return self.refuse(Refused::Credentials);
        }
        let former = self.session.take();
        if former.as_ref().is_some_and(|former| former.user != user || former.by_token != by_token)
        {
            self.session = former;
            return self.refuse(Refused::Changed);
        }
        // A session ends with what it was opened by.
        let lifetime = [lifetime, self.lifetime_max].into_iter().flatten().min();
        let expires = lifetime.map(|lifetime| now.plus(lifetime));
        let renewed = former.and_then(|former| former.renewed);
        self.session = Some(Session { user: user.clone(), mechanism, by_token, renewed, expires });
        self.state = State::Open;
        TokenStep::Done(Login { user, answer, lifetime, by_token })
    }

    fn refuse(&mut self, why: Refused) -> TokenStep {
        self.state = State::Shut;
        TokenStep::Refused(why)
    }

    fn has_expired(&self, now: Monotonic) -> bool {
        let expires = self.session.as_ref().and_then(|session| session.expires);
        expires.is_some_and(|expires| now > expires)
    }
}
