//! `mesh explain`: which listener, route, policy and endpoint would take a request, and why.
//!
//! The same code decides here as in the proxies: the control plane's view of the objects, compiled, and `decide` with its
//! trail of reasons. Nothing is sent anywhere.

mod call;
mod hop;
mod journey;
mod pods;
mod report;
mod upstream;

use std::process::ExitCode;

use mesh_control::source::Change;
use mesh_control::view::View;
use mesh_control::world::World;

use super::{Failure, offline};
use crate::cli::Explain;
use crate::output::Output;
use call::Call;

/// Runs the command; exit code 0 whatever becomes of the request, as long as it can be told.
pub(crate) fn run(flags: &Explain, output: &Output) -> anyhow::Result<ExitCode> {
    let call = Call::parse(&flags.method, &flags.url, &flags.headers)?;
    let report = journey::explain(&view(objects(flags)?), flags.from.as_deref(), call)?;
    if output.is_json() {
        output.json(&report)?;
    } else {
        report.show(output);
    }
    Ok(ExitCode::SUCCESS)
}

fn objects(flags: &Explain) -> anyhow::Result<Change> {
    if flags.files.is_empty() {
        let message = "explain reads files for now, not the running mesh; say which with -f FILE_OR_DIR";
        return Err(Failure::Usage(message.to_owned()).into());
    }
    let mut change = offline::read(&flags.files)?;
    pods::add(&mut change);
    Ok(change)
}

fn view(change: Change) -> View {
    let mut world = World::default();
    world.apply(change);
    View::new(world, 1)
}

#[cfg(test)]
mod tests;
