//! Endpoints that EndpointSlices give to services.

use mesh_core::model::{Endpoint, Host, Resource, Root, Transport};

use super::{closure, host_root, pod, service, sidecar, view};
use crate::view::View;

const NEIGHBOUR: &str = "10.244.9.7";

fn db(spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: db}}\n\
         spec: {{{spec} ports: [{{name: http, port: 80, targetPort: 8080}}]}}\n---\n"
    )
}

fn slice(metadata: &str, rest: &str) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: db-1, {metadata}labels: {{kubernetes.io/service-name: db}}}}\n\
         addressType: IPv4\nports: [{{name: http, port: 9090}}]\n{rest}\n---\n"
    )
}

fn endpoints(view: &View) -> Vec<Endpoint> {
    super::endpoints(view, &sidecar("a-v1"), &host_root("db", 80))
}

fn addresses(yaml: &str) -> Vec<String> {
    endpoints(&view(&(service("a", 80, &["v1"]) + yaml))).iter().map(super::address).collect()
}

#[test]
fn a_service_without_selector_has_the_endpoints_of_its_slices() {
    let table: &[(&str, &[&str])] = &[
        ("endpoints: [{addresses: [192.0.2.1]}]", &["192.0.2.1:9090"]),
        (
            "endpoints: [{addresses: [192.0.2.2]}, {addresses: [192.0.2.1]}]",
            &["192.0.2.1:9090", "192.0.2.2:9090"],
        ),
        ("endpoints: [{addresses: [192.0.2.1], conditions: {ready: false}}]", &[]),
        ("endpoints: [{addresses: [192.0.2.1], conditions: {ready: null}}]", &["192.0.2.1:9090"]),
        (
            "endpoints: [{addresses: [192.0.2.1], conditions: {ready: true, terminating: true}}]",
            &["192.0.2.1:9090"],
        ),
        // What would be the caller's own machine or link is no endpoint; the others are.
        (
            "endpoints: [{addresses: [127.0.0.1, 169.254.169.254, 224.0.0.1, 0.0.0.0, '::1', 192.0.2.1]}]",
            &["192.0.2.1:9090"],
        ),
        ("endpoints: null", &[]),
    ];
    for (rest, expected) in table {
        assert_eq!(addresses(&(db("") + &slice("", rest))), *expected, "{rest}");
    }
}

/// As kube-proxy does (KEP-1669).
#[test]
fn s51_endpoints_that_are_leaving_are_used_while_none_is_ready() {
    let leaving = "{addresses: [192.0.2.1], conditions: {ready: false, serving: true, terminating: true}}";
    let ready = "{addresses: [192.0.2.2]}";
    let table: &[(&[&str], &[&str])] = &[
        (&[leaving], &["192.0.2.1:9090"]),
        (&[leaving, ready], &["192.0.2.2:9090"]),
        (&["{addresses: [192.0.2.1], conditions: {terminating: true}}"], &["192.0.2.1:9090"]),
        (&["{addresses: [192.0.2.1], conditions: {serving: false, terminating: true}}"], &[]),
        (&["{addresses: [192.0.2.1], conditions: {ready: false, terminating: true}}"], &[]),
        (&["{addresses: [192.0.2.1], conditions: {ready: false, serving: true}}"], &[]),
    ];
    for (written, expected) in table {
        let rest = format!("endpoints: [{}]", written.join(", "));
        assert_eq!(addresses(&(db("") + &slice("", &rest))), *expected, "{rest}");
    }
}

/// What a slice says of a pod counts for that pod, and each subset has its own last resort.
#[test]
fn s51_pods_that_are_deleted_are_used_while_their_subset_has_none_that_is_ready() {
    let deleted = |pod: String| {
        pod.replace("metadata:\n", "metadata:\n  deletionTimestamp: \"2026-01-01T00:00:00Z\"\n")
    };
    let subsets = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: db}\n\
        spec: {host: db, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}\n---\n\
        apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: db}\n\
        spec: {hosts: [db], http: [{route: [{destination: {host: db, subset: v1}, weight: 50}, \
        {destination: {host: db, subset: v2}, weight: 50}]}]}\n---\n";
    let old = deleted(pod("b-1", "app: b, version: v1", NEIGHBOUR));
    let new = pod("b-2", "app: b, version: v2", "10.244.9.8");
    let yaml = service("a", 80, &["v1"]) + &old + &new + &db("selector: {app: b},");
    assert_eq!(addresses(&(old.clone() + &db("selector: {app: b},"))), ["10.244.9.7:8080"]);
    assert_eq!(addresses(&yaml), ["10.244.9.8:8080"]);
    let resources = closure(&view(&(yaml + subsets)), &sidecar("a-v1"), &host_root("db", 80)).unwrap();
    let of = |subset: &str| {
        let wanted = format!("outbound|80|{subset}|db.default.svc.cluster.local");
        let found = resources.iter().find_map(|resource| match resource {
            Resource::Endpoints(endpoints) if endpoints.cluster == wanted => Some(&endpoints.endpoints),
            _ => None,
        });
        found.unwrap().iter().map(super::address).collect::<Vec<_>>()
    };
    assert_eq!((of("v1"), of("v2")), (vec!["10.244.9.7:8080".into()], vec!["10.244.9.8:8080".into()]));
    // Not one that does not answer any more.
    let silent = old.replace("\"True\"", "\"False\"");
    assert_eq!(addresses(&(silent + &db("selector: {app: b},"))), [""; 0]);
}

#[test]
fn ports_are_those_of_the_same_name_and_default_to_the_services() {
    let written = slice("", "endpoints: [{addresses: [192.0.2.1]}]");
    for (ports, expected) in [
        ("ports: [{name: other, port: 9090}]", vec![]),
        ("ports: [{name: http, port: 9090, protocol: UDP}]", vec![]),
        ("ports: []", vec![]),
        ("ports: [{name: http}]", vec!["192.0.2.1:8080"]),
    ] {
        let yaml = written.replace("ports: [{name: http, port: 9090}]", ports);
        assert_eq!(addresses(&(db("") + &yaml)), expected, "{ports}");
    }
}

#[test]
fn addresses_of_ipv6_are_read_and_names_are_told() {
    let typed = |kind: &str, address: &str| {
        slice("", &format!("endpoints: [{{addresses: ['{address}']}}]")).replace("IPv4", kind)
    };
    assert_eq!(addresses(&(db("") + &typed("IPv6", "2001:db8::1"))), ["[2001:db8::1]:9090"]);
    assert_eq!(addresses(&(db("") + &typed("IPv6", "fe80::1"))), [""; 0]);
    let named = view(&(db("") + &typed("FQDN", "db.example.com")));
    assert!(endpoints(&named).is_empty());
    let told: Vec<_> = named.problems().iter().map(ToString::to_string).collect();
    assert!(told.iter().any(|line| line.contains("addressType: FQDN is not supported")), "{told:?}");
}

/// The service is named by label in the slice's own namespace: nobody else's can be meant.
#[test]
fn a_slice_speaks_for_no_service_of_another_namespace() {
    let hostile = slice("namespace: evil, ", "endpoints: [{addresses: [192.0.2.66]}]");
    assert_eq!(addresses(&(db("") + &hostile)), [""; 0]);
    let told: Vec<_> = view(&(db("") + &hostile)).problems().iter().map(ToString::to_string).collect();
    assert!(told.iter().any(|line| line.contains("Service evil/db does not exist")), "{told:?}");
}

#[test]
fn what_cannot_be_an_endpoint_is_told_with_its_place() {
    let yaml = slice(
        "",
        "endpoints: [{addresses: [127.0.0.1]}, {addresses: [192.0.2.1], targetRef: {kind: Pod, name: x}}]",
    );
    let told: Vec<_> = view(&(db("") + &yaml)).problems().iter().map(ToString::to_string).collect();
    let has = |text: &str| told.iter().any(|line| line.contains(text));
    assert!(has("endpoints[0].addresses[0]: \"127.0.0.1\": loopback"), "{told:?}");
    assert!(has("endpoints[1].targetRef: Pod default/x is not known"), "{told:?}");
}

#[test]
fn an_address_that_is_no_pods_is_spoken_to_in_the_clear_and_has_a_place() {
    let rest = "endpoints: [{addresses: [192.0.2.1], zone: z, \
                deprecatedTopology: {topology.kubernetes.io/region: r}}]";
    let found = endpoints(&view(&(service("a", 80, &["v1"]) + &db("") + &slice("", rest))));
    assert_eq!((found[0].transport, &found[0].identity), (Transport::Plain, &None));
    assert_eq!((found[0].locality.region.as_str(), found[0].locality.zone.as_str()), ("r", "z"));
    assert_eq!(found[0].workload.namespace, "default");
}

#[test]
fn an_endpoint_that_is_a_pod_is_that_pod_if_it_has_the_address() {
    let with = |endpoint: &str| {
        let yaml = service("a", 80, &["v1"]) + &pod("b-1", "app: b", NEIGHBOUR) + &db("");
        endpoints(&view(&(yaml + &slice("", &format!("endpoints: [{endpoint}]")))))
    };
    let identity = "spiffe://cluster.local/ns/default/sa/default";
    for endpoint in [
        format!("{{addresses: [{NEIGHBOUR}], targetRef: {{kind: Pod, name: b-1}}}}"),
        format!("{{addresses: [{NEIGHBOUR}]}}"),
    ] {
        let found = with(&endpoint);
        assert_eq!(found[0].transport, Transport::MeshTls, "{endpoint}");
        assert_eq!(found[0].identity.as_ref().map(ToString::to_string).as_deref(), Some(identity));
    }
    // Named but elsewhere, and named but unknown: neither is dialled in the clear.
    for target in ["b-1", "gone"] {
        let endpoint = format!("{{addresses: [192.0.2.1], targetRef: {{kind: Pod, name: {target}}}}}");
        assert!(with(&endpoint).is_empty(), "{target}");
    }
}

#[test]
fn a_service_with_a_selector_has_its_pods_and_what_slices_add() {
    let unready = pod("b-2", "app: b", "10.244.9.8").replace("\"True\"", "\"False\"");
    let pods = pod("b-1", "app: b", NEIGHBOUR) + &unready;
    let rest = format!(
        "endpoints: [{{addresses: [{NEIGHBOUR}]}}, {{addresses: [10.244.9.8], targetRef: {{kind: Pod, name: b-2}}}}, \
         {{addresses: [192.0.2.1]}}]"
    );
    let found = addresses(&(pods + &db("selector: {app: b},") + &slice("", &rest)));
    assert_eq!(found, ["10.244.9.7:8080", "192.0.2.1:9090"], "pods are as they say themselves");
}

#[test]
fn names_of_headless_services_are_the_addresses_of_their_slices() {
    let rest = "endpoints: [{addresses: [192.0.2.1]}]";
    let view = view(&(service("a", 80, &["v1"]) + &db("clusterIP: None,") + &slice("", rest)));
    let name = Root::Name(Host::parse("db").unwrap());
    let resources = closure(&view, &sidecar("a-v1"), &name).unwrap();
    let Resource::Name(name) = &resources[0] else { panic!("{resources:?}") };
    assert_eq!(name.addresses, ["192.0.2.1".parse::<std::net::IpAddr>().unwrap()]);
}
