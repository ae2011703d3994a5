//! The addresses of names, as captured DNS queries ask for them.

use std::net::IpAddr;

use mesh_core::model::{DnsName, Host};

use crate::api::core::Service as KubernetesService;
use crate::translate::catalog::Service;
use crate::translate::scope::Scope;

/// How long an application may keep an answer about a virtual address, and about pods, in seconds.
const TTL: u32 = 30;
const TTL_PODS: u32 = 5;

/// The addresses of a name under which a service is declared; `None` when none is. The answer carries the name as asked.
pub fn name(scope: &Scope<'_>, asked: &Host) -> Option<DnsName> {
    let host = scope.catalog.canonical(asked, scope.client.namespace)?;
    let service = scope.catalog.find(&host, scope.client.namespace)?;
    let (addresses, ttl) = match service.addresses.as_slice() {
        [] if service.headless => (pods(scope, service), TTL_PODS),
        [] => return None,
        addresses => (addresses.to_vec(), TTL),
    };
    Some(DnsName { name: asked.clone(), addresses, ttl })
}

/// The pods that stand behind a service, whatever its ports.
pub fn pods(scope: &Scope<'_>, service: &Service) -> Vec<IpAddr> {
    let Some(item) = scope.world.get::<KubernetesService>(&service.namespace, &service.name) else {
        return Vec::new();
    };
    let any = crate::api::core::ServicePort::default();
    let ports =
        if item.spec.ports.is_empty() { std::slice::from_ref(&any) } else { item.spec.ports.as_slice() };
    let endpoints = ports.iter().flat_map(|port| scope.world.endpoints_of(&item, port));
    let mut addresses: Vec<IpAddr> = endpoints.map(|endpoint| endpoint.address).collect();
    addresses.sort();
    addresses.dedup();
    addresses
}
