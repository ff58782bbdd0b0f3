//! What TLS and access rules cost: the same load in plain text without rules, over TLS, and with rules.
//!
//! A run of its own. Each of the two programs has two servers for it: one with a second port that speaks TLS, and
//! one that decides by rules.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, ensure};
use millstream_env::Env;
use millstream_tls::{ClientTls, ClientTlsSettings};
use millstream_wire::StrBytes;
use millstream_wire::create_acls_request::AclCreation;

use super::{READ, READERS, REST_MAX, Repetition, flood, now};
use crate::load::{self, Moved};
use crate::peer::{Door, Peer};
use crate::samples::Measure;
use crate::server::{Program, Server, System, free_port};
use crate::watch::{self, Cpu};

const WAYS: [&str; 2] = ["produce", "consume"];
const TOPIC: &str = "security";

/// How often each load is done before it counts: what a virtual machine has not often seen, it has not compiled.
const WARM_UPS: usize = 2;

/// Of these all but one are about others.
const RULES: usize = 1_000;

/// The numbers of the protocol: a topic, a name as it is and one that is a prefix, all operations, allowed.
const RESOURCE_TOPIC: i8 = 2;
const PATTERN_LITERAL: i8 = 3;
const PATTERN_PREFIXED: i8 = 4;
const OPERATION_ALL: i8 = 2;
const ALLOW: i8 = 3;

/// What is different from plain text that is open to all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum With {
    Nothing,
    Tls,
    Rules,
}

impl With {
    fn row(self, way: &str) -> String {
        match self {
            Self::Nothing => format!("security: {way}, plain"),
            Self::Tls => format!("security: {way} over TLS"),
            Self::Rules => format!("security: {way} with access rules"),
        }
    }
}

/// The names of the rows.
pub(crate) fn rows() -> [String; 4] {
    let of = |with: With| WAYS.map(|way| with.row(way));
    let ([a, b], [c, d]) = (of(With::Tls), of(With::Rules));
    [a, b, c, d]
}

/// The servers of one program.
struct Secured {
    system: System,
    /// With a port in plain text and one that speaks TLS.
    open: Server,
    tls: Door,
    /// With rules.
    ruled: Server,
}

/// What was moved in each way, and the CPU-seconds of the server for it.
type Run = [(Moved, f64); 2];

impl Repetition<'_> {
    pub(super) fn security(&mut self) -> anyhow::Result<()> {
        let files = self.certificates()?;
        for program in self.programs() {
            if program == Program::Null {
                continue;
            }
            let secured = self.secured(program, &files)?;
            self.compare(&secured)?;
            secured.open.stop()?;
            secured.ruled.stop()?;
        }
        Ok(())
    }

    /// An authority and a certificate by it, made anew.
    fn certificates(&self) -> anyhow::Result<PathBuf> {
        let folder = self.plan.scratch.join("certificates");
        let mut make = Command::new(&self.plan.server);
        make.args(["cert", "server", "--force", "--dir"]).arg(&folder);
        let made = make.output().context("making certificates")?;
        ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Ok(folder)
    }

    fn secured(&self, program: Program, files: &std::path::Path) -> anyhow::Result<Secured> {
        let tls_port = free_port()?;
        let open = Server::start_with(program, self.plan, self.runtime, |port| {
            ("-tls", tls_settings(program, port, tls_port, files))
        })?;
        let ruled = Server::start_with(program, self.plan, self.runtime, |_port| {
            ("-rules", rules_settings())
        })?;
        self.runtime
            .block_on(async { Peer::connect(ruled.address).await?.create_acls(rules()).await })?;
        let trust_store = files.join("ca.pem");
        let settings = ClientTlsSettings { trust_store, key_store: None };
        let tls = Door {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, tls_port)),
            tls: Some(ClientTls::load(&settings, &Env::real(self.runtime.handle().clone()))?),
        };
        Ok(Secured { system: program.systems()[0], open, tls, ruled })
    }

    /// One way and back: a machine with other work is not the same all the time.
    fn compare(&mut self, secured: &Secured) -> anyhow::Result<()> {
        const ORDER: [With; 3] = [With::Nothing, With::Tls, With::Rules];
        for with in [ORDER; WARM_UPS].into_iter().flatten() {
            self.secured_load(secured, with)?;
        }
        let mut runs = Vec::new();
        for with in ORDER.into_iter().chain(ORDER.into_iter().rev()) {
            runs.push((with, self.secured_load(secured, with)?));
        }
        let of = |with: With, way: usize| {
            let mine = runs.iter().filter(|(each, _)| *each == with);
            mine.filter_map(|(_, run)| run.get(way)).fold((0.0, 0.0), |sum, (moved, server)| {
                let cost = server / moved.gibibytes() / 2.0;
                (sum.0 + moved.megabytes_per_second() / 2.0, sum.1 + cost)
            })
        };
        for (number, way) in WAYS.into_iter().enumerate() {
            let (rate, cost) = of(With::Nothing, number);
            for with in [With::Tls, With::Rules] {
                let (its_rate, its_cost) = of(with, number);
                self.samples
                    .cell(&with.row(way), secured.system, self.number)
                    .put(Measure::MegabytesPerSecond, its_rate)
                    .put(Measure::KeptPercent, its_rate / rate * 100.0)
                    .put(Measure::CpuSecondsPerGibibyte, its_cost)
                    .put(Measure::CpuTimes, its_cost / cost);
            }
        }
        Ok(())
    }

    /// Writes, and reads what was written.
    fn secured_load(&self, secured: &Secured, with: With) -> anyhow::Result<Run> {
        let (server, door) = match with {
            With::Nothing => (&secured.open, Door::from(secured.open.address)),
            With::Tls => (&secured.open, secured.tls.clone()),
            With::Rules => (&secured.ruled, Door::from(secured.ruled.address)),
        };
        eprintln!("  {:?}: {with:?}", secured.system);
        let process = server.process();
        let synced = Command::new("sync").arg("-f").arg(&self.plan.scratch).status();
        ensure!(synced.context("sync")?.success(), "sync has failed");
        let encoded = READ.encode(TOPIC, now())?;
        let how = flood(READ, u64::MAX, self.size.flood_limit / 2);
        let reading = self.size.consume / 2;
        let before = Cpu::now(process)?;
        let produced = self.runtime.block_on(async {
            let mut peer = Peer::connect(door.clone()).await?;
            peer.create_topic(TOPIC, READ.partitions, &[]).await?;
            load::flood(door.clone(), &encoded, how).await
        })?;
        watch::rest(process, REST_MAX)?;
        let produce = before.since(process)?.server;
        let before = Cpu::now(process)?;
        let consumed = self.runtime.block_on(load::consume(
            door.clone(),
            TOPIC,
            READ.partitions,
            READERS,
            reading,
        ))?;
        let consume = before.since(process)?.server;
        self.runtime.block_on(async { Peer::connect(door).await?.delete_topic(TOPIC).await })?;
        Ok([(produced, produce), (consumed, consume)])
    }
}

/// A second listener.
fn tls_settings(
    program: Program,
    port: u16,
    tls_port: u16,
    files: &std::path::Path,
) -> Vec<String> {
    let places = format!("PLAINTEXT://127.0.0.1:{port},SSL://127.0.0.1:{tls_port}");
    let store = format!("ssl.keystore.location={}", files.join("server.pem").display());
    match program {
        Program::Kafka => {
            // Of two settings with one name the last counts; the controllers' listener stays.
            let controller = if port > 40_000 { port - 20_000 } else { port + 20_000 };
            let protocols = "PLAINTEXT:PLAINTEXT,SSL:SSL,CONTROLLER:PLAINTEXT";
            vec![
                format!("listeners={places},CONTROLLER://127.0.0.1:{controller}"),
                format!("advertised.listeners={places}"),
                format!("listener.security.protocol.map={protocols}"),
                "ssl.keystore.type=PEM".to_owned(),
                store,
            ]
        }
        Program::Millstream | Program::Null => vec![format!("listeners={places}"), store],
    }
}

/// Rules decide, and what none is about is open.
fn rules_settings() -> Vec<String> {
    [
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users=User:admin",
        "allow.everyone.if.no.acl.found=true",
    ]
    .map(str::to_owned)
    .into()
}

/// Many about others, and one for the generator.
fn rules() -> Vec<AclCreation> {
    let rule = |name: String, pattern: i8, user: &str| AclCreation {
        resource_type: RESOURCE_TOPIC,
        resource_name: StrBytes::from(name),
        resource_pattern_type: pattern,
        principal: StrBytes::from(format!("User:{user}")),
        host: StrBytes::from("*"),
        operation: OPERATION_ALL,
        permission_type: ALLOW,
    };
    let others = (1..RULES).map(|number| {
        let pattern = if number % 2 == 0 { PATTERN_LITERAL } else { PATTERN_PREFIXED };
        rule(format!("topic-{number}-"), pattern, &format!("user-{}", number % 100))
    });
    others.chain([rule(TOPIC.to_owned(), PATTERN_LITERAL, "ANONYMOUS")]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_rule_lets_the_generator_in() {
        let rules = rules();
        assert_eq!(rules.len(), RULES);
        let ours = rules.iter().filter(|rule| rule.principal.as_str() == "User:ANONYMOUS");
        assert_eq!(ours.map(|rule| rule.resource_name.as_str()).collect::<Vec<_>>(), [TOPIC]);
    }
}
