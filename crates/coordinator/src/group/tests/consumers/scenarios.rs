//! What members of a consumer group are told, step by step.

use super::super::super::ConsumerHeartbeatError as Refused;
use super::*;

/// Pitfall 59.
#[test]
fn partitions_are_given_up_before_others_get_them() {
    let mut stage = Stage::new(4, 2);
    stage.beat(0, false).unwrap();
    stage.act(0);
    assert_eq!(stage.owned(), "c0: t0 t1 t2 t3");
    stage.beat(1, false).unwrap();
    stage.act(1);
    assert_eq!(stage.owned(), "c0: t0 t1 t2 t3, c1: ", "c0 has not given anything up");
    stage.beat(0, false).unwrap();
    assert_eq!(stage.describe().state, GroupState::Reconciling);
    stage.beat(1, false).unwrap();
    stage.act(1);
    assert_eq!(stage.owned(), "c0: t0 t1 t2 t3, c1: ", "c0 was told, and has not said that it did");
    stage.act(0);
    stage.beat(0, false).unwrap();
    stage.beat(1, false).unwrap();
    stage.act(1);
    assert_eq!(stage.owned(), "c0: t0 t1, c1: t2 t3");
    assert_eq!(stage.describe().state, GroupState::Stable);
    stage.leave(0, -1).unwrap();
    stage.settle();
    assert_eq!(stage.owned(), "c1: t0 t1 t2 t3");
    stage.leave(1, -1).unwrap();
    assert_eq!(stage.describe().state, GroupState::Empty);
}

/// Pitfall 59.
#[test]
fn the_assignment_is_told_when_it_has_changed() {
    let mut stage = Stage::new(2, 1);
    let joined = stage.ask(stage.request(0)).unwrap();
    assert!(joined.assignment.is_some() && joined.epoch == 1);
    let member = ConsumerHeartbeat { epoch: 1, topics: None, owned: None, ..stage.request(0) };
    let beat = stage.ask(member.clone()).unwrap();
    assert_eq!((beat.epoch, beat.assignment, beat.heartbeat_interval_ms), (1, None, 1_000));
    stage.cluster.set("t", 3);
    let beat = stage.ask(member.clone()).unwrap();
    let told = beat.assignment.map(|all| all.values().map(BTreeSet::len).sum());
    assert_eq!((beat.epoch, told), (2, Some(3_usize)), "the topic has grown");
    // A full request is answered in full: the member may have missed something.
    let full = ConsumerHeartbeat { epoch: 2, rebalance_timeout_ms: 5, ..stage.request(0) };
    assert!(stage.ask(full).unwrap().assignment.is_some());
}

#[test]
fn topics_come_grow_go_and_come_again() {
    let mut stage = Stage::new(0, 2);
    stage.beat(0, false).unwrap();
    stage.beat(1, false).unwrap();
    stage.settle();
    assert_eq!(stage.owned(), "c0: , c1: ", "there is no such topic yet");
    for (count, expected) in
        [(1, "c0: t0, c1: "), (3, "c0: t0 t2, c1: t1"), (0, "c0: , c1: "), (2, "c0: t0, c1: t1")]
    {
        stage.cluster.set("t", count);
        stage.settle();
        assert_eq!(stage.owned(), expected, "with {count} partitions");
    }
}

#[test]
fn members_that_are_silent_or_do_not_give_up_are_out() {
    let mut stage = Stage::new(2, 2);
    stage.beat(0, false).unwrap();
    stage.act(0);
    stage.pass(9);
    stage.beat(1, false).unwrap();
    stage.pass(2);
    assert_eq!(stage.beat(0, false), Err(Refused::UnknownMember), "it was silent for 11 s");
    stage.settle();
    assert_eq!(stage.owned(), "c1: t0 t1");
    stage.beat(0, false).unwrap();
    // c1 goes on sending heartbeats but never says that it has given anything up.
    for _ in 0..12 {
        stage.pass(1);
        stage.murmur(1);
        let _ = stage.beat(0, false);
    }
    assert_eq!(stage.beat(1, false), Err(Refused::UnknownMember));
    stage.settle();
    assert_eq!(stage.owned(), "c0: t0 t1");
}

#[test]
fn epochs_that_are_not_the_members_own_are_fenced() {
    let mut stage = Stage::new(2, 2);
    stage.beat(0, false).unwrap();
    stage.act(0);
    for epoch in [2, 100] {
        let ahead = ConsumerHeartbeat { epoch, ..stage.request(0) };
        assert_eq!(stage.ask(ahead), Err(Refused::FencedEpoch { known: 1, said: epoch }));
    }
    let nobody = ConsumerHeartbeat { member: Arc::from("x"), epoch: 1, ..stage.request(0) };
    assert_eq!(stage.ask(nobody), Err(Refused::UnknownMember));
    let elsewhere = ConsumerHeartbeat { group: Arc::from("h"), epoch: 1, ..stage.request(0) };
    assert_eq!(stage.ask(elsewhere), Err(Refused::GroupNotFound));
    // It misses the answer that takes it to the next epoch, and comes again with the one before.
    stage.beat(1, false).unwrap();
    stage.beat(0, false).unwrap();
    stage.act(0);
    stage.beat(0, true).unwrap();
    stage.beat(0, false).unwrap();
    assert_eq!(stage.clients[0].epoch, 2);
    let behind = ConsumerHeartbeat { epoch: 1, rebalance_timeout_ms: -1, ..stage.request(0) };
    let told = stage.ask(behind.clone()).expect("it owns nothing that it should not");
    assert!(told.epoch == 2 && told.assignment.is_some(), "it has missed an answer: {told:?}");
    let greedy = Partitions::from([(Uuid([1; 16]), BTreeSet::from([0, 1]))]);
    let greedy = ConsumerHeartbeat { owned: Some(greedy), ..behind };
    assert_eq!(stage.ask(greedy), Err(Refused::FencedEpoch { known: 2, said: 1 }));
    // Joining again under the same id is allowed at any time: it says that it owns nothing.
    stage.clients[0].epoch = 0;
    stage.clients[0].owned.clear();
    assert!(stage.beat(0, false).is_ok());
}

/// Pitfall 59.
#[test]
fn static_members_come_back_to_what_they_had() {
    let mut stage = Stage::new(4, 3);
    for who in [0, 1] {
        stage.clients[who].instance = Some(Arc::from(format!("i{who}")));
        stage.beat(who, false).unwrap();
    }
    stage.settle();
    assert_eq!(stage.owned(), "c0: t0 t1, c1: t2 t3");
    let before = stage.describe();
    stage.clients[2].instance = Some(Arc::from("i0"));
    assert_eq!(stage.beat(2, false), Err(Refused::UnreleasedInstance));
    stage.leave(0, -2).unwrap();
    stage.settle();
    assert_eq!(stage.owned(), "c1: t2 t3", "its partitions wait for it");
    stage.beat(2, false).unwrap();
    stage.act(2);
    assert_eq!(stage.owned(), "c1: t2 t3, c2: t0 t1");
    assert_eq!(stage.describe().epoch, before.epoch, "nobody else has to do anything");
    stage.clients[0].epoch = 1;
    assert_eq!(stage.beat(0, false), Err(Refused::FencedInstance));
    // Away for longer than its session: others get what it had.
    stage.leave(2, -2).unwrap();
    stage.pass(6);
    stage.settle();
    stage.pass(6);
    stage.settle();
    assert_eq!(stage.owned(), "c1: t0 t1 t2 t3");
    stage.clients[1].instance = None;
    let pause = ConsumerHeartbeat { epoch: -2, ..stage.request(1) };
    assert!(matches!(stage.ask(pause), Err(Refused::Invalid(_))), "only static members pause");
}

#[test]
fn expressions_follow_the_topics() {
    let mut stage = Stage::new(1, 2);
    stage.clients[0].topics.clear();
    stage.clients[0].regex = Some(Arc::from("t|orders-.*"));
    stage.beat(0, false).unwrap();
    stage.settle();
    assert_eq!(stage.owned(), "c0: t0");
    // A topic that somebody names is matched later by the other's expression: both share it.
    let mut both = Stage::new(0, 2);
    both.clients[0].regex = Some(Arc::from("[ab]"));
    both.clients[1].topics = vec![Arc::from("a")];
    both.beat(0, false).unwrap();
    both.beat(1, false).unwrap();
    both.cluster.set("a", 2);
    both.settle();
    assert_eq!(both.owned(), "c0: a0, c1: a1");
    // What it names comes at once, what it describes with the next heartbeat.
    let mut first = Stage::new(1, 1);
    first.cluster.set("u", 1);
    first.clients[0].regex = Some(Arc::from("u"));
    first.beat(0, false).unwrap();
    first.act(0);
    assert_eq!(first.owned(), "c0: t0");
    first.beat(0, false).unwrap();
    first.act(0);
    assert_eq!(first.owned(), "c0: t0 u0");
    stage.cluster.set("orders-1", 2);
    stage.cluster.set("old-orders-1", 2);
    stage.settle();
    assert_eq!(stage.owned(), "c0: t0 orders-10 orders-11");
    stage.beat(1, false).unwrap();
    stage.settle();
    assert_eq!(stage.owned(), "c0: orders-10 orders-11, c1: t0");
    stage.clients[0].regex = Some(Arc::from("("));
    assert!(matches!(stage.beat(0, false), Err(Refused::InvalidRegex(_))));
    stage.clients[0].regex = Some(Arc::from("old.*"));
    stage.beat(0, false).unwrap();
    stage.settle();
    assert_eq!(stage.owned(), "c0: old-orders-10 old-orders-11, c1: t0");
    stage.clients[0].regex = Some(Arc::from(""));
    stage.clients[0].topics = vec![Arc::from("t")];
    stage.settle();
    assert_eq!(stage.owned(), "c0: , c1: t0");
}

/// The rights of somebody who may know of what does not begin with `hidden`.
#[derive(Debug)]
struct Limited(u64, &'static str);

impl Rights for Limited {
    fn version(&self) -> u64 {
        self.0
    }

    fn may_know_of(&self, topic: &str) -> bool {
        !topic.starts_with(self.1)
    }
}

fn limited(version: u64, hidden: &'static str) -> Option<Asker> {
    Some(Asker(Arc::new(Limited(version, hidden))))
}

/// A member that subscribes by an expression is not told of topics that it may not know of: neither by what it is to
/// read nor, where it is alone, by the epoch.
#[test]
fn an_expression_finds_nothing_that_is_hidden_from_its_member() {
    let mut stage = Stage::new(0, 2);
    stage.cluster.set("seen", 2);
    stage.cluster.set("hidden-1", 2);
    stage.clients[0].topics.clear();
    stage.clients[0].regex = Some(Arc::from(".*"));
    stage.clients[0].asker = limited(1, "hidden");
    stage.beat(0, false).unwrap();
    stage.settle();
    assert_eq!(stage.owned(), "c0: seen0 seen1");
    let epoch = stage.clients[0].epoch;
    stage.cluster.set("hidden-2", 2);
    stage.cluster.set("hidden-1", 3);
    stage.settle();
    stage.cluster.set("hidden-1", 0);
    stage.settle();
    assert_eq!((stage.owned().as_str(), stage.clients[0].epoch), ("c0: seen0 seen1", epoch));
    // Rights that are given count, and those that are taken away.
    stage.clients[0].asker = limited(2, "hidden-3");
    stage.settle();
    assert_eq!(stage.owned(), "c0: seen0 seen1 hidden-20 hidden-21");
    stage.clients[0].asker = limited(3, "hidden");
    stage.settle();
    assert_eq!(stage.owned(), "c0: seen0 seen1");
    // Who may know of everything reads the rest, by the same expression; and neither is any other's affair.
    stage.clients[1].topics.clear();
    stage.clients[1].regex = Some(Arc::from(".*"));
    stage.beat(1, false).unwrap();
    stage.settle();
    stage.check_owners();
    assert_eq!(stage.owned(), "c0: seen0 seen1, c1: hidden-20 hidden-21");
    stage.cluster.set("hidden-4", 1);
    stage.beat(1, false).unwrap();
    stage.settle();
    assert_eq!(stage.owned(), "c0: seen0 seen1, c1: hidden-20 hidden-21 hidden-40");
    // What is known of members is lost with the process, and they are asked anew.
    stage.host.crash();
    stage.cluster.set("hidden-5", 1);
    stage.beat(1, false).unwrap();
    stage.beat(0, false).unwrap();
    let told = stage.clients[0].told.clone().unwrap_or_default();
    let names: Vec<_> = told.keys().filter_map(|topic| stage.cluster.name_of(*topic)).collect();
    assert!(names.iter().all(|name| !name.starts_with("hidden")), "{names:?}");
    stage.settle();
    stage.check_owners();
    assert_eq!(stage.owned(), "c0: seen0 seen1, c1: hidden-20 hidden-21 hidden-40 hidden-50");
}

#[test]
fn what_contradicts_itself_is_refused() {
    type Change = fn(&mut ConsumerHeartbeat);
    let cases: &[(&str, Change)] = &[
        ("no group", |it| it.group = Arc::from("")),
        ("no instance", |it| it.instance = Some(Arc::from(""))),
        ("no rack", |it| it.rack = Some(Arc::from(""))),
        ("no rebalance timeout", |it| it.rebalance_timeout_ms = -1),
        ("joins with partitions", |it| it.owned = Some([(Uuid([1; 16]), [0].into())].into())),
        ("joins without saying what it owns", |it| it.owned = None),
        ("joins for nothing", |it| it.topics = None),
        ("an epoch that means nothing", |it| it.epoch = -3),
        ("stays without an id", |it| (it.epoch, it.member) = (1, Arc::from(""))),
        ("leaves without an id", |it| (it.epoch, it.member) = (-1, Arc::from(""))),
        ("pauses without an instance", |it| it.epoch = -2),
    ];
    for (what, change) in cases {
        let mut stage = Stage::new(1, 1);
        let mut request = stage.request(0);
        change(&mut request);
        let refused = stage.ask(request);
        assert!(matches!(refused, Err(Refused::Invalid(_))), "{what}: {refused:?}");
        assert!(stage.host.log.is_empty() && stage.host.groups.groups.is_empty(), "{what}");
    }
    let mut stage = Stage::new(1, 1);
    stage.clients[0].assignor = Some(Arc::from("sticky"));
    assert!(matches!(stage.beat(0, false), Err(Refused::UnsupportedAssignor { .. })));
    let mut off = settings();
    off.consumer.served = false;
    stage.host.groups.configure(off);
    assert_eq!(stage.beat(0, false), Err(Refused::NotServed));
}

#[test]
fn groups_are_bounded() {
    let mut stage = Stage::new(4, 3);
    let mut few = settings();
    few.consumer.members_max = 2;
    stage.host.groups.configure(few);
    stage.beat(0, false).unwrap();
    stage.beat(1, false).unwrap();
    assert_eq!(stage.beat(2, false), Err(Refused::GroupFull));
    assert!(stage.beat(1, false).is_ok(), "who is there may stay");
    let mut small = settings();
    small.group_bytes_max = 4_000;
    stage.host.groups.configure(small);
    stage.clients[1].topics = (0..100).map(|at| Arc::from(format!("topic-{at}"))).collect();
    assert_eq!(stage.beat(1, false), Err(Refused::GroupFull));
    let mut none = settings();
    none.groups_max = 1;
    stage.host.groups.configure(none);
    let elsewhere = ConsumerHeartbeat { group: Arc::from("h"), epoch: 0, ..stage.request(1) };
    assert_eq!(stage.ask(elsewhere), Err(Refused::Host(HostFailure::Unavailable)));
}

#[test]
fn assignments_keep_their_distance() {
    let mut stage = Stage::new(2, 3);
    stage.cluster.configure(GroupOverrides {
        assignment_interval_ms: Some(1_000),
        ..GroupOverrides::default()
    });
    stage.beat(0, false).unwrap();
    assert_eq!(stage.describe().target_epoch, 1, "the first one need not wait");
    let told = stage.ask(stage.request(1)).unwrap();
    assert_eq!(told.heartbeat_interval_ms, 1_000, "when the next one may come");
    assert_eq!(told.epoch, 1, "the epoch that there is a target for");
    let told = stage.describe();
    assert_eq!((told.epoch, told.target_epoch, told.state), (2, 1, GroupState::Assigning));
    stage.pass(1);
    stage.clients[1].is_member = true;
    stage.clients[1].epoch = 1;
    stage.settle();
    assert_eq!(stage.owned(), "c0: t0, c1: t1");
}

#[test]
fn commits_name_an_epoch_in_which_the_member_had_the_partition() {
    let mut stage = Stage::new(2, 2);
    assert_eq!(stage.commit("", -1, 0), Ok(()), "anybody may while there is nobody");
    stage.beat(0, false).unwrap();
    stage.settle();
    let cases = [
        ("", -1, 0, Err(CommitError::UnknownMember)),
        ("x", 1, 0, Err(CommitError::UnknownMember)),
        ("c0", 1, 0, Ok(())),
        ("c0", 0, 0, Err(CommitError::StaleEpoch)),
        ("c0", 2, 0, Err(CommitError::StaleEpoch)),
        ("c0", -1, 0, Err(CommitError::StaleEpoch)),
    ];
    for (member, epoch, index, expected) in cases {
        assert_eq!(stage.commit(member, epoch, index), expected, "{member:?} in {epoch}");
    }
    stage.beat(1, false).unwrap();
    stage.settle();
    assert_eq!(stage.owned(), "c0: t0, c1: t1");
    let epoch = stage.clients[0].epoch;
    assert_eq!(stage.commit("c0", 1, 0), Ok(()), "it has had partition 0 ever since (KIP-1251)");
    assert_eq!(stage.commit("c0", 1, 1), Err(CommitError::StaleEpoch), "not partition 1");
    assert_eq!(stage.commit("c1", epoch, 1), Ok(()));
    let reader = |member: &str, epoch| Reader { member: Some(Arc::from(member)), epoch };
    let groups = &stage.host.groups;
    assert_eq!(groups.check_fetch(GROUP, &Reader { member: None, epoch: -1 }), Ok(()));
    assert_eq!(groups.check_fetch(GROUP, &reader("c0", epoch)), Ok(()));
    assert_eq!(groups.check_fetch(GROUP, &reader("c0", 1)), Err(FetchRefused::StaleEpoch));
    assert_eq!(groups.check_fetch(GROUP, &reader("x", 1)), Err(FetchRefused::UnknownMember));
}

#[test]
fn who_is_not_empty_is_not_deleted_and_who_is_can_be_of_another_type() {
    let mut stage = Stage::new(2, 1);
    stage.beat(0, false).unwrap();
    let delete = Command::DeleteGroups(DeleteGroups { groups: vec![Arc::from(GROUP)] });
    let deleted = |stage: &mut Stage| {
        let ticket = stage.host.send(delete.clone());
        stage.host.answers.remove(&ticket)
    };
    let refused = vec![(Arc::from(GROUP), Err(DeleteGroupError::NonEmptyGroup))];
    assert_eq!(deleted(&mut stage), Some(Reply::DeleteGroups(refused)));
    let listed = |stage: &Stage| {
        let all = stage.host.groups.list(&ListFilter::default());
        all.iter().map(|one| (one.state.name(), one.group_type.name())).collect::<Vec<_>>()
    };
    assert_eq!(listed(&stage), [("Stable", "consumer")]);
    assert!(stage.host.groups.describe(GROUP).is_none(), "not a classic group");
    stage.leave(0, -1).unwrap();
    assert_eq!(listed(&stage), [("Empty", "consumer")]);
    assert_eq!(deleted(&mut stage), Some(Reply::DeleteGroups(vec![(Arc::from(GROUP), Ok(()))])));
    assert_eq!(listed(&stage), []);
    // An outsider's offsets make a classic group, which a consumer takes over with its offsets.
    stage.commit("", -1, 1).unwrap();
    assert_eq!(listed(&stage), [("Empty", "classic")]);
    stage.beat(0, false).unwrap();
    assert_eq!(listed(&stage), [("Stable", "consumer")]);
    let offsets = stage.host.groups.fetch_offsets(GROUP, None, false);
    assert_eq!(offsets.len(), 1, "{offsets:?}");
}

#[test]
fn a_restart_finds_everything_again() {
    let mut stage = Stage::new(4, 3);
    stage.clients[1].instance = Some(Arc::from("i"));
    stage.clients[2].topics.clear();
    stage.clients[2].regex = Some(Arc::from("t"));
    for who in 0..3 {
        stage.beat(who, false).unwrap();
    }
    let before = (stage.describe(), stage.owned());
    stage.host.crash();
    assert_eq!((stage.describe(), stage.owned()), before);
    stage.settle();
    assert_eq!(stage.owned(), "c0: t0 t1, c1: t2, c2: t3");
    stage.host.crash();
    stage.pass(9);
    assert_eq!(stage.describe().members.len(), 3, "each has a session from the restart on");
    stage.pass(2);
    assert_eq!(stage.describe().members.len(), 0);
}

#[test]
fn what_was_not_appended_did_not_happen() {
    let mut stage = Stage::new(2, 2);
    stage.host.fails = Some(HostFailure::Unavailable);
    assert_eq!(stage.beat(0, false), Err(Refused::Host(HostFailure::Unavailable)));
    assert!(stage.host.groups.groups.is_empty(), "nothing is left of it");
    stage.beat(0, false).unwrap();
    stage.settle();
    stage.cluster.set("t", 4);
    stage.host.fails = Some(HostFailure::Unavailable);
    let request = stage.request(0);
    assert_eq!(stage.ask(request), Err(Refused::Host(HostFailure::Unavailable)));
    stage.settle();
    assert_eq!(stage.owned(), "c0: t0 t1 t2 t3", "the change of the topic is not forgotten");
}

/// Many members of many partitions: each joins, and all of them settle. It ends in moments even
/// without optimisation, as long as no step looks at everything for each of them.
#[test]
fn large_groups_settle() {
    let mut stage = Stage::new(3_000, 200);
    stage.cluster.configure(GroupOverrides {
        assignment_interval_ms: Some(1_000),
        ..GroupOverrides::default()
    });
    for who in 0..200 {
        stage.beat(who, false).unwrap();
        stage.act(who);
    }
    stage.pass(1);
    stage.settle();
    stage.check_owners();
    let shares = stage.clients.iter().map(|client| client.owned.values().map(BTreeSet::len).sum());
    assert!(shares.into_iter().all(|share: usize| share == 15), "3,000 over 200");
}
