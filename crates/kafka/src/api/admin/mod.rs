//! Topics, partitions, configuration, the cluster.

pub(crate) mod alter_client_quotas;
pub(crate) mod alter_configs;
pub(crate) mod alter_partition_reassignments;
pub(crate) mod alter_replica_log_dirs;
pub(crate) mod alter_user_scram_credentials;
pub(crate) mod create_acls;
pub(crate) mod create_partitions;
pub(crate) mod create_topics;
pub(crate) mod delete_acls;
pub(crate) mod delete_records;
pub(crate) mod delete_topics;
pub(crate) mod describe_acls;
pub(crate) mod describe_client_quotas;
pub(crate) mod describe_cluster;
pub(crate) mod describe_configs;
pub(crate) mod describe_log_dirs;
pub(crate) mod describe_producers;
pub(crate) mod describe_quorum;
pub(crate) mod describe_topic_partitions;
pub(crate) mod describe_user_scram_credentials;
pub(crate) mod elect_leaders;
pub(crate) mod incremental_alter_configs;
pub(crate) mod list_config_resources;
pub(crate) mod list_partition_reassignments;
pub(crate) mod update_features;

use std::fmt::Display;

use millstream_broker::acl::Operation;
use millstream_broker::{Broker, ConfigTarget};
use millstream_wire::{ErrorCode, StrBytes};

use crate::api::authorize::Resource;
use crate::audit::detail;
use crate::connection::Close;
use crate::dispatch::Call;
use crate::errors::{Refusal, text};

/// Whether the client may do `operation` to the configuration of a resource of that type and name.
fn may_configure(
    call: &Call,
    operation: Operation,
    kind: i8,
    name: &StrBytes,
) -> Result<(), Refusal> {
    call.require(
        operation,
        match kind {
            2 => Resource::Topic(name),
            32 => Resource::Group(name),
            // Of brokers, loggers and client metrics; what else there may be is refused by itself.
            _ => Resource::Cluster,
        },
    )
}

/// Notes that configs of a resource were set or removed: which, and not to what.
fn note_configs<'a>(
    call: &Call,
    (kind, name): (i8, &StrBytes),
    error: ErrorCode,
    configs: impl Iterator<Item = &'a StrBytes>,
) {
    let kind = match kind {
        2 => "Topic",
        4 => "Broker",
        8 => "BrokerLogger",
        16 => "ClientMetrics",
        32 => "Group",
        _ => "Unknown",
    };
    let details = || configs.map(|name| detail(name, "set or removed")).collect();
    call.note_change(Operation::AlterConfigs, (kind, name), error, details);
}

/// What a config resource's type and name mean (`ConfigResource.Type`).
fn target(broker: &Broker, kind: i8, name: &StrBytes) -> Result<ConfigTarget, Refusal> {
    let owned = || name.as_str().to_owned();
    match kind {
        2 => match broker.check_topic_name(name) {
            Ok(()) => Ok(ConfigTarget::Topic(owned())),
            Err(error) => Err((ErrorCode::InvalidTopicException, text(&error))),
        },
        4 if name.is_empty() => Ok(ConfigTarget::Brokers),
        4 | 8 => {
            let number = name.as_str().parse().map_err(|_| {
                invalid(format_args!("a broker is named by its number, not `{name}`"))
            })?;
            Ok(if kind == 4 {
                ConfigTarget::Broker(number)
            } else {
                ConfigTarget::BrokerLogger(number)
            })
        }
        16 | 32 if name.is_empty() => {
            Err(invalid("groups and subscriptions to client metrics have names"))
        }
        16 => Ok(ConfigTarget::ClientMetrics(owned())),
        32 => Ok(ConfigTarget::Group(owned())),
        other => Err(invalid(format_args!("there is no config resource {other}"))),
    }
}

/// The most partitions that one request may name where each has an entry of its own in the answer,
/// which is a dozen times as long as its number in the request. No cluster has as many.
const NAMED_MAX: usize = 1_000_000;

/// Refuses a request that names partitions without end; `named` is how many of each topic.
fn bounded(named: impl Iterator<Item = usize>) -> Result<(), Close> {
    let (mut topics, mut partitions) = (0, 0);
    for count in named {
        topics += 1;
        partitions += count;
    }
    if topics + partitions <= NAMED_MAX {
        return Ok(());
    }
    let why = format!("a request names {topics} topics and {partitions} partitions");
    Err(Close::Refused(format!("{why}; {NAMED_MAX} together are the most")))
}

/// Whether topics can be made or deleted now, or the client has to wait. Before the version `strict_since`
/// it waits after it has been served (KIP-599).
fn may_mutate(call: &Call, strict_since: i16) -> Result<(), Refusal> {
    if call.may_mutate() || call.version < strict_since {
        return Ok(());
    }
    let why = "the quota of partitions that are made and deleted is used up: wait, and ask again";
    Err((ErrorCode::ThrottlingQuotaExceeded, StrBytes::from(why)))
}

/// The refusal of a request that means nothing.
fn invalid(why: impl Display) -> Refusal {
    (ErrorCode::InvalidRequest, text(&why))
}

/// What a value is refused with that is not there.
fn null(name: &StrBytes) -> Refusal {
    invalid(format_args!("`{name}` needs a value"))
}
