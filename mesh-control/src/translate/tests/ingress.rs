//! Ingresses beyond the twelve manifests.

use mesh_core::model::{Action, Role, Root};

use super::{closure, gateway_pod, proxy, service, short, tables, view};

fn ingress(name: &str, annotations: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\n\
         metadata: {{name: {name}, annotations: {{{annotations}}}}}\nspec: {{{spec}}}\n---\n"
    )
}

fn rule(host: &str, paths: &[(&str, &str, &str)]) -> String {
    let path = |(path, kind, service): &(&str, &str, &str)| {
        format!(
            "{{path: {path}, pathType: {kind}, backend: {{service: {{name: {service}, port: {{number: 80}}}}}}}}"
        )
    };
    let paths: Vec<_> = paths.iter().map(path).collect();
    format!("rules: [{{host: '{host}', http: {{paths: [{}]}}}}]", paths.join(", "))
}

fn lines(yaml: &str) -> Vec<String> {
    let services: String = ["a", "b", "c"].iter().map(|name| service(name, 80, &["v1"])).collect();
    let view = view(&(yaml.to_owned() + &services + &gateway_pod("ingressgateway")));
    let resources = closure(&view, &proxy(Role::Ingress, "istio-system", "gw"), &Root::Own).unwrap();
    let found =
        tables(&resources).into_iter().find(|table| table.name == "http.80").map(short).unwrap_or_default();
    found
        .iter()
        .map(|line| line.replace(".default.svc.cluster.local", "").replace("outbound|80||", ""))
        .collect()
}

#[test]
fn the_longest_path_comes_first_and_exact_wins_ties() {
    let spec = rule(
        "x.com",
        &[("/", "Prefix", "a"), ("/p", "Prefix", "a"), ("/p", "Exact", "b"), ("/p/q", "Prefix", "c")],
    );
    assert_eq!(
        lines(&ingress("i", "", &spec)),
        [
            "x.com [Some(SegmentPrefix(\"/p/q\"))] -> c*1",
            "x.com [Some(Exact(\"/p\"))] -> b*1",
            "x.com [Some(SegmentPrefix(\"/p\"))] -> a*1",
            "x.com [] -> a*1",
        ]
    );
}

#[test]
fn a_star_is_one_label_and_the_default_backend_takes_the_rest() {
    let spec = rule("*.x.com", &[("/p", "Prefix", "a")])
        + ", defaultBackend: {service: {name: b, port: {number: 80}}}";
    assert_eq!(
        lines(&ingress("i", "", &spec)),
        ["* [] -> b*1", "+.x.com [Some(SegmentPrefix(\"/p\"))] -> a*1", "+.x.com [] -> b*1"]
    );
}

#[test]
fn of_two_ingresses_the_older_has_the_path_and_other_classes_are_not_ours() {
    let all = |service| rule("x.com", &[("/", "Prefix", service)]);
    let foreign = "ingressClassName: traefik, ".to_owned() + &rule("y.com", &[("/", "Prefix", "c")]);
    let yaml = ingress("z", "", &all("a")) + &ingress("y", "", &all("b")) + &ingress("f", "", &foreign);
    assert_eq!(lines(&yaml), ["x.com [] -> a*1"]);
}

#[test]
fn canaries_go_by_header_then_cookie_then_weight() {
    let canary = "nginx.ingress.kubernetes.io/canary: 'true', nginx.ingress.kubernetes.io/canary-by-header: X-Canary, \
                  nginx.ingress.kubernetes.io/canary-by-cookie: c, nginx.ingress.kubernetes.io/canary-weight: '25'";
    let all = |service| rule("x.com", &[("/", "Prefix", service)]);
    let found = lines(&(ingress("c", canary, &all("b")) + &ingress("m", "", &all("a"))));
    assert_eq!(found.len(), 5, "{found:#?}");
    assert_eq!(found[0], "x.com [None x-canary=Exact(\"always\")] -> b*1");
    assert_eq!(found[1], "x.com [None x-canary=Exact(\"never\")] -> a*1");
    assert!(found[2].contains("c=always") && found[2].ends_with("b*1"));
    assert!(found[3].contains("c=never") && found[3].ends_with("a*1"));
    assert_eq!(found[4], "x.com [] -> a*75 b*25");
}

#[test]
fn a_gateway_beats_an_ingress_unless_the_ingress_leads_into_it() {
    let gateway = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: g}\nspec: {selector: {istio: ingressgateway}, \
        servers: [{port: {number: 80, name: h, protocol: HTTP}, hosts: [x.com]}]}\n---\n\
        apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v}\n\
        spec: {hosts: [x.com], gateways: [g], http: [{route: [{destination: {host: a}}]}]}\n---\n";
    let yaml = gateway.to_owned() + &ingress("i", "", &rule("x.com", &[("/", "Prefix", "b")]));
    assert_eq!(lines(&yaml), ["x.com [] -> a*1"]);
    let into = rule("x.com", &[("/b", "Prefix", "b"), ("/", "Prefix", "istio-ingressgateway")]);
    assert_eq!(
        lines(&(gateway.to_owned() + &ingress("i", "", &into))),
        ["x.com [Some(SegmentPrefix(\"/b\"))] -> b*1", "x.com [] -> a*1"]
    );
}

#[test]
fn what_protects_and_has_no_effect_is_an_error() {
    let annotations = "nginx.ingress.kubernetes.io/whitelist-source-range: 10.0.0.0/8, nginx.ingress.kubernetes.io/proxy-buffering: 'on'";
    let yaml =
        ingress("i", annotations, &rule("x.com", &[("/", "Prefix", "a")])) + &service("a", 80, &["v1"]);
    let view = view(&(yaml + &gateway_pod("ingressgateway")));
    let told: Vec<_> = view.problems().iter().map(|problem| problem.severity).collect();
    assert_eq!(told, [crate::problem::Severity::Error, crate::problem::Severity::Warning]);
}

#[test]
fn redirects_to_https_are_for_cleartext_alone() {
    let spec = rule("x.com", &[("/", "Prefix", "a")]) + ", tls: [{hosts: [x.com], secretName: s}]";
    let secret =
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {tls.crt: C, tls.key: K}\n---\n";
    let annotation = "nginx.ingress.kubernetes.io/ssl-redirect: 'true'";
    let view = view(
        &(ingress("i", annotation, &spec)
            + secret
            + &service("a", 80, &["v1"])
            + &gateway_pod("ingressgateway")),
    );
    let resources = closure(&view, &proxy(Role::Ingress, "istio-system", "gw"), &Root::Own).unwrap();
    let action = |name: &str| {
        let table = tables(&resources).into_iter().find(|table| table.name == name).unwrap();
        table.virtual_hosts[0].rules[0].action.clone()
    };
    assert!(matches!(action("http.80"), Action::Redirect(redirect) if redirect.status == 308));
    assert!(matches!(action("ingress.443"), Action::Forward(_)));
}
