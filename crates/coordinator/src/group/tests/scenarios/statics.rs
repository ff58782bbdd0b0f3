//! Static members: who comes back under its own name takes its own place.

use super::super::script::check_with;
use super::at_once;

/// Pitfall 52.
#[test]
fn a_static_member_restarts_without_a_rebalance() {
    check_with(
        at_once(),
        "
        > a join instance=one
        a: joined as one#1 generation 1 range led by one#1 with one#1
        > b join instance=two
        > a join
        b: joined as two#1 generation 2 range led by one#1
        a: joined as one#1 generation 2 range led by one#1 with one#1 two#1
        > a sync a=x b=y
        a: synced \"x\"
        > b sync
        b: synced \"y\"
        > b2 join instance=two
        b2: joined as two#2 generation 2 range led by one#1
        > b2 sync
        b2: synced \"y\"
        > b beat
        b: beat refused FencedInstance
        > b sync
        b: sync refused FencedInstance
        > b commit t-0=1
        b: commit refused FencedInstance
        > a beat
        a: beat
        > group
        Stable [consumer/range] generation 2 one#1@one=x two#2@two=y
        > crash
        > group
        Stable [consumer/range] generation 2 one#1@one=x two#2@two=y
        ",
    );
}

#[test]
fn a_static_leader_restarts_without_a_rebalance() {
    check_with(
        at_once(),
        "
        > a join instance=one
        a: joined as one#1 generation 1 range led by one#1 with one#1
        > b join
        > a join
        b: joined as b#1 generation 2 range led by one#1
        a: joined as one#1 generation 2 range led by one#1 with b#1 one#1
        > a sync a=x b=y
        a: synced \"x\"
        > b sync
        b: synced \"y\"
        > a2 join instance=one
        a2: joined as one#2 generation 2 range led by one#2 (skip) with b#1 one#2
        > a2 sync
        a2: synced \"x\"
        > a join
        a: join refused FencedInstance one#1
        > a2 join
        ",
    );
}

#[test]
fn a_static_leader_of_an_old_client_is_not_told_that_it_leads() {
    check_with(
        at_once(),
        "
        > a join instance=one
        a: joined as one#1 generation 1 range led by one#1 with one#1
        > b join
        > a join
        b: joined as b#1 generation 2 range led by one#1
        a: joined as one#1 generation 2 range led by one#1 with b#1 one#1
        > a sync a=x b=y
        a: synced \"x\"
        > a2 join instance=one old
        a2: joined as one#2 generation 2 range led by one#1
        > group
        Stable [consumer/range] generation 2 b#1=y one#2@one=x
        ",
    );
}

/// Pitfall 52.
#[test]
fn a_static_member_with_other_protocols_starts_a_rebalance() {
    check_with(
        at_once(),
        "
        > a join instance=one protocols=range,rr
        a: joined as one#1 generation 1 range led by one#1 with one#1
        > b join instance=two protocols=range,rr
        > a join protocols=range,rr
        b: joined as two#1 generation 2 range led by one#1
        a: joined as one#1 generation 2 range led by one#1 with one#1 two#1
        > a sync a=x b=y
        a: synced \"x\"
        > b sync
        b: synced \"y\"
        > b2 join instance=two protocols=rr
        > a join protocols=range,rr
        b2: joined as two#2 generation 3 rr led by one#1
        a: joined as one#1 generation 3 rr led by one#1 with one#1 two#2
        ",
    );
}

/// Pitfall 52.
#[test]
fn a_static_member_that_restarts_while_the_leader_computes() {
    check_with(
        at_once(),
        "
        > a join instance=one
        a: joined as one#1 generation 1 range led by one#1 with one#1
        > b join instance=two
        > a join
        b: joined as two#1 generation 2 range led by one#1
        a: joined as one#1 generation 2 range led by one#1 with one#1 two#1
        > b sync
        > b2 join instance=two
        b: sync refused FencedInstance
        > a sync a=x b=y
        a: sync refused RebalanceInProgress
        > a join
        b2: joined as two#2 generation 3 range led by one#1
        a: joined as one#1 generation 3 range led by one#1 with one#1 two#2
        ",
    );
}

#[test]
fn a_static_member_that_restarts_while_it_joins() {
    check_with(
        at_once(),
        "
        > a join instance=one
        a: joined as one#1 generation 1 range led by one#1 with one#1
        > a sync a=x
        a: synced \"x\"
        > b join instance=two
        > b2 join instance=two
        b: join refused FencedInstance two#1
        > a join
        b2: joined as two#2 generation 2 range led by one#1
        a: joined as one#1 generation 2 range led by one#1 with one#1 two#2
        ",
    );
}

#[test]
fn a_static_member_that_is_away_keeps_its_place() {
    check_with(
        at_once(),
        "
        > a join instance=one session=100 rebalance=20
        a: joined as one#1 generation 1 range led by one#1 with one#1
        > b join instance=two session=100 rebalance=20
        > a join session=100 rebalance=20
        b: joined as two#1 generation 2 range led by one#1
        a: joined as one#1 generation 2 range led by one#1 with one#1 two#1
        > a sync a=x b=y
        a: synced \"x\"
        > b sync
        b: synced \"y\"
        > c join session=100 rebalance=20
        > a join session=100 rebalance=20
        > +20s
        c: joined as c#1 generation 3 range led by one#1
        a: joined as one#1 generation 3 range led by one#1 with c#1 one#1 two#1
        > a sync a=x b=y c=z
        a: synced \"x\"
        > c sync
        c: synced \"z\"
        > group
        Stable [consumer/range] generation 3 c#1=z one#1@one=x two#1@two=y
        > b2 join instance=two session=100 rebalance=20
        b2: joined as two#2 generation 3 range led by one#1
        > b2 sync
        b2: synced \"y\"
        > group
        Stable [consumer/range] generation 3 c#1=z one#1@one=x two#2@two=y
        ",
    );
}

#[test]
fn an_administrator_removes_a_static_member() {
    check_with(
        at_once(),
        "
        > a join instance=one
        a: joined as one#1 generation 1 range led by one#1 with one#1
        > b join instance=two
        > a join
        b: joined as two#1 generation 2 range led by one#1
        a: joined as one#1 generation 2 range led by one#1 with one#1 two#1
        > a sync a=x b=y
        a: synced \"x\"
        > admin leave instance=two
        admin: left ok
        > a beat
        a: beat refused RebalanceInProgress
        > b beat
        b: beat refused UnknownMember
        ",
    );
}

/// Pitfall 52.
#[test]
fn instances_are_checked() {
    check_with(
        at_once(),
        "
        > a join instance=one
        a: joined as one#1 generation 1 range led by one#1 with one#1
        > a sync a=x
        a: synced \"x\"
        > a beat instance=other
        a: beat refused UnknownMember
        > a beat id=x instance=one
        a: beat refused FencedInstance
        > a sync id=x instance=one
        a: sync refused FencedInstance
        > a commit id=x instance=one t-0=1
        a: commit refused FencedInstance
        > a join id=x
        a: join refused FencedInstance x
        > b join id=a#1 instance=two
        b: join refused UnknownMember a#1
        ",
    );
}

#[test]
fn a_static_newcomer_that_restarts_is_waited_for_as_long_as_it_waits() {
    check_with(
        at_once(),
        "
        > a join rebalance=1000 session=1000
        a: joined as a#1 generation 1 range led by a#1 with a#1
        > a sync a=x
        a: synced \"x\"
        > b join instance=two rebalance=1000
        > b2 join instance=two rebalance=1000
        b: join refused FencedInstance two#1
        > +301s
        > group
        PreparingRebalance [consumer/] generation 1 a#1 two#2@two
        > a join
        b2: joined as two#2 generation 2 range led by a#1
        a: joined as a#1 generation 2 range led by a#1 with a#1 two#2
        ",
    );
}
