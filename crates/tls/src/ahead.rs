//! Reads ahead below TLS: rustls asks for 4 KiB at a time, which would be five calls of the system for each
//! record of 16 KiB.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How much is read at a time, in bytes: two records of the largest size.
const AHEAD_BYTES: usize = 2 * (16 * 1024 + 256);

/// A stream of which more is read than was asked for. While nothing comes it has no buffer.
#[derive(Debug)]
pub struct Ahead<S> {
    stream: S,
    /// What was read and not asked for yet.
    rest: Vec<u8>,
    /// How much of that has been taken.
    taken: usize,
}

impl<S> Ahead<S> {
    pub(crate) const fn new(stream: S) -> Self {
        Self { stream, rest: Vec::new(), taken: 0 }
    }

    /// Gives as much of the rest as there is room for.
    fn give(&mut self, room: &mut ReadBuf<'_>) {
        let rest = self.rest.get(self.taken..).unwrap_or_default();
        let part = rest.get(..room.remaining()).unwrap_or(rest);
        room.put_slice(part);
        self.taken += part.len();
        if self.taken == self.rest.len() {
            self.rest.clear();
            self.taken = 0;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Ahead<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.rest.is_empty() {
            self.give(room);
            return Poll::Ready(Ok(()));
        }
        let mut space = [MaybeUninit::uninit(); AHEAD_BYTES];
        let mut space = ReadBuf::uninit(&mut space);
        if Pin::new(&mut self.stream).poll_read(context, &mut space)?.is_pending() {
            self.rest = Vec::new();
            return Poll::Pending;
        }
        let (now, later) = space.filled().split_at(room.remaining().min(space.filled().len()));
        room.put_slice(now);
        self.rest.extend_from_slice(later);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Ahead<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
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
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    proptest! {
        #[test]
        fn what_comes_is_what_was_sent(
            sent in prop::collection::vec(any::<u8>(), 0..100_000),
            room in 1..50_000_usize,
            pipe in 1..200_000_usize,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let got = runtime.block_on(async {
                let (mut from, to) = tokio::io::duplex(pipe);
                let mut to = Ahead::new(to);
                let mut got = Vec::new();
                tokio::join!(
                    async {
                        from.write_all(&sent).await.unwrap();
                        from.shutdown().await.unwrap();
                    },
                    async {
                        let mut space = vec![0; room];
                        loop {
                            let read = to.read(&mut space).await.unwrap();
                            got.extend_from_slice(&space[..read]);
                            if read == 0 {
                                break;
                            }
                        }
                    }
                );
                got
            });
            prop_assert_eq!(got, sent);
        }
    }

    #[tokio::test]
    async fn while_nothing_comes_there_is_no_buffer() {
        let (mut from, to) = tokio::io::duplex(100_000);
        let mut to = Ahead::new(to);
        from.write_all(&[7; 30_000]).await.unwrap();
        let mut space = [0; 10_000];
        to.read_exact(&mut space).await.unwrap();
        assert!(to.rest.capacity() >= 20_000);
        to.read_exact(&mut [0; 20_000]).await.unwrap();
        let nothing = std::future::poll_fn(|context| {
            let mut room = ReadBuf::new(&mut space);
            Poll::Ready(Pin::new(&mut to).poll_read(context, &mut room).is_pending())
        });
        assert!(nothing.await);
        assert_eq!(to.rest.capacity(), 0);
    }
}
