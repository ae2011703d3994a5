//! `mesh install --apply`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use mesh_control::cluster::install::{apply as apply_all, wait};
use mesh_control::cluster::remote::Remote;
use serde_json::Value;

use crate::cli::Install;
use crate::cmd::connector;
use crate::cmd::uninstall::failed;
use crate::local::supervisor::run_local;
use crate::output::Output;

/// Applies, and waits if told to; each step is told on standard error.
pub(super) fn apply(objects: Vec<Value>, flags: &Install, output: &Output) -> anyhow::Result<ExitCode> {
    let begin = Instant::now();
    let tell = |step: String| output.starting(&step);
    run_local(async {
        let remote = Remote::connect(&flags.cluster.reach()).await.map_err(connector::failed)?;
        let client = remote.client();
        apply_all(client, objects.clone(), &tell).await.map_err(failed)?;
        if flags.wait {
            wait(client, &objects, Duration::from_secs(flags.timeout), &tell).await.map_err(failed)?;
        }
        Ok(())
    })?;
    output.ready(if flags.wait { "the mesh runs" } else { "the mesh is applied" }, begin.elapsed());
    Ok(ExitCode::SUCCESS)
}
