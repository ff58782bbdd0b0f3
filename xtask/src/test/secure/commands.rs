//! Our own commands where one has to log in, on our server or on another that speaks the protocol: what is different
//! there is in `docs/compatibility.md`.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::super::options::Options;
use super::own::{ADMIN, Own, USER};

/// The name of the step.
pub(super) const NAME: &str = "secure/millstream/commands";

/// Somebody who is added, and has no rights at first.
const GUEST: &str = "guest";

/// What another server may take to know everywhere what it has been told.
const LIMIT: Duration = Duration::from_secs(30);

const SCRAM_512: &str = "SCRAM-SHA-512";

pub(super) fn is_wanted(options: &Options) -> bool {
    super::is_open(options) && options.wants(NAME)
}

/// The server that the commands are for.
pub(super) struct Place<'a> {
    pub(super) own: &'a Own,
    pub(super) ssl: u16,
    pub(super) sasl: u16,
    /// Whether it is ours.
    pub(super) is_own: bool,
}

/// Runs all of them, on things whose names begin with that of the run.
pub(super) fn run(place: &Place<'_>, run: &str) -> anyhow::Result<()> {
    let topic = format!("{run}-millstream");
    for user in [ADMIN, USER] {
        let shown = place.json(ADMIN, &format!("user list --login-mechanism {SCRAM_512}"))?;
        ensure!(has(&shown, "user", user), "no {user} in {shown}");
    }
    topics(place, &topic)?;
    records(place, &topic)?;
    groups(place, &topic)?;
    let guest = format!("{run}-{GUEST}");
    users(place, &guest)?;
    rules(place, &topic, &guest)?;
    quotas(place, &guest)?;
    differences(place, &guest)?;
    place.json(ADMIN, &format!("user delete {guest}"))?;
    until("the guest is out", || Ok(!place.call(&guest, "topic list")?.status.success()))?;
    place.json(ADMIN, &format!("topic delete {topic}"))?;
    until("the topic is gone", || Ok(!has(&place.json(ADMIN, "topic list")?, "topic", &topic)))
}

fn topics(place: &Place<'_>, topic: &str) -> anyhow::Result<()> {
    let created = place
        .json(USER, &format!("topic create {topic} --partitions 2 --set retention.ms=3600000"))?;
    ensure!(created["outcome"] == "created", "{created}");
    until("the topic is listed", || Ok(has(&place.json(USER, "topic list")?, "topic", topic)))?;
    let twice = place.call(USER, &format!("topic create {topic}"))?;
    ensure!(twice.status.code() == Some(1), "created twice");
    let valid = place.json(USER, &format!("topic create {topic}-not --dry-run"))?;
    ensure!(valid["outcome"] == "valid", "{valid}");
    place.json(USER, &format!("topic alter {topic} --set retention.ms=7200000 --partitions 3"))?;
    until("three partitions and another setting", || {
        let shown = place.json(USER, &format!("topic describe {topic}"))?;
        let partitions = shown["partitions"].as_array().map(Vec::len);
        let configs = shown["configs"].as_array().cloned().unwrap_or_default();
        let is_set = |one: &Value| one["name"] == "retention.ms" && one["value"] == "7200000";
        Ok(partitions == Some(3) && configs.iter().any(is_set))
    })
}

/// One record by each way to say who one is; all of them are read.
fn records(place: &Place<'_>, topic: &str) -> anyhow::Result<()> {
    let produce = format!("produce {topic} --partition 0 --key k --json");
    let mut expected = Vec::new();
    for mechanism in ["SCRAM-SHA-256", SCRAM_512, "PLAIN", "OAUTHBEARER"] {
        let line = format!("{produce} --format lines --login-mechanism {mechanism}");
        ok(&line, place.run(USER, &line, &format!("{mechanism}\n"))?)?;
        expected.push(mechanism);
    }
    let shown = format!("{produce} --format lines --cert certs/client-{USER}.pem");
    ok(&shown, place.at(place.ssl, &shown, "certificate\n")?)?;
    expected.push("certificate");
    let read = place.lines(USER, &format!("consume {topic} --partition 0"))?;
    let values: Vec<_> = read.iter().map(|record| record["value"].clone()).collect();
    ensure!(values == expected, "{values:?} instead of {expected:?}");
    let wrong = place.run_with(USER, &format!("{USER}-wrong.txt"), "topic list", "")?;
    ensure!(wrong.status.code() == Some(1), "logged in by a wrong password");
    let said = String::from_utf8_lossy(&wrong.stderr);
    ensure!(said.contains(&format!("login of `{USER}`")), "{said}");
    Ok(())
}

fn groups(place: &Place<'_>, topic: &str) -> anyhow::Result<()> {
    let lag = || {
        let shown = place.json(USER, &format!("group describe {topic}"))?;
        Ok::<_, anyhow::Error>(shown["total_lag"].clone())
    };
    let read = place.lines(USER, &format!("consume {topic} --group {topic} --from earliest"))?;
    ensure!(read.len() == 5, "{} records", read.len());
    ensure!(has(&place.json(USER, "group list")?, "group", topic), "the group is not listed");
    until("all is committed", || Ok(lag()? == 0))?;
    place.json(USER, &format!("group reset {topic} --topic {topic} --to earliest"))?;
    until("the offsets are back", || Ok(lag()? == 5))?;
    let again = place.lines(USER, &format!("consume {topic} --group {topic}"))?;
    ensure!(again.len() == 5, "{} records after the reset", again.len());
    until("the member has left", || {
        let deleted = place.call(USER, &format!("group delete {topic}"))?;
        Ok(deleted.status.success())
    })?;
    ensure!(!has(&place.json(USER, "group list")?, "group", topic), "the group is still listed");
    Ok(())
}

fn users(place: &Place<'_>, guest: &str) -> anyhow::Result<()> {
    fs::write(place.own.folder.join(format!("{guest}.txt")), super::password(guest))?;
    let added = place.json(ADMIN, &format!("user add {guest} --password-file {guest}.txt"))?;
    ensure!(added["mechanisms"] == json!(["SCRAM-SHA-256", SCRAM_512]), "{added}");
    until("the guest is listed", || Ok(has(&place.json(ADMIN, "user list")?, "user", guest)))?;
    for mechanism in ["SCRAM-SHA-256", SCRAM_512] {
        let line = format!("topic list --login-mechanism {mechanism}");
        until("the guest gets in", || Ok(place.call(guest, &line)?.status.success()))?;
        let shown = place.json(guest, &line)?;
        ensure!(shown == json!([]), "somebody without rights is shown {shown}");
    }
    Ok(())
}

fn rules(place: &Place<'_>, topic: &str, guest: &str) -> anyhow::Result<()> {
    let read = format!("consume {topic} --partition 0");
    let denied = place.call(guest, &read)?;
    ensure!(denied.status.code() == Some(1), "somebody without rights has read");
    let said = String::from_utf8_lossy(&denied.stderr);
    ensure!(said.contains("AUTHORIZATION_FAILED"), "{said}");
    let of = format!("--topic {topic}");
    let allow = format!("acl add --allow User:{guest} --operation read --host 127.0.0.1 {of}");
    place.json(ADMIN, &allow)?;
    until("the rule is listed", || {
        let listed = place.json(ADMIN, &format!("acl list --principal User:{guest} {of}"))?;
        let expected = json!([{
            "principal": format!("User:{guest}"), "permission": "allow", "operation": "read",
            "resource": "topic", "pattern": "literal", "name": topic, "host": "127.0.0.1"
        }]);
        Ok(listed == expected)
    })?;
    until("the guest may read", || Ok(place.call(guest, &read)?.status.success()))?;
    ensure!(place.lines(guest, &read)?.len() == 5, "not all records");
    place.json(ADMIN, &format!("acl remove --principal User:{guest} {of}"))?;
    until("the guest may not read", || Ok(!place.call(guest, &read)?.status.success()))
}

fn quotas(place: &Place<'_>, guest: &str) -> anyhow::Result<()> {
    place.json(ADMIN, &format!("quota set --user {guest} --bytes-in 1MB/s --requests 50%"))?;
    let shows = |expected: Value| {
        until("quotas are listed", || {
            Ok(place.json(ADMIN, &format!("quota list --user {guest}"))? == expected)
        })
    };
    let of = |limits: Value| json!([{ "entity": { "user": guest }, "limits": limits }]);
    shows(of(json!({ "producer_byte_rate": 1e6, "request_percentage": 50.0 })))?;
    place.json(ADMIN, &format!("quota remove --user {guest} --requests"))?;
    shows(of(json!({ "producer_byte_rate": 1e6 })))?;
    place.json(ADMIN, &format!("quota remove --user {guest}"))?;
    shows(json!([]))
}

/// What another server does not offer, or does in another way.
fn differences(place: &Place<'_>, guest: &str) -> anyhow::Result<()> {
    // Ours takes no rule that could match nobody.
    let (nobody, of) = (format!("Role:{guest}"), format!("--operation read --topic {guest}"));
    let added = place.call(ADMIN, &format!("acl add --allow {nobody} {of}"))?;
    let said = String::from_utf8_lossy(&added.stderr);
    ensure!(added.status.success() != place.is_own, "a rule for `{nobody}`: {said}");
    if !place.is_own {
        until("the rule is there and is removed", || {
            let removed = place.json(ADMIN, &format!("acl remove --principal {nobody} {of}"))?;
            Ok(removed != json!([]))
        })?;
        // The rest is not answered there.
        return Ok(());
    }
    let denied = place.call(guest, "user list")?;
    let said = String::from_utf8_lossy(&denied.stderr);
    ensure!(denied.status.code() == Some(1) && said.contains("CLUSTER_AUTHORIZATION"), "{said}");
    Ok(())
}

/// Whether a list has something with this field.
fn has(list: &Value, field: &str, value: &str) -> bool {
    list.as_array().is_some_and(|all| all.iter().any(|one| one[field] == value))
}

/// What a command has said that has ended well.
fn ok(line: &str, output: Output) -> anyhow::Result<String> {
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "millstream {line}: {}\n{said}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

/// Asks again until it holds: rules and groups take a moment, of which nobody is told from outside.
fn until(what: &str, holds: impl Fn() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let deadline = Instant::now() + LIMIT;
    while !holds()? {
        ensure!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

impl Place<'_> {
    /// Runs a command at a port; nobody logs in but by what is in `line`.
    fn at(&self, port: u16, line: &str, input: &str) -> anyhow::Result<Output> {
        let mut command = Command::new(&self.own.program);
        command.args(line.split(' ')).args(["--ca", "certs/ca.pem"]);
        command.args(["--bootstrap", &format!("127.0.0.1:{port}")]).current_dir(&self.own.folder);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("starting our program")?;
        let mut typed = child.stdin.take().context("no standard input")?;
        // A command that fails does not wait for it.
        let _ = typed.write_all(input.as_bytes());
        drop(typed);
        child.wait_with_output().context("waiting for our program")
    }

    /// Runs a command as somebody whose password, or token, is in a file.
    fn run_with(&self, user: &str, file: &str, line: &str, input: &str) -> anyhow::Result<Output> {
        let line = format!("{line} --login {user} --login-password-file {file}");
        self.at(self.sasl, &line, input)
    }

    fn run(&self, user: &str, line: &str, input: &str) -> anyhow::Result<Output> {
        let by_token = line.contains("OAUTHBEARER");
        let file = if by_token { "certs/token".to_owned() } else { format!("{user}.txt") };
        self.run_with(user, &file, line, input)
    }

    fn call(&self, user: &str, line: &str) -> anyhow::Result<Output> {
        self.run(user, line, "")
    }

    /// What a command shows as JSON, line by line.
    fn lines(&self, user: &str, line: &str) -> anyhow::Result<Vec<Value>> {
        let said = ok(line, self.call(user, &format!("{line} --json"))?)?;
        let parse = |text| serde_json::from_str(text).with_context(|| format!("{line}: {text}"));
        said.lines().map(parse).collect()
    }

    /// The last thing that it shows.
    fn json(&self, user: &str, line: &str) -> anyhow::Result<Value> {
        self.lines(user, line)?.pop().with_context(|| format!("{line} shows nothing"))
    }
}
