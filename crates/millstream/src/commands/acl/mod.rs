//! `millstream acl ...`.

mod add;
mod list;
mod remove;

use clap::{Args, Subcommand};
use millstream_client::{AclFilter, AclPattern, AclResource, AclRule};
use serde::Serialize;

use crate::output::Table;

/// What can be done with access rules.
#[derive(Debug, Subcommand)]
pub enum AclCommand {
    /// Allow or deny something to somebody
    Add(add::AddArgs),
    /// List rules
    List(list::ListArgs),
    /// Remove rules
    Remove(remove::RemoveArgs),
}

pub(super) async fn run(command: AclCommand) -> anyhow::Result<()> {
    match command {
        AclCommand::Add(args) => add::run(args).await,
        AclCommand::List(args) => list::run(args).await,
        AclCommand::Remove(args) => remove::run(args).await,
    }
}

/// The name of the only cluster, as rules write it.
const CLUSTER_NAME: &str = "kafka-cluster";

/// To what.
#[derive(Debug, Args)]
#[group(id = "resource", multiple = true)]
struct ResourceArgs {
    /// A topic; `*` for all
    #[arg(long, value_name = "NAME")]
    topic: Vec<String>,
    /// A group; `*` for all
    #[arg(long, value_name = "NAME")]
    group: Vec<String>,
    /// A transactional id; `*` for all
    #[arg(long, value_name = "ID")]
    transactional_id: Vec<String>,
    /// The cluster
    #[arg(long)]
    cluster: bool,
}

impl ResourceArgs {
    /// All that are named.
    fn each(&self) -> Vec<(AclResource, &str)> {
        let named = [
            (AclResource::Topic, &self.topic),
            (AclResource::Group, &self.group),
            (AclResource::TransactionalId, &self.transactional_id),
        ];
        let named = named
            .into_iter()
            .flat_map(|(resource, names)| names.iter().map(move |name| (resource, name.as_str())));
        named.chain(self.cluster.then_some((AclResource::Cluster, CLUSTER_NAME))).collect()
    }

    /// `filter` for each that is named, or alone when none is.
    fn filters(&self, pattern: Option<AclPattern>, filter: &AclFilter) -> Vec<AclFilter> {
        let named = self.each();
        if named.is_empty() {
            return vec![AclFilter { pattern, ..filter.clone() }];
        }
        let of = |(resource, name): (AclResource, &str)| AclFilter {
            resource: Some(resource),
            // The cluster has one name.
            pattern: pattern.filter(|_| resource != AclResource::Cluster),
            name: Some(name.to_owned()),
            ..filter.clone()
        };
        named.into_iter().map(of).collect()
    }
}

/// A rule, for programs.
#[derive(Serialize)]
struct Shown {
    principal: String,
    permission: String,
    operation: String,
    resource: String,
    pattern: String,
    name: String,
    host: String,
}

impl From<&AclRule> for Shown {
    fn from(rule: &AclRule) -> Self {
        Self {
            principal: rule.principal.clone(),
            permission: rule.permission.to_string(),
            operation: rule.operation.to_string(),
            resource: rule.resource.to_string(),
            pattern: rule.pattern.to_string(),
            name: rule.name.clone(),
            host: rule.host.clone(),
        }
    }
}

/// Rules, for people.
fn table(rules: &[AclRule]) -> String {
    let mut table = Table::new(["PRINCIPAL", "MAY", "OPERATION", "RESOURCE", "NAME", "HOST"]);
    for rule in rules {
        let name = match rule.pattern {
            AclPattern::Prefixed => format!("{}...", rule.name),
            AclPattern::Literal | AclPattern::Match | AclPattern::Unknown => rule.name.clone(),
        };
        table.row([
            rule.principal.clone(),
            rule.permission.to_string(),
            rule.operation.to_string(),
            rule.resource.to_string(),
            name,
            rule.host.clone(),
        ]);
    }
    table.to_string()
}

fn shown(rules: &[AclRule]) -> Vec<Shown> {
    rules.iter().map(Shown::from).collect()
}
