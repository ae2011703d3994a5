use super::*;
use crate::failure::Failure;

fn origin() -> Value {
    json!({"kind": "VirtualService", "namespace": "default", "name": "tcp", "field": ""})
}

fn connect(snapshot: &Snapshot, entry: Entry<'_>, sni: Option<&str>) -> String {
    let sni = sni.map(|sni| Host::parse(sni).unwrap());
    let decision = decide_connection(
        snapshot,
        entry,
        &peer(None),
        sni.as_ref(),
        &mut Dice::seeded(1),
        &mut Trail::off(),
    );
    match decision {
        ConnectionDecision::Forward(ConnectionPlan { target: Target::Cluster(cluster), .. }) => {
            cluster.model.name.clone()
        }
        ConnectionDecision::Forward(ConnectionPlan { target: Target::Original(address), .. }) => {
            address.to_string()
        }
        ConnectionDecision::Refuse(failure) => failure.consequence().flag.into(),
        ConnectionDecision::Deny(denial) => denial.to_string(),
        ConnectionDecision::Need(root) => format!("needs {root}"),
    }
}

fn service(tcp_routes: Value) -> Value {
    json!({"address": {"address": SERVICE, "destination": {"service": "db", "protocol": "tcp", "cluster": "v1",
        "tcpRoutes": tcp_routes}}})
}

#[test]
fn s21_the_first_route_that_serves_the_server_name_wins() {
    let to =
        |sni: Value, cluster: &str| json!({"sniHosts": sni, "backends": [[cluster, 1]], "origin": origin()});
    let routed = service(json!([to(json!(["a.com"]), "v1"), to(json!(["*.com"]), "v2")]));
    let snapshot = snapshot(vec![routed, cluster("v1"), cluster("v2")]);
    assert_eq!(connect(&snapshot, outbound(), Some("a.com")), "v1");
    assert_eq!(connect(&snapshot, outbound(), Some("x.y.com")), "v2");
    assert_eq!(connect(&snapshot, outbound(), None), "v1", "no route: the address's own cluster");
}

#[test]
fn connections_follow_weights() {
    let backends = json!([["v1", 0], ["v2", 5]]);
    let routed = service(json!([{"backends": backends, "origin": origin()}]));
    let snapshot = snapshot(vec![routed, cluster("v1"), cluster("v2")]);
    assert_eq!(connect(&snapshot, outbound(), None), "v2");
}

#[test]
fn only_a_declared_no_passes_a_connection_through() {
    let absent = || vec![Root::Address(SERVICE.parse().unwrap())];
    assert_eq!(connect(&snapshot(vec![own(json!({}))]), outbound(), None), "needs address 10.96.0.1:9080");
    assert_eq!(connect(&with_absent(vec![own(json!({}))], absent()), outbound(), None), SERVICE);
    let strict = with_absent(vec![own(json!({"outboundPolicy": "registryOnly"}))], absent());
    assert_eq!(connect(&strict, outbound(), None), "BH");
    assert_eq!(connect(&snapshot(vec![service(json!([]))]), outbound(), None), "NC");
}

#[test]
fn a_cluster_without_discovery_sends_to_what_was_dialled() {
    let mut original = cluster("v1");
    original["cluster"]["loadBalancer"] = json!("originalDestination");
    assert_eq!(connect(&snapshot(vec![service(json!([])), original]), outbound(), None), SERVICE);
}

#[test]
fn gateways_route_passed_through_tls_by_the_most_specific_server() {
    let server = |hosts: Value, cluster: &str| {
        json!({"hosts": hosts, "tls": {"mode": "passthrough"}, "origin": origin(),
            "tcpRoutes": [{"backends": [[cluster, 1]], "origin": origin()}]})
    };
    let servers = [server(json!(["*.a.com"]), "v1"), server(json!(["x.a.com"]), "v2")];
    let listeners = json!([{"port": 8080, "protocol": "tls", "servers": servers}]);
    let own = own(json!({"role": "ingress", "listeners": listeners}));
    let snapshot = snapshot(vec![own, cluster("v1"), cluster("v2")]);
    for (sni, wanted) in
        [(Some("y.a.com"), "v1"), (Some("x.a.com"), "v2"), (Some("b.com"), "NR"), (None, "NR")]
    {
        assert_eq!(connect(&snapshot, gateway(false), sni), wanted, "{sni:?}");
    }
    assert_eq!(Failure::NoRoute.consequence().flag, "NR");
}
