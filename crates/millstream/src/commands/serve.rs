//! `millstream serve`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context as _, anyhow, bail};
use clap::{Args, ValueEnum};
use millstream_broker::config::SecurityProtocol;
use millstream_client::Address;
use millstream_env::Env;
use millstream_env::core_dumps::forbid_core_dumps;
use millstream_env::open_files::raise_open_files_max;
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::cli::NameValue;
use crate::output::remark;
use crate::output::time::display;
use crate::{Place, Server, ServerConfig, Settings};

/// Where Kafka clients connect when nobody says where.
const KAFKA_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9092);

/// What `serve` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  millstream serve
  millstream serve --data-dir /var/lib/millstream --set num.partitions=12
  millstream serve --set listeners=SSL://0.0.0.0:9093 \\
      --set advertised.listeners=SSL://kafka.example.org:9093 --set ssl.keystore.location=server.pem
  millstream serve --in-memory --kafka-listen 127.0.0.1:0        (for tests: any free port)

Settings have Kafka's names where the meaning is the same; docs/configuration.md lists them. In a
configuration file they stand alone:
  num.partitions = 12
  auto.create.topics.enable = false
What is said with --set comes before what is in the file.

Log lines go to standard error; MILLSTREAM_LOG=debug in the environment asks for more of them.
It runs until Ctrl-C or SIGTERM, and then ends in order.")]
pub struct ServeArgs {
    /// Where Kafka clients connect, in plain text [default: 127.0.0.1:9092, unless the setting
    /// `listeners` says where]
    #[arg(long, value_name = "IP:PORT", value_parser = listener)]
    pub kafka_listen: Option<SocketAddr>,
    /// Where /livez, /readyz and /metrics are
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8080", value_parser = listener)]
    pub http_listen: SocketAddr,
    /// Where the data is
    #[arg(long, value_name = "PATH", default_value = "./millstream-data")]
    pub data_dir: PathBuf,
    /// Keep everything in memory: it is gone at the end
    #[arg(long, conflicts_with = "data_dir")]
    pub in_memory: bool,
    /// The address that clients are told to connect to [default: where it listens]
    #[arg(long, value_name = "HOST:PORT")]
    pub advertise: Option<Address>,
    /// A file with settings
    #[arg(long, value_name = "FILE.toml")]
    pub config: Option<PathBuf>,
    /// A setting; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub set: Vec<NameValue>,
    /// Let the system write a core dump when it crashes, where it does so: keys, passwords and records are in it
    #[arg(long)]
    pub core_dumps: bool,
    /// How log lines look: text, or json (one object on each line)
    #[arg(long, value_name = "FORMAT", default_value = "text", hide_possible_values = true)]
    pub log_format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object for each line.
    Json,
}

/// Reads where to listen.
fn listener(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!(
            "`{text}` is no IP address with a port: write 127.0.0.1:9092, [::1]:9092, or \
             0.0.0.0:9092 for all of this machine's addresses"
        )
    })
}

/// Runs a broker until it is told to stop.
pub(super) async fn run(args: ServeArgs) -> anyhow::Result<()> {
    start_log(args.log_format)?;
    let format = args.log_format;
    if !args.core_dumps
        && let Err(error) = forbid_core_dumps()
    {
        tracing::warn!(%error, "secrets would be in a core dump");
    }
    let config = args.server_config()?;
    if let Err(error) = raise_open_files_max() {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    // From here on, so that it also ends in order when it is told to while it starts.
    let mut stop = StopSignals::listen()?;
    let server = tokio::select! {
        started = Server::start(config) => started?,
        () = stop.next() => {
            tracing::info!("told to stop before it was ready");
            return Ok(());
        }
    };
    if let Some(http) = server.http_url() {
        remark(&ready(&places(server.kafka_addresses()), &http, format));
    }
    stop.next().await;
    tracing::info!("stopping");
    tokio::select! {
        () = server.stop() => Ok(()),
        // Whoever says it twice does not want to wait. What was acknowledged is safe.
        () = stop.next() => {
            bail!("told to stop twice: not everything was put in order; the next start does that")
        }
    }
}

/// Where clients connect: the address where that is all there is to say, listeners by name otherwise.
fn places(listeners: &[(String, SocketAddr)]) -> String {
    match listeners {
        [(name, address)] if *name == SecurityProtocol::Plaintext.to_string() => {
            address.to_string()
        }
        _ => {
            let each = listeners.iter().map(|(name, address)| format!("{name}://{address}"));
            each.collect::<Vec<_>>().join(" ")
        }
    }
}

/// The one line that says that clients are served, whichever log lines are wanted.
fn ready(kafka: &str, http: &str, format: LogFormat) -> String {
    match format {
        LogFormat::Text => format!("ready: Kafka clients at {kafka}, {http}"),
        // As the log writes it; but the log may have been told to write less.
        LogFormat::Json => {
            let http = http.split_once("://").map_or(http, |(_, address)| address);
            let now = display(Env::real(Handle::current()).clock.wall());
            format!(
                "{{\"timestamp\":\"{now}\",\"level\":\"INFO\",\"fields\":{{\"message\":\"ready\",\
                 \"kafka\":\"{kafka}\",\"http\":\"{http}\"}},\"target\":\"millstream\"}}"
            )
        }
    }
}

/// The environment variable that says which log lines are written.
const LOG_FILTER: &str = "MILLSTREAM_LOG";

fn start_log(format: LogFormat) -> anyhow::Result<()> {
    let filter = match std::env::var(LOG_FILTER) {
        Ok(text) => EnvFilter::builder().parse(&text).with_context(|| {
            format!(
                "{LOG_FILTER}={text} is no log filter: write a level (error, warn, info, debug, \
                 trace), or levels of parts such as info,millstream_kafka=debug"
            )
        })?,
        Err(std::env::VarError::NotPresent) => EnvFilter::new("info"),
        Err(error) => return Err(error).context(LOG_FILTER),
    };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Who embeds the program may have a log of its own already.
    let _ = match format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().try_init(),
    };
    Ok(())
}

/// SIGTERM, as service managers send it, and Ctrl-C. None that comes after [`Self::listen`] is lost.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("can't listen to signals");
        let terminate = listen(SignalKind::terminate())?;
        Ok(Self { terminate, interrupt: listen(SignalKind::interrupt())? })
    }

    /// Completes at the next of them.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

impl ServeArgs {
    fn server_config(self) -> anyhow::Result<ServerConfig> {
        let mut settings = match &self.config {
            None => Settings::new(),
            Some(path) => {
                let what = || format!("can't use {}", path.display());
                #[expect(clippy::disallowed_methods, reason = "the user's own file")]
                let bytes = std::fs::read(path).with_context(what)?;
                let text = String::from_utf8(bytes).with_context(what)?;
                read_settings(&text).with_context(what)?
            }
        };
        settings.extend(self.set.into_iter().map(|NameValue { name, value }| (name, value)));
        let listens = settings.get("listeners").is_some_and(|value| !value.trim().is_empty());
        let usual = (!listens).then_some(KAFKA_LISTEN);
        Ok(ServerConfig {
            place: if self.in_memory { Place::Memory } else { Place::Directory(self.data_dir) },
            kafka_listen: self.kafka_listen.or(usual),
            http_listen: Some(self.http_listen),
            advertise: self.advertise.map(|Address { host, port }| (host, port)),
            settings,
        })
    }
}

/// Reads settings; `a.b = 1`, `"a.b" = 1` and `b = 1` below `[a]` are the same.
fn read_settings(text: &str) -> anyhow::Result<Settings> {
    let mut settings = Settings::new();
    let table = text.parse::<toml::Table>().map_err(|error| {
        // Not as it says it itself, which shows the line: there may be a secret in it.
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        anyhow!("line {}: {}", before.matches('\n').count() + 1, error.message())
    })?;
    for (name, value) in table {
        flatten(name, value, &mut settings)?;
    }
    Ok(settings)
}

fn flatten(name: String, value: toml::Value, settings: &mut Settings) -> anyhow::Result<()> {
    let text = match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                flatten(format!("{name}.{key}"), value, settings)?;
            }
            return Ok(());
        }
        toml::Value::String(text) => text,
        toml::Value::Array(items) => {
            let items = items.into_iter().map(|item| match item {
                toml::Value::String(text) => Ok(text),
                other => bail!("{name}: a list has texts, not {other}"),
            });
            items.collect::<anyhow::Result<Vec<_>>>()?.join(",")
        }
        toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_) => {
            value.to_string()
        }
        toml::Value::Datetime(_) => bail!("{name}: no setting is a date"),
    };
    settings.insert(name, text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_however_they_are_written() {
        let text = r#"
            num.partitions = 4
            "log.retention.ms" = -1
            compression.type = "zstd"
            cleanup.policy = ["compact", "delete"]
            [group]
            initial.rebalance.delay.ms = 0
            [auto.create]
            topics.enable = false
        "#;
        let settings = read_settings(text).unwrap();
        let pairs: Vec<_> = settings.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(
            pairs,
            [
                ("auto.create.topics.enable", "false"),
                ("cleanup.policy", "compact,delete"),
                ("compression.type", "zstd"),
                ("group.initial.rebalance.delay.ms", "0"),
                ("log.retention.ms", "-1"),
                ("num.partitions", "4"),
            ]
        );
    }

    #[test]
    fn what_is_no_setting_is_refused() {
        for (text, expected) in [
            ("a = 1979-05-27", "a: no setting is a date"),
            ("a = [1]", "a: a list has texts, not 1"),
        ] {
            assert_eq!(read_settings(text).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn what_is_no_configuration_file_is_refused_and_not_repeated() {
        let text = "num.partitions = 4\ndelegation.token.secret.key = hunter2+hunter2/\n";
        let refused = read_settings(text).unwrap_err();
        let refused = format!("{refused:#} {refused:?}");
        assert!(refused.contains("line 2: "), "{refused}");
        assert!(!refused.contains("hunter2"), "{refused}");
    }
}
