//! Fuzz target: entries of the metadata log.
//!
//! `cargo test` runs it briefly; `cargo xtask test --long` for minutes (CONTRIBUTING.md).

use std::collections::BTreeMap;
use std::sync::Arc;

use bolero::check;
use millstream_auth::{Credential, Hash, Secret};
use millstream_coordinator::acl::{
    Binding, Draft, Operation, PatternType, Permission, ResourceType,
};
use millstream_coordinator::cluster::{
    ClusterState, Entry, NewTopic, Overrides, Replication, decode, encode,
};
use millstream_coordinator::delegation::Delegation;
use millstream_testkit::edits::{Edit, edited};
use millstream_types::{Timestamp, Uuid};

/// A command: which, on what, how much.
type Command = (u8, u8, i32, String);

fn hash(which: u8) -> Hash {
    Hash::ALL[usize::from(which % 2)]
}

fn entry(state: &ClusterState, (kind, which, number, text): &Command) -> Option<Entry> {
    let id = Uuid([*which % 4; 16]);
    let name = format!("topic-{}", which % 4);
    match kind % 14 {
        0 => Some(state.open_session()),
        1 => {
            let overrides = Overrides::from([(text.clone(), text.clone())]);
            let replication = Replication::Counts { partitions: number % 10, replicas: 1 };
            let new = NewTopic { name: name.into(), id, replication, overrides };
            state.create_topic(new).ok()
        }
        2 => state.topic(id).map(|topic| Entry::TopicDeleted { id: topic.id }),
        3 => state.add_partitions(&name, *number, None).ok(),
        4 => Some(Entry::TopicOverridesSet {
            id,
            overrides: Overrides::from([(text.clone(), String::new())]),
        }),
        5 => Some(Entry::ProducerIdsTaken { next: i64::from(*number) }),
        6 => rule(*which, text).map(Entry::AclAdded),
        7 => rule(*which, text).map(Entry::AclRemoved),
        8 => {
            let parts = text.as_bytes().to_vec();
            let (stored_key, server_key) = (parts.clone(), vec![*which; 9]);
            let credential = Credential { salt: parts, iterations: 4_096, stored_key, server_key };
            Some(Entry::CredentialSet {
                user: text.as_str().into(),
                hash: hash(*which),
                credential,
            })
        }
        9 => Some(Entry::CredentialDeleted { user: text.as_str().into(), hash: hash(*which) }),
        10 => Some(Entry::DecoySecretSet { secret: Secret([*which; 32]) }),
        11 => Some(Entry::DelegationSet(Arc::new(Delegation {
            id: text.as_str().into(),
            owner: text.as_str().into(),
            requester: name.into(),
            renewers: vec![text.as_str().into(); usize::from(which % 3)],
            issued: Timestamp(i64::from(*number)),
            expires: Timestamp(0),
            ends: Timestamp(i64::MAX),
            digest: [*which; 32],
            credentials: BTreeMap::new(),
        }))),
        12 => Some(Entry::DelegationRemoved { id: text.as_str().into() }),
        // What no command makes is replayed all the same, if it can be read.
        _ => Some(Entry::PartitionsSet { id, partitions: *number }),
    }
}

fn rule(which: u8, text: &str) -> Option<Binding> {
    let pick = usize::from(which);
    let draft = Draft {
        resource: *ResourceType::ALL.get(pick % ResourceType::ALL.len())?,
        pattern: *PatternType::ALL.get(pick % PatternType::ALL.len())?,
        name: text,
        principal: &format!("User:{text}"),
        host: "10.0.0.0/8",
        operation: *Operation::ALL.get(pick % Operation::ALL.len())?,
        permission: *Permission::ALL.get(pick % Permission::ALL.len())?,
    };
    Binding::new(&draft).ok()
}

#[test]
fn metadata_entries() {
    type Input = (Vec<Command>, Vec<Edit>, Vec<u8>);
    check!().with_type::<Input>().with_iterations(1_000).for_each(|(commands, edits, raw)| {
        let mut state = ClusterState::default();
        let mut entries = Vec::new();
        for command in commands {
            let Some(entry) = entry(&state, command) else { continue };
            state.replay(entry.clone());
            entries.push(entry);
        }
        let bytes = encode(&entries);
        assert_eq!(decode(&bytes).as_ref(), Ok(&entries));
        let snapshot = encode(&state.snapshot());
        let again = replayed(&snapshot).expect("a snapshot can be read");
        assert_eq!(again.snapshot(), state.snapshot(), "a snapshot is the state");
        for hostile in [edited(&bytes, edits), edited(&snapshot, edits), raw.clone()] {
            if let Some(state) = replayed(&hostile) {
                assert_eq!(replayed(&encode(&state.snapshot())), Some(state));
            }
        }
    });
}

/// The state that entries lead to, if they can be read.
fn replayed(bytes: &[u8]) -> Option<ClusterState> {
    let entries = decode(bytes).ok()?;
    let mut state = ClusterState::default();
    entries.into_iter().for_each(|entry| state.replay(entry));
    Some(state)
}
