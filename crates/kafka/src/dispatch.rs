//! The table: one line per API. Dispatch, ApiVersions, metrics and `docs/protocol.md` follow from it.

use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use millstream_auth::Mechanism;
use millstream_broker::audited::{Event, Kind, Level, Outcome as How};
use millstream_broker::client_metrics::Client;
use millstream_broker::quota::Use;
use millstream_broker::{Broker, Share};
use millstream_env::Quiet;
use millstream_types::{Monotonic, Principal};
use millstream_wire::{
    ApiKey, ApiVersionsRequest, DecodeError, Message as _, Reader, Request, RequestHeader,
    StrBytes, decode_request_header, encode_response,
};

use crate::api;
use crate::api::fetch::session::Sessions;
use crate::connection::{Answer, Close, Reply, Service, Started};
use crate::frames::Frame;
use crate::intake::{Held, Intake};
use crate::listener::Peer;
use crate::login::{self, Login, Opened, Verdict};
use crate::metrics::{ApiMetrics, Metrics};
use crate::throttle::{Client as Spender, Throttle};
use crate::timer::NEVER;
use crate::volume::Volume;

/// What a request may take in memory for each of its bytes, once it is decoded. Real ones take two to
/// four, and Produce, most of which is batches, next to nothing unless those are tiny.
const DECODED_PER_BYTE: usize = 8;
const DECODED_PER_BYTE_OF_PRODUCE: usize = 2;

/// What any request may take decoded, in bytes: none that small does harm.
const DECODED_FLOOR: usize = 64 * 1024;

/// An answer that takes no more, in bytes, is the connection's own affair.
const SMALL_ANSWER_BYTES_MAX: usize = 8 * 1024;

/// An API that is served, and in which versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// The API.
    pub api: ApiKey,
    /// The versions.
    pub versions: RangeInclusive<i16>,
}

macro_rules! served {
    ($($api:ident $versions:expr => $handle:path;)+) => {
        /// Every API that is served: what is not here is not advertised.
        pub const SERVED: &[Served] = &[$(Served { api: ApiKey::$api, versions: $versions },)+];

        fn start(call: Call, api: ApiKey, reader: &mut Reader<'_>) -> Result<Started, Close> {
            match api {
                $(ApiKey::$api => run(call, reader, $handle),)+
                other => Err(Close::Refused(format!("{} is not served", other.name()))),
            }
        }
    };
}

served! {
    Produce 3..=13 => api::produce::handle;
    Fetch 4..=18 => api::fetch::handle;
    ListOffsets 1..=11 => api::list_offsets::handle;
    Metadata 0..=13 => api::metadata::handle;
    OffsetCommit 2..=10 => api::group::offset_commit::handle;
    OffsetFetch 1..=10 => api::group::offset_fetch::handle;
    FindCoordinator 0..=6 => api::group::find_coordinator::handle;
    JoinGroup 0..=9 => api::group::join::handle;
    Heartbeat 0..=4 => api::group::heartbeat::handle;
    LeaveGroup 0..=5 => api::group::leave::handle;
    SyncGroup 0..=5 => api::group::sync::handle;
    DescribeGroups 0..=6 => api::group::describe::handle;
    ListGroups 0..=5 => api::group::list::handle;
    SaslHandshake 0..=1 => api::sasl_handshake::handle;
    ApiVersions 0..=5 => api::api_versions::handle;
    CreateTopics 2..=7 => api::admin::create_topics::handle;
    DeleteTopics 1..=6 => api::admin::delete_topics::handle;
    DeleteRecords 0..=2 => api::admin::delete_records::handle;
    InitProducerId 0..=5 => api::init_producer_id::handle;
    OffsetForLeaderEpoch 2..=4 => api::offset_for_leader_epoch::handle;
    AddPartitionsToTxn 0..=5 => api::transaction::add_partitions::handle;
    AddOffsetsToTxn 0..=4 => api::transaction::add_offsets::handle;
    EndTxn 0..=5 => api::transaction::end::handle;
    WriteTxnMarkers 1..=2 => api::transaction::write_markers::handle;
    TxnOffsetCommit 0..=5 => api::transaction::offset_commit::handle;
    DescribeAcls 1..=3 => api::admin::describe_acls::handle;
    CreateAcls 1..=3 => api::admin::create_acls::handle;
    DeleteAcls 1..=3 => api::admin::delete_acls::handle;
    DescribeConfigs 1..=4 => api::admin::describe_configs::handle;
    AlterConfigs 0..=2 => api::admin::alter_configs::handle;
    AlterReplicaLogDirs 1..=2 => api::admin::alter_replica_log_dirs::handle;
    DescribeLogDirs 1..=5 => api::admin::describe_log_dirs::handle;
    SaslAuthenticate 0..=2 => api::sasl_authenticate::handle;
    CreatePartitions 0..=3 => api::admin::create_partitions::handle;
    CreateDelegationToken 1..=3 => api::delegation::create::handle;
    RenewDelegationToken 1..=2 => api::delegation::renew::handle;
    ExpireDelegationToken 1..=2 => api::delegation::expire::handle;
    DescribeDelegationToken 1..=3 => api::delegation::describe::handle;
    DeleteGroups 0..=3 => api::group::delete::handle;
    ElectLeaders 0..=2 => api::admin::elect_leaders::handle;
    IncrementalAlterConfigs 0..=1 => api::admin::incremental_alter_configs::handle;
    AlterPartitionReassignments 0..=1 => api::admin::alter_partition_reassignments::handle;
    ListPartitionReassignments 0..=0 => api::admin::list_partition_reassignments::handle;
    OffsetDelete 0..=0 => api::group::offset_delete::handle;
    DescribeClientQuotas 0..=1 => api::admin::describe_client_quotas::handle;
    AlterClientQuotas 0..=1 => api::admin::alter_client_quotas::handle;
    DescribeUserScramCredentials 0..=0 => api::admin::describe_user_scram_credentials::handle;
    AlterUserScramCredentials 0..=0 => api::admin::alter_user_scram_credentials::handle;
    DescribeQuorum 0..=2 => api::admin::describe_quorum::handle;
    UpdateFeatures 0..=2 => api::admin::update_features::handle;
    DescribeCluster 0..=2 => api::admin::describe_cluster::handle;
    DescribeProducers 0..=0 => api::admin::describe_producers::handle;
    DescribeTransactions 0..=0 => api::transaction::describe::handle;
    ListTransactions 0..=2 => api::transaction::list::handle;
    ConsumerGroupHeartbeat 0..=1 => api::group::consumer_heartbeat::handle;
    ConsumerGroupDescribe 0..=1 => api::group::consumer_describe::handle;
    GetTelemetrySubscriptions 0..=0 => api::get_telemetry_subscriptions::handle;
    PushTelemetry 0..=0 => api::push_telemetry::handle;
    ListConfigResources 0..=1 => api::admin::list_config_resources::handle;
    DescribeTopicPartitions 0..=0 => api::admin::describe_topic_partitions::handle;
    StreamsGroupHeartbeat 0..=1 => api::group::streams_heartbeat::handle;
    StreamsGroupDescribe 0..=1 => api::group::streams_describe::handle;
}

/// Who asks, and in which version: what a handler knows besides the request.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) dispatch: Arc<Dispatch>,
    pub(crate) api: ApiKey,
    pub(crate) version: i16,
    pub(crate) client_id: StrBytes,
    /// What keeping a part of the request keeps, in bytes: see [`Frame::pinned`].
    pub(crate) pinned_bytes: usize,
    /// The memory that it takes while it is read and answered, if it is not small.
    pub(crate) room: Option<Held>,
    pub(crate) sender: Arc<Sender>,
    correlation_id: i32,
    begun: Monotonic,
}

/// What a handler makes of a request.
pub(crate) enum Outcome<R> {
    /// A response.
    Answer(R),
    /// A response, and the memory that it takes of a budget until it has been written.
    Holding(R, Share),
    /// A response, after which the connection is to end.
    Last(R, Close),
    /// None is wanted.
    Silence,
    /// The connection is to end.
    Close(Close),
}

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Dispatch {
    pub(crate) broker: Broker,
    pub(crate) sessions: Sessions,
    /// The room for requests.
    pub(crate) intake: Arc<Intake>,
    /// Whom a connection speaks for that does not say so.
    anonymous: Principal,
    metrics: Arc<Metrics>,
    /// In the order of [`SERVED`].
    by_api: Vec<ApiMetrics>,
    /// Of rights that are missing.
    pub(crate) denials: Quiet,
}

/// One connection, as the dispatcher sees it.
pub(crate) struct Session {
    dispatch: Arc<Dispatch>,
    sender: Arc<Sender>,
}

/// What the requests of one connection share.
#[derive(Debug)]
pub(crate) struct Sender {
    peer: Peer,
    /// Whether a request is still doing what must come before those behind it.
    turn: AtomicBool,
    written: Volume,
    throttle: Throttle,
    /// Whom the connection speaks for, once it has said so. That never changes.
    principal: OnceLock<Principal>,
    /// Whether it has said so by a delegation token.
    by_token: AtomicBool,
    /// Whether it has to say so, and how far it has come.
    login: Option<Login>,
    /// What program it has said that it is, the first time.
    software: OnceLock<(Box<str>, Box<str>)>,
}

/// While it lives, no later request of the connection starts.
pub(crate) struct Turn<'a>(&'a AtomicBool);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl Dispatch {
    pub(crate) fn new(broker: Broker, metrics: &Arc<Metrics>) -> Self {
        let config = broker.config();
        let sessions = Sessions::new(config.fetch_session_slots, config.fetch_session_bytes);
        let intake = Intake::new(config.request_memory_bytes);
        let by_api = SERVED.iter().map(|served| metrics.api(served.api)).collect();
        let anonymous = Principal::anonymous();
        let (metrics, denials) = (Arc::clone(metrics), Quiet::default());
        Self { broker, sessions, intake, anonymous, metrics, by_api, denials }
    }

    pub(crate) fn session(self: &Arc<Self>, peer: Peer) -> Session {
        let (turn, by_token, written, throttle) = Default::default();
        // Where one logs in, that says who somebody is, whatever certificate he has.
        let needs_login = peer.listener.protocol().needs_sasl();
        let login = needs_login.then(|| Login::new(&self.broker));
        let speaks = peer.certificate.clone().filter(|_| !needs_login);
        let principal = speaks.map_or_else(OnceLock::new, OnceLock::from);
        let software = OnceLock::new();
        let sender = Sender { peer, turn, written, throttle, principal, by_token, login, software };
        let sender = Arc::new(sender);
        Session { dispatch: Arc::clone(self), sender }
    }

    /// An answer that takes its memory of the budget; `share` is what it has of it already.
    fn reply(&self, segments: Vec<Bytes>, share: Option<Share>) -> Reply {
        let bytes = segments.iter().map(Bytes::len).sum();
        if share.is_none() && bytes <= SMALL_ANSWER_BYTES_MAX {
            return Reply { segments, share, ends: None };
        }
        let mut share = share.unwrap_or_else(|| self.broker.answer_share());
        share.cover(bytes);
        Reply { segments, share: Some(share), ends: None }
    }

    /// Completes when a request of `begun` that has failed to log in may be answered. How long the work took
    /// that it has made can't be seen then.
    async fn delay_refusal(&self, begun: Monotonic) {
        self.metrics.failed_logins.inc();
        let delay = self.broker.config().failed_login_delay;
        self.broker.env().clock.sleep_until(begun.plus(delay)).await;
    }

    fn answered(&self, api: i16, begun: Monotonic, reply: Option<&Reply>) {
        let after = self.broker.env().clock.monotonic().since(begun);
        let position = SERVED.iter().position(|served| served.api.code() == api);
        if let Some(metrics) = position.and_then(|at| self.by_api.get(at)) {
            metrics.answered(after);
        }
        let segments = reply.into_iter().flat_map(|reply| &reply.segments);
        let sent: usize = segments.map(Bytes::len).sum();
        self.metrics.bytes_out.inc_by(sent as u64);
    }
}

impl Sender {
    fn principal<'a>(&'a self, dispatch: &'a Dispatch) -> &'a Principal {
        self.principal.get().unwrap_or(&dispatch.anonymous)
    }

    /// An event of which it is known who it was, and from where.
    pub(crate) fn event(&self, dispatch: &Dispatch, kind: Kind, outcome: How) -> Event {
        let user = self.principal(dispatch).name();
        Event::new(kind, outcome).by(user).from(self.address(), self.peer.listener.name())
    }

    /// Where the client connects from; `None` inside the process.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.peer.address.map(|address| address.ip())
    }

    /// Whether it is known for whom the connection speaks, if he has to say so. Before, nothing is charged to anybody:
    /// a stranger could use up what others may use by saying that he is called as their clients are.
    fn is_known(&self) -> bool {
        self.login.is_none() || self.principal.get().is_some()
    }

    /// Takes a token of a login; see [`Login::token`]. A refusal takes its time, whatever it is for.
    async fn take_token(
        &self,
        dispatch: &Dispatch,
        login: &Login,
        token: &[u8],
        begun: Monotonic,
    ) -> Verdict {
        let issuer = self.peer.listener.issuer();
        let (verdict, opened) = login.token(&dispatch.broker, issuer, token).await;
        if let Some(Opened { user, by_token }) = opened {
            dispatch.metrics.logins.inc();
            if self.principal.get().is_some() {
                dispatch.metrics.renewed_logins.inc();
            }
            self.by_token.store(by_token, Ordering::Relaxed);
            // Set before if it has logged in before: it is the same then.
            self.principal.get_or_init(|| user);
            dispatch.broker.audit(self.event(dispatch, Kind::Login, How::Done));
        }
        let refused = match &verdict {
            Verdict::Refused { why, again: false } => Some(why.as_str()),
            Verdict::Fault(_) => Some("the token is not taken"),
            Verdict::Answer { .. } | Verdict::Refused { again: true, .. } | Verdict::Unexpected => {
                None
            }
        };
        if let Some(why) = refused {
            // Not by whom: people type passwords where names belong.
            let event = Event::new(Kind::Login, How::Refused).because(why);
            dispatch.broker.audit(event.from(self.address(), self.peer.listener.name()));
        }
        match verdict {
            // It has waited before it was told.
            Verdict::Answer { .. } | Verdict::Refused { again: true, .. } => {}
            Verdict::Fault(_) | Verdict::Refused { again: false, .. } | Verdict::Unexpected => {
                dispatch.delay_refusal(begun).await;
            }
        }
        verdict
    }
}

impl Call {
    pub(crate) fn broker(&self) -> &Broker {
        &self.dispatch.broker
    }

    /// Keeps the requests behind this one from starting. To be taken when first polled.
    pub(crate) fn take_turn(&self) -> Turn<'_> {
        self.sender.turn.store(true, Ordering::Relaxed);
        Turn(&self.sender.turn)
    }

    /// Notes that the connection writes so many bytes. Whether it has written much of late.
    pub(crate) fn writes(&self, bytes: usize) -> bool {
        self.sender.written.add(bytes, self.broker().env().clock.monotonic())
    }

    /// What time it is.
    pub(crate) fn now(&self) -> Monotonic {
        self.broker().env().clock.monotonic()
    }

    /// Whom the connection speaks for.
    pub(crate) fn principal(&self) -> &Principal {
        self.sender.principal(&self.dispatch)
    }

    /// Whether the client has said who it is, by a login or a certificate.
    pub(crate) fn has_said_who_it_is(&self) -> bool {
        self.sender.principal.get().is_some()
    }

    /// Whether it has said so by a delegation token.
    pub(crate) fn is_by_token(&self) -> bool {
        self.sender.by_token.load(Ordering::Relaxed)
    }

    /// How far the client has come with its login, if it needs one.
    pub(crate) fn login(&self) -> Option<&Login> {
        self.sender.login.as_ref()
    }

    /// Takes a token of a login; `None` when the client needs none now.
    pub(crate) async fn take_token(&self, token: &[u8]) -> Option<Verdict> {
        let now = || self.broker().env().clock.monotonic();
        let login = self.login().filter(|login| !login.is_open(now))?;
        Some(self.sender.take_token(&self.dispatch, login, token, self.begun).await)
    }

    /// Completes when the request, which has failed to log in, may be answered.
    pub(crate) async fn delay_refusal(&self) {
        self.dispatch.delay_refusal(self.begun).await;
    }

    fn client(&self) -> Spender<'_> {
        Spender { user: self.principal(), id: &self.client_id }
    }

    /// Notes that the client uses so much of what quotas may limit.
    pub(crate) fn uses(&self, of: Use, amount: impl FnOnce() -> usize) {
        self.sender.throttle.charge(self.broker(), self.client(), of, || amount() as f64);
    }

    /// Notes that the client has made or deleted so many partitions.
    pub(crate) fn mutates(&self, partitions: usize) {
        self.sender.throttle.charge_mutation(self.broker(), self.client(), partitions);
    }

    /// Whether the client may make or delete partitions now.
    pub(crate) fn may_mutate(&self) -> bool {
        self.sender.throttle.may_mutate(self.broker(), self.client())
    }

    /// By what the client may log in.
    pub(crate) fn mechanisms(&self) -> Vec<Mechanism> {
        let of_listener = self.sender.peer.listener.mechanisms();
        of_listener.map_or_else(|| self.broker().config().sasl_mechanisms.clone(), <[_]>::to_vec)
    }

    /// Host and port that the client is told to connect to: those of the listener by which it came.
    pub(crate) fn advertised(&self) -> (StrBytes, i32) {
        self.sender.peer.listener.advertised()
    }

    /// Where the client connects from; `None` inside the process.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.sender.address()
    }

    /// Notes what program the client says that it is.
    pub(crate) fn note_software(&self, name: &str, version: &str) {
        self.sender.software.get_or_init(|| (name.into(), version.into()));
    }

    /// The client, as those know it who push metrics of theirs.
    pub(crate) fn as_pusher(&self) -> Client {
        let software = self.sender.software.get();
        let software = software.map(|(name, version)| (&**name, &**version));
        let user = self.principal().name();
        Client::new(user, &self.client_id, software, self.sender.peer.address)
    }

    /// Where the client connects from, as Kafka writes it: for people.
    pub(crate) fn client_host(&self) -> Arc<str> {
        match self.sender.peer.address {
            Some(address) => Arc::from(format!("/{}", address.ip())),
            None => Arc::from("in-process"),
        }
    }
}

impl Service for Session {
    fn pipelines(&self, frame: &[u8]) -> bool {
        !self.sender.turn.load(Ordering::Relaxed) && is_produce(frame) && self.is_open()
    }

    fn cost(&self, head: &[u8], length: usize) -> usize {
        // A batch is kept as it came.
        if is_produce(head) { length } else { length + self.decoded_max(head, length) }
    }

    fn is_short(&self) -> bool {
        self.dispatch.broker.answers_are_short()
    }

    fn muted_until(&self) -> Monotonic {
        self.sender.throttle.muted_until()
    }

    fn request_bytes_max(&self, most: usize) -> usize {
        match &self.sender.login {
            Some(_) if self.sender.principal.get().is_none() => most.min(login::REQUEST_BYTES_MAX),
            _ => most,
        }
    }

    fn login_until(&self) -> Monotonic {
        self.sender.login.as_ref().map_or(NEVER, Login::login_until)
    }

    fn start(&mut self, frame: Frame, room: Option<Held>) -> Started {
        self.dispatch.metrics.bytes_in.inc_by(frame.bytes.len() as u64);
        match self.begin(&frame, room) {
            Ok(started) => started,
            Err(close) => Box::pin(std::future::ready(Err(close))),
        }
    }
}

fn is_produce(frame: &[u8]) -> bool {
    frame.first_chunk::<2>().is_some_and(|key| i16::from_be_bytes(*key) == ApiKey::Produce.code())
}

impl Session {
    /// Notes that somebody has connected. Who he is, is known by then if a certificate says it.
    pub(crate) fn note_connection(&self) {
        if self.dispatch.broker.audits(Level::All) {
            let event = self.sender.event(&self.dispatch, Kind::Connection, How::Done);
            self.dispatch.broker.audit(event);
        }
    }

    /// What a request of `length` bytes that begins with `head` may take decoded, in bytes.
    fn decoded_max(&self, head: &[u8], length: usize) -> usize {
        let per_byte =
            if is_produce(head) { DECODED_PER_BYTE_OF_PRODUCE } else { DECODED_PER_BYTE };
        let most = self.dispatch.intake.share_max().max(DECODED_FLOOR);
        (DECODED_FLOOR + length.saturating_mul(per_byte)).min(most)
    }

    /// Whether the client may ask all.
    fn is_open(&self) -> bool {
        let now = || self.dispatch.broker.env().clock.monotonic();
        self.sender.login.as_ref().is_none_or(|login| login.is_open(now))
    }

    /// Refuses what a client may not ask as far as it has come with its login. What is in the request is not
    /// looked at before.
    fn admit(&self, api: ApiKey) -> Result<(), Close> {
        if self.is_open() {
            return Ok(());
        }
        let now = self.dispatch.broker.env().clock.monotonic();
        if self.sender.login.as_ref().is_none_or(|login| login.admits(api, now)) {
            return Ok(());
        }
        let why = match self.sender.principal.get() {
            None => {
                "a client that has not logged in; does it need security.protocol=SASL_PLAINTEXT or SASL_SSL?"
            }
            Some(_) => {
                "a client whose session has expired (connections.max.reauth.ms, or what it has logged in by) and \
                 was not renewed"
            }
        };
        Err(Close::Refused(format!("{} of {why}", api.name())))
    }

    /// Takes a token that came without a request around it, and answers in the same way.
    fn take_bare_token(&self, token: Bytes) -> Started {
        let (dispatch, sender) = (Arc::clone(&self.dispatch), Arc::clone(&self.sender));
        let begun = dispatch.broker.env().clock.monotonic();
        Box::pin(async move {
            let verdict = match &sender.login {
                Some(login) => sender.take_token(&dispatch, login, &token, begun).await,
                None => Verdict::Unexpected,
            };
            let answer = |token: Bytes| {
                let length = i32::try_from(token.len()).unwrap_or(i32::MAX).to_be_bytes();
                Ok(Some(vec![Bytes::copy_from_slice(&length), token].into()))
            };
            match verdict {
                Verdict::Answer { token, .. } => answer(Bytes::from(token)),
                Verdict::Fault(token) => answer(Bytes::from_static(token)),
                Verdict::Refused { why, .. } => Err(Close::Refused(why)),
                Verdict::Unexpected => Err(Close::Refused("a token out of place".to_owned())),
            }
        })
    }

    fn begin(&self, frame: &Frame, room: Option<Held>) -> Result<Started, Close> {
        if !self.is_open() && self.sender.login.as_ref().is_some_and(Login::takes_bare_tokens) {
            return Ok(self.take_bare_token(frame.bytes.clone()));
        }
        let budget = self.decoded_max(&frame.bytes, frame.bytes.len());
        let mut reader = Reader::with_budget(&frame.bytes, budget);
        let (api, header) = decode_request_header(&mut reader)?;
        let version = header.request_api_version;
        self.admit(api)?;
        let call = self.call(api, header, frame.pinned, room);
        let known = SERVED.iter().find(|served| served.api == api);
        if known.is_some_and(|served| served.versions.contains(&version)) {
            return start(call, api, &mut reader);
        }
        if api == ApiKey::ApiVersions {
            // The one request whose version the client can't know yet (KIP-511).
            let answer = api::api_versions::unsupported(&call);
            let segments = encode_response::<ApiVersionsRequest>(&answer, 0, call.correlation_id);
            let answer = segments.map(|segments| Some(segments.into()));
            let answer = answer.map_err(|error| Close::Refused(error.to_string()));
            return Ok(Box::pin(std::future::ready(answer)));
        }
        Err(Close::Refused(format!("{} version {version} is not served", api.name())))
    }

    fn call(
        &self,
        api: ApiKey,
        header: RequestHeader,
        pinned_bytes: usize,
        room: Option<Held>,
    ) -> Call {
        Call {
            dispatch: Arc::clone(&self.dispatch),
            api,
            version: header.request_api_version,
            client_id: header.client_id.unwrap_or_default(),
            pinned_bytes,
            room,
            sender: Arc::clone(&self.sender),
            correlation_id: header.correlation_id,
            begun: self.dispatch.broker.env().clock.monotonic(),
        }
    }
}

/// Decodes now, so that a bad request ends the connection before anything is done; handles when
/// polled.
fn run<R, H, F, O>(call: Call, reader: &mut Reader<'_>, handle: H) -> Result<Started, Close>
where
    R: Request + Send + 'static,
    R::Response: Send,
    H: FnOnce(Call, R) -> F,
    F: Future<Output = O> + Send + 'static,
    O: Into<Outcome<R::Response>> + Send,
{
    let request = R::decode(reader, call.version)?;
    let (dispatch, version) = (Arc::clone(&call.dispatch), call.version);
    let (correlation_id, begun) = (call.correlation_id, call.begun);
    let (sender, client_id) = (Arc::clone(&call.sender), call.client_id.clone());
    let handled = handle(call, request);
    Ok(Box::pin(async move {
        if R::KEY != ApiKey::Produce.code() {
            dispatch.broker.answer_room().await;
        }
        let client = Spender { user: sender.principal(&dispatch), id: &client_id };
        let is_timed = sender.is_known() && sender.throttle.is_timed(&dispatch.broker, client);
        let outcome = if is_timed {
            let (outcome, spent) = timed(&dispatch.broker, handled).await;
            sender.throttle.charge_time(&dispatch.broker, client, spent);
            outcome
        } else {
            handled.await
        };
        let reply = |mut response: R::Response, share| {
            let wait_ms = sender.throttle.left_ms(&dispatch.broker);
            if wait_ms > 0 {
                dispatch.metrics.throttled.inc();
                response.set_throttle_time_ms(wait_ms);
            }
            match encode_response::<R>(&response, version, correlation_id) {
                Ok(segments) => Ok(Some(dispatch.reply(segments, share))),
                Err(error) => Err(Close::Refused(error.to_string())),
            }
        };
        let answer: Answer = match outcome.into() {
            Outcome::Answer(response) => reply(response, None),
            Outcome::Holding(response, share) => reply(response, Some(share)),
            Outcome::Last(response, end) => reply(response, None)
                .map(|reply| reply.map(|reply| Reply { ends: Some(end), ..reply })),
            Outcome::Silence => Ok(None),
            Outcome::Close(close) => Err(close),
        };
        dispatch.answered(R::KEY, begun, answer.as_ref().ok().and_then(Option::as_ref));
        answer
    }))
}

/// What `work` comes to, and how long the broker has worked on it: waiting does not count.
async fn timed<T>(broker: &Broker, work: impl Future<Output = T>) -> (T, Duration) {
    let mut work = pin!(work);
    let mut spent = Duration::ZERO;
    let clock = &broker.env().clock;
    let outcome = poll_fn(|context| {
        let begun = clock.monotonic();
        let polled = work.as_mut().poll(context);
        spent += clock.monotonic().since(begun);
        polled
    });
    (outcome.await, spent)
}

impl<R> From<R> for Outcome<R> {
    fn from(response: R) -> Self {
        Self::Answer(response)
    }
}

impl From<DecodeError> for Close {
    fn from(error: DecodeError) -> Self {
        Self::Refused(format!("not a request: {error}"))
    }
}
