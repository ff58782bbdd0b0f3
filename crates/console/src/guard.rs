//! Who may see what: whether a request is for us, who asks, and whether he may.
//!
//! Whoever is refused learns what he would need, and nothing of what is there.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, HOST, ORIGIN, WWW_AUTHENTICATE,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use millstream_broker::Broker;
use millstream_broker::acl::{CLUSTER_NAME, Operation, Who};
use millstream_broker::audited::{Event, Kind, Outcome};
use millstream_types::{Principal, is_reserved};
use tracing::info;

use crate::arrivals::Guest;
use crate::origin::{self, Foreign};
use crate::routes::{self, Needs};
use crate::{Logins, Shown, basic, bearer};

/// What clients are asked for who have to say who they are: by a password, or by a token.
const BASIC: &str = "Basic realm=\"millstream\", charset=\"UTF-8\"";
const BEARER: &str = "Bearer realm=\"millstream\"";

/// What the audit calls the pages, where it names the listener by which somebody came.
const LISTENER: &str = "HTTP";

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Refused {
    /// A header is there twice that can be there once.
    Twice,
    /// It is for somebody else, or a page of somebody else asks.
    Foreign(Foreign),
    /// Nobody can say yet who may see what.
    NotReady,
    /// It is not said who asks.
    Unknown(Logins),
    /// It is said, and not true. What is wrong with a token is not told: that is for its issuer to know.
    Wrong { by_token: bool, logins: Logins },
    /// Who asks may not.
    Denied { who: Principal, operation: Operation, logins: Logins },
}

/// Lets through what may be answered.
pub(super) async fn admit(
    State(shown): State<Shown>,
    ConnectInfo(guest): ConnectInfo<Guest>,
    request: Request,
    next: Next,
) -> Response {
    let needs = routes::needs(request.uri().path());
    if needs == Some(Needs::Nothing) {
        // Whoever looks after us may ask by any name, and learns nothing else.
        return next.run(request).await;
    }
    match check(&shown, &guest, request.headers(), needs).await {
        Ok(()) => {
            let answer = next.run(request).await;
            ([(CACHE_CONTROL, "no-store")], answer).into_response()
        }
        Err(refused) => {
            shown.tell(guest.address, &refused);
            refused.into_response()
        }
    }
}

/// Whether `guest` may see what needs that; what there is not needs no right.
async fn check(
    shown: &Shown,
    guest: &Guest,
    headers: &HeaderMap,
    needs: Option<Needs>,
) -> Result<(), Refused> {
    let (host, origin) = (text(only(headers, HOST)?), text(only(headers, ORIGIN)?));
    origin::check(host, origin, &shown.pages.hosts).map_err(Refused::Foreign)?;
    let said = only(headers, AUTHORIZATION)?;
    let broker = shown.pages.broker.get().ok_or(Refused::NotReady)?;
    let logins = shown.pages.logins;
    let (who, has_logged_in) = match said.filter(|_| logins.passwords || logins.tokens) {
        Some(said) => (log_in(shown, broker, said).await?, true),
        None => match &guest.certificate {
            Some(who) => (who.clone(), true),
            None if logins == Logins::default() => (Principal::anonymous(), false),
            None => return Err(Refused::Unknown(logins)),
        },
    };
    if has_logged_in {
        broker.audit(event(Kind::Login, Outcome::Done, guest.address).by(who.name()));
    }
    match needs {
        Some(Needs::OnCluster(operation)) if !may(broker, guest, &who, operation) => {
            Err(Refused::Denied { who, operation, logins })
        }
        Some(_) | None => Ok(()),
    }
}

fn may(broker: &Broker, guest: &Guest, who: &Principal, operation: Operation) -> bool {
    let who = Who { user: who.name(), address: Some(guest.address.ip()) };
    broker.may(who, operation, Needs::RESOURCE, CLUSTER_NAME)
}

/// Who says so, if it is true. A refusal takes its time, whatever it is for.
async fn log_in(shown: &Shown, broker: &Broker, said: &[u8]) -> Result<Principal, Refused> {
    let clock = &broker.env().clock;
    let begun = clock.monotonic();
    let logins = shown.pages.logins;
    let by_token = bearer::is_meant(said);
    let who = match by_token {
        true if logins.tokens => by_its_token(shown, said).await,
        false if logins.passwords => by_its_password(broker, said).await,
        true | false => None,
    };
    if let Some(who) = who {
        shown.counts.logins.inc();
        return Ok(who);
    }
    shown.counts.failed_logins.inc();
    clock.sleep_until(begun.plus(broker.config().failed_login_delay)).await;
    Err(Refused::Wrong { by_token, logins })
}

async fn by_its_password(broker: &Broker, said: &[u8]) -> Option<Principal> {
    let said = basic::parse(said)?;
    broker.who_has_password(&said.user, &said.password).await.ok()
}

/// As where one logs in by SASL: nobody is one of those who stand for others, whatever an issuer says.
async fn by_its_token(shown: &Shown, said: &[u8]) -> Option<Principal> {
    let issuer = shown.pages.issuer.as_ref()?;
    let verified = issuer.judge(bearer::parse(said)?).await.ok()?;
    Some(verified.user).filter(|user| !is_reserved(user.name()))
}

/// An event of the audit, of somebody at that address.
pub(super) fn event(kind: Kind, outcome: Outcome, peer: SocketAddr) -> Event {
    Event::new(kind, outcome).from(Some(peer.ip()), LISTENER)
}

/// What is no text is none of ours, and is empty.
fn text(value: Option<&[u8]>) -> Option<&str> {
    value.map(|value| std::str::from_utf8(value).unwrap_or_default())
}

/// The value of a header that may be there once.
fn only(headers: &HeaderMap, name: HeaderName) -> Result<Option<&[u8]>, Refused> {
    let mut values = headers.get_all(name).iter();
    let first = values.next().map(HeaderValue::as_bytes);
    if values.next().is_some() { Err(Refused::Twice) } else { Ok(first) }
}

impl Shown {
    /// Counts and tells what somebody should look at.
    fn tell(&self, peer: SocketAddr, refused: &Refused) {
        let (event, why) = match refused {
            Refused::Wrong { by_token, .. } => {
                // Not by whom: people type passwords where names belong.
                let event = event(Kind::Login, Outcome::Refused, peer);
                (event, wrong(*by_token))
            }
            Refused::Denied { who, operation, .. } => {
                self.counts.denied.inc();
                let event = event(Kind::Access, Outcome::Refused, peer).by(who.name());
                let event = event.what(operation.name(), (Needs::RESOURCE.name(), CLUSTER_NAME));
                (event, "an access rule (ACL) would have to allow it")
            }
            Refused::Twice | Refused::Foreign(_) | Refused::NotReady | Refused::Unknown(_) => {
                return;
            }
        };
        let Some(broker) = self.pages.broker.get() else { return };
        broker.audit(event.because(why));
        let now = broker.env().clock.monotonic();
        if let Some(left_out) = self.refusals.may_say(Some(peer.ip()), now) {
            info!(%peer, why, left_out, "refused a request for a page");
        }
    }
}

impl Refused {
    const fn status(&self) -> StatusCode {
        match self {
            Self::Twice => StatusCode::BAD_REQUEST,
            Self::Foreign(Foreign::Host) => StatusCode::MISDIRECTED_REQUEST,
            Self::NotReady => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unknown(Logins { passwords: true, .. } | Logins { tokens: true, .. })
            | Self::Wrong { .. } => StatusCode::UNAUTHORIZED,
            Self::Foreign(Foreign::Origin) | Self::Unknown(_) | Self::Denied { .. } => {
                StatusCode::FORBIDDEN
            }
        }
    }

    /// What it says to people.
    fn text(&self) -> String {
        let text = match self {
            Self::Twice => "two hosts, origins or authorizations",
            Self::Foreign(Foreign::Host) => {
                "this host has another name: ask for it by its address, or list the name in the setting \
                 millstream.http.hosts"
            }
            Self::Foreign(Foreign::Origin) => "pages of other hosts may not ask",
            Self::NotReady => "not ready",
            Self::Unknown(logins) => return unknown(*logins),
            Self::Wrong { by_token, .. } => wrong(*by_token),
            Self::Denied { who, operation, logins } => return denied(who, *operation, *logins),
        };
        format!("{text}\n")
    }
}

/// What somebody is told who is not whom he says he is.
const fn wrong(by_token: bool) -> &'static str {
    match by_token {
        false => "the name or the password is wrong",
        true => "the token is not taken",
    }
}

/// What somebody is told who has not said who he is: how he can.
fn unknown(logins: Logins) -> String {
    let ways = [
        (logins.passwords, "a name and a password (curl --user NAME)"),
        (logins.tokens, "a token (curl --oauth2-bearer TOKEN)"),
        (logins.certificates, "a certificate (curl --cert FILE.pem)"),
    ];
    let ways: Vec<_> = ways.into_iter().filter(|(is_one, _)| *is_one).map(|(_, way)| way).collect();
    format!("say who you are: {}\n", ways.join(", or "))
}

/// What somebody is told who lacks a right: who he is, and what would give it to him.
fn denied(who: &Principal, operation: Operation, logins: Logins) -> String {
    let who: String = who.to_string().chars().flat_map(char::escape_debug).collect();
    let rule = format!(
        "`millstream acl add --allow {who} --operation {} --cluster`",
        operation.to_string().to_lowercase()
    );
    match logins == Logins::default() {
        true => format!(
            "this page needs a right, and here nobody is asked who he is: have millstream.http.authentication \
             set, or the right given to everybody who comes here ({rule})\n"
        ),
        false => format!(
            "{who} lacks the right: somebody who may alter the cluster can give it ({rule})\n"
        ),
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut answer = (self.status(), self.text()).into_response();
        let headers = answer.headers_mut();
        if let Self::Unknown(logins) | Self::Wrong { logins, .. } = &self {
            let asks = [(logins.passwords, BASIC), (logins.tokens, BEARER)];
            for (_, challenge) in asks.into_iter().filter(|(is_taken, _)| *is_taken) {
                headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
            }
        }
        if matches!(self, Self::Wrong { .. }) {
            // As where one logs in by SASL: whoever fails has to come again.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }
}
