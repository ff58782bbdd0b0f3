//! A client's connection: requests out, answers in, in the same order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use millstream_env::Dice;
use millstream_kafka::SERVED;
use millstream_wire::{Message as _, Reader, Request, ResponseHeader, StrBytes, encode_request};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::net::Stream;
use crate::trace::note;
use crate::world::World;

/// The connection is gone, or the answer did not come in time: nobody knows what became of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lost;

/// A connection to the broker.
pub(crate) struct Link {
    world: Arc<World>,
    stream: Stream,
    name: StrBytes,
    correlation: i32,
    expected: VecDeque<i32>,
    input: BytesMut,
    patience: Duration,
}

impl Link {
    /// Connects, if there is somebody to connect to.
    pub(crate) fn open(world: &Arc<World>, name: &str, patience: Duration) -> Option<Self> {
        let stream = world.net.connect()?;
        note!(world, "{name}: connection {}", stream.id());
        Some(Self {
            world: Arc::clone(world),
            stream,
            name: name.to_owned().into(),
            correlation: 0,
            expected: VecDeque::new(),
            input: BytesMut::new(),
            patience,
        })
    }

    /// Connects as soon as possible, for as long as anybody may have to wait for a broker to start.
    pub(crate) async fn open_soon(world: &Arc<World>, name: &str, patience: Duration) -> Self {
        loop {
            if let Some(link) = Self::open(world, name, patience) {
                return link;
            }
            world.nap(Duration::from_millis(200)).await;
        }
    }

    /// Sends a request; its answer comes after those of all before it.
    pub(crate) async fn send<R: Request + Sync>(
        &mut self,
        request: &R,
        version: i16,
    ) -> Result<(), Lost> {
        self.correlation += 1;
        let name = Some(self.name.clone());
        let segments = match encode_request(request, version, self.correlation, name) {
            Ok(segments) => segments,
            Err(error) => {
                self.world.violation(format!("{} can't be written: {error}", R::NAME));
                return Err(Lost);
            }
        };
        let all: Vec<u8> = segments.iter().flat_map(|segment| segment.iter().copied()).collect();
        self.expected.push_back(self.correlation);
        let (world, patience) = (Arc::clone(&self.world), self.patience);
        let sent = world.within(patience, self.stream.write_all(&all)).await;
        if matches!(sent, Some(Ok(()))) { Ok(()) } else { Err(Lost) }
    }

    /// The answer to the oldest request that has none, which was an `R`.
    pub(crate) async fn recv<R: Request>(&mut self, version: i16) -> Result<R::Response, Lost>
    where
        R::Response: Send,
    {
        let (world, patience) = (Arc::clone(&self.world), self.patience);
        let frame = world.within(patience, self.frame()).await.ok_or(Lost)??;
        match self.decode::<R>(&frame, version) {
            Ok(response) => Ok(response),
            Err(why) => {
                world.violation(format!("{} version {version}: {why}", R::Response::NAME));
                Err(Lost)
            }
        }
    }

    /// One request and its answer.
    pub(crate) async fn call<R: Request + Sync>(
        &mut self,
        request: &R,
        version: i16,
    ) -> Result<R::Response, Lost>
    where
        R::Response: Send,
    {
        self.send(request, version).await?;
        self.recv::<R>(version).await
    }

    async fn frame(&mut self) -> Result<Bytes, Lost> {
        loop {
            if let Some(length) = self.input.first_chunk::<4>() {
                let length = u32::from_be_bytes(*length) as usize;
                if self.input.len() >= 4 + length {
                    self.input.advance(4);
                    return Ok(self.input.split_to(length).freeze());
                }
            }
            match self.stream.read_buf(&mut self.input).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Err(Lost),
            }
        }
    }

    fn decode<R: Request>(&mut self, frame: &Bytes, version: i16) -> Result<R::Response, String> {
        let mut reader = Reader::new(frame);
        let header = ResponseHeader::decode(&mut reader, R::response_header_version(version));
        let header = header.map_err(|error| error.to_string())?;
        let expected = self.expected.pop_front();
        if expected != Some(header.correlation_id) {
            return Err(format!("answers {}, and not {expected:?}", header.correlation_id));
        }
        let response = R::Response::decode(&mut reader, version);
        let response = response.map_err(|error| error.to_string())?;
        if reader.remaining() > 0 {
            return Err(format!("{} bytes too many", reader.remaining()));
        }
        Ok(response)
    }
}

/// One of the versions of `R` that are served, between `least` and `most`.
pub(crate) fn version<R: Request>(dice: &mut Dice, least: i16, most: i16) -> i16 {
    let served = SERVED.iter().find(|served| served.api.code() == R::KEY);
    let (first, last) = served.map_or((0, 0), |it| (*it.versions.start(), *it.versions.end()));
    let (first, last) = (first.max(least), last.min(most));
    let many = u64::try_from(last - first + 1).unwrap_or(1);
    first + i16::try_from(dice.below(many)).unwrap_or_default()
}
