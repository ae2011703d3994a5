//! The control socket: one request per connection, from commands of the same user.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::net::{UnixListener, UnixStream};

use super::mesh::Mesh;
use super::{apply, control_plane};
use crate::local::channel::{Channel, Receiver, Sender};
use crate::local::protocol::{Change, FailureKind, FromPod, Reply, Request, Selection, Target, ToPod};
use crate::local::ring::Ring;

const REQUEST_DEADLINE: Duration = Duration::from_secs(10);
const ADMIN_DEADLINE: Duration = Duration::from_secs(15);

/// Serves until the supervisor ends.
pub(super) async fn listen(mesh: Rc<Mesh>, socket: OwnedFd) {
    let listener = std::os::unix::net::UnixListener::from(socket);
    // A socket that cannot be watched was not one; then the mesh runs without commands.
    let Ok(listener) = listener.set_nonblocking(true).and_then(|()| UnixListener::from_std(listener)) else {
        return;
    };
    loop {
        match listener.accept().await {
            Ok((stream, _)) if is_owner(&stream) => {
                tokio::task::spawn_local(serve(Rc::clone(&mesh), stream));
            }
            Ok(_) => {}
            // Out of descriptors: wait until some are free.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// An abstract socket has no file permissions, so the caller's uid is checked. In here the owner is uid 0; users that
/// are not mapped appear as the overflow uid.
fn is_owner(stream: &UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.uid() == rustix::process::getuid().as_raw())
}

async fn serve(mesh: Rc<Mesh>, stream: UnixStream) {
    let Ok(mut channel) = stream.into_std().and_then(|stream| Channel::new(stream.into())) else { return };
    let request = tokio::time::timeout(REQUEST_DEADLINE, channel.receiver.receive::<Request>()).await;
    let Ok(Ok(Some((request, descriptors)))) = request else { return };
    let answer = match answer(&mesh, request, descriptors, &mut channel).await {
        Ok(reply) => reply,
        Err(error) => Reply::Failed { kind: FailureKind::Finding, message: format!("{error:#}") },
    };
    // One who has gone needs no answer.
    let _ = channel.sender.send(&answer).await;
}

async fn answer(
    mesh: &Rc<Mesh>,
    request: Request,
    descriptors: Vec<OwnedFd>,
    channel: &mut Channel,
) -> anyhow::Result<Reply> {
    match request {
        Request::Status => Ok(Reply::Status(mesh.status().await)),
        Request::Objects => {
            let body = mesh.store.borrow().manifest().context("reading the objects")?;
            Ok(Reply::Body { status: 200, body })
        }
        Request::Apply { objects, wait } => {
            apply::change(mesh, wait, &channel.sender, || mesh.apply(objects)).await
        }
        Request::Delete { selection, wait } => {
            apply::change(mesh, wait, &channel.sender, || delete(mesh, selection)).await
        }
        Request::Exec { target, command } => {
            execute(mesh, &target, command, descriptors, &mut channel.receiver).await
        }
        Request::Logs { target, follow, tail } => logs(mesh, &target, follow, tail, channel).await,
        Request::ProxyAdmin { target, path } => proxy_admin(mesh, &target, path).await,
        Request::Down => {
            mesh.stop_everything().await;
            // The caller waits for the end of the connection, which is the end of this process.
            channel.sender.send(&Reply::Done).await?;
            mesh.end();
            std::future::pending().await
        }
    }
}

fn delete(mesh: &Mesh, selection: Selection) -> anyhow::Result<Vec<Change>> {
    let keys = match selection {
        Selection::Keys(keys) => keys.into_iter().filter(|key| mesh.store.borrow().contains(key)).collect(),
        Selection::Named { kind, namespace, name } => {
            let found = mesh.store.borrow().find(&kind, &namespace, &name);
            if found.is_empty() {
                bail!("there is no {kind} {namespace}/{name}");
            }
            found
        }
    };
    let mut changes = Vec::new();
    for key in keys {
        mesh.store.borrow_mut().delete(&key).with_context(|| format!("deleting {key}"))?;
        changes.push(Change { object: key, change: "deleted".to_owned() });
    }
    mesh.changed.notify_waiters();
    Ok(changes)
}

async fn execute(
    mesh: &Mesh,
    target: &Target,
    command: Vec<String>,
    streams: Vec<OwnedFd>,
    receiver: &mut Receiver,
) -> anyhow::Result<Reply> {
    let pod = mesh.find_pod(target).with_context(|| not_found(target))?;
    let id = mesh.new_id();
    let question = ToPod::Exec { id, container: target.container.clone(), command };
    let streams: Vec<BorrowedFd<'_>> = streams.iter().map(OwnedFd::as_fd).collect();
    tokio::select! {
        answer = pod.ask(id, &question, &streams) => match answer? {
            FromPod::ExecDone { code, .. } => Ok(Reply::Exit(code)),
            _ => bail!("unexpected answer of the pod"),
        },
        // The caller has gone, so its command goes too.
        _ = receiver.receive::<Request>() => {
            pod.send(&ToPod::EndExec { id }, &[]).await?;
            Ok(Reply::Done)
        }
    }
}

async fn logs(
    mesh: &Mesh,
    target: &Target,
    follow: bool,
    tail: usize,
    channel: &mut Channel,
) -> anyhow::Result<Reply> {
    let rings = find_logs(mesh, target)?;
    let prefixed = rings.len() > 1;
    let mut positions = Vec::new();
    for (name, ring) in &rings {
        let (lines, next) = ring.tail(tail);
        send_lines(&channel.sender, name, lines, prefixed).await?;
        positions.push(next);
    }
    if !follow {
        return Ok(Reply::Done);
    }
    let followers = rings.iter().zip(positions).map(|((name, ring), next)| {
        let sender = channel.sender.clone();
        async move { keep_sending(&sender, name, ring, next, prefixed).await }
    });
    tokio::select! {
        _ = futures_util::future::join_all(followers) => {}
        _ = channel.receiver.receive::<Request>() => {}
    }
    Ok(Reply::Done)
}

fn find_logs(mesh: &Mesh, target: &Target) -> anyhow::Result<Vec<(String, Rc<Ring>)>> {
    if target.workload == control_plane::NAME {
        return Ok(vec![(control_plane::NAME.to_owned(), Rc::clone(&mesh.control_log.borrow()))]);
    }
    let pod = mesh.find_pod(target).with_context(|| not_found(target))?;
    let mut rings = pod.logs(target.container.as_deref());
    if rings.is_empty() {
        bail!(
            "the pod {} has no container `{}`",
            pod.place.name,
            target.container.as_deref().unwrap_or_default()
        );
    }
    // The log about the pod itself is only of interest when there is something in it.
    if rings.len() > 1 {
        rings.retain(|(name, ring)| name != "pod" || !ring.tail(1).0.is_empty());
    }
    Ok(rings)
}

async fn keep_sending(
    sender: &Sender,
    name: &str,
    ring: &Ring,
    mut next: u64,
    prefixed: bool,
) -> std::io::Result<()> {
    loop {
        let (lines, following) = ring.follow(next).await;
        next = following;
        send_lines(sender, name, lines, prefixed).await?;
    }
}

async fn send_lines(sender: &Sender, name: &str, lines: Vec<String>, prefixed: bool) -> std::io::Result<()> {
    let lines =
        if prefixed { lines.into_iter().map(|line| format!("{name} | {line}")).collect() } else { lines };
    sender.send(&Reply::Lines(lines)).await
}

async fn proxy_admin(mesh: &Mesh, target: &Target, path: String) -> anyhow::Result<Reply> {
    let pod = mesh.find_pod(target).with_context(|| not_found(target))?;
    let id = mesh.new_id();
    let question = ToPod::ProxyAdmin { id, path };
    match tokio::time::timeout(ADMIN_DEADLINE, pod.ask(id, &question, &[])).await {
        Ok(Ok(FromPod::AdminDone { status: 0, body, .. })) => Ok(Reply::Failed {
            kind: FailureKind::Unreachable,
            message: format!("the proxy of {}: {body}", pod.place.name),
        }),
        Ok(Ok(FromPod::AdminDone { status, body, .. })) => Ok(Reply::Body { status, body }),
        Ok(Ok(_)) => bail!("unexpected answer of the pod"),
        Ok(Err(error)) => Err(error),
        Err(_) => bail!("the pod {} did not answer within {ADMIN_DEADLINE:?}", pod.place.name),
    }
}

fn not_found(target: &Target) -> String {
    format!(
        "no pod or workload `{}` in the namespace `{}`; `mesh status` lists them",
        target.workload, target.namespace
    )
}
