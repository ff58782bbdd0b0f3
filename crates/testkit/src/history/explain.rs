//! A violation in words: the rule, whom it is about, and where in the files that can be read.

use std::fmt::Write as _;

use super::recorded::{Recorded, Source};
use super::{
    Client, Epoch, Group, Kind, Operation, Outcome, Partition, Place, Step, Value, Violation,
};

/// As many operations are told of one violation.
const OPERATIONS_MAX: usize = 12;

/// What a violation is about.
#[derive(Debug, Default)]
struct Subjects {
    values: Vec<Value>,
    places: Vec<Place>,
    clients: Vec<Client>,
    /// Offsets of a group, and what it was told.
    offsets: Option<(Group, Partition)>,
    /// In an epoch, or in any.
    held: Option<(Group, Partition, Option<Epoch>)>,
}

fn subjects(violation: &Violation) -> Subjects {
    let none = Subjects::default;
    match violation {
        Violation::InconsistentOffset(at, one, other) => {
            Subjects { values: vec![*one, *other], places: vec![*at], ..none() }
        }
        Violation::Duplicate(value, one, other) => {
            Subjects { values: vec![*value], places: vec![*one, *other], ..none() }
        }
        Violation::NeverSent(value, at)
        | Violation::Lost(value, at)
        | Violation::AbortedRead(value, at)
        | Violation::EarlyRead(value, at) => {
            Subjects { values: vec![*value], places: vec![*at], ..none() }
        }
        Violation::Unseen(value, _) => Subjects { values: vec![*value], ..none() },
        Violation::PollSkipped(client, at, value) => {
            let next = Place { offset: at.offset.next(), ..*at };
            let (values, places) = (vec![*value], vec![*at, next]);
            Subjects { values, places, clients: vec![*client], ..none() }
        }
        Violation::PollWentBack(client, from, to) | Violation::SendWentBack(client, from, to) => {
            Subjects { places: vec![*from, *to], clients: vec![*client], ..none() }
        }
        Violation::TornTransaction(one, other) => Subjects { values: vec![*one, *other], ..none() },
        Violation::CircularFlow(values) => Subjects { values: values.clone(), ..none() },
        Violation::OffsetWentBack(group, partition, _) => {
            Subjects { offsets: Some((*group, *partition)), ..none() }
        }
        Violation::AbortedOffset(group, at) | Violation::NeverCommitted(group, at) => {
            Subjects { offsets: Some((*group, at.partition)), ..none() }
        }
        Violation::HeldTwice(group, partition, epoch, one, other) => {
            let held = Some((*group, *partition, Some(*epoch)));
            Subjects { held, clients: vec![*one, *other], ..none() }
        }
        Violation::CommittedByFormer(group, partition, former, client) => {
            let (offsets, held) = ((*group, *partition), (*group, *partition, None));
            let clients = vec![*former, *client];
            Subjects { offsets: Some(offsets), held: Some(held), clients, ..none() }
        }
        Violation::EpochWentBack(_, client, _, _) => Subjects { clients: vec![*client], ..none() },
    }
}

impl Recorded {
    /// The rule that is broken, and what was written down about it.
    #[must_use]
    pub fn explain(&self, violation: &Violation) -> String {
        let name = format!("{violation:?}");
        let rule = name.split('(').next().unwrap_or_default();
        let mut text = format!("{rule}: {violation}\n");
        let subjects = subjects(violation);
        let mut about: Vec<_> = (0..self.operations.len())
            .filter_map(|at| Some((at, self.steps(&self.operations[at], &subjects)?)))
            .collect();
        about.sort_by_key(|(at, _)| self.operations[*at].begun);
        let told = self.last_to_tell(&about, violation);
        let left_out = (about.len() - told.len(), about.len());
        for (at, steps) in &about[told] {
            // Writing to a string can't fail.
            let _ = writeln!(text, "  {}: {}", self.head(*at), steps.join("; "));
        }
        if left_out.0 > 0 {
            let _ = writeln!(text, "  ({} of {} operations are left out)", left_out.0, left_out.1);
        }
        text
    }

    /// Which operations to tell of. Where many commit and ask, the last, up to the answer that is wrong.
    fn last_to_tell(
        &self,
        about: &[(usize, Vec<String>)],
        violation: &Violation,
    ) -> std::ops::Range<usize> {
        let wrong = match violation {
            Violation::OffsetWentBack(group, partition, offset) => {
                Some((*group, *partition, *offset))
            }
            Violation::AbortedOffset(group, at) | Violation::NeverCommitted(group, at) => {
                Some((*group, at.partition, Some(at.offset)))
            }
            _ => None,
        };
        let is_wrong = |(at, _): &(usize, Vec<String>)| {
            self.operations[*at].steps.iter().any(|step| match step {
                Step::Fetch { group, partition, offset } => {
                    wrong == Some((*group, *partition, *offset))
                }
                _ => false,
            })
        };
        let end = about.iter().rposition(is_wrong).map_or(about.len(), |at| at + 1);
        let are_last = wrong.is_some() || matches!(violation, Violation::CommittedByFormer(..));
        let start = if are_last { end.saturating_sub(OPERATIONS_MAX) } else { 0 };
        start..end.min(start + OPERATIONS_MAX)
    }

    /// Client, kind, outcome, where it was written down, when, and what was broken meanwhile.
    fn head(&self, at: usize) -> String {
        let operation = &self.operations[at];
        let Source { file, lines, times, why } = &self.sources[at];
        let kind = match operation.kind {
            Kind::Plain => "",
            Kind::Transaction { .. } => " transaction",
        };
        let outcome = match operation.outcome {
            Outcome::Succeeded => "ok",
            Outcome::Failed => "failed",
            Outcome::Unknown => "unknown",
        };
        let mut text = format!("{file}:{}-{} {}", lines.0, lines.1, self.client(operation.client));
        let _ = write!(text, "{kind} {outcome} from {} to ", seconds(times.0));
        text.push_str(&times.1.map_or_else(|| "?".to_owned(), seconds));
        if !why.is_empty() {
            let _ = write!(text, " ({why})");
        }
        let until = times.1.unwrap_or(u64::MAX);
        for (when, what) in
            self.faults.iter().filter(|(when, _)| (times.0..until).contains(when)).take(3)
        {
            let _ = write!(text, " [{}: {what}]", seconds(*when));
        }
        text
    }

    /// The steps of an operation that have to do with it; nothing if none has.
    fn steps(&self, operation: &Operation, subjects: &Subjects) -> Option<Vec<String>> {
        let told = |step: &Step| self.step(operation.client, step, subjects);
        let steps: Vec<_> = operation.steps.iter().filter_map(told).collect();
        (!steps.is_empty()).then_some(steps)
    }

    fn step(&self, client: Client, step: &Step, subjects: &Subjects) -> Option<String> {
        let is_about = |at: Place, value: Value| {
            let is_its = subjects.clients.is_empty() || subjects.clients.contains(&client);
            subjects.values.contains(&value) || subjects.places.contains(&at) && is_its
        };
        match step {
            Step::Send { partition, value, offset } => {
                let at = offset.map(|offset| Place { partition: *partition, offset });
                let by_place = at.is_some_and(|at| is_about(at, *value));
                (by_place || subjects.values.contains(value)).then(|| {
                    let offset = offset.map_or("?".to_owned(), |offset| offset.to_string());
                    format!("sent {} to {}:{offset}", value.0, self.partition(*partition))
                })
            }
            Step::Poll { committed, records } => {
                let its = records.iter().filter(|(at, value)| is_about(*at, *value));
                let its: Vec<_> = its
                    .map(|(at, value)| {
                        format!(" {}:{}={}", self.partition(at.partition), at.offset, value.0)
                    })
                    .collect();
                let how = if *committed { "polled" } else { "polled uncommitted" };
                (!its.is_empty()).then(|| format!("{how}{}", its.concat()))
            }
            Step::Assign => None,
            Step::Hold { group, epoch, partition } => {
                let of = |held: (Group, Partition, Option<Epoch>)| {
                    (held.0, held.1) == (*group, *partition) && held.2.is_none_or(|it| it == *epoch)
                };
                let is_its = subjects.held.is_some_and(of)
                    || subjects.values.is_empty()
                        && subjects.places.is_empty()
                        && subjects.held.is_none()
                        && subjects.clients.contains(&client);
                is_its.then(|| {
                    let (group, partition) = (self.group(*group), self.partition(*partition));
                    format!("had {partition} in epoch {} of {group}", epoch.0)
                })
            }
            Step::Commit { group, place } => (subjects.offsets == Some((*group, place.partition)))
                .then(|| {
                    let at = self.partition(place.partition);
                    format!("committed {at}:{} for {}", place.offset, self.group(*group))
                }),
            Step::Fetch { group, partition, offset } => {
                (subjects.offsets == Some((*group, *partition))).then(|| {
                    let offset = offset.map_or("nothing".to_owned(), |offset| offset.to_string());
                    format!(
                        "was told {}:{offset} for {}",
                        self.partition(*partition),
                        self.group(*group)
                    )
                })
            }
        }
    }

    fn partition(&self, partition: Partition) -> String {
        let name = self.partitions.name(partition.0);
        name.map_or_else(|| "?".to_owned(), |(topic, number)| format!("{topic}-{number}"))
    }

    fn client(&self, client: Client) -> &str {
        self.clients.name(client.0).map_or("?", String::as_str)
    }

    fn group(&self, group: Group) -> &str {
        self.groups.name(group.0).map_or("?", String::as_str)
    }
}

fn seconds(nanoseconds: u64) -> String {
    format!("{}.{:06}", nanoseconds / 1_000_000_000, nanoseconds / 1_000 % 1_000_000)
}
