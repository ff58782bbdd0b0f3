//! A client that sends any request in any version, and decodes what comes back.

#![expect(clippy::panic, reason = "helpers of tests fail by panicking")]

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{Bytes, BytesMut};
use millstream::Server;
use millstream_auth::ClientExchange;
use millstream_record::BatchBuilder;
use millstream_types::Timestamp;
use millstream_wire::*;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio::net::TcpStream;

pub(crate) struct Client<S = DuplexStream> {
    stream: S,
    /// The APIs and versions that were asked.
    pub(crate) asked: Vec<(i16, i16)>,
}

impl Client {
    pub(crate) fn new(server: &Server) -> Self {
        Self::over(server.connect())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// A client over a connection of any kind.
    pub(crate) const fn over(stream: S) -> Self {
        Self { stream, asked: Vec::new() }
    }

    pub(crate) async fn ask<R: Request>(&mut self, version: i16, request: R) -> R::Response {
        let name = R::NAME;
        let segments = encode_request(&request, version, i32::from(version), Some("c".into()))
            .unwrap_or_else(|error| panic!("{name} v{version}: {error}"));
        for segment in segments {
            self.stream.write_all(&segment).await.expect("connected");
        }
        self.stream.flush().await.expect("connected");
        let frame = self.frame(name, version).await;
        let mut reader = Reader::new(&frame);
        let header = ResponseHeader::decode(&mut reader, R::response_header_version(version));
        assert_eq!(header.expect("a header").correlation_id, i32::from(version));
        let response = R::Response::decode(&mut reader, version)
            .unwrap_or_else(|error| panic!("{name} v{version}: {error}"));
        assert_eq!(reader.remaining(), 0, "{name} v{version}");
        self.asked.push((R::KEY, version));
        response
    }

    /// Logs in. What the server has said, or why it is refused.
    pub(crate) async fn log_in(
        &mut self,
        mut exchange: ClientExchange,
    ) -> Result<Vec<Bytes>, String> {
        let mechanism = exchange.mechanism().name().into();
        let answer = self.ask(1, SaslHandshakeRequest { mechanism }).await;
        assert_eq!(answer.error_code, 0, "{answer:?}");
        let (mut said, mut token) = (Vec::new(), exchange.first());
        loop {
            let request = SaslAuthenticateRequest { auth_bytes: token.into() };
            let answer = self.ask(2, request).await;
            if answer.error_code != 0 {
                return Err(answer.error_message.unwrap_or_default().to_string());
            }
            said.push(answer.auth_bytes.clone());
            match exchange.answer(&answer.auth_bytes).expect("to be trusted") {
                Some(next) => token = next,
                None => return Ok(said),
            }
        }
    }

    async fn frame(&mut self, name: &str, version: i16) -> Bytes {
        let length = self.stream.read_i32().await;
        let length = length.unwrap_or_else(|_| panic!("{name} v{version} ended the connection"));
        let mut frame = BytesMut::zeroed(usize::try_from(length).expect("a length"));
        self.stream.read_exact(&mut frame).await.expect("a whole frame");
        frame.freeze()
    }
}

pub(crate) fn batch() -> Bytes {
    let mut batch = BatchBuilder::new();
    batch.append(Timestamp(1_000), Some(b"k"), Some(b"v"), &[]);
    batch.build().expect("a batch")
}

/// A page, which has to be there.
pub(crate) async fn get(address: SocketAddr, page: &str) -> String {
    let answer = ask_for(address, page, "").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer
}

/// A page, asked for by who says that his name and password are these.
pub(crate) async fn get_as(
    address: SocketAddr,
    page: &str,
    (user, password): (&str, &str),
) -> String {
    let said = BASE64.encode(format!("{user}:{password}"));
    ask_for(address, page, &format!("Authorization: Basic {said}\r\n")).await
}

async fn ask_for(address: SocketAddr, page: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connects");
    let request =
        format!("GET {page} HTTP/1.1\r\nHost: localhost\r\n{headers}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sends");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("text");
    answer
}
