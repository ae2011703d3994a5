//! Where we may dial for tenants.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use mesh_core::model::is_neighbourhood;

use crate::api::core::Service;
use crate::world::{KeySource, ServiceEndpoint, World, preferred};

/// What the world declares for the host of a source: nothing for hosts that are nobody's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Places {
    /// The workloads of the host that get requests, by its port.
    pub addresses: BTreeMap<u16, BTreeSet<SocketAddr>>,
    /// Whether an object declares the host, so that it may have private addresses.
    pub declared: bool,
}

impl Places {
    /// The places for a source's host.
    pub fn of(world: &World, source: &KeySource) -> Self {
        let (KeySource::Uri(uri) | KeySource::Issuer(uri)) = source;
        let authority = uri.split_once("://").map_or("", |(_, rest)| rest.split('/').next().unwrap_or(""));
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host).to_ascii_lowercase();
        let mut places = Self::default();
        for entry in world.entries_for(&host) {
            places.declared = true;
            for endpoint in entry.spec.endpoints.iter().filter_map(|endpoint| endpoint.address.parse().ok()) {
                let endpoint: IpAddr = endpoint;
                for port in &entry.spec.ports {
                    let address = SocketAddr::new(endpoint, port.target_port.unwrap_or(port.number));
                    places.addresses.entry(port.number).or_default().insert(address);
                }
            }
        }
        let name = host.trim_end_matches(".cluster.local").trim_end_matches(".svc");
        if let Some((name, namespace)) = name.split_once('.')
            && let Some(service) = world.get::<Service>(namespace, name)
        {
            places.declared = true;
            for port in &service.spec.ports {
                let endpoints = preferred(world.endpoints_of(&service, port), ServiceEndpoint::readiness);
                let all = endpoints.iter().map(ServiceEndpoint::socket);
                places.addresses.entry(port.port).or_default().extend(all);
            }
        }
        places
    }
}

/// Whether we may dial an address for a tenant: never our own neighbourhood, whoever declares it; a private address only
/// where an object declares it.
pub fn is_allowed(address: IpAddr, declared: bool) -> bool {
    !is_neighbourhood(address)
        && match address.to_canonical() {
            IpAddr::V4(address) => declared || !is_private_v4(address),
            IpAddr::V6(address) => !embeds_v4(address) && (declared || !address.is_unique_local()),
        }
}

fn is_private_v4(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    // 100.64.0.0/10 is shared address space (RFC 6598), 198.18.0.0/15 for benchmarks, 240.0.0.0/4 for virtual addresses.
    address.is_private()
        || first == 100 && (64..128).contains(&second)
        || first == 198 && (18..20).contains(&second)
        || first >= 240
}

/// What embeds an IPv4 address (NAT64, 6to4) could lead anywhere.
fn embeds_v4(address: Ipv6Addr) -> bool {
    matches!(address.segments(), [0x64, 0xff9b, ..] | [0x2002, ..] | [0, 0, 0, 0, 0, 0, ..])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// JW-06 of the security catalogue.
    #[test]
    fn what_tenants_may_have_us_dial() {
        for (address, undeclared, declared) in [
            ("127.0.0.1", false, false),
            ("::1", false, false),
            ("::ffff:127.0.0.1", false, false),
            ("169.254.169.254", false, false),
            ("fe80::1", false, false),
            ("fd00:ec2::254", false, false),
            ("64:ff9b::7f00:1", false, false),
            ("0.0.0.0", false, false),
            ("224.0.0.1", false, false),
            ("168.63.129.16", false, false),
            ("10.0.0.1", false, true),
            ("192.168.1.1", false, true),
            ("100.64.0.1", false, true),
            ("fd00::1", false, true),
            ("93.184.216.34", true, true),
            ("2606:4700::1", true, true),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(
                (is_allowed(address, false), is_allowed(address, true)),
                (undeclared, declared),
                "{address}"
            );
        }
    }
}
