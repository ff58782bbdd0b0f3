//! What the program does, one file for each command.

pub mod acl;
pub mod backup;
pub mod cert;
pub mod completions;
pub mod consume;
pub mod group;
pub mod log;
pub mod position;
pub mod produce;
pub mod quota;
pub mod restore;
pub mod serve;
pub mod token;
pub mod topic;
pub mod user;

mod advice;
mod password;
mod private;
mod reach;

use std::io;
use std::process::ExitCode;

use millstream_client::{Admin, Cluster, ClusterSettings, LoginSettings};
use millstream_env::Env;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{ClusterArgs, Command};

/// Carries a command out.
///
/// # Errors
///
/// What stood in the way. [`conclude`] says it.
pub async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Serve(args) => Box::pin(serve::run(args)).await,
        Command::Topic(command) => Box::pin(topic::run(command)).await,
        Command::Produce(args) => Box::pin(produce::run(args)).await,
        Command::Consume(args) => Box::pin(consume::run(args)).await,
        Command::Group(command) => Box::pin(group::run(command)).await,
        Command::Acl(command) => Box::pin(acl::run(command)).await,
        Command::Quota(command) => Box::pin(quota::run(command)).await,
        Command::Token(command) => Box::pin(token::run(command)).await,
        Command::User(command) => Box::pin(user::run(command)).await,
        Command::Log(command) => Box::pin(log::run(command)).await,
        Command::Backup(args) => Box::pin(backup::run(args)).await,
        Command::Restore(args) => Box::pin(restore::run(args)).await,
        Command::Cert(command) => cert::run(command),
        Command::Completions(args) => completions::run(&args),
    }
}

/// Says on standard error what went wrong, if anything did, and what to do about it. The program
/// ends with 0 when all went well, with 1 when not; clap ends it with 2 when the command line is
/// wrong.
#[must_use]
pub fn conclude(outcome: &anyhow::Result<()>) -> ExitCode {
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    if is_broken_pipe(error) {
        // Whoever read the output (`head`, a pager) has seen enough.
        return ExitCode::SUCCESS;
    }
    let mut text = format!("error: {error:#}\n");
    if let Some(hint) = advice::for_error(error) {
        text.push_str("  hint: ");
        text.push_str(&hint);
        text.push('\n');
    }
    // Where standard error is closed, the exit code has to do.
    let _ = io::Write::write_all(&mut io::stderr(), text.as_bytes());
    ExitCode::FAILURE
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        let json = cause.downcast_ref::<serde_json::Error>();
        let json = json.and_then(serde_json::Error::io_error_kind);
        io.or(json) == Some(io::ErrorKind::BrokenPipe)
    })
}

/// The cluster that the command line names.
async fn connect(args: &ClusterArgs) -> anyhow::Result<Cluster> {
    let login = match &args.login {
        None => None,
        Some(user) => Some(LoginSettings {
            mechanism: args.login_mechanism,
            user: user.clone(),
            by_token: args.login_by_token,
            password: match &args.login_password_file {
                Some(path) => password::from_file(path)?,
                None => password::of_login(user)?,
            },
        }),
    };
    let env = Env::real(Handle::current());
    let settings = ClusterSettings {
        client_id: "millstream-cli".to_owned(),
        // A person is waiting.
        patience: std::time::Duration::from_secs(20),
        login,
        ..ClusterSettings::new(args.bootstrap.clone())
    };
    let connector = reach::connector(args, &env)?;
    Ok(Cluster::connect(env, connector, settings).await?)
}

async fn admin(args: &ClusterArgs) -> anyhow::Result<Admin> {
    Ok(Admin::new(connect(args).await?))
}

/// Completes when the program is to end: Ctrl-C, or SIGTERM.
async fn interrupted() {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            // Without a handler the signal ends the program, which is what is wanted.
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        Ok(()) = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}
