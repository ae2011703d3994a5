//! What VirtualServices and DestinationRules say of forwarding, where it is easily got wrong, point by point of semantics.md.

use mesh_core::model::{
    Cluster, ClusterTls, HeaderMatch, Listener, LoadBalancer, PerMillion, Resource, RetryOn, Role, Root,
    Rule, StringMatch, TcpRoute, Transport,
};

use super::{closure, gateway_pod, host_root, proxy, service, sidecar, tables, view};

fn object(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n---\n"
    )
}

const TO_WEB: &str = "route: [{destination: {host: web}}]";

/// The rules by which a sidecar calls `web`, given the `http` of its VirtualService.
fn rules(http: &str) -> Vec<Rule> {
    let yaml = service("web", 80, &["v1"])
        + &object("VirtualService", "w", &format!("hosts: [web], http: [{http}]"));
    let resources = closure(&view(&yaml), &sidecar("web-v1"), &host_root("web", 80)).unwrap();
    tables(&resources)[0].virtual_hosts[0].rules.clone()
}

fn rule(http: &str) -> Rule {
    let [rule] = rules(http).try_into().unwrap();
    rule
}

/// How `web` is reached under a DestinationRule with this `trafficPolicy`, and over what its pods are.
fn cluster(more: &str, policy: &str) -> (Cluster, Vec<Transport>) {
    let rule = object("DestinationRule", "r", &format!("host: web, trafficPolicy: {{{policy}}}"));
    let resources = closure(
        &view(&(service("web", 80, &["v1"]) + more + &rule)),
        &sidecar("web-v1"),
        &host_root("web", 80),
    );
    let (mut found, mut transports) = (None, Vec::new());
    for resource in resources.unwrap() {
        match resource {
            Resource::Cluster(cluster) => found = Some(*cluster),
            Resource::Endpoints(all) => {
                transports.extend(all.endpoints.iter().map(|endpoint| endpoint.transport))
            }
            _ => {}
        }
    }
    (found.unwrap(), transports)
}

#[test]
fn s3_an_empty_test_and_the_expression_of_one_star_mean_present() {
    for test in ["{}", "{regex: '*'}"] {
        let rule = rule(&format!("{{match: [{{headers: {{x: {test}}}}}], {TO_WEB}}}"));
        let present = HeaderMatch { name: "x".to_owned(), value: StringMatch::Present };
        assert_eq!(rule.matches[0].headers, [present], "{test}");
    }
}

#[test]
fn s5_a_match_that_names_gateways_asks_nothing_of_the_caller() {
    for (request, applies) in [
        ("sourceLabels: {app: web}", true),
        ("sourceLabels: {app: nobody}", false),
        ("gateways: [mesh], sourceLabels: {app: nobody}", true),
        ("gateways: [g]", false),
        ("gateways: [g, mesh]", true),
        ("port: 80", true),
        ("port: 81", false),
    ] {
        let found = rules(&format!("{{match: [{{{request}}}], {TO_WEB}}}"));
        assert_eq!(!found.is_empty(), applies, "{request}");
    }
}

#[test]
fn s11_and_s12_without_a_percentage_no_fault_is_injected_and_everything_is_copied() {
    let share =
        |text: &str| if text.is_empty() { String::new() } else { format!(", percentage: {{value: {text}}}") };
    for (text, of_faults, of_copies) in [
        ("", PerMillion::NEVER, Some(PerMillion::ALWAYS)),
        ("0", PerMillion::NEVER, None),
        ("12.5", PerMillion::percent(12.5), Some(PerMillion::percent(12.5))),
        ("100", PerMillion::ALWAYS, Some(PerMillion::ALWAYS)),
    ] {
        let share = share(text);
        let fault = format!("fault: {{delay: {{fixedDelay: 1s{share}}}, abort: {{httpStatus: 500{share}}}}}");
        let single = share.replace("percentage", "mirrorPercentage");
        let copies = [
            format!("mirror: {{host: web}}{single}"),
            format!("mirrors: [{{destination: {{host: web}}{share}}}]"),
        ];
        for copies in copies {
            let rule = rule(&format!("{{{fault}, {copies}, {TO_WEB}}}"));
            let fault = rule.fault.unwrap();
            assert_eq!((fault.delay.unwrap().1, fault.abort.unwrap().1), (of_faults, of_faults), "{text}");
            let shares: Vec<_> = rule.mirrors.iter().map(|mirror| mirror.share).collect();
            assert_eq!(shares, of_copies.into_iter().collect::<Vec<_>>(), "{copies}");
        }
    }
}

#[test]
fn s13_there_is_no_time_limit_unless_one_is_set() {
    for (timeout, limit) in [("", None), ("timeout: 0s, ", None), ("timeout: 2s, ", Some(2_000))] {
        let rule = rule(&format!("{{{timeout}{TO_WEB}}}"));
        assert_eq!(rule.timeout.map(|limit| limit.milliseconds()), limit, "{timeout}");
    }
}

#[test]
fn s14_two_retries_by_default_none_if_told_and_numbers_are_statuses() {
    let retries = |text: &str| rule(&format!("{{{text}{TO_WEB}}}")).retry;
    let default = retries("");
    let conditions = [
        RetryOn::ConnectFailure,
        RetryOn::RefusedStream,
        RetryOn::GrpcUnavailable,
        RetryOn::GrpcCancelled,
        RetryOn::RetriableStatus,
    ];
    assert_eq!((default.attempts, default.statuses.len(), default.same_endpoints), (2, 0, false));
    assert!(
        conditions.iter().all(|condition| default.on.contains(condition))
            && default.on.len() == conditions.len()
    );
    assert_eq!(retries("retries: {attempts: 0}, ").attempts, 0);
    let named = retries(
        "retries: {attempts: 4, retryOn: 'gateway-error, 503,418', retryIgnorePreviousHosts: false}, ",
    );
    assert_eq!(named.on, [RetryOn::GatewayError, RetryOn::RetriableStatus]);
    assert_eq!((named.attempts, named.statuses, named.same_endpoints), (4, vec![503, 418], true));
    assert_eq!(
        retries("retries: {attempts: 1}, ").on,
        default.on,
        "a rule that names no condition has the default's"
    );
}

/// The listeners of a gateway with one server for these hosts, and what is told.
fn gateway(hosts: &str, server: &str, routes: &str) -> (Vec<Listener>, Vec<String>) {
    let yaml = object(
        "Gateway",
        "g",
        &format!(
            "selector: {{istio: ingressgateway}}, servers: [{{port: {{number: 443, name: s, protocol: {server}}}, \
             hosts: [{hosts}]{}}}]",
            if server == "TLS" { ", tls: {mode: PASSTHROUGH}" } else { "" }
        ),
    );
    let view = view(&(service("web", 80, &["v1"]) + &yaml + &gateway_pod("ingressgateway") + routes));
    let resources = closure(&view, &proxy(Role::Ingress, "istio-system", "gw"), &Root::Own).unwrap();
    let own = resources.into_iter().find_map(|resource| match resource {
        Resource::Own(own) => Some(own.listeners),
        _ => None,
    });
    (own.unwrap(), view.problems().iter().map(|problem| problem.to_string()).collect())
}

/// Who says that he is asked about another's host is not, whatever else the server is for.
#[test]
fn s21_server_names_count_within_the_hosts_of_the_rule_and_of_the_server() {
    let routes = |hosts: &str, names: &str| {
        object(
            "VirtualService",
            "v",
            &format!(
                "hosts: [{hosts}], gateways: [g], tls: [{{match: [{{sniHosts: [{names}]}}], {TO_WEB}}}]"
            ),
        )
    };
    let of_server = |listeners: &[Listener]| -> Vec<String> {
        let all =
            listeners.iter().flat_map(|listener| &listener.servers).flat_map(|server| &server.tcp_routes);
        all.flat_map(|route: &TcpRoute| &route.sni_hosts).map(ToString::to_string).collect()
    };
    let both = "default/a.example.com, other/b.example.com";
    for (server, hosts, names, counts, told) in [
        (both, "a.example.com", "a.example.com", vec!["a.example.com"], false),
        (both, "a.example.com", "b.example.com", vec![], true),
        (both, "'*.example.com'", "b.example.com", vec![], false),
        (both, "'*.example.com'", "'*.example.com'", vec!["a.example.com"], false),
        ("'*.example.com'", "'*.example.com'", "x.y.example.com", vec!["x.y.example.com"], false),
        ("'*'", "'*.com'", "'*.example.com'", vec!["*.example.com"], false),
    ] {
        let (listeners, problems) = gateway(server, "TLS", &routes(hosts, names));
        assert_eq!(of_server(&listeners), counts, "{server}: {hosts}: {names}");
        let is_told = problems.iter().any(|text| text.contains("sniHosts[0]"));
        assert_eq!(is_told, told, "{hosts}: {names}: {problems:?}");
    }
    let tcp = object(
        "VirtualService",
        "v",
        &format!("hosts: ['*.example.com'], gateways: [g], tcp: [{{{TO_WEB}}}]"),
    );
    assert_eq!(of_server(&gateway(both, "TLS", &tcp).0), ["a.example.com"]);
}

#[test]
fn s24_a_server_without_routes_listens_and_knows_nobody() {
    let (listeners, _) = gateway("a.example.com", "HTTP", "");
    assert_eq!(listeners.iter().map(|listener| listener.port).collect::<Vec<_>>(), [443]);
    assert!(listeners[0].routes.is_some());
}

#[test]
fn s27_least_request_is_the_default_and_outlier_detection_brings_failover() {
    for (policy, balancer) in [
        ("", LoadBalancer::LeastRequest),
        ("loadBalancer: {simple: UNSPECIFIED}", LoadBalancer::LeastRequest),
        ("loadBalancer: {simple: LEAST_CONN}", LoadBalancer::LeastRequest),
        ("loadBalancer: {simple: ROUND_ROBIN}", LoadBalancer::RoundRobin),
        ("loadBalancer: {simple: RANDOM}", LoadBalancer::Random),
        ("loadBalancer: {simple: PASSTHROUGH}", LoadBalancer::OriginalDestination),
    ] {
        let (cluster, _) = cluster("", policy);
        assert_eq!(cluster.load_balancer, balancer, "{policy}");
        assert_eq!(cluster.locality, None, "{policy}");
    }
    let failover = |policy: &str| cluster("", policy).0.locality.is_some_and(|locality| locality.failover);
    assert!(failover("outlierDetection: {}"));
    let off = "outlierDetection: {}, loadBalancer: {localityLbSetting: {enabled: false}}";
    assert!(!failover(off));
}

#[test]
fn s27_slow_start_in_its_new_and_its_old_form() {
    let warm = |settings: &str| {
        let warm = cluster("", &format!("loadBalancer: {{simple: ROUND_ROBIN, {settings}}}")).0.warm_up;
        warm.map(|warm| (warm.duration.milliseconds(), warm.minimum, warm.aggression))
    };
    assert_eq!(warm("warmupDurationSecs: 30s"), Some((30_000, 0.1, 1.0)));
    assert_eq!(warm("warmup: {duration: 60s}"), Some((60_000, 0.1, 1.0)));
    assert_eq!(warm("warmup: {duration: 1m, minimumPercent: 25, aggression: 2}"), Some((60_000, 0.25, 2.0)));
    assert_eq!(warm("warmup: {minimumPercent: 25}"), None);
    assert_eq!(warm("warmupDurationSecs: 0s"), None);
}

#[test]
fn s31_the_rules_tls_wins_and_without_one_the_endpoint_decides() {
    let plain = super::pod("web-plain", "app: web", "10.244.7.7")
        .replace("sidecar.istio.io/status: injected", "a: b");
    let (auto, transports) = cluster(&plain, "");
    assert_eq!(auto.tls, ClusterTls::Auto);
    assert!(
        transports.contains(&Transport::MeshTls) && transports.contains(&Transport::Plain),
        "{transports:?}"
    );
    let never = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\n\
        data:\n  mesh: |\n    enableAutoMtls: false\n---\n";
    for more in ["", never] {
        let tls = |mode: &str| cluster(more, &format!("tls: {{mode: {mode}}}")).0.tls;
        assert_eq!(tls("DISABLE"), ClusterTls::Disabled);
        assert_eq!(tls("ISTIO_MUTUAL"), ClusterTls::Mesh { sni: None });
        assert!(matches!(tls("SIMPLE"), ClusterTls::Originate { .. }));
    }
    assert_eq!(cluster(never, "").0.tls, ClusterTls::Disabled);
}
