//! A connection whose client has to log in.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millstream_auth::{
    Ask, BadToken, Gate, HandshakeRefused, Mechanism, Nonce, Refused, TokenStep,
};
use millstream_broker::Broker;
use millstream_env::Env;
use millstream_oauth::Issuer;
use millstream_types::{Monotonic, Principal};
use millstream_wire::ApiKey;

/// The largest request of a client that is not logged in, in bytes. The tokens of these mechanisms have a few
/// hundred; and what is no larger takes no room from others.
pub(crate) const REQUEST_BYTES_MAX: usize = crate::frames::SMALL_BYTES_MAX;

/// The state of one connection.
#[derive(Debug)]
pub(crate) struct Login {
    gate: Mutex<Gate>,
    /// Until when all may be asked, in nanoseconds; 0: not. As the gate says.
    open_until: AtomicU64,
    /// Until when the client must have logged in, in nanoseconds: for ever once it has.
    login_until: AtomicU64,
}

/// A login that has succeeded.
pub(crate) struct Opened {
    pub(crate) user: Principal,
    /// Whether it was by a delegation token.
    pub(crate) by_token: bool,
}

/// What becomes of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is answered. `lifetime`: for how long the session holds that has begun, if it ends.
    Answer { token: Vec<u8>, lifetime: Option<Duration> },
    /// It is refused, and this is answered; the connection is over after the client's next token.
    Fault(&'static [u8]),
    /// It is refused, and the connection is over; says why, without a secret. `again`: after [`Verdict::Fault`].
    Refused { why: String, again: bool },
    /// None was awaited, and the connection is over.
    Unexpected,
}

impl Login {
    /// Of a connection that is opened now.
    pub(crate) fn new(broker: &Broker) -> Self {
        let now = broker.env().clock.monotonic();
        let gate = Gate::new(now, broker.config().session_lifetime_max);
        let until = gate.login_until().map_or(u64::MAX, |until| until.0);
        let (open_until, login_until) = (AtomicU64::new(0), AtomicU64::new(until));
        Self { gate: Mutex::new(gate), open_until, login_until }
    }

    /// Whether all may be asked.
    pub(crate) fn is_open(&self, now: impl FnOnce() -> Monotonic) -> bool {
        match self.open_until.load(Ordering::Relaxed) {
            0 => false,
            u64::MAX => true,
            until => now().0 <= until,
        }
    }

    /// Until when the client must have logged in.
    pub(crate) fn login_until(&self) -> Monotonic {
        Monotonic(self.login_until.load(Ordering::Relaxed))
    }

    /// Whether a request of this kind may be taken, by a client that may not ask all.
    pub(crate) fn admits(&self, api: ApiKey, now: Monotonic) -> bool {
        let ask = match api {
            ApiKey::ApiVersions => Ask::ApiVersions,
            ApiKey::SaslHandshake => Ask::Handshake,
            ApiKey::SaslAuthenticate => Ask::Authenticate,
            _ => Ask::Other,
        };
        self.gate().admits(ask, now)
    }

    /// Whether what comes next is a token without a request around it.
    pub(crate) fn takes_bare_tokens(&self) -> bool {
        self.gate().takes_bare_tokens()
    }

    /// Begins a login by `mechanism`, if it is one that is offered.
    pub(crate) fn handshake(
        &self,
        env: &Env,
        mechanism: Option<Mechanism>,
        framed: bool,
    ) -> Result<(), HandshakeRefused> {
        let mut nonce = [0; 24];
        env.random.fill(&mut nonce);
        self.change(|gate| gate.handshake(mechanism, framed, Nonce(nonce), env.clock.monotonic()))
    }

    /// Takes a token, which is answered or refused; and who has logged in by it.
    pub(crate) async fn token(
        &self,
        broker: &Broker,
        issuer: Option<&Issuer>,
        token: &[u8],
    ) -> (Verdict, Option<Opened>) {
        let now = || broker.env().clock.monotonic();
        let step = broker.users(|users| self.change(|gate| gate.token(token, users, now())));
        let step = match step {
            TokenStep::Check(check) => {
                let outcome = broker.check_password(check).await;
                self.change(|gate| gate.checked(outcome, now()))
            }
            TokenStep::Verify(token) => {
                let outcome = match issuer {
                    Some(issuer) => issuer.judge(token.text()).await,
                    None => Err(BadToken::NoKeys),
                };
                self.change(|gate| gate.verified(outcome, now()))
            }
            step => step,
        };
        match step {
            TokenStep::Challenge(token) => (Verdict::Answer { token, lifetime: None }, None),
            TokenStep::Done(login) => {
                let (token, lifetime) = (login.answer, login.lifetime);
                let opened = Opened { user: login.user, by_token: login.by_token };
                (Verdict::Answer { token, lifetime }, Some(opened))
            }
            TokenStep::Fault(token) => (Verdict::Fault(token), None),
            TokenStep::Refused(why) => {
                let again = matches!(why, Refused::Token(_));
                (Verdict::Refused { why: format!("login failed: {why}"), again }, None)
            }
            TokenStep::Check(_) | TokenStep::Verify(_) | TokenStep::Unexpected => {
                (Verdict::Unexpected, None)
            }
        }
    }

    /// Changes the state, and what is looked at instead of it.
    fn change<T>(&self, change: impl FnOnce(&mut Gate) -> T) -> T {
        let mut gate = self.gate();
        let result = change(&mut gate);
        let open_until = gate.open_until().map_or(0, |until| until.0);
        let login_until = gate.login_until().map_or(u64::MAX, |until| until.0);
        self.open_until.store(open_until, Ordering::Relaxed);
        self.login_until.store(login_until, Ordering::Relaxed);
        result
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
