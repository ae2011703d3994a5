//! Objects by what others name them by: pods by their labels, services by what they select, slices by their service,
//! VirtualServices by their hosts. What else would be told by looking at all of a namespace.
//!
//! A clue is a hash, so what is found by it is a candidate, and who asks looks closer. As with [`super::objects`], copies of a
//! world share what they have in common.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher as _};
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

use crate::api::core::{Pod, Service};
use crate::api::discovery::EndpointSlice;
use crate::api::meta::StringMap;
use crate::api::networking::VirtualService;
use crate::api::{Item, Key, Kind, Object};

/// Of 100,000 pods each part has some 25 for each of their labels.
const PARTS: u64 = 4096;

/// What an object is found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Clue(u64);

/// Clue, namespace, name.
type Part = BTreeSet<(Clue, Arc<str>, Arc<str>)>;

#[derive(Debug, Clone)]
pub(super) struct Clues(Box<[Arc<Part>]>);

impl Default for Clues {
    fn default() -> Self {
        Self((0..PARTS).map(|_| Arc::default()).collect())
    }
}

impl Clue {
    fn new(kind: Kind, words: [&str; 3]) -> Self {
        let mut hasher = Xxh3::new();
        (kind, words).hash(&mut hasher);
        Self(hasher.finish())
    }

    /// What pods of a namespace are found by that have a label.
    pub(super) fn pods(namespace: &str, name: &str, value: &str) -> Self {
        Self::new(Kind::Pod, [namespace, name, value])
    }

    /// What services of a namespace are found by whose selector begins with this label.
    pub(super) fn services(namespace: &str, name: &str, value: &str) -> Self {
        Self::new(Kind::Service, [namespace, name, value])
    }

    /// What the slices of a service are found by.
    pub(super) fn slices(namespace: &str, service: &str) -> Self {
        Self::new(Kind::EndpointSlice, [namespace, service, ""])
    }

    /// What VirtualServices of all namespaces are found by that write a host so (lower case).
    pub(super) fn routes(host: &str) -> Self {
        Self::new(Kind::VirtualService, [host, "", ""])
    }

    /// What VirtualServices are found by that have a wildcard.
    pub(super) fn wildcard_routes() -> Self {
        Self::routes("*")
    }

    fn part(self) -> usize {
        usize::try_from(self.0 % PARTS).unwrap_or_default()
    }
}

impl Clues {
    /// Keys of the objects of a kind that a clue leads to, and maybe of others.
    pub(super) fn at(&self, kind: Kind, clue: Clue) -> impl Iterator<Item = Key> {
        let from = (clue, Arc::default(), Arc::default());
        let found = self.0[clue.part()].range(from..).take_while(move |(each, ..)| *each == clue);
        found.map(move |(_, namespace, name)| Key {
            kind,
            namespace: Arc::clone(namespace),
            name: Arc::clone(name),
        })
    }

    /// The clue that leads to the fewest objects.
    pub(super) fn narrowest(&self, clues: impl Iterator<Item = Clue>) -> Option<Clue> {
        clues
            .fold(None, |best: Option<(usize, Clue)>, clue| {
                let from = (clue, Arc::default(), Arc::default());
                let found = self.0[clue.part()].range(from..).take_while(|(each, ..)| *each == clue);
                let limit = best.map_or(usize::MAX, |(count, _)| count);
                let count = found.take(limit).count();
                if count < limit { Some((count, clue)) } else { best }
            })
            .map(|(_, clue)| clue)
    }

    pub(super) fn insert(&mut self, object: &Arc<Object>) {
        for clue in clues(object) {
            let Key { namespace, name, .. } = &object.key;
            let part = Arc::make_mut(&mut self.0[clue.part()]);
            part.insert((clue, Arc::clone(namespace), Arc::clone(name)));
        }
    }

    pub(super) fn remove(&mut self, object: &Arc<Object>) {
        for clue in clues(object) {
            let Key { namespace, name, .. } = &object.key;
            let part = Arc::make_mut(&mut self.0[clue.part()]);
            part.remove(&(clue, Arc::clone(namespace), Arc::clone(name)));
        }
    }
}

/// The clues to an object.
pub(super) fn clues(object: &Arc<Object>) -> BTreeSet<Clue> {
    let namespace = &*object.key.namespace;
    match object.key.kind {
        Kind::Pod => of_pod(namespace, &object.meta.labels, Item::<Pod>::of(object).is_some()).collect(),
        Kind::Service => {
            let service = Item::<Service>::of(object);
            let first = service.and_then(|service| service.spec.selector.first_key_value());
            first.map(|(name, value)| Clue::services(namespace, name, value)).into_iter().collect()
        }
        Kind::EndpointSlice => {
            let slice = Item::<EndpointSlice>::of(object);
            let service = slice.and_then(|slice| super::service_of(&slice));
            service.map(|service| Clue::slices(namespace, service)).into_iter().collect()
        }
        Kind::VirtualService => {
            let hosts = Item::<VirtualService>::of(object).map(|item| &item.spec.hosts);
            hosts.into_iter().flatten().map(|host| of_host(host)).collect()
        }
        _ => BTreeSet::new(),
    }
}

fn of_pod(namespace: &str, labels: &StringMap, is_pod: bool) -> impl Iterator<Item = Clue> {
    labels.iter().filter(move |_| is_pod).map(move |(name, value)| Clue::pods(namespace, name, value))
}

fn of_host(host: &str) -> Clue {
    if host.starts_with('*') {
        return Clue::wildcard_routes();
    }
    Clue::routes(&host.trim_end_matches('.').to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::api::Content;
    use crate::api::meta::selects;
    use crate::source::Change;
    use crate::source::files::load_text;
    use crate::world::{World, service_of};

    use super::*;

    const VALUES: [&str; 3] = ["a", "b", "c"];

    fn labels(random: &mut fastrand::Rng) -> String {
        let one = |name: &str, random: &mut fastrand::Rng| {
            random.bool().then(|| format!("{name}: {}", random.choice(VALUES).unwrap_or_default()))
        };
        let both: Vec<_> = ["app", "tier"].iter().filter_map(|name| one(name, random)).collect();
        format!("{{{}}}", both.join(", "))
    }

    fn written(kind: Kind, name: usize, random: &mut fastrand::Rng) -> String {
        match kind {
            Kind::Pod => format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: n{name}, labels: {}}}\nspec: {{containers: [{{name: c}}]}}\n\
                 status: {{podIP: 10.0.0.{name}, conditions: [{{type: Ready, status: 'True'}}]}}\n",
                labels(random)
            ),
            Kind::Service => format!(
                "apiVersion: v1\nkind: Service\nmetadata: {{name: n{name}}}\n\
                 spec: {{selector: {}, ports: [{{port: 80}}]}}\n",
                labels(random)
            ),
            Kind::VirtualService => {
                let host = random.choice(["a", "A.", "'*.a'", "b, '*'", "b, a"]);
                format!(
                    "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: n{name}}}\n\
                     spec: {{hosts: [{}], http: [{{directResponse: {{status: 200}}}}]}}\n",
                    host.unwrap_or_default()
                )
            }
            _ => format!(
                "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
                 metadata: {{name: n{name}, labels: {{kubernetes.io/service-name: n{}}}}}\n\
                 addressType: IPv4\nendpoints: []\n",
                random.usize(0..3)
            ),
        }
    }

    #[test]
    fn it_says_what_looking_at_all_would_say() {
        let mut random = fastrand::Rng::with_seed(11);
        let kinds = [Pod::KIND, Service::KIND, EndpointSlice::KIND, VirtualService::KIND];
        let (mut world, mut found) = (World::default(), 0);
        for _ in 0..400 {
            let (kind, name) = (*random.choice(&kinds).unwrap_or(&kinds[0]), random.usize(0..4));
            let change = if random.u8(0..4) == 0 {
                Change { removed: vec![Key::new(kind, "default", &format!("n{name}"))], ..Change::default() }
            } else {
                let text = written(kind, name, &mut random);
                let loaded = load_text(Path::new("t.yaml"), &text);
                assert!(loaded.refused.is_empty() && loaded.unreadable.is_empty(), "{text}: {loaded:?}");
                Change::from(loaded)
            };
            world.apply(change);
            for service in world.all::<Service>() {
                let chosen = |pod: &Item<'_, Pod>| selects(&service.selector, &pod.object.meta.labels);
                let all: Vec<_> = world.all::<Pod>().filter(chosen).map(|pod| &pod.object.key).collect();
                let seen: Vec<_> = world
                    .selected_pods("default", &service.spec.selector)
                    .map(|pod| &pod.object.key)
                    .collect();
                assert_eq!(seen, all);
                let of = |slice: &Item<'_, EndpointSlice>| service_of(slice) == Some(service.name());
                let all: Vec<_> =
                    world.all::<EndpointSlice>().filter(of).map(|slice| &slice.object.key).collect();
                let slices: Vec<_> = world.slices_of(&service).map(|slice| &slice.object.key).collect();
                assert_eq!(slices, all);
                found += seen.len() + slices.len();
            }
            for pod in world.all::<Pod>() {
                let chosen = |service: &Item<'_, Service>| {
                    !service.selector.is_empty() && selects(&service.selector, &pod.object.meta.labels)
                };
                let all: BTreeSet<_> =
                    world.all::<Service>().filter(chosen).map(|service| &service.object.key).collect();
                let seen: BTreeSet<_> = world.services_of(&pod).map(|service| &service.object.key).collect();
                assert_eq!(seen, all);
                found += seen.len();
            }
            let names = |item: &Item<'_, VirtualService>| {
                let plain = |host: &String| host.trim_end_matches('.').to_ascii_lowercase();
                item.hosts.iter().any(|host| host.starts_with('*') || plain(host) == "a")
            };
            let mut all = world.oldest_first::<VirtualService>();
            all.retain(names);
            let seen = world.routes_naming(["a"]);
            let keys = |items: &[Item<'_, VirtualService>]| -> Vec<Key> {
                items.iter().map(|item| item.object.key.clone()).collect()
            };
            assert_eq!(keys(&seen), keys(&all));
            found += seen.len();
        }
        assert!(found > 2000, "{found}");
    }
}
