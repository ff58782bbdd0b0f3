//! Consumer groups: clients that do as KIP-848 says, in a world that a test changes.

mod assignors;
mod exhaustive;
pub(super) mod hostile;
mod laws;
mod migration;
mod records;
mod scenarios;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_types::{LeaderEpoch, Offset, TopicId, Uuid};

use super::super::*;
use super::host::Host;

pub(super) const GROUP: &str = "g";

/// Topics that a test makes, grows and deletes.
#[derive(Default)]
pub(super) struct Cluster(Mutex<Topics>);

#[derive(Default)]
struct Topics {
    by_name: BTreeMap<Arc<str>, (TopicId, i32)>,
    version: u64,
    overrides: GroupOverrides,
}

impl Cluster {
    fn topics(&self) -> std::sync::MutexGuard<'_, Topics> {
        self.0.lock().unwrap()
    }

    /// Makes a topic, or lets it grow; deletes it where `count` is 0.
    pub(super) fn set(&self, name: &str, count: i32) {
        let mut topics = self.topics();
        topics.version += 1;
        let fresh = Uuid([u8::try_from(topics.version).unwrap(); 16]);
        if count == 0 {
            topics.by_name.remove(name);
        } else {
            topics.by_name.entry(Arc::from(name)).or_insert((fresh, count)).1 = count;
        }
    }

    pub(super) fn configure(&self, overrides: GroupOverrides) {
        self.topics().overrides = overrides;
    }

    fn all(&self, name: &str) -> BTreeSet<(TopicId, i32)> {
        let found = self.named(name);
        found.into_iter().flat_map(|(id, count)| (0..count).map(move |index| (id, index))).collect()
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cluster")
    }
}

impl World for Cluster {
    fn version(&self) -> u64 {
        self.topics().version
    }

    fn named(&self, name: &str) -> Option<(TopicId, i32)> {
        self.topics().by_name.get(name).copied()
    }

    fn name_of(&self, topic: TopicId) -> Option<Arc<str>> {
        let topics = self.topics();
        let mut all = topics.by_name.iter();
        all.find(|(_, (id, _))| *id == topic).map(|(name, _)| Arc::clone(name))
    }

    fn matching(&self, wanted: &mut dyn FnMut(&str) -> bool) -> Vec<Arc<str>> {
        self.topics().by_name.keys().filter(|name| wanted(name)).cloned().collect()
    }

    fn overrides(&self, _group: &str) -> GroupOverrides {
        self.topics().overrides
    }
}

/// A consumer as it behaves: it gives up what it is not assigned any more, and says what it owns.
#[derive(Clone, Debug, Default)]
pub(super) struct Client {
    pub(super) id: Arc<str>,
    pub(super) instance: Option<Arc<str>>,
    pub(super) topics: Vec<Arc<str>>,
    pub(super) regex: Option<Arc<str>>,
    pub(super) assignor: Option<Arc<str>>,
    /// What it was told last; 0 when it is to join.
    pub(super) epoch: i32,
    pub(super) owned: Partitions,
    /// What it has been assigned, and has not acted upon.
    pub(super) told: Option<Partitions>,
    pub(super) is_member: bool,
    /// The rights that it has.
    pub(super) asker: Option<Asker>,
    /// Whether it has missed an answer, so that it says everything again.
    pub(super) unsure: bool,
}

/// A host, its world, and clients.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    pub(super) host: Host,
    pub(super) cluster: Arc<Cluster>,
    pub(super) clients: Vec<Client>,
    pub(super) rebalance_timeout_ms: i32,
}

/// Sessions of 10 s, 10 s to give partitions up, and no pause between assignments.
pub(super) fn settings() -> GroupSettings {
    let mut settings = GroupSettings::default();
    settings.consumer.session_timeout = Bounded { default: 10_000, min: 1, max: 60_000 };
    settings.consumer.heartbeat_interval = Bounded { default: 1_000, min: 1, max: 15_000 };
    settings.consumer.assignment_interval = Bounded { default: 0, min: 0, max: 15_000 };
    settings
}

impl Stage {
    /// With topic `t` of so many partitions, and consumers `c0`, `c1`... of it.
    pub(super) fn new(partitions: i32, clients: usize) -> Self {
        let cluster = Arc::new(Cluster::default());
        if partitions > 0 {
            cluster.set("t", partitions);
        }
        let host = Host::within(Arc::clone(&cluster) as Arc<dyn World>, settings());
        let clients = (0..clients).map(|who| Client {
            id: Arc::from(format!("c{who}")),
            topics: vec![Arc::from("t")],
            ..Client::default()
        });
        Self { host, cluster, clients: clients.collect(), rebalance_timeout_ms: 10_000 }
    }

    /// The heartbeat that a client would send now.
    pub(super) fn request(&self, who: usize) -> ConsumerHeartbeat {
        let client = &self.clients[who];
        ConsumerHeartbeat {
            group: Arc::from(GROUP),
            member: Arc::clone(&client.id),
            epoch: client.epoch,
            instance: client.instance.clone(),
            rack: None,
            rebalance_timeout_ms: if client.epoch == 0 || client.unsure {
                self.rebalance_timeout_ms
            } else {
                -1
            },
            topics: Some(client.topics.iter().cloned().collect()),
            regex: client.regex.clone(),
            assignor: client.assignor.clone(),
            owned: Some(client.owned.clone()),
            client_id: Arc::from("client"),
            client_host: Arc::from("/127.0.0.1"),
            fresh: Uuid([7; 16]),
            asker: client.asker.clone(),
        }
    }

    pub(super) fn ask(
        &mut self,
        request: ConsumerHeartbeat,
    ) -> Result<ConsumerBeat, ConsumerHeartbeatError> {
        let ticket = self.host.send(Command::ConsumerHeartbeat(request));
        match self.host.answers.remove(&ticket) {
            Some(Reply::ConsumerHeartbeat(result)) => result,
            other => panic!("a heartbeat is answered at once: {other:?}"),
        }
    }

    /// Sends a heartbeat and remembers what is told; an answer that is lost is not.
    pub(super) fn beat(&mut self, who: usize, lost: bool) -> Result<(), ConsumerHeartbeatError> {
        let request = self.request(who);
        let result = self.ask(request);
        if lost {
            self.clients[who].unsure = true;
            return Ok(());
        }
        let client = &mut self.clients[who];
        match result {
            Ok(beat) => {
                client.is_member = true;
                client.unsure = false;
                client.epoch = beat.epoch;
                client.told = beat.assignment.or(client.told.take());
                Ok(())
            }
            Err(error) => {
                // Whatever the reason: it owns nothing any more, and joins again.
                *client = Client {
                    epoch: 0,
                    owned: Partitions::new(),
                    told: None,
                    is_member: false,
                    ..client.clone()
                };
                Err(error)
            }
        }
    }

    /// Is heard of, says nothing, and hears nothing.
    pub(super) fn murmur(&mut self, who: usize) {
        let request = ConsumerHeartbeat { topics: None, owned: None, ..self.request(who) };
        let _ = self.ask(request);
        self.clients[who].unsure = true;
    }

    /// Gives up and takes what a client was told.
    pub(super) fn act(&mut self, who: usize) {
        let client = &mut self.clients[who];
        if let Some(told) = client.told.take() {
            client.owned = told;
        }
    }

    /// Leaves: for good, or for a while.
    pub(super) fn leave(&mut self, who: usize, epoch: i32) -> Result<(), ConsumerHeartbeatError> {
        let request = ConsumerHeartbeat { epoch, owned: None, topics: None, ..self.request(who) };
        let client = &mut self.clients[who];
        client.epoch = 0;
        client.owned.clear();
        client.told = None;
        client.is_member = false;
        self.ask(request).map(|_| ())
    }

    /// Everybody does what is to be done until nothing changes.
    pub(super) fn settle(&mut self) {
        let known = |stage: &Self| -> Vec<_> {
            stage.clients.iter().map(|client| (client.epoch, client.owned.clone())).collect()
        };
        for _ in 0..20 {
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

    /// The partitions that each client reads, as `c0: t0 t2, c1: t1`.
    pub(super) fn owned(&self) -> String {
        let named = |(topic, indexes): (&TopicId, &BTreeSet<i32>)| -> Vec<String> {
            let name = self.cluster.name_of(*topic).unwrap_or_else(|| Arc::from("?"));
            indexes.iter().map(|index| format!("{name}{index}")).collect()
        };
        let clients = self.clients.iter().filter(|client| client.is_member).map(|client| {
            let all: Vec<String> = client.owned.iter().flat_map(named).collect();
            format!("{}: {}", client.id, all.join(" "))
        });
        clients.collect::<Vec<_>>().join(", ")
    }

    /// No partition is read by two clients that are members, as far as they know.
    pub(super) fn check_owners(&self) {
        let mut owners = BTreeMap::new();
        for client in self.clients.iter().filter(|client| client.is_member) {
            for (topic, indexes) in &client.owned {
                for index in indexes {
                    let former = owners.insert((*topic, *index), &client.id);
                    assert!(former.is_none(), "{index} is read by {former:?} and {}", client.id);
                }
            }
        }
    }

    pub(super) fn describe(&self) -> ConsumerDescription {
        self.host.groups.describe_consumer(GROUP).expect("there is the group")
    }

    pub(super) fn pass(&mut self, seconds: u64) {
        self.host.advance(Duration::from_secs(seconds));
    }

    pub(super) fn commit(
        &mut self,
        member: &str,
        epoch: i32,
        index: i32,
    ) -> Result<(), CommitError> {
        let partitions = vec![CommitPartition {
            index,
            offset: Offset(5),
            leader_epoch: LeaderEpoch::NONE,
            metadata: Arc::from(""),
        }];
        let speaker = Speaker {
            group: Arc::from(GROUP),
            member: Arc::from(member),
            instance: None,
            generation: epoch,
        };
        let topics = vec![CommitTopic { name: Arc::from("t"), id: None, partitions }];
        let commit = Commit { speaker, speaks_epochs: true, retention_ms: None, topics };
        let ticket = self.host.send(Command::Commit(commit));
        match self.host.answers.remove(&ticket) {
            Some(Reply::Commit(result)) => result.map(|_| ()),
            other => panic!("a commit is answered at once: {other:?}"),
        }
    }
}
