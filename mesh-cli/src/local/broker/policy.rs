//! Which addresses may be dialled from the host on behalf of a pod, and where that leads.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use mesh_core::broker::{HOST_ADDRESS, is_inside};
use mesh_core::model::is_metadata;

/// Whether pods may reach the machine that they run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HostAccess {
    /// Its loopback as `host.mesh.internal`, and its own addresses.
    Allowed,
    /// None of it: services that listen there trust who can reach them.
    Refused,
}

const NOT_THE_HOST: &str = "this is the machine itself; start the mesh with --allow-host";

/// What to dial for an address, or why not.
pub(super) fn target(asked: SocketAddr, host: HostAccess) -> Result<SocketAddr, &'static str> {
    let address = SocketAddr::new(asked.ip().to_canonical(), asked.port());
    if address.ip() == IpAddr::V4(HOST_ADDRESS) {
        return match host {
            HostAccess::Allowed => Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()))),
            HostAccess::Refused => Err(NOT_THE_HOST),
        };
    }
    if let Some(why) = never(address.ip()) {
        return Err(why);
    }
    if host == HostAccess::Refused && is_own(address) {
        return Err(NOT_THE_HOST);
    }
    Ok(address)
}

/// What nobody may reach this way.
fn never(address: IpAddr) -> Option<&'static str> {
    if address.is_loopback() || address.is_unspecified() {
        return Some("loopback of the host has the name host.mesh.internal");
    }
    if is_inside(address) {
        return Some("this is the mesh's own network");
    }
    if is_metadata(address) {
        return Some("this is a cloud's metadata service");
    }
    let local = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast() || address.is_multicast(),
        IpAddr::V6(address) => address.is_unicast_link_local() || address.is_multicast(),
    };
    local.then_some("link-local and multicast addresses have no meaning outside of their link")
}

/// Whether it is an address of this machine: the system would use it as its own end as well.
fn is_own(address: SocketAddr) -> bool {
    let any: IpAddr =
        if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // Connecting a datagram socket sends nothing.
    let local = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect(address)?;
        socket.local_addr()
    });
    local.is_ok_and(|local| local.ip() == address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(address: &str, host: HostAccess) -> Result<String, &'static str> {
        target(address.parse().unwrap(), host).map(|target| target.to_string())
    }

    #[test]
    fn the_mesh_loopback_links_and_metadata_are_never_reached() {
        for address in [
            "10.244.0.1:15012",
            "10.96.0.10:53",
            "240.240.0.1:80",
            "127.0.0.1:22",
            "127.8.8.8:22",
            "0.0.0.0:22",
            "[::1]:22",
            "[::]:22",
            "[::ffff:127.0.0.1]:22",
            "[::ffff:10.244.0.1]:15012",
            "169.254.169.254:80",
            "[::ffff:169.254.169.254]:80",
            "[fe80::1]:80",
            "224.0.0.1:80",
            "255.255.255.255:80",
            "[ff02::1]:80",
            "100.100.100.200:80",
            "168.63.129.16:80",
            "192.0.0.192:80",
            "[fd00:ec2::254]:80",
        ] {
            for host in [HostAccess::Allowed, HostAccess::Refused] {
                assert!(judge(address, host).is_err(), "{address} {host:?}");
            }
        }
    }

    #[test]
    fn the_host_is_reached_by_its_name_only_when_allowed() {
        assert_eq!(judge("240.0.0.1:5432", HostAccess::Refused), Err(NOT_THE_HOST));
        assert_eq!(judge("240.0.0.1:5432", HostAccess::Allowed), Ok("127.0.0.1:5432".to_owned()));
    }

    #[test]
    fn everything_else_is_dialled_as_it_is() {
        for address in ["192.0.2.1:443", "[2001:db8::1]:443", "172.31.255.1:80"] {
            assert_eq!(judge(address, HostAccess::Refused), Ok(address.to_owned()), "{address}");
        }
        assert_eq!(judge("[::ffff:192.0.2.1]:443", HostAccess::Refused), Ok("192.0.2.1:443".to_owned()));
    }

    #[test]
    fn the_machines_own_addresses_are_told_without_a_packet() {
        assert!(is_own("127.0.0.1:1".parse().unwrap()));
        assert!(!is_own("192.0.2.1:1".parse().unwrap()));
    }
}
