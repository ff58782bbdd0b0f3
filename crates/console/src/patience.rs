//! A connection whose client can't dawdle, nor keep a place that another one needs.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use crate::places::Place;

/// How long a request may take from its first byte until something is answered, and how long the
/// client may take none of an answer.
const EXCHANGE_MAX: Duration = Duration::from_secs(10);

/// How long a connection may be kept without a request.
const IDLE_MAX: Duration = Duration::from_secs(75);

/// A connection that fails when its client dawdles, or loses its place.
pub(super) struct Patient {
    stream: TcpStream,
    doing: Doing,
    limit: Pin<Box<Sleep>>,
    place: Option<Place>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Doing {
    /// Nothing: a request may come.
    Idle,
    /// A request has begun to come.
    Asking,
    /// An answer is not taken.
    Answering,
}

impl Patient {
    pub(super) fn new(stream: TcpStream, place: Option<Place>) -> Self {
        // Who connects has something to ask.
        let limit = Box::pin(sleep(EXCHANGE_MAX));
        Self { stream, doing: Doing::Asking, limit, place }
    }

    /// What is done from now on; the time for it begins when it is something else than before.
    fn does(&mut self, doing: Doing) {
        if self.doing != doing {
            self.doing = doing;
            self.limit =
                Box::pin(sleep(if doing == Doing::Idle { IDLE_MAX } else { EXCHANGE_MAX }));
        }
    }

    /// Fails when the time for what is done is over.
    fn wait<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        ready!(self.limit.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Fails when somebody else has the place.
    fn check_place(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.place.as_mut().map(|place| place.poll_lost(context)) {
            Some(Poll::Ready(())) => Err(io::ErrorKind::ConnectionAborted.into()),
            Some(Poll::Pending) | None => Ok(()),
        }
    }

    /// The same about a write.
    fn wrote(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_pending() {
            self.does(Doing::Answering);
            return self.wait(context);
        }
        self.does(Doing::Idle);
        written
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check_place(context)?;
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_pending() {
            return self.wait(context);
        }
        if buffer.filled().len() > before {
            self.does(Doing::Asking);
        }
        read
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check_place(context)?;
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check_place(context)?;
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.wrote(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Time passes by itself when everybody waits.
    #[tokio::test(start_paused = true)]
    async fn a_request_that_drips_in_does_not_last() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let mut client = TcpStream::connect(address).await.expect("connects");
        let (server, _) = listener.accept().await.expect("a connection");
        let mut server = Patient::new(server, None);
        let mut taken = Vec::new();
        let failed = loop {
            client.write_all(b"x").await.expect("sends");
            match server.read_u8().await {
                Ok(byte) => taken.push(byte),
                Err(error) => break error,
            }
            sleep(EXCHANGE_MAX / 4).await;
            if taken.len() > 4 {
                break server.read_u8().await.expect_err("nothing more was sent");
            }
        };
        assert_eq!((failed.kind(), taken.len()), (io::ErrorKind::TimedOut, 5));
    }
}
