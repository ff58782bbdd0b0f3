//! The clients where one has to log in: a server whose listeners speak TLS, on which every request needs a
//! right. Each client goes through each door, once with good and once with bad credentials; with `--long`, or
//! when somebody asks for just this, the scenarios of the plain server go through each door as well.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use serde_json::json;

use super::clients::{CLIENTS, Client, Places};
use super::matrix::{Entry, Job, Needs, Outcome, Runner, Scenario, Verdict};
use super::options::{self, Options};
use super::server::{self, Server};
use super::{process, suite};

/// What the names of all steps begin with.
pub(crate) const NAME: &str = "secure";

/// A way to say who one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Door {
    /// Its steps are `secure/CLIENT/DOOR/SCENARIO`.
    pub name: &'static str,
    /// The SASL mechanism; without one, a certificate says it.
    mechanism: Option<&'static str>,
    /// The class by which the Java client logs in.
    java: &'static str,
}

const PLAIN: &str = "org.apache.kafka.common.security.plain.PlainLoginModule";
const BEARER: &str = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule";
const SCRAM: &str = "org.apache.kafka.common.security.scram.ScramLoginModule";

pub(crate) const DOORS: &[Door] = &[
    Door { name: "mutual-tls", mechanism: None, java: "" },
    Door { name: "plain", mechanism: Some("PLAIN"), java: PLAIN },
    Door { name: "scram-sha-256", mechanism: Some("SCRAM-SHA-256"), java: SCRAM },
    Door { name: "scram-sha-512", mechanism: Some("SCRAM-SHA-512"), java: SCRAM },
    Door { name: "oauthbearer", mechanism: Some("OAUTHBEARER"), java: BEARER },
];

/// What gives the Java client its token, and the property of its virtual machine by which it may read it.
const BEARER_HANDLER: &str =
    "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginCallbackHandler";
const ALLOWED_URLS: &str = "org.apache.kafka.sasl.oauthbearer.allowed.urls";

/// The door of who changes users and rules.
const ADMIN_DOOR: &str = "scram-sha-512";
const ADMIN: &str = "admin";
const USER: &str = "suite";

/// What the clients need for what they do, to what is called after their run, and nothing else.
const RIGHTS: &[(&str, &[&str])] = &[
    ("topic", TOPIC_RIGHTS),
    ("group", &["read", "describe", "delete"]),
    ("transactional-id", &["write", "describe"]),
];
const TOPIC_RIGHTS: &[&str] =
    &["read", "write", "create", "delete", "alter", "alter-configs", "describe-configs"];

/// The group of consumers that are told what to read: librdkafka asks for its coordinator all the same.
const GROUP_OF_READERS: &str = "none";

/// What the server of this part is told, beside what that of the other parts is; `{ssl}`, `{sasl}` and `{certs}`
/// are put in. That it can be reached in plain text, by nobody in particular, is for the question whether it is up.
const SETTINGS: &str = "--set listeners=PLAINTEXT://127.0.0.1:{port},SSL://127.0.0.1:{ssl},SASL_SSL://127.0.0.1:{sasl} \
    --set sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER \
    --set sasl.oauthbearer.jwks.endpoint.url=file://{certs}/jwks.json \
    --set sasl.oauthbearer.expected.audience=millstream \
    --set ssl.keystore.location={certs}/server.pem --set ssl.truststore.location={certs}/ca.pem \
    --set ssl.client.auth=required --set 'ssl.principal.mapping.rules=RULE:^CN=([^,\\\\]+)$/$1/' \
    --set delegation.token.secret.key=suite-suite-suite-suite-suite-suite \
    --set authorizer.class.name=standard --set super.users=User:admin";

/// Whether a client has something to do here.
pub(crate) fn wants(options: &Options, client: &Client, scenarios: &[Scenario]) -> bool {
    steps(options, scenarios).any(|(of, ..)| of.name == client.name)
}

/// The names of all steps that every run takes, as `--only` sees them.
pub(crate) fn names(scenarios: &[Scenario]) -> Vec<String> {
    all(scenarios).filter(|(_, _, scenario)| is_quick(scenario)).map(name).collect()
}

/// A client, a door and what it does there.
type Step<'a> = (&'static Client, &'static Door, &'a Scenario);

fn name((client, door, scenario): Step<'_>) -> String {
    format!("{NAME}/{}/{}/{}", client.name, door.name, scenario.name)
}

fn is_quick(scenario: &Scenario) -> bool {
    matches!(scenario.needs, Needs::Door | Needs::Admin)
}

/// Whether the scenario can be run by whoever has the rights of these clients: what is for the tools alone is about
/// the cluster.
fn is_possible(scenario: &Scenario, door: &Door) -> bool {
    match scenario.needs {
        Needs::Door => true,
        Needs::Admin => door.name == ADMIN_DOOR,
        Needs::Nothing | Needs::Records => scenario.only != ["java-tools"],
        Needs::Table | Needs::Others | Needs::Tables | Needs::Export => false,
    }
}

fn all(scenarios: &[Scenario]) -> impl Iterator<Item = Step<'_>> {
    CLIENTS.iter().flat_map(move |client| {
        DOORS.iter().flat_map(move |door| {
            let its =
                move |scenario: &&Scenario| scenario.is_for(client) && is_possible(scenario, door);
            scenarios.iter().filter(its).map(move |scenario| (client, door, scenario))
        })
    })
}

fn steps<'a>(options: &Options, scenarios: &'a [Scenario]) -> impl Iterator<Item = Step<'a>> {
    let runs = options.own_server && options.against.is_none();
    let is_asked = options.only.iter().any(|pattern| pattern.contains(NAME));
    let takes_all = options.long || is_asked;
    all(scenarios)
        .filter(move |step| runs && (takes_all || is_quick(step.2)) && options.wants(&name(*step)))
}

/// Runs what is asked for; the outcomes' scenarios are called `DOOR/SCENARIO`.
pub(crate) fn run(
    options: &Options,
    places: &Places,
    run: &str,
    clients: &[Client],
    scenarios: &[Scenario],
) -> Vec<Outcome> {
    let is_there = |step: &Step<'_>| clients.iter().any(|client| client.name == step.0.name);
    let steps: Vec<_> = steps(options, scenarios).filter(is_there).collect();
    if steps.is_empty() {
        return Vec::new();
    }
    println!("{} steps where one has to log in", steps.len());
    attempt(options, places, run, &steps).unwrap_or_else(|error| {
        let outcome = Outcome::of("server", NAME, Err(error));
        outcome.print();
        vec![outcome]
    })
}

fn attempt(
    options: &Options,
    places: &Places,
    run: &str,
    steps: &[Step<'_>],
) -> anyhow::Result<Vec<Outcome>> {
    let secured = Secured::start(places, run)?;
    let jobs: Vec<_> =
        steps.iter().map(|step| secured.job(places, run, *step)).collect::<Result<_, _>>()?;
    let bootstrap = secured.server.bootstrap.clone();
    let runner =
        Runner { places: places.clone(), bootstrap, run: run.to_owned(), jobs: options.jobs };
    let mut outcomes = runner.run_all(&jobs);
    outcomes.push(Outcome::of("server", "secure/count", secured.check_counts(&outcomes)));
    outcomes.push(Outcome::of("server", "secure/stop", secured.server.stop()));
    if outcomes.iter().all(|outcome| outcome.verdict != Verdict::Fail) {
        fs::remove_dir_all(places.run.join(NAME).join("data"))?;
    }
    Ok(outcomes)
}

/// The server, and what one needs to log in there.
struct Secured {
    server: Server,
    folder: PathBuf,
    ssl: u16,
    sasl: u16,
}

impl Secured {
    /// Makes certificates and users, starts the server, and gives rights to the clients of this run.
    fn start(places: &Places, run: &str) -> anyhow::Result<Self> {
        let folder = places.run.join(NAME);
        fs::create_dir_all(&folder)?;
        let own = Own { program: places.root.join("target/release/millstream"), folder: &folder };
        own.certificates()?;
        own.tokens()?;
        own.users()?;
        let (ssl, sasl) = (server::free_port()?, server::free_port()?);
        let settings = SETTINGS
            .replace("{ssl}", &ssl.to_string())
            .replace("{sasl}", &sasl.to_string())
            .replace("{certs}", &own.certs().display().to_string());
        let template = options::MILLSTREAM.replace(options::KAFKA_LISTEN, &settings);
        let server = Server::start(&template, &places.root, &folder)?;
        own.rights(run, sasl)?;
        Ok(Self { server, folder, ssl, sasl })
    }

    fn job(&self, places: &Places, run: &str, step: Step<'_>) -> anyhow::Result<Job> {
        let (client, door, scenario) = step;
        let arguments = match scenario.needs {
            Needs::Records => vec![suite::records_file(places, client)],
            _ => Vec::new(),
        };
        Ok(Job {
            client: *client,
            scenario: scenario.name.clone(),
            arguments,
            label: format!("{NAME}-{}-{}-{}", client.name, door.name, scenario.name),
            limit: Duration::from_secs(scenario.seconds),
            entry: Some(self.entry(door, scenario, run)?),
        })
    }

    /// How to come in by a door: good credentials, but for the scenario that is about bad ones.
    fn entry(&self, door: &Door, scenario: &Scenario, run: &str) -> anyhow::Result<Entry> {
        let user = if scenario.needs == Needs::Admin { ADMIN } else { USER };
        let bad = scenario.name == "bad-credentials";
        let certs = self.folder.join("certs");
        let authority = certs.join("ca.pem").display().to_string();
        let port = if door.mechanism.is_some() { self.sasl } else { self.ssl };
        let mut properties =
            format!("ssl.truststore.type=PEM\nssl.truststore.location={authority}\n");
        let mut settings = json!({ "authority": authority });
        match door.mechanism {
            None => {
                // Of another authority.
                let of = if bad { self.folder.join("strangers") } else { certs };
                let certificate = of.join(format!("client-{user}.pem")).display().to_string();
                properties += "security.protocol=SSL\nssl.keystore.type=PEM\n";
                properties += &format!("ssl.keystore.location={certificate}\n");
                settings["protocol"] = "SSL".into();
                settings["certificate"] = certificate.into();
            }
            Some(mechanism) => {
                properties += &format!("security.protocol=SASL_SSL\nsasl.mechanism={mechanism}\n");
                properties += &format!("sasl.jaas.config={} required", door.java);
                settings["protocol"] = "SASL_SSL".into();
                settings["mechanism"] = mechanism.into();
                if door.java == BEARER {
                    let file = self.token_file(bad);
                    settings["token"] = fs::read_to_string(&file)?.into();
                    properties +=
                        &format!(";\nsasl.login.callback.handler.class={BEARER_HANDLER}\n");
                    properties +=
                        &format!("sasl.oauthbearer.token.endpoint.url=file://{}\n", file.display());
                } else {
                    let password = if bad { "wrong".to_owned() } else { password(user) };
                    properties += &format!(" username=\"{user}\" password=\"{password}\";\n");
                    settings["user"] = user.into();
                    settings["password"] = password.into();
                }
            }
        }
        let name = format!("{}-{user}{}", door.name, if bad { "-bad" } else { "" });
        let (file, java) = (format!("{name}.json"), format!("{name}.properties"));
        fs::write(self.folder.join(&file), settings.to_string())?;
        fs::write(self.folder.join(&java), properties)?;
        Ok(Entry {
            door: door.name,
            bootstrap: format!("127.0.0.1:{port}"),
            run: format!("{run}-{}", door.name),
            file: self.folder.join(file),
            java: self.folder.join(java),
            java_options: format!("-D{ALLOWED_URLS}=file://{}", self.token_file(bad).display()),
        })
    }

    /// Where a token of the clients is.
    fn token_file(&self, bad: bool) -> PathBuf {
        self.folder.join(if bad { "strangers" } else { "certs" }).join("token")
    }

    /// That the server has counted what the clients have seen.
    fn check_counts(&self, outcomes: &[Outcome]) -> anyhow::Result<()> {
        let counted = |scenario: &str, by_certificate: bool| {
            let is_one = |outcome: &&Outcome| {
                let (door, its) = outcome.scenario.split_once('/').unwrap_or_default();
                its == scenario
                    && (door == "mutual-tls") == by_certificate
                    && outcome.verdict == Verdict::Pass
            };
            outcomes.iter().filter(is_one).count()
        };
        let metrics = self.server.metrics()?;
        for (metric, scenario, by_certificate) in [
            ("millstream_kafka_failed_logins_total", "bad-credentials", false),
            ("millstream_kafka_refused_tls_handshakes_total", "bad-credentials", true),
            ("millstream_kafka_logins_total", "round-trip", false),
        ] {
            let line = metrics.lines().find_map(|line| line.strip_prefix(metric));
            let found: f64 = line.with_context(|| format!("no {metric}"))?.trim().parse()?;
            let least = counted(scenario, by_certificate);
            anyhow::ensure!(found >= least as f64, "{metric}: {found} of {least} {scenario}");
        }
        Ok(())
    }
}

/// The password of a user of these tests.
fn password(user: &str) -> String {
    format!("the password of {user}")
}

/// Our own program.
struct Own<'a> {
    program: PathBuf,
    folder: &'a Path,
}

impl Own<'_> {
    fn certs(&self) -> PathBuf {
        self.folder.join("certs")
    }

    fn run(&self, words: &str, more: &[&str]) -> anyhow::Result<()> {
        let mut command = Command::new(&self.program);
        command.args(words.split(' ')).args(more).current_dir(self.folder);
        process::run(&format!("millstream {words}"), command, &self.folder.join("setup.log"))
    }

    /// An authority with a certificate for the server and one for the clients; and another authority.
    fn certificates(&self) -> anyhow::Result<()> {
        self.run("cert server --dir certs", &[])?;
        self.run("cert client --dir certs", &[USER])?;
        self.run("cert client --dir strangers", &[USER])
    }

    /// Tokens of an issuer that the server trusts, and of another one.
    fn tokens(&self) -> anyhow::Result<()> {
        for dir in ["certs", "strangers"] {
            let mut make = Command::new(&self.program);
            make.args(["cert", "token", "--seconds", "86400", "--dir", dir, USER]);
            let made = make.current_dir(self.folder).output().context("millstream cert token")?;
            anyhow::ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            let token = String::from_utf8(made.stdout)?;
            fs::write(self.folder.join(dir).join("token"), token.trim())?;
        }
        Ok(())
    }

    fn users(&self) -> anyhow::Result<()> {
        for user in [ADMIN, USER] {
            fs::write(self.folder.join(format!("{user}.txt")), password(user))?;
            let file = format!("{user}.txt");
            self.run("user add --data-dir data", &[user, "--password-file", &file])?;
        }
        Ok(())
    }

    fn rights(&self, run: &str, port: u16) -> anyhow::Result<()> {
        let (to, of) = (format!("--allow=User:{USER}"), format!("{run}-"));
        let at = format!("--bootstrap=127.0.0.1:{port}");
        let login = ["--ca=certs/ca.pem", "--login=admin", "--login-password-file=admin.txt"];
        let add = |resource: &str, name: &str, operations: &[&str], more: &[&str]| {
            let resource = format!("--{resource}={name}");
            let operations: Vec<_> =
                operations.iter().map(|it| format!("--operation={it}")).collect();
            let mut words = vec![to.as_str(), at.as_str(), resource.as_str()];
            words.extend(
                operations.iter().map(String::as_str).chain(login).chain(more.iter().copied()),
            );
            self.run("acl add", &words)
        };
        for (resource, operations) in RIGHTS {
            add(resource, &of, operations, &["--prefixed"])?;
        }
        add("group", GROUP_OF_READERS, &["describe"], &[])?;
        // Who reads the figures here has not said who he is.
        let mut figures = vec!["--allow=User:ANONYMOUS", "--operation=describe", "--cluster"];
        figures.push(&at);
        figures.extend(login);
        self.run("acl add", &figures)
    }
}

/// The outcomes as a table in Markdown: a row per door, a column per client.
pub(crate) fn table(outcomes: &[Outcome]) -> String {
    let mut text = String::from("| door |");
    let mut rule = String::from("| --- |");
    for client in CLIENTS {
        text += &format!(" {} |", client.name);
        rule += " --- |";
    }
    text += &format!("\n{rule}\n");
    for door in DOORS {
        let cells: Vec<_> = CLIENTS.iter().map(|client| cell(door, client, outcomes)).collect();
        if cells.iter().any(|cell| !cell.is_empty()) {
            text += &format!("| {} | {} |\n", door.name, cells.join(" | "));
        }
    }
    text
}

fn cell(door: &Door, client: &Client, outcomes: &[Outcome]) -> &'static str {
    let its = |outcome: &&Outcome| {
        outcome.client == client.name
            && outcome.scenario.split_once('/').is_some_and(|(of, _)| of == door.name)
    };
    let verdicts: Vec<_> = outcomes.iter().filter(its).map(|outcome| outcome.verdict).collect();
    match verdicts.as_slice() {
        [] => "",
        all if all.contains(&Verdict::Fail) => "FAIL",
        all if all.contains(&Verdict::Pass) => "yes",
        _ => "–",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenarios() -> Vec<Scenario> {
        let text = include_str!("../../../tests/clients/scenarios.json");
        serde_json::from_str(text).expect("valid")
    }

    /// The steps of a command line.
    fn steps_of(line: &str) -> Vec<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let options = Options::parse(&words).expect("valid");
        steps(&options, &scenarios()).map(name).collect()
    }

    #[test]
    fn every_client_goes_through_every_door_in_every_run() {
        let steps = steps_of("");
        for client in CLIENTS {
            for door in DOORS {
                for scenario in ["round-trip", "bad-credentials"] {
                    let step = format!("secure/{}/{}/{scenario}", client.name, door.name);
                    assert!(steps.contains(&step), "{step}");
                }
            }
        }
        assert!(steps.contains(&"secure/java-tools/scram-sha-512/acls-tool".to_owned()));
        assert!(!steps.contains(&"secure/java-tools/plain/acls-tool".to_owned()));
        assert!(!steps.iter().any(|step| step.ends_with("/group")));
    }

    #[test]
    fn all_scenarios_go_through_every_door_when_somebody_asks_for_it() {
        for line in ["--long", "--only secure", "--only secure/kafkajs/plain/"] {
            let steps = steps_of(line);
            assert!(steps.contains(&"secure/kafkajs/plain/group".to_owned()), "{line}");
            // They are about the whole cluster.
            assert!(!steps.iter().any(|step| step.ends_with("/quorum")), "{line}");
        }
        for line in ["--only kill", "--against 127.0.0.1:1", "--server cat", "--only /group"] {
            assert_eq!(steps_of(line), [""; 0], "{line}");
        }
    }
}
