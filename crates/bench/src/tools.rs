//! Other people's load generators: a cross-check of ours by clients that people use.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

/// What `kafka-producer-perf-test` says in its last line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) records_per_second: f64,
    /// 10^6 bytes per second.
    pub(crate) megabytes_per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

/// Produces `records` records of `record_bytes` with the defaults of the Java client and acks=all.
///
/// # Errors
///
/// When the program fails, or says something else than expected.
pub(crate) fn producer_perf_test(
    jars: &Path,
    address: SocketAddr,
    topic: &str,
    records: u64,
    record_bytes: usize,
) -> anyhow::Result<Verdict> {
    let output = Command::new("java")
        .args(["-Xmx512m", "-cp", &format!("{}/*", jars.display())])
        .arg("org.apache.kafka.tools.ProducerPerformance")
        .args(["--topic", topic, "--num-records", &records.to_string()])
        .args(["--record-size", &record_bytes.to_string(), "--throughput", "-1"])
        .args(["--producer-props", &format!("bootstrap.servers={address}"), "acks=all"])
        .stdin(Stdio::null())
        .output()
        .context("starting java")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "kafka-producer-perf-test has failed: {text}{errors}");
    let last = text.lines().rfind(|line| line.contains("99.9th")).unwrap_or_default();
    verdict(last).with_context(|| format!("kafka-producer-perf-test says: {text}{errors}"))
}

/// Whether kcat is on this machine.
pub(crate) fn has_kcat() -> bool {
    Command::new("kcat").arg("-V").output().is_ok_and(|output| output.status.success())
}

/// A file with so many lines of so many bytes, written once.
///
/// # Errors
///
/// When it can't be written.
pub(crate) fn lines(folder: &Path, count: u64, bytes: usize) -> anyhow::Result<PathBuf> {
    let path = folder.join(format!("lines-{count}-{bytes}"));
    if path.exists() {
        return Ok(path);
    }
    let mut file = BufWriter::new(File::create(&path)?);
    let mut state = 1_u64;
    for _ in 0..count {
        for _ in 0..bytes {
            // A linear congruential generator (Knuth's MMIX): text that does not compress well.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            file.write_all(&[b'!' + (state >> 33) as u8 % 90])?;
        }
        file.write_all(b"\n")?;
    }
    file.flush()?;
    Ok(path)
}

/// Produces each line of a file with librdkafka's defaults and acks=all; how long it took.
///
/// # Errors
///
/// When kcat fails.
pub(crate) fn kcat(address: SocketAddr, topic: &str, lines: &Path) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let output = Command::new("kcat")
        .args(["-P", "-b", &address.to_string(), "-t", topic, "-X", "acks=all", "-l"])
        .arg(lines)
        .stdin(Stdio::null())
        .output()
        .context("starting kcat")?;
    let took = begun.elapsed();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "kcat has failed: {errors}");
    Ok(took)
}

/// Reads `N records sent, R records/sec (M MB/sec), A ms avg latency, X ms max latency, P ms 50th,
/// Q ms 95th, S ms 99th, T ms 99.9th.` Its MB are 2^20 bytes.
fn verdict(line: &str) -> Option<Verdict> {
    let before = |mark: &str| -> Option<f64> {
        let (head, _) = line.split_once(mark)?;
        head.rsplit([' ', '(']).next()?.parse().ok()
    };
    Some(Verdict {
        records_per_second: before(" records/sec")?,
        megabytes_per_second: before(" MB/sec")? * f64::from(1 << 20) / 1e6,
        p50_us: before(" ms 50th")? * 1e3,
        p99_us: before(" ms 99th")? * 1e3,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_understood() {
        let line = "200000 records sent, 50000.5 records/sec (48.00 MB/sec), 12.34 ms avg latency, \
                    345.00 ms max latency, 9 ms 50th, 40 ms 95th, 77 ms 99th, 90 ms 99.9th.";
        let expected = Verdict {
            records_per_second: 50_000.5,
            megabytes_per_second: 50.331_648,
            p50_us: 9_000.0,
            p99_us: 77_000.0,
        };
        assert_eq!(verdict(line), Some(expected));
        assert_eq!(verdict("1 records sent, 5 records/sec"), None);
    }
}
