//! A mesh in a cluster, through the API server.

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use mesh_control::cluster::remote::Remote;
use mesh_control::cluster::remote::change::Changed;
use mesh_control::cluster::remote::exec::Streams;
use mesh_control::cluster::remote::logs::Wanted;
use mesh_control::cluster::remote::pods::{Part, PodView};
use mesh_control::cluster::remote::status::{ServiceView, merged};
use mesh_control::world::World;

use super::{Selected, failed};
use crate::cmd::Failure;
use crate::local::manifest::Object;
use crate::local::protocol::{Change, Phase, PodStatus, ServiceStatus, Status, Target};
use crate::output::Output;

pub(super) async fn status(remote: &Remote) -> anyhow::Result<Status> {
    let (pods, services, replicas) =
        futures_util::try_join!(remote.pods(None), remote.services(), remote.replicas()).map_err(failed)?;
    let pods: Vec<&PodView> = pods.iter().filter(|pod| pod.part() != Part::Outside).collect();
    let namespaces: BTreeSet<&str> = pods.iter().map(|pod| pod.namespace()).collect();
    Ok(Status {
        version: 1,
        name: "kubernetes".to_owned(),
        ingress: services.iter().flat_map(|service| service.outside.clone()).collect(),
        pods: pods.iter().map(|pod| pod_status(pod)).collect(),
        services: services
            .iter()
            .filter(|service| namespaces.contains(service.namespace.as_str()))
            .map(service_status)
            .collect(),
        control: merged(&replicas),
    })
}

fn pod_status(pod: &PodView) -> PodStatus {
    let phase = match pod.phase() {
        "Running" => Phase::Running,
        "Succeeded" => Phase::Succeeded,
        "Failed" => Phase::Failed,
        _ => Phase::Pending,
    };
    let well = pod.is_ready() || phase == Phase::Succeeded;
    PodStatus {
        namespace: pod.namespace().to_owned(),
        name: pod.name().to_owned(),
        address: pod.address().to_owned(),
        phase,
        ready: pod.is_ready(),
        sidecar: pod.part() == Part::Meshed,
        restarts: u32::try_from(pod.restarts()).unwrap_or(u32::MAX),
        message: if well {
            String::new()
        } else if pod.is_leaving() {
            "is being deleted".to_owned()
        } else {
            pod.trouble()
        },
    }
}

fn service_status(service: &ServiceView) -> ServiceStatus {
    ServiceStatus {
        namespace: service.namespace.clone(),
        name: service.name.clone(),
        ports: service.ports.clone(),
    }
}

pub(super) async fn world(remote: &Remote) -> anyhow::Result<World> {
    let objects = remote.objects().await.map_err(failed)?;
    let mut world = World::default();
    if !objects.claim_nginx {
        world.leave_nginx();
    }
    world.apply(objects.change);
    Ok(world)
}

pub(super) async fn proxy_admin(
    remote: &Remote,
    target: &Target,
    page: &str,
) -> anyhow::Result<(u16, String)> {
    let pod = remote.pod(&target.namespace, &target.workload).await.map_err(failed)?;
    remote.proxy_admin(pod.namespace(), pod.name(), page).await.map_err(failed)
}

pub(super) async fn logs(
    remote: &Remote,
    target: Target,
    follow: bool,
    tail: usize,
    output: &Output,
) -> anyhow::Result<()> {
    let pod = remote.pod(&target.namespace, &target.workload).await.map_err(failed)?;
    let wanted = Wanted { container: target.container, follow, tail };
    let mut lines = remote.logs(&pod, &wanted).await.map_err(failed)?;
    while let Some(line) = lines.next().await {
        output.line(line);
    }
    Ok(())
}

pub(super) async fn exec(remote: &Remote, target: &Target, command: &[String]) -> anyhow::Result<i32> {
    let pod = remote.pod(&target.namespace, &target.workload).await.map_err(failed)?;
    let [input, output, errors] =
        [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()].map(own_file);
    let streams = Streams { input: input?, output: output?, errors: errors? };
    remote.exec(&pod, target.container.as_deref(), command, streams).await.map_err(failed)
}

/// A standard stream that can be waited for, whatever it leads to.
fn own_file(stream: BorrowedFd<'_>) -> anyhow::Result<tokio::fs::File> {
    let own = stream.try_clone_to_owned().context("taking over a standard stream")?;
    Ok(tokio::fs::File::from_std(own.into()))
}

pub(super) async fn apply(
    remote: &Remote,
    objects: Vec<Object>,
    wait: Option<Duration>,
    output: &Output,
) -> anyhow::Result<Vec<Change>> {
    let objects = objects.into_iter().map(|object| object.value).collect();
    let changed = remote.apply(objects).await.map_err(failed)?;
    finish(remote, changed, wait, output).await
}

pub(super) async fn delete(
    remote: &Remote,
    selected: Selected,
    wait: Option<Duration>,
    output: &Output,
) -> anyhow::Result<Vec<Change>> {
    let changed = match selected {
        Selected::Objects(objects) => {
            let objects: Vec<_> = objects.into_iter().map(|object| object.value).collect();
            remote.delete(&objects).await.map_err(failed)?
        }
        Selected::Named { kind, namespace, name } => {
            let object = remote.named(&kind, &namespace, &name).await.map_err(failed)?;
            let changed = remote.delete(&[object]).await.map_err(failed)?;
            if changed.is_empty() {
                return Err(Failure::Finding(format!("there is no {kind} {namespace}/{name}")).into());
            }
            changed
        }
    };
    finish(remote, changed, wait, output).await
}

async fn finish(
    remote: &Remote,
    changed: Vec<Changed>,
    wait: Option<Duration>,
    output: &Output,
) -> anyhow::Result<Vec<Change>> {
    if let Some(patience) = wait {
        let tell = |step: String| output.starting(&step);
        remote.wait(&changed, patience, &tell).await.map_err(failed)?;
    }
    Ok(changed.into_iter().map(change).collect())
}

fn change(Changed { object, change, .. }: Changed) -> Change {
    let object = Object { file: String::new(), value: object };
    Change { object: object.key(), change: change.to_owned() }
}
