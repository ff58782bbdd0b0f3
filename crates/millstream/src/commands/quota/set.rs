//! `millstream quota set`.

use clap::Args;
use millstream_client::QuotaLimits;

use super::{Use, WhomArgs, check, rate, shown, table};
use crate::cli::ClusterArgs;
use crate::commands::admin;
use crate::output::show;

/// What `quota set` takes.
#[derive(Debug, Args)]
#[command(
    group(clap::ArgGroup::new("whose").required(true).multiple(true)
        .args(["user", "user_default", "client_id", "client_id_default", "ip", "ip_default"])),
    group(clap::ArgGroup::new("limit").required(true).multiple(true)
        .args(["bytes_in", "bytes_out", "requests", "mutations", "connections"])),
    after_help = "\
Examples:
  millstream quota set --user ann --bytes-in 10MB/s --bytes-out 20MB/s
  millstream quota set --user ann --client-id reports --requests 50%
  millstream quota set --client-id-default --bytes-in 1MiB/s
  millstream quota set --ip 192.0.2.7 --connections 10/s

The most specific quota counts: of the user and the client id, then of the user, then of the client id;
each before that of those that have none by name. All connections of whoever has it share it. Who has used
more is answered, told how long to wait, and left alone that long. What is not named stays as it is."
)]
pub struct SetArgs {
    #[command(flatten)]
    whom: WhomArgs,
    /// Bytes that may be produced in a second: 10MB/s, 10MiB/s
    #[arg(long, value_name = "RATE", value_parser = rate::bytes, help_heading = "Limits")]
    bytes_in: Option<f64>,
    /// Bytes that may be consumed in a second
    #[arg(long, value_name = "RATE", value_parser = rate::bytes, help_heading = "Limits")]
    bytes_out: Option<f64>,
    /// How much time of one core requests may take: 50%, 200%
    #[arg(long, value_name = "PERCENT", value_parser = rate::percent, help_heading = "Limits")]
    requests: Option<f64>,
    /// Partitions that may be made and deleted in a second: 5/s
    #[arg(long, value_name = "RATE", value_parser = rate::count, help_heading = "Limits")]
    mutations: Option<f64>,
    /// Connections that an address may open in a second: 10/s
    #[arg(long, value_name = "RATE", value_parser = rate::count, help_heading = "Limits")]
    connections: Option<f64>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

impl SetArgs {
    fn limits(&self) -> Vec<(Use, f64)> {
        let all = [
            (Use::BytesIn, self.bytes_in),
            (Use::BytesOut, self.bytes_out),
            (Use::Requests, self.requests),
            (Use::Mutations, self.mutations),
            (Use::Connections, self.connections),
        ];
        all.into_iter().filter_map(|(of, limit)| Some((of, limit?))).collect()
    }
}

pub(super) async fn run(args: SetArgs) -> anyhow::Result<()> {
    let (entity, limits) = (args.whom.entity(), args.limits());
    check(&entity, limits.iter().map(|(of, _)| *of))?;
    let limits: QuotaLimits =
        limits.into_iter().map(|(of, limit)| (of.key().to_owned(), limit)).collect();
    let changes = limits.iter().map(|(key, limit)| (key.clone(), Some(*limit))).collect();
    admin(&args.cluster).await?.alter_quotas(&entity, &changes).await?;
    show(args.cluster.json, &shown([(&entity, &limits)]), || table([(&entity, &limits)]))
}
