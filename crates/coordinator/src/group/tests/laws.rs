//! Laws on random histories and random bytes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_types::{LeaderEpoch, Monotonic, Offset, ProducerId, Timestamp, Uuid};
use proptest::prelude::*;

use super::super::live::Phase;
use super::super::offsets::Hard;
use super::super::record::{Fact, StoredGroup, StoredMember, StoredOffset};
use super::super::*;
use super::host::{Host, Logged, START, load};
use super::script::subscription;

const GROUPS: [&str; 2] = ["g", "h"];

/// One thing that happens: who (one of four names, two of them static) does what.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Join { group: usize, who: usize, protocols: usize, known: bool, forgets: bool },
    Sync { group: usize, who: usize },
    Beat { group: usize, who: usize },
    Leave { group: usize, who: usize },
    Commit { group: usize, who: Option<usize>, topic: usize, offset: i64, expires: bool },
    CommitWithin { group: usize, producer: i64, topic: usize, offset: i64 },
    EndTransaction { producer: i64, commit: bool },
    DeleteOffsets { group: usize, topic: usize },
    DeleteGroups,
    DeleteTopic { topic: usize },
    Pass { millis: u64 },
    Crash,
    Fail,
}

fn event() -> impl Strategy<Value = Event> {
    let (group, who, topic) = (0..2_usize, 0..4_usize, 0..2_usize);
    prop_oneof![
        6 => (group.clone(), who.clone(), 0..3_usize, any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(group, who, protocols, known, forgets)| Event::Join {
                group, who, protocols, known, forgets
            }),
        6 => (group.clone(), who.clone()).prop_map(|(group, who)| Event::Sync { group, who }),
        2 => (group.clone(), who.clone()).prop_map(|(group, who)| Event::Beat { group, who }),
        2 => (group.clone(), who.clone()).prop_map(|(group, who)| Event::Leave { group, who }),
        4 => (group.clone(), prop::option::of(who), topic.clone(), 0..100_i64, any::<bool>())
            .prop_map(|(group, who, topic, offset, expires)| Event::Commit {
                group, who, topic, offset, expires
            }),
        3 => (group.clone(), 0..2_i64, topic.clone(), 0..100_i64)
            .prop_map(|(group, producer, topic, offset)| Event::CommitWithin {
                group, producer, topic, offset
            }),
        2 => (0..2_i64, any::<bool>())
            .prop_map(|(producer, commit)| Event::EndTransaction { producer, commit }),
        1 => (group, topic.clone())
            .prop_map(|(group, topic)| Event::DeleteOffsets { group, topic }),
        1 => Just(Event::DeleteGroups),
        1 => topic.prop_map(|topic| Event::DeleteTopic { topic }),
        4 => prop_oneof![0..4_000_u64, 0..40_000_u64, 0..2_000_000_u64]
            .prop_map(|millis| Event::Pass { millis }),
        1 => Just(Event::Crash),
        1 => Just(Event::Fail),
    ]
}

/// Clients that remember what they were answered.
pub(super) struct Run {
    pub(super) host: Host,
    told: BTreeMap<(usize, usize), Told>,
    asked: BTreeMap<Ticket, (usize, usize)>,
    ids: u128,
}

#[derive(Clone, Debug)]
struct Told {
    member: Arc<str>,
    generation: i32,
    leads: Vec<Arc<str>>,
}

impl Run {
    pub(super) fn new() -> Self {
        let settings = GroupSettings {
            initial_rebalance_delay: Duration::from_millis(500),
            offsets_retention: Duration::from_secs(1_000),
            ..GroupSettings::default()
        };
        Self { host: Host::new(settings), told: BTreeMap::new(), asked: BTreeMap::new(), ids: 0 }
    }

    fn told(&self, group: usize, who: usize) -> Told {
        let nothing = Told { member: Arc::from(""), generation: -1, leads: Vec::new() };
        self.told.get(&(group, who)).cloned().unwrap_or(nothing)
    }

    fn instance(who: usize) -> Option<Arc<str>> {
        (who >= 2).then(|| Arc::from(format!("instance-{who}")))
    }

    fn speaker(&self, group: usize, who: usize) -> Speaker {
        let told = self.told(group, who);
        Speaker {
            group: Arc::from(GROUPS[group]),
            member: told.member,
            instance: Self::instance(who),
            generation: told.generation,
        }
    }

    fn send(&mut self, group: usize, who: usize, command: Command) {
        let ticket = self.host.send(command);
        self.asked.insert(ticket, (group, who));
    }

    pub(super) fn happen(&mut self, event: Event) {
        match event {
            Event::Join { group, who, protocols, known, forgets } => {
                if forgets {
                    self.told.remove(&(group, who));
                }
                self.join(group, who, protocols, known);
            }
            Event::Sync { group, who } => {
                let leads = self.told(group, who).leads.into_iter();
                let sync = Sync {
                    speaker: self.speaker(group, who),
                    protocol_type: None,
                    protocol: None,
                    assignments: leads.map(|id| (id, Bytes::from_static(b"work"))).collect(),
                };
                self.send(group, who, Command::Sync(sync));
            }
            Event::Beat { group, who } => {
                let speaker = self.speaker(group, who);
                self.send(group, who, Command::Heartbeat(Heartbeat { speaker }));
            }
            Event::Leave { group, who } => {
                let (member, instance) = (self.told(group, who).member, Self::instance(who));
                let members = vec![Leaver { member, instance }];
                let leave = Leave { group: Arc::from(GROUPS[group]), members };
                self.send(group, who, Command::Leave(leave));
            }
            Event::Commit { group, who, topic, offset, expires } => {
                let commit = self.commit(group, who, topic, (offset, expires));
                self.host.send(Command::Commit(commit));
            }
            Event::CommitWithin { group, producer, topic, offset } => {
                let commit = self.commit(group, None, topic, (offset, false));
                self.host.commit_within(producer, commit);
            }
            Event::EndTransaction { producer, commit } => {
                self.host.end_transaction(ProducerId(producer), commit);
            }
            Event::DeleteOffsets { group, topic } => {
                let group = Arc::from(GROUPS[group]);
                let topics = vec![(topic_name(topic), vec![0, 1])];
                self.host.send(Command::DeleteOffsets(DeleteOffsets { group, topics }));
            }
            Event::DeleteGroups => {
                let groups = GROUPS.iter().map(|id| Arc::from(*id)).collect();
                self.host.send(Command::DeleteGroups(DeleteGroups { groups }));
            }
            Event::DeleteTopic { topic } => self.host.delete_topic(&topic_name(topic)),
            Event::Pass { millis } => self.host.advance(Duration::from_millis(millis)),
            Event::Crash => self.host.crash(),
            Event::Fail => self.host.fails = Some(HostFailure::NotCoordinator),
        }
        self.read_answers();
    }

    fn join(&mut self, group: usize, who: usize, protocols: usize, known: bool) {
        self.ids += 1;
        let spoken = [&["range"][..], &["range", "sticky"], &["sticky", "range"]][protocols];
        let spoken = spoken.iter().map(|name| Protocol {
            name: Arc::from(*name),
            metadata: subscription(&topic_name(who % 2)),
        });
        let join = Join {
            group: Arc::from(GROUPS[group]),
            member: self.told(group, who).member,
            instance: Self::instance(who),
            client_id: Arc::from("client"),
            client_host: Arc::from("/127.0.0.1"),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 20_000,
            protocol_type: Arc::from("consumer"),
            protocols: spoken.collect(),
            require_known_member_id: known,
            can_skip_assignment: known,
            fresh: Uuid(self.ids.to_be_bytes()),
            asker: None,
        };
        self.send(group, who, Command::Join(join));
    }

    fn commit(
        &self,
        group: usize,
        who: Option<usize>,
        topic: usize,
        (offset, expires): (i64, bool),
    ) -> Commit {
        let outsider = Speaker {
            group: Arc::from(GROUPS[group]),
            member: Arc::from(""),
            instance: None,
            generation: -1,
        };
        let partitions = (0..2).map(|index| CommitPartition {
            index,
            offset: Offset(offset + i64::from(index)),
            leader_epoch: LeaderEpoch(7),
            metadata: Arc::from("note"),
        });
        let topics = vec![CommitTopic {
            name: topic_name(topic),
            id: (topic == 1).then_some(Uuid([9; 16])),
            partitions: partitions.collect(),
        }];
        Commit {
            speaker: who.map_or(outsider, |who| self.speaker(group, who)),
            speaks_epochs: true,
            retention_ms: expires.then_some(5_000),
            topics,
        }
    }

    fn read_answers(&mut self) {
        for (ticket, reply) in std::mem::take(&mut self.host.answers) {
            let Some(client) = self.asked.remove(&ticket) else { continue };
            match reply {
                Reply::Join(Ok(joined)) => {
                    let leads = joined.members.iter().map(|member| Arc::clone(&member.member));
                    let leads = leads.collect();
                    let (member, generation) = (joined.member, joined.generation);
                    self.told.insert(client, Told { member, generation, leads });
                }
                Reply::Join(Err(refused)) => {
                    let told = self.told(client.0, client.1);
                    self.told.insert(client, Told { member: refused.member, ..told });
                }
                _ => {}
            }
        }
    }
}

fn topic_name(topic: usize) -> Arc<str> {
    Arc::from(["t", "u"][topic])
}

/// What a restart must find again.
fn hard(groups: &Groups) -> BTreeMap<Arc<str>, Hard> {
    let hard = groups.groups.iter().map(|(id, group)| (Arc::clone(id), group.hard.clone()));
    hard.filter(|(_, hard)| !hard.is_void()).collect()
}

fn loaded(log: &[Logged], host: &Host) -> Groups {
    let world = host.groups.world.clone();
    load(log).finish(host.settings, world, host.now, host.wall()).0
}

/// Running and restarted coordinators know the same, from the log as from a snapshot.
pub(super) fn check_restart(host: &Host) {
    let running = &host.groups;
    let mut restarted = vec![loaded(&host.log, host)];
    if running.transactions.is_empty() {
        let snapshot: Vec<_> = running.snapshot().into_iter().map(Logged::Record).collect();
        restarted.push(loaded(&snapshot, host));
    }
    for restarted in restarted {
        assert_eq!(hard(running), hard(&restarted));
        for (id, group) in &running.groups {
            let settled = matches!(group.live.phase, Phase::Stable | Phase::Empty);
            let is_stored = group.hard.stored.as_ref() == Some(&group.live.to_stored());
            if settled && is_stored {
                assert_eq!(running.describe(id), restarted.describe(id));
            }
            assert_eq!(
                running.fetch_offsets(id, None, false),
                restarted.fetch_offsets(id, None, false)
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// After any history: what is in memory is what the log says; and when everybody falls silent,
    /// every request is answered, every member is gone and every offset expires.
    #[test]
    fn live_state_is_the_replay_of_its_records(events in prop::collection::vec(event(), 1..80)) {
        let mut run = Run::new();
        for event in events {
            run.happen(event);
            check_restart(&run.host);
        }
        run.host.fails = None;
        for producer in 0..2 {
            run.host.end_transaction(ProducerId(producer), true);
            prop_assert!(run.host.groups.transactions.is_empty() || producer == 0);
        }
        check_restart(&run.host);
        run.host.advance(Duration::from_secs(10_000));
        prop_assert!(run.host.open.is_empty());
        prop_assert!(run.host.groups.groups.is_empty(), "{:?}", run.host.groups);
        let left = loaded(&run.host.log, &run.host);
        prop_assert!(left.groups.is_empty(), "{:?}", left);
    }
}

fn text() -> impl Strategy<Value = Arc<str>> {
    "[a-zé.]{0,8}".prop_map(|text| Arc::from(text.as_str()))
}

fn time() -> impl Strategy<Value = Option<Timestamp>> {
    prop::option::of((0..i64::MAX).prop_map(Timestamp))
}

fn stored_offset() -> impl Strategy<Value = StoredOffset> {
    let id = prop::option::of((1..u128::MAX).prop_map(|id| Uuid(id.to_be_bytes())));
    (any::<i64>(), any::<i32>(), text(), any::<i64>(), time(), id).prop_map(
        |(offset, epoch, metadata, committed_at, expires_at, topic_id)| StoredOffset {
            offset: Offset(offset),
            // The version that has an expiry has nothing else.
            leader_epoch: LeaderEpoch(if expires_at.is_some() { -1 } else { epoch }),
            metadata,
            committed_at: Timestamp(committed_at),
            topic_id: topic_id.filter(|_| expires_at.is_none()),
            expires_at,
        },
    )
}

fn stored_member() -> impl Strategy<Value = StoredMember> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..9).prop_map(Bytes::from);
    let who = (text(), prop::option::of(text()), text(), text());
    (who, 0..i32::MAX, 0..i32::MAX, bytes(), bytes()).prop_map(
        |((member, instance, client_id, client_host), rebalance, session, said, does)| {
            StoredMember {
                member,
                instance,
                client_id,
                client_host,
                rebalance_timeout_ms: rebalance,
                session_timeout_ms: session,
                subscription: said,
                assignment: does,
            }
        },
    )
}

fn stored_group() -> impl Strategy<Value = StoredGroup> {
    let protocol_type = prop::option::of(text().prop_filter("named", |name| !name.is_empty()));
    let names = (protocol_type, prop::option::of(text()), prop::option::of(text()));
    let members = prop::collection::vec(stored_member(), 0..4);
    (names, any::<i32>(), time(), members).prop_map(
        |((protocol_type, protocol, leader), generation, since, members)| StoredGroup {
            protocol_type,
            generation,
            protocol,
            leader,
            since,
            members,
        },
    )
}

fn fact() -> impl Strategy<Value = Fact> {
    let offset = (text(), text(), any::<i32>(), prop::option::of(stored_offset()));
    let group = (text(), prop::option::of(stored_group()));
    prop_oneof![
        offset.prop_map(|(group, topic, partition, value)| Fact::Offset {
            group,
            topic,
            partition,
            value
        }),
        group.prop_map(|(group, value)| Fact::Group { group, value }),
    ]
}

/// Loads records, and has the groups live until nobody is left.
fn live_through(records: &[StoredRecord]) {
    let mut loading = Loading::new();
    for record in records {
        let _ = loading.replay(record);
    }
    let (mut now, settings) = (Monotonic(0), GroupSettings::default());
    let (mut groups, _) = loading.finish(settings, Arc::new(NoWorld), now, START);
    while let Some((due, _)) = groups.timers.first() {
        now = *due;
        for record in groups.tick(now, START).records {
            groups.replay(&record).unwrap();
        }
    }
    let left =
        groups.groups.values().find(|group| !group.live.is_idle() || !group.hard.has_nobody());
    assert!(left.is_none(), "{left:?}");
}

proptest! {
    #[test]
    fn records_say_what_was_written(fact in fact()) {
        let mut records = Vec::new();
        fact.put(&mut records);
        prop_assert_eq!(Fact::decode(&records[0]), Ok(Some(fact)));
    }

    /// Any groups that records can describe can be loaded, and their members expire.
    #[test]
    fn any_facts_can_be_lived_with(facts in prop::collection::vec(fact(), 0..6)) {
        let mut records = Vec::new();
        for fact in facts {
            fact.put(&mut records);
        }
        live_through(&records);
    }

    /// Any bytes are a record or an error.
    #[test]
    fn any_bytes_can_be_replayed(
        kind in -1..20_i16,
        version in -1..6_i16,
        key in prop::collection::vec(any::<u8>(), 0..40),
        value in prop::option::of(prop::collection::vec(any::<u8>(), 0..60)),
    ) {
        let prefixed = |number: i16, rest: &[u8]| {
            Bytes::from([&number.to_be_bytes(), rest].concat())
        };
        let value = value.map(|value| prefixed(version, &value));
        live_through(&[StoredRecord { key: prefixed(kind, &key), value }]);
    }

    /// Any bytes are a subscription or are not understood; then a member may read anything.
    #[test]
    fn any_bytes_can_be_subscriptions(said in prop::collection::vec(any::<u8>(), 0..40)) {
        let _ = super::super::subscription::topics_of_all([Bytes::from(said)].into_iter());
    }
}

#[track_caller]
fn check_golden(fact: Fact, key: &str, value: Option<&str>) {
    let hex = |bytes: &Bytes| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mut records = Vec::new();
    fact.put(&mut records);
    assert_eq!(hex(&records[0].key), key);
    assert_eq!(records[0].value.as_ref().map(hex).as_deref(), value);
    assert_eq!(Fact::decode(&records[0]), Ok(Some(fact)));
}

/// Bytes put together by hand from the schemas: these are what Kafka and its tools read.
#[test]
fn todays_bytes_stay_todays_bytes() {
    let offset = |expires_at, topic_id, leader_epoch| Fact::Offset {
        group: Arc::from("g"),
        topic: Arc::from("t"),
        partition: 2,
        value: Some(StoredOffset {
            offset: Offset(5),
            leader_epoch: LeaderEpoch(leader_epoch),
            metadata: Arc::from("m"),
            committed_at: Timestamp(7),
            expires_at,
            topic_id,
        }),
    };
    let key = "0001000167000174" /* kind, g, t */
        .to_owned()
        + "00000002";
    check_golden(
        offset(None, None, 3),
        &key,
        Some("000300000000000000050000000300016d0000000000000007"),
    );
    check_golden(
        offset(Some(Timestamp(9)), None, -1),
        &key,
        Some("0001000000000000000500016d00000000000000070000000000000009"),
    );
    check_golden(
        offset(None, Some(Uuid([0x11; 16])), 3),
        &key,
        Some(
            "0004000000000000000500000003026d0000000000000007010010\
             11111111111111111111111111111111",
        ),
    );
    let gone =
        Fact::Offset { group: Arc::from("g"), topic: Arc::from("t"), partition: 2, value: None };
    check_golden(gone, &key, None);
    let member = StoredMember {
        member: Arc::from("a"),
        instance: None,
        client_id: Arc::from("c"),
        client_host: Arc::from("/h"),
        rebalance_timeout_ms: 1,
        session_timeout_ms: 2,
        subscription: Bytes::from_static(b"s"),
        assignment: Bytes::from_static(b"w"),
    };
    let stored = StoredGroup {
        protocol_type: Some(Arc::from("consumer")),
        generation: 4,
        protocol: Some(Arc::from("r")),
        leader: Some(Arc::from("a")),
        since: Some(Timestamp(8)),
        members: vec![member],
    };
    check_golden(
        Fact::Group { group: Arc::from("g"), value: Some(stored) },
        "0002000167",
        Some(
            "00030008636f6e73756d657200000004000172000161000000000000000800000001000161ffff\
             00016300022f68000000010000000200000001730000000177",
        ),
    );
    check_golden(Fact::Group { group: Arc::from("g"), value: None }, "0002000167", None);
}

#[test]
fn groups_are_spread_as_kafka_does() {
    // Java: Math.abs of "…".hashCode(), as Utils.abs does it, modulo 50.
    for (group, partition) in [("", 0), ("a", 47), ("group", 47), ("my-group", 36)] {
        assert_eq!(partition_of(group, 50), partition, "{group}");
    }
    assert_eq!(partition_of("group", 0), 0);
}
