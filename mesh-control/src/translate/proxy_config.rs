//! The configuration of one proxy: `defaultConfig` of the mesh configuration, with the pod's annotation
//! `proxy.istio.io/config` over it, field by field.
//!
//! An annotation that cannot be read has no effect and is told about. `concurrency` is read from it by whoever starts the
//! proxy, since a running one does not change the number of its workers.

use std::borrow::Cow;

use mesh_core::model::{self, ClientCertificates, Role};

use crate::api::core::Pod;
use crate::api::mesh_config::{ForwardClientCertDetails, GatewayTopology, HeaderSwitch, ProxyConfig};
use crate::api::reader::{Read, read};
use crate::api::{Item, MeshConfig};
use crate::problem::Problem;
use crate::source::file::parse_yaml;

const ANNOTATION: &str = "proxy.istio.io/config";

/// What holds for a pod's proxy.
pub fn of<'c>(config: &'c MeshConfig, pod: &Item<'_, Pod>) -> Cow<'c, ProxyConfig> {
    match annotation(pod) {
        Some(Ok(own)) => Cow::Owned(over(&config.default_config, own.value)),
        Some(Err(_)) | None => Cow::Borrowed(&config.default_config),
    }
}

/// What a pod's annotation says.
///
/// # Errors
/// Why it cannot be read.
pub fn annotation(pod: &Item<'_, Pod>) -> Option<Result<Read<ProxyConfig>, Problem>> {
    const FIELD: &str = "metadata.annotations[\"proxy.istio.io/config\"]";
    let text = pod.object.meta.annotation(ANNOTATION)?;
    let value = parse_yaml(text).map_err(|invalid| Problem::error(FIELD, invalid.message));
    Some(value.and_then(|value| {
        read(&value, FIELD)
            .map_err(|error| Problem { fix: error.fix, ..Problem::error(error.field, error.message) })
    }))
}

fn over(base: &ProxyConfig, own: ProxyConfig) -> ProxyConfig {
    let base = base.clone();
    let (above, below) = (own.gateway_topology, base.gateway_topology);
    let hops =
        if above.num_trusted_proxies == 0 { below.num_trusted_proxies } else { above.num_trusted_proxies };
    ProxyConfig {
        concurrency: own.concurrency.or(base.concurrency),
        gateway_topology: GatewayTopology {
            num_trusted_proxies: hops,
            forward_client_cert_details: above
                .forward_client_cert_details
                .or(below.forward_client_cert_details),
            proxy_protocol: above.proxy_protocol.or(below.proxy_protocol),
        },
        tracing: own.tracing.or(base.tracing),
        proxy_headers: own.proxy_headers.or(base.proxy_headers),
        discovery_address: own.discovery_address.or(base.discovery_address),
        proxy_metadata: base.proxy_metadata.into_iter().chain(own.proxy_metadata).collect(),
        hold_application_until_proxy_starts: own
            .hold_application_until_proxy_starts
            .or(base.hold_application_until_proxy_starts),
        termination_drain_duration: own.termination_drain_duration.or(base.termination_drain_duration),
        drain_duration: own.drain_duration.or(base.drain_duration),
    }
}

/// Headers that a proxy writes. What a gateway believes of its clients is its topology's to say, as in Istio.
pub fn headers(config: &ProxyConfig, role: Role) -> model::ProxyHeaders {
    let written = config.proxy_headers.as_ref();
    let certificates = if role.is_gateway() {
        config.gateway_topology.forward_client_cert_details
    } else {
        written.and_then(|headers| headers.forwarded_client_cert)
    };
    let is_off = |switch: Option<&HeaderSwitch>| switch.is_some_and(|switch| switch.disabled == Some(true));
    let server = written.and_then(|headers| headers.server.as_ref());
    model::ProxyHeaders {
        client_certificates: certificates.map(client_certificates).unwrap_or_default(),
        server: match server {
            Some(server) if server.disabled == Some(true) => model::ServerHeader::Untouched,
            Some(server) if !server.value.is_empty() => model::ServerHeader::Named(server.value.clone()),
            _ => model::ServerHeader::Usual,
        },
        omits_request_id: is_off(written.and_then(|headers| headers.request_id.as_ref())),
        omits_attempt_count: is_off(written.and_then(|headers| headers.attempt_count.as_ref())),
        omits_debug: is_off(written.and_then(|headers| headers.envoy_debug_headers.as_ref())),
    }
}

const fn client_certificates(details: ForwardClientCertDetails) -> ClientCertificates {
    match details {
        ForwardClientCertDetails::Undefined => ClientCertificates::Usual,
        ForwardClientCertDetails::Sanitize => ClientCertificates::Sanitize,
        ForwardClientCertDetails::ForwardOnly => ClientCertificates::ForwardOnly,
        ForwardClientCertDetails::AppendForward => ClientCertificates::AppendForward,
        ForwardClientCertDetails::SanitizeSet => ClientCertificates::SanitizeSet,
        ForwardClientCertDetails::AlwaysForwardOnly => ClientCertificates::AlwaysForwardOnly,
    }
}
