//! `mesh logs`: what the containers of a pod have written.

use std::process::ExitCode;

use super::connector::Connector;
use crate::cli::Logs;
use crate::local::protocol::Target;
use crate::local::supervisor::run_local;
use crate::output::Output;

/// Runs the command.
pub(crate) fn run(flags: Logs, output: &Output) -> anyhow::Result<ExitCode> {
    run_local(async {
        let mesh = Connector::open(&flags.place).await?;
        let target = Target {
            namespace: mesh.namespace(flags.pod.namespace),
            workload: flags.pod.workload,
            container: flags.container,
        };
        mesh.logs(target, flags.follow, flags.tail, output).await?;
        Ok(ExitCode::SUCCESS)
    })
}
