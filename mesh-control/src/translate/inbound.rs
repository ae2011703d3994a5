//! The ports of a workload: those that services declare, or those that its Sidecar lists instead.
//!
//! A port that neither names is served all the same: its protocol is told by the first bytes, and its mode is the
//! workload's.

use std::net::SocketAddr;

use mesh_core::model::{Host, InboundPort, Protocol};

use super::peer::Modes;
use super::scope::Scope;
use super::workload;
use crate::api::Item;
use crate::api::core::Pod;
use crate::api::networking::{Sidecar, SidecarIngress};
use crate::world::{entry_protocol, service_protocol, target_port};

/// What the proxy serves itself: an endpoint there would be a loop, or a door to what is for the pod alone.
const PROXY_PORTS: std::ops::RangeInclusive<u16> = 15000..=15099;

/// The ports of a pod, in order.
pub fn ports(scope: &Scope<'_>, pod: &Item<'_, Pod>, modes: &Modes) -> Vec<InboundPort> {
    let mut ports = of_services(scope, pod, modes);
    let listed = listeners(scope);
    if !listed.is_empty() {
        ports = of_sidecar(listed, pod, modes, &ports);
    }
    ports.extend(undeclared(pod, modes, &ports));
    ports.sort_by_key(|port| port.port);
    ports
}

/// The ports that services declare, one entry each; of two services the first by name counts.
fn of_services(scope: &Scope<'_>, pod: &Item<'_, Pod>, modes: &Modes) -> Vec<InboundPort> {
    let mut services: Vec<_> = scope.world.services_of(pod).collect();
    services.sort_by(|left, right| left.name().cmp(right.name()));
    let mut ports: Vec<InboundPort> = Vec::new();
    for service in &services {
        let (name, namespace) = (service.name(), service.namespace());
        let Ok(host) = Host::parse(&format!("{name}.{namespace}.svc.cluster.local")) else { continue };
        for declared in &service.spec.ports {
            let (Some(protocol), Some(port)) = (service_protocol(declared), target_port(declared, pod.spec))
            else {
                continue;
            };
            if ports.iter().all(|known| known.port != port) {
                ports.push(InboundPort {
                    port,
                    protocol,
                    mtls: modes.of(port),
                    endpoint: None,
                    service: host.clone(),
                    service_name: name.to_owned(),
                    service_namespace: namespace.to_owned(),
                });
            }
        }
    }
    ports
}

fn listeners<'w>(scope: &Scope<'w>) -> &'w [SidecarIngress] {
    let key = scope.client.sidecar.map(|sidecar| &sidecar.key);
    let item = key.and_then(|key| scope.world.get::<Sidecar>(&key.namespace, &key.name));
    item.map(|item| item.spec.ingress.as_slice()).unwrap_or_default()
}

/// Of two listeners of a port the first counts. The service whose port it is gives it its name.
fn of_sidecar(
    listeners: &[SidecarIngress],
    pod: &Item<'_, Pod>,
    modes: &Modes,
    declared: &[InboundPort],
) -> Vec<InboundPort> {
    let mut ports: Vec<InboundPort> = Vec::new();
    for listener in listeners {
        let port = listener.port.number;
        let named = declared.iter().find(|known| known.port == port).cloned();
        let Some(base) = named.or_else(|| nameless(pod, port)) else { continue };
        if port != 0 && ports.iter().all(|known| known.port != port) {
            ports.push(InboundPort {
                protocol: entry_protocol(&listener.port),
                mtls: modes.of(port),
                endpoint: endpoint(&listener.default_endpoint, pod).unwrap_or_default(),
                ..base
            });
        }
    }
    ports
}

/// Where an application listens: on loopback, or on the pod's own address.
///
/// # Errors
/// Why it cannot be: what was dialled is what is reached then.
pub fn endpoint(text: &str, pod: &Item<'_, Pod>) -> Result<Option<SocketAddr>, String> {
    let Some(address) = written_endpoint(text)? else { return Ok(None) };
    if !address.ip().is_unspecified() {
        return Ok(Some(address));
    }
    Ok(pod.status.pod_ip.map(|own| SocketAddr::new(own, address.port())))
}

/// An endpoint as it is written, where all zeros stand for the pod.
///
/// # Errors
/// As [`endpoint`].
pub fn written_endpoint(text: &str) -> Result<Option<SocketAddr>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    if text.starts_with("unix:") {
        return Err("sockets of files are not supported; the port itself is used".to_owned());
    }
    let address: SocketAddr =
        text.parse().map_err(|_| format!("{text:?} is not an address and port, such as 127.0.0.1:8080"))?;
    if PROXY_PORTS.contains(&address.port()) {
        return Err(format!("port {} is the proxy's own; the listener's port is used", address.port()));
    }
    match address.ip() {
        ip if ip.is_loopback() || ip.is_unspecified() => Ok(Some(address)),
        _ => Err(format!("{text:?} is not the workload itself; write 127.0.0.1 or 0.0.0.0")),
    }
}

/// Ports that no service declares but a PeerAuthentication names: their mode must hold all the same.
fn undeclared(pod: &Item<'_, Pod>, modes: &Modes, declared: &[InboundPort]) -> Vec<InboundPort> {
    let fresh = modes.named().iter().filter(|(port, _)| declared.iter().all(|known| known.port != *port));
    fresh.filter_map(|&(port, mtls)| Some(InboundPort { mtls, ..nameless(pod, port)? })).collect()
}

/// A port that is no service's, under the name of the workload.
fn nameless(pod: &Item<'_, Pod>, port: u16) -> Option<InboundPort> {
    let facts = workload::facts(pod);
    Some(InboundPort {
        port,
        protocol: Protocol::Detect,
        mtls: Default::default(),
        endpoint: None,
        service: Host::parse(&format!("{}.{}", facts.workload, facts.namespace)).ok()?,
        service_name: facts.workload,
        service_namespace: facts.namespace,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_the_workload_itself() {
        for (text, expected) in [
            ("", Some(None)),
            ("127.0.0.1:8080", Some(Some("127.0.0.1:8080"))),
            ("[::1]:8080", Some(Some("[::1]:8080"))),
            ("0.0.0.0:8080", Some(Some("0.0.0.0:8080"))),
            ("10.0.0.1:8080", None),
            ("unix:///tmp/socket", None),
            ("127.0.0.1", None),
            ("127.0.0.1:15006", None),
            ("0.0.0.0:15000", None),
        ] {
            let found = written_endpoint(text).ok();
            assert_eq!(found, expected.map(|address| address.map(|text| text.parse().unwrap())), "{text}");
        }
    }
}
