//! A large cluster that changes: as files, or in an API server of its own.

mod api_server;
mod files;
mod kubernetes;
mod watcher;

use std::path::Path;
use std::time::Instant;

use super::Size;
use super::objects::Shape;
use crate::mesh::ControlPlane;
use files::Files;
use kubernetes::Kubernetes;
pub(super) use watcher::Watcher;

/// Where the objects are.
pub(super) enum Cluster {
    Files(Files),
    Kubernetes(Kubernetes),
}

/// By which a control plane knows a proxy.
pub(super) struct Credentials {
    /// Of its pod.
    pub(super) uid: String,
    pub(super) token: String,
}

impl Cluster {
    /// Writes all objects.
    pub(super) async fn create(size: &Size, folder: &Path) -> anyhow::Result<Self> {
        let shape = Shape { services: size.services, pods: size.endpoints / size.services };
        if size.kubernetes {
            return Ok(Self::Kubernetes(Kubernetes::create(shape, size.proxies, folder).await?));
        }
        Ok(Self::Files(Files::create(shape, folder)?))
    }

    /// Starts a control plane that follows them.
    pub(super) async fn control_plane(&self, folder: &Path) -> anyhow::Result<ControlPlane> {
        match self {
            Self::Files(files) => files.control_plane(folder).await,
            Self::Kubernetes(kubernetes) => kubernetes.control_plane(folder).await,
        }
    }

    /// Changes an endpoint of a service, every number to another one, and tells from when the change counts.
    pub(super) async fn write(&self, service: usize, instance: usize) -> anyhow::Result<Instant> {
        match self {
            Self::Files(files) => files.write(service, instance),
            Self::Kubernetes(kubernetes) => kubernetes.write(service, instance).await,
        }
    }

    /// Somebody who only watches a service's slice, where there is an API server to watch.
    pub(super) fn watcher(&self, service: usize) -> anyhow::Result<Option<Watcher>> {
        match self {
            Self::Files(_) => Ok(None),
            Self::Kubernetes(kubernetes) => kubernetes.watcher(service).map(Some),
        }
    }

    /// One more object that makes no sense, in a namespace that has nothing else.
    pub(super) async fn write_bad(&self, number: usize) -> anyhow::Result<()> {
        match self {
            Self::Files(files) => files.write_bad(number),
            Self::Kubernetes(kubernetes) => kubernetes.write_bad(number).await,
        }
    }

    /// Of the service's steady pod.
    pub(super) async fn credentials(&self, service: usize) -> anyhow::Result<Credentials> {
        match self {
            Self::Files(files) => files.credentials(service),
            Self::Kubernetes(kubernetes) => kubernetes.credentials(service).await,
        }
    }

    pub(super) const fn services(&self) -> usize {
        match self {
            Self::Files(files) => files.shape.services,
            Self::Kubernetes(kubernetes) => kubernetes.shape.services,
        }
    }

    /// Changes that may be under way at once.
    pub(super) const fn lanes(&self) -> usize {
        match self {
            Self::Files(_) => 1,
            Self::Kubernetes(_) => 16,
        }
    }
}
