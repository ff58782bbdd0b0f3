//! What is stored of streams groups: it reads back as it was written, and whatever is read can be lived
//! with.

use millstream_types::Timestamp;
use proptest::prelude::*;

use super::super::super::consumer::member::MemberState;
use super::super::super::consumer::state::TargetEpoch;
use super::super::super::record::Fact;
use super::super::super::streams::member::{About, Current};
use super::super::super::streams::state::{GroupFact, StreamsFact};
use super::super::super::streams::tasks::{Held, Owned};
use super::*;

fn text() -> impl Strategy<Value = Arc<str>> {
    "[a-c]{0,2}".prop_map(Arc::from)
}

fn member() -> impl Strategy<Value = Arc<str>> {
    "c[0-3]".prop_map(Arc::from)
}

fn tasks() -> impl Strategy<Value = Tasks> {
    let indexes = prop::collection::btree_set(-1..4_i32, 1..4);
    prop::collection::btree_map("[0-2]".prop_map(Arc::from), indexes, 0..3)
}

fn assignment() -> impl Strategy<Value = Assignment> {
    (tasks(), tasks(), tasks()).prop_map(|(active, standby, warmup)| Assignment {
        active,
        standby,
        warmup,
    })
}

fn held() -> impl Strategy<Value = Held> {
    let indexes = prop::collection::btree_map(-1..4_i32, -1..9_i32, 1..4);
    let active = prop::collection::btree_map("[0-2]".prop_map(Arc::from), indexes, 0..3);
    (active, tasks(), tasks()).prop_map(|(active, standby, warmup)| Held {
        active,
        standby,
        warmup,
    })
}

fn about() -> impl Strategy<Value = About> {
    let endpoint = (text(), any::<u16>()).prop_map(|(host, port)| Endpoint { host, port });
    let tags = prop::collection::btree_map(text(), text(), 0..3);
    let optional = || prop::option::of(text());
    let numbers = (any::<i32>(), -1..3_i32);
    let process = "p[0-2]".prop_map(Arc::from);
    (optional(), optional(), text(), numbers, process, prop::option::of(endpoint), tags).prop_map(
        |(instance, rack, client_id, numbers, process, endpoint, tags)| About {
            instance,
            rack,
            client_host: Arc::clone(&client_id),
            client_id,
            rebalance_timeout_ms: numbers.0,
            topology_epoch: numbers.1,
            process,
            endpoint,
            tags,
        },
    )
}

fn current() -> impl Strategy<Value = Current> {
    let state = prop_oneof![
        Just(MemberState::Stable),
        Just(MemberState::Unrevoked),
        Just(MemberState::Unreleased),
        Just(MemberState::Unknown),
    ];
    (-2..9_i32, -2..9_i32, state, held(), held()).prop_map(
        |(epoch, previous_epoch, state, assigned, revoking)| Current {
            epoch,
            previous_epoch,
            state,
            assigned,
            revoking,
        },
    )
}

fn group() -> impl Strategy<Value = GroupFact> {
    let configs = prop::collection::btree_map(text(), text(), 0..2);
    (-3..9_i32, any::<i64>(), -1..2_i32, configs).prop_map(
        |(epoch, topics_hash, ready_epoch, configs)| GroupFact {
            epoch,
            topics_hash,
            ready_epoch,
            configs,
            ..GroupFact::default()
        },
    )
}

fn name() -> impl Strategy<Value = Arc<str>> {
    prop_oneof![Just("in"), Just("r"), Just("c")].prop_map(Arc::from)
}

fn topic() -> impl Strategy<Value = InternalTopic> {
    let topic = (name(), -1..4_i32, -1..3_i16, text());
    topic.prop_map(|(name, partitions, replicas, config)| InternalTopic {
        name,
        partitions,
        replicas,
        configs: vec![(Arc::clone(&config), config)],
    })
}

fn topologies() -> impl Strategy<Value = Topology> {
    let topics = || prop::collection::vec(topic(), 0..3);
    let names = || prop::collection::vec(name(), 0..3);
    let places = || prop::collection::vec(-1..3_i16, 0..3);
    let group = (places(), places())
        .prop_map(|(sources, repartitions)| Copartition { sources, repartitions });
    let part = (names(), topics(), names(), topics(), prop::collection::vec(group, 0..2)).prop_map(
        |(sources, changelogs, sinks, repartitions, copartitions)| Subtopology {
            sources,
            changelogs,
            sinks,
            repartitions,
            copartitions,
        },
    );
    let parts = prop::collection::btree_map("[0-2]".prop_map(Arc::from), part, 0..3);
    (-1..3_i32, parts).prop_map(|(epoch, subtopologies)| Topology { epoch, subtopologies })
}

fn fact() -> impl Strategy<Value = StreamsFact> {
    let often = || prop::bool::weighted(0.8);
    prop_oneof![
        (often(), group()).prop_map(|(is, group)| StreamsFact::Group(is.then_some(group))),
        (often(), -3..9_i32, any::<i64>()).prop_map(|(is, epoch, at)| StreamsFact::TargetEpoch(
            is.then_some(TargetEpoch { epoch, at: Timestamp(at) })
        )),
        (member(), often(), about())
            .prop_map(|(id, is, about)| StreamsFact::About(id, is.then_some(about))),
        (member(), often(), assignment())
            .prop_map(|(id, is, target)| StreamsFact::Target(id, is.then_some(target))),
        (member(), often(), current())
            .prop_map(|(id, is, current)| StreamsFact::Current(id, is.then_some(current))),
        (often(), topologies())
            .prop_map(|(is, topology)| StreamsFact::Topology(is.then_some(topology))),
    ]
}

fn record(fact: &StreamsFact) -> StoredRecord {
    let mut records = Vec::new();
    Fact::Streams { group: Arc::from(GROUP), fact: fact.clone() }.put(&mut records);
    records.remove(0)
}

proptest! {
    #[test]
    fn facts_read_back(fact in fact()) {
        let read = Fact::decode(&record(&fact)).unwrap();
        prop_assert_eq!(read, Some(Fact::Streams { group: Arc::from(GROUP), fact }));
    }

    /// Compaction may leave any of them. Whoever comes then is answered, and silence ends.
    #[test]
    fn any_facts_can_be_lived_with(facts in prop::collection::vec(fact(), 0..30), who in 0..4_usize) {
        let mut stage = Stage::new(3, 4);
        let mut loading = Loading::new();
        for fact in &facts {
            loading.replay(&record(fact)).unwrap();
        }
        let world = Arc::clone(&stage.cluster) as Arc<dyn World>;
        let (mut groups, effects) = loading.finish(settings(), world, stage.host.now, stage.host.wall());
        prop_assert!(effects.records.is_empty());
        let mut ticket = 0;
        for epoch in [0, 1, 2, 3, -2, -1, 0] {
            let request = StreamsHeartbeat { epoch, ..stage.request(who) };
            let topology = (epoch == 0).then(word_count);
            ticket += 1;
            let effects = groups.handle(
                stage.host.now,
                stage.host.wall(),
                Command::StreamsHeartbeat(StreamsHeartbeat { topology, ..request }),
                Ticket(ticket),
            );
            prop_assert_eq!(effects.replies.len(), 1, "answered at once");
            for record in &effects.records {
                groups.replay(record).unwrap();
            }
        }
        let _ = groups.describe_streams(GROUP);
        for _ in 0..200 {
            let Some((due, _)) = groups.timers.first().cloned() else { break };
            stage.host.now = stage.host.now.max(due);
            for record in groups.tick(stage.host.now, stage.host.wall()).records {
                groups.replay(&record).unwrap();
            }
        }
        prop_assert!(groups.timers.is_empty(), "nobody stays for ever");
    }
}

/// Kafka's brokers read these, and we theirs: fields in the order of its schemas, version before value.
#[test]
fn todays_bytes_stay_todays_bytes() {
    let id = || Arc::from("m");
    let tasks = Tasks::from([(Arc::from("0"), BTreeSet::from([0, 2]))]);
    let owned = Owned::from([(Arc::from("0"), BTreeMap::from([(0, 3), (2, 4)]))]);
    let group = GroupFact {
        epoch: 7,
        topics_hash: 5,
        ready_epoch: 0,
        configs: BTreeMap::from([(Arc::from("a"), Arc::from("b"))]),
        ..GroupFact::default()
    };
    let about = About {
        client_id: Arc::from("c"),
        client_host: Arc::from("h"),
        rebalance_timeout_ms: 5,
        process: Arc::from("p"),
        endpoint: Some(Endpoint { host: Arc::from("e"), port: 9 }),
        tags: BTreeMap::from([(Arc::from("k"), Arc::from("v"))]),
        ..About::default()
    };
    let current = Current {
        epoch: 4,
        previous_epoch: 3,
        state: MemberState::Unrevoked,
        assigned: Held { active: owned, standby: tasks.clone(), ..Held::default() },
        revoking: Held { warmup: tasks.clone(), ..Held::default() },
    };
    let target = Assignment { active: tasks.clone(), standby: Tasks::new(), warmup: tasks };
    let mut part = part("in", "r=2", "r", "c");
    part.copartitions = vec![Copartition { sources: vec![0], repartitions: vec![0] }];
    part.changelogs[0].configs = vec![(Arc::from("k"), Arc::from("v"))];
    let cases = [
        (
            StreamsFact::Group(Some(group)),
            "0011000167",
            "0000 00000007 0000000000000005 02 00 04 00000000 01 06 02 0261 0262 00",
        ),
        (
            StreamsFact::TargetEpoch(Some(TargetEpoch { epoch: 6, at: Timestamp(9) })),
            "0014000167",
            "0000 00000006 01 00 08 0000000000000009",
        ),
        (
            StreamsFact::Target(id(), Some(target)),
            "001500016700016d",
            "0000 02 0230 03 00000000 00000002 00 01 02 0230 03 00000000 00000002 00 00",
        ),
        (
            StreamsFact::Current(id(), Some(current)),
            "001600016700016d",
            "0000 00000004 00000003 02 \
             02 0230 03 00000000 00000002 01 00 09 03 00000003 00000004 \
             02 0230 03 00000000 00000002 00 01 01 01 02 0230 03 00000000 00000002 00 00",
        ),
        (
            StreamsFact::About(id(), Some(about)),
            "001300016700016d",
            "0000 00 00 0263 0268 00000005 00000000 0270 01 0265 0009 00 02 026b 0276 00 00",
        ),
        (
            StreamsFact::Topology(Some(topology(&[("0", part)]))),
            "0017000167",
            "0000 00000000 02 0230 02 03696e 01 02 0263 00000000 0000 02 026b 0276 00 00 02 0272 \
             02 0272 00000002 0000 01 00 02 02 0000 01 02 0000 00 00 00",
        ),
    ];
    for (fact, key, value) in cases {
        check_golden(&fact, key, value);
    }
}

fn check_golden(fact: &StreamsFact, key: &str, value: &str) {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let plain = |text: &str| text.replace(char::is_whitespace, "");
    let record = record(fact);
    assert_eq!(hex(&record.key), plain(key), "{fact:?}");
    assert_eq!(hex(&record.value.unwrap()), plain(value), "{fact:?}");
}
