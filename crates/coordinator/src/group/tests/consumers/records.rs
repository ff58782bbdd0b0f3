//! What is stored of consumer groups: it reads back as it was written, and whatever is read can be
//! lived with.

use millstream_types::Timestamp;
use proptest::prelude::*;

use super::super::super::consumer::member::{About, Classic, Current, MemberState, Owned};
use super::super::super::consumer::state::{ConsumerFact, GroupEpoch, Resolved, TargetEpoch};
use super::super::super::record::Fact;
use super::*;

fn text() -> impl Strategy<Value = Arc<str>> {
    "[a-c]{0,2}".prop_map(Arc::from)
}

fn member() -> impl Strategy<Value = Arc<str>> {
    "c[0-3]".prop_map(Arc::from)
}

fn owned() -> impl Strategy<Value = Owned> {
    let of_topic = prop::collection::btree_map(-1..4_i32, -1..9_i32, 1..4);
    prop::collection::btree_map((0..3_u8).prop_map(|it| Uuid([it; 16])), of_topic, 0..3)
}

fn about() -> impl Strategy<Value = About> {
    let regex = prop::option::of(prop_oneof![Just("t"), Just("("), Just(".*")].prop_map(Arc::from));
    let classic = prop::collection::vec((text(), prop::collection::vec(any::<u8>(), 0..20)), 0..3);
    let classic = (-1..30_000_i32, classic).prop_map(|(session_timeout_ms, protocols)| Classic {
        session_timeout_ms,
        protocols: protocols.into_iter().map(|(name, said)| (name, said.into())).collect(),
    });
    let topics = prop::collection::btree_set(prop_oneof![Just("t"), Just("u")], 0..3);
    let topics = topics.prop_map(|all| all.into_iter().map(Arc::from).collect());
    let optional = || prop::option::of(text());
    (optional(), optional(), text(), topics, regex, any::<i32>(), prop::option::of(classic))
        .prop_map(|(instance, rack, client_id, topics, regex, rebalance_timeout_ms, classic)| {
            About {
                instance,
                rack,
                client_host: Arc::clone(&client_id),
                client_id,
                topics,
                regex,
                rebalance_timeout_ms,
                assignor: None,
                classic,
            }
        })
}

fn current() -> impl Strategy<Value = Current> {
    let state = prop_oneof![
        Just(MemberState::Stable),
        Just(MemberState::Unrevoked),
        Just(MemberState::Unreleased),
        Just(MemberState::Unknown),
    ];
    (-2..9_i32, -2..9_i32, state, owned(), owned()).prop_map(
        |(epoch, previous_epoch, state, assigned, revoking)| Current {
            epoch,
            previous_epoch,
            state,
            assigned,
            revoking,
        },
    )
}

fn fact() -> impl Strategy<Value = ConsumerFact> {
    let often = || prop::bool::weighted(0.8);
    let epochs = (-3..9_i32, any::<i64>());
    prop_oneof![
        (often(), epochs.clone()).prop_map(|(is, (epoch, topics_hash))| ConsumerFact::Epoch(
            is.then_some(GroupEpoch { epoch, topics_hash })
        )),
        (often(), epochs.clone()).prop_map(|(is, (epoch, at))| ConsumerFact::TargetEpoch(
            is.then_some(TargetEpoch { epoch, at: Timestamp(at) })
        )),
        (member(), often(), about())
            .prop_map(|(id, is, about)| ConsumerFact::About(id, is.then_some(about))),
        (member(), often(), owned()).prop_map(|(id, is, owned)| {
            let target = super::super::super::consumer::member::partitions(&owned);
            ConsumerFact::Target(id, is.then_some(target))
        }),
        (member(), often(), current())
            .prop_map(|(id, is, current)| ConsumerFact::Current(id, is.then_some(current))),
        (text(), often(), any::<i64>(), prop::collection::btree_set(text(), 0..3)).prop_map(
            |(regex, is, version, topics)| ConsumerFact::Regex(
                regex,
                is.then_some(Resolved { topics, version, at: Timestamp(version) })
            )
        ),
    ]
}

fn record(fact: &ConsumerFact) -> StoredRecord {
    let mut records = Vec::new();
    Fact::Consumer { group: Arc::from(GROUP), fact: fact.clone() }.put(&mut records);
    records.remove(0)
}

proptest! {
    #[test]
    fn facts_read_back(fact in fact()) {
        let read = Fact::decode(&record(&fact)).unwrap();
        prop_assert_eq!(read, Some(Fact::Consumer { group: Arc::from(GROUP), fact }));
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
            let request = ConsumerHeartbeat { epoch, ..stage.request(who) };
            let request = if epoch == 0 { ConsumerHeartbeat { rebalance_timeout_ms: 5, ..request } } else { request };
            ticket += 1;
            let effects = groups.handle(
                stage.host.now, stage.host.wall(), Command::ConsumerHeartbeat(request), Ticket(ticket),
            );
            prop_assert_eq!(effects.replies.len(), 1, "answered at once");
            for record in &effects.records {
                groups.replay(record).unwrap();
            }
        }
        let _ = groups.describe_consumer(GROUP);
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
    let owned = Owned::from([(Uuid([1; 16]), BTreeMap::from([(0, 3), (2, 4)]))]);
    let id = || Arc::from("m");
    let cases = [
        (
            ConsumerFact::Epoch(Some(GroupEpoch { epoch: 7, topics_hash: 5 })),
            "0003000167",
            "00000000000701000800000000000000 05",
        ),
        (
            ConsumerFact::TargetEpoch(Some(TargetEpoch { epoch: 6, at: Timestamp(9) })),
            "0006000167",
            "00000000000601000800000000000000 09",
        ),
        (
            ConsumerFact::Target(
                id(),
                Some(super::super::super::consumer::member::partitions(&owned)),
            ),
            "000700016700016d",
            "0000 02 01010101010101010101010101010101 03 00000000 00000002 00 00",
        ),
        (
            ConsumerFact::Current(
                id(),
                Some(Current {
                    epoch: 4,
                    previous_epoch: 3,
                    state: MemberState::Stable,
                    assigned: owned,
                    revoking: Owned::new(),
                }),
            ),
            "000800016700016d",
            "0000 00000004 00000003 01 02 01010101010101010101010101010101 03 00000000 00000002 \
             01 00 09 03 00000003 00000004 01 00",
        ),
        (
            ConsumerFact::About(
                id(),
                Some(About {
                    client_id: Arc::from("c"),
                    client_host: Arc::from("h"),
                    topics: BTreeSet::from([Arc::from("t")]),
                    rebalance_timeout_ms: 5,
                    ..About::default()
                }),
            ),
            "000500016700016d",
            "0000 00 00 02 63 02 68 02 02 74 00 00000005 00 00",
        ),
        (
            ConsumerFact::Regex(
                Arc::from("t.*"),
                Some(Resolved {
                    topics: BTreeSet::from([Arc::from("t")]),
                    version: 2,
                    at: Timestamp(3),
                }),
            ),
            "0010000167 0003742e2a",
            "0000 02 02 74 0000000000000002 0000000000000003 00",
        ),
    ];
    for (fact, key, value) in cases {
        check_golden(&fact, key, value);
    }
}

fn check_golden(fact: &ConsumerFact, key: &str, value: &str) {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let plain = |text: &str| text.replace(char::is_whitespace, "");
    let record = record(fact);
    assert_eq!(hex(&record.key), plain(key), "{fact:?}");
    assert_eq!(hex(&record.value.unwrap()), plain(value), "{fact:?}");
}
