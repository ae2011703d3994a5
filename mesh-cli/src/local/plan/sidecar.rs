//! Whether a pod gets a proxy, and how that proxy is started.
//!
//! Unlike on Kubernetes, injection is on unless a namespace, pod label or annotation says otherwise: whoever runs
//! `mesh up` wants a mesh.

use std::net::Ipv4Addr;

use anyhow::{Context as _, ensure};

use super::{Inputs, ProxyPlan, Role, environment};
use crate::local::controllers::{DesiredPod, PROXY_CONTAINER};
use crate::local::manifest::{Metadata, Object};
use crate::local::network::GATEWAY;
use crate::local::store::Store;
use crate::local::supervisor::control_plane;

/// Where captured DNS queries are sent to, as in a cluster; the proxy answers them.
pub(super) const CAPTURED_NAMESERVER: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// The proxy's user, where it is mapped.
pub(crate) const PROXY_USER: u32 = 1337;

/// In the pod.
pub(crate) const ROOT_FILE: &str = "/run/mesh/root.pem";
pub(crate) const TOKEN_FILE: &str = "/run/secrets/tokens/istio-token";
pub(crate) const STATE_FOLDER: &str = "/run/mesh/proxy";
/// The proxy's own resolv.conf: names that the mesh does not know are asked of the control plane, which asks the host.
pub(crate) const RESOLVER_FILE: &str = "/run/mesh/resolv.conf";

/// The role of a pod, by its own labels and annotations, then by its namespace's label.
pub(super) fn role(pod: &DesiredPod, store: &Store) -> Role {
    let metadata = &pod.template.metadata;
    if metadata.annotations.get("inject.istio.io/templates").is_some_and(|templates| templates == "gateway") {
        return Role::Gateway;
    }
    let asked = ["sidecar.istio.io/inject"]
        .iter()
        .find_map(|name| metadata.labels.get(*name).or_else(|| metadata.annotations.get(*name)));
    let injected = match asked.map(String::as_str) {
        Some(value) => value != "false",
        None => !injection_disabled(store.get("Namespace", "", &pod.namespace)),
    };
    if injected { Role::Sidecar } else { Role::Plain }
}

fn injection_disabled(namespace: Option<&Object>) -> bool {
    namespace
        .and_then(|object| object.value.pointer("/metadata/labels/istio-injection"))
        .is_some_and(|value| value == "disabled")
}

/// The proxy of a pod; none for plain pods.
pub(super) fn proxy(inputs: &Inputs<'_>, role: Role) -> anyhow::Result<Option<ProxyPlan>> {
    let (command, redirect, listeners) = match role {
        Role::Plain => return Ok(None),
        Role::Sidecar => (
            vec!["mesh-proxy".to_owned(), "run".to_owned()],
            redirect(&inputs.pod.template.metadata),
            Vec::new(),
        ),
        Role::Gateway => {
            let (command, serves_host) = gateway_command(inputs.pod);
            let listeners = if serves_host { inputs.start.ingress_ports.clone() } else { Vec::new() };
            (command, Vec::new(), listeners)
        }
    };
    let mut environment = proxy_environment(inputs);
    let workers = workers(&inputs.pod.template.metadata)?;
    environment.extend(workers.map(|count| ("MESH_WORKERS".to_owned(), count.to_string())));
    Ok(Some(ProxyPlan { command, environment, redirect, listeners }))
}

/// A gateway's command, and whether it takes the host's ingress ports.
fn gateway_command(pod: &DesiredPod) -> (Vec<String>, bool) {
    let label = pod.template.metadata.labels.get("istio").map(String::as_str);
    let container = pod.template.spec.containers.iter().find(|container| container.name == PROXY_CONTAINER);
    let own: Vec<String> = container
        .map(|container| container.command.iter().chain(&container.args).cloned().collect())
        .unwrap_or_default();
    let default = if label == Some("egressgateway") { "mesh-egress" } else { "mesh-ingress" };
    let command = if own.is_empty() { vec![default.to_owned()] } else { own };
    (command, pod.owner.namespace == "istio-system" && pod.owner.name == "istio-ingressgateway")
}

fn proxy_environment(inputs: &Inputs<'_>) -> Vec<(String, String)> {
    let place = inputs.place;
    let mut variables = environment::base(inputs);
    let own = [
        ("MESH_CONTROL", format!("https://{GATEWAY}:{}", control_plane::PORT)),
        ("MESH_CONTROL_ROOT", ROOT_FILE.to_owned()),
        ("MESH_DNS_UPSTREAM", GATEWAY.to_string()),
        ("MESH_TOKEN_FILE", TOKEN_FILE.to_owned()),
        ("MESH_STATE_DIR", STATE_FOLDER.to_owned()),
        ("MESH_UPSTREAM_RESOLV_CONF", RESOLVER_FILE.to_owned()),
        ("POD_NAME", place.name.clone()),
        ("POD_NAMESPACE", place.namespace.clone()),
        ("POD_UID", place.uid.clone()),
        ("POD_IP", place.address.to_string()),
        ("SERVICE_ACCOUNT", place.service_account.clone()),
    ];
    variables.extend(own.map(|(name, value)| (name.to_owned(), value)));
    // Whom this machine's programs are told to trust, proxies trust as well.
    variables.extend(inputs.start.certificates.clone().map(|file| ("SSL_CERT_FILE".to_owned(), file)));
    variables
}

/// How many workers a pod's proxy has: `concurrency` in Istio's annotation, 0 for one a core; one when absent. What else
/// the annotation may hold has no effect here.
fn workers(metadata: &Metadata) -> anyhow::Result<Option<usize>> {
    const ANNOTATION: &str = "proxy.istio.io/config";
    const MOST: u64 = 256;
    let Some(text) = metadata.annotations.get(ANNOTATION) else { return Ok(None) };
    let config: serde_json::Value =
        serde_saphyr::from_str(text).with_context(|| format!("annotation `{ANNOTATION}`"))?;
    let Some(value) = config.get("concurrency") else { return Ok(None) };
    let count = value.as_u64().filter(|count| *count <= MOST);
    ensure!(count.is_some(), "annotation `{ANNOTATION}`: concurrency must be a number from 0 to {MOST}");
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Ok(count.map(|count| usize::try_from(count).ok().filter(|count| *count > 0).unwrap_or_else(cores)))
}

/// The capture command; the annotations are Istio's.
fn redirect(metadata: &Metadata) -> Vec<String> {
    const FLAGS: [(&str, &str); 5] = [
        ("includeInboundPorts", "--include-inbound-ports"),
        ("excludeInboundPorts", "--exclude-inbound-ports"),
        ("includeOutboundIPRanges", "--include-outbound-cidrs"),
        ("includeOutboundPorts", "--include-outbound-ports"),
        ("excludeOutboundPorts", "--exclude-outbound-ports"),
    ];
    let value =
        |annotation: &str| metadata.annotations.get(&format!("traffic.sidecar.istio.io/{annotation}"));
    let mut command = vec!["mesh-proxy".to_owned(), "redirect".to_owned(), "--dns".to_owned()];
    for (annotation, flag) in FLAGS {
        command.extend(value(annotation).map(|value| format!("{flag}={value}")));
    }
    // The control plane is no destination of applications, and the proxy must reach it before it can forward anything.
    let excluded: Vec<String> =
        value("excludeOutboundIPRanges").cloned().into_iter().chain([format!("{GATEWAY}/32")]).collect();
    command.push(format!("--exclude-outbound-cidrs={}", excluded.join(",")));
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> anyhow::Result<Option<usize>> {
        let annotations = [("proxy.istio.io/config".to_owned(), text.to_owned())].into();
        workers(&Metadata { annotations, ..Metadata::default() })
    }

    #[test]
    fn concurrency_is_the_number_of_workers() {
        assert_eq!(workers(&Metadata::default()).unwrap(), None);
        assert_eq!(read("tracing: {sampling: 10}").unwrap(), None);
        assert_eq!(read("concurrency: 2").unwrap(), Some(2));
        assert!(read("concurrency: 0").unwrap() >= Some(1));
        for wrong in ["concurrency: many", "concurrency: 257", "concurrency: -1", "{"] {
            assert!(read(wrong).unwrap_err().to_string().contains("proxy.istio.io/config"), "{wrong}");
        }
    }
}
