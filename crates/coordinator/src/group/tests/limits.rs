//! What groups may take in memory, however many clients want what.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_types::{LeaderEpoch, Offset, Uuid};

use super::super::*;
use super::host::Host;

const KIB: usize = 1024;

fn host(group_bytes_max: usize, groups_max: usize) -> Host {
    let initial_rebalance_delay = Duration::ZERO;
    let defaults = GroupSettings::default();
    Host::new(GroupSettings { group_bytes_max, groups_max, initial_rebalance_delay, ..defaults })
}

fn join(group: &str, number: u8, says: usize, known: bool) -> Command {
    Command::Join(Join {
        group: Arc::from(group),
        member: Arc::from(""),
        instance: None,
        client_id: Arc::from("c"),
        client_host: Arc::from("/127.0.0.1"),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 20_000,
        protocol_type: Arc::from("consumer"),
        protocols: vec![Protocol { name: Arc::from("p"), metadata: vec![1; says].into() }],
        require_known_member_id: known,
        can_skip_assignment: false,
        fresh: Uuid([number; 16]),
        asker: None,
    })
}

/// What a join was refused with; `None` when it was accepted or waits.
fn refused(host: &mut Host, command: Command) -> Option<JoinError> {
    let ticket = host.send(command);
    match host.answers.get(&ticket) {
        Some(Reply::Join(Err(refused))) => Some(refused.error),
        _ => None,
    }
}

#[test]
fn what_members_say_is_bounded() {
    let mut host = host(100 * KIB, 10);
    assert_eq!(refused(&mut host, join("g", 1, 60 * KIB, false)), None);
    assert_eq!(refused(&mut host, join("g", 2, 60 * KIB, false)), Some(JoinError::GroupFull));
    assert_eq!(refused(&mut host, join("g", 3, 20 * KIB, false)), None);
    assert_eq!(refused(&mut host, join("h", 4, 60 * KIB, false)), None, "another group");
}

#[test]
fn ids_that_are_given_out_are_bounded() {
    let mut host = host(16 * KIB, 10);
    let outcomes: Vec<_> =
        (0..20).map(|number| refused(&mut host, join("g", number, 1, true))).collect();
    let given = outcomes.iter().filter(|it| **it == Some(JoinError::MemberIdRequired)).count();
    let full = outcomes.iter().filter(|it| **it == Some(JoinError::GroupFull)).count();
    assert_eq!((given, full), (11, 9));
    // They are not kept for ever.
    host.advance(Duration::from_secs(10));
    assert_eq!(refused(&mut host, join("g", 99, 1, true)), Some(JoinError::MemberIdRequired));
}

#[test]
fn assignments_are_bounded() {
    let mut host = host(10 * KIB, 10);
    let ticket = host.send(join("g", 1, 1, false));
    let Some(Reply::Join(Ok(joined))) = host.answers.get(&ticket).cloned() else {
        panic!("{:?}", host.answers);
    };
    let mut sync = |bytes: usize| {
        let ticket = host.send(Command::Sync(Sync {
            speaker: Speaker {
                group: Arc::from("g"),
                member: Arc::clone(&joined.member),
                instance: None,
                generation: joined.generation,
            },
            protocol_type: None,
            protocol: None,
            assignments: vec![(Arc::clone(&joined.member), Bytes::from(vec![1; bytes]))],
        }));
        host.answers.get(&ticket).cloned()
    };
    let too_large = SyncError::Host(HostFailure::TooLarge);
    assert_eq!(sync(11 * KIB), Some(Reply::Sync(Err(too_large))));
    assert!(matches!(sync(KIB), Some(Reply::Sync(Ok(_)))));
}

#[test]
fn groups_are_bounded() {
    let mut host = host(100 * KIB, 2);
    assert_eq!(refused(&mut host, join("g", 1, 1, false)), None);
    let commit = |group: &str| {
        let partition = CommitPartition {
            index: 0,
            offset: Offset(1),
            leader_epoch: LeaderEpoch(1),
            metadata: Arc::from(""),
        };
        let topic = CommitTopic { name: Arc::from("t"), id: None, partitions: vec![partition] };
        let speaker = Speaker {
            group: Arc::from(group),
            member: Arc::from(""),
            instance: None,
            generation: -1,
        };
        Command::Commit(Commit {
            speaker,
            speaks_epochs: true,
            retention_ms: None,
            topics: vec![topic],
        })
    };
    let ticket = host.send(commit("h"));
    assert!(matches!(host.answers.get(&ticket), Some(Reply::Commit(Ok(_)))));
    let unavailable = HostFailure::Unavailable;
    let ticket = host.send(commit("i"));
    let error = CommitError::Host(unavailable);
    assert_eq!(host.answers.get(&ticket), Some(&Reply::Commit(Err(error))));
    let error = JoinError::Host(unavailable);
    assert_eq!(refused(&mut host, join("i", 2, 1, false)), Some(error));
    assert_eq!(refused(&mut host, join("g", 3, 1, false)), None, "it is there");
    let ticket = host.send(commit("h"));
    assert!(matches!(host.answers.get(&ticket), Some(Reply::Commit(Ok(_)))), "it is there");
}

/// A static member that says that it needs no time to join is waited for all the same: looking for it
/// again and again would keep the coordinator busy until its session ends.
#[test]
fn absent_static_members_without_time_to_join_are_not_looked_for_all_the_time() {
    let mut host = host(100 * KIB, 10);
    let here = |member: &Arc<str>, number, instance: &str| match join("g", number, 1, false) {
        Command::Join(join) => Command::Join(Join {
            member: Arc::clone(member),
            instance: Some(Arc::from(instance)),
            rebalance_timeout_ms: 0,
            ..join
        }),
        other => other,
    };
    let sync = |member: &Arc<str>, generation| {
        let (group, member) = (Arc::from("g"), Arc::clone(member));
        let speaker = Speaker { group, member, instance: None, generation };
        Command::Sync(Sync {
            speaker,
            protocol_type: None,
            protocol: None,
            assignments: Vec::new(),
        })
    };
    let member_of = |host: &Host, ticket| match &host.answers[&ticket] {
        Reply::Join(Ok(joined)) => Arc::clone(&joined.member),
        other => panic!("{other:?}"),
    };
    let nobody = Arc::from("");
    let first = host.send(here(&nobody, 1, "i"));
    let first = member_of(&host, first);
    host.send(sync(&first, 1));
    let second = host.send(here(&nobody, 2, "j"));
    host.send(here(&first, 1, "i"));
    let second = member_of(&host, second);
    host.send(sync(&first, 2));
    host.send(sync(&second, 2));
    // An administrator removes the one, and the other is not there to join again.
    let leaver = Leaver { member: nobody, instance: Some(Arc::from("j")) };
    host.send(Command::Leave(Leave { group: Arc::from("g"), members: vec![leaver] }));
    let is_there = |host: &Host| host.groups.describe("g").is_some_and(|it| it.members.len() == 1);
    assert!(is_there(&host));
    let mut ticks = 0;
    while is_there(&host) && ticks < 100 {
        host.tick();
        ticks += 1;
    }
    assert!((10..=12).contains(&ticks), "{ticks} times in a session of 10 s");
}
