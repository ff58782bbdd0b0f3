//! Whether a heartbeat is well-formed, before anybody looks at a group.

use std::sync::Arc;

use super::assign::Assignor;
use super::pattern::Pattern;
use crate::group::command::ConsumerHeartbeat;
use crate::group::reply::ConsumerHeartbeatError as Refused;
use crate::group::settings::ConsumerSettings;
use crate::host::HostFailure;
use crate::host::TEXT_LEN_MAX;

/// What the epoch of a heartbeat asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::group) enum Wish {
    /// To become a member, or to start anew.
    Join,
    /// To stay one.
    Stay,
    /// To be one no more.
    Leave,
    /// To be away for a while: a static member.
    Pause,
}

impl Wish {
    /// What an epoch asks for; `None` for one that means nothing.
    pub(in crate::group) const fn of(epoch: i32) -> Option<Self> {
        match epoch {
            0 => Some(Self::Join),
            1.. => Some(Self::Stay),
            -1 => Some(Self::Leave),
            -2 => Some(Self::Pause),
            _ => None,
        }
    }
}

pub(super) fn check(
    beat: &ConsumerHeartbeat,
    settings: &ConsumerSettings,
) -> Result<Wish, Refused> {
    if !settings.served {
        return Err(Refused::NotServed);
    }
    let filled = |text, why| not_empty(text, why).map_err(Refused::Invalid);
    filled(Some(&beat.group), "GroupId can't be empty.")?;
    filled(beat.instance.as_ref(), "InstanceId can't be empty.")?;
    filled(beat.rack.as_ref(), "RackId can't be empty.")?;
    let wish = Wish::of(beat.epoch).ok_or(Refused::Invalid("MemberEpoch is invalid."))?;
    if wish == Wish::Join {
        check_join(beat)?;
    } else {
        filled(Some(&beat.member), "MemberId can't be empty.")?;
    }
    if wish == Wish::Pause && beat.instance.is_none() {
        return Err(Refused::Invalid("InstanceId can't be null."));
    }
    check_assignor(beat, settings)?;
    check_texts(beat)?;
    if let Some(regex) = beat.regex.as_deref().filter(|regex| !regex.is_empty()) {
        Pattern::new(regex).map_err(Refused::InvalidRegex)?;
    }
    Ok(wish)
}

fn check_join(beat: &ConsumerHeartbeat) -> Result<(), Refused> {
    if beat.rebalance_timeout_ms < 0 {
        return Err(Refused::Invalid("RebalanceTimeoutMs must be provided in first request."));
    }
    if beat.owned.as_ref().is_none_or(|owned| !owned.is_empty()) {
        return Err(Refused::Invalid("TopicPartitions must be empty when (re-)joining."));
    }
    let names = beat.topics.as_ref().is_some_and(|topics| !topics.is_empty());
    // A consumer of nothing may join: it says so with an empty expression.
    if !names && beat.regex.is_none() {
        let why = "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when \
                   (re-)joining.";
        return Err(Refused::Invalid(why));
    }
    Ok(())
}

fn check_assignor(beat: &ConsumerHeartbeat, settings: &ConsumerSettings) -> Result<(), Refused> {
    let Some(name) = &beat.assignor else { return Ok(()) };
    let known = Assignor::named(name);
    if known.is_some_and(|known| settings.assignors().contains(&known)) {
        return Ok(());
    }
    let names: Vec<_> = settings.assignors().iter().map(|known| known.name()).collect();
    Err(Refused::UnsupportedAssignor { name: Arc::clone(name), known: names.join(", ") })
}

/// What is to be stored must fit its records.
fn check_texts(beat: &ConsumerHeartbeat) -> Result<(), Refused> {
    let optional = [&beat.instance, &beat.rack, &beat.regex];
    let texts = [&beat.group, &beat.member, &beat.client_id, &beat.client_host];
    let topics = beat.topics.iter().flatten();
    let all = texts.into_iter().chain(optional.into_iter().flatten()).chain(topics);
    if all.into_iter().all(|text| text.len() <= TEXT_LEN_MAX) {
        Ok(())
    } else {
        Err(Refused::Host(HostFailure::TooLarge))
    }
}

/// What is said is not empty.
pub(in crate::group) fn not_empty(
    text: Option<&Arc<str>>,
    why: &'static str,
) -> Result<(), &'static str> {
    if text.is_some_and(|text| text.is_empty()) { Err(why) } else { Ok(()) }
}
