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

use std::path::PathBuf;
use std::process::ExitCode;

use mesh_control::source::Change;
use mesh_control::view::View;
use mesh_control::world::World;

use super::connector::Connector;
use super::offline;
use crate::cli::Explain;
use crate::local::supervisor::run_local;
use crate::output::Output;
use call::Call;

/// Runs the command; exit code 0 whatever becomes of the request, as long as it can be told.
pub(crate) fn run(flags: &Explain, output: &Output) -> anyhow::Result<ExitCode> {
    let call = Call::parse(&flags.method, &flags.url, &flags.headers)?;
    let view = View::new(objects(flags, output)?, 1);
    let report = journey::explain(&view, flags.from.as_deref(), call)?;
    if output.is_json() {
        output.json(&report)?;
    } else {
        report.show(output);
    }
    Ok(ExitCode::SUCCESS)
}

fn objects(flags: &Explain, output: &Output) -> anyhow::Result<World> {
    let files: Vec<PathBuf> = flags.files.iter().chain(&flags.more).cloned().collect();
    if !files.is_empty() {
        return Ok(super::world(offline::read(&files)?));
    }
    run_local(async { Connector::open(&flags.place).await?.world(output).await })
}

/// What proxies of these objects are told.
pub(super) fn view(change: Change) -> View {
    View::new(super::world(change), 1)
}

#[cfg(test)]
mod tests;
