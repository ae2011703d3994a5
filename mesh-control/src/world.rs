//! Every object the control plane knows, and the answers that need more than one of them.
//!
//! Pure: changes come in, nothing is read from anywhere. An object whose latest version was refused keeps its last
//! good one (D11), because sources never upsert what they refuse. What is derived (addresses of services, the mesh
//! configuration) depends on the objects and, for addresses, on which came first; nothing is lost by applying the
//! same changes in other batches.

mod addresses;
mod by_address;
mod clues;
mod endpoints;
mod keys;
mod objects;
mod protocol;
mod readiness;
mod secrets;
mod settings;
mod slices;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use addresses::Addresses;
pub use addresses::ServiceAddress;
use by_address::ByAddress;
use clues::{Clue, Clues};
pub use endpoints::{EntryEndpoint, PodEndpoint, ServiceEndpoint, WrittenEndpoint, locality, target_port};
pub use keys::{KeySet, KeySource};
use objects::Objects;
pub use protocol::{entry_protocol, service_protocol};
pub use readiness::{Readiness, preferred};
pub use secrets::{InvalidSecret, TlsSecret};
pub use slices::{SliceEndpoint, Unusable, named, service_of};

use crate::api::core::{Pod, Service};
use crate::api::networking::{ServiceEntry, VirtualService};
use crate::api::{Content, Item, Key, Kind, MeshConfig, Object};
use crate::problem::Problem;
use crate::source::{Change, Findings};

/// All objects by key, with what follows from them.
#[derive(Debug, Clone, Default)]
pub struct World {
    objects: Objects,
    /// Given to the next object that is new.
    sequence: u64,
    addresses: Arc<Addresses>,
    by_address: ByAddress,
    clues: Clues,
    settings: settings::Settings,
    findings: Arc<Findings>,
    key_sets: BTreeMap<KeySource, KeySet>,
    leaves_nginx: bool,
}

/// What a change touched; what was not touched need not be translated again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Touched {
    /// Objects that are new, different or gone.
    pub keys: BTreeSet<Key>,
    /// Whether the mesh configuration is different.
    pub mesh_config: bool,
}

impl Touched {
    /// Whether an object of a kind was touched.
    pub fn has(&self, kind: Kind) -> bool {
        self.keys.iter().any(|key| key.kind == kind)
    }

    /// Whether only objects of these kinds were touched.
    pub fn only(&self, kinds: &[Kind]) -> bool {
        !self.mesh_config && self.keys.iter().all(|key| kinds.contains(&key.kind))
    }

    /// Whether nothing was touched.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && !self.mesh_config
    }
}

impl World {
    /// A world in which services keep the addresses they had, as [`World::allotments`] gave them.
    pub fn with_allotments(allotments: impl IntoIterator<Item = (Key, Ipv4Addr)>) -> Self {
        Self { addresses: Arc::new(Addresses::new(allotments)), ..Self::default() }
    }

    /// Takes in a change and says what it touched.
    pub fn apply(&mut self, change: Change) -> Touched {
        let mut keys = BTreeSet::new();
        for key in change.removed {
            if let Some(known) = self.objects.remove(&key) {
                self.by_address.remove(&known);
                self.clues.remove(&known);
                if key.kind == Kind::Service {
                    Arc::make_mut(&mut self.addresses).release(&key);
                }
                keys.insert(key);
            }
        }
        for object in change.upserted {
            keys.extend(self.upsert(object));
        }
        if keys.iter().any(|key| key.kind == Kind::Service) {
            self.allot();
        }
        self.findings = change.findings;
        let mesh_config = keys.contains(&settings::key()) && self.read_settings();
        Touched { keys, mesh_config }
    }

    /// Takes in one object; `None` if it says what is known already.
    fn upsert(&mut self, mut object: Object) -> Option<Key> {
        let known = self.objects.get(&object.key);
        if known.is_some_and(|known| known.same_content(&object)) {
            return None;
        }
        match known {
            Some(known) if object.meta.creation_timestamp.is_none() => object.age = known.age,
            Some(known) => object.age.sequence = known.age.sequence,
            // Of what a cluster says, replicas that have read it in another order must still make the same of it.
            None if object.origin.file.is_none() && object.meta.creation_timestamp.is_some() => {}
            None => {
                object.age.sequence = self.sequence;
                self.sequence += 1;
            }
        }
        let (key, object) = (object.key.clone(), Arc::new(object));
        if let Some(known) = self.objects.get(&key) {
            self.by_address.remove(known);
            self.clues.remove(known);
        }
        self.by_address.insert(&object);
        self.clues.insert(&object);
        self.objects.insert(object);
        Some(key)
    }

    /// Addresses that services ask for come before those that are allotted.
    fn allot(&mut self) {
        let mut wanting: Vec<Item<'_, Service>> = items::<Service>(&self.objects, None).collect();
        wanting.sort_by_key(|service| (service.cluster_ip.is_none(), service.object.age));
        let addresses = Arc::make_mut(&mut self.addresses);
        for service in wanting {
            addresses.update(&service.object.key, service.spec);
        }
    }

    fn read_settings(&mut self) -> bool {
        let object = self.objects.get(&settings::key()).cloned();
        self.settings.update(object.as_deref())
    }

    /// One object by key.
    pub fn object(&self, key: &Key) -> Option<&Arc<Object>> {
        self.objects.get(key)
    }

    /// All objects, ordered by kind, namespace and name.
    pub fn objects(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.objects.all()
    }

    /// One object by type and name.
    pub fn get<T: Content>(&self, namespace: &str, name: &str) -> Option<Item<'_, T>> {
        Item::of(self.objects.get(&Key::new(T::KIND, namespace, name))?)
    }

    /// All objects of a type, ordered by namespace and name.
    pub fn all<T: Content>(&self) -> impl Iterator<Item = Item<'_, T>> {
        items(&self.objects, None)
    }

    /// All objects of a type in one namespace, ordered by name.
    pub fn in_namespace<'w, T: Content>(
        &'w self,
        namespace: &str,
    ) -> impl Iterator<Item = Item<'w, T>> + use<'w, T> {
        items(&self.objects, Some(namespace))
    }

    /// All objects of a type, the oldest first: the order of every rule in which the oldest wins.
    pub fn oldest_first<T: Content>(&self) -> Vec<Item<'_, T>> {
        let mut items: Vec<_> = self.all().collect();
        items.sort_by(oldest);
        items
    }

    /// The settings of the mesh; Istio's defaults where nobody wrote any.
    pub fn mesh_config(&self) -> &MeshConfig {
        &self.settings.config
    }

    /// The address that applications dial for a service.
    pub fn address_of(&self, service: &Item<'_, Service>) -> ServiceAddress {
        self.addresses.of(&service.object.key, service.spec)
    }

    /// Addresses that were allotted to services without one, to be kept over a restart.
    pub fn allotments(&self) -> impl Iterator<Item = (&Key, Ipv4Addr)> {
        self.addresses.allotted()
    }

    /// Pods in the order of their names.
    pub fn pods_in<'w>(&'w self, namespace: &str) -> impl Iterator<Item = Item<'w, Pod>> + use<'w> {
        self.in_namespace(namespace)
    }

    /// VirtualServices that write one of these hosts so (lower case), and all that have a wildcard, the oldest first.
    pub fn routes_naming<const N: usize>(&self, hosts: [&str; N]) -> Vec<Item<'_, VirtualService>> {
        let clues = hosts.map(Clue::routes).into_iter().chain([Clue::wildcard_routes()]);
        let keys: BTreeSet<Key> = clues.flat_map(|clue| self.clues.at(Kind::VirtualService, clue)).collect();
        let found = keys.iter().filter_map(|key| Item::of(self.objects.get(key)?));
        let mut items: Vec<Item<'_, VirtualService>> = found.collect();
        items.sort_by(oldest);
        items
    }

    /// ServiceEntries that list `host` word for word (lower case), the oldest first.
    pub fn entries_for(&self, host: &str) -> Vec<Item<'_, ServiceEntry>> {
        let mut entries = self.oldest_first::<ServiceEntry>();
        entries.retain(|entry| entry.hosts.iter().any(|listed| listed.eq_ignore_ascii_case(host)));
        entries
    }

    /// Why the latest version of an object is not used; its last good version is, if there was one.
    pub fn refusal(&self, key: &Key) -> Option<&Problem> {
        self.findings.refused.get(key).map(Arc::as_ref)
    }

    /// All objects whose latest version is not used, with the reasons.
    pub fn refusals(&self) -> impl Iterator<Item = (&Key, &Problem)> {
        self.findings.refused.iter().map(|(key, problem)| (key, &**problem))
    }

    /// Leaves Ingresses of class `nginx` to ingress-nginx, which may run in the same cluster.
    pub fn leave_nginx(&mut self) {
        self.leaves_nginx = true;
    }

    /// Whether Ingresses of class `nginx` are ours although no IngressClass says so.
    pub fn claims_nginx(&self) -> bool {
        !self.leaves_nginx
    }

    /// All problems of the source and of the mesh configuration.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.findings.problems.iter().map(Arc::as_ref).chain(&self.settings.problems)
    }
}

/// The oldest first.
fn oldest<T>(a: &Item<'_, T>, b: &Item<'_, T>) -> Ordering {
    (a.object.age, &a.object.key).cmp(&(b.object.age, &b.object.key))
}

/// The objects of a type, in all namespaces or in one.
fn items<'w, T: Content>(
    objects: &'w Objects,
    namespace: Option<&str>,
) -> impl Iterator<Item = Item<'w, T>> + use<'w, T> {
    objects.of(T::KIND, namespace).filter_map(|object| Item::of(object))
}

#[cfg(test)]
mod tests;
