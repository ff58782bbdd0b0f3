//! Offsets are committed, fetched, deleted, and expire.

use std::sync::Arc;
use std::time::Duration;

use millstream_types::{LeaderEpoch, Offset};

use super::super::super::{
    Command, Commit, CommitPartition, CommitTopic, GroupSettings, ListFilter, Speaker,
};
use super::super::host::Host;
use super::super::script::check_with;
use super::at_once;

/// Pitfall 54.
#[test]
fn offsets_of_members() {
    check_with(
        at_once(),
        "
        > a join
        a: joined as a#1 generation 1 range led by a#1 with a#1
        > a commit t-0=1
        a: commit refused RebalanceInProgress
        > a sync a=x
        a: synced \"x\"
        > a commit t-0=1 t-1=2 meta=note epoch=3
        a: committed ok ok
        > a commit generation=0 t-0=9
        a: commit refused IllegalGeneration
        > a commit id=x t-0=9
        a: commit refused UnknownMember
        > fetch t-0 t-1 t-2 u-0
        t-0: 1 epoch 3 \"note\"
        t-1: 2 epoch 3 \"note\"
        t-2: none
        u-0: none
        > fetch
        t-0: 1 epoch 3 \"note\"
        t-1: 2 epoch 3 \"note\"
        > b join
        > a commit t-0=5
        a: committed ok
        > fetch t-0
        t-0: 5 epoch -1 \"\"
        ",
    );
}

#[test]
fn offsets_of_simple_consumers() {
    check_with(
        at_once(),
        "
        > simple commit t-0=5
        simple: committed ok
        > group
        Empty [/] generation 0
        > list
        g [] Empty
        > list state=stable
        > list state=empty type=CLASSIC
        g [] Empty
        > list type=consumer
        > simple commit generation=3 t-0=6
        simple: commit refused UnknownMember
        > a join
        a: joined as a#1 generation 1 range led by a#1 with a#1
        > simple commit t-0=7
        simple: commit refused UnknownMember
        > a sync a=x
        a: synced \"x\"
        > a leave
        a: left ok
        > simple commit t-0=8
        simple: committed ok
        > fetch
        t-0: 8 epoch -1 \"\"
        ",
    );
}

#[test]
fn commits_to_groups_that_are_not_there() {
    check_with(
        at_once(),
        "
        > simple commit generation=3 t-0=6
        simple: commit refused GroupNotFound
        > list
        > fetch
        > fetch t-0
        t-0: none
        ",
    );
}

/// KAFKA-14201: clients that assign partitions by hand may have names all the same.
#[test]
fn simple_consumers_may_have_names() {
    for names in ["id=x", "instance=i", "id=x instance=i"] {
        check_with(
            at_once(),
            &format!(
                "
                > simple commit {names} t-0=5
                simple: committed ok
                > simple commit {names} t-0=6
                simple: committed ok
                > fetch
                t-0: 6 epoch -1 \"\"
                > a join
                a: joined as a#1 generation 1 range led by a#1 with a#1
                > simple commit {names} t-0=7
                simple: commit refused UnknownMember
                > a sync a=x
                a: synced \"x\"
                > a commit generation=-1 t-0=7
                a: commit refused IllegalGeneration
                > a leave
                a: left ok
                > a commit generation=-1 t-0=8
                a: committed ok
                > fetch
                t-0: 8 epoch -1 \"\"
                "
            ),
        );
    }
}

#[test]
fn offsets_of_a_topic_that_was_made_again() {
    check_with(
        at_once(),
        "
        > simple commit t-0=5 topic_id=1
        simple: committed ok
        > fetch t-0
        t-0: 5 epoch -1 \"\"
        > fetch t-0 topic_id=1
        t-0: 5 epoch -1 \"\"
        > fetch t-0 topic_id=2
        t-0: none
        ",
    );
}

#[test]
fn offsets_are_deleted_unless_they_are_read() {
    check_with(
        at_once(),
        "
        > a join protocols=range:t
        a: joined as a#1 generation 1 range led by a#1 with a#1
        > a sync a=x
        a: synced \"x\"
        > a commit t-0=1 u-0=2
        a: committed ok ok
        > delete offsets t-0 u-0 u-1
        admin: deleted SubscribedToTopic ok ok
        > fetch
        t-0: 1 epoch -1 \"\"
        > a leave
        a: left ok
        > delete offsets t-0
        admin: deleted ok
        > fetch
        > delete offsets t-0
        admin: deleted ok
        > list
        g [consumer] Empty
        > delete group
        admin: deleted ok
        > delete offsets t-0
        admin: delete refused GroupNotFound
        ",
    );
}

#[test]
fn offsets_of_a_group_that_is_not_of_consumers() {
    check_with(
        at_once(),
        "
        > a join type=connect
        a: joined as a#1 generation 1 range led by a#1 with a#1
        > a sync a=x
        a: synced \"x\"
        > a commit t-0=1
        a: committed ok
        > delete offsets t-0
        admin: delete refused NonEmptyGroup
        > a leave
        a: left ok
        > delete offsets t-0
        admin: deleted ok
        > fetch
        ",
    );
}

#[test]
fn a_group_is_deleted_when_it_is_empty() {
    check_with(
        at_once(),
        "
        > a join
        a: joined as a#1 generation 1 range led by a#1 with a#1
        > a sync a=x
        a: synced \"x\"
        > a commit t-0=1
        a: committed ok
        > delete group
        admin: deleted NonEmptyGroup
        > a leave
        a: left ok
        > delete group
        admin: deleted ok
        > delete group
        admin: deleted GroupNotFound
        > fetch
        > crash
        > list
        ",
    );
}

#[test]
fn a_deleted_topic_takes_its_offsets_along() {
    check_with(
        at_once(),
        "
        > simple commit t-0=1 t-1=2 u-0=3
        simple: committed ok ok ok
        > delete topic t
        > fetch
        u-0: 3 epoch -1 \"\"
        > delete topic u
        > list
        ",
    );
}

/// Pitfall 55.
#[test]
fn offsets_expire_when_the_group_has_been_empty_for_long() {
    check_with(
        GroupSettings { offsets_retention: Duration::from_secs(1_000), ..at_once() },
        "
        > a join session=1800
        a: joined as a#1 generation 1 range led by a#1 with a#1
        > a sync a=x
        a: synced \"x\"
        > a commit t-0=1
        a: committed ok
        > +800s
        > a leave
        a: left ok
        > +900s
        > fetch
        t-0: 1 epoch -1 \"\"
        > +700s
        > fetch
        > list
        ",
    );
}

#[test]
fn offsets_of_simple_consumers_expire_after_their_commit() {
    check_with(
        at_once(),
        "
        > simple commit t-0=1
        simple: committed ok
        > +604000s
        > simple commit t-1=1
        simple: committed ok
        > +1400s
        > fetch
        t-1: 1 epoch -1 \"\"
        > +604800s
        > list
        ",
    );
}

#[test]
fn offsets_with_a_retention_of_their_own() {
    check_with(
        at_once(),
        "
        > simple commit t-0=1 retention=1000
        simple: committed ok
        > simple commit t-1=1 retention=2000000
        simple: committed ok
        > +700s
        > fetch
        t-0: 1 epoch -1 \"\"
        t-1: 1 epoch -1 \"\"
        > +600s
        > fetch
        t-1: 1 epoch -1 \"\"
        > +1000000s
        > fetch
        t-1: 1 epoch -1 \"\"
        ",
    );
}

#[test]
fn offsets_of_topics_that_members_stopped_reading_expire() {
    check_with(
        GroupSettings { offsets_retention: Duration::from_secs(1_000), ..at_once() },
        "
        > a join session=1800 protocols=range:t
        a: joined as a#1 generation 1 range led by a#1 with a#1
        > a sync a=x
        a: synced \"x\"
        > a commit t-0=1 u-0=1
        a: committed ok ok
        > +500s
        > a beat
        a: beat
        > +1000s
        > fetch
        t-0: 1 epoch -1 \"\"
        ",
    );
}

#[test]
fn expiry_pauses_when_the_clock_is_not_trusted() {
    check_with(
        GroupSettings { offsets_retention: Duration::from_secs(1_000), ..at_once() },
        "
        > simple commit t-0=1
        simple: committed ok
        > expiry off
        > +100000s
        > fetch
        t-0: 1 epoch -1 \"\"
        > expiry on
        > +1s
        > fetch
        ",
    );
}

/// A look at many offsets takes several ticks, each a short one.
#[test]
fn expiry_goes_in_steps() {
    let settings = GroupSettings { offsets_retention: Duration::from_secs(1_000), ..at_once() };
    let mut host = Host::new(settings);
    for group in ["a", "b", "c", "d"] {
        let partitions = (0..6_000).map(|index| CommitPartition {
            index,
            offset: Offset(1),
            leader_epoch: LeaderEpoch::NONE,
            metadata: Arc::from(""),
        });
        let topic =
            CommitTopic { name: Arc::from("t"), id: None, partitions: partitions.collect() };
        let speaker = Speaker {
            group: Arc::from(group),
            member: Arc::from(""),
            instance: None,
            generation: -1,
        };
        host.send(Command::Commit(Commit {
            speaker,
            speaks_epochs: true,
            retention_ms: None,
            topics: vec![topic],
        }));
    }
    host.advance(Duration::from_secs(1_199));
    assert_eq!(host.groups.list(&ListFilter::default()).len(), 4);
    host.tick();
    assert_eq!(host.groups.list(&ListFilter::default()).len(), 2, "the first step");
    assert_eq!(host.groups.next_deadline(), Some(host.now), "the next step is due at once");
    host.tick();
    assert_eq!(host.groups.list(&ListFilter::default()).len(), 0, "the second step");
    host.tick();
    assert!(host.groups.next_deadline() > Some(host.now), "the round is over");
}

/// KIP-447: what a transaction commits counts when it does, and until then nobody can rely on what was
/// there before.
#[test]
fn offsets_within_transactions() {
    check_with(
        at_once(),
        "
        > simple commit t-0=5
        simple: committed ok
        > simple commit within=7 t-0=6 t-1=1
        simple: committed ok ok
        > fetch t-0 t-1 t-2
        t-0: unstable
        t-1: unstable
        t-2: none
        > fetch
        t-0: unstable
        > fetch unstable t-0 t-1
        t-0: 5 epoch -1 \"\"
        t-1: none
        > crash
        > fetch t-0
        t-0: unstable
        > transaction 8 commits
        > fetch t-0
        t-0: unstable
        > transaction 7 commits
        > fetch
        t-0: 6 epoch -1 \"\"
        t-1: 1 epoch -1 \"\"
        > simple commit within=7 t-0=7
        simple: committed ok
        > transaction 7 aborts
        > fetch
        t-0: 6 epoch -1 \"\"
        t-1: 1 epoch -1 \"\"
        > transaction 7 commits
        > fetch t-0
        t-0: 6 epoch -1 \"\"
        ",
    );
}

/// Pitfall 56: of several commits the last counts, whichever transaction ends first.
#[test]
fn the_last_commit_counts_whatever_ends_first() {
    check_with(
        at_once(),
        "
        > simple commit within=7 t-0=1
        simple: committed ok
        > simple commit within=8 t-0=2
        simple: committed ok
        > transaction 8 commits
        > fetch t-0
        t-0: 2 epoch -1 \"\"
        > transaction 7 commits
        > fetch t-0
        t-0: 2 epoch -1 \"\"
        > simple commit within=7 t-0=3
        simple: committed ok
        > simple commit t-0=4
        simple: committed ok
        > fetch t-0
        t-0: 4 epoch -1 \"\"
        > transaction 7 commits
        > fetch t-0
        t-0: 4 epoch -1 \"\"
        > simple commit within=7 t-0=5
        simple: committed ok
        > simple commit within=8 t-0=6
        simple: committed ok
        > transaction 7 commits
        > fetch unstable t-0
        t-0: 5 epoch -1 \"\"
        > fetch t-0
        t-0: unstable
        > transaction 8 aborts
        > fetch t-0
        t-0: 5 epoch -1 \"\"
        ",
    );
}

/// A producer that knows nothing of members may commit for a group that has some (before KIP-447); one
/// that does is held to what it says.
/// Pitfall 54.
#[test]
fn who_may_commit_within_a_transaction() {
    check_with(
        at_once(),
        "
        > a join
        a: joined as a#1 generation 1 range led by a#1 with a#1
        > a commit within=7 t-0=1
        a: committed ok
        > simple commit within=7 t-0=2
        simple: committed ok
        > a commit within=7 generation=0 t-0=9
        a: commit refused IllegalGeneration
        > a commit within=7 id=x t-0=9
        a: commit refused UnknownMember
        > transaction 7 commits
        > fetch t-0
        t-0: 2 epoch -1 \"\"
        > append fails
        > simple commit within=7 t-0=3
        simple: commit refused Host(Unavailable)
        > fetch t-0
        t-0: 2 epoch -1 \"\"
        ",
    );
}

/// Pitfall 55: what a transaction has staged keeps group and offset; deleting them drops it, too.
#[test]
fn staged_offsets_neither_expire_nor_outlive_their_group() {
    check_with(
        GroupSettings { offsets_retention: Duration::from_secs(1_000), ..at_once() },
        "
        > simple commit t-0=1 t-1=1
        simple: committed ok ok
        > simple commit within=7 t-0=2
        simple: committed ok
        > +5000s
        > fetch unstable
        t-0: 1 epoch -1 \"\"
        > transaction 7 aborts
        > +5000s
        > list
        > simple commit within=7 t-0=3
        simple: committed ok
        > list
        g [] Empty
        > delete group
        admin: deleted ok
        > transaction 7 commits
        > list
        > simple commit within=7 t-0=4 u-0=4
        simple: committed ok ok
        > delete topic t
        > transaction 7 commits
        > fetch
        u-0: 4 epoch -1 \"\"
        ",
    );
}
