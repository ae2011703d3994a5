//! Objects from a Kubernetes API server, kept up to date by lists and watches.
//!
//! One task follows each resource (`follow`), one task alone gathers what they tell (`gather`) and hands on changes. What
//! is kept in memory is what the mesh reads: objects are trimmed (`trim`) as they arrive, of Nodes only the topology is
//! kept, and of Secrets and ConfigMaps only names, save those that an object names (`wanted`).
//!
//! Invariants:
//! - The first change waits until every resource has been listed once: a world that lacks a policy because it has not been
//!   read yet would let through what the policy denies.
//! - An object leaves only when the API server says that it is gone: by an event, or by a complete list without it. A server
//!   that is away, slow, restarted or answers nonsense changes nothing.
//! - A bad object harms itself only; its last good version stays.
//! - Kinds that the cluster does not have (no CRD) count as empty and are looked for again.

mod backoff;
mod follow;
mod gather;
mod pace;
mod places;
mod resource;
mod trim;
mod wanted;

pub(crate) use backoff::Backoff;
use kube::Client;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Change;

/// What to follow.
#[derive(Debug, Clone)]
pub struct Scope {
    /// Label selector of namespaces; objects in others are not there for the mesh.
    pub namespaces: String,
    /// The namespace whose ConfigMap `istio` holds the mesh configuration.
    pub root_namespace: String,
}

impl Default for Scope {
    fn default() -> Self {
        Self { namespaces: DEFAULT_NAMESPACES.to_owned(), root_namespace: "istio-system".to_owned() }
    }
}

/// Every namespace but those labelled `minimesh.io/discovery: disabled`.
pub const DEFAULT_NAMESPACES: &str = "minimesh.io/discovery!=disabled";

/// Changes that may wait for the listener; while it is busy, later ones join those that wait.
const WAITING: usize = 1;

/// Group and plural of everything that is followed.
pub(crate) fn followed() -> impl Iterator<Item = (&'static str, String)> {
    let all = [resource::Resource::namespaces(""), resource::Resource::nodes()].into_iter();
    all.chain(resource::Resource::all()).map(|resource| {
        let group = resource.versions.first().and_then(|version| version.split_once('/'));
        (group.map_or("", |(group, _)| group), resource.plural)
    })
}

/// Follows a cluster until `stop`, or until the receiver is dropped. Never fails: what cannot be read is tried again.
pub fn watch(client: Client, scope: Scope, stop: CancellationToken) -> mpsc::Receiver<Change> {
    let (changes, receiver) = mpsc::channel(WAITING);
    tokio::spawn(gather::Gatherer::new(client, scope).run(changes, stop));
    receiver
}

#[cfg(test)]
mod tests;
