//! `mesh uninstall`: takes an installed mesh out of the cluster.

use std::process::ExitCode;

use anyhow::anyhow;
use mesh_control::cluster::install::InstallError;
use mesh_control::cluster::remote::Remote;
use mesh_control::cluster::uninstall::{Removed, remove};
use serde_json::json;

use super::{Failure, connector, install};
use crate::cli::Cluster;
use crate::local::supervisor::run_local;
use crate::output::Output;

/// Runs the command.
pub(crate) fn run(cluster: &Cluster, output: &Output) -> anyhow::Result<ExitCode> {
    let objects = install::everything()?;
    let tell = |step: String| output.starting(&step);
    let removed = run_local(async {
        let remote = Remote::connect(&cluster.reach()).await.map_err(connector::failed)?;
        remove(remote.client(), objects, &tell).await.map_err(failed)
    })?;
    show(&removed, output)?;
    Ok(ExitCode::SUCCESS)
}

fn show(removed: &Removed, output: &Output) -> anyhow::Result<()> {
    if output.is_json() {
        return output.json(&json!({"version": 1, "deleted": removed.deleted, "kept": removed.kept}));
    }
    output.line(format!("{} objects deleted", removed.deleted.len()));
    for kept in &removed.kept {
        output.line(format!("kept: {kept}"));
    }
    if !removed.deleted.is_empty() {
        output.line("Pods keep their proxy until they are made anew: kubectl rollout restart");
    }
    Ok(())
}

/// The failure with its exit code: 3 where no API server can be reached.
pub(super) fn failed(error: InstallError) -> anyhow::Error {
    if error.is_unreachable() {
        Failure::Unreachable(format!("{:#}", anyhow!(error))).into()
    } else {
        error.into()
    }
}
