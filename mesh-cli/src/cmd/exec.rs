//! `mesh exec`: runs a command inside a pod with the caller's own standard streams.

use std::process::ExitCode;

use super::{Exchange, unexpected};
use crate::cli::Exec;
use crate::local::protocol::{Reply, Request, Target};
use crate::local::supervisor::run_local;

/// Runs the command; its exit code is ours.
pub(crate) fn run(flags: Exec) -> anyhow::Result<ExitCode> {
    let namespace = flags.pod.namespace.unwrap_or_else(|| "default".to_owned());
    let target = Target { namespace, workload: flags.pod.workload, container: flags.container };
    let request = Request::Exec { target, command: flags.command };
    run_local(async {
        let streams = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
        let mut exchange = Exchange::begin(&flags.mesh.name, &request, &streams).await?;
        match exchange.next().await? {
            Reply::Exit(code) => Ok(ExitCode::from(u8::try_from(code).unwrap_or(255))),
            reply => unexpected(&reply),
        }
    })
}
