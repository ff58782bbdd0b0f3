//! Groups that change their type while they have members.

use bytes::Bytes;
use millstream_wire::consumer_protocol_subscription::TopicPartition;
use millstream_wire::stored::{decode_value, encode_value};
use millstream_wire::{ConsumerProtocolAssignment, ConsumerProtocolSubscription};

use super::super::super::ConsumerHeartbeatError as Refused;
use super::*;

/// A consumer of the classic protocol: `eager` ones give everything up before they join.
#[derive(Clone, Debug, Default)]
struct Old {
    id: Arc<str>,
    instance: Option<Arc<str>>,
    generation: i32,
    owned: BTreeSet<i32>,
    eager: bool,
    /// The rights that it has.
    asker: Option<Asker>,
}

impl Old {
    fn new(eager: bool) -> Self {
        Self { id: Arc::from(""), eager, generation: -1, ..Self::default() }
    }

    fn subscription(&self) -> Bytes {
        let owned =
            TopicPartition { topic: "t".into(), partitions: self.owned.iter().copied().collect() };
        let said = ConsumerProtocolSubscription {
            topics: vec!["t".into()],
            owned_partitions: if self.eager { Vec::new() } else { vec![owned] },
            ..Default::default()
        };
        encode_value(&said, if self.eager { 0 } else { 2 }).unwrap()
    }

    fn speaker(&self) -> Speaker {
        Speaker {
            group: Arc::from(GROUP),
            member: Arc::clone(&self.id),
            instance: self.instance.clone(),
            generation: self.generation,
        }
    }
}

impl Stage {
    fn reply(&mut self, command: Command) -> Option<Reply> {
        let ticket = self.host.send(command);
        self.host.answers.remove(&ticket)
    }

    fn join(&mut self, old: &mut Old) -> Option<Result<Joined, JoinRefused>> {
        let join = Join {
            group: Arc::from(GROUP),
            member: Arc::clone(&old.id),
            instance: old.instance.clone(),
            client_id: Arc::from("old"),
            client_host: Arc::from("/127.0.0.1"),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 10_000,
            protocol_type: Arc::from("consumer"),
            protocols: vec![Protocol { name: Arc::from("range"), metadata: old.subscription() }],
            require_known_member_id: false,
            can_skip_assignment: false,
            fresh: Uuid([u8::try_from(self.host.log.len() % 200).unwrap(); 16]),
            asker: old.asker.clone(),
        };
        if old.eager {
            old.owned.clear();
        }
        match self.reply(Command::Join(join)) {
            Some(Reply::Join(result)) => {
                if let Ok(joined) = &result {
                    old.id = Arc::clone(&joined.member);
                    old.generation = joined.generation;
                }
                Some(result)
            }
            None => None,
            other => panic!("{other:?}"),
        }
    }

    fn sync(&mut self, old: &mut Old, all: Vec<(Arc<str>, Bytes)>) -> Result<(), SyncError> {
        let sync = Sync {
            speaker: old.speaker(),
            protocol_type: Some(Arc::from("consumer")),
            protocol: Some(Arc::from("range")),
            assignments: all,
        };
        match self.reply(Command::Sync(sync)) {
            Some(Reply::Sync(Ok(synced))) => {
                let told: ConsumerProtocolAssignment = decode_value(&synced.assignment).unwrap();
                let told = told.assigned_partitions.into_iter();
                old.owned = told.flat_map(|of| of.partitions).collect();
                Ok(())
            }
            Some(Reply::Sync(Err(error))) => Err(error),
            other => panic!("{other:?}"),
        }
    }

    fn old_beat(&mut self, old: &Old) -> Result<(), HeartbeatError> {
        match self.reply(Command::Heartbeat(Heartbeat { speaker: old.speaker() })) {
            Some(Reply::Heartbeat(result)) => result,
            other => panic!("{other:?}"),
        }
    }

    /// Joins and syncs for as long as the heartbeats ask for it.
    fn follow(&mut self, old: &mut Old) {
        for _ in 0..4 {
            match self.old_beat(old) {
                Ok(()) => return,
                Err(HeartbeatError::RebalanceInProgress) => {
                    self.join(old).expect("answered at once").expect("joins");
                    let _ = self.sync(old, Vec::new());
                }
                Err(error) => panic!("{error:?}"),
            }
        }
    }

    /// A classic group of one member that has all of `t`.
    fn with_old(eager: bool) -> (Self, Old) {
        let mut stage = Self::new(4, 2);
        let mut immediate = settings();
        immediate.initial_rebalance_delay = Duration::ZERO;
        stage.host.settings = immediate;
        stage.host.groups.configure(immediate);
        let mut old = Old::new(eager);
        stage.join(&mut old).expect("alone").expect("joins");
        let all = ConsumerProtocolAssignment {
            assigned_partitions: vec![
                millstream_wire::consumer_protocol_assignment::TopicPartition {
                    topic: "t".into(),
                    partitions: vec![0, 1, 2, 3],
                },
            ],
            user_data: None,
        };
        let all = encode_value(&all, 1).unwrap();
        let id = Arc::clone(&old.id);
        stage.sync(&mut old, vec![(id, all)]).unwrap();
        (stage, old)
    }

    fn type_of(&self) -> (&'static str, &'static str) {
        let all = self.host.groups.list(&ListFilter::default());
        let one = all.first().expect("there is the group");
        (one.group_type.name(), one.state.name())
    }
}

#[test]
fn a_consumer_joins_a_classic_group_and_leaves_it_again() {
    for eager in [true, false] {
        let (mut stage, mut old) = Stage::with_old(eager);
        assert_eq!(stage.type_of(), ("classic", "Stable"));
        stage.beat(0, false).unwrap();
        stage.act(0);
        assert_eq!(stage.owned(), "c0: ", "the old one has everything yet");
        assert_eq!(stage.type_of(), ("consumer", "Reconciling"));
        stage.follow(&mut old);
        stage.settle();
        stage.follow(&mut old);
        stage.settle();
        assert_eq!(old.owned.len(), 2, "eager: {eager}");
        let shown = stage.owned();
        assert_eq!(shown.matches('t').count(), 2, "{shown}");
        assert_eq!(stage.type_of(), ("consumer", "Stable"));
        assert!(stage.describe().members.iter().any(|member| member.classic));
        // A restart finds the same.
        stage.host.crash();
        assert_eq!(stage.old_beat(&old), Ok(()));
        let id = Arc::clone(&old.id);
        let epoch = old.generation;
        let mine = *old.owned.first().unwrap();
        assert_eq!(stage.commit(&id, epoch, mine), Ok(()));
        assert_eq!(stage.commit(&id, epoch + 1, mine), Err(CommitError::IllegalGeneration));
        // The last consumer of the new protocol leaves: the group is what it was.
        stage.leave(0, -1).unwrap();
        assert_eq!(stage.type_of(), ("classic", "PreparingRebalance"));
        assert_eq!(stage.old_beat(&old), Err(HeartbeatError::RebalanceInProgress));
        assert!(stage.join(&mut old).expect("alone").is_ok());
    }
}

#[test]
fn a_consumer_that_dies_leaves_a_classic_group() {
    let (mut stage, mut old) = Stage::with_old(false);
    stage.beat(0, false).unwrap();
    stage.follow(&mut old);
    stage.pass(6);
    stage.follow(&mut old);
    stage.pass(6);
    assert_eq!(stage.type_of().0, "classic", "its session of 10 s has ended");
    // And a classic member that is silent is out like any other.
    let (mut stage, mut old) = Stage::with_old(false);
    stage.beat(0, false).unwrap();
    stage.follow(&mut old);
    for _ in 0..4 {
        stage.pass(3);
        stage.settle();
    }
    assert_eq!(stage.old_beat(&old), Err(HeartbeatError::UnknownMember));
    stage.settle();
    assert_eq!(stage.owned(), "c0: t0 t1 t2 t3");
}

#[test]
fn a_classic_consumer_joins_a_consumer_group() {
    let mut stage = Stage::new(4, 1);
    stage.beat(0, false).unwrap();
    stage.settle();
    let mut old = Old::new(false);
    let joined = stage.join(&mut old).expect("at once").expect("joins");
    assert_eq!((joined.leader, joined.members.len()), (Arc::from(""), 0), "it does not lead");
    stage.sync(&mut old, Vec::new()).unwrap();
    assert!(old.owned.is_empty(), "c0 has everything yet");
    stage.settle();
    stage.follow(&mut old);
    assert_eq!(old.owned.len(), 2);
    assert_eq!(stage.owned(), "c0: t0 t1");
    let mut stranger = Join {
        protocol_type: Arc::from("connect"),
        ..match Command::Join(join_of("x")) {
            Command::Join(join) => join,
            _ => return,
        }
    };
    let refused = |reply| match reply {
        Some(Reply::Join(Err(refused))) => refused.error,
        other => panic!("{other:?}"),
    };
    let reply = stage.reply(Command::Join(stranger.clone()));
    assert_eq!(refused(reply), JoinError::InconsistentProtocol);
    stranger.protocol_type = Arc::from("consumer");
    stranger.protocols[0].metadata = Bytes::from_static(b"\xff");
    let reply = stage.reply(Command::Join(stranger));
    assert_eq!(refused(reply), JoinError::InconsistentProtocol);
    // It leaves as it came.
    let leaver = Leaver { member: Arc::clone(&old.id), instance: None };
    let leave = Leave { group: Arc::from(GROUP), members: vec![leaver] };
    assert_eq!(stage.reply(Command::Leave(leave)), Some(Reply::Leave(Ok(vec![Ok(())]))));
    stage.settle();
    assert_eq!(stage.owned(), "c0: t0 t1 t2 t3");
}

fn join_of(client: &str) -> Join {
    Join {
        group: Arc::from(GROUP),
        member: Arc::from(""),
        instance: None,
        client_id: Arc::from(client),
        client_host: Arc::from("/127.0.0.1"),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        protocol_type: Arc::from("consumer"),
        protocols: vec![Protocol {
            name: Arc::from("range"),
            metadata: Old::new(true).subscription(),
        }],
        require_known_member_id: true,
        can_skip_assignment: false,
        fresh: Uuid([9; 16]),
        asker: None,
    }
}

#[test]
fn a_static_member_changes_its_protocol_and_back() {
    let (mut stage, _) = Stage::with_old(false);
    // The only member is dynamic: replace the stage by one whose member has a name.
    stage.host.crash();
    let mut stage = Stage::new(4, 1);
    stage.clients[0].instance = Some(Arc::from("i"));
    stage.beat(0, false).unwrap();
    stage.settle();
    let mut old = Old { instance: Some(Arc::from("i")), ..Old::new(false) };
    stage.join(&mut old).expect("at once").expect("takes the place");
    assert_eq!(stage.type_of(), ("classic", "Stable"), "nobody else speaks the new protocol");
    stage.sync(&mut old, Vec::new()).unwrap();
    assert_eq!(old.owned.len(), 4, "it has what its former self had");
    assert_eq!(stage.beat(0, false), Err(Refused::GroupNotFound), "and that one is gone");
    stage.beat(0, false).unwrap();
    stage.settle();
    assert_eq!(
        (stage.type_of(), stage.owned()),
        (("consumer", "Stable"), "c0: t0 t1 t2 t3".into())
    );
}

/// A member of the classic protocol names topics in what only clients read elsewhere; here the coordinator
/// reads it, and assigns nothing that the member may not know of.
#[test]
fn a_classic_member_is_assigned_nothing_that_is_hidden_from_it() {
    #[derive(Debug)]
    struct Nothing;
    impl Rights for Nothing {
        fn version(&self) -> u64 {
            1
        }

        fn may_know_of(&self, _topic: &str) -> bool {
            false
        }
    }
    let mut stage = Stage::new(4, 1);
    stage.beat(0, false).unwrap();
    stage.settle();
    let mut old = Old::new(false);
    old.asker = Some(Asker(Arc::new(Nothing)));
    stage.join(&mut old).expect("at once").expect("joins");
    stage.follow(&mut old);
    stage.settle();
    stage.follow(&mut old);
    stage.settle();
    assert_eq!(old.owned.len(), 0, "{:?}", old.owned);
    assert_eq!(stage.owned(), "c0: t0 t1 t2 t3");
}

#[test]
fn a_policy_forbids_either_way() {
    let (mut stage, mut old) = Stage::with_old(false);
    let mut none = stage.host.settings;
    none.consumer.migration = Migration { upgrade: false, downgrade: false };
    stage.host.groups.configure(none);
    assert_eq!(stage.beat(0, false), Err(Refused::GroupNotFound));
    stage.host.groups.configure(stage.host.settings);
    stage.beat(0, false).unwrap();
    stage.follow(&mut old);
    stage.host.groups.configure(none);
    stage.leave(0, -1).unwrap();
    assert_eq!(stage.type_of().0, "consumer", "it stays, with its classic member");
    stage.follow(&mut old);
    assert_eq!(old.owned.len(), 4);
}

#[test]
fn a_change_that_was_not_appended_did_not_happen() {
    let (mut stage, mut old) = Stage::with_old(false);
    stage.host.fails = Some(HostFailure::Unavailable);
    assert_eq!(stage.beat(0, false), Err(Refused::Host(HostFailure::Unavailable)));
    assert_eq!(stage.type_of(), ("classic", "Stable"));
    assert_eq!(stage.old_beat(&old), Ok(()));
    stage.beat(0, false).unwrap();
    stage.follow(&mut old);
    stage.host.fails = Some(HostFailure::Unavailable);
    let refused = stage.leave(0, -1);
    assert_eq!(refused, Err(Refused::Host(HostFailure::Unavailable)));
    assert_eq!(stage.type_of().0, "consumer");
    assert_eq!(stage.describe().members.len(), 2);
}
