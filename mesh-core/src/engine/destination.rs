//! Endpoints that no configuration names: of clusters without discovery, which lead to the address that was dialled or,
//! where that address is nobody's, to what the host resolves to (design: a gateway dials its own answer for a name that
//! is allowed, never the client's).

use std::net::SocketAddr;
use std::sync::Arc;

use super::dial::{self, DialError};
use super::worker::Worker;
use crate::model::LoadBalancer;
use crate::name::Host;
use crate::snapshot::{Cluster, Endpoint};

/// Whether a cluster has no endpoints of its own.
pub(crate) fn is_undiscovered(cluster: &Cluster) -> bool {
    cluster.model.load_balancer == LoadBalancer::OriginalDestination
}

/// The endpoint for an address that was dialled as it came.
pub(crate) fn at(cluster: &Cluster, address: SocketAddr, asked: Option<&Host>) -> Arc<Endpoint> {
    Endpoint::dialled(address, asked.filter(|host| covers(cluster, host)).cloned())
}

/// The endpoint for the host that is asked for, at the cluster's port.
pub(crate) async fn of(
    worker: &Worker,
    cluster: &Cluster,
    asked: Option<&Host>,
) -> Result<Arc<Endpoint>, DialError> {
    let model = &cluster.model;
    let host = match asked.filter(|_| model.is_wildcard()) {
        Some(host) if covers(cluster, host) => host,
        None if !model.is_wildcard() => &model.service,
        other => {
            let asked = other.map_or_else(|| "no host".to_owned(), Host::to_string);
            return Err(DialError::NotCovered(asked, model.name.clone()));
        }
    };
    let address = dial::by_name(worker, model, host, model.port).await?;
    Ok(Endpoint::dialled(address, Some(host.clone())))
}

/// Any depth below a wildcard, on label boundaries, and not its apex (EG-03).
fn covers(cluster: &Cluster, host: &Host) -> bool {
    let service = cluster.model.service.as_str();
    match host.as_str().strip_suffix(service) {
        Some("") => !cluster.model.is_wildcard(),
        Some(rest) => cluster.model.is_wildcard() && rest.ends_with('.'),
        None => false,
    }
}
