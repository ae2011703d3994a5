//! What closures rest on, and what a change takes from under them, when Pods, EndpointSlices and VirtualServices alone
//! have changed.
//!
//! On pods a closure rests in three ways: it is a pod's own configuration, it has the endpoints of a service that selects
//! them or has a slice that names them, or its root was looked up among them. On a slice it rests by the endpoints of the
//! slice's service. On VirtualServices it rests by the host that is asked for, in every form in which they may write it; a
//! gateway rests on all of them. What rests on something that changed is worked out anew when somebody asks.

use std::collections::{BTreeSet, HashSet};

use mesh_core::model::{Host, Resource, Root};

use super::stamps::{Basis, Draft, Stamps, Subject};
use super::{Class, View};
use crate::api::core::Pod;
use crate::api::discovery::EndpointSlice;
use crate::api::meta::selects;
use crate::api::networking::{ServiceEntry, VirtualService};
use crate::api::{Content, Item, Key, Kind};
use crate::translate::catalog::expansions;
use crate::translate::scope::{CLUSTER_DOMAIN, spellings};
use crate::world::{Touched, World, service_of};

/// Kinds after whose changes something is kept.
pub(super) const KINDS: [Kind; 3] = [Pod::KIND, EndpointSlice::KIND, VirtualService::KIND];

/// Whether a change leaves the catalog as it is: nothing but these kinds, and nobody tells clients apart by other labels.
pub(super) fn leaves_catalog(before: &World, after: &World, touched: &Touched) -> bool {
    touched.only(&KINDS) && !touched_rules(before, after, touched).any(|item| tells_clients_apart(&item))
}

/// Notes everything that a change has changed.
pub(super) fn stamp(stamps: &mut Stamps, before: &World, after: &World, touched: &Touched, generation: u64) {
    for host in changed_hosts(before, after, touched) {
        stamps.set(Subject::Endpoints(&host), generation);
    }
    for key in pods(touched) {
        stamps.set(Subject::Pod(&key.namespace, &key.name), generation);
        let was_or_is = [before, after].map(|world| world.get::<Pod>(&key.namespace, &key.name));
        for address in was_or_is.iter().flatten().filter_map(|pod| pod.status.pod_ip) {
            stamps.set(Subject::Address(address), generation);
        }
    }
    for item in touched_rules(before, after, touched) {
        stamps.set(Subject::AnyRules, generation);
        if item.hosts.is_empty() {
            stamps.set(Subject::WideRules, generation);
        }
        for host in &item.hosts {
            let written = host.trim_end_matches('.').to_ascii_lowercase();
            let subject = if is_wide(&written) { Subject::WideRules } else { Subject::Rules(&written) };
            stamps.set(subject, generation);
        }
    }
}

/// What a closure rests on beside the catalog: what was found for its root, and what might be.
pub(super) fn basis(view: &View, class: &Class, root: &Root, found: Option<&[Resource]>) -> Basis {
    let resources = found.unwrap_or_default();
    let mut basis = view.stamps.begin();
    for host in resources.iter().filter_map(host) {
        basis.add(Subject::Endpoints(host));
    }
    match root {
        Root::Own => {
            if let Some((pod, role)) = &class.pod {
                basis.add(Subject::Pod(&class.namespace, pod));
                if role.is_gateway() {
                    basis.add(Subject::AnyRules);
                }
            }
        }
        Root::Host { host, .. } => {
            // Of a wildcard what is below it comes along.
            if resources
                .iter()
                .any(|resource| matches!(resource, Resource::Routes(table) if is_wide(&table.name)))
            {
                basis.add(Subject::AnyRules);
            }
            let named = host.as_str().parse().ok().and_then(|address| view.catalog.host_at(address));
            rules_for(
                expansions(named.unwrap_or(host), &class.namespace).iter().map(Host::as_str),
                &mut basis,
            );
        }
        Root::Address(address) => {
            basis.add(Subject::Address(address.ip()));
            let behind = resources.iter().find_map(|resource| match resource {
                Resource::Address(address) => address.destination.cluster.rsplit('|').next(),
                _ => None,
            });
            if behind.is_some_and(is_wide) {
                basis.add(Subject::AnyRules);
            }
            rules_for(behind.into_iter(), &mut basis);
        }
        Root::Name(name) => {
            let below = name.as_str().split_once('.').and_then(|(_, service)| Host::parse(service).ok());
            for host in below.iter().chain([name]).flat_map(|name| expansions(name, &class.namespace)) {
                basis.add(Subject::Endpoints(host.as_str()));
            }
        }
    }
    basis.finish()
}

/// Whatever VirtualServices may be about these hosts, those that are not there yet among them.
fn rules_for<'h>(hosts: impl Iterator<Item = &'h str>, basis: &mut Draft<'_>) {
    basis.add(Subject::WideRules);
    for spelling in hosts.flat_map(spellings) {
        basis.add(Subject::Rules(spelling));
    }
}

fn is_wide(host: &str) -> bool {
    host.starts_with('*')
}

/// The host whose endpoints a resource has.
fn host(resource: &Resource) -> Option<&str> {
    match resource {
        Resource::Endpoints(endpoints) => endpoints.cluster.rsplit('|').next(),
        _ => None,
    }
}

/// VirtualServices that were touched, as they were and as they are.
fn touched_rules<'w>(
    before: &'w World,
    after: &'w World,
    touched: &Touched,
) -> impl Iterator<Item = Item<'w, VirtualService>> {
    let keys = touched.keys.iter().filter(|key| key.kind == VirtualService::KIND);
    keys.flat_map(move |key| [before, after].map(|world| world.get(&key.namespace, &key.name))).flatten()
}

fn tells_clients_apart(service: &VirtualService) -> bool {
    let http = service.http.iter().flat_map(|route| &route.matches).map(|m| &m.source_labels);
    let tls = service.tls.iter().flat_map(|route| &route.matches).map(|m| &m.source_labels);
    let tcp = service.tcp.iter().flat_map(|route| &route.matches).map(|m| &m.source_labels);
    http.chain(tls).chain(tcp).any(|labels| !labels.is_empty())
}

/// The hosts of everything that selects or names a touched pod, or has a touched slice, as it was or as it is.
fn changed_hosts(before: &World, after: &World, touched: &Touched) -> HashSet<String> {
    let mut hosts = sliced_hosts(before, after, touched);
    for namespace in pods(touched).map(|key| &key.namespace).collect::<BTreeSet<_>>() {
        let entries: Vec<_> = after.in_namespace::<ServiceEntry>(namespace).collect();
        let here = pods(touched).filter(|key| key.namespace == *namespace);
        let pods = here.flat_map(|key| [before, after].map(|world| world.get::<Pod>(namespace, &key.name)));
        for pod in pods.flatten() {
            hosts.extend(after.services_of(&pod).map(|service| host_of(service.name(), service.namespace())));
            // By which its own name is looked up, selected or not.
            hosts.extend(pod.spec.spec.subdomain.as_deref().map(|service| host_of(service, namespace)));
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
                name("db-0.each"),
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

    const GATEWAY: &str = "apiVersion: networking.istio.io/v1\nkind: Gateway\n\
        metadata: {name: door, namespace: istio-system}\nspec: {selector: {istio: ingressgateway}, \
        servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}\n---\n";

    /// One of the things that happen all the time, to one of few objects.
    fn random_change(random: &mut fastrand::Rng) -> Change {
        let number = random.usize(0..3);
        let (kind, name) = match random.u8(0..6) {
            0 | 1 => (Pod::KIND, format!("a-v{number}")),
            2 => (EndpointSlice::KIND, "hand-1".to_owned()),
            _ => (VirtualService::KIND, format!("rules-{number}")),
        };
        if random.u8(0..4) == 0 {
            return Change { removed: vec![Key::new(kind, "default", &name)], ..Change::default() };
        }
        let mut one = |of: &[&str]| random.choice(of).copied().unwrap_or_default().to_owned();
        let text = match kind {
            Kind::Pod => {
                let app = one(&["app: a, version: v1", "app: b, version: v1", "app: none"]);
                let place = one(&["", "hostname: db-0, subdomain: each, ", "hostname: db-0, subdomain: b, "]);
                let pod = pod(&name, &app, &one(&["10.244.7.7", "10.244.0.97", "10.244.0.98"]));
                let pod = pod.replacen("spec: {", &format!("spec: {{{place}"), 1);
                pod.replace("\"True\"", &one(&["\"True\"", "\"False\""]))
            }
            Kind::EndpointSlice => slice(&one(&["10.244.7.7", "192.0.2.2", "192.0.2.3"])),
            _ => {
                let hosts = [
                    "[a]",
                    "[b]",
                    "[A.default.svc.cluster.local]",
                    "['*']",
                    "['*.example']",
                    "[x.example, b]",
                    "[]",
                ];
                let gateways =
                    one(&["", "gateways: [istio-system/door], ", "gateways: [mesh, istio-system/door], "]);
                let to = one(&[
                    "route: [{destination: {host: a}}]",
                    "route: [{destination: {host: hand}}]",
                    "directResponse: {status: 418}",
                    "delegate: {name: rules-1}",
                ]);
                let labels = one(&["", "", "", "", "match: [{sourceLabels: {version: v1}}], "]);
                format!(
                    "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\n\
                     spec: {{hosts: {}, {gateways}http: [{{{labels}{to}}}]}}\n---\n",
                    one(&hosts)
                )
            }
        };
        load(&text)
    }

    #[test]
    fn however_many_changes_follow_each_other_a_view_is_what_it_would_be_if_built_anew() {
        let mut random = fastrand::Rng::with_seed(5);
        let (mut world, mut view) = first();
        world.apply(load(GATEWAY));
        view = View::new(world.clone(), view.generation() + 1);
        let (mut kept, mut different) = (0, 0);
        let mut known = answers(&view);
        for generation in 3..400 {
            let before = (known, view, world.clone());
            let mut touched = world.apply(random_change(&mut random));
            if random.bool() {
                touched.keys.extend(world.apply(random_change(&mut random)).keys);
            }
            view = View::after(&before.1, world.clone(), generation, &touched);
            kept += usize::from(Arc::ptr_eq(&view.closures, &before.1.closures));
            if random.bool() {
                // Who has not heard of it yet must find what there was.
                assert_eq!(answers(&before.1), before.0, "generation {generation}, the view before");
            }
            known = answers(&view);
            let expected = answers(&View::new(world.clone(), generation));
            for (found, expected) in known.iter().zip(expected) {
                assert_eq!(*found, expected, "generation {generation}: {touched:?}");
            }
            different += usize::from(known != before.0);
        }
        assert!(kept > 200 && different > 100, "{kept} kept, {different} different");
    }

    #[test]
    fn rules_concern_who_asks_for_their_hosts() {
        let (mut world, before) = first();
        let proxy = sidecar("b-v1");
        let roots = [host_root("a", 80), host_root("b", 80), Root::Own];
        let bases = roots.map(|root| before.look_up(&proxy, &root).1);
        let rules = |host: &str| {
            load(&format!(
                "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: some}}\n\
                 spec: {{hosts: ['{host}'], http: [{{directResponse: {{status: 418}}}}]}}\n"
            ))
        };
        let mut holds = |generation: u64, host: &str| {
            let touched = world.apply(rules(host));
            let after = View::after(&before, world.clone(), generation, &touched);
            bases.clone().map(|basis| after.supports(&basis))
        };
        assert_eq!(holds(2, "nobody.example"), [true, true, true]);
        assert_eq!(holds(3, "B"), [true, false, true]);
        assert_eq!(holds(4, "*.cluster.local"), [false, false, true]);
    }

    #[test]
    fn what_nobody_can_ask_for_any_more_is_forgotten() {
        let (mut world, mut view) = first();
        for number in 0..3 * super::super::SWEEP {
            let name = format!("p{number}");
            world.apply(load(&pod(&name, "app: none", "10.244.9.9")));
            let generation = view.generation() + 2;
            let touched =
                Touched { keys: [Key::new(Pod::KIND, "default", &name)].into(), mesh_config: false };
            view = View::after(&view, world.clone(), generation, &touched);
            assert!(view.closure(&sidecar(&name), &Root::Own).is_some());
            world.apply(Change { removed: touched.keys.iter().cloned().collect(), ..Change::default() });
            view = View::after(&view, world.clone(), generation + 1, &touched);
        }
        assert!(view.closures.known.len() <= super::super::SWEEP + 1, "{}", view.closures.known.len());
        assert!(view.closures.resources.len() <= super::super::SWEEP + 1);
    }

    #[test]
    fn what_does_not_concern_a_proxy_is_not_worked_out_again() {
        let (mut world, before) = first();
        let ask = |view: &View, root| view.closure(&sidecar("b-v1"), &root).unwrap();
        let roots = || [host_root("a", 80), host_root("b", 80), Root::Own];
        let known = roots().map(|root| ask(&before, root));
        let touched = world.apply(load(&pod("a-v1", "app: a, version: v1", "10.244.7.7")));
        let after = View::after(&before, world, 2, &touched);
        let kept = after.closures.known.iter().filter(|known| after.supports(&known.basis)).count();
        assert_eq!(kept, 2, "before anybody asks");
        let [a, b, own] = roots().map(|root| ask(&after, root));
        assert_ne!(a, known[0]);
        assert!(Arc::ptr_eq(&b[0], &known[1][0]) && Arc::ptr_eq(&own[0], &known[2][0]));
    }
}
