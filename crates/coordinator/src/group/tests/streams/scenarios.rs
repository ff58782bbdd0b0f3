//! What happens to an application, from its first member to its last.

use super::super::super::StreamsStatusCode as Code;
use super::*;
use StreamsHeartbeatError as Refused;

fn codes(beat: &StreamsBeat) -> Vec<Code> {
    beat.statuses.iter().map(|status| status.code).collect()
}

#[test]
fn an_application_begins() {
    let mut stage = Stage::new(2, 2);
    // The first answer names what is missing, which the host makes; and the member comes again at once.
    let request = stage.request(0);
    let beat = stage.ask(request).unwrap();
    let missing: Vec<_> = beat.missing.iter().map(|it| (&*it.name, it.partitions)).collect();
    assert_eq!(missing, [("c", 2), ("r", 2)]);
    assert_eq!((beat.epoch, beat.heartbeat_interval_ms), (2, 50));
    assert_eq!(codes(&beat), [Code::MissingInternals]);
    assert_eq!(beat.assignment, Some(Assignment::default()));
    assert_eq!(stage.describe().state, GroupState::NotReady);
    stage.clients[0].epoch = beat.epoch;
    stage.clients[0].is_member = true;
    let request = stage.request(0);
    let beat = stage.ask(request).unwrap();
    assert_eq!((beat.epoch, beat.heartbeat_interval_ms), (3, 1_000));
    assert!(beat.statuses.is_empty() && beat.missing.is_empty());
    stage.settle();
    assert_eq!(stage.owned(), "c0: 0_0 0_1 1_0 1_1");
    stage.beat(1, false).unwrap();
    stage.settle();
    assert_eq!(stage.owned(), "c0: 0_0 1_0 | 1_1, c1: 0_1 1_1 | 1_0");
    let described = stage.describe();
    assert_eq!((described.state, described.epoch), (GroupState::Stable, 4));
    assert_eq!(described.topology.unwrap().subtopologies["1"].changelogs[0].partitions, 2);
    // The standby takes over, and the group is empty in the end.
    stage.leave(0, -1).unwrap();
    stage.settle();
    assert_eq!(stage.owned(), "c1: 0_0 0_1 1_0 1_1");
    stage.leave(1, -1).unwrap();
    assert_eq!(stage.describe().state, GroupState::Empty);
}

#[test]
fn a_member_is_not_heard_of() {
    let mut stage = Stage::new(2, 2);
    for who in [0, 1] {
        stage.beat(who, false).unwrap();
    }
    stage.settle();
    stage.pass(6);
    stage.beat(0, false).unwrap();
    stage.pass(5);
    assert_eq!(stage.describe().members.len(), 1);
    stage.clients[1].is_member = false;
    stage.settle();
    assert_eq!(stage.owned(), "c0: 0_0 0_1 1_0 1_1");
    let request = stage.request(1);
    assert_eq!(stage.ask(request), Err(Refused::UnknownMember));
}

#[test]
fn a_member_does_not_give_up_in_time() {
    let mut stage = Stage::new(2, 2);
    stage.beat(0, false).unwrap();
    stage.settle();
    stage.beat(1, false).unwrap();
    // It is told to give up, and says over and over that it has not.
    for _ in 0..3 {
        assert_eq!(stage.describe().members.len(), 2);
        let request = stage.request(0);
        stage.clients[0].epoch = stage.ask(request).unwrap().epoch;
        stage.beat(1, false).unwrap();
        stage.pass(4);
    }
    let request = stage.request(0);
    assert_eq!(stage.ask(request), Err(Refused::UnknownMember));
    stage.clients[0].is_member = false;
    stage.settle();
    assert_eq!(stage.owned(), "c1: 0_0 0_1 1_0 1_1");
}

#[test]
fn the_first_assignment_waits_for_others() {
    let mut settings = settings();
    settings.streams.initial_rebalance_delay_ms = 3_000;
    let mut stage = Stage::with(settings, 4, 2);
    stage.beat(0, false).unwrap();
    stage.pass(1);
    let request = stage.request(0);
    let beat = stage.ask(request).unwrap();
    assert_eq!((beat.epoch, beat.heartbeat_interval_ms), (1, 1_000));
    assert_eq!(codes(&beat), [Code::Delayed]);
    stage.beat(1, false).unwrap();
    stage.pass(1);
    stage.host.advance(Duration::from_millis(500));
    let request = stage.request(1);
    assert_eq!(stage.ask(request).unwrap().heartbeat_interval_ms, 501);
    assert_eq!(stage.owned(), "c0: , c1: ");
    stage.pass(1);
    stage.settle();
    // Both have their share at once: nothing had to be given up.
    assert_eq!(stage.owned(), "c0: 0_0 0_2 1_0 1_2 | 1_1 1_3, c1: 0_1 0_3 1_1 1_3 | 1_0 1_2");
    assert_eq!(stage.describe().target_epoch, stage.describe().epoch);
}

#[test]
fn assignments_keep_a_distance() {
    let mut settings = settings();
    settings.streams.assignment_interval = Bounded { default: 1_000, min: 0, max: 15_000 };
    let mut stage = Stage::with(settings, 2, 2);
    stage.makes_topics = false;
    stage.cluster.set("r", 2);
    stage.cluster.set("c", 2);
    stage.beat(0, false).unwrap();
    stage.act(0);
    let request = stage.request(1);
    let beat = stage.ask(request).unwrap();
    assert_eq!((codes(&beat), beat.heartbeat_interval_ms), (vec![Code::Delayed], 1_000));
    stage.pass(1);
    let request = stage.request(1);
    let request = StreamsHeartbeat { epoch: beat.epoch, topology: None, ..request };
    assert!(stage.ask(request).unwrap().statuses.is_empty());
}

#[test]
fn topics_that_do_not_fit() {
    let mut stage = Stage::new(0, 1);
    let request = stage.request(0);
    let beat = stage.ask(request).unwrap();
    assert_eq!((codes(&beat), beat.heartbeat_interval_ms), (vec![Code::MissingSources], 1_000));
    stage.clients[0].epoch = beat.epoch;
    stage.cluster.set("in", 2);
    stage.cluster.set("r", 3);
    let request = stage.request(0);
    let beat = stage.ask(request).unwrap();
    assert_eq!(codes(&beat), [Code::WrongPartitions]);
    assert!(beat.missing.is_empty());
    stage.clients[0].epoch = beat.epoch;
    stage.clients[0].is_member = true;
    stage.cluster.set("r", 0);
    stage.settle();
    assert_eq!(stage.owned(), "c0: 0_0 0_1 1_0 1_1");
    // What it reads is deleted: its tasks end.
    stage.cluster.set("in", 0);
    stage.settle();
    assert_eq!(stage.owned(), "c0: ");
    assert_eq!(stage.describe().state, GroupState::NotReady);
}

#[test]
fn standbys_can_be_configured() {
    let mut stage = Stage::new(2, 3);
    for who in 0..3 {
        stage.beat(who, false).unwrap();
    }
    stage.settle();
    let before = stage.describe();
    let count = |stage: &Stage| -> usize {
        let members = stage.describe().members.into_iter();
        members.map(|it| it.assigned.standby.values().map(BTreeSet::len).sum::<usize>()).sum()
    };
    assert_eq!(count(&stage), 2);
    // Two are the most that a group may have, whatever it asks for.
    for (wanted, there) in [(2, 4), (7, 4), (0, 0)] {
        let streams = StreamsOverrides { standby_replicas: Some(wanted), ..Default::default() };
        stage.cluster.configure(GroupOverrides { streams, ..GroupOverrides::default() });
        stage.settle();
        assert_eq!(count(&stage), there, "{wanted}");
    }
    let active = |of: &StreamsDescription| -> Vec<_> {
        of.members.iter().map(|it| it.assigned.active.clone()).collect()
    };
    assert_eq!(active(&stage.describe()), active(&before), "active tasks stay where they are");
}

#[test]
fn topologies() {
    let mut stage = Stage::new(2, 2);
    stage.topology.epoch = 3;
    stage.beat(0, false).unwrap();
    stage.settle();
    // An older one may come, and is told so.
    stage.topology.epoch = 2;
    let request = stage.request(1);
    assert_eq!(codes(&stage.ask(request).unwrap()), [Code::StaleTopology]);
    assert_eq!(stage.describe().members[1].topology_epoch, 2);
    // Another one may not.
    for epoch in [3, 4] {
        stage.topology = topology(&[("0", part("in", "", "", ""))]);
        stage.topology.epoch = epoch;
        let request = stage.request(1);
        assert!(matches!(stage.ask(request), Err(Refused::Invalid(_))), "{epoch}");
    }
    let wrong = [
        (word_count(), -1, Refused::InvalidTopologyEpoch(-1)),
        (
            topology(&[("0", part("", "", "r", ""))]),
            0,
            Refused::InvalidTopology("No source topics found for subtopology 0".to_owned()),
        ),
        (
            topology(&[("0", part("in", "", "", "c=3"))]),
            0,
            Refused::InvalidTopology(
                "Changelog topic c must have an undefined partition count, but it is set to 3."
                    .to_owned(),
            ),
        ),
        (
            topology(&[("0", part("in", "", "", "c/d"))]),
            0,
            Refused::InvalidTopology("Topic names c/d are not valid topic names.".to_owned()),
        ),
        (
            topology(&[("0", part("in", "r=-1", "", ""))]),
            0,
            Refused::InvalidTopology("Repartition topic r has no such partitions.".to_owned()),
        ),
    ];
    for (topology, epoch, expected) in wrong {
        stage.topology = Topology { epoch, ..topology };
        let request = stage.request(1);
        assert_eq!(stage.ask(request), Err(expected));
    }
    // What contradicts itself is refused before anything is stored.
    let mut stage = Stage::new(2, 1);
    stage.topology = topology(&[("0", part("in", "r", "", ""))]);
    let request = stage.request(0);
    assert!(matches!(stage.ask(request), Err(Refused::InvalidTopology(_))));
    assert_eq!(stage.host.groups.describe_streams(GROUP), None);
    assert!(stage.host.log.is_empty());
}

#[test]
fn what_is_ill_formed_is_refused() {
    let mut stage = Stage::new(2, 1);
    let good = stage.request(0);
    let task = |index| Assignment {
        active: Tasks::from([(Arc::from("0"), BTreeSet::from([index]))]),
        ..Assignment::default()
    };
    let cases: [(&str, StreamsHeartbeat); 9] = [
        ("MemberId can't be empty.", StreamsHeartbeat { member: Arc::from(""), ..good.clone() }),
        ("GroupId can't be empty.", StreamsHeartbeat { group: Arc::from(""), ..good.clone() }),
        (
            "InstanceId can't be empty.",
            StreamsHeartbeat { instance: Some(Arc::from("")), ..good.clone() },
        ),
        ("RackId can't be empty.", StreamsHeartbeat { rack: Some(Arc::from("")), ..good.clone() }),
        (
            "RebalanceTimeoutMs must be provided in first request.",
            StreamsHeartbeat { rebalance_timeout_ms: -1, ..good.clone() },
        ),
        (
            "ActiveTasks, StandbyTasks and WarmupTasks must be empty when (re-)joining.",
            StreamsHeartbeat { owned: Some(task(0)), ..good.clone() },
        ),
        (
            "Topology must be non-null when (re-)joining.",
            StreamsHeartbeat { topology: None, ..good.clone() },
        ),
        (
            "Topology can only be provided when (re-)joining.",
            StreamsHeartbeat { epoch: 1, ..good.clone() },
        ),
        (
            "MemberEpoch is -3, but must be greater than or equal to -2.",
            StreamsHeartbeat { epoch: -3, ..good.clone() },
        ),
    ];
    for (why, request) in cases {
        assert_eq!(stage.ask(request), Err(Refused::Invalid(why.into())));
    }
    let pause = StreamsHeartbeat { epoch: -2, topology: None, ..good.clone() };
    assert_eq!(stage.ask(pause), Err(Refused::Invalid("InstanceId can't be null.".into())));
    let long = StreamsHeartbeat { rack: Some("x".repeat(40_000).into()), ..good.clone() };
    assert_eq!(stage.ask(long), Err(Refused::Host(HostFailure::TooLarge)));
    let stranger = StreamsHeartbeat { epoch: 1, topology: None, ..good };
    assert_eq!(stage.ask(stranger), Err(Refused::GroupNotFound));
    stage.beat(0, false).unwrap();
    stage.settle();
    // Tasks that there are not.
    for (tasks, why) in [
        (task(2), "Task 2 for subtopology 0 is invalid. Number of tasks for this subtopology: 2"),
        (task(-1), "Task -1 for subtopology 0 is invalid. Number of tasks for this subtopology: 2"),
    ] {
        let request = StreamsHeartbeat { owned: Some(tasks), ..stage.request(0) };
        assert_eq!(stage.ask(request), Err(Refused::Invalid(why.into())));
    }
    let epoch = stage.clients[0].epoch;
    for said in [epoch + 1, epoch - 1] {
        let owned = Assignment::default();
        let request = StreamsHeartbeat { epoch: said, owned: Some(owned), ..stage.request(0) };
        let result = stage.ask(request);
        if said > epoch {
            assert_eq!(result, Err(Refused::FencedEpoch { known: epoch, said }));
        } else {
            // It has missed an answer, and has nothing that it should not.
            assert!(result.unwrap().assignment.is_some());
        }
    }
}

#[test]
fn the_protocol_can_be_switched_off() {
    let mut off = settings();
    off.streams.served = false;
    let mut stage = Stage::with(off, 2, 1);
    let request = stage.request(0);
    assert_eq!(stage.ask(request), Err(Refused::NotServed));
}

#[test]
fn there_is_room_for_so_many() {
    let mut few = settings();
    few.streams.members_max = 1;
    let mut stage = Stage::with(few, 2, 2);
    stage.beat(0, false).unwrap();
    assert_eq!(stage.beat(1, false), Err(Refused::GroupFull));
    stage.beat(0, false).unwrap();
    let mut small = settings();
    small.group_bytes_max = 2_500;
    let mut stage = Stage::with(small, 2, 2);
    stage.beat(0, false).unwrap();
    assert_eq!(stage.beat(1, false), Err(Refused::GroupFull));
    // A topology counts.
    let mut stage = Stage::with(small, 2, 1);
    let many: Vec<String> = (0..100).map(|it| format!("source-{it}")).collect();
    stage.topology = topology(&[("0", part(&many.join(" "), "", "", ""))]);
    assert_eq!(stage.beat(0, false), Err(Refused::GroupFull));
}

#[test]
fn static_members() {
    let mut stage = Stage::new(2, 3);
    stage.clients[0].instance = Some(Arc::from("i"));
    stage.clients[2].instance = Some(Arc::from("i"));
    for who in [0, 1] {
        stage.beat(who, false).unwrap();
    }
    stage.settle();
    let (epoch, owned) = (stage.describe().epoch, stage.clients[0].owned.clone());
    assert_eq!(stage.beat(2, false), Err(Refused::UnreleasedInstance));
    // It leaves for a while: nobody takes its tasks.
    stage.leave(0, -2).unwrap();
    stage.pass(1);
    stage.settle();
    assert_eq!(stage.clients[1].owned.active.values().map(BTreeSet::len).sum::<usize>(), 2);
    // Its next run has another id and another process, and gets what it had.
    stage.beat(2, false).unwrap();
    stage.settle();
    assert_eq!(stage.clients[2].owned, owned);
    assert!(stage.describe().epoch > epoch, "the process has changed");
    let request = StreamsHeartbeat { epoch: 3, topology: None, ..stage.request(0) };
    assert_eq!(stage.ask(request), Err(Refused::FencedInstance));
    // One that does not come back is out when its session ends.
    stage.leave(2, -2).unwrap();
    stage.pass(6);
    stage.settle();
    stage.pass(6);
    stage.settle();
    assert_eq!(stage.describe().members.len(), 1);
    stage.check_owners();
}

#[test]
fn one_asks_for_the_end_of_all() {
    let mut stage = Stage::new(2, 2);
    for who in [0, 1] {
        stage.beat(who, false).unwrap();
    }
    stage.settle();
    let request = StreamsHeartbeat { shutdown: true, ..stage.request(0) };
    assert_eq!(codes(&stage.ask(request).unwrap()), [Code::Shutdown]);
    let request = stage.request(1);
    let beat = stage.ask(request).unwrap();
    assert_eq!(codes(&beat), [Code::Shutdown]);
    assert!(beat.statuses[0].detail.contains("c0"), "{:?}", beat.statuses);
    for who in [0, 1] {
        stage.leave(who, -1).unwrap();
    }
    // Who begins anew is not told.
    let request = stage.request(0);
    assert!(stage.ask(request).unwrap().statuses.is_empty());
}

#[test]
fn members_know_where_tasks_are() {
    let mut stage = Stage::new(2, 2);
    let endpoint = |port| Endpoint { host: Arc::from("h"), port };
    let join = StreamsHeartbeat { endpoint: Some(endpoint(1)), ..stage.request(0) };
    let beat = stage.ask(join).unwrap();
    stage.clients[0].epoch = beat.epoch;
    stage.clients[0].is_member = true;
    stage.settle();
    stage.beat(1, false).unwrap();
    stage.settle();
    let request = stage.request(1);
    let beat = stage.ask(request.clone()).unwrap();
    let told = beat.endpoints.unwrap();
    let of = |topic: &str, indexes: &[i32]| (Arc::from(topic), indexes.to_vec());
    // Member 1 answers no queries, and is not named.
    assert_eq!(
        told,
        [EndpointPartitions {
            endpoint: endpoint(1),
            active: BTreeMap::from([of("in", &[0]), of("r", &[0])]),
            standby: BTreeMap::from([of("r", &[1])]),
        }]
    );
    // Who knows is not told again, until something changes.
    let known = StreamsHeartbeat { endpoints_epoch: beat.endpoints_epoch, ..request };
    let again = stage.ask(known.clone()).unwrap();
    assert_eq!((again.endpoints, again.endpoints_epoch), (None, beat.endpoints_epoch));
    stage.leave(0, -1).unwrap();
    assert_eq!(stage.ask(known).unwrap().endpoints, Some(Vec::new()));
}

#[test]
fn offsets_are_those_of_members() {
    let mut stage = Stage::new(2, 2);
    for who in [0, 1] {
        stage.beat(who, false).unwrap();
        stage.settle();
    }
    assert_eq!(stage.owned(), "c0: 0_0 1_0 | 1_1, c1: 0_1 1_1 | 1_0");
    let epoch = stage.clients[0].epoch;
    let old = Speaking { speaks_epochs: false, ..speaking("c0", epoch) };
    let within = Speaking { within: Some(7), ..speaking("c0", epoch) };
    let producer = Speaking { within: Some(8), ..speaking("", -1) };
    let cases: [(Speaking, &str, Result<(), CommitError>); 11] = [
        (speaking("c0", epoch), "r", Ok(())),
        // The topic does not matter to who is in the epoch.
        (speaking("c0", epoch), "in", Ok(())),
        // It has had both tasks since before this epoch, and the other has neither.
        (speaking("c0", epoch - 1), "r", Ok(())),
        (speaking("c0", epoch - 1), "in", Ok(())),
        (speaking("c1", 1), "in", Err(CommitError::StaleEpoch)),
        (speaking("c0", epoch - 1), "elsewhere", Err(CommitError::StaleEpoch)),
        (speaking("c0", epoch + 1), "r", Err(CommitError::StaleEpoch)),
        (speaking("nobody", epoch), "r", Err(CommitError::UnknownMember)),
        (speaking("", -1), "r", Err(CommitError::UnknownMember)),
        (old, "r", Err(CommitError::NotServed)),
        (within, "r", Ok(())),
    ];
    for (who, topic, expected) in cases {
        assert_eq!(stage.commit(&who, topic, 0), expected, "{who:?} {topic}");
    }
    assert_eq!(stage.commit(&producer, "r", 1), Ok(()));
    // This one has its task since this epoch.
    assert_eq!(stage.commit(&speaking("c1", epoch), "in", 1), Ok(()));
    let before = stage.commit(&speaking("c1", epoch - 1), "in", 1);
    assert_eq!(before, Err(CommitError::StaleEpoch));
    let reader = |member: Option<&str>, epoch| Reader { member: member.map(Arc::from), epoch };
    let cases = [
        (reader(Some("c0"), epoch), Ok(())),
        (reader(Some("c0"), epoch - 1), Err(FetchRefused::StaleEpoch)),
        (reader(Some("nobody"), epoch), Err(FetchRefused::UnknownMember)),
        (reader(None, -1), Ok(())),
    ];
    for (reader, expected) in cases {
        assert_eq!(stage.host.groups.check_fetch(GROUP, &reader), expected, "{reader:?}");
    }
}

fn delete_offsets(stage: &mut Stage, topic: &str) -> Result<(), DeletePartitionError> {
    let request =
        DeleteOffsets { group: Arc::from(GROUP), topics: vec![(Arc::from(topic), vec![0])] };
    let ticket = stage.host.send(Command::DeleteOffsets(request));
    match stage.host.answers.remove(&ticket) {
        Some(Reply::DeleteOffsets(Ok(topics))) => topics[0].1[0].1,
        other => panic!("{other:?}"),
    }
}

fn delete_group(stage: &mut Stage) -> Result<(), DeleteGroupError> {
    let request = DeleteGroups { groups: vec![Arc::from(GROUP)] };
    let ticket = stage.host.send(Command::DeleteGroups(request));
    match stage.host.answers.remove(&ticket) {
        Some(Reply::DeleteGroups(results)) => results[0].1,
        other => panic!("{other:?}"),
    }
}

#[test]
fn administrators() {
    let mut stage = Stage::new(2, 1);
    stage.beat(0, false).unwrap();
    stage.settle();
    let epoch = stage.clients[0].epoch;
    for topic in ["in", "elsewhere"] {
        stage.commit(&speaking("c0", epoch), topic, 0).unwrap();
    }
    let listed = stage.host.groups.list(&ListFilter::default());
    assert_eq!(
        listed,
        [Listed {
            group: Arc::from(GROUP),
            protocol_type: Arc::from("streams"),
            state: GroupState::Stable,
            group_type: GroupType::Streams,
        }]
    );
    let filter = |types: &str| ListFilter { types: vec![types.to_owned()], states: Vec::new() };
    assert_eq!(stage.host.groups.list(&filter("Streams")).len(), 1);
    assert_eq!(stage.host.groups.list(&filter("consumer")).len(), 0);
    assert_eq!(stage.host.groups.describe(GROUP), None);
    assert_eq!(stage.host.groups.describe_consumer(GROUP), None);
    assert_eq!(delete_group(&mut stage), Err(DeleteGroupError::NonEmptyGroup));
    let reads = Err(DeletePartitionError::SubscribedToTopic);
    assert_eq!(delete_offsets(&mut stage, "in"), reads);
    assert_eq!(delete_offsets(&mut stage, "elsewhere"), Ok(()));
    // Nobody is there: offsets may be set, and deleted.
    stage.leave(0, -1).unwrap();
    stage.commit(&speaking("", -1), "in", 1).unwrap();
    assert_eq!(delete_offsets(&mut stage, "in"), Ok(()));
    assert_eq!(delete_group(&mut stage), Ok(()));
    assert_eq!(stage.host.groups.describe_streams(GROUP), None);
    assert!(stage.host.reload().0.groups.is_empty(), "nothing is left of it");
}

#[test]
fn what_nobody_reads_expires() {
    let mut settings = settings();
    settings.offsets_retention = Duration::from_secs(60);
    settings.expiry_interval = Duration::from_secs(10);
    let mut stage = Stage::with(settings, 2, 1);
    stage.beat(0, false).unwrap();
    stage.settle();
    for topic in ["in", "elsewhere"] {
        stage.commit(&speaking("c0", stage.clients[0].epoch), topic, 0).unwrap();
    }
    let stored = |stage: &Stage| -> Vec<Arc<str>> {
        let all = stage.host.groups.fetch_offsets(GROUP, None, false);
        all.into_iter().map(|(topic, _)| topic).collect()
    };
    for _ in 0..20 {
        stage.pass(5);
        stage.beat(0, false).unwrap();
    }
    // While a member is there, what it reads stays.
    assert_eq!(stored(&stage), names("in"));
    stage.leave(0, -1).unwrap();
    assert!(stage.host.groups.describe_streams(GROUP).is_some());
    stage.pass(80);
    assert!(stage.host.groups.groups.is_empty(), "nothing is left of it");
}

/// One group, one protocol.
#[test]
fn groups_of_other_protocols() {
    let join = || Join {
        group: Arc::from(GROUP),
        member: Arc::from(""),
        instance: None,
        client_id: Arc::from("c"),
        client_host: Arc::from("/h"),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        protocol_type: Arc::from("consumer"),
        protocols: vec![Protocol { name: Arc::from("range"), metadata: bytes::Bytes::new() }],
        require_known_member_id: true,
        can_skip_assignment: true,
        fresh: millstream_types::Uuid([1; 16]),
        asker: None,
    };
    let classic = |stage: &mut Stage| {
        let ticket = stage.host.send(Command::Join(join()));
        match stage.host.answers.remove(&ticket) {
            Some(Reply::Join(result)) => result.map(|_| ()).map_err(|refused| refused.error),
            other => panic!("{other:?}"),
        }
    };
    let mut stage = Stage::new(2, 1);
    stage.beat(0, false).unwrap();
    // With members in it a streams group stays one.
    assert_eq!(classic(&mut stage), Err(JoinError::InconsistentProtocol));
    stage.leave(0, -1).unwrap();
    assert_eq!(classic(&mut stage), Err(JoinError::MemberIdRequired));
    assert_eq!(stage.host.groups.describe_streams(GROUP), None, "it is a classic one now");
    // And back, when nobody is there.
    stage.host.advance(Duration::from_secs(400));
    stage.beat(0, false).unwrap();
    assert_eq!(stage.describe().members.len(), 1);
}
