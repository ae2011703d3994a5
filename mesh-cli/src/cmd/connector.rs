//! A running mesh, wherever it runs: on this machine, asked over its control socket, or in a cluster, asked through the API server.
//!
//! Commands say what they want and show what comes; where it comes from is decided here, by [`Connector::open`]:
//! 1. flags that name a cluster mean the cluster;
//! 2. `--name` or `MESH_NAME` means a mesh of this machine;
//! 3. without either it is the mesh `default` of this machine if it runs, otherwise the cluster that `KUBECONFIG`, `~/.kube/config` or
//!    a pod's account names.

mod cluster;
mod local;

use std::time::Duration;

use anyhow::anyhow;
use mesh_control::cluster::remote::{Reach, Remote, RemoteError};
use mesh_control::world::World;

use super::Failure;
use crate::cli::Where;
use crate::local::manifest::Object;
use crate::local::protocol::{Change, Selection, Status, Target};
use crate::output::Output;

/// The local mesh's name where none is given.
const DEFAULT: &str = "default";

/// A mesh that can be asked.
pub(super) enum Connector {
    /// By name.
    Local(String),
    Cluster(Box<Remote>),
}

impl Connector {
    /// Finds out which mesh is meant.
    pub(super) async fn open(place: &Where) -> anyhow::Result<Self> {
        let reach = place.cluster.reach();
        if place.kubernetes || reach.kubeconfig.is_some() || reach.context.is_some() {
            return Ok(Self::Cluster(Box::new(Remote::connect(&reach).await.map_err(failed)?)));
        }
        if let Some(name) = &place.name {
            return Ok(Self::Local(name.clone()));
        }
        if local::runs(DEFAULT) {
            return Ok(Self::Local(DEFAULT.to_owned()));
        }
        match Remote::connect(&Reach::default()).await {
            Ok(remote) => Ok(Self::Cluster(Box::new(remote))),
            // Who has no cluster is told how to start a mesh.
            Err(_) => Ok(Self::Local(DEFAULT.to_owned())),
        }
    }

    /// The namespace that is meant.
    pub(super) fn namespace(&self, given: Option<String>) -> String {
        given.unwrap_or_else(|| match self {
            Self::Local(_) => "default".to_owned(),
            Self::Cluster(remote) => remote.namespace().to_owned(),
        })
    }

    /// How to look at the control plane's log.
    pub(super) const fn control_log(&self) -> &'static str {
        match self {
            Self::Local(_) => "mesh logs mesh-control -n istio-system",
            Self::Cluster(_) => "mesh logs mesh-control -n mesh-system",
        }
    }

    /// Pods, services, and what the control plane says of proxies and objects.
    pub(super) async fn status(&self, output: &Output) -> anyhow::Result<Status> {
        match self {
            Self::Local(name) => local::status(name, output).await,
            Self::Cluster(remote) => cluster::status(remote).await,
        }
    }

    /// All objects as the control plane has them.
    pub(super) async fn world(&self, output: &Output) -> anyhow::Result<World> {
        match self {
            Self::Local(name) => local::world(name, output).await,
            Self::Cluster(remote) => cluster::world(remote).await,
        }
    }

    /// A page of a proxy's admin port: status and body.
    pub(super) async fn proxy_admin(
        &self,
        target: Target,
        page: &str,
        output: &Output,
    ) -> anyhow::Result<(u16, String)> {
        match self {
            Self::Local(name) => local::proxy_admin(name, target, page, output).await,
            Self::Cluster(remote) => cluster::proxy_admin(remote, &target, page).await,
        }
    }

    /// Shows what a pod's containers have written.
    pub(super) async fn logs(
        &self,
        target: Target,
        follow: bool,
        tail: usize,
        output: &Output,
    ) -> anyhow::Result<()> {
        match self {
            Self::Local(name) => local::logs(name, target, follow, tail, output).await,
            Self::Cluster(remote) => cluster::logs(remote, target, follow, tail, output).await,
        }
    }

    /// Runs a command in a pod with our own standard streams; the result is its exit code.
    pub(super) async fn exec(&self, target: Target, command: Vec<String>) -> anyhow::Result<i32> {
        match self {
            Self::Local(name) => local::exec(name, target, command).await,
            Self::Cluster(remote) => cluster::exec(remote, &target, &command).await,
        }
    }

    /// Adds or changes objects, and waits so long until they are in effect, if told to.
    pub(super) async fn apply(
        &self,
        objects: Vec<Object>,
        wait: Option<Duration>,
        output: &Output,
    ) -> anyhow::Result<Vec<Change>> {
        match self {
            Self::Local(name) => local::apply(name, objects, wait, output).await,
            Self::Cluster(remote) => cluster::apply(remote, objects, wait, output).await,
        }
    }

    /// Removes objects.
    pub(super) async fn delete(
        &self,
        selection: Selected,
        wait: Option<Duration>,
        output: &Output,
    ) -> anyhow::Result<Vec<Change>> {
        match self {
            Self::Local(name) => local::delete(name, selection.into(), wait, output).await,
            Self::Cluster(remote) => cluster::delete(remote, selection, wait, output).await,
        }
    }
}

/// What is to be deleted.
pub(super) enum Selected {
    Objects(Vec<Object>),
    Named { kind: String, namespace: String, name: String },
}

impl From<Selected> for Selection {
    fn from(selected: Selected) -> Self {
        match selected {
            Selected::Objects(objects) => Self::Keys(objects.iter().map(Object::key).collect()),
            Selected::Named { kind, namespace, name } => Self::Named { kind, namespace, name },
        }
    }
}

/// All objects of a cluster.
pub(super) async fn cluster_world(remote: &Remote) -> anyhow::Result<World> {
    cluster::world(remote).await
}

/// The failure with its exit code: 3 where what is needed cannot be reached.
pub(super) fn failed(error: RemoteError) -> anyhow::Error {
    let unreachable = error.is_unreachable();
    let text = format!("{:#}", anyhow!(error));
    if unreachable { Failure::Unreachable(text).into() } else { Failure::Finding(text).into() }
}
