//! Addresses that mean something only here: on this machine, on its link, between proxies. Nothing that a tenant or a
//! resolver says may lead there by way of the mesh.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Virtual addresses are allotted from 240.240.0.0/16, as Istio's: nothing but a proxy can answer them.
pub const ALLOTTED: Ipv4Addr = Ipv4Addr::new(240, 240, 0, 0);

/// Whether an address is one that the control plane has allotted.
pub const fn is_allotted(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(address) if matches!(address.octets(), [240, 240, ..]))
}

/// Metadata services of clouds that do not use a link-local address: they hand out the machine's own credentials.
const METADATA: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

/// Whether an address is a cloud's metadata service; those on the link are not told apart from the rest of it.
pub fn is_metadata(address: IpAddr) -> bool {
    METADATA.contains(&address.to_canonical())
}

/// Whether an address is in our own neighbourhood, whoever asks: this machine, its link, nobody, everybody, or a cloud's
/// metadata service.
pub fn is_neighbourhood(address: IpAddr) -> bool {
    let near = match address.to_canonical() {
        IpAddr::V4(address) => {
            // All of 0.0.0.0/8 is "this network" (RFC 6890).
            address.octets()[0] == 0
                || address.is_loopback()
                || address.is_link_local()
                || address.is_multicast()
                || address.is_broadcast()
        }
        IpAddr::V6(address) => {
            address.is_loopback()
                || address.is_unspecified()
                || address.is_multicast()
                || address.is_unicast_link_local()
        }
    };
    near || is_metadata(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_neighbourhood_is_this_machine_its_link_and_metadata_services() {
        for near in [
            "127.8.8.8",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "::1",
            "::",
            "fe80::1",
            "ff02::1",
            "fd00:ec2::254",
            "::ffff:127.0.0.1",
            "::ffff:168.63.129.16",
        ] {
            assert!(is_neighbourhood(near.parse().unwrap()), "{near}");
        }
        for far in ["10.0.0.1", "192.168.1.1", "93.184.216.34", "fd00::1", "2606:4700::1"] {
            assert!(!is_neighbourhood(far.parse().unwrap()), "{far}");
        }
    }
}
