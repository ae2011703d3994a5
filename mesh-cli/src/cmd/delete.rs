//! `mesh delete`: removes objects from a running mesh.

use std::process::ExitCode;
use std::time::Duration;

use super::{Exchange, Failure, apply, unexpected};
use crate::cli::Delete;
use crate::local::manifest;
use crate::local::protocol::{Reply, Request, Selection};
use crate::local::supervisor::run_local;
use crate::output::Output;

/// Runs the command.
pub(crate) fn run(flags: &Delete, output: &Output) -> anyhow::Result<ExitCode> {
    let selection = selection(flags)?;
    let wait = flags.wait.then(|| Duration::from_secs(flags.timeout));
    run_local(async {
        let mut exchange =
            Exchange::begin(&flags.mesh.name, &Request::Delete { selection, wait }, &[]).await?;
        match exchange.finish(output).await? {
            Reply::Changes(changes) => apply::show(&changes, output),
            reply => unexpected(&reply),
        }
    })
}

fn selection(flags: &Delete) -> anyhow::Result<Selection> {
    if !flags.files.is_empty() {
        let objects = manifest::read(&flags.files)?;
        return Ok(Selection::Keys(objects.iter().map(manifest::Object::key).collect()));
    }
    match (&flags.kind, &flags.object) {
        (Some(kind), Some(name)) => Ok(Selection::Named {
            kind: kind.clone(),
            namespace: flags.namespace.clone(),
            name: name.clone(),
        }),
        _ => Err(Failure::Usage("delete needs -f, or KIND and NAME".to_owned()).into()),
    }
}
