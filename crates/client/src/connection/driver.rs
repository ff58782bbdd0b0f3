//! The task that owns a connection's stream.
//!
//! Writing and reading are two loops beside each other, so that a broker that stops reading until
//! its answers are taken never stops for good. Either loop's end is the connection's end.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{mpsc, oneshot};

use super::Status;
use crate::connector::Duplex;
use crate::error::Error;

/// What the task is told to do.
#[derive(Debug)]
pub(super) enum Order {
    /// To send a request.
    Send(Outgoing),
    /// To take its orders from this queue alone, until nobody can add to it any more: what was ordered
    /// behind this waits until then.
    Alone(mpsc::UnboundedReceiver<Order>),
}

/// A request on its way out.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) correlation_id: i32,
    /// The frame, its length included.
    pub(super) segments: Vec<Bytes>,
    pub(super) expected: Expected,
}

/// What becomes of a request.
#[derive(Debug)]
pub(super) enum Expected {
    /// It is answered.
    Answer(oneshot::Sender<Bytes>),
    /// It is not; says when it has been written.
    Nothing(oneshot::Sender<()>),
}

/// A request whose answer has not come.
#[derive(Debug)]
struct Waiting {
    correlation_id: i32,
    reply: oneshot::Sender<Bytes>,
}

/// The requests that have been written, oldest first.
#[derive(Debug, Default)]
struct InFlight(Mutex<VecDeque<Waiting>>);

/// A frame's buffer starts with at most this many bytes, whatever length the peer announces.
const BUFFER_LEN_FIRST: usize = 256 << 10;

/// How many segments one vectored write is given.
const SEGMENTS_MAX: usize = 64;

/// Serves the connection until it ends; then says why in `status`, and drops everything that waits.
pub(super) async fn run(
    stream: Box<dyn Duplex>,
    mut queue: mpsc::UnboundedReceiver<Order>,
    status: Arc<Status>,
    frame_bytes_max: usize,
) {
    let mut over = status.over.subscribe();
    let in_flight = InFlight::default();
    let (read, write) = tokio::io::split(stream);
    // All three lose what they were doing when another one ends, which is what an end means.
    let error = tokio::select! {
        biased;
        done = write_all(write, &mut queue, &in_flight) => match done {
            // Nobody can ask for anything any more: nobody will look at why.
            Ok(()) => status.disconnected("no longer used"),
            Err(error) => status.disconnected(error.to_string()),
        },
        error = read_all(read, &in_flight, &status, frame_bytes_max) => error,
        _ = over.wait_for(Option::is_some) => return,
    };
    tracing::debug!(broker = %status.address, %error, "connection ended");
    status.broken(&error);
}

async fn write_all(
    mut stream: impl AsyncWrite + Unpin,
    queue: &mut mpsc::UnboundedReceiver<Order>,
    in_flight: &InFlight,
) -> io::Result<()> {
    let mut alone: Option<mpsc::UnboundedReceiver<Order>> = None;
    loop {
        let order = match &mut alone {
            Some(alone) => alone.recv().await,
            None => queue.recv().await,
        };
        let Outgoing { correlation_id, segments, expected } = match order {
            Some(Order::Send(outgoing)) => outgoing,
            Some(Order::Alone(orders)) => {
                // What was written must not wait for what comes.
                stream.flush().await?;
                alone = Some(orders);
                continue;
            }
            None if alone.take().is_some() => continue,
            None => break,
        };
        let written = match expected {
            // Before the write: the answer can come before the write returns.
            Expected::Answer(reply) => {
                in_flight.push(Waiting { correlation_id, reply });
                None
            }
            Expected::Nothing(written) => Some(written),
        };
        write_segments(&mut stream, segments.into()).await?;
        if let Some(written) = written {
            // Who sent it may have lost interest.
            let _ = written.send(());
        }
        if alone.as_ref().unwrap_or(queue).is_empty() {
            stream.flush().await?;
        }
    }
    stream.shutdown().await
}

async fn write_segments(
    stream: &mut (impl AsyncWrite + Unpin),
    mut segments: VecDeque<Bytes>,
) -> io::Result<()> {
    while !segments.is_empty() {
        let slices: Vec<_> =
            segments.iter().take(SEGMENTS_MAX).map(|bytes| IoSlice::new(bytes)).collect();
        let mut written = stream.write_vectored(&slices).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while let Some(first) = segments.front_mut() {
            if written < first.len() {
                first.advance(written);
                break;
            }
            written -= first.len();
            segments.pop_front();
        }
    }
    Ok(())
}

/// Hands each answer to whoever waits for it; returns what ended the connection.
async fn read_all(
    mut stream: impl AsyncRead + Unpin,
    in_flight: &InFlight,
    status: &Status,
    frame_bytes_max: usize,
) -> Error {
    let protocol = |why| Error::Protocol { address: status.address.clone(), why };
    loop {
        let frame = match read_frame(&mut stream, frame_bytes_max).await {
            Ok(Ok(frame)) => frame,
            Ok(Err(why)) => return protocol(why),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return status.disconnected("closed by the broker");
            }
            Err(error) => return status.disconnected(error.to_string()),
        };
        let Some(Waiting { correlation_id, reply }) = in_flight.pop() else {
            return protocol("an answer that nothing was asked for".to_owned());
        };
        if !frame.starts_with(&correlation_id.to_be_bytes()) {
            return protocol("an answer to another request than the one that is due".to_owned());
        }
        // Who asked may have lost interest.
        let _ = reply.send(frame);
    }
}

/// Reads one frame without its length; the inner error says what is wrong with the length.
async fn read_frame(
    stream: &mut (impl AsyncRead + Unpin),
    frame_bytes_max: usize,
) -> io::Result<Result<Bytes, String>> {
    let announced = stream.read_i32().await?;
    let Some(len) = usize::try_from(announced).ok().filter(|&len| len <= frame_bytes_max) else {
        return Ok(Err(format!("a frame of {announced} bytes (limit: {frame_bytes_max})")));
    };
    let mut frame = BytesMut::with_capacity(len.min(BUFFER_LEN_FIRST));
    while frame.len() < len {
        let left = len - frame.len();
        // Grows as bytes come, not as they are announced.
        frame.reserve(left.min(frame.len().max(BUFFER_LEN_FIRST)));
        let mut room = (&mut frame).limit(left);
        if stream.read_buf(&mut room).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(Ok(frame.freeze()))
}

impl InFlight {
    fn push(&self, waiting: Waiting) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(waiting);
    }

    fn pop(&self) -> Option<Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}
