//! The addresses of names, as captured DNS queries ask for them.

use std::net::IpAddr;

use mesh_core::model::{DnsName, Host};

use crate::api::core::Service as KubernetesService;
use crate::translate::catalog::Service;
use crate::translate::scope::Scope;
use crate::world::{ServiceEndpoint, preferred};

/// How long an application may keep an answer about a virtual address, and about pods, in seconds.
const TTL: u32 = 30;
const TTL_PODS: u32 = 5;

/// The addresses of a name under which a service is declared, or one of the pods of a headless service; `None` when none
/// is. The answer carries the name as asked.
pub fn name(scope: &Scope<'_>, asked: &Host) -> Option<DnsName> {
    of_service(scope, asked).or_else(|| {
        let addresses = vec![pod(scope, asked)?];
        Some(DnsName { name: asked.clone(), addresses, ttl: TTL_PODS })
    })
}

/// The pod that a name means: its host name, then its headless service (`db-0.db`), as the pods of a StatefulSet are
/// called.
pub fn pod(scope: &Scope<'_>, asked: &Host) -> Option<IpAddr> {
    let (hostname, service) = asked.as_str().split_once('.')?;
    let host = scope.catalog.canonical(&Host::parse(service).ok()?, scope.sight())?;
    let service = scope.catalog.find(&host, scope.sight()).filter(|service| service.headless)?;
    let named = scope.world.pods_in(&service.namespace).find(|pod| {
        pod.spec.spec.hostname.as_deref() == Some(hostname)
            && pod.spec.spec.subdomain.as_deref() == Some(&service.name)
    })?;
    named.status.pod_ip.filter(|address| pods(scope, service).contains(address))
}

fn of_service(scope: &Scope<'_>, asked: &Host) -> Option<DnsName> {
    let host = scope.catalog.canonical(asked, scope.sight())?;
    let service = scope.catalog.find(&host, scope.sight())?;
    let (addresses, ttl) = match service.addresses.as_slice() {
        [] if service.headless => (pods(scope, service), TTL_PODS),
        [] => return None,
        addresses => (addresses.to_vec(), TTL),
    };
    Some(DnsName { name: asked.clone(), addresses, ttl })
}

/// The addresses that stand behind a service, whatever its ports.
pub fn pods(scope: &Scope<'_>, service: &Service) -> Vec<IpAddr> {
    let Some(item) = scope.world.get::<KubernetesService>(&service.namespace, &service.name) else {
        return Vec::new();
    };
    let any = crate::api::core::ServicePort::default();
    let ports =
        if item.spec.ports.is_empty() { std::slice::from_ref(&any) } else { item.spec.ports.as_slice() };
    let of = |port| preferred(scope.world.endpoints_of(&item, port), ServiceEndpoint::readiness);
    let mut addresses: Vec<IpAddr> =
        ports.iter().flat_map(of).map(|endpoint| endpoint.socket().ip()).collect();
    addresses.sort();
    addresses.dedup();
    addresses
}
