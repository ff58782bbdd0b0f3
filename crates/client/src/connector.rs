//! Ways to reach a broker: over TCP, or in the same process.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::TcpStream;

/// Where a broker listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// A name or an IP address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// The port that is meant when none is given.
pub const DEFAULT_PORT: u16 = 9092;

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no address: write HOST:PORT, such as 127.0.0.1:9092")]
pub struct BadAddress(String);

impl Address {
    /// An address of its two parts.
    #[must_use]
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    /// Reads a list of addresses with commas between them.
    ///
    /// # Errors
    ///
    /// [`BadAddress`] for the first part that is none, and when there is none at all.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, BadAddress> {
        text.split(',').map(|part| part.trim().parse()).collect()
    }
}

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let bad = || BadAddress(text.to_owned());
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or_else(bad)?;
                (host, if port.is_empty() { None } else { port.strip_prefix(':').or(Some("")) })
            }
            None => match text.rsplit_once(':') {
                // More colons are an IPv6 address without brackets: its port can't be told apart.
                Some((host, _)) if host.contains(':') => return Err(bad()),
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let port = port.map_or(Ok(DEFAULT_PORT), str::parse).map_err(|_| bad())?;
        let legal = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c == '/');
        if legal { Ok(Self::new(host, port)) } else { Err(bad()) }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// A stream of bytes in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Opens streams to brokers.
pub trait Connector: fmt::Debug + Send + Sync {
    /// Opens a stream to whoever listens at `address`.
    fn connect(&self, address: &Address) -> BoxFuture<'static, io::Result<Box<dyn Duplex>>>;
}

/// Connects over TCP, without delaying small writes.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpConnector;

impl Connector for TcpConnector {
    fn connect(&self, address: &Address) -> BoxFuture<'static, io::Result<Box<dyn Duplex>>> {
        let Address { host, port } = address.clone();
        Box::pin(async move {
            let stream = TcpStream::connect((host.as_str(), port)).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Duplex>)
        })
    }
}

type Open = dyn Fn(&Address) -> io::Result<DuplexStream> + Send + Sync;

/// Connects to brokers of the same process: a closure makes the two ends of a pipe, hands one to
/// the broker and returns the other.
#[derive(Clone)]
pub struct InProcess(Arc<Open>);

impl InProcess {
    /// A connector that asks `open` for each connection.
    pub fn new(
        open: impl Fn(&Address) -> io::Result<DuplexStream> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(open))
    }
}

impl fmt::Debug for InProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InProcess")
    }
}

impl Connector for InProcess {
    fn connect(&self, address: &Address) -> BoxFuture<'static, io::Result<Box<dyn Duplex>>> {
        let stream = (self.0)(address).map(|stream| Box::new(stream) as Box<dyn Duplex>);
        Box::pin(std::future::ready(stream))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<(&str, u16)>) {
        let expected = expected.map(|(host, port)| Address::new(host, port));
        assert_eq!(text.parse::<Address>().ok(), expected, "{text}");
    }

    #[test]
    fn addresses() {
        check("127.0.0.1:9092", Some(("127.0.0.1", 9092)));
        check("kafka.example.org", Some(("kafka.example.org", DEFAULT_PORT)));
        check("[::1]:19092", Some(("::1", 19092)));
        check("[::1]", Some(("::1", DEFAULT_PORT)));
        check("::1", None);
        check("::1:9092", None);
        check("[::1]x9092", None);
        check("[::1]:", None);
        check("localhost:", None);
        check("localhost:65536", None);
        check(":9092", None);
        check("", None);
        check("http://localhost:9092", None);
        check("local host:9092", None);
    }

    #[test]
    fn display_is_what_parse_reads() {
        for text in ["127.0.0.1:9092", "[::1]:19092", "kafka:1"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn lists() {
        let list = Address::parse_list("a:1, b:2").unwrap();
        assert_eq!(list, [Address::new("a", 1), Address::new("b", 2)]);
        assert!(Address::parse_list("a:1,,b:2").is_err());
        assert!(Address::parse_list("").is_err());
    }
}
