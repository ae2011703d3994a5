//! Workloads that WorkloadEntries describe, behind Services and ServiceEntries.

use mesh_core::model::{Endpoint, Host, Root, Transport};

use super::{host_root, service, sidecar, view};

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: db}\n\
    spec: {selector: {app: db}, ports: [{name: http, port: 80, targetPort: web}, {name: more, port: 81, targetPort: 9}]}\n---\n";
const ENTRY: &str = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: db}\n\
    spec: {hosts: [db.example.com], location: MESH_INTERNAL, resolution: STATIC, \
    ports: [{name: http, number: 80, targetPort: 8080}], workloadSelector: {labels: {app: db}}}\n---\n";

fn workload(metadata: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: vm{metadata}}}\nspec: {{{spec}}}\n---\n"
    )
}

fn endpoints(yaml: &str, root: &Root) -> Vec<Endpoint> {
    super::endpoints(&view(&(service("a", 80, &["v1"]) + yaml)), &sidecar("a-v1"), root)
}

fn addresses(yaml: &str, root: &Root) -> Vec<String> {
    endpoints(yaml, root).iter().map(super::address).collect()
}

#[test]
fn a_service_selects_workloads_by_both_of_their_labels() {
    let (http, more) = (host_root("db", 80), host_root("db", 81));
    for (metadata, spec, expected) in [
        ("", "address: 192.0.2.1, labels: {app: db}, ports: {web: 7070}", ["192.0.2.1:7070", "192.0.2.1:9"]),
        (
            "",
            "address: 192.0.2.1, labels: {app: db}, ports: {http: 70, more: 71}",
            ["192.0.2.1:70", "192.0.2.1:71"],
        ),
        (
            ", labels: {app: db}",
            "address: 192.0.2.1, labels: {app: x}, ports: {http: 1}",
            ["192.0.2.1:1", "192.0.2.1:9"],
        ),
        // Nobody says what the target port's name stands for.
        ("", "address: 192.0.2.1, labels: {app: db}", ["", "192.0.2.1:9"]),
        (", labels: {app: x}", "address: 192.0.2.1, labels: {app: db}", ["", ""]),
        ("", "address: vm.example.com, labels: {app: db}, ports: {http: 1}", ["", ""]),
    ] {
        let yaml = SERVICE.to_owned() + &workload(metadata, spec);
        let found = [&http, &more].map(|root| addresses(&yaml, root).join(","));
        assert_eq!(found, expected, "{metadata} {spec}");
    }
}

#[test]
fn a_workload_with_an_account_proves_its_identity() {
    for (account, expected) in
        [("", None), (", serviceAccount: vm", Some("spiffe://cluster.local/ns/default/sa/vm"))]
    {
        let described =
            workload("", &format!("address: 192.0.2.1, labels: {{app: db}}, ports: {{web: 1}}{account}"));
        let entry = Root::Host { host: Host::parse("db.example.com").unwrap(), port: 80 };
        for (behind, root) in [(SERVICE, host_root("db", 80)), (ENTRY, entry)] {
            let found = endpoints(&(behind.to_owned() + &described), &root);
            assert_eq!(found.len(), 1, "{behind}");
            assert_eq!(found[0].identity.as_ref().map(ToString::to_string).as_deref(), expected);
            assert_eq!(found[0].transport == Transport::MeshTls, expected.is_some());
        }
    }
}

#[test]
fn what_a_description_does_not_achieve_is_told() {
    for (spec, told) in [
        ("address: 192.0.2.1, labels: {app: db}, ports: {web: 1}", None),
        (
            "address: 'unix:///run/db', labels: {app: db}",
            Some("spec.address: sockets of files are not supported"),
        ),
        (
            "address: 'not a name', labels: {app: db}",
            Some("spec.address: \"not a name\" is not an IP or a DNS name"),
        ),
        (
            "address: vm.example.com, labels: {app: db}",
            Some("spec.address: Service default/db selects it, and"),
        ),
        (
            "address: 192.0.2.1, labels: {app: x}",
            Some("spec.labels: no Service or ServiceEntry of default selects"),
        ),
        (
            "address: 192.0.2.1, labels: {app: db}, ports: {y: 1}",
            Some("spec.ports.y: nothing that selects it has"),
        ),
        (
            "address: 192.0.2.1, labels: {app: db}, network: n",
            Some("spec.network: networks are not supported"),
        ),
        (
            "address: 192.0.2.1, labels: {app: db}, locality: a/b/c/d",
            Some("spec.locality: \"a/b/c/d\" is more"),
        ),
        (
            "address: 192.0.2.1, labels: {app: db}, serviceAccount: s",
            Some("spec.serviceAccount: there is no"),
        ),
    ] {
        let view = view(&(SERVICE.to_owned() + &workload("", spec)));
        let of_it: Vec<_> = view
            .problems()
            .iter()
            .map(ToString::to_string)
            .filter(|problem| problem.contains("WorkloadEntry default/vm"))
            .collect();
        match told {
            Some(told) => assert!(of_it.len() == 1 && of_it[0].contains(told), "{spec}: {of_it:?}"),
            None => assert!(of_it.is_empty(), "{spec}: {of_it:?}"),
        }
    }
    let only_described = ENTRY.to_owned() + &workload("", "address: 192.0.2.1, labels: {app: db}");
    assert!(view(&only_described).problems().is_empty());
}
