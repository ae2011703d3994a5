//! `mesh explain`: which listener, route, policy and endpoint would take a request, and why.
//!
//! The same code decides here as in the proxies: the control plane's view of the objects, compiled, and `decide` with its
//! trail of reasons. The objects are those of files, or of the running mesh; no request is sent.

pub(super) mod call;
mod caller;
pub(super) mod chance;
pub(super) mod facts;
mod hop;
pub(super) mod journey;
pub(super) mod report;
mod upstream;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use mesh_control::source::{Change, files};
use mesh_control::view::View;
use mesh_control::world::World;

use super::{Exchange, offline, unexpected};
use crate::cli::Explain;
use crate::local::protocol::{Reply, Request};
use crate::local::supervisor::run_local;
use crate::output::Output;
use call::Call;

/// Runs the command; exit code 0 whatever becomes of the request, as long as it can be told.
pub(crate) fn run(flags: &Explain, output: &Output) -> anyhow::Result<ExitCode> {
    let call = Call::parse(&flags.method, &flags.url, &flags.headers)?;
    let report = journey::explain(&view(objects(flags, output)?), flags.from.as_deref(), call)?;
    if output.is_json() {
        output.json(&report)?;
    } else {
        report.show(output);
    }
    Ok(ExitCode::SUCCESS)
}

fn objects(flags: &Explain, output: &Output) -> anyhow::Result<Change> {
    let files: Vec<PathBuf> = flags.files.iter().chain(&flags.more).cloned().collect();
    if files.is_empty() {
        return run_local(running(&flags.mesh.name, output));
    }
    offline::read(&files)
}

/// The objects of the running mesh, with its real pods.
async fn running(name: &str, output: &Output) -> anyhow::Result<Change> {
    let mut exchange = Exchange::begin(name, &Request::Objects, &[]).await?;
    match exchange.finish(output).await? {
        Reply::Body { body, .. } => Ok(of_mesh(&body)),
        reply => unexpected(&reply),
    }
}

fn of_mesh(manifest: &str) -> Change {
    let mut change = Change::from(files::load_text(Path::new("(running mesh)"), manifest));
    // They have no file that a user could open.
    change.upserted.iter_mut().for_each(|object| object.origin.file = None);
    change
}

/// What proxies of these objects are told.
pub(super) fn view(change: Change) -> View {
    let mut world = World::default();
    world.apply(change);
    View::new(world, 1)
}

#[cfg(test)]
mod tests;
