//! Members come, go and fall silent.

use super::super::super::GroupSettings;
use super::super::script::{check, check_with};
use super::at_once;

/// Pitfall 50.
#[test]
fn three_members_join_and_one_leaves() {
    check(
        "
        > a join
        > b join
        > +2s
        > c join
        > +0.9s
        > +0.2s
        > +3s
        a: joined as a#1 generation 1 range led by a#1 with a#1 b#1 c#1
        b: joined as b#1 generation 1 range led by a#1
        c: joined as c#1 generation 1 range led by a#1
        > a sync a=x b=y c=z
        a: synced \"x\"
        > b sync
        b: synced \"y\"
        > c sync
        c: synced \"z\"
        > group
        Stable [consumer/range] generation 1 a#1=x b#1=y c#1=z
        > b leave
        b: left ok
        > a beat
        a: beat refused RebalanceInProgress
        > c beat
        c: beat refused RebalanceInProgress
        > a join
        > c join
        a: joined as a#1 generation 2 range led by a#1 with a#1 c#1
        c: joined as c#1 generation 2 range led by a#1
        > a sync a=xy c=z
        a: synced \"xy\"
        > c sync
        c: synced \"z\"
        > group
        Stable [consumer/range] generation 2 a#1=xy c#1=z
        ",
    );
}

/// Pitfall 49.
#[test]
fn the_first_rebalance_waits_no_longer_than_the_rebalance_timeout() {
    check(
        "
        > a join rebalance=7
        > +2s
        > b join rebalance=7
        > +2s
        > c join rebalance=7
        > +1.9s
        > d join rebalance=7
        > +0.2s
        > +0.9s
        a: joined as a#1 generation 1 range led by a#1 with a#1 b#1 c#1 d#1
        b: joined as b#1 generation 1 range led by a#1
        c: joined as c#1 generation 1 range led by a#1
        d: joined as d#1 generation 1 range led by a#1
        > group
        CompletingRebalance [consumer/] generation 1 a#1 b#1 c#1 d#1
        ",
    );
}

/// Pitfall 48.
#[test]
fn a_newcomer_must_come_back_with_its_id() {
    check_with(
        at_once(),
        "
        > a join known
        a: join refused MemberIdRequired a#1
        > group
        Empty [/] generation 0
        > a join known
        a: joined as a#1 generation 1 range led by a#1 with a#1
        > a beat
        a: beat
        > a sync a=x
        a: synced \"x\"
        ",
    );
}

/// Pitfall 48.
#[test]
fn an_id_that_does_not_come_back_expires() {
    check_with(
        at_once(),
        "
        > a join known
        a: join refused MemberIdRequired a#1
        > +9.9s
        > list
        g [] Empty
        > +0.2s
        > list
        > a join known
        a: join refused UnknownMember a#1
        > a join known new
        a: join refused MemberIdRequired a#2
        ",
    );
}

#[test]
fn the_join_phase_waits_for_an_id_that_was_given_out() {
    check_with(
        at_once(),
        "
        > a join
        a: joined as a#1 generation 1 range led by a#1 with a#1
        > a sync a=x
        a: synced \"x\"
        > b join known
        b: join refused MemberIdRequired b#1
        > c join
        > a join
        > +5s
        > +5.1s
        c: joined as c#1 generation 2 range led by a#1
        a: joined as a#1 generation 2 range led by a#1 with a#1 c#1
        > group
        CompletingRebalance [consumer/] generation 2 a#1 c#1
        ",
    );
}

#[test]
fn a_pending_id_that_leaves_is_not_waited_for() {
    check_with(
        at_once(),
        "
        > a join
        a: joined as a#1 generation 1 range led by a#1 with a#1
        > a sync a=x
        a: synced \"x\"
        > b join known
        b: join refused MemberIdRequired b#1
        > b leave
        b: left ok
        > a beat
        a: beat
        > c join
        > b join known
        b: join refused UnknownMember b#1
        > a join
        c: joined as c#1 generation 2 range led by a#1
        a: joined as a#1 generation 2 range led by a#1 with a#1 c#1
        > b leave
        b: left UnknownMember
        > b join new known
        b: join refused MemberIdRequired b#2
        ",
    );
}

#[test]
fn silence_ends_a_session() {
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
        > +6s
        > a beat
        a: beat
        > +5s
        > a beat
        a: beat refused RebalanceInProgress
        > b beat
        b: beat refused UnknownMember
        > group
        PreparingRebalance [consumer/] generation 2 a#1
        > a join
        a: joined as a#1 generation 3 range led by a#1 with a#1
        ",
    );
}

#[test]
fn a_parked_join_is_a_sign_of_life() {
    check_with(
        at_once(),
        "
        > a join rebalance=300
        a: joined as a#1 generation 1 range led by a#1 with a#1
        > a sync a=x
        a: synced \"x\"
        > b join rebalance=300
        > +9s
        > a beat
        a: beat refused RebalanceInProgress
        > +9s
        > a beat
        a: beat refused RebalanceInProgress
        > +9s
        > a join
        b: joined as b#1 generation 2 range led by a#1
        a: joined as a#1 generation 2 range led by a#1 with a#1 b#1
        ",
    );
}

/// Pitfall 50.
#[test]
fn who_does_not_join_in_time_is_out() {
    check_with(
        at_once(),
        "
        > a join rebalance=20
        a: joined as a#1 generation 1 range led by a#1 with a#1
        > a sync a=x
        a: synced \"x\"
        > b join rebalance=20
        > +8s
        > a beat
        a: beat refused RebalanceInProgress
        > +8s
        > a beat
        a: beat refused RebalanceInProgress
        > +5s
        b: joined as b#1 generation 2 range led by b#1 with b#1
        > a beat
        a: beat refused UnknownMember
        ",
    );
}

#[test]
fn a_newcomer_whose_join_is_parked_for_too_long_is_out() {
    check_with(
        at_once(),
        "
        > a join rebalance=1000 session=1000
        a: joined as a#1 generation 1 range led by a#1 with a#1
        > a sync a=x
        a: synced \"x\"
        > b join rebalance=1000
        > +299s
        > a beat
        a: beat refused RebalanceInProgress
        > +2s
        b: join refused UnknownMember
        > group
        PreparingRebalance [consumer/] generation 1 a#1
        ",
    );
}

#[test]
fn a_leader_that_is_gone_is_replaced() {
    check_with(
        at_once(),
        "
        > a join
        a: joined as a#1 generation 1 range led by a#1 with a#1
        > b join
        > a join
        b: joined as b#1 generation 2 range led by a#1
        a: joined as a#1 generation 2 range led by a#1 with a#1 b#1
        > a leave
        a: left ok
        > b join
        b: joined as b#1 generation 3 range led by b#1 with b#1
        > b sync b=all
        b: synced \"all\"
        ",
    );
}

#[test]
fn a_leader_that_is_late_is_replaced() {
    check_with(
        at_once(),
        "
        > s join instance=one rebalance=20 session=100
        s: joined as one#1 generation 1 range led by one#1 with one#1
        > b join rebalance=20 session=100
        > s join rebalance=20 session=100
        b: joined as b#1 generation 2 range led by one#1
        s: joined as one#1 generation 2 range led by one#1 with b#1 one#1
        > s sync s=x b=y
        s: synced \"x\"
        > b sync
        b: synced \"y\"
        > c join rebalance=20 session=100
        > b join rebalance=20 session=100
        > +20s
        c: joined as c#1 generation 3 range led by b#1
        b: joined as b#1 generation 3 range led by b#1 with b#1 c#1 one#1
        > group
        CompletingRebalance [consumer/] generation 3 b#1 c#1 one#1@one
        ",
    );
}

#[test]
fn who_never_syncs_is_out() {
    check_with(
        at_once(),
        "
        > a join rebalance=15
        a: joined as a#1 generation 1 range led by a#1 with a#1
        > b join rebalance=15
        > a join rebalance=15
        b: joined as b#1 generation 2 range led by a#1
        a: joined as a#1 generation 2 range led by a#1 with a#1 b#1
        > a sync a=x b=y
        a: synced \"x\"
        > +8s
        > a beat
        a: beat
        > b beat
        b: beat
        > +6.9s
        > a beat
        a: beat
        > b beat
        b: beat
        > +0.2s
        > group
        PreparingRebalance [consumer/] generation 2 a#1
        > a beat
        a: beat refused RebalanceInProgress
        > b beat
        b: beat refused UnknownMember
        ",
    );
}

#[test]
fn a_rebalance_while_the_leader_computes() {
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
        > c join
        b: sync refused RebalanceInProgress
        > a sync a=x b=y
        a: sync refused RebalanceInProgress
        > a join
        > b join
        c: joined as c#1 generation 3 range led by a#1
        a: joined as a#1 generation 3 range led by a#1 with a#1 b#1 c#1
        b: joined as b#1 generation 3 range led by a#1
        ",
    );
}

#[test]
fn a_repeated_join_gets_the_same_answer() {
    check_with(
        at_once(),
        "
        > a join
        a: joined as a#1 generation 1 range led by a#1 with a#1
        > b join
        > a join
        b: joined as b#1 generation 2 range led by a#1
        a: joined as a#1 generation 2 range led by a#1 with a#1 b#1
        > a join
        a: joined as a#1 generation 2 range led by a#1 with a#1 b#1
        > b join
        b: joined as b#1 generation 2 range led by a#1
        > a sync a=x b=y
        a: synced \"x\"
        > b join
        b: joined as b#1 generation 2 range led by a#1
        > b sync
        b: synced \"y\"
        > a join
        ",
    );
}

#[test]
fn new_metadata_starts_a_rebalance() {
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
        > b join protocols=range:t+u
        > a beat
        a: beat refused RebalanceInProgress
        > a join
        b: joined as b#1 generation 3 range led by a#1
        a: joined as a#1 generation 3 range led by a#1 with a#1 b#1
        ",
    );
}

#[test]
fn a_newer_request_takes_the_place_of_an_older_one() {
    check_with(
        at_once(),
        "
        > a join
        a: joined as a#1 generation 1 range led by a#1 with a#1
        > b join
        > b join id=b#1
        b: join refused Superseded b#1
        > a join
        b: joined as b#1 generation 2 range led by a#1
        a: joined as a#1 generation 2 range led by a#1 with a#1 b#1
        > b sync
        > b sync
        b: sync refused Superseded
        > a sync a=x b=y
        b: synced \"y\"
        a: synced \"x\"
        ",
    );
}

#[test]
fn the_last_member_leaves() {
    check_with(
        at_once(),
        "
        > a join
        a: joined as a#1 generation 1 range led by a#1 with a#1
        > a sync a=x
        a: synced \"x\"
        > a commit t-0=7
        a: committed ok
        > a leave
        a: left ok
        > group
        Empty [consumer/] generation 2
        > a beat
        a: beat refused UnknownMember
        > a join
        a: join refused UnknownMember a#1
        > b join
        b: joined as b#1 generation 3 range led by b#1 with b#1
        ",
    );
}

#[test]
fn several_leave_at_once() {
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
        > admin leave a#1 b#1 c#1 instance=nobody
        admin: left ok ok UnknownMember UnknownMember
        > group
        Empty [consumer/] generation 3
        ",
    );
}

/// Pitfall 50.
#[test]
fn heartbeats_are_checked() {
    check_with(
        at_once(),
        "
        > a beat
        a: beat refused UnknownMember
        > a join
        a: joined as a#1 generation 1 range led by a#1 with a#1
        > a sync a=x
        a: synced \"x\"
        > a beat generation=0
        a: beat refused IllegalGeneration
        > a beat id=x
        a: beat refused UnknownMember
        > a beat group=
        a: beat refused InvalidGroupId
        > a beat group=other
        a: beat refused UnknownMember
        ",
    );
}

/// Pitfall 51.
#[test]
fn syncs_are_checked() {
    check_with(
        at_once(),
        "
        > a sync
        a: sync refused UnknownMember
        > a join
        a: joined as a#1 generation 1 range led by a#1 with a#1
        > a sync generation=7
        a: sync refused IllegalGeneration
        > a sync protocol=roundrobin
        a: sync refused InconsistentProtocol
        > a sync type=connect
        a: sync refused InconsistentProtocol
        > a sync protocol=range type=consumer a=x
        a: synced \"x\"
        > a sync id=x
        a: sync refused UnknownMember
        ",
    );
}

#[test]
fn session_timeouts_have_bounds() {
    check(
        "
        > a join session=5
        a: join refused InvalidSessionTimeout
        > a join session=1801
        a: join refused InvalidSessionTimeout
        > a join session=6
        ",
    );
}

#[test]
fn groups_have_a_size() {
    check_with(
        GroupSettings { members_max: 2, ..at_once() },
        "
        > a join
        a: joined as a#1 generation 1 range led by a#1 with a#1
        > b join
        > a join
        b: joined as b#1 generation 2 range led by a#1
        a: joined as a#1 generation 2 range led by a#1 with a#1 b#1
        > c join
        c: join refused GroupFull
        > a sync a=x b=y
        a: synced \"x\"
        > b sync
        b: synced \"y\"
        > c join known
        c: join refused GroupFull
        > a join
        > c join
        > b join
        a: joined as a#1 generation 3 range led by a#1 with a#1 c#3
        c: joined as c#3 generation 3 range led by a#1
        b: join refused GroupFull
        > a leave
        a: left ok
        > c join
        c: joined as c#3 generation 4 range led by c#3 with c#3
        ",
    );
}

/// Pitfall 53.
#[test]
fn the_protocol_with_most_votes_is_chosen() {
    check(
        "
        > a join protocols=range,rr,sticky
        > b join protocols=sticky,range,rr
        > c join protocols=rr,sticky
        > +6s
        a: joined as a#1 generation 1 rr led by a#1 with a#1 b#1 c#1
        b: joined as b#1 generation 1 rr led by a#1
        c: joined as c#1 generation 1 rr led by a#1
        ",
    );
}

/// Pitfall 53.
#[test]
fn protocols_must_have_something_in_common() {
    check_with(
        at_once(),
        "
        > a join type=
        a: join refused InconsistentProtocol
        > a join protocols=
        a: join refused InconsistentProtocol
        > a join protocols=range,rr
        a: joined as a#3 generation 1 range led by a#3 with a#3
        > b join protocols=sticky
        b: join refused InconsistentProtocol
        > b join type=connect
        b: join refused InconsistentProtocol
        > b join protocols=rr
        > a join protocols=range,rr
        b: joined as b#3 generation 2 rr led by a#3
        a: joined as a#3 generation 2 rr led by a#3 with a#3 b#3
        > a join protocols=range
        a: join refused InconsistentProtocol a#3
        ",
    );
}

#[test]
fn an_empty_group_may_change_its_protocol_type() {
    check_with(
        at_once(),
        "
        > a join type=connect
        a: joined as a#1 generation 1 range led by a#1 with a#1
        > a sync a=x
        a: synced \"x\"
        > a leave
        a: left ok
        > group
        Empty [connect/] generation 2
        > b join type=consumer
        b: joined as b#1 generation 3 range led by b#1 with b#1
        ",
    );
}
