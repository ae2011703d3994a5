//! A mesh of this machine, over its control socket.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use mesh_control::source::{Change as Objects, files};
use mesh_control::world::World;

use crate::cmd::{Exchange, unexpected};
use crate::local::launch;
use crate::local::manifest::Object;
use crate::local::protocol::{Change, Reply, Request, Selection, Status, Target};
use crate::output::Output;

/// Whether a mesh of that name runs here.
pub(super) fn runs(name: &str) -> bool {
    launch::control_address(name).is_ok_and(|address| UnixStream::connect_addr(&address).is_ok())
}

pub(super) async fn status(name: &str, output: &Output) -> anyhow::Result<Status> {
    match ask(name, &Request::Status, output).await? {
        Reply::Status(status) => Ok(status),
        reply => unexpected(&reply),
    }
}

pub(super) async fn world(name: &str, output: &Output) -> anyhow::Result<World> {
    match ask(name, &Request::Objects, output).await? {
        Reply::Body { body, .. } => Ok(super::super::world(of_mesh(&body))),
        reply => unexpected(&reply),
    }
}

/// The objects of a running mesh, with its real pods.
fn of_mesh(manifest: &str) -> Objects {
    let mut change = Objects::from(files::load_text(Path::new("(running mesh)"), manifest));
    // They have no file that a user could open.
    change.upserted.iter_mut().for_each(|object| object.origin.file = None);
    change
}

pub(super) async fn proxy_admin(
    name: &str,
    target: Target,
    page: &str,
    output: &Output,
) -> anyhow::Result<(u16, String)> {
    match ask(name, &Request::ProxyAdmin { target, path: page.to_owned() }, output).await? {
        Reply::Body { status, body } => Ok((status, body)),
        reply => unexpected(&reply),
    }
}

pub(super) async fn logs(
    name: &str,
    target: Target,
    follow: bool,
    tail: usize,
    output: &Output,
) -> anyhow::Result<()> {
    let mut exchange = Exchange::begin(name, &Request::Logs { target, follow, tail }, &[]).await?;
    loop {
        match exchange.next().await? {
            Reply::Lines(lines) => lines.iter().for_each(|line| output.line(line)),
            Reply::Done => return Ok(()),
            reply => return unexpected(&reply),
        }
    }
}

pub(super) async fn exec(name: &str, target: Target, command: Vec<String>) -> anyhow::Result<i32> {
    let streams = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    let mut exchange = Exchange::begin(name, &Request::Exec { target, command }, &streams).await?;
    match exchange.next().await? {
        Reply::Exit(code) => Ok(code),
        reply => unexpected(&reply),
    }
}

pub(super) async fn apply(
    name: &str,
    objects: Vec<Object>,
    wait: Option<Duration>,
    output: &Output,
) -> anyhow::Result<Vec<Change>> {
    changes(name, &Request::Apply { objects, wait }, output).await
}

pub(super) async fn delete(
    name: &str,
    selection: Selection,
    wait: Option<Duration>,
    output: &Output,
) -> anyhow::Result<Vec<Change>> {
    changes(name, &Request::Delete { selection, wait }, output).await
}

async fn changes(name: &str, request: &Request, output: &Output) -> anyhow::Result<Vec<Change>> {
    match ask(name, request, output).await? {
        Reply::Changes(changes) => Ok(changes),
        reply => unexpected(&reply),
    }
}

async fn ask(name: &str, request: &Request, output: &Output) -> anyhow::Result<Reply> {
    Exchange::begin(name, request, &[]).await?.finish(output).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_of_the_running_mesh_name_no_file() {
        let change =
            of_mesh("{\"apiVersion\": \"v1\", \"kind\": \"Service\", \"metadata\": {\"name\": \"a\"}}");
        assert_eq!(change.upserted.len(), 1);
        assert!(change.upserted[0].origin.file.is_none());
    }
}
