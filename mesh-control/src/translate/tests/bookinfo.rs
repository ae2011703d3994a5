//! A bookinfo-like mesh: services, subsets with weights, a gateway in front.

use mesh_core::model::{ClusterTls, Resource, Role, Root, Transport};

use super::{closure, gateway_pod, host_root, proxy, service, short, sidecar, tables, view};

const RULES: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - match: [{headers: {end-user: {exact: jason}}}]
    route: [{destination: {host: reviews, subset: v2}}]
  - route:
    - {destination: {host: reviews, subset: v1}, weight: 90}
    - {destination: {host: reviews, subset: v2}, weight: 10}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: bookinfo-gateway}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: bookinfo}
spec:
  hosts: ['*']
  gateways: [bookinfo-gateway]
  http:
  - match: [{uri: {exact: /productpage}}, {uri: {prefix: /static}}]
    route: [{destination: {host: productpage, port: {number: 9080}}}]
---
";

fn mesh() -> String {
    service("reviews", 9080, &["v1", "v2"])
        + &service("productpage", 9080, &["v1"])
        + &gateway_pod("ingressgateway")
        + RULES
}

#[test]
fn a_host_is_routed_by_header_and_weight_to_subsets_with_their_endpoints() {
    let view = view(&mesh());
    let resources = closure(&view, &sidecar("productpage-v1"), &host_root("reviews", 9080)).unwrap();
    let hosts = "reviews.default.svc.cluster.local,reviews.default.svc,reviews.default,reviews,10.96.";
    let lines = short(tables(&resources)[0]);
    assert!(lines[0].starts_with(hosts), "{lines:#?}");
    assert!(lines[0].ends_with(
        "[None end-user=Exact(\"jason\")] -> outbound|9080|v2|reviews.default.svc.cluster.local*1"
    ));
    assert!(lines[1].ends_with(
        "[] -> outbound|9080|v1|reviews.default.svc.cluster.local*90 outbound|9080|v2|reviews.default.svc.cluster.local*10"
    ));
    let endpoints: Vec<_> = resources
        .iter()
        .filter_map(|resource| match resource {
            Resource::Endpoints(endpoints) => Some((endpoints.cluster.as_str(), &endpoints.endpoints)),
            _ => None,
        })
        .collect();
    assert_eq!(endpoints.len(), 2);
    for (cluster, endpoints) in endpoints {
        let [endpoint] = endpoints.as_slice() else { panic!("{cluster}") };
        assert!(cluster.contains(&endpoint.workload.version));
        assert_eq!(endpoint.transport, Transport::MeshTls);
        let identity = endpoint.identity.as_ref().unwrap();
        assert_eq!(identity.as_str(), "spiffe://cluster.local/ns/default/sa/default");
    }
}

#[test]
fn s19_every_form_of_a_name_leads_to_the_same_table_and_no_other_namespace_has_the_short_one() {
    let view = view(&mesh());
    let table = |namespace, host| {
        let resources = closure(&view, &proxy(Role::Sidecar, namespace, "x"), &host_root(host, 9080))?;
        Some(tables(&resources)[0].name.clone())
    };
    let full = "reviews.default.svc.cluster.local:9080";
    for host in ["reviews", "reviews.default", "reviews.default.svc", "reviews.default.svc.cluster.local"] {
        assert_eq!(table("default", host).as_deref(), Some(full), "{host}");
    }
    assert_eq!(table("other", "reviews.default").as_deref(), Some(full));
    assert_eq!(table("other", "reviews"), None);
    assert_eq!(closure(&view, &sidecar("x"), &host_root("reviews", 1234)), None);
}

#[test]
fn pods_of_a_headless_service_have_names_of_their_own() {
    let headless = "apiVersion: v1\nkind: Service\nmetadata: {name: db}\n\
                    spec: {clusterIP: None, selector: {app: db}, ports: [{name: http, port: 80}]}\n---\n";
    let pod = |name: &str, address: &str| {
        let spec = format!("spec:\n  hostname: {name}\n  subdomain: db\n");
        super::pod(name, "app: db", address).replace("spec:\n", &spec)
    };
    let view = view(&format!("{headless}{}{}", pod("db-0", "10.244.0.1"), pod("db-1", "10.244.0.2")));
    let addresses = |name: &str| {
        let found = closure(&view, &sidecar("db-0"), &Root::Name(name.to_owned().try_into().unwrap()))?;
        match found.as_slice() {
            [Resource::Name(name)] => {
                Some(name.addresses.iter().map(ToString::to_string).collect::<Vec<_>>())
            }
            other => panic!("{other:?}"),
        }
    };
    for name in ["db-1.db", "db-1.db.default", "db-1.db.default.svc.cluster.local"] {
        assert_eq!(addresses(name).unwrap(), ["10.244.0.2"], "{name}");
    }
    assert_eq!(addresses("db").unwrap().len(), 2);
    assert_eq!(addresses("db-2.db"), None);
}

#[test]
fn addresses_and_names_lead_to_services_and_pods() {
    let view = view(&mesh());
    let caller = sidecar("productpage-v1");
    let names = closure(&view, &caller, &Root::Name("reviews".to_owned().try_into().unwrap())).unwrap();
    let [Resource::Name(name)] = names.as_slice() else { panic!("{names:?}") };
    let service = format!("{}:9080", name.addresses[0]);
    let cluster_at = |address: &str| {
        let resources = closure(&view, &caller, &Root::Address(address.parse().unwrap()))?;
        resources.iter().find_map(|resource| match resource {
            Resource::Cluster(cluster) => Some((cluster.name.clone(), cluster.tls.clone())),
            _ => None,
        })
    };
    assert_eq!(
        cluster_at(&service).unwrap(),
        ("outbound|9080||reviews.default.svc.cluster.local".to_owned(), ClusterTls::Auto)
    );
    let pod =
        view.world().get::<crate::api::core::Pod>("default", "reviews-v1").unwrap().status.pod_ip.unwrap();
    assert_eq!(cluster_at(&format!("{pod}:9080")).unwrap().0, format!("outbound|9080||{pod}"));
    assert_eq!(cluster_at("192.0.2.1:80"), None);
}

#[test]
fn a_gateway_holds_everything_its_resources_name_and_nothing_else() {
    let view = view(&mesh());
    let gateway = proxy(Role::Ingress, "istio-system", "gw");
    let resources = closure(&view, &gateway, &Root::Own).unwrap();
    let Some(Resource::Own(own)) = resources.iter().find(|r| matches!(r, Resource::Own(_))) else { panic!() };
    assert_eq!(own.listeners.len(), 1);
    assert_eq!((own.listeners[0].port, own.listeners[0].routes.as_deref()), (80, Some("http.80")));
    assert_eq!(
        short(tables(&resources)[0]),
        ["* [Some(Exact(\"/productpage\")) | Some(Prefix(\"/static\"))] -> \
          outbound|9080||productpage.default.svc.cluster.local*1"]
    );
    assert_eq!(resources.len(), 4, "own, table, cluster and endpoints");
    assert_eq!(view.problems(), []);
}

#[test]
fn a_sidecar_learns_its_ports_and_modes() {
    let strict = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: d}\n\
                  spec: {mtls: {mode: STRICT}}\n---\n";
    let view = view(&(mesh() + strict));
    let resources = closure(&view, &sidecar("reviews-v1"), &Root::Own).unwrap();
    let [Resource::Own(own)] = resources.as_slice() else { panic!() };
    assert_eq!(own.inbound.len(), 1);
    assert_eq!((own.inbound[0].port, own.inbound[0].mtls), (9080, mesh_core::model::MtlsMode::Strict));
    assert_eq!(own.default_mtls, mesh_core::model::MtlsMode::Strict);
    assert_eq!((own.workload.app.as_str(), own.workload.version.as_str()), ("reviews", "v1"));
    assert_eq!(own.mesh.access_logs[0].path, "/dev/stdout");
}
