//! Clusters as the paths of one Ingress reach them: a service's port with what the Ingress's annotations say of TLS,
//! protocol and sessions in place of what its DestinationRule says.
//!
//! Such a cluster is named `ingress/NAMESPACE/NAME|PORT|SUBSET|HOST`, with the part that it plays after the Ingress's
//! name where that is not the backend's. No rule of a user's can name one: what those name begins with `outbound|`. Its secrets are of
//! the Ingress's namespace. It has no policy of its own beyond that: limits and ejection are the service's.

use mesh_core::model::{Cluster, ConsistentHash, Endpoints, HashKey, HashTable, LoadBalancer, Transport};

use super::paths::Path;
use super::{affinity, origination, passthrough};
use crate::api::Item;
use crate::api::ingress::Ingress;
use crate::problem::Problem;
use crate::translate::cluster;
use crate::translate::scope::Scope;

const PREFIX: &str = "ingress/";
/// Smallest ring of sessions, as where a DestinationRule says nothing.
const RING_SIZE: u32 = 1024;

/// What a cluster is to its Ingress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// A path's backend.
    Backend,
    /// The backend of a canary that is sticky: its sessions are known by their mark.
    Canary,
    /// The backend of a canary that leaves sessions alone.
    Plain,
    /// The target of copies, over TLS.
    Mirror,
}

impl Part {
    const fn suffix(self) -> &'static str {
        match self {
            Self::Backend => "",
            Self::Canary => "/canary",
            Self::Plain => "/plain",
            Self::Mirror => "/mirror",
        }
    }
}

/// The cluster by which an Ingress reaches the service's cluster `plain`: an own one if its annotations ask for that.
pub(super) fn backend(ingress: &Item<'_, Ingress>, plain: &str, part: Part) -> String {
    let is_own = origination::protocol(ingress).is_some() || affinity::cookie_name(ingress).is_some();
    if is_own { own(ingress, plain, part) } else { plain.to_owned() }
}

/// An Ingress's own variant of the cluster `plain`.
pub(super) fn own(ingress: &Item<'_, Ingress>, plain: &str, part: Part) -> String {
    let Some(place) = plain.strip_prefix("outbound") else { return plain.to_owned() };
    format!("{PREFIX}{}/{}{}{place}", ingress.namespace(), ingress.name(), part.suffix())
}

/// The cluster of such a name. What its Ingress says of TLS and cannot be done leaves it undefined, so that requests are
/// answered with 503 and never sent less protected.
pub(crate) fn by_name(scope: &Scope<'_>, name: &str) -> Option<(Cluster, Endpoints)> {
    let (whose, place) = name.strip_prefix(PREFIX)?.split_once('|')?;
    let mut words = whose.split('/');
    let ingress = scope.world.get::<Ingress>(words.next()?, words.next()?)?;
    let part = match words.next() {
        None => Part::Backend,
        Some("canary") => Part::Canary,
        Some("plain") => Part::Plain,
        Some(_) => Part::Mirror,
    };
    let (mut cluster, mut endpoints) = cluster::by_name(scope, &format!("outbound|{place}"))?;
    name.clone_into(&mut cluster.name);
    name.clone_into(&mut endpoints.cluster);
    if part == Part::Mirror {
        cluster.tls = origination::of_mirror(cluster.tls);
        return Some((cluster, endpoints));
    }
    if let Some(spoken) = origination::protocol(&ingress) {
        cluster.protocol = spoken.protocol;
        if spoken.tls {
            cluster.tls = origination::of_backend(scope.world, &ingress, cluster.tls).ok()?;
        }
    }
    let cookie = affinity::cookie(&ingress, part == Part::Canary).filter(|_| part != Part::Plain);
    if let Some(cookie) = cookie {
        let table = HashTable::Ring { minimum_size: RING_SIZE };
        let sessions = ConsistentHash { key: HashKey::Cookie(cookie), table };
        cluster.load_balancer = LoadBalancer::ConsistentHash(sessions);
    }
    Some((cluster, endpoints))
}

/// Tells of backends that are not reached as the annotations say: our own gateway, whose table says all of that, and pods
/// with a sidecar, which is not what TLS to an application expects.
pub(super) fn tell_about(
    scope: &Scope<'_>,
    ingress: &Item<'_, Ingress>,
    paths: &[&Path<'_>],
    tell: &mut dyn FnMut(Problem),
) {
    let spoken = origination::protocol(ingress);
    if paths.iter().any(|path| path.to_gateway.is_some()) {
        let said =
            [("backend-protocol", spoken.is_some()), ("affinity", affinity::cookie_name(ingress).is_some())];
        for (name, _) in said.into_iter().filter(|(_, is_said)| *is_said) {
            let message = "has no effect where the gateway is the backend: a DestinationRule can say it";
            tell(Problem::warning(super::annotations::field(name), message));
        }
    }
    if !spoken.is_some_and(|spoken| spoken.tls) || passthrough::is_asked(ingress) {
        return;
    }
    let has_sidecar = |path: &&Path<'_>| {
        let found = cluster::by_name(scope, &path.service).filter(|_| path.to_gateway.is_none());
        let mut endpoints = found.into_iter().flat_map(|(_, endpoints)| endpoints.endpoints);
        endpoints.any(|endpoint| endpoint.transport == Transport::MeshTls)
    };
    if paths.iter().any(has_sidecar) {
        let message = "the backend's pods have a sidecar: TLS is made with the application itself and not with the mesh's \
                       identities, so that policies see no caller, and a port with STRICT mutual TLS refuses it";
        let fix = "leave it out if the application can speak plain HTTP to its sidecar";
        tell(Problem::warning(super::annotations::field("backend-protocol"), message).with_fix(fix));
    }
}
