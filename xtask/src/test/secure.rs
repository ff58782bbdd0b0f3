//! The clients where one has to log in: a server whose listeners speak TLS, on which every request needs a
//! right. Each client goes through each door, once with good and once with bad credentials, and our own commands
//! through one of them; with `--long`, or when somebody asks for just this, the scenarios of the plain server go
//! through each door as well. So do another server's clients, when somebody asks for just this: see `Security`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};

use own::{ADMIN, Own, USER, password};

use super::clients::{CLIENTS, Client, Places};
use super::matrix::{Entry, Job, Needs, Outcome, Runner, Scenario, Verdict};
use super::options::{self, Options};
use super::server::{self, Server};
use super::suite;

mod commands;
mod own;

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

/// For how many seconds a token is good that is to be renewed while it is used.
const TOKEN_SECONDS: u64 = 8;

/// What our server is told in this part, beside what it is told in the others; `{ssl}`, `{sasl}` and `{certs}`
/// are put in. That it can be reached in plain text, by nobody in particular, is for the question whether it is up.
const SETTINGS: &str = "--set listeners=PLAINTEXT://127.0.0.1:{port},SSL://127.0.0.1:{ssl},SASL_SSL://127.0.0.1:{sasl} \
    --set sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER \
    --set sasl.oauthbearer.jwks.endpoint.url=file://{certs}/jwks.json \
    --set sasl.oauthbearer.expected.audience=millstream \
    --set sasl.oauthbearer.expected.issuer=https://millstream.invalid \
    --set sasl.oauthbearer.clock.skew.seconds=0 \
    --set ssl.keystore.location={certs}/server.pem --set ssl.truststore.location={certs}/ca.pem \
    --set ssl.client.auth=required --set 'ssl.principal.mapping.rules=RULE:^CN=([^,\\\\]+)$/$1/' \
    --set delegation.token.secret.key=suite-suite-suite-suite-suite-suite \
    --set authorizer.class.name=standard --set super.users=User:admin";

/// How a server gets its doors.
struct Security<'a> {
    /// Has certificates and keys in `certs`, and the password of each user in `USER.txt`.
    folder: &'a Path,
    /// Where one comes in by a certificate.
    ssl: u16,
    /// Where one logs in.
    sasl: u16,
}

impl Security<'_> {
    /// The command of the server that is asked for. Ours is told by settings, any other by what comes last, which
    /// `tests/clients/peer/apache-kafka.sh` explains.
    fn command(&self, options: &Options) -> String {
        let Self { folder, ssl, sasl } = self;
        if !options.own_server {
            return format!("{} --secured {} {ssl} {sasl}", options.server, folder.display());
        }
        let settings = SETTINGS
            .replace("{ssl}", &ssl.to_string())
            .replace("{sasl}", &sasl.to_string())
            .replace("{certs}", &folder.join("certs").display().to_string());
        options::MILLSTREAM.replace(options::KAFKA_LISTEN, &settings)
    }
}

/// Whether somebody has to log in at all.
pub(crate) fn any(options: &Options, scenarios: &[Scenario]) -> bool {
    commands::is_wanted(options) || steps(options, scenarios).next().is_some()
}

/// Whether a client has something to do here.
pub(crate) fn wants(options: &Options, client: &Client, scenarios: &[Scenario]) -> bool {
    steps(options, scenarios).any(|(of, ..)| of.name == client.name)
}

/// The names of all steps that every run takes, as `--only` sees them.
pub(crate) fn names(scenarios: &[Scenario]) -> Vec<String> {
    let of_clients = all(scenarios).filter(|(_, _, scenario)| is_quick(scenario)).map(name);
    of_clients.chain([commands::NAME.to_owned()]).collect()
}

/// A client, a door and what it does there.
type Step<'a> = (&'static Client, &'static Door, &'a Scenario);

fn name((client, door, scenario): Step<'_>) -> String {
    format!("{NAME}/{}/{}/{}", client.name, door.name, scenario.name)
}

fn is_quick(scenario: &Scenario) -> bool {
    matches!(scenario.needs, Needs::Door | Needs::Admin | Needs::Tokens)
}

/// Whether the scenario can be run by whoever has the rights of these clients: what is for the tools alone is about
/// the cluster.
fn is_possible(scenario: &Scenario, door: &Door) -> bool {
    match scenario.needs {
        Needs::Door => true,
        Needs::Admin => door.name == ADMIN_DOOR,
        Needs::Tokens => door.java == BEARER,
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

fn is_asked(options: &Options) -> bool {
    options.only.iter().any(|pattern| pattern.contains(NAME))
}

/// Whether the server can have doors: another than ours has them when somebody asks for them.
fn is_open(options: &Options) -> bool {
    options.against.is_none() && (options.own_server || is_asked(options))
}

fn steps<'a>(options: &Options, scenarios: &'a [Scenario]) -> impl Iterator<Item = Step<'a>> {
    let (runs, takes_all) = (is_open(options), options.long || is_asked(options));
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
    if steps.is_empty() && !commands::is_wanted(options) {
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
    let secured = Secured::start(options, places, run)?;
    // Those wait for tokens to expire most of the time: they need no place among those that work.
    let (waiting, working): (Vec<_>, Vec<_>) =
        steps.iter().partition(|(_, _, scenario)| scenario.needs == Needs::Tokens);
    let jobs_of = |steps: Vec<&Step<'_>>| {
        steps.into_iter().map(|step| secured.job(places, run, *step)).collect::<Result<Vec<_>, _>>()
    };
    let (waiting, working) = (jobs_of(waiting)?, jobs_of(working)?);
    let runner = |jobs| Runner {
        places: places.clone(),
        bootstrap: secured.server.bootstrap.clone(),
        run: run.to_owned(),
        jobs,
    };
    let mut outcomes = std::thread::scope(|scope| {
        let later = scope.spawn(|| runner(waiting.len()).run_all(&waiting));
        let mut outcomes = runner(options.jobs).run_all(&working);
        outcomes.extend(later.join().unwrap_or_default());
        outcomes
    });
    anyhow::ensure!(outcomes.len() == steps.len(), "not every step has come to an end");
    if commands::is_wanted(options) {
        let Secured { own, ssl, sasl, .. } = &secured;
        let is_own = options.own_server;
        let tried = commands::run(&commands::Place { own, ssl: *ssl, sasl: *sasl, is_own }, run);
        let outcome = Outcome::of("millstream", "commands", tried);
        outcome.print();
        outcomes.push(outcome);
    }
    if options.own_server {
        outcomes.push(Outcome::of("server", "secure/count", secured.check_counts(&outcomes)));
    }
    outcomes.push(Outcome::of("server", "secure/stop", secured.server.stop()));
    if outcomes.iter().all(|outcome| outcome.verdict != Verdict::Fail) {
        fs::remove_dir_all(places.run.join(NAME).join("data"))?;
    }
    Ok(outcomes)
}

/// The server, and what one needs to log in there.
struct Secured {
    server: Server,
    own: Own,
    folder: PathBuf,
    ssl: u16,
    sasl: u16,
    /// What is in nobody's interest to take.
    bad_tokens: Value,
}

/// What a client comes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Credentials {
    Good,
    /// Of another authority, wrong, or worth nothing.
    Bad,
    /// Tokens that have to be renewed soon.
    Short,
}

impl Credentials {
    fn of(scenario: &Scenario) -> Self {
        match scenario.needs {
            Needs::Tokens => Self::Short,
            _ if scenario.name == "bad-credentials" => Self::Bad,
            _ => Self::Good,
        }
    }
}

impl Secured {
    /// Makes certificates and users, starts the server, and gives rights to the clients of this run.
    fn start(options: &Options, places: &Places, run: &str) -> anyhow::Result<Self> {
        let folder = places.run.join(NAME);
        fs::create_dir_all(&folder)?;
        let own = Own::new(places, &folder);
        own.certificates()?;
        own.tokens()?;
        own.passwords()?;
        if options.own_server {
            own.users()?;
        }
        let (ssl, sasl) = (server::free_port()?, server::free_port()?);
        let command = Security { folder: &folder, ssl, sasl }.command(options);
        let server = Server::start(&command, &places.root, &folder)?;
        own.rights(run, sasl)?;
        if options.own_server {
            own.show_figures(sasl)?;
        }
        let bad_tokens = own.bad_tokens()?;
        Ok(Self { server, own, folder, ssl, sasl, bad_tokens })
    }

    fn job(&self, places: &Places, run: &str, step: Step<'_>) -> anyhow::Result<Job> {
        let (client, door, scenario) = step;
        let arguments = match scenario.needs {
            Needs::Records => vec![suite::records_file(places, client)],
            _ => Vec::new(),
        };
        let label = format!("{NAME}-{}-{}-{}", client.name, door.name, scenario.name);
        Ok(Job {
            client: *client,
            scenario: scenario.name.clone(),
            arguments,
            limit: Duration::from_secs(scenario.seconds),
            entry: Some(self.entry(door, scenario, run, &label)?),
            label,
        })
    }

    /// How to come in by a door, for the step with this label.
    fn entry(
        &self,
        door: &Door,
        scenario: &Scenario,
        run: &str,
        label: &str,
    ) -> anyhow::Result<Entry> {
        let user = if scenario.needs == Needs::Admin { ADMIN } else { USER };
        let credentials = Credentials::of(scenario);
        let authority = self.own.certs().join("ca.pem").display().to_string();
        let port = if door.mechanism.is_some() { self.sasl } else { self.ssl };
        let mut properties =
            format!("ssl.truststore.type=PEM\nssl.truststore.location={authority}\n");
        let mut settings = json!({ "authority": authority });
        let token_file = self.token_file(credentials, label);
        match door.mechanism {
            None => {
                // Of another authority.
                let bad = credentials == Credentials::Bad;
                let of = if bad { self.folder.join("strangers") } else { self.own.certs() };
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
                    properties += &self.bearer(credentials, &token_file, &mut settings)?;
                } else {
                    let bad = credentials == Credentials::Bad;
                    let password = if bad { "wrong".to_owned() } else { password(user) };
                    properties += &format!(" username=\"{user}\" password=\"{password}\";\n");
                    settings["user"] = user.into();
                    settings["password"] = password.into();
                }
            }
        }
        let (file, java) = (format!("{label}.json"), format!("{label}.properties"));
        fs::write(self.folder.join(&file), settings.to_string())?;
        fs::write(self.folder.join(&java), properties)?;
        Ok(Entry {
            door: door.name,
            bootstrap: format!("127.0.0.1:{port}"),
            run: format!("{run}-{}", door.name),
            file: self.folder.join(file),
            java: self.folder.join(java),
            java_options: format!("-D{ALLOWED_URLS}=file://{}", token_file.display()),
        })
    }

    /// What a client needs that comes with tokens: the end of its properties, and settings.
    fn bearer(
        &self,
        credentials: Credentials,
        file: &Path,
        settings: &mut Value,
    ) -> anyhow::Result<String> {
        let mut properties = format!(";\nsasl.login.callback.handler.class={BEARER_HANDLER}\n");
        properties += &format!("sasl.oauthbearer.token.endpoint.url=file://{}\n", file.display());
        match credentials {
            Credentials::Good => {}
            Credentials::Bad => settings["bad_tokens"] = self.bad_tokens.clone(),
            Credentials::Short => {
                // Whoever renews it writes the next one there.
                fs::copy(self.token_file(Credentials::Good, ""), file)?;
                settings["make_token"] = self.own.token_words(TOKEN_SECONDS).into();
                settings["token_seconds"] = TOKEN_SECONDS.into();
                settings["token_file"] = file.display().to_string().into();
                properties += "sasl.login.refresh.min.period.seconds=1\n";
                properties += "sasl.login.refresh.buffer.seconds=1\n";
            }
        }
        settings["token"] = fs::read_to_string(file)?.into();
        Ok(properties)
    }

    /// Where a token of the clients is.
    fn token_file(&self, credentials: Credentials, label: &str) -> PathBuf {
        match credentials {
            Credentials::Good => self.own.certs().join("token"),
            Credentials::Bad => self.folder.join("strangers").join("token"),
            Credentials::Short => self.folder.join(format!("{label}.token")),
        }
    }

    /// That the server has counted what the clients have seen.
    fn check_counts(&self, outcomes: &[Outcome]) -> anyhow::Result<()> {
        let counted = |scenario: &str, is_one: &dyn Fn(&str, &Outcome) -> bool| {
            let passed = outcomes.iter().filter(|outcome| outcome.verdict == Verdict::Pass);
            let split =
                passed.filter_map(|outcome| Some((outcome.scenario.split_once('/')?, outcome)));
            split.filter(|((door, its), of)| *its == scenario && is_one(door, of)).count()
        };
        let by_certificate = |door: &str, _: &Outcome| door == "mutual-tls";
        let by_login = |door: &str, _: &Outcome| door != "mutual-tls";
        // Where a client can't, it comes anew.
        let again = |_: &str, outcome: &Outcome| outcome.data["logs in again"] == true;
        let least = [
            ("millstream_kafka_failed_logins_total", counted("bad-credentials", &by_login)),
            (
                "millstream_kafka_refused_tls_handshakes_total",
                counted("bad-credentials", &by_certificate),
            ),
            ("millstream_kafka_logins_total", counted("round-trip", &by_login)),
            ("millstream_kafka_renewed_logins_total", counted("token-renewal", &again)),
        ];
        let metrics = self.server.metrics()?;
        for (metric, least) in least {
            let line = metrics.lines().find_map(|line| line.strip_prefix(metric));
            let found: f64 = line.with_context(|| format!("no {metric}"))?.trim().parse()?;
            anyhow::ensure!(found >= least as f64, "{metric}: {found}, and at least {least} times");
        }
        Ok(())
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

    #[test]
    fn another_server_has_doors_when_somebody_asks_for_them() {
        let steps = steps_of("--server cat --only secure/kafkajs/plain/");
        assert!(steps.contains(&"secure/kafkajs/plain/bad-credentials".to_owned()));
        let folder = Path::new("/f");
        let security = Security { folder, ssl: 1, sasl: 2 };
        let options = Options::parse(&["--server", "kafka {port}"]).expect("valid");
        assert_eq!(security.command(&options), "kafka {port} --secured /f 1 2");
        let own = security.command(&Options::parse(&[]).expect("valid"));
        assert!(own.contains("SSL://127.0.0.1:1,SASL_SSL://127.0.0.1:2"), "{own}");
        assert!(own.contains("file:///f/certs/jwks.json"), "{own}");
    }

    #[test]
    fn tokens_are_renewed_at_the_door_that_takes_them() {
        let steps = steps_of("");
        for scenario in ["token-renewal", "token-expiry"] {
            let at = |door: &str| format!("secure/kafkajs/{door}/{scenario}");
            assert!(steps.contains(&at("oauthbearer")));
            assert!(!steps.contains(&at("plain")));
        }
    }
}
