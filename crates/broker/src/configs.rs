//! Configuration: what is set on topics, brokers, groups and client metrics, and what follows.

use std::sync::{Arc, PoisonError};

use millstream_coordinator::cluster::{ClusterState, Entry, Overrides, Resource};
use millstream_coordinator::config::{
    BrokerConfig, BrokerOverrides, Change, ConfigError, Described, Kind, Target, apply,
    check_group, describe, replace,
};
use millstream_log::CompactionSettings;
use millstream_types::BrokerId;
use tracing::info;

use crate::metadata::{ChangeError, MetadataError};
use crate::{Broker, Inner, group_settings};

/// What configuration is set on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigTarget {
    /// A topic, by name.
    Topic(String),
    /// All brokers.
    Brokers,
    /// One broker.
    Broker(i32),
    /// The log levels of one broker.
    BrokerLogger(i32),
    /// A subscription to client metrics.
    ClientMetrics(String),
    /// A group.
    Group(String),
}

/// Why configuration was not told or changed.
#[derive(Debug, thiserror::Error)]
pub enum ConfigsError {
    /// There is no such topic.
    #[error("there is no such topic")]
    NoTopic,
    /// This node knows only about itself.
    #[error("there is no broker {0} here")]
    NoBroker(i32),
    /// Log levels are set by the environment variable `MILLSTREAM_LOG` at the start.
    #[error("log levels can't be changed at run time; start with MILLSTREAM_LOG set")]
    NoLoggers,
    /// A name or value is wrong.
    #[error("{error}")]
    Config {
        /// What it was to be set on.
        kind: Kind,
        /// What is wrong with it.
        error: ConfigError,
    },
    /// The metadata can't be written.
    #[error(transparent)]
    Metadata(MetadataError),
}

impl Broker {
    /// Every group and every subscription to client metrics that something is set on.
    #[must_use]
    pub fn configured(&self) -> Vec<ConfigTarget> {
        let named = |resource: &Resource| match resource {
            Resource::Group(name) => Some(ConfigTarget::Group(name.clone())),
            Resource::ClientMetrics(name) => Some(ConfigTarget::ClientMetrics(name.clone())),
            Resource::Brokers | Resource::Broker(_) => None,
        };
        let in_state = |state: &ClusterState| {
            state.configured().filter_map(|(resource, _)| named(resource)).collect()
        };
        self.0.metadata.read(in_state)
    }

    /// Every setting of `target`, or those named by `keys`: value, source, meaning.
    ///
    /// # Errors
    ///
    /// When there is no such target.
    pub fn describe_configs(
        &self,
        target: &ConfigTarget,
        keys: Option<&[&str]>,
    ) -> Result<Vec<Described>, ConfigsError> {
        let kind = self.kind(target)?;
        self.0.metadata.read(|state| {
            let own = overrides_in(state, target)?;
            let broker = broker_overrides(&self.0.fixed, state, self.node().id);
            let target = match (target, kind) {
                (ConfigTarget::Brokers, _) => Target::Brokers(&broker),
                (_, Kind::Broker) => Target::Broker(&broker),
                (_, Kind::Topic) => Target::Topic(&own, &broker),
                (_, Kind::Group) => Target::Group(&own, &broker),
                (_, Kind::ClientMetrics) => Target::ClientMetrics(&own),
            };
            Ok(describe(target, keys))
        })
    }

    /// What `overrides` would make of a topic's settings.
    #[must_use]
    pub fn describe_topic_overrides(&self, overrides: &Overrides) -> Vec<Described> {
        self.0.metadata.read(|state| {
            let broker = broker_overrides(&self.0.fixed, state, self.node().id);
            describe(Target::Topic(overrides, &broker), None)
        })
    }

    /// Patches what is set on `target` (KIP-339).
    ///
    /// # Errors
    ///
    /// Nothing has changed then.
    pub async fn patch_configs(
        &self,
        target: &ConfigTarget,
        changes: Vec<Change>,
        only_validate: bool,
    ) -> Result<(), ConfigsError> {
        let kind = self.kind(target)?;
        let change = move |current| apply(kind, &current, &changes);
        self.set(target, kind, only_validate, change).await
    }

    /// Replaces all that is set on `target`.
    ///
    /// # Errors
    ///
    /// Nothing has changed then.
    pub async fn replace_configs(
        &self,
        target: &ConfigTarget,
        values: Vec<(String, String)>,
        only_validate: bool,
    ) -> Result<(), ConfigsError> {
        let kind = self.kind(target)?;
        self.set(target, kind, only_validate, move |_| replace(kind, values)).await
    }

    async fn set(
        &self,
        target: &ConfigTarget,
        kind: Kind,
        only_validate: bool,
        change: impl FnOnce(Overrides) -> Result<Overrides, ConfigError> + Send + 'static,
    ) -> Result<(), ConfigsError> {
        let target = target.clone();
        let config = self.config();
        let command = move |state: &ClusterState| -> Result<_, ConfigsError> {
            let current = overrides_in(state, &target)?;
            let refused = |error| ConfigsError::Config { kind, error };
            let overrides = change(current).map_err(refused)?;
            if kind == Kind::Group {
                check_group(&overrides, &config.consumer_groups, &config.streams_groups)
                    .map_err(refused)?;
            }
            Ok((vec![entry(state, &target, overrides)?], ()))
        };
        if only_validate {
            return self.0.metadata.read(command).map(|_| ());
        }
        Ok(self.change(command).await?)
    }

    fn kind(&self, target: &ConfigTarget) -> Result<Kind, ConfigsError> {
        match target {
            ConfigTarget::Broker(number) | ConfigTarget::BrokerLogger(number)
                if *number != self.node().id.0 =>
            {
                Err(ConfigsError::NoBroker(*number))
            }
            ConfigTarget::BrokerLogger(_) => Err(ConfigsError::NoLoggers),
            ConfigTarget::Topic(_) => Ok(Kind::Topic),
            ConfigTarget::Brokers | ConfigTarget::Broker(_) => Ok(Kind::Broker),
            ConfigTarget::ClientMetrics(_) => Ok(Kind::ClientMetrics),
            ConfigTarget::Group(_) => Ok(Kind::Group),
        }
    }
}

impl Inner {
    /// Follows changes of the brokers' own configuration.
    pub(crate) fn reconfigure(&self, state: &ClusterState, entries: &[Entry]) {
        let ours = Resource::Broker(self.node.id.0);
        let concerns = |entry: &Entry| match entry {
            Entry::OverridesSet { resource, .. } => {
                *resource == Resource::Brokers || *resource == ours
            }
            _ => false,
        };
        if !entries.iter().any(concerns) {
            return;
        }
        let config = Arc::new(broker_config(&self.fixed, state, self.node.id));
        let life = self.life();
        life.groups.configure(&group_settings(&config));
        life.transactions.configure(&config.transactions);
        life.log.set_compaction(compaction(&config));
        drop(life);
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        info!("broker configuration changed");
    }
}

impl From<ChangeError<Self>> for ConfigsError {
    fn from(error: ChangeError<Self>) -> Self {
        match error {
            ChangeError::Refused(error) => error,
            ChangeError::Metadata(error) => Self::Metadata(error),
        }
    }
}

/// The brokers' configuration, resolved for this node.
pub(crate) fn broker_config(
    fixed: &Overrides,
    state: &ClusterState,
    node: BrokerId,
) -> BrokerConfig {
    BrokerConfig::resolve(&broker_overrides(fixed, state, node))
}

/// What compaction goes by.
pub(crate) fn compaction(config: &BrokerConfig) -> CompactionSettings {
    CompactionSettings {
        is_on: config.compaction_is_on,
        keys_bytes: config.compaction_keys_bytes,
        bytes_per_second: config.compaction_rate,
        pause: config.compaction_pause,
    }
}

/// What was set at the start, then for all brokers, then for this one: the later wins.
fn broker_overrides(fixed: &Overrides, state: &ClusterState, node: BrokerId) -> BrokerOverrides {
    let set_on = |resource| state.overrides(&resource).cloned().unwrap_or_default();
    BrokerOverrides {
        node: set_on(Resource::Broker(node.0)),
        cluster: set_on(Resource::Brokers),
        start: fixed.clone(),
    }
}

fn overrides_in(state: &ClusterState, target: &ConfigTarget) -> Result<Overrides, ConfigsError> {
    if let ConfigTarget::Topic(name) = target {
        let topic = state.named(name).ok_or(ConfigsError::NoTopic)?;
        return Ok(topic.overrides.clone());
    }
    Ok(resource(target)
        .and_then(|resource| state.overrides(&resource))
        .cloned()
        .unwrap_or_default())
}

fn entry(
    state: &ClusterState,
    target: &ConfigTarget,
    overrides: Overrides,
) -> Result<Entry, ConfigsError> {
    if let ConfigTarget::Topic(name) = target {
        let id = state.named(name).ok_or(ConfigsError::NoTopic)?.id;
        return Ok(Entry::TopicOverridesSet { id, overrides });
    }
    let resource = resource(target).ok_or(ConfigsError::NoLoggers)?;
    Ok(Entry::OverridesSet { resource, overrides })
}

fn resource(target: &ConfigTarget) -> Option<Resource> {
    match target {
        ConfigTarget::Topic(_) | ConfigTarget::BrokerLogger(_) => None,
        ConfigTarget::Brokers => Some(Resource::Brokers),
        ConfigTarget::Broker(number) => Some(Resource::Broker(*number)),
        ConfigTarget::ClientMetrics(name) => Some(Resource::ClientMetrics(name.clone())),
        ConfigTarget::Group(name) => Some(Resource::Group(name.clone())),
    }
}
