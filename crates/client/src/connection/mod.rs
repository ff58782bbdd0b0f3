//! One connection to one broker: requests go out in the order of the calls, answers come back in
//! the same order, and any number may be under way.
//!
//! A task owns the stream and does all reading and writing. When it ends, for whatever reason,
//! every request that waits gets that reason, and the connection stays over: whoever wants to go
//! on opens another.

mod driver;
mod login;
mod session;
mod versions;

use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use millstream_env::Env;
use millstream_types::Monotonic;
use millstream_wire::{
    ApiVersionsRequest, ErrorCode, Message as _, Reader, Request, ResponseHeader, StrBytes,
    encode_request,
};
use tokio::sync::{mpsc, oneshot, watch};

pub use login::LoginSettings;
pub use versions::ApiVersions;

use crate::connector::{Address, Duplex};
use crate::error::Error;
use driver::{Expected, Order, Outgoing};

/// What a connection is opened with.
#[derive(Clone, Debug)]
pub struct ConnectionSettings {
    /// How the client calls itself in every request.
    pub client_id: StrBytes,
    /// The longest answer that is taken, in bytes.
    pub frame_bytes_max: usize,
    /// How long an answer may take.
    pub request_timeout: Duration,
    /// Who the client is, where it has to say so.
    pub login: Option<LoginSettings>,
}

/// A connection to a broker. Cheap to clone; it ends when the last clone and the last request are
/// gone.
#[derive(Clone, Debug)]
pub struct Connection {
    env: Env,
    settings: ConnectionSettings,
    queue: mpsc::UnboundedSender<Order>,
    status: Arc<Status>,
    correlation: Arc<AtomicI32>,
    versions: Arc<ApiVersions>,
}

/// What the handle and the task share.
#[derive(Debug)]
struct Status {
    address: Address,
    /// Why the connection is over, once it is.
    over: watch::Sender<Option<Error>>,
}

/// An answer that is awaited.
#[derive(Debug)]
pub struct Pending<R> {
    env: Env,
    status: Arc<Status>,
    reply: oneshot::Receiver<Bytes>,
    version: i16,
    deadline: Monotonic,
    limit: Duration,
    request: PhantomData<fn() -> R>,
    /// Keeps the connection going until the answer has come.
    _queue: mpsc::UnboundedSender<Order>,
}

/// The newest version of `ApiVersions` that is asked with. Brokers that don't know it answer in
/// version 0 and are asked again.
const API_VERSIONS_FIRST: i16 = 4;

impl Connection {
    /// Takes `stream` as a connection to the broker at `address`, asks it for its versions, and logs in if
    /// the settings say as whom; again in time, where the broker says that a login does not last (KIP-368).
    ///
    /// # Errors
    ///
    /// When the peer leaves, does not answer in time, does not speak the protocol, or does not let
    /// the client in.
    pub async fn open(
        env: Env,
        stream: Box<dyn Duplex>,
        address: Address,
        settings: ConnectionSettings,
    ) -> Result<Self, Error> {
        let (queue, outgoing) = mpsc::unbounded_channel();
        let status = Arc::new(Status { address, over: watch::Sender::new(None) });
        let task = driver::run(stream, outgoing, Arc::clone(&status), settings.frame_bytes_max);
        env.spawn("kafka connection", task);
        let mut connection = Self {
            env,
            settings,
            queue,
            status,
            correlation: Arc::new(AtomicI32::new(0)),
            versions: Arc::new(ApiVersions::default()),
        };
        connection.versions = Arc::new(connection.negotiate().await?);
        if let Some(login) = connection.settings.login.clone() {
            let begun = connection.env.clock.monotonic();
            if let Some(lifetime) = connection.log_in(&login).await? {
                connection.renew(login, begun, lifetime);
            }
        }
        Ok(connection)
    }

    async fn negotiate(&self) -> Result<ApiVersions, Error> {
        let request = ApiVersionsRequest {
            client_software_name: "millstream".into(),
            client_software_version: env!("CARGO_PKG_VERSION").into(),
            ..Default::default()
        };
        let first = self.api_versions(&request, API_VERSIONS_FIRST).await?;
        let answer = if first.error == ErrorCode::UnsupportedVersion {
            let version = first.newest::<ApiVersionsRequest>(API_VERSIONS_FIRST).unwrap_or(0);
            self.api_versions(&request, version).await?
        } else {
            first
        };
        match answer.error {
            ErrorCode::None => Ok(answer),
            code => {
                let what = format!("ApiVersions of {}", self.address());
                Err(Error::Refused { what, code, message: None })
            }
        }
    }

    async fn api_versions(
        &self,
        request: &ApiVersionsRequest,
        version: i16,
    ) -> Result<ApiVersions, Error> {
        let body = self.start(request, version)?.body().await?;
        ApiVersions::decode(&body, version).map_err(|error| Error::protocol(self.address(), error))
    }

    /// The broker.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.status.address
    }

    /// What the broker offers.
    #[must_use]
    pub fn versions(&self) -> &ApiVersions {
        &self.versions
    }

    /// Whether the connection has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.status.over.borrow().is_some()
    }

    /// Ends the connection; requests under way fail.
    pub fn close(&self) {
        self.status.end("closed by the client");
    }

    /// The newest version of `R` that both sides know.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] when there is none.
    pub fn version<R: Request>(&self) -> Result<i16, Error> {
        self.version_within::<R>(i16::MAX)
    }

    /// The newest version of `R` that both sides know, at most `newest`.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] when there is none.
    pub fn version_within<R: Request>(&self, newest: i16) -> Result<i16, Error> {
        self.versions.newest::<R>(newest).ok_or_else(|| Error::Unsupported {
            address: self.address().clone(),
            request: request_name::<R>(),
            oldest: *R::VERSIONS.start(),
            newest: newest.min(*R::VERSIONS.end()),
        })
    }

    /// Sends a request and awaits its answer for as long as the settings say.
    ///
    /// # Errors
    ///
    /// When the request can't be written, or the answer doesn't come or can't be read. After a
    /// timeout the connection is over.
    pub async fn call<R: Request>(&self, request: &R, version: i16) -> Result<R::Response, Error> {
        self.call_within(request, version, self.settings.request_timeout).await
    }

    /// As [`Connection::call`], for requests that brokers let wait.
    ///
    /// # Errors
    ///
    /// As [`Connection::call`].
    pub async fn call_within<R: Request>(
        &self,
        request: &R,
        version: i16,
        limit: Duration,
    ) -> Result<R::Response, Error> {
        self.start_within(request, version, limit)?.response().await
    }

    /// Sends a request without waiting. It is sent even when the answer is never awaited.
    ///
    /// The queue of requests is not bounded: whoever starts them bounds how many are under way.
    ///
    /// # Errors
    ///
    /// When the request can't be written, or the connection is over.
    pub fn start<R: Request>(&self, request: &R, version: i16) -> Result<Pending<R>, Error> {
        self.start_within(request, version, self.settings.request_timeout)
    }

    /// As [`Connection::start`], with a limit for the answer.
    ///
    /// # Errors
    ///
    /// As [`Connection::start`].
    pub fn start_within<R: Request>(
        &self,
        request: &R,
        version: i16,
        limit: Duration,
    ) -> Result<Pending<R>, Error> {
        let (sender, reply) = oneshot::channel();
        self.enqueue(request, version, Expected::Answer(sender))?;
        Ok(Pending {
            env: self.env.clone(),
            status: Arc::clone(&self.status),
            reply,
            version,
            deadline: self.env.clock.monotonic().plus(limit),
            limit,
            request: PhantomData,
            _queue: self.queue.clone(),
        })
    }

    /// Sends a request that the broker does not answer (Produce with `acks=0`). What is returned
    /// completes when the request has been handed to the system.
    ///
    /// # Errors
    ///
    /// When the request can't be written, or the connection is over.
    pub fn send<R: Request>(
        &self,
        request: &R,
        version: i16,
    ) -> Result<impl Future<Output = Result<(), Error>> + Send + use<R>, Error> {
        let (sender, written) = oneshot::channel();
        self.enqueue(request, version, Expected::Nothing(sender))?;
        let (status, queue) = (Arc::clone(&self.status), self.queue.clone());
        Ok(async move {
            let written = written.await.map_err(|_| status.why());
            drop(queue);
            written
        })
    }

    fn enqueue<R: Request>(
        &self,
        request: &R,
        version: i16,
        expected: Expected,
    ) -> Result<(), Error> {
        let correlation_id = self.correlation.fetch_add(1, Ordering::Relaxed);
        let client_id = Some(self.settings.client_id.clone());
        let segments = encode_request(request, version, correlation_id, client_id)?;
        let outgoing = Outgoing { correlation_id, segments, expected };
        self.queue.send(Order::Send(outgoing)).map_err(|_| self.status.why())
    }
}

/// A request's name without its suffix, as people know it.
fn request_name<R: Request>() -> &'static str {
    R::NAME.strip_suffix("Request").unwrap_or(R::NAME)
}

impl<R: Request> Pending<R> {
    /// Awaits the answer.
    ///
    /// # Errors
    ///
    /// As [`Connection::call`].
    pub async fn response(self) -> Result<R::Response, Error> {
        let (status, version) = (Arc::clone(&self.status), self.version);
        let body = self.body().await?;
        let mut reader = Reader::new(&body);
        // What newer brokers may append is not looked at.
        R::Response::decode(&mut reader, version)
            .map_err(|error| status.broken(&Error::protocol(&status.address, error)))
    }

    /// Awaits the answer's bytes after the header.
    async fn body(self) -> Result<Bytes, Error> {
        let Self { env, status, reply, version, deadline, limit, .. } = self;
        let frame = tokio::select! {
            biased;
            frame = reply => frame.map_err(|_| status.why())?,
            () = env.clock.sleep_until(deadline) => {
                let address = status.address.clone();
                let request = request_name::<R>();
                // The answers after this one would wait behind it.
                return Err(status.broken(&Error::Timeout { address, request, limit }));
            }
        };
        let mut reader = Reader::new(&frame);
        ResponseHeader::decode(&mut reader, R::response_header_version(version))
            .map_err(|error| status.broken(&Error::protocol(&status.address, error)))?;
        Ok(reader.rest())
    }
}

impl Status {
    /// Why the connection is over.
    fn why(&self) -> Error {
        let over = self.over.borrow().clone();
        over.unwrap_or_else(|| self.disconnected("the task that served it is gone"))
    }

    fn disconnected(&self, why: impl Into<String>) -> Error {
        Error::Disconnected { address: self.address.clone(), why: why.into() }
    }

    /// Ends the connection, unless it is over already.
    fn end(&self, why: impl Into<String>) {
        self.broken(&self.disconnected(why));
    }

    /// Ends the connection because of `error`, and returns that.
    fn broken(&self, error: &Error) -> Error {
        self.over.send_if_modified(|over| {
            let first = over.is_none();
            over.get_or_insert_with(|| error.clone());
            first
        });
        error.clone()
    }
}
