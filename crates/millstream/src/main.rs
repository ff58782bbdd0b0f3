//! The program `millstream`.

use std::process::ExitCode;

use clap::Parser as _;
use millstream::cli::Cli;
use millstream::commands;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return commands::conclude(&Err(error.into())),
    };
    let outcome = runtime.block_on(commands::run(cli.command));
    // Nothing that still runs has anything to lose.
    runtime.shutdown_background();
    commands::conclude(&outcome)
}
