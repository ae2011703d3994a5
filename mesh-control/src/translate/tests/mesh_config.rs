//! The mesh configuration: every field that can be written changes what proxies are told, or is told about.

use std::collections::BTreeSet;

use mesh_core::model::{ClientCertificates, Own, Resource, Role, Root, ServerHeader};
use serde_json::Value;

use super::{closure, gateway_pod, host_root, proxy, service, sidecar, view};
use crate::api::MeshConfig;
use crate::api::mesh_config::ProxyHeaders;
use crate::view::View;

/// A value for every field, under which something must change.
const FIELDS: &[(&str, &str)] = &[
    ("outboundTrafficPolicy", "{mode: REGISTRY_ONLY}"),
    ("accessLogFile", "/tmp/log"),
    ("accessLogFormat", "'%PROTOCOL%'"),
    ("accessLogEncoding", "JSON"),
    ("trustDomain", "other.org"),
    ("trustDomainAliases", "[older.org]"),
    ("rootNamespace", "elsewhere"),
    ("enableAutoMtls", "false"),
    ("enableTracing", "true"),
    ("pathNormalization", "{normalization: NONE}"),
    ("defaultHttpRetryPolicy", "{attempts: 5}"),
    ("extensionProviders", "[{name: z, zipkin: {service: z, port: 9411}}]"),
    ("defaultProviders", "{tracing: [nobody]}"),
    ("localityLbSetting", "{failover: [{from: a, to: b}]}"),
    ("defaultServiceExportTo", "['~']"),
    ("defaultVirtualServiceExportTo", "['~']"),
    ("defaultDestinationRuleExportTo", "['~']"),
    ("meshMTLS", "{minProtocolVersion: TLSV1_3}"),
    ("discoverySelectors", "[{matchLabels: {a: b}}]"),
    ("connectTimeout", "3s"),
    ("tcpKeepalive", "{probes: 3}"),
    ("protocolDetectionTimeout", "1s"),
    ("dnsRefreshRate", "1s"),
    ("caCertificates", "[{pem: x}]"),
    ("defaultTrafficPolicy", "{}"),
    ("ingressClass", "other"),
    ("ingressControllerMode", "STRICT"),
    ("ingressService", "gw"),
    ("ingressSelector", "gw"),
    ("defaultConfig.concurrency", "2"),
    ("defaultConfig.gatewayTopology.numTrustedProxies", "1"),
    ("defaultConfig.gatewayTopology.forwardClientCertDetails", "APPEND_FORWARD"),
    ("defaultConfig.gatewayTopology.proxyProtocol", "{}"),
    ("defaultConfig.tracing", "{zipkin: {address: z}}"),
    ("defaultConfig.proxyHeaders.forwardedClientCert", "SANITIZE"),
    ("defaultConfig.proxyHeaders.setCurrentClientCertDetails", "{cert: true}"),
    ("defaultConfig.proxyHeaders.requestId", "{disabled: true}"),
    ("defaultConfig.proxyHeaders.server", "{value: mine}"),
    ("defaultConfig.proxyHeaders.attemptCount", "{disabled: true}"),
    ("defaultConfig.proxyHeaders.envoyDebugHeaders", "{disabled: true}"),
    ("defaultConfig.proxyHeaders.xForwardedHost", "{enabled: true}"),
    ("defaultConfig.proxyHeaders.xForwardedPort", "{enabled: true}"),
    ("defaultConfig.discoveryAddress", "there:15012"),
    ("defaultConfig.proxyMetadata", "{A: b}"),
    ("defaultConfig.holdApplicationUntilProxyStarts", "true"),
    ("defaultConfig.terminationDrainDuration", "9s"),
    ("defaultConfig.drainDuration", "9s"),
];

/// Fields that need nothing: what they ask for is always so.
const ALWAYS_SO: &[&str] = &[
    // Nothing is told among proxies by headers, and headers keep their case.
    "defaultConfig.proxyHeaders.metadataExchangeHeaders",
    "defaultConfig.proxyHeaders.preserveHttp1HeaderCase",
];

fn configured(mesh: &str) -> View {
    let config = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata:\n  mesh: |\n    {mesh}\n---\n"
    );
    let object = |kind: &str, namespace: &str, api: &str, spec: &str| {
        format!(
            "apiVersion: {api}\nkind: {kind}\nmetadata: {{name: o, namespace: {namespace}}}\nspec: {{{spec}}}\n---\n"
        )
    };
    let networking = "networking.istio.io/v1";
    let rules = object(
        "VirtualService",
        "other",
        networking,
        "hosts: [web.default.svc.cluster.local], http: [{name: seen, route: [{destination: {host: web.default.svc.cluster.local}}]}]",
    ) + &object(
        "DestinationRule",
        "istio-system",
        networking,
        "host: web.default.svc.cluster.local, trafficPolicy: {outlierDetection: {interval: 1s}}",
    ) + &object(
        "PeerAuthentication",
        "elsewhere",
        "security.istio.io/v1",
        "mtls: {mode: STRICT}",
    );
    view(&(config + &rules + &service("web", 80, &["v1"]) + &gateway_pod("ingressgateway")))
}

fn told(view: &View) -> String {
    let gateway = proxy(Role::Ingress, "istio-system", "gw");
    let roots =
        [(sidecar("web-v1"), Root::Own), (gateway, Root::Own), (sidecar("web-v1"), host_root("web", 80))];
    roots.iter().map(|(proxy, root)| format!("{:?}\n", closure(view, proxy, root))).collect()
}

fn keys(value: &Value, prefix: &str) -> BTreeSet<String> {
    value.as_object().unwrap().keys().map(|key| format!("{prefix}{key}")).collect()
}

#[test]
fn every_field_is_used_or_told_about() {
    let plain = told(&configured("{}"));
    for (path, value) in FIELDS {
        let nested = path.rsplit('.').fold((*value).to_owned(), |inner, name| format!("{{{name}: {inner}}}"));
        let view = configured(&nested);
        let field = format!("data.mesh.{path}");
        let problem = view.problems().iter().any(|problem| problem.field.starts_with(&field));
        let unknown = view.problems().iter().any(|problem| problem.message.contains("unknown field"));
        assert!(
            !unknown && (problem || told(&view) != plain),
            "{path} is read and forgotten: {:#?}",
            view.problems()
        );
    }
}

/// A field that is added to the types must be added here too.
#[test]
fn no_field_is_left_out() {
    let config = serde_json::to_value(MeshConfig::default()).unwrap();
    let proxy = &config["defaultConfig"];
    let mut all = keys(&config, "");
    all.remove("defaultConfig");
    all.extend(keys(proxy, "defaultConfig."));
    all.extend(keys(&proxy["gatewayTopology"], "defaultConfig.gatewayTopology."));
    let headers = serde_json::to_value(ProxyHeaders::default()).unwrap();
    all.extend(keys(&headers, "defaultConfig.proxyHeaders."));
    for parent in ["gatewayTopology", "proxyHeaders"] {
        all.remove(&format!("defaultConfig.{parent}"));
    }
    let listed: BTreeSet<String> =
        FIELDS.iter().map(|(path, _)| *path).chain(ALWAYS_SO.iter().copied()).map(str::to_owned).collect();
    assert_eq!(all, listed);
}

fn own_of(annotation: &str, mesh: &str, role: Role) -> Own {
    let pod = format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n  annotations: {{proxy.istio.io/config: '{annotation}'}}\n\
         spec: {{containers: [{{name: c}}]}}\n---\napiVersion: v1\nkind: ConfigMap\n\
         metadata: {{name: istio, namespace: istio-system}}\ndata:\n  mesh: |\n    {mesh}\n"
    );
    let found = closure(&view(&pod), &proxy(role, "default", "p"), &Root::Own).unwrap();
    let own = found.into_iter().find_map(|member| match member {
        Resource::Own(own) => Some(*own),
        _ => None,
    });
    own.unwrap()
}

#[test]
fn a_pods_annotation_goes_over_the_meshs_default() {
    let mesh = "{defaultConfig: {gatewayTopology: {numTrustedProxies: 1, proxyProtocol: {}}, \
                terminationDrainDuration: 9s, proxyHeaders: {server: {disabled: true}}}}";
    let own = own_of("{gatewayTopology: {numTrustedProxies: 3}}", mesh, Role::Ingress);
    assert_eq!(own.mesh.trusted_proxies, 3);
    assert!(own.mesh.proxy_protocol);
    assert_eq!(own.mesh.drain_timeout, mesh_core::model::Millis::seconds(9));
    assert_eq!(own.mesh.headers.server, ServerHeader::Untouched);
    let own = own_of("{proxyHeaders: {server: {value: x}}}", mesh, Role::Sidecar);
    assert_eq!(own.mesh.headers.server, ServerHeader::Named("x".to_owned()));
    assert!(!own.mesh.proxy_protocol, "only gateways stand behind balancers");
}

/// What is forwarded of clients' certificates is the topology's to say at gateways, the headers' beside applications.
#[test]
fn client_certificates_are_set_apart_for_gateways_and_sidecars() {
    let mesh = "{defaultConfig: {gatewayTopology: {forwardClientCertDetails: ALWAYS_FORWARD_ONLY}, \
                proxyHeaders: {forwardedClientCert: SANITIZE}}}";
    let of = |role| own_of("{}", mesh, role).mesh.headers.client_certificates;
    assert_eq!(of(Role::Ingress), ClientCertificates::AlwaysForwardOnly);
    assert_eq!(of(Role::Sidecar), ClientCertificates::Sanitize);
}

#[test]
fn an_annotation_that_cannot_be_read_is_told_about_and_has_no_effect() {
    let pod = |annotation: &str| {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n  annotations: {{proxy.istio.io/config: '{annotation}'}}\n\
             spec: {{containers: [{{name: c}}]}}\n"
        );
        view(&text).problems().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    assert!(pod("{gatewayTopology: {numTrustedProxies: many}}").contains("numTrustedProxies"));
    assert!(pod("{colour: red}").contains("colour: unknown field"));
    assert!(pod("{gatewayTopology: {numTrustedProxies: 256}}").contains("255 are counted"));
    assert_eq!(pod("{concurrency: 2}"), "");
}
