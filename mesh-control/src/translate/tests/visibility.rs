//! What a Sidecar, or `exportTo`, lets a workload see (semantics.md 18, 29).

use mesh_core::model::{Host, MtlsMode, OutboundPolicy, Own, Protocol, Resource, Role, Root};

use super::{closure, host_root, pod, proxy, service, sidecar, view};
use crate::view::View;

/// `web` and `api` in `default`, `db` in `data`, and an external host that both namespaces declare.
fn world(more: &str) -> View {
    let data =
        service("db", 80, &["v1"]).replace("metadata: {name: db}", "metadata: {name: db, namespace: data}");
    let data = data.replace("  name: db-v1\n", "  name: db-v1\n  namespace: data\n");
    let entry = |namespace: &str, address: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
             metadata: {{name: out, namespace: {namespace}}}\n\
             spec: {{hosts: [out.example.com], ports: [{{number: 80, name: http, protocol: HTTP}}], \
             resolution: STATIC, endpoints: [{{address: {address}}}]}}\n---\n"
        )
    };
    let default = service("web", 80, &["v1"]) + &service("api", 80, &["v1"]);
    view(&(default + &data + &entry("default", "192.0.2.1") + &entry("data", "192.0.2.2") + more))
}

fn object(kind: &str, name: &str, namespace: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: {kind}\n\
         metadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{spec}}}\n---\n"
    )
}

fn narrowed(namespace: &str, spec: &str) -> String {
    object("Sidecar", "narrow", namespace, spec)
}

/// Which of the hosts the pod `web-v1` may name, by all three roots alike.
fn seen(view: &View) -> Vec<&'static str> {
    let hosts = [
        ("web", "web.default.svc.cluster.local"),
        ("api", "api.default.svc.cluster.local"),
        ("db", "db.data.svc.cluster.local"),
        ("out", "out.example.com"),
    ];
    let shows = |&(_, host): &(&str, &str)| {
        let proxy = sidecar("web-v1");
        let by_host = closure(view, &proxy, &host_root(host, 80)).is_some();
        let by_name = closure(view, &proxy, &Root::Name(Host::parse(host).unwrap()));
        assert_eq!(by_host, by_name.is_some(), "{host}");
        let service = view.catalog().find(&Host::parse(host).unwrap(), "default").unwrap();
        let address = Root::Address((service.addresses[0], 80).into());
        // The address of an external host is that of one namespace's declaration.
        assert!(closure(view, &proxy, &address).is_some() == by_host || host == "out.example.com", "{host}");
        by_host
    };
    hosts.iter().filter(|host| shows(host)).map(|(name, _)| *name).collect()
}

/// semantics.md 29
#[test]
fn egress_hosts_say_what_is_seen() {
    for (hosts, expected) in [
        ("'*/*'", &["web", "api", "db", "out"][..]),
        ("./*", &["web", "api", "out"]),
        ("data/*", &["db", "out"]),
        ("'*/*.svc.cluster.local'", &["web", "api", "db"]),
        ("'*/db.data.svc.cluster.local', ./web.default.svc.cluster.local", &["web", "db"]),
        ("'~/*'", &[]),
        ("'*/*', '~data/*'", &["web", "api", "out"]),
        ("./*, '~./api.default.svc.cluster.local'", &["web", "out"]),
        ("unqualified", &[]),
    ] {
        let view = world(&narrowed("default", &format!("egress: [{{hosts: [{hosts}]}}]")));
        assert_eq!(seen(&view), expected, "{hosts}");
    }
    assert_eq!(seen(&world("")), ["web", "api", "db", "out"]);
    assert_eq!(seen(&world(&narrowed("default", "egress: []"))), ["web", "api", "db", "out"]);
}

/// semantics.md 29: workload over namespace over mesh, the oldest of each; they do not add up.
#[test]
fn s29_one_sidecar_holds() {
    let root = object("Sidecar", "mesh", "istio-system", "egress: [{hosts: [./*]}]");
    assert_eq!(seen(&world(&root)), ["web", "api", "out"], "`.` is the client's namespace");
    let own = narrowed("default", "egress: [{hosts: [data/*]}]");
    assert_eq!(seen(&world(&(root.clone() + &own))), ["db", "out"]);
    let of = |name: &str, label: &str, hosts: &str| {
        let spec = format!("workloadSelector: {{labels: {{app: {label}}}}}, egress: [{{hosts: [{hosts}]}}]");
        object("Sidecar", name, "default", &spec)
    };
    let selected = of("z", "web", "./web.default.svc.cluster.local") + &of("a", "web", "'*/*'");
    assert_eq!(
        seen(&world(&(own.clone() + &root + &selected))),
        ["web"],
        "the oldest, not the first by name"
    );
    assert_eq!(seen(&world(&(own + &of("o", "other", "'*/*'")))), ["db", "out"]);
    let elsewhere =
        object("Sidecar", "s", "istio-system", "workloadSelector: {labels: {app: web}}, egress: []");
    assert_eq!(seen(&world(&(root + &elsewhere))), ["web", "api", "out"]);
}

#[test]
fn a_listener_with_a_port_says_what_is_seen_there() {
    let spec =
        "egress: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [data/*]}, {hosts: ['*/*']}]";
    assert_eq!(seen(&world(&narrowed("default", spec))), ["db", "out"]);
    let spec = spec.replace("number: 80", "number: 81");
    assert_eq!(seen(&world(&narrowed("default", &spec))), ["web", "api", "db", "out"]);
}

/// The rule is seen, and so is where it leads, but not by its own name.
#[test]
fn where_a_rule_leads_is_reached_though_it_is_hidden() {
    let rule = object(
        "VirtualService",
        "web",
        "default",
        "hosts: [web], http: [{route: [{destination: {host: db.data.svc.cluster.local, port: {number: 80}}}]}]",
    );
    let view = world(&(rule + &narrowed("default", "egress: [{hosts: [./web.default.svc.cluster.local]}]")));
    let members = closure(&view, &sidecar("web-v1"), &host_root("web", 80)).unwrap();
    let has =
        |name: &str| members.iter().any(|member| matches!(member, Resource::Cluster(c) if c.name == name));
    assert!(has("outbound|80||db.data.svc.cluster.local"), "{members:#?}");
    assert_eq!(seen(&view), ["web"]);
}

#[test]
fn of_two_declarations_of_a_host_the_one_that_is_seen_counts() {
    for (hosts, address) in [("'*/*'", "192.0.2.1:80"), ("./*", "192.0.2.1:80"), ("data/*", "192.0.2.2:80")] {
        let view = world(&narrowed("default", &format!("egress: [{{hosts: [{hosts}]}}]")));
        let members = closure(&view, &sidecar("web-v1"), &host_root("out.example.com", 80)).unwrap();
        let endpoints = members.iter().find_map(|member| match member {
            Resource::Endpoints(endpoints) => Some(format!("{:?}", endpoints.endpoints[0].address)),
            _ => None,
        });
        assert!(endpoints.unwrap().contains(address), "{hosts}");
    }
}

/// Rules of namespaces that are not shown have no effect, though their hosts are seen.
#[test]
fn rules_are_seen_by_the_namespace_they_are_in() {
    let rule = object(
        "VirtualService",
        "api",
        "data",
        "hosts: [api.default.svc.cluster.local], http: [{directResponse: {status: 418}}]",
    );
    let routed = |more: &str| {
        let view = world(&(rule.clone() + more));
        let members = closure(&view, &sidecar("web-v1"), &host_root("api", 80)).unwrap();
        format!("{members:?}").contains("418")
    };
    assert!(routed(""));
    assert!(!routed(&narrowed("default", "egress: [{hosts: [./*]}]")));
    assert!(routed(&narrowed("default", "egress: [{hosts: [./*, data/api.default.svc.cluster.local]}]")));
}

#[test]
fn the_policy_for_undeclared_hosts_is_the_sidecars_own_or_the_meshs() {
    let policy = |more: &str, role: Role| {
        let own = closure(&world(more), &proxy(role, "default", "web-v1"), &Root::Own).unwrap();
        own.into_iter().find_map(|member| match member {
            Resource::Own(own) => Some(own.outbound_policy),
            _ => None,
        })
    };
    let closed = "outboundTrafficPolicy: {mode: REGISTRY_ONLY}";
    let root = object("Sidecar", "mesh", "istio-system", closed);
    assert_eq!(policy(&root, Role::Sidecar), Some(OutboundPolicy::RegistryOnly));
    let own = narrowed("default", "egress: []");
    assert_eq!(policy(&(root + &own), Role::Sidecar), Some(OutboundPolicy::AllowAny), "they do not add up");
}

/// semantics.md 18, on a Service.
#[test]
fn services_are_exported_as_their_annotation_says() {
    for (export, expected) in
        [("'.'", false), ("'~'", false), ("'*'", true), ("'b, default'", true), ("b", false)]
    {
        let name = format!(
            "metadata: {{name: x, namespace: data, annotations: {{networking.istio.io/exportTo: {export}}}}}"
        );
        let view = world(&service("x", 80, &[]).replace("metadata: {name: x}", &name));
        let root = host_root("x.data.svc.cluster.local", 80);
        assert_eq!(closure(&view, &sidecar("web-v1"), &root).is_some(), expected, "{export}");
    }
}

#[test]
fn a_pod_of_a_hidden_service_is_hidden_too() {
    let by_address = |more: &str| {
        let view = world(&(pod("db-x", "app: api", "10.244.7.7") + more));
        closure(&view, &sidecar("web-v1"), &Root::Address("10.244.7.7:80".parse().unwrap())).is_some()
    };
    assert!(by_address(""));
    assert!(!by_address(&narrowed("default", "egress: [{hosts: [data/*]}]")));
}

#[test]
fn problems_tell_what_is_hidden_and_what_shows_nothing() {
    let rule = object(
        "VirtualService",
        "db",
        "default",
        "hosts: [db.data.svc.cluster.local], http: [{route: [{destination: {host: db.data.svc.cluster.local}}]}]",
    );
    let narrow = narrowed(
        "default",
        "egress: [{hosts: [./*, api, ./nobody]}], outboundTrafficPolicy: {egressProxy: {host: x}}",
    );
    let of = |name: &str, label: &str| {
        object("Sidecar", name, "default", &format!("workloadSelector: {{labels: {{{label}}}}}"))
    };
    let view = world(&(rule + &narrow + &of("first", "app: web") + &of("second", "version: v1")));
    let told: Vec<String> = view.problems().iter().map(ToString::to_string).collect();
    let has = |parts: &[&str]| told.iter().any(|line| parts.iter().all(|part| line.contains(part)));
    assert!(has(&["VirtualService", "spec.hosts[0]", "default/narrow hides this host"]), "{told:#?}");
    assert!(has(&["spec.egress[0].hosts[1]", "\"api\" shows nothing"]), "{told:#?}");
    assert!(has(&["spec.egress[0].hosts[2]", "nobody declares such a host"]), "{told:#?}");
    assert!(has(&["egressProxy", "no effect"]), "{told:#?}");
    assert!(has(&["second", "selects pod web-v1", "default/first"]), "{told:#?}");
    assert!(!told.iter().any(|line| line.contains("spec.egress:")), "{told:#?}");
}

fn own_of(view: &View) -> Own {
    let found = closure(view, &sidecar("web-v1"), &Root::Own).unwrap();
    let own = found.into_iter().find_map(|member| match member {
        Resource::Own(own) => Some(*own),
        _ => None,
    });
    own.unwrap()
}

/// semantics.md 29: what a Sidecar lists stands in place of what services declare; modes hold for its ports.
#[test]
fn ingress_listeners_take_the_place_of_declared_ports() {
    let spec = "ingress: [{port: {number: 80, name: grpc, protocol: GRPC}, defaultEndpoint: '127.0.0.1:8080'}, \
                {port: {number: 81, name: tcp, protocol: TCP}, defaultEndpoint: '0.0.0.0:8081'}, \
                {port: {number: 82, name: http, protocol: HTTP}, defaultEndpoint: 'unix:///s'}]";
    let strict = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: p}\n\
                  spec: {selector: {matchLabels: {app: web}}, portLevelMtls: {81: {mode: STRICT}}}\n---\n";
    let view = world(&(strict.to_owned() + &narrowed("default", spec)));
    let own = own_of(&view);
    let shown: Vec<_> = own
        .inbound
        .iter()
        .map(|port| {
            let endpoint = port.endpoint.map(|endpoint| endpoint.to_string());
            (port.port, port.protocol, port.mtls, endpoint, port.service_name.as_str())
        })
        .collect();
    let address = own_address(&view);
    assert_eq!(
        shown,
        [
            (80, Protocol::Grpc, MtlsMode::Permissive, Some("127.0.0.1:8080".to_owned()), "web"),
            (81, Protocol::Tcp, MtlsMode::Strict, Some(format!("{address}:8081")), "web-v1"),
            (82, Protocol::Http, MtlsMode::Permissive, None, "web-v1"),
        ]
    );
    let told = view.problems().iter().any(|problem| problem.field == "spec.ingress[2].defaultEndpoint");
    assert!(told, "{:#?}", view.problems());
    let other = closure(&view, &sidecar("api-v1"), &Root::Own).unwrap();
    assert!(
        format!("{other:?}").contains("8080"),
        "a Sidecar without a selector is for all of the namespace"
    );
}

fn own_address(view: &View) -> std::net::IpAddr {
    view.world().get::<crate::api::core::Pod>("default", "web-v1").unwrap().status.pod_ip.unwrap()
}
