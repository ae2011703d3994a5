//! The commands, and how those that talk to a running mesh do it.

pub(crate) mod apply;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod config;
mod connector;
pub(crate) mod delete;
pub(crate) mod down;
pub(crate) mod egress_policy;
pub(crate) mod exec;
pub(crate) mod explain;
pub(crate) mod inject;
pub(crate) mod install;
pub(crate) mod lint;
pub(crate) mod logs;
pub(crate) mod migrate;
mod offline;
pub(crate) mod status;
pub(crate) mod test;
pub(crate) mod uninstall;
pub(crate) mod up;

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use anyhow::anyhow;
use mesh_control::api::Key;
use mesh_control::problem::Severity;
use mesh_control::source::{Change, Refusal};
use mesh_control::world::World;

use crate::local::channel::{Channel, Receiver};
use crate::local::launch;
use crate::local::protocol::{FailureKind, Reply, Request};
use crate::output::Output;

/// A failure with its own exit code; any other error exits with 1.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{0}")]
    Finding(String),
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Unreachable(String),
}

/// The exit code for an error: 1 findings, 2 usage, 3 something needed cannot be reached.
pub(crate) fn exit_code(error: &anyhow::Error) -> u8 {
    match error.downcast_ref::<Failure>() {
        Some(Failure::Usage(_)) => 2,
        Some(Failure::Unreachable(_)) => 3,
        Some(Failure::Finding(_)) | None => 1,
    }
}

/// A request to a running mesh under way.
struct Exchange {
    // Kept open: closing it tells the supervisor that the caller has gone.
    _sender: crate::local::channel::Sender,
    receiver: Receiver,
}

impl Exchange {
    /// Sends a request to the mesh of that name.
    async fn begin(name: &str, request: &Request, descriptors: &[BorrowedFd<'_>]) -> anyhow::Result<Self> {
        let stream = UnixStream::connect_addr(&launch::control_address(name)?).map_err(|_| {
            Failure::Unreachable(format!(
                "no mesh named `{name}` runs here; `mesh up -f FILE` starts one, --context or --kubernetes means a cluster's"
            ))
        })?;
        let Channel { sender, receiver } = Channel::new(stream.into())?;
        sender.send_with(request, descriptors).await?;
        Ok(Self { _sender: sender, receiver })
    }

    /// The next reply; failures become errors.
    async fn next(&mut self) -> anyhow::Result<Reply> {
        match self.receiver.receive::<Reply>().await? {
            Some((Reply::Failed { kind: FailureKind::Finding, message }, _)) => {
                Err(Failure::Finding(message).into())
            }
            Some((Reply::Failed { kind: FailureKind::Unreachable, message }, _)) => {
                Err(Failure::Unreachable(message).into())
            }
            Some((reply, _)) => Ok(reply),
            None => Err(Failure::Unreachable("the mesh ended before it answered".to_owned()).into()),
        }
    }

    /// Waits until the other end is gone.
    async fn closed(&mut self) {
        while let Ok(Some(_)) = self.receiver.receive::<Reply>().await {}
    }

    /// The final reply; progress on the way is shown.
    async fn finish(&mut self, output: &Output) -> anyhow::Result<Reply> {
        loop {
            match self.next().await? {
                Reply::Progress(event) => up::show(&event, output),
                reply => return Ok(reply),
            }
        }
    }
}

/// What is wrong with files, as the control plane sees it.
#[derive(Default)]
struct Shown {
    /// Whether something has no effect.
    has_errors: bool,
    /// Objects that cannot be used: kind, namespace and name.
    refused: BTreeSet<(String, String, String)>,
}

/// Shows what the control plane would say of these files; it leaves out what it cannot use and takes the rest.
fn show_problems(files: &[PathBuf], output: &Output) -> Shown {
    let mut shown = Shown::default();
    let files: Vec<PathBuf> = files.iter().filter(|file| file.as_os_str() != "-").cloned().collect();
    let loaded = mesh_control::source::files::load(&files);
    for Refusal { key, .. } in loaded.refused {
        let Key { kind, namespace, name } = key;
        shown.refused.insert((kind.as_str().to_owned(), namespace.to_string(), name.to_string()));
    }
    for problem in loaded.problems {
        if problem.severity <= Severity::Warning {
            shown.has_errors |= problem.severity == Severity::Error;
            output.problem(problem.severity == Severity::Error, &problem);
        }
    }
    shown
}

/// What becomes of these objects and no others.
fn world(change: Change) -> World {
    let mut world = World::default();
    world.apply(change);
    world
}

fn unexpected<T>(reply: &Reply) -> anyhow::Result<T> {
    Err(anyhow!("unexpected reply of the mesh: {reply:?}; is it of another version?"))
}
