//! `mesh apply`: adds or changes objects of a running mesh.

use std::process::ExitCode;
use std::time::Duration;

use super::connector::Connector;
use crate::cli::Apply;
use crate::local::manifest;
use crate::local::protocol::Change;
use crate::local::supervisor::run_local;
use crate::output::Output;

/// Runs the command.
pub(crate) fn run(flags: &Apply, output: &Output) -> anyhow::Result<ExitCode> {
    let mut objects = manifest::read(&flags.files)?;
    let shown = super::show_problems(&flags.files, output);
    // As in a cluster, what is refused replaces nothing: the last good version also outlives a restart.
    objects.retain(|object| {
        let key = object.key();
        !shown.refused.contains(&(key.kind, key.namespace, key.name))
    });
    let wait = flags.wait.then(|| Duration::from_secs(flags.timeout));
    run_local(async {
        let mesh = Connector::open(&flags.place).await?;
        let changes = mesh.apply(objects, wait, output).await?;
        show(&changes, output)?;
        // The good objects of a file are applied beside its bad ones.
        Ok(if shown.has_errors { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    })
}

/// One line per object, as kubectl.
pub(super) fn show(changes: &[Change], output: &Output) -> anyhow::Result<()> {
    if output.is_json() {
        output.json(&serde_json::json!({ "version": 1, "changes": changes }))?;
    } else {
        changes.iter().for_each(|change| output.line(format!("{} {}", change.object, change.change)));
    }
    Ok(())
}
