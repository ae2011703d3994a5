//! Which pods and EndpointSlices have an address: what else would be told by looking at all of them.
//!
//! As with [`super::objects`], copies of a world share what they have in common: an address is in one of a fixed number of
//! parts, and a change copies the parts of its addresses only. Who has an address is not judged here: finished pods and
//! pods in their node's network are in it as well.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use crate::api::core::Pod;
use crate::api::discovery::EndpointSlice;
use crate::api::{Item, Key, Kind, Object};

/// Of 100,000 pods each part has some 25.
const PARTS: usize = 4096;

/// By address.
type Part = BTreeSet<(IpAddr, Key)>;

#[derive(Debug, Clone)]
pub(super) struct ByAddress(Box<[Arc<Part>]>);

impl Default for ByAddress {
    fn default() -> Self {
        Self(vec![Arc::default(); PARTS].into())
    }
}

impl ByAddress {
    /// The keys of the pods, or of the slices, that have an address.
    pub(super) fn at(&self, kind: Kind, address: IpAddr) -> impl Iterator<Item = &Key> {
        let from = (address, Key { kind, namespace: Arc::default(), name: Arc::default() });
        let found = self.0[part_of(address)].range(from..);
        found.take_while(move |(each, key)| *each == address && key.kind == kind).map(|(_, key)| key)
    }

    pub(super) fn insert(&mut self, object: &Arc<Object>) {
        for address in addresses(object) {
            Arc::make_mut(&mut self.0[part_of(address)]).insert((address, object.key.clone()));
        }
    }

    pub(super) fn remove(&mut self, object: &Arc<Object>) {
        for address in addresses(object) {
            Arc::make_mut(&mut self.0[part_of(address)]).remove(&(address, object.key.clone()));
        }
    }
}

/// By the last bits, in which the addresses of one network differ.
fn part_of(address: IpAddr) -> usize {
    let [.., high, low] = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
    .octets();
    usize::from(u16::from_be_bytes([high, low])) % PARTS
}

fn addresses(object: &Arc<Object>) -> Vec<IpAddr> {
    match object.key.kind {
        Kind::Pod => Item::<Pod>::of(object).and_then(|pod| pod.status.pod_ip).into_iter().collect(),
        Kind::EndpointSlice => {
            let slice = Item::<EndpointSlice>::of(object);
            let endpoints = slice.iter().flat_map(|slice| &slice.spec.endpoints);
            endpoints.flat_map(|endpoint| &endpoint.addresses).filter_map(|text| text.parse().ok()).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::api::Content;
    use crate::source::Change;
    use crate::source::files::load_text;
    use crate::world::World;

    use super::*;

    fn written(kind: usize, name: usize, address: Option<usize>) -> String {
        let address = address.map(|address| format!("10.0.{address}.7"));
        if kind == 0 {
            let status = address.map(|address| format!("status: {{podIP: {address}}}\n")).unwrap_or_default();
            format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: n{name}}}\nspec: {{containers: [{{name: c}}]}}\n{status}"
            )
        } else {
            let address =
                address.map(|address| format!("{{addresses: [{address}, 10.0.0.9]}}")).unwrap_or_default();
            format!(
                "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: n{name}}}\n\
                 addressType: IPv4\nendpoints: [{address}]\n"
            )
        }
    }

    #[test]
    fn it_says_what_looking_at_all_would_say() {
        let mut random = fastrand::Rng::with_seed(7);
        let (mut world, mut found) = (World::default(), 0);
        for _ in 0..300 {
            let (kind, name) = (random.usize(0..2), random.usize(0..3));
            let change = if random.u8(0..4) == 0 {
                let kind = [Pod::KIND, EndpointSlice::KIND][kind];
                Change { removed: vec![Key::new(kind, "default", &format!("n{name}"))], ..Change::default() }
            } else {
                let address = random.bool().then(|| random.usize(0..3));
                Change::from(load_text(Path::new("t.yaml"), &written(kind, name, address)))
            };
            let before = world.clone();
            let kept: Vec<_> =
                [0, 1, 2].map(|at| before.pods_at([([10, 0, at, 7]).into()].into()).len()).into();
            world.apply(change);
            let same: Vec<_> =
                [0, 1, 2].map(|at| before.pods_at([([10, 0, at, 7]).into()].into()).len()).into();
            assert_eq!(kept, same, "an older world is as it was");
            for address in [[10, 0, 0, 7], [10, 0, 1, 7], [10, 0, 2, 7], [10, 0, 0, 9]].map(IpAddr::from) {
                for kind in [Pod::KIND, EndpointSlice::KIND] {
                    let all = world.objects().filter(|object| object.key.kind == kind);
                    let expected: Vec<_> = all
                        .filter(|object| addresses(object).contains(&address))
                        .map(|object| &object.key)
                        .collect();
                    let seen: Vec<_> = world.by_address.at(kind, address).collect();
                    assert_eq!(seen, expected);
                    found += seen.len();
                }
            }
        }
        assert!(found > 300, "{found}");
    }
}
