//! Whether the topics are as a topology needs them, and which are to be made.
//!
//! How many partitions a topic between two parts gets follows from what its writers read; where such
//! topics are joined with others, they all get as many. A topic that keeps state has one for each task.
//! What exists is never changed: where it does not fit, the application cannot run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use super::topology::{Copartition, InternalTopic, Subtopology, Topology};

/// What a member is told of the group besides its tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// What it is.
    pub code: StatusCode,
    /// The same for people.
    pub detail: String,
}

/// What may be said of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusCode {
    /// The member was started with an older topology than the group's.
    StaleTopology,
    /// Topics are missing that somebody else must make.
    MissingSources,
    /// Topics have other numbers of partitions than the topology needs.
    WrongPartitions,
    /// Topics are missing that the coordinator makes.
    MissingInternals,
    /// A member has asked the whole application to shut down.
    Shutdown,
    /// Tasks will be assigned, but not yet.
    Delayed,
}

/// How many names of topics a text names.
const NAMES_MAX: usize = 3;

/// The topics of a topology, as of now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::group) struct Configured {
    /// The parts, by id; none where [`Configured::problem`] is of another kind than missing topics
    /// that the coordinator makes.
    pub(in crate::group) parts: BTreeMap<Arc<str>, Part>,
    /// What is to be made.
    pub(in crate::group) missing: Vec<InternalTopic>,
    /// Why there are no tasks.
    pub(in crate::group) problem: Option<Status>,
}

/// A part of a topology, with numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::group) struct Part {
    /// How many tasks it has.
    pub(in crate::group) tasks: i32,
    /// Whether it has state.
    pub(in crate::group) stateful: bool,
    /// How many partitions each topic has that the coordinator makes.
    pub(in crate::group) internals: BTreeMap<Arc<str>, i32>,
}

/// Why a topology can't be: it is the application's mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::group) struct Impossible(pub(in crate::group) String);

enum Failure {
    Impossible(Impossible),
    Problem(Status),
}

impl Configured {
    /// Whether there are tasks to assign.
    pub(in crate::group) fn is_ready(&self) -> bool {
        self.problem.is_none()
    }
}

/// Numbers of partitions: of topics that exist, and of those that have been decided.
struct Counts<'a> {
    existing: &'a dyn Fn(&str) -> Option<i32>,
    decided: BTreeMap<Arc<str>, i32>,
}

impl Counts<'_> {
    fn of(&self, topic: &str) -> Option<i32> {
        (self.existing)(topic).or_else(|| self.decided.get(topic).copied())
    }
}

/// Looks at the topics; `existing` tells how many partitions those have that there are.
///
/// # Errors
///
/// When the topology contradicts itself, whatever topics there are.
pub(in crate::group) fn configure(
    topology: &Topology,
    existing: &dyn Fn(&str) -> Option<i32>,
) -> Result<Configured, Impossible> {
    match decide(topology, existing) {
        Ok(configured) => Ok(configured),
        Err(Failure::Impossible(why)) => Err(why),
        Err(Failure::Problem(problem)) => {
            Ok(Configured { problem: Some(problem), ..Configured::default() })
        }
    }
}

fn decide(
    topology: &Topology,
    existing: &dyn Fn(&str) -> Option<i32>,
) -> Result<Configured, Failure> {
    let parts = &topology.subtopologies;
    let sources: BTreeSet<_> = parts.values().flat_map(|part| &part.sources).collect();
    let missing: Vec<_> = sources.into_iter().filter(|name| existing(name).is_none()).collect();
    if !missing.is_empty() {
        let detail = format!("Source topics {} are missing.", named(&missing));
        return Err(Failure::Problem(Status { code: StatusCode::MissingSources, detail }));
    }
    let mut counts = Counts { existing, decided: repartition_counts(topology, existing)? };
    for part in parts.values() {
        for group in &part.copartitions {
            copartition(part, group, &mut counts)?;
        }
    }
    let mut configured = Configured::default();
    let mut wanted: BTreeMap<&Arc<str>, InternalTopic> = BTreeMap::new();
    for (id, part) in parts {
        let tasks = part.inputs().filter_map(|name| counts.of(name)).max();
        let tasks = tasks.ok_or_else(|| impossible(format!("Subtopology {id} reads nothing.")))?;
        let mut internals = BTreeMap::new();
        for topic in &part.repartitions {
            let decided = counts.decided.get(&topic.name).copied().unwrap_or(tasks);
            internals.insert(Arc::clone(&topic.name), decided);
        }
        for topic in &part.changelogs {
            internals.insert(Arc::clone(&topic.name), tasks);
        }
        for topic in part.internals() {
            let partitions = internals.get(&topic.name).copied().unwrap_or(tasks);
            wanted.insert(&topic.name, InternalTopic { partitions, ..topic.clone() });
        }
        let stateful = !part.changelogs.is_empty();
        configured.parts.insert(Arc::clone(id), Part { tasks, stateful, internals });
    }
    for (name, topic) in wanted {
        match existing(name) {
            None => configured.missing.push(topic),
            Some(found) if found != topic.partitions => {
                let expected = topic.partitions;
                return Err(wrong(format!(
                    "Existing topic {name} has different number of partitions: expected \
                     {expected}, found {found}"
                )));
            }
            Some(_) => {}
        }
    }
    if !configured.missing.is_empty() {
        let names: Vec<_> = configured.missing.iter().map(|topic| &topic.name).collect();
        let detail = format!("Internal topics are missing: {}", named(&names));
        configured.problem = Some(Status { code: StatusCode::MissingInternals, detail });
    }
    Ok(configured)
}

/// How many partitions each topic between parts gets: what its topology says, or as many as the
/// largest that a writer of it reads.
fn repartition_counts(
    topology: &Topology,
    existing: &dyn Fn(&str) -> Option<i32>,
) -> Result<BTreeMap<Arc<str>, i32>, Failure> {
    let parts = &topology.subtopologies;
    let fixed = parts.values().flat_map(|part| &part.repartitions);
    let fixed = fixed.filter(|topic| topic.partitions != 0);
    let mut counts: BTreeMap<Arc<str>, i32> =
        fixed.map(|topic| (Arc::clone(&topic.name), topic.partitions)).collect();
    loop {
        let (mut known, mut open) = (false, false);
        for part in parts.values() {
            for sink in &part.sinks {
                if counts.contains_key(sink) {
                    continue;
                }
                let between = part.repartitions.iter().filter_map(|it| counts.get(&it.name));
                let external = part.sources.iter().filter_map(|name| existing(name));
                match between.copied().chain(external).max() {
                    Some(count) => {
                        counts.insert(Arc::clone(sink), count);
                        known = true;
                    }
                    None => open = true,
                }
            }
        }
        match (open, known) {
            (false, _) => break,
            (true, true) => {}
            (true, false) => {
                return Err(impossible(
                    "Failed to compute number of partitions for all repartition topics. There may \
                     be loops in the topology that cannot be resolved."
                        .to_owned(),
                ));
            }
        }
    }
    let mut read = parts.values().flat_map(|part| &part.repartitions);
    match read.find(|topic| !counts.contains_key(&topic.name)) {
        None => Ok(counts),
        Some(unwritten) => Err(impossible(format!(
            "Failed to compute number of partitions for all repartition topics, because a \
             repartition source topic is never used as a sink topic: {}.",
            unwritten.name
        ))),
    }
}

/// Gives topics that are joined the same number of partitions, or says why that can't be.
fn copartition(
    part: &Subtopology,
    group: &Copartition,
    counts: &mut Counts<'_>,
) -> Result<(), Failure> {
    let external: BTreeMap<_, _> = places(&group.sources, &part.sources)?
        .map(|name| (name, counts.of(name).unwrap_or_default()))
        .collect();
    let between: Vec<_> = places(&group.repartitions, &part.repartitions)?.collect();
    let of_between = between.iter().map(|topic| {
        let count = counts.of(&topic.name).unwrap_or_default();
        (*topic, count)
    });
    let of_between: Vec<(&InternalTopic, i32)> = of_between.collect();
    let fixed = of_between.iter().filter(|(topic, _)| topic.partitions != 0);
    let fixed: BTreeMap<_, _> = fixed.map(|(topic, count)| (&topic.name, *count)).collect();
    let same = |of: &BTreeMap<&Arc<str>, i32>| {
        let first = of.values().next().copied();
        if of.values().all(|count| Some(*count) == first) {
            return Ok(first);
        }
        let listed: Vec<_> = of.iter().map(|(name, count)| format!("{name}={count}")).collect();
        Err(wrong(format!(
            "Following topics do not have the same number of partitions: [{}]",
            listed.join(", ")
        )))
    };
    let decided = match (same(&external)?, same(&fixed)?) {
        (Some(external), _) => external,
        (None, Some(fixed)) => fixed,
        (None, None) => match of_between.iter().map(|(_, count)| *count).max() {
            Some(most) => most,
            None => return Ok(()),
        },
    };
    for (topic, count) in of_between {
        if topic.partitions != 0 && count != decided {
            return Err(wrong(format!(
                "Number of partitions [{count}] of repartition topic [{}] doesn't match number of \
                 partitions [{decided}] of the source topic.",
                topic.name
            )));
        }
        counts.decided.insert(Arc::clone(&topic.name), decided);
    }
    Ok(())
}

/// What a list has in some places.
fn places<'a, T>(
    places: &'a [i16],
    list: &'a [T],
) -> Result<impl Iterator<Item = &'a T> + use<'a, T>, Failure> {
    let found = |place: &i16| usize::try_from(*place).ok().and_then(|place| list.get(place));
    if places.iter().any(|place| found(place).is_none()) {
        return Err(impossible("A copartition group names a topic that is not there.".to_owned()));
    }
    Ok(places
        .iter()
        .filter_map(move |place| usize::try_from(*place).ok().and_then(|it| list.get(it))))
}

fn impossible(why: String) -> Failure {
    Failure::Impossible(Impossible(why))
}

fn wrong(detail: String) -> Failure {
    Failure::Problem(Status { code: StatusCode::WrongPartitions, detail })
}

/// Some names, and how many more there are.
fn named(names: &[&Arc<str>]) -> String {
    let shown: Vec<_> = names.iter().take(NAMES_MAX).map(|name| &***name).collect();
    let mut text = shown.join(", ");
    if names.len() > NAMES_MAX {
        let _ = write!(text, " and {} additional topics", names.len() - NAMES_MAX);
    }
    text
}
