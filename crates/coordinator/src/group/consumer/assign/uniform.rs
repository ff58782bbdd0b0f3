//! `uniform`: every member gets as much as the others, as far as subscriptions allow, and keeps what
//! it had.

use std::collections::{BTreeMap, BTreeSet};

use millstream_types::TopicId;

use super::super::member::Partitions;
use super::{Problem, Solution};

pub(super) fn assign(problem: &Problem) -> Solution {
    let mut spread = Spread::kept(problem);
    let first = problem.members.first().map(|member| &member.topics);
    if problem.members.iter().all(|member| Some(&member.topics) == first) {
        spread.cut(problem);
    }
    spread.fill();
    spread.balance();
    problem.solution(spread.shares)
}

/// A spread in the making.
struct Spread {
    /// By the members' places.
    shares: Vec<Partitions>,
    loads: Vec<usize>,
    subscribers: BTreeMap<TopicId, Vec<usize>>,
    /// What nobody has yet.
    free: BTreeMap<TopicId, BTreeSet<i32>>,
}

impl Spread {
    /// Everybody keeps what there still is and what they still subscribe to.
    fn kept(problem: &Problem) -> Self {
        let subscribers = problem.subscribers();
        let mut free: BTreeMap<TopicId, BTreeSet<i32>> = BTreeMap::new();
        for topic in subscribers.keys() {
            let count = problem.topics.get(topic).copied().unwrap_or(0);
            free.insert(*topic, (0..count).collect());
        }
        let mut spread = Self {
            shares: vec![Partitions::new(); problem.members.len()],
            loads: vec![0; problem.members.len()],
            subscribers,
            free,
        };
        for (place, member) in problem.members.iter().enumerate() {
            for (topic, indexes) in member.had.iter() {
                if !member.topics.contains(topic) {
                    continue;
                }
                for &index in indexes {
                    if problem.has(*topic, index) {
                        spread.take(place, *topic, index);
                    }
                }
            }
        }
        spread
    }

    /// Gives a free partition to a member.
    fn take(&mut self, place: usize, topic: TopicId, index: i32) {
        if !self.free.get_mut(&topic).is_some_and(|free| free.remove(&index)) {
            return;
        }
        let (Some(share), Some(load)) = (self.shares.get_mut(place), self.loads.get_mut(place))
        else {
            return;
        };
        share.entry(topic).or_default().insert(index);
        *load += 1;
    }

    /// Takes a partition from a member.
    fn give_up(&mut self, place: usize, topic: TopicId, index: i32) {
        let (Some(share), Some(load)) = (self.shares.get_mut(place), self.loads.get_mut(place))
        else {
            return;
        };
        if let Some(of_topic) = share.get_mut(&topic)
            && of_topic.remove(&index)
        {
            if of_topic.is_empty() {
                share.remove(&topic);
            }
            *load -= 1;
            self.free.entry(topic).or_default().insert(index);
        }
    }

    /// Where all members subscribe to the same: takes what is above a fair share, so that nothing
    /// has to be moved one by one.
    fn cut(&mut self, problem: &Problem) {
        let topics = problem.members.first().map(|member| &member.topics);
        let counts = topics.into_iter().flatten().filter_map(|topic| problem.topics.get(topic));
        let total: usize = counts.map(|count| usize::try_from(*count).unwrap_or(0)).sum();
        let members = self.loads.len();
        let least = total.checked_div(members).unwrap_or(0);
        let mut extras = total.checked_rem(members).unwrap_or(0);
        for place in 0..members {
            let load = self.loads.get(place).copied().unwrap_or(0);
            let mut surplus = load.saturating_sub(least);
            if surplus > 0 && extras > 0 {
                extras -= 1;
                surplus -= 1;
            }
            let share = self.shares.get(place);
            let last: Vec<_> = share
                .into_iter()
                .flatten()
                .flat_map(|(topic, indexes)| indexes.iter().map(|index| (*topic, *index)))
                .rev()
                .take(surplus)
                .collect();
            for (topic, index) in last {
                self.give_up(place, topic, index);
            }
        }
    }

    /// Gives what is free to those who have least; topics that few may read first.
    fn fill(&mut self) {
        let mut topics: Vec<_> =
            self.subscribers.iter().map(|(topic, who)| (who.len(), *topic)).collect();
        topics.sort_unstable();
        for (_, topic) in topics {
            let free = self.free.get(&topic).cloned().unwrap_or_default();
            if free.is_empty() {
                continue;
            }
            let mut queue: BTreeSet<(usize, usize)> =
                self.subscribers_of(topic).map(|place| (self.load(place), place)).collect();
            for index in free {
                let Some((load, place)) = queue.pop_first() else { break };
                self.take(place, topic, index);
                queue.insert((load + 1, place));
            }
        }
    }

    /// Moves partitions from those who have more to those who have less by two or more, until there
    /// is no such move. Each makes the sum of the squares of the loads smaller, so that it ends.
    fn balance(&mut self) {
        let topics: Vec<TopicId> = self.subscribers.keys().copied().collect();
        let mut moved = true;
        while moved {
            moved = false;
            for topic in &topics {
                while let Some((from, to, index)) = self.move_of(*topic) {
                    self.give_up(from, *topic, index);
                    self.take(to, *topic, index);
                    moved = true;
                }
            }
        }
    }

    /// The move of a partition of `topic` that helps most, if one does.
    fn move_of(&self, topic: TopicId) -> Option<(usize, usize, i32)> {
        let to = self.subscribers_of(topic).min_by_key(|place| (self.load(*place), *place))?;
        let owners = self.subscribers_of(topic).filter(|place| self.last(*place, topic).is_some());
        let from = owners.max_by_key(|place| self.load(*place))?;
        if self.load(from) < self.load(to) + 2 {
            return None;
        }
        Some((from, to, self.last(from, topic)?))
    }

    fn last(&self, place: usize, topic: TopicId) -> Option<i32> {
        self.shares.get(place)?.get(&topic)?.last().copied()
    }

    fn load(&self, place: usize) -> usize {
        self.loads.get(place).copied().unwrap_or(0)
    }

    fn subscribers_of(&self, topic: TopicId) -> impl Iterator<Item = usize> {
        self.subscribers.get(&topic).into_iter().flatten().copied()
    }
}
