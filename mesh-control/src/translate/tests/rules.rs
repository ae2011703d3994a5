//! Points of semantics.md that are easily got wrong, one by one.

use mesh_core::model::{Action, Millis, Resource, Role, Root};

use super::{closure, gateway_pod, host_root, pod, proxy, service, short, sidecar, tables, view};

fn virtual_service(name: &str, namespace: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\n\
         metadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{spec}}}\n---\n"
    )
}

fn destination_rule(name: &str, namespace: &str, spec: &str) -> String {
    virtual_service(name, namespace, spec).replace("kind: VirtualService", "kind: DestinationRule")
}

fn clusters(resources: &[Resource]) -> Vec<&mesh_core::model::Cluster> {
    let mut clusters = Vec::new();
    for resource in resources {
        if let Resource::Cluster(cluster) = resource {
            clusters.push(&**cluster);
        }
    }
    clusters
}

/// 1 and 5: list order, up to the first that takes everything; matches for other gateways and ports are left out.
#[test]
fn rules_end_with_the_first_that_takes_everything() {
    let spec = "hosts: [web], http: [\
        {match: [{port: 81}], route: [{destination: {host: other-port}}]},\
        {match: [{gateways: [gw]}], route: [{destination: {host: other-gateway}}]},\
        {match: [{sourceLabels: {app: nobody}}], route: [{destination: {host: other-source}}]},\
        {match: [{uri: {prefix: /a}}, {uri: {prefix: /}}], route: [{destination: {host: web}}]},\
        {route: [{destination: {host: unreachable}}]}]";
    let view = view(&(service("web", 80, &["v1"]) + &virtual_service("w", "default", spec)));
    let resources = closure(&view, &sidecar("web-v1"), &host_root("web", 80)).unwrap();
    let lines = short(tables(&resources)[0]);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0].contains("|web.default"));
}

/// 6: weight 0 among several is left out; alone it does not matter.
#[test]
fn weights_of_zero() {
    let spec = "hosts: [web], http: [\
        {match: [{uri: {exact: /one}}], route: [{destination: {host: web}, weight: 0}]},\
        {route: [{destination: {host: web}, weight: 0}, {destination: {host: other}, weight: 3}]}]";
    let view = view(&(service("web", 80, &["v1"]) + &virtual_service("w", "default", spec)));
    let resources = closure(&view, &sidecar("web-v1"), &host_root("web", 80)).unwrap();
    let rules = &tables(&resources)[0].virtual_hosts[0].rules;
    let counts: Vec<_> = rules
        .iter()
        .map(|rule| match &rule.action {
            Action::Forward(backends) => backends.len(),
            _ => 0,
        })
        .collect();
    assert_eq!(counts, [1, 1]);
}

/// 10: removals, settings, and the authority among them.
#[test]
fn host_among_the_headers_is_the_authority() {
    let spec = "hosts: [web], http: [{headers: {request: {set: {Host: a.example, x: '1', ':path': /}, remove: [z, a]}}, \
        route: [{destination: {host: web}}]}]";
    let view = view(&(service("web", 80, &["v1"]) + &virtual_service("w", "default", spec)));
    let resources = closure(&view, &sidecar("web-v1"), &host_root("web", 80)).unwrap();
    let edits = &tables(&resources)[0].virtual_hosts[0].rules[0].request_headers;
    assert_eq!(edits.authority.as_deref(), Some("a.example"));
    assert_eq!(edits.set, [("x".to_owned(), "1".to_owned())]);
    assert_eq!(edits.remove, ["a", "z"]);
}

/// 16: the delegate's values win, matches are joined, contradictions are told.
#[test]
fn s16_delegates_narrow_what_they_are_given() {
    let root =
        "hosts: [web], http: [{name: root, match: [{uri: {prefix: /a}}], timeout: 9s, delegate: {name: d}}]";
    let delegate = "http: [\
        {name: in, match: [{uri: {prefix: /a/b}}], timeout: 1s, route: [{destination: {host: web}}]},\
        {name: out, match: [{uri: {prefix: /c}}], route: [{destination: {host: web}}]},\
        {name: rest, route: [{destination: {host: web}}]}]";
    let yaml = service("web", 80, &["v1"])
        + &virtual_service("r", "default", root)
        + &virtual_service("d", "default", delegate);
    let view = view(&yaml);
    let resources = closure(&view, &sidecar("web-v1"), &host_root("web", 80)).unwrap();
    let rules = &tables(&resources)[0].virtual_hosts[0].rules;
    let told: Vec<_> =
        rules.iter().map(|rule| (rule.name.as_str(), rule.timeout.unwrap().milliseconds())).collect();
    assert_eq!(told, [("root-in", 1000), ("root-rest", 9000)]);
    assert!(view.problems().iter().any(|problem| problem.message.contains("contradicts")));
}

/// 17 and 18: sidecars take one VirtualService, the most narrowly exported, then the oldest; gateways merge.
#[test]
fn s17_sidecars_choose_where_gateways_merge() {
    let to = |host: &str, more: &str| {
        format!("hosts: [web], {more} http: [{{route: [{{destination: {{host: {host}}}}}]}}]")
    };
    let yaml = service("web", 80, &["v1"])
        + &virtual_service("public", "default", &to("public", ""))
        + &virtual_service("younger", "default", &to("younger", ""))
        + &virtual_service("private", "default", &to("private", "exportTo: ['.'],"));
    let view = view(&yaml);
    let first = |namespace: &str| {
        let caller = proxy(Role::Sidecar, namespace, "x");
        let resources = closure(&view, &caller, &host_root("web.default", 80)).unwrap();
        short(tables(&resources)[0]).concat()
    };
    assert!(first("default").contains("|private.default"));
    assert!(first("other").contains("|public.default"), "{}", first("other"));

    let gateway = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: g}\nspec: {selector: {istio: ingressgateway}, \
        servers: [{port: {number: 80, name: h, protocol: HTTP}, hosts: [a.example.com]}]}\n---\n";
    let all = "hosts: [a.example.com], gateways: [g], http: [{route: [{destination: {host: web}}]}]";
    let some = "hosts: [a.example.com], gateways: [g], http: [{match: [{uri: {prefix: /x}}], route: [{destination: {host: web}}]}]";
    let yaml = service("web", 80, &["v1"])
        + gateway
        + &gateway_pod("ingressgateway")
        + &virtual_service("a", "default", all)
        + &virtual_service("b", "default", some);
    let view = super::view(&yaml);
    let resources = closure(&view, &proxy(Role::Ingress, "istio-system", "gw"), &Root::Own).unwrap();
    let lines = short(tables(&resources)[0]);
    assert!(lines[0].contains("/x") && lines[1].contains("[]"), "{lines:#?}");
}

/// 20: a wildcard comes together with the more specific hosts below it.
#[test]
fn wildcards_bring_what_is_more_specific() {
    let entry = |name: &str, host: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}}}\n\
             spec: {{hosts: ['{host}'], ports: [{{number: 80, name: http, protocol: HTTP}}], resolution: NONE}}\n---\n"
        )
    };
    let yaml = entry("w", "*.example.com") + &entry("e", "a.example.com") + &service("web", 80, &["v1"]);
    let view = view(&yaml);
    let names = |host| {
        let resources = closure(&view, &sidecar("web-v1"), &host_root(host, 80)).unwrap();
        tables(&resources).iter().map(|table| table.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names("b.example.com"), ["*.example.com:80", "a.example.com:80"]);
    assert_eq!(names("a.example.com"), ["a.example.com:80"]);
    assert_eq!(closure(&view, &sidecar("web-v1"), &host_root("example.com", 80)), None);
}

/// 24: a server redirects its hosts, routed or not.
#[test]
fn https_redirect_needs_no_virtual_service() {
    let gateway = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: g}\nspec: {selector: {istio: ingressgateway}, \
        servers: [{port: {number: 80, name: h, protocol: HTTP}, hosts: [a.example.com], tls: {httpsRedirect: true}}]}\n---\n";
    let view = view(&(gateway.to_owned() + &gateway_pod("ingressgateway")));
    let resources = closure(&view, &proxy(Role::Ingress, "istio-system", "gw"), &Root::Own).unwrap();
    assert_eq!(short(tables(&resources)[0]), ["a.example.com redirect=true"]);
}

/// 25: the client's namespace, then the service's, then the root's; 26: blocks are inherited, a port replaces all.
#[test]
fn s25_destination_rules_are_found_and_merged() {
    let pool = |connections: u32| format!("connectionPool: {{tcp: {{maxConnections: {connections}}}}}");
    let yaml = service("web", 80, &["v1"])
        + &destination_rule(
            "root",
            "istio-system",
            &format!("host: '*.local', trafficPolicy: {{{}}}", pool(1)),
        )
        + &destination_rule(
            "own",
            "default",
            &format!(
                "host: web, trafficPolicy: {{{}, outlierDetection: {{}}}}, \
            subsets: [{{name: v1, labels: {{version: v1}}, trafficPolicy: {{{}}}}}]",
                pool(2),
                pool(3)
            ),
        )
        + &destination_rule(
            "own2",
            "default",
            "host: web, trafficPolicy: {loadBalancer: {simple: RANDOM}}, \
            subsets: [{name: v1, labels: {x: y}}, {name: v2, labels: {version: v2}, \
            trafficPolicy: {portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: ROUND_ROBIN}}]}}]",
        )
        + &destination_rule(
            "client",
            "caller",
            &format!("host: web.default.svc.cluster.local, trafficPolicy: {{{}}}", pool(4)),
        )
        + &virtual_service(
            "w",
            "default",
            "hosts: [web], http: [{route: [{destination: {host: web, subset: v1}, weight: 1}, \
            {destination: {host: web, subset: v2}, weight: 1}]}]",
        );
    let view = view(&yaml);
    let resources = closure(&view, &sidecar("web-v1"), &host_root("web", 80)).unwrap();
    let [v1, v2] = clusters(&resources).try_into().unwrap();
    assert_eq!((v1.pool.max_connections, v1.outlier.is_some()), (Some(3), true));
    assert_eq!((v2.pool.max_connections, v2.outlier.is_some()), (None, false));
    assert_eq!(v2.load_balancer, mesh_core::model::LoadBalancer::RoundRobin);
    let connections = |namespace| {
        let root = Root::Address(format!("{}:80", address(&view)).parse().unwrap());
        let resources = closure(&view, &proxy(Role::Sidecar, namespace, "x"), &root).unwrap();
        clusters(&resources)[0].pool.max_connections
    };
    assert_eq!((connections("caller"), connections("other")), (Some(4), Some(2)));
}

/// Each holds for connections of its own kind.
#[test]
fn how_long_connections_lie_idle_is_told_apart_by_protocol() {
    let pool = "connectionPool: {tcp: {idleTimeout: 5s}, http: {idleTimeout: 7s}}";
    let rule = destination_rule("r", "default", &format!("host: web, trafficPolicy: {{{pool}}}"));
    let only_tcp = rule.replace(", http: {idleTimeout: 7s}", "");
    let only_http = rule.replace("tcp: {idleTimeout: 5s}, ", "");
    let (five, seven, usual) = (Millis::seconds(5), Millis::seconds(7), Millis::seconds(3600));
    for (rule, tcp, http) in [(rule, five, seven), (only_tcp, five, usual), (only_http, usual, seven)] {
        let view = view(&(service("web", 80, &["v1"]) + &rule));
        let resources = closure(&view, &sidecar("web-v1"), &host_root("web", 80)).unwrap();
        let pool = &clusters(&resources)[0].pool;
        assert_eq!((pool.tcp_idle_timeout, pool.idle_timeout), (tcp, http));
    }
}

fn address(view: &crate::view::View) -> std::net::IpAddr {
    let service = view.world().get::<crate::api::core::Service>("default", "web").unwrap();
    let crate::world::ServiceAddress::Virtual(address) = view.world().address_of(&service) else { panic!() };
    address
}

#[test]
fn telemetry_for_one_target_is_nobodys_until_targets_are_supported() {
    let silent = |target: &str| {
        format!(
            "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {{name: quiet, namespace: istio-system}}\n\
             spec: {{{target}accessLogging: [{{disabled: true}}]}}"
        )
    };
    let log = |telemetry: &str| {
        let view = view(&[pod("web-1", "app: web", "10.244.0.5"), telemetry.to_owned()].concat());
        let resources = closure(&view, &sidecar("web-1"), &Root::Own).unwrap();
        let own = resources.iter().find_map(|resource| match resource {
            Resource::Own(own) => Some(own),
            _ => None,
        });
        (!own.unwrap().mesh.access_logs.is_empty(), view.problems().len())
    };
    assert_eq!(log(&silent("")), (false, 0));
    assert_eq!(
        log(&silent("targetRefs: [{kind: Gateway, name: web, group: gateway.networking.k8s.io}], ")),
        (true, 1)
    );
}
