//! `range`: of each topic every subscriber gets as many partitions as the others, or one more.
//!
//! Topics with as many partitions and the same subscribers are spread alike, so that who reads
//! partition 3 of one reads partition 3 of the other: that is what joins need. What members had
//! stays with them as far as their shares allow.

use std::collections::{BTreeMap, BTreeSet};

use millstream_types::TopicId;

use super::super::member::Partitions;
use super::{Problem, Solution};

pub(super) fn assign(problem: &Problem) -> Solution {
    let mut alike: BTreeMap<(i32, Vec<usize>), Vec<TopicId>> = BTreeMap::new();
    for (topic, subscribers) in problem.subscribers() {
        let count = problem.topics.get(&topic).copied().unwrap_or(0);
        alike.entry((count, subscribers)).or_default().push(topic);
    }
    let mut shares = vec![Partitions::new(); problem.members.len()];
    for ((count, subscribers), topics) in alike {
        let spread = spread(problem, count, &subscribers, model(problem, &subscribers, &topics));
        for (place, share) in subscribers.iter().zip(spread) {
            let Some(own) = shares.get_mut(*place).filter(|_| !share.is_empty()) else { continue };
            own.extend(topics.iter().map(|topic| (*topic, share.clone())));
        }
    }
    problem.solution(shares)
}

/// The topic by which the others of its kind are spread: one of which members have most.
fn model(problem: &Problem, subscribers: &[usize], topics: &[TopicId]) -> Option<TopicId> {
    let had = |topic: &TopicId| -> usize {
        let members = subscribers.iter().filter_map(|place| problem.members.get(*place));
        members.filter_map(|member| member.had.get(topic)).map(BTreeSet::len).sum()
    };
    // The first of several, whatever their order is.
    topics.iter().rev().max_by_key(|topic| had(topic)).copied()
}

/// What each of `subscribers` gets of a topic with `count` partitions.
fn spread(
    problem: &Problem,
    count: i32,
    subscribers: &[usize],
    model: Option<TopicId>,
) -> Vec<BTreeSet<i32>> {
    let count = usize::try_from(count).unwrap_or(0);
    let least = count.checked_div(subscribers.len()).unwrap_or(0);
    let mut extras = count.checked_rem(subscribers.len()).unwrap_or(0);
    let mut free: BTreeSet<i32> = (0..i32::try_from(count).unwrap_or(0)).collect();
    let mut shares: Vec<BTreeSet<i32>> = Vec::with_capacity(subscribers.len());
    for place in subscribers {
        let had = problem.members.get(*place).zip(model);
        let had = had.and_then(|(member, topic)| member.had.get(&topic));
        let had = had.into_iter().flatten().copied().filter(|index| free.contains(index));
        let mut kept: BTreeSet<i32> = had.take(least + 1).collect();
        if kept.len() > least {
            if extras > 0 {
                extras -= 1;
            } else {
                kept.pop_last();
            }
        }
        for index in &kept {
            free.remove(index);
        }
        shares.push(kept);
    }
    for share in &mut shares {
        if share.len() > least {
            continue;
        }
        let mut most = least;
        if extras > 0 {
            extras -= 1;
            most += 1;
        }
        while share.len() < most
            && let Some(index) = free.pop_first()
        {
            share.insert(index);
        }
    }
    shares
}
