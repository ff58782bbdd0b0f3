//! What a group has committed, as clients ask for it.

use millstream_testkit::history::{Client, Group, Outcome, Step};
use millstream_types::Offset;
use millstream_wire::ErrorCode;
use millstream_wire::messages::find_coordinator_request::FindCoordinatorRequest;
use millstream_wire::messages::offset_fetch_request::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};

use crate::drive::Topic;
use crate::history::partition;
use crate::rpc::{Link, Lost};
use crate::trace::note;
use crate::world::World;

/// The first version that asks for several groups.
const GROUPS_SINCE: i16 = 8;
/// The first version in which topics are named by their ids.
const IDS_SINCE: i16 = 10;

/// Who asks: as a member of a group, or as nobody in particular.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asker {
    pub(crate) member: Option<String>,
    pub(crate) epoch: i32,
}

/// The offset that a group has committed in a partition, stable ones only; an error when the answer is one.
pub(crate) async fn fetch(
    world: &World,
    link: &mut Link,
    client: Client,
    (name, group): (&str, Group),
    (topic, index): (&Topic, i32),
    (version, asker): (i16, &Asker),
) -> Result<Result<Option<Offset>, ErrorCode>, Lost> {
    let begun = world.history.moment();
    let mut request = OffsetFetchRequest { require_stable: true, ..Default::default() };
    if version >= GROUPS_SINCE {
        let mut asked =
            OffsetFetchRequestTopics { partition_indexes: vec![index], ..Default::default() };
        if version >= IDS_SINCE {
            asked.topic_id = topic.id;
        } else {
            asked.name = topic.name.into();
        }
        request.groups = vec![OffsetFetchRequestGroup {
            group_id: name.to_owned().into(),
            member_id: asker.member.clone().map(Into::into),
            member_epoch: if asker.member.is_some() { asker.epoch } else { -1 },
            topics: Some(vec![asked]),
        }];
    } else {
        request.group_id = name.to_owned().into();
        let (name, partition_indexes) = (topic.name.into(), vec![index]);
        request.topics = Some(vec![OffsetFetchRequestTopic { name, partition_indexes }]);
    }
    let response = link.call(&request, version).await?;
    let found = match response.groups.first() {
        Some(group) => {
            let topic = group.topics.first();
            let partition = topic.and_then(|topic| topic.partitions.first());
            partition.map_or((group.error_code, -1), |it| {
                (group.error_code.max(it.error_code), it.committed_offset)
            })
        }
        None => {
            let topic = response.topics.first();
            let partition = topic.and_then(|topic| topic.partitions.first());
            partition.map_or((response.error_code, -1), |it| {
                (response.error_code.max(it.error_code), it.committed_offset)
            })
        }
    };
    let error = ErrorCode::or_unknown(found.0);
    note!(world, "client {}: offset of {name} in {index}: {error:?} {}", client.0, found.1);
    if error != ErrorCode::None {
        return Ok(Err(error));
    }
    let offset = (found.1 >= 0).then_some(Offset(found.1));
    let partition = partition(topic.number, index);
    let step = Step::Fetch { group, partition, offset };
    world.history.plain(client, begun, Outcome::Succeeded, step);
    Ok(Ok(offset))
}

/// Has the coordinators of groups and of transactions set up, as clients do that look for them.
pub(crate) async fn find_coordinators(link: &mut Link, key: &str) -> Result<(), Lost> {
    for key_type in [0, 1] {
        let key = key.to_owned().into();
        let request = FindCoordinatorRequest { key, key_type, coordinator_keys: Vec::new() };
        link.call(&request, 3).await?;
    }
    Ok(())
}
