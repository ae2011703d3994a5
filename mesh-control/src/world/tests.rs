use std::path::Path;

use super::*;
use crate::api::networking::{OutboundMode, VirtualService};
use crate::source::files::load_text;

fn world(yaml: &str) -> World {
    let mut world = World::default();
    apply(&mut world, yaml);
    world
}

fn apply(world: &mut World, yaml: &str) -> Touched {
    world.apply(load_text(Path::new("w.yaml"), yaml).into())
}

fn service(name: &str, spec: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n---\n")
}

fn pod(name: &str, address: &str, ready: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  uid: u-{name}\n  \
         labels: {{app: web, pod-template-hash: 5d9, topology.kubernetes.io/region: r1}}\n  \
         ownerReferences: [{{kind: ReplicaSet, name: web-5d9, controller: true}}]\n\
         spec:\n  serviceAccountName: web\n  nodeName: n1\n  \
         containers: [{{name: c, ports: [{{name: api, containerPort: 9000}}]}}]\n\
         status:\n  podIP: {address}\n  conditions: [{{type: Ready, status: \"{ready}\"}}]\n---\n"
    )
}

fn address(world: &World, name: &str) -> ServiceAddress {
    world.address_of(&world.get::<Service>("default", name).unwrap())
}

#[test]
fn endpoints_are_the_ready_pods_that_a_service_selects() {
    let web = service("web", "selector: {app: web}, ports: [{port: 80, targetPort: api}, {port: 81}]");
    let pods = pod("a", "10.244.0.5", "True") + &pod("b", "10.244.0.6", "False");
    let world = world(&(web + &pods + &service("none", "ports: [{port: 80}]")));
    let web = world.get::<Service>("default", "web").unwrap();
    let endpoints = world.endpoints_of(&web, &web.ports[0]);
    assert_eq!(endpoints.len(), 1);
    let endpoint = *endpoints[0].pod().unwrap();
    assert_eq!((endpoint.address.to_string(), endpoint.port), ("10.244.0.5".to_owned(), 9000));
    assert_eq!((endpoint.uid(), endpoint.service_account(), endpoint.node()), ("u-a", "web", Some("n1")));
    assert_eq!((endpoint.workload(), endpoint.locality().as_str()), ("web", "r1"));
    assert_eq!(world.endpoints_of(&web, &web.ports[1])[0].socket().port(), 81);
    let none = world.get::<Service>("default", "none").unwrap();
    assert!(world.endpoints_of(&none, &none.ports[0]).is_empty());
    let services: Vec<_> = world.services_of(&endpoint.pod).map(|s| s.name().to_owned()).collect();
    assert_eq!(services, ["web"]);
}

#[test]
fn addresses_follow_names_and_stay() {
    let mut first = world(&(service("a", "") + &service("b", "") + &service("h", "clusterIP: None")));
    let second = world(&(service("b", "") + &service("a", "")));
    let ServiceAddress::Virtual(a) = address(&first, "a") else { panic!() };
    assert!(a.to_string().starts_with("10.96."), "{a}");
    assert_eq!(address(&first, "a"), address(&second, "a"));
    assert_ne!(address(&first, "a"), address(&first, "b"));
    assert_eq!(address(&first, "h"), ServiceAddress::Headless);
    // One that asks for an allotted address gets it; the other moves.
    apply(&mut first, &service("greedy", &format!("clusterIP: {a}")));
    assert_eq!(address(&first, "greedy"), ServiceAddress::Virtual(a));
    let moved = address(&first, "a");
    assert!(matches!(moved, ServiceAddress::Virtual(other) if other != a));
    // And a restart with what was recorded changes nothing.
    let kept: Vec<_> = first.allotments().map(|(key, address)| (key.clone(), address)).collect();
    let mut restarted = World::with_allotments(kept);
    apply(&mut restarted, &service("a", ""));
    assert_eq!(address(&restarted, "a"), moved);
}

#[test]
fn a_refused_version_leaves_the_last_good_one() {
    let yaml = |timeout: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: r}}\n\
             spec: {{hosts: [r], http: [{{timeout: {timeout}}}]}}\n"
        )
    };
    let mut world = world(&yaml("5s"));
    let touched = apply(&mut world, &yaml("soon"));
    assert!(touched.is_empty());
    let key = Key::new(Kind::VirtualService, "default", "r");
    assert!(world.refusal(&key).unwrap().message.contains("\"soon\" is not a duration"));
    assert!(world.get::<VirtualService>("default", "r").unwrap().http[0].timeout.is_some());
    let touched = apply(&mut world, &yaml("6s"));
    assert!(touched.has(Kind::VirtualService) && world.refusal(&key).is_none());
    assert!(apply(&mut world, &yaml("6s")).is_empty());
}

#[test]
fn the_oldest_is_by_timestamp_then_by_first_application() {
    let entry = |name: &str, created: &str, resolution: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata:\n  name: {name}\n  {created}\n\
             spec: {{hosts: [Example.com], resolution: {resolution}}}\n---\n"
        )
    };
    let mut world = world(&(entry("c", "", "DNS") + &entry("b", "", "DNS")));
    apply(&mut world, &entry("a", "creationTimestamp: 2020-01-01T00:00:00Z", "DNS"));
    // A new version does not make an object younger.
    apply(&mut world, &entry("c", "", "NONE"));
    let names: Vec<_> = world.entries_for("example.com").iter().map(|e| e.name().to_owned()).collect();
    assert_eq!(names, ["a", "c", "b"]);
}

#[test]
fn the_mesh_configuration_is_read_and_survives_mistakes() {
    let config = |mesh: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: istio\n  namespace: istio-system\ndata:\n  mesh: |\n\
             {mesh}"
        )
    };
    let mut world = World::default();
    assert!(world.mesh_config().enable_auto_mtls);
    let good = "    trustDomain: example.org\n    outboundTrafficPolicy:\n      mode: REGISTRY_ONLY\n    colour: 1\n";
    let touched = apply(&mut world, &config(good));
    assert!(touched.mesh_config);
    let policy = world.mesh_config().outbound_traffic_policy.clone().unwrap();
    assert_eq!(policy.mode, Some(OutboundMode::RegistryOnly));
    let told: Vec<_> = world.problems().map(ToString::to_string).collect();
    assert_eq!(told, ["w.yaml:11: ConfigMap istio-system/istio: data.mesh.colour: unknown field"]);
    let touched = apply(&mut world, &config("    trustDomain: [x]\n"));
    assert!(!touched.mesh_config);
    assert_eq!(world.mesh_config().trust_domain, "example.org");
    let told: Vec<_> = world.problems().map(ToString::to_string).collect();
    assert_eq!(
        told,
        ["w.yaml:8: ConfigMap istio-system/istio: data.mesh.trustDomain: expected a string, found a list"]
    );
}

#[test]
fn secrets_give_certificate_and_key() {
    let secret = |name: &str, data: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\ntype: kubernetes.io/tls\n{data}\n---\n"
        )
    };
    let world = world(
        &(secret("plain", "stringData: {tls.crt: C, tls.key: K}")
            + &secret("coded", "data: {tls.crt: Qw==, tls.key: Sw==, ca.crt: Ug==}")
            + &secret("bad", "data: {tls.crt: '!', tls.key: Sw==}")
            + &secret("half", "data: {tls.crt: Qw==}")
            + &secret("empty", "data: {tls.crt: Qw==, tls.key: ''}")),
    );
    let plain = world.tls_secret("default", "plain").unwrap();
    assert_eq!((plain.certificates.as_slice(), plain.key.as_slice()), (&b"C"[..], &b"K"[..]));
    assert_eq!(world.tls_secret("default", "coded").unwrap().roots.as_deref(), Some(&b"R"[..]));
    for (name, message) in [
        ("bad", "secret default/bad: tls.crt is not base64; write plain text under stringData"),
        ("half", "secret default/half has no tls.key"),
        ("empty", "secret default/empty has no tls.key"),
        ("absent", "secret default/absent does not exist"),
    ] {
        assert_eq!(world.tls_secret("default", name).unwrap_err().to_string(), message);
    }
}

#[test]
fn entries_select_workloads_and_pods() {
    let yaml = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: e}\n\
                spec: {hosts: [e.example.com], resolution: STATIC, workloadSelector: {labels: {app: web}}, \
                ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]}\n---\n\
                apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: vm}\n\
                spec: {address: 1.2.3.4, labels: {app: web}, ports: {http: 88}}\n---\n";
    let world =
        world(&(yaml.to_owned() + &pod("a", "10.244.0.5", "True") + &pod("b", "10.244.0.6", "False")));
    let entry = world.get::<ServiceEntry>("default", "e").unwrap();
    let ports: Vec<_> = world
        .endpoints_of_entry(&entry, &entry.ports[0])
        .iter()
        .map(|endpoint| match endpoint {
            EntryEndpoint::Written(written) => (written.workload.address.clone(), written.port),
            EntryEndpoint::Pod(pod) => (pod.address.to_string(), pod.port),
        })
        .collect();
    assert_eq!(ports, [("1.2.3.4".to_owned(), 88), ("10.244.0.5".to_owned(), 8080)]);
}
