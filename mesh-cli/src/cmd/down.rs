//! `mesh down`: ends a mesh.

use std::process::ExitCode;

use super::Exchange;
use crate::cli::Down;
use crate::local::protocol::Request;
use crate::local::supervisor::run_local;
use crate::output::Output;

/// Runs the command; returns when the mesh is gone.
pub(crate) fn run(flags: &Down, output: &Output) -> anyhow::Result<ExitCode> {
    run_local(async {
        let mut exchange = Exchange::begin(&flags.mesh.name, &Request::Down, &[]).await?;
        exchange.finish(output).await?;
        // Its ports and its name are free only when the supervisor has ended.
        exchange.closed().await;
        Ok(ExitCode::SUCCESS)
    })
}
