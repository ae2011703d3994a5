//! `mesh supervisor`: process 1 of the mesh's namespaces; scheduler, controllers and the other end of every command.
//!
//! One thread, one task per pod, shared state in `Rc`. Nothing is kept beyond its life: when it ends the mesh is gone.

mod apply;
pub(crate) mod control_plane;
mod mesh;
mod pod_object;
mod pods;
mod reconcile;
mod serve;
mod startup;

use std::future::Future;
use std::os::fd::OwnedFd;

use anyhow::{Context as _, bail};

use super::channel::Channel;
use super::protocol::{Event, Request, Start, ToParent};
use super::{enter, mounts};
use mesh::Mesh;

/// Runs until asked to stop, or until the process that started the mesh is gone.
pub(crate) fn run() -> anyhow::Result<()> {
    enter::die_with_parent()?;
    let socket = enter::take_stdin()?;
    let prepared = mounts::enter_private_root();
    mounts::renew_proc();
    run_local(async move {
        let mut channel = Channel::new(socket)?;
        let result = match prepared {
            Ok(()) => supervise(&mut channel).await,
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            let failed = Event::Failed { message: format!("{error:#}") };
            channel.sender.send(&ToParent::Tell(failed)).await?;
        }
        Ok(())
    })
}

/// Runs a future on a runtime of this thread; tasks need not be `Send`.
pub(crate) fn run_local<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    let result = tokio::task::LocalSet::new().block_on(&runtime, future);
    // A look-up of a name that hangs must not keep the process.
    runtime.shutdown_background();
    result
}

async fn supervise(channel: &mut Channel) -> anyhow::Result<()> {
    let Some((start, descriptors)) = channel.receiver.receive::<Start>().await? else {
        bail!("the parent has gone before it said what to run");
    };
    let mut descriptors = descriptors.into_iter();
    let control: OwnedFd = descriptors.next().context("no control socket was passed")?;
    let mesh = Mesh::create(start, descriptors.collect(), channel.sender.clone()).await?;
    tokio::task::spawn_local(serve::listen(mesh.clone(), control));
    tokio::task::spawn_local(startup::run(mesh.clone()));
    tokio::select! {
        () = mesh.stopped() => {}
        // An end of file means that the parent is gone; the kernel is about to end us anyway.
        _ = channel.receiver.receive::<Request>() => mesh.stop_everything().await,
    }
    Ok(())
}
