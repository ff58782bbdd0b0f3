//! The server under test: started on free ports, and stopped.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::process;

const READY_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// An ApiVersions request, version 0, from a client without a name.
const API_VERSIONS: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff];

/// A server process; killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub bootstrap: String,
    pub log: PathBuf,
    /// Where its pages are, if the command says so.
    http: Option<String>,
}

impl Server {
    /// Starts `template` in the folder `root`, its data and log in `folder`, and waits until it answers.
    ///
    /// # Errors
    ///
    /// When it doesn't start, ends early, or isn't ready in time; the end of its log is in the error.
    pub(crate) fn start(template: &str, root: &Path, folder: &Path) -> anyhow::Result<Self> {
        let (port, http) = (free_port()?, free_port()?);
        let data = folder.join("data");
        let log = folder.join("server.log");
        let mut command = Command::new("sh");
        command.current_dir(root);
        command.args(["-c", &format!("exec {}", fill(template, port, http, &data))]);
        let child = process::start(command, &folder.join("server.out"), &log)?;
        let http = template.contains("{http}").then(|| format!("127.0.0.1:{http}"));
        let mut server = Self { child, bootstrap: format!("127.0.0.1:{port}"), log, http };
        server.wait_ready()?;
        Ok(server)
    }

    fn wait_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_LIMIT;
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended at once ({status}):\n{}", process::tail(&self.log, 30));
            }
            if speaks_kafka(&self.bootstrap) && self.http.as_deref().is_none_or(says_ready) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                bail!("the server wasn't ready in time:\n{}", process::tail(&self.log, 30));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What its page of figures says.
    ///
    /// # Errors
    ///
    /// When it has no such page.
    pub(crate) fn metrics(&self) -> anyhow::Result<String> {
        let address = self.http.as_deref().context("the server has no pages")?;
        let request =
            format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
        anyhow::ensure!(head.starts_with("HTTP/1.1 200"), "{head}");
        Ok(body.to_owned())
    }

    /// Asks the server to end (SIGTERM).
    ///
    /// # Errors
    ///
    /// When it had ended before, doesn't end in time, or ends as failed.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the server had ended ({status}):\n{}", process::tail(&self.log, 30));
        }
        process::signal(&self.child.id().to_string(), "TERM")?;
        let Some(status) = process::wait(&mut self.child, STOP_LIMIT)? else {
            bail!("the server didn't stop on SIGTERM:\n{}", process::tail(&self.log, 30));
        };
        // 143: a server in Java that has stopped in good order on SIGTERM.
        let fine = status.success() || status.code() == Some(143);
        anyhow::ensure!(
            fine,
            "the server stopped with {status}:\n{}",
            process::tail(&self.log, 30)
        );
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        process::kill(&mut self.child);
    }
}

/// Puts the ports and the data folder into a server command.
pub(crate) fn fill(template: &str, port: u16, http: u16, data: &Path) -> String {
    template
        .replace("{port}", &port.to_string())
        .replace("{http}", &http.to_string())
        .replace("{data}", &data.display().to_string())
}

/// A port that nothing listens on now.
///
/// # Errors
///
/// When the machine has none.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("looking for a free port")?;
    Ok(listener.local_addr()?.port())
}

/// Whether the server answers an ApiVersions request.
pub(crate) fn speaks_kafka(address: &str) -> bool {
    exchange(address, &API_VERSIONS, 10).is_ok_and(|answer| answer[4..8] == API_VERSIONS[8..12])
}

fn says_ready(address: &str) -> bool {
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    exchange(address, request.as_bytes(), 12).is_ok_and(|answer| answer[8..12] == *b" 200")
}

/// Sends a request and reads the first `length` bytes of the answer.
fn exchange(address: &str, request: &[u8], length: usize) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(request)?;
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}
