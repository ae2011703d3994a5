//! `mesh delete`: removes objects from a running mesh.

use std::process::ExitCode;
use std::time::Duration;

use super::connector::{Connector, Selected};
use super::{Failure, apply};
use crate::cli::Delete;
use crate::local::manifest;
use crate::local::supervisor::run_local;
use crate::output::Output;

/// Runs the command.
pub(crate) fn run(flags: &Delete, output: &Output) -> anyhow::Result<ExitCode> {
    let wait = flags.wait.then(|| Duration::from_secs(flags.timeout));
    run_local(async {
        let mesh = Connector::open(&flags.place).await?;
        let changes = mesh.delete(selected(flags, &mesh)?, wait, output).await?;
        apply::show(&changes, output)?;
        Ok(ExitCode::SUCCESS)
    })
}

fn selected(flags: &Delete, mesh: &Connector) -> anyhow::Result<Selected> {
    if !flags.files.is_empty() {
        return Ok(Selected::Objects(manifest::read(&flags.files)?));
    }
    match (&flags.kind, &flags.object) {
        (Some(kind), Some(name)) => Ok(Selected::Named {
            kind: kind.clone(),
            namespace: mesh.namespace(flags.namespace.clone()),
            name: name.clone(),
        }),
        _ => Err(Failure::Usage("delete needs -f, or KIND and NAME".to_owned()).into()),
    }
}
