//! `mesh exec`: runs a command inside a pod with the caller's own standard streams.

use std::process::ExitCode;

use super::connector::Connector;
use crate::cli::Exec;
use crate::local::protocol::Target;
use crate::local::supervisor::run_local;

/// Runs the command; its exit code is ours.
pub(crate) fn run(flags: Exec) -> anyhow::Result<ExitCode> {
    run_local(async {
        let mesh = Connector::open(&flags.place).await?;
        let target = Target {
            namespace: mesh.namespace(flags.pod.namespace),
            workload: flags.pod.workload,
            container: flags.container,
        };
        let code = mesh.exec(target, flags.command).await?;
        Ok(ExitCode::from(u8::try_from(code).unwrap_or(255)))
    })
}
