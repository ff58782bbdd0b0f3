//! Whether a heartbeat is well-formed, before anybody looks at a group.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::topology::{InternalTopic, Topology};
use crate::cluster::check_name;
use crate::group::command::StreamsHeartbeat;
use crate::group::consumer::check::{Wish, not_empty};
use crate::group::reply::StreamsHeartbeatError as Refused;
use crate::group::settings::StreamsSettings;
use crate::host::{HostFailure, TEXT_LEN_MAX};

/// What a heartbeat asks for.
pub(super) fn check(beat: &StreamsHeartbeat, settings: &StreamsSettings) -> Result<Wish, Refused> {
    if !settings.served {
        return Err(Refused::NotServed);
    }
    let empty = |text, why| not_empty(text, why).map_err(|why| Refused::Invalid(why.into()));
    empty(Some(&beat.member), "MemberId can't be empty.")?;
    empty(Some(&beat.group), "GroupId can't be empty.")?;
    empty(beat.instance.as_ref(), "InstanceId can't be empty.")?;
    empty(beat.rack.as_ref(), "RackId can't be empty.")?;
    let wish = Wish::of(beat.epoch).ok_or_else(|| {
        let epoch = beat.epoch;
        Refused::Invalid(
            format!("MemberEpoch is {epoch}, but must be greater than or equal to -2.").into(),
        )
    })?;
    if wish == Wish::Join {
        check_join(beat)?;
    } else if beat.topology.is_some() {
        return Err(Refused::Invalid("Topology can only be provided when (re-)joining.".into()));
    }
    if wish == Wish::Pause && beat.instance.is_none() {
        return Err(Refused::Invalid("InstanceId can't be null.".into()));
    }
    check_texts(beat)?;
    Ok(wish)
}

fn check_join(beat: &StreamsHeartbeat) -> Result<(), Refused> {
    let invalid = |why: &'static str| Err(Refused::Invalid(why.into()));
    if beat.rebalance_timeout_ms < 0 {
        return invalid("RebalanceTimeoutMs must be provided in first request.");
    }
    let owned = beat.owned.as_ref();
    if owned.is_some_and(|owned| owned.each().next().is_some()) {
        return invalid(
            "ActiveTasks, StandbyTasks and WarmupTasks must be empty when (re-)joining.",
        );
    }
    match &beat.topology {
        None => invalid("Topology must be non-null when (re-)joining."),
        Some(topology) => check_topology(topology),
    }
}

fn check_topology(topology: &Topology) -> Result<(), Refused> {
    let refuse = |why: String| Err(Refused::InvalidTopology(why));
    if topology.epoch < 0 {
        return Err(Refused::InvalidTopologyEpoch(topology.epoch));
    }
    let mut known = BTreeSet::new();
    for (id, part) in &topology.subtopologies {
        if part.inputs().next().is_none() {
            return refuse(format!("No source topics found for subtopology {id}"));
        }
        if let Some(topic) = part.changelogs.iter().find(|topic| topic.partitions != 0) {
            return refuse(format!(
                "Changelog topic {} must have an undefined partition count, but it is set to {}.",
                topic.name, topic.partitions
            ));
        }
        if let Some(topic) = part.repartitions.iter().find(|topic| topic.partitions < 0) {
            return refuse(format!("Repartition topic {} has no such partitions.", topic.name));
        }
        let names = part.inputs().chain(&part.sinks);
        let names = names.chain(part.changelogs.iter().map(|topic| &topic.name));
        for name in names {
            if known.insert(name) && check_name(name).is_err() {
                return refuse(format!("Topic names {name} are not valid topic names."));
            }
        }
    }
    Ok(())
}

/// What is to be stored must fit its records.
fn check_texts(beat: &StreamsHeartbeat) -> Result<(), Refused> {
    let host = beat.endpoint.as_ref().map(|endpoint| &endpoint.host);
    let optional = beat.instance.iter().chain(&beat.rack).chain(&beat.process).chain(host);
    let tags = beat.tags.iter().flatten().flat_map(|(key, value)| [key, value]);
    let parts = beat.topology.iter().flat_map(|topology| &topology.subtopologies);
    let configs = |topic: &'_ InternalTopic| {
        topic
            .configs
            .iter()
            .all(|(key, value)| key.len() <= TEXT_LEN_MAX && value.len() <= TEXT_LEN_MAX)
    };
    let topology_fits = parts
        .into_iter()
        .all(|(id, part)| id.len() <= TEXT_LEN_MAX && part.internals().all(configs));
    let texts: [&Arc<str>; 4] = [&beat.group, &beat.member, &beat.client_id, &beat.client_host];
    let all = texts.into_iter().chain(optional).chain(tags);
    if topology_fits && all.into_iter().all(|text| text.len() <= TEXT_LEN_MAX) {
        Ok(())
    } else {
        Err(Refused::Host(HostFailure::TooLarge))
    }
}
