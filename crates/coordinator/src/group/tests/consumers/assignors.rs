//! Laws of the assignors, on random problems.

use proptest::prelude::*;

use super::super::super::consumer::assign::{Candidate, Problem, Solution};
use super::*;

fn topic(number: u8) -> TopicId {
    Uuid([number + 1; 16])
}

/// Topics with their partitions, and who subscribes to which; `same` to all of them.
fn problem(same: bool) -> impl Strategy<Value = Problem> {
    let topics = prop::collection::vec(0..9_i32, 1..5);
    topics.prop_flat_map(move |counts| {
        let of_member = prop::collection::btree_set(0..counts.len(), 0..=counts.len());
        prop::collection::vec(of_member, 1..6).prop_map(move |members| {
            let numbered = |at: usize| topic(u8::try_from(at).unwrap());
            let every: BTreeSet<usize> = (0..counts.len()).collect();
            let candidate = |(at, topics): (usize, BTreeSet<usize>)| Candidate {
                id: Arc::from(format!("m{at}")),
                topics: if same { &every } else { &topics }
                    .iter()
                    .map(|at| numbered(*at))
                    .collect(),
                had: Arc::default(),
            };
            let topics = counts.iter().enumerate().map(|(at, count)| (numbered(at), *count));
            Problem {
                topics: topics.collect(),
                members: members.into_iter().enumerate().map(candidate).collect(),
            }
        })
    })
}

/// The same members with what they were given.
fn after(problem: &Problem, solution: &Solution) -> Problem {
    let mut next = problem.clone();
    for member in &mut next.members {
        member.had = Arc::new(solution.get(&member.id).cloned().unwrap_or_default());
    }
    next
}

/// Each partition that somebody subscribes to has one owner, who subscribes to it.
fn check_complete(problem: &Problem, solution: &Solution) {
    let mut owned = BTreeSet::new();
    for member in &problem.members {
        for (topic, indexes) in &solution[&member.id] {
            assert!(member.topics.contains(topic), "nobody gets what it does not want");
            for index in indexes {
                assert!(owned.insert((*topic, *index)), "{topic}-{index} has two owners");
            }
        }
    }
    let wanted: BTreeSet<_> = problem.members.iter().flat_map(|member| &member.topics).collect();
    let all = problem.topics.iter().filter(|(topic, _)| wanted.contains(topic));
    let all = all.flat_map(|(topic, count)| (0..*count).map(move |index| (*topic, index)));
    assert_eq!(owned, all.collect(), "everything has an owner");
}

fn loads(solution: &Solution) -> Vec<usize> {
    solution.values().map(|own| own.values().map(BTreeSet::len).sum()).collect()
}

/// How many partitions have another owner than before.
fn moves(before: &Solution, now: &Solution) -> usize {
    let lost = before.iter().map(|(id, own)| {
        let kept = now.get(id);
        let is_kept =
            |topic, index| kept.and_then(|it| it.get(topic)).is_some_and(|it| it.contains(index));
        own.iter()
            .flat_map(|(topic, all)| all.iter().map(move |index| (topic, index)))
            .filter(|(topic, index)| !is_kept(topic, index))
            .count()
    });
    lost.sum()
}

/// Nobody could be relieved by handing one partition to somebody who has less by two.
fn check_balanced(problem: &Problem, solution: &Solution) {
    let load = |id: &Arc<str>| -> usize { solution[id].values().map(BTreeSet::len).sum() };
    for from in &problem.members {
        for to in &problem.members {
            let movable = solution[&from.id].keys().any(|topic| to.topics.contains(topic));
            assert!(
                !movable || load(&from.id) < load(&to.id) + 2,
                "{} has {} and {} has {}",
                from.id,
                load(&from.id),
                to.id,
                load(&to.id)
            );
        }
    }
}

/// Topics with as many partitions and the same subscribers are spread alike.
fn check_joined(problem: &Problem, solution: &Solution) {
    let subscribers = |topic: &TopicId| -> Vec<&Arc<str>> {
        let members = problem.members.iter().filter(|member| member.topics.contains(topic));
        members.map(|member| &member.id).collect()
    };
    for (one, count) in &problem.topics {
        for (other, its) in &problem.topics {
            if count == its && subscribers(one) == subscribers(other) {
                for own in solution.values() {
                    assert_eq!(own.get(one), own.get(other), "{one} and {other} are joined");
                }
            }
        }
        let shares: Vec<_> = subscribers(one)
            .iter()
            .map(|id| solution[*id].get(one).map_or(0, BTreeSet::len))
            .collect();
        let (most, least) = (shares.iter().max(), shares.iter().min());
        assert!(most.zip(least).is_none_or(|(most, least)| most - least <= 1), "{shares:?}");
    }
}

proptest! {
    #[test]
    fn range_is_complete_fair_and_joins(problem in problem(false), removed in 0..6_usize) {
        let first = Assignor::Range.assign(&problem);
        check_complete(&problem, &first);
        check_joined(&problem, &first);
        let same = after(&problem, &first);
        prop_assert_eq!(moves(&first, &Assignor::Range.assign(&same)), 0, "nothing has changed");
        let mut fewer = same;
        if fewer.members.len() > 1 {
            fewer.members.remove(removed % fewer.members.len());
        }
        let second = Assignor::Range.assign(&fewer);
        check_complete(&fewer, &second);
        check_joined(&fewer, &second);
    }

    #[test]
    fn uniform_is_complete_balanced_and_sticky(
        problem in (any::<bool>()).prop_flat_map(problem), removed in 0..6_usize
    ) {
        let first = Assignor::Uniform.assign(&problem);
        check_complete(&problem, &first);
        check_balanced(&problem, &first);
        let same = after(&problem, &first);
        prop_assert_eq!(moves(&first, &Assignor::Uniform.assign(&same)), 0, "nothing has changed");
        let mut fewer = same;
        if fewer.members.len() > 1 {
            fewer.members.remove(removed % fewer.members.len());
        }
        let second = Assignor::Uniform.assign(&fewer);
        check_complete(&fewer, &second);
        check_balanced(&fewer, &second);
    }

    /// Where all want the same, members that stay lose nothing when one goes, and a newcomer gets
    /// its share and no more is moved.
    #[test]
    fn uniform_moves_no_more_than_it_must(problem in problem(true), removed in 0..6_usize) {
        let before = Assignor::Uniform.assign(&problem);
        let (most, least) = (loads(&before).into_iter().max(), loads(&before).into_iter().min());
        prop_assert!(most.zip(least).is_none_or(|(most, least)| most - least <= 1));
        let mut fewer = after(&problem, &before);
        let gone = removed % fewer.members.len();
        let gone = fewer.members.remove(gone);
        if !fewer.members.is_empty() {
            let now = Assignor::Uniform.assign(&fewer);
            let mut kept = before.clone();
            kept.remove(&gone.id);
            prop_assert_eq!(moves(&kept, &now), 0, "who stays keeps all");
        }
        let mut more = after(&problem, &before);
        let newcomer = Candidate {
            id: Arc::from("newcomer"),
            topics: gone.topics.clone(),
            had: Arc::default(),
        };
        more.members.push(newcomer);
        let now = Assignor::Uniform.assign(&more);
        let share: usize = now["newcomer"].values().map(BTreeSet::len).sum();
        prop_assert_eq!(moves(&before, &now), share, "what the newcomer gets, and nothing else");
    }
}
