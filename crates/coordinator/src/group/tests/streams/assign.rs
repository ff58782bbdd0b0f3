//! Who is to have which tasks: tables, and laws on random groups.

use proptest::prelude::*;

use super::super::super::streams::assign::{Candidate, Problem, assign};
use super::*;

/// Tasks of `0_0 1_3`.
fn tasks(text: &str) -> Tasks {
    let mut tasks = Tasks::new();
    for word in text.split_whitespace() {
        let (id, index) = word.split_once('_').unwrap();
        tasks.entry(Arc::from(id)).or_default().insert(index.parse().unwrap());
    }
    tasks
}

/// Parts as `0=4 1=4*` (with state), members as `a@p: 0_0 0_1 | 1_0; b@q`.
fn problem(parts: &str, standbys: usize, members: &str) -> Problem {
    let parts = parts.split_whitespace().map(|word| {
        let (id, count) = word.split_once('=').unwrap();
        let stateful = count.ends_with('*');
        (Arc::from(id), (count.trim_end_matches('*').parse().unwrap(), stateful))
    });
    let members = members.split(';').map(str::trim).filter(|it| !it.is_empty()).map(|member| {
        let (who, had) = member.split_once(':').unwrap_or((member, ""));
        let (id, process) = who.trim().split_once('@').unwrap();
        let (active, standby) = had.split_once('|').unwrap_or((had, ""));
        let had =
            Assignment { active: tasks(active), standby: tasks(standby), warmup: Tasks::new() };
        Candidate { id: Arc::from(id), process: Arc::from(process), had: Arc::new(had) }
    });
    Problem { parts: parts.collect(), standbys, members: members.collect() }
}

#[track_caller]
fn check(parts: &str, standbys: usize, members: &str, expected: &str) {
    let problem = problem(parts, standbys, members);
    let solution = assign(&problem);
    check_laws(&problem, &solution);
    let shown = solution.iter().map(|(id, it)| {
        let standby = shown(&it.standby);
        let standby = if standby.is_empty() { standby } else { format!(" | {standby}") };
        format!("{id}: {}{standby}", shown(&it.active))
    });
    let all: Vec<_> = shown.collect();
    assert_eq!(all.join("; "), expected, "{parts}, {standbys} standbys, {members}");
}

#[test]
fn nobody_and_nothing() {
    check("", 1, "a@p", "a: ");
    assert!(assign(&problem("0=3", 1, "")).is_empty());
}

#[test]
fn tasks_are_spread() {
    check("0=3", 0, "a@p", "a: 0_0 0_1 0_2");
    check("0=4", 0, "a@p; b@q", "a: 0_0 0_2; b: 0_1 0_3");
    // The same partition of both parts is with one member.
    check("0=2 1=2", 0, "a@p; b@q", "a: 0_0 1_0; b: 0_1 1_1");
    // One task: one of two threads of a process has it, and not two of them first.
    check("0=2", 0, "a1@p; a2@p; b@q", "a1: 0_0; a2: ; b: 0_1");
    check("0=5", 0, "a1@p; a2@p; b@q", "a1: 0_0 0_4; a2: 0_2; b: 0_1 0_3");
}

#[test]
fn tasks_stay_where_they_are() {
    check("0=4", 0, "a@p: 0_0 0_1; b@q: 0_2 0_3", "a: 0_0 0_1; b: 0_2 0_3");
    check("0=3", 0, "a@p: 0_2; b@q: 0_0 0_1", "a: 0_2; b: 0_0 0_1");
    // A newcomer gets its share and no more is moved.
    check("0=4", 0, "a@p: 0_0 0_1; b@q: 0_2 0_3; c@r", "a: 0_0 0_1; b: 0_2; c: 0_3");
    // What a member had is given to the others.
    check("0=4", 0, "a@p: 0_0 0_1", "a: 0_0 0_1 0_2 0_3");
    // Those with state are shared out by themselves.
    check("0=2 1=2*", 0, "a@p: 0_0 0_1 1_0 1_1; b@q", "a: 0_0 1_0; b: 0_1 1_1");
    check("0=3 1=1*", 0, "a@p: 0_0 0_1 0_2 1_0; b@q", "a: 0_0 1_0; b: 0_1 0_2");
    // What there is no more is forgotten.
    check("0=1", 0, "a@p: 0_0 0_7 9_9; b@q: 0_1", "a: 0_0; b: ");
    // What two had (it can't be, but records may say so) one has.
    check("0=2", 0, "a@p: 0_0; b@q: 0_0 0_1", "a: 0_0; b: 0_1");
}

#[test]
fn tasks_go_to_where_their_state_is() {
    // The standby takes over from who is gone.
    check("0=3*", 0, "a@p; b@q: 0_1 | 0_0; c@r: | 0_2", "a: 0_0; b: 0_1; c: 0_2");
    check("0=2*", 0, "a@p; b@q: 0_1 | 0_0", "a: 0_0; b: 0_1");
    check("0=2*", 0, "a@p; b@q: | 0_1; c@r: | 0_0", "a: ; b: 0_1; c: 0_0");
    // Another thread of its process has the state on the same disk.
    check("0=3*", 0, "a@p: 0_0 0_1 0_2; b@q; c@p", "a: 0_0; b: 0_2; c: 0_1");
    // But nothing is gained by that where there is no state.
    check("0=3", 0, "a@p: 0_0 0_1 0_2; b@q; c@p", "a: 0_0; b: 0_1; c: 0_2");
}

#[test]
fn standbys() {
    // None without another process, and none without state.
    check("0=2*", 1, "a@p; b@p", "a: 0_0; b: 0_1");
    check("0=2", 1, "a@p; b@q", "a: 0_0; b: 0_1");
    check("0=2*", 1, "a@p; b@q", "a: 0_0 | 0_1; b: 0_1 | 0_0");
    check("0=1*", 2, "a@p; b@q; c@r", "a: 0_0; b:  | 0_0; c:  | 0_0");
    check("0=1*", 2, "a@p; b@q; c@q", "a: 0_0; b:  | 0_0; c: ");
    // They stay.
    check("0=2*", 1, "a@p: 0_0; b@q: 0_1; c@r: | 0_0 0_1", "a: 0_0; b: 0_1; c:  | 0_0 0_1");
    // Who hands a task over follows it.
    check("0=2*", 1, "a@p: 0_0 0_1; b@q: | 0_0 0_1", "a: 0_0 | 0_1; b: 0_1 | 0_0");
    // Fewer are wanted than there were.
    check("0=1*", 1, "a@p: 0_0; b@q: | 0_0; c@r: | 0_0", "a: 0_0; b:  | 0_0; c: ");
    check("0=1*", 0, "a@p: 0_0; b@q: | 0_0", "a: 0_0; b: ");
}

/// What must hold of every assignment.
fn check_laws(problem: &Problem, solution: &BTreeMap<Arc<str>, Assignment>) {
    let mut active = BTreeMap::new();
    let mut standbys: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let process_of: BTreeMap<_, _> =
        problem.members.iter().map(|it| (&it.id, Arc::clone(&it.process))).collect();
    let (mut counts, mut stateful) = (Vec::new(), Vec::new());
    for (id, tasks) in solution {
        let process = &process_of[id];
        for (part, indexes) in &tasks.active {
            for index in indexes {
                let former = active.insert((Arc::clone(part), *index), Arc::clone(process));
                assert!(former.is_none(), "{part}_{index} is active twice");
            }
        }
        for (part, indexes) in &tasks.standby {
            for index in indexes {
                let of_task = standbys.entry((Arc::clone(part), *index)).or_default();
                of_task.push(Arc::clone(process));
            }
        }
        assert!(tasks.warmup.is_empty());
        let has_state = |part: &Arc<str>| problem.parts[part].1;
        let each = tasks.active.iter().map(|(part, all)| (all.len(), has_state(part)));
        let with_state = each.clone().filter(|(_, has_state)| *has_state);
        let sum =
            |counts: &mut dyn Iterator<Item = (usize, bool)>| counts.map(|it| it.0).sum::<usize>();
        counts.push(sum(&mut each.clone()));
        stateful.push(sum(&mut with_state.clone()));
    }
    for counts in [counts, stateful] {
        let (most, least) = (counts.iter().max(), counts.iter().min());
        assert!(most <= least.map(|least| least + 1).as_ref(), "balanced within one: {counts:?}");
    }
    let processes: BTreeSet<_> = process_of.values().collect();
    let wanted = problem.standbys.min(processes.len().saturating_sub(1));
    for (part, (count, stateful)) in &problem.parts {
        for index in (0..*count).filter(|_| !problem.members.is_empty()) {
            let task = (Arc::clone(part), index);
            let holder = active.get(&task).expect("every task is active");
            let of_task = standbys.remove(&task).unwrap_or_default();
            let distinct: BTreeSet<_> = of_task.iter().chain([holder]).collect();
            assert_eq!(distinct.len(), of_task.len() + 1, "no process has {task:?} twice");
            assert_eq!(of_task.len(), if *stateful { wanted } else { 0 }, "standbys of {task:?}");
        }
    }
    assert!(standbys.is_empty(), "standbys of what there is not: {standbys:?}");
}

/// Members after an assignment.
fn after(problem: &Problem, solution: &BTreeMap<Arc<str>, Assignment>) -> Problem {
    let members = problem
        .members
        .iter()
        .map(|member| Candidate { had: Arc::new(solution[&member.id].clone()), ..member.clone() });
    Problem { members: members.collect(), ..problem.clone() }
}

fn problems() -> impl Strategy<Value = Problem> {
    let parts = prop::collection::vec((0..7_i32, any::<bool>()), 0..4);
    let members = prop::collection::vec((0..4_u8, had(), had()), 0..7);
    (parts, 0..3_usize, members).prop_map(|(parts, standbys, members)| {
        let parts = parts.into_iter().enumerate();
        let members = members.into_iter().enumerate().map(|(who, (process, active, standby))| {
            let had = Assignment { active, standby, warmup: Tasks::new() };
            Candidate {
                id: Arc::from(format!("m{who}")),
                process: Arc::from(format!("p{process}")),
                had: Arc::new(had),
            }
        });
        Problem {
            parts: parts.map(|(id, part)| (Arc::from(id.to_string()), part)).collect(),
            standbys,
            members: members.collect(),
        }
    })
}

fn had() -> impl Strategy<Value = Tasks> {
    prop::collection::vec((0..4_u8, 0..8_i32), 0..5).prop_map(|all| {
        let mut tasks = Tasks::new();
        for (part, index) in all {
            tasks.entry(Arc::from(part.to_string())).or_default().insert(index);
        }
        tasks
    })
}

proptest! {
    /// Whatever members had: the laws hold, and assigning again changes nothing.
    #[test]
    fn laws(problem in problems()) {
        let solution = assign(&problem);
        check_laws(&problem, &solution);
        let again = assign(&after(&problem, &solution));
        prop_assert_eq!(again, solution);
    }

    /// When a member goes, tasks with state stay where they are; those without do where there are none
    /// with. (Who takes over state may have to pass on a task without: that costs nothing.)
    #[test]
    fn who_stays_keeps_what_it_has(problem in problems(), gone in 0..7_usize) {
        let solution = assign(&problem);
        let mut less = after(&problem, &solution);
        if gone < less.members.len() {
            less.members.remove(gone);
        }
        let next = assign(&less);
        check_laws(&less, &next);
        for member in &less.members {
            let (before, now) = (&member.had.active, &next[&member.id].active);
            let is_any = problem.parts.values().any(|(_, has_state)| *has_state);
            let stays = |part: &Arc<str>| !is_any || problem.parts[part].1;
            let mut before = before.iter().filter(|(part, _)| stays(part));
            let kept = before.all(|(part, all)| {
                now.get(part).is_some_and(|now| all.is_subset(now))
            });
            prop_assert!(kept, "{} had {:?} and has {now:?}", member.id, member.had.active);
        }
    }
}
