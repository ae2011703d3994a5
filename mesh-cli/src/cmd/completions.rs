//! `mesh completions`: completion scripts for shells.

use std::process::ExitCode;

use clap::CommandFactory as _;

use crate::cli::{Cli, Completions};

/// Runs the command.
pub(crate) fn run(flags: &Completions) -> anyhow::Result<ExitCode> {
    clap_complete::generate(flags.shell, &mut Cli::command(), "mesh", &mut std::io::stdout());
    Ok(ExitCode::SUCCESS)
}
