//! Whether the topics are as a topology needs them: tables.

use super::super::super::streams::topics::{Configured, Impossible, configure};
use super::*;

/// Topics as `a=3 b=4`.
fn look(topology: &Topology, existing: &str) -> Result<Configured, Impossible> {
    let existing: BTreeMap<&str, i32> = existing
        .split_whitespace()
        .map(|word| word.split_once('=').unwrap())
        .map(|(name, count)| (name, count.parse().unwrap()))
        .collect();
    configure(topology, &|name| existing.get(name).copied())
}

/// What comes of it: tasks of each part, what is missing, and the problem.
#[track_caller]
fn check(topology: &Topology, existing: &str, expected: &str) {
    let told = match look(topology, existing) {
        Err(Impossible(why)) => format!("impossible: {why}"),
        Ok(configured) => {
            let parts = configured.parts.iter();
            let parts = parts.map(|(id, part)| {
                format!("{id}={}{}", part.tasks, if part.stateful { "*" } else { "" })
            });
            let missing = configured.missing.iter();
            let missing = missing.map(|topic| format!("+{}={}", topic.name, topic.partitions));
            let problem = configured.problem.iter();
            let problem = problem.map(|it| format!("{:?}: {}", it.code, it.detail));
            parts.chain(missing).chain(problem).collect::<Vec<_>>().join(" ")
        }
    };
    assert_eq!(told, expected, "{existing}");
}

/// Both topics of a part, which it joins.
fn joined(sources: &str, repartitions: &str, sinks: &str) -> Subtopology {
    let mut part = part(sources, repartitions, sinks, "c");
    let places = |count: usize| (0..count).map(|place| i16::try_from(place).unwrap()).collect();
    part.copartitions = vec![Copartition {
        sources: places(part.sources.len()),
        repartitions: places(part.repartitions.len()),
    }];
    part
}

#[test]
fn sources_must_be_there() {
    let none = "MissingSources: Source topics a, b, d and 2 additional topics are missing.";
    let many = topology(&[("0", part("b a c", "", "", "")), ("1", part("f e d", "", "", ""))]);
    check(&many, "c=1", none);
    check(&word_count(), "", "MissingSources: Source topics in are missing.");
    check(&many, "a=1 b=2 c=3 d=1 e=1 f=1", "0=3 1=1");
}

#[test]
fn what_is_missing_is_made() {
    let missing = "0=3 1=3* +c=3 +r=3 MissingInternals: Internal topics are missing: c, r";
    check(&word_count(), "in=3", missing);
    let one = "0=3 1=3* +c=3 MissingInternals: Internal topics are missing: c";
    check(&word_count(), "in=3 r=3", one);
    check(&word_count(), "in=3 r=3 c=3", "0=3 1=3*");
}

#[test]
fn what_is_there_must_fit() {
    let wrong = "WrongPartitions: Existing topic r has different number of partitions: expected 3, \
                 found 4";
    check(&word_count(), "in=3 r=4 c=4", wrong);
    let wrong = "WrongPartitions: Existing topic c has different number of partitions: expected 3, \
                 found 2";
    check(&word_count(), "in=3 r=3 c=2", wrong);
    // The topic that is read has grown.
    let grown = "WrongPartitions: Existing topic r has different number of partitions: expected 5, \
                 found 3";
    check(&word_count(), "in=5 r=3 c=3", grown);
}

#[test]
fn numbers_follow_from_writers() {
    // A chain: in -> r -> s, with s named first.
    let chain = topology(&[
        ("0", part("", "s", "", "c")),
        ("1", part("", "r", "s", "")),
        ("2", part("in other", "", "r", "")),
    ]);
    check(&chain, "in=2 other=6 r=6 s=6 c=6", "0=6* 1=6 2=6");
    // What the topology itself says counts.
    let fixed = topology(&[("0", part("in", "", "r", "")), ("1", part("", "r=7", "", "c"))]);
    check(&fixed, "in=2 r=7 c=7", "0=2 1=7*");
    // A loop that begins somewhere.
    let looped = topology(&[("0", part("in", "r", "r", ""))]);
    check(&looped, "in=2 r=2", "0=2");
}

#[test]
fn what_cannot_be() {
    let loops = topology(&[("0", part("", "r", "s", "")), ("1", part("", "s", "r", ""))]);
    check(
        &loops,
        "",
        "impossible: Failed to compute number of partitions for all repartition topics. There may be \
         loops in the topology that cannot be resolved.",
    );
    let unwritten = topology(&[("0", part("in", "r", "", ""))]);
    check(
        &unwritten,
        "in=1",
        "impossible: Failed to compute number of partitions for all repartition topics, because a \
         repartition source topic is never used as a sink topic: r.",
    );
    check(
        &topology(&[("0", part("", "", "x", ""))]),
        "",
        "impossible: Failed to compute number of partitions for all repartition topics. There may be \
         loops in the topology that cannot be resolved.",
    );
    check(
        &topology(&[("0", part("", "", "", ""))]),
        "",
        "impossible: Subtopology 0 reads nothing.",
    );
    for (place, of) in [(-1_i16, "sources"), (1, "sources"), (0, "repartitions")] {
        let mut part = part("in", "", "", "");
        let group = match of {
            "sources" => Copartition { sources: vec![place], repartitions: Vec::new() },
            _ => Copartition { sources: Vec::new(), repartitions: vec![place] },
        };
        part.copartitions = vec![group];
        let why = "impossible: A copartition group names a topic that is not there.";
        check(&topology(&[("0", part)]), "in=1", why);
    }
}

#[test]
fn what_is_joined_has_as_many_partitions() {
    let both = topology(&[("0", joined("a b", "", ""))]);
    check(&both, "a=2 b=2 c=2", "0=2*");
    let differ =
        "WrongPartitions: Following topics do not have the same number of partitions: [a=2, b=3]";
    check(&both, "a=2 b=3 c=3", differ);
    // A topic of the coordinator follows the one of somebody else, whatever its writers read.
    let one = topology(&[("0", part("in", "", "r", "")), ("1", joined("a", "r", ""))]);
    check(&one, "in=8 a=2 r=2 c=2", "0=8 1=2*");
    // Two of the coordinator's: both get as many as the larger.
    let two = topology(&[
        ("0", part("x", "", "r", "")),
        ("1", part("y", "", "s", "")),
        ("2", joined("", "r s", "")),
    ]);
    let missing =
        "0=2 1=5 2=5* +c=5 +r=5 +s=5 MissingInternals: Internal topics are missing: c, r, s";
    check(&two, "x=2 y=5", missing);
    check(&two, "x=2 y=5 r=5 s=5 c=5", "0=2 1=5 2=5*");
    // One whose number is fixed decides.
    let fixed = topology(&[
        ("0", part("x", "", "r", "")),
        ("1", part("y", "", "s", "")),
        ("2", joined("", "r=3 s", "")),
    ]);
    check(&fixed, "x=2 y=5 r=3 s=3 c=3", "0=2 1=5 2=3*");
    let fixed_twice =
        topology(&[("0", part("x", "", "r s", "")), ("1", joined("", "r=3 s=4", ""))]);
    let differ =
        "WrongPartitions: Following topics do not have the same number of partitions: [r=3, s=4]";
    check(&fixed_twice, "x=2", differ);
    let against = topology(&[("0", part("x", "", "r", "")), ("1", joined("a", "r=3", ""))]);
    let differ = "WrongPartitions: Number of partitions [3] of repartition topic [r] doesn't match \
                  number of partitions [2] of the source topic.";
    check(&against, "x=1 a=2", differ);
}

/// Kafka takes a number that is fixed anywhere in the topology for one of every group of topics that
/// the coordinator makes; here it counts where it is said.
#[test]
fn a_fixed_number_elsewhere_does_not_matter() {
    let mut parts = vec![
        ("0", part("x", "", "r", "")),
        ("1", part("x", "", "s", "")),
        ("2", joined("", "r s", "")),
        ("3", part("x", "", "t", "")),
        ("4", part("", "t=9", "", "")),
    ];
    check(&topology(&parts), "x=2 r=2 s=2 t=9 c=2", "0=2 1=2 2=2* 3=2 4=9");
    parts.pop();
    check(&topology(&parts), "x=2 r=2 s=2 t=9 c=2", "0=2 1=2 2=2* 3=2");
}
