//! `millstream topic ...`.

mod alter;
mod create;
mod delete;
mod describe;
mod list;

use clap::Subcommand;

/// What can be done with topics.
#[derive(Debug, Subcommand)]
pub enum TopicCommand {
    /// Create topics
    Create(create::CreateArgs),
    /// List topics
    List(list::ListArgs),
    /// Show a topic's partitions and settings
    Describe(describe::DescribeArgs),
    /// Change a topic's settings, or add partitions
    Alter(alter::AlterArgs),
    /// Delete topics with all their records
    Delete(delete::DeleteArgs),
}

pub(super) async fn run(command: TopicCommand) -> anyhow::Result<()> {
    match command {
        TopicCommand::Create(args) => create::run(args).await,
        TopicCommand::List(args) => list::run(args).await,
        TopicCommand::Describe(args) => describe::run(args).await,
        TopicCommand::Alter(args) => alter::run(args).await,
        TopicCommand::Delete(args) => delete::run(args).await,
    }
}
