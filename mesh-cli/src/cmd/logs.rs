//! `mesh logs`: what the containers of a pod have written.

use std::process::ExitCode;

use super::{Exchange, unexpected};
use crate::cli::Logs;
use crate::local::protocol::{Reply, Request, Target};
use crate::local::supervisor::run_local;
use crate::output::Output;

/// Runs the command.
pub(crate) fn run(flags: Logs, output: &Output) -> anyhow::Result<ExitCode> {
    let target = Target { container: flags.container, ..Target::from(flags.pod) };
    let request = Request::Logs { target, follow: flags.follow, tail: flags.tail };
    run_local(async {
        let mut exchange = Exchange::begin(&flags.mesh.name, &request, &[]).await?;
        loop {
            match exchange.next().await? {
                Reply::Lines(lines) => lines.iter().for_each(|line| output.line(line)),
                Reply::Done => return Ok(ExitCode::SUCCESS),
                reply => return unexpected(&reply),
            }
        }
    })
}
