//! The twelve manifests of the requirements, as a gateway or a sidecar sees them.

use mesh_core::model::{
    Amount, ClusterTls, ListenerProtocol, Millis, MtlsMode, Resource, Role, Root, TlsMode,
};

use super::{closure, gateway_pod, host_root, pod, proxy, service, short, sidecar, tables, view};

macro_rules! document {
    ($name:literal) => {
        concat!(include_str!(concat!("../../../../e2e/fixtures/documents/", $name, ".yaml")), "\n---\n")
    };
}

const SECRET: &str =
    "apiVersion: v1\nkind: Secret\nmetadata: {name: NAME}\nstringData: {tls.crt: C, tls.key: K}\n---\n";

fn secret(name: &str) -> String {
    SECRET.replace("NAME", name)
}

fn services(ports: &[(&str, u16)]) -> String {
    ports.iter().map(|(name, port)| service(name, *port, &["v1"])).collect()
}

/// The ingress gateway's resources.
fn ingress(yaml: &str) -> Vec<Resource> {
    let view = view(&(yaml.to_owned() + &gateway_pod("ingressgateway")));
    closure(&view, &proxy(Role::Ingress, "istio-system", "gw"), &Root::Own).unwrap()
}

fn own(resources: &[Resource]) -> &mesh_core::model::Own {
    let own = resources.iter().find_map(|resource| match resource {
        Resource::Own(own) => Some(own),
        _ => None,
    });
    own.unwrap()
}

/// The table named, in short, with the cluster domain left out.
fn table(resources: &[Resource], name: &str) -> Vec<String> {
    let found = tables(resources).into_iter().find(|table| table.name == name).unwrap();
    short(found).iter().map(|line| line.replace(".default.svc.cluster.local", "")).collect()
}

/// Y1
#[test]
fn ingress_hosts_and_paths() {
    let yaml = document!("01-ingress-hosts-and-paths").to_owned();
    let resources = ingress(&(yaml + &services(&[("user-service", 8080), ("shop-service", 8080)])));
    assert_eq!(
        table(&resources, "http.80"),
        [
            "api.example.com [Some(SegmentPrefix(\"/users\"))] -> outbound|8080||user-service*1",
            "shop.example.com [] -> outbound|8080||shop-service*1",
        ]
    );
}

/// Y2 and Y3: without path type and port (D1).
#[test]
fn ingress_without_path_types_and_ports() {
    let yaml = document!("02-ingress-hosts").to_owned();
    let resources = ingress(&(yaml + &services(&[("api-service", 80), ("web-service", 8081)])));
    assert_eq!(
        table(&resources, "http.80"),
        [
            "api.example.com [] -> outbound|80||api-service*1",
            "web.example.com [] -> outbound|8081||web-service*1",
        ]
    );
    let yaml = document!("03-ingress-paths").to_owned();
    let names = [("api-service", 80), ("admin-service", 80), ("frontend-service", 80)];
    let resources = ingress(&(yaml + &services(&names)));
    assert_eq!(
        table(&resources, "http.80"),
        [
            "example.com [Some(SegmentPrefix(\"/admin\"))] -> outbound|80||admin-service*1",
            "example.com [Some(SegmentPrefix(\"/api\"))] -> outbound|80||api-service*1",
            "example.com [] -> outbound|80||frontend-service*1",
        ]
    );
}

/// Y4
#[test]
fn ingress_with_a_certificate_is_served_on_both_ports() {
    let yaml = document!("04-ingress-tls").to_owned() + &services(&[("web-service", 80)]);
    let resources = ingress(&(yaml.clone() + &secret("tls-secret")));
    // As ingress-nginx: where there is a certificate, cleartext is sent to HTTPS.
    assert!(table(&resources, "http.80")[0].contains("status: 308, scheme: Some(\"https\")"));
    assert_eq!(table(&resources, "ingress.443"), ["example.com [] -> outbound|80||web-service*1"]);
    let listener = &own(&resources).listeners[1];
    assert_eq!((listener.port, listener.protocol), (443, ListenerProtocol::Tls));
    assert_eq!(listener.servers[0].tls.mode, TlsMode::Simple);
    assert!(resources.iter().any(|r| matches!(r, Resource::Secret(s) if s.name == "default/tls-secret")));
    let without = view(&(yaml + &gateway_pod("ingressgateway")));
    let told: Vec<_> = without.problems().iter().map(|problem| problem.message.clone()).collect();
    assert!(told.iter().any(|text| text.contains("secret default/tls-secret does not exist")), "{told:?}");
}

/// TN-02: a pod that calls itself a gateway, labels and all, is not given the keys of other namespaces.
#[test]
fn keys_of_other_namespaces_are_for_shared_gateways_only() {
    let gateway = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: g}\n\
        spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 8443, name: s, protocol: HTTPS}, \
        hosts: [a.example.com], tls: {mode: SIMPLE, credentialName: tls-secret}}]}\n---\n";
    let yaml = document!("04-ingress-tls").to_owned() + gateway + &secret("tls-secret");
    let ports = |namespace: &str| {
        let view = view(&(yaml.clone() + &gateway_pod("ingressgateway").replace("istio-system", namespace)));
        let resources = closure(&view, &proxy(Role::Ingress, namespace, "gw"), &Root::Own).unwrap();
        let secrets = resources.iter().filter(|resource| matches!(resource, Resource::Secret(_))).count();
        (own(&resources).listeners.iter().map(|listener| listener.port).collect::<Vec<_>>(), secrets)
    };
    assert_eq!(ports("istio-system"), (vec![80, 443, 8443], 1));
    assert_eq!(ports("default"), (vec![8443], 1));
    assert_eq!(ports("tenant"), (vec![8443], 0), "nothing to show");
}

/// Y6: the namespace's mode, and no other namespace's.
#[test]
fn strict_mutual_tls_holds_for_its_namespace() {
    let production = pod("p", "app: p", "10.244.7.1").replace("  uid:", "  namespace: production\n  uid:");
    let yaml = document!("06-peerauthentication-strict").to_owned()
        + &production
        + &pod("d", "app: d", "10.244.7.2");
    let view = view(&yaml);
    let mode = |namespace, pod| {
        let resources = closure(&view, &proxy(Role::Sidecar, namespace, pod), &Root::Own).unwrap();
        own(&resources).default_mtls
    };
    assert_eq!((mode("production", "p"), mode("default", "d")), (MtlsMode::Strict, MtlsMode::Permissive));
}

/// Y7
#[test]
fn a_policy_is_for_the_pods_it_selects() {
    let yaml = document!("07-authorizationpolicy-allow").to_owned()
        + &service("database", 80, &["v1"])
        + &service("other", 80, &["v1"]);
    let view = view(&yaml);
    let policies = |pod| {
        let resources = closure(&view, &sidecar(pod), &Root::Own).unwrap();
        own(&resources).authorization.clone()
    };
    assert_eq!(policies("other-v1"), []);
    let [policy] = policies("database-v1").try_into().unwrap();
    insta::assert_json_snapshot!(policy, @r###"
    {
      "origin": {
        "kind": "AuthorizationPolicy",
        "namespace": "default",
        "name": "database-policy",
        "field": ""
      },
      "action": "allow",
      "rules": [
        {
          "from": [
            {
              "principals": [
                {
                  "exact": "cluster.local/ns/default/sa/backend"
                }
              ],
              "notPrincipals": [],
              "requestPrincipals": [],
              "notRequestPrincipals": [],
              "namespaces": [],
              "notNamespaces": [],
              "serviceAccounts": [],
              "notServiceAccounts": [],
              "ipBlocks": [],
              "notIpBlocks": [],
              "remoteIpBlocks": [],
              "notRemoteIpBlocks": []
            }
          ],
          "to": [
            {
              "hosts": [],
              "notHosts": [],
              "ports": [],
              "notPorts": [],
              "methods": [
                {
                  "exact": "GET"
                },
                {
                  "exact": "POST"
                }
              ],
              "notMethods": [],
              "paths": [
                {
                  "exact": "/api/query"
                }
              ],
              "notPaths": []
            }
          ],
          "when": []
        }
      ],
      "dryRun": false
    }
    "###);
}

/// Y8, with D4 and D5.
#[test]
fn timeouts_retries_and_ejection() {
    let yaml = document!("08-timeouts-retries-outliers").to_owned() + &service("ratings", 80, &["v1"]);
    let resources = closure(&view(&yaml), &sidecar("ratings-v1"), &host_root("ratings", 80)).unwrap();
    let rule = &tables(&resources)[0].virtual_hosts[0].rules[0];
    assert_eq!(rule.timeout.unwrap().milliseconds(), 5000);
    assert_eq!((rule.retry.attempts, rule.retry.per_try_timeout.unwrap().milliseconds()), (3, 2000));
    assert_eq!(rule.retry.on, [mesh_core::model::RetryOn::Any5xx]);
    let cluster = resources.iter().find_map(|resource| match resource {
        Resource::Cluster(cluster) => Some(cluster),
        _ => None,
    });
    let outlier = cluster.unwrap().outlier.as_ref().unwrap();
    assert_eq!((outlier.consecutive_5xx, outlier.consecutive_gateway_errors), (5, 5));
    assert_eq!(
        (outlier.interval.milliseconds(), outlier.base_ejection_time.milliseconds()),
        (30_000, 30_000)
    );
    assert_eq!(outlier.max_ejection.parts(), 100_000);
}

/// Y9; alone, a canary routes nothing.
#[test]
fn a_canary_takes_its_share_of_the_main_path() {
    let yaml =
        document!("09-ingress-canary-weight").to_owned() + &services(&[("app-v1", 80), ("app-v2", 80)]);
    let resources = ingress(&yaml);
    assert_eq!(
        table(&resources, "http.80"),
        ["example.com [] -> outbound|80||app-v1*90 outbound|80||app-v2*10"]
    );
    let alone = ingress(&yaml.replace(
        "name: production",
        "name: production\n  annotations: {nginx.ingress.kubernetes.io/canary: \"true\"}",
    ));
    assert_eq!(table(&alone, "http.80"), Vec::<String>::new());
}

/// Y5 and Y10
#[test]
fn weights_between_subsets() {
    let yaml = document!("10-virtualservice-canary").to_owned() + &service("app", 80, &["v1", "v2"]);
    let view = view(&yaml);
    let resources = closure(&view, &sidecar("app-v1"), &host_root("app", 80)).unwrap();
    let clusters: Vec<_> = table(&resources, "app.default.svc.cluster.local:80");
    assert!(clusters[0].ends_with("[] -> outbound|80|v1|app*90 outbound|80|v2|app*10"), "{clusters:?}");
    assert_eq!(view.problems(), []);
    // D6: nobody defines a subset. The route stays, the cluster is not there, and the problem says so.
    let yaml =
        document!("05-virtualservice-header-and-weights").to_owned() + &service("reviews", 80, &["v1"]);
    let view = super::view(&yaml);
    let resources = closure(&view, &sidecar("reviews-v1"), &host_root("reviews", 80)).unwrap();
    assert_eq!(resources.len(), 1);
    assert!(
        view.problems()[0].to_string().contains("no DestinationRule defines subset"),
        "{:?}",
        view.problems()
    );
}

/// Y11 to Y13: the Ingress's host goes on in the Gateway's table, over HTTPS too.
#[test]
fn an_ingress_leads_into_the_gateway() {
    let yaml = document!("11-ingress-into-gateway").to_owned()
        + &services(&[("user-service", 80), ("order-service", 80)]);
    let resources = ingress(&(yaml.clone() + &secret("tls-cert")));
    let rules = [
        "api.example.com [Some(Prefix(\"/users\"))] -> outbound|80||user-service*1",
        "api.example.com [Some(Prefix(\"/orders\"))] -> outbound|80|v1|order-service*90 outbound|80|v2|order-service*10",
    ];
    assert!(table(&resources, "http.80")[0].contains("status: 308"));
    assert_eq!(table(&resources, "ingress.443"), rules);
    // D2: 100 a second and five times as many at once, for each rule of the Gateway too.
    let limit = &own(&resources).limits[0];
    let amount = Amount::Rate { requests: 100, per: Millis::seconds(1), burst: 501 };
    assert_eq!((limit.amount, limit.status), (amount, 503));
    let tables = tables(&resources);
    let limited = tables.iter().filter(|table| table.name == "ingress.443");
    let rules_of = |table: &mesh_core::model::Routes| table.virtual_hosts[0].rules.clone();
    let name = [limit.name.clone()];
    assert!(limited.copied().flat_map(rules_of).all(|rule| rule.admission.limits == name));
    let view = view(&(yaml + &gateway_pod("ingressgateway")));
    assert_eq!(closure(&view, &sidecar("user-service-v1"), &host_root("api.example.com", 80)), None);
    let told: Vec<_> =
        view.problems().iter().filter(|problem| problem.field.contains("rate-limit")).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].line, Some(6));
}

/// Y14 to Y17: a sidecar goes to the egress gateway, the gateway out over TLS.
#[test]
fn egress_goes_through_the_gateway_and_leaves_as_tls() {
    let gateway_service = "apiVersion: v1\nkind: Service\nmetadata: {name: istio-egressgateway, namespace: istio-system}\n\
                           spec: {selector: {istio: egressgateway}, ports: [{name: http2, port: 80, targetPort: 8080}]}\n---\n";
    let ready = gateway_pod("egressgateway").replace(
        "status: {podIP: 10.244.9.9}",
        "status: {podIP: 10.244.9.9, conditions: [{type: Ready, status: 'True'}]}",
    );
    let yaml = document!("12-egress-tls-origination").to_owned()
        + gateway_service
        + &ready
        + &pod("a", "app: a", "10.244.7.1");
    let view = view(&yaml);
    let host = host_root("finance.yahoo.com", 80);
    let resources = closure(&view, &sidecar("a"), &host).unwrap();
    assert_eq!(
        table(&resources, "finance.yahoo.com:80"),
        ["finance.yahoo.com [None] -> outbound|80||istio-egressgateway.istio-system.svc.cluster.local*1"]
    );
    let endpoint = resources.iter().find_map(|resource| match resource {
        Resource::Endpoints(endpoints) => endpoints.endpoints.first(),
        _ => None,
    });
    // D7: mesh TLS to the gateway, on the port that its process listens on.
    let endpoint = endpoint.unwrap();
    assert_eq!(endpoint.transport, mesh_core::model::Transport::MeshTls);
    assert!(format!("{:?}", endpoint.address).contains("10.244.9.9:8080"));
    let resources = closure(&view, &proxy(Role::Egress, "istio-system", "gw"), &Root::Own).unwrap();
    assert_eq!(own(&resources).listeners[0].port, 8080);
    assert_eq!(
        table(&resources, "http.8080"),
        ["finance.yahoo.com [None] -> outbound|443||finance.yahoo.com*1"]
    );
    let cluster = resources.iter().find_map(|resource| match resource {
        Resource::Cluster(cluster) => Some(cluster),
        _ => None,
    });
    assert!(matches!(cluster.unwrap().tls, ClusterTls::Originate { .. }));
    let plain =
        closure(&view, &sidecar("a"), &Root::Name("finance.yahoo.com".to_owned().try_into().unwrap()))
            .unwrap();
    let [Resource::Name(name)] = plain.as_slice() else { panic!() };
    assert!(name.addresses[0].to_string().starts_with("240.240."));
}
