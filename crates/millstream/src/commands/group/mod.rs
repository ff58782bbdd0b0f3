//! `millstream group ...`.

mod delete;
mod describe;
mod list;
mod reset;

use clap::Subcommand;

/// What can be done with consumer groups.
#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// List groups
    List(list::ListArgs),
    /// Show a group's members, offsets and lag
    Describe(describe::DescribeArgs),
    /// Change where a group goes on reading
    Reset(reset::ResetArgs),
    /// Delete groups with their offsets
    Delete(delete::DeleteArgs),
}

pub(super) async fn run(command: GroupCommand) -> anyhow::Result<()> {
    match command {
        GroupCommand::List(args) => list::run(args).await,
        GroupCommand::Describe(args) => describe::run(args).await,
        GroupCommand::Reset(args) => reset::run(args).await,
        GroupCommand::Delete(args) => delete::run(args).await,
    }
}
