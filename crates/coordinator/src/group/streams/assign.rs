//! Who is to have which tasks: balanced, and with as little moved as possible.
//!
//! Active tasks: each member's share is the same but for one, of those with state and of all. Who had
//! more than its share gives tasks up. What nobody has goes to where its state is: to the process that
//! had it (its members share a disk), to a standby, and else to who has least.
//!
//! Standbys: of each task with state as many as are wanted, each in a process of its own and not in that
//! of the active one. Those that there are stay; the others go to where the state is and else to who has
//! least. At last they are moved while that makes the difference of two members smaller.
//!
//! Laws: every task is active once; a member's number of active tasks, and of those with state, is that
//! of any other but for one;
//! no process has a task twice; there are as many standbys as can be; assigning again changes nothing.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::tasks::{Assignment, Tasks};

/// What is to be assigned.
#[derive(Clone, Debug, Default)]
pub(in crate::group) struct Problem {
    /// Of each subtopology, how many tasks it has, and whether they have state.
    pub(in crate::group) parts: BTreeMap<Arc<str>, (i32, bool)>,
    /// How many standbys are wanted.
    pub(in crate::group) standbys: usize,
    /// The members, by id.
    pub(in crate::group) members: Vec<Candidate>,
}

/// A member that tasks may be given to.
#[derive(Clone, Debug, Default)]
pub(in crate::group) struct Candidate {
    pub(in crate::group) id: Arc<str>,
    /// Who shares it shares a disk.
    pub(in crate::group) process: Arc<str>,
    /// What it was to have until now.
    pub(in crate::group) had: Arc<Assignment>,
}

/// A task: the place of its subtopology among all, and its partition.
type Task = (usize, i32);

/// A member, or a process: its place among all.
type Place = usize;

/// Who is to have what.
pub(in crate::group) fn assign(problem: &Problem) -> BTreeMap<Arc<str>, Assignment> {
    let mut desk = Desk::new(problem);
    if !problem.members.is_empty() {
        desk.assign_active();
        desk.assign_standbys(problem.standbys);
    }
    desk.result(problem)
}

struct Desk {
    /// How many tasks each subtopology has, and whether they have state.
    parts: Vec<(i32, bool)>,
    /// The process of each member.
    process: Vec<Place>,
    processes: usize,
    /// Where each task was active.
    was_active: BTreeMap<Task, Place>,
    /// Where each task was standby, or warmed up.
    was_standby: BTreeMap<Task, Vec<Place>>,
    active: BTreeMap<Task, Place>,
    standby: BTreeMap<Task, Vec<Place>>,
    /// How many tasks each member has.
    load: Vec<usize>,
    /// The same of each process.
    process_load: Vec<usize>,
}

impl Desk {
    fn new(problem: &Problem) -> Self {
        let ids: BTreeMap<&str, usize> =
            problem.parts.keys().enumerate().map(|(place, id)| (&**id, place)).collect();
        let names: BTreeSet<&Arc<str>> = problem.members.iter().map(|it| &it.process).collect();
        let names: BTreeMap<_, _> = names.into_iter().zip(0..).collect();
        let place_of = |member: &Candidate| names.get(&member.process).copied().unwrap_or_default();
        let mut desk = Self {
            parts: problem.parts.values().copied().collect(),
            process: problem.members.iter().map(place_of).collect(),
            processes: names.len(),
            was_active: BTreeMap::new(),
            was_standby: BTreeMap::new(),
            active: BTreeMap::new(),
            standby: BTreeMap::new(),
            load: vec![0; problem.members.len()],
            process_load: vec![0; names.len()],
        };
        let task = |part: &Arc<str>, index: i32| {
            let place = *ids.get(&**part)?;
            let (tasks, _) = desk.parts.get(place)?;
            (0..*tasks).contains(&index).then_some((place, index))
        };
        let all = |tasks: &Tasks| -> Vec<Task> {
            let each = tasks.iter().flat_map(|(part, all)| all.iter().map(move |it| (part, *it)));
            each.filter_map(|(part, index)| task(part, index)).collect()
        };
        let (mut was_active, mut was_standby) = (BTreeMap::new(), BTreeMap::<_, Vec<_>>::new());
        for (place, member) in problem.members.iter().enumerate() {
            for task in all(&member.had.active) {
                was_active.entry(task).or_insert(place);
            }
            for task in all(&member.had.standby).into_iter().chain(all(&member.had.warmup)) {
                was_standby.entry(task).or_default().push(place);
            }
        }
        (desk.was_active, desk.was_standby) = (was_active, was_standby);
        desk
    }

    fn tasks(&self) -> Vec<Task> {
        let parts = self.parts.iter().enumerate();
        parts.flat_map(|(part, (tasks, _))| (0..*tasks).map(move |index| (part, index))).collect()
    }

    fn has_state(&self, task: Task) -> bool {
        self.parts.get(task.0).is_some_and(|(_, has_state)| *has_state)
    }

    fn process_of(&self, member: Place) -> Place {
        self.process.get(member).copied().unwrap_or_default()
    }

    fn load_of(&self, member: Place) -> usize {
        self.load.get(member).copied().unwrap_or_default()
    }

    fn add(&mut self, member: Place) {
        let process = self.process_of(member);
        let loads = [self.load.get_mut(member), self.process_load.get_mut(process)];
        for load in loads.into_iter().flatten() {
            *load += 1;
        }
    }

    fn assign_active(&mut self) {
        let (with_state, without): (Vec<_>, Vec<_>) =
            self.tasks().into_iter().partition(|task| self.has_state(*task));
        let count = with_state.len() + without.len();
        // Those with state have shares of their own: else who was there first would keep all of them.
        let kept = self.kept(&with_state);
        let has: Vec<_> = kept.iter().map(Vec::len).collect();
        let room = self.shares(with_state.len(), &has);
        self.place(with_state, kept, &room);
        let kept = self.kept(&without);
        let has = kept.iter().zip(&self.load).map(|(kept, load)| kept.len() + load);
        let has: Vec<_> = has.collect();
        let room = self.shares(count, &has);
        self.place(without, kept, &room);
    }

    /// Which of some tasks each member has.
    fn kept(&self, tasks: &[Task]) -> Vec<Vec<Task>> {
        let mut kept: Vec<Vec<Task>> = vec![Vec::new(); self.load.len()];
        for task in tasks {
            let member = self.was_active.get(task);
            if let Some(kept) = member.and_then(|member| kept.get_mut(*member)) {
                kept.push(*task);
            }
        }
        kept
    }

    /// Makes tasks active: who has them keeps them while there is room for them.
    fn place(&mut self, tasks: Vec<Task>, kept: Vec<Vec<Task>>, room: &[usize]) {
        for (member, (kept, room)) in kept.into_iter().zip(room).enumerate() {
            for task in kept.into_iter().take(room.saturating_sub(self.load_of(member))) {
                self.active.insert(task, member);
                self.add(member);
            }
        }
        let mut open: Vec<Task> =
            tasks.into_iter().filter(|task| !self.active.contains_key(task)).collect();
        open.retain(|task| !self.place_by_state(*task, room));
        for task in open {
            let members = 0..self.load.len();
            let Some(member) = members.min_by_key(|member| self.rank(*member, room)) else {
                return;
            };
            self.active.insert(task, member);
            self.add(member);
        }
    }

    /// How many active tasks each member gets, with what it has been given already: the same, but for
    /// one. The larger shares are for those who need them for what they have been given, then for those
    /// who have most now, so that little moves, then for those who follow what nobody has now, and are
    /// spread over processes.
    fn shares(&self, tasks: usize, has: &[usize]) -> Vec<usize> {
        let members = self.load.len();
        let (each, larger) = (tasks / members, tasks % members);
        let mut of_process = vec![0_usize; self.processes];
        let mut follows = vec![0_usize; members];
        let open = self.was_standby.iter().filter(|(task, _)| !self.was_active.contains_key(*task));
        for member in open.flat_map(|(_, members)| members) {
            if let Some(follows) = follows.get_mut(*member) {
                *follows += 1;
            }
        }
        let order = (0..members).map(|member| {
            let place = of_process.get_mut(self.process_of(member));
            let nth = place.map_or(0, |count| std::mem::replace(count, *count + 1));
            let has = has.get(member).copied().unwrap_or_default();
            let follows = follows.get(member).copied().unwrap_or_default();
            let needs = self.load_of(member) > each;
            (Reverse(needs), Reverse(has.min(each + 1)), Reverse(follows), nth, member)
        });
        let order: BTreeSet<_> = order.collect();
        let mut shares = vec![each; members];
        for (.., member) in order.into_iter().take(larger) {
            if let Some(share) = shares.get_mut(member) {
                *share += 1;
            }
        }
        shares
    }

    /// The order in which members get tasks: who has its share comes last, then by what a member has,
    /// and by what its process has.
    fn rank(&self, member: Place, room: &[usize]) -> (bool, usize, Option<usize>, Place) {
        let load = self.load_of(member);
        let full = room.get(member).is_some_and(|room| load >= *room);
        let of_process = self.process_load.get(self.process_of(member)).copied();
        (full, load, of_process, member)
    }

    /// Gives a task to a member that has room where its state is. Whether there is one.
    fn place_by_state(&mut self, task: Task, room: &[usize]) -> bool {
        if !self.has_state(task) {
            return false;
        }
        let former: Vec<_> = self
            .was_active
            .get(&task)
            .into_iter()
            .chain(self.was_standby.get(&task).into_iter().flatten())
            .copied()
            .collect();
        let processes = former.iter().map(|member| self.process_of(*member));
        let processes: BTreeSet<_> = processes.collect();
        let near = (0..self.load.len()).filter(|it| processes.contains(&self.process_of(*it)));
        let has_room =
            |member: &Place| room.get(*member).is_some_and(|room| self.load_of(*member) < *room);
        // A standby itself before its neighbours, whose process has the state as well.
        let best = former.iter().copied().chain(near).enumerate();
        let best = best.filter(|(_, member)| has_room(member));
        let Some((_, member)) = best.min_by_key(|(nth, member)| (self.load_of(*member), *nth))
        else {
            return false;
        };
        self.active.insert(task, member);
        self.add(member);
        true
    }

    fn assign_standbys(&mut self, wanted: usize) {
        let wanted = wanted.min(self.processes.saturating_sub(1));
        let tasks = self.tasks().into_iter().filter(|task| self.has_state(*task));
        let tasks: Vec<Task> = if wanted == 0 { Vec::new() } else { tasks.collect() };
        for task in &tasks {
            let had = self.was_standby.get(task).cloned().unwrap_or_default();
            for member in had {
                self.follow(*task, member, wanted);
            }
        }
        for task in &tasks {
            // Who has worked on it has its state.
            if let Some(member) = self.was_active.get(task).copied() {
                self.follow(*task, member, wanted);
            }
        }
        let mut by_load: BTreeSet<_> =
            (0..self.load.len()).map(|member| (self.load_of(member), member)).collect();
        for task in &tasks {
            while self.standby.get(task).map_or(0, Vec::len) < wanted {
                let free = by_load.iter().find(|(_, member)| self.may_follow(*task, *member));
                let Some((load, member)) = free.copied() else { break };
                self.follow(*task, member, wanted);
                by_load.remove(&(load, member));
                by_load.insert((load + 1, member));
            }
        }
        self.balance(&tasks, &mut by_load);
    }

    /// Makes a member a standby, if it may be one and one more is wanted.
    fn follow(&mut self, task: Task, member: Place, wanted: usize) {
        let count = self.standby.get(&task).map_or(0, Vec::len);
        if count < wanted && self.may_follow(task, member) {
            self.standby.entry(task).or_default().push(member);
            self.add(member);
        }
    }

    /// Whether the member's process does not have the task yet.
    fn may_follow(&self, task: Task, member: Place) -> bool {
        let process = self.process_of(member);
        let active = self.active.get(&task);
        let all = active.into_iter().chain(self.standby.get(&task).into_iter().flatten());
        all.into_iter().all(|other| self.process_of(*other) != process)
    }

    /// Moves standbys while that makes the difference of two members smaller. Each move makes the sum of
    /// the squares of all loads smaller, so that there is an end to it.
    fn balance(&mut self, tasks: &[Task], by_load: &mut BTreeSet<(usize, Place)>) {
        loop {
            let mut moved = false;
            for task in tasks {
                for nth in 0..self.standby.get(task).map_or(0, Vec::len) {
                    moved |= self.move_one(*task, nth, by_load);
                }
            }
            if !moved {
                return;
            }
        }
    }

    fn move_one(&mut self, task: Task, nth: usize, by_load: &mut BTreeSet<(usize, Place)>) -> bool {
        let Some(from) = self.standby.get(&task).and_then(|all| all.get(nth)).copied() else {
            return false;
        };
        let load = self.load_of(from);
        let less = by_load.iter().take_while(|(other, _)| other + 1 < load);
        // Within its own process it may always move.
        let free =
            |to: Place| self.process_of(to) == self.process_of(from) || self.may_follow(task, to);
        let Some((less, to)) = less.copied().find(|(_, member)| free(*member)) else {
            return false;
        };
        if let Some(place) = self.standby.get_mut(&task).and_then(|all| all.get_mut(nth)) {
            *place = to;
        }
        for (member, before, after) in [(from, load, load - 1), (to, less, less + 1)] {
            by_load.remove(&(before, member));
            by_load.insert((after, member));
            if let Some(load) = self.load.get_mut(member) {
                *load = after;
            }
        }
        true
    }

    fn result(&self, problem: &Problem) -> BTreeMap<Arc<str>, Assignment> {
        let ids: Vec<_> = problem.parts.keys().collect();
        let mut result: Vec<_> = problem.members.iter().map(|_| Assignment::default()).collect();
        let standbys =
            self.standby.iter().flat_map(|(task, all)| all.iter().map(move |it| (task, it)));
        let all = self.active.iter().map(|(task, member)| (task, member, true));
        for ((part, index), member, is_active) in
            all.chain(standbys.map(|(task, member)| (task, member, false)))
        {
            let (Some(id), Some(of_member)) = (ids.get(*part), result.get_mut(*member)) else {
                continue;
            };
            let tasks = if is_active { &mut of_member.active } else { &mut of_member.standby };
            tasks.entry(Arc::clone(id)).or_default().insert(*index);
        }
        problem.members.iter().map(|member| Arc::clone(&member.id)).zip(result).collect()
    }
}
