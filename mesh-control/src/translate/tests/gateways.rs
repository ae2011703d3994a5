//! Servers of Gateways: what they show, ask and speak, and what is said of those that are left out.

use mesh_core::model::{CipherSuite, Resource, Role, Root, ServerTls, TlsVersion};

use super::{closure, gateway_pod, proxy, short, tables, view};
use crate::view::View;

const SECRETS: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: plain, namespace: istio-system}\n\
    stringData: {tls.crt: C, tls.key: K}\n---\n\
    apiVersion: v1\nkind: Secret\nmetadata: {name: whole, namespace: istio-system}\n\
    stringData: {tls.crt: C, tls.key: K, ca.crt: A}\n---\n\
    apiVersion: v1\nkind: Secret\nmetadata: {name: whole-cacert, namespace: istio-system}\n\
    stringData: {ca.crt: B}\n---\n\
    apiVersion: v1\nkind: Secret\nmetadata: {name: clients, namespace: istio-system}\n\
    stringData: {ca.crt: D}\n---\n\
    apiVersion: v1\nkind: Secret\nmetadata: {name: half, namespace: istio-system}\n\
    stringData: {tls.crt: C}\n---\n";

/// The server's settings, the trust anchors delivered, and what is said of the Gateway.
fn server(tls: &str) -> (Option<ServerTls>, Vec<String>, Vec<String>) {
    let gateway = format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: g, namespace: istio-system}}\n\
         spec: {{selector: {{istio: ingressgateway}}, servers: [{{port: {{number: 443, name: s, protocol: HTTPS}}, \
         hosts: [a.example.com], tls: {{{tls}}}}}]}}\n---\n"
    );
    let view = view(&(SECRETS.to_owned() + &gateway + &gateway_pod("ingressgateway")));
    let resources = closure(&view, &proxy(Role::Ingress, "istio-system", "gw"), &Root::Own).unwrap();
    let (mut found, mut anchors) = (None, Vec::new());
    for resource in resources {
        match resource {
            Resource::Own(own) => {
                let server = own.listeners.first().and_then(|listener| listener.servers.first());
                found = server.map(|server| server.tls.clone());
            }
            Resource::Secret(secret) => anchors.push(secret.trust_anchors),
            _ => {}
        }
    }
    let told = view.problems().iter().map(|problem| problem.to_string()).collect();
    (found, anchors, told)
}

#[test]
fn several_certificates_versions_and_suites() {
    let (tls, _, told) = server(
        "mode: SIMPLE, credentialNames: [plain, whole], minProtocolVersion: TLSV1_0, \
         maxProtocolVersion: TLSV1_2, cipherSuites: [ECDHE-RSA-AES128-GCM-SHA256, AES128-SHA]",
    );
    let tls = tls.unwrap();
    assert_eq!(tls.secret.as_deref(), Some("istio-system/plain"));
    assert_eq!(tls.more_secrets, ["istio-system/whole"]);
    assert_eq!((tls.min_version, tls.max_version), (None, Some(TlsVersion::V12)));
    assert_eq!(tls.cipher_suites, [CipherSuite::RsaAes128]);
    for field in ["tls.minProtocolVersion", "tls.cipherSuites[1]"] {
        assert!(told.iter().any(|text| text.contains(field)), "{field}: {told:?}");
    }
}

#[test]
fn whose_client_certificates_are_trusted() {
    let (_, anchors, _) = server("mode: MUTUAL, credentialName: whole, subjectAltNames: [a]");
    assert_eq!(anchors, ["B"], "the second secret counts before the first one's own");
    let (tls, anchors, _) =
        server("mode: OPTIONAL_MUTUAL, credentialName: plain, caCertCredentialName: clients");
    assert_eq!(tls.unwrap().trust.as_deref(), Some("istio-system/clients"));
    assert!(anchors.contains(&"D".to_owned()));
}

/// A server that cannot do what is asked is left out and reported: it never does less.
#[test]
fn servers_that_cannot_be_are_left_out() {
    for (tls, field) in [
        ("mode: SIMPLE, serverCertificate: /etc/c, privateKey: /etc/k", "tls.credentialName"),
        ("mode: SIMPLE, credentialName: plain, maxProtocolVersion: TLSV1_1", "tls.maxProtocolVersion"),
        ("mode: SIMPLE, credentialName: plain, cipherSuites: [AES128-SHA]", "tls.cipherSuites"),
        ("mode: MUTUAL, credentialName: whole, verifyCertificateHash: [xyz]", "tls.verifyCertificateHash"),
    ] {
        let (server, _, told) = server(tls);
        assert_eq!(server, None, "{tls}");
        assert!(told.iter().any(|text| text.contains(field)), "{tls}: {told:?}");
    }
}

/// A server whose Secrets are not there stays: its hosts must not become another server's, which may ask less of clients.
#[test]
fn servers_that_lack_secrets_keep_their_hosts_and_let_nobody_in() {
    for (tls, field, told_of) in [
        ("mode: MUTUAL, credentialName: plain", "tls.credentialName", "has no ca.crt"),
        (
            "mode: MUTUAL, credentialName: plain, caCertCredentialName: none",
            "tls.caCertCredentialName",
            "secret istio-system/none does not exist",
        ),
        ("mode: SIMPLE, credentialNames: [plain, none]", "tls.credentialName", "handshakes fail"),
        ("mode: SIMPLE, credentialName: none", "tls.credentialName", "until it does, handshakes fail"),
        ("mode: SIMPLE, credentialName: half", "tls.credentialName", "has no tls.key; gateways go on"),
    ] {
        let (server, _, told) = server(tls);
        assert!(server.is_some(), "{tls}");
        let found = told.iter().any(|text| text.contains(field) && text.contains(told_of));
        assert!(found, "{tls}: {told:?}");
    }
}

/// What is left of a Secret travels, so that a gateway sees that it cannot be used; of one that is gone nothing does.
#[test]
fn incomplete_secrets_travel_as_they_are() {
    let delivered = |secret: &str| {
        let gateway = gateway(
            "g",
            1,
            "{port: {number: 443, name: s, protocol: HTTPS}, hosts: [a.example.com], \
             tls: {mode: SIMPLE, credentialName: c}}",
        );
        let resources = own(&view(&(secret.to_owned() + &gateway + &gateway_pod("ingressgateway"))));
        resources.into_iter().find_map(|resource| match resource {
            Resource::Secret(secret) => Some((secret.certificates, secret.private_key)),
            _ => None,
        })
    };
    let secret = |data: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: c, namespace: istio-system}}\nstringData: {{{data}}}\n---\n"
        )
    };
    let pair = |certificate: &str, key: &str| Some((certificate.to_owned(), key.to_owned()));
    assert_eq!(delivered(&secret("tls.crt: C, tls.key: K")), pair("C", "K"));
    assert_eq!(delivered(&secret("tls.crt: C")), pair("C", ""));
    assert_eq!(delivered(&secret("tls.crt: C, tls.key: ''")), pair("C", ""));
    assert_eq!(delivered(&secret("tls.crt: '', tls.key: ''")), pair("", ""));
    assert_eq!(delivered(""), None);
}

/// A Gateway with these servers (YAML), a day older than the next.
fn gateway(name: &str, day: u8, servers: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: {name}, namespace: istio-system, \
         creationTimestamp: \"2026-01-0{day}T00:00:00Z\"}}\n\
         spec: {{selector: {{istio: ingressgateway}}, servers: [{servers}]}}\n---\n"
    )
}

fn own(view: &View) -> Vec<Resource> {
    closure(view, &proxy(Role::Ingress, "istio-system", "gw"), &Root::Own).unwrap()
}

/// Which namespaces may bring routes for a host is the Gateway's to say, and to whom it is exported the VirtualService's.
#[test]
fn s22_a_gateways_host_says_whose_routes_it_takes() {
    let routes = |namespace: &str, host: &str, more: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v, namespace: {namespace}}}\n\
             spec: {{hosts: [{host}], gateways: [istio-system/g], {more} http: [{{name: of-{namespace}, \
             directResponse: {{status: 204}}}}]}}\n---\n"
        )
    };
    for (hosts, of, taken) in [
        ("a.example.com", "shop", true),
        ("'*/a.example.com'", "shop", true),
        ("shop/a.example.com", "shop", true),
        ("shop/*.example.com", "shop", true),
        ("other/a.example.com", "shop", false),
        ("./a.example.com", "shop", false),
        ("./a.example.com", "istio-system", true),
    ] {
        for (more, exported) in
            [("", true), ("exportTo: [istio-system],", true), ("exportTo: [other],", false)]
        {
            let server = format!("{{port: {{number: 80, name: h, protocol: HTTP}}, hosts: [{hosts}]}}");
            let yaml = gateway("g", 1, &server) + &routes(of, "a.example.com", more);
            let resources = own(&view(&(yaml + &gateway_pod("ingressgateway"))));
            let lines: Vec<String> = tables(&resources).into_iter().flat_map(short).collect();
            let found = lines.iter().any(|line| line.starts_with("a.example.com "));
            assert_eq!(found, taken && exported, "{hosts} {of} {more}: {lines:?}");
        }
    }
}

#[test]
fn s23_servers_share_a_port_if_they_speak_alike_and_the_older_stays() {
    let plain = |host: &str| format!("{{port: {{number: 80, name: h, protocol: HTTP}}, hosts: [{host}]}}");
    let secure = |port: u16, host: &str| {
        format!(
            "{{port: {{number: {port}, name: s, protocol: HTTPS}}, hosts: [{host}], \
             tls: {{mode: SIMPLE, credentialName: plain}}}}"
        )
    };
    let servers = |first: &str, second: &str| {
        let yaml = SECRETS.to_owned() + &gateway("old", 1, first) + &gateway("young", 2, second);
        let view = view(&(yaml + &gateway_pod("ingressgateway")));
        let listeners = own(&view).into_iter().find_map(|resource| match resource {
            Resource::Own(own) => Some(own.listeners),
            _ => None,
        });
        let count = listeners.unwrap().iter().map(|listener| listener.servers.len()).collect::<Vec<_>>();
        // The secrets hold no real certificates, and that is said too.
        let told = view.problems().iter().map(|problem| problem.to_string());
        (count, told.filter(|text| !text.contains(": Secret ")).collect::<Vec<_>>().join("\n"))
    };
    let (count, told) = servers(&secure(443, "a.example.com"), &secure(443, "b.example.com"));
    assert_eq!((count, told.as_str()), (vec![2], ""));
    let (count, told) = servers(&secure(443, "a.example.com"), &secure(443, "a.example.com"));
    assert_eq!(count, [1]);
    assert!(told.contains("Gateway istio-system/young"), "{told}");
    let (count, told) = servers(&plain("a.example.com"), &secure(80, "b.example.com"));
    assert_eq!(count.len(), 1);
    assert!(told.contains("Gateway istio-system/young") && told.contains("another protocol"), "{told}");
}
