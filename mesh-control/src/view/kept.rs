//! What a view takes over from the one before when pods and EndpointSlices alone have changed.
//!
//! A closure depends on pods in three ways: it is a pod's own configuration, it has the endpoints of a service that selects
//! them or has a slice that names them, or its root was looked up among them. On a slice it depends by the endpoints of the
//! slice's service. What depends on a changed pod or slice is left behind and worked out anew.

use std::collections::{BTreeSet, HashSet};

use mesh_core::model::{Resource, Root};

use super::{Class, Closure, View};
use crate::api::core::Pod;
use crate::api::discovery::EndpointSlice;
use crate::api::meta::selects;
use crate::api::networking::ServiceEntry;
use crate::api::{Content, Item, Key, Kind};
use crate::translate::scope::CLUSTER_DOMAIN;
use crate::world::{Touched, World, service_of};

/// The host whose endpoints a resource has.
pub(super) fn host(resource: &Resource) -> Option<&str> {
    match resource {
        Resource::Endpoints(endpoints) => endpoints.cluster.rsplit('|').next(),
        _ => None,
    }
}

/// Takes over every closure that does not depend on a pod or slice that was touched.
pub(super) fn take_over(view: &View, previous: &View, touched: &Touched) {
    let changed = changed_hosts(&previous.world, &view.world, touched);
    for known in &previous.closures {
        let ((class, root), Some(closure)) = known.pair() else { continue };
        if is_kept(class, root, closure, &changed, touched) {
            for member in closure.members.iter() {
                view.resources.insert((member.key.clone(), member.version), member.clone());
            }
            view.closures.insert((class.clone(), root.clone()), Some(closure.clone()));
        }
    }
}

fn is_kept(
    class: &Class,
    root: &Root,
    closure: &Closure,
    changed: &HashSet<String>,
    touched: &Touched,
) -> bool {
    let own = |(pod, _): &(String, _)| touched.keys.contains(&Key::new(Pod::KIND, &class.namespace, pod));
    match root {
        Root::Own | Root::Host { .. } => {
            !class.pod.as_ref().is_some_and(own) && !closure.hosts.iter().any(|host| changed.contains(host))
        }
        // Pods have addresses and names of their own.
        Root::Address(_) | Root::Name(_) => false,
    }
}

/// The hosts of everything that selects or names a touched pod, or has a touched slice, as it was or as it is.
fn changed_hosts(before: &World, after: &World, touched: &Touched) -> HashSet<String> {
    let mut hosts = sliced_hosts(before, after, touched);
    for namespace in touched.keys.iter().map(|key| &key.namespace).collect::<BTreeSet<_>>() {
        let entries: Vec<_> = after.in_namespace::<ServiceEntry>(namespace).collect();
        let here = pods(touched).filter(|key| key.namespace == *namespace);
        let pods = here.flat_map(|key| [before, after].map(|world| world.get::<Pod>(namespace, &key.name)));
        for pod in pods.flatten() {
            hosts.extend(after.services_of(&pod).map(|service| host_of(service.name(), service.namespace())));
            let taking = entries.iter().filter(|entry| takes(entry, &pod));
            hosts.extend(taking.flat_map(|entry| &entry.spec.hosts).map(|host| host.to_ascii_lowercase()));
        }
    }
    hosts
}

fn pods(touched: &Touched) -> impl Iterator<Item = &Key> {
    touched.keys.iter().filter(|key| key.kind == Kind::Pod)
}

/// The hosts of services of which a slice was touched, or lists the address of a touched pod: no endpoint is taken as a pod
/// that has not its address.
fn sliced_hosts(before: &World, after: &World, touched: &Touched) -> HashSet<String> {
    let both = [before, after];
    let of = |key: &Key| both.map(|world| world.get::<Pod>(&key.namespace, &key.name));
    let addresses = pods(touched).flat_map(of).flatten().filter_map(|pod| pod.status.pod_ip);
    let addresses: BTreeSet<_> = addresses.collect();
    let keys = touched.keys.iter().filter(|key| key.kind == Kind::EndpointSlice);
    let own = keys.flat_map(|key| both.map(|world| world.get::<EndpointSlice>(&key.namespace, &key.name)));
    let listing = addresses.into_iter().flat_map(|address| both.map(|world| world.slices_at(address)));
    let changed = own.flatten().chain(listing.flatten());
    changed.filter_map(|slice| Some(host_of(service_of(&slice)?, slice.namespace()))).collect()
}

fn host_of(service: &str, namespace: &str) -> String {
    format!("{service}.{namespace}.svc.{CLUSTER_DOMAIN}")
}

fn takes(entry: &Item<'_, ServiceEntry>, pod: &Item<'_, Pod>) -> bool {
    let selector = entry.spec.workload_selector.as_ref();
    selector.is_some_and(|selector| selects(&selector.labels, &pod.object.meta.labels))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use mesh_core::model::{Host, Role};

    use super::*;
    use crate::source::Change;
    use crate::source::files::load_text;
    use crate::translate::tests::{gateway_pod, host_root, pod, proxy, service, sidecar};

    const ENTRY: &str = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: ext}\n\
        spec: {hosts: [Ext.example], ports: [{number: 80, name: http}], resolution: STATIC, \
        workloadSelector: {labels: {app: a}}}\n---\n";
    const HEADLESS: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: each}\n\
        spec: {clusterIP: None, selector: {app: a}, ports: [{name: http, port: 8080}]}\n---\n";

    const BY_HAND: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: hand}\n\
        spec: {ports: [{name: http, port: 80}]}\n---\n";

    fn slice(address: &str) -> String {
        format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: hand-1, labels: {{kubernetes.io/service-name: hand}}}}\n\
             addressType: IPv4\nports: [{{name: http, port: 80}}]\nendpoints: [{{addresses: [{address}]}}]\n---\n"
        )
    }

    fn load(yaml: &str) -> Change {
        Change::from(load_text(Path::new("t.yaml"), yaml))
    }

    fn first() -> (World, View) {
        let mut world = World::default();
        let (a, b, slice) = (service("a", 80, &["v1", "v2"]), service("b", 80, &["v1"]), slice("10.244.7.7"));
        let yaml = [&a, &b, HEADLESS, ENTRY, BY_HAND, &slice];
        world.apply(load(&(yaml.concat() + &gateway_pod("ingressgateway"))));
        let view = View::new(world.clone(), 1);
        (world, view)
    }

    /// Everything that somebody may ask for here.
    fn questions() -> Vec<(super::super::Proxy, Root)> {
        let mut all = vec![(proxy(Role::Ingress, "istio-system", "gw"), Root::Own)];
        for pod in ["a-v1", "a-v2", "a-v3", "b-v1"] {
            let name = |name: &str| Root::Name(Host::parse(name).unwrap());
            let address = |address: &str| Root::Address(address.parse().unwrap());
            let roots = [
                Root::Own,
                host_root("a", 80),
                host_root("b", 80),
                host_root("each", 8080),
                host_root("hand", 80),
                host_root("ext.example", 80),
                host_root("nobody", 80),
                name("a"),
                name("each"),
                address("10.244.0.97:80"),
                address("10.244.7.7:80"),
            ];
            all.extend(roots.map(|root| (sidecar(pod), root)));
        }
        all
    }

    /// The answers, in short.
    fn answers(view: &View) -> Vec<String> {
        let answer = |(proxy, root): (super::super::Proxy, Root)| {
            let members = view.closure(&proxy, &root);
            let versions =
                members.map(|members| members.iter().map(|member| member.version).collect::<Vec<_>>());
            format!("{root} for {}: {versions:?}", proxy.pod)
        };
        questions().into_iter().map(answer).collect()
    }

    #[test]
    fn what_is_taken_over_is_what_would_be_worked_out() {
        let moved = pod("a-v1", "app: a, version: v1", "10.244.7.7");
        let changes = [
            load(&moved),
            load(&pod("a-v1", "app: b, version: v1", "10.244.0.97")),
            load(&pod("a-v3", "app: a, version: v3", "10.244.7.7")),
            load(&moved.replace("\"True\"", "\"False\"")),
            load(&slice("192.0.2.2")),
            load(&(slice("192.0.2.2") + &moved)),
            Change { removed: vec![Key::new(EndpointSlice::KIND, "default", "hand-1")], ..Change::default() },
            Change { removed: vec![Key::new(Pod::KIND, "default", "a-v2")], ..Change::default() },
            Change { removed: vec![Key::new(Pod::KIND, "default", "b-v1")], ..Change::default() },
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let (mut world, before) = first();
            let known = answers(&before);
            let touched = world.apply(change);
            assert!(touched.only(&[Pod::KIND, EndpointSlice::KIND]) && !touched.is_empty());
            let after = answers(&View::after(&before, world.clone(), 2, &touched));
            let expected = answers(&View::new(world, 2));
            assert_ne!(known, expected, "change {number} shows nowhere");
            for (found, expected) in after.iter().zip(expected) {
                assert_eq!(*found, expected, "change {number}");
            }
        }
    }

    #[test]
    fn what_does_not_concern_a_proxy_is_not_worked_out_again() {
        let (mut world, before) = first();
        let ask = |view: &View, root| view.closure(&sidecar("b-v1"), &root).unwrap();
        let roots = || [host_root("a", 80), host_root("b", 80), Root::Own];
        let known = roots().map(|root| ask(&before, root));
        let touched = world.apply(load(&pod("a-v1", "app: a, version: v1", "10.244.7.7")));
        let after = View::after(&before, world, 2, &touched);
        assert_eq!(after.closures.len(), 2, "before anybody asks");
        let [a, b, own] = roots().map(|root| ask(&after, root));
        assert_ne!(a, known[0]);
        assert!(Arc::ptr_eq(&b[0], &known[1][0]) && Arc::ptr_eq(&own[0], &known[2][0]));
    }
}
