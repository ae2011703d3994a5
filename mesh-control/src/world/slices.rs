//! Endpoints that EndpointSlices give a service beyond the pods it selects.
//!
//! A slice speaks for a service of its own namespace only. An endpoint that is a pod is taken as that pod, with its identity,
//! and only if the pod has the address: whoever writes a slice lends nobody another's identity. A pod that is named and not
//! known is no endpoint: taken as a bare address it would be spoken to in the clear. Not done: slices of names (FQDN).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use mesh_core::model::is_neighbourhood;

use super::World;
use super::clues::Clue;
use super::endpoints::{PodEndpoint, ServiceEndpoint, target_port};
use super::readiness::Readiness;
use crate::api::core::{IntOrString, Pod, Service, ServicePort};
use crate::api::discovery::{AddressType, Endpoint, EndpointSlice, SERVICE_NAME};
use crate::api::meta::{StringMap, selects};
use crate::api::{Item, Kind};

/// An address that a slice gives and that is no pod's.
#[derive(Debug, Clone, Copy)]
pub struct SliceEndpoint<'w> {
    pub address: IpAddr,
    /// Where it listens.
    pub port: u16,
    pub endpoint: &'w Endpoint,
    pub readiness: Readiness,
}

impl SliceEndpoint<'_> {
    /// `region/zone`, as far as the slice tells; empty if it does not.
    pub fn locality(&self) -> String {
        let region = self.endpoint.deprecated_topology.get("topology.kubernetes.io/region");
        match (region, &self.endpoint.zone) {
            (Some(region), Some(zone)) => format!("{region}/{zone}"),
            (Some(region), None) => region.clone(),
            // Without its region a zone is no place that another could be compared with.
            (None, _) => String::new(),
        }
    }
}

/// Why an address is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    #[error("not an address of the slice's addressType")]
    NotAnAddress,
    /// As Kubernetes refuses them in validation: they would mean the caller's own machine.
    #[error("loopback, link-local, multicast and metadata addresses are no endpoints")]
    Neighbourhood,
}

impl EndpointSlice {
    /// An address as written, if it may be an endpoint.
    ///
    /// # Errors
    /// When it is not of the slice's type, or nobody may be sent there.
    pub fn address(&self, text: &str) -> Result<IpAddr, Unusable> {
        let address: IpAddr = text.parse().map_err(|_| Unusable::NotAnAddress)?;
        match (self.address_type, address) {
            (AddressType::IPv4, IpAddr::V4(_)) | (AddressType::IPv6, IpAddr::V6(_)) => {}
            _ => return Err(Unusable::NotAnAddress),
        }
        if is_neighbourhood(address) { Err(Unusable::Neighbourhood) } else { Ok(address) }
    }
}

/// The service that a slice belongs to, by name; its namespace is the slice's.
pub fn service_of<'w>(slice: &Item<'w, EndpointSlice>) -> Option<&'w str> {
    slice.object.meta.label(SERVICE_NAME).filter(|name| !name.is_empty())
}

impl World {
    /// Adds what a service's slices say to the pods that it selects.
    pub(super) fn add_slices<'w>(
        &'w self,
        service: &Item<'w, Service>,
        port: &ServicePort,
        endpoints: &mut Vec<ServiceEndpoint<'w>>,
    ) {
        let candidates = self.candidates(service, port);
        if candidates.is_empty() {
            return;
        }
        let pods = self.pods_at(candidates.iter().map(|candidate| candidate.address).collect());
        let mut known: BTreeSet<SocketAddr> = endpoints.iter().map(ServiceEndpoint::socket).collect();
        for candidate in candidates {
            let Some(endpoint) = self.resolve(service, port, candidate, &pods) else { continue };
            if known.insert(endpoint.socket()) {
                endpoints.push(endpoint);
            }
        }
    }

    fn candidates<'w>(&'w self, service: &Item<'w, Service>, port: &ServicePort) -> Vec<Candidate<'w>> {
        let mut candidates = Vec::new();
        for slice in self.slices_of(service) {
            let Some(listens) = listens_on(&slice, port) else { continue };
            let all = service.publish_not_ready_addresses;
            for endpoint in &slice.spec.endpoints {
                let readiness = Readiness::of(&endpoint.conditions).published(all);
                if !readiness.takes_requests() {
                    continue;
                }
                let addresses = endpoint.addresses.iter().filter_map(|text| slice.spec.address(text).ok());
                let candidate = |address| Candidate { slice, endpoint, address, listens, readiness };
                candidates.extend(addresses.map(candidate));
            }
        }
        candidates
    }

    /// The slices of a service, ordered by name.
    pub(super) fn slices_of<'w>(
        &'w self,
        service: &Item<'_, Service>,
    ) -> impl Iterator<Item = Item<'w, EndpointSlice>> {
        let (namespace, name) = (service.object.key.namespace.clone(), service.object.key.name.clone());
        let found = self.clues.at(Kind::EndpointSlice, Clue::slices(&namespace, &name));
        found.filter_map(|key| Item::of(self.object(&key)?)).filter(move |slice: &Item<'_, EndpointSlice>| {
            slice.namespace() == &*namespace && service_of(slice) == Some(&*name)
        })
    }

    /// Pods by address; those in their node's network share theirs with others and are not told by it.
    pub(super) fn pods_at(&self, wanted: BTreeSet<IpAddr>) -> BTreeMap<IpAddr, Item<'_, Pod>> {
        let usable = |pod: &Item<'_, Pod>| !pod.spec.spec.host_network && !pod.is_finished();
        let of = |address| Some((address, self.pods_with(address).filter(usable).last()?));
        wanted.into_iter().filter_map(of).collect()
    }

    /// The pods that have an address, finished ones and those in their node's network included.
    pub fn pods_with(&self, address: IpAddr) -> impl Iterator<Item = Item<'_, Pod>> {
        self.by_address.at(Kind::Pod, address).filter_map(|key| Item::of(self.object(key)?))
    }

    /// The slices that list an address, whatever comes of it.
    pub fn slices_at(&self, address: IpAddr) -> impl Iterator<Item = Item<'_, EndpointSlice>> {
        let keys = self.by_address.at(Kind::EndpointSlice, address);
        keys.filter_map(|key| Item::of(self.object(key)?))
    }

    /// What a candidate is; `None` for a pod that the service selects itself, or that is not there.
    fn resolve<'w>(
        &'w self,
        service: &Item<'w, Service>,
        port: &ServicePort,
        candidate: Candidate<'w>,
        pods: &BTreeMap<IpAddr, Item<'w, Pod>>,
    ) -> Option<ServiceEndpoint<'w>> {
        let Candidate { slice, endpoint, address, listens, readiness } = candidate;
        let pod = match named(&slice, endpoint) {
            Some((namespace, name)) => {
                let pod = self.get::<Pod>(namespace, name)?;
                Some(pod).filter(|pod| pod.status.pod_ip == Some(address) && !pod.is_finished()).map(Some)?
            }
            None => pods.get(&address).copied(),
        };
        let Some(pod) = pod else {
            let port = listens.or_else(|| number(port))?;
            return Some(ServiceEndpoint::Slice(SliceEndpoint { address, port, endpoint, readiness }));
        };
        if pod.namespace() == service.namespace() && is_selected(service, &pod.object.meta.labels) {
            return None;
        }
        let port = listens.or_else(|| target_port(port, &pod))?;
        Some(ServiceEndpoint::Pod(PodEndpoint { pod, address, port, readiness }))
    }
}

/// An address of an endpoint of a slice of the service.
#[derive(Clone, Copy)]
struct Candidate<'w> {
    slice: Item<'w, EndpointSlice>,
    endpoint: &'w Endpoint,
    address: IpAddr,
    /// Absent where the slice leaves it to the service.
    listens: Option<u16>,
    readiness: Readiness,
}

/// Where a slice's endpoints listen for a port of the service; `None` if they do not. Number 0 asks for addresses only, as
/// a headless service without ports does.
fn listens_on(slice: &EndpointSlice, port: &ServicePort) -> Option<Option<u16>> {
    if port.port == 0 {
        return Some(Some(0));
    }
    slice
        .ports
        .iter()
        .find(|each| each.name == port.name && each.protocol == port.protocol)
        .map(|each| each.port)
}

fn is_selected(service: &Service, labels: &StringMap) -> bool {
    !service.selector.is_empty() && selects(&service.selector, labels)
}

/// Namespace and name of the pod that an endpoint says it is.
pub fn named<'s>(slice: &'s Item<'_, EndpointSlice>, endpoint: &'s Endpoint) -> Option<(&'s str, &'s str)> {
    let target = endpoint.target_ref.as_ref().filter(|target| target.kind == "Pod")?;
    let namespace = target.namespace.as_deref().filter(|namespace| !namespace.is_empty());
    Some((namespace.unwrap_or_else(|| slice.namespace()), &target.name))
}

/// The number that a service's port stands for where there is no pod to name it.
fn number(port: &ServicePort) -> Option<u16> {
    match &port.target_port {
        None | Some(IntOrString::Number(0)) => Some(port.port),
        Some(IntOrString::Number(number)) => Some(*number),
        Some(IntOrString::Name(_)) => None,
    }
}
