//! A server to drive, and the command line that drives it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A running `millstream serve` on free ports. Killed when dropped.
pub(crate) struct Server {
    child: Child,
    log: BufReader<ChildStderr>,
    /// What it said up to its ready line.
    pub(crate) said: String,
    /// Where Kafka clients connect.
    pub(crate) kafka: String,
    /// Where the pages are.
    pub(crate) http: String,
}

/// How a command has ended, and what it said.
pub(crate) struct Ran {
    line: String,
    code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A command that runs until it is told to stop.
pub(crate) struct Running {
    child: Child,
    out: BufReader<ChildStdout>,
}

/// The program with an empty environment, so that nobody's settings get into a test.
fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The words of a line; what stands between `'` is one.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (at, part) in line.split('\'').enumerate() {
        if at % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

/// A folder for one test.
pub(crate) fn folder() -> TempDir {
    TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// Runs the program to its end, with `input` on its standard input.
pub(crate) fn run(line: &str, bootstrap: Option<&str>, input: &[u8]) -> Ran {
    let mut command = program();
    if let Some(bootstrap) = bootstrap {
        command.env("MILLSTREAM_BOOTSTRAP", bootstrap);
    }
    finish(command, line, input)
}

/// Runs the program to its end, told which log lines to write.
pub(crate) fn run_with_log_filter(line: &str, filter: &str) -> Ran {
    let mut command = program();
    command.env("MILLSTREAM_LOG", filter);
    finish(command, line, b"")
}

fn finish(mut command: Command, line: &str, input: &[u8]) -> Ran {
    command.args(words(line)).stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        // A command that fails early does not read; what it says is what counts.
        scope.spawn(move || drop(stdin.write_all(input)));
        child.wait_with_output().unwrap()
    });
    let Output { status, stdout, stderr } = output;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { line: line.to_owned(), code: status.code(), out: text(stdout), err: text(stderr) }
}

/// The addresses in a ready line, of either format.
fn ready(line: &str) -> Option<(String, String)> {
    if let Ok(Value::Object(line)) = serde_json::from_str(line) {
        let fields = line["fields"].as_object()?;
        let text = |name: &str| Some(fields.get(name)?.as_str()?.to_owned());
        return if text("message")? == "ready" { text("kafka").zip(text("http")) } else { None };
    }
    let addresses = line.trim_end().strip_prefix("ready: Kafka clients at ")?;
    let (kafka, http) = addresses.split_once(", http")?;
    let (_, http) = http.split_once("://")?;
    Some((kafka.to_owned(), http.to_owned()))
}

impl Ran {
    /// What it said, which must have gone well, and without a word on standard error.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}: {}{}", self.line, self.out, self.err);
        assert_eq!(self.err, "", "{}", self.line);
        self.out
    }

    /// What it said, as one document of JSON.
    #[track_caller]
    pub(crate) fn json(self) -> Value {
        let line = self.line.clone();
        let out = self.ok();
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{line}: {error}: {out}"))
    }

    /// What it said, as one document of JSON in each line.
    #[track_caller]
    pub(crate) fn json_lines(self) -> Vec<Value> {
        self.ok().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// It must have failed with this code, and have said all of this on standard error.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, pieces: &[&str]) {
        assert_eq!(self.code, Some(code), "{}: {}{}", self.line, self.out, self.err);
        for piece in pieces {
            assert!(self.err.contains(piece), "{}: no {piece:?} in: {}", self.line, self.err);
        }
    }
}

impl Server {
    /// Starts one that keeps everything in memory.
    pub(crate) fn in_memory() -> Self {
        Self::start("--in-memory --set group.initial.rebalance.delay.ms=0")
    }

    /// Starts one over a directory.
    pub(crate) fn in_directory(path: &Path) -> Self {
        Self::start(&format!("--data-dir {}", path.display()))
    }

    /// Starts one with these options beside the listeners, and reads its log to the ready line.
    #[track_caller]
    pub(crate) fn start(options: &str) -> Self {
        let says = options.contains("--kafka-listen") || options.contains("listeners=");
        let listen = if says { "" } else { "--kafka-listen 127.0.0.1:0" };
        let line = format!("serve --http-listen 127.0.0.1:0 {listen} {options}");
        let mut child = program().args(words(&line)).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let none = String::new;
        let mut server = Self { child, log, said: none(), kafka: none(), http: none() };
        while server.kafka.is_empty() {
            let at = server.said.len();
            let read = server.log.read_line(&mut server.said).unwrap();
            assert_ne!(read, 0, "{line}: {}", server.said);
            if let Some(addresses) = ready(&server.said[at..]) {
                (server.kafka, server.http) = addresses;
            }
        }
        server
    }

    /// Runs a command on it.
    pub(crate) fn cli(&self, line: &str) -> Ran {
        self.cli_with(line, "")
    }

    /// Runs a command on it that reads this.
    pub(crate) fn cli_with(&self, line: &str, input: impl AsRef<[u8]>) -> Ran {
        run(line, Some(&self.kafka), input.as_ref())
    }

    /// Runs commands on it, each of which says exactly this.
    #[track_caller]
    pub(crate) fn check(&self, cases: &[(&str, &str)]) {
        for (line, expected) in cases {
            assert_eq!(self.cli(line).ok(), *expected, "{line}");
        }
    }

    /// Starts a command on it that goes on until it is told to stop; its input stays open.
    pub(crate) fn cli_running(&self, line: &str) -> Running {
        let mut command = program();
        command.args(words(line)).stdin(Stdio::piped()).env("MILLSTREAM_BOOTSTRAP", &self.kafka);
        let mut child = command.spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Running { child, out }
    }

    /// Status and body of a page.
    pub(crate) fn page(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.http).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// The sum of a metric's samples whose labels contain `label`.
    pub(crate) fn metric(&self, name: &str, label: &str) -> f64 {
        let (status, text) = self.page("/metrics");
        assert_eq!(status, 200);
        let is_asked = |series: &str| {
            let rest = series.strip_prefix(name);
            rest.is_some_and(|rest| {
                (rest.is_empty() || rest.starts_with('{')) && rest.contains(label)
            })
        };
        let samples: Vec<f64> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.rsplit_once(' '))
            .filter(|(series, _)| is_asked(series))
            .map(|(_, value)| value.parse().unwrap())
            .collect();
        assert_ne!(samples.len(), 0, "no {name} with {label:?} in:\n{text}");
        samples.iter().sum()
    }

    /// Tells it to stop, as a service manager does; its exit code, and what it said after its
    /// ready line.
    pub(crate) fn terminate(mut self) -> (Option<i32>, String) {
        signal("TERM", &self.child);
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    /// The next line of its output; waits for it.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        assert_ne!(self.out.read_line(&mut line).unwrap(), 0, "it has ended");
        line
    }

    /// Writes to its input.
    pub(crate) fn write(&mut self, text: &str) {
        self.child.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Tells it to stop; it must end well.
    pub(crate) fn terminate(self) {
        assert_eq!(self.end("TERM"), (Some(0), String::new()));
    }

    /// Sends it a signal; how it ends, and what it says on standard error.
    pub(crate) fn end(mut self, name: &str) -> (Option<i32>, String) {
        signal(name, &self.child);
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap().code(), said)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn signal(name: &str, child: &Child) {
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
}
