//! Restarts, and appends that fail.

use super::super::script::check_with;
use super::at_once;

#[test]
fn a_restart_finds_members_and_offsets() {
    check_with(
        at_once(),
        "
        > a join
        a: joined as a#1 generation 1 range led by a#1 with a#1
        > b join
        > a join
        b: joined as b#1 generation 2 range led by a#1
        a: joined as a#1 generation 2 range led by a#1 with a#1 b#1
        > a sync a=x b=y
        a: synced \"x\"
        > b sync
        b: synced \"y\"
        > a commit t-0=4 meta=m epoch=2
        a: committed ok
        > crash
        > group
        Stable [consumer/range] generation 2 a#1=x b#1=y
        > fetch
        t-0: 4 epoch 2 \"m\"
        > a beat
        a: beat
        > b sync
        b: synced \"y\"
        > +8s
        > a beat
        a: beat
        > +3s
        > a beat
        a: beat refused RebalanceInProgress
        > b beat
        b: beat refused UnknownMember
        ",
    );
}

#[test]
fn a_restart_in_the_middle_of_a_rebalance() {
    check_with(
        at_once(),
        "
        > a join
        a: joined as a#1 generation 1 range led by a#1 with a#1
        > a sync a=x
        a: synced \"x\"
        > b join
        > crash
        b: join refused Host(NotCoordinator) b#1
        > group
        Stable [consumer/range] generation 1 a#1=x
        > a beat
        a: beat
        > b join
        > a join
        b: joined as b#2 generation 2 range led by a#1
        a: joined as a#1 generation 2 range led by a#1 with a#1 b#2
        ",
    );
}

#[test]
fn a_failed_assignment_starts_a_rebalance() {
    check_with(
        at_once(),
        "
        > a join
        a: joined as a#1 generation 1 range led by a#1 with a#1
        > b join
        > a join
        b: joined as b#1 generation 2 range led by a#1
        a: joined as a#1 generation 2 range led by a#1 with a#1 b#1
        > b sync
        > append fails
        > a sync a=x b=y
        b: sync refused Host(Unavailable)
        a: sync refused Host(Unavailable)
        > group
        PreparingRebalance [consumer/] generation 2 a#1 b#1
        > a beat
        a: beat refused RebalanceInProgress
        > a join
        > b join
        a: joined as a#1 generation 3 range led by a#1 with a#1 b#1
        b: joined as b#1 generation 3 range led by a#1
        > a sync a=x b=y
        a: synced \"x\"
        > b sync
        b: synced \"y\"
        ",
    );
}

#[test]
fn a_failed_replacement_of_a_static_member() {
    check_with(
        at_once(),
        "
        > a join instance=one
        a: joined as one#1 generation 1 range led by one#1 with one#1
        > a sync a=x
        a: synced \"x\"
        > append fails
        > a2 join instance=one
        a2: join refused Host(Unavailable)
        > group
        PreparingRebalance [consumer/] generation 1 one#2@one
        > a2 join
        a2: joined as one#3 generation 2 range led by one#3 with one#3
        > a2 sync a2=z
        a2: synced \"z\"
        > crash
        > group
        Stable [consumer/range] generation 2 one#3@one=z
        ",
    );
}

#[test]
fn a_failed_commit() {
    check_with(
        at_once(),
        "
        > append fails
        > simple commit t-0=1
        simple: commit refused Host(Unavailable)
        > fetch
        > list
        > simple commit t-0=1
        simple: committed ok
        ",
    );
}

#[test]
fn a_failed_end_of_a_group() {
    check_with(
        at_once(),
        "
        > a join
        a: joined as a#1 generation 1 range led by a#1 with a#1
        > a sync a=x
        a: synced \"x\"
        > append fails
        > a leave
        a: leave refused Host(Unavailable)
        > group
        Empty [consumer/] generation 2
        > crash
        > group
        Stable [consumer/range] generation 1 a#1=x
        > +11s
        > group
        Empty [consumer/] generation 2
        ",
    );
}

#[test]
fn a_restart_with_a_smaller_size_starts_a_rebalance() {
    check_with(
        at_once(),
        "
        > a join
        a: joined as a#1 generation 1 range led by a#1 with a#1
        > b join
        > a join
        b: joined as b#1 generation 2 range led by a#1
        a: joined as a#1 generation 2 range led by a#1 with a#1 b#1
        > a sync a=x b=y
        a: synced \"x\"
        > max 1
        > crash
        > group
        PreparingRebalance [consumer/] generation 2 a#1 b#1
        > b join
        > a join
        b: joined as b#1 generation 3 range led by b#1 with b#1
        a: join refused GroupFull
        ",
    );
}
