//! Three clients in every order: all that they can do, up to some depth, with crashes, failing
//! appends and time in between. The host checks its invariants after each step; where the depth
//! ends, everybody falls silent, and then every open request must be answered and the group empty.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_types::{Monotonic, Uuid};

use super::super::live::Phase;
use super::super::*;
use super::host::Host;
use super::script::{GROUP, subscription};

/// What a client knows of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Out,
    /// Was given an id.
    Named,
    Joining,
    /// Was answered a join.
    Joined,
    Syncing,
    /// Was answered a sync.
    Settled,
}

#[derive(Clone, Debug)]
struct Client {
    name: &'static str,
    instance: Option<&'static str>,
    /// Comes back with the id that it is given.
    known: bool,
    stage: Stage,
    member: Arc<str>,
    generation: i32,
    /// Whom it leads, after a join.
    leads: Vec<Arc<str>>,
    open: Option<Ticket>,
    ids: u128,
}

/// A step of one client or of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Join(usize),
    /// A static member comes back and has forgotten its id; a dynamic one comes back with it.
    Restart(usize),
    Sync(usize),
    Beat(usize),
    Leave(usize),
    Tick,
    Crash,
    /// The next append fails.
    Fail,
}

#[derive(Clone, Debug)]
struct World {
    host: Host,
    clients: [Client; 3],
    crashes: u32,
    failures: u32,
}

fn client(name: &'static str, instance: Option<&'static str>, known: bool) -> Client {
    Client {
        name,
        instance,
        known,
        stage: Stage::Out,
        member: Arc::from(""),
        generation: -1,
        leads: Vec::new(),
        open: None,
        ids: 0,
    }
}

impl World {
    fn new(initial_rebalance_delay: Duration) -> Self {
        let settings = GroupSettings { initial_rebalance_delay, ..GroupSettings::default() };
        let clients =
            [client("a", None, false), client("b", None, true), client("s", Some("one"), false)];
        Self { host: Host::new(settings), clients, crashes: 0, failures: 0 }
    }

    /// What can happen next.
    fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for (at, client) in self.clients.iter().enumerate() {
            match client.stage {
                Stage::Out | Stage::Named => steps.push(Step::Join(at)),
                Stage::Joining | Stage::Syncing => steps.push(Step::Leave(at)),
                Stage::Joined => {
                    steps.extend([Step::Sync(at), Step::Restart(at), Step::Leave(at)]);
                }
                Stage::Settled => {
                    steps.extend([Step::Beat(at), Step::Restart(at), Step::Leave(at)]);
                }
            }
        }
        if !self.host.groups.timers.is_empty() {
            steps.push(Step::Tick);
        }
        if self.crashes == 0 && !self.host.log.is_empty() {
            steps.push(Step::Crash);
        }
        if self.failures == 0 {
            steps.push(Step::Fail);
        }
        steps
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Join(at) => self.join(at),
            Step::Restart(at) => {
                if self.clients[at].instance.is_some() {
                    self.clients[at].member = Arc::from("");
                }
                self.join(at);
            }
            Step::Sync(at) => {
                let members = self.clients[at].leads.clone();
                let work = Bytes::from_static(b"work");
                let sync = Sync {
                    speaker: self.speaker(at),
                    protocol_type: None,
                    protocol: None,
                    assignments: members.into_iter().map(|id| (id, work.clone())).collect(),
                };
                self.send(at, Command::Sync(sync), Stage::Syncing);
            }
            Step::Beat(at) => {
                let speaker = self.speaker(at);
                self.send(at, Command::Heartbeat(Heartbeat { speaker }), Stage::Settled);
            }
            Step::Leave(at) => self.leave(at),
            Step::Tick => self.host.tick(),
            Step::Crash => {
                self.crashes += 1;
                self.host.crash();
            }
            Step::Fail => {
                self.failures += 1;
                self.host.fails = Some(HostFailure::Unavailable);
            }
        }
        self.read_answers();
    }

    fn send(&mut self, at: usize, command: Command, stage: Stage) {
        self.clients[at].stage = stage;
        let ticket = self.host.send(command);
        self.clients[at].open = Some(ticket);
    }

    fn speaker(&self, at: usize) -> Speaker {
        let client = &self.clients[at];
        Speaker {
            group: Arc::from(GROUP),
            member: Arc::clone(&client.member),
            instance: client.instance.map(Arc::from),
            generation: client.generation,
        }
    }

    fn join(&mut self, at: usize) {
        let client = &mut self.clients[at];
        client.ids += u128::from(client.member.is_empty());
        let range = Protocol { name: Arc::from("range"), metadata: subscription("t") };
        let join = Join {
            group: Arc::from(GROUP),
            member: Arc::clone(&client.member),
            instance: client.instance.map(Arc::from),
            client_id: Arc::from(client.name),
            client_host: Arc::from("/127.0.0.1"),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 30_000,
            protocol_type: Arc::from("consumer"),
            protocols: vec![range],
            require_known_member_id: client.known,
            can_skip_assignment: true,
            fresh: Uuid(client.ids.to_be_bytes()),
            asker: None,
        };
        self.send(at, Command::Join(join), Stage::Joining);
    }

    /// Also what an administrator does to a member that is waiting.
    fn leave(&mut self, at: usize) {
        let client = &self.clients[at];
        let instance = client.instance.map(Arc::from);
        let member = match &instance {
            // Its id may not be known yet.
            Some(_) => Arc::from(""),
            None => Arc::clone(&client.member),
        };
        let members = vec![Leaver { member, instance }];
        self.host.send(Command::Leave(Leave { group: Arc::from(GROUP), members }));
        if self.clients[at].open.is_none() {
            self.forget(at);
        }
    }

    fn forget(&mut self, at: usize) {
        let client = &mut self.clients[at];
        client.stage = Stage::Out;
        client.member = Arc::from("");
        client.generation = -1;
        client.leads.clear();
    }

    fn read_answers(&mut self) {
        for at in 0..self.clients.len() {
            let Some(ticket) = self.clients[at].open else { continue };
            let Some(reply) = self.host.answers.remove(&ticket) else { continue };
            self.clients[at].open = None;
            self.read_answer(at, reply);
        }
        self.host.answers.clear();
    }

    fn read_answer(&mut self, at: usize, reply: Reply) {
        let client = &mut self.clients[at];
        match reply {
            Reply::Join(Ok(joined)) => {
                assert_eq!(joined.leader == joined.member, !joined.members.is_empty());
                client.stage = Stage::Joined;
                client.member = joined.member;
                client.generation = joined.generation;
                client.leads = joined.members.into_iter().map(|member| member.member).collect();
                if joined.skip_assignment {
                    client.leads.clear();
                }
            }
            Reply::Join(Err(refused)) if refused.error == JoinError::MemberIdRequired => {
                client.stage = Stage::Named;
                client.member = refused.member;
            }
            Reply::Sync(Ok(synced)) => {
                assert!(!synced.assignment.is_empty(), "a member of a stable group has work");
                client.stage = Stage::Settled;
            }
            Reply::Sync(Err(SyncError::RebalanceInProgress))
            | Reply::Heartbeat(Err(HeartbeatError::RebalanceInProgress)) => {
                client.stage = Stage::Named;
            }
            Reply::Heartbeat(Ok(())) => {}
            _ => self.forget(at),
        }
    }

    /// What makes two worlds the same for all that can follow: times relative to now, no tickets.
    fn fingerprint(&self) -> String {
        let now = self.host.now;
        let from_now = |at: Option<Monotonic>| at.map(|at| at.since(now).as_millis());
        let mut print = format!("{}{}{:?}", self.crashes, self.failures, self.host.fails);
        for client in &self.clients {
            let Client { stage, member, generation, leads, open, .. } = client;
            print += &format!("|{stage:?}{member}{generation}{leads:?}{}", open.is_some());
        }
        for group in self.host.groups.groups.values() {
            let live = &group.live;
            let (leader, generation) = (&live.leader, live.generation);
            let phase = match live.phase {
                Phase::Preparing { until, initial } => {
                    format!("{:?}{initial:?}", from_now(Some(until)))
                }
                phase => format!("{phase:?}"),
            };
            print += &format!("|{phase}{leader:?}{generation}{:?}", from_now(live.sync_until));
            for (id, member) in live.members.iter() {
                let parked = (member.is_joining(), member.sync.is_some());
                let flags = (member.newcomer, member.owes_sync, member.assignment.len());
                print += &format!("|{id}{parked:?}{flags:?}{:?}", from_now(member.session_end));
            }
            for (id, until) in &live.pending {
                print += &format!("|{id}{:?}", from_now(Some(*until)));
            }
            print += &format!("|{:?}", group.hard.stored);
        }
        print
    }

    /// Everybody falls silent.
    fn end(mut self) {
        self.host.advance(Duration::from_secs(2_000));
        assert!(self.host.open.is_empty(), "every request is answered in the end");
        for group in self.host.groups.groups.values() {
            assert!(group.live.is_idle(), "silence empties a group: {:?}", group.live);
        }
    }
}

/// Takes every step from every world that is not the same as one seen before; returns how many
/// there were.
fn explore(start: World, depth: u32) -> usize {
    let mut seen = BTreeSet::new();
    let mut layer = vec![start];
    for _ in 0..depth {
        let mut next = Vec::new();
        for world in &layer {
            for step in world.steps() {
                let mut after = world.clone();
                after.take(step);
                if seen.insert(after.fingerprint()) {
                    next.push(after);
                }
            }
        }
        layer = next;
    }
    layer.into_iter().for_each(World::end);
    seen.len()
}

#[test]
fn every_order_of_a_group_that_starts_at_once() {
    let worlds = explore(World::new(Duration::ZERO), 8);
    assert!(worlds > 10_000, "only {worlds} worlds");
}

#[test]
fn every_order_of_a_group_that_waits_for_members() {
    let worlds = explore(World::new(Duration::from_secs(3)), 8);
    assert!(worlds > 10_000, "only {worlds} worlds");
}
