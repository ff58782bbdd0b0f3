//! Until when members must be heard of, and what is known besides while they are. Only in memory: a
//! restart gives everybody a session from then on.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_types::Monotonic;

use super::hidden::Hidden;

/// The deadlines of a group's members.
#[derive(Clone, Debug, Default)]
pub(in crate::group) struct Times {
    of: BTreeMap<Arc<str>, Deadlines>,
    /// No deadline is earlier. May be too early, never too late.
    wake: Option<Monotonic>,
    /// The version of the topics that the group has looked at.
    pub(in crate::group) seen: Option<u64>,
    /// What members may not know of.
    pub(super) hidden: Hidden,
}

#[derive(Clone, Copy, Debug, Default)]
struct Deadlines {
    session: Option<Monotonic>,
    /// Until when it must have given up what it has to, and the epoch in which that began.
    revocation: Option<(i32, Monotonic)>,
    /// Until when a member of the classic protocol must have joined again, or sent its sync.
    round: Option<Monotonic>,
}

/// What a member failed to do in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::group) enum Due {
    /// It was not heard of.
    Session,
    /// It has not given up what it had to since it was in this epoch.
    Revocation(i32),
    /// It has not joined again, or not sent its sync.
    Round,
}

impl Times {
    pub(in crate::group) fn heard(&mut self, member: &Arc<str>, until: Monotonic) {
        self.of.entry(Arc::clone(member)).or_default().session = Some(until);
        self.wake_by(until);
    }

    /// Gives a member until `until` to give up what it has to; one that has begun to is not given
    /// more time.
    pub(in crate::group) fn revokes(&mut self, member: &Arc<str>, epoch: i32, until: Monotonic) {
        let deadlines = self.of.entry(Arc::clone(member)).or_default();
        if deadlines.revocation.is_none_or(|(begun, _)| begun != epoch) {
            deadlines.revocation = Some((epoch, until));
            self.wake_by(until);
        }
    }

    pub(in crate::group) fn has_revoked(&mut self, member: &str) {
        if let Some(deadlines) = self.of.get_mut(member) {
            deadlines.revocation = None;
        }
    }

    /// Gives a member of the classic protocol until `until` for its next step; one that has begun to
    /// take it is not given more time.
    pub(in crate::group) fn begin_round(&mut self, member: &Arc<str>, until: Monotonic) {
        let deadlines = self.of.entry(Arc::clone(member)).or_default();
        if deadlines.round.is_none() {
            deadlines.round = Some(until);
            self.wake_by(until);
        }
    }

    pub(in crate::group) fn end_round(&mut self, member: &str) {
        if let Some(deadlines) = self.of.get_mut(member) {
            deadlines.round = None;
        }
    }

    /// Whether the member's session has an end.
    pub(in crate::group) fn has_session(&self, member: &str) -> bool {
        self.of.get(member).is_some_and(|deadlines| deadlines.session.is_some())
    }

    pub(in crate::group) fn forget(&mut self, member: &str) {
        self.of.remove(member);
        self.hidden.forget(member);
    }

    /// When to look for deadlines that have come. May be too early, never too late.
    pub(in crate::group) const fn wake(&self) -> Option<Monotonic> {
        self.wake
    }

    fn wake_by(&mut self, until: Monotonic) {
        self.wake = Some(self.wake.map_or(until, |wake| wake.min(until)));
    }

    /// The earliest deadline of all.
    fn next(&self) -> Option<Monotonic> {
        self.of.values().filter_map(Deadlines::next).min()
    }

    /// Takes out the deadlines that have come.
    pub(in crate::group) fn take_due(&mut self, now: Monotonic) -> Vec<(Arc<str>, Due)> {
        let mut due = Vec::new();
        for (member, deadlines) in &mut self.of {
            if deadlines.session.is_some_and(|until| until <= now) {
                deadlines.session = None;
                due.push((Arc::clone(member), Due::Session));
            }
            if let Some((epoch, until)) = deadlines.revocation
                && until <= now
            {
                deadlines.revocation = None;
                due.push((Arc::clone(member), Due::Revocation(epoch)));
            }
            if deadlines.round.is_some_and(|until| until <= now) {
                deadlines.round = None;
                due.push((Arc::clone(member), Due::Round));
            }
        }
        self.of.retain(|_, deadlines| deadlines.next().is_some());
        self.wake = self.next();
        due
    }
}

impl Deadlines {
    fn next(&self) -> Option<Monotonic> {
        let revocation = self.revocation.map(|(_, until)| until);
        self.session.into_iter().chain(revocation).chain(self.round).min()
    }
}
