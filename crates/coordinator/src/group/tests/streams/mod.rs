//! Streams groups: clients that do as KIP-1071 says, in a world that a test changes.

mod assign;
mod exhaustive;
pub(super) mod hostile;
mod laws;
mod records;
mod scenarios;
mod topics;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use millstream_types::{LeaderEpoch, Offset};

use super::super::streams::{Assignment, Tasks};
use super::super::*;
use super::consumers::{Cluster, GROUP};
use super::host::Host;

/// An instance of an application as it behaves: it gives up what it is not assigned any more, and says
/// what it has.
#[derive(Clone, Debug, Default)]
struct Client {
    id: Arc<str>,
    process: Arc<str>,
    instance: Option<Arc<str>>,
    /// What it was told last; 0 when it is to join.
    epoch: i32,
    owned: Assignment,
    /// What it has been assigned, and has not acted upon.
    told: Option<Assignment>,
    is_member: bool,
}

/// Tasks, one by one.
type Flat = BTreeSet<(Arc<str>, i32)>;

/// A host, its world, and clients of one application.
#[derive(Clone, Debug)]
struct Stage {
    host: Host,
    cluster: Arc<Cluster>,
    clients: Vec<Client>,
    topology: Topology,
    rebalance_timeout_ms: i32,
    /// Whether topics that are missing are made, as a broker does.
    makes_topics: bool,
}

/// Sessions of 10 s, 10 s to give tasks up, no pause between assignments, one standby, and no wait for
/// the first assignment.
fn settings() -> GroupSettings {
    let mut settings = GroupSettings::default();
    settings.streams.session_timeout = Bounded { default: 10_000, min: 1, max: 60_000 };
    settings.streams.heartbeat_interval = Bounded { default: 1_000, min: 1, max: 15_000 };
    settings.streams.assignment_interval = Bounded { default: 0, min: 0, max: 15_000 };
    settings.streams.initial_rebalance_delay_ms = 0;
    settings.streams.standby_replicas = Bounded { default: 1, min: 0, max: 2 };
    settings
}

fn names(text: &str) -> Vec<Arc<str>> {
    text.split_whitespace().map(Arc::from).collect()
}

/// Topics as `name`, or `name=partitions`.
fn internals(text: &str) -> Vec<InternalTopic> {
    let topics = text.split_whitespace().map(|word| {
        let (name, partitions) = word.split_once('=').unwrap_or((word, "0"));
        let partitions = partitions.parse().unwrap();
        InternalTopic { name: Arc::from(name), partitions, ..InternalTopic::default() }
    });
    topics.collect()
}

/// A part that reads `sources` and `repartitions`, writes `sinks`, and keeps its state in `changelogs`.
fn part(sources: &str, repartitions: &str, sinks: &str, changelogs: &str) -> Subtopology {
    Subtopology {
        sources: names(sources),
        repartitions: internals(repartitions),
        sinks: names(sinks),
        changelogs: internals(changelogs),
        copartitions: Vec::new(),
    }
}

fn topology(parts: &[(&str, Subtopology)]) -> Topology {
    let parts = parts.iter().map(|(id, part)| (Arc::from(*id), part.clone()));
    Topology { epoch: 0, subtopologies: parts.collect() }
}

/// A word count: part 0 reads `in` and writes `r`, part 1 reads `r` and counts.
fn word_count() -> Topology {
    topology(&[("0", part("in", "", "r", "")), ("1", part("", "r", "", "c"))])
}

impl Stage {
    /// With topic `in` of so many partitions, and instances `c0`, `c1`... of a word count, each a process.
    fn new(partitions: i32, clients: usize) -> Self {
        Self::with(settings(), partitions, clients)
    }

    fn with(settings: GroupSettings, partitions: i32, clients: usize) -> Self {
        let cluster = Arc::new(Cluster::default());
        if partitions > 0 {
            cluster.set("in", partitions);
        }
        let host = Host::within(Arc::clone(&cluster) as Arc<dyn World>, settings);
        let clients = (0..clients).map(|who| Client {
            id: Arc::from(format!("c{who}")),
            process: Arc::from(format!("p{who}")),
            ..Client::default()
        });
        let clients = clients.collect();
        let topology = word_count();
        Self { host, cluster, clients, topology, rebalance_timeout_ms: 10_000, makes_topics: true }
    }

    /// The heartbeat that a client would send now.
    fn request(&self, who: usize) -> StreamsHeartbeat {
        let client = &self.clients[who];
        let joins = client.epoch == 0;
        StreamsHeartbeat {
            group: Arc::from(GROUP),
            member: Arc::clone(&client.id),
            epoch: client.epoch,
            endpoints_epoch: -1,
            instance: client.instance.clone(),
            rebalance_timeout_ms: if joins { self.rebalance_timeout_ms } else { -1 },
            topology: joins.then(|| self.topology.clone()),
            owned: Some(client.owned.clone()),
            process: joins.then(|| Arc::clone(&client.process)),
            client_id: Arc::from("client"),
            client_host: Arc::from("/127.0.0.1"),
            ..StreamsHeartbeat::default()
        }
    }

    fn ask(&mut self, request: StreamsHeartbeat) -> Result<StreamsBeat, StreamsHeartbeatError> {
        let ticket = self.host.send(Command::StreamsHeartbeat(request));
        let result = match self.host.answers.remove(&ticket) {
            Some(Reply::StreamsHeartbeat(result)) => result,
            other => panic!("a heartbeat is answered at once: {other:?}"),
        };
        if let Ok(beat) = &result
            && self.makes_topics
        {
            for topic in &beat.missing {
                self.cluster.set(&topic.name, topic.partitions);
            }
        }
        result
    }

    /// Sends a heartbeat and remembers what is told; an answer that is lost is not.
    fn beat(&mut self, who: usize, lost: bool) -> Result<(), StreamsHeartbeatError> {
        let request = self.request(who);
        let result = self.ask(request);
        if lost {
            return Ok(());
        }
        let client = &mut self.clients[who];
        match result {
            Ok(beat) => {
                client.is_member = true;
                client.epoch = beat.epoch;
                client.told = beat.assignment.or(client.told.take());
                Ok(())
            }
            Err(error) => {
                self.forget(who);
                Err(error)
            }
        }
    }

    /// Whatever the reason: it has no tasks any more, and joins again.
    fn forget(&mut self, who: usize) {
        let client = &mut self.clients[who];
        (client.epoch, client.is_member) = (0, false);
        (client.owned, client.told) = (Assignment::default(), None);
    }

    /// Is heard of, says nothing, and hears nothing.
    fn murmur(&mut self, who: usize) {
        let request = StreamsHeartbeat { owned: None, ..self.request(who) };
        let _ = self.ask(request);
    }

    /// Gives up and takes what a client was told.
    fn act(&mut self, who: usize) {
        let client = &mut self.clients[who];
        if let Some(told) = client.told.take() {
            client.owned = told;
        }
    }

    /// Leaves: for good, or for a while.
    fn leave(&mut self, who: usize, epoch: i32) -> Result<(), StreamsHeartbeatError> {
        let request = StreamsHeartbeat { epoch, owned: None, topology: None, ..self.request(who) };
        self.forget(who);
        self.ask(request).map(|_| ())
    }

    /// Everybody does what is to be done until nothing changes.
    fn settle(&mut self) {
        let known = |stage: &Self| -> Vec<_> {
            stage.clients.iter().map(|client| (client.epoch, client.owned.clone())).collect()
        };
        for _ in 0..30 {
            let before = known(self);
            for who in 0..self.clients.len() {
                if self.clients[who].is_member {
                    let _ = self.beat(who, false);
                    self.act(who);
                }
            }
            if known(self) == before {
                return;
            }
        }
        panic!("there is no end to it: {:?}", self.clients);
    }

    /// The tasks that each client has, as `c0: 0_0 1_1 | 1_0`: active ones and standbys.
    fn owned(&self) -> String {
        let clients = self.clients.iter().filter(|client| client.is_member);
        let clients = clients.map(|client| {
            let standby = shown(&client.owned.standby);
            let standby = if standby.is_empty() { standby } else { format!(" | {standby}") };
            format!("{}: {}{standby}", client.id, shown(&client.owned.active))
        });
        clients.collect::<Vec<_>>().join(", ")
    }

    /// No task is active at two clients that are members, and no process has one twice, as far as they
    /// know.
    fn check_owners(&self) {
        let mut active = BTreeMap::new();
        let mut of_process = BTreeSet::new();
        for client in self.clients.iter().filter(|client| client.is_member) {
            for (part, indexes) in &client.owned.active {
                for index in indexes {
                    let former = active.insert((Arc::clone(part), *index), &client.id);
                    assert!(former.is_none(), "{part}_{index}: {former:?} and {}", client.id);
                }
            }
            for (part, index) in client.owned.each() {
                let is_first = of_process.insert((&client.process, part, index));
                assert!(is_first, "{} has {part}_{index} twice", client.process);
            }
        }
    }

    /// All tasks that there are, and those that have state.
    fn tasks(&self) -> (Flat, Flat) {
        let (mut all, mut stateful) = (BTreeSet::new(), BTreeSet::new());
        for (id, part) in &self.topology.subtopologies {
            let inputs = part.sources.iter().chain(part.repartitions.iter().map(|it| &it.name));
            let counts = inputs.map(|name| self.cluster.named(name).map_or(0, |(_, count)| count));
            for index in 0..counts.max().unwrap_or_default() {
                all.insert((Arc::clone(id), index));
                if !part.changelogs.is_empty() {
                    stateful.insert((Arc::clone(id), index));
                }
            }
        }
        (all, stateful)
    }

    fn describe(&self) -> StreamsDescription {
        self.host.groups.describe_streams(GROUP).expect("there is the group")
    }

    fn pass(&mut self, seconds: u64) {
        self.host.advance(Duration::from_secs(seconds));
    }

    fn commit(&mut self, who: &Speaking, topic: &str, index: i32) -> Result<(), CommitError> {
        let partitions = vec![CommitPartition {
            index,
            offset: Offset(5),
            leader_epoch: LeaderEpoch::NONE,
            metadata: Arc::from(""),
        }];
        let speaker = Speaker {
            group: Arc::from(GROUP),
            member: Arc::from(who.member),
            instance: None,
            generation: who.epoch,
        };
        let topics = vec![CommitTopic { name: Arc::from(topic), id: None, partitions }];
        let speaks_epochs = who.speaks_epochs;
        let commit = Commit { speaker, speaks_epochs, retention_ms: None, topics };
        let ticket = match who.within {
            None => self.host.send(Command::Commit(commit)),
            Some(producer) => self.host.commit_within(producer, commit),
        };
        match self.host.answers.remove(&ticket) {
            Some(Reply::Commit(result)) => result.map(|_| ()),
            other => panic!("a commit is answered at once: {other:?}"),
        }
    }
}

/// Who commits offsets.
#[derive(Clone, Copy, Debug)]
struct Speaking {
    member: &'static str,
    epoch: i32,
    speaks_epochs: bool,
    within: Option<i64>,
}

const fn speaking(member: &'static str, epoch: i32) -> Speaking {
    Speaking { member, epoch, speaks_epochs: true, within: None }
}

/// Tasks as `0_0 0_1`.
fn shown(tasks: &Tasks) -> String {
    let all = tasks.iter().flat_map(|(id, all)| all.iter().map(move |it| format!("{id}_{it}")));
    all.collect::<Vec<_>>().join(" ")
}
