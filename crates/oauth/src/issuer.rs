//! An issuer: its keys, renewed while logins go on, and what its tokens are worth.
//!
//! Keys are fetched by one task ([`watch`]), at the pace that settings say. A token whose key is not known may be
//! signed by a new one: it has them fetched at once, but not more often than every [`ASK_PAUSE`], since anybody
//! can show such a token. What can't be fetched, or is no key set, changes nothing: the keys before it stay, until
//! they are too old ([`IssuerSettings::age_max`]).

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use millstream_auth::{BadKeySet, BadToken, Expected, Jwt, KeySet, Verified};
use millstream_env::Env;
use millstream_types::Monotonic;
use tokio::sync::{Notify, watch as channel};
use tracing::{error, info, warn};

use crate::fetch::{FETCH_TIME_MAX, FetchError, fetch};
use crate::place::Place;
use crate::verify;

/// How often keys are fetched at most because a token's is not known.
const ASK_PAUSE: Duration = Duration::from_secs(10);

/// How long a login waits for keys that are being fetched.
const ASK_TIME_MAX: Duration = FETCH_TIME_MAX.saturating_add(Duration::from_secs(1));

/// How often a file of keys is looked at, at least: that costs nothing.
const FILE_PAUSE: Duration = Duration::from_secs(10);

/// What is known of an issuer.
#[derive(Clone, Debug)]
pub struct IssuerSettings {
    /// Where its keys are (`sasl.oauthbearer.jwks.endpoint.url`).
    pub place: Place,
    /// How often they are fetched (`sasl.oauthbearer.jwks.endpoint.refresh.ms`); a file is looked at every ten
    /// seconds at least.
    pub refresh: Duration,
    /// How long it is waited after a fetch that has failed (`sasl.oauthbearer.jwks.endpoint.retry.backoff.ms`);
    /// twice as long each time.
    pub retry: Duration,
    /// The longest of those waits (`sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms`).
    pub retry_max: Duration,
    /// How long keys stay in use that can't be fetched again (`millstream.oauthbearer.jwks.age.max.ms`): one that was
    /// taken back meanwhile, since somebody has it who should not, must not be good for ever.
    pub age_max: Duration,
    /// The PEM file with the authorities that are trusted for `https:`; `None`: the system's.
    pub trust_store: Option<PathBuf>,
    /// What its tokens have to say.
    pub expected: Expected,
}

/// An issuer whose tokens are trusted.
pub struct Issuer {
    settings: IssuerSettings,
    env: Env,
    opened: Monotonic,
    state: Mutex<State>,
    /// How many fetches have ended.
    fetches: channel::Sender<u64>,
    /// How many of them have brought nothing.
    failed_fetches: AtomicU64,
    /// Wakes the task that fetches.
    wake: Arc<Notify>,
}

#[derive(Default)]
struct State {
    keys: Option<Arc<KeySet>>,
    /// What they were read from.
    bytes: Vec<u8>,
    /// When they were last what the issuer says.
    read: Option<Monotonic>,
    /// Whether it was told that they are too old.
    told_age: bool,
    /// When somebody last had keys fetched.
    asked: Option<Monotonic>,
    /// Whether that fetch is still to end.
    waits: bool,
    /// How many fetches have failed one after the other.
    failures: u32,
}

/// Why a fetch has brought nothing.
#[derive(Debug, thiserror::Error)]
enum RefreshError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    KeySet(#[from] BadKeySet),
}

impl Issuer {
    /// An issuer whose keys are in a file, which has to be there, or are fetched by [`watch`]: a server does not
    /// wait for another one to start.
    ///
    /// # Errors
    ///
    /// What is wrong with the file.
    pub async fn open(settings: IssuerSettings, env: Env) -> Result<Arc<Self>, String> {
        let issuer = Self {
            settings,
            opened: env.clock.monotonic(),
            env,
            state: Mutex::default(),
            fetches: channel::Sender::new(0),
            failed_fetches: AtomicU64::new(0),
            wake: Arc::default(),
        };
        if issuer.settings.place.is_file() {
            let read = issuer.refresh().await;
            read.map_err(|error| format!("the issuer's keys can't be read: {error}"))?;
        }
        Ok(Arc::new(issuer))
    }

    /// Whom a token stands for, and for how long. Waits where keys have to be fetched for that.
    ///
    /// # Errors
    ///
    /// The token is not to be trusted, or not for this, or not now.
    pub async fn judge(&self, token: &str) -> Result<Verified, BadToken> {
        let jwt = Jwt::parse(token)?;
        let (algorithm, id) = (jwt.algorithm(), jwt.key_id());
        let is_known = |keys: &Option<Arc<KeySet>>| {
            keys.as_ref().is_some_and(|keys| keys.find(algorithm, id).is_some())
        };
        let mut keys = self.keys();
        if !is_known(&keys) && self.ask().await {
            keys = self.keys();
        }
        self.judge_by(&jwt, keys)
    }

    /// The same by the keys that are there, without waiting for others.
    ///
    /// # Errors
    ///
    /// As [`Issuer::judge`].
    pub fn judge_now(&self, token: &str) -> Result<Verified, BadToken> {
        self.judge_by(&Jwt::parse(token)?, self.keys())
    }

    fn judge_by(&self, jwt: &Jwt<'_>, keys: Option<Arc<KeySet>>) -> Result<Verified, BadToken> {
        let keys = keys.ok_or(BadToken::NoKeys)?;
        let algorithm = jwt.algorithm();
        let key = keys.find(algorithm, jwt.key_id()).ok_or(BadToken::UnknownKey)?;
        let is_signed =
            |signed: &[u8], signature: &[u8]| verify::is_signed(key, algorithm, signed, signature);
        jwt.judge(is_signed, &self.settings.expected, self.env.clock.wall())
    }

    /// Has keys fetched because some are missing, unless that was done a moment ago. Whether a fetch has ended
    /// since.
    async fn ask(&self) -> bool {
        // Before it is asked, so that none is missed.
        let mut fetches = self.fetches.subscribe();
        {
            let now = self.env.clock.monotonic();
            let mut state = self.state();
            let is_soon = state.asked.is_some_and(|asked| now.since(asked) < ASK_PAUSE);
            if is_soon && !state.waits {
                return false;
            }
            if !is_soon {
                state.asked = Some(now);
                state.waits = true;
                self.wake.notify_one();
            }
        }
        tokio::select! {
            biased;
            changed = fetches.changed() => changed.is_ok(),
            () = self.env.sleep(ASK_TIME_MAX) => false,
        }
    }

    /// Fetches the keys, and uses them if they are good.
    async fn refresh(&self) -> Result<(), RefreshError> {
        let IssuerSettings { place, trust_store, .. } = &self.settings;
        let fetched = fetch(place, trust_store.as_deref(), &self.env).await;
        let outcome = {
            let now = self.env.clock.monotonic();
            let mut state = self.state();
            let taken = fetched.map_err(RefreshError::from);
            let outcome = taken.and_then(|bytes| state.take(bytes, now));
            state.waits = false;
            state.failures = if outcome.is_ok() { 0 } else { state.failures.saturating_add(1) };
            self.tell_age(&mut state, now);
            match &outcome {
                Ok(Some(keys)) => {
                    let (keys, left_out) = (keys.count(), keys.left_out());
                    info!(%place, keys, left_out, "keys of tokens are in use");
                }
                Ok(None) => {}
                // Once for each time that it stops.
                Err(error) if state.failures == 1 => {
                    let known = state.keys.is_some();
                    warn!(%place, %error, known, "keys of tokens can't be had; those before them stay in use, \
                          and it is tried again");
                }
                Err(_) => {}
            }
            outcome
        };
        if outcome.is_err() {
            self.failed_fetches.fetch_add(1, Ordering::Relaxed);
        }
        self.fetches.send_modify(|fetches| *fetches += 1);
        outcome.map(|_| ())
    }

    /// Says once that the keys are too old, since somebody must act: until then nobody logs in by tokens.
    fn tell_age(&self, state: &mut State, now: Monotonic) {
        let is_old = state.keys.is_some() && !state.is_fresh(now, self.settings.age_max);
        if is_old && !std::mem::replace(&mut state.told_age, true) {
            let age_s = state.read.map_or(0, |read| now.since(read).as_secs());
            error!(place = %self.settings.place, age_s, "the keys of tokens are too old to be used: nobody logs in \
                   by tokens until they can be had again");
        }
    }

    /// How old the keys are: how long ago they were last what the issuer says. Without any, for how long there have
    /// been none.
    #[must_use]
    pub fn age(&self) -> Duration {
        let read = self.state().read.unwrap_or(self.opened);
        self.env.clock.monotonic().since(read)
    }

    /// How often keys were looked for since the start.
    #[must_use]
    pub fn fetches(&self) -> u64 {
        *self.fetches.borrow()
    }

    /// How often they could not be had, or were no key set, so that those before them stayed in use.
    #[must_use]
    pub fn failed_fetches(&self) -> u64 {
        self.failed_fetches.load(Ordering::Relaxed)
    }

    /// When keys are to be fetched the next time.
    fn pause(&self) -> Duration {
        if self.fetches() == 0 {
            return Duration::ZERO;
        }
        let IssuerSettings { place, refresh, retry, retry_max, .. } = &self.settings;
        let usual = if place.is_file() { FILE_PAUSE.min(*refresh) } else { *refresh };
        match self.state().failures {
            0 => usual,
            failures => {
                let longer = 2_u32.saturating_pow(failures - 1);
                retry.saturating_mul(longer).min(*retry_max).min(usual)
            }
        }
    }

    /// Those that may be used.
    fn keys(&self) -> Option<Arc<KeySet>> {
        let now = self.env.clock.monotonic();
        let state = self.state();
        state.keys.clone().filter(|_| state.is_fresh(now, self.settings.age_max))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether keys were what the issuer says not too long ago.
    fn is_fresh(&self, now: Monotonic, age_max: Duration) -> bool {
        self.read.is_some_and(|read| now.since(read) <= age_max)
    }

    /// Uses a key set from `now` on; `None` for the one that is in use.
    fn take(
        &mut self,
        bytes: Vec<u8>,
        now: Monotonic,
    ) -> Result<Option<Arc<KeySet>>, RefreshError> {
        let is_same = self.keys.is_some() && self.bytes == bytes;
        let parsed = if is_same { None } else { Some(KeySet::parse(&bytes)?) };
        (self.read, self.told_age) = (Some(now), false);
        let Some(keys) = parsed.map(Arc::new) else { return Ok(None) };
        (self.keys, self.bytes) = (Some(Arc::clone(&keys)), bytes);
        Ok(Some(keys))
    }
}

impl Drop for Issuer {
    /// So that the task ends that fetches.
    fn drop(&mut self) {
        self.wake.notify_one();
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Fetches the keys of `issuer` from time to time and when they are asked for, as long as somebody uses it.
pub async fn watch(issuer: Weak<Issuer>, env: Env) {
    loop {
        let (pause, wake) = match issuer.upgrade() {
            Some(issuer) => (issuer.pause(), Arc::clone(&issuer.wake)),
            None => return,
        };
        tokio::select! {
            biased;
            () = wake.notified() => {}
            () = env.sleep(pause) => {}
        }
        let Some(issuer) = issuer.upgrade() else { return };
        // What has failed was told.
        let _ = issuer.refresh().await;
    }
}
