//! Who in a classic group reads what. The group's leader decides for all members.

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::{TopicName, TopicPartition};

/// A way to assign partitions. Kafka's own clients have the same ones, so that groups may be mixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assignor {
    /// Topic by topic, neighbouring partitions to each member; partitions of the same number in
    /// different topics go to the same member where the topics have as many.
    Range,
    /// Partition by partition, to one member after the other.
    RoundRobin,
}

/// A member, as far as it matters here. Ordered as Kafka orders members: static ones first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AssignedMember {
    is_dynamic: bool,
    instance_id: Option<String>,
    id: String,
}

impl AssignedMember {
    /// A member by its id, and its own id if it is static.
    #[must_use]
    pub const fn new(id: String, instance_id: Option<String>) -> Self {
        Self { is_dynamic: instance_id.is_none(), instance_id, id }
    }
}

/// What members want to read.
pub type Subscriptions = BTreeMap<AssignedMember, BTreeSet<TopicName>>;

/// What members shall read, by member id.
pub type Assignment = BTreeMap<String, Vec<TopicPartition>>;

impl Assignor {
    /// All of them, the preferred one first.
    pub const ALL: [Self; 2] = [Self::Range, Self::RoundRobin];

    /// The name that members tell one another.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Range => "range",
            Self::RoundRobin => "roundrobin",
        }
    }

    /// The assignor of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|assignor| assignor.name() == name)
    }

    /// Assigns every partition of every topic that somebody wants to exactly one member who wants
    /// it. Each member has an entry.
    #[must_use]
    pub fn assign(self, members: &Subscriptions, topics: &BTreeMap<TopicName, i32>) -> Assignment {
        let mut assignment: Assignment =
            members.keys().map(|member| (member.id.clone(), Vec::new())).collect();
        match self {
            Self::Range => range(members, topics, &mut assignment),
            Self::RoundRobin => round_robin(members, topics, &mut assignment),
        }
        assignment
    }
}

fn range(members: &Subscriptions, topics: &BTreeMap<TopicName, i32>, assignment: &mut Assignment) {
    for (topic, &count) in topics {
        let readers: Vec<_> =
            members.iter().filter(|(_, wanted)| wanted.contains(topic)).map(|(it, _)| it).collect();
        let Some(each) = usize::try_from(count).unwrap_or(0).checked_div(readers.len()) else {
            continue;
        };
        let mut partitions = 0..count;
        let more = usize::try_from(count).unwrap_or(0) % readers.len();
        for (at, reader) in readers.into_iter().enumerate() {
            let share = each + usize::from(at < more);
            let share = partitions.by_ref().take(share);
            let share = share.map(|partition| TopicPartition { topic: topic.clone(), partition });
            assignment.entry(reader.id.clone()).or_default().extend(share);
        }
    }
}

fn round_robin(
    members: &Subscriptions,
    topics: &BTreeMap<TopicName, i32>,
    assignment: &mut Assignment,
) {
    let mut turn = members.iter().cycle();
    for (topic, &count) in topics {
        if !members.values().any(|wanted| wanted.contains(topic)) {
            continue;
        }
        for partition in 0..count {
            // Ends, because somebody wants it.
            let Some((reader, _)) = turn.find(|(_, wanted)| wanted.contains(topic)) else { return };
            let partition = TopicPartition { topic: topic.clone(), partition };
            assignment.entry(reader.id.clone()).or_default().push(partition);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn topics(counts: &[(&str, i32)]) -> BTreeMap<TopicName, i32> {
        counts.iter().map(|&(name, count)| (name.into(), count)).collect()
    }

    fn members(of: &[(&str, &str)]) -> Subscriptions {
        let member = |&(id, wanted): &(&str, &str)| {
            let instance = id.strip_prefix('!').map(str::to_owned);
            let wanted = wanted.split_whitespace().map(TopicName::from).collect();
            (AssignedMember::new(id.to_owned(), instance), wanted)
        };
        of.iter().map(member).collect()
    }

    /// `expected` has the partitions of each member, as `topic-partition` with blanks between.
    #[track_caller]
    fn check(
        assignor: Assignor,
        counts: &[(&str, i32)],
        subscriptions: &[(&str, &str)],
        expected: &[(&str, &str)],
    ) {
        let assignment = assignor.assign(&members(subscriptions), &topics(counts));
        let text = |partitions: &Vec<TopicPartition>| {
            partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        let actual: Vec<_> = assignment.iter().map(|(id, of)| (id.clone(), text(of))).collect();
        let expected: Vec<_> =
            expected.iter().map(|&(id, of)| (id.to_owned(), of.to_owned())).collect();
        assert_eq!(actual, expected);
    }

    #[test]
    fn range_cuts_each_topic() {
        use Assignor::Range;
        let two = [("m1", "t0 t1"), ("m2", "t0 t1")];
        check(
            Range,
            &[("t0", 3), ("t1", 3)],
            &two,
            &[("m1", "t0-0 t0-1 t1-0 t1-1"), ("m2", "t0-2 t1-2")],
        );
        check(Range, &[("t0", 1)], &two, &[("m1", "t0-0"), ("m2", "")]);
        check(Range, &[], &two, &[("m1", ""), ("m2", "")]);
        check(
            Range,
            &[("t0", 4), ("t1", 2)],
            &[("m1", "t0"), ("m2", "t0 t1"), ("m3", "t1")],
            &[("m1", "t0-0 t0-1"), ("m2", "t0-2 t0-3 t1-0"), ("m3", "t1-1")],
        );
    }

    #[test]
    fn round_robin_deals() {
        use Assignor::RoundRobin;
        let two = [("m1", "t0 t1"), ("m2", "t0 t1")];
        check(
            RoundRobin,
            &[("t0", 3), ("t1", 3)],
            &two,
            &[("m1", "t0-0 t0-2 t1-1"), ("m2", "t0-1 t1-0 t1-2")],
        );
        // The example of Kafka's own documentation.
        check(
            RoundRobin,
            &[("t0", 1), ("t1", 2), ("t2", 3)],
            &[("m0", "t0"), ("m1", "t0 t1"), ("m2", "t0 t1 t2")],
            &[("m0", "t0-0"), ("m1", "t1-0"), ("m2", "t1-1 t2-0 t2-1 t2-2")],
        );
        check(RoundRobin, &[("t9", 4)], &two, &[("m1", ""), ("m2", "")]);
    }

    #[test]
    fn static_members_come_first() {
        check(
            Assignor::Range,
            &[("t", 1)],
            &[("a", "t"), ("!z", "t")],
            &[("!z", "t-0"), ("a", "")],
        );
    }

    proptest! {
        #[test]
        fn everything_wanted_is_assigned_once_and_fairly(
            counts in prop::collection::vec(0..9_i32, 0..5),
            wants in prop::collection::vec(prop::collection::vec(any::<bool>(), 5), 1..6),
            range: bool,
        ) {
            let name = |at: usize| TopicName::from(format!("t{at}"));
            let topics: BTreeMap<_, _> =
                counts.iter().enumerate().map(|(at, &count)| (name(at), count)).collect();
            let members: Subscriptions = wants
                .iter()
                .enumerate()
                .map(|(id, wants)| {
                    let wanted = wants.iter().enumerate().filter(|(_, want)| **want);
                    let wanted = wanted.map(|(at, _)| name(at)).collect();
                    (AssignedMember::new(format!("m{id}"), None), wanted)
                })
                .collect();
            let assignor = if range { Assignor::Range } else { Assignor::RoundRobin };
            let assignment = assignor.assign(&members, &topics);
            let mut seen = BTreeSet::new();
            for (member, wanted) in &members {
                for of in &assignment[&member.id] {
                    prop_assert!(wanted.contains(&of.topic));
                    prop_assert!(seen.insert(of.clone()), "{of} twice");
                }
            }
            for (topic, &count) in &topics {
                let wanted = members.values().any(|wanted| wanted.contains(topic));
                let given = seen.iter().filter(|of| of.topic == *topic).count();
                prop_assert_eq!(given, if wanted { count as usize } else { 0 });
            }
        }
    }
}
