//! What of the mesh configuration, and of pods' annotations over it, is read and has no effect.

use super::blame;
use crate::api::core::{ConfigMap, Pod};
use crate::api::mesh_config::ProxyConfig;
use crate::api::meta::StringMap;
use crate::api::{Item, MeshConfig};
use crate::problem::Problem;
use crate::translate::catalog::Catalog;
use crate::translate::scope::{Client, Scope};
use crate::translate::{destination, provider, proxy_config};
use crate::world::World;

/// All of it.
pub(super) fn all(world: &World, catalog: &Catalog, problems: &mut Vec<Problem>) {
    let maps = world.all::<ConfigMap>();
    let written =
        maps.filter(|map| map.object.key.name.as_ref() == "istio" && map.spec.data.contains_key("mesh"));
    for map in written.filter(|map| map.namespace() == "istio-system") {
        blame(map.object, problems, |report| {
            let mut teller = Teller { root: "data.mesh", report };
            teller.mesh(world.mesh_config());
            teller.root = "data.mesh.defaultConfig";
            teller.proxy(&world.mesh_config().default_config);
            providers(world, catalog, report);
        });
    }
    for pod in world.all::<Pod>() {
        match proxy_config::annotation(&pod) {
            None => {}
            Some(Err(problem)) => blame(pod.object, problems, |report| report.push(problem)),
            Some(Ok(read)) => annotation(&pod, &read.value, &read.unknown, problems),
        }
    }
}

/// Providers that no policy can use as they are meant.
fn providers(world: &World, catalog: &Catalog, report: &mut Vec<Problem>) {
    let (all, labels) = (&world.mesh_config().extension_providers, StringMap::new());
    let root = &world.mesh_config().root_namespace;
    let scope = Scope { world, catalog, client: Client::of_namespace(root, &labels) };
    for (at, provider) in all.iter().enumerate() {
        let field = format!("data.mesh.extensionProviders[{at}]");
        if all[..at].iter().any(|before| before.name == provider.name) {
            let message = format!("{:?} is here twice; the first counts", provider.name);
            report.push(Problem::warning(format!("{field}.name"), message));
        }
        let http = provider.envoy_ext_authz_http.iter();
        let http = http.map(|http| ("envoyExtAuthzHttp", &http.service, http.port));
        let grpc = provider.envoy_ext_authz_grpc.iter();
        let grpc = grpc.map(|grpc| ("envoyExtAuthzGrpc", &grpc.service, grpc.port));
        for (kind, service, port) in http.chain(grpc) {
            let found = destination::service(&scope, provider::host(service), root);
            if !found.is_some_and(|found| found.ports.iter().any(|known| known.number == port)) {
                let message = format!("no service {service:?} with port {port}; its checks fail");
                report.push(Problem::warning(format!("{field}.{kind}.service"), message));
            }
        }
    }
}

fn annotation(pod: &Item<'_, Pod>, config: &ProxyConfig, unknown: &[String], problems: &mut Vec<Problem>) {
    blame(pod.object, problems, |report| {
        report.extend(unknown.iter().map(|field| Problem::warning(field, "unknown field")));
        // Whoever starts the proxy reads this one.
        let config = ProxyConfig { concurrency: None, ..config.clone() };
        Teller { root: "metadata.annotations[\"proxy.istio.io/config\"]", report }.proxy(&config);
    });
}

struct Teller<'r> {
    root: &'static str,
    report: &'r mut Vec<Problem>,
}

impl Teller<'_> {
    fn tell(&mut self, is_set: bool, field: &str) {
        if is_set {
            let field = format!("{}.{field}", self.root);
            self.report.push(Problem::warning(field, "not supported; has no effect"));
        }
    }

    fn mesh(&mut self, config: &MeshConfig) {
        let proxy = config.outbound_traffic_policy.as_ref();
        self.tell(
            proxy.is_some_and(|policy| policy.egress_proxy.is_some()),
            "outboundTrafficPolicy.egressProxy",
        );
        self.tell(config.enable_tracing, "enableTracing");
        self.tell(config.mesh_mtls.is_some(), "meshMTLS");
        self.tell(!config.discovery_selectors.is_empty(), "discoverySelectors");
        self.tell(config.tcp_keepalive.is_some(), "tcpKeepalive");
        self.tell(config.protocol_detection_timeout.is_some(), "protocolDetectionTimeout");
        self.tell(config.dns_refresh_rate.is_some(), "dnsRefreshRate");
        self.tell(!config.ca_certificates.is_empty(), "caCertificates");
        self.tell(config.default_traffic_policy.is_some(), "defaultTrafficPolicy");
        self.tell(config.ingress_class != "istio", "ingressClass");
        self.tell(config.ingress_controller_mode.is_some(), "ingressControllerMode");
        self.tell(!config.ingress_service.is_empty(), "ingressService");
        self.tell(!config.ingress_selector.is_empty(), "ingressSelector");
    }

    fn proxy(&mut self, config: &ProxyConfig) {
        if config.gateway_topology.num_trusted_proxies > u32::from(u8::MAX) {
            let field = format!("{}.gatewayTopology.numTrustedProxies", self.root);
            let message =
                format!("{} is too many; 255 are counted", config.gateway_topology.num_trusted_proxies);
            self.report.push(Problem::warning(field, message));
        }
        self.tell(config.concurrency.is_some(), "concurrency");
        self.tell(config.discovery_address.is_some(), "discoveryAddress");
        self.tell(!config.proxy_metadata.is_empty(), "proxyMetadata");
        self.tell(config.hold_application_until_proxy_starts.is_some(), "holdApplicationUntilProxyStarts");
        self.tell(config.drain_duration.is_some(), "drainDuration");
        if let Some(tracing) = &config.tracing {
            self.tell(tracing.zipkin.is_some(), "tracing.zipkin");
        }
        if let Some(headers) = &config.proxy_headers {
            let details = headers.set_current_client_cert_details.is_some();
            self.tell(details, "proxyHeaders.setCurrentClientCertDetails");
            let is_on = |value: &Option<crate::api::mesh_config::HeaderAddition>| {
                value.as_ref().is_some_and(|value| value.enabled == Some(true))
            };
            self.tell(is_on(&headers.x_forwarded_host), "proxyHeaders.xForwardedHost");
            self.tell(is_on(&headers.x_forwarded_port), "proxyHeaders.xForwardedPort");
        }
    }
}
