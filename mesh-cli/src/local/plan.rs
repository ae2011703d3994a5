//! From a pod template to the exact processes to start: variables, volumes, probes and the proxy, all resolved.
//!
//! Pure: it reads the object store and returns a [`PodPlan`]; the pod's first process carries it out without
//! knowing any object.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use super::controllers::{DesiredPod, PROXY_CONTAINER};
use super::manifest::{Container, ContainerPort, Handler, HttpGet, PortName, Probe, RestartPolicy};
use super::network::GATEWAY;
use super::protocol::{IdentityMap, Start};
use super::store::Store;

mod environment;
mod resources;
pub(crate) mod sidecar;
mod volumes;

/// Everything a pod's first process needs.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PodPlan {
    pub(crate) place: Place,
    pub(crate) hostname: String,
    pub(crate) role: Role,
    pub(crate) nameserver: Ipv4Addr,
    pub(crate) identity: IdentityMap,
    /// The control plane's root certificates, PEM.
    pub(crate) control_root: String,
    pub(crate) token: String,
    pub(crate) binaries: PathBuf,
    pub(crate) proxy: Option<ProxyPlan>,
    pub(crate) volumes: Vec<VolumePlan>,
    pub(crate) init: Vec<ContainerPlan>,
    pub(crate) containers: Vec<ContainerPlan>,
    pub(crate) restart: RestartPolicy,
}

impl PodPlan {
    /// The containers that have a log, in the order in which their pipes are passed.
    pub(crate) fn log_names(&self) -> Vec<String> {
        let proxy = self.proxy.is_some().then(|| PROXY_CONTAINER.to_owned());
        let containers = self.init.iter().chain(&self.containers).map(|container| container.name.clone());
        proxy.into_iter().chain(containers).collect()
    }
}

/// Who and where a pod is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) service_account: String,
    pub(crate) address: Ipv4Addr,
}

/// What a pod's proxy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Role {
    /// It has none.
    Plain,
    /// A sidecar that captures the pod's traffic.
    Sidecar,
    /// The pod is a gateway.
    Gateway,
}

/// The proxy or gateway process.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ProxyPlan {
    pub(crate) command: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    /// `mesh-proxy redirect …`; empty for a gateway.
    pub(crate) redirect: Vec<String>,
    /// Ports of the inherited listeners.
    pub(crate) listeners: Vec<u16>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ContainerPlan {
    pub(crate) name: String,
    pub(crate) command: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) directory: PathBuf,
    pub(crate) mounts: Vec<MountPlan>,
    pub(crate) user: Option<u32>,
    pub(crate) group: Option<u32>,
    pub(crate) readiness: Option<ProbePlan>,
    pub(crate) startup: Option<ProbePlan>,
    pub(crate) liveness: Option<ProbePlan>,
    pub(crate) post_start: Option<Hook>,
    pub(crate) pre_stop: Option<Hook>,
    /// An init container that goes on running beside the others.
    pub(crate) stays: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct MountPlan {
    pub(crate) source: PathBuf,
    pub(crate) target: PathBuf,
    pub(crate) read_only: bool,
}

/// A folder made in the pod's memory.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct VolumePlan {
    pub(crate) name: String,
    pub(crate) files: Vec<FilePlan>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FilePlan {
    pub(crate) path: PathBuf,
    /// Base64, since Secrets may hold any bytes.
    pub(crate) content: String,
    pub(crate) mode: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ProbePlan {
    pub(crate) check: Check,
    pub(crate) initial_delay: Duration,
    pub(crate) period: Duration,
    pub(crate) timeout: Duration,
    pub(crate) success_threshold: u32,
    pub(crate) failure_threshold: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Check {
    Http { port: u16, path: String, headers: Vec<(String, String)> },
    Tcp { port: u16 },
    Exec { command: Vec<String> },
}

/// What is done when a container has started, or before it is told to end.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Hook {
    Do(Check),
    Sleep(Duration),
}

/// Where a pod's volumes lie, inside the pod.
pub(crate) const VOLUME_FOLDER: &str = "/run/mesh/volumes";

/// What planning a pod looks at.
pub(crate) struct Inputs<'a> {
    pub(crate) store: &'a Store,
    pub(crate) start: &'a Start,
    pub(crate) pod: &'a DesiredPod,
    pub(crate) place: &'a Place,
    pub(crate) control_root: &'a str,
    pub(crate) token: String,
}

/// Resolves a pod.
pub(crate) fn plan(inputs: Inputs<'_>) -> anyhow::Result<PodPlan> {
    let role = sidecar::role(inputs.pod, inputs.store);
    let spec = &inputs.pod.template.spec;
    let container = |container: &Container| {
        plan_container(&inputs, container).with_context(|| format!("container `{}`", container.name))
    };
    let own = |container: &&Container| container.name != PROXY_CONTAINER || role == Role::Plain;
    Ok(PodPlan {
        place: inputs.place.clone(),
        hostname: spec.hostname.clone().unwrap_or_else(|| inputs.place.name.clone()),
        role,
        nameserver: if role == Role::Sidecar { sidecar::CAPTURED_NAMESERVER } else { GATEWAY },
        identity: inputs.start.identity,
        control_root: inputs.control_root.to_owned(),
        binaries: inputs.start.binaries.clone(),
        proxy: sidecar::proxy(&inputs, role)?,
        volumes: volumes::plan(inputs.store, &inputs.place.namespace, &spec.volumes)?,
        init: spec.init_containers.iter().map(container).collect::<Result<_, _>>()?,
        containers: spec.containers.iter().filter(own).map(container).collect::<Result<_, _>>()?,
        restart: spec.restart_policy,
        token: inputs.token,
    })
}

fn plan_container(inputs: &Inputs<'_>, container: &Container) -> anyhow::Result<ContainerPlan> {
    let environment = environment::of_container(inputs, container)?;
    let lookup: BTreeMap<&str, &str> =
        environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let words = container.command.iter().chain(&container.args);
    let command = words.map(|word| environment::expand(word, &lookup)).collect();
    let pod_context = &inputs.pod.template.spec.security_context;
    let probe =
        |probe: &Option<Probe>| probe.as_ref().map(|probe| plan_probe(probe, &container.ports)).transpose();
    Ok(ContainerPlan {
        name: container.name.clone(),
        command,
        directory: container.working_dir.clone().unwrap_or_else(|| PathBuf::from("/")),
        mounts: volumes::mounts(&inputs.pod.template.spec.volumes, &container.volume_mounts)?,
        user: container.security_context.run_as_user.or(pod_context.run_as_user),
        group: container.security_context.run_as_group.or(pod_context.run_as_group),
        readiness: probe(&container.readiness_probe)?,
        startup: probe(&container.startup_probe)?,
        liveness: probe(&container.liveness_probe)?,
        post_start: hook(container.lifecycle.post_start.as_ref(), "postStart", &container.ports)?,
        pre_stop: hook(container.lifecycle.pre_stop.as_ref(), "preStop", &container.ports)?,
        stays: container.restart_policy == Some(RestartPolicy::Always),
        environment,
    })
}

fn plan_probe(probe: &Probe, ports: &[ContainerPort]) -> anyhow::Result<ProbePlan> {
    let check = if let Some(get) = &probe.http_get {
        plan_get(get, ports)?
    } else if let Some(socket) = probe.tcp_socket.as_ref().or(probe.grpc.as_ref()) {
        // A gRPC server that accepts is taken for a healthy one.
        Check::Tcp { port: port_number(&socket.port, ports)? }
    } else if let Some(action) = &probe.exec {
        Check::Exec { command: action.command.clone() }
    } else {
        bail!("a probe without httpGet, tcpSocket, grpc or exec");
    };
    Ok(ProbePlan {
        check,
        initial_delay: Duration::from_secs(probe.initial_delay_seconds),
        period: Duration::from_secs(probe.period_seconds.max(1)),
        timeout: Duration::from_secs(probe.timeout_seconds.max(1)),
        success_threshold: probe.success_threshold.max(1),
        failure_threshold: probe.failure_threshold.max(1),
    })
}

fn plan_get(get: &HttpGet, ports: &[ContainerPort]) -> anyhow::Result<Check> {
    let port = port_number(&get.port, ports)?;
    if get.scheme.eq_ignore_ascii_case("HTTPS") {
        // Its certificate would not be verified anyway: a server that accepts is taken for a healthy one.
        return Ok(Check::Tcp { port });
    }
    let path = if get.path.is_empty() { "/".to_owned() } else { get.path.clone() };
    let headers = get.http_headers.iter().map(|header| (header.name.clone(), header.value.clone())).collect();
    Ok(Check::Http { port, path, headers })
}

fn hook(handler: Option<&Handler>, name: &str, ports: &[ContainerPort]) -> anyhow::Result<Option<Hook>> {
    let Some(handler) = handler else { return Ok(None) };
    if let Some(action) = &handler.exec {
        return Ok(Some(Hook::Do(Check::Exec { command: action.command.clone() })));
    }
    if let Some(get) = &handler.http_get {
        return Ok(Some(Hook::Do(plan_get(get, ports)?)));
    }
    let Some(sleep) = &handler.sleep else { bail!("{name} without exec, httpGet or sleep") };
    Ok(Some(Hook::Sleep(Duration::from_secs(sleep.seconds))))
}

fn port_number(port: &PortName, ports: &[ContainerPort]) -> anyhow::Result<u16> {
    match port {
        PortName::Number(number) => Ok(*number),
        PortName::Name(name) => {
            ports.iter().find(|port| port.name == *name).map(|port| port.container_port).with_context(|| {
                format!("a probe names the port `{name}`, which the container does not have")
            })
        }
    }
}
