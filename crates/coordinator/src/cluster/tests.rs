use super::*;
use crate::acl::{Binding, Draft, Operation, PatternType, Permission, ResourceType};
use crate::delegation::Delegation;
use crate::quota::{Entity, Limit, Limits, Name, Use};
use millstream_auth::{Credential, Hash, Secret};
use millstream_types::{DecodeError, Timestamp, Uuid};
use proptest::prelude::*;

fn topic(name: &str, id: u8, partitions: i32) -> TopicState {
    TopicState {
        name: name.into(),
        id: Uuid([id; 16]),
        partitions,
        replication: 3,
        created: SessionId(1),
        overrides: Overrides::from([("cleanup.policy".to_owned(), "compact".to_owned())]),
    }
}

fn state(entries: impl IntoIterator<Item = Entry>) -> ClusterState {
    let mut state = ClusterState::default();
    entries.into_iter().for_each(|entry| state.replay(entry));
    state
}

fn new(name: &str, replication: Replication) -> NewTopic {
    NewTopic { name: name.into(), id: Uuid([9; 16]), replication, overrides: Overrides::new() }
}

const ONE: Replication = Replication::Counts { partitions: 1, replicas: 1 };

#[test]
fn names_are_checked_as_kafka_does() {
    let long = "x".repeat(250);
    let cases = [
        ("orders", Ok(())),
        ("a.b_c-D9", Ok(())),
        ("...", Ok(())),
        ("", Err(NameError::Empty)),
        (".", Err(NameError::Dots)),
        ("..", Err(NameError::Dots)),
        (&long, Err(NameError::TooLong)),
        (&long[1..], Ok(())),
        ("a b", Err(NameError::Character(' '))),
        ("späť", Err(NameError::Character('ä'))),
        ("a/b", Err(NameError::Character('/'))),
    ];
    for (name, expected) in cases {
        assert_eq!(check_name(name), expected, "{name}");
    }
}

/// Found by fuzzing: a log that names a topic twice led to a state that its own snapshot did not.
#[test]
fn a_log_with_a_name_or_an_identity_twice_leads_to_what_its_snapshot_says() {
    let created = |name, id| Entry::TopicCreated(topic(name, id, 1));
    for entries in [
        vec![created("a", 1), created("a", 2)],
        vec![created("a", 1), created("b", 1)],
        vec![created("a.b", 1), created("a_b", 2)],
        vec![created("a_b", 1), created("a.b", 2), Entry::TopicDeleted { id: Uuid([1; 16]) }],
        vec![created("a", 1), created("b", 2), created("a", 2)],
    ] {
        let live = state(entries.clone());
        assert_eq!(state(live.snapshot()), live, "{entries:?}");
        assert!(live.topics().all(|topic| live.named(&topic.name) == Some(topic)));
    }
    let live = state([Entry::SessionOpened { session: SessionId(u64::MAX) }]);
    assert_eq!(live.open_session(), Entry::SessionOpened { session: SessionId(u64::MAX) });
}

#[test]
fn names_collide_as_long_as_the_other_is_there() {
    #[track_caller]
    fn check(state: &ClusterState, name: &str, other: Option<&str>) {
        let expected = other.map_or(Ok(()), |other| Err(CreateError::Collides(other.into())));
        assert_eq!(state.check_new_name(name), expected, "{name}");
    }
    let mut state = state([
        Entry::TopicCreated(topic("a.b_c", 1, 1)),
        Entry::TopicCreated(topic("plain", 2, 1)),
    ]);
    for (name, other) in [
        ("a_b_c", Some("a.b_c")),
        ("a.b.c", Some("a.b_c")),
        ("a_b.c", Some("a.b_c")),
        ("a-b-c", None),
        ("abc", None),
        ("plain.", None),
    ] {
        check(&state, name, other);
    }
    let id = state.named("a.b_c").unwrap().id;
    state.replay(Entry::TopicDeleted { id });
    check(&state, "a_b_c", None);
    state.replay(Entry::TopicCreated(topic("a_b_c", 3, 1)));
    check(&state, "a.b_c", Some("a_b_c"));
    check(&state, "a.b.c", Some("a_b_c"));
}

#[test]
fn topics_are_created_or_refused() {
    let state = state([Entry::TopicCreated(topic("a.b", 1, 1))]);
    let by_hand = |partitions: &[(i32, &[i32])]| {
        let owned = partitions.iter().map(|(number, replicas)| (*number, replicas.to_vec()));
        Replication::Assigned(owned.collect())
    };
    let cases = [
        (new("new", ONE), Ok((1, 1))),
        (new("a.b", ONE), Err(CreateError::Exists)),
        (new("a_b", ONE), Err(CreateError::Collides("a.b".into()))),
        (new("", ONE), Err(CreateError::Name(NameError::Empty))),
        (
            new("x", Replication::Counts { partitions: 0, replicas: 1 }),
            Err(CreateError::Partitions(0)),
        ),
        (
            new("x", Replication::Counts { partitions: 1, replicas: 0 }),
            Err(CreateError::Replicas(0)),
        ),
        (new("x", by_hand(&[(1, &[1, 2]), (0, &[2, 3])])), Ok((2, 2))),
    ];
    for (topic, expected) in cases {
        let got = state.create_topic(topic).map(|entry| match entry {
            Entry::TopicCreated(topic) => (topic.partitions, topic.replication),
            other => panic!("{other:?}"),
        });
        assert_eq!(got, expected);
    }
    for wrong in [by_hand(&[(0, &[1]), (2, &[1])]), by_hand(&[(0, &[1, 1])]), by_hand(&[(0, &[])])]
    {
        let refused = state.create_topic(new("x", wrong));
        assert!(matches!(refused, Err(CreateError::Assignment(_))), "{refused:?}");
    }
}

#[test]
fn partitions_only_grow() {
    let state = state([Entry::TopicCreated(topic("t", 1, 3))]);
    let set = |partitions| Ok(Entry::PartitionsSet { id: Uuid([1; 16]), partitions });
    let cases = [
        ("t", 5, None, set(5)),
        ("t", 5, Some(2), set(5)),
        ("t", 5, Some(1), Err(PartitionsError::Assignment)),
        ("t", 3, None, Err(PartitionsError::NotMore { present: 3 })),
        ("t", PARTITIONS_TOO_MANY, None, Err(PartitionsError::TooMany)),
        ("u", 5, None, Err(PartitionsError::NoTopic)),
    ];
    for (name, total, assigned, expected) in cases {
        assert_eq!(state.add_partitions(name, total, assigned), expected);
    }
}

const PARTITIONS_TOO_MANY: i32 = 100_001;

#[test]
fn each_session_raises_every_epoch_by_one() {
    let mut state = state([
        Entry::SessionOpened { session: SessionId(1) },
        Entry::TopicCreated(topic("t", 1, 1)),
    ]);
    for expected in 0..3 {
        let epoch = state.named("t").map(|topic| state.epoch(topic));
        assert_eq!(epoch, Some(LeaderEpoch(expected)));
        state.replay(state.open_session());
    }
}

#[test]
fn a_deleted_topic_leaves_its_name_free() {
    let mut state = state([Entry::TopicCreated(topic("t", 1, 1))]);
    state.replay(Entry::TopicDeleted { id: Uuid([1; 16]) });
    assert_eq!(state, ClusterState::default());
    assert!(state.create_topic(new("t", ONE)).is_ok());
}

#[test]
fn producer_ids_are_never_given_twice() {
    let mut state = ClusterState::default();
    for block in 0..3 {
        let (entry, first) = state.allocate_producer_ids();
        assert_eq!(first, ProducerId(block * PRODUCER_ID_BLOCK));
        state.replay(entry);
    }
}

/// One entry of each kind: what they look like on disk must never change.
fn one_of_each() -> Vec<Entry> {
    let overrides = Overrides::from([("a".to_owned(), "1".to_owned())]);
    vec![
        Entry::SessionOpened { session: SessionId(7) },
        Entry::TopicCreated(topic("t", 1, 2)),
        Entry::TopicDeleted { id: Uuid([2; 16]) },
        Entry::PartitionsSet { id: Uuid([1; 16]), partitions: 5 },
        Entry::TopicOverridesSet { id: Uuid([1; 16]), overrides: overrides.clone() },
        Entry::OverridesSet { resource: Resource::Brokers, overrides: overrides.clone() },
        Entry::OverridesSet { resource: Resource::Broker(3), overrides: Overrides::new() },
        Entry::OverridesSet { resource: Resource::Group("g".into()), overrides: overrides.clone() },
        Entry::OverridesSet { resource: Resource::ClientMetrics("m".into()), overrides },
        Entry::ProducerIdsTaken { next: 1_000 },
        Entry::Trimmed(Trimmed { session: SessionId(7), lsn: 4096, checkpoint: "c/1".into() }),
        Entry::QuotasSet {
            entity: anna(),
            limits: limits(&[(Use::ProducerByteRate, 1_048_576.0)]),
        },
        Entry::QuotasSet {
            entity: Entity { address: Some(Name::Default), ..Entity::default() },
            limits: limits(&[(Use::ConnectionCreationRate, 10.0)]),
        },
        Entry::QuotasSet { entity: anna(), limits: Limits::new() },
        Entry::AclAdded(rule("t", "10.0.0.0/8")),
        Entry::AclAdded(rule("*", "*")),
        Entry::AclRemoved(rule("*", "*")),
        Entry::CredentialSet {
            user: "anna".into(),
            hash: Hash::Sha256,
            credential: Credential {
                salt: vec![1, 2],
                iterations: 4_096,
                stored_key: vec![3; 3],
                server_key: vec![4; 3],
            },
        },
        Entry::CredentialDeleted { user: "anna".into(), hash: Hash::Sha256 },
        Entry::DecoySecretSet { secret: Secret([7; 32]) },
        Entry::DelegationSet(Arc::new(token("one", &["bob", "carol"]))),
        Entry::DelegationSet(Arc::new(token("two", &[]))),
        Entry::DelegationRemoved { id: "two".into() },
    ]
}

fn token(id: &str, renewers: &[&str]) -> Delegation {
    let credential = Credential {
        salt: vec![1, 2],
        iterations: 4_096,
        stored_key: vec![3; 3],
        server_key: vec![4; 3],
    };
    Delegation {
        id: id.into(),
        owner: "anna".into(),
        requester: "otto".into(),
        renewers: renewers.iter().map(|name| (*name).into()).collect(),
        issued: Timestamp(1),
        expires: Timestamp(2),
        ends: Timestamp(i64::MAX),
        digest: [5; 32],
        credentials: Hash::ALL.map(|hash| (hash, credential.clone())).into(),
    }
}

fn rule(name: &str, host: &str) -> Binding {
    Binding::new(&Draft {
        resource: ResourceType::Topic,
        pattern: PatternType::Literal,
        name,
        principal: "User:anna",
        host,
        operation: Operation::Read,
        permission: Permission::Deny,
    })
    .expect("a rule")
}

fn anna() -> Entity {
    let (user, client_id) = (Some(Name::Is("anna".into())), Some(Name::Default));
    Entity { user, client_id, address: None }
}

fn limits(all: &[(Use, f64)]) -> Limits {
    all.iter().map(|(of, value)| (*of, Limit::new(*value).expect("a limit"))).collect()
}

const GOLDEN: &str = "01010000000000000007020101010101010101010101010101010101740000000200030000000000000001\
                      010e636c65616e75702e706f6c69637907636f6d70616374";

#[test]
fn todays_bytes_stay_todays_bytes() {
    let bytes = encode(&one_of_each()[..2]);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, GOLDEN);
    let quotas = encode(&one_of_each()[11..12]);
    let hex: String = quotas.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "01090204616e6e61010001014130000000000000");
    let acl = encode(&one_of_each()[14..15]);
    let hex: String = acl.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "010c0203017409557365723a616e6e610a31302e302e302e302f380302");
    let credential = encode(&one_of_each()[17..18]);
    let hex: String = credential.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "010a04616e6e6101000010000201020303030303040404");
    assert_eq!(decode(&encode(&one_of_each())), Ok(one_of_each()));
}

/// Left out, it might have denied something.
#[test]
fn an_access_rule_that_is_none_is_refused() {
    let bytes = encode(&[Entry::AclAdded(rule("t", "*"))]);
    let invalid = Err(EntryError::Decode(DecodeError::Invalid { field: "access rule" }));
    // Version, tag, type, pattern, name of one byte, principal of nine, host of one, operation, permission.
    for (at, byte, expected) in [
        (2, 1, Err(EntryError::Tag(1))),
        (2, 200, Err(EntryError::Tag(200))),
        (3, 2, Err(EntryError::Tag(2))),
        (7, b'u', invalid.clone()),
        (17, b'+', invalid),
        (18, 16, Err(EntryError::Tag(16))),
        (19, 1, Err(EntryError::Tag(1))),
    ] {
        let mut bytes = bytes.clone();
        bytes[at] = byte;
        assert_eq!(decode(&bytes), expected, "{at}");
    }
}

#[test]
fn a_limit_that_is_none_is_refused() {
    for value in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let mut bytes = encode(&one_of_each()[11..12]);
        let at = bytes.len() - 8;
        bytes[at..].copy_from_slice(&value.to_bits().to_be_bytes());
        let refused = EntryError::Decode(DecodeError::Invalid { field: "limit" });
        assert_eq!(decode(&bytes), Err(refused), "{value}");
    }
}

#[test]
fn newer_formats_are_refused_by_name() {
    assert_eq!(decode(&[2]), Err(EntryError::Version(2)));
    assert_eq!(decode(&[1, 99]), Err(EntryError::Tag(99)));
}

#[test]
fn a_cut_is_never_taken_for_another_change() {
    let bytes = encode(&one_of_each());
    for cut in 1..bytes.len() {
        if let Ok(entries) = decode(&bytes[..cut]) {
            assert_eq!(entries, one_of_each()[..entries.len()], "a cut between two entries");
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(mut bytes: Vec<u8>) {
        let _ = decode(&bytes);
        bytes.insert(0, 1);
        let _ = decode(&bytes);
    }

    #[test]
    fn a_snapshot_leads_to_the_same_state(picks in prop::collection::vec(0..20_usize, 0..40)) {
        let live = state(picks.into_iter().map(|pick| one_of_each()[pick].clone()));
        let restored = state(decode(&encode(&live.snapshot())).expect("readable"));
        prop_assert_eq!(restored, live);
    }
}
