//! How an Ingress's annotations say that its backends are reached: TLS, sessions, copies, and TLS that is passed on.

use mesh_core::model::{
    Cluster, ClusterTls, HashKey, Listener, LoadBalancer, MirrorPath, Protocol, Resource, SessionCookie,
    StringMatch, TlsMode,
};

use super::*;
use crate::problem::Severity;

const TLS: &str = "backend-protocol: HTTPS ; ";
const SECRET: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: NS}\n\
                      stringData: {tls.crt: C, tls.key: K, ca.crt: A}\n---\n";

struct Built {
    resources: Vec<Resource>,
    told: Vec<(Severity, String)>,
}

impl Built {
    fn cluster(&self, name: &str) -> Option<&Cluster> {
        let mut clusters = self.resources.iter().filter_map(|resource| match resource {
            Resource::Cluster(cluster) => Some(&**cluster),
            _ => None,
        });
        clusters.find(|cluster| cluster.name == name)
    }

    fn secrets(&self) -> Vec<&str> {
        let secrets = self.resources.iter().filter_map(|resource| match resource {
            Resource::Secret(secret) => Some(secret.name.as_str()),
            _ => None,
        });
        secrets.collect()
    }

    fn rules(&self) -> &[Rule] {
        &tables(&self.resources)[0].virtual_hosts[0].rules
    }

    fn listener(&self, port: u16) -> Listener {
        let own = self.resources.iter().find_map(|resource| match resource {
            Resource::Own(own) => Some(own),
            _ => None,
        });
        own.unwrap().listeners.iter().find(|listener| listener.port == port).unwrap().clone()
    }

    /// The annotations that something is told of.
    fn told_of(&self, severity: Severity) -> Vec<String> {
        let fields = self.told.iter().filter(|(told, _)| *told == severity).map(|(_, field)| field);
        fields.map(|field| field.rsplit('/').next().unwrap().trim_end_matches("\"]").to_owned()).collect()
    }
}

/// An Ingress of host `x.com` with these annotations and paths, beside other objects.
fn built(annotations: &str, paths: &[(&str, &str, &str)], others: &str) -> Built {
    let annotations: Vec<_> =
        annotations.split(" ; ").map(|each| format!("nginx.ingress.kubernetes.io/{each}")).collect();
    let yaml = ingress("i", &annotations.join(", "), &rule("x.com", paths));
    let services: String = ["a", "b"].iter().map(|name| service(name, 80, &["v1"])).collect();
    let view = view(&(yaml + others + &services + &gateway_pod("ingressgateway")));
    let resources = closure(&view, &proxy(Role::Ingress, "istio-system", "gw"), &Root::Own).unwrap();
    let told = view.problems().iter().map(|problem| (problem.severity, problem.field.clone())).collect();
    Built { resources, told }
}

fn all(annotations: &str, others: &str) -> Built {
    built(annotations, &[("/", "Prefix", "a")], others)
}

const OWN: &str = "ingress/default/i|80||a.default.svc.cluster.local";

#[test]
fn tls_to_a_backend_is_unverified_unless_said() {
    for (annotations, protocol, tls) in [
        ("backend-protocol: https", Protocol::Http, true),
        ("backend-protocol: GRPCS", Protocol::Grpc, true),
        ("backend-protocol: GRPC", Protocol::Grpc, false),
    ] {
        let built = all(annotations, "");
        let cluster = built.cluster(OWN).unwrap();
        assert_eq!(cluster.protocol, protocol);
        let unverified = matches!(&cluster.tls, ClusterTls::Originate { insecure_skip_verify: true, .. });
        assert_eq!(unverified, tls, "{:?}", cluster.tls);
        // The pods have a sidecar, which expects the mesh's TLS.
        assert_eq!(built.told_of(Severity::Warning), vec!["backend-protocol"; usize::from(tls)]);
    }
    let plain = all("backend-protocol: HTTP", "");
    assert!(plain.cluster(OWN).is_none() && plain.told.is_empty());
    assert_eq!(all("backend-protocol: FCGI", "").told_of(Severity::Error), ["backend-protocol"]);
}

#[test]
fn a_secret_of_the_ingress_verifies_and_shows_a_certificate() {
    let secret = SECRET.replace("NS", "default");
    let verified = "proxy-ssl-secret: default/s ; proxy-ssl-verify: 'on' ; proxy-ssl-name: back.end";
    let built = all(&format!("{TLS}{verified}"), &secret);
    let expected = ClusterTls::Originate {
        sni: Some("back.end".into()),
        subject_alt_names: Vec::new(),
        trust_anchors: Some("default/s".into()),
        client_certificate: Some("default/s".into()),
        private_key: None,
        insecure_skip_verify: false,
    };
    assert_eq!(built.cluster(OWN).unwrap().tls, expected);
    assert_eq!(built.secrets(), ["default/s"]);
    let alone = all(&format!("{TLS}proxy-ssl-verify: 'on' ; proxy-ssl-verify-depth: '2'"), "");
    let ClusterTls::Originate { trust_anchors: None, insecure_skip_verify: false, .. } =
        alone.cluster(OWN).unwrap().tls
    else {
        panic!("not verified by the system's roots");
    };
    assert_eq!(
        alone.told_of(Severity::Warning),
        ["backend-protocol", "proxy-ssl-verify", "proxy-ssl-verify-depth"]
    );
}

#[test]
fn a_secret_that_is_not_there_or_of_another_namespace_leaves_no_backend() {
    let elsewhere = SECRET.replace("NS", "other");
    for (named, others) in [("s", ""), ("other/s", elsewhere.as_str())] {
        let built = all(&format!("{TLS}proxy-ssl-secret: {named}"), others);
        assert!(built.cluster(OWN).is_none(), "requests would be sent");
        assert!(built.secrets().is_empty());
        assert_eq!(built.told_of(Severity::Error), ["proxy-ssl-secret"]);
    }
}

#[test]
fn a_rule_that_verifies_stays_where_no_annotation_says_more() {
    let rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: d}\n\
                spec: {host: a, trafficPolicy: {tls: {mode: SIMPLE, sni: of.rule}}}\n---\n";
    let name = |annotations: &str| match &all(annotations, rule).cluster(OWN).unwrap().tls {
        ClusterTls::Originate { sni, insecure_skip_verify, .. } => (sni.clone(), *insecure_skip_verify),
        other => panic!("{other:?}"),
    };
    assert_eq!(name("backend-protocol: HTTPS"), (Some("of.rule".into()), false));
    assert_eq!(name(&format!("{TLS}proxy-ssl-verify: 'off'")), (None, true));
}

fn cookie(built: &Built, name: &str) -> Option<SessionCookie> {
    match &built.cluster(name)?.load_balancer {
        LoadBalancer::ConsistentHash(hash) => match &hash.key {
            HashKey::Cookie(cookie) => Some(cookie.clone()),
            other => panic!("{other:?}"),
        },
        _ => None,
    }
}

#[test]
fn a_session_cookie_has_the_defaults_of_nginx() {
    let cookie = cookie(&all("affinity: cookie", ""), OWN).unwrap();
    assert_eq!((cookie.name.as_str(), cookie.path.as_deref()), ("INGRESSCOOKIE", Some("/")));
    assert!(cookie.ttl.is_some_and(|ttl| ttl.milliseconds() == 0) && cookie.secure_over_tls);
}

#[test]
fn a_session_cookie_has_what_is_said_and_what_cannot_be_is_told() {
    let said = "affinity: cookie ; session-cookie-name: sid ; session-cookie-path: /a ; session-cookie-samesite: lax ; \
                session-cookie-domain: x.com ; session-cookie-secure: 'true' ; session-cookie-max-age: '60' ; \
                session-cookie-expires: '90'";
    let built = all(said, "");
    let pairs: Vec<_> = [("SameSite", "Lax"), ("Domain", "x.com"), ("Secure", "")].into();
    let pairs = pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let expected = SessionCookie {
        name: "sid".into(),
        path: Some("/a".into()),
        ttl: Some(mesh_core::model::Millis::seconds(60)),
        attributes: pairs,
        secure_over_tls: false,
        mark: String::new(),
    };
    assert_eq!(cookie(&built, OWN), Some(expected));
    assert!(built.told.is_empty(), "{:?}", built.told);

    let wrong = "affinity: cookie ; affinity-mode: persistent ; session-cookie-name: 'a;b' ; \
                 session-cookie-domain: 'x; Secure' ; session-cookie-change-on-failure: 'true'";
    let built = all(wrong, "");
    assert_eq!(cookie(&built, OWN).unwrap().name, "INGRESSCOOKIE");
    assert!(cookie(&built, OWN).unwrap().attributes.is_empty());
    assert_eq!(built.told_of(Severity::Error), ["session-cookie-domain", "session-cookie-name"]);
    assert_eq!(built.told_of(Severity::Warning), ["affinity-mode", "session-cookie-change-on-failure"]);
    assert_eq!(all("affinity: ip", "").told_of(Severity::Error), ["affinity"]);
}

/// docs/ingress.md, "Sessions": affinity beats canary, as in ingress-nginx.
#[test]
fn a_session_beats_the_conditions_of_a_canary_unless_that_is_legacy() {
    let canary = |behaviour: &str| {
        let annotations = format!(
            "nginx.ingress.kubernetes.io/canary: 'true', nginx.ingress.kubernetes.io/canary-weight: '25', \
             nginx.ingress.kubernetes.io/affinity-canary-behavior: {behaviour}"
        );
        all("affinity: cookie", &ingress("j", &annotations, &rule("x.com", &[("/", "Prefix", "b")])))
    };
    let to = |part: &str, service: &str| {
        format!("ingress/default/i{part}|80||{service}.default.svc.cluster.local")
    };
    let forwards = |built: &Built| -> Vec<Vec<String>> {
        let names = |rule: &Rule| match &rule.action {
            Action::Forward(backends) => backends.iter().map(|backend| backend.cluster.clone()).collect(),
            other => panic!("{other:?}"),
        };
        built.rules().iter().map(names).collect()
    };
    let sticky = canary("sticky");
    let (main, other) = (to("", "a"), to("/canary", "b"));
    assert_eq!(
        forwards(&sticky),
        [vec![other.clone()], vec![main.clone()], vec![main.clone(), other.clone()]]
    );
    assert_eq!(cookie(&sticky, &main).unwrap().mark, "");
    assert_eq!(cookie(&sticky, &other).unwrap().mark, "canary-");
    let test = sticky.rules()[0].matches[0].headers[0].value.clone();
    let StringMatch::Regex(test) = test else { panic!("{test:?}") };
    assert!(test.contains("INGRESSCOOKIE=\"?canary\\-"), "{test}");
    assert!(sticky.told.is_empty(), "{:?}", sticky.told);

    let legacy = canary("legacy");
    let other = to("/plain", "b");
    assert_eq!(forwards(&legacy), [[main.clone(), other.clone()]]);
    assert!(cookie(&legacy, &main).is_some() && cookie(&legacy, &other).is_none());
}

#[test]
fn copies_go_to_what_the_mesh_knows() {
    let entry = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: e}\nspec: {hosts: [test.env.com], \
                 ports: [{number: 443, name: https, protocol: HTTPS}], resolution: DNS}\n---\n";
    let built = all("mirror-target: https://test.env.com$request_uri ; mirror-request-body: 'off'", entry);
    let mirror = &built.rules()[0].mirrors[0];
    let name = "ingress/default/i/mirror|443||test.env.com";
    assert_eq!((mirror.cluster.as_str(), mirror.authority.as_deref()), (name, Some("test.env.com")));
    assert!(mirror.path == Some(MirrorPath::Original) && mirror.without_body);
    let tls = &built.cluster(name).unwrap().tls;
    assert!(matches!(tls, ClusterTls::Originate { insecure_skip_verify: false, .. }), "{tls:?}");
    assert!(built.told.is_empty(), "{:?}", built.told);

    let built = all("mirror-target: 'http://b.default/all?x' ; mirror-host: copies.example", "");
    let mirror = &built.rules()[0].mirrors[0];
    assert_eq!(mirror.cluster, "outbound|80||b.default.svc.cluster.local");
    assert_eq!(mirror.authority.as_deref(), Some("copies.example"));
    assert_eq!(mirror.path, Some(MirrorPath::Fixed("/all?x".into())));
    assert!(built.cluster(&mirror.cluster).is_some());
}

#[test]
fn a_target_of_copies_that_cannot_be_reached_is_told() {
    for target in [
        "https://unknown.env.com$request_uri",
        "http://b:81",
        "http://$host/",
        "b",
        "ftp://b",
        "http://b$uri",
    ] {
        let built = all(&format!("mirror-target: '{target}'"), "");
        assert!(built.rules()[0].mirrors.is_empty(), "{target}");
        assert_eq!(built.told_of(Severity::Error), ["mirror-target"], "{target}");
    }
}

const PASSED: &str = "ssl-passthrough: 'true'";

#[test]
fn tls_of_a_host_is_passed_on_to_the_backend_of_its_root() {
    let built = built(
        &format!("{PASSED} ; enable-cors: 'true' ; auth-url: 'http://b/'"),
        &[("/", "Prefix", "a"), ("/b", "Prefix", "b")],
        "",
    );
    let listener = built.listener(443);
    let [server] = &listener.servers[..] else { panic!("{:?}", listener.servers) };
    assert_eq!((server.tls.mode, server.routes.as_ref()), (TlsMode::Passthrough, None));
    let backend = ("outbound|80||a.default.svc.cluster.local".to_owned(), mesh_core::model::Weight(1));
    assert_eq!(server.tcp_routes[0].backends, [backend]);
    assert!(built.rules().iter().all(|rule| matches!(rule.action, Action::Redirect(_))), "in the clear");
    assert_eq!(built.told_of(Severity::Error), ["auth-url"]);
    // The annotation, a port that is declared as HTTP, and the path that gets nothing.
    assert_eq!(
        built.told_of(Severity::Warning),
        ["enable-cors", "spec.rules[0].http.paths[0].backend", "spec.rules[0].http.paths[1]"]
    );
}

#[test]
fn no_certificate_is_shown_for_a_host_that_is_passed_on() {
    let secret = SECRET.replace("NS", "default");
    let spec = rule("x.com", &[("/p", "Prefix", "b")]) + ", tls: [{hosts: [x.com], secretName: s}]";
    let built = all(PASSED, &(ingress("j", "", &spec) + &secret));
    assert_eq!(built.listener(443).servers.len(), 1);
    assert!(built.secrets().is_empty());
    assert!(built.told_of(Severity::Warning).contains(&"spec.tls[0]".to_owned()), "{:?}", built.told);
}

#[test]
fn what_cannot_be_passed_on_is_told() {
    let built = built(PASSED, &[("/p", "Prefix", "a")], "");
    assert_eq!(built.told_of(Severity::Error), ["ssl-passthrough"]);
}

#[test]
fn what_says_more_of_something_that_is_not_asked_for_is_told() {
    let said = ["proxy-ssl-verify: 'on'", "session-cookie-name: s", "mirror-request-body: 'off'"];
    let alone = all(&said.join(" ; "), "");
    assert_eq!(
        alone.told_of(Severity::Warning),
        ["mirror-request-body", "proxy-ssl-verify", "session-cookie-name"]
    );
    let into = [("/", "Prefix", "istio-ingressgateway")];
    let into = built("backend-protocol: HTTPS ; affinity: cookie", &into, "");
    assert_eq!(into.told_of(Severity::Warning), ["affinity", "backend-protocol"]);
}

#[test]
fn a_gateway_that_serves_the_host_comes_before_tls_that_is_passed_on() {
    let gateway = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: g}\nspec: {selector: {istio: ingressgateway}, \
        servers: [{port: {number: 443, name: t, protocol: TLS}, hosts: [x.com], tls: {mode: PASSTHROUGH}}]}\n---\n";
    let built = all(PASSED, gateway);
    assert_eq!(built.listener(443).servers.len(), 1);
    assert_eq!(built.listener(443).servers[0].origin.kind, "Gateway");
    assert!(
        built.told_of(Severity::Warning).contains(&"spec.rules[0].http.paths[0]".to_owned()),
        "{:?}",
        built.told
    );
}
