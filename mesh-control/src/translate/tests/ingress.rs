//! Ingresses beyond the twelve manifests.

mod backends;

use mesh_core::model::{Action, Amount, Own, Resource, Role, Root, Rule};

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
    let annotations =
        "nginx.ingress.kubernetes.io/auth-tls-secret: s, nginx.ingress.kubernetes.io/proxy-buffering: 'on'";
    let yaml =
        ingress("i", annotations, &rule("x.com", &[("/", "Prefix", "a")])) + &service("a", 80, &["v1"]);
    let view = view(&(yaml + &gateway_pod("ingressgateway")));
    let told: Vec<_> = view.problems().iter().map(|problem| problem.severity).collect();
    assert_eq!(told, [crate::problem::Severity::Error, crate::problem::Severity::Warning]);
}

/// What an Ingress with TLS for `x.com` comes to beside another manifest: its two tables' actions in order, the Secrets that
/// its servers name, and what is told about it.
fn with_tls(tls: &str, beside: &str) -> ([Vec<Action>; 2], Vec<Option<String>>, Vec<String>) {
    let paths = [("/.well-known/acme-challenge/t", "Exact", "b"), ("/", "Prefix", "a")];
    let yaml = ingress("i", "", &(rule("x.com", &paths) + ", tls: [" + tls + "]")) + beside;
    let services = service("a", 80, &["v1"]) + &service("b", 80, &["v1"]);
    let view = view(&(yaml + &services + &gateway_pod("ingressgateway")));
    let resources = closure(&view, &proxy(Role::Ingress, "istio-system", "gw"), &Root::Own).unwrap();
    let actions = ["http.80", "ingress.443"].map(|name| {
        let table = tables(&resources).into_iter().find(|table| table.name == name);
        let rules = table.map(|table| table.virtual_hosts[0].rules.clone()).unwrap_or_default();
        rules.into_iter().map(|rule| rule.action).collect()
    });
    let servers = resources.iter().flat_map(|resource| match resource {
        Resource::Own(own) => own.listeners.iter().flat_map(|listener| listener.servers.clone()).collect(),
        _ => Vec::new(),
    });
    let secrets = servers.map(|server| server.tls.secret).collect();
    let told = view.problems().iter().map(|problem| problem.to_string());
    (actions, secrets, told.filter(|told| told.contains("Ingress default/i")).collect())
}

const PAIR: &str =
    "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {tls.crt: C, tls.key: K}\n---\n";

/// A Secret that is missing takes nothing back: served in the clear, its hosts would be open to whoever listens.
#[test]
fn redirects_to_https_are_for_cleartext_alone_whether_there_is_a_secret_or_not() {
    let named = "{hosts: [x.com], secretName: s}";
    let cases = [
        (named, PAIR, "default/s", ""),
        (named, "", "default/s", "secret default/s does not exist; until it does, handshakes fail"),
        ("{hosts: [x.com]}", "", "default/", "no Secret is named, and gateways have no default certificate"),
    ];
    for (tls, beside, secret, told) in cases {
        let ([plain, secure], secrets, errors) = with_tls(tls, beside);
        let [Action::Forward(_), Action::Redirect(redirect)] = &plain[..] else {
            panic!("{tls}: a challenge is served and all else redirected, not {plain:?}")
        };
        assert_eq!(redirect.status, 308, "{tls}");
        assert!(matches!(secure[..], [Action::Forward(_), Action::Forward(_)]), "{tls}: {secure:?}");
        assert_eq!(secrets, [Some(secret.to_owned())], "{tls}");
        assert_eq!(errors.len(), usize::from(!told.is_empty()), "{errors:?}");
        assert!(errors.iter().all(|error| error.contains(told)), "{errors:?}");
    }
}

/// The rules of an Ingress of host `x.com` with a path, and the gateway's own configuration.
fn annotated(annotations: &str, path: (&str, &str)) -> (Vec<Rule>, Own) {
    let annotations: Vec<_> =
        annotations.split(" ; ").map(|each| format!("nginx.ingress.kubernetes.io/{each}")).collect();
    let yaml = ingress("i", &annotations.join(", "), &rule("x.com", &[(path.0, path.1, "a")]));
    let view = view(&(yaml + &service("a", 80, &["v1"]) + &gateway_pod("ingressgateway")));
    let resources = closure(&view, &proxy(Role::Ingress, "istio-system", "gw"), &Root::Own).unwrap();
    let rules = tables(&resources)[0].virtual_hosts[0].rules.clone();
    let own = resources.iter().find_map(|resource| match resource {
        Resource::Own(own) => Some((**own).clone()),
        _ => None,
    });
    (rules, own.unwrap())
}

#[test]
fn limits_are_one_number_for_all_paths_of_an_ingress() {
    let text = "limit-rps: '10' ; limit-rpm: '60' ; limit-connections: '3' ; limit-burst-multiplier: '2' ; \
                limit-whitelist: '10.0.0.0/8, 192.168.0.1'";
    let (rules, own) = annotated(text, ("/", "Prefix"));
    let bursts: Vec<_> = own
        .limits
        .iter()
        .map(|limit| match limit.amount {
            Amount::Rate { burst, .. } => burst,
            Amount::Concurrent(most) => most,
        })
        .collect();
    assert_eq!(bursts, [21, 121, 3]);
    assert!(own.limits.iter().all(|limit| limit.status == 503 && limit.exempt.len() == 2));
    let names: Vec<_> = own.limits.iter().map(|limit| limit.name.clone()).collect();
    assert_eq!(rules[0].admission.limits, names);
    assert_eq!(names[0], "Ingress/default/i/limit-rps");
}

#[test]
fn addresses_and_sizes_are_asked_before_anything_is_done() {
    let (rules, _) = annotated(
        "whitelist-source-range: '10.0.0.0/8, x' ; denylist-source-range: 10.1.0.0/16 ; proxy-body-size: 8m",
        ("/", "Prefix"),
    );
    let admission = &rules[0].admission;
    assert_eq!(admission.allow.as_ref().unwrap().len(), 1);
    assert_eq!((admission.deny.len(), admission.max_body), (1, Some(8 << 20)));
}

#[test]
fn a_rewrite_makes_paths_expressions_and_takes_their_groups() {
    let (rules, _) = annotated("rewrite-target: /$2", ("/api(/|$)(.*)", "ImplementationSpecific"));
    let path = rules[0].matches[0].path.clone();
    assert_eq!(format!("{path:?}"), "Some(Regex(\"(?i)(?:/api(/|$)(.*)).*\"))");
    let rewrite = rules[0].rewrite.clone().unwrap().regex.unwrap();
    assert_eq!(rewrite, ("(?i)^(?:/api(/|$)(.*)).*$".to_owned(), "/\\2".to_owned()));
    let (rules, _) = annotated("use-regex: 'true'", ("/a.c", "Prefix"));
    assert_eq!(format!("{:?}", rules[0].matches[0].path), "Some(Regex(\"(?i)(?:/a.c).*\"))");
}

#[test]
fn redirects_have_the_codes_that_are_given() {
    let status = |annotations: &str| match &annotated(annotations, ("/", "Prefix")).0[0].action {
        Action::Redirect(redirect) => redirect.status,
        other => panic!("{other:?}"),
    };
    assert_eq!(status("permanent-redirect: 'https://y.com'"), 301);
    assert_eq!(status("permanent-redirect: 'https://y.com' ; permanent-redirect-code: '308'"), 308);
    assert_eq!(status("temporal-redirect: 'https://y.com' ; temporal-redirect-code: '307'"), 307);
    assert_eq!(status("app-root: /start"), 302);
}

#[test]
fn cross_origin_rules_have_the_defaults_of_nginx() {
    let (rules, _) = annotated(
        "enable-cors: 'true' ; cors-allow-origin: 'https://*.y.com, https://z.com'",
        ("/", "Prefix"),
    );
    let cors = rules[0].cors.clone().unwrap();
    assert_eq!(cors.allow_origins.len(), 2);
    assert_eq!(cors.allow_methods.len(), 6);
    assert!(cors.allow_credentials && cors.max_age.unwrap().milliseconds() == 1_728_000_000);
}

#[test]
fn what_a_missing_path_type_means_is_told_once() {
    let view = view(
        &("apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: i}\nspec: {rules: [{host: x.com, http: \
           {paths: [{path: /, backend: {service: {name: a, port: {number: 80}}}}]}}]}\n---\n"
            .to_owned()
            + &service("a", 80, &["v1"])
            + &gateway_pod("ingressgateway")),
    );
    assert_eq!(view.problems().iter().filter(|problem| problem.message.contains("Prefix")).count(), 1);
}

#[test]
fn other_hosts_of_an_ingress_are_served_or_sent_on() {
    let annotations = "nginx.ingress.kubernetes.io/server-alias: 'y.com, z.com', \
                       nginx.ingress.kubernetes.io/from-to-www-redirect: 'true'";
    let found = lines(&ingress("i", annotations, &rule("x.com", &[("/", "Prefix", "a")])));
    let plain: Vec<_> = found.iter().filter(|line| line.ends_with("a*1")).map(|line| &line[..5]).collect();
    assert_eq!(plain, ["x.com", "y.com", "z.com"]);
    let sent = found.iter().find(|line| line.starts_with("www.x.com")).unwrap();
    assert!(sent.contains("status: 308") && sent.contains("Some(\"x.com\")"), "{sent}");
}
