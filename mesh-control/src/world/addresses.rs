//! Addresses of services, as a cluster would allot them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use xxhash_rust::xxh3::xxh3_64;

use crate::api::Key;
use crate::api::core::{Service, ServiceType};

/// 10.96.0.0/16, as kubeadm's default.
const RANGE: u32 = u32::from_be_bytes([10, 96, 0, 0]);
const SIZE: u32 = 1 << 16;
/// The network, the API server's address and the DNS server's address, as kubeadm gives them; and the broadcast.
const RESERVED: [u32; 4] = [0, 1, 10, SIZE - 1];

/// What applications dial for a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceAddress {
    /// One virtual address.
    Virtual(IpAddr),
    /// The addresses of its pods.
    Headless,
    /// Another DNS name, `spec.externalName`.
    External,
    /// The range is used up, or the address asked for is not one.
    None,
}

/// Who has which address of the range.
///
/// An address depends on the service's name, not on when it came, except where two names meet: then on the order.
#[derive(Debug, Clone, Default)]
pub(super) struct Addresses {
    by_service: BTreeMap<Key, Taken>,
    owners: BTreeMap<Ipv4Addr, Key>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Taken {
    /// The service asked for it.
    Asked(Ipv4Addr),
    /// We chose it.
    Allotted(Ipv4Addr),
}

impl Addresses {
    pub(super) fn new(allotments: impl IntoIterator<Item = (Key, Ipv4Addr)>) -> Self {
        let mut addresses = Self::default();
        for (key, address) in allotments {
            if offset(address).is_some() && !addresses.owners.contains_key(&address) {
                addresses.take(&key, Taken::Allotted(address));
            }
        }
        addresses
    }

    /// Sees to it that a service has the address it should have.
    pub(super) fn update(&mut self, key: &Key, service: &Service) {
        match asked_address(service) {
            Asked::Nothing => {
                if !matches!(self.by_service.get(key), Some(Taken::Allotted(_))) {
                    self.release(key);
                    self.allot(key);
                }
            }
            Asked::Address(IpAddr::V4(address)) if offset(address).is_some() => {
                if self.by_service.get(key) != Some(&Taken::Asked(address)) {
                    self.release(key);
                    self.evict(address);
                    self.take(key, Taken::Asked(address));
                }
            }
            Asked::Address(_) | Asked::Headless | Asked::External | Asked::Nonsense => self.release(key),
        }
    }

    pub(super) fn release(&mut self, key: &Key) {
        if let Some(Taken::Asked(address) | Taken::Allotted(address)) = self.by_service.remove(key)
            && self.owners.get(&address) == Some(key)
        {
            self.owners.remove(&address);
        }
    }

    pub(super) fn of(&self, key: &Key, service: &Service) -> ServiceAddress {
        match asked_address(service) {
            Asked::Address(address) => ServiceAddress::Virtual(address),
            Asked::Headless => ServiceAddress::Headless,
            Asked::External => ServiceAddress::External,
            Asked::Nonsense => ServiceAddress::None,
            Asked::Nothing => match self.by_service.get(key) {
                Some(Taken::Allotted(address) | Taken::Asked(address)) => {
                    ServiceAddress::Virtual(IpAddr::V4(*address))
                }
                None => ServiceAddress::None,
            },
        }
    }

    pub(super) fn allotted(&self) -> impl Iterator<Item = (&Key, Ipv4Addr)> {
        self.by_service.iter().filter_map(|(key, taken)| match taken {
            Taken::Allotted(address) => Some((key, *address)),
            Taken::Asked(_) => None,
        })
    }

    /// The first free address from the one that the name hashes to.
    fn allot(&mut self, key: &Key) {
        let hash = xxh3_64(format!("{}/{}", key.namespace, key.name).as_bytes());
        let start = u32::try_from(hash % u64::from(SIZE)).unwrap_or_default();
        let free = (0..SIZE)
            .map(|step| (start + step) % SIZE)
            .filter(|offset| !RESERVED.contains(offset))
            .map(|offset| Ipv4Addr::from(RANGE + offset))
            .find(|address| !self.owners.contains_key(address));
        if let Some(address) = free {
            self.take(key, Taken::Allotted(address));
        }
    }

    /// A service that asks for an address moves one to which it was merely allotted. Of two that ask, both answer to
    /// it, as they say so; a cluster would have refused the second.
    fn evict(&mut self, address: Ipv4Addr) {
        let Some(owner) = self.owners.get(&address).cloned() else { return };
        if self.by_service.get(&owner) == Some(&Taken::Allotted(address)) {
            self.by_service.remove(&owner);
        }
    }

    fn take(&mut self, key: &Key, taken: Taken) {
        let (Taken::Asked(address) | Taken::Allotted(address)) = taken;
        self.owners.insert(address, key.clone());
        self.by_service.insert(key.clone(), taken);
    }
}

enum Asked {
    Nothing,
    Address(IpAddr),
    Headless,
    External,
    Nonsense,
}

fn asked_address(service: &Service) -> Asked {
    if service.service_type == ServiceType::ExternalName {
        return Asked::External;
    }
    match service.cluster_ip.as_deref() {
        None | Some("") => Asked::Nothing,
        Some("None") => Asked::Headless,
        Some(address) => address.parse().map_or(Asked::Nonsense, Asked::Address),
    }
}

/// An address's place in the range.
fn offset(address: Ipv4Addr) -> Option<u32> {
    u32::from(address).checked_sub(RANGE).filter(|offset| *offset < SIZE)
}
