//! A group changes its type while it has members.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use millstream_types::Timestamp;

use super::draft::Draft;
use super::embedded;
use super::member::{About, Classic, Current, MemberState, Owned, Partitions};
use super::state::{ConsumerFact, ConsumerGroup, GroupEpoch, TargetEpoch};
use super::world::World;
use crate::group::live::Live;
use crate::group::members::Member as ClassicMember;
use crate::group::record::{Fact, StoredGroup, StoredMember};
use crate::group::subscription::PROTOCOL_TYPE;

/// A classic group as a consumer group: each member has what it was assigned last, and is to have it.
/// `None` when its members do not speak as consumers do.
pub(super) fn upgrade(id: &Arc<str>, live: &Live, world: &dyn World) -> Option<Draft> {
    if live.protocol_type.as_deref() != Some(PROTOCOL_TYPE) {
        return None;
    }
    let mut draft = Draft::of(id, ConsumerGroup::default());
    Fact::Group { group: Arc::clone(id), value: None }.put(&mut draft.records);
    let epoch = live.generation.max(0);
    let mut taken = BTreeSet::new();
    let mut members = Vec::new();
    for (member, classic) in live.members.iter() {
        let about = about(classic, live.protocol.as_deref(), world)?;
        // An assignor of theirs may have given a partition to two: the first has it here.
        let mut owned = Owned::new();
        for (topic, indexes) in embedded::assignment(&classic.assignment, world) {
            for index in indexes.into_iter().filter(|index| taken.insert((topic, *index))) {
                owned.entry(topic).or_default().insert(index, epoch);
            }
        }
        members.push((Arc::clone(member), about, owned));
    }
    for (member, about, _) in &members {
        draft.put(ConsumerFact::About(Arc::clone(member), Some(about.clone())));
    }
    draft.put(ConsumerFact::Epoch(Some(GroupEpoch { epoch, topics_hash: 0 })));
    for (member, _, owned) in &members {
        let target = super::member::partitions(owned);
        draft.put(ConsumerFact::Target(Arc::clone(member), Some(target)));
    }
    // No time: the next assignment need not wait.
    draft.put(ConsumerFact::TargetEpoch(Some(TargetEpoch { epoch, at: Timestamp(0) })));
    for (member, _, assigned) in members {
        let current = Current {
            epoch,
            previous_epoch: epoch,
            state: MemberState::Stable,
            assigned,
            revoking: Owned::new(),
        };
        draft.put(ConsumerFact::Current(member, Some(current)));
    }
    Some(draft)
}

fn about(member: &ClassicMember, protocol: Option<&str>, world: &dyn World) -> Option<About> {
    let protocols = member.protocols();
    let chosen = protocols.iter().find(|spoken| Some(&*spoken.name) == protocol);
    let said = &chosen.or_else(|| protocols.first())?.metadata;
    let subscription = embedded::subscription(said, world)?;
    let protocols = protocols.iter().map(|it| (Arc::clone(&it.name), it.metadata.clone()));
    Some(About {
        instance: member.instance.clone(),
        rack: subscription.rack,
        client_id: Arc::clone(&member.client_id),
        client_host: Arc::clone(&member.client_host),
        topics: subscription.topics,
        regex: None,
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        assignor: None,
        classic: Some(Classic {
            session_timeout_ms: member.session_timeout_ms,
            protocols: protocols.collect(),
        }),
    })
}

/// A consumer group whose members all speak the classic protocol, as a classic group in which each has
/// what it was to have.
pub(super) fn downgrade(group: &ConsumerGroup, since: Timestamp, world: &dyn World) -> StoredGroup {
    let protocol = common_protocol(group);
    let members = group.members().iter().map(|(id, member)| {
        let classic = member.about.classic.clone().unwrap_or_default();
        let spoken = classic.protocols.iter().find(|(name, _)| Some(name) == protocol.as_ref());
        let subscription = spoken.map_or_else(Bytes::new, |(_, said)| said.clone());
        let target = group.target_of(id).cloned().unwrap_or_else(|| Arc::new(Partitions::new()));
        StoredMember {
            member: Arc::clone(id),
            instance: member.about.instance.clone(),
            client_id: Arc::clone(&member.about.client_id),
            client_host: Arc::clone(&member.about.client_host),
            rebalance_timeout_ms: member.about.rebalance_timeout_ms,
            session_timeout_ms: classic.session_timeout_ms,
            assignment: embedded::write_assignment(&target, &subscription, world),
            subscription,
        }
    });
    let members: Vec<_> = members.collect();
    StoredGroup {
        protocol_type: Some(Arc::from(PROTOCOL_TYPE)),
        generation: group.group.epoch,
        protocol,
        leader: members.first().map(|member| Arc::clone(&member.member)),
        since: Some(since),
        members,
    }
}

/// A protocol that all members speak: that which the first of them likes best.
fn common_protocol(group: &ConsumerGroup) -> Option<Arc<str>> {
    let mut all = group.members().values().filter_map(|member| member.about.classic.as_ref());
    let first = all.next()?;
    let others: Vec<_> = all.collect();
    let speaks =
        |other: &Classic, name: &Arc<str>| other.protocols.iter().any(|(it, _)| it == name);
    let mut names = first.protocols.iter().map(|(name, _)| name);
    names.find(|name| others.iter().all(|other| speaks(other, name))).cloned()
}
