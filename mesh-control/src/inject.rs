//! Injection: the proxy that a pod gets, as a pure function of the pod, its namespace and the settings.
//!
//! The webhook and `mesh inject -f` share it. It asks no cluster: names of ports, users and the like are read off the pod.
//!
//! Invariants:
//! - Idempotent: what is injected already is left as it is.
//! - A pod is injected whole or not at all. An annotation that cannot be meant refuses the pod, since running it without what
//!   the annotation asks for could let traffic past the mesh; one that has no effect here is a warning.
//! - No container of the application runs as the proxy's user: its traffic would pass by the mesh unseen.

mod annotations;
mod containers;
mod decision;
mod gateway;
mod patch;
mod probes;
mod settings;
mod template;

use serde_json::{Map, Value, json};

use crate::api::meta::StringMap;
use annotations::Wishes;
use decision::Decision;

pub use containers::{ROOT_CONFIG_MAP, ROOT_KEY};
pub use patch::patch;
pub use settings::{Mode, Resources, Settings};
pub use template::inject_object;

/// The container that injection adds, under the name that users' tools look for.
pub const PROXY_CONTAINER: &str = "istio-proxy";
/// The init container that programs the capture rules.
pub const CAPTURE_CONTAINER: &str = "istio-init";
/// Tells that a pod is injected, and with what.
pub const STATUS_ANNOTATION: &str = "sidecar.istio.io/status";
/// The value of `istio.io/rev` that means this mesh.
pub const REVISION: &str = "mesh";
/// The user and group that the proxy runs as.
pub const PROXY_USER: u32 = 1337;
/// Serves the probes that were rewritten.
pub const PROBE_PORT: u16 = 15020;

/// The namespace that a pod is made in.
#[derive(Debug, Clone, Default)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Its labels; the webhook does not know them, the API server having looked at them already.
    pub labels: Option<StringMap>,
}

/// What becomes of a pod.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It gets a proxy.
    Injected(Box<Injected>),
    /// It stays as it is, for this reason.
    Skipped(String),
}

/// An injected pod.
#[derive(Debug, Clone, PartialEq)]
pub struct Injected {
    /// The whole pod.
    pub pod: Value,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// Why a pod that asks for a proxy cannot have one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// An annotation's value makes no sense.
    #[error("annotation `{name}`: {reason}")]
    Annotation {
        /// The annotation.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A container has the proxy's user.
    #[error(
        "container `{0}` runs as user 1337, which is the proxy's: its traffic would not be captured; use another runAsUser"
    )]
    User(String),
    /// A probe names a port that its container does not have.
    #[error("container `{container}`: a probe names the port `{port}`, which the container does not have")]
    Port {
        /// The container.
        container: String,
        /// The name of the port.
        port: String,
    },
    /// Not a pod.
    #[error("the pod has no containers")]
    NotAPod,
}

/// Injects a pod: `metadata` and `spec` of it are looked at, so that a pod template will do.
///
/// # Errors
/// When the pod asks for a proxy and cannot have one; the reason is for its author.
pub fn inject(pod: &Value, namespace: &Namespace, settings: &Settings) -> Result<Outcome, Refusal> {
    if let Decision::Skip(reason) = decision::decide(pod, namespace, settings) {
        return Ok(Outcome::Skipped(reason));
    }
    let (wishes, mut warnings) = Wishes::read(&annotations_of(pod))?;
    check_users(pod)?;
    let mut pod = pod.clone();
    if decision::is_gateway(&pod) {
        gateway::complete(&mut pod, &wishes, settings)?;
    } else {
        warnings.extend(plain_job_warning(&pod, settings));
        add_sidecar(&mut pod, &wishes, settings)?;
    }
    add_volumes(&mut pod);
    mark(&mut pod, settings);
    Ok(Outcome::Injected(Box::new(Injected { pod, warnings })))
}

fn add_sidecar(pod: &mut Value, wishes: &Wishes, settings: &Settings) -> Result<(), Refusal> {
    let mut containers = items(pod, "containers");
    let mut first = items(pod, "initContainers");
    if containers.is_empty() {
        return Err(Refusal::NotAPod);
    }
    // A container of the proxy's name with `image: auto` overrides parts of what is injected, as with Istio.
    let overrides =
        take_named(&mut containers, PROXY_CONTAINER).or_else(|| take_named(&mut first, PROXY_CONTAINER));
    let probes = if wishes.rewrite_probes {
        let mut probes = probes::rewrite(&mut containers)?;
        probes.append(&mut probes::rewrite(&mut first)?);
        probes
    } else {
        Map::new()
    };
    let mut proxy = containers::sidecar(wishes, settings, &probes);
    containers::override_with(&mut proxy, overrides);
    let capture = containers::capture(wishes, settings);
    match settings.mode {
        // The application's init containers then have a network, and all of it through the proxy.
        Mode::Native => {
            first.splice(0..0, [capture, proxy]);
        }
        // They run before any proxy: capture comes last, or their calls would lead nowhere.
        Mode::Plain => {
            first.push(capture);
            containers.insert(0, proxy);
        }
    }
    pod["spec"]["containers"] = containers.into();
    pod["spec"]["initContainers"] = first.into();
    Ok(())
}

fn take_named(containers: &mut Vec<Value>, name: &str) -> Option<Value> {
    let at = containers.iter().position(|container| container["name"] == name)?;
    Some(containers.remove(at))
}

/// A plain sidecar runs on when the work is done, and the Job with it.
fn plain_job_warning(pod: &Value, settings: &Settings) -> Option<String> {
    let ends = pod["spec"]["restartPolicy"].as_str().is_some_and(|policy| policy != "Always");
    (ends && settings.mode == Mode::Plain).then(|| {
        "the sidecar of this cluster's version does not end with the pod's work: have the application POST to \
         http://localhost:15000/drain when it is done"
            .to_owned()
    })
}

fn check_users(pod: &Value) -> Result<(), Refusal> {
    let user = |value: &Value| value["securityContext"]["runAsUser"].as_u64();
    let of_pod = user(&pod["spec"]);
    let all = items(pod, "initContainers").into_iter().chain(items(pod, "containers"));
    for container in all.filter(|container| container["name"] != PROXY_CONTAINER) {
        if user(&container).or(of_pod) == Some(u64::from(PROXY_USER)) {
            return Err(Refusal::User(container["name"].as_str().unwrap_or_default().to_owned()));
        }
    }
    Ok(())
}

fn add_volumes(pod: &mut Value) {
    let mut volumes = items(pod, "volumes");
    let ours = containers::volumes();
    volumes.retain(|volume| !ours.iter().any(|own| own["name"] == volume["name"]));
    volumes.extend(ours);
    pod["spec"]["volumes"] = volumes.into();
}

/// Labels and annotations that tell tools, and ourselves the next time, what was done.
fn mark(pod: &mut Value, settings: &Settings) {
    let labels = string_map(&pod["metadata"]["labels"]);
    let annotations = string_map(&pod["metadata"]["annotations"]);
    let first_of = |names: &[&str]| names.iter().find_map(|name| labels.get(*name)).cloned();
    let version = first_of(&["app.kubernetes.io/version", "version"]).unwrap_or_else(|| "latest".to_owned());
    let name = first_of(&["app.kubernetes.io/name", "app"]);
    let mut add = |place: &str, name: &str, value: String| {
        if pod["metadata"][place].is_null() {
            pod["metadata"][place] = json!({});
        }
        let members = pod["metadata"][place].as_object_mut();
        members.map(|members| members.entry(name).or_insert(value.into()));
    };
    add("labels", "service.istio.io/canonical-revision", version);
    if let Some(name) = name {
        add("labels", "service.istio.io/canonical-name", name);
    }
    if !annotations.keys().any(|name| name.starts_with("prometheus.io/")) {
        add("annotations", "prometheus.io/scrape", "true".to_owned());
        add("annotations", "prometheus.io/port", "15090".to_owned());
        add("annotations", "prometheus.io/path", "/stats/prometheus".to_owned());
    }
    let status = json!({ "revision": REVISION, "image": settings.image });
    add("annotations", STATUS_ANNOTATION, status.to_string());
}

fn annotations_of(pod: &Value) -> StringMap {
    string_map(&pod["metadata"]["annotations"])
}

fn string_map(value: &Value) -> StringMap {
    let members = value.as_object().into_iter().flatten();
    members.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}

fn items(pod: &Value, field: &str) -> Vec<Value> {
    pod["spec"][field].as_array().cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests;
