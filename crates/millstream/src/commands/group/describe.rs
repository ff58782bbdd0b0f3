//! `millstream group describe`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use clap::Args;
use millstream_client::{
    Admin, Error, GroupDescription, GroupMember, Isolation, OffsetSpec, TopicPartition,
};
use millstream_wire::ErrorCode;
use serde::Serialize;

use crate::cli::ClusterArgs;
use crate::commands::admin;
use crate::output::{Table, human, show};

/// What `group describe` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  millstream group describe delays
  millstream group describe delays --json | jq .total_lag

The lag of a partition is how many offsets lie between what the group has committed and the end.")]
pub struct DescribeArgs {
    /// The group's name
    group: String,
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Serialize)]
struct Described {
    group: String,
    #[serde(rename = "type")]
    kind: &'static str,
    state: String,
    protocol_type: String,
    assignor: String,
    coordinator: i32,
    members: Vec<MemberLine>,
    partitions: Vec<PartitionLine>,
    total_lag: i64,
}

#[derive(Serialize)]
struct MemberLine {
    member_id: String,
    instance_id: Option<String>,
    client_id: String,
    host: String,
    partitions: usize,
}

#[derive(Serialize)]
struct PartitionLine {
    topic: String,
    partition: i32,
    committed_offset: Option<i64>,
    end_offset: Option<i64>,
    lag: Option<i64>,
    member_id: Option<String>,
    client_id: Option<String>,
    host: Option<String>,
}

pub(super) async fn run(args: DescribeArgs) -> anyhow::Result<()> {
    let admin = admin(&args.cluster).await?;
    let described = describe(&admin, &args.group).await?;
    show(args.cluster.json, &described, || described.text())
}

async fn describe(admin: &Admin, group: &str) -> Result<Described, Error> {
    let description = admin.describe_group(group).await?;
    let committed = admin.committed_offsets(group).await?;
    let readers: BTreeMap<_, _> = description
        .members
        .iter()
        .flat_map(|member| member.assignment.iter().map(move |of| (of.clone(), member)))
        .collect();
    let partitions: BTreeSet<_> = committed.keys().chain(readers.keys()).cloned().collect();
    let ends = ends(admin, &partitions).await?;
    let lines = partitions.into_iter().map(|of| {
        let committed = committed.get(&of).map(|committed| committed.offset.0);
        let end = ends.get(&of).copied();
        let reader = readers.get(&of);
        PartitionLine {
            committed_offset: committed,
            end_offset: end,
            lag: committed.zip(end).map(|(committed, end)| (end - committed).max(0)),
            member_id: reader.map(|member| member.id.clone()),
            client_id: reader.map(|member| member.client_id.clone()),
            host: reader.map(|member| member.host.clone()),
            topic: of.topic.to_string(),
            partition: of.partition,
        }
    });
    let partitions: Vec<_> = lines.collect();
    let total_lag = partitions.iter().filter_map(|line| line.lag).sum();
    let GroupDescription { id, kind, state, protocol_type, assignor, coordinator, members } =
        description;
    let members = members.into_iter().map(member_line).collect();
    Ok(Described {
        group: id,
        kind,
        state,
        protocol_type,
        assignor,
        coordinator,
        members,
        partitions,
        total_lag,
    })
}

/// Where partitions end. Those of topics that have been deleted are left out.
async fn ends(
    admin: &Admin,
    partitions: &BTreeSet<TopicPartition>,
) -> Result<BTreeMap<TopicPartition, i64>, Error> {
    let mut wanted = Vec::new();
    for of in partitions {
        match admin.cluster().topic(&of.topic).await {
            Ok(topic) if topic.partition(of.partition).is_some() => {
                wanted.push((of.clone(), OffsetSpec::Latest));
            }
            Ok(_) => {}
            Err(error) if error.code() == Some(ErrorCode::UnknownTopicOrPartition) => {}
            Err(error) => return Err(error),
        }
    }
    let found = admin.list_offsets(&wanted, Isolation::ReadUncommitted).await?;
    Ok(found.into_iter().filter_map(|(of, found)| Some((of, found.offset?.0))).collect())
}

fn member_line(member: GroupMember) -> MemberLine {
    MemberLine {
        member_id: member.id,
        instance_id: member.instance_id,
        client_id: member.client_id,
        host: member.host,
        partitions: member.assignment.len(),
    }
}

impl Described {
    fn text(&self) -> String {
        let members = human::counted(self.members.len() as i128, "member");
        let mut text = format!("group {}: {}, {members}", self.group, self.state);
        if !self.assignor.is_empty() {
            text.push_str(", assigned by ");
            text.push_str(&self.assignor);
        }
        let lag = if self.partitions.iter().any(|line| line.lag.is_some()) {
            human::counted(self.total_lag, "record")
        } else {
            "not known before offsets are committed".to_owned()
        };
        // Writing to a string can't fail.
        let _ = writeln!(text, "\nlag: {lag}");
        if self.partitions.is_empty() {
            text.push_str("\nno offsets are committed\n");
        } else {
            let _ = write!(text, "\n{}", self.partition_table());
        }
        let idle = self.members.iter().filter(|member| member.partitions == 0).count();
        if idle > 0 {
            let idle = human::counted(idle as i128, "member");
            let _ = writeln!(text, "\nwithout partitions: {idle}");
        }
        text
    }

    fn partition_table(&self) -> Table {
        let mut table = Table::new([
            "TOPIC",
            "#PARTITION",
            "#COMMITTED",
            "#END",
            "#LAG",
            "CLIENT",
            "HOST",
            "MEMBER",
        ]);
        let number = |number: Option<i64>| number.map_or_else(|| "-".to_owned(), human::count);
        let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        for line in &self.partitions {
            table.row([
                line.topic.clone(),
                line.partition.to_string(),
                number(line.committed_offset),
                number(line.end_offset),
                number(line.lag),
                text(&line.client_id),
                text(&line.host),
                text(&line.member_id),
            ]);
        }
        table
    }
}
